//! Starting and stopping: what `start` reports, what `poweroff` and `reboot` in the guest do, and
//! how a guest is brought down.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::pty::Terminal;
use crate::support::{Guest, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("boot::start_returns_when_init_runs", start_returns_when_init_runs),
        probe("boot::a_container_that_runs_is_not_started_twice", not_started_twice),
        probe("boot::start_says_why_init_cannot_run", start_says_why_init_cannot_run),
        probe("boot::power_off_in_the_guest_stops_it", power_off_in_the_guest),
        probe("boot::reboot_in_the_guest_boots_it_again", reboot_in_the_guest),
        probe("boot::an_init_that_exits_or_crashes_has_stopped", an_init_that_ends),
        probe("boot::stop_asks_first_and_kills_after_the_timeout", stop_asks_first),
        probe("boot::stop_kills_at_once_on_request", stop_kills_at_once),
        probe("boot::a_frozen_guest_can_be_stopped", a_frozen_guest_can_be_stopped),
        probe("boot::restart_boots_again", restart_boots_again),
        probe("boot::the_foreground_is_the_console", the_foreground_is_the_console),
        probe("boot::two_starts_at_once_make_one_guest", two_starts_at_once),
        probe("boot::a_configured_init_is_executed", a_configured_init_is_executed),
        probe("boot::wrong_configuration_is_refused_with_file_and_key", wrong_configuration),
    ]
}

fn runs(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.info(name, "state").as_str().is_some_and(|state| state.eq_ignore_ascii_case("running"))
}

fn has_stopped(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.info(name, "state").as_str().is_some_and(|state| state.eq_ignore_ascii_case("stopped"))
}

fn wait_until_stopped(sandbox: &Sandbox, name: &str) {
    eventually("the container has stopped", Duration::from_secs(5), || has_stopped(sandbox, name));
}

fn start_returns_when_init_runs(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    assert!(has_stopped(sandbox, "p"));
    sandbox.lxm(&["start", "p"]).ok();
    assert!(runs(sandbox, "p"));
    let command = std::fs::read(format!("/proc/{}/cmdline", sandbox.leader("p"))).unwrap();
    assert_eq!(command, b"/sbin/init\0");
    // Not the command that started it, which an admin would take for one that hangs.
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", sandbox.supervisor("p"))).unwrap();
    assert!(command.starts_with("lxm\0supervise\0p\0"), "{command:?}");
    sandbox.lxm(&["wait", "p", "--for", "running"]).ok();
}

fn not_started_twice(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let leader = sandbox.leader("p");
    sandbox.lxm(&["start", "p"]).fails(4).complains("run");
    assert_eq!(sandbox.leader("p"), leader);
    sandbox.lxm(&["destroy", "p"]).fails(4).complains("run");
}

fn init_of(sandbox: &Sandbox) -> PathBuf {
    sandbox.layout().rootfs(&"p".parse().unwrap()).join("sbin/init")
}

fn start_says_why_init_cannot_run(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &["--storage", "dir"]);
    let init = init_of(sandbox);
    let replace = |make: &dyn Fn()| {
        std::fs::remove_file(&init).ok();
        make();
    };
    replace(&|| {});
    sandbox.lxm(&["start", "p"]).fails(6).complains("/sbin/init").complains("hint:");
    replace(&|| std::fs::write(&init, "").unwrap());
    sandbox.lxm(&["start", "p"]).fails(6).complains("not executable");
    let script = |text: &str| {
        std::fs::write(&init, text).unwrap();
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    replace(&|| script("#!/bin/missing\n"));
    let told = sandbox.lxm(&["start", "p"]);
    assert_ne!(told.status, 0);
    told.complains("execute init").complains("No such file");
    replace(&|| script("neither a script nor a program\n"));
    let told = sandbox.lxm(&["start", "p"]);
    assert_ne!(told.status, 0);
    told.complains("execute init").complains("Exec format");
    // A link out of the tree is followed within the tree, where there is nothing.
    replace(&|| symlink("../../../../../../bin/true", &init).unwrap());
    sandbox.lxm(&["start", "p"]).fails(6);
    replace(&|| symlink("/bin/probe", &init).unwrap());
    sandbox.lxm(&["start", "p"]).ok();
}

fn power_off_in_the_guest(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    // The command dies with its guest; how it is told to have ended is no matter.
    drop(sandbox.lxm(&["attach", "p", "--", "/bin/probe", "poweroff"]));
    wait_until_stopped(sandbox, "p");
    sandbox.lxm(&["start", "p"]).ok();
}

fn reboot_in_the_guest(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let (leader, supervisor) = (sandbox.leader("p"), sandbox.supervisor("p"));
    drop(sandbox.lxm(&["attach", "p", "--", "/bin/probe", "reboot"]));
    let reports = || sandbox.console_log("p").matches("PROBE {").count();
    eventually("it has booted twice", Duration::from_secs(10), || reports() == 2);
    eventually("it runs", Duration::from_secs(5), || runs(sandbox, "p"));
    assert_ne!(sandbox.leader("p"), leader);
    assert_eq!(sandbox.supervisor("p"), supervisor, "a reboot keeps the supervisor");
    sandbox.lxm(&["attach", "p", "--", "/bin/probe", "exit", "0"]).ok();
}

fn an_init_that_ends(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for command in ["exit 3", "crash"] {
        sandbox.lxm(&["start", "p"]).ok();
        let mut console = Terminal::open(sandbox, &["console", "p"], 24, 80);
        console.shows("PROBE {");
        console.types(&format!("{command}\r"));
        wait_until_stopped(sandbox, "p");
        drop(console);
    }
}

fn stop_asks_first(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["stop", "p"]).ok();
    assert!(has_stopped(sandbox, "p"));
    assert!(sandbox.console_log("p").contains("PROBE-SIGNAL"), "it was not asked");
    sandbox.lxm(&["stop", "p"]).fails(4);
    sandbox.lxm(&["config", "set", "p", "environment.PROBE_STUBBORN", "1"]).ok();
    sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    let begun = Instant::now();
    let told = sandbox.lxm(&["stop", "p", "--timeout", "1s"]).ok();
    assert!(begun.elapsed() >= Duration::from_secs(1) && told.took < Duration::from_secs(10), "{told}");
    assert!(format!("{}{}", told.stdout, told.stderr).contains("kill"), "it does not say what it took: {told}");
    assert!(has_stopped(sandbox, "p"));
}

fn stop_kills_at_once(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    assert!(has_stopped(sandbox, "p"));
    assert!(!sandbox.console_log("p").contains("PROBE-SIGNAL"), "it was asked");
}

fn a_frozen_guest_can_be_stopped(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    sandbox.lxm(&["freeze", "p"]).ok();
    assert!(sandbox.info("p", "state").as_str().unwrap().eq_ignore_ascii_case("frozen"));
    sandbox.lxm(&["stop", "p", "--timeout", "10s"]).ok();
    assert!(has_stopped(sandbox, "p"));
    assert!(sandbox.console_log("p").contains("PROBE-SIGNAL"), "it was killed without being asked");
}

fn restart_boots_again(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Probe, &[]);
    let leader = sandbox.leader("p");
    sandbox.lxm(&["restart", "p"]).ok();
    assert!(runs(sandbox, "p"));
    assert_ne!(sandbox.leader("p"), leader);
}

fn the_foreground_is_the_console(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let mut terminal = Terminal::open(sandbox, &["start", "-F", "p"], 30, 100);
    terminal.shows("PROBE {");
    terminal.types("who is there\r");
    terminal.shows("PROBE-HEARD who is there");
    terminal.types("size\r");
    terminal.shows("PROBE-SIZE 30 rows 100 cols");
    terminal.types("poweroff\r");
    assert_eq!(terminal.ends(), 0);
    assert!(has_stopped(sandbox, "p"));
}

fn two_starts_at_once(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let spawn = || sandbox.command().args(["start", "p"]).spawn().unwrap();
    let codes: Vec<_> = [spawn(), spawn(), spawn()].map(|mut child| child.wait().unwrap().code()).into();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.iter().all(|code| [Some(0), Some(4)].contains(code)), "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    eventually("it reports", Duration::from_secs(5), || sandbox.console_log("p").contains("PROBE {"));
    assert_eq!(sandbox.console_log("p").matches("PROBE {").count(), 1);
}

fn a_configured_init_is_executed(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    sandbox.lxm(&["config", "set", "p", "boot.init", "/bin/probe"]).ok();
    sandbox.lxm(&["start", "p"]).ok();
    let command = std::fs::read(format!("/proc/{}/cmdline", sandbox.leader("p"))).unwrap();
    assert_eq!(command, b"/bin/probe\0");
}

fn wrong_configuration(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let file = sandbox.layout().config_file(&"p".parse().unwrap());
    let good = std::fs::read_to_string(&file).unwrap();
    for (bad, complaint) in [
        ("[limits]\nmemroy = \"1GiB\"\n", "memory"),
        ("[limits]\nmemory = \"much\"\n", "much"),
        ("[boot]\nready = \"never\"\n", "never"),
        ("this is not toml\n", "config.toml"),
    ] {
        std::fs::write(&file, format!("{good}\n{bad}")).unwrap();
        sandbox.lxm(&["start", "p"]).fails(6).complains(complaint).complains("config.toml");
    }
    std::fs::write(&file, good).unwrap();
    sandbox.lxm(&["start", "p"]).ok();
}
