//! Ids that are written to the files, where they cannot be mapped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use lxm::testing::progress::Progress;
use lxm::testing::storage::{self, Tree};
use lxm::testing::sys;
use lxm::testing::types::IdRange;

use super::backends::suite;
use super::{BASE, Bench, Ids, Mounted, guest};
use crate::support::{Sandbox, Trial, run};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("storage::ids_are_shifted_in_the_files_where_they_cannot_be_mapped", shifted),
        Trial::new("storage::a_shift_that_is_killed_is_continued", shift_killed),
    ]
}

/// A file system that cannot map ids: an overlay.
fn unmappable(sandbox: &Sandbox) -> Mounted {
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(sandbox.path(dir)).unwrap();
    }
    let path = |dir: &str| sandbox.path(dir).to_str().unwrap().to_owned();
    let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    run("mount", &["-t", "overlay", "overlay", "-o", &options, &path("merged")]).ok();
    Mounted(sandbox.path("merged"))
}

/// cap_net_raw=ep, as a file of the host has it (linux/capability.h, revision 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn capability(file: &Path) -> Vec<u8> {
    let mut value = vec![0; 64];
    let len = rustix::fs::getxattr(file, "security.capability", value.as_mut_slice()).unwrap();
    value.truncate(len);
    value
}

fn set_capability(file: &Path) {
    rustix::fs::setxattr(file, "security.capability", &CAPABILITY, rustix::fs::XattrFlags::empty()).unwrap();
}

fn shifted(sandbox: &Sandbox) {
    let mounted = unmappable(sandbox);
    suite(&mounted.layout(), "dir");
    assert_eq!(storage::choose(&mounted.layout(), "auto").unwrap().backend, "dir");

    let image = mounted.layout().images().join("abc/rootfs");
    fs::write(image.join("etc/capable"), "").unwrap();
    set_capability(&image.join("etc/capable"));
    run("setfacl", &["-m", "u:1000:rw", image.join("etc/motd").to_str().unwrap()]).ok();
    let backend = storage::backend(&mounted.layout(), "dir").unwrap();
    let bench = Bench { backend: backend.as_ref(), containers: mounted.layout().containers().to_owned() };
    let place = bench.place("web");
    backend.create(&image, &place, &Progress::hidden()).unwrap();
    let ids = Ids::new();
    drop(backend.mount(&place, Some(guest(&ids.open()))).unwrap());
    let file = |name: &str| place.join("rootfs").join(name);
    let owner = |name: &str| file(name).symlink_metadata().map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
    assert_eq!(owner("etc/su"), (BASE, BASE, 0o4755));
    assert_eq!(owner("etc/deep"), (BASE + 1000, BASE + 1000, 0o755));
    assert_eq!(capability(&file("etc/capable"))[20..], BASE.to_le_bytes());
    let acl = || run("getfacl", &["-n", "--absolute-names", file("etc/motd").to_str().unwrap()]).ok();
    acl().says(&format!("user:{}:rw-", BASE + 1000));

    // A longer range, one that begins within the last, and a shorter one, which files stand in the way of.
    let with = |base: u32, len: u32| {
        let userns = ids.open();
        let range = IdRange { base, len };
        backend.mount(&place, Some(storage::GuestIds { range, ..guest(&userns) })).map(drop)
    };
    with(2_000_000, 1 << 20).unwrap();
    std::os::unix::fs::chown(file("etc/deep"), Some(2_000_000 + 70_000), None).unwrap();
    with(2_065_536, 1 << 20).unwrap();
    assert_eq!(owner("etc/deep"), (2_065_536 + 70_000, 2_065_536 + 1000, 0o755));
    let error = with(BASE, IdRange::LEN).unwrap_err().to_string();
    assert!(error.contains("etc/deep") && error.contains("70000"), "{error}");
    assert_eq!(owner("etc/deep").0, 2_065_536 + 70_000);
    with(2_000_000, 1 << 20).unwrap();
    std::os::unix::fs::chown(file("etc/deep"), Some(2_001_000), None).unwrap();
    with(BASE, IdRange::LEN).unwrap();
    assert_eq!(owner("etc/su"), (BASE, BASE, 0o4755));

    // And back, for whoever works on it as the host's root.
    let tree = Tree::open(backend.as_ref(), &place).unwrap();
    assert_eq!(tree.path(), place.join("rootfs"));
    assert_eq!(owner("etc/su"), (0, 0, 0o4755));
    assert_eq!(capability(&file("etc/capable")), CAPABILITY);
    acl().says("user:1000:rw-");
    assert!(!place.join("ids.toml").exists());
    let error = with(65_536, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("shifted") && error.kind().exit_status() == 5, "{error}");
    assert_eq!(owner("etc/su"), (0, 0, 0o4755));
    fs::remove_dir_all(mounted.layout().containers()).unwrap();
}

fn shift_killed(sandbox: &Sandbox) {
    let mounted = unmappable(sandbox);
    let place = mounted.layout().containers().join("web");
    let rootfs = place.join("rootfs");
    for n in 0..3000 {
        let dir = rootfs.join(format!("d{}", n % 30));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join(format!("f{n}"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(n), Some(3000 - n)).unwrap();
        if n % 100 == 0 {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
            set_capability(&file);
        }
    }
    let listing = || {
        run("sh", &["-c", &format!("cd {} && find . -printf '%p %U %G %m\\n' | sort && getcap -r .", rootfs.display())])
            .ok()
            .stdout
    };
    let before = listing();
    let backend = storage::backend(&mounted.layout(), "dir").unwrap();
    let ids = Ids::new();
    let userns = ids.open();
    let mut killed = 0;
    for delay_ms in 0.. {
        let witness = sys::clone::SingleThreaded::check().unwrap();
        let mount = || u8::from(backend.mount(&place, Some(guest(&userns))).is_err());
        let child = sys::clone::clone(witness, 0, None, mount).unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        nix::sys::signal::kill(child.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        match nix::sys::wait::waitpid(child.pid, None).unwrap() {
            nix::sys::wait::WaitStatus::Exited(_, status) => {
                assert_eq!(status, 0);
                break;
            }
            _ => killed += 1,
        }
    }
    assert!(killed > 3, "it was killed {killed} times");
    for n in [0, 100, 2999] {
        let meta = rootfs.join(format!("d{}/f{n}", n % 30)).metadata().unwrap();
        let mode = if n % 100 == 0 { 0o4755 } else { 0o644 };
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (BASE + n, BASE + 3000 - n, mode));
    }
    drop(Tree::open(backend.as_ref(), &place).unwrap());
    assert_eq!(listing(), before);
    fs::remove_dir_all(mounted.layout().containers()).unwrap();
}
