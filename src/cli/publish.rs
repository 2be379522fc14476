use super::{Context, Format, NameArg, render, require_root};
use crate::error::Result;
use crate::ops::publish::publish;
use crate::types::{ContainerName, SnapshotName};

/// Make an image from a container, for `lxm create -t IMAGE`
///
/// Machine-id, ssh host keys and the like are not in the image: each container that is created from
/// it gets its own. Publishing again under the same name replaces the image.
#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    #[command(flatten)]
    name: NameArg,

    /// Name of the image, for `create -t`
    image: ContainerName,

    /// Publish this snapshot instead of the current state
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,
}

impl Publish {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("publish a container")?;
        let image = &self.image;
        let (id, remarks) = publish(&context.layout, &self.name.name, self.snapshot.as_ref(), image)?;
        remarks.iter().for_each(|remark| context.say(remark));
        if context.format == Format::Text {
            render::line(&id)?;
        }
        context.say(&format!(
            "create containers from it with `{}`",
            context.layout.command(format_args!("create -t {image} NAME"))
        ));
        context.done(&self.name.name, serde_json::json!({ "id": id, "template": image }))
    }
}
