use super::CapabilitySet;
use super::lsm::{Labels, OpenLabels};
use super::seccomp::SeccompFilter;
use crate::error::Result;

/// What keeps a guest's processes within bounds: its init and every attached command alike.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    pub capabilities: CapabilitySet,
    pub filter: SeccompFilter,
    pub labels: Labels,
}

/// Confines this process for good, and with `labels` what it executes next.
///
/// `labels` were opened while /proc was the host's. Filter first: installing them needs CAP_SYS_ADMIN,
/// which a container may be without.
pub(crate) fn confine(confinement: &Confinement, labels: &OpenLabels) -> Result<()> {
    confinement.filter.install()?;
    confinement.capabilities.limit_this_process()?;
    labels.put_on()
}
