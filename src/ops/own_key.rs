//! The host's own ssh key, `/etc/lxm/ssh_key`: for guests whose maker gave neither key nor password.
//!
//! `lxm ssh` logs in with it. It is root's, who may do as he likes in a guest without it too.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Kind, Result};
use crate::store::{Layout, sync_dir};

fn file(layout: &Layout) -> PathBuf {
    layout.etc().join("ssh_key")
}

/// Its public half, a line of authorized_keys(5). The key is made at the first use.
///
/// Fails with `Kind::HostLacks` where there is no `ssh-keygen`.
pub fn public(layout: &Layout) -> Result<String> {
    let file = file(layout);
    if !file.exists() {
        make(&file).context(|| format!("make `{}`", file.display()))?;
    }
    keygen(&["-y"], &file).context(|| format!("read `{}`", file.display()))
}

/// The key's file, if it opens the door that these `authorized_keys` guard.
pub fn that_opens(layout: &Layout, authorized_keys: &str) -> Option<PathBuf> {
    let file = file(layout);
    if !file.exists() {
        return None;
    }
    let public = public(layout).ok()?;
    let key = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    authorized_keys.lines().any(|line| key(line).is_some() && key(line) == key(&public)).then_some(file)
}

fn make(file: &Path) -> Result<()> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir)?;
    let scratch = tempfile::Builder::new().prefix(".ssh_key.").tempdir_in(dir)?;
    let made = scratch.path().join("key");
    keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "lxm"], &made)?;
    File::open(&made)?.sync_all()?;
    // Not a rename: of two commands that make it at once the second takes the first one's.
    match std::fs::hard_link(&made, file) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e.into()),
        _ => sync_dir(dir),
    }
}

/// Runs ssh-keygen on a key's file; gives what it prints.
fn keygen(args: &[&str], file: &Path) -> Result<String> {
    let mut command = Command::new("ssh-keygen");
    let output = match command.args(args).arg("-f").arg(file).stdin(Stdio::null()).output() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::new(Kind::HostLacks, "the program `ssh-keygen` is not there")
                .hint("install the package openssh-client"));
        }
        other => other.context(|| "run `ssh-keygen`")?,
    };
    if !output.status.success() {
        return Err(Error::failed(format!("`ssh-keygen`: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
