//! Whether a container is at home. One that is found elsewhere was moved or copied by hand; which of the two
//! is decided by looking for the other one: without another one it was moved, and is the container as before.

use super::{ClaimOwner, Clash, claims, table};
use crate::error::{Error, Result};
use crate::store::{AliveLock, Home, Layout, Origin};
use crate::types::ContainerName;

/// Refuses a container that is a copy, made by hand, of one that is still there. One that was moved
/// is at home from now on.
///
/// Costs one small file where the container is at home.
pub(crate) fn require_own(layout: &Layout, name: &ContainerName) -> Result<()> {
    let (place, here) = (layout.container(name), Home::of(layout, name));
    match Home::read(&place)? {
        Some(home) if home == here => Ok(()),
        Some(Home { adopting: true, .. }) => Err(Error::conflict(format!(
            "`{}` was interrupted: its identity is incomplete",
            layout.adopt_command(name)
        ))
        .hint(format!("run `{}` again", layout.adopt_command(name)))),
        home => match original(layout, name, home.as_ref())? {
            None => here.write(&place),
            Some(error) => Err(error),
        },
    }
}

/// Why a container that came from `home` is not the only one of its kind; `None` where it is.
///
/// A container made before this record existed has no known home: it is the original unless another one is
/// known to be, by its home or because it runs.
fn original(layout: &Layout, name: &ContainerName, home: Option<&Home>) -> Result<Option<Error>> {
    let origin = Origin::read(layout, name)?;
    let claims = claims::of(layout, name, &layout.config(name)?, &origin)?;
    let mut layouts = layout.known();
    if let Some(home) = home {
        let old = Layout::new(layout.root()).with_containers(&home.directory);
        if !layouts.iter().any(|known| known.containers() == old.containers()) {
            layouts.push(old);
        }
    }
    let mut clashes = table::clashes_in(layouts, layout, name, &claims)?.into_iter();
    let is_identity = |claim: &claims::Claim| matches!(claim, claims::Claim::Uuid(_) | claims::Claim::Upper(_));
    let counts = |clash: &Clash| is_identity(&clash.claim) && (home.is_some() || is_settled(&clash.holder));
    Ok(clashes.find(counts).map(|clash| {
        let holder = clash.holder.seen_from(layout);
        Error::conflict(format!("`{name}` is a copy of {holder}: both have {}", clash.claim)).hint(format!(
            "`{}` makes it a separate container; if the other one is deleted, this one starts without that",
            layout.adopt_command(name)
        ))
    }))
}

/// Whether a container is at home, or runs.
fn is_settled(ClaimOwner { layout, name }: &ClaimOwner) -> bool {
    let home = Home::read(&layout.container(name)).ok().flatten();
    home.as_ref() == Some(&Home::of(layout, name)) || AliveLock::is_held(layout, name).unwrap_or(true)
}
