//! `lxm export`: a container as one file.

use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::copy::nested_is_left_out;
use super::name::MaybeNameArg;
use super::{Context, Format, render, require_root};
use crate::error::{Context as _, Error, Result};
use crate::ops::export::{Compression, Exported, export};
use crate::ops::import::{Checked, check_path, check_stream};
use crate::store::{AtFirstByte, Target, place_file, target};
use crate::types::{ContainerName, Size, SnapshotName};

/// Write a container to an archive, for `lxm import`
///
/// The archive is a compressed tar with the container's configuration, its files and a checksum. A
/// running container is frozen while its files are copied or snapshotted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, moving a container to another host:
  lxm export web -o - | ssh host2 lxm import -n web -")]
pub(super) struct Export {
    #[command(flatten)]
    name: MaybeNameArg,

    /// Archive to write; `-` is standard output [default: NAME.tar.zst]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Export this snapshot instead of the current state
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,

    /// Compression: zstd, xz, gzip or none [default: by the file name's ending, or zstd]
    #[arg(long, value_name = "FORMAT")]
    compression: Option<Compression>,

    /// Check that FILE can be imported whole, without importing it; `-` is standard input
    ///
    /// FILE is anything that `lxm import` takes. It is read to its end: its checksums, every file in it and the
    /// configuration. What an import would leave out is listed. Exits with 1 if it would fail. With NAME and without
    /// FILE, the archive that has just been written is checked.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    check: Option<Option<PathBuf>>,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let name = match (&self.name.name, &self.check) {
            (None, Some(Some(file))) => return check(context, file),
            (Some(_), Some(Some(_))) => {
                return Err(Error::usage("`--check FILE` checks an archive that is there, and exports nothing")
                    .hint("`lxm export NAME --check` checks what it has written"));
            }
            (None, Some(None)) => return Err(Error::usage("which archive? `lxm export --check FILE`")),
            (None, None) => {
                return Err(Error::usage("the name of a container is missing").hint("`lxm export NAME`"));
            }
            (Some(name), _) => name.clone(),
        };
        require_root("export a container")?;
        nested_is_left_out(context, &name);
        match &self.output {
            Some(path) if path == Path::new("-") => {
                if self.check.is_some() {
                    return Err(Error::usage("what was written to standard output cannot be read again")
                        .hint("`lxm export --check -` checks standard input"));
                }
                if std::io::stdout().is_terminal() {
                    return Err(Error::usage("standard output is a terminal; an archive is not written to one")
                        .hint("redirect it, or name a file with `-o FILE`"));
                }
                let compression = self.compression.unwrap_or(Compression::Zstd);
                let output = BufWriter::with_capacity(1 << 20, render::Output);
                let exported = export(&context.layout, &name, self.snapshot.as_ref(), compression, output)?;
                exported.remarks.iter().for_each(|remark| context.say(remark));
                Ok(0)
            }
            Some(path) => self.to_file(context, &name, path),
            None => {
                let extension = self.compression.unwrap_or(Compression::Zstd).extension();
                self.to_file(context, &name, Path::new(&format!("{name}.{extension}")))
            }
        }
    }

    /// The file appears when it is whole; what a link leads to is written in place.
    fn to_file(&self, context: &Context, name: &ContainerName, path: &Path) -> Result<u8> {
        let step = || format!("write `{}`", path.display());
        let compression = self.compression.or(Compression::of_file_name(path)).unwrap_or(Compression::Zstd);
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let file_name = path.file_name().ok_or_else(|| Error::usage("the path does not name a file").step(step()))?;
        let dir = File::open(dir).context(step)?;
        let mut exported = Exported::default();
        match target(dir.as_fd(), file_name).context(step)? {
            Target::Open(file) => {
                // Only a container that is there and can be read takes the place of what is there.
                let mut file = AtFirstByte::new(file);
                let output = BufWriter::with_capacity(1 << 20, &mut file);
                exported = export(&context.layout, name, self.snapshot.as_ref(), compression, output)?;
                file.sync().context(step)?;
            }
            Target::Place => place_file(dir.as_fd(), None, file_name, &mut |file| {
                let output = BufWriter::with_capacity(1 << 20, file);
                exported = export(&context.layout, name, self.snapshot.as_ref(), compression, output)?;
                file.sync_all().context(step)
            })
            .context(step)?,
        }
        exported.remarks.iter().for_each(|remark| context.say(remark));
        context.say(&format!("exported `{name}` to `{}` (contents' sha256 {})", path.display(), exported.digest));
        if self.check.is_some() {
            return check(context, path);
        }
        context.done(name, serde_json::json!({ "file": path.to_string_lossy(), "sha256": exported.digest }))
    }
}

/// Tells what an archive is, and what is wrong with it.
fn check(context: &Context, file: &Path) -> Result<u8> {
    let checked = match file == Path::new("-") {
        true => check_stream(&context.layout, std::io::stdin()),
        false => check_path(&context.layout, file)?,
    };
    if context.format == Format::Json {
        render::json(&checked)?;
    } else {
        tell(&checked)?;
    }
    match checked.restorable {
        true => {
            context.say(&format!("`{}` can be imported", file.display()));
            Ok(0)
        }
        false => Err(Error::failed(format!("`{}` cannot be imported", file.display()))),
    }
}

fn tell(checked: &Checked) -> Result<()> {
    let what = match (checked.format, &checked.name, &checked.exported) {
        ("export", Some(name), Some(when)) => format!("an export of `{name}` of {when}"),
        ("image", ..) => "an image of docker or OCI".to_owned(),
        ("tree", ..) => "an archive of files".to_owned(),
        _ => "no archive".to_owned(),
    };
    render::line(format!("{what}: {} entries, {} unpacked", checked.entries, Size::from_bytes(checked.size_bytes)))?;
    checked.notes.iter().try_for_each(|note| render::line(format!("note: {note}")))?;
    checked.problems.iter().try_for_each(|problem| render::line(format!("problem: {problem}")))
}
