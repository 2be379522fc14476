use super::{Context, Format, NameArg, render, require_root};
use crate::error::Result;
use crate::ops::mount;

/// Mount the files of a stopped container and print the path
///
/// `lxm umount` unmounts them.
#[derive(Debug, clap::Args)]
pub(super) struct Mount {
    #[command(flatten)]
    name: NameArg,
}

/// Unmount what `lxm mount` has mounted
#[derive(Debug, clap::Args)]
pub(super) struct Umount {
    #[command(flatten)]
    name: NameArg,
}

impl Mount {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("mount a container")?;
        let rootfs = mount::mount(&context.layout, &self.name.name)?;
        if context.format == Format::Text {
            render::exactly(&format!("{}\n", rootfs.display()))?;
        }
        context.done(&self.name.name, serde_json::json!({ "rootfs": rootfs }))
    }
}

impl Umount {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("unmount a container")?;
        mount::umount(&context.layout, &self.name.name)?;
        context.done(&self.name.name, ())
    }
}
