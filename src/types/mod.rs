//! Values that are right once they exist: parsed at the edge, trusted afterwards.
//!
//! It names nothing but `error`. Start reading at any file: each is a value.

pub(crate) mod account;
mod arch;
mod closest;
pub(crate) mod device;
mod duration;
mod generation;
mod id;
mod id_range;
mod mac;
mod name;
mod pattern;
mod rate;
mod signal;
mod size;
mod snapshot_name;
mod sockets;
pub(crate) mod subnet;

pub use arch::Arch;
pub(crate) use closest::closest;
pub(crate) use duration::Timeout;
pub use generation::Generation;
pub(crate) use id::parse_id;
pub use id_range::IdRange;
pub use mac::Mac;
pub use name::ContainerName;
pub(crate) use pattern::NamePattern;
pub(crate) use rate::Rate;
pub(crate) use signal::Signal;
pub(crate) use size::Size;
pub(crate) use snapshot_name::SnapshotName;
pub(crate) use sockets::{AddressFamilies, SELDOM as SELDOM_PROTOCOLS, SocketKind};

/// Serde through `FromStr` and `Display`, so that a file and a command line accept the same text.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
