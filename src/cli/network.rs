use clap::Subcommand;
use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{Context, Format, render, require_root};
use crate::error::Result;
use crate::net::server::{self, Readiness};
use crate::net::{self, bridge, owner};
use crate::ops::network::{self, New, Seen};
use crate::types::ContainerName;

/// Bridges, leases and names
///
/// The first container with a network makes the bridge `lxmbr0`; nothing has to be set up.
#[derive(Debug, clap::Args)]
pub struct Network {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the bridges; one of them with its guests
    Show {
        bridge: Option<String>,
    },
    /// Make a bridge ready: link, addresses, rules, leases and names
    Up {
        #[arg(default_value = owner::DEFAULT_BRIDGE)]
        bridge: String,
    },
    /// Take a bridge down; its settings and leases stay
    Down {
        #[arg(default_value = owner::DEFAULT_BRIDGE)]
        bridge: String,
    },
    /// Change a setting of a bridge
    ///
    /// KEY is one of ipv4, ipv6, nat, routed, dhcp, domain, range, lease-time, upstream, private-names,
    /// ntp, route and mtu, as in /etc/lxm/network.toml. Lists are separated by commas; an empty VALUE
    /// is the default, and `auto` chooses a free network.
    ///
    /// Others than this host and its guests reach published ports alone, unless `routed` is true, which
    /// is the default without `nat`. Answers with private addresses under names of others are kept from
    /// guests, since web pages attack with them; `private-names` lists the domains that may have such,
    /// and `*` stands for all. The host's own search domains and names that nobody can register, as
    /// those in `internal`, `home.arpa` and `lan`, may anyway.
    Set {
        bridge: String,
        key: String,
        value: String,
    },
    Create(Create),
    /// Take a bridge down and forget it
    #[command(visible_alias = "rm")]
    Delete {
        bridge: String,
    },
    Serve(Serve),
    /// Carry the published ports of a running container
    #[command(hide = true)]
    Publish {
        name: ContainerName,
    },
}

impl Network {
    pub fn run(self, context: &Context) -> Result<u8> {
        let layout = &context.layout;
        let known = |name: &str| owner::bridge_name(layout, name);
        match self.verb {
            Verb::Show { bridge: Some(bridge) } => return show_one(context, &network::look(layout, &known(&bridge)?)?),
            Verb::Show { bridge: None } => return show_all(context, &network::list(layout)?),
            Verb::Serve(verb) => return verb.run(context),
            Verb::Publish { name } => {
                require_root("publish ports")?;
                return net::publish::run(layout, &name).map(|()| 0);
            }
            _ => require_root("change the network")?,
        }
        match self.verb {
            Verb::Up { bridge } => {
                net::bridge::up(layout, &known(&bridge)?)?;
                net::rules::repair(layout)?;
            }
            Verb::Down { bridge } => bridge::down(layout, &known(&bridge)?)?,
            Verb::Set { bridge, key, value } => set(context, &known(&bridge)?, &key, &value)?,
            Verb::Create(verb) => verb.run(context)?,
            Verb::Delete { bridge } => network::delete(layout, &known(&bridge)?)?,
            Verb::Show { .. } | Verb::Serve(_) | Verb::Publish { .. } => {}
        }
        Ok(0)
    }
}

fn set(context: &Context, bridge: &str, key: &str, value: &str) -> Result<()> {
    let before = network::look(&context.layout, bridge)?;
    network::set(&context.layout, bridge, key, value)?;
    let now = network::look(&context.layout, bridge)?;
    if (before.ipv4, before.ipv6) != (now.ipv4, now.ipv6) && !now.guests.is_empty() {
        let names: Vec<&str> = now.guests.iter().map(|guest| guest.name.as_str()).collect();
        let names = names.join(" ");
        let restart = context.layout.command(format_args!("restart {names}"));
        context.say(&format!("guests keep their old addresses until they ask again: `{restart}`"));
    }
    Ok(())
}

fn show_all(context: &Context, bridges: &[Seen]) -> Result<u8> {
    if context.format == Format::Json {
        return render::json(bridges).map(|()| 0);
    }
    let rows = bridges.iter().map(|bridge| {
        [
            bridge.name.clone(),
            if bridge.up { "UP" } else { "DOWN" }.to_owned(),
            bridge.ipv4.map_or_else(|| "-".to_owned(), |net| net.to_string()),
            bridge.ipv6.map_or_else(|| "-".to_owned(), |net| net.to_string()),
            bridge.nat.to_string(),
            bridge.dhcp.to_string(),
            bridge.guests.len().to_string(),
            format!("{}/{}", bridge.leased, bridge.pool_size),
        ]
    });
    render::table(&["NAME", "STATE", "IPV4", "IPV6", "NAT", "DHCP", "GUESTS", "LEASES"], rows).map(|()| 0)
}

fn show_one(context: &Context, bridge: &Seen) -> Result<u8> {
    if context.format == Format::Json {
        return render::json(bridge).map(|()| 0);
    }
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{:<16}{value}", format!("{key}:")));
    line("Name", bridge.name.clone());
    line("State", if bridge.up { "UP" } else { "DOWN" }.into());
    line("IPv4", bridge.ipv4.map_or_else(|| "-".into(), |net| net.to_string()));
    line("IPv6", bridge.ipv6.map_or_else(|| "-".into(), |net| net.to_string()));
    line("NAT", bridge.nat.to_string());
    line("Routed", bridge.routed.to_string());
    line("DHCP", bridge.dhcp.to_string());
    line("Domain", bridge.domain.clone());
    line("Server", if bridge.serving { "running" } else { "not running" }.into());
    if let Some(fault) = &bridge.names_fault {
        line("Names", format!("not served: {fault}"));
    }
    line("Leases", format!("{} of {}", bridge.leased, bridge.pool_size));
    for guest in &bridge.guests {
        let addresses: Vec<String> = guest.addresses.iter().map(ToString::to_string).collect();
        line("Guest", format!("{} {} {}", guest.name, guest.mac, addresses.join(" ")));
    }
    render::text(&format!("{}\n", lines.join("\n"))).map(|()| 0)
}

/// Make another bridge, and bring it up
#[derive(Debug, clap::Args)]
struct Create {
    bridge: String,

    /// IPv4 network, or the bridge's address in it [default: a free private /24]
    #[arg(long, visible_alias = "ipv4", value_name = "NETWORK")]
    subnet: Option<Ipv4Network>,

    /// IPv6 /64 [default: a unique local one]
    #[arg(long, value_name = "NETWORK")]
    ipv6: Option<Ipv6Network>,

    /// Guests reach the outside under their own addresses, which it must have routes to
    #[arg(long)]
    no_nat: bool,

    /// No leases, advertisements and names: guests have static addresses
    #[arg(long)]
    no_dhcp: bool,
}

impl Create {
    fn run(self, context: &Context) -> Result<()> {
        let new = New { ipv4: self.subnet, ipv6: self.ipv6, without_nat: self.no_nat, without_dhcp: self.no_dhcp };
        network::create(&context.layout, &self.bridge, &new)
    }
}

/// Gives leases and answers for names on a bridge, until told to stop
///
/// One process a bridge, in the foreground: for the unit lxm-net@.service. Where no service
/// manager runs, the first container with a network starts it.
#[derive(Debug, clap::Args)]
struct Serve {
    bridge: String,

    /// Say on standard output when names and leases are served, then leave the session
    #[arg(long, hide = true)]
    spawned: bool,
}

impl Serve {
    fn run(self, context: &Context) -> Result<u8> {
        require_root("serve leases")?;
        let readiness = if self.spawned { Readiness::Stdout } else { Readiness::Notify };
        server::run(&context.layout, &self.bridge, readiness).map(|()| 0)
    }
}
