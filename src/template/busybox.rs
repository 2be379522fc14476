//! Builder `busybox`: the host's static busybox under every name that it knows.
//!
//! What makes a system of it (inittab, scripts, accounts) is in the template's files.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};

/// Directories of a root file system, with their modes.
const DIRECTORIES: [(&str, u32); 17] = [
    ("bin", 0o755),
    ("sbin", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/log", 0o755),
    ("var/spool/cron/crontabs", 0o755),
    ("var/tmp", 0o1777),
    ("var/www", 0o755),
];

pub(super) fn build(target: &Path) -> Result<()> {
    let program = find_static()?;
    for (dir, mode) in DIRECTORIES {
        let path = target.join(dir);
        std::fs::create_dir_all(&path)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)))
            .context(|| format!("make `{dir}`"))?;
    }
    std::fs::copy(&program, target.join("bin/busybox")).context(|| format!("copy `{}`", program.display()))?;
    let list = Command::new(&program).arg("--list-full").output().context(|| format!("run `{}`", program.display()))?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "bin/busybox") {
        let place = target.join(applet);
        if place.parent().is_some_and(Path::is_dir) && place.symlink_metadata().is_err() {
            symlink("/bin/busybox", &place).context(|| format!("link `{applet}`"))?;
        }
    }
    Ok(())
}

/// A busybox that needs no library: the guest has none.
fn find_static() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).flat_map(|dir| [dir.join("busybox"), dir.join("busybox.static")]);
    candidates.into_iter().find(|file| is_static(file)).ok_or_else(|| {
        Error::host_lacks("there is no static `busybox` on this host").hint("`apt-get install busybox-static`")
    })
}

/// Whether a file is an ELF program that names no interpreter (PT_INTERP, elf(5)).
fn is_static(file: &Path) -> bool {
    const PT_INTERP: u32 = 3;
    let Ok(elf) = std::fs::read(file) else { return false };
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let headers = || -> Option<bool> {
        let is_64 = elf.get(..4)? == b"\x7fELF" && elf.get(4) == Some(&2);
        let (offset, size_at) = if is_64 { (number(32, 8)?, 54) } else { (number(28, 4)?, 42) };
        let (size, count) = (number(size_at, 2)?, number(size_at + 2, 2)?);
        let types = (0..count).filter_map(|i| number(usize::try_from(offset.checked_add(i * size)?).ok()?, 4));
        Some(count > 0 && !types.into_iter().any(|kind| kind == u64::from(PT_INTERP)))
    };
    elf.starts_with(b"\x7fELF") && headers().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_no_static_program_and_a_text_is_none() {
        assert!(!is_static(&std::env::current_exe().unwrap()));
        assert!(!is_static(Path::new("/etc/passwd")));
        assert!(!is_static(Path::new("/none")));
    }
}
