//! A container is made of what the others read.

use std::path::Path;

use super::accept;
use super::options::ImportOptions;
use crate::container::sweep::discard;
use crate::distro::{self, HostKeys, Identity};
use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::copy::{copy_tree, into_itself};
use crate::image::measure::measure;
use crate::ops::fits;
use crate::progress::Progress;
use crate::storage::{self, Tree};
use crate::store::{self, Layout, OperationLock, Origin, Staging, ids, require_free};
use crate::sys;
use crate::types::{ContainerName, IdRange};

/// What has been made.
#[derive(Debug)]
pub(crate) struct Imported {
    pub name: ContainerName,
    pub storage: storage::BackendChoice,
    /// What the admin should know: what was changed, left out or not understood.
    pub notes: Vec<String>,
}

/// What a container is made of, apart from its files.
pub(super) struct ContainerParts {
    pub(super) config_text: String,
    pub(super) origin: Origin,
    pub(super) keys: HostKeys,
    /// What of its files was left out or changed.
    pub(super) remarks: Remarks,
}

/// Copies the tree `from`, called `name`, to `root`, with ids from 0: they are stored from `base`.
pub(super) fn fill_from_tree(from: &Path, name: &Path, root: &Path, place: &Path, base: u32) -> Result<Remarks> {
    // Where the files of some backends are has no way up to it.
    if sys::fs::holds(sys::fs::open_dir(from)?, sys::fs::open_dir(place)?)? {
        return Err(into_itself());
    }
    let progress = Progress::bytes(format!("copy `{}`", name.display()), 0);
    let remarks = copy_tree(from, root, &progress)?;
    progress.finish();
    storage::unshift(place, root, base)?;
    Ok(remarks)
}

/// Makes the container `name`: `fill` fills its tree, the first directory, then gives the rest. The
/// second is the container's own, for what is needed meanwhile. Adds to `notes` what of its
/// configuration is left out.
///
/// A failure, or a kill at any point, leaves none.
pub(super) fn make(
    layout: &Layout,
    name: &ContainerName,
    options: &ImportOptions,
    notes: &mut Vec<String>,
    fill: &mut dyn FnMut(&Path, &Path) -> Result<ContainerParts>,
) -> Result<storage::BackendChoice> {
    require_free(layout, name)?;
    let choice = storage::choose(layout, &options.storage)?;
    let backend = storage::backend(layout, choice.backend)?;
    let lock = OperationLock::acquire(layout, name)?;
    let discard = |place: &Path| discard(layout, place);
    let staging = Staging::begin(layout, name, &lock, &discard)?;
    let place = staging.place();
    let origin_file = place.join("origin.toml");
    let reserved = ids::reserve(layout)?;
    let ids = reserved.range;
    // It says already which backend has to clean up, and whose the range is.
    unknown_origin(choice.backend, ids).write_file(&origin_file)?;
    drop(reserved);

    let mut made = None;
    let mut kept = backend.fill(place, &mut |root| {
        made = Some((fill(root, place)?, measure(root)?));
        Ok(())
    })?;
    let (parts, measured) = made.ok_or_else(|| Error::failed("there were no files in it"))?;
    kept.append(parts.remarks.clone());
    notes.extend(kept.notes());
    let document = accept::accepted(layout, name, &parts.config_text, options, notes)?;
    fits::ids(&measured.highest, &document.config().security)
        .map_err(|e| e.hint("give it more with `--id-range-size`, or pack it with other owners (`tar --owner-map`)"))?;
    if backend.counts_first_files() {
        fits::size(measured.bytes, &document.config().storage)?;
    }
    let origin = Origin { storage: choice.backend.to_owned(), ids, wide_ids: None, ephemeral: false, ..parts.origin };
    origin.write_file(&origin_file)?;
    store::replace_file(&place.join("config.toml"), document.to_string().as_bytes(), 0o644)?;
    let tree = Tree::open(backend.as_ref(), place)?;
    let identity = Identity { hostname: name.to_string(), login: None, keys: parts.keys };
    distro::customize(tree.path(), place, &identity)?;
    // What it came from may be gone tomorrow.
    let root = std::fs::File::open(tree.path()).context(|| "open its files")?;
    rustix::fs::syncfs(&root).context(|| "write its files to disk")?;
    drop((root, tree));
    staging.commit()?;
    Ok(choice)
}

pub(super) fn unknown_origin(storage: &str, ids: IdRange) -> Origin {
    Origin {
        template: "import".into(),
        release: String::new(),
        arch: crate::types::Arch::host(),
        image: String::new(),
        storage: storage.to_owned(),
        created: crate::store::now(),
        lxm: env!("CARGO_PKG_VERSION").to_owned(),
        ephemeral: false,
        ids,
        wide_ids: None,
    }
}

/// Whether a container of this host, in whatever directory, has this identity already.
pub(super) fn is_known(layout: &Layout, uuid: &str) -> Result<bool> {
    let has = |layout: &Layout, name: &ContainerName| {
        layout.config(name).is_ok_and(|config| config.uuid.eq_ignore_ascii_case(uuid))
    };
    for layout in layout.known() {
        if layout.names()?.iter().any(|name| has(&layout, name)) {
            return Ok(true);
        }
    }
    Ok(false)
}
