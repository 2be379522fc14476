//! What of a configuration that others wrote is taken: what `lxm config set` and `lxm start` take too.

use std::collections::BTreeMap;
use std::path::Path;

use super::options::ImportOptions;
use crate::config::{Config, Document, KeyPath};
use crate::container::random;
use crate::error::{Error, Result};
use crate::net;
use crate::ops::autostart;
use crate::ops::create;
use crate::ops::trust::{Base, restrict};
use crate::store::Layout;
use crate::types::ContainerName;

/// The configuration `text` of the new container `name`, without what no start takes, and without what gives
/// more than a fresh container has, unless it is trusted. Adds to `notes` what is left out.
pub(super) fn accepted(
    layout: &Layout,
    name: &ContainerName,
    text: &str,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Document> {
    let mut document = Document::parse(text, Path::new("config.toml"))?;
    if document.config().version != 1 {
        return Err(Error::config("its configuration is of a newer lxm"));
    }
    without_unfit(&mut document, notes)?;
    if document.config().uuid.is_empty() {
        document.set([(&KeyPath::of(["uuid"]), random::uuid()?.as_str())])?;
    }
    let fresh = create::network(&layout.host_config()?.network.default)?;
    let base = Base { config: &Config::default(), document: None, fresh: Some(&fresh) };
    let mut unrestricted = document.clone();
    let restricted = if options.trust { &mut unrestricted } else { &mut document };
    let excess = restrict(restricted, &base)?;
    let what = if options.trust { "taken over on trust" } else { "not taken over" };
    notes.extend(excess.iter().map(|setting| format!("{what}: {setting}")));
    if !options.trust && !excess.is_empty() {
        notes.push(
            "a new container has none of these; `--trust` keeps them: use it only for sources that you trust"
                .to_owned(),
        );
    }
    if let Some(size) = options.id_range_size {
        document.set([(&KeyPath::of(["security", "id-range-size"]), size.to_string().as_str())])?;
    }
    interfaces(layout, name, &mut document, notes)?;
    sources(&mut document, notes)?;
    autostart::check(layout, name, document.config())?;
    Ok(document)
}

/// Takes away what no start takes.
pub(super) fn without_unfit(document: &mut Document, notes: &mut Vec<String>) -> Result<()> {
    // The last first: each is an element of a list, and what is after it moves up.
    for unfit in document.config().unfit().iter().rev() {
        notes.push(format!("not taken over: {}", unfit.error()));
        // An interface without its link would be on another one: the default bridge, which it may have been
        // kept from.
        document.unset(&unfit.key.interface_of_link().unwrap_or_else(|| unfit.element()))?;
    }
    document.config().unfit().first().map_or(Ok(()), |unfit| Err(unfit.error()))
}

/// Takes away interfaces, and addresses of them, that no start could make.
fn interfaces(layout: &Layout, name: &ContainerName, document: &mut Document, notes: &mut Vec<String>) -> Result<()> {
    for (interface, network) in document.config().network.clone() {
        let alone = Config { network: BTreeMap::from([(interface.clone(), network)]), ..document.config().clone() };
        if let Err(e) = net::check_plan(layout, name, &alone) {
            notes.push(format!("not taken over: interface `{interface}`: {e}"));
            document.unset(&KeyPath::of(["network", &interface]))?;
        } else if let Err(e) = net::check_addresses(layout, name, &alone) {
            notes.push(format!("not taken over: the address of `{interface}`: {e}"));
            for key in ["ipv4", "ipv6", "gateway"] {
                document.unset(&KeyPath::of(["network", &interface, key]))?;
            }
        }
    }
    net::check_plan(layout, name, document.config())
}

/// What is not on this host keeps no container from starting: mounts wait for their source, devices are
/// left out.
fn sources(document: &mut Document, notes: &mut Vec<String>) -> Result<()> {
    for (at, mount) in document.config().mount.clone().iter().enumerate() {
        if !mount.optional && mount.source.symlink_metadata().is_err() {
            notes.push(format!(
                "`{}` is not on this host: it starts without the mount at `{}` until it is there (`mount.{at}.optional`)",
                mount.source.display(),
                mount.target
            ));
            document.set([(&KeyPath::of(["mount", &at.to_string(), "optional"]), "true")])?;
        }
    }
    // The last first: those after one that is taken away move up.
    for (at, device) in document.config().device.clone().iter().enumerate().rev() {
        if device.path.metadata().is_err() {
            notes.push(format!("not taken over: device `{}`, which this host does not have", device.path.display()));
            document.unset(&KeyPath::of(["device", &at.to_string()]))?;
        }
    }
    Ok(())
}
