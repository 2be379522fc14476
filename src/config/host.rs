//! `lxm.toml`: the defaults of a host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::types::{Size, Timeout};

/// The host's defaults, `/etc/lxm/lxm.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HostConfig {
    /// Where the containers are; unset means `/var/lib/lxm`.
    pub path: Option<PathBuf>,
    /// Mirror to make systems from, by template name.
    pub mirror: BTreeMap<String, String>,
    /// Template of a `create` without `-t`.
    pub template: Option<String>,
    /// Storage backend of a `create` without `--storage`.
    pub storage: Option<String>,
    /// Most bytes a console log grows to before its older half is dropped.
    pub console_log_size: Option<Size>,
    /// How long all containers together may take when the host shuts down; then the rest is
    /// killed. Unset means 3 minutes.
    pub shutdown_timeout: Option<Timeout>,
    pub network: HostNetwork,
}

impl HostConfig {
    /// What can be used of a text that is wrong somewhere: every setting that is right by itself. Of one that
    /// is no TOML these are lines before the first table.
    pub(crate) fn salvage(text: &str) -> Self {
        let is_right = |table: Table| table.try_into::<HostConfig>().is_ok();
        let of = |key: &str, value: &Value| Table::from_iter([(key.to_owned(), value.clone())]);
        let mut table = text.parse::<Table>().unwrap_or_else(|_| {
            let lines = text.lines().take_while(|line| !line.trim_start().starts_with('['));
            lines.filter_map(|line| line.parse::<Table>().ok()).flatten().collect()
        });
        if let Some(Value::Table(network)) = table.get_mut("network") {
            network.retain(|key, value| is_right(of("network", &of(key, value).into())));
        }
        table.retain(|key, value| is_right(of(key, value)));
        table.try_into().unwrap_or_default()
    }

    /// How long all containers together may take when the host shuts down.
    pub(crate) fn shutdown_budget(&self) -> Duration {
        self.shutdown_timeout.map_or(Duration::from_secs(180), |timeout| timeout.get())
    }
}

/// `[network]` of `lxm.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HostNetwork {
    /// What a new container is wired to: a bridge, `none` or `host`.
    pub default: String,
    /// Subnet of the default bridge; unset means a free private one is chosen and kept.
    pub ipv4: Option<Ipv4Network>,
    pub ipv6: Option<Ipv6Network>,
    /// Domain of the guests' names.
    pub domain: String,
    /// Upstream DNS servers; unset means the host's own.
    pub upstream: Vec<std::net::IpAddr>,
}

impl Default for HostNetwork {
    fn default() -> Self {
        HostNetwork { default: "lxmbr0".into(), ipv4: None, ipv6: None, domain: "lxm".into(), upstream: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_takes_no_other_setting_with_it() {
        let table = "templte = 'x'\npath = '/srv'\nshutdown-timeout = 'soon'\n[network]\ndefault = 'br0'\ndomain = 7\n";
        let read = HostConfig::salvage(table);
        assert_eq!((read.path.as_deref(), read.network.default.as_str()), (Some("/srv".as_ref()), "br0"));
        assert_eq!((read.shutdown_timeout, read.network.domain.as_str()), (None, "lxm"));
        let broken = "storage = dir\npath = '/srv'\n[network\npath = '/other'\n";
        let read = HostConfig::salvage(broken);
        assert_eq!((read.path.as_deref(), read.storage), (Some("/srv".as_ref()), None));
        assert_eq!(HostConfig::salvage("]]"), HostConfig::default());
    }
}
