//! What verbs share about one container: its status, its guest's files, holding it still for a moment,
//! giving a copy an identity of its own, the key to log in with, and clearing away.
//!
//! It may name the rooms below itself. Start reading at `status`.

pub(crate) mod boot_report;
pub(crate) mod files;
pub(crate) mod new_identity;
pub(crate) mod quiesce;
pub(crate) mod random;
pub(crate) mod ssh_key;
pub(crate) mod status;
pub(crate) mod sweep;
pub(crate) mod view;
