//! What settings mean on this host: what they refer to, what they contradict, and what has no effect.
//!
//! Said when a setting is made. What can never work is refused; what may come later (a disk that is not
//! plugged in, a bridge that is made at boot) or can be set in several steps is a warning.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::on_host;
use crate::cgroup::Controllers;
use crate::config::{Address, Config, IdMap, Mount, Network, NetworkType, PublishProtocol, capability};
use crate::container::files::GuestTree;
use crate::error::{Error, Result};
use crate::net;
use crate::store::Layout;
use crate::sys::fs::open_in_root;
use crate::sys::ports::{self, Transport};
use crate::types::ContainerName;

/// What is wrong with the settings of a container on this host.
#[derive(Debug, Default)]
struct Findings {
    /// It cannot be.
    wrong: Vec<Error>,
    /// It has no effect, or none yet.
    warnings: Vec<String>,
}

/// What to say of `new` that could not be said of `old` already: who changes one setting is not told of all
/// others. Fails with what can never work.
pub(crate) fn of_change(layout: &Layout, name: &ContainerName, old: &Config, new: &Config) -> Result<Vec<String>> {
    let (before, now) = (look(layout, name, old), look(layout, name, new));
    let is_new = |e: &Error| before.wrong.iter().all(|old| old.to_string() != e.to_string());
    match now.wrong.into_iter().find(is_new) {
        Some(e) => Err(e),
        None => Ok(now.warnings.into_iter().filter(|warning| !before.warnings.contains(warning)).collect()),
    }
}

/// Fails with what can never work, of all settings: a guest that is shut down with them does not come back.
pub(crate) fn require(layout: &Layout, name: &ContainerName) -> Result<()> {
    let config = layout.config(name)?;
    look(layout, name, &config).wrong.into_iter().next().map_or(Ok(()), Err)?;
    unlike_targets(layout, name, &config).into_iter().next().map_or(Ok(()), |why| Err(Error::config(why)))
}

/// What to say of mounts of files on directories, and the other way round.
pub(super) fn unlike_targets(layout: &Layout, name: &ContainerName, config: &Config) -> Vec<String> {
    if config.mount.is_empty() {
        return Vec::new();
    }
    let Ok(guest) = GuestTree::open(layout, name) else { return Vec::new() };
    config.mount.iter().filter_map(|mount| unlike_target(&guest, mount)).collect()
}

/// What to say of a file that is to be mounted on a directory, or the other way round (mount(2), ENOTDIR).
fn unlike_target(guest: &GuestTree, mount: &Mount) -> Option<String> {
    let target = open_in_root(guest.root(), mount.target.as_path(), OFlags::PATH, Mode::empty()).ok()?;
    let target_is_dir = FileType::from_raw_mode(rustix::fs::fstat(target).ok()?.st_mode).is_dir();
    let source_is_dir = std::fs::metadata(&mount.source).ok()?.is_dir();
    let kind = |is_dir| if is_dir { "a directory" } else { "a file" };
    (target_is_dir != source_is_dir).then(|| {
        format!(
            "the source `{}` is {}, and `{}` is {} in the container: it does not start with this mount",
            mount.source.display(),
            kind(source_is_dir),
            mount.target,
            kind(target_is_dir)
        )
    })
}

fn look(layout: &Layout, name: &ContainerName, config: &Config) -> Findings {
    let mut found = Findings::default();
    found.limits(config);
    found.wrong.extend(net::check_plan(layout, name, config).err());
    for (guest, network) in &config.network {
        found.interface(layout, guest, network);
    }
    found.mounts(config);
    found.devices(config);
    found.boot(layout, config);
    found.security(config);
    found
}

impl Findings {
    fn no_effect(&mut self, key: &str, why: &str) {
        self.warnings.push(format!("`{key}` has no effect: {why}"));
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        let controllers = Controllers::of_host();
        self.wrong.extend(controllers.as_ref().and_then(|controllers| controllers.require(limits).err()));
        let memory_is_v1 = controllers.as_ref().is_some_and(|controllers| controllers.is_v1("memory"));
        if limits.swap.is_some() && limits.memory.is_none() && memory_is_v1 {
            self.no_effect(
                "limits.swap",
                "this host counts memory and swap together (cgroup v1); set `limits.memory` too",
            );
        }
        if limits.memory_high.is_some() && memory_is_v1 {
            self.no_effect("limits.memory-high", "this host counts memory by cgroup v1, which has no such limit");
        }
        if let (Some(high), Some(most)) = (limits.memory_high, limits.memory)
            && high > most
        {
            self.no_effect("limits.memory-high", &format!("`limits.memory`, {most}, is less and reached first"));
        }
        let has_io = controllers.is_none_or(|controllers| controllers.has("io") || controllers.has("blkio"));
        if limits.io_weight.is_some() && !has_io {
            self.no_effect("limits.io-weight", "this host has no cgroup controller of disks");
        }
        let Some(present) = on_host::processors() else { return };
        if let Some(list) = &limits.cpuset
            && let Some(last) = on_host::highest_of_list(list)
            && last > present
        {
            let message = format!("`limits.cpuset` cannot be `{list}`: the processors of this host are 0 to {present}");
            self.wrong.push(Error::config(message));
        }
    }

    fn interface(&mut self, layout: &Layout, guest: &str, network: &Network) {
        let key = |key: &str| format!("network.{guest}.{key}");
        let (type_name, unused) = unused(network);
        for name in unused {
            self.no_effect(&key(name), &format!("an interface of type `{type_name}` has none"));
        }
        if matches!(network.kind, NetworkType::None | NetworkType::Host) {
            return;
        }
        let is_static = |six: bool| {
            let address = if six { network.ipv6 } else { network.ipv4 };
            matches!(address, Address::Static(_))
        };
        for gateway in network.gateway.iter().filter(|gateway| !is_static(gateway.is_ipv6())) {
            let family = if gateway.is_ipv6() { "ipv6" } else { "ipv4" };
            self.no_effect(
                &format!("{} {gateway}", key("gateway")),
                &format!("`{}` is no address with a prefix length, such as `10.1.2.3/24`", key(family)),
            );
        }
        self.links(layout, guest, network);
        for port in &network.publish {
            let transport = match port.protocol {
                PublishProtocol::Tcp => Transport::Tcp,
                PublishProtocol::Udp => Transport::Udp,
            };
            let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
            let listen = port.listen.map_or(every.to_vec(), |address| vec![address]);
            let mut at = listen.into_iter().map(|address| SocketAddr::new(address, port.host_port));
            if let Some(owner) = at.find_map(|at| ports::owner(transport, at)) {
                self.warnings.push(format!(
                    "`{}`: the port {}/{} of this host is in use by {owner}; the container is reached by it when that ends",
                    key("publish"),
                    port.host_port,
                    port.protocol.name()
                ));
            }
        }
    }

    /// The links of the host that an interface is made on.
    fn links(&mut self, layout: &Layout, guest: &str, network: &Network) {
        let is_veth = network.kind == NetworkType::Veth;
        let (key, link) = if is_veth { ("bridge", &network.bridge) } else { ("parent", &network.parent) };
        let Some(link) = link else { return };
        // lxm makes its own when a container needs them.
        if is_veth && net::is_own_bridge(layout, link) {
            return;
        }
        if !net::bridge::exists(link) {
            self.warnings.push(format!("`network.{guest}.{key}`: there is no link `{link}` on this host yet"));
        } else if is_veth && on_host::is_no_bridge(link) {
            let message = format!("`network.{guest}.bridge` cannot be `{link}`: that link is no bridge");
            let hint = format!(
                "`network.{guest}.type macvlan` with `network.{guest}.parent {link}` gives an address beside it"
            );
            self.wrong.push(Error::config(message).hint(hint));
        }
    }

    fn mounts(&mut self, config: &Config) {
        for (at, mount) in config.mount.iter().enumerate() {
            if !mount.optional && !mount.source.exists() {
                self.warnings.push(format!(
                    "the source `{}` of mount {at} is not there yet; with `mount.{at}.optional true` the container starts \
                     without it",
                    mount.source.display()
                ));
            }
            let target = mount.target.as_path();
            for (later, over) in config.mount.iter().enumerate().skip(at + 1) {
                let over = over.target.as_path();
                if over == target {
                    let message = format!("mounts {at} and {later} have the same target `{}`", target.display());
                    self.wrong
                        .push(Error::config(message).hint(format!("`config unset NAME mount.{at}` removes the first")));
                } else if target.starts_with(over) {
                    let (over, target) = (over.display(), target.display());
                    let message = format!("mount {later} at `{over}` would hide mount {at} at `{target}`");
                    let hint = format!("remove mount {at}, and set it again behind that of `{over}`");
                    self.wrong.push(Error::config(message).hint(hint));
                }
            }
        }
    }

    fn devices(&mut self, config: &Config) {
        for (at, device) in config.device.iter().enumerate() {
            let path = device.path.display();
            match std::fs::metadata(&device.path) {
                Err(_) => self.warnings.push(format!(
                    "the device `{path}` (`device.{at}`) is not there yet; the container does not start without it"
                )),
                Ok(meta) if meta.file_type().is_char_device() || meta.file_type().is_block_device() => {}
                Ok(_) => {
                    let message = format!("`device.{at}.path` cannot be `{path}`: that is no device");
                    self.wrong.push(
                        Error::config(message).hint("files and directories are shown in a container by a `mount`"),
                    );
                }
            }
        }
    }

    fn boot(&mut self, layout: &Layout, config: &Config) {
        for (key, names) in [("autostart-after", &config.boot.autostart_after), ("requires", &config.boot.requires)] {
            for name in names {
                let is_there = name.parse::<ContainerName>().is_ok_and(|name| layout.require(&name).is_ok());
                if !is_there {
                    self.warnings.push(format!("`boot.{key}`: there is no container `{name}`"));
                }
            }
        }
    }

    fn security(&mut self, config: &Config) {
        let security = &config.security;
        if security.privileged && security.idmap != IdMap::Auto {
            self.no_effect("security.idmap", "a privileged container has the host's ids");
        }
        let added = |name: &String| security.capabilities_add.iter().any(|other| capability(other) == capability(name));
        for name in security.capabilities_drop.iter().filter(|name| added(name)) {
            self.warnings.push(format!("the capability `{name}` is both added and dropped; it is dropped"));
        }
        if let Some(init) = config.boot.init.as_deref().filter(|init| *init == Path::new("/")) {
            self.wrong.push(Error::config(format!("`boot.init` cannot be `{}`: that is no program", init.display())));
        }
    }
}

/// The name of an interface's type, and the settings that are set and mean nothing with it.
fn unused(network: &Network) -> (&'static str, Vec<&'static str>) {
    use NetworkType::{Host, Ipvlan, Macvlan, None, Physical, Veth};
    const ALL: &[NetworkType] = &[None, Host, Veth, Macvlan, Ipvlan, Physical];
    const WITH_PARENT: &[NetworkType] = &[Macvlan, Ipvlan, Physical];
    const LINKS: &[NetworkType] = &[Veth, Macvlan, Ipvlan, Physical];
    let named = |address: Address| !matches!(address, Address::None | Address::Dhcp | Address::Auto);
    let names = ["none", "host", "veth", "macvlan", "ipvlan", "physical"];
    let name = ALL.iter().zip(names).find(|(kind, _)| **kind == network.kind).map_or("", |(_, name)| name);
    let table: [(&'static str, bool, &[NetworkType]); 14] = [
        ("bridge", network.bridge.is_some(), &[Veth]),
        ("parent", network.parent.is_some(), WITH_PARENT),
        ("mac", network.mac.is_some(), &[Veth, Macvlan, Physical]),
        ("ipv4", named(network.ipv4), LINKS),
        ("ipv6", named(network.ipv6), LINKS),
        ("gateway", !network.gateway.is_empty(), LINKS),
        ("mtu", network.mtu.is_some(), LINKS),
        ("vlan", network.vlan.is_some(), LINKS),
        ("publish", !network.publish.is_empty(), LINKS),
        ("isolated", network.isolated, LINKS),
        ("allow-addresses", !network.allow_addresses.is_empty(), LINKS),
        ("allow-macs", !network.allow_macs.is_empty(), LINKS),
        ("ingress", network.ingress.is_some(), LINKS),
        ("egress", network.egress.is_some(), LINKS),
    ];
    let unused = table.into_iter().filter(|(_, set, kinds)| *set && !kinds.contains(&network.kind));
    (name, unused.map(|(key, _, _)| key).collect())
}
