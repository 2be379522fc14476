//! Commands on containers as they are proposed to be typed.

use std::fmt::Display;

use super::layout::Layout;
use crate::terminal::quoted;
use crate::types::ContainerName;

impl Layout {
    /// A command on a container of this directory as it is proposed to be typed: `words` after `lxm`,
    /// with the directory where another one is meant without it.
    pub fn command(&self, words: impl Display) -> String {
        if self.is_home() {
            return format!("lxm {words}");
        }
        format!("lxm --path {} {words}", quoted(&self.containers.to_string_lossy()))
    }

    /// The command that makes a copy another container, as it is proposed to be typed.
    pub fn adopt_command(&self, name: &ContainerName) -> String {
        self.command(format_args!("adopt {name} --new-identity"))
    }

    /// The command that unsets a setting, as it is proposed to be typed.
    pub fn unset_command(&self, name: &ContainerName, key: impl Display) -> String {
        self.command(format_args!("config unset {name} {key}"))
    }
}
