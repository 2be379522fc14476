//! They need root, for owners, capabilities, devices and mounts.

use super::*;
use crate::image::fingerprint::{assert_same, fingerprint};
use crate::image::testing::{Bench, TORTURE, make_deep};

fn copy(bench: &Bench) {
    copy_tree(&bench.path("src"), &bench.path("copy"), &Progress::hidden()).unwrap().require_none().unwrap();
}

#[test]
fn a_copy_is_the_same_to_the_last_attribute() {
    let bench = Bench::new();
    bench.sh(TORTURE);
    bench.sh("cd src; mknod dev/null c 1 3; chmod 666 dev/null; mknod dev/disk b 8 1; mknod whiteout c 0 0
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'
         mkdir many; for i in $(seq 300); do mkdir many/$i; echo $i > many/$i/f; ln many/$i/f many/$i/g; done");
    copy(&bench);
    assert_same(&bench.path("copy"), &bench.path("src"));
}

#[test]
fn a_tree_deeper_than_a_path_is_long_is_copied_the_same() {
    let bench = Bench::new();
    bench.sh("mkdir src");
    let deepest = make_deep(&bench.path("src"));
    rustix::fs::openat(&deepest, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    rustix::fs::linkat(&deepest, "file", &deepest, "other", AtFlags::empty()).unwrap();
    copy(&bench);
    assert_same(&bench.path("copy"), &bench.path("src"));
}

#[test]
fn a_copy_shares_nothing_with_what_it_was_made_of() {
    let bench = Bench::new();
    bench.sh("mkdir src; echo one > src/a; ln src/a src/b");
    copy(&bench);
    bench.sh("echo two > copy/a; test $(cat src/b) = one; test $(cat copy/b) = two; test $(stat -c %h src/a) = 2");
}

#[test]
fn what_is_mounted_in_the_tree_stays_behind() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/proc/under src/keep; echo x > src/keep/f");
    // In a mount namespace of a thread that dies with the test, so that nothing can stay mounted.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            bench.sh("mount --make-rprivate /; mount -t tmpfs none src/proc; touch src/proc/mounted");
            copy(&bench);
        });
    });
    let found: Vec<_> = fingerprint(&bench.path("copy")).into_keys().collect();
    assert_eq!(found, [&b""[..], b"keep", b"keep/f", b"proc"]);
}

#[test]
fn blocks_are_shared_where_the_file_system_can() {
    let bench = Bench::new();
    bench.sh("truncate -s 400M disk; mkfs.xfs -q -m reflink=1 disk; mkdir mnt");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            bench.sh("mount --make-rprivate /; mount -o loop disk mnt");
            bench.sh("mkdir mnt/src; head -c 50M /dev/urandom > mnt/src/f; echo small > mnt/src/g; sync");
            let used = || rustix::fs::statvfs(bench.path("mnt")).map(|fs| fs.f_bfree * fs.f_frsize).unwrap();
            let before = used();
            copy_tree(&bench.path("mnt/src"), &bench.path("mnt/copy"), &Progress::hidden()).unwrap();
            bench.sh("sync");
            assert!(before - used() < 5_000_000, "{} bytes more in use", before - used());
            assert_same(&bench.path("mnt/copy"), &bench.path("mnt/src"));
        });
    });
}

#[test]
fn a_failure_names_the_file_and_ends_all_threads() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/a/b/c; echo x > src/a/b/c/f; mkdir -p copy/a/b/c");
    let error = copy_tree(&bench.path("src"), &bench.path("copy"), &Progress::hidden()).unwrap_err().to_string();
    assert!(error.contains("copy `a`: make the directory: File exists"), "{error}");
    let missing = copy_tree(&bench.path("missing"), &bench.path("other"), &Progress::hidden()).unwrap_err();
    assert_eq!(missing.errno(), Some(libc::ENOENT));
}

#[test]
fn what_holds_the_target_is_refused() {
    let bench = Bench::new();
    bench.sh("mkdir -p src/a/b; echo x > src/f");
    for target in ["src/a/b", "src/a/new", "src"] {
        let error = copy_tree(&bench.path("src"), &bench.path(target), &Progress::hidden()).unwrap_err().to_string();
        assert!(error.contains("the source contains the destination"), "{error}");
        assert!(!bench.path(target).join("f").exists() || target == "src");
    }
}
