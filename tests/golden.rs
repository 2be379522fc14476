//! The fix-ups of root file systems, on trees of a few files that stand for the real ones.
//!
//! Each directory of `tests/golden` is a case: `in` is the tree before, `out` the tree after an
//! image was made of it and a container `web` from that, and `out.modes` what git does not keep.
//! Everything is applied twice and must then be as after once. `UPDATE_GOLDEN=1 cargo test --test
//! golden` writes what is into `out`, to be read in the diff. `tests/golden.revision` has the revision
//! of the edits that made all of it, and its digest.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use lxm::testing::distro::{Extras, HostKeys, Identity, Login, REVISION, customize, prepare};
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Path to what is there, with mode and owner.
type Listing = BTreeMap<PathBuf, (Thing, u32, u32, u32)>;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(golden()).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 5, "the cases are there");
    cases
}

/// Files are given to their owners, which takes root.
mod root_tests {
    #[test]
    fn root_file_systems_become_guests_and_twice_is_once() {
        super::cases().iter().for_each(|case| super::check(case));
    }
}

/// Images made with other edits must be made anew, which their revision is for.
#[test]
fn the_revision_goes_up_with_the_edits() {
    let mut digest = Sha256::new();
    for case in cases() {
        let things = listing(&case.join("out")).into_iter().map(|(path, (thing, ..))| (path, thing));
        for thing in things.filter(|(_, thing)| *thing != Thing::Directory) {
            digest.update(format!("{thing:?}\n"));
        }
        digest.update(fs::read(case.join("out.modes")).unwrap());
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let (file, now) = (golden().with_extension("revision"), format!("{REVISION} {digest}\n"));
    let known = fs::read_to_string(&file).unwrap_or_default();
    if known == now {
        return;
    }
    assert_ne!(known.split(' ').next(), Some(&*REVISION.to_string()), "raise `distro::REVISION`: the edits are others");
    assert!(std::env::var_os("UPDATE_GOLDEN").is_some(), "`UPDATE_GOLDEN=1 cargo test --test golden` writes `{now}`");
    fs::write(file, now).unwrap();
}

fn check(case: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    copy(&case.join("in"), &tree);
    make_guest(&tree);
    let once = listing(&tree);
    make_guest(&tree);
    assert_eq!(listing(&tree), once, "{}: twice is not once", case.display());

    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(case.join("out"));
        write(&once, case);
    }
    assert_eq!(modes(&once), fs::read_to_string(case.join("out.modes")).unwrap(), "{}", case.display());
    let expected = listing(&case.join("out"));
    let difference = |path: &PathBuf| once.get(path).map(|t| &t.0) != expected.get(path).map(|t| &t.0);
    // git keeps no empty directory.
    let is_kept = |path: &&PathBuf| !matches!(once.get(*path), Some((Thing::Directory, ..)));
    let differing: Vec<_> = once.keys().chain(expected.keys()).filter(is_kept).filter(|p| difference(p)).collect();
    assert!(differing.is_empty(), "{}: not as in `out`: {differing:?}", case.display());
}

fn make_guest(tree: &Path) {
    prepare(tree, &Extras::default()).unwrap();
    let login = Login { name: "debian".into(), keys: vec!["ssh-ed25519 AAAAC3Nza me@host".into()], password: None };
    let identity = Identity { hostname: "web".into(), login: Some(login), keys: HostKeys::Fresh };
    customize(tree, tree, &identity).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&from, &to);
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from).unwrap(), &to).unwrap();
        } else {
            fs::write(&to, fs::read(&from).unwrap()).unwrap();
            let mode = if fs::metadata(&from).unwrap().mode() & 0o111 != 0 { 0o755 } else { 0o644 };
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn listing(root: &Path) -> Listing {
    let mut found = Listing::new();
    list(root, root, &mut found);
    found
}

fn list(root: &Path, dir: &Path, found: &mut Listing) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let meta = path.symlink_metadata().unwrap();
        let thing = if meta.is_dir() {
            list(root, &path, found);
            Thing::Directory
        } else if meta.is_symlink() {
            Thing::Link(fs::read_link(&path).unwrap())
        } else if path.file_name().unwrap().to_str().unwrap().starts_with("ssh_host_") {
            Thing::File(b"fresh\n".to_vec())
        } else {
            Thing::File(fs::read(&path).unwrap())
        };
        let name = path.strip_prefix(root).unwrap().to_owned();
        found.insert(name, (thing, meta.mode() & 0o7777, meta.uid(), meta.gid()));
    }
}

/// Whatever is not 0644, 0755 for programs and directories, and root's.
fn modes(listing: &Listing) -> String {
    let line = |(path, (thing, mode, uid, gid)): (&PathBuf, &(Thing, u32, u32, u32))| {
        let usual = match thing {
            Thing::Directory => *mode == 0o755,
            Thing::File(_) => matches!(mode, 0o644 | 0o755),
            Thing::Link(_) => true,
        };
        (!usual || (*uid, *gid) != (0, 0)).then(|| format!("{mode:04o} {uid}:{gid} {}\n", path.display()))
    };
    listing.iter().filter_map(line).collect()
}

fn write(listing: &Listing, case: &Path) {
    for (path, (thing, mode, ..)) in listing {
        let path = case.join("out").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match thing {
            Thing::Directory => fs::create_dir_all(&path).unwrap(),
            Thing::File(contents) => {
                fs::write(&path, contents).unwrap();
                let mode = if mode & 0o100 != 0 { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Thing::Link(target) => symlink(target, &path).unwrap(),
        }
    }
    fs::write(case.join("out.modes"), modes(listing)).unwrap();
}
