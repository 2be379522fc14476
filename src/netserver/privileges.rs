//! Giving up root once the sockets are open.

use caps::Capability;
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};

use crate::error::{Context, Error, Result};
use crate::sys::privileges;

/// The package's own user; where it was not made, `nobody`.
const USERS: [&str; 2] = ["lxm-net", "nobody"];
/// Port 53 may come free later; nothing else is needed any more.
const KEPT: Capability = Capability::CAP_NET_BIND_SERVICE;

/// Who the server runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerUser {
    pub uid: Uid,
    pub gid: Gid,
}

impl ServerUser {
    pub(super) fn find() -> Result<Self> {
        for name in USERS {
            if let Some(user) = User::from_name(name).context(|| format!("look up user `{name}`"))? {
                return Ok(ServerUser { uid: user.uid, gid: user.gid });
            }
        }
        Err(Error::host_lacks("there is neither a user `lxm-net` nor `nobody` to run the lease server as")
            .hint("add one with `useradd --system lxm-net`"))
    }

    /// Becomes that user for good, with no capability but the one to bind low ports.
    pub(super) fn assume(self) -> Result<()> {
        let drop = || -> Result<()> {
            privileges::bound(&[KEPT])?;
            caps::securebits::set_keepcaps(true).map_err(|e| Error::failed(e.to_string()))?;
            setgroups(&[])?;
            setresgid(self.gid, self.gid, self.gid)?;
            setresuid(self.uid, self.uid, self.uid)?;
            privileges::keep(&[KEPT])?;
            nix::sys::prctl::set_no_new_privs()?;
            Ok(())
        };
        drop().context(|| format!("become user {}", self.uid))
    }
}
