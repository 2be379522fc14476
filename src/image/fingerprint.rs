//! Comparing trees of files in tests: all that a file is and carries, one line each.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom};

use super::attributes::{xattrs_of_file, xattrs_of_named};
use super::shown;
use crate::sys::digest::sha256;

/// Path below the root to a description of what is there.
pub(crate) type Fingerprint = BTreeMap<Vec<u8>, String>;

/// Describes every file of a tree: type, permissions, owner, size, time, hard links, device,
/// target, holes, contents and extended attributes.
pub(crate) fn fingerprint(root: &Path) -> Fingerprint {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    let mut found = Fingerprint::new();
    let mut links = HashMap::new();
    describe(&root, b".", b"", &mut found, &mut links);
    found
}

/// Fails with the lines that differ.
pub(crate) fn assert_same(actual: &Path, expected: &Path) {
    let (actual, expected) = (fingerprint(actual), fingerprint(expected));
    let mut differences = String::new();
    for path in actual.keys().chain(expected.keys()) {
        let (actual, expected) = (actual.get(path), expected.get(path));
        if actual != expected {
            let none = "-".to_owned();
            let (actual, expected) = (actual.unwrap_or(&none), expected.unwrap_or(&none));
            write!(differences, "\n{}\n  is     {actual}\n  not as {expected}", shown(path)).unwrap();
        }
    }
    assert!(differences.is_empty(), "the trees differ:{differences}");
}

fn describe(
    dir: &OwnedFd,
    name: &[u8],
    path: &[u8],
    found: &mut Fingerprint,
    links: &mut HashMap<(u64, u64), Vec<u8>>,
) {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let (mode, nanos) = (stat.st_mode & 0o7777, stat.st_mtime_nsec);
    let mut line = format!("{kind:?} {mode:04o} {}:{} {}.{nanos:09}", stat.st_uid, stat.st_gid, stat.st_mtime);
    if kind != FileType::Directory {
        // Hard links are recorded by their first path, in the order of the walk.
        let first = links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec());
        write!(line, " links {} to {}", stat.st_nlink, shown(first)).unwrap();
    }
    let open =
        |flags| rustix::fs::openat(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let xattrs = match kind {
        FileType::RegularFile => {
            let file = std::fs::File::from(open(OFlags::RDONLY));
            write!(
                line,
                " {} bytes {} in {:?}",
                stat.st_size,
                sha256(&file).unwrap(),
                data(&file, stat.st_size as u64)
            )
            .unwrap();
            xattrs_of_file(file.as_fd()).unwrap()
        }
        FileType::Directory => {
            let this = open(OFlags::RDONLY | OFlags::DIRECTORY);
            let mut names: Vec<_> =
                Dir::read_from(&this).unwrap().map(|entry| entry.unwrap().file_name().to_bytes().to_vec()).collect();
            names.sort();
            for name in names.iter().filter(|name| !matches!(name.as_slice(), b"." | b"..")) {
                let below = if path.is_empty() { name.clone() } else { [path, b"/", name].concat() };
                describe(&this, name, &below, found, links);
            }
            xattrs_of_file(this.as_fd()).unwrap()
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).unwrap();
            write!(line, " -> {}", shown(target.as_bytes())).unwrap();
            xattrs_of_named(dir.as_fd(), name).unwrap()
        }
        _ => {
            write!(line, " device {}", stat.st_rdev).unwrap();
            xattrs_of_named(dir.as_fd(), name).unwrap()
        }
    };
    let mut xattrs = xattrs;
    xattrs.sort();
    for (name, value) in xattrs {
        write!(line, " {}={}", shown(&name), value.escape_ascii()).unwrap();
    }
    found.insert(path.to_vec(), line);
}

/// Where the file has data, as it lies on disk.
fn data(file: &std::fs::File, size: u64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < size
        && let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at))
    {
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
        parts.push((start, at));
    }
    parts
}

#[test]
fn a_tree_equals_its_copy_and_no_changed_one() {
    let dir = tempfile::tempdir().unwrap();
    let changes = [
        "true",
        "chmod 600 f",
        "touch -d @5.000000001 f",
        "echo other > f; touch -d @5 f",
        "rm l; cp -p f l",
        "setfattr -n user.x -v y f",
        "ln -sfn elsewhere s; touch -hd @5 s",
        "truncate -s 8192 hole; fallocate -l 8192 hole; touch -d @5 hole",
    ];
    let make = |number: usize, change: &str| {
        let tree = dir.path().join(number.to_string());
        std::fs::create_dir(&tree).unwrap();
        let script = "echo some > f; ln f l; ln -s f s; truncate -s 8192 hole; touch -hd @5 f s hole";
        let script = format!("{script}; {change}; touch -d @5 .");
        let status = std::process::Command::new("sh").args(["-ec", &script]).current_dir(&tree).status().unwrap();
        assert!(status.success(), "{change}");
        fingerprint(&tree)
    };
    let prints: Vec<_> = changes.iter().enumerate().map(|(number, change)| make(number, change)).collect();
    assert_eq!(prints[0], make(100, "true"));
    for (print, change) in prints.iter().zip(changes).skip(1) {
        assert_ne!(*print, prints[0], "{change}");
    }
}
