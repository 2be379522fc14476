//! lxm in a guest of lxm's, and in a guest of that one.

use std::path::Path;
use std::time::Duration;

use crate::support::sandbox::program;
use crate::support::{Guest, Need, Outcome, Sandbox, Trial};

pub fn trials() -> Vec<Trial> {
    let trial =
        |name, body: fn(&Sandbox)| Trial::new(name, body).guest(Guest::Busybox).needs(Need::Tool("nft")).limit(240);
    vec![
        trial("nesting::lxm_in_an_unprivileged_guest", |sandbox| levels(sandbox, false)),
        trial("nesting::lxm_in_a_privileged_guest", |sandbox| levels(sandbox, true)),
        trial("nesting::a_guest_without_ids_to_give_says_so", without_ids),
        trial("nesting::a_larger_range_of_ids", larger_range),
    ]
}

/// Words for `lxm config set` that show what `lxm` and `nft` need at the same places in a guest, and the program
/// `lxm` itself as /usr/bin/lxm.
fn shown(lxm: &str) -> String {
    let places = ["/lib/x86_64-linux-gnu", "/lib64", "/usr/sbin/nft", "/bin/busybox", lxm];
    let entry = |(at, path): (usize, &str)| {
        let target = if path == lxm { "/usr/bin/lxm" } else { path };
        format!("mount.{at}.source {path} mount.{at}.target {target} mount.{at}.read-only true")
    };
    places
        .into_iter()
        .filter(|path| Path::new(path).exists() || *path == lxm)
        .enumerate()
        .map(entry)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A guest `outer` in which `lxm` can be run.
fn boot_outer(sandbox: &Sandbox, settings: &[&str]) {
    sandbox.create("outer", Guest::Busybox, &[]);
    let mounts = shown(program().to_str().unwrap());
    let words: Vec<&str> =
        ["config", "set", "outer"].into_iter().chain(mounts.split(' ')).chain(settings.iter().copied()).collect();
    sandbox.lxm(&words).ok();
    sandbox.lxm(&["start", "outer", "--wait", "booted"]).ok();
    let templates = crate::support::sandbox::source_tree().join("templates/busybox.toml");
    sh(sandbox, "mkdir -p /usr/share/lxm/templates").ok();
    sandbox.lxm(&["push", templates.to_str().unwrap(), "outer:/usr/share/lxm/templates/"]).ok();
}

/// Runs a script in `outer`, as its root.
fn sh(sandbox: &Sandbox, script: &str) -> Outcome {
    let words = ["attach", "outer", "--", "sh", "-euc", script];
    sandbox.lxm_with(&words, b"", Duration::from_secs(120))
}

const CREATE: &str = "export LXM_TEMPLATES=/usr/share/lxm/templates; lxm create -t busybox";

/// What a guest says of its address, once it has one.
const ADDRESS: &str = "sh -c 'while ! ip -4 address show eth0 | grep inet; do sleep 0.1; done'";

fn levels(sandbox: &Sandbox, privileged: bool) {
    boot_outer(
        sandbox,
        &["security.nesting", "true", "security.privileged", if privileged { "true" } else { "false" }],
    );
    sh(sandbox, &format!("{CREATE} inner; lxm config set inner security.nesting true {}", shown("/usr/bin/lxm"))).ok();
    sh(sandbox, "lxm check").ok();
    sh(sandbox, "lxm start inner --wait booted").ok();
    sh(sandbox, &format!("lxm attach inner -- {ADDRESS}")).ok().says("inet ");
    sh(sandbox, "echo hello | lxm attach inner -- cat").ok().says("hello");
    sh(sandbox, "lxm attach inner -- touch /root/made; lxm stop inner; lxm start inner --wait booted").ok();
    sh(sandbox, "lxm attach inner -- stat -c %u /root/made").ok().says("0\n");

    let third = format!("{CREATE} third; lxm start third --wait booted; lxm attach third -- {ADDRESS}");
    sh(sandbox, "lxm attach inner -- mkdir -p /usr/share/lxm/templates").ok();
    sh(sandbox, "lxm push /usr/share/lxm/templates/busybox.toml inner:/usr/share/lxm/templates/").ok();
    sh(sandbox, &format!("lxm attach inner -- sh -euc \"{third}\"")).ok().says("inet ");
    sh(sandbox, "lxm attach inner -- lxm destroy -f third").ok();

    sh(sandbox, "lxm stop -k inner; lxm snapshot create inner s; lxm snapshot restore inner s").ok();
    sh(sandbox, "lxm copy inner other; lxm start other; lxm stop -k other; lxm destroy -f inner other").ok();
    sh(sandbox, "lxm network down; lxm gc").ok();
    let left = "ls -A /var/lib/lxm /run/lxm /sys/class/net; find /sys/fs/cgroup; cat /proc/self/mountinfo";
    let left = sh(sandbox, left).ok();
    for name in ["inner", "other", "third", "lxmbr0"] {
        assert!(!left.stdout.contains(name), "`{name}` is left: {left}");
    }
}

fn without_ids(sandbox: &Sandbox) {
    let ids = "security.id-range-size";
    boot_outer(sandbox, &["security.nesting", "true", ids, "65536"]);
    sh(sandbox, &format!("{CREATE} inner")).fails(5).complains("0 to 65535").complains("security.nesting");
    assert!(!sh(sandbox, "ls -A /var/lib/lxm").ok().stdout.contains("inner"));
    sandbox.lxm(&["config", "set", "outer", ids, "131072"]).ok();
    sandbox.lxm(&["stop", "-k", "outer"]).ok();
    sandbox.lxm(&["start", "outer"]).ok();
    sh(sandbox, &format!("{CREATE} inner && lxm start inner && lxm attach inner -- cat /proc/self/uid_map"))
        .ok()
        .says("65536      65536");
}

fn larger_range(sandbox: &Sandbox) {
    sandbox.create("p", Guest::Busybox, &[]);
    let boot = || sandbox.lxm(&["start", "p", "--wait", "booted"]).ok();
    let run = |script: &str| sandbox.lxm(&["attach", "p", "--", "sh", "-euc", script]);
    boot();
    run("touch /root/f && chown 70000 /root/f").fails(1);
    sandbox.lxm(&["config", "set", "p", "security.id-range-size", "200000"]).ok().complains("when it is started again");
    // What runs keeps what it has.
    run("touch /root/f && chown 1000 /root/f").ok();
    sandbox.lxm(&["push", "/etc/hostname", "p:/root/pushed"]).ok();
    run("stat -c %u /root/pushed").ok().says("0\n");
    sandbox.lxm(&["stop", "-k", "p"]).ok();
    boot();
    run("stat -c %u /root/f; chown 199999 /root/f; stat -c %u /root/f").ok().says("1000\n199999\n");
    let range = sandbox.info("p", "ids");
    assert!(range.as_str().unwrap().ends_with(":200000"), "{range}");
    sandbox.create("q", Guest::Busybox, &[]);
    sandbox.lxm(&["start", "q"]).ok();
    sandbox.lxm(&["check"]).ok().says("no two containers have ids");
    for (size, why) in [("65535", "not within"), ("0", "not within"), ("x", "id-range-size")] {
        sandbox.lxm(&["config", "set", "p", "security.id-range-size", size]).fails(6).complains(why);
    }
}
