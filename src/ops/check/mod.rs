//! What of the kernel and the tools this host offers, each missing thing with its remedy.
//!
//! Facts are tried or observed where that changes nothing on the host; where they cannot be seen
//! without root they are unknown, not missing.

mod cgroups;
mod confinement;
mod identity;
mod kernel;
mod network;
mod storage;
mod tools;
mod verdict;

pub(crate) use verdict::{CheckResult, CheckVerdict};

use crate::error::Result;
use crate::store::Layout;

/// Looks at everything.
pub(crate) fn check(layout: &Layout) -> Result<Vec<CheckResult>> {
    let config = kernel::KernelConfig::read();
    let mut checks = kernel::checks(&config);
    checks.extend(cgroups::checks()?);
    checks.extend(storage::checks(layout, &config));
    checks.extend(network::checks(layout, &config));
    checks.extend(tools::checks());
    checks.extend(identity::checks(layout));
    checks.push(confinement::check(layout));
    Ok(checks)
}
