//! A bridge of lxm's made in the kernel as its settings say, and made again where somebody has deleted it.

use std::path::PathBuf;

use rtnetlink::{Handle, LinkUnspec};

use super::link::{address, exists, make, settings_of_kernel, usable};
use crate::config::bridge::{BridgeSettings, NetworkFile};
use crate::error::{Context, Error, Result};
use crate::net::netlink::Netlink;
use crate::net::{owner, repair, rules};
use crate::store::{FileLock, Layout};

/// Makes the bridge, or what is missing of it, and puts the guests that run on it again; returns its index and its
/// settings as far as the kernel has what they ask for. Safe to repeat.
pub(super) fn raise(
    layout: &Layout,
    netlink: &Netlink,
    host: &Handle,
    name: &str,
    settings: BridgeSettings,
) -> Result<(u32, BridgeSettings)> {
    let index = netlink.run(make(&owner::mark(layout)?, host, name, &settings))?;
    let settings = usable(name, settings);
    settings_of_kernel(name, &settings)?;
    netlink.run(address(host, index, &settings))?;
    rules::apply(layout)?;
    // Up last of all: whoever finds it up finds everything else done.
    netlink.run(async {
        repair::mend_ports(layout, host, name).await?;
        let link = LinkUnspec::new_with_index(index).up().build();
        host.link().change(link).execute().await.context(|| format!("bring up `{name}`"))
    })?;
    Ok((index, settings))
}

/// For a server that is started where its bridge was deleted under guests that run: makes it again, unless
/// somebody deletes it each time.
pub(crate) fn again(layout: &Layout, name: &str) -> Result<()> {
    if exists(name) || !repair::has_guests(layout, name) {
        return Ok(());
    }
    let Some(settings) = NetworkFile::load(layout)?.bridge.remove(name) else { return Ok(()) };
    // Who has it makes the bridge or removes it, and may be waiting for the server.
    let Some(_lock) = FileLock::try_acquire(&lock_file(layout))? else {
        return Err(Error::conflict(format!("bridge `{name}` is gone, and another command changes bridges now")));
    };
    if exists(name) || !repair::may_make_again(layout, name)? {
        return Ok(());
    }
    let netlink = Netlink::new()?;
    let host = netlink.open()?;
    raise(layout, &netlink, &host, name, settings).map(drop).context(|| format!("make bridge `{name}` again"))
}

/// Locked by what makes, changes or removes a bridge.
pub(super) fn lock_file(layout: &Layout) -> PathBuf {
    layout.network_run().join("lock")
}
