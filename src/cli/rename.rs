use super::{Context, NameAndWords, require_root};
use crate::error::Result;
use crate::ops::rename::rename;
use crate::types::ContainerName;

/// Give a stopped container another name, and its guest another hostname
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm rename [OPTIONS] NAME NEW-NAME")]
pub struct Rename {
    #[command(flatten)]
    names: NameAndWords,
}

impl Rename {
    pub fn run(self, context: &Context) -> Result<u8> {
        let (from, [to]) = self.names.get(["NEW-NAME"])?;
        let to: ContainerName = to.parse()?;
        require_root("rename a container")?;
        rename(&context.layout, &from, &to)?;
        Ok(0)
    }
}
