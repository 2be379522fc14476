//! `[Network]`: which interfaces a machine has, and whether any (settings_private_network(),
//! src/nspawn/nspawn-settings.c).

use super::model::{Link, Nspawn, boolean};
use crate::config::{Network, NetworkType, is_link_name};
use crate::container::random;
use crate::error::Result;
use crate::ops::import::table::{Setting, Taken};

pub(super) fn private(machine: &mut Nspawn, setting: &Setting) -> Taken {
    machine.private = boolean(&setting.value);
    not_boolean(machine.private)
}

pub(super) fn veth(machine: &mut Nspawn, setting: &Setting) -> Taken {
    machine.veth = boolean(&setting.value);
    not_boolean(machine.veth)
}

fn not_boolean(value: Option<bool>) -> Taken {
    value.map_or(Taken::LostFor("it is neither yes nor no".to_owned()), |_| Taken::Over)
}

/// What makes a network of its own, and has no counterpart.
pub(super) fn extra(machine: &mut Nspawn, setting: &Setting) -> Taken {
    machine.is_private_otherwise = true;
    Taken::LostFor(
        match setting.key.as_str() {
            "Network.NamespacePath" => "a guest has a namespace of its own",
            _ => "a guest's `veth` is on a bridge",
        }
        .to_owned(),
    )
}

pub(super) fn bridge(machine: &mut Nspawn, setting: &Setting) -> Taken {
    machine.bridge = Some(setting.value.clone());
    Taken::Over
}

pub(super) fn zone(machine: &mut Nspawn, setting: &Setting) -> Taken {
    machine.zone = Some(format!("vz-{}", setting.value));
    Taken::Over
}

/// `LINK[:NAME]`, several between spaces.
pub(super) fn links(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let (kind, prefix) = match setting.key.as_str() {
        "Network.MACVLAN" => (NetworkType::Macvlan, "mv-"),
        "Network.IPVLAN" => (NetworkType::Ipvlan, "iv-"),
        _ => (NetworkType::Physical, ""),
    };
    for word in setting.value.split_whitespace() {
        let (parent, name) = match word.split_once(':') {
            Some((parent, name)) => (parent, name.to_owned()),
            // A name has at most 15 bytes.
            None => (word, format!("{prefix}{word}").chars().take(15).collect()),
        };
        machine.links.push(Link { kind, parent: parent.to_owned(), name });
    }
    Taken::Over
}

/// `[PROTOCOL:]HOST[:GUEST]`
pub(super) fn port(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let (protocol, ports) = match setting.value.split_once(':') {
        Some((protocol @ ("tcp" | "udp"), ports)) => (protocol, ports),
        _ => ("tcp", setting.value.as_str()),
    };
    let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
    let Ok(port) = format!("{host}:{guest}/{protocol}").parse::<crate::config::PublishedPort>() else {
        return Taken::LostFor("it is no port".to_owned());
    };
    let is_there = machine.ports.iter().any(|had| (had.host_port, had.protocol) == (port.host_port, port.protocol));
    if is_there {
        return Taken::LostFor("the port leads to the guest already".to_owned());
    }
    machine.ports.push(port);
    Taken::Over
}

/// Gives it the interfaces that its settings say it has, whatever their order.
pub(super) fn finish(machine: &mut Nspawn) -> Result<()> {
    let made = &mut machine.made;
    let (bridge, zone) = (machine.bridge.take(), machine.zone.take());
    if bridge.is_some() && zone.is_some() {
        made.notes.push("nspawn starts no machine with a bridge and a zone: it is on the bridge".to_owned());
    }
    let is_first = !made.says_network && !machine.ports.is_empty();
    let has_veth = machine.veth == Some(true) || bridge.is_some() || zone.is_some() || is_first;
    let is_private =
        machine.private == Some(true) || machine.is_private_otherwise || has_veth || !machine.links.is_empty();
    if !made.says_network && !has_veth {
        return Ok(());
    }
    made.says_network = true;
    let only = |kind| Network { kind, ..Network::default() };
    if machine.private == Some(false) && !is_private {
        made.config.network.insert("eth0".into(), only(NetworkType::Host));
    } else if !is_private {
        made.notes.push("under nspawn it may have had the host's network, and has none here".to_owned());
    }
    if has_veth {
        let (bridge, publish) = (bridge.or(zone), std::mem::take(&mut machine.ports));
        let mac = Some(random::mac()?);
        made.config.network.insert("host0".into(), Network { bridge, publish, mac, ..Network::default() });
    }
    for Link { kind, parent, name } in std::mem::take(&mut machine.links) {
        if made.config.network.contains_key(&name) || !is_link_name(&parent) {
            made.notes.push(format!(
                "not taken over: interface `{name}` at `{parent}`: there is another one, or no such link"
            ));
            continue;
        }
        let mac = (kind != NetworkType::Physical).then(random::mac).transpose()?;
        made.config.network.insert(name, Network { kind, parent: Some(parent), mac, ..Network::default() });
    }
    made.notes.extend(
        machine.ports.iter().map(|port| format!("not taken over: `Port={port}`: only a `veth` has published ports")),
    );
    if made.config.network.is_empty() {
        made.config.network.insert("eth0".into(), only(NetworkType::None));
    }
    Ok(())
}
