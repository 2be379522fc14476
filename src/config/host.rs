use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

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
