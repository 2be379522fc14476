//! Copies, exports, imports and published images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lxm::testing::store::{Layout, Origin};

use super::{btrfs, forget, handmade, left_over, tree_listing};
use crate::support::{Guest, Need, Sandbox, Trial, run};

pub(super) fn trials() -> Vec<Trial> {
    let on_btrfs = |trial: Trial| trial.needs(Need::FileSystem("btrfs")).needs(Need::Tool("mkfs.btrfs"));
    vec![
        Trial::new("storage::a_stopped_container_is_copied", |s| copies(s, &s.layout(), &["dir", "overlay"])),
        on_btrfs(Trial::new("storage::a_stopped_container_is_copied_on_btrfs", |s| {
            copies(s, &btrfs(s).layout(), &["btrfs", "overlay"]);
        })),
        Trial::new("storage::a_running_guest_is_copied", copy_running).guest(Guest::Probe),
        Trial::new("storage::an_export_is_imported_as_it_was", export_import),
        Trial::new("storage::an_export_carries_what_no_path_is_long_enough_for", deep_export).guest(Guest::Probe),
        Trial::new("storage::a_cut_or_changed_export_leaves_nothing", export_damaged),
        Trial::new("storage::a_running_guest_moves_through_a_pipe", export_running).guest(Guest::Probe),
        Trial::new("storage::a_published_container_makes_others", published).guest(Guest::Probe),
    ]
}

/// 60 directories of 200 letters: three times PATH_MAX.
fn deep_export(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let layout = sandbox.layout();
    let shell = |name: &str, script: &str| {
        let srv = layout.rootfs(&name.parse().unwrap()).join("srv");
        fs::create_dir_all(&srv).unwrap();
        let mut bash = Command::new("bash");
        bash.args(["-ec", script]).current_dir(&srv);
        crate::support::command::bounded(bash, b"", Duration::from_secs(60)).ok();
    };
    let down = "n=$(printf 'n%.0s' {1..200}); for i in {1..60}; do cd -P $n; done";
    shell("web", &format!("{}; echo deep >file; ln file other", down.replace("cd", "mkdir $n; cd")));
    let file = sandbox.path("web.tar.zst").to_str().unwrap().to_owned();
    sandbox.lxm(&["export", "web", "-o", &file]).ok();
    sandbox.lxm(&["import", &file, "-n", "twin", "--storage", "dir"]).ok();
    sandbox.lxm(&["copy", "twin", "third"]).ok();
    for name in ["web", "twin", "third"] {
        shell(name, &format!("{down}; test \"$(cat other)\" = deep; test file -ef other"));
    }
}

/// Copies to and fro between two backends.
pub(super) fn copies(sandbox: &Sandbox, layout: &Layout, backends: &[&str; 2]) {
    let lxm = |args: &[&str]| {
        let mut command = sandbox.command();
        command.env("LXM_ROOT", layout.root()).args(args);
        crate::support::command::bounded(command, b"", Duration::from_secs(30))
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

    let refused_with = |status: i32, bytes: &[u8], what: &str| {
        let outcome = sandbox.lxm_with(&["import", "-n", "web", "-"], bytes, Duration::from_secs(20));
        assert_eq!(outcome.status, status, "{what}: {outcome}");
        assert_eq!(left_over(layout.containers()), Vec::<PathBuf>::new(), "{what}");
        assert!(layout.names().unwrap().is_empty(), "{what}");
    };
    let refused = |bytes: &[u8], what: &str| refused_with(1, bytes, what);
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
    // A root file system, it seems, and no init in it.
    refused_with(6, &fs::read(&other).unwrap(), "another archive");
    sandbox.lxm_with(&["import", "-"], &whole, Duration::from_secs(20)).ok();
    forget(&layout, "web");
}

fn export_running(sandbox: &Sandbox) {
    for (backend, there) in [("overlay", "dir"), ("dir", "overlay")] {
        sandbox.boot("web", Guest::Probe, &["--storage", backend]);
        sandbox.lxm_with(&["push", "-", "web:/etc/state"], b"running", Duration::from_secs(20)).ok();
        let lxm = crate::support::sandbox::program();
        let pipe = format!("{0} export web -o - | {0} import -n web2 --storage {there} -", lxm.display());
        let mut shell = Command::new("sh");
        sandbox.environment(&mut shell);
        shell.args(["-c", &pipe]);
        crate::support::command::bounded(shell, b"", Duration::from_secs(60)).ok();
        sandbox.lxm(&["start", "web2", "--wait", "booted"]).ok();
        assert_eq!(sandbox.lxm(&["pull", "web2:/etc/state", "-"]).ok().stdout, "running");
        for name in ["web", "web2"] {
            sandbox.lxm(&["stop", "-k", name]).ok();
            assert!(fs::read_dir(sandbox.layout().snapshots(&name.parse().unwrap())).is_err());
            forget(&sandbox.layout(), name);
        }
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
    sandbox
        .lxm(&["create", "three", "-t", "golden", "--network", "none"])
        .fails(3)
        .complains("`golden` does not exist");
}
