//! What becomes of the settings of a container of LXC's: one function for each.

use std::path::Path;

use super::model::{Lxc, nesting_is_asked_for};
use crate::config::capability;
use crate::ops::import::foreign;
use crate::ops::import::table::{Setting, Taken};
use crate::types::Arch;

/// What it said has been put in its place; what nesting takes is the admin's to give.
pub(super) fn include(_: &mut Lxc, setting: &Setting) -> Taken {
    if setting.value.ends_with("/nesting.conf") { nesting_is_asked_for() } else { Taken::Over }
}

pub(super) fn name(lxc: &mut Lxc, setting: &Setting) -> Taken {
    lxc.name = Some(setting.value.clone());
    Taken::Over
}

pub(super) fn arch(_: &mut Lxc, setting: &Setting) -> Taken {
    match foreign::arch(&setting.value).is_some_and(|guest| Arch::host().runs(guest)) {
        true => Taken::Over,
        false => Taken::LostFor(format!("this host runs {}", Arch::host())),
    }
}

pub(super) fn rootfs(lxc: &mut Lxc, setting: &Setting) -> Taken {
    lxc.rootfs = setting.value.clone();
    let path = setting.value.split_once(':').map_or(setting.value.as_str(), |(_, path)| path);
    lxc.roots.push(path.into());
    Taken::Over
}

pub(super) fn backend(lxc: &mut Lxc, setting: &Setting) -> Taken {
    lxc.backend = setting.value.clone();
    Taken::Over
}

pub(super) fn rootfs_options(_: &mut Lxc, setting: &Setting) -> Taken {
    let is_usual = |option: &str| option.is_empty() || option == "rw" || option.starts_with("idmap=");
    Taken::if_so(setting.value.split(',').all(is_usual))
}

pub(super) fn id_map(lxc: &mut Lxc, setting: &Setting) -> Taken {
    lxc.maps.push(setting.value.clone());
    Taken::Over
}

pub(super) fn init(lxc: &mut Lxc, setting: &Setting) -> Taken {
    let is_path = setting.value.starts_with('/') && !setting.value.contains(char::is_whitespace);
    if is_path {
        lxc.made.config.boot.init = Some(setting.value.clone().into());
    }
    Taken::if_so(is_path)
}

/// A number whose 0 means what lxm does.
pub(super) fn zero(_: &mut Lxc, setting: &Setting) -> Taken {
    Taken::if_so(setting.value.parse() == Ok(0))
}

pub(super) fn init_cwd(_: &mut Lxc, setting: &Setting) -> Taken {
    Taken::if_so(setting.value == "/")
}

pub(super) fn environment(lxc: &mut Lxc, setting: &Setting) -> Taken {
    let variable = setting.value.split_once('=').filter(|(name, _)| !name.is_empty());
    let variable = variable.filter(|(name, value)| !name.contains('\0') && !value.contains('\0'));
    let variable = variable.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let is_one = variable.is_some();
    lxc.made.config.environment.extend(variable);
    Taken::if_so(is_one)
}

pub(super) fn autostart(lxc: &mut Lxc, setting: &Setting) -> Taken {
    if setting.value != "0" {
        lxc.made.notes.push("it started with the host: `lxm enable` makes it do so again".to_owned());
    }
    Taken::Over
}

pub(super) fn cap_drop(lxc: &mut Lxc, setting: &Setting) -> Taken {
    let mut unknown = Vec::new();
    for name in setting.value.split_whitespace() {
        let Some(capability) = capability(name) else {
            unknown.push(name);
            continue;
        };
        // What LXC ships is for guests with the host's ids. Of what no guest of lxm's has nothing need be said.
        let is_news = !setting.is_shipped || crate::inside::is_kept_by_default(capability);
        let drop = &mut lxc.made.config.security.capabilities_drop;
        if is_news && !drop.iter().any(|known| known == name) {
            drop.push(name.to_owned());
        }
    }
    not_capabilities(&unknown)
}

pub(super) fn cap_keep(lxc: &mut Lxc, setting: &Setting) -> Taken {
    let (known, unknown): (Vec<_>, Vec<_>) =
        setting.value.split_whitespace().partition(|name| capability(name).is_some() || *name == "none");
    lxc.kept.extend(known.into_iter().map(str::to_owned));
    not_capabilities(&unknown)
}

fn not_capabilities(names: &[&str]) -> Taken {
    match names {
        [] => Taken::Over,
        names => Taken::LostFor(format!("there is no capability {}", names.join(", "))),
    }
}

pub(super) fn selinux(lxc: &mut Lxc, setting: &Setting) -> Taken {
    lxc.made.config.security.selinux_label = Some(setting.value.clone());
    Taken::Over
}

pub(super) fn apparmor(_: &mut Lxc, setting: &Setting) -> Taken {
    let is_nesting = setting.value == "lxc-container-default-with-nesting";
    let is_own = setting.value == "generated" || setting.value.starts_with("lxc-container-default");
    match (is_nesting, is_own) {
        (true, _) => nesting_is_asked_for(),
        (false, is_own) => Taken::if_so(is_own),
    }
}

pub(super) fn nesting(_: &mut Lxc, setting: &Setting) -> Taken {
    if setting.value == "0" { Taken::Over } else { nesting_is_asked_for() }
}

pub(super) fn seccomp(_: &mut Lxc, setting: &Setting) -> Taken {
    Taken::if_so(Path::new(&setting.value).starts_with("/usr/share/lxc/config"))
}

pub(super) fn halt(lxc: &mut Lxc, setting: &Setting) -> Taken {
    if ["SIGPWR", "PWR", "30", "SIGRTMIN+3", "RTMIN+3", "37"].contains(&setting.value.as_str()) {
        return Taken::Over;
    }
    lxc.made.config.boot.stop_signal = setting.value.parse().ok();
    Taken::if_so(lxc.made.config.boot.stop_signal.is_some())
}

pub(super) fn signal(_: &mut Lxc, setting: &Setting) -> Taken {
    let usual: &[&str] =
        if setting.key == "lxc.signal.stop" { &["SIGKILL", "KILL", "9"] } else { &["SIGINT", "INT", "2"] };
    Taken::if_so(usual.contains(&setting.value.as_str()))
}

pub(super) fn clone_hook(_: &mut Lxc, setting: &Setting) -> Taken {
    Taken::if_so(setting.value.ends_with("/lxc/hooks/clonehostname"))
}

pub(super) fn console(_: &mut Lxc, setting: &Setting) -> Taken {
    Taken::if_so(setting.value == "none")
}
