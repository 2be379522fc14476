//! What every backend does, on each file system that it runs on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lxm::testing::progress::Progress;
use lxm::testing::storage::{self, Activity, Purpose, Tree};
use lxm::testing::store::Layout;
use lxm::testing::sys;

use super::{BASE, Bench, Ids, as_guest, btrfs, guest, left_over, make_image, path_of, xfs};
use crate::support::{Need, Sandbox, Trial, run};

pub(super) fn trials() -> Vec<Trial> {
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
        on_btrfs(on_xfs(Trial::new("storage::auto_takes_what_suits_the_file_system", auto_suits))),
    ]
}

pub(super) fn suite(layout: &Layout, name: &str) {
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
    let mount = bench.backend.mount(&bench.place("web"), Some(guest(&ids.open()))).unwrap();
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
    let mount = bench.backend.mount(&bench.place("web"), Some(guest(&ids.open()))).unwrap();
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
    let mut fill = |root: &Path| -> lxm::testing::error::Result<()> { Ok(fs::write(root.join("file"), "filled")?) };
    bench.backend.fill(&bench.place("made"), &mut fill).unwrap();
    bench.holds("made", "file", Some("filled"));
    bench.write("made", "file", "changed");
    bench.holds("made", "file", Some("changed"));
}

/// Paths, owners, modes and contents of a tree.
pub(super) fn listing(root: &Path) -> String {
    run(
        "sh",
        &["-c", &format!("cd {} && find . -printf '%p %U %G %m %n %l\\n' | sort && cat etc/motd", root.display())],
    )
    .ok()
    .stdout
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
