//! Whether a guest's init can run under the cgroup layout that lxm gives it.

use super::GuestSystem;
use crate::config::Init;
use crate::error::{Error, Result};

/// The first systemd that runs on a unified hierarchy alone: nspawn's own threshold.
const FIRST_UNIFIED: u32 = 230;

/// Refuses a guest that cannot boot here, with the reason and what to do.
///
/// A guest sees a cgroup2 mount and nothing else at `/sys/fs/cgroup`, whatever the host's own
/// layout is: on a hybrid host the v1 hierarchies hold its limits from outside. So only the
/// guest's side decides. Old kernels are no matter: the floor of lxm (6.1) is above that of every
/// systemd so far.
pub(crate) fn check(guest: &GuestSystem) -> Result<()> {
    match (guest.init, guest.systemd) {
        (Init::Systemd, Some(version)) if version < FIRST_UNIFIED => Err(Error::config(format!(
            "its init is systemd {version}, which needs cgroup v1 hierarchies; guests of lxm see cgroup v2 alone"
        ))
        .hint(format!("systemd {FIRST_UNIFIED} and later work: upgrade the guest, or run it in a virtual machine"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(init: Init, systemd: Option<u32>) -> GuestSystem {
        GuestSystem { init, init_path: "/sbin/init".into(), systemd, os: String::new(), release: String::new() }
    }

    #[test]
    fn systemd_is_refused_below_230_and_taken_from_there_on() {
        for (version, works) in [(215, false), (229, false), (230, true), (252, true), (257, true), (262, true)] {
            let verdict = check(&guest(Init::Systemd, Some(version)));
            assert_eq!(verdict.is_ok(), works, "{version}");
            if let Err(e) = verdict {
                assert_eq!(e.kind().exit_status(), 6);
                assert!(e.hint_text().is_some());
            }
        }
    }

    #[test]
    fn other_inits_and_an_unknown_systemd_are_given_a_try() {
        for init in [Init::Sysvinit, Init::Busybox, Init::Openrc, Init::Runit, Init::Other, Init::Systemd] {
            assert!(check(&guest(init, None)).is_ok());
        }
    }
}
