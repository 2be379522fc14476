//! Control groups: where the hierarchies are, placing a container in them, freezing and killing it.
//!
//! A container is `BASE/NAME` in every hierarchy. In the v2 tree it has two children, because a
//! v2 group with controllers enabled may hold no processes of its own (cgroups(7)):
//!
//! ```text
//! lxm/web/supervisor     our supervisor
//! lxm/web/payload/guest  the guest; the root of its cgroup namespace
//! ```
//!
//! The device program and the bounds of depth and number are on `payload`, which the guest does not see.
//! Version 1 knows no rule of inner groups: there guest and supervisor share `lxm/web`, which is closed to a
//! guest whose ids are mapped; a privileged one is in `lxm/web/payload` of every hierarchy of the host, below
//! its limits. No process but the supervisor itself is ever moved, and it does so without the RCU grace
//! period of 7 to 15 ms that moving another process costs; the guest and attached commands are born where
//! they belong.
//!
//! It may name `sys`, `config` and what stands below them. Start reading at `container`.

mod container;
mod devices;
mod fuse;
mod hierarchies;
mod kill;
mod limits;
pub(crate) mod stats;
mod tree;

pub(crate) use container::ContainerCgroup;
pub(crate) use devices::{DeviceKind, DeviceRule};
pub(crate) use hierarchies::CgroupLayout;
pub use hierarchies::Hierarchies;
pub(crate) use limits::{Controllers, require_unused_memory};

/// Whether a group is gone. A file of it that was open by then says ENODEV (kernfs_get_active in fs/kernfs),
/// one that is opened later ENOENT.
fn is_gone(e: &std::io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Writes a control file. Not `fs::write`: that asks to make a missing file, which cgroupfs refuses
/// with `EACCES` where "not found" is what we need to hear.
fn write_control(file: impl AsRef<std::path::Path>, value: impl AsRef<[u8]>) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::File::options().write(true).open(file)?.write_all(value.as_ref())
}
