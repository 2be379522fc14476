//! The devices of every guest: the pseudo devices, its own terminals, and what a virtual machine would have
//! too (tun, fuse).
//!
//! From this one list are made the nodes of its /dev, the program that closes it to all others, the
//! properties of its unit, and what nothing may be mounted over.

/// A character device of every guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuestDevice {
    /// Below /dev.
    pub name: &'static str,
    pub major: u32,
    /// `None` means all.
    pub minor: Option<u32>,
    pub node: Node,
}

/// Where the node of a device comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// Made for every guest.
    Always,
    /// Made where the host has one, whose driver may be missing.
    IfOfHost,
    /// In the guest's own devpts.
    Devpts,
}

/// In the order of their numbers.
pub(crate) const GUEST_DEVICES: [GuestDevice; 10] = {
    const fn device(name: &'static str, major: u32, minor: Option<u32>, node: Node) -> GuestDevice {
        GuestDevice { name, major, minor, node }
    }
    [
        device("null", 1, Some(3), Node::Always),
        device("zero", 1, Some(5), Node::Always),
        device("full", 1, Some(7), Node::Always),
        device("random", 1, Some(8), Node::Always),
        device("urandom", 1, Some(9), Node::Always),
        device("tty", 5, Some(0), Node::Always),
        device("ptmx", 5, Some(2), Node::Devpts),
        device("net/tun", 10, Some(200), Node::IfOfHost),
        device("fuse", 10, Some(229), Node::IfOfHost),
        device("pts", 136, None, Node::Devpts),
    ]
};
