use super::destroy::tell_left;
use super::{Context, NameArg, require_root};
use crate::error::Result;
use crate::ops::rename::rename;
use crate::types::ContainerName;

/// Rename a stopped container, and change its hostname
#[derive(Debug, clap::Args)]
pub(super) struct Rename {
    #[command(flatten)]
    name: NameArg,

    /// New name
    #[arg(value_name = "NEW-NAME")]
    to: ContainerName,
}

impl Rename {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("rename a container")?;
        rename(&context.layout, &self.name.name, &self.to)?;
        tell_left(context, &self.name.name);
        context.done(&self.to, serde_json::json!({ "from": self.name.name }))
    }
}
