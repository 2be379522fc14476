//! Shutting a guest down: the way its init understands, then the hard way.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::config::Init;
use crate::proto::control::Rung;
use crate::sys;
use crate::types::Signal;

/// What is wanted of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    PowerOff,
    Reboot,
}

/// How an init is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Signal(Signal),
    /// A command run in the guest: sysvinit and runit listen to their own `init` program.
    Command(&'static [&'static str]),
    /// It understands nothing but the end.
    Kill,
}

/// The message for each init: systemd(1), init(8), busybox's init/init.c, openrc-init(8), runit-init(8).
fn message(init: Init, wish: Wish) -> Message {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM, SIGUSR2};
    match (init, wish) {
        (Init::Systemd, Wish::PowerOff) => Message::Signal(Signal::realtime(4)),
        (Init::Systemd, Wish::Reboot) => Message::Signal(Signal::realtime(5)),
        (Init::Busybox, Wish::PowerOff) => Message::Signal(Signal::plain(SIGUSR2)),
        (Init::Busybox, Wish::Reboot) => Message::Signal(Signal::plain(SIGTERM)),
        (Init::Openrc, Wish::PowerOff) => Message::Signal(Signal::plain(SIGTERM)),
        (Init::Openrc, Wish::Reboot) => Message::Signal(Signal::plain(SIGINT)),
        (Init::Sysvinit | Init::Runit, Wish::PowerOff) => Message::Command(&["/sbin/init", "0"]),
        (Init::Sysvinit | Init::Runit, Wish::Reboot) => Message::Command(&["/sbin/init", "6"]),
        // What most programs take as a request to end.
        (Init::Other, Wish::PowerOff) => Message::Signal(Signal::plain(SIGTERM)),
        (Init::Other, Wish::Reboot) | (Init::Auto, _) => Message::Kill,
    }
}

/// A shutdown under way.
#[derive(Debug)]
pub struct Ladder {
    wish: Wish,
    message: Message,
    deadline: Instant,
    /// What has been done so far.
    reached: Option<Rung>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Wait(Duration),
    Signal(Signal),
    Command(&'static [&'static str]),
    Kill,
}

/// How often to look whether a young init has installed its handlers.
const HANDLER_POLL: Duration = Duration::from_millis(10);
/// How long a kill may take to be noticed before it is repeated.
const KILL_POLL: Duration = Duration::from_millis(100);

impl Ladder {
    /// `limit` zero kills at once.
    pub fn new(init: Init, wish: Wish, limit: Duration) -> Self {
        let message = if limit.is_zero() { Message::Kill } else { message(init, wish) };
        Ladder { wish, message, deadline: Instant::now() + limit, reached: None }
    }

    /// How long it may still take in order.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A second request: the sooner deadline counts, and power off over reboot.
    pub fn join(&mut self, other: Ladder) {
        self.deadline = self.deadline.min(other.deadline);
        if other.wish == Wish::PowerOff {
            self.wish = Wish::PowerOff;
        }
    }

    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// The rung that was needed, once the guest has ended.
    pub fn rung(&self) -> Rung {
        self.reached.unwrap_or(Rung::Exited)
    }

    /// The next step; `handlers_installed` says whether `leader` is known to listen already.
    pub fn step(&mut self, leader: Pid, handlers_installed: bool) -> Step {
        let left = self.left();
        if self.message == Message::Kill || left.is_zero() {
            if self.reached == Some(Rung::Killed) {
                return Step::Wait(KILL_POLL);
            }
            self.reached = Some(Rung::Killed);
            return Step::Kill;
        }
        if self.reached.is_some() {
            return Step::Wait(left);
        }
        match self.message {
            Message::Signal(signal) => {
                // A signal to the init of a pid namespace is dropped unless it is handled (pid_namespaces(7)).
                if !handlers_installed && !handles(leader, signal) {
                    return Step::Wait(left.min(HANDLER_POLL));
                }
                self.reached = Some(Rung::Signalled(signal));
                Step::Signal(signal)
            }
            Message::Command(command) => {
                self.reached = Some(Rung::Commanded);
                Step::Command(command)
            }
            Message::Kill => Step::Kill,
        }
    }

    /// A step could not be taken: nothing is left but to kill.
    pub fn step_failed(&mut self) {
        self.message = Message::Kill;
    }
}

fn handles(leader: Pid, signal: Signal) -> bool {
    sys::process::takes_signal(leader, signal).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_init_is_told_in_its_own_words() {
        for (init, wish, expected) in [
            (Init::Systemd, Wish::PowerOff, Message::Signal(Signal::realtime(4))),
            (Init::Systemd, Wish::Reboot, Message::Signal(Signal::realtime(5))),
            (Init::Busybox, Wish::PowerOff, Message::Signal("USR2".parse().unwrap())),
            (Init::Busybox, Wish::Reboot, Message::Signal("TERM".parse().unwrap())),
            (Init::Runit, Wish::PowerOff, Message::Command(&["/sbin/init", "0"])),
        ] {
            assert_eq!(message(init, wish), expected, "{init:?} {wish:?}");
        }
    }

    #[test]
    fn the_ladder_signals_once_waits_and_kills_at_its_deadline() {
        // Not this process: glibc blocks all signals for the moment in which it makes a thread.
        let mut init = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let me = Pid::from_raw(init.id() as i32);
        let mut ladder = Ladder::new(Init::Systemd, Wish::PowerOff, Duration::from_secs(60));
        assert!(matches!(ladder.step(me, false), Step::Wait(_)), "nobody handles the signal yet");
        assert_eq!(ladder.step(me, true), Step::Signal(Signal::realtime(4)));
        assert!(matches!(ladder.step(me, true), Step::Wait(_)));
        ladder.deadline = Instant::now();
        assert_eq!(ladder.step(me, true), Step::Kill);
        assert_eq!(ladder.rung(), Rung::Killed);
        assert_eq!(Ladder::new(Init::Systemd, Wish::PowerOff, Duration::ZERO).step(me, true), Step::Kill);
        init.kill().unwrap();
        init.wait().unwrap();
    }
}
