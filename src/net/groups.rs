//! Groups of links: what the bridge's rules may read off a port without a rule for each guest.

/// The group of the host's ends of guests' links, of the owner with the plain names
/// ([`of_owner`]); its low bits say what the bridge's rules do with
/// the port ([`super::rules`]). In the link itself, they need no rule a guest and survive a flush.
pub(super) const GROUP: u32 = 0x6c78_6d00;

/// The port's IPv4 and IPv6 addresses are checked: the bridge is ours, so we know them.
pub(super) const GROUP_CHECKED: u32 = 1;

/// The port may talk to the host alone.
pub(super) const GROUP_ISOLATED: u32 = 2;

/// The group of a port whose addresses are checked, or are not.
pub(super) fn checked(group: u32, is_checked: bool) -> u32 {
    group & !GROUP_CHECKED | if is_checked { GROUP_CHECKED } else { 0 }
}

/// Whether the addresses of a port of this group are checked.
pub(super) fn is_checked(group: u32) -> bool {
    group & GROUP_CHECKED != 0
}

/// The group of the host's ends of the guests' links, for an owner of these names. Its low two bits are
/// free for what the rules do with a port.
pub(super) fn of_owner(tag: &str) -> u32 {
    let key = tag.strip_prefix("lxm-").and_then(|key| u32::from_str_radix(key, 16).ok());
    // In the place of the `x` of `lxm`: no key makes the plain one.
    key.map_or(GROUP, |key| GROUP & 0xff00_0000 | 0x0080_0000 | (key & 0x001f_ffff) << 2)
}
