//! What the programs in `tests/` and `benches/` name of the crate. No interface: it changes with them.

pub mod cgroup {
    pub use crate::cgroup::Hierarchies;
}

pub mod config {
    pub use crate::config::{Config, NetworkType};

    pub mod bridge {
        pub use crate::config::bridge::{BridgeSettings, NetworkFile};
    }
}

pub mod distro {
    pub use crate::distro::{Extras, HostKeys, Identity, Login, REVISION, customize, prepare};
}

pub mod error {
    pub use crate::error::{Error, Kind, Result};
}

pub mod image {
    pub use crate::image::Remarks;
}

pub mod net {
    pub use crate::net::{GuestLink, GuestSide, check, connect, disconnect, hold, is_wired, sweep};

    pub mod rules {
        pub use crate::net::rules::{Holding, is_held};
    }

    pub mod server {
        pub use crate::net::server::stop;
    }
}

pub mod netserver {
    pub use crate::netserver::{GuestEntry, GuestStatus, ServerStatus, announce, is_running, retract, status};
}

pub mod ops {
    pub mod snapshot {
        pub use crate::ops::snapshot::{SnapshotOptions, create, delete, rename, restore, tick};
    }

    pub mod ssh {
        pub use crate::ops::ssh::login;
    }
}

pub mod progress {
    pub use crate::progress::Progress;
}

pub mod storage {
    pub use crate::storage::{Activity, Backend, GuestIds, Purpose, Tree, backend, choose, of_container};
}

pub mod store {
    pub use crate::store::{AliveLock, FileLock, Layout, OperationLock, Origin, Snapshot};
}

pub mod supervisor {
    pub use crate::supervisor::Stage;
}

pub mod sys {
    pub mod btrfs {
        pub use crate::sys::btrfs::{create_subvolume, is_btrfs};
    }

    pub mod clone {
        pub use crate::sys::clone::{SingleThreaded, clone, clone_holder};
    }

    pub mod creds {
        pub use crate::sys::creds::with_fs_ids;
    }

    pub mod fork {
        pub use crate::sys::fork::{run, run_within};
    }

    pub mod packet {
        pub use crate::sys::packet::PacketSocket;
    }

    pub mod pidfd {
        pub use crate::sys::pidfd::reap;
    }
}

pub mod terminal {
    pub use crate::terminal::is_control;
}

pub mod types {
    pub use crate::types::{Arch, ContainerName, Generation, IdRange, Mac};
}
