//! Snapshots and ephemeral runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lxm::testing::ops::snapshot;
use lxm::testing::storage::{self};
use lxm::testing::store::{Layout, Snapshot};

use super::{Bench, btrfs, forget, handmade, left_over};
use crate::support::pace::generous;
use crate::support::{Guest, Need, Sandbox, Trial};

pub(super) fn trials() -> Vec<Trial> {
    let on_btrfs = |trial: Trial| trial.needs(Need::FileSystem("btrfs")).needs(Need::Tool("mkfs.btrfs"));
    vec![
        Trial::new("storage::snapshots_of_a_stopped_container", |s| {
            for backend in ["dir", "overlay"] {
                snapshots(&s.layout(), backend);
            }
        }),
        on_btrfs(Trial::new("storage::snapshots_on_btrfs", |s| snapshots(&btrfs(s).layout(), "btrfs"))),
        Trial::new("storage::verbs_of_snapshots_and_mounts", verbs),
        Trial::new("storage::a_running_guest_is_snapshotted_and_restored", snapshot_running).guest(Guest::Probe),
        Trial::new("storage::what_an_ephemeral_run_changes_is_undone", ephemeral_run).guest(Guest::Probe),
        Trial::new("storage::an_ephemeral_container_is_gone_when_it_stops", ephemeral_container).guest(Guest::Probe),
        Trial::new("storage::scheduled_snapshots_are_made_and_expire", scheduled),
    ]
}

pub(super) fn snapshots(layout: &Layout, backend: &str) {
    let web = handmade(layout, "web", backend);
    let backend = storage::backend(layout, backend).unwrap();
    let bench = Bench { backend: backend.as_ref(), containers: layout.containers().to_owned() };
    let options = |name: &str, comment: &str| snapshot::SnapshotOptions {
        name: (!name.is_empty()).then(|| name.parse().unwrap()),
        comment: comment.into(),
    };
    let named = |name: &str| name.parse().unwrap();
    let status = |result: lxm::testing::error::Result<()>| result.unwrap_err().kind().exit_status();

    snapshot::create(layout, &web, options("before", "a comment")).unwrap();
    bench.write("web", "etc/motd", "second");
    fs::write(layout.config_file(&web), "version = 1\ndescription = \"second\"\n").unwrap();
    assert_eq!(snapshot::create(layout, &web, options("", "")).unwrap().name, named("snap0"));
    bench.write("web", "etc/motd", "third");
    assert_eq!(snapshot::create(layout, &web, options("", "")).unwrap().name, named("snap1"));
    assert_eq!(snapshot::create(layout, &web, options("before", "")).unwrap_err().kind().exit_status(), 4);

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
    // What is mounted must not be taken for what is not written to.
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
        // A run that no process survives is undone by the next start.
        sandbox.lxm(&["start", "web", "--ephemeral", "--wait", "booted"]).ok();
        set("changed");
        let supervisor = nix::unistd::Pid::from_raw(sandbox.supervisor("web"));
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
        let dead = lxm::testing::store::AliveLock::wait_released(
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
