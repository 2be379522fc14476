//! `lxm export`: a container as one file.

use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::copy::nested_is_left_out;
use super::{Context, NameArg, render, require_root};
use crate::error::{Context as _, Error, Result};
use crate::ops::export::{Compression, export};
use crate::store::{AtFirstByte, Target, place_file, target};
use crate::types::{ContainerName, SnapshotName};

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
    name: NameArg,

    /// Archive to write; `-` is standard output [default: NAME.tar.zst]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Export this snapshot instead of the current state
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,

    /// Compression: zstd, xz, gzip or none [default: by the file name's ending, or zstd]
    #[arg(long, value_name = "FORMAT")]
    compression: Option<Compression>,
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("export a container")?;
        let name = self.name.name.clone();
        nested_is_left_out(context, &name);
        match &self.output {
            Some(path) if path == Path::new("-") => {
                if std::io::stdout().is_terminal() {
                    return Err(Error::usage("standard output is a terminal; an archive is not written to one")
                        .hint("redirect it, or name a file with `-o FILE`"));
                }
                let compression = self.compression.unwrap_or(Compression::Zstd);
                let output = BufWriter::with_capacity(1 << 20, render::Output);
                export(&context.layout, &name, self.snapshot.as_ref(), compression, output)?;
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
        let mut digest = String::new();
        match target(dir.as_fd(), file_name).context(step)? {
            Target::Open(file) => {
                // Only a container that is there and can be read takes the place of what is there.
                let mut file = AtFirstByte::new(file);
                let output = BufWriter::with_capacity(1 << 20, &mut file);
                digest = export(&context.layout, name, self.snapshot.as_ref(), compression, output)?;
                file.sync().context(step)?;
            }
            Target::Place => place_file(dir.as_fd(), None, file_name, &mut |file| {
                let output = BufWriter::with_capacity(1 << 20, file);
                digest = export(&context.layout, name, self.snapshot.as_ref(), compression, output)?;
                file.sync_all().context(step)
            })
            .context(step)?,
        }
        context.say(&format!("exported `{name}` to `{}` (contents' sha256 {digest})", path.display()));
        context.done(name, serde_json::json!({ "file": path, "sha256": digest }))
    }
}
