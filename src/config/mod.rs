//! Configuration files: `config.toml` of a container and the host's `lxm.toml`.
//!
//! What is written is parsed into the types here, or refused with file, line, key and the nearest
//! valid key. Nothing here does I/O; [`crate::store`] reads and writes the files.
//!
//! It may name `types` and `error`. Start reading at `container`.

pub(crate) mod bridge;
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
mod words;

pub use container::Config;
pub(crate) use container::{Boot, Device, Init, Limits, ReadyCondition, Schedule, Snapshots, Storage};
pub(crate) use document::Document;
pub(crate) use host::HostConfig;
pub(crate) use id_map::IdMap;
pub(crate) use key_path::KeyPath;
pub(crate) use mount::{Mount, MountIds, MountTarget};
pub use network::NetworkType;
pub(crate) use network::{
    Address, AllowedAddress, AllowedMac, Managed, Network, PublishProtocol, PublishedPort, is_interface_name,
    is_link_name,
};
pub(crate) use order::{NextStep, Plan, StartOrder, Turn};
pub(crate) use parse::parse;
pub(crate) use security::{AppArmor, CallGroup, Security, Syscalls};
pub(crate) use unfit::capability;
pub(crate) use words::names as setting_names;
