//! What only root can try: to mount something.

use super::tests::{host, nobody, spec};
use super::*;

#[test]
fn mounts_of_a_killed_build_are_unmounted_and_not_emptied() {
    let host = host();
    let left = host.dir.path().join("var/cache/lxm/images/.staging").join(spec("a").id()).join("rootfs/dev");
    let outside = host.dir.path().join("outside");
    fs::create_dir_all(&left).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "of the host").unwrap();
    // In a mount namespace of a thread that dies with the test, so that nothing can stay mounted.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some(&outside), &left, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            assert_eq!(host.store.sweep(&nobody).unwrap().len(), 1);
        });
    });
    assert!(outside.join("file").exists());
    assert!(host.leftovers().is_empty());
}
