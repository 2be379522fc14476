//! What of the kernel the guests' network takes, and what of this host stands in its way.

use super::kernel::Config;
use super::{Check, Verdict};
use crate::net;
use crate::store::Layout;

/// The kernel's part, then each finding about the bridges of lxm's.
pub(super) fn checks(layout: &Layout, config: &Config) -> Vec<Check> {
    let mut checks = modules(config);
    checks.extend(bridges(layout));
    checks
}

fn modules(config: &Config) -> Vec<Check> {
    [
        ("VETH", "veth", Verdict::Missing, "pairs of links between guests and host"),
        ("BRIDGE", "bridge", Verdict::Missing, "bridges that guests are on"),
        ("NF_TABLES", "nf_tables", Verdict::Missing, "address translation and firewalls"),
        ("MACVLAN", "macvlan", Verdict::Lacks, "interfaces of type `macvlan`"),
        ("IPVLAN", "ipvlan", Verdict::Lacks, "interfaces of type `ipvlan`"),
        ("VLAN_8021Q", "8021q", Verdict::Lacks, "the setting `vlan` of macvlan and ipvlan"),
        ("NET_SCH_TBF", "sch_tbf", Verdict::Lacks, "the settings `ingress` and `egress`"),
        ("IFB", "ifb", Verdict::Lacks, "the setting `egress`"),
    ]
    .map(|(option, module, without, what)| config.module("network", option, module, without, what))
    .into()
}

fn bridges(layout: &Layout) -> Vec<Check> {
    if !nix::unistd::geteuid().is_root() {
        let detail = "only root sees what firewalls do to guests";
        return vec![Check::not(Verdict::Unknown, "network", "way", detail, "run `lxm check` as root")];
    }
    match net::check(layout) {
        Ok(found) if found.is_empty() => {
            vec![Check::ok("network", "way", "nothing stands between guests and the network")]
        }
        Ok(found) => {
            let check =
                |finding: net::Finding| Check::not(Verdict::Lacks, "network", finding.id, finding.what, finding.remedy);
            found.into_iter().map(check).collect()
        }
        Err(e) => {
            let remedy = e.hint_text().unwrap_or("see `lxm network show`").to_owned();
            vec![Check::not(Verdict::Unknown, "network", "way", e.to_string(), remedy)]
        }
    }
}
