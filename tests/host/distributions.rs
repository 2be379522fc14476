//! Whole guests: real distributions boot, work and go down in order.

use std::time::Duration;

use crate::support::pty::Terminal;
use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::new("distributions::busybox_boots_and_goes_down", busybox).guest(Guest::Busybox),
        Trial::new("distributions::bookworm_boots_and_goes_down", bookworm).guest(Guest::Bookworm).limit(180),
        Trial::new("distributions::trixie_boots_and_goes_down", trixie).guest(Guest::Trixie).limit(180),
        Trial::new("distributions::sid_boots_and_goes_down", sid).guest(Guest::Sid).limit(180),
        Trial::new("distributions::a_privileged_bookworm_boots", privileged).guest(Guest::Bookworm).limit(180),
        Trial::new("distributions::sysvinit_boots_and_goes_down", sysvinit).guest(Guest::Sysvinit).limit(180),
        Trial::new("distributions::a_debian_console_lets_root_log_in", console_login).guest(Guest::Bookworm).limit(180),
        Trial::new("distributions::two_containers_of_one_image_share_no_identity", strangers)
            .guest(Guest::Bookworm)
            .limit(180),
    ]
}

fn shell(sandbox: &Sandbox, script: &str) -> String {
    sandbox.lxm(&["attach", "g", "--", "/bin/sh", "-c", script]).ok().line().to_owned()
}

/// Stops it, and checks that the guest itself did the work.
fn goes_down_in_order(sandbox: &Sandbox) {
    let told = sandbox.lxm(&["stop", "g", "--timeout", "30s"]).ok();
    let said = format!("{}{}", told.stdout, told.stderr);
    assert!(!said.to_lowercase().contains("kill"), "it had to be killed: {told}");
    assert!(told.took < Duration::from_secs(20), "{told}");
    assert!(sandbox.info("g", "state").as_str().unwrap().eq_ignore_ascii_case("stopped"));
}

fn stopped(sandbox: &Sandbox) {
    eventually("it has stopped", Duration::from_secs(20), || {
        sandbox.info("g", "state").as_str().unwrap().eq_ignore_ascii_case("stopped")
    });
}

fn busybox(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Busybox, &[]);
    assert_eq!(shell(sandbox, "hostname; id -u; echo $$ >/tmp/x && echo written"), "g\n0\nwritten");
    assert_eq!(shell(sandbox, "cat /proc/1/comm"), "init");
    goes_down_in_order(sandbox);
    sandbox.lxm(&["start", "g", "--wait", "booted"]).ok();
    drop(sandbox.lxm(&["attach", "g", "--", "poweroff"]));
    stopped(sandbox);
    sandbox.lxm(&["start", "g", "--wait", "booted"]).ok();
    let leader = sandbox.leader("g");
    drop(sandbox.lxm(&["attach", "g", "--", "reboot"]));
    eventually("it has booted again", Duration::from_secs(20), || {
        sandbox.info("g", "pid").as_i64().is_some_and(|pid| pid as i32 != leader)
    });
}

fn bookworm(sandbox: &Sandbox) {
    debian(sandbox, Guest::Bookworm, "bookworm", &[]);
}

fn trixie(sandbox: &Sandbox) {
    debian(sandbox, Guest::Trixie, "trixie", &[]);
}

fn sid(sandbox: &Sandbox) {
    debian(sandbox, Guest::Sid, "sid", &[]);
}

fn privileged(sandbox: &Sandbox) {
    debian(sandbox, Guest::Bookworm, "bookworm", &["--privileged"]);
}

fn debian(sandbox: &Sandbox, guest: Guest, release: &str, more: &[&str]) {
    sandbox.boot("g", guest, more);
    assert_eq!(shell(sandbox, "systemctl is-system-running --wait || systemctl --failed --no-legend"), "running");
    assert_eq!(shell(sandbox, "systemd-detect-virt"), virtualisation(sandbox));
    assert_eq!(shell(sandbox, "hostname; cat /etc/hostname"), "g\ng");
    let uuid = sandbox.info("g", "uuid").as_str().unwrap().replace('-', "");
    assert_eq!(shell(sandbox, "cat /etc/machine-id"), uuid);
    // Nothing waits for what will not come, and the journal works.
    assert_eq!(shell(sandbox, "systemctl list-jobs --no-legend"), "");
    assert_ne!(shell(sandbox, "journalctl -b --no-pager -q -n 3"), "");
    // A service of the distribution with its own sandbox; a user's session manager.
    assert_eq!(
        shell(sandbox, "systemd-run --wait --pipe -q -p PrivateTmp=yes -p ProtectSystem=strict echo ran"),
        "ran"
    );
    assert_eq!(shell(sandbox, "getent passwd debian >/dev/null && echo there"), "there");
    assert_eq!(sandbox.info("g", "release"), release);
    reboots(sandbox, "systemctl reboot");
    goes_down_in_order(sandbox);
    sandbox.lxm_with(&["start", "g", "--wait", "booted"], b"", Duration::from_secs(60)).ok();
    drop(sandbox.lxm(&["attach", "g", "--", "systemctl", "poweroff"]));
    stopped(sandbox);
}

/// What systemd-detect-virt is to say: a manager that it does not know is `container-other`.
fn virtualisation(sandbox: &Sandbox) -> String {
    let environment = shell(sandbox, "tr '\\0' '\\n' </proc/1/environ | grep ^container=");
    assert_eq!(environment, "container=lxm");
    "container-other".into()
}

fn reboots(sandbox: &Sandbox, command: &str) {
    let boot_id = shell(sandbox, "cat /proc/sys/kernel/random/boot_id");
    drop(sandbox.lxm(&["attach", "g", "--", "/bin/sh", "-c", command]));
    eventually("it has booted again", Duration::from_secs(60), || {
        let now = sandbox.lxm(&["attach", "g", "--", "cat", "/proc/sys/kernel/random/boot_id"]);
        now.status == 0 && now.line() != boot_id
    });
    let running = || sandbox.lxm(&["attach", "g", "--", "systemctl", "is-system-running"]).line() == "running";
    eventually("it is up", Duration::from_secs(60), running);
}

fn sysvinit(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Sysvinit, &[]);
    assert_eq!(shell(sandbox, "cat /proc/1/comm"), "init");
    eventually("it has reached its runlevel", Duration::from_secs(30), || {
        sandbox.lxm(&["attach", "g", "--", "runlevel"]).line() == "N 2"
    });
    goes_down_in_order(sandbox);
}

fn console_login(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Bookworm, &[]);
    shell(sandbox, "echo root:secret | chpasswd");
    let mut console = Terminal::open(sandbox, &["console", "g"], 24, 80);
    console.types("\r");
    console.shows("login:");
    console.types("root\r");
    console.shows("assword:");
    console.types("secret\r");
    console.shows("root@g:");
    console.types("echo $((6*7))-from-the-console; tty\r");
    console.shows("42-from-the-console");
    console.shows("/dev/console");
    console.types("exit\r");
    console.shows("login:");
}

fn strangers(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Bookworm, &[]);
    let look = "cat /etc/machine-id; cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null | sha256sum";
    let first = shell(sandbox, look);
    sandbox.lxm(&["stop", "-k", "g"]).ok();
    sandbox.lxm(&["rename", "g", "other"]).ok();
    sandbox.boot("g", Guest::Bookworm, &[]);
    let second = shell(sandbox, look);
    for (a, b) in first.lines().zip(second.lines()) {
        assert_ne!(a, b, "two guests share an identity");
    }
}
