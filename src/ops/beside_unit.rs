//! What the admin has set beside a container's unit, which holds whatever the configuration says.

use std::path::PathBuf;

use crate::store::Layout;
use crate::systemd::{self, dropin};
use crate::types::ContainerName;

/// Limits that the admin has set with `systemctl set-property` or in a drop-in, each as a sentence.
pub(crate) fn limits(layout: &Layout, name: &ContainerName) -> Vec<String> {
    if !systemd::is_running() {
        return Vec::new();
    }
    let sentence = |set: dropin::Override| {
        format!("`{}={}` of `{}` holds instead of `{}`", set.key, set.value, set.file.display(), set.limit)
    };
    dropin::overrides(layout, name).into_iter().map(sentence).collect()
}

/// The admin's files beside the unit of a container that is gone.
pub(crate) fn left(layout: &Layout, name: &ContainerName) -> Vec<PathBuf> {
    if systemd::is_running() { dropin::of_admin(layout, name) } else { Vec::new() }
}
