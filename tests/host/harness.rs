//! Claims about the harness itself: what it gives to a trial, and that it fails when it should.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::leaks::{self, Snapshot};
use crate::support::pace::{Clock, slowness};
use crate::support::sandbox::run_checked;
use crate::support::{Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("harness::a_trial_has_a_host_of_its_own", a_trial_has_a_host_of_its_own),
        Trial::new("harness::cgroups_of_a_trial_are_below_its_own_root", cgroups_are_below_its_own_root),
        Trial::new("harness::orphans_are_reaped_as_on_a_host", orphans_are_reaped),
        Trial::new("harness::every_kind_of_leak_is_found", every_kind_of_leak_is_found),
        Trial::new("harness::limits_are_longer_while_others_are_at_work", limits_stretch),
    ]
}

fn a_trial_has_a_host_of_its_own(sandbox: &Sandbox) {
    let links: Vec<String> = leaks::links().into_iter().collect();
    assert_eq!(links, ["lo"], "/sys shows the links of another network namespace");
    assert!(std::process::id() < 10, "the pid namespace is not new");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" shared:"), "mounts would be seen outside");
    assert!(sandbox.root().starts_with("/var/tmp"));
}

fn cgroups_are_below_its_own_root(_: &Sandbox) {
    for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
        let path = line.rsplit(':').next().unwrap();
        assert!(path == "/" || path == "/harness", "{line}");
    }
}

fn orphans_are_reaped(_: &Sandbox) {
    run_checked("sh", &["-c", "sh -c 'sleep 0.05' & exit 0"]);
}

fn every_kind_of_leak_is_found(sandbox: &Sandbox) {
    let before = Snapshot::take();
    let root = sandbox.root();
    let leak = |what: &str, make: &dyn Fn(), undo: &dyn Fn()| {
        make();
        let told = catch_unwind(AssertUnwindSafe(|| leaks::check(sandbox, &before, Duration::ZERO)));
        undo();
        assert!(told.is_err(), "a left {what} was not found");
        leaks::check(sandbox, &before, Duration::ZERO);
    };
    let ip = |args: &str| drop(run_checked("ip", &args.split(' ').collect::<Vec<_>>()));
    leak("link", &|| ip("link add lxmleak type bridge"), &|| ip("link del lxmleak"));
    let dir = root.join("mnt");
    fs::create_dir(&dir).unwrap();
    let at = dir.to_str().unwrap();
    leak("mount", &|| drop(run_checked("mount", &["-t", "tmpfs", "x", at])), &|| drop(run_checked("umount", &[at])));
    let cgroup = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let hierarchy = cgroup.filter(|path| path.join("cgroup.procs").exists()).min();
    let cgroup = hierarchy.unwrap_or_else(|| "/sys/fs/cgroup".into()).join("lxm/leak");
    let make = || fs::create_dir_all(&cgroup).unwrap();
    let undo = || {
        fs::remove_dir(&cgroup).unwrap();
        fs::remove_dir(cgroup.parent().unwrap()).unwrap();
    };
    leak("cgroup", &make, &undo);
    for place in ["run/lxm/leak", "var/lib/lxm/leak", "var/lib/lxm/.staging/leak", "var/log/lxm/leak"] {
        let file = root.join(place);
        let make = || {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
        };
        leak("file", &make, &|| fs::remove_file(&file).unwrap());
    }
    let child = std::cell::RefCell::new(None);
    let make = || *child.borrow_mut() = Some(Command::new("sleep").arg("60").spawn().unwrap());
    let undo = || {
        let mut child = child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    };
    leak("process", &make, &undo);
    held_lock_is_found(&leak, root);
}

fn limits_stretch(_: &Sandbox) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (clock, begun) = (Clock::start(), Instant::now());
    std::thread::scope(|scope| {
        // Three for each processor, so that always some wait for theirs.
        for _ in 0..3 * processors {
            scope.spawn(|| while begun.elapsed() < Duration::from_secs(5) {});
        }
    });
    let (quiet, whole) = (clock.elapsed().mul_f64(slowness()), begun.elapsed());
    assert!(quiet < whole * 9 / 10 && quiet > whole / 5, "of {whole:?}, {quiet:?} were counted");
}

/// Makes a leak of the kind named, sees that it is found, and takes it back.
type Leak<'a> = dyn Fn(&str, &dyn Fn(), &dyn Fn()) + 'a;

fn held_lock_is_found(leak: &Leak<'_>, root: &Path) {
    let path = root.join("run/lxm/.lock/leak");
    let lock = std::cell::RefCell::new(None);
    let make = || *lock.borrow_mut() = lxm::testing::store::FileLock::try_acquire(&path).unwrap();
    leak("lock", &make, &|| drop(lock.take()));
}
