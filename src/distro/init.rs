//! The kinds of init: how each is told, and how it is asked to power off and to reboot. One table.

use crate::config::Init;
use crate::types::Signal;

/// How an init is asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownRequest {
    Signal(Signal),
    /// The init's own program, run in the guest with this argument: it speaks to the one that runs.
    Itself(&'static str),
    /// The signal ends it; it reboots by being started again.
    Ends(Signal),
}

/// What is known of a kind of init.
pub(crate) struct InitRule {
    pub(crate) kind: Init,
    /// As a setting and `lxm info` write it.
    pub(crate) name: &'static str,
    /// Names of its program, once links are followed.
    programs: &'static [&'static str],
    /// What is in its program and in no other's, for one that is called `init`.
    mark: &'static [u8],
    pub(crate) power_off: ShutdownRequest,
    pub(crate) reboot: ShutdownRequest,
}

use ShutdownRequest::{Ends, Itself, Signal as Send};
use nix::sys::signal::Signal::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

const TERM: Signal = Signal::plain(SIGTERM);
const INT: Signal = Signal::plain(SIGINT);
const USR1: Signal = Signal::plain(SIGUSR1);
const USR2: Signal = Signal::plain(SIGUSR2);

/// The order matters for programs that are told by a mark: the first that is found counts.
pub(crate) const RULES: [InitRule; 10] = [
    // systemd(1), "SIGNALS".
    InitRule {
        kind: Init::Systemd,
        name: "systemd",
        programs: &["systemd"],
        mark: b"libsystemd-shared",
        power_off: Send(Signal::realtime(4)),
        reboot: Send(Signal::realtime(5)),
    },
    // init(8): its own program asks the running one for a runlevel.
    InitRule {
        kind: Init::Sysvinit,
        name: "sysvinit",
        programs: &[],
        mark: b"INIT_VERSION=sysvinit",
        power_off: Itself("0"),
        reboot: Itself("6"),
    },
    // busybox' init/init.c; scripts of OpenRC, where it has them, are in its inittab.
    InitRule {
        kind: Init::Busybox,
        name: "busybox",
        programs: &["busybox", "busybox.static"],
        mark: b"BusyBox v",
        power_off: Send(USR2),
        reboot: Send(TERM),
    },
    // runit-init(8).
    InitRule {
        kind: Init::Runit,
        name: "runit",
        programs: &["runit-init", "runit"],
        mark: b"/etc/runit/1",
        power_off: Itself("0"),
        reboot: Itself("6"),
    },
    // openrc-init(8).
    InitRule {
        kind: Init::Openrc,
        name: "openrc",
        programs: &["openrc-init"],
        mark: b"openrc-init",
        power_off: Send(TERM),
        reboot: Send(INT),
    },
    // procd's signal.c of all its years: SIGTERM is a reboot; SIGUSR1 was power-off and is halt since 2025,
    // SIGPWR is known since 2019.
    InitRule {
        kind: Init::Procd,
        name: "procd",
        programs: &["procd"],
        mark: b"/sbin/procd",
        power_off: Send(USR2),
        reboot: Send(TERM),
    },
    // finit's doc/signals.md; SIGUSR1 is another thing since 4.1.
    InitRule {
        kind: Init::Finit,
        name: "finit",
        programs: &["finit"],
        mark: b"/etc/finit.d",
        power_off: Send(USR2),
        reboot: Send(TERM),
    },
    // dinit(8), "SIGNALS".
    InitRule {
        kind: Init::Dinit,
        name: "dinit",
        programs: &["dinit"],
        mark: b"/etc/dinit.d",
        power_off: Send(TERM),
        reboot: Send(INT),
    },
    // What s6-linux-init-maker writes to `.s6-svscan`; its /sbin/init is a script.
    InitRule {
        kind: Init::S6,
        name: "s6",
        programs: &["s6-linux-init", "s6-svscan"],
        mark: b"s6-linux-init -",
        power_off: Send(USR1),
        reboot: Send(INT),
    },
    // A command, a script, tini, dumb-init, catatonit, s6-overlay: what most programs take as a request to end.
    InitRule {
        kind: Init::Other,
        name: "other",
        programs: &["tini", "tini-static", "dumb-init", "catatonit"],
        mark: b"",
        power_off: Ends(TERM),
        reboot: Ends(TERM),
    },
];

/// The rule of a kind; `auto` has that of `other`.
pub(crate) fn rule(kind: Init) -> &'static InitRule {
    RULES.iter().find(|rule| rule.kind == kind).unwrap_or(&RULES[RULES.len() - 1])
}

/// The kind that a program of this name is, once links are followed.
pub(crate) fn by_name(program: &str) -> Option<Init> {
    RULES.iter().find(|rule| rule.programs.contains(&program)).map(|rule| rule.kind)
}

/// The kind that a program with these contents is. Scripts are of one kind alone: another one may name any
/// of these programs.
pub(super) fn by_contents(contents: &[u8]) -> Init {
    let is_program = contents.starts_with(b"\x7fELF");
    let candidates: Vec<&InitRule> =
        RULES.iter().filter(|rule| !rule.mark.is_empty() && (is_program || rule.kind == Init::S6)).collect();
    let mut found = vec![false; candidates.len()];
    // One pass for all: a program may have many megabytes.
    for at in 0..contents.len() {
        for (rule, found) in candidates.iter().zip(&mut found) {
            *found |= contents[at] == rule.mark[0] && contents[at..].starts_with(rule.mark);
        }
    }
    candidates.iter().zip(found).find(|(_, found)| *found).map_or(Init::Other, |(rule, _)| rule.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_one_rule_and_its_setting_s_name() {
        for rule in &RULES {
            assert_eq!(super::rule(rule.kind).name, rule.name);
            let setting: toml::Table = toml::from_str(&format!("kind = '{}'", rule.name)).unwrap();
            assert_eq!(setting["kind"].clone().try_into::<Init>().unwrap(), rule.kind);
        }
        assert_eq!(rule(Init::Auto).kind, Init::Other);
    }

    #[test]
    fn a_script_that_speaks_of_an_init_is_none() {
        assert_eq!(by_contents(b"#!/bin/sh\nexec /sbin/procd # INIT_VERSION=sysvinit"), Init::Other);
        assert_eq!(by_contents(b"#!/bin/execlineb -S0\ns6-linux-init -c /etc/s6-linux-init/current"), Init::S6);
        assert_eq!(by_contents(b""), Init::Other);
    }
}
