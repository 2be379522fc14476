//! `lxm adopt`: makes a container of a directory that was copied or moved by hand.

use crate::config::Config;
use crate::container::new_identity::renew;
use crate::distro::{self, HostKeys, Identity};
use crate::error::{Context, Error, Result};
use crate::identity::{self, Claim};
use crate::storage::{self, Tree, is_mount_point};
use crate::store::{self, AliveLock, Home, Layout, OperationLock, Origin, ids};
use crate::sys::fs::read_text;
use crate::types::ContainerName;

/// The identity of an adopted container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// The container that it was: moved, or restored from a backup.
    Itself,
    /// Another one: a copy.
    Another,
}

/// Adopts a stopped container; returns the settings that were left out because only one container can
/// have them.
///
/// As itself it is refused where another container has its identity. As another one it is given a
/// new one; a kill on the way leaves it marked, and it is adopted again from the beginning.
pub(crate) fn adopt(layout: &Layout, name: &ContainerName, who: As) -> Result<Vec<String>> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    let adopted = || -> Result<Vec<String>> {
        if AliveLock::is_held(layout, name)? {
            return Err(Error::conflict("it is running")
                .hint(format!("`{}` first", layout.command(format_args!("stop {name}")))));
        }
        if is_mount_point(&layout.rootfs(name))? {
            return Err(Error::conflict("its files are mounted")
                .hint(format!("`{}` first", layout.command(format_args!("umount {name}")))));
        }
        layout.note()?;
        match who {
            As::Itself => as_itself(layout, name).map(|()| Vec::new()),
            As::Another => as_another(layout, name),
        }
    };
    adopted().context(|| format!("adopt `{name}`"))
}

/// The containers of this directory that are not at home.
pub(crate) fn not_at_home(layout: &Layout) -> Result<Vec<ContainerName>> {
    let mut not_at_home = Vec::new();
    for name in layout.names()? {
        if !Home::is_here(layout, &name)? {
            not_at_home.push(name);
        }
    }
    Ok(not_at_home)
}

fn as_itself(layout: &Layout, name: &ContainerName) -> Result<()> {
    let place = layout.container(name);
    let home = Home::read(&place)?;
    let half_done = home.as_ref().is_some_and(|home| home.adopting);
    if half_done {
        return Err(Error::conflict("an earlier `lxm adopt --new-identity` was interrupted")
            .hint(format!("`{}` gives it one", layout.adopt_command(name))));
    }
    let claims = identity::of(layout, name, &layout.config(name)?, &Origin::read(layout, name)?)?;
    if let Some(clash) = identity::clashes(layout, name, &claims)?.first() {
        let holder = clash.holder.seen_from(layout);
        return Err(Error::conflict(format!("container {holder} has {} too", clash.claim))
            .hint(format!("`{}` makes it another container", layout.adopt_command(name))));
    }
    if home.is_none_or(|home| home.name != *name) {
        write_names(layout, name, HostKeys::Keep)?;
    } else {
        // Layers that were left behind are missed now, not at the next start.
        Tree::open(storage::of_container(layout, name)?.as_ref(), &place)?;
    }
    Home::of(layout, name).write(&place)
}

fn as_another(layout: &Layout, name: &ContainerName) -> Result<Vec<String>> {
    let place = layout.container(name);
    let origin = Origin::read(layout, name)?;
    require_reason(layout, name, &origin)?;
    // Before it is marked: it is refused while another process writes there, and nothing has changed then. A
    // copy with layers of its own is a copy still.
    storage::backend(layout, &origin.storage)?.separate(&place)?;
    Home { adopting: true, ..Home::of(layout, name) }.write(&place)?;

    let reserved = ids::reserve(layout)?;
    Origin { ids: reserved.range, wide_ids: None, ..origin }.write_file(&layout.origin_file(name))?;
    drop(reserved);

    let file = layout.config_file(name);
    let text = read_text(&file).context(|| format!("read `{}`", file.display()))?;
    let (text, left_out) = renew(&text, &file)?;
    crate::config::parse::<Config>(&text, &file)?;
    store::replace_file(&file, text.as_bytes(), 0o644)?;

    write_names(layout, name, HostKeys::Fresh)?;
    Home::of(layout, name).write(&place)?;
    Ok(left_out)
}

/// Fails where a new identity would be taken for no reason, or cannot be had at this moment.
fn require_reason(layout: &Layout, name: &ContainerName, origin: &Origin) -> Result<()> {
    let claims = identity::of(layout, name, &layout.config(name)?, origin)?;
    let clashes = identity::clashes(layout, name, &claims)?;
    let is_at_home = Home::is_here(layout, name)?;
    if is_at_home && clashes.is_empty() {
        return Err(Error::conflict("nothing to do: no other container shares its identity")
            .hint("`lxm copy` makes another container of it"));
    }
    for clash in clashes.iter().filter(|clash| matches!(clash.claim, Claim::Upper(_))) {
        let holder = &clash.holder;
        if AliveLock::is_held(&holder.layout, &holder.name)? {
            return Err(Error::conflict(format!("{} runs, and writes to files of both", holder.seen_from(layout)))
                .hint(format!("`{}` first", holder.layout.command(format_args!("stop {}", holder.name)))));
        }
    }
    Ok(())
}

/// Writes its identity into its files.
fn write_names(layout: &Layout, name: &ContainerName, keys: HostKeys) -> Result<()> {
    let backend = storage::of_container(layout, name)?;
    let place = layout.container(name);
    let tree = Tree::open(backend.as_ref(), &place)?;
    let identity = Identity { hostname: name.to_string(), login: None, keys };
    distro::customize(tree.path(), &place, &identity)
}
