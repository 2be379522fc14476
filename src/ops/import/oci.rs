//! Archives of docker and OCI images: layers over one another, and a configuration of an application.

mod manifest;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

#[cfg(any(test, fuzzing))]
pub(super) use self::manifest::read_each;
use self::manifest::{OciImage, Process, arch, of_docker, of_oci};
use super::foreign::{self, Translated};
use super::make::{ContainerParts, ImportOptions, Imported, make};
use crate::config::{Init, PublishedPort};
use crate::distro::{self, Extras, HostKeys};
use crate::error::{Context, Error, Result};
use crate::image::budget::Budget;
use crate::image::unpack::{unpack, unpack_layer};
use crate::progress::Progress;
use crate::store::{self, Layout};
use crate::sys::digest::sha256;
use crate::sys::fs::{open_dir, open_file_in_root, open_in_root};
use crate::terminal::quoted;
use crate::types::ContainerName;

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
        unpack(archive.take().expect("read once"), &dir, budget, &progress)?;
        progress.finish();
        Ok(dir)
    })
}

pub(super) fn import_dir(layout: &Layout, dir: &Path, options: &ImportOptions) -> Result<Imported> {
    let budget = Budget::new(options.max_size);
    import(layout, &budget, options, &mut |_| Ok(dir.to_owned()))
}

pub(super) fn is_layout(dir: &Path) -> bool {
    dir.join("oci-layout").is_file() || dir.join("manifest.json").is_file()
}

fn import(
    layout: &Layout,
    budget: &Budget,
    options: &ImportOptions,
    spread: &mut dyn FnMut(&Path) -> Result<PathBuf>,
) -> Result<Imported> {
    let name = options.name.clone().ok_or_else(|| {
        Error::usage("an image has no name that a container could have").hint("give it one with `-n NAME`")
    })?;
    let mut notes = Vec::new();
    let mut said = Vec::new();
    let storage = make(layout, &name, options, &mut notes, &mut |root, place| {
        let dir = spread(place)?;
        let archive = open_dir(&dir)?;
        let image = if dir.join("oci-layout").is_file() { of_oci(&archive)? } else { of_docker(&archive)? };
        let arch = arch(&image.config, &mut said)?;
        if image.layers.len() > MOST_LAYERS {
            return Err(Error::failed(format!("it has more than {MOST_LAYERS} layers")));
        }
        for (nth, (path, digest)) in image.layers.iter().enumerate() {
            let progress = Progress::bytes(format!("unpack layer {} of {}", nth + 1, image.layers.len()), 0);
            let file = open_file_in_root(&archive, path)?;
            if let Some(digest) = digest {
                check(&file, digest).context(|| format!("check layer {}", nth + 1))?;
            }
            // Of a directory each file is what was packed; of an archive that was the archive.
            let packed: Box<dyn Read + Send> =
                if dir.starts_with(place) { Box::new(&file) } else { Box::new(budget.counted(&file)) };
            unpack_layer(packed, root, budget, &progress).context(|| format!("unpack layer {}", nth + 1))?;
            progress.finish();
        }
        let mut made = translate(layout, &name, &image, root)?;
        made.with_network(layout)?;
        said.append(&mut made.notes);
        if dir.starts_with(place) {
            store::remove_tree(&dir)?;
        }
        let mut origin = foreign::origin(image.tag.as_deref().unwrap_or("oci"));
        origin.arch = arch;
        Ok(ContainerParts { config_text: made.text()?, origin, keys: HostKeys::Fresh })
    });
    let storage = storage.context(|| format!("import `{name}`"))?;
    notes.append(&mut said);
    Ok(Imported { name, storage, notes })
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
fn run_command_as_init(
    made: &mut Translated,
    process: &Process,
    command_line: &str,
    root: &Path,
    tree: BorrowedFd<'_>,
) -> Result<()> {
    let path = process.env.iter().flatten().find_map(|variable| variable.strip_prefix("PATH="));
    let dir = if process.working_dir.is_empty() { "/" } else { &process.working_dir };
    let script = format!(
        "#!/bin/sh\n# Written by lxm: what the image runs.\n{}cd -- {} && exec {command_line}\n",
        path.map(|path| format!("export PATH={}\n", quoted(path))).unwrap_or_default(),
        quoted(dir)
    );
    if open_in_root(tree, "bin/sh", OFlags::PATH, Mode::empty()).is_err() {
        return Err(Error::config("the image has neither an init nor a shell to run its command with"));
    }
    let view = distro::View::open(root)?;
    distro::edit::apply(&view, &[distro::Edit::write(&COMMAND[1..], script).mode(0o755)])?;
    made.config.boot.init = Some(COMMAND.into());
    made.config.boot.init_type = Init::Other;
    made.notes.push(format!("it has no init: its command is PID 1 ({command_line})"));
    Ok(())
}

fn translate(layout: &Layout, name: &ContainerName, image: &OciImage, root: &Path) -> Result<Translated> {
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
        Err(_) => run_command_as_init(&mut made, process, &command_line, root, tree.as_fd())?,
    }
    if !matches!(process.user.as_str(), "" | "root" | "0" | "0:0") {
        made.left_out(&format!("User {}", process.user));
    }
    for port in process.exposed_ports.iter().flat_map(BTreeMap::keys) {
        let number = port.split('/').next().unwrap_or(port);
        let published = format!("{number}:{port}");
        // What is proposed to be typed is a port and nothing else.
        match published.parse::<PublishedPort>() {
            Ok(published) => made.notes.push(format!(
                "it listens on {port}: `{}` leads there",
                layout
                    .command(format_args!("config set {name} network.eth0.publish {}", quoted(&published.to_string())))
            )),
            Err(_) => made.left_out(&format!("ExposedPorts {port}")),
        }
    }
    for volume in process.volumes.iter().flat_map(BTreeMap::keys) {
        made.notes.push(format!("its volume `{volume}` is part of its files"));
    }
    Ok(made)
}
