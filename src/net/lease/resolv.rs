//! `/etc/resolv.conf` of a guest whose network the host configures (resolv.conf(5)).
//!
//! A file of the guest's like any other, which its root may replace: one with name servers that is not marked
//! as ours is left alone from then on.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use crate::distro::{Edit, View, edit};
use crate::error::{Context, Result};
use crate::sys::creds;
use crate::sys::fs::{open_in_root_no_links, read_in_root};
use crate::types::IdRange;

const PATH: &str = "etc/resolv.conf";
const MARK: &str = "# Written by lxm, which keeps the lease; without this line it stays as it is.\n";
/// The most that is read of the guest's file.
const LIMIT: u64 = 64 << 10;

/// The file's text.
pub(in crate::net) fn text(resolvers: &[IpAddr], domain: Option<&str>) -> String {
    let search = domain.map(|domain| format!("search {domain}\n")).unwrap_or_default();
    let servers: String = resolvers.iter().map(|server| format!("nameserver {server}\n")).collect();
    format!("{MARK}{search}{servers}")
}

/// Makes the file before init runs, unless the guest has one of its own. `root` is the guest's, as the host
/// has it mounted with the guest's `ids`.
pub(in crate::net) fn make(root: BorrowedFd<'_>, ids: Option<IdRange>, text: &str) -> Result<()> {
    let present = read_in_root(root, PATH, LIMIT).unwrap_or_default();
    if present == text.as_bytes() || is_the_guests(&present) {
        return Ok(());
    }
    let view = View::of(root)?;
    let owner = ids.map_or(0, |ids| ids.base);
    let write = Edit::write(PATH, text).mode(0o644).owner(owner, owner);
    let made = match ids {
        None => edit::apply(&view, &[write]),
        // What the host's root makes would be nobody's in the guest, which the kernel refuses.
        Some(ids) => creds::with_fs_ids(ids.base, ids.base, || edit::apply(&view, &[write]))?,
    };
    made.context(|| "write the guest's resolv.conf")
}

/// Writes the text into the file that is there, if that is ours still.
pub(super) fn update(root: impl AsFd, text: &str) -> Result<()> {
    // Without links. To open a device would be to use it.
    let mut file = match open_in_root_no_links(root, PATH, OFlags::PATH, Mode::empty()) {
        Ok(found) if !File::from(found.try_clone()?).metadata()?.is_file() => return Ok(()),
        // Through the magic link: what is opened is what was looked at.
        Ok(found) => File::options().read(true).write(true).open(format!("/proc/self/fd/{}", found.as_raw_fd()))?,
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EISDIR)) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut update = || -> std::io::Result<()> {
        let mut present = Vec::new();
        (&file).take(LIMIT).read_to_end(&mut present)?;
        if present == text.as_bytes() || !present.starts_with(MARK.as_bytes()) {
            return Ok(());
        }
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    update().context(|| "write the guest's resolv.conf")
}

/// Whether somebody else has named servers in it.
fn is_the_guests(present: &[u8]) -> bool {
    let names_one = |line: &[u8]| line.trim_ascii_start().starts_with(b"nameserver");
    !present.starts_with(MARK.as_bytes()) && present.split(|&byte| byte == b'\n').any(names_one)
}

#[cfg(test)]
mod root_tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::fs::open_dir;

    #[test]
    fn the_guests_own_servers_stay_and_ours_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_dir(dir.path()).unwrap();
        let file = dir.path().join(PATH);
        let first = text(&["10.0.3.1".parse().unwrap()], Some("lxm"));
        let second = text(&["fd00::1".parse().unwrap(), "10.0.3.1".parse().unwrap()], None);
        assert!(first.ends_with("\nsearch lxm\nnameserver 10.0.3.1\n"));
        make(root.as_fd(), None, &first).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
        for text in [&second, &first, &second] {
            update(&root, text).unwrap();
            assert_eq!(&std::fs::read_to_string(&file).unwrap(), text);
        }
        let own = "# mine\nnameserver 9.9.9.9\n";
        std::fs::write(&file, own).unwrap();
        make(root.as_fd(), None, &first).unwrap();
        update(&root, &first).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), own);
    }

    #[test]
    fn no_link_leads_out_of_the_guest() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let ours = text(&["10.0.3.1".parse().unwrap()], None);
        std::fs::write(&outside, MARK).unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        let file = dir.path().join("root").join(PATH);
        symlink(&outside, &file).unwrap();
        let root = open_dir(dir.path().join("root")).unwrap();
        update(&root, &ours).unwrap();
        make(root.as_fd(), None, &ours).unwrap();
        assert!(file.symlink_metadata().unwrap().is_file());
        std::fs::remove_file(&file).unwrap();
        symlink("other", &file).unwrap();
        std::fs::write(file.with_file_name("other"), MARK).unwrap();
        update(&root, &ours).unwrap();
        assert_eq!(std::fs::read_to_string(file.with_file_name("other")).unwrap(), MARK);
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), MARK);
    }
}
