//! What verbs share about one container: its status, its guest's files, holding it still for a moment,
//! making a copy somebody else, and clearing away.
//!
//! It may name the rooms below `ops`. Start reading at `status`.

pub mod boot_report;
pub mod files;
pub mod new_identity;
pub mod quiesce;
pub mod random;
pub mod ssh_key;
pub mod status;
pub mod sweep;
pub mod view;
