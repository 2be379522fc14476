//! Files that come out of a guest, and places that they are written to.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use crate::support::{Guest, Sandbox, Trial, run};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("escape::foreign::what_is_pulled_is_the_callers_and_no_setuid_program", pulled)
            .guest(Guest::Probe)
            .needs(crate::support::Need::Tool("setcap")),
        Trial::new("escape::foreign::what_is_no_file_is_written_to_and_not_replaced", targets).guest(Guest::Probe),
        Trial::new("escape::foreign::links_and_pipes_of_other_users_are_refused", of_others).guest(Guest::Probe),
        Trial::new("escape::foreign::a_link_that_is_pulled_is_no_way_to_the_host", twice).guest(Guest::Probe),
        Trial::new("escape::foreign::what_a_link_leads_to_is_emptied_for_something_alone", emptied).guest(Guest::Probe),
        Trial::new("escape::foreign::a_link_in_the_guest_is_followed_within_it", in_guest).guest(Guest::Probe),
    ]
}

const NOBODY: u32 = 65_534;

fn mode(path: &Path) -> (u32, u32, u32) {
    let meta = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

fn pulled(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let tree = sandbox.path("var/lib/lxm/web/rootfs/srv/tree");
    fs::create_dir_all(&tree).unwrap();
    for name in ["setuid", "capable"] {
        fs::copy("/bin/true", tree.join(name)).unwrap();
    }
    chown(tree.join("setuid"), Some(0), Some(33)).unwrap();
    fs::set_permissions(tree.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    run("setcap", &["cap_setuid=ep", tree.join("capable").to_str().unwrap()]).ok();
    fs::write(tree.join("theirs"), "").unwrap();
    chown(tree.join("theirs"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(tree.join("theirs"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o2775)).unwrap();
    let _socket = UnixListener::bind(tree.join("a-socket")).unwrap();

    let pull = |to: &str, more: &[&str]| {
        let to = sandbox.path(to);
        let args = [&["pull"], more, &["web:/srv/tree", to.to_str().unwrap()]].concat();
        sandbox.lxm(&args).ok().complains("a-socket");
        to
    };
    let got = pull("got", &[]);
    assert_eq!(mode(&got), (0, 0, 0o755));
    assert_eq!(mode(&got.join("setuid")), (0, 0, 0o755));
    assert_eq!(mode(&got.join("theirs")), (0, 0, 0o644));
    assert!(!got.join("a-socket").exists());
    let caps = |dir: &Path| run("getcap", &[dir.join("capable").to_str().unwrap()]).ok().stdout;
    assert_eq!(caps(&got), "");
    // The means: the guest has them, and who asks for it gets them, but for the capabilities.
    assert!(caps(&tree).contains("cap_setuid"));
    let same = pull("same", &["--preserve"]);
    assert_eq!(mode(&same.join("setuid")), (0, 33, 0o6755));
    assert_eq!(mode(&same.join("theirs")), (1000, 1000, 0o666));
    assert_eq!(caps(&same), "");
}

fn targets(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    sandbox.lxm_with(&["push", "-", "web:/etc/mark"], b"of the guest", Duration::from_secs(20)).ok();
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    run("mknod", &[&path("null"), "c", "1", "3"]).ok();
    run("mkfifo", &[&path("fifo")]).ok();
    fs::write(path("file"), "longer than what comes").unwrap();
    symlink(path("file"), path("link")).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    let kind = |name: &str| sandbox.path(name).symlink_metadata().unwrap().file_type();

    sandbox.lxm(&["pull", "web:/etc/mark", &path("null")]).ok();
    sandbox.lxm(&["export", "web", "-o", &path("null")]).ok();
    assert!(kind("null").is_char_device());
    let (from, out) = (path("fifo"), std::sync::mpsc::channel());
    std::thread::spawn(move || out.0.send(fs::read(from).unwrap()));
    sandbox.lxm(&["pull", "web:/etc/mark", &path("fifo")]).ok();
    assert_eq!(out.1.recv_timeout(Duration::from_secs(20)).unwrap(), b"of the guest");
    assert!(kind("fifo").is_fifo());
    sandbox.lxm(&["pull", "web:/etc/mark", &path("link")]).ok();
    assert!(kind("link").is_symlink());
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "of the guest");
    sandbox.lxm(&["pull", "web:/etc/mark", &path("socket")]).fails(4).complains("socket");
    assert!(kind("socket").is_socket());
    // Below a directory that is pulled the names are the guest's choice.
    fs::create_dir_all(path("into/etc")).unwrap();
    run("mknod", &[&path("into/etc/mark"), "c", "1", "3"]).ok();
    sandbox.lxm(&["pull", "web:/etc", &path("into/")]).fails(4).complains("device");
    assert!(kind("into/etc/mark").is_char_device());
    // The means: a rename, which is how files are replaced, takes a device away.
    fs::rename(path("file"), path("null")).unwrap();
    assert!(kind("null").is_file());
}

fn of_others(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    sandbox.lxm_with(&["push", "-", "web:/etc/mark"], b"of the guest", Duration::from_secs(20)).ok();
    let tmp = sandbox.path("tmp");
    fs::create_dir_all(&tmp).unwrap();
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).unwrap();
    let path = |name: &str| tmp.join(name).to_str().unwrap().to_owned();
    fs::write(sandbox.path("victim"), "of the host").unwrap();
    symlink(sandbox.path("victim"), path("link")).unwrap();
    run("mkfifo", &[&path("fifo")]).ok();
    // A process reads what comes.
    let reader = fs::File::options().read(true).write(true).open(path("fifo")).unwrap();
    for name in ["link", "fifo"] {
        std::os::unix::fs::lchown(path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        sandbox.lxm(&["export", "web", "-o", &path(name)]).fails(4).complains("another user's (uid 65534)");
        sandbox.lxm(&["pull", "web:/etc/mark", &path(name)]).fails(4).complains("another user's (uid 65534)");
    }
    assert_eq!(fs::read_to_string(sandbox.path("victim")).unwrap(), "of the host");
    // The means: they lead there. Who made them himself is not kept from it.
    for name in ["link", "fifo"] {
        std::os::unix::fs::lchown(path(name), Some(0), Some(0)).unwrap();
        sandbox.lxm(&["pull", "web:/etc/mark", &path(name)]).ok();
    }
    assert_eq!(fs::read_to_string(sandbox.path("victim")).unwrap(), "of the guest");
    let mut got = [0; 12];
    std::io::Read::read_exact(&mut &reader, &mut got).unwrap();
    assert_eq!(&got, b"of the guest");
}

/// A guest's link, pulled first, would lead the second pull to a file of the host.
fn twice(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let tree = sandbox.path("var/lib/lxm/web/rootfs/srv");
    fs::create_dir_all(tree.join("in")).unwrap();
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("victims/dir")).unwrap();
    fs::create_dir_all(path("backup")).unwrap();
    let victim = || fs::read_to_string(path("victims/file")).unwrap();
    fs::write(path("victims/file"), "of the host").unwrap();
    fs::write(tree.join("mark"), "of the guest").unwrap();

    // Named: what it leads to in the guest is pulled, and never a link.
    symlink(path("victims/file"), tree.join("out")).unwrap();
    symlink("mark", tree.join("y")).unwrap();
    symlink("in", tree.join("dir")).unwrap();
    sandbox.lxm(&["pull", "web:/srv/out", &path("backup/yy")]).fails(3);
    sandbox.lxm(&["pull", "web:/srv/y", &path("backup/yy")]).ok();
    sandbox.lxm(&["pull", "web:/srv/dir", &path("backup/dd")]).ok();
    assert!(Path::new(&path("backup/yy")).symlink_metadata().unwrap().is_file());
    assert!(Path::new(&path("backup/dd")).symlink_metadata().unwrap().is_dir());
    assert_eq!(fs::read_to_string(path("backup/yy")).unwrap(), "of the guest");
    sandbox.lxm(&["pull", "web:/srv/out", &path("backup/")]).fails(3);
    assert!(!Path::new(&path("backup/out")).is_symlink());

    // Below: links stay links, and the next pull follows none.
    let t = tree.join("t");
    fs::create_dir_all(&t).unwrap();
    symlink(path("victims/file"), t.join("file")).unwrap();
    symlink(path("victims/file"), t.join("named")).unwrap();
    symlink(path("victims/dir"), t.join("dir")).unwrap();
    sandbox.lxm(&["pull", "web:/srv/t", &path("backup")]).ok();
    // The means: a program that follows them gets there.
    assert_eq!(fs::read_to_string(path("backup/t/file")).unwrap(), "of the host");
    for name in ["file", "named", "dir"] {
        fs::remove_file(t.join(name)).unwrap();
    }
    fs::write(t.join("file"), "evil").unwrap();
    fs::write(t.join("named"), "evil").unwrap();
    sandbox.lxm(&["pull", "web:/srv/t/named", &path("backup/t")]).ok();
    sandbox.lxm(&["pull", "web:/srv/t", &path("backup")]).ok();
    for name in ["file", "named"] {
        assert!(Path::new(&path("backup/t")).join(name).symlink_metadata().unwrap().is_file(), "{name}");
    }
    fs::create_dir(t.join("dir")).unwrap();
    fs::write(t.join("dir/evil"), "evil").unwrap();
    sandbox.lxm(&["pull", "web:/srv/t", &path("backup")]).fails(1);
    sandbox.lxm(&["pull", "web:/srv/t/dir", &path("backup/t")]).fails(1);
    assert_eq!(victim(), "of the host");
    assert_eq!(fs::read_dir(path("victims/dir")).unwrap().count(), 0);
}

fn emptied(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let tree = sandbox.path("var/lib/lxm/web/rootfs");
    fs::write(tree.join("etc/mark"), "of the guest").unwrap();
    symlink("mark", tree.join("etc/link")).unwrap();
    fs::write(path("file"), "the only copy").unwrap();
    symlink("file", path("latest")).unwrap();
    let file = || fs::read(path("file")).unwrap();
    sandbox.lxm(&["export", "nope", "-o", &path("latest")]).fails(3);
    sandbox.lxm(&["export", "web", "--snapshot", "nope", "-o", &path("latest")]).fails(3);
    sandbox.lxm(&["pull", "web:/etc/nope", &path("latest")]).fails(3);
    assert_eq!(file(), b"the only copy");
    sandbox.lxm(&["push", &path("nope"), "web:/etc/link"]).fails(3);
    assert_eq!(fs::read(tree.join("etc/mark")).unwrap(), b"of the guest");
    // The means: what is there is emptied, not written over in part.
    fs::write(path("file"), vec![b'x'; 1 << 20]).unwrap();
    sandbox.lxm(&["pull", "web:/etc/mark", &path("latest")]).ok();
    assert_eq!(file(), b"of the guest");
    sandbox.lxm(&["export", "web", "-o", &path("latest")]).ok().complains("contents' sha256");
    assert!(Path::new(&path("latest")).is_symlink());
    sandbox.lxm(&["import", &path("latest"), "-n", "again"]).ok();
}

fn in_guest(sandbox: &Sandbox) {
    sandbox.create("web", Guest::Probe, &["--storage", "dir"]);
    let tree = sandbox.path("var/lib/lxm/web/rootfs");
    let outside = sandbox.path("outside");
    fs::write(&outside, "of the host").unwrap();
    fs::write(tree.join("etc/mark"), "of the guest").unwrap();
    symlink("/etc/mark", tree.join("etc/link")).unwrap();
    symlink(&outside, tree.join("etc/out")).unwrap();
    run("mkfifo", &[tree.join("etc/fifo").to_str().unwrap()]).ok();
    symlink("fifo", tree.join("etc/to-fifo")).unwrap();
    let source = sandbox.path("source");
    fs::write(&source, "pushed").unwrap();
    let push = |to: &str| sandbox.lxm(&["push", source.to_str().unwrap(), &format!("web:{to}")]);
    push("/etc/link").ok();
    assert!(tree.join("etc/link").is_symlink());
    assert_eq!(fs::read_to_string(tree.join("etc/mark")).unwrap(), "pushed");
    // The means: on the host the link leads to a file.
    assert_eq!(fs::read_to_string(tree.join("etc/out")).unwrap(), "of the host");
    push("/etc/out").fails(3);
    push("/etc/fifo").fails(4);
    let said = push("/etc/to-fifo");
    assert!(said.status == 1 || said.status == 4, "{said}");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "of the host");
    assert!(tree.join("etc/fifo").symlink_metadata().unwrap().file_type().is_fifo());
}
