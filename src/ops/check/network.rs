//! What of the kernel the guests' network takes, and what of this host stands in its way.

use super::kernel::KernelConfig;
use super::{CheckResult, CheckVerdict};
use crate::net;
use crate::store::Layout;

/// The kernel's part, then each finding about the bridges of lxm's.
pub(super) fn checks(layout: &Layout, config: &KernelConfig) -> Vec<CheckResult> {
    let mut checks = modules(config);
    checks.extend(bridges(layout));
    checks
}

fn modules(config: &KernelConfig) -> Vec<CheckResult> {
    [
        ("VETH", "veth", CheckVerdict::Missing, "pairs of links between guests and host"),
        ("BRIDGE", "bridge", CheckVerdict::Missing, "bridges that guests are on"),
        ("NF_TABLES", "nf_tables", CheckVerdict::Missing, "address translation and firewalls"),
        ("MACVLAN", "macvlan", CheckVerdict::Lacks, "interfaces of type `macvlan`"),
        ("IPVLAN", "ipvlan", CheckVerdict::Lacks, "interfaces of type `ipvlan`"),
        ("VLAN_8021Q", "8021q", CheckVerdict::Lacks, "the setting `vlan` of macvlan and ipvlan"),
        ("NET_SCH_TBF", "sch_tbf", CheckVerdict::Lacks, "the settings `ingress` and `egress`"),
        ("IFB", "ifb", CheckVerdict::Lacks, "the setting `egress`"),
    ]
    .map(|(option, module, without, what)| config.module("network", option, module, without, what))
    .into()
}

fn bridges(layout: &Layout) -> Vec<CheckResult> {
    if !nix::unistd::geteuid().is_root() {
        let detail = "only root sees what firewalls do to guests";
        return vec![CheckResult::not(CheckVerdict::Unknown, "network", "way", detail, "run `lxm check` as root")];
    }
    match net::check(layout) {
        Ok(found) if found.is_empty() => {
            vec![CheckResult::ok("network", "way", "nothing stands between guests and the network")]
        }
        Ok(found) => {
            let check = |finding: net::Finding| {
                CheckResult::not(CheckVerdict::Lacks, "network", finding.id, finding.what, finding.remedy)
            };
            found.into_iter().map(check).collect()
        }
        Err(e) => {
            let remedy = e.hint_text().unwrap_or("see `lxm network show`").to_owned();
            vec![CheckResult::not(CheckVerdict::Unknown, "network", "way", e.to_string(), remedy)]
        }
    }
}
