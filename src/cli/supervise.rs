use std::ffi::OsStr;
use std::path::PathBuf;

use crate::error::Result;
use crate::supervisor::{self, Manager};
use crate::sys::socket::Packets;
use crate::types::ContainerName;

/// Runs a container's supervisor; for `lxm start` and the unit lxm@.service
///
/// Not one of the verbs that people type: it is a command line of its own, so that a start need
/// not build all of theirs a second time.
#[derive(Debug, clap::Parser)]
#[command(name = "lxm supervise")]
pub(super) struct Supervise {
    name: ContainerName,

    /// Directory of the containers
    #[arg(long)]
    path: Option<PathBuf>,

    /// Descriptor of the socket to the command that started it; without one it is systemd's
    #[arg(long)]
    command_fd: Option<i32>,

    #[arg(long, default_value_t = 24)]
    rows: u16,

    #[arg(long, default_value_t = 80)]
    cols: u16,
}

impl Supervise {
    /// What this program is called with, if that is a supervisor's command line.
    pub(super) fn from_args() -> Option<clap::error::Result<Self>> {
        let mut words = std::env::args_os().skip(1);
        (words.next().as_deref() == Some(OsStr::new("supervise"))).then(|| {
            let program = std::iter::once("lxm supervise".into());
            clap::Parser::try_parse_from(program.chain(words))
        })
    }

    pub(super) fn run(self) -> Result<u8> {
        let layout = super::context::layout(self.path)?;
        if layout.config(&self.name).is_ok_and(|config| config.security.privileged) {
            crate::sys::reexec::ensure_sealed()?;
        }
        let manager = match self.command_fd {
            Some(fd) => Manager::command(Packets::from(crate::sys::inherited_fd(fd)?), self.rows, self.cols),
            None => Manager::systemd()?,
        };
        Ok(supervisor::run(&layout, &self.name, manager))
    }
}
