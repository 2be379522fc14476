use super::Context;
use crate::error::Result;
use crate::supervisor::{self, Manager};
use crate::sys::socket::Packets;
use crate::types::ContainerName;

/// Runs a container's supervisor; for `lxm start` and the unit lxm@.service
#[derive(Debug, clap::Args)]
pub struct Supervise {
    name: ContainerName,

    /// Descriptor of the socket to the command that started it; without one it is systemd's
    #[arg(long)]
    command_fd: Option<i32>,

    #[arg(long, default_value_t = 24)]
    rows: u16,

    #[arg(long, default_value_t = 80)]
    cols: u16,
}

impl Supervise {
    pub fn run(self, context: &Context) -> Result<u8> {
        if context.layout.config(&self.name).is_ok_and(|config| config.security.privileged) {
            crate::sys::reexec::ensure_sealed()?;
        }
        let manager = match self.command_fd {
            Some(fd) => Manager::command(Packets::from(crate::sys::inherited_fd(fd)?), self.rows, self.cols),
            None => Manager::systemd()?,
        };
        Ok(supervisor::run(&context.layout, &self.name, manager))
    }
}
