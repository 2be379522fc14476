//! The host's service manager, and what lxm asks of it.

use std::time::Duration;

use crate::client::ReplyTimeout;
use crate::error::Result;
use crate::proto::control::{self, StopStage};
use crate::store::Layout;
use crate::types::ContainerName;

/// How a container is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StartMode {
    /// Rows and columns of the console until a client connects to it.
    pub window: (u16, u16),
    /// How long the execution of init may take.
    pub limit: Duration,
}

/// How a guest is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopMode {
    /// An orderly shutdown; a kill when that takes longer.
    Graceful {
        limit: Duration,
    },
    Kill,
}

/// How long a boot takes at most on a busy host: the timeouts of the supervisor's own steps are shorter.
const BOOT: Duration = Duration::from_secs(240);

impl StopMode {
    /// The request to the supervisor.
    pub(super) fn message(self) -> control::StopRequest {
        match self {
            StopMode::Kill => control::StopRequest { timeout_ms: 0 },
            // Zero would be a kill.
            StopMode::Graceful { limit } => {
                control::StopRequest { timeout_ms: limit.as_millis().clamp(1, u128::from(u64::MAX)) as u64 }
            }
        }
    }

    /// How long the supervisor may send nothing: a kill is immediate, and a supervisor that does not kill the
    /// guest at its deadline is stuck.
    pub(super) fn reply_timeout(self) -> ReplyTimeout {
        let first = match self {
            StopMode::Kill => Duration::from_secs(10),
            StopMode::Graceful { limit } => limit.saturating_add(Duration::from_secs(60)),
        };
        ReplyTimeout { first, then: first }
    }

    /// The same for a reboot, during which the supervisor sends nothing until init runs.
    pub(super) fn reboot_reply_timeout(self) -> ReplyTimeout {
        let ReplyTimeout { first, then } = self.reply_timeout();
        ReplyTimeout { first, then: then.saturating_add(BOOT) }
    }

    /// How long the guest's own shutdown may take.
    pub(super) fn limit(self) -> Duration {
        match self {
            StopMode::Kill => Duration::ZERO,
            StopMode::Graceful { limit } => limit,
        }
    }
}

/// The service manager of this host. The caller holds the container's operation lock.
pub(crate) trait ServiceManager {
    /// Starts the supervisor and returns when the guest's init has been executed.
    ///
    /// Fails with the supervisor's own reason, and then nothing of the container is left running.
    fn start(&self, layout: &Layout, name: &ContainerName, how: StartMode) -> Result<()>;

    /// Stops the container and returns when nothing of it is left; returns the stop stage that was needed.
    /// `tell` is called at each stage. Fails with `Kind::Conflict` if it does not run. A kill works without a
    /// supervisor that answers; the caller sweeps what is left.
    fn stop(&self, layout: &Layout, name: &ContainerName, how: StopMode, tell: &dyn Fn(StopStage))
    -> Result<StopStage>;

    /// Shuts the guest down in its own way and boots it again, as `reboot` inside would.
    fn reboot(
        &self,
        layout: &Layout,
        name: &ContainerName,
        how: StopMode,
        tell: &dyn Fn(StopStage),
    ) -> Result<StopStage>;
}
