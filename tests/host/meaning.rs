//! What a setting means on this host is said when it is set: references, contradictions, lack of effect.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use crate::support::sandbox::run_checked;
use crate::support::{Guest, Outcome, Sandbox, Trial, eventually};

pub fn trials() -> Vec<Trial> {
    let probe = |name, body| Trial::new(name, body).guest(Guest::Probe);
    vec![
        probe("meaning::what_can_never_work_is_refused_at_once", refused),
        probe("meaning::what_is_not_there_yet_is_a_warning", not_yet),
        probe("meaning::a_setting_without_effect_is_said_to_have_none", no_effect),
        probe("meaning::who_changes_one_setting_hears_of_no_other", only_the_new),
        probe("meaning::get_says_what_is_in_force", in_force),
        Trial::new("meaning::a_limit_below_what_is_used_names_the_figure", below_use).guest(Guest::Busybox),
    ]
}

fn set(sandbox: &Sandbox, settings: &[&str]) -> Outcome {
    sandbox.lxm(&[&["config", "set", "p"], settings].concat())
}

fn file(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.layout().container(&"p".parse().unwrap()).join("config.toml")).unwrap()
}

fn refused(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    run_checked("ip", &["link", "add", "nobridge", "type", "veth", "peer", "name", "other"]);
    let before = file(sandbox);
    for (settings, words) in [
        (&["network.eth0.type", "macvlan"][..], "`parent` is not set"),
        (&["network.eth0.type", "veth", "network.eth0.bridge", "nobridge"], "that link is no bridge"),
        (&["network.eth0.type", "macvlan", "network.eth0.parent", "lo", "network.eth0.publish", "80:80"], "`publish`"),
        (&["network.eth0.vlan", "9999"], "such as `100`"),
        (&["network.eth0.type", "host", "network.eth1.type", "veth"], "only interface"),
        (&["limits.cpuset", "0,4000"], "the processors of this host are 0 to"),
        (&["device.0.path", "/etc/passwd"], "that is no device"),
        (
            &["mount.0.source", "/srv", "mount.0.target", "/a", "mount.1.source", "/opt", "mount.1.target", "/a"],
            "the same target `/a`",
        ),
        (
            &["mount.0.source", "/srv", "mount.0.target", "/a/b", "mount.1.source", "/opt", "mount.1.target", "/a"],
            "would hide mount 0",
        ),
        (&["network.eth0.type=veth", "network.eth0.publish=80:80,127.0.0.1:80:81"], "published port 80"),
    ] {
        let outcome = set(sandbox, settings);
        assert!([4, 6].contains(&outcome.status), "{outcome}");
        outcome.complains(words);
        assert_eq!(file(sandbox), before, "{settings:?}");
    }
    // In the other order the one below is seen.
    let in_order =
        ["mount.0.source", "/srv", "mount.0.target", "/a", "mount.1.source", "/opt", "mount.1.target", "/a/b"];
    assert_eq!(set(sandbox, &in_order).ok().stderr, "");
    run_checked("ip", &["link", "del", "nobridge"]);
}

fn not_yet(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for (settings, words) in [
        (&["mount.0.source", "/nonesuch", "mount.0.target", "/mnt"][..], "`/nonesuch` of mount 0 is not there yet"),
        (&["device.0.path", "/dev/nonesuch"], "`/dev/nonesuch` (`device.0`) is not there yet"),
        (&["network.eth0.type", "veth", "network.eth0.bridge", "nobr"], "there is no link `nobr` on this host yet"),
        (&["network.eth0.type", "macvlan", "network.eth0.parent", "nolink"], "there is no link `nolink`"),
        (&["boot.requires", "nobody"], "there is no container `nobody`"),
        (&["boot.autostart-after", "p2,nobody"], "there is no container `p2`"),
    ] {
        set(sandbox, settings).ok().complains("warning: ").complains(words);
    }
    assert_eq!(set(sandbox, &["mount.0.optional", "true"]).ok().stderr, "");
    sandbox.lxm(&["config", "unset", "p", "mount.0"]).ok();
    set(sandbox, &["mount.0.source", "/etc/hostname", "mount.0.target", "/etc"])
        .ok()
        .complains("the source `/etc/hostname` is a file, and `/etc` is a directory in the container");
    sandbox.lxm(&["config", "unset", "p", "mount.0"]).ok();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("{}:80", listener.local_addr().unwrap().port());
    let publish = ["network.eth0.type=veth", "network.eth0.publish", &port];
    sandbox.lxm(&["config", "unset", "p", "network.eth0.bridge", "network.eth0.parent"]).fails(6).complains("`parent`");
    set(sandbox, &publish).ok().complains("of this host is in use by");
}

fn no_effect(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    for (settings, key) in [
        (&["network.eth0.vlan", "5"][..], "network.eth0.vlan"),
        (&["network.eth0.type", "host", "network.eth0.mtu", "1400"], "network.eth0.mtu"),
        (&["network.eth0.type", "veth", "network.eth0.gateway", "10.0.0.1"], "network.eth0.gateway 10.0.0.1"),
        (&["network.eth0.parent", "lo"], "network.eth0.parent"),
        (&["limits.memory", "64MiB", "limits.memory-high", "128MiB"], "limits.memory-high"),
        (&["security.privileged", "true", "security.idmap", "1000000:65536"], "security.idmap"),
    ] {
        set(sandbox, settings).ok().complains(&format!("`{key}` has no effect"));
    }
    let is_v1 = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| {
        line.split_once(" - cgroup ").is_some_and(|(_, rest)| rest.split([' ', ',']).any(|word| word == "memory"))
    });
    sandbox.lxm(&["config", "unset", "p", "limits.memory", "limits.memory-high"]).ok();
    for key in ["limits.swap", "limits.memory-high"] {
        let told = set(sandbox, &[key, "1GiB"]).ok();
        assert_eq!(told.stderr.contains("has no effect"), is_v1, "{told}");
    }
    set(sandbox, &["security.capabilities-add", "sys_time", "security.capabilities-drop", "SYS_TIME"])
        .ok()
        .complains("both added and dropped");
    // Blanks around a `=` are no values.
    set(sandbox, &["limits.pids", "=", "77"]).ok();
    set(sandbox, &["limits.cpu-weight", "=50"]).ok();
    for (key, value) in [("limits.pids", "77\n"), ("limits.cpu-weight", "50\n")] {
        assert_eq!(sandbox.lxm(&["config", "get", "p", key]).ok().stdout, value);
    }
}

fn only_the_new(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    set(sandbox, &["mount.0.source", "/nonesuch", "mount.0.target", "/mnt", "boot.requires", "nobody"]).ok();
    assert_eq!(set(sandbox, &["limits.pids", "99"]).ok().stderr, "");
    // What an earlier lxm took keeps no other change from being made.
    let path = sandbox.layout().container(&"p".parse().unwrap()).join("config.toml");
    let two = "[[mount]]\nsource = \"/srv\"\ntarget = \"/mnt\"\n";
    fs::write(&path, format!("{}\n{two}", fs::read_to_string(&path).unwrap())).unwrap();
    set(sandbox, &["limits.pids", "98"]).ok();
}

fn in_force(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Probe, &[]);
    let get = |key: &str| sandbox.lxm(&["config", "get", "p", key]).ok().stdout;
    assert_eq!(get("network.eth0.bridge"), "");
    set(sandbox, &["network.eth0.type", "veth"]).ok();
    assert_eq!(get("network.eth0.bridge"), "lxmbr0\n");
    fs::create_dir_all(sandbox.path("etc/lxm")).unwrap();
    fs::write(sandbox.path("etc/lxm/lxm.toml"), "[network]\ndefault = \"br9\"\n").unwrap();
    assert_eq!(get("network.eth0.bridge"), "br9\n");
    fs::remove_file(sandbox.path("etc/lxm/lxm.toml")).unwrap();
    assert_eq!(get("boot.autostart"), "false\n");
    sandbox.lxm(&["enable", "p"]).ok();
    assert_eq!(get("boot.autostart"), "true\n");
}

fn below_use(sandbox: &Sandbox) {
    sandbox.boot("p", Guest::Busybox, &[]);
    // A shell that holds tens of megabytes in a variable.
    let hold = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo held > /run/held; sleep 600; true";
    let mut holder = sandbox.command();
    let mut holder = holder.args(["attach", "p", "--", "sh", "-c", hold]).spawn().unwrap();
    eventually("the memory is held", Duration::from_secs(60), || {
        sandbox.lxm(&["attach", "p", "--", "test", "-e", "/run/held"]).status == 0
    });
    let swap = fs::read_to_string("/proc/meminfo")
        .unwrap()
        .lines()
        .any(|line| line.starts_with("SwapFree:") && !line.contains(" 0 kB"));
    if !swap {
        set(sandbox, &["limits.memory", "20MiB"])
            .fails(4)
            .complains("`limits.memory` cannot be 20MiB: the container uses ");
        assert_eq!(sandbox.lxm(&["config", "get", "p", "limits.memory"]).ok().stdout, "");
    }
    assert_eq!(sandbox.lxm(&["attach", "p", "--", "pidof", "sleep"]).status, 0, "it was killed");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    holder.wait().unwrap();
}
