//! `lxm import`: containers of exports and of other programs.

use std::path::{Path, PathBuf};

use super::{Context, require_root};
use crate::error::Result;
use crate::ops::import::{ImportOptions, import_path, import_stream};
use crate::types::{ContainerName, Size};

/// Create a container from an export, an LXC directory or an OCI image
///
/// SOURCE is one of: an archive that `lxm export` wrote; the directory of an LXC container; a
/// directory in /var/lib/machines, with its .nspawn file; an archive of a docker or OCI image.
/// Settings that lxm does not have are listed, with the reason.
///
/// Settings that grant more rights than a new container has are dropped and listed, unless --trust
/// is given. An export keeps its identity (uuid, MAC addresses), unless a container on this host has
/// it. A truncated or modified export is refused, and nothing is created.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lxm import web.tar.zst
  lxm import /var/lib/lxc/old -n new
  skopeo copy docker://debian:trixie oci-archive:d.tar && lxm import d.tar -n d")]
pub(super) struct Import {
    /// File or directory to import, or `-` for standard input
    #[arg(value_name = "SOURCE", default_value = "-")]
    source: PathBuf,

    /// Name of the new container [default: its name in SOURCE]
    #[arg(short, long, value_name = "NAME")]
    name: Option<ContainerName>,

    /// Storage backend: auto, dir, overlay or btrfs [default: `storage` in lxm.toml, or auto]
    #[arg(long, value_name = "BACKEND")]
    storage: Option<String>,

    /// Keep settings that grant more rights than a new container has
    ///
    /// These are privileges, files and devices of the host, addresses, published ports, autostart, the
    /// snapshot schedule, and files outside of the directory that an LXC configuration names. Only
    /// for sources that you trust like root.
    #[arg(long)]
    trust: bool,

    /// How many ids the guest has, for files of owners above 65535 [default: 65536]
    #[arg(long, value_name = "COUNT")]
    id_range_size: Option<u32>,

    /// Which image, of an archive with several: its name and tag, such as debian:trixie
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,

    /// Maximum unpacked size, such as 20GiB [default: 64 times the packed size, at least 1GiB]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("import a container")?;
        let layout = &context.layout;
        let storage = self.storage.or(layout.host_config()?.storage).unwrap_or_else(|| "auto".into());
        let options = ImportOptions {
            name: self.name,
            storage,
            trust: self.trust,
            id_range_size: self.id_range_size,
            image: self.image,
            max_size: self.max_size,
        };
        let imported = if self.source == Path::new("-") {
            import_stream(layout, std::io::stdin(), &options)?
        } else {
            import_path(layout, &self.source, &options)?
        };
        for note in &imported.notes {
            context.say(note);
        }
        let storage = &imported.storage;
        context.say(&format!("imported `{}` (storage {}: {})", imported.name, storage.backend, storage.why));
        context.done(&imported.name, serde_json::json!({ "storage": storage.backend }))
    }
}
