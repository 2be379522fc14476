//! `lxm import`: containers made of what `lxm export` or other programs wrote.

mod accept;
mod check;
mod device_nodes;
#[cfg(test)]
mod document;
mod exported;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing))]
mod isolation;
mod lxc;
mod make;
mod nspawn;
mod oci;
mod options;
mod table;

use std::io::{ErrorKind, Read};
use std::path::Path;

pub(crate) use check::{Checked, check_path, check_stream};
pub(crate) use make::Imported;
pub(crate) use options::ImportOptions;

use crate::error::{Context, Error, Result};
use crate::identity;
use crate::image::budget::Budget;
use crate::image::compress::decoder;
use crate::store::{Layout, Origin};

/// Makes a container of a stream: what `lxm export` wrote, or an archive of a docker or OCI image.
pub(crate) fn import_stream(layout: &Layout, input: impl Read + Send, options: &ImportOptions) -> Result<Imported> {
    let budget = Budget::new(options.max_size);
    let (head, archive) = peek(decoder(budget.counted(input))?, exported::HEAD)?;
    let imported = match exported::is_export(&head) {
        true => exported::import(layout, &head, archive, &budget, options),
        // Of what is no archive at all, an export is what was most likely meant.
        false if head.get(257..262) != Some(b"ustar") => Err(exported::foreign()),
        false => oci::import_archive(layout, archive, &budget, options),
    };
    with_clashes(layout, imported?)
}

/// Makes a container of a file as [`import_stream`] does, or of a directory: one of LXC's containers,
/// a tree of /var/lib/machines, or an image as OCI lays it out.
pub(crate) fn import_path(layout: &Layout, path: &Path, options: &ImportOptions) -> Result<Imported> {
    let meta = path.metadata().map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::not_found(format!("`{}` does not exist", path.display())),
        _ => Error::from(e).step(format!("look at `{}`", path.display())),
    })?;
    if !meta.is_dir() {
        // A pipe is waited for: it was named by the admin.
        let file = std::fs::File::open(path).context(|| format!("open `{}`", path.display()))?;
        return import_stream(layout, file, options);
    }
    let dir = path.canonicalize().context(|| format!("find `{}`", path.display()))?;
    let imported = match () {
        () if oci::is_layout(&dir) => oci::import_dir(layout, &dir, options),
        () if lxc::is_container(&dir) => lxc::import(layout, &dir, options),
        () if nspawn::is_tree(&dir) => nspawn::import(layout, &dir, options),
        () => Err(Error::usage(format!("`{}` is no container that is known here", path.display()))
            .hint("lxm imports containers of LXC (`config` and `rootfs`), trees of systemd-nspawn, and OCI images")),
    };
    with_clashes(layout, imported?)
}

/// Says what of a container that has just been made others have too.
fn with_clashes(layout: &Layout, mut imported: Imported) -> Result<Imported> {
    let name = &imported.name;
    let config = layout.config(name)?;
    let claims = identity::of(layout, name, &config, &Origin::read(layout, name)?)?;
    let clashes = identity::clashes(layout, name, &claims)?;
    let tell = |clash: &identity::Clash| format!("{}: they cannot run at once", clash.refusal(layout, name, &config));
    imported.notes.extend(clashes.iter().map(tell));
    Ok(imported)
}

/// A reader's first bytes, at most `count`, which the reader given back yields again.
fn peek<'a>(mut reader: impl Read + Send + 'a, count: usize) -> Result<(Vec<u8>, Box<dyn Read + Send + 'a>)> {
    let mut head = Vec::new();
    (&mut reader).take(count as u64).read_to_end(&mut head).context(|| "read the first bytes")?;
    let again = std::io::Cursor::new(head.clone());
    Ok((head, Box::new(again.chain(reader))))
}
