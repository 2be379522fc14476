//! Files into a container and out of it, by `push` and `pull`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lxm::testing::storage::{self, Tree};

use super::{forget, handmade};
use crate::support::{Guest, Sandbox, Trial, eventually};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("storage::files_go_into_a_stopped_container_and_out_of_it", transfer_stopped),
        Trial::new("storage::whatever_is_in_a_tree_is_copied_or_named", odd_trees),
        Trial::new("storage::no_copy_goes_into_itself", copies_into_themselves).guest(Guest::Probe),
        Trial::new("storage::files_go_into_a_running_guest_and_out_of_it", transfer_running).guest(Guest::Probe),
        Trial::new("storage::what_a_killed_push_left_is_gone", left_aside).guest(Guest::Probe),
        Trial::new("storage::a_guest_that_swaps_directories_for_links_leads_no_copy_out", swapping).limit(240),
    ]
}

fn transfer_stopped(sandbox: &Sandbox) {
    for backend in ["dir", "overlay"] {
        let layout = sandbox.layout();
        handmade(&layout, "web", backend);
        transfers(sandbox);
        let name = "web".parse().unwrap();
        let backend = lxm::testing::storage::of_container(&layout, &name).unwrap();
        let tree = lxm::testing::storage::Tree::open(backend.as_ref(), &layout.container(&name)).unwrap();
        let big = tree.path().join("new/dir/big").metadata().unwrap();
        assert_eq!((big.uid(), big.gid()), (65_534, 65_534), "its root can have it");
        drop(tree);
        fs::remove_dir_all(layout.containers()).unwrap();
    }
}

/// A file 1,500 levels below `top`, which are made if they are to be.
fn down(top: &Path, make: bool, file: &str) -> std::os::fd::OwnedFd {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let mut dir = std::os::fd::OwnedFd::from(fs::File::open(top).unwrap());
    for _ in 0..1500 {
        if make {
            mkdirat(&dir, "d", Mode::RWXU).unwrap();
        }
        dir = openat(&dir, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = if make { OFlags::WRONLY | OFlags::CREATE } else { OFlags::RDONLY };
    openat(&dir, file, flags, Mode::RUSR).unwrap()
}

/// Names that are no text, holes, more levels than there are descriptors, and what is no file.
fn odd_trees(sandbox: &Sandbox) {
    handmade(&sandbox.layout(), "web", "dir");
    let source = sandbox.path("source");
    fs::create_dir(&source).unwrap();
    let script =
        "mkdir -p a/b; mkfifo a/b/pipe a/pipe; printf x > $'a/caf\\xe9'; printf last > a/z; truncate -s 64M a/holes
         printf end >> a/holes";
    let bash = |dir: &Path, script: &str| {
        let mut bash = std::process::Command::new("bash");
        bash.args(["-ec", script]).current_dir(dir);
        crate::support::command::bounded(bash, b"", Duration::from_secs(60)).ok()
    };
    bash(&source, script);
    rustix::io::write(down(&source, true, "bottom"), b"deep").unwrap();
    let pulled = sandbox.path("pulled");
    let words = ["push", source.to_str().unwrap(), "web:/srv"];
    sandbox.lxm(&words).ok().complains("`a/b/pipe`").complains("`a/pipe`");
    sandbox.lxm(&["pull", "web:/srv", pulled.to_str().unwrap()]).ok();
    bash(&pulled, "test $(cat a/z) = last; test $(cat $'a/caf\\xe9') = x; test ! -e a/pipe; test $(du -k a/holes | cut -f1) -lt 1000
         cmp a/holes ../source/a/holes");
    let mut contents = [0; 8];
    assert_eq!(rustix::io::read(down(&pulled, false, "bottom"), &mut contents), Ok(4));
    use std::os::unix::ffi::OsStrExt;
    let named = std::ffi::OsStr::from_bytes(b"web:/srv/a/caf\xe9");
    assert_eq!(sandbox.lxm(&["pull".as_ref(), named, "-".as_ref()]).ok().stdout, "x");
    let file = source.join("a/z");
    sandbox.lxm(&["push".as_ref(), file.as_os_str(), std::ffi::OsStr::from_bytes(b"web:/srv/\xff")]).ok();
    let named = std::ffi::OsStr::from_bytes(b"web:/srv/\xff");
    assert_eq!(sandbox.lxm(&["pull".as_ref(), named, "-".as_ref()]).ok().stdout, "last");
    bash(&source, "ln -s nowhere gone");
    sandbox.lxm(&["push", source.join("gone").to_str().unwrap(), "web:/srv/gone"]).ok();
    let file = file.to_str().unwrap();
    sandbox.lxm(&["push", file, "web:/srv/gone"]).fails(3).complains("a link to what is not there");
    sandbox.lxm(&["push", file, "web:/no/such"]).fails(3).complains("no directory `/no`");
    fs::remove_dir_all(sandbox.layout().containers()).unwrap();
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
        assert!([0, 1, 3].contains(&push.status), "{push}");
        fs::remove_dir_all(&pulled).ok();
        fs::create_dir(&pulled).unwrap();
        let pull = sandbox.lxm(&["pull", "web:/srv/tree", pulled.to_str().unwrap()]);
        met += i32::from(push.status != 0 || pulled.join("tree/dir").is_symlink());
        // A link is pulled as a link: what is behind it here is not what came.
        if !pulled.join("tree/dir").is_symlink() {
            assert_ne!(fs::read_to_string(pulled.join("tree/dir/file")).unwrap_or_default(), "of the host", "{pull}");
        }
    }
    assert!(met > 0, "in {rounds} rounds and {} swaps the guest was in no copy's way", swaps());
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
    sandbox.lxm(&["push", &path("source"), "web:/etc/no/such/dir"]).fails(3).complains("no directory `/etc/no/such`");
    sandbox.lxm_with(&["push", "-", "web:/etc/stream"], b"streamed", Duration::from_secs(20)).ok();
    assert_eq!(sandbox.lxm(&["pull", "web:/etc/pushed", "-"]).ok().stdout, "contents");
    assert_eq!(sandbox.lxm(&["pull", "web:/etc/stream", "-"]).ok().stdout, "streamed");
    // For the guest the link leads to nothing.
    sandbox.lxm(&["push", &path("source/file"), "web:/source/escape/"]).fails(3);
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
    // Ids that the guest does not have are refused on the command line, and become the overflow id where a
    // file has them.
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
