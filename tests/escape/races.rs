//! A guest that changes something while lxm is on its way to it, or puts another thing in its place.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::means::{give, inside, meanwhile};
use crate::support::pty::Terminal;
use crate::support::{Guest, Need, Sandbox, Trial, eventually};

const SOON: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<Trial> {
    let trial = |name, body| Trial::new(name, body).guest(Guest::Busybox).needs(Need::Tool("gcc"));
    vec![
        trial("escape::races::cve_2021_30465_targets_on_a_shared_volume", shared_volume),
        trial("escape::races::a_false_terminal_is_not_opened", false_terminal),
    ]
}

/// A volume that the guest's root may write to.
fn volume(sandbox: &Sandbox, name: &str) -> PathBuf {
    let dir = sandbox.path(name);
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(1000), Some(1000)).unwrap();
    dir
}

fn show(sandbox: &Sandbox, guest: &str, source: &Path, target: &str) {
    let file = sandbox.layout().config_file(&guest.parse().unwrap());
    let source = source.display();
    let text = format!("\n[[mount]]\nsource = \"{source}\"\ntarget = \"{target}\"\nidmap = \"root\"\n");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &text).unwrap();
}

/// Where the guest's second volume is mounted.
fn places(sandbox: &Sandbox) -> Vec<String> {
    let table = inside(sandbox, "victim", "grep '/second ' /proc/self/mountinfo | cut -d' ' -f5").ok().stdout;
    table.lines().map(str::to_owned).collect()
}

/// Two guests share a volume, and one of them has a second volume mounted within it: the other one makes
/// its target a link, and what it has written there would be the victim's /etc.
fn shared_volume(sandbox: &Sandbox) {
    let (shared, second) = (volume(sandbox, "shared"), volume(sandbox, "second"));
    for guest in ["attacker", "victim"] {
        sandbox.create(guest, Guest::Busybox, &[]);
        show(sandbox, guest, &shared, "/vol");
    }
    show(sandbox, "attacker", &second, "/second");
    show(sandbox, "victim", &second, "/vol/data");
    sandbox.lxm(&["start", "attacker"]).ok();
    give(sandbox, "attacker", "races");
    inside(sandbox, "attacker", "echo evil:x:0:0::/:/bin/sh >/second/passwd; ln -s /etc /vol/data").ok();
    sandbox.lxm(&["start", "victim"]).fails(1).complains("make the mount point `/vol/data`").complains("hint: ");
    inside(sandbox, "attacker", "mkdir /vol/dir && rm /vol/data && mv /vol/dir /vol/data").ok();
    // The means: what is there is shown, and a link there is followed by whoever follows links.
    sandbox.lxm(&["start", "victim"]).ok();
    assert_eq!(places(sandbox), ["/vol/data"]);
    inside(sandbox, "attacker", "ln -s /etc /vol/link").ok();
    inside(sandbox, "victim", "cat /vol/link/passwd").ok().says("root");
    sandbox.lxm(&["stop", "-k", "victim"]).ok();

    inside(sandbox, "attacker", "touch /tmp/go").ok();
    meanwhile(sandbox, "attacker", "/races swap /vol/data /vol/link /tmp/go");
    let mut refused = 0;
    for _ in 0..10 {
        let started = sandbox.lxm(&["start", "victim"]);
        if started.status == 0 {
            // The directory is found under the name that it has when it is looked for.
            let found = places(sandbox);
            assert!(found.iter().all(|place| place == "/vol/data" || place == "/vol/link"), "{found:?}");
            inside(sandbox, "victim", "cat /etc/passwd").ok().says("root");
        }
        refused += i32::from(started.status != 0);
        sandbox.lxm(&["stop", "-k", "victim"]).stdout.clear();
    }
    inside(sandbox, "attacker", "rm /tmp/go; until grep -q swapped /tmp/told; do sleep 0.1; done").ok();
    assert!(refused > 0, "the attacker never won the race");
}

/// `attach -t` takes a terminal that is opened in the guest to this side. One that the guest serves itself
/// would never answer a read, a write or a close.
fn false_terminal(sandbox: &Sandbox) {
    sandbox.boot("g", Guest::Busybox, &[]);
    give(sandbox, "g", "races");
    let attach = || Terminal::script(sandbox, "\"$LXM\" attach -t g -- echo from the guest");
    let mut honest = attach();
    honest.shows("from the guest");
    assert_eq!(honest.ends(), 0);
    meanwhile(sandbox, "g", "/races ptmx");
    eventually("it is in place", SOON, || inside(sandbox, "g", "cat /tmp/told").stdout.contains("placed: ok"));
    inside(sandbox, "g", "cat /tmp/told").ok().says("means: ok 1 file");
    let mut refused = attach();
    refused.shows("no terminal multiplexer");
    assert_eq!(refused.ends(), 125);
    // What else it may put there.
    for other in ["mkfifo /dev/ptmx", "ln -s null /dev/ptmx", "mkdir /dev/ptmx", "ln -s pts/0 /dev/ptmx", "true"] {
        inside(sandbox, "g", &format!("rm -rf /dev/ptmx; {other}")).ok();
        assert_eq!(attach().ends(), 125, "{other}");
    }
    inside(sandbox, "g", "ln -s pts/ptmx /dev/ptmx").ok();
    assert_eq!(attach().ends(), 0);
}
