//! Devices: LXC binds their nodes with `lxc.mount.entry`, and opens them with `lxc.cgroup2.devices.allow`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::model::{Lxc, Rule, WantedDevice};
use crate::config::Device;
use crate::ops::import::device_nodes::needed;
use crate::ops::import::foreign::Hint;
use crate::types::device::GUEST_DEVICES;

/// Gives the devices that this host has; what is lost is noted.
pub(super) fn give(lxc: &mut Lxc) {
    for wanted in std::mem::take(&mut lxc.wanted) {
        let note = one(lxc, &wanted).filter(|_| !wanted.setting.is_shipped);
        lxc.made.notes.extend(note.map(|why| format!("not taken over: `{}`: {why}", wanted.setting.text)));
    }
    for Rule { rule, setting } in std::mem::take(&mut lxc.rules) {
        if setting.is_shipped || is_had(&rule, &lxc.made.config.device) {
            continue;
        }
        let node = node(&rule);
        let why = match &node {
            Some(_) => "a guest has the devices alone that `[[device]]` gives it",
            None => "`[[device]]` gives a guest a device by its path, and this host has none of that number",
        };
        lxc.made.notes.push(format!("not taken over: `{}`: {why}", setting.text));
        lxc.made.hints.extend(node.map(Hint::Device));
    }
}

/// Gives one; or says why not.
fn one(lxc: &mut Lxc, wanted: &WantedDevice) -> Option<String> {
    let nodes = match needed(&wanted.path) {
        Ok(nodes) => nodes,
        Err(why) => return Some(why),
    };
    if wanted.target != wanted.path && !nodes.is_empty() {
        let (path, target) = (wanted.path.display(), wanted.target.display());
        lxc.made.notes.push(format!("the guest has `{path}` by that name, and not as `{target}`"));
    }
    lxc.made.give_devices(nodes);
    None
}

/// Kind, major and minor number of a rule; `None` stands for all.
fn numbers(rule: &str) -> Option<(char, Option<u32>, Option<u32>, &str)> {
    let mut words = rule.split_whitespace();
    let kind = words.next()?.chars().next()?;
    let (major, minor) = words.next().unwrap_or("*:*").split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    Some((kind, number(major)?, number(minor)?, words.next().unwrap_or("rwm")))
}

/// Whether the guest has what a rule allows.
fn is_had(rule: &str, given: &[Device]) -> bool {
    let Some((kind, major, minor, access)) = numbers(rule) else { return false };
    // To make a node is allowed, or not, by another setting.
    if !access.contains(['r', 'w']) {
        return true;
    }
    let Some(major) = major.filter(|_| matches!(kind, 'b' | 'c')) else { return false };
    let is_own = kind == 'c'
        && GUEST_DEVICES.iter().any(|own| own.major == major && (own.minor.is_none() || own.minor == minor));
    let is_console = (kind, major, minor) == ('c', 5, Some(1));
    let is_given = |device: &Device| {
        device.path.metadata().is_ok_and(|meta| {
            let number = meta.rdev();
            let kinds = (meta.file_type().is_block_device(), kind == 'b');
            kinds.0 == kinds.1 && rustix::fs::major(number) == major && Some(rustix::fs::minor(number)) == minor
        })
    };
    is_own || is_console || given.iter().any(is_given)
}

/// The node on this host of the one device that a rule allows.
fn node(rule: &str) -> Option<PathBuf> {
    let (kind, major, minor, _) = numbers(rule)?;
    let kind = if kind == 'b' { "block" } else { "char" };
    let about = std::fs::read_to_string(format!("/sys/dev/{kind}/{}:{}/uevent", major?, minor?)).ok()?;
    let name = about.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name)).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::import::device_nodes::some_device;
    use crate::ops::import::lxc::{lines::parse, read};

    fn given(text: &str) -> (Vec<Device>, Vec<String>) {
        let mut lxc = read(parse(text).unwrap(), Path::new("/none")).unwrap();
        give(&mut lxc);
        (lxc.made.config.device, lxc.made.notes)
    }

    #[test]
    fn what_every_guest_has_is_no_news() {
        for text in [
            "lxc.mount.entry = /dev/net/tun dev/net/tun none bind,create=file",
            "lxc.mount.entry = /dev/fuse dev/fuse none bind,create=file,optional 0 0",
            "lxc.mount.entry = /dev/net dev/net none bind,create=dir",
            "lxc.cgroup2.devices.allow = c 10:200 rwm",
            "lxc.cgroup.devices.allow = c 136:* rwm",
            "lxc.cgroup2.devices.allow = c 5:1 rwm",
            "lxc.cgroup2.devices.allow = b *:* m",
        ] {
            let (devices, notes) = given(text);
            // /dev/net may be missing here.
            let is_missing = text.contains("dev/net none") && !Path::new("/dev/net/tun").exists();
            assert!(devices.is_empty() && (notes.is_empty() || is_missing), "{text}: {notes:?}");
        }
    }

    #[test]
    fn devices_of_the_host_are_given_and_missing_ones_told() {
        for text in [
            "lxc.mount.entry = /dev/no-such-thing dev/x none bind,optional",
            "lxc.mount.entry = /dev dev none bind",
            "lxc.cgroup2.devices.allow = a",
            "lxc.cgroup2.devices.allow = c 250:250 rw",
            "lxc.cgroup2.devices.allow = nonsense",
        ] {
            let (devices, notes) = given(text);
            assert!(devices.is_empty() && notes.len() == 1, "{text}: {notes:?}");
        }
        // A host in a container may have none but those of every guest.
        let Some(device) = some_device() else { return };
        let path = device.display();
        let bound = format!("lxc.mount.entry = {path} {} none bind,create=file,optional", &path.to_string()[1..]);
        let (devices, notes) = given(&bound);
        assert_eq!((devices, notes), (vec![Device { path: device.clone(), mode: None, name: None }], Vec::new()));
        // What is given may be used, and nothing need be said of that.
        let number = device.metadata().unwrap().rdev();
        let rule =
            format!("lxc.cgroup2.devices.allow = c {}:{} rwm", rustix::fs::major(number), rustix::fs::minor(number));
        assert_eq!(given(&format!("{bound}\n{rule}")).1, Vec::<String>::new());
        assert_eq!(given(&rule).1.len(), 1);
        let (devices, notes) = given(&format!("lxc.mount.entry = {path} dev/modem none bind"));
        assert!(devices.len() == 1 && notes[0].contains("/dev/modem"), "{notes:?}");
    }
}
