//! Configuration files: `config.toml` of a container and the host's `lxm.toml`.
//!
//! What is written is parsed into the types here, or refused with file, line, key and the nearest
//! valid key. Nothing here does I/O; [`crate::store`] reads and writes the files.
//!
//! It may name `types` and `error`. Start reading at `container`.

pub mod bridge;
mod container;
mod defaults;
mod document;
mod host;
mod id_map;
mod key_path;
mod mount;
mod network;
mod order;
mod parse;
pub(crate) mod range;
mod security;
mod unfit;

pub use container::{Boot, Config, Device, Init, Limits, Ready, Schedule, Snapshots, Storage};
pub use document::Document;
pub use host::{HostConfig, HostNetwork};
pub use id_map::IdMap;
pub use key_path::KeyPath;
pub use mount::{Mount, MountIds, MountTarget};
pub use network::{Address, Network, NetworkType, Publish, PublishProtocol, is_interface_name, is_link_name};
pub use order::{Plan, Progress, StartOrder};
pub use parse::parse;
pub use security::{AppArmor, CallGroup, Security, Syscalls};
pub use unfit::{Unfit, capability};
