//! Every setting of .nspawn files, up to systemd 262 (systemd.nspawn(5); src/nspawn/nspawn-gperf.gperf).

use super::model::{Nspawn, boolean};
use super::{files, lines, network};
use crate::config::capability;
use crate::ops::import::foreign;
use crate::ops::import::table::{Row, Setting, Taken};
use crate::types::{Arch, IdRange};

pub(super) const ROWS: &[Row<Nspawn>] = &[
    Row::takes("Exec.Boot", "yes; no is lost: lxm boots an init", yes),
    Row::takes(
        "Exec.Ephemeral",
        "no; yes is lost: an imported container keeps its files (`lxm start --ephemeral`)",
        no,
    ),
    Row::takes("Exec.ProcessTwo", "no; yes is lost: lxm boots an init", no),
    Row::lost("Exec.Parameters", "lxm gives an init no arguments; `boot.init` names one"),
    Row::takes("Exec.Environment", "`environment.NAME`, each word of it", environment),
    Row::takes("Exec.User", "root; others are lost: init is the guest's root", |_, setting| {
        Taken::if_so(matches!(setting.value.as_str(), "root" | "0"))
    }),
    Row::takes(
        "Exec.Capability",
        "`security.capabilities-add`; `all` is lost: they are named one by one",
        capabilities_add,
    ),
    Row::lost("Exec.AmbientCapability", "init is root, and has the guest's capabilities anyway"),
    Row::takes("Exec.DropCapability", "`security.capabilities-drop`", capabilities_drop),
    Row::takes("Exec.NoNewPrivileges", "no; yes is lost: set-user-ID programs work in the guest", no),
    Row::takes(
        "Exec.KillSignal",
        "nothing where it is systemd's; others are lost: lxm knows what an init understands (`boot.init-type`)",
        |_, setting| Taken::if_so(matches!(setting.value.trim_start_matches("SIG"), "RTMIN+3")),
    ),
    Row::takes(
        "Exec.Personality",
        "nothing: the guest's programs say it. One that this host does not run is lost",
        |_, setting| Taken::if_so(foreign::arch(&setting.value).is_some_and(|guest| Arch::host().runs(guest))),
    ),
    Row::lost("Exec.MachineID", "a container gets an identity of its own, `uuid`"),
    Row::takes("Exec.WorkingDirectory", "`/`; another one is lost", |_, setting| Taken::if_so(setting.value == "/")),
    Row::lost("Exec.PivotRoot", "the guest's root is the root of its files"),
    Row::takes(
        "Exec.PrivateUsers",
        "a range of the container's own, of 65536 ids. `no` and `identity` are so, too, and a note says so; longer ranges are lost",
        private_users,
    ),
    Row::same("Exec.NotifyReady", "nothing: lxm knows whether an init says that it is ready (`boot.ready`)"),
    Row::lost("Exec.SystemCallFilter", "lxm has a filter of its own (`security.syscalls`)"),
    Row::lost(
        "Exec.LimitCPU Exec.LimitFSIZE Exec.LimitDATA Exec.LimitSTACK Exec.LimitCORE Exec.LimitRSS Exec.LimitNOFILE Exec.LimitAS Exec.LimitNPROC Exec.LimitMEMLOCK Exec.LimitLOCKS Exec.LimitSIGPENDING Exec.LimitMSGQUEUE Exec.LimitNICE Exec.LimitRTPRIO Exec.LimitRTTIME",
        "a guest's processes begin with lxm's limits; `limits` holds the guest as a whole",
    ),
    Row::lost("Exec.OOMScoreAdjust", "a guest's processes have the kernel's default"),
    Row::takes("Exec.CPUAffinity", "`limits.cpuset`", affinity),
    Row::takes("Exec.Hostname", "the container's name is its host name; another one is lost", |machine, setting| {
        Taken::if_so(setting.value == machine.called)
    }),
    Row::same("Exec.ResolvConf Exec.Timezone Exec.LinkJournal", "nothing: the guest keeps its own files"),
    Row::takes("Exec.SuppressSync", "no; yes is lost: what a guest writes to disk is written", no),
    Row::takes("Files.ReadOnly Files.Volatile", "no; others are lost: the guest's files are writable, and kept", no),
    Row::takes(
        "Files.Bind Files.BindReadOnly",
        "`[[mount]]`, with `-`, `idmap`, `noidmap`, `rootidmap`, `owneridmap`, `rbind`, `norbind`; `[[device]]` of a device below /dev. Sources in the tree itself (`+`), in the host's /proc and /sys, and temporary ones are lost",
        files::bind,
    ),
    Row::takes(
        "Files.TemporaryFileSystem",
        "nothing for /run and /dev/shm, which every guest has; others are lost: the guest's own /etc/fstab mounts them",
        files::tmpfs,
    ),
    Row::lost("Files.Inaccessible", "the guest's files are all accessible to it"),
    Row::lost(
        "Files.Overlay Files.OverlayReadOnly",
        "lxm mounts directories and files of the host, and no overlays of them",
    ),
    Row::same(
        "Files.PrivateUsersChown Files.PrivateUsersOwnership",
        "nothing: files are stored as lxm does it, and shown with the guest's ids",
    ),
    Row::lost("Files.BindUser", "users of the host are not the guest's"),
    Row::takes(
        "Network.Private",
        "no: `type = \"host\"`; yes: see the others, and without them no network",
        network::private,
    ),
    Row::takes(
        "Network.VirtualEthernet",
        "a `veth` on the default bridge, named `host0` as nspawn does",
        network::veth,
    ),
    Row::takes("Network.VirtualEthernetExtra", "lost: a guest's `veth` is on a bridge", network::extra),
    Row::takes("Network.Interface", "`type = \"physical\"` for each", network::links),
    Row::takes("Network.MACVLAN", "`type = \"macvlan\"` for each, named `mv-LINK`", network::links),
    Row::takes("Network.IPVLAN", "`type = \"ipvlan\"` for each, named `iv-LINK`", network::links),
    Row::takes("Network.Bridge", "`bridge` of `host0`; left out where this host lacks it", network::bridge),
    Row::takes("Network.Zone", "the bridge `vz-ZONE` of `host0`; left out where this host lacks it", network::zone),
    Row::takes("Network.NamespacePath", "lost: a guest has a namespace of its own", network::extra),
    Row::takes(
        "Network.Port",
        "`publish` of `host0`; lost without a `veth`, and where the port is there already",
        network::port,
    ),
];

fn yes(_: &mut Nspawn, setting: &Setting) -> Taken {
    Taken::if_so(boolean(&setting.value) == Some(true))
}

fn no(_: &mut Nspawn, setting: &Setting) -> Taken {
    Taken::if_so(boolean(&setting.value) == Some(false))
}

fn environment(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let Some(words) = lines::words(&setting.value) else {
        return Taken::LostFor("a quote is not closed".to_owned());
    };
    let mut others = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if !name.is_empty() && !word.contains('\0') => {
                machine.made.config.environment.insert(name.to_owned(), value.to_owned());
            }
            _ => others.push(word),
        }
    }
    match others.is_empty() {
        true => Taken::Over,
        false => Taken::LostFor(format!("`{}` is no NAME=VALUE", others.join(" "))),
    }
}

/// The names of capabilities, and those that are none.
fn capabilities(value: &str) -> (Vec<String>, Vec<String>) {
    value.split_whitespace().map(str::to_owned).partition(|name| capability(name).is_some())
}

fn others(names: &[String]) -> Taken {
    match names {
        [] => Taken::Over,
        names => Taken::LostFor(format!("capabilities are named one by one, and `{}` is none", names.join(" "))),
    }
}

fn capabilities_add(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let (names, none) = capabilities(&setting.value);
    machine.made.config.security.capabilities_add.extend(names);
    others(&none)
}

fn capabilities_drop(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let (names, mut none) = capabilities(&setting.value);
    let drop = &mut machine.made.config.security.capabilities_drop;
    drop.extend(names);
    if none.iter().any(|name| name == "all") {
        none.retain(|name| name != "all");
        let mut all: Vec<_> = caps::all().into_iter().map(|capability| capability.to_string()).collect();
        all.sort();
        drop.extend(all);
    }
    others(&none)
}

fn private_users(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let value = setting.value.as_str();
    if value == "identity" || boolean(value) == Some(false) {
        let note = format!("under nspawn its ids were the host's own (`{}`), and are not here", setting.text);
        machine.made.notes.push(note);
        return Taken::Over;
    }
    let is_base = |base: &str| base.parse::<u32>().is_ok_and(|base| base >= IdRange::LEN);
    Taken::if_so(match value.split_once(':') {
        Some((base, len)) => is_base(base) && len == IdRange::LEN.to_string(),
        None => boolean(value) == Some(true) || matches!(value, "pick" | "managed") || is_base(value),
    })
}

/// `0-3 5`, as systemd lists processors; the kernel's list has commas.
fn affinity(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let cpuset = &mut machine.made.config.limits.cpuset;
    let parts = setting.value.split([' ', ',', '\t']).filter(|part| !part.is_empty()).map(str::to_owned);
    let parts: Vec<String> = cpuset.take().into_iter().chain(parts).collect();
    *cpuset = Some(parts.join(","));
    Taken::Over
}
