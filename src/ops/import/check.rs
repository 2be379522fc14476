//! `lxm export --check`: whether an archive can be imported whole, without importing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use super::accept::accepted;
use super::exported::{self, HashedReader, HeldTail};
use super::oci;
use super::options::ImportOptions;
use crate::config::{self, Security};
use crate::error::{Context, Error, Kind, Result};
use crate::image::budget::Budget;
use crate::image::compress::decoder;
use crate::image::survey::{Survey, survey};
use crate::image::unpack::unpack;
use crate::ops::export::{CONFIG, DIGEST, ORIGIN, TREE};
use crate::ops::fits;
use crate::progress::Progress;
use crate::store::{self, Layout, Origin};
use crate::types::{Arch, ContainerName};

/// What an archive is, and what an import would make of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Checked {
    /// `export`, or `image` of docker or OCI, or `tree`: of a root file system.
    pub format: &'static str,
    /// Its own; an image has none that a container could have.
    pub name: Option<ContainerName>,
    /// When it was exported.
    pub exported: Option<String>,
    pub restorable: bool,
    /// Files, directories, links.
    pub entries: u64,
    /// What the contents of its files take up at least.
    pub size_bytes: u64,
    /// Why it cannot be imported.
    pub problems: Vec<String>,
    /// What an import leaves out or changes.
    pub notes: Vec<String>,
}

/// Checks a file, or the directory of an image. What is wrong with it is in the result.
pub(crate) fn check_path(layout: &Layout, path: &Path) -> Result<Checked> {
    let step = || format!("open `{}`", path.display());
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::from(e).with_kind(Kind::NotFound),
        _ => e.into(),
    };
    let file = File::open(path).map_err(missing).context(step)?;
    if !file.metadata().context(step)?.is_dir() {
        return Ok(check(layout, &file, Some(path)));
    }
    if !oci::is_layout(path) {
        return Err(Error::usage("a directory is checked where it is an image as OCI lays it out").step(step()));
    }
    let mut checked = Checked::default();
    let outcome = check_image(path, &mut checked);
    Ok(concluded(checked, outcome))
}

/// As [`check_path`], of a stream.
pub(crate) fn check_stream(layout: &Layout, input: impl Read + Send) -> Checked {
    check(layout, input, None)
}

fn concluded(mut checked: Checked, outcome: Result<()>) -> Checked {
    checked.problems.extend(outcome.err().map(|e| e.to_string()));
    checked.restorable = checked.problems.is_empty();
    checked
}

fn check(layout: &Layout, input: impl Read + Send, file: Option<&Path>) -> Checked {
    let budget = Budget::new(None);
    let mut checked = Checked::default();
    let read = decoder(budget.counted(input)).and_then(|input| super::peek(input, exported::HEAD));
    let outcome = read.and_then(|(head, archive)| match exported::is_export(&head) {
        true => check_export(layout, &head, archive, &budget, &mut checked),
        false => check_other(archive, file, &budget, &mut checked),
    });
    concluded(checked, outcome)
}

fn count(checked: &mut Checked, survey: Survey) {
    checked.entries += survey.entries;
    checked.size_bytes += survey.bytes;
    checked.problems.extend(survey.problems);
    checked.notes.extend(survey.remarks.notes());
}

fn check_export(
    layout: &Layout,
    head: &[u8],
    archive: Box<dyn Read + Send + '_>,
    budget: &Budget,
    checked: &mut Checked,
) -> Result<()> {
    checked.format = "export";
    let record = exported::read_record(head)?;
    checked.name = Some(record.name.clone());
    checked.exported = Some(record.exported);
    let held = Arc::new(Mutex::new(HeldTail::default()));
    let reader = HashedReader { reader: archive, held: Arc::clone(&held) };
    let mut aside: BTreeMap<String, String> = BTreeMap::new();
    let mut survey = survey(reader, Some(TREE), budget, &mut |name, contents| {
        if !exported::KNOWN.contains(&name.0.as_str()) {
            return Err(Error::failed(format!("`{}` is not what `lxm export` writes", name.0)));
        }
        let mut text = String::new();
        contents.take(4 << 20).read_to_string(&mut text)?;
        match aside.insert(name.0.clone(), text) {
            None => Ok(()),
            Some(_) => Err(Error::failed(format!("`{}` is there twice", name.0))),
        }
    })?;
    let highest = std::mem::take(&mut survey.highest);
    count(checked, survey);
    let text = |name: &str| aside.get(name).ok_or_else(|| Error::failed(format!("there is no `{name}` in it")));
    if text(DIGEST)?.trim() != held.lock().unwrap_or_else(|e| e.into_inner()).digest() {
        return Err(Error::failed("its contents do not match its digest: it was changed on the way"));
    }
    let origin: Origin = config::parse(text(ORIGIN)?, Path::new(ORIGIN))?;
    if !Arch::host().runs(origin.arch) {
        checked.problems.push(format!("it is of {}, and this host runs {}", origin.arch, Arch::host()));
    }
    let options = ImportOptions::default();
    let document = accepted(layout, &record.name, text(CONFIG)?, &options, &mut checked.notes)?;
    fits::ids(&highest, &document.config().security)
}

/// The archive of a root file system, or of an image, whose layers are archives in it.
fn check_other(
    archive: Box<dyn Read + Send + '_>,
    file: Option<&Path>,
    budget: &Budget,
    checked: &mut Checked,
) -> Result<()> {
    checked.format = "tree";
    let survey = survey(archive, None, budget, &mut |_, _| Ok(()))?;
    if !survey.is_image {
        checked.problems.extend(fits::ids(&survey.highest, &Security::default()).err().map(|e| e.to_string()));
        count(checked, survey);
        return Ok(());
    }
    checked.format = "image";
    let Some(file) = file else {
        checked.notes.push("its layers are not checked: that takes a file that is read twice".to_owned());
        count(checked, survey);
        return Ok(());
    };
    let dir = tempfile::tempdir().context(|| "make a directory for its layers")?;
    let image = dir.path().join("image");
    let unpacked = unpack(File::open(file)?, &image, &Budget::new(None), &Progress::hidden());
    let outcome = unpacked.and_then(|_| check_image(&image, checked));
    // Whoever made it chose its depth and its flags.
    outcome.and(store::remove_tree(&image))
}

/// An image as OCI or docker lays it out.
fn check_image(dir: &Path, checked: &mut Checked) -> Result<()> {
    checked.format = "image";
    let budget = Budget::new(None);
    for survey in oci::survey_layers(dir, &budget, &mut checked.notes)? {
        checked.problems.extend(fits::ids(&survey.highest, &Security::default()).err().map(|e| e.to_string()));
        count(checked, survey);
    }
    Ok(())
}
