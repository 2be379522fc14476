//! What a guest's root tries with the kernel: pages and blocks that it shares with others, ids, groups and
//! parameters of file systems.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::means::{give, inside};
use crate::storage::Mounted;
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, body).guest(Guest::Busybox).needs(Need::Tool("gcc"));
    vec![
        trial("escape::kernel::cve_2022_0847_pages_that_guests_share", shared_pages),
        trial("escape::kernel::cve_2026_64600_blocks_that_guests_share", shared_blocks)
            .needs(Need::FileSystem("xfs"))
            .needs(Need::Tool("mkfs.xfs"))
            .needs(Need::Tool("filefrag")),
        trial("escape::kernel::cve_2018_18955_maps_of_many_extents", many_extents),
        trial("escape::kernel::cve_2021_4197_groups_opened_by_others", groups),
        trial("escape::kernel::cve_2022_0185_parameters_of_file_systems", parameters),
    ]
}

fn sum(file: &Path) -> String {
    run_checked("sha256sum", &[file.to_str().unwrap()])[..64].to_owned()
}

/// Guests of one image see the same pages of it.
fn shared_pages(sandbox: &Sandbox) {
    for guest in ["a", "b"] {
        sandbox.create(guest, Guest::Busybox, &["--storage", "overlay"]);
        sandbox.lxm(&["start", guest]).ok();
    }
    give(sandbox, "a", "kernel");
    let of_guest = |guest: &str| inside(sandbox, guest, "sha256sum /bin/busybox").ok().stdout[..64].to_owned();
    let before = of_guest("b");
    let told = inside(sandbox, "a", "cp /bin/busybox /root/own; /kernel pages /bin/busybox /root/own").ok();
    assert!(told.stdout.contains("\nchanged 0\n"), "{told}");
    for line in [
        "mapping made writable: Permission denied",
        "private mapping, its page thrown away: ok",
        "appended to its page in a pipe: ok",
        "its page given to a pipe: ok",
        "a hash or cipher of it in place: Address family not supported",
        "a ring: Operation not permitted",
        "by a handle: Operation not permitted",
    ] {
        assert!(told.stdout.contains(line), "`{line}`: {told}");
    }
    assert_eq!((of_guest("a"), of_guest("b")), (before.clone(), before.clone()));
    // The means: a page of the cache that is written to is seen so.
    assert!(told.stdout.contains("the guest's own copy: ok, as before"), "{told}");
    assert!(told.stdout.contains("a mapping of the guest's own copy: ok, CHANGED"), "{told}");
    // What it writes to a file of the image it has for itself.
    inside(sandbox, "a", "cp /bin/busybox /bin/other && echo more >>/bin/other && mv /bin/other /bin/busybox").ok();
    assert_ne!(of_guest("a"), before);
    assert_eq!(of_guest("b"), before);
}

/// Copies on XFS share their blocks until one is written to.
fn shared_blocks(sandbox: &Sandbox) {
    let disk = Mounted::of_size(sandbox, "xfs", &["mkfs.xfs", "-q"], 400 << 20);
    let at = disk.0.to_str().unwrap();
    let lxm = |args: &[&str]| sandbox.lxm(&[&["-P", at], args].concat()).ok();
    let create = Guest::Busybox.create_arguments();
    let create: Vec<&str> = create.iter().map(String::as_str).collect();
    lxm(&[&["create", "a", "--network", "none", "--storage", "dir"], &create[..]].concat());
    let large = |name: &str| disk.0.join(name).join("rootfs/srv/large");
    fs::create_dir_all(large("a").parent().unwrap()).unwrap();
    fs::write(large("a"), vec![b'x'; 1 << 20]).unwrap();
    fs::set_permissions(large("a"), PermissionsExt::from_mode(0o666)).unwrap();
    lxm(&["copy", "a", "b"]);
    let before = sum(&large("b"));
    let extents = run_checked("filefrag", &["-v", large("b").to_str().unwrap()]);
    assert!(extents.contains("shared"), "the means are there: {extents}");
    lxm(&["start", "a"]);
    let program = super::means::compile(sandbox, "kernel");
    lxm(&["push", program.to_str().unwrap(), "a:/kernel"]);
    lxm(&["attach", "a", "--", "sh", "-c", "chmod 755 /kernel; /kernel blocks"]).says("blocks: ok");
    lxm(&["stop", "-k", "a"]);
    assert_ne!(sum(&large("a")), before, "the means are there");
    // What is on the disk, and not what the cache knows.
    let read = format!("iflag=direct if={}", large("b").display());
    let on_disk = run_checked("sh", &["-c", &format!("dd {read} bs=64k 2>/dev/null | sha256sum")]);
    assert_eq!(on_disk[..64], before);
    ["a", "b"].iter().for_each(|name| drop(lxm(&["destroy", "-f", name])));
}

/// In user namespaces within the guest's, a process has only the ids that the maps give it.
fn many_extents(sandbox: &Sandbox) {
    let secret = sandbox.path("secret");
    fs::write(&secret, "the host's\n").unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    sandbox.create("a", Guest::Busybox, &[]);
    sandbox.lxm(&["config", "set", "a", "mount.0.source", secret.to_str().unwrap(), "mount.0.target", "/secret"]).ok();
    sandbox.lxm(&["start", "a"]).ok();
    give(sandbox, "a", "kernel");
    inside(sandbox, "a", "echo own >/root/own; chmod 700 /root; chmod 600 /root/own").ok();
    let told = inside(sandbox, "a", "/kernel maps /secret /root/own").ok();
    let count = |line: &str| told.stdout.matches(line).count();
    assert_eq!(count("uid_map: ok") + count("gid_map: ok"), 4, "the means are there: {told}");
    assert_eq!(count("theirs: uid 65534, open Permission denied"), 2, "{told}");
    assert_eq!(count("theirs: chmod Operation not permitted"), 2, "{told}");
    assert_eq!(count("own: uid 0, open ok"), 2, "what is its own it is root of: {told}");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
}

fn groups(sandbox: &Sandbox) {
    sandbox.create("a", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "a"]).ok();
    give(sandbox, "a", "kernel");
    let told = inside(sandbox, "a", "/kernel groups").ok();
    let lines: Vec<&str> = told.stdout.lines().collect();
    // Where the host has not mounted them with `nsdelegate`, namespaces of groups are no border (cgroups(7)); what
    // is above the guest's root has no path in it either way.
    let border = run_checked("grep", &["-e", " - cgroup2 ", "/proc/self/mountinfo"]).contains("nsdelegate");
    let above = if border { "No such file or directory" } else { "ok" };
    let above = format!("opened below, used above: {above}");
    assert_eq!(
        lines,
        ["a user's file, written by root: Permission denied", "means: ok", &above, "means: ok"],
        "{told}"
    );
}

/// What any user namespace may mount (FS_USERNS_MOUNT), and says otherwise what it lacks.
const IN_GUESTS: [&str; 13] = [
    "binfmt_misc",
    "sysfs",
    "tmpfs",
    "proc",
    "cgroup",
    "cgroup2",
    "cpuset",
    "devpts",
    "mqueue",
    "ramfs",
    "overlay",
    "fuse",
    "binder",
];

/// A guest may set up what it may not mount: 64 KiB of parameters go through code that once wrote past a page.
fn parameters(sandbox: &Sandbox) {
    sandbox.create("a", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "a"]).ok();
    give(sandbox, "a", "kernel");
    let told = inside(sandbox, "a", "/kernel parameters $(sed 's/.*\\t//' /proc/filesystems)").ok();
    let mut reached = 0;
    for line in told.stdout.lines() {
        let name = line.split(':').next().unwrap();
        reached += u32::from(line.contains("fsopen ok"));
        assert!(line.contains("create Operation not permitted") || IN_GUESTS.contains(&name), "{line}");
    }
    assert!(reached > 0, "the means are there: {told}");
    inside(sandbox, "a", "mount -t tmpfs own /mnt").ok();
}
