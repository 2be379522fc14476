use super::stop::{HowArgs, stop_one};
use super::{Context, NamesArg, for_each, require_root};
use crate::container::boot_report::order;
use crate::error::Result;
use crate::ops::beside_unit;
use crate::ops::dependants::requiring;
use crate::ops::destroy::{InUse, destroy};
use crate::types::ContainerName;

/// Delete containers with their files, snapshots and logs
#[derive(Debug, clap::Args)]
pub(super) struct Destroy {
    #[command(flatten)]
    names: NamesArg,

    /// Kill containers that are running, then delete them
    #[arg(short, long)]
    force: bool,
}

impl Destroy {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        require_root("destroy a container")?;
        let in_use = if self.force { InUse::Force } else { InUse::Refuse };
        let names = self.names.get(context, |_| true)?;
        if self.force {
            let order = order(&context.layout)?;
            let mut others = super::stop::requiring(context, &order, &names)?;
            others.retain(|name| !names.contains(name));
            let how = HowArgs::default();
            let stopped = for_each::in_order(context, order.stop(others), |name| stop_one(context, name, &how))?;
            if stopped.status != 0 {
                return stopped.finish(context);
            }
        }
        for_each::for_each(context, &names, |name| {
            destroy(&context.layout, name, in_use)?;
            context.say(&format!("destroyed `{name}`"));
            tell_left(context, name);
            for other in requiring(&context.layout, name)? {
                context
                    .say(&format!("warning: `{other}` requires `{name}` (`boot.requires`) and does not start at boot"));
            }
            Ok(())
        })
    }
}

/// A name that is free again still has what the admin has set for its unit.
pub(super) fn tell_left(context: &Context, name: &ContainerName) {
    for file in beside_unit::left(&context.layout, name) {
        context.say(&format!("`{}` stays, and holds for the next container `{name}`", file.display()));
    }
}
