//! What verbs share about one container: its status, its guest's files, quiescing it, giving a copy its own
//! identity, the key to log in with, and removing what is left over.
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
