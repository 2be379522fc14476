//! Builder `download`: a ready-made root file system, from a simplestreams server.
//!
//! The server's index says what there is and the digest of each file. The index is believed because
//! it came by https, or because it is signed with a key of the template's; a file because of its digest.
//! What comes unsigned by http is refused unless the admin says `--insecure`.

mod fetch;
mod squashfs;
mod streams;
mod verify;

use std::path::Path;

pub(crate) use streams::{Available, Wanted};

use self::fetch::Fetcher;
use self::streams::{FileKind, Proof, Streams};
use super::find;
use super::model::{Builder, Template};
use super::recipe::Recipe;
use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::budget::Budget;
use crate::image::unpack::unpack_file;
use crate::store::Layout;

/// Fills `target` with the newest root file system that the server has for the recipe. `downloads`
/// keeps what was cut short, for the next attempt.
pub(crate) fn build(recipe: &Recipe, target: &Path, downloads: &Path) -> Result<Remarks> {
    let template = &recipe.found.template;
    let server = recipe.mirror.as_deref().or(template.download.server.as_deref());
    let server = server.ok_or_else(|| Error::config("builder `download` needs `download.server`"))?;
    let wanted = Wanted {
        os: template.download.os.as_deref().unwrap_or(&recipe.found.name),
        release: &recipe.suite,
        arch: recipe.arch,
        variant: recipe.options.get("variant").map_or("default", String::as_str),
    };
    let fetcher = Fetcher::new();
    let proof = Proof::of(server, recipe.signing_keyring(), recipe.insecure);
    let streams = Streams::read(server, &proof)?;
    let chosen = streams.choose(&wanted)?;
    let name = chosen.path.rsplit('/').next().unwrap_or_default();
    let url = streams.url(&chosen.path)?;
    let file = fetcher.download(&url, name, &chosen.sha256, chosen.size, downloads)?;
    let remarks = match chosen.kind {
        FileKind::Tar => unpack_file(file.path(), target, &Budget::default()).map(|summary| summary.remarks),
        FileKind::Squashfs => squashfs::unpack(file.path(), target, &Budget::default()),
    }
    .context(|| format!("unpack `{url}`"))?;
    file.remove()?;
    Ok(remarks)
}

/// What can be had from the servers that templates name, by template.
///
/// A server that cannot be asked does not keep the others from answering.
pub(crate) fn available(
    layout: &Layout,
    only: Option<&str>,
    insecure: bool,
) -> Result<Vec<(String, Result<Vec<Available>>)>> {
    let names = match only {
        Some(name) => vec![name.to_owned()],
        None => find::names(layout),
    };
    let mut asked: Vec<((String, Proof), Result<Streams>)> = Vec::new();
    let mut answers = Vec::new();
    for name in names {
        let found = match find(layout, &name) {
            // What is wrong with one template must not hide what the others offer.
            Err(e) if only.is_none() => {
                answers.push((name, Err(e)));
                continue;
            }
            found => found?,
        };
        let Template { builder: Builder::Download, download, .. } = &found.template else {
            if only.is_some() {
                return Err(Error::usage(format!("template `{name}` downloads nothing")));
            }
            continue;
        };
        let Some(server) = layout.host_config()?.mirror.get(&name).cloned().or_else(|| download.server.clone()) else {
            continue;
        };
        let keyring = download.keyring.as_ref().map(|file| found.beside(&Path::new("keyrings").join(file)));
        let proof = Proof::of(&server, keyring, insecure);
        let place = (server, proof);
        if !asked.iter().any(|(known, _)| *known == place) {
            let streams = Streams::read(&place.0, &place.1);
            asked.push((place.clone(), streams));
        }
        let (_, streams) = asked.iter().find(|(known, _)| *known == place).expect("asked above");
        let os = download.os.as_deref().unwrap_or(&name);
        let answer = streams.as_ref().map(|streams| streams.available(os)).map_err(Clone::clone);
        answers.push((name, answer));
    }
    Ok(answers)
}
