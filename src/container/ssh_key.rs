//! The host's own ssh key, `/etc/lxm/ssh_key`: for guests whose maker gave neither key nor password.
//!
//! `lxm ssh` logs in with it. It belongs to root, who has full access to a guest without it too.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Kind, Result};
use crate::store::{self, FileLock, Layout};

/// The private half of the host's own key.
pub(crate) fn file(layout: &Layout) -> PathBuf {
    layout.etc().join("ssh_key")
}

/// Its public half, a line of authorized_keys(5). The key is made at the first use.
///
/// Fails with `Kind::HostLacks` where there is no `ssh-keygen`.
pub(crate) fn public(layout: &Layout) -> Result<String> {
    let file = file(layout);
    if !file.exists() {
        make(layout).context(|| format!("make `{}`", file.display()))?;
    }
    keygen(&["-y"], &file).context(|| format!("read `{}`", file.display()))
}

/// The key's file, if these `authorized_keys` accept it.
pub(crate) fn that_opens(layout: &Layout, authorized_keys: &str) -> Option<PathBuf> {
    let file = file(layout);
    if !file.exists() {
        return None;
    }
    let public = public(layout).ok()?;
    let key = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    authorized_keys.lines().any(|line| key(line).is_some() && key(line) == key(&public)).then_some(file)
}

fn make(layout: &Layout) -> Result<()> {
    let _lock = FileLock::acquire(&lock_file(layout))?;
    let (file, scratch) = (file(layout), scratch(layout));
    if file.exists() {
        return Ok(());
    }
    // Left behind by a process that was killed.
    store::remove_tree(&scratch)?;
    std::fs::create_dir_all(&scratch)?;
    let made = scratch.join("key");
    keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "lxm"], &made)?;
    File::open(&made)?.sync_all()?;
    std::fs::rename(&made, &file)?;
    store::sync_dir(&layout.etc())?;
    store::remove_tree(&scratch)
}

/// Where the key is while it is made.
fn scratch(layout: &Layout) -> PathBuf {
    layout.etc().join(".ssh_key.new")
}

/// Held by the process that makes the key.
fn lock_file(layout: &Layout) -> PathBuf {
    layout.lock_dir().join(".ssh_key")
}

/// Removes what a process left that was killed while it made the key; returns whether there was anything.
pub(crate) fn sweep(layout: &Layout) -> Result<bool> {
    let scratch = scratch(layout);
    if !scratch.exists() {
        return Ok(false);
    }
    let Some(_lock) = FileLock::try_acquire(&lock_file(layout))? else { return Ok(false) };
    store::remove_tree(&scratch).map(|()| true)
}

/// Runs ssh-keygen on a key's file; gives what it prints.
fn keygen(args: &[&str], file: &Path) -> Result<String> {
    let mut command = Command::new("ssh-keygen");
    let output = match command.args(args).arg("-f").arg(file).stdin(Stdio::null()).output() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::new(Kind::HostLacks, "the program `ssh-keygen` is not installed")
                .hint("install the package openssh-client"));
        }
        other => other.context(|| "run `ssh-keygen`")?,
    };
    if !output.status.success() {
        return Err(Error::failed(format!("`ssh-keygen`: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_is_root_s_alone_and_opens_what_knows_it() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert_eq!(that_opens(&layout, "ssh-ed25519 AAAA me\n"), None);
        let made = public(&layout).unwrap();
        assert_eq!(public(&layout).unwrap(), made);
        assert_eq!(file(&layout).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(that_opens(&layout, &format!("# keys\n{made}\n")), Some(file(&layout)));
        assert_eq!(that_opens(&layout, "ssh-ed25519 AAAA me\n"), None);
        assert_eq!(std::fs::read_dir(layout.etc()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_maker_left_is_swept_and_not_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let leave = || {
            std::fs::create_dir_all(scratch(&layout)).unwrap();
            std::fs::write(scratch(&layout).join("key"), "half").unwrap();
        };
        leave();
        let maker = FileLock::acquire(&lock_file(&layout)).unwrap();
        assert!(!sweep(&layout).unwrap(), "another process makes it");
        drop(maker);
        assert!(sweep(&layout).unwrap());
        leave();
        public(&layout).unwrap();
        assert!(!scratch(&layout).exists());
    }
}
