use super::CapabilitySet;
use super::seccomp::Filters;
use crate::error::Result;

/// What keeps a guest's processes within bounds: its init and every attached command alike.
#[derive(Debug, Clone)]
pub struct Confinement {
    pub capabilities: CapabilitySet,
    pub filters: Filters,
}

/// Confines this process for good.
///
/// Filters first: installing them needs CAP_SYS_ADMIN, which a container may be without.
pub fn confine(confinement: &Confinement) -> Result<()> {
    confinement.filters.install()?;
    confinement.capabilities.limit_this_process()
}
