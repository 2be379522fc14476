//! A list of packages.

use std::collections::BTreeMap;

/// Packages and their versions.
pub type Packages = BTreeMap<String, String>;
