//! `[Files]`: what of the host is mounted in the guest.

use std::path::Path;

use super::model::Nspawn;
use crate::config::{Mount, MountIds, MountTarget};
use crate::ops::import::device_nodes::{is_place_of_devices, needed};
use crate::ops::import::table::{Setting, Taken};

/// `SOURCE[:TARGET[:OPTIONS]]`, where `\:` is a colon.
pub(super) fn bind(machine: &mut Nspawn, setting: &Setting) -> Taken {
    let fields = split(&setting.value);
    let (source, target, options) = match fields.as_slice() {
        [source] => (source, source, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options.as_str()),
        _ => return Taken::LostFor("it is no SOURCE:TARGET:OPTIONS".to_owned()),
    };
    let source_path = source.strip_prefix('-').unwrap_or(source);
    let target = if target == source { source_path } else { target };
    let path = Path::new(source_path);
    if !path.is_absolute() {
        return Taken::LostFor("its source is not an absolute path of the host".to_owned());
    }
    if path.starts_with("/proc") || path.starts_with("/sys") {
        return Taken::LostFor("a guest has a /proc and a /sys of its own".to_owned());
    }
    if is_place_of_devices(path) {
        return device(machine, path, target);
    }
    let target = match target.parse::<MountTarget>() {
        Ok(target) => target,
        Err(e) => return Taken::LostFor(e.to_string()),
    };
    let mut mount = Mount::new(source_path, target);
    mount.read_only = setting.key == "Files.BindReadOnly";
    mount.optional = source_path.len() < source.len();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rbind" => mount.recursive = true,
            "norbind" => mount.recursive = false,
            "noidmap" => mount.idmap = MountIds::None,
            "idmap" => mount.idmap = MountIds::Guest,
            "rootidmap" => mount.idmap = MountIds::Root,
            "owneridmap" => mount.idmap = MountIds::Owner,
            _ => return Taken::LostFor(format!("there is no option `{option}`")),
        }
    }
    machine.made.config.mount.push(mount);
    Taken::Over
}

/// nspawn lets a guest use the device of a node that it binds.
fn device(machine: &mut Nspawn, path: &Path, target: &str) -> Taken {
    match needed(path) {
        Ok(nodes) => {
            if Path::new(target) != path && !nodes.is_empty() {
                let note = format!("the guest has `{}` by that name, and not as `{target}`", path.display());
                machine.made.notes.push(note);
            }
            machine.made.give_devices(nodes);
            Taken::Over
        }
        Err(why) => Taken::LostFor(why),
    }
}

pub(super) fn tmpfs(_: &mut Nspawn, setting: &Setting) -> Taken {
    let fields = split(&setting.value);
    Taken::if_so(matches!(fields[0].as_str(), "/run" | "/dev/shm"))
}

/// The fields between colons, without the backslashes that escape.
fn split(value: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' => fields.push(String::new()),
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(chars.next())),
            _ => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    fields
}
