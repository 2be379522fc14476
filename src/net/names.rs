//! Names of links on the host.
//!
//! A link name has 15 characters at most and cutting longer ones makes siblings collide
//! (systemd #13417), so the short name is a hash and the full one an alternative name.

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, Prop};
use sha2::{Digest, Sha256};

use crate::store::Layout;
use crate::types::{ContainerName, Mac};

/// What all our links on the host begin with.
pub(crate) const PREFIX: &str = "lxm";

/// What a link on the host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The host's end of a veth pair.
    Veth,
    /// Shapes what the guest sends.
    Shaper,
    /// The tagged link under a macvlan or ipvlan.
    Vlan,
}

/// The host's link for the guest's interface `guest`: `lxm` and eight hexadecimal digits.
///
/// Containers of the same name in different directories have different links.
pub(crate) fn host_link(layout: &Layout, name: &ContainerName, guest: &str, role: Role) -> String {
    let role = match role {
        Role::Veth => "veth",
        Role::Shaper => "shaper",
        Role::Vlan => "vlan",
    };
    let home = layout.containers().to_string_lossy();
    let digest = Sha256::digest([&*home, name.as_str(), guest, role].join("\0"));
    format!("{PREFIX}{}", hex::encode(&digest[..4]))
}

/// The full name that `ip link show` also understands.
pub(crate) fn full_name(name: &ContainerName, guest: &str) -> String {
    format!("{PREFIX}-{name}-{guest}")
}

/// The hardware address that belongs to these words forever: locally administered, unicast.
pub(crate) fn derived_mac(words: &[&str]) -> Mac {
    let digest = Sha256::digest(words.join("\0"));
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    // Bit 1 of the first byte says "not from a vendor", bit 0 would say "a group".
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Mac(bytes)
}

/// The name of a link that tells most: its alternative name where it has one of ours.
pub(crate) fn best_name(link: &LinkMessage) -> Option<&str> {
    let ours = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::PropList(props) => props.iter().find_map(|prop| match prop {
            Prop::AltIfName(name) if name.starts_with("lxm-") => Some(name.as_str()),
            _ => None,
        }),
        _ => None,
    });
    ours.or_else(|| super::netlink::name_of(link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(root: &str, name: &str, guest: &str, role: Role) -> String {
        host_link(&Layout::new(root), &name.parse().unwrap(), guest, role)
    }

    #[test]
    fn host_links_differ_by_name_interface_and_home() {
        let base = link("/", "a-very-long-name-of-a-container-1", "eth0", Role::Veth);
        assert_eq!(base.len(), 11);
        assert_eq!(base, link("/", "a-very-long-name-of-a-container-1", "eth0", Role::Veth));
        for other in [
            link("/", "a-very-long-name-of-a-container-2", "eth0", Role::Veth),
            link("/", "a-very-long-name-of-a-container-1", "eth1", Role::Veth),
            link("/", "a-very-long-name-of-a-container-1", "eth0", Role::Shaper),
            link("/elsewhere", "a-very-long-name-of-a-container-1", "eth0", Role::Veth),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_derived_mac_is_stable_and_never_a_vendor_s_or_a_group_s() {
        for i in 0..100 {
            let mac = derived_mac(&["uuid", &i.to_string()]);
            assert_eq!(mac.0[0] & 3, 2);
            assert_eq!(mac, derived_mac(&["uuid", &i.to_string()]));
        }
    }

    #[test]
    fn the_longest_full_name_fits_an_alternative_name() {
        let name = "x".repeat(63).parse().unwrap();
        assert!(full_name(&name, &"y".repeat(15)).len() < 128);
    }
}
