//! What is in an image: its manifests and its configuration, and whether this host runs it.
//!
//! Not with the types of the crate `oci-spec`: they demand what images of the field leave out and lxm does not
//! need (a descriptor's size and media type), know no `manifest.json` of docker's, and bring regex and four
//! crates of derives.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::sys::fs::read_in_root;
use crate::types::Arch;

/// An entry of `manifest.json`, as `docker save` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Something in `blobs/` (OCI image specification, descriptor.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// An index or a manifest: which of them shows in what it has.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// An image's configuration (OCI image specification, config.md).
#[derive(Default, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    /// Its settings, by name: `oci/rows.rs` says what becomes of each.
    #[serde(default)]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What an archive has for us.
pub(super) struct OciImage {
    /// Files of the archive, lowest first, with their digest where it is known.
    pub layers: Vec<(PathBuf, Option<String>)>,
    pub config: ImageConfig,
    /// What it calls itself: `debian:bookworm`.
    pub tag: Option<String>,
}

const LIMIT: u64 = 16 << 20;

/// What is taken of an archive of docker's; `wanted` is the name of one of several images.
pub(super) fn of_docker(archive: &OwnedFd, wanted: Option<&str>) -> Result<OciImage> {
    let mut manifests: Vec<DockerManifest> = json(archive, Path::new("manifest.json"))?;
    let names = |manifest: &DockerManifest| manifest.repo_tags.clone().unwrap_or_default();
    let chosen = choose(&manifests.iter().map(names).collect::<Vec<_>>(), wanted)?;
    let manifest = manifests.swap_remove(chosen);
    Ok(OciImage {
        config: json(archive, Path::new(&manifest.config))?,
        layers: manifest.layers.into_iter().map(|layer| (PathBuf::from(layer), None)).collect(),
        tag: manifest.repo_tags.and_then(|tags| tags.into_iter().next()),
    })
}

/// Which of several images with these names is wanted, each of which may have several.
fn choose(images: &[Vec<String>], wanted: Option<&str>) -> Result<usize> {
    let known = || {
        let names: Vec<_> = images.iter().flatten().map(|name| format!("`{}`", name.escape_debug())).collect();
        if names.is_empty() { "none of them has a name".to_owned() } else { format!("they are {}", names.join(", ")) }
    };
    let is = |name: &String, wanted: &str| {
        // As docker shortens them: docker.io/library/debian:trixie, debian:trixie.
        name == wanted || name.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('/'))
    };
    let found: Vec<usize> = match wanted {
        None => (0..images.len()).collect(),
        Some(wanted) => (0..images.len()).filter(|at| images[*at].iter().any(|name| is(name, wanted))).collect(),
    };
    match (found.as_slice(), wanted) {
        ([one], _) => Ok(*one),
        ([], Some(wanted)) => {
            Err(Error::not_found(format!("there is no image `{}` in it", wanted.escape_debug())).hint(known()))
        }
        ([], None) => Err(Error::failed("there is no image in it")),
        (several, _) => Err(Error::usage(format!("there are {} images in it", several.len()))
            .hint(format!("`--image NAME` chooses one: {}", known()))),
    }
}

/// As [`of_docker`], of an image as OCI lays it out.
pub(super) fn of_oci(archive: &OwnedFd, wanted: Option<&str>) -> Result<OciImage> {
    let mut manifest: Manifest = json(archive, Path::new("index.json"))?;
    let mut tag = None;
    // An index may lead to indexes, but no honest one goes deep.
    for depth in 0..4 {
        if manifest.config.is_some() {
            break;
        }
        let fits = |descriptor: &&Descriptor| match &descriptor.platform {
            Some(platform) => runs(&platform.os, &platform.architecture),
            None => true,
        };
        let images: Vec<&Descriptor> =
            manifest.manifests.iter().filter(fits).filter(|d| !d.media_type.contains("attestation")).collect();
        if images.is_empty() {
            return Err(Error::host_lacks("there is no image in it that this host runs"));
        }
        let named: Vec<Vec<String>> = images.iter().map(|image| names(image)).collect();
        // Below the top, and without names, they are variants of one image: for more and for less of a processor.
        let are_variants = depth > 0 || (wanted.is_none() && named.iter().all(|names| *names == named[0]));
        let chosen = if are_variants { images[0] } else { images[choose(&named, wanted)?] };
        tag = tag.or_else(|| chosen.annotations.get(REF_NAME).cloned());
        manifest = blob_json(archive, &chosen.digest)?;
    }
    let config = manifest.config.ok_or_else(|| Error::failed("there is no manifest of an image in it"))?;
    let layers = manifest.layers.iter().map(|layer| Ok((blob_path(&layer.digest)?, Some(layer.digest.clone()))));
    Ok(OciImage { layers: layers.collect::<Result<_>>()?, config: blob_json(archive, &config.digest)?, tag })
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an image of an index is called: by its tag, and by docker's and containerd's whole name.
fn names(image: &Descriptor) -> Vec<String> {
    let keys = ["io.containerd.image.name", REF_NAME];
    let mut names: Vec<String> = keys.iter().filter_map(|key| image.annotations.get(*key).cloned()).collect();
    names.dedup();
    names
}

/// Whether this host runs programs of the system and the architecture, where they are said.
fn runs(os: &str, architecture: &str) -> bool {
    matches!(os, "" | "linux")
        && (architecture.is_empty() || go_arch(architecture).is_some_and(|arch| Arch::host().runs(arch)))
}

/// An architecture as Go names it (OCI image specification, config.md).
fn go_arch(name: &str) -> Option<Arch> {
    match name {
        "386" => Some(Arch::I386),
        "arm" => Some(Arch::Armhf),
        "ppc64le" => Some(Arch::Ppc64el),
        other => other.parse().ok(),
    }
}

/// What the image is for; refused before anything is unpacked where this host does not run it.
pub(super) fn arch(config: &ImageConfig, notes: &mut Vec<String>) -> Result<Arch> {
    let ImageConfig { architecture, os, .. } = config;
    let host = Arch::host();
    if !runs(os, architecture) {
        let os = if os.is_empty() { "linux" } else { os };
        return Err(Error::host_lacks(format!(
            "the image is for `{}/{}`, and this host runs linux/{host}",
            os.escape_default(),
            architecture.escape_default()
        ))
        .hint("save the one for this host (`docker pull --platform`, `skopeo copy --override-arch`)"));
    }
    if architecture.is_empty() {
        notes.push(format!("it does not say for which architecture it is: taken for one of {host}"));
    }
    Ok(go_arch(architecture).unwrap_or(host))
}

fn json<T: serde::de::DeserializeOwned>(archive: &OwnedFd, path: &Path) -> Result<T> {
    let missing = |e: Error| match e.errno() {
        Some(libc::ENOENT) => Error::failed("this is neither what `lxm export` writes nor an image of docker or OCI")
            .hint("`lxm create -t archive NAME -- --file FILE` makes a container of an archive of a root file system"),
        _ => e,
    };
    parse(&read_in_root(archive.as_fd(), path, LIMIT).map_err(missing)?, path)
}

fn parse<T: serde::de::DeserializeOwned>(text: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| Error::failed(format!("`{}` is damaged: {e}", path.display())))
}

/// Reads it as each of the kinds of files that there are.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_each(text: &[u8]) {
    let path = Path::new("fuzzed");
    let _ = parse::<Vec<DockerManifest>>(text, path);
    let _ = parse::<ImageConfig>(text, path);
    if let Ok(manifest) = parse::<Manifest>(text, path) {
        for descriptor in manifest.manifests.iter().chain(&manifest.config).chain(&manifest.layers) {
            let _ = blob_path(&descriptor.digest);
            let _ = descriptor.platform.as_ref().is_none_or(|platform| runs(&platform.os, &platform.architecture));
        }
    }
}

fn blob_json<T: serde::de::DeserializeOwned>(archive: &OwnedFd, digest: &str) -> Result<T> {
    let path = blob_path(digest)?;
    let text = read_in_root(archive.as_fd(), &path, LIMIT)?;
    if format!("sha256:{}", hex::encode(Sha256::digest(&text))) != digest {
        return Err(Error::failed(format!("`{}` does not have its digest", path.display())));
    }
    parse(&text, &path)
}

/// `sha256:aa11…` is `blobs/sha256/aa11…`.
fn blob_path(digest: &str) -> Result<PathBuf> {
    match digest.split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(Path::new("blobs/sha256").join(hex))
        }
        _ => Err(Error::failed(format!("`{}` is not a sha256 digest", digest.escape_default()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_does_not_run_is_refused() {
        let image = |architecture: &str, os: &str| {
            let config = ImageConfig { architecture: architecture.into(), os: os.into(), config: None };
            let mut notes = Vec::new();
            arch(&config, &mut notes).map(|arch| (arch, notes.len()))
        };
        let host = Arch::host();
        assert_eq!(image("", "").unwrap(), (host, 1));
        assert_eq!(image(&host.to_string(), "linux").unwrap(), (host, 0));
        for (architecture, os) in [("pdp11", "linux"), ("s390x", ""), (host.to_string().as_str(), "windows")] {
            let error = image(architecture, os).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::HostLacks);
            assert!(error.to_string().contains(architecture), "{error}");
        }
    }

    #[test]
    fn one_of_several_images_is_chosen_by_name_and_never_silently() {
        let images = [vec!["docker.io/library/debian:12".to_owned(), "12".into()], vec!["own:1".into()], vec![]];
        for (wanted, found) in [
            (Some("docker.io/library/debian:12"), Ok(0)),
            (Some("debian:12"), Ok(0)),
            (Some("12"), Ok(0)),
            (Some("own:1"), Ok(1)),
            (Some("ebian:12"), Err(3)),
            (Some("nothing"), Err(3)),
            (None, Err(2)),
        ] {
            let chosen = choose(&images, wanted).map_err(|e| e.kind().exit_status());
            assert_eq!(chosen, found, "{wanted:?}");
        }
        assert_eq!(choose(&images[1..2], None).unwrap(), 0);
        assert!(choose(&images, None).unwrap_err().hint_text().unwrap_or_default().contains("`own:1`"));
    }

    #[test]
    fn digests_are_paths_of_blobs_and_nothing_else() {
        let sha = "a".repeat(64);
        assert_eq!(blob_path(&format!("sha256:{sha}")).unwrap(), Path::new("blobs/sha256").join(&sha));
        for bad in ["", "sha256:", "sha256:../../etc", "md5:aa", &format!("sha256:{}", "/".repeat(64))] {
            assert!(blob_path(bad).is_err(), "{bad}");
        }
    }
}
