//! Containers in the making: where they are until they are whole.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{FileLock, Home, Layout, OperationLock, is_container, remove_tree, sync_dir};
use crate::error::{Context, Error, Result};
use crate::sys::fs::lay_out_apart;
use crate::types::ContainerName;

/// A container in the making: `.staging/NAME`, which belongs to whoever holds NAME's operation
/// lock. Dropped without a commit, it is removed.
pub(crate) struct Staging<'a> {
    layout: &'a Layout,
    name: &'a ContainerName,
    place: PathBuf,
    discard: &'a dyn Fn(&Path) -> Result<()>,
    committed: bool,
}

impl<'a> Staging<'a> {
    /// Makes an empty place, sweeping what a killed command left there.
    ///
    /// `discard` removes what a storage backend keeps for a place; it is called before the place
    /// itself is removed. Fails with `Kind::Conflict` where the container exists.
    pub(crate) fn begin(
        layout: &'a Layout,
        name: &'a ContainerName,
        _lock: &'a OperationLock,
        discard: &'a dyn Fn(&Path) -> Result<()>,
    ) -> Result<Self> {
        require_free(layout, name)?;
        let place = layout.staging().join(name);
        remove(&place, discard)?;
        std::fs::create_dir_all(layout.staging()).context(|| format!("make `{}`", layout.staging().display()))?;
        layout.note()?;
        lay_out_apart(&layout.staging());
        // 0700: a guest's root can make set-user-id programs of root's in its tree, which users of the host
        // must not reach.
        std::fs::DirBuilder::new().mode(0o700).create(&place).context(|| format!("make `{}`", place.display()))?;
        Ok(Staging { layout, name, place, discard, committed: false })
    }

    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Makes it the container, at once and whole.
    pub(crate) fn commit(mut self) -> Result<()> {
        let container = self.layout.container(self.name);
        Home::of(self.layout, self.name).write_new(&self.place)?;
        renameat_with(CWD, &self.place, CWD, &container, RenameFlags::NOREPLACE)
            .context(|| format!("put `{}` in place", container.display()))?;
        self.committed = true;
        sync_dir(self.layout.containers())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led here is the one to report; what stays is swept by the next command.
            let _ = remove(&self.place, self.discard);
        }
    }
}

/// Fails with `Kind::Conflict` where the container exists, or something else has its place.
pub(crate) fn require_free(layout: &Layout, name: &ContainerName) -> Result<()> {
    match layout.container(name).symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::from(e).step(format!("look for container `{name}`"))),
        Ok(_) if is_container(&layout.container(name)) => {
            Err(Error::conflict(format!("container `{name}` exists already"))
                .hint(format!("choose another name, or `{}` first", layout.command(format_args!("destroy {name}")))))
        }
        // lxm removes nothing that it did not make.
        Ok(_) => {
            let place = layout.container(name);
            Err(Error::conflict(format!("`{}` is in the way, and is not a container", place.display()))
                .hint("choose another name, or move it away"))
        }
    }
}

/// Removes what killed commands left in `.staging`; returns what came of each. What is still being made
/// has its operation lock held and stays.
pub(crate) fn sweep_staging(layout: &Layout, discard: &dyn Fn(&Path) -> Result<()>) -> Vec<Result<ContainerName>> {
    let mut swept = Vec::new();
    for entry in std::fs::read_dir(layout.staging()).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|name| name.parse::<ContainerName>().ok()) else {
            continue;
        };
        match FileLock::try_acquire(&layout.operation_locks().join(&name)) {
            Ok(Some(_lock)) => swept.push(remove(&entry.path(), discard).map(|()| name)),
            Ok(None) => {}
            Err(e) => swept.push(Err(e)),
        }
    }
    swept
}

fn remove(place: &Path, discard: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    if place.symlink_metadata().is_err() {
        return Ok(());
    }
    discard(place)
        .and_then(|()| remove_tree(place))
        .context(|| format!("remove what was left of `{}`", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &Path) -> Result<()> {
        Ok(())
    }

    #[test]
    fn staged_files_vanish_or_take_their_place_once() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        let lock = OperationLock::acquire(&layout, &name).unwrap();
        let begin = || Staging::begin(&layout, &name, &lock, &nothing);
        let place = begin().unwrap().place().to_owned();
        assert!(!place.exists());
        let staging = begin().unwrap();
        std::fs::write(staging.place().join("config.toml"), "").unwrap();
        staging.commit().unwrap();
        assert!(layout.config_file(&name).exists() && !place.exists());
        assert_eq!(begin().err().unwrap().kind().exit_status(), 4);
    }

    #[test]
    fn what_is_being_made_is_not_swept() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for name in ["left", "being-made"] {
            std::fs::create_dir_all(layout.staging().join(name)).unwrap();
        }
        let busy: ContainerName = "being-made".parse().unwrap();
        let _lock = OperationLock::acquire(&layout, &busy).unwrap();
        // The other's descriptor would share this process's lock were it not an open-file one.
        assert_eq!(sweep_staging(&layout, &nothing), [Ok("left".parse().unwrap())]);
        assert!(layout.staging().join("being-made").exists());
    }
}
