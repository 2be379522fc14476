use std::time::Duration;

use crate::container::status::Observer;
use crate::error::Result;
use crate::store::{Layout, OperationLock};
use crate::types::ContainerName;

/// How long the kernel may take: one of the guest's processes may wait for a disk.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Freezes or thaws all processes of a guest; done already is done.
///
/// Fails with `Kind::Conflict` if it does not run, with `Kind::TimedOut` after 10 s.
pub(crate) fn set_frozen(layout: &Layout, name: &ContainerName, frozen: bool) -> Result<()> {
    layout.require(name)?;
    let _lock = OperationLock::acquire(layout, name)?;
    let observer = Observer::new(layout)?;
    observer.running(name)?.cgroup().set_frozen(frozen, TIMEOUT)
}
