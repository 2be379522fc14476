//! What in a root file system would configure its network, told by what its init would start: links that
//! enable services, init scripts, inittab. Never by the name of a distribution.
//!
//! Where it finds nothing the host configures the network (`network.NAME.managed`), so a doubt means that
//! there is something: two that configure one interface differ in what they know.

use super::View;
use crate::config::Init;

/// A part of a service's or program's name, in small letters, and whose it is.
const KNOWN: [(&str, &str); 14] = [
    ("systemd-networkd", "systemd-networkd"),
    ("networkmanager", "NetworkManager"),
    ("network-manager", "NetworkManager"),
    ("dhcpcd", "dhcpcd"),
    ("udhcpc", "udhcpc"),
    ("dhclient", "dhclient"),
    ("dhcp-client", "dhclient"),
    ("connman", "connman"),
    ("wicked", "wicked"),
    ("wicd", "wicd"),
    ("netctl", "netctl"),
    ("netifd", "netifd"),
    ("cloud-init", "cloud-init"),
    ("lxm-network", "udhcpc"),
];

/// What a script does itself.
const COMMANDS: [&str; 3] = ["ip addr add", "ip address add", "ifconfig eth"];

/// As many scripts of a guest are read, and as much of each.
const MOST_SCRIPTS: usize = 64;

/// What would configure the network of this root file system; `None` where nothing would.
pub(crate) fn configurator(view: &View, init: Init, command: &str) -> Option<&'static str> {
    match init {
        Init::Systemd => of_systemd(view),
        Init::Procd => view.exists("sbin/netifd").then_some("netifd"),
        Init::Sysvinit => of_rc_links(view).or_else(|| of_openrc(view)).or_else(|| of_inittab(view)),
        // Debian's runs the scripts of sysvinit first.
        Init::Runit => of_services(view, names(view, &RUNIT)).or_else(|| of_rc_links(view)),
        Init::Busybox => of_inittab(view),
        Init::Openrc => of_openrc(view),
        Init::Finit => of_finit(view),
        Init::S6 => of_services(view, names(view, &S6)).or_else(|| of_openrc(view)),
        Init::Dinit => of_services(view, names(view, &DINIT)),
        // A program, or a script that begins with what it needs.
        Init::Other | Init::Auto => of_scripts(view, vec![command.trim_start_matches('/').to_owned()]),
    }
}

/// What enables services while the guest boots, by generators.
fn of_generators(view: &View) -> Option<&'static str> {
    let is_used = |dir: &str| view.names(dir).iter().any(|name| name.ends_with(".yaml"));
    if view.exists("usr/sbin/netplan") && is_used("etc/netplan") {
        return Some("netplan");
    }
    let cloud_init = view.exists("usr/bin/cloud-init") && !view.is_taken("etc/cloud/cloud-init.disabled");
    cloud_init.then_some("cloud-init")
}

/// The first of the services that is known.
fn of_services(view: &View, services: impl IntoIterator<Item = String>) -> Option<&'static str> {
    services.into_iter().find_map(|service| of_service(view, &service))
}

fn of_service(view: &View, service: &str) -> Option<&'static str> {
    let service = service.to_ascii_lowercase();
    let bare = service.trim_end_matches(".service").trim_end_matches(".conf");
    match bare {
        // Debian's and Alpine's, and systemd's unit of it; they need a program and its file.
        "networking" | "ifupdown" => has_interfaces(view).then_some("ifupdown"),
        // Fedora's scripts of old; Artix' and other small systems' own.
        "network" | "net" | "networkd" => Some("network scripts"),
        // netifrc's, a link to `net.lo`, which is there always.
        link if link.starts_with("net.") => (link != "net.lo").then_some("netifrc"),
        _ => KNOWN.iter().find(|(part, _)| bare.contains(part)).map(|(_, whose)| *whose),
    }
}

/// Whether ifupdown, or busybox in its name, would bring up more than loopback.
fn has_interfaces(view: &View) -> bool {
    let has_program = ["sbin/ifup", "usr/sbin/ifup", "bin/ifup"].iter().any(|path| view.exists(path));
    let text = view.text("etc/network/interfaces").ok().flatten().unwrap_or_default();
    let names_one = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("iface") && words.next().is_some_and(|interface| interface != "lo")
    };
    has_program && (text.lines().any(names_one) || !view.names("etc/network/interfaces.d").is_empty())
}

/// Services that systemd starts: each `.wants` directory has links to them.
fn of_systemd(view: &View) -> Option<&'static str> {
    // Most guests have this one, and a start need not read a dozen directories.
    if view.is_taken("etc/systemd/system/multi-user.target.wants/systemd-networkd.service") {
        return Some("systemd-networkd");
    }
    let enabled = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"].iter().find_map(|dir| {
        let targets = view.names(dir).into_iter().filter(|name| name.ends_with(".target.wants"));
        of_services(view, targets.flat_map(|target| view.names(&format!("{dir}/{target}"))))
    });
    enabled.or_else(|| of_generators(view))
}

/// Directories whose entries are the services that are started.
const RUNIT: [&str; 3] = ["etc/runit/runsvdir/default", "etc/service", "var/service"];
const S6: [&str; 6] = [
    "etc/s6-overlay/s6-rc.d/user/contents.d",
    "etc/services.d",
    "etc/s6/adminsv/default/contents.d",
    "etc/s6-rc/source/default/contents.d",
    "etc/s6-linux-init/current/run-image/service",
    "etc/s6/rc/default",
];
const DINIT: [&str; 3] = ["etc/dinit.d/boot.d", "lib/dinit.d/boot.d", "usr/lib/dinit.d/boot.d"];

fn names(view: &View, dirs: &[&str]) -> Vec<String> {
    dirs.iter().flat_map(|dir| view.names(dir)).collect()
}

/// OpenRC's runlevels, where there is an OpenRC.
fn of_openrc(view: &View) -> Option<&'static str> {
    let has_it = ["sbin/openrc", "usr/sbin/openrc", "sbin/rc", "usr/bin/openrc"].iter().any(|path| view.exists(path));
    let levels = ["etc/runlevels/sysinit", "etc/runlevels/boot", "etc/runlevels/default"];
    of_services(view, names(view, &levels)).filter(|_| has_it)
}

/// The links of sysvinit's runlevels: `S01networking`.
fn of_rc_links(view: &View) -> Option<&'static str> {
    let levels = ["etc/rcS.d", "etc/rc2.d", "etc/rc3.d", "etc/rc5.d", "etc/rc.d/rc3.d", "etc/rc.d/rc5.d"];
    let started = names(view, &levels).into_iter();
    of_services(view, started.filter_map(|name| Some(name.strip_prefix('S')?.get(2..)?.to_owned())))
}

fn of_finit(view: &View) -> Option<&'static str> {
    // It runs ifup(8) by itself.
    if has_interfaces(view) {
        return Some("ifupdown");
    }
    let enabled = view.names("etc/finit.d/enabled").into_iter().map(|name| format!("etc/finit.d/enabled/{name}"));
    let own = view.names("etc/finit.d").into_iter().map(|name| format!("etc/finit.d/{name}"));
    let files = own.chain(enabled).filter(|name| name.ends_with(".conf"));
    of_scripts(view, files.chain(["etc/finit.conf", "etc/rc.local"].map(str::to_owned)).collect())
}

/// The commands of inittab(5), and the scripts that they are.
fn of_inittab(view: &View) -> Option<&'static str> {
    let inittab = view.text("etc/inittab").ok().flatten();
    // busybox has this line where there is no file (init/init.c).
    let inittab = inittab.unwrap_or_else(|| "::sysinit:/etc/init.d/rcS\n".to_owned());
    let lines = inittab.lines().filter(|line| !line.trim_start().starts_with('#'));
    let fields = lines.map(|line| line.splitn(4, ':').collect::<Vec<_>>());
    let starts = |action: &str| !["shutdown", "ctrlaltdel", "restart", "powerfail", "powerwait"].contains(&action);
    let started = fields.filter(|fields| fields.len() == 4 && starts(fields[2]));
    let commands: Vec<&str> = started.map(|fields| fields[3]).collect();
    if commands.iter().any(|command| command.contains("openrc") || command.contains("/sbin/rc "))
        && let Some(found) = of_openrc(view)
    {
        return Some(found);
    }
    let named = commands.iter().find_map(|command| of_text(view, command));
    let words = commands.iter().flat_map(|command| command.split_whitespace());
    let scripts = words.filter_map(|word| word.trim_start_matches('-').strip_prefix('/')).map(str::to_owned);
    named.or_else(|| of_scripts(view, scripts.collect()))
}

/// What these scripts start, and those that they run in turn.
fn of_scripts(view: &View, mut scripts: Vec<String>) -> Option<&'static str> {
    let mut next = 0;
    while let Some(path) = scripts.get(next).cloned().filter(|_| next < MOST_SCRIPTS) {
        next += 1;
        let Ok(Some(text)) = view.text(&path) else { continue };
        let is_script = text.starts_with("#!") || path.ends_with(".conf") || path.contains("rc");
        if !is_script {
            continue;
        }
        if let Some(found) =
            text.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|l| of_text(view, l))
        {
            return Some(found);
        }
        // Buildroot's and its like: `for i in /etc/init.d/S??*`.
        for dir in ["etc/init.d", "etc/rc.d", "etc/rcS.d"] {
            if text.contains(&format!("/{dir}/S")) {
                let started = view.names(dir).into_iter().filter(|name| name.starts_with('S'));
                let added: Vec<String> = started.map(|name| format!("{dir}/{name}")).collect();
                scripts.extend(added.into_iter().filter(|added| !scripts.contains(added)).collect::<Vec<_>>());
            }
        }
    }
    None
}

/// What a line of a script starts.
fn of_text(view: &View, line: &str) -> Option<&'static str> {
    if COMMANDS.iter().any(|command| line.contains(command)) {
        return Some("a script");
    }
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"-_./".contains(c));
    let mut programs = words.filter_map(|word| word.rsplit('/').next());
    programs.find_map(|program| match program {
        "ifup" => has_interfaces(view).then_some("ifupdown"),
        "connmand" => Some("connman"),
        "wickedd" => Some("wicked"),
        // The whole word: `udhcpc.pid` is a file of one that is ended.
        _ => KNOWN.iter().find(|(name, _)| program.eq_ignore_ascii_case(name)).map(|(_, whose)| *whose),
    })
}

#[cfg(test)]
mod tests;
