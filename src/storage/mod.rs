//! Where a container's root file system lives: one narrow trait, one file a backend.
//!
//! A *place* is a directory that holds a tree in the backend's own form: a container's directory
//! (`/var/lib/lxm/NAME`, or its staging place while it is made) or a snapshot's below it.
//!
//! It may name `image`, `store` and what stands below them. Start reading at `backend`.

mod assemble;
mod backend;
mod btrfs;
mod choose;
mod dir;
pub(crate) mod ephemeral;
mod idmap;
mod layers;
pub(crate) mod nested;
mod overlay;
mod quota;
mod registry;
mod shift;
mod sweep;
mod tree;
mod usage;
mod xattr_ids;

pub use backend::{Activity, Backend, Purpose};
pub(crate) use choose::BackendChoice;
pub use choose::choose;
pub use idmap::GuestIds;
pub(crate) use idmap::maps_ids;
pub(crate) use registry::{BACKENDS, known_users_of_image, upper_layer, usage_of_image, users_of_image};
pub use registry::{backend, of_container};
pub(crate) use shift::unshift;
pub(crate) use sweep::sweep;
pub use tree::Tree;
pub(crate) use tree::is_mount_point;
pub(crate) use usage::Usage;
