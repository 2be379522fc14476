//! Archives of docker and OCI images: layers over one another, and a configuration of an application.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::foreign::{self, Translated};
use super::{Imported, Parts, Wish, make};
use crate::config::{Init, Publish};
use crate::distro::{self, Extras, HostKeys};
use crate::error::{Context, Error, Result};
use crate::image::budget::Budget;
use crate::image::unpack::{unpack, unpack_layer};
use crate::progress::Progress;
use crate::store::{self, Layout};
use crate::sys::fs::{open_dir, open_file_in_root, open_in_root, read_in_root};
use crate::terminal::quoted;
use crate::types::{Arch, ContainerName};

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
struct ImageConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Process>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    user: String,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: String,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

/// What an archive has for us.
struct Image {
    /// Files of the archive, lowest first, with their digest where it is known.
    layers: Vec<(PathBuf, Option<String>)>,
    config: ImageConfig,
    /// What it calls itself: `debian:bookworm`.
    tag: Option<String>,
}

const LIMIT: u64 = 16 << 20;

/// As many as docker can stack.
const MOST_LAYERS: usize = 127;

/// Makes a container of an image's archive; of a directory in the same form with [`import_dir`].
pub(super) fn import_archive(
    layout: &Layout,
    archive: impl Read + Send,
    budget: &Budget,
    wish: &Wish,
) -> Result<Imported> {
    let mut archive = Some(archive);
    import(layout, budget, wish, &mut |place| {
        let dir = place.join("archive");
        let progress = Progress::bytes("read the archive", 0);
        unpack(archive.take().expect("read once"), &dir, budget, &progress)?;
        progress.finish();
        Ok(dir)
    })
}

pub(super) fn import_dir(layout: &Layout, dir: &Path, wish: &Wish) -> Result<Imported> {
    let budget = Budget::new(wish.max_size);
    import(layout, &budget, wish, &mut |_| Ok(dir.to_owned()))
}

pub(super) fn is_layout(dir: &Path) -> bool {
    dir.join("oci-layout").is_file() || dir.join("manifest.json").is_file()
}

fn import(
    layout: &Layout,
    budget: &Budget,
    wish: &Wish,
    spread: &mut dyn FnMut(&Path) -> Result<PathBuf>,
) -> Result<Imported> {
    let name = wish.name.clone().ok_or_else(|| {
        Error::usage("an image has no name that a container could have").hint("give it one with `-n NAME`")
    })?;
    let mut notes = Vec::new();
    let mut said = Vec::new();
    let storage = make(layout, &name, wish, &mut notes, &mut |root, place| {
        let dir = spread(place)?;
        let archive = open_dir(&dir)?;
        let image = if dir.join("oci-layout").is_file() { of_oci(&archive)? } else { of_docker(&archive)? };
        let arch = arch(&image.config, &mut said)?;
        if image.layers.len() > MOST_LAYERS {
            return Err(Error::failed(format!("it has more than {MOST_LAYERS} layers")));
        }
        let mut highest_id = 0;
        for (nth, (path, digest)) in image.layers.iter().enumerate() {
            let progress = Progress::bytes(format!("unpack layer {} of {}", nth + 1, image.layers.len()), 0);
            let file = open_file_in_root(&archive, path)?;
            if let Some(digest) = digest {
                check(&file, digest).context(|| format!("check layer {}", nth + 1))?;
            }
            // Of a directory each file is what was packed; of an archive that was the archive.
            let packed: Box<dyn Read + Send> =
                if dir.starts_with(place) { Box::new(&file) } else { Box::new(budget.counted(&file)) };
            let summary = unpack_layer(packed, root, budget, &progress);
            highest_id = highest_id.max(summary.context(|| format!("unpack layer {}", nth + 1))?.highest_id);
            progress.finish();
        }
        let mut made = translate(&name, &image, root)?;
        made.with_network(layout)?;
        said.append(&mut made.notes);
        if dir.starts_with(place) {
            store::remove_tree(&dir)?;
        }
        let mut origin = foreign::origin(image.tag.as_deref().unwrap_or("oci"));
        origin.arch = arch;
        Ok(Parts { config_text: made.text()?, origin, keys: HostKeys::Fresh, highest_id })
    });
    let storage = storage.context(|| format!("import `{name}`"))?;
    notes.append(&mut said);
    Ok(Imported { name, storage, notes })
}

fn of_docker(archive: &OwnedFd) -> Result<Image> {
    let manifests: Vec<DockerManifest> = json(archive, Path::new("manifest.json"))?;
    let [manifest] = <[DockerManifest; 1]>::try_from(manifests)
        .map_err(|all| Error::failed(format!("there are {} images in it", all.len())).hint("save one at a time"))?;
    Ok(Image {
        config: json(archive, Path::new(&manifest.config))?,
        layers: manifest.layers.into_iter().map(|layer| (PathBuf::from(layer), None)).collect(),
        tag: manifest.repo_tags.and_then(|tags| tags.into_iter().next()),
    })
}

fn of_oci(archive: &OwnedFd) -> Result<Image> {
    let mut manifest: Manifest = json(archive, Path::new("index.json"))?;
    let mut tag = None;
    // An index may lead to indexes, but no honest one goes deep.
    for _ in 0..4 {
        if manifest.config.is_some() {
            break;
        }
        let fits = |descriptor: &&Descriptor| match &descriptor.platform {
            Some(platform) => runs(&platform.os, &platform.architecture),
            None => true,
        };
        let images: Vec<&Descriptor> =
            manifest.manifests.iter().filter(fits).filter(|d| !d.media_type.contains("attestation")).collect();
        let chosen = images.first().ok_or_else(|| Error::host_lacks("there is no image in it that this host runs"))?;
        tag = tag.or_else(|| chosen.annotations.get("org.opencontainers.image.ref.name").cloned());
        manifest = blob_json(archive, &chosen.digest)?;
    }
    let config = manifest.config.ok_or_else(|| Error::failed("there is no manifest of an image in it"))?;
    let layers = manifest.layers.iter().map(|layer| Ok((blob_path(&layer.digest)?, Some(layer.digest.clone()))));
    Ok(Image { layers: layers.collect::<Result<_>>()?, config: blob_json(archive, &config.digest)?, tag })
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
fn arch(config: &ImageConfig, notes: &mut Vec<String>) -> Result<Arch> {
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
pub(super) fn read_each(text: &[u8]) {
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
    if format!("sha256:{}", hex(&Sha256::digest(&text))) != digest {
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
        _ => Err(Error::failed(format!("`{}` is no sha256 digest", digest.escape_default()))),
    }
}

fn check(mut file: &File, digest: &str) -> Result<()> {
    use std::io::Seek;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    file.rewind()?;
    match format!("sha256:{}", hex(&hasher.finalize())) == digest {
        true => Ok(()),
        false => Err(Error::failed("it does not have its digest")),
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the command of an image without an init is written to.
const COMMAND: &str = "/.lxm-command";

fn translate(name: &ContainerName, image: &Image, root: &Path) -> Result<Translated> {
    let mut made = Translated::new()?;
    let process = image.config.config.as_ref();
    let default = Process::default();
    let process = process.unwrap_or(&default);
    for variable in process.env.iter().flatten() {
        if variable.contains('\0') {
            made.left_out(variable);
        } else if let Some((name, value)) = variable.split_once('=').filter(|(name, _)| *name != "PATH") {
            made.config.environment.insert(name.to_owned(), value.to_owned());
        }
    }
    let command: Vec<&String> = process.entrypoint.iter().flatten().chain(process.cmd.iter().flatten()).collect();
    let command_line = command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let tree = open_dir(root)?;
    match distro::inspect(tree.as_fd(), None) {
        Ok(_) => {
            distro::prepare(root, &Extras::default())?;
            if !command.is_empty() {
                made.notes.push(format!("it boots its init; the image's command is not run: {command_line}"));
            }
        }
        Err(_) if command.is_empty() => {
            return Err(Error::config("the image has neither an init nor a command")
                .hint("a container boots an init: take an image of a whole system"));
        }
        Err(_) => {
            let path = process.env.iter().flatten().find_map(|variable| variable.strip_prefix("PATH="));
            let dir = if process.working_dir.is_empty() { "/" } else { &process.working_dir };
            let script = format!(
                "#!/bin/sh\n# Written by lxm: what the image runs.\n{}cd -- {} && exec {command_line}\n",
                path.map(|path| format!("export PATH={}\n", quoted(path))).unwrap_or_default(),
                quoted(dir)
            );
            if open_in_root(&tree, "bin/sh", OFlags::PATH, Mode::empty()).is_err() {
                return Err(Error::config("the image has neither an init nor a shell to run its command with"));
            }
            let view = distro::View::open(root)?;
            distro::edit::apply(&view, &[distro::Edit::write(&COMMAND[1..], script).mode(0o755)])?;
            made.config.boot.init = Some(COMMAND.into());
            made.config.boot.init_type = Init::Other;
            made.notes.push(format!("it has no init: its command is PID 1 ({command_line})"));
        }
    }
    if !matches!(process.user.as_str(), "" | "root" | "0" | "0:0") {
        made.left_out(&format!("User {}", process.user));
    }
    for port in process.exposed_ports.iter().flat_map(BTreeMap::keys) {
        let number = port.split('/').next().unwrap_or(port);
        let published = format!("{number}:{port}");
        // What is proposed to be typed is a port and nothing else.
        match published.parse::<Publish>() {
            Ok(published) => made.notes.push(format!(
                "it listens on {port}: `lxm config set {name} network.eth0.publish {}` leads there",
                quoted(&published.to_string())
            )),
            Err(_) => made.left_out(&format!("ExposedPorts {port}")),
        }
    }
    for volume in process.volumes.iter().flat_map(BTreeMap::keys) {
        made.notes.push(format!("its volume `{volume}` is part of its files"));
    }
    Ok(made)
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
    fn digests_are_paths_of_blobs_and_nothing_else() {
        let sha = "a".repeat(64);
        assert_eq!(blob_path(&format!("sha256:{sha}")).unwrap(), Path::new("blobs/sha256").join(&sha));
        for bad in ["", "sha256:", "sha256:../../etc", "md5:aa", &format!("sha256:{}", "/".repeat(64))] {
            assert!(blob_path(bad).is_err(), "{bad}");
        }
    }
}
