//! squashfs images, read by the kernel, or by `unsquashfs` where a loop device cannot be had.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::budget::Budget;
use crate::image::copy::copy_tree;
use crate::image::measure::measure;
use crate::progress::Progress;
use crate::sys;

/// Unpacks the image `file` into the empty directory `target`.
pub(super) fn unpack(file: &Path, target: &Path, budget: &Budget) -> Result<Remarks> {
    let packed = file.metadata().context(|| format!("look at `{}`", file.display()))?.len();
    budget.packed(packed);
    let mounted = sys::mount::in_private_namespace(|| {
        // Beside the target, where whoever sweeps what a killed build left finds it too.
        let beside = target.parent().unwrap_or(target);
        let at = tempfile::tempdir_in(beside).context(|| format!("make a directory in `{}`", beside.display()))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "squashfs", "-o", "loop,ro,nodev"]).arg(file).arg(at.path());
        if !run(&mut mount)? {
            return Ok(None);
        }
        let progress = Progress::bytes("unpack", 0);
        // Before it is copied: what it becomes is known by now.
        let fits = measure(at.path()).and_then(|tree| budget.spend_tree(&tree));
        let copied = fits.and_then(|()| copy_tree(at.path(), target, &progress));
        nix::mount::umount(at.path()).context(|| "unmount the image")?;
        copied.map(|remarks| {
            progress.finish();
            Some(remarks)
        })
    })?;
    if let Some(remarks) = mounted {
        return Ok(remarks);
    }
    let mut unsquashfs = Command::new("unsquashfs");
    unsquashfs.args(["-no-progress", "-force", "-dest"]).arg(target).arg(file);
    match run(&mut unsquashfs)? {
        true => budget.spend_tree(&measure(target)?).map(|()| Remarks::default()),
        false => Err(Error::host_lacks("a squashfs image can neither be mounted nor unpacked")
            .hint("load the kernel's `squashfs` and `loop`, or install `squashfs-tools`")),
    }
}

/// Whether a command did its work; a missing one did not.
fn run(command: &mut Command) -> Result<bool> {
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) => Ok(status.success()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).context(|| format!("run `{}`", command.get_program().display())),
    }
}
