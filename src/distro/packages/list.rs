//! A list of packages.

use std::collections::BTreeMap;

/// Packages and their versions.
pub(crate) type Packages = BTreeMap<String, String>;
