//! Control groups: where the hierarchies are, placing a container in them, freezing and killing it.
//!
//! A container is `BASE/NAME` in every hierarchy. In the v2 tree it has two children, because a
//! v2 group with controllers enabled may hold no processes of its own (cgroups(7)):
//!
//! ```text
//! lxm/web/supervisor   our supervisor
//! lxm/web/payload      the guest; the root of its cgroup namespace
//! ```
//!
//! Version 1 knows no such rule: there guest and supervisor share `lxm/web`. That saves moving
//! the guest and every attached command: a move waits for an RCU grace period, 7 to 15 ms.

mod container;
mod devices;
mod hierarchies;
mod limits;
pub mod stats;

pub use container::ContainerCgroup;
pub use devices::{Access, DEFAULT_DEVICES, DeviceKind, DeviceRule};
pub use hierarchies::{CgroupLayout, Hierarchies};

/// Writes a control file. Not `fs::write`: that asks to make a missing file, which cgroupfs refuses
/// with `EACCES` where "not found" is what we need to hear.
fn write_control(file: impl AsRef<std::path::Path>, value: impl AsRef<[u8]>) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::File::options().write(true).open(file)?.write_all(value.as_ref())
}
