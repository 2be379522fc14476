//! Kernel settings of the network namespace that this thread is in.

use crate::error::{Context, Result};

/// Writes `value` to `/proc/sys/PATH`, unless it is there already.
pub(super) fn set(path: &str, value: &str) -> Result<()> {
    let file = format!("/proc/sys/{path}");
    let step = || format!("set `{}` to {value}", path.replace('/', "."));
    if std::fs::read_to_string(&file).context(step)?.trim() != value {
        std::fs::write(&file, value).context(step)?;
    }
    Ok(())
}

/// Turns IPv6 forwarding on without cutting the host off.
///
/// A host that forwards ignores router advertisements unless `accept_ra` is 2: one that has its own
/// default route from them would lose it when the route ends.
pub(super) fn forward_ipv6() -> Result<()> {
    if read("net/ipv6/conf/all/forwarding").is_some_and(|value| value == "1") {
        return Ok(());
    }
    let links = std::fs::read_dir("/proc/sys/net/ipv6/conf").context(|| "list the settings of links")?;
    for link in links.flatten() {
        let setting = format!("net/ipv6/conf/{}/accept_ra", link.file_name().to_string_lossy());
        if read(&setting).is_some_and(|value| value == "1") {
            set(&setting, "2")?;
        }
    }
    set("net/ipv6/conf/all/forwarding", "1")
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|value| value.trim().to_owned())
}

/// Whether a link of this namespace has IPv6: an administrator may have turned it off
/// (`net.ipv6.conf.all.disable_ipv6`), or for links that are made from now on (`…default…`).
pub(super) fn has_ipv6_on(link: &str) -> bool {
    read(&format!("net/ipv6/conf/{link}/disable_ipv6")).is_some_and(|value| value == "0")
}

/// Whether this kernel has IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").is_dir()
}
