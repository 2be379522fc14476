//! Who keeps the supervisors: a bare host's own command line, or systemd where that is PID 1.
//!
//! It may name `supervisor` and what stands below it. Start reading at `service_manager`.

pub(crate) mod bare;
pub(crate) mod force;
mod service_manager;
pub(crate) mod systemd;

pub(crate) use service_manager::{ServiceManager, StartMode, StopMode};

/// The service manager that runs here.
pub(crate) fn detect() -> Box<dyn ServiceManager> {
    if crate::systemd::is_running() { Box::new(systemd::Systemd) } else { Box::new(bare::Bare) }
}
