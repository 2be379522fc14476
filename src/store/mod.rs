//! What is on disk: where it is, how it is locked and how it is written so that a crash at any
//! point leaves either nothing or something that the next command sweeps.
//!
//! It may name `config`, `sys` and what stands below them. Start reading at `layout` and `lock`.

mod atomic;
mod commands;
mod containers;
mod home;
mod id_pool;
pub(crate) mod ids;
mod last_run;
mod layout;
mod lock;
mod network_file;
mod origin;
mod paths;
mod record;
mod snapshot;
mod staging;
mod target;

pub(crate) use atomic::{place, place_file, remove_tree, replace_file, replace_run_file, sweep_aside, sync_dir};
pub(crate) use containers::is_container;
pub(crate) use home::Home;
pub(crate) use last_run::{LastRun, RunEnd};
pub use layout::Layout;
pub use lock::{AliveLock, FileLock, OperationLock};
pub(crate) use lock::{DirectoryLock, RangeLocks};
pub use origin::Origin;
pub(crate) use record::write_volatile;
pub(crate) use record::{BootRecord, StageTime, forget_failure, now, read_failure, write_failure};
pub use snapshot::Snapshot;
pub(crate) use snapshot::SnapshotRecord;
pub(crate) use staging::{Staging, require_free, sweep_staging};
pub(crate) use target::{AtFirstByte, Target, empty, target};
