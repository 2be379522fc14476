//! Where containers are stored: the backends, on every file system that each runs on, and the verbs above them.

mod backends;
mod copies;
mod diff;
mod nested;
mod round_trips;
mod shift;
mod snapshots;
mod space;
mod transfer;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lxm::testing::progress::Progress;
use lxm::testing::storage::{self, Activity, Backend, Purpose, Tree};
use lxm::testing::store::{Layout, Origin};
use lxm::testing::sys;
use lxm::testing::types::{ContainerName, IdRange};

use super::support::{Sandbox, Trial, eventually, run};

pub fn trials() -> Vec<Trial> {
    [
        backends::trials(),
        copies::trials(),
        diff::trials(),
        nested::trials(),
        round_trips::trials(),
        shift::trials(),
        snapshots::trials(),
        space::trials(),
        transfer::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A file system in a file, mounted for as long as this lives.
pub struct Mounted(pub PathBuf);

fn xfs(sandbox: &Sandbox) -> Mounted {
    Mounted::new(sandbox, "xfs", &["mkfs.xfs", "-q"])
}

fn btrfs(sandbox: &Sandbox) -> Mounted {
    Mounted::new(sandbox, "btrfs", &["mkfs.btrfs", "-q"])
}

impl Mounted {
    fn new(sandbox: &Sandbox, kind: &str, mkfs: &[&str]) -> Self {
        Self::of_size(sandbox, kind, mkfs, 400 << 20)
    }

    pub fn of_size(sandbox: &Sandbox, kind: &str, mkfs: &[&str], bytes: u64) -> Self {
        let (file, dir) = (sandbox.path(format!("{kind}.img")), sandbox.path(kind));
        fs::create_dir(&dir).unwrap();
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        let (file, at) = (file.to_str().unwrap(), dir.to_str().unwrap());
        run(mkfs[0], &[&mkfs[1..], &[file]].concat()).ok();
        run("mount", &["-o", "loop", file, at]).ok();
        Mounted(dir)
    }

    pub fn layout(&self) -> Layout {
        Layout::new(&self.0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A descriptor that was left open keeps it busy: that is a finding.
        run("umount", &[&self.0]).ok();
    }
}

/// A user namespace with a container's ids, for as long as it lives.
struct Ids(Child);

const BASE: u32 = 786_432;

impl Ids {
    fn new() -> Self {
        let mut unshare = Command::new("unshare");
        // As a supervisor makes it: its owner is the guest's root.
        let child = unshare.args(["--user", "cat"]).uid(BASE).gid(BASE).stdin(Stdio::piped()).spawn().unwrap();
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let ours = fs::read_link("/proc/self/ns/user").unwrap();
        let unshared = || fs::read_link(proc.join("ns/user")).is_ok_and(|theirs| theirs != ours);
        eventually("a user namespace", Duration::from_secs(5), unshared);
        for map in ["uid_map", "gid_map"] {
            fs::write(proc.join(map), format!("0 {BASE} 65536")).unwrap();
        }
        Ids(child)
    }

    fn open(&self) -> OwnedFd {
        fs::File::open(format!("/proc/{}/ns/user", self.0.id())).unwrap().into()
    }
}

impl Drop for Ids {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a guest's root does in its tree.
fn as_guest<T>(f: impl FnOnce() -> T) -> T {
    sys::creds::with_fs_ids(BASE, BASE, f).unwrap()
}

fn path_of(mount: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", mount.as_raw_fd()).into()
}

fn make_image(layout: &Layout) -> PathBuf {
    let image = layout.images().join("abc");
    fs::create_dir_all(&image).unwrap();
    let rootfs = image.join("rootfs");
    if sys::btrfs::is_btrfs(&image).unwrap() {
        sys::btrfs::create_subvolume(&rootfs).unwrap();
    } else {
        fs::create_dir(&rootfs).unwrap();
    }
    fs::create_dir_all(rootfs.join("etc/deep/er")).unwrap();
    fs::create_dir_all(rootfs.join("home/user")).unwrap();
    fs::write(rootfs.join("etc/motd"), "image").unwrap();
    fs::write(rootfs.join("etc/gone"), "soon").unwrap();
    fs::write(rootfs.join("etc/su"), "program").unwrap();
    fs::set_permissions(rootfs.join("etc/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(rootfs.join("etc/motd"), rootfs.join("etc/motd2")).unwrap();
    std::os::unix::fs::symlink("/etc/motd", rootfs.join("etc/link")).unwrap();
    for file in ["home/user", "etc/deep"] {
        std::os::unix::fs::chown(rootfs.join(file), Some(1000), Some(1000)).unwrap();
    }
    rootfs
}

struct Bench<'a> {
    backend: &'a dyn Backend,
    containers: PathBuf,
}

/// The guest of [`Ids`] with its usual range.
fn guest(userns: &OwnedFd) -> storage::GuestIds<'_> {
    storage::GuestIds { userns: userns.as_fd(), range: IdRange::new(BASE) }
}

impl Bench<'_> {
    fn place(&self, name: &str) -> PathBuf {
        let place = self.containers.join(name);
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn duplicate(&self, from: &str, activity: Activity, to: &str, purpose: Purpose) {
        let (from, to) = (self.place(from), self.place(to));
        self.backend.duplicate(&from, activity, &to, purpose, &Progress::hidden()).unwrap();
    }

    #[track_caller]
    fn holds(&self, place: &str, file: &str, contents: Option<&str>) {
        let tree = Tree::open(self.backend, &self.place(place)).unwrap();
        let found = fs::read_to_string(tree.path().join(file)).ok();
        assert_eq!(found.as_deref(), contents, "{file} of {place}");
    }

    fn write(&self, place: &str, file: &str, contents: &str) {
        let tree = Tree::open(self.backend, &self.place(place)).unwrap();
        fs::write(tree.path().join(file), contents).unwrap();
    }
}

/// What is in the containers' directory apart from the empty directories of places.
pub fn left_over(containers: &Path) -> Vec<PathBuf> {
    let found = run("find", &[containers.to_str().unwrap(), "-not", "-type", "d", "-o", "-name", "rootfs"]).ok();
    let layers = containers.join(".layers");
    found.stdout.lines().map(PathBuf::from).chain(layers.exists().then_some(layers)).collect()
}

/// A container without a template: what the tests of files alone need.
pub fn handmade(layout: &Layout, name: &str, backend: &str) -> ContainerName {
    let name: ContainerName = name.parse().unwrap();
    let image = layout.images().join("abc/rootfs");
    if !image.exists() {
        make_image(layout);
    }
    let place = layout.container(&name);
    fs::create_dir_all(&place).unwrap();
    storage::backend(layout, backend).unwrap().create(&image, &place, &Progress::hidden()).unwrap();
    let origin = Origin {
        template: "none".into(),
        release: String::new(),
        arch: lxm::testing::types::Arch::host(),
        image: "abc".into(),
        storage: backend.into(),
        created: "2026-01-01T00:00:00Z".into(),
        lxm: "0".into(),
        ephemeral: false,
        ids: IdRange::new(BASE),
        wide_ids: None,
    };
    origin.write_file(&layout.origin_file(&name)).unwrap();
    fs::write(layout.config_file(&name), "version = 1\ndescription = \"first\"\n").unwrap();
    name
}

/// Removes a container with its snapshots.
pub fn forget(layout: &Layout, name: &str) {
    let place = layout.containers().join(name);
    let backend = storage::of_container(layout, &name.parse().unwrap()).unwrap();
    for snapshot in fs::read_dir(place.join("snapshots")).into_iter().flatten().flatten() {
        backend.destroy(&snapshot.path()).unwrap();
    }
    backend.destroy(&place).unwrap();
    fs::remove_dir_all(place).unwrap();
    let name: ContainerName = name.parse().unwrap();
    for dir in [layout.log_dir(&name), layout.run_dir(&name)] {
        fs::remove_dir_all(dir).ok();
    }
}

/// Everything about the files of a container but what overlayfs shows otherwise than others: the
/// size and the links of directories, and links of a file that was changed.
pub fn tree_listing(layout: &Layout, name: &str) -> String {
    let name: ContainerName = name.parse().unwrap();
    let backend = storage::of_container(layout, &name).unwrap();
    let tree = Tree::open(backend.as_ref(), &layout.container(&name)).unwrap();
    let fd = tree.dir().unwrap();
    let find = "find . \\( -type d -printf '%p %U %G %m\\n' -o -printf '%p %U %G %m %l %s\\n' \\) | grep -v 'etc/host' | sort; cat etc/motd";
    run("sh", &["-c", &format!("cd /proc/{}/fd/{} && {find}", std::process::id(), fd.as_raw_fd())]).ok().stdout
}

/// Writes a file of a container, running or not.
fn write_file(sandbox: &Sandbox, at: &str, contents: &[u8]) {
    sandbox.lxm_with(&["push", "-", at], contents, Duration::from_secs(20)).ok();
}
