//! `lxm network`: the bridges of lxm, and the processes that serve them.

use clap::Subcommand;
use ipnetwork::{Ipv4Network, Ipv6Network};

use super::config::pairs;
use super::{Context, Format, render, require_root};
use crate::error::{Error, Result};
use crate::ops::network::{self, BridgeView, DEFAULT_BRIDGE, New, Readiness};
use crate::types::ContainerName;

/// Manage bridges with their DHCP and DNS servers
///
/// The first container with a network creates the bridge `lxmbr0`: nothing has to be set up.
#[derive(Debug, clap::Args)]
pub(super) struct Network {
    #[command(subcommand)]
    verb: NetworkVerb,
}

#[derive(Debug, Subcommand)]
enum NetworkVerb {
    /// Show all bridges, or one with its containers
    #[command(visible_aliases = ["list", "ls"])]
    Show {
        /// Bridge
        bridge: Option<String>,
    },
    /// Bring a bridge up, with firewall rules, DHCP and DNS
    Up {
        /// Bridge
        #[arg(default_value = DEFAULT_BRIDGE)]
        bridge: String,
    },
    /// Take a bridge down; its settings and leases are kept
    Down {
        /// Bridge
        #[arg(default_value = DEFAULT_BRIDGE)]
        bridge: String,
    },
    /// Change a setting of a bridge
    ///
    /// KEY is one of ipv4, ipv6, nat, routed, dhcp, domain, range, lease-time, upstream, private-names,
    /// ntp, route and mtu, as in /etc/lxm/network.toml. Lists are separated by commas. An empty VALUE
    /// restores the default; `auto` chooses a free network; `ipv6 none` leaves IPv6 out.
    ///
    /// routed: whether other hosts can reach the containers directly, not only their published ports.
    /// The default is true without `nat`, else false.
    ///
    /// private-names: domains whose names may resolve to private addresses, or `*` for all. For other
    /// domains such DNS answers are dropped, which protects against DNS rebinding by web pages.
    /// The host's search domains and domains that cannot be registered, such as `internal`,
    /// `home.arpa` and `lan`, are always allowed.
    Set {
        /// Bridge
        bridge: String,
        /// Setting, as KEY VALUE or KEY=VALUE
        #[arg(value_name = "KEY VALUE", required = true, num_args = 1..=3)]
        setting: Vec<String>,
    },
    Create(CreateBridge),
    /// Delete a bridge with its settings
    #[command(visible_alias = "rm")]
    Delete {
        /// Bridge
        bridge: String,
    },
    Serve(Serve),
    /// Carry the published ports of a running container
    #[command(hide = true)]
    Publish {
        name: ContainerName,
    },
    /// Keep the leases of a running container that asks for none
    #[command(hide = true)]
    Lease {
        name: ContainerName,
    },
}

impl Network {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let layout = &context.layout;
        let known = |name: &str| network::bridge_name(layout, name);
        match self.verb {
            NetworkVerb::Show { bridge: Some(bridge) } => {
                return show_one(context, &network::look(layout, &known(&bridge)?)?);
            }
            NetworkVerb::Show { bridge: None } => return show_all(context, &network::list(layout)?),
            NetworkVerb::Serve(verb) => return verb.run(context),
            NetworkVerb::Publish { name } => {
                require_root("publish ports")?;
                return network::publish(layout, &name).map(|()| 0);
            }
            NetworkVerb::Lease { name } => {
                require_root("keep leases")?;
                return network::lease(layout, &name).map(|()| 0);
            }
            _ => require_root("change the network")?,
        }
        let bridge = match self.verb {
            NetworkVerb::Create(verb) => verb.run(context)?,
            NetworkVerb::Up { bridge } => on(known(&bridge)?, |bridge| network::up(layout, bridge))?,
            NetworkVerb::Down { bridge } => on(known(&bridge)?, |bridge| network::down(layout, bridge))?,
            NetworkVerb::Delete { bridge } => on(known(&bridge)?, |bridge| network::delete(layout, bridge))?,
            NetworkVerb::Set { bridge, setting } => {
                let settings = pairs(&setting)?;
                let [(key, value)] = settings[..] else {
                    return Err(Error::usage("one setting of a bridge is changed at a time"));
                };
                on(known(&bridge)?, |bridge| set(context, bridge, key, value))?
            }
            NetworkVerb::Show { .. } | NetworkVerb::Serve(_) => return Ok(0),
            NetworkVerb::Publish { .. } | NetworkVerb::Lease { .. } => return Ok(0),
        };
        context.done(bridge, ())
    }
}

/// The bridge that something was done to.
fn on(bridge: String, what: impl FnOnce(&str) -> Result<()>) -> Result<String> {
    what(&bridge)?;
    Ok(bridge)
}

fn set(context: &Context, bridge: &str, key: &str, value: &str) -> Result<()> {
    let before = network::look(&context.layout, bridge)?;
    network::set(&context.layout, bridge, key, value)?;
    let now = network::look(&context.layout, bridge)?;
    if (before.ipv4, before.ipv6) != (now.ipv4, now.ipv6) && !now.guests.is_empty() {
        let names: Vec<&str> = now.guests.iter().map(|guest| guest.name.as_str()).collect();
        let names = names.join(" ");
        let restart = context.layout.command(format_args!("restart {names}"));
        context.say(&format!("running containers keep their old addresses until they are restarted: `{restart}`"));
    }
    Ok(())
}

fn show_all(context: &Context, bridges: &[BridgeView]) -> Result<u8> {
    if context.format == Format::Json {
        return render::json(bridges).map(|()| 0);
    }
    let rows = bridges.iter().map(|bridge| {
        [
            bridge.name.clone(),
            state(bridge).to_owned(),
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

fn state(bridge: &BridgeView) -> &'static str {
    match bridge.up {
        true if bridge.faults.is_empty() => "UP",
        true => "FAULTY",
        false => "DOWN",
    }
}

fn show_one(context: &Context, bridge: &BridgeView) -> Result<u8> {
    if context.format == Format::Json {
        return render::json(bridge).map(|()| 0);
    }
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push(format!("{:<16}{value}", format!("{key}:")));
    line("Name", bridge.name.clone());
    line("State", state(bridge).into());
    bridge.faults.iter().for_each(|fault| line("Fault", fault.clone()));
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
    bridge.exhausted.iter().for_each(|why| line("Leases", why.clone()));
    for guest in &bridge.guests {
        let addresses: Vec<String> = guest.addresses.iter().map(ToString::to_string).collect();
        line("Guest", format!("{} {} {}", guest.name, guest.mac, addresses.join(" ")));
    }
    render::text(&format!("{}\n", lines.join("\n"))).map(|()| 0)
}

#[derive(Debug, Clone, Copy)]
enum Ipv6Choice {
    None,
    Of(Ipv6Network),
}

fn ipv6_or_none(text: &str) -> std::result::Result<Ipv6Choice, ipnetwork::IpNetworkError> {
    if text == "none" { Ok(Ipv6Choice::None) } else { text.parse().map(Ipv6Choice::Of) }
}

/// Create another bridge and bring it up
#[derive(Debug, clap::Args)]
struct CreateBridge {
    /// Name of the bridge
    bridge: String,

    /// IPv4 network, or the bridge's address with prefix length [default: a free private /20]
    #[arg(long, visible_alias = "ipv4", value_name = "NETWORK")]
    subnet: Option<Ipv4Network>,

    /// IPv6 network, a /64, or `none` [default: a random unique local one]
    #[arg(long, value_name = "NETWORK", value_parser = ipv6_or_none)]
    ipv6: Option<Ipv6Choice>,

    /// No NAT: containers use their own addresses outside, which other routers must know
    #[arg(long)]
    no_nat: bool,

    /// No DHCP, router advertisements and DNS: containers need static addresses
    #[arg(long)]
    no_dhcp: bool,
}

impl CreateBridge {
    fn run(self, context: &Context) -> Result<String> {
        let (ipv6, without_ipv6) = match self.ipv6 {
            None => (None, false),
            Some(Ipv6Choice::None) => (None, true),
            Some(Ipv6Choice::Of(net)) => (Some(net), false),
        };
        let new = New { ipv4: self.subnet, ipv6, without_ipv6, without_nat: self.no_nat, without_dhcp: self.no_dhcp };
        network::create(&context.layout, &self.bridge, &new)?;
        Ok(self.bridge)
    }
}

/// Run the DHCP and DNS server of a bridge in the foreground
///
/// For the unit lxm-net@.service. On a host without systemd the first container on the bridge starts
/// this server itself.
#[derive(Debug, clap::Args)]
struct Serve {
    /// Bridge
    bridge: String,

    /// Say on standard output when names and leases are served, then leave the session
    #[arg(long, hide = true)]
    spawned: bool,
}

impl Serve {
    fn run(self, context: &Context) -> Result<u8> {
        require_root("serve leases")?;
        let readiness = if self.spawned { Readiness::Stdout } else { Readiness::Notify };
        network::serve(&context.layout, &self.bridge, readiness).map(|()| 0)
    }
}
