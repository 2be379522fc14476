//! `lxm rename`: the directory, and what is named after it.

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{autostart, dependants};
use crate::cgroup::Hierarchies;
use crate::container::{boot_report, sweep};
use crate::distro::{self, HostKeys, Identity};
use crate::error::{Context, Error, Result};
use crate::identity;
use crate::storage::{self, Tree, is_mount_point};
use crate::store::{self, AliveLock, Layout, OperationLock};
use crate::types::ContainerName;

/// Gives a stopped container another name, and its guest another hostname.
///
/// Everything else stays: uuid, machine-id, ssh keys, hardware addresses.
pub(crate) fn rename(layout: &Layout, from: &ContainerName, to: &ContainerName) -> Result<()> {
    layout.require(from)?;
    if from == to {
        return Err(Error::usage(format!("container `{from}` has that name already")));
    }
    give_name(layout, from, to).context(|| format!("rename `{from}` to `{to}`"))
}

fn give_name(layout: &Layout, from: &ContainerName, to: &ContainerName) -> Result<()> {
    // In one order everywhere, so that two renames never wait for each other.
    let (first, second) = if from < to { (from, to) } else { (to, from) };
    let first_lock = OperationLock::acquire(layout, first)?;
    let second_lock = OperationLock::acquire(layout, second)?;
    layout.require(from)?;
    store::require_free(layout, to)?;
    if AliveLock::is_held(layout, from)? {
        return Err(
            Error::conflict("it is running").hint(format!("`{}` first", layout.command(format_args!("stop {from}"))))
        );
    }
    if is_mount_point(&layout.rootfs(from))? {
        return Err(Error::conflict("its files are mounted")
            .hint(format!("`{}` first", layout.command(format_args!("umount {from}")))));
    }
    // The record of its home goes with it: under the new name a copy made by hand would be the original.
    identity::require_own(layout, from)?;
    let lock = if first == from { &first_lock } else { &second_lock };
    sweep::sweep_run(layout, from, &Hierarchies::detect()?, lock)?;

    let starts_with_host = layout.config(from).is_ok_and(|config| boot_report::is_enabled(layout, from, &config));
    set_hostname(layout, from, from, to)?;
    let (old, new) = (layout.container(from), layout.container(to));
    let renamed = renameat_with(CWD, &old, CWD, &new, RenameFlags::NOREPLACE)
        .context(|| format!("rename `{}` to `{}`", old.display(), new.display()));
    if let Err(e) = renamed {
        // The first error is the one to report.
        let _ = set_hostname(layout, from, to, from);
        return Err(e);
    }
    store::Home::of(layout, to).write(&new)?;
    store::sync_dir(layout.containers())?;
    let (old, new) = (layout.log_dir(from), layout.log_dir(to));
    if old.exists() {
        store::remove_tree(&new)?;
        std::fs::rename(&old, &new).context(|| format!("rename `{}` to `{}`", old.display(), new.display()))?;
    }
    autostart::forget(layout, from)?;
    drop((first_lock, second_lock));
    let renamed = dependants::rename(layout, from, to);
    if starts_with_host { autostart::enable(layout, to).and(renamed) } else { renamed }
}

/// Has the guest of `container` called `to` in its own files, if that is by now called `from` there.
fn set_hostname(layout: &Layout, container: &ContainerName, from: &ContainerName, to: &ContainerName) -> Result<()> {
    let step = || format!("change the hostname of `{container}` from `{from}` to `{to}`");
    let backend = storage::of_container(layout, container)?;
    let place = layout.container(container);
    let tree = Tree::open(backend.as_ref(), &place).context(step)?;
    let identity = Identity { hostname: to.to_string(), login: None, keys: HostKeys::Keep };
    distro::customize(tree.path(), &place, &identity).context(step)
}
