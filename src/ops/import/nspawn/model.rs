//! What a .nspawn file says, while it is read.

use crate::config::{NetworkType, PublishedPort};
use crate::ops::import::foreign::Translated;

/// A machine's settings while they are read.
pub(super) struct Nspawn {
    pub made: Translated,
    pub called: String,
    pub private: Option<bool>,
    pub veth: Option<bool>,
    pub bridge: Option<String>,
    pub zone: Option<String>,
    /// Of each kind: the link of the host, and the name in the guest.
    pub links: Vec<Link>,
    pub ports: Vec<PublishedPort>,
    /// It has a network of its own for a reason that has no counterpart here.
    pub is_private_otherwise: bool,
}

impl Nspawn {
    pub(super) fn new(made: Translated, called: &str) -> Self {
        Nspawn {
            made,
            called: called.to_owned(),
            private: None,
            veth: None,
            bridge: None,
            zone: None,
            links: Vec::new(),
            ports: Vec::new(),
            is_private_otherwise: false,
        }
    }
}

/// A link of the host, or one on top of it.
pub(super) struct Link {
    pub kind: NetworkType,
    pub parent: String,
    pub name: String,
}

pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}
