use std::path::{Path, PathBuf};

use super::{Context, require_root};
use crate::error::Result;
use crate::ops::import::{Wish, import_path, import_stream};
use crate::types::{ContainerName, Size};

/// Make a container of what `lxm export` or another program wrote
///
/// Taken are: what `lxm export` wrote; a directory of an LXC container; a tree of /var/lib/machines,
/// with its .nspawn file; an archive of a docker or OCI image. What cannot be taken over is told.
///
/// Settings that give it more than a new container has are left out and listed, unless `--trust` is
/// said. An export keeps its identity, unless a container of this host has it. What was cut short or
/// changed on the way leaves nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lxm import web.tar.zst
  lxm import /var/lib/lxc/old -n new
  skopeo copy docker://debian:trixie oci-archive:d.tar && lxm import d.tar -n d")]
pub struct Import {
    /// What to read: a file, a directory, or `-` for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    source: PathBuf,

    /// Its name here [default: the one it had]
    #[arg(short, long, value_name = "NAME")]
    name: Option<ContainerName>,

    /// Where to keep its files: auto, dir, overlay or btrfs [default: `storage` of lxm.toml, or auto]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,

    /// Take over what gives it more than a new container has: privileges, the host's files and devices
    ///
    /// Also its addresses, published ports, autostart, schedule of snapshots, and files that LXC's
    /// configuration says are outside of the directory. For what comes from you or whom you trust.
    #[arg(long)]
    trust: bool,

    /// The most that it may become unpacked [default: 1GiB, or 64 times its packed size]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
}

impl Import {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("import a container")?;
        let layout = &context.layout;
        let storage = self.storage.or(layout.host_config()?.storage).unwrap_or_else(|| "auto".into());
        let wish = Wish { name: self.name, storage, trust: self.trust, max_size: self.max_size };
        let imported = if self.source == Path::new("-") {
            import_stream(layout, std::io::stdin(), &wish)?
        } else {
            import_path(layout, &self.source, &wish)?
        };
        for note in &imported.notes {
            context.say(note);
        }
        let storage = &imported.storage;
        context.say(&format!("imported `{}` (storage {}: {})", imported.name, storage.backend, storage.why));
        Ok(0)
    }
}
