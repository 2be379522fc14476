//! Inits of every kind shut down and reboot as they do it, in their time.
//!
//! finit, runit, openrc-init, s6-svscan, tini, dumb-init and catatonit are Debian's packages. Of procd, dinit and
//! s6-linux-init, which Debian 12 does not have, here are scripts that do what their sources do with each signal
//! (procd's signal.c, dinit.cc, s6-linux-init-maker.c).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::application::{WITNESS, import, tree};
use crate::support::sandbox::run_checked;
use crate::support::{Guest, Need, Sandbox, Trial, eventually, guest};

const SOON: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    let inits = |name, body| Trial::new(name, body).guest(Guest::Inits).limit(180);
    let busybox = |name, body| Trial::new(name, body).needs(Need::Tool("busybox")).limit(120);
    vec![
        inits("guests::finit_goes_down_and_reboots_in_order", finit),
        inits("guests::runit_goes_down_and_reboots_in_order", runit),
        inits("guests::openrc_init_goes_down_and_reboots_in_order", openrc),
        inits("guests::s6_goes_down_and_reboots_in_order", s6),
        inits("guests::procd_and_dinit_are_asked_in_their_way", by_script),
        inits("guests::wrappers_pass_on_what_ends_an_application", wrappers),
        busybox("guests::a_command_that_takes_no_signal_ends_soon", commands),
        busybox("guests::an_image_says_which_signal_ends_it", stop_signal),
    ]
}

/// Debian's packages, with files of the trial's own and this init.
fn tree_with(sandbox: &Sandbox, init: Option<&str>, files: &[(&str, &str)]) -> PathBuf {
    let tree = sandbox.path("tree");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree).unwrap();
    let archive = guest::inits_archive();
    run_checked("tar", &["-C", tree.to_str().unwrap(), "-xf", archive.to_str().unwrap()]);
    // Its own are of packages that are not configured; a shell is in none of them.
    for path in ["sbin/init", "sbin/finit", "sbin/openrc-init", "etc/finit.d/getty.conf", "etc/finit.d/sshd.conf"] {
        if init.is_none_or(|init| init != path) {
            fs::remove_file(tree.join(path)).unwrap();
        }
    }
    for (at, target) in [("bin/sh", "busybox")].into_iter().chain(init.map(|init| ("sbin/init", init))) {
        let target = if at == "sbin/init" { format!("/{target}") } else { target.to_owned() };
        symlink(target, tree.join(at)).unwrap();
    }
    for (path, text) in files {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    tree
}

/// Makes the container `g` of it.
fn create(sandbox: &Sandbox, init: &str, files: &[(&str, &str)]) {
    let tree = tree_with(sandbox, Some(init), files);
    let archive = sandbox.path("tree.tar");
    run_checked("tar", &["-C", tree.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    sandbox.lxm(&["create", "-t", "archive", "g", "--", "--file", archive.to_str().unwrap()]).ok();
}

fn wrote(sandbox: &Sandbox, file: &str) -> String {
    let pulled = sandbox.lxm(&["pull", &format!("g:{file}"), "-"]);
    if pulled.status == 0 { pulled.stdout } else { String::new() }
}

/// A service that says when it runs, and that it was asked to end.
const SERVICE: &str = "#!/bin/busybox sh\ntrap 'echo asked >>/asked; exit 0' TERM\necho runs >>/runs\n\
                       while :; do busybox sleep 1 & wait; done\n";

fn runs(sandbox: &Sandbox, times: usize) {
    eventually("its service runs", SOON, || wrote(sandbox, "/runs").lines().count() == times);
}

fn asked(sandbox: &Sandbox, times: usize) {
    eventually("its service was asked to end", SOON, || wrote(sandbox, "/asked").lines().count() == times);
}

/// Boots it, reboots it from outside and inside, and stops it, always in order.
fn goes_through_its_life(sandbox: &Sandbox, kind: &str, reboot: &[&str]) {
    sandbox.lxm(&["start", "g"]).ok();
    assert_eq!(sandbox.info("g", "init_type"), kind);
    runs(sandbox, 1);
    assert_eq!(sandbox.lxm(&["attach", "g", "--", "/bin/busybox", "hostname"]).ok().line(), "g");
    assert!(sandbox.info("g", "ipv4")[0].is_string(), "nothing in it asks, so the host does");
    in_order(sandbox, &["restart", "g"]);
    asked(sandbox, 1);
    runs(sandbox, 2);
    let leader = sandbox.leader("g");
    drop(sandbox.lxm(&[&["attach", "g", "--"], reboot].concat()));
    eventually("it has booted again", SOON, || {
        sandbox.info("g", "pid").as_i64().is_some_and(|pid| pid as i32 != leader)
    });
    asked(sandbox, 2);
    runs(sandbox, 3);
    assert!(sandbox.info("g", "ipv4")[0].is_string());
    in_order(sandbox, &["stop", "g"]);
    asked(sandbox, 3);
}

/// Runs a verb that shuts the guest down, which the guest has done itself.
#[track_caller]
fn in_order(sandbox: &Sandbox, verb: &[&str]) {
    let told = sandbox.lxm_with(verb, b"", Duration::from_secs(90)).ok();
    assert!(!told.to_string().contains("killed"), "{told}");
}

fn finit(sandbox: &Sandbox) {
    let config = "service [2345] name:witness /witness -- A witness\n";
    create(sandbox, "sbin/finit", &[("witness", SERVICE), ("etc/finit.conf", config)]);
    goes_through_its_life(sandbox, "finit", &["/bin/busybox", "kill", "-TERM", "1"]);
}

fn runit(sandbox: &Sandbox) {
    // Debian's scripts for the three stages start the rest of Debian; in `/run` are the switches that its
    // runit looks at.
    let begin = "#!/bin/sh\ncd /run && for switch in stopit reboot; do : >runit.$switch; chmod 0 runit.$switch; done\n";
    let files = [
        ("etc/runit/1", begin),
        ("etc/runit/2", "#!/bin/sh\nPATH=/usr/bin:/bin exec runsvdir -P /services\n"),
        ("etc/runit/3", "#!/bin/sh\nPATH=/usr/bin:/bin exec sv -w 20 force-stop /services/*\n"),
        ("services/witness/run", SERVICE),
    ];
    create(sandbox, "lib/runit/runit-init", &files);
    goes_through_its_life(sandbox, "runit", &["/sbin/init", "6"]);
}

fn openrc(sandbox: &Sandbox) {
    let script = "#!/sbin/openrc-run\ncommand=/witness\ncommand_background=yes\npidfile=/run/witness.pid\n";
    let files = [("witness", SERVICE), ("etc/init.d/witness", script), ("etc/runlevels/default/witness", script)];
    create(sandbox, "sbin/openrc-init", &files);
    goes_through_its_life(sandbox, "openrc", &["/bin/busybox", "kill", "-INT", "1"]);
}

/// What s6-linux-init-maker writes for a signal, with the end of its shutdown daemon in place of that.
fn s6_script(command: &str) -> String {
    let stop = "#!/bin/sh\nexport PATH=/usr/bin:/bin\ns6-svc -wd -d /run/service/witness\n";
    format!("{stop}exec /bin/busybox {command} -f\n")
}

fn s6(sandbox: &Sandbox) {
    let init = "#!/bin/sh\n# s6-linux-init -c /etc/s6-linux-init/current -- \"$@\"\nexport PATH=/usr/bin:/bin\n\
                busybox rm -rf /run/service && busybox cp -a /s6 /run/service\nexec s6-svscan /run/service\n";
    let (off, reboot) = (s6_script("poweroff"), s6_script("reboot"));
    let files = [
        ("sbin/s6-init", init),
        ("s6/witness/run", SERVICE),
        ("s6/.s6-svscan/SIGUSR1", &off),
        ("s6/.s6-svscan/SIGPWR", &off),
        ("s6/.s6-svscan/SIGINT", &reboot),
    ];
    create(sandbox, "sbin/s6-init", &files);
    goes_through_its_life(sandbox, "s6", &["/bin/busybox", "kill", "-INT", "1"]);
}

/// An init that does `signals` as its source says, after its service.
fn scripted(signals: &[(&str, &str)]) -> String {
    let trap = |(signals, command): &(&str, &str)| {
        format!("trap 'kill $service; wait $service; exec busybox {command} -f' {signals}\n")
    };
    let traps: String = signals.iter().map(trap).collect();
    format!("#!/bin/busybox sh\n/witness & service=$!\n{traps}while :; do busybox sleep 1 & wait $!; done\n")
}

fn by_script(sandbox: &Sandbox) {
    let procd = scripted(&[("TERM INT", "reboot"), ("USR1", "halt"), ("USR2 PWR", "poweroff")]);
    create(sandbox, "sbin/procd", &[("witness", SERVICE), ("sbin/procd", &procd)]);
    goes_through_its_life(sandbox, "procd", &["/bin/busybox", "kill", "-TERM", "1"]);
    sandbox.lxm(&["destroy", "g"]).ok();
    let dinit = scripted(&[("TERM", "halt"), ("INT", "reboot")]);
    create(sandbox, "sbin/dinit", &[("witness", SERVICE), ("sbin/dinit", &dinit)]);
    goes_through_its_life(sandbox, "dinit", &["/bin/busybox", "kill", "-INT", "1"]);
}

/// tini, dumb-init and catatonit, as images have them for an entry point.
fn wrappers(sandbox: &Sandbox) {
    for wrapper in ["/usr/bin/tini", "/usr/bin/dumb-init", "/usr/bin/catatonit"] {
        // Without an init: else it would be a system.
        let tree = tree_with(sandbox, None, &[("witness", SERVICE)]);
        import(sandbox, "g", &tree, json!({ "Entrypoint": [wrapper, "--"], "Cmd": ["/witness"] }));
        sandbox.lxm(&["start", "g"]).ok();
        runs(sandbox, 1);
        assert_eq!(sandbox.info("g", "init_type"), "other", "{wrapper}");
        assert!(sandbox.info("g", "ipv4")[0].is_string(), "{wrapper}");
        in_order(sandbox, &["restart", "g"]);
        asked(sandbox, 1);
        runs(sandbox, 2);
        in_order(sandbox, &["stop", "g"]);
        asked(sandbox, 2);
        sandbox.lxm(&["destroy", "g"]).ok();
    }
}

fn commands(sandbox: &Sandbox) {
    // A shell that waits for a command, and has no trap: it goes on when that has ended.
    let files = tree(sandbox, "g");
    let command = "echo began >/began; sleep 1000; echo after >/ended";
    import(sandbox, "g", &files, json!({ "Cmd": ["/bin/sh", "-c", command] }));
    let began = || wrote(sandbox, "/began") == "began\n";
    sandbox.lxm(&["start", "g"]).ok();
    eventually("it has begun", SOON, began);
    in_order(sandbox, &["stop", "g"]);
    assert_eq!(wrote(sandbox, "/ended"), "after\n");
    sandbox.lxm(&["destroy", "g"]).ok();
    // A command alone: nothing will ever end it, so nothing is waited for.
    import(sandbox, "g", &files, json!({ "Cmd": ["/bin/sleep", "1000"] }));
    sandbox.lxm(&["start", "g"]).ok();
    let told = sandbox.lxm_with(&["stop", "g"], b"", Duration::from_secs(90)).ok();
    assert!(told.to_string().contains("kill") && told.took < Duration::from_secs(30), "{told}");
}

fn stop_signal(sandbox: &Sandbox) {
    let files = tree(sandbox, "g");
    let command = WITNESS.replace("0' TERM", "0' QUIT; trap '' TERM");
    let config = json!({ "Cmd": ["/bin/sh", "-c", command], "StopSignal": "SIGQUIT" });
    import(sandbox, "g", &files, config);
    assert_eq!(sandbox.lxm(&["config", "get", "g", "boot.stop-signal"]).ok().line(), "SIGQUIT");
    sandbox.lxm(&["start", "g"]).ok();
    eventually("it has begun", SOON, || wrote(sandbox, "/began").contains("nameserver"));
    in_order(sandbox, &["stop", "g"]);
    assert_eq!(wrote(sandbox, "/ended"), "in order\n");
    sandbox.lxm(&["config", "set", "g", "boot.stop-signal", "SIGNONE"]).fails(6).complains("SIGNONE");
    import(sandbox, "h", &files, json!({ "Cmd": ["/bin/sleep", "9"], "StopSignal": "9x" })).complains("StopSignal 9x");
}
