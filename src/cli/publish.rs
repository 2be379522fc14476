use super::{Context, Format, NameAndWords, render, require_root};
use crate::error::Result;
use crate::ops::publish::publish;
use crate::types::SnapshotName;

/// Make an image of a container, for `lxm create -t IMAGE`
///
/// The image has no identity of its own; each container made of it gets one. Publishing again under
/// the same name replaces it.
#[derive(Debug, clap::Args)]
#[command(override_usage = "lxm publish [OPTIONS] <NAME> <IMAGE>")]
pub struct Publish {
    #[command(flatten)]
    names: NameAndWords,

    /// Its state of then, rather than of now
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<SnapshotName>,
}

impl Publish {
    pub fn run(self, context: &Context) -> Result<u8> {
        require_root("publish a container")?;
        let (name, [image]) = self.names.get(["IMAGE"])?;
        let id = publish(&context.layout, &name, self.snapshot.as_ref(), &image.parse()?)?;
        match context.format {
            Format::Text => render::line(&id)?,
            Format::Json => render::json(&serde_json::json!({ "id": id, "template": image }))?,
        }
        context.say(&format!(
            "`{}` makes containers of it",
            context.layout.command(format_args!("create -t {image} NAME"))
        ));
        Ok(0)
    }
}
