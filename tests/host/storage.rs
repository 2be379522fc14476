//! Every backend on every file system that it runs on: one suite, run on each.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lxm::ops::snapshot;
use lxm::progress::Progress;
use lxm::storage::{self, Activity, Backend, Purpose, Tree};
use lxm::store::{Layout, Origin, Snapshot};
use lxm::sys;
use lxm::types::ContainerName;

use super::support::pace::generous;
use super::support::{Guest, Need, Outcome, Sandbox, Trial, eventually, run};

pub fn trials() -> Vec<Trial> {
    let on_btrfs = |trial: Trial| trial.needs(Need::FileSystem("btrfs")).needs(Need::Tool("mkfs.btrfs"));
    let on_xfs = |trial: Trial| trial.needs(Need::FileSystem("xfs")).needs(Need::Tool("mkfs.xfs"));
    vec![
        Trial::new("storage::dir_on_the_hosts_own", |s| suite(&s.layout(), "dir")),
        Trial::new("storage::overlay_on_the_hosts_own", |s| suite(&s.layout(), "overlay")),
        on_xfs(Trial::new("storage::dir_on_xfs", |s| suite(&xfs(s).layout(), "dir"))),
        on_xfs(Trial::new("storage::overlay_on_xfs", |s| suite(&xfs(s).layout(), "overlay"))),
        on_btrfs(Trial::new("storage::dir_on_btrfs", |s| suite(&btrfs(s).layout(), "dir"))),
        on_btrfs(Trial::new("storage::overlay_on_btrfs", |s| suite(&btrfs(s).layout(), "overlay"))),
        on_btrfs(Trial::new("storage::btrfs_on_btrfs", |s| suite(&btrfs(s).layout(), "btrfs"))),
        on_btrfs(Trial::new("storage::subvolumes_in_a_guest_are_snapshotted_and_removed_with_it", nested_subvolumes)),
        Trial::new("storage::snapshots_of_a_stopped_container", |s| {
            for backend in ["dir", "overlay"] {
                snapshots(&s.layout(), backend);
            }
        }),
        on_btrfs(Trial::new("storage::snapshots_on_btrfs", |s| snapshots(&btrfs(s).layout(), "btrfs"))),
        Trial::new("storage::verbs_of_snapshots_and_mounts", verbs),
        Trial::new("storage::files_go_into_a_stopped_container_and_out_of_it", transfer_stopped),
        Trial::new("storage::no_copy_goes_into_itself", copies_into_themselves).guest(Guest::Probe),
        Trial::new("storage::files_go_into_a_running_guest_and_out_of_it", transfer_running).guest(Guest::Probe),
        Trial::new("storage::what_a_killed_push_left_is_gone", left_aside).guest(Guest::Probe),
        Trial::new("storage::a_guest_that_swaps_directories_for_links_leads_nobody_out", swapping).limit(240),
        Trial::new("storage::a_running_guest_is_snapshotted_and_put_back", snapshot_running).guest(Guest::Probe),
        Trial::new("storage::a_stopped_container_is_copied", |s| copies(s, &s.layout(), &["dir", "overlay"])),
        on_btrfs(Trial::new("storage::a_stopped_container_is_copied_on_btrfs", |s| {
            copies(s, &btrfs(s).layout(), &["btrfs", "overlay"]);
        })),
        Trial::new("storage::a_running_guest_is_copied", copy_running).guest(Guest::Probe),
        Trial::new("storage::an_export_is_imported_as_it_was", export_import),
        Trial::new("storage::a_cut_or_changed_export_leaves_nothing", export_damaged),
        Trial::new("storage::a_running_guest_moves_through_a_pipe", export_running).guest(Guest::Probe),
        Trial::new("storage::what_an_ephemeral_run_changes_is_undone", ephemeral_run).guest(Guest::Probe),
        Trial::new("storage::an_ephemeral_container_is_gone_when_it_stops", ephemeral_container).guest(Guest::Probe),
        Trial::new("storage::a_published_container_makes_others", published).guest(Guest::Probe),
        Trial::new("storage::scheduled_snapshots_are_made_and_expire", scheduled),
        Trial::new("storage::ids_are_shifted_in_the_files_where_they_cannot_be_mapped", shifted),
        Trial::new("storage::a_shift_that_is_killed_is_carried_on_with", shift_killed),
        Trial::new("storage::what_has_changed_is_told", differences),
        Trial::new("storage::packages_of_rpm_that_have_changed_are_told", rpm_packages).needs(Need::Tool("rpmbuild")),
        Trial::new("storage::podman_runs_in_a_guest_on_every_backend", nested).guest(Guest::Podman).limit(240),
        Trial::new("storage::docker_runs_in_a_guest", docker).guest(Guest::Docker).limit(240),
        on_btrfs(Trial::new("storage::what_is_shared_and_what_is_not_is_measured", sizes)),
        on_btrfs(Trial::new("storage::a_container_on_btrfs_grows_to_its_size_and_no_further", quota)),
        Trial::new("storage::a_size_that_nothing_can_hold_is_refused", no_quota).guest(Guest::Probe),
        on_btrfs(on_xfs(Trial::new("storage::auto_takes_what_suits_the_file_system", auto_suits))),
    ]
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

fn suite(layout: &Layout, name: &str) {
    let image = make_image(layout);
    let before = listing(&image);
    let backend = storage::backend(layout, name).unwrap();
    let backend = backend.as_ref();
    let bench = Bench { backend, containers: layout.containers().to_owned() };
    backend.create(&image, &bench.place("web"), &Progress::hidden()).unwrap();

    a_guest_sees_and_leaves_its_own_ids(&bench);
    a_snapshot_keeps_what_was(&bench);
    a_clone_goes_its_own_way(&bench);
    a_running_container_is_snapshotted(&bench);
    any_snapshot_is_restored(&bench);
    a_filled_container_works_as_others(&bench);

    let places = ["web", "web2", "made", "web/snapshots/one", "web/snapshots/two", "web/snapshots/live"];
    for place in places {
        backend.destroy(&bench.place(place)).unwrap();
    }
    assert_eq!(before, listing(&image), "the image");
    assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new());
    fs::remove_dir_all(layout.containers()).unwrap();
}

fn a_guest_sees_and_leaves_its_own_ids(bench: &Bench) {
    let ids = Ids::new();
    let mount = bench.backend.mount(&bench.place("web"), Some(ids.open().as_fd())).unwrap();
    let root = path_of(&mount);
    let owner = |file: &str| root.join(file).symlink_metadata().map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(owner("etc/motd"), (BASE, BASE));
    assert_eq!(owner("home/user"), (BASE + 1000, BASE + 1000));
    assert_eq!(root.join("etc/su").metadata().unwrap().mode() & 0o7777, 0o4755);
    as_guest(|| {
        fs::write(root.join("etc/new"), "guest").unwrap();
        fs::write(root.join("etc/motd"), "changed").unwrap();
        fs::remove_file(root.join("etc/gone")).unwrap();
        fs::rename(root.join("etc/deep"), root.join("etc/moved")).unwrap();
        std::os::unix::fs::chown(root.join("etc/su"), Some(BASE + 33), None).unwrap();
    });
    assert_eq!(owner("etc/new"), (BASE, BASE));
    drop(mount);
    let tree = Tree::open(bench.backend, &bench.place("web")).unwrap();
    let owner = |file: &str| tree.path().join(file).symlink_metadata().map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(owner("etc/new"), (0, 0));
    assert_eq!(owner("etc/su"), (33, 0));
    assert_eq!(owner("etc/moved"), (1000, 1000));
    assert!(tree.path().join("etc/moved/er").is_dir());
    assert!(!tree.path().join("etc/gone").exists());
}

fn a_snapshot_keeps_what_was(bench: &Bench) {
    bench.duplicate("web", Activity::Idle, "web/snapshots/one", Purpose::Snapshot);
    bench.write("web", "etc/motd", "later");
    fs::remove_file(Tree::open(bench.backend, &bench.place("web")).unwrap().path().join("etc/new")).unwrap();
    // Nothing was written between these two.
    bench.duplicate("web", Activity::Idle, "web/snapshots/two", Purpose::Snapshot);
    bench.holds("web/snapshots/one", "etc/motd", Some("changed"));
    bench.holds("web/snapshots/one", "etc/new", Some("guest"));
    bench.holds("web/snapshots/one", "etc/gone", None);
    bench.holds("web/snapshots/two", "etc/motd", Some("later"));
    bench.holds("web/snapshots/two", "etc/new", None);
    bench.holds("web", "etc/motd", Some("later"));
}

fn a_clone_goes_its_own_way(bench: &Bench) {
    bench.duplicate("web/snapshots/one", Activity::Idle, "web2", Purpose::Container);
    bench.write("web2", "etc/motd", "clone");
    bench.write("web", "etc/motd", "original");
    bench.holds("web2", "etc/motd", Some("clone"));
    bench.holds("web2", "etc/new", Some("guest"));
    bench.holds("web", "etc/motd", Some("original"));
    bench.holds("web/snapshots/one", "etc/motd", Some("changed"));
}

fn a_running_container_is_snapshotted(bench: &Bench) {
    let ids = Ids::new();
    let mount = bench.backend.mount(&bench.place("web"), Some(ids.open().as_fd())).unwrap();
    let root = path_of(&mount);
    as_guest(|| fs::write(root.join("etc/live"), "1").unwrap());
    bench.duplicate("web", Activity::Running, "web/snapshots/live", Purpose::Snapshot);
    as_guest(|| fs::write(root.join("etc/live"), "2").unwrap());
    drop(mount);
    bench.holds("web/snapshots/live", "etc/live", Some("1"));
    bench.holds("web/snapshots/live", "etc/gone", None);
    bench.holds("web", "etc/live", Some("2"));
}

fn any_snapshot_is_restored(bench: &Bench) {
    for (snapshot, motd) in [("web/snapshots/one", "changed"), ("web/snapshots/two", "later")] {
        bench.duplicate(snapshot, Activity::Idle, ".staging/back", Purpose::Container);
        bench.backend.exchange(&bench.place(".staging/back"), &bench.place("web")).unwrap();
        bench.backend.destroy(&bench.place(".staging/back")).unwrap();
        bench.holds("web", "etc/motd", Some(motd));
        bench.write("web", "etc/motd", "written after a restore");
        bench.holds(snapshot, "etc/motd", Some(motd));
    }
}

fn a_filled_container_works_as_others(bench: &Bench) {
    let mut fill = |root: &Path| -> lxm::error::Result<()> { Ok(fs::write(root.join("file"), "filled")?) };
    bench.backend.fill(&bench.place("made"), &mut fill).unwrap();
    bench.holds("made", "file", Some("filled"));
    bench.write("made", "file", "changed");
    bench.holds("made", "file", Some("changed"));
}

/// Paths, owners, modes and contents of a tree.
fn listing(root: &Path) -> String {
    run(
        "sh",
        &["-c", &format!("cd {} && find . -printf '%p %U %G %m %n %l\\n' | sort && cat etc/motd", root.display())],
    )
    .ok()
    .stdout
}

/// What is in the containers' directory apart from the empty directories of places.
pub fn left_over(containers: &Path) -> Vec<PathBuf> {
    let found = run("find", &[containers.to_str().unwrap(), "-not", "-type", "d", "-o", "-name", "rootfs"]).ok();
    let layers = containers.join(".layers");
    found.stdout.lines().map(PathBuf::from).chain(layers.exists().then_some(layers)).collect()
}

fn nested_subvolumes(sandbox: &Sandbox) {
    let mounted = btrfs(sandbox);
    let layout = mounted.layout();
    let image = make_image(&layout);
    let backend = storage::backend(&layout, "btrfs").unwrap();
    let bench = Bench { backend: backend.as_ref(), containers: layout.containers().to_owned() };
    backend.create(&image, &bench.place("web"), &Progress::hidden()).unwrap();
    let inner = bench.place("web").join("rootfs/home/inner");
    sys::btrfs::create_subvolume(&inner).unwrap();
    sys::btrfs::create_subvolume(&inner.join("most")).unwrap();
    fs::write(inner.join("most/file"), "deep").unwrap();
    bench.duplicate("web", Activity::Idle, "web/snapshots/one", Purpose::Snapshot);
    fs::write(inner.join("most/file"), "changed").unwrap();
    bench.holds("web/snapshots/one", "home/inner/most/file", Some("deep"));
    bench.duplicate("web/snapshots/one", Activity::Idle, "web2", Purpose::Container);
    bench.write("web2", "home/inner/most/file", "clone");
    for place in ["web", "web/snapshots/one", "web2"] {
        backend.destroy(&bench.place(place)).unwrap();
    }
    assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new());
}

fn auto_suits(sandbox: &Sandbox) {
    let own = sandbox.layout();
    // The suite may be run on any file system; these have no reflinks.
    if run("stat", &["-f", "-c", "%T", sandbox.root().to_str().unwrap()]).ok().line() == "ext2/ext3" {
        assert_eq!(storage::choose(&own, "auto").unwrap().backend, "overlay");
    }
    assert_eq!(storage::choose(&own, "btrfs").unwrap_err().kind().exit_status(), 5);
    assert_eq!(storage::choose(&own, "zfs").unwrap_err().kind().exit_status(), 2);
    assert_eq!(storage::choose(&xfs(sandbox).layout(), "auto").unwrap().backend, "dir");
    assert_eq!(storage::choose(&btrfs(sandbox).layout(), "auto").unwrap().backend, "btrfs");
    assert_eq!(storage::choose(&own, "overlay").unwrap().backend, "overlay");
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
        arch: lxm::types::Arch::host(),
        image: "abc".into(),
        storage: backend.into(),
        created: "2026-01-01T00:00:00Z".into(),
        lxm: "0".into(),
        ephemeral: false,
        ids: lxm::types::IdRange::new(BASE),
    };
    origin.write_file(&layout.origin_file(&name)).unwrap();
    fs::write(layout.config_file(&name), "version = 1\ndescription = \"first\"\n").unwrap();
    name
}

fn snapshots(layout: &Layout, backend: &str) {
    let web = handmade(layout, "web", backend);
    let backend = storage::backend(layout, backend).unwrap();
    let bench = Bench { backend: backend.as_ref(), containers: layout.containers().to_owned() };
    let wish = |name: &str, comment: &str| snapshot::Wish {
        name: (!name.is_empty()).then(|| name.parse().unwrap()),
        comment: comment.into(),
    };
    let named = |name: &str| name.parse().unwrap();
    let status = |result: lxm::error::Result<()>| result.unwrap_err().kind().exit_status();

    snapshot::create(layout, &web, wish("before", "a comment")).unwrap();
    bench.write("web", "etc/motd", "second");
    fs::write(layout.config_file(&web), "version = 1\ndescription = \"second\"\n").unwrap();
    assert_eq!(snapshot::create(layout, &web, wish("", "")).unwrap().name, named("snap0"));
    bench.write("web", "etc/motd", "third");
    assert_eq!(snapshot::create(layout, &web, wish("", "")).unwrap().name, named("snap1"));
    assert_eq!(snapshot::create(layout, &web, wish("before", "")).unwrap_err().kind().exit_status(), 4);

    let listed = Snapshot::list(layout, &web).unwrap();
    let names: Vec<_> = listed.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["before", "snap0", "snap1"]);
    assert_eq!(listed[0].record.comment, "a comment");

    // Not the newest, then a newer one: each is still what it was.
    for (name, motd, description) in
        [("before", "image", "first"), ("snap1", "third", "second"), ("snap0", "second", "second")]
    {
        snapshot::restore(layout, &web, &named(name), false).unwrap();
        bench.holds("web", "etc/motd", Some(motd));
        assert_eq!(layout.config(&web).unwrap().description, description);
        bench.write("web", "etc/motd", "scribble");
    }
    snapshot::rename(layout, &web, &named("snap1"), &named("after")).unwrap();
    assert_eq!(status(snapshot::rename(layout, &web, &named("after"), &named("before"))), 4);
    assert_eq!(status(snapshot::restore(layout, &web, &named("snap1"), false).map(drop)), 3);
    snapshot::delete(layout, &web, &named("before")).unwrap();
    snapshot::restore(layout, &web, &named("after"), false).unwrap();
    bench.holds("web", "etc/motd", Some("third"));
    assert_eq!(status(snapshot::delete(layout, &web, &named("before"))), 3);

    for place in ["web/snapshots/after", "web/snapshots/snap0", "web"] {
        backend.destroy(&bench.place(place)).unwrap();
    }
    fs::remove_dir_all(layout.container(&web)).unwrap();
    assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new());
}

fn verbs(sandbox: &Sandbox) {
    let layout = sandbox.layout();
    handmade(&layout, "web", "overlay");
    assert_eq!(sandbox.lxm(&["snapshot", "create", "web", "one", "--comment", "first of all"]).ok().line(), "one");
    let mounted = sandbox.lxm(&["mount", "web"]).ok().line().to_owned();
    assert_eq!(fs::read_to_string(Path::new(&mounted).join("etc/motd")).unwrap(), "image");
    fs::write(Path::new(&mounted).join("etc/motd"), "through the mount").unwrap();
    sandbox.lxm(&["mount", "-n", "web"]).ok().says(&mounted);
    // What is mounted must not be taken for what nobody writes to.
    let config = layout.config_file(&"web".parse().unwrap());
    let (then, now) = (fs::read_to_string(&config).unwrap(), "version = 1\n[boot]\nautostart = true\n");
    fs::write(&config, now).unwrap();
    sandbox.lxm(&["snapshot", "restore", "web", "one"]).fails(4).complains("is mounted");
    // Neither half of it was restored.
    assert_eq!(fs::read_to_string(&config).unwrap(), now);
    fs::write(&config, then).unwrap();
    sandbox.lxm(&["umount", "web"]).ok();
    sandbox.lxm(&["umount", "web"]).ok();
    assert_eq!(sandbox.lxm(&["snapshot", "create", "-n", "web"]).ok().line(), "snap0");
    let listed = sandbox.lxm(&["snapshot", "list", "web", "--format", "json"]).ok().json();
    assert_eq!((listed[0]["name"].as_str(), listed[1]["name"].as_str()), (Some("one"), Some("snap0")));
    assert_eq!(listed[0]["comment"], "first of all");
    sandbox.lxm(&["snapshot", "show", "web", "one"]).ok().says("first of all");
    sandbox.lxm(&["snapshot", "restore", "web", "one"]).ok();
    sandbox.lxm(&["mount", "web"]).ok();
    assert_eq!(fs::read_to_string(Path::new(&mounted).join("etc/motd")).unwrap(), "image");
    sandbox.lxm(&["umount", "web"]).ok();
    sandbox.lxm(&["snapshot", "rename", "web", "one", "two"]).ok();
    sandbox.lxm(&["snapshot", "delete", "web", "one"]).fails(3);
    sandbox.lxm(&["snapshot", "delete", "web", "two"]).ok();
    sandbox.lxm(&["snapshot", "create", "web", ".."]).fails(2);
    sandbox.lxm(&["snapshot", "list", "nobody"]).fails(3);
    sandbox.lxm(&["snapshot", "tick"]).ok();
    fs::remove_dir_all(layout.containers()).unwrap();
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

fn transfer_stopped(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        let layout = sandbox.layout();
        handmade(&layout, "web", backend);
        transfers(sandbox);
        let name = "web".parse().unwrap();
        let backend = lxm::storage::of_container(&layout, &name).unwrap();
        let tree = lxm::storage::Tree::open(backend.as_ref(), &layout.container(&name)).unwrap();
        let big = tree.path().join("new/dir/big").metadata().unwrap();
        assert_eq!((big.uid(), big.gid()), (65_534, 65_534), "its root can have it");
        drop(tree);
        fs::remove_dir_all(layout.containers()).unwrap();
    }
}

fn transfer_running(sandbox: &Sandbox) {
    sandbox.boot("web", Guest::Probe, &[]);
    transfers(sandbox);
    sandbox.lxm(&["stop", "-k", "web"]).ok();
    forget(&sandbox.layout(), "web");
}

/// A directory of the host that a guest has may lead back to what is copied.
fn copies_into_themselves(sandbox: &Sandbox) {
    let shared = sandbox.path("shared");
    fs::create_dir_all(shared.join("sub")).unwrap();
    fs::write(shared.join("file"), "shared").unwrap();
    let text = |path: &str| sandbox.path(path).to_str().unwrap().to_owned();
    sandbox.create("web", Guest::Probe, &[]);
    for (at, source) in ["shared", "shared/sub"].iter().enumerate() {
        let (from, to) = (format!("mount.{at}.source"), format!("mount.{at}.target"));
        sandbox.lxm(&["config", "set", "web", &from, &text(source), &to, &format!("/srv{at}")]).ok();
    }
    sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
    for (what, words) in [
        ("into a directory of the source", ["push", &text("shared"), "web:/srv0/sub/new"]),
        ("out of the guest", ["pull", "web:/srv0", &text("shared/sub/new")]),
        ("into itself", ["pull", "web:/srv0", &text("shared/")]),
    ] {
        let outcome = sandbox.lxm(&words).fails(1).complains("contains the destination");
        assert!(!shared.join("sub/new").exists() && !shared.join("shared").exists(), "{what}: {outcome}");
    }
    // Here the guest sees no way up to the source: it is found out on the way.
    sandbox.lxm(&["push", &text("shared"), "web:/srv1/new"]).fails(1).complains("contains the destination");
    assert!(!shared.join("sub/new/sub/new").exists());
    // One that is beside it is copied.
    sandbox.lxm(&["pull", "web:/srv0", &text("beside")]).ok();
    assert_eq!(fs::read_to_string(sandbox.path("beside/file")).unwrap(), "shared");
}

fn swapping(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "web"]).ok();
    // What is there on the host, and on no path of the guest.
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "of the host").unwrap();
    let script = format!(
        "mkdir -p /srv/tree/dir/sub; echo of the guest > /srv/tree/dir/file; ln -s {} /srv/link
         while true; do echo >> /srv/swaps; mv /srv/tree/dir /srv/away; mv /srv/link /srv/tree/dir; mv /srv/tree/dir /srv/link;
         mv /srv/away /srv/tree/dir; done",
        outside.display()
    );
    let mut swapper = sandbox.command();
    swapper.args(["attach", "web", "--", "sh", "-c", &script]).stdin(Stdio::null());
    let mut swapper = swapper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let source = sandbox.path("source");
    fs::create_dir_all(source.join("dir/sub")).unwrap();
    fs::write(source.join("dir/file"), "pushed").unwrap();
    let pulled = sandbox.path("pulled");
    let swaps = || sandbox.lxm(&["pull", "web:/srv/swaps", "-"]).stdout.len();
    eventually("the guest swaps", Duration::from_secs(60), || swaps() > 0);
    let (mut met, mut rounds, begun) = (0, 0, Instant::now());
    // Until it has been in the way of some, however busy the machine is.
    while rounds < 60 || (met == 0 && begun.elapsed() < Duration::from_secs(120)) {
        rounds += 1;
        // Either may fail when what it works on has just gone; neither may leave the guest.
        let push = sandbox.lxm(&["push", source.join("dir").to_str().unwrap(), "web:/srv/tree/"]);
        assert!(push.status == 0 || push.status == 1, "{push}");
        fs::remove_dir_all(&pulled).ok();
        fs::create_dir(&pulled).unwrap();
        let pull = sandbox.lxm(&["pull", "web:/srv/tree", pulled.to_str().unwrap()]);
        met += i32::from(push.status != 0 || pulled.join("tree/dir").is_symlink());
        // A link is pulled as a link: what is behind it here is not what came.
        if !pulled.join("tree/dir").is_symlink() {
            assert_ne!(fs::read_to_string(pulled.join("tree/dir/file")).unwrap_or_default(), "of the host", "{pull}");
        }
    }
    assert!(met > 0, "in {rounds} rounds and {} swaps the guest was in nobody's way", swaps());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "of the host");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    sandbox.lxm(&["destroy", "-f", "web"]).ok();
    swapper.wait().unwrap();
}

/// What holds of a container's files whether it runs or not.
fn transfers(sandbox: &Sandbox) {
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let source = sandbox.path("source");
    fs::remove_dir_all(&source).ok();
    fs::create_dir_all(source.join("dir/deeper")).unwrap();
    fs::write(source.join("file"), "contents").unwrap();
    fs::write(source.join("dir/deeper/program"), "run me").unwrap();
    fs::set_permissions(source.join("dir/deeper/program"), fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(1000), Some(33)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", source.join("dir/link")).unwrap();
    // A link that leads out of the tree for whoever follows it on the host.
    fs::create_dir_all(sandbox.path("outside")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("outside"), source.join("escape")).unwrap();

    sandbox.lxm(&["push", &path("source/file"), "web:/etc/pushed"]).ok();
    sandbox.lxm(&["push", &path("source/file"), "--owner", "7:8", "web:/new/dir/"]).ok();
    sandbox.lxm(&["push", &path("source"), "web:/"]).ok();
    sandbox.lxm(&["push", &path("source"), "web:/etc/no/such/dir"]).fails(1);
    sandbox.lxm_with(&["push", "-", "web:/etc/stream"], b"streamed", Duration::from_secs(20)).ok();
    assert_eq!(sandbox.lxm(&["pull", "web:/etc/pushed", "-"]).ok().stdout, "contents");
    assert_eq!(sandbox.lxm(&["pull", "web:/etc/stream", "-"]).ok().stdout, "streamed");
    // For the guest the link leads to nothing.
    sandbox.lxm(&["push", &path("source/file"), "web:/source/escape/"]).fails(1);
    assert_eq!(fs::read_dir(sandbox.path("outside")).unwrap().count(), 0);

    let pulled = sandbox.path("pulled");
    fs::remove_dir_all(&pulled).ok();
    fs::create_dir(&pulled).unwrap();
    let sources = ["web:/source", "web:/etc/pushed", "web:/new/dir/file"];
    sandbox.lxm(&[&["pull", "--preserve"], &sources[..], &[path("pulled/").as_str()]].concat()).ok();
    let owner =
        |name: &str| pulled.join(name).symlink_metadata().map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
    assert_eq!(owner("pushed"), (1000, 33, 0o644));
    assert_eq!(owner("file"), (7, 8, 0o644));
    assert_eq!(owner("source/dir/deeper/program"), (0, 0, 0o4751));
    assert_eq!(fs::read_link(pulled.join("source/dir/link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_to_string(pulled.join("source/dir/deeper/program")).unwrap(), "run me");
    let modified = |file: &Path| file.metadata().unwrap().modified().unwrap();
    assert_eq!(modified(&pulled.join("pushed")), modified(&source.join("file")));

    sandbox.lxm(&["pull", "web:/etc/nothing", &path("pulled/")]).fails(3);
    sandbox.lxm(&["pull", "web:/etc", "-"]).fails(2);
    sandbox.lxm(&["push", &path("source/file"), "/etc/pushed"]).fails(2);
    sandbox.lxm(&["push", &path("source/file"), "nobody:/etc/pushed"]).fails(3);
    // Ids that the guest has not are refused where they are said, and nobody's where a file has them.
    for outside in ["70000", "0:70000"] {
        let told = sandbox.lxm(&["push", "--owner", outside, &path("source/file"), "web:/new/outside"]).fails(3);
        told.complains("70000 is not an id of the guest, which has 0 to 65535");
    }
    for none in ["4294967295", "0:4294967295"] {
        sandbox.lxm(&["push", "--owner", none, &path("source/file"), "web:/new/outside"]).fails(3).complains(none);
    }
    sandbox.lxm(&["pull", "web:/new/outside", "-"]).fails(3);
    std::os::unix::fs::chown(source.join("file"), Some(70_000), Some(80_000)).unwrap();
    sandbox.lxm(&["push", &path("source/file"), "web:/new/dir/big"]).ok();
    sandbox.lxm(&["pull", "--preserve", "web:/new/dir/big", &path("pulled/")]).ok();
    assert_eq!(owner("big"), (65_534, 65_534, 0o644));
    // A copy of what holds the guest, or a guest's into itself, would have no end.
    let containers = sandbox.layout().containers().to_owned();
    for held in [containers.parent().unwrap(), &containers].map(|held| held.to_str().unwrap()) {
        sandbox.lxm(&["push", held, "web:/new/held"]).fails(1).complains("contains the destination");
    }
    sandbox.lxm(&["pull", "web:/new/held", "-"]).fails(3);
    sandbox.lxm(&["push", &path("source/file"), "web:/source"]).ok();
    assert_eq!(sandbox.lxm(&["pull", "web:/source/file", "-"]).ok().stdout, "contents");
}

fn snapshot_running(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        sandbox.boot("web", Guest::Probe, &["--storage", backend]);
        sandbox.lxm_with(&["push", "-", "web:/etc/state"], b"first", Duration::from_secs(20)).ok();
        sandbox.lxm(&["snapshot", "create", "web", "one"]).ok();
        let shown = sandbox.lxm(&["snapshot", "show", "web", "one", "--format", "json"]).ok().json();
        assert_eq!(shown["running"], true);
        // Thawed: it still does what it is asked.
        sandbox.lxm_with(&["push", "-", "web:/etc/state"], b"second", Duration::from_secs(20)).ok();
        sandbox.lxm(&["snapshot", "restore", "web", "one"]).fails(4).complains("it is running");
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        sandbox.lxm(&["snapshot", "restore", "web", "one"]).ok();
        assert_eq!(sandbox.lxm(&["pull", "web:/etc/state", "-"]).ok().stdout, "first");
        sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
        assert_eq!(sandbox.lxm(&["pull", "web:/etc/state", "-"]).ok().stdout, "first");
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        forget(&sandbox.layout(), "web");
    }
}

/// Copies to and fro between two backends.
fn copies(sandbox: &Sandbox, layout: &Layout, backends: &[&str; 2]) {
    let lxm = |args: &[&str]| {
        let mut command = sandbox.command();
        command.env("LXM_ROOT", layout.root()).args(args);
        super::support::command::bounded(command, b"", Duration::from_secs(30))
    };
    for backend in backends {
        handmade(layout, "web", backend);
        lxm(&["snapshot", "create", "web", "old"]).ok();
        let shown = lxm(&["mount", "web"]).ok();
        fs::write(Path::new(shown.line()).join("etc/motd"), "new").unwrap();
        lxm(&["umount", "web"]).ok();
        lxm(&["copy", "web", "same"]).ok();
        lxm(&["copy", "web", "then", "--snapshot", "old"]).ok();
        let other = backends[usize::from(backend == &backends[0])];
        lxm(&["copy", "web", "across", "--storage", other]).ok();
        lxm(&["copy", "web", "same"]).fails(4);
        lxm(&["copy", "web", "web"]).fails(2);
        lxm(&["copy", "web", "x", "--snapshot", "nothing"]).fails(3);
        lxm(&["copy", "nobody", "x"]).fails(3);
        for (name, motd) in [("same", "new"), ("then", "image"), ("across", "new")] {
            assert_eq!(lxm(&["pull", &format!("{name}:/etc/motd"), "-"]).ok().stdout, motd);
            assert_eq!(lxm(&["pull", &format!("{name}:/etc/hostname"), "-"]).ok().line(), name);
        }
        let origin = |name: &str| Origin::read(layout, &name.parse().unwrap()).unwrap();
        assert!(!origin("web").ids.overlaps(&origin("same").ids));
        assert_eq!((origin("same").storage, origin("across").storage), (backend.to_string(), other.to_string()));
        let uuid = |name: &str| layout.config(&name.parse().unwrap()).unwrap().uuid;
        assert_ne!(uuid("same"), uuid("web"));
        // None needs another.
        for name in ["web", "same", "then"] {
            forget(layout, name);
        }
        assert_eq!(lxm(&["pull", "across:/etc/motd", "-"]).ok().stdout, "new");
        forget(layout, "across");
        assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new());
    }
}

fn copy_running(sandbox: &Sandbox) {
    for (backend, other) in [("overlay", "dir"), ("dir", "overlay")] {
        sandbox.boot("web", Guest::Probe, &["--storage", backend]);
        sandbox.lxm_with(&["push", "-", "web:/etc/state"], b"running", Duration::from_secs(20)).ok();
        sandbox.lxm(&["copy", "web", "web2"]).ok();
        sandbox.lxm(&["copy", "web", "web3", "--storage", other]).ok();
        for copy in ["web2", "web3"] {
            sandbox.lxm(&["start", copy, "--wait", "booted"]).ok();
            assert_eq!(sandbox.lxm(&["pull", &format!("{copy}:/etc/state"), "-"]).ok().stdout, "running");
        }
        for name in ["web", "web2", "web3"] {
            sandbox.lxm(&["stop", "-k", name]).ok();
            forget(&sandbox.layout(), name);
        }
    }
}

fn export_import(sandbox: &Sandbox) {
    let layout = sandbox.layout();
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    for (backend, there, file) in
        [("overlay", "dir", "web.tar.zst"), ("dir", "overlay", "web.tar.xz"), ("dir", "dir", "web.tar")]
    {
        let web = handmade(&layout, "web", backend);
        let uuid = "2f1b1c62-5ec6-4a6e-8f5a-0a5f4f6d9f11";
        fs::write(layout.config_file(&web), format!("version = 1\n# kept\nuuid = \"{uuid}\"\n")).unwrap();
        sandbox.lxm(&["snapshot", "create", "web", "old"]).ok();
        sandbox.lxm_with(&["push", "-", "web:/etc/motd"], b"exported", Duration::from_secs(20)).ok();
        let before = tree_listing(&layout, "web");
        sandbox.lxm(&["export", "web", "-o", &path(file)]).ok();
        sandbox.lxm(&["export", "web", "-o", &path("old.tar.zst"), "--snapshot", "old"]).ok();
        assert_eq!(tree_listing(&layout, "web"), before);

        // Beside the original it gets an identity of its own.
        sandbox.lxm(&["import", &path(file), "-n", "twin", "--storage", there]).ok().complains("got one of its own");
        assert_ne!(layout.config(&"twin".parse().unwrap()).unwrap().uuid, uuid);
        sandbox.lxm(&["import", &path(file)]).fails(4);
        sandbox.lxm(&["import", &path("old.tar.zst"), "-n", "old"]).ok();
        assert_eq!(sandbox.lxm(&["pull", "old:/etc/motd", "-"]).ok().stdout, "image");
        forget(&layout, "web");
        forget(&layout, "twin");
        forget(&layout, "old");

        sandbox.lxm(&["import", &path(file), "--storage", there]).ok();
        assert_eq!(tree_listing(&layout, "web"), before);
        assert!(fs::read_to_string(layout.config_file(&web)).unwrap().contains("# kept"));
        assert_eq!(layout.config(&web).unwrap().uuid, uuid);
        assert_eq!(Origin::read(&layout, &web).unwrap().storage, there);
        forget(&layout, "web");
        // Others read it too.
        assert!(run("tar", &["-tf", &path(file)]).ok().stdout.contains("rootfs/etc/motd"));
    }
    assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new());
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

/// What a push that was killed left at the root of the tree, where it puts things aside.
fn left_aside(sandbox: &Sandbox) {
    let layout = sandbox.layout();
    for backend in ["dir", "overlay"] {
        sandbox.create("web", Guest::Probe, &["--storage", backend]);
        let leave = || {
            let backend = storage::of_container(&layout, &"web".parse().unwrap()).unwrap();
            let tree = Tree::open(backend.as_ref(), &layout.container(&"web".parse().unwrap())).unwrap();
            fs::write(tree.path().join(".lxm-0123456789abcdef"), "half").unwrap();
            assert!(tree.path().join(".lxm-0123456789abcdef").exists());
        };
        let is_left = || sandbox.lxm(&["pull", "web:/.lxm-0123456789abcdef", "-"]).status == 0;
        leave();
        assert!(!is_left(), "the next verb removes it");
        leave();
        sandbox.lxm(&["start", "web"]).ok();
        assert!(!is_left(), "a start removes it");
        // Whoever replaces a file of a running guest puts it aside in the same place.
        for contents in ["one", "two"] {
            sandbox.lxm_with(&["push", "-", "web:/etc/mark"], contents.as_bytes(), Duration::from_secs(20)).ok();
            assert_eq!(sandbox.lxm(&["pull", "web:/etc/mark", "-"]).ok().stdout, contents);
            // On another mount it cannot.
            sandbox.lxm_with(&["push", "-", "web:/run/mark"], contents.as_bytes(), Duration::from_secs(20)).ok();
            assert_eq!(sandbox.lxm(&["pull", "web:/run/mark", "-"]).ok().stdout, contents);
        }
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        sandbox.lxm(&["destroy", "web"]).ok();
    }
}

fn export_damaged(sandbox: &Sandbox) {
    let layout = sandbox.layout();
    let web = handmade(&layout, "web", "dir");
    // Something that does not compress away.
    let mut noise = vec![0; 200_000];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    fs::write(layout.rootfs(&web).join("noise"), noise).unwrap();
    let file = sandbox.path("web.tar");
    sandbox.lxm(&["export", "web", "-o", file.to_str().unwrap()]).ok();
    let whole = fs::read(&file).unwrap();
    let zstd = sandbox.path("web.tar.zst");
    sandbox.lxm(&["export", "web", "-o", zstd.to_str().unwrap()]).ok();
    let packed = fs::read(&zstd).unwrap();
    forget(&layout, "web");

    let refused = |bytes: &[u8], what: &str| {
        let outcome = sandbox.lxm_with(&["import", "-n", "web", "-"], bytes, Duration::from_secs(20));
        assert_eq!(outcome.status, 1, "{what}: {outcome}");
        assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new(), "{what}");
        assert!(layout.names().unwrap().is_empty(), "{what}");
    };
    for end in [0, 100, 600, whole.len() / 3, whole.len() - 2048, whole.len() - 1024, whole.len() - 1025] {
        refused(&whole[..end], &format!("cut at {end}"));
    }
    for end in [10, packed.len() / 2, packed.len() - 1] {
        refused(&packed[..end], &format!("compressed, cut at {end}"));
    }
    // One bit of a file's contents.
    let mut changed = whole.clone();
    let at = changed.windows(7).position(|window| window == b"program").unwrap();
    changed[at] ^= 1;
    refused(&changed, "changed");
    refused(b"this is no archive", "no archive");
    let other = sandbox.path("other.tar");
    run("tar", &["-cf", other.to_str().unwrap(), "-C", "/etc", "hostname"]).ok();
    refused(&fs::read(&other).unwrap(), "another archive");
    sandbox.lxm_with(&["import", "-"], &whole, Duration::from_secs(20)).ok();
    forget(&layout, "web");
}

fn export_running(sandbox: &Sandbox) {
    for (backend, there) in [("overlay", "dir"), ("dir", "overlay")] {
        sandbox.boot("web", Guest::Probe, &["--storage", backend]);
        sandbox.lxm_with(&["push", "-", "web:/etc/state"], b"running", Duration::from_secs(20)).ok();
        let lxm = super::support::sandbox::program();
        let pipe = format!("{0} export web -o - | {0} import -n web2 --storage {there} -", lxm.display());
        let mut shell = Command::new("sh");
        sandbox.environment(&mut shell);
        shell.args(["-c", &pipe]);
        super::support::command::bounded(shell, b"", Duration::from_secs(60)).ok();
        sandbox.lxm(&["start", "web2", "--wait", "booted"]).ok();
        assert_eq!(sandbox.lxm(&["pull", "web2:/etc/state", "-"]).ok().stdout, "running");
        for name in ["web", "web2"] {
            sandbox.lxm(&["stop", "-k", name]).ok();
            assert!(fs::read_dir(sandbox.layout().snapshots(&name.parse().unwrap())).is_err());
            forget(&sandbox.layout(), name);
        }
    }
}

fn ephemeral_run(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        sandbox.create("web", Guest::Probe, &["--storage", backend]);
        let set = |state: &str| {
            sandbox.lxm_with(&["push", "-", "web:/etc/state"], state.as_bytes(), Duration::from_secs(20)).ok();
        };
        let get = || sandbox.lxm(&["pull", "web:/etc/state", "-"]).ok().stdout;
        set("kept");
        sandbox.lxm(&["start", "web", "--ephemeral", "--wait", "booted"]).ok();
        set("changed");
        sandbox.lxm(&["snapshot", "create", "web", "during"]).ok();
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        assert_eq!(get(), "kept");
        // A run that nobody survives is undone by the next start.
        sandbox.lxm(&["start", "web", "--ephemeral", "--wait", "booted"]).ok();
        set("changed");
        let supervisor = nix::unistd::Pid::from_raw(sandbox.supervisor("web"));
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
        let dead = lxm::store::AliveLock::wait_released(
            &sandbox.layout(),
            &"web".parse().unwrap(),
            generous(Duration::from_secs(5)),
        );
        assert!(dead.unwrap());
        sandbox.lxm(&["start", "web", "--wait", "booted"]).ok();
        assert_eq!(get(), "kept");
        set("stays");
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        assert_eq!(get(), "stays");
        sandbox.lxm(&["snapshot", "restore", "web", "during"]).ok();
        assert_eq!(get(), "changed");
        sandbox.lxm(&["destroy", "web"]).ok();
        assert_eq!(left_over(sandbox.layout().containers()), Vec::<PathBuf>::new());
    }
}

fn ephemeral_container(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        sandbox.boot("web", Guest::Probe, &["--ephemeral", "--storage", backend]);
        sandbox.lxm(&["snapshot", "create", "web"]).ok();
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        sandbox.lxm(&["start", "web"]).fails(3);
        assert_eq!(left_over(sandbox.layout().containers()), Vec::<PathBuf>::new());
        sandbox.lxm(&["gc"]).ok();
    }
}

fn published(sandbox: &Sandbox) {
    sandbox.boot("web", Guest::Probe, &[]);
    let set = |state: &str| {
        sandbox.lxm_with(&["push", "-", "web:/etc/state"], state.as_bytes(), Duration::from_secs(20)).ok();
    };
    let get = |name: &str| sandbox.lxm(&["pull", &format!("{name}:/etc/state"), "-"]).ok().stdout;
    set("first");
    let first = sandbox.lxm(&["publish", "web", "golden"]).ok().line().to_owned();
    sandbox.lxm(&["create", "one", "-t", "golden", "--network", "none", "--storage", "overlay"]).ok();
    assert_eq!(get("one"), "first");
    set("second");
    let second = sandbox.lxm(&["publish", "web", "golden"]).ok().line().to_owned();
    assert_ne!(first, second);
    sandbox.lxm(&["create", "two", "-t", "golden", "--network", "none", "--storage", "overlay"]).ok();
    assert_eq!((get("one").as_str(), get("two").as_str()), ("first", "second"));
    sandbox.lxm(&["start", "two", "--wait", "booted"]).ok();
    sandbox.lxm(&["image", "rm", &first]).fails(4);
    sandbox.lxm(&["destroy", "one"]).ok();
    sandbox.lxm(&["image", "rm", &first]).ok();
    sandbox.lxm(&["publish", "web", "debian"]).fails(4);
    sandbox.lxm(&["destroy", "-f", "two"]).ok();
    sandbox.lxm(&["image", "rm", &second]).ok();
    sandbox.lxm(&["create", "three", "-t", "golden", "--network", "none"]).fails(3).complains("published");
}

fn scheduled(sandbox: &Sandbox) {
    let layout = sandbox.layout();
    let web = handmade(&layout, "web", "overlay");
    handmade(&layout, "unscheduled", "overlay");
    let broken = handmade(&layout, "broken", "overlay");
    let schedule = "version = 1\n[snapshots]\nschedule = \"daily\"\nkeep = 2\n";
    fs::write(layout.config_file(&web), schedule).unwrap();
    fs::write(layout.config_file(&broken), "version = 1\n[snapshots]\nschedule = \"sometimes\"\n").unwrap();
    // Snapshots are made now, whenever the tick believes that it is.
    let now = jiff::Timestamp::now();
    let mut made = 0;
    for day in 0..4 {
        let ticked = snapshot::tick(&layout, now + jiff::SignedDuration::from_hours(24 * day)).unwrap();
        made += ticked.made.len();
        assert_eq!(ticked.failed.len(), 1);
        assert_eq!(ticked.failed[0].0, broken);
        assert!(snapshot::tick(&layout, now).unwrap().made.is_empty());
    }
    assert_eq!(made, 4);
    assert_eq!(Snapshot::list(&layout, &web).unwrap().len(), 2);
    fs::remove_dir_all(layout.containers()).unwrap();
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
    drop(backend.mount(&place, Some(ids.open().as_fd())).unwrap());
    let file = |name: &str| place.join("rootfs").join(name);
    let owner = |name: &str| file(name).symlink_metadata().map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
    assert_eq!(owner("etc/su"), (BASE, BASE, 0o4755));
    assert_eq!(owner("etc/deep"), (BASE + 1000, BASE + 1000, 0o755));
    assert_eq!(capability(&file("etc/capable"))[20..], BASE.to_le_bytes());
    let acl = || run("getfacl", &["-n", "--absolute-names", file("etc/motd").to_str().unwrap()]).ok();
    acl().says(&format!("user:{}:rw-", BASE + 1000));

    // And back, for whoever works on it as the host's root.
    let tree = Tree::open(backend.as_ref(), &place).unwrap();
    assert_eq!(tree.path(), place.join("rootfs"));
    assert_eq!(owner("etc/su"), (0, 0, 0o4755));
    assert_eq!(capability(&file("etc/capable")), CAPABILITY);
    acl().says("user:1000:rw-");
    assert!(!place.join("ids.toml").exists());
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
    for patience in 0.. {
        let witness = sys::clone::SingleThreaded::check().unwrap();
        let mount = || u8::from(backend.mount(&place, Some(userns.as_fd())).is_err());
        let child = sys::clone::clone(witness, 0, None, mount).unwrap();
        std::thread::sleep(Duration::from_millis(patience));
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

/// Writes a file of a container, running or not.
fn write_file(sandbox: &Sandbox, at: &str, contents: &[u8]) {
    sandbox.lxm_with(&["push", "-", at], contents, Duration::from_secs(20)).ok();
}

fn differences(sandbox: &Sandbox) {
    for backend in ["overlay", "dir"] {
        sandbox.create("web", Guest::Busybox, &["--storage", backend]);
        let made = sandbox.lxm(&["diff", "web", "--format", "json"]).ok().json();
        assert_eq!(made["packages"], serde_json::Value::Null, "busybox has no package manager");
        let dpkg = |packages: &[(&str, &str)]| {
            let paragraph = |(name, version): &(&str, &str)| {
                format!("Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n")
            };
            let status: String = packages.iter().map(paragraph).collect();
            let (file, dir) = (sandbox.path("dpkg/status"), sandbox.path("dpkg"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(file, status).unwrap();
            sandbox.lxm(&["push", dir.to_str().unwrap(), "web:/var/lib/"]).ok();
        };
        let rootfs = || PathBuf::from(sandbox.lxm(&["mount", "web"]).ok().line());
        fs::create_dir_all(rootfs().join("var/lib")).unwrap();
        fs::create_dir_all(rootfs().join("srv/old/deep")).unwrap();
        std::os::unix::fs::symlink("/srv", rootfs().join("link")).unwrap();
        sandbox.lxm(&["umount", "web"]).ok();
        for file in ["changed", "owned", "retyped", "old/gone"] {
            write_file(sandbox, &format!("web:/srv/{file}"), b"1");
        }
        dpkg(&[("bash", "1"), ("nano", "1"), ("vim", "1")]);
        sandbox.lxm(&["snapshot", "create", "web", "before"]).ok();
        assert_eq!(sandbox.lxm(&["diff", "web", "before"]).ok().stdout, "");

        write_file(sandbox, "web:/srv/changed", b"22");
        write_file(sandbox, "web:/srv/new", b"");
        dpkg(&[("bash", "2"), ("vim", "1"), ("zsh", "1")]);
        let root = rootfs();
        std::os::unix::fs::chown(root.join("srv/owned"), Some(7), None).unwrap();
        fs::remove_file(root.join("srv/retyped")).unwrap();
        fs::create_dir_all(root.join("srv/retyped/below")).unwrap();
        fs::remove_dir_all(root.join("srv/old")).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        drop(root);
        sandbox.lxm(&["umount", "web"]).ok();
        let wanted = "C /link\nC /srv/changed\nA /srv/new\nD /srv/old\nC /srv/owned\nC /srv/retyped\n\
            A /srv/retyped/below\nC /var/lib/dpkg/status\n~ bash 1 -> 2\n- nano 1\n+ zsh 1\n";
        assert_eq!(sandbox.lxm(&["diff", "web", "before"]).ok().stdout, wanted, "{backend}");
        // A running guest's ids are told as the guest knows them, and what is mounted in it is left out.
        sandbox.lxm(&["start", "web"]).ok();
        let running = sandbox.lxm(&["diff", "web", "before"]).ok().stdout;
        for line in wanted.lines() {
            assert!(running.lines().any(|found| found == line), "{backend}: `{line}` is missing in {running}");
        }
        assert!(!running.contains("/proc/") && !running.contains("/dev/"), "{running}");
        sandbox.lxm(&["attach", "web", "--", "mkdir", "/srv/\u{1b}[2Jx"]).ok();
        assert!(sandbox.lxm(&["diff", "web", "before"]).ok().stdout.contains("A /srv/\\u{1b}[2Jx\n"));
        let of_image = sandbox.lxm(&["diff", "web"]).ok().stdout;
        assert!(of_image.contains("A /srv/changed\n") && !of_image.contains("/bin/busybox"), "{of_image}");
        sandbox.lxm(&["diff", "web", "none"]).fails(3);
        sandbox.lxm(&["destroy", "-f", "web"]).ok();
    }
}

fn rpm_packages(sandbox: &Sandbox) {
    let top = sandbox.path("rpm");
    fs::create_dir_all(&top).unwrap();
    let define = format!("_topdir {}", top.display());
    let package = |name: &str, version: &str, more: &str| {
        let spec = top.join("package.spec");
        let head = format!("Name: {name}\nVersion: {version}\nRelease: 1\n{more}\nSummary: {name}\nLicense: none\n");
        fs::write(&spec, format!("{head}BuildArch: noarch\n%description\n%files\n")).unwrap();
        run("rpmbuild", &["--quiet", "--define", &define, "-bb", spec.to_str().unwrap()]).ok();
        top.join(format!("RPMS/noarch/{name}-{version}-1.noarch.rpm")).to_str().unwrap().to_owned()
    };
    sandbox.create("web", Guest::Busybox, &[]);
    let rpm = |args: &[&str]| {
        let root = sandbox.lxm(&["mount", "web"]).ok().line().to_owned();
        run("rpm", &[&["--root", &root, "--dbpath", "/usr/lib/sysimage/rpm"], args].concat()).ok();
        sandbox.lxm(&["umount", "web"]).ok();
    };
    rpm(&["-i", &package("stays", "1.0", ""), &package("rises", "1.9", ""), &package("goes", "1.0", "")]);
    sandbox.lxm(&["snapshot", "create", "web", "before"]).ok();
    rpm(&["-U", &package("rises", "1.0", "Epoch: 2"), &package("comes", "0.1", "")]);
    rpm(&["-e", "goes"]);
    let told = sandbox.lxm(&["diff", "web", "before"]).ok().stdout;
    let packages: Vec<&str> = told.lines().filter(|line| !line.contains('/')).collect();
    assert_eq!(packages, ["+ comes 0.1-1", "- goes 1.0-1", "~ rises 1.9-1 -> 2:1.0-1"], "{told}");
}

fn sizes(sandbox: &Sandbox) {
    const MIB: u64 = 1 << 20;
    let sizes = |args: &[&str], name: &str| {
        let listed = sandbox.lxm(&[args, &["list", "-F", "name,size,shared", "--format", "json"]].concat()).ok().json();
        let of_it = listed.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
        (of_it["size_bytes"].as_u64().unwrap(), of_it["shared_bytes"].as_u64().unwrap())
    };
    sandbox.create("web", Guest::Busybox, &["--storage", "overlay"]);
    let image = || {
        let images = sandbox.lxm(&["image", "list", "--format", "json"]).ok().json();
        let image = images.as_array().unwrap().iter().find(|image| image["template"] == "busybox").unwrap().clone();
        (image["size_bytes"].as_u64().unwrap(), image["shared_bytes"].as_u64().unwrap())
    };
    assert_eq!(image().0, image().1, "all of it is the container's too");
    let (own, shared) = sizes(&[], "web");
    assert!(own < MIB && shared == image().0, "{own} {shared}");
    write_file(sandbox, "web:/etc/big", &vec![7; 4 * MIB as usize]);
    let (own, _) = sizes(&[], "web");
    assert!((4 * MIB..5 * MIB).contains(&own), "{own}");
    sandbox.lxm(&["snapshot", "create", "web"]).ok();
    let (own, shared) = sizes(&[], "web");
    assert!(own < MIB && shared > image().0 + 4 * MIB, "{own} {shared}");
    sandbox.lxm(&["list", "-F", "name,size,shared"]).ok().says(" MiB");
    assert_eq!(sandbox.lxm(&["list", "--format", "json"]).ok().json()[0]["size_bytes"], serde_json::Value::Null);
    assert!(sandbox.info("web", "shared_bytes").as_u64().unwrap() > 4 * MIB);
    sandbox.lxm(&["destroy", "web"]).ok();
    assert_eq!(image().1, 0);

    // By blocks in common, where the file system has such.
    let mounted = btrfs(sandbox);
    let path = ["-P", mounted.0.to_str().unwrap()];
    let lxm = |args: &[&str]| sandbox.lxm(&[&path[..], args].concat()).ok();
    lxm(&["create", "web", "-t", "busybox", "--network", "none"]).complains("storage btrfs");
    sandbox
        .lxm_with(
            &[&path[..], &["push", "-", "web:/etc/big"]].concat(),
            &vec![7; 4 * MIB as usize],
            Duration::from_secs(20),
        )
        .ok();
    run("sync", &["-f", path[1]]).ok();
    let (own, shared) = sizes(&path, "web");
    assert!(own > 4 * MIB && shared == 0, "{own} {shared}");
    lxm(&["copy", "web", "web2"]);
    run("sync", &["-f", path[1]]).ok();
    // Its many links take up a block each.
    let (own, shared) = sizes(&path, "web2");
    assert!(own < 2 * MIB && shared > 4 * MIB, "{own} {shared}");
    lxm(&["destroy", "web"]);
    lxm(&["destroy", "web2"]);
}

fn quota(sandbox: &Sandbox) {
    let mounted = btrfs(sandbox);
    let path = ["-P", mounted.0.to_str().unwrap()];
    let lxm = |args: &[&str]| sandbox.lxm(&[&path[..], args].concat());
    let noise = |mib: usize| {
        let mut noise = vec![0; mib << 20];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        noise
    };
    let push = |at: &str, mib: usize| {
        sandbox.lxm_with(&[&path[..], &["push", "-", at]].concat(), &noise(mib), Duration::from_secs(60))
    };
    lxm(&["create", "web", "-t", "busybox", "--network", "none"]).ok();
    lxm(&["config", "set", "web", "storage.size", "24MiB"]).ok();
    push("web:/etc/kept", 4).ok();
    push("web:/etc/big", 40).fails(1).complains("Disk quota exceeded");
    // In a guest too, and what it holds then is not lost.
    lxm(&["start", "web"]).ok();
    let fill = "dd if=/dev/urandom of=/big bs=1M count=40 2>&1";
    lxm(&["attach", "web", "--", "sh", "-c", fill]).fails(1).says("Disk quota exceeded");
    lxm(&["attach", "web", "--", "rm", "/big"]).ok();
    // More room for a running guest, at once.
    lxm(&["config", "set", "web", "storage.size", "100MiB"]).ok();
    lxm(&["attach", "web", "--", "sh", "-c", fill]).ok();
    lxm(&["stop", "-k", "web"]).ok();
    // What is restored is a new subvolume, and held to the same.
    lxm(&["snapshot", "create", "web", "one"]).ok();
    lxm(&["config", "set", "web", "storage.size", "56MiB"]).ok();
    lxm(&["snapshot", "create", "web", "two"]).ok();
    lxm(&["snapshot", "restore", "web", "two"]).ok();
    lxm(&["start", "web"]).ok();
    lxm(&["attach", "web", "--", "sh", "-c", &fill.replace("/big", "/more")]).fails(1).says("Disk quota exceeded");
    lxm(&["config", "unset", "web", "storage.size"]).ok();
    lxm(&["attach", "web", "--", "sh", "-c", &fill.replace("/big", "/more")]).ok();
    lxm(&["stop", "-k", "web"]).ok();
    lxm(&["destroy", "web"]).ok();
}

fn no_quota(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        sandbox.create("web", Guest::Probe, &["--storage", backend]);
        let before = fs::read(sandbox.layout().config_file(&"web".parse().unwrap())).unwrap();
        let set = sandbox.lxm(&["config", "set", "web", "storage.size", "1GiB"]);
        set.fails(5).complains("has no project quotas").complains("hint: ").complains("prjquota");
        assert_eq!(fs::read(sandbox.layout().config_file(&"web".parse().unwrap())).unwrap(), before);
        let file = sandbox.layout().config_file(&"web".parse().unwrap());
        fs::write(file, "version = 1\n[storage]\nsize = \"1GiB\"\n").unwrap();
        sandbox.lxm(&["start", "web"]).fails(5).complains("hold `storage.size`").complains("has no project quotas");
        sandbox.lxm(&["destroy", "web"]).ok();
    }
}

/// A guest `web` in which containers may be run, with a busybox of the host to make images of.
fn boot_nesting(sandbox: &Sandbox, guest: Guest, backend: &str) {
    sandbox.create("web", guest, &["--storage", backend]);
    sandbox.lxm(&["config", "set", "web", "security.nesting", "true"]).ok();
    boot_again(sandbox);
    sandbox.lxm(&["push", "/bin/busybox", "web:/root/image/bin/"]).ok();
    sh(sandbox, "cd /root/image; for name in sh ls rm sleep ip; do ln -s busybox bin/$name; done").ok();
}

fn boot_again(sandbox: &Sandbox) {
    sandbox.lxm_with(&["start", "web", "--wait", "booted"], b"", Duration::from_secs(60)).ok();
}

fn sh(sandbox: &Sandbox, script: &str) -> Outcome {
    sandbox.lxm_with(&["attach", "web", "--", "bash", "-euc", script], b"", Duration::from_secs(120))
}

/// What `ls /bin` says in an image of that busybox after `rm` has removed itself.
const WITHOUT_RM: &str = "busybox\nip\nls\nsh\nsleep\n";

fn docker(sandbox: &Sandbox) {
    boot_nesting(sandbox, Guest::Docker, "overlay");
    sh(sandbox, "tar -C /root/image -c . | docker import - one").ok();
    sh(sandbox, "docker info").ok().says("Storage Driver: overlay2").says("Cgroup Version: 2");
    // On docker's own bridge and behind its own rules, which are the guest's.
    sh(sandbox, "docker run -d --name bg one sleep 1000").ok();
    sh(sandbox, "docker exec bg ip -4 address show eth0").ok().says("inet 172.");
    sh(sandbox, "iptables -t nat -S").ok().says("-A DOCKER");
    sh(sandbox, "docker run --name kept one sh -c 'rm /bin/rm && ls /bin'").ok().says(WITHOUT_RM);
    sh(sandbox, "docker diff kept").ok().says("D /bin/rm");
    sandbox.lxm_with(&["stop", "web"], b"", Duration::from_secs(60)).ok();
    boot_again(sandbox);
    sh(sandbox, "docker start bg && docker exec bg ls /bin").ok().says("busybox");
    sandbox.lxm(&["copy", "web", "web2"]).ok().complains("`/var/lib/docker`");
    sandbox.lxm(&["destroy", "-f", "web", "web2"]).ok();
}

fn nested(sandbox: &Sandbox) {
    for backend in ["overlay", "dir"] {
        boot_nesting(sandbox, Guest::Podman, backend);
        // There is no network to get an image from, nor controllers for cgroups of its own on every host.
        sh(sandbox, "tar -C /root/image -c . | podman import - one").ok();
        sh(sandbox, "podman info").ok().says("graphDriverName: overlay").says("Native Overlay Diff: \"true\"");
        let podman = "podman run --network none --cgroups disabled";
        sh(sandbox, &format!("{podman} --name kept one sh -c 'rm /bin/rm && ls /bin'")).ok().says(WITHOUT_RM);
        sh(sandbox, "podman diff kept").ok().says("D /bin/rm");
        sh(sandbox, "podman commit -q kept two").ok();
        sandbox.lxm(&["stop", "-k", "web"]).ok();
        boot_again(sandbox);
        sh(sandbox, &format!("{podman} --rm two ls /bin")).ok().says(WITHOUT_RM);
        let copied = sandbox.lxm(&["copy", "web", "web2"]).ok();
        assert_eq!(copied.stderr.contains("`/var/lib/containers`"), backend == "overlay", "{copied}");
        sandbox.lxm(&["destroy", "-f", "web", "web2"]).ok();
    }
}
