//! An admin's day: install, create, start, limit, log in, reboot, upgrade, shut down.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::confined;
use crate::links;
use crate::machine::Machine;
use crate::rootfs;
use crate::storage;
use crate::support::Guest;
use crate::support::guest::images;
use crate::support::sandbox::program;

type Claim = (&'static str, fn(&mut Machine));

/// Each claim finds the machine as the one before has left it.
const CLAIMS: &[Claim] = &[
    ("the machine has a systemd with all controllers", is_whole),
    ("the package is installed", install),
    ("file systems hold containers to their size", storage::quotas),
    ("a container is created, started and reached by ssh under its name", ssh_by_name),
    ("guests are confined by profiles and load their own", confined::by_profiles),
    ("a guest without memory keeps its supervisor", confined::from_want_of_memory),
    ("links of every kind lead to the neighbour", links::of_every_kind),
    ("memory is limited", memory),
    ("processes are limited", processes),
    ("processor time is limited", processor_time),
    ("limits change while it runs", limits_change),
    ("devices are closed even to root of the host", devices),
    ("a frozen guest stands still and goes on", freezing),
    ("the machine reboots and its guests are up in their order", reboot),
    ("an upgrade leaves guests running", upgrade),
];

pub fn a_day() {
    let mut times = Vec::new();
    let begun = Instant::now();
    let payload = payload();
    times.push(("made what the machine finds", begun.elapsed()));
    let begun = Instant::now();
    let mut machine = Machine::boot(payload.path());
    times.push(("booted", begun.elapsed()));
    for (claim, try_it) in CLAIMS.iter().copied() {
        let begun = Instant::now();
        eprintln!("vm: {claim}");
        try_it(&mut machine);
        times.push((claim, begun.elapsed()));
    }
    let begun = Instant::now();
    machine.power_off();
    times.push(("shut down", begun.elapsed()));
    for (what, took) in times {
        eprintln!("vm: {:5.1}s {what}", took.as_secs_f64());
    }
}

/// Two packages, `lxm_1_*.deb` and `lxm_2_*.deb`, and the images of the guests.
fn payload() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/var/tmp").expect("make a temporary directory");
    for version in ["1", "2"] {
        rootfs::package(&program(), version, dir.path()).unwrap_or_else(|e| panic!("{e}"));
    }
    for guest in [Guest::Busybox, Guest::Bookworm] {
        guest.prepare().unwrap_or_else(|e| panic!("{e}"));
    }
    storage::pack(dir.path());
    let to = dir.path().join("images");
    fs::create_dir(&to).expect("make a directory");
    let mut copy = Command::new("cp");
    copy.arg("-a").args(images_of_guests()).arg(&to);
    rootfs::run(copy).unwrap_or_else(|e| panic!("{e}"));
    dir
}

/// The directories of the images that are needed; other suites have more, and may be making some.
fn images_of_guests() -> Vec<PathBuf> {
    let is_needed = |dir: &PathBuf| {
        let text = fs::read_to_string(dir.join("image.toml")).unwrap_or_default();
        text.contains("template = \"busybox\"") || text.contains("release = \"bookworm\"")
    };
    let entries = fs::read_dir(images()).expect("list the images").flatten().map(|entry| entry.path());
    entries.filter(is_needed).collect()
}

fn is_whole(machine: &mut Machine) {
    assert_eq!(machine.shell("systemctl is-system-running --wait"), "running");
    let controllers = machine.shell("cat /sys/fs/cgroup/cgroup.controllers");
    for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
        assert!(controllers.split(' ').any(|name| name == controller), "{controller} is not in {controllers}");
    }
}

fn install_version(machine: &mut Machine, version: &str) {
    let how = "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends";
    machine.shell(&format!("{how} install /mnt/lxm_{version}_*.deb"));
}

fn install(machine: &mut Machine) {
    install_version(machine, "1");
    assert_eq!(machine.shell("systemctl is-active lxm.target"), "active");
    assert_eq!(machine.shell("systemctl --failed --plain --no-legend"), "");
    // It names what is missing; a host that lacks something necessary has another status.
    machine.shell("lxm check");
}

fn ssh_by_name(machine: &mut Machine) {
    machine.shell("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519");
    machine.shell("lxm create web -t debian -r bookworm --ssh-key /root/.ssh/id_ed25519.pub");
    machine.shell("lxm start web --wait ssh --timeout 200s");
    // resolved has the name from the server on the bridge.
    assert!(machine.shell("getent ahostsv4 web.lxm").contains("web.lxm"));
    let how = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new";
    assert_eq!(machine.shell(&format!("{how} debian@web.lxm 'id -un; hostname'")), "debian\nweb");
    assert_eq!(machine.shell("lxm ssh web -- hostname"), "web");
    machine.shell("lxm wait web --for booted --timeout 200s");
    assert_eq!(machine.shell("systemctl -M web is-system-running --wait"), "running");
}

/// A file of the unit's group.
fn group(machine: &mut Machine, name: &str, file: &str) -> String {
    machine.shell(&format!("cat /sys/fs/cgroup$(systemctl show -P ControlGroup lxm@{name})/{file}"))
}

/// A number of a file like `memory.events`.
fn count(machine: &mut Machine, name: &str, file: &str, key: &str) -> u64 {
    let text = group(machine, name, file);
    let line =
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap_or_else(|| panic!("{text}"));
    line.parse().unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn memory(machine: &mut Machine) {
    machine.shell("lxm create db -t busybox --network none");
    machine.shell("lxm config set db limits.memory 48MiB limits.swap 0 limits.pids 40 limits.cpus 0.25");
    machine.shell("lxm start db");
    let shown = machine.shell("systemctl show -p MemoryMax -p MemorySwapMax -p TasksMax -p CPUQuotaPerSecUSec lxm@db");
    let mut shown: Vec<&str> = shown.lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, ["CPUQuotaPerSecUSec=250ms", "MemoryMax=50331648", "MemorySwapMax=0", "TasksMax=40"]);
    // busybox keeps a line whole, and this one has no end.
    let hungry = machine.try_shell("lxm attach db -- tail -n 1 /dev/zero", Duration::from_secs(120));
    assert_eq!(hungry.status, 137, "{hungry}");
    assert!(count(machine, "db", "memory.events", "oom_kill") > 0);
    // It was the guest's own affair.
    assert_eq!(machine.shell("lxm attach db -- cat /proc/1/comm"), "init");
    assert_eq!(machine.shell("systemctl show -P NRestarts lxm@db"), "0");
}

fn processes(machine: &mut Machine) {
    let many = "lxm attach db -- sh -c 'for i in $(seq 60); do sleep 666 & done; wait' >/run/many.log 2>&1 &";
    machine.shell(&format!("{many} timeout 200 sh -c 'until grep -q fork /run/many.log; do sleep 0.2; done'"));
    let held: u64 = group(machine, "db", "pids.current").parse().expect("a number");
    assert!((30..=40).contains(&held), "there are {held}");
    machine.shell("pkill -x -f 'sleep 666'");
    let unit = "/sys/fs/cgroup$(systemctl show -P ControlGroup lxm@db)";
    machine.shell(&format!("timeout 200 sh -c 'while [ $(cat {unit}/pids.current) -gt 10 ]; do sleep 0.2; done'"));
}

fn processor_time(machine: &mut Machine) {
    let used = |machine: &mut Machine| count(machine, "db", "cpu.stat", "usage_usec");
    let (before, begun) = (used(machine), Instant::now());
    // The status that timeout gives is that of the signal it sends.
    let busy = machine.try_shell("lxm attach db -- timeout 4 sh -c 'while :; do :; done'", Duration::from_secs(60));
    assert_eq!(busy.status, 143, "{busy}");
    let (used, took) = (used(machine) - before, begun.elapsed().as_micros() as u64);
    assert!(used <= took / 3, "a quarter of a processor was {used} of {took} us");
    assert!(count(machine, "db", "cpu.stat", "nr_throttled") > 0);
}

fn limits_change(machine: &mut Machine) {
    machine.shell("lxm config set db limits.memory 64MiB limits.cpuset 0; lxm config unset db limits.cpus");
    assert_eq!(group(machine, "db", "memory.max"), "67108864");
    assert_eq!(group(machine, "db", "cpu.max").split(' ').next(), Some("max"));
    assert_eq!(machine.shell("lxm attach db -- nproc"), "1");
    machine.shell("lxm config unset db limits.memory limits.cpuset");
    assert_eq!(group(machine, "db", "memory.max"), "max");
    assert_eq!(machine.shell("lxm attach db -- nproc"), "2");
}

fn devices(machine: &mut Machine) {
    machine.shell("lxm create priv -t busybox --network none --privileged; lxm start priv");
    let disk = machine.shell("printf '%d %d' $(stat -c '0x%t 0x%T' /dev/vda)");
    let read = format!("lxm attach priv -- sh -c \"mknod /dev/disk b {disk} && head -c 1 /dev/disk\"");
    let outcome = machine.try_shell(&read, Duration::from_secs(60));
    assert!(outcome.status != 0 && outcome.stderr.contains("not permitted"), "{outcome}");
    machine.shell("lxm attach priv -- sh -c ': </dev/null'");
    machine.shell("lxm destroy -f priv");
}

fn freezing(machine: &mut Machine) {
    machine.shell("lxm attach db -- sh -c 'while :; do echo x >>/run/ticks; usleep 50000; done >/dev/null 2>&1 &'");
    let ticks = |machine: &mut Machine| machine.shell("stat -c %s /proc/$(lxm info db -p -H)/root/run/ticks");
    machine.shell("lxm freeze db");
    assert_eq!(machine.shell("lxm info db -s -H"), "FROZEN");
    let before = ticks(machine);
    machine.shell("sleep 0.5");
    assert_eq!(ticks(machine), before);
    machine.shell("lxm unfreeze db; sleep 0.5");
    assert_ne!(ticks(machine), before);
}

fn reboot(machine: &mut Machine) {
    machine.shell("lxm config set web boot.autostart-after db; lxm enable db; lxm enable web");
    machine.reboot();
    assert_eq!(machine.shell("systemctl is-system-running --wait"), "running");
    let time = |machine: &mut Machine, name: &str, what: &str| -> u64 {
        let text = machine.shell(&format!("systemctl show -P {what}TimestampMonotonic lxm@{name}"));
        text.parse().expect("a time is a number")
    };
    let (ready, began) = (time(machine, "db", "ActiveEnter"), time(machine, "web", "InactiveExit"));
    assert!(ready > 0 && ready <= began, "web began at {began}, db was ready at {ready}");
    let report = machine.shell("lxm boot-report");
    assert_eq!(report.lines().filter(|line| line.contains("started")).count(), 2, "{report}");
    machine.shell("lxm ssh web -- true");
    assert_eq!(machine.shell("ssh -o BatchMode=yes debian@web.lxm hostname"), "web");

    // The shutdown before it: the start backwards, and in the guest's own way.
    let journal = machine.shell("journalctl -b -1 --no-pager -o cat");
    let place = |text: &str| journal.find(text).unwrap_or_else(|| panic!("`{text}` is not in the journal\n{journal}"));
    assert!(place("Stopped lxm@web.service") < place("Stopping lxm@db.service"));
    let console = machine.shell("journalctl -b -1 --no-pager -o cat CONTAINER_NAME=web");
    assert!(console.contains("Powering off."), "{console}");
    assert_eq!(machine.shell("systemctl --failed --plain --no-legend"), "");
}

fn upgrade(machine: &mut Machine) {
    let leader = machine.shell("lxm info web -p -H");
    install_version(machine, "2");
    assert_eq!(machine.shell("lxm info web -p -H"), leader);
    assert_eq!(machine.shell("ssh -o BatchMode=yes debian@web.lxm hostname"), "web");
    assert_eq!(machine.shell("systemctl --failed --plain --no-legend"), "");
}
