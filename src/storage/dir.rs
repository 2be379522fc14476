//! `dir`: a plain tree of files at `rootfs`. Works everywhere; reflinks where the file system has them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use super::Backend;
use super::idmap;
use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::store;
use crate::sys;

pub(super) const NAME: &str = "dir";

#[derive(Debug)]
pub(super) struct Dir;

impl Backend for Dir {
    fn name(&self) -> &'static str {
        NAME
    }

    fn create(&self, image: &Path, container: &Path, _progress: &Progress) -> Result<()> {
        let rootfs = container.join("rootfs");
        let output = std::process::Command::new("cp")
            .args(["-a", "--reflink=auto", "--"])
            .args([image, &rootfs])
            .output()
            .context(|| "run `cp`")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::failed(said.trim().to_owned()).step(format!("copy `{}`", image.display())));
        }
        Ok(())
    }

    fn mount(&self, container: &Path, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
        let rootfs = container.join("rootfs");
        let mount = sys::mount::copy_tree(&rootfs, false)?;
        idmap::prepare_mount(&mount, userns).context(|| format!("mount `{}`", rootfs.display()))?;
        Ok(mount)
    }

    fn destroy(&self, container: &Path) -> Result<()> {
        store::remove_tree(&container.join("rootfs"))
    }
}
