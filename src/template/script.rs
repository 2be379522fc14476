//! Builder `script`: an executable of the administrator's, for what no other builder makes.
//!
//! The contract: it is run as root with the directory to fill, existing and empty, as its only
//! argument, and with what was chosen in its environment: `LXM_RELEASE`, `LXM_SUITE`, `LXM_ARCH`
//! (Debian's name), `LXM_MIRROR` (may be empty), `LXM_PACKAGES` (separated by blanks), and
//! `LXM_OPTION_NAME` for each option of the template. What it writes to stdout and stderr goes to
//! the log and is shown as progress. It exits 0 when the directory holds a root file system with
//! an init, owned by ids from 0; anything else throws the directory away. It runs in pid and mount
//! namespaces of its own: when lxm is killed, it and all that it started are too, and what it
//! mounted is gone.

use std::path::Path;
use std::process::Command;

use super::command;
use super::recipe::Recipe;
use crate::error::{Error, Result};
use crate::progress::Progress;

pub(super) fn build(recipe: &Recipe, target: &Path, log: &Path, progress: &Progress) -> Result<()> {
    let file = &recipe.found.file;
    let script = recipe.found.template.script.as_ref();
    let script = script.ok_or_else(|| Error::config(format!("`{}` names no `script`", file.display())))?;
    let mut command = Command::new(recipe.found.beside(script));
    command.arg(target);
    command.env("LXM_RELEASE", &recipe.release).env("LXM_SUITE", &recipe.suite);
    command.env("LXM_ARCH", recipe.arch.to_string()).env("LXM_MIRROR", recipe.mirror.as_deref().unwrap_or(""));
    command.env("LXM_PACKAGES", recipe.packages.join(" "));
    for (name, value) in &recipe.options {
        command.env(format!("LXM_OPTION_{}", name.to_ascii_uppercase().replace('-', "_")), value);
    }
    command::run(command, log, progress)
}
