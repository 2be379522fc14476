//! Archives of docker and OCI images: layers over one another, and a configuration of an application.

mod manifest;
mod rows;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

#[cfg(any(test, fuzzing))]
pub(super) use self::manifest::read_each;
use self::manifest::{OciImage, arch, of_docker, of_oci};
use self::rows::ReadImage;
use super::foreign::{self, Translated};
use super::make::{ContainerParts, Imported, make};
use super::options::ImportOptions;
use crate::config::Init;
use crate::distro::{self, Extras, HostKeys};
use crate::error::{Context, Error, Result};
use crate::image::Remarks;
use crate::image::budget::Budget;
use crate::image::copy::copy_tree;
use crate::image::survey::{Survey, survey};
use crate::image::unpack::{raise_top, unpack, unpack_layer};
use crate::progress::Progress;
use crate::store::{self, Layout};
use crate::sys::digest::sha256;
use crate::sys::fs::{open_dir, open_file_in_root, open_in_root};
use crate::terminal::quoted;

/// As many as docker can stack.
const MOST_LAYERS: usize = 127;

/// Makes a container of an image's archive; of a directory in the same form with [`import_dir`].
pub(super) fn import_archive(
    layout: &Layout,
    archive: impl Read + Send,
    budget: &Budget,
    options: &ImportOptions,
) -> Result<Imported> {
    let mut archive = Some(archive);
    import(layout, budget, options, &mut |place| {
        let dir = place.join("archive");
        let progress = Progress::bytes("read the archive", 0);
        let summary = unpack(archive.take().expect("read once"), &dir, budget, &progress)?;
        progress.finish();
        Ok((dir, summary.remarks))
    })
}

pub(super) fn import_dir(layout: &Layout, dir: &Path, options: &ImportOptions) -> Result<Imported> {
    let budget = Budget::new(options.max_size);
    import(layout, &budget, options, &mut |_| Ok((dir.to_owned(), Remarks::default())))
}

pub(super) fn is_layout(dir: &Path) -> bool {
    dir.join("oci-layout").is_file() || dir.join("manifest.json").is_file()
}

fn import(
    layout: &Layout,
    budget: &Budget,
    options: &ImportOptions,
    spread: &mut dyn FnMut(&Path) -> Result<(PathBuf, Remarks)>,
) -> Result<Imported> {
    let name = options.name.clone().ok_or_else(|| {
        Error::usage("an image has no name that a container could have").hint("give it one with `-n NAME`")
    })?;
    let mut notes = Vec::new();
    let mut said = Vec::new();
    let mut hints = Vec::new();
    let storage = make(layout, &name, options, &mut notes, &mut |root, place| {
        let (dir, read) = spread(place)?;
        if !is_layout(&dir) && dir.starts_with(place) {
            return plain_tree(layout, &dir, root, read);
        }
        let archive = open_dir(&dir)?;
        let wanted = options.image.as_deref();
        let image =
            if dir.join("oci-layout").is_file() { of_oci(&archive, wanted)? } else { of_docker(&archive, wanted)? };
        let arch = arch(&image.config, &mut said)?;
        if image.layers.len() > MOST_LAYERS {
            return Err(Error::failed(format!("it has more than {MOST_LAYERS} layers")));
        }
        let mut remarks = Remarks::default();
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
            remarks.append(summary.context(|| format!("unpack layer {}", nth + 1))?.remarks);
            progress.finish();
        }
        let mut made = translate(&image, root)?;
        made.with_network(layout, "eth0")?;
        said.append(&mut made.notes);
        hints.append(&mut made.hints);
        if dir.starts_with(place) {
            store::remove_tree(&dir)?;
        }
        let mut origin = foreign::origin(image.tag.as_deref().unwrap_or("oci"));
        origin.arch = arch;
        Ok(ContainerParts { config_text: made.text()?, origin, keys: HostKeys::Fresh, remarks })
    });
    let storage = storage.context(|| format!("import `{name}`"))?;
    notes.append(&mut said);
    notes.extend(foreign::hint(layout, &name, &hints)?);
    Ok(Imported { name, storage, notes })
}

/// A container of the archive of a root file system, unpacked in `dir`, as `machinectl import-tar` makes one.
fn plain_tree(layout: &Layout, dir: &Path, root: &Path, mut remarks: Remarks) -> Result<ContainerParts> {
    remarks.append(raise_top(dir)?);
    distro::inspect(open_dir(dir)?.as_fd(), None)?;
    let progress = Progress::bytes("copy its files", 0);
    remarks.append(copy_tree(dir, root, &progress)?);
    progress.finish();
    store::remove_tree(dir)?;
    distro::prepare(root, &Extras::default())?;
    let mut made = Translated::new()?;
    made.with_network(layout, "eth0")?;
    Ok(ContainerParts { config_text: made.text()?, origin: foreign::origin("tar"), keys: HostKeys::Fresh, remarks })
}

/// Surveys the layers of the image in `dir` without unpacking them, and checks their digests.
pub(super) fn survey_layers(dir: &Path, budget: &Budget, notes: &mut Vec<String>) -> Result<Vec<Survey>> {
    let archive = open_dir(dir)?;
    let image = if dir.join("oci-layout").is_file() { of_oci(&archive, None)? } else { of_docker(&archive, None)? };
    arch(&image.config, notes)?;
    let mut surveys = Vec::new();
    for (nth, (path, digest)) in image.layers.iter().enumerate() {
        let step = || format!("check layer {}", nth + 1);
        let file = open_file_in_root(&archive, path).context(step)?;
        if let Some(digest) = digest {
            check(&file, digest).context(step)?;
        }
        surveys.push(survey(budget.counted(&file), None, budget, &mut |_, _| Ok(())).context(step)?);
    }
    Ok(surveys)
}

fn check(mut file: &File, digest: &str) -> Result<()> {
    use std::io::Seek;
    let found = sha256(file)?;
    file.rewind()?;
    match format!("sha256:{found}") == digest {
        true => Ok(()),
        false => Err(Error::failed("it does not have its digest")),
    }
}

/// Where the command of an image without an init is written to.
const COMMAND: &str = "/.lxm-command";

/// Makes the command of an image without an init the guest's first process.
fn run_command_as_init(read: &mut ReadImage, command_line: &str, root: &Path, tree: BorrowedFd<'_>) -> Result<()> {
    let dir = if read.working_dir.is_empty() { "/" } else { &read.working_dir };
    let script = format!(
        "#!/bin/sh\n# Written by lxm: what the image runs.\n{}cd -- {} && exec {command_line}\n",
        read.path.as_deref().map(|path| format!("export PATH={}\n", quoted(path))).unwrap_or_default(),
        quoted(dir)
    );
    if open_in_root(tree, "bin/sh", OFlags::PATH, Mode::empty()).is_err() {
        return Err(Error::config("the image has neither an init nor a shell to run its command with"));
    }
    let view = distro::View::open(root)?;
    distro::edit::apply(&view, &[distro::Edit::write(&COMMAND[1..], script).mode(0o755)])?;
    read.made.config.boot.init = Some(COMMAND.into());
    read.made.config.boot.init_type = Init::Other;
    read.made.config.boot.stop_signal = read.stop_signal;
    read.made.notes.push(format!("it has no init: its command is PID 1 ({command_line})"));
    Ok(())
}

/// Reads the settings of an image whose files are in `root`, and makes of them a guest.
fn translate(image: &OciImage, root: &Path) -> Result<Translated> {
    let settings = image.config.config.clone().unwrap_or_default();
    let mut read = ReadImage::of(&settings)?;
    let command: Vec<String> = read.entrypoint.iter().chain(&read.cmd).cloned().collect();
    let command_line = command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let tree = open_dir(root)?;
    match distro::inspect(tree.as_fd(), None) {
        Ok(guest) => {
            distro::compat::check(&guest)?;
            distro::prepare(root, &Extras::default())?;
            if !command.is_empty() {
                read.made.notes.push(format!("it boots its init; the image's command is not run: {command_line}"));
            }
        }
        Err(_) if command.is_empty() => {
            return Err(Error::config("the image has neither an init nor a command")
                .hint("a container boots an init: take an image of a whole system"));
        }
        Err(_) => run_command_as_init(&mut read, &command_line, root, tree.as_fd())?,
    }
    Ok(read.made)
}

/// The tables as docs/IMPORT.md has them.
#[cfg(test)]
pub(super) fn document() -> [String; 2] {
    use super::table::document;
    [document(rows::IMAGE_ROWS, ""), document(rows::ROWS, "config.")]
}

/// Whether a table has a row for a field of the image's configuration.
#[cfg(test)]
pub(super) fn knows(key: &str) -> bool {
    use super::table::find;
    match key.strip_prefix("config.") {
        Some(key) => find(rows::ROWS, key).is_some(),
        None => find(rows::IMAGE_ROWS, key).is_some(),
    }
}

/// Reads the settings of an image's configuration.
#[cfg(any(test, fuzzing))]
pub(super) fn translated(text: &[u8]) -> Option<Translated> {
    let config: manifest::ImageConfig = serde_json::from_slice(text).ok()?;
    Some(ReadImage::of(&config.config.unwrap_or_default()).ok()?.made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_is_taken_over_or_told() {
        let text = r#"{"config": {"User": "www", "Env": ["PATH=/bin", "A=b=c", "LOST", "=x"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "x": {}},
            "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT", "Healthcheck": {"Test": ["CMD", "x"]}, "Labels": {"a": "b"},
            "Memory": 1073741824, "CpuShares": 512, "StopTimeout": 10, "OnBuild": null, "Tty": false, "Domainname": "", "Shiny": 1}}"#;
        let made = translated(text.as_bytes()).unwrap();
        let config = &made.config;
        assert_eq!(config.environment.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["A=b=c"]);
        assert_eq!(config.limits.memory.map(|memory| memory.bytes()), Some(1 << 30));
        assert_eq!(
            (config.limits.cpu_weight, config.boot.stop_timeout),
            (Some(50), crate::types::Timeout::from_secs(10))
        );
        assert_eq!(made.hints.len(), 2, "{:?}", made.hints);
        let told = made.notes.join("\n");
        for what in ["User", "LOST", "ExposedPorts", "/data", "Healthcheck", "Shiny"] {
            assert!(told.contains(what), "{what} in {told}");
        }
        assert!(!["Labels", "OnBuild", "Tty", "Domainname"].iter().any(|what| told.contains(what)), "{told}");
        assert!(!made.says_network);
        let without = translated(br#"{"config": {"NetworkDisabled": true}}"#).unwrap();
        assert!(without.says_network && without.config.network.is_empty());
        assert!(translated(br#"{"config": {"Env": 7}}"#).is_none());
    }
}
