//! Where programs of the host are.

use std::path::PathBuf;

/// Where a program is, if it is installed.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // sbin too: debootstrap is there, and an administrator's PATH under sudo or cron may lack it.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}
