//! Shuts a guest down: in the way that its init understands, then by force.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::config::Init;
use crate::proto::control::StopStage;
use crate::store::RunEnd;
use crate::sys;
use crate::sys::clone::Child;
use crate::sys::fork::ChildWork;
use crate::types::Signal;

/// What a stop leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopGoal {
    PowerOff,
    Reboot,
}

/// How an init is asked to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShutdownRequest {
    Signal(Signal),
    /// A command run in the guest: sysvinit and runit listen to their own `init` program.
    Command(&'static [&'static str]),
    /// It understands no request and is killed.
    Kill,
}

/// The message for each init: systemd(1), init(8), busybox's init/init.c, openrc-init(8), runit-init(8).
fn message(init: Init, goal: StopGoal) -> ShutdownRequest {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM, SIGUSR2};
    match (init, goal) {
        (Init::Systemd, StopGoal::PowerOff) => ShutdownRequest::Signal(Signal::realtime(4)),
        (Init::Systemd, StopGoal::Reboot) => ShutdownRequest::Signal(Signal::realtime(5)),
        (Init::Busybox, StopGoal::PowerOff) => ShutdownRequest::Signal(Signal::plain(SIGUSR2)),
        (Init::Busybox, StopGoal::Reboot) => ShutdownRequest::Signal(Signal::plain(SIGTERM)),
        (Init::Openrc, StopGoal::PowerOff) => ShutdownRequest::Signal(Signal::plain(SIGTERM)),
        (Init::Openrc, StopGoal::Reboot) => ShutdownRequest::Signal(Signal::plain(SIGINT)),
        (Init::Sysvinit | Init::Runit, StopGoal::PowerOff) => ShutdownRequest::Command(&["/sbin/init", "0"]),
        (Init::Sysvinit | Init::Runit, StopGoal::Reboot) => ShutdownRequest::Command(&["/sbin/init", "6"]),
        // What most programs take as a request to end.
        (Init::Other, StopGoal::PowerOff) => ShutdownRequest::Signal(Signal::plain(SIGTERM)),
        (Init::Other, StopGoal::Reboot) | (Init::Auto, _) => ShutdownRequest::Kill,
    }
}

/// What a signal to the supervisor itself asks of it; `None` where it asks nothing.
///
/// `systemctl kill` and `machinectl kill` send it what they send to the guest's init, in that one's words:
/// systemd(1), and SIGPWR, which is LXC's.
pub(super) fn asked_by(signal: i32) -> Option<StopGoal> {
    let realtime = |offset: i32| Signal::realtime(offset).number();
    match signal {
        libc::SIGTERM | libc::SIGINT | libc::SIGPWR => Some(StopGoal::PowerOff),
        _ if [3, 4, 13, 14].map(realtime).contains(&signal) => Some(StopGoal::PowerOff),
        _ if [5, 15].map(realtime).contains(&signal) => Some(StopGoal::Reboot),
        _ => None,
    }
}

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Escalation {
    goal: StopGoal,
    message: ShutdownRequest,
    deadline: Instant,
    /// When to look whether init has taken the signal; `None` when it has.
    look_at: Option<Instant>,
    limit: Duration,
    /// Whether it was killed for the time that it took.
    overdue: bool,
    /// What has been done so far.
    reached: Option<StopStage>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EscalationStep {
    Wait(Duration),
    Signal(Signal),
    Command(&'static [&'static str]),
    /// Ends what init is connected to: it waits for an answer, and takes no signal meanwhile.
    HangUp,
    Kill,
}

/// How long an init may take to take the signal.
const TAKES_SIGNAL: Duration = Duration::from_secs(1);
/// How often to look whether a young init has installed its handlers.
const HANDLER_POLL: Duration = Duration::from_millis(10);
/// How long a kill may take to be noticed before it is repeated.
const KILL_POLL: Duration = Duration::from_millis(100);

impl Escalation {
    /// `limit` zero kills at once.
    pub(super) fn new(init: Init, goal: StopGoal, limit: Duration) -> Self {
        let message = if limit.is_zero() { ShutdownRequest::Kill } else { message(init, goal) };
        let deadline = Instant::now() + limit;
        Escalation { goal, message, deadline, look_at: None, limit, overdue: false, reached: None }
    }

    /// How long the orderly shutdown may still take.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A second request: the sooner deadline counts, and power off over reboot.
    pub(super) fn join(&mut self, other: Escalation) {
        if other.deadline < self.deadline {
            (self.deadline, self.limit) = (other.deadline, other.limit);
        }
        if other.goal == StopGoal::PowerOff {
            self.goal = StopGoal::PowerOff;
        }
    }

    pub(super) fn goal(&self) -> StopGoal {
        self.goal
    }

    /// The stop stage that was needed, once the guest has ended.
    pub(super) fn stop_stage(&self) -> StopStage {
        self.reached.unwrap_or(StopStage::Exited)
    }

    /// What it made of the guest's end.
    pub(super) fn end(&self) -> RunEnd {
        match self.stop_stage() {
            StopStage::Killed if self.overdue => RunEnd::TimedOut(self.limit.as_millis() as u64),
            StopStage::Killed => RunEnd::Killed,
            _ => RunEnd::ShutDown,
        }
    }

    /// The next step; `handlers_installed` says whether `leader` is known to listen already.
    pub(super) fn step(&mut self, leader: Pid, handlers_installed: bool) -> EscalationStep {
        let left = self.left();
        if self.message == ShutdownRequest::Kill || left.is_zero() {
            if self.reached == Some(StopStage::Killed) {
                return EscalationStep::Wait(KILL_POLL);
            }
            self.overdue = self.message != ShutdownRequest::Kill && !self.limit.is_zero();
            self.reached = Some(StopStage::Killed);
            return EscalationStep::Kill;
        }
        if let Some(reached) = self.reached {
            return self.look_again(leader, reached, left);
        }
        match self.message {
            ShutdownRequest::Signal(signal) => {
                // A signal to the init of a pid namespace is dropped unless it is handled (pid_namespaces(7)).
                if !handlers_installed && !handles(leader, signal) {
                    return EscalationStep::Wait(left.min(HANDLER_POLL));
                }
                self.reached = Some(StopStage::Signalled(signal));
                self.look_at = Some(Instant::now() + TAKES_SIGNAL);
                EscalationStep::Signal(signal)
            }
            ShutdownRequest::Command(command) => {
                self.reached = Some(StopStage::Commanded);
                EscalationStep::Command(command)
            }
            ShutdownRequest::Kill => EscalationStep::Kill,
        }
    }

    /// The message has been sent. A SIGTERM to the whole unit has also made the guest's systemd execute itself
    /// anew, which then waits up to 90 s for its message bus that died of the same signal.
    fn look_again(&mut self, leader: Pid, reached: StopStage, left: Duration) -> EscalationStep {
        let (Some(at), StopStage::Signalled(signal)) = (self.look_at, reached) else {
            return EscalationStep::Wait(left);
        };
        let now = Instant::now();
        if now < at {
            return EscalationStep::Wait(left.min(at - now));
        }
        if !sys::process::has_pending(leader, signal).unwrap_or(false) {
            self.look_at = None;
            return EscalationStep::Wait(left);
        }
        self.look_at = Some(now + TAKES_SIGNAL);
        EscalationStep::HangUp
    }

    /// A step could not be taken: nothing is left but to kill.
    pub(super) fn step_failed(&mut self) {
        self.message = ShutdownRequest::Kill;
    }
}

/// Ends the wait of a guest's init for its message bus; returns the process that does it. Nothing else is
/// lost where that fails.
pub(super) fn hang_up(leader: &Child) -> Option<Child> {
    /// The end of the path: it was in /var/run once.
    const MESSAGE_BUS: &str = "run/dbus/system_bus_socket";
    let work = || sys::hang_up::connections(leader.pid, &leader.pidfd, Path::new(MESSAGE_BUS));
    ChildWork::begin(work).ok().map(ChildWork::unattended)
}

fn handles(leader: Pid, signal: Signal) -> bool {
    sys::process::takes_signal(leader, signal).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_init_is_asked_in_its_own_way() {
        for (init, goal, expected) in [
            (Init::Systemd, StopGoal::PowerOff, ShutdownRequest::Signal(Signal::realtime(4))),
            (Init::Systemd, StopGoal::Reboot, ShutdownRequest::Signal(Signal::realtime(5))),
            (Init::Busybox, StopGoal::PowerOff, ShutdownRequest::Signal("USR2".parse().unwrap())),
            (Init::Busybox, StopGoal::Reboot, ShutdownRequest::Signal("TERM".parse().unwrap())),
            (Init::Runit, StopGoal::PowerOff, ShutdownRequest::Command(&["/sbin/init", "0"])),
        ] {
            assert_eq!(message(init, goal), expected, "{init:?} {goal:?}");
        }
    }

    #[test]
    fn a_signal_to_the_supervisor_means_what_it_means_to_init() {
        let goal = |signal: &str| asked_by(signal.parse::<Signal>().unwrap().number());
        for signal in ["TERM", "INT", "PWR", "RTMIN+3", "RTMIN+4", "RTMIN+13", "RTMIN+14"] {
            assert_eq!(goal(signal), Some(StopGoal::PowerOff), "{signal}");
        }
        assert_eq!((goal("RTMIN+5"), goal("RTMIN+15")), (Some(StopGoal::Reboot), Some(StopGoal::Reboot)));
        assert_eq!((goal("HUP"), goal("USR1"), goal("RTMIN+1")), (None, None, None));
    }

    #[test]
    fn an_escalation_signals_once_waits_and_kills_at_its_deadline() {
        // Not this process: glibc blocks all signals for the moment in which it makes a thread.
        let mut init = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let me = Pid::from_raw(init.id() as i32);
        let mut escalation = Escalation::new(Init::Systemd, StopGoal::PowerOff, Duration::from_secs(60));
        assert!(matches!(escalation.step(me, false), EscalationStep::Wait(_)), "the signal is not handled yet");
        assert_eq!(escalation.step(me, true), EscalationStep::Signal(Signal::realtime(4)));
        assert!(matches!(escalation.step(me, true), EscalationStep::Wait(_)));
        escalation.deadline = Instant::now();
        assert_eq!(escalation.step(me, true), EscalationStep::Kill);
        assert_eq!(escalation.stop_stage(), StopStage::Killed);
        assert_eq!(
            Escalation::new(Init::Systemd, StopGoal::PowerOff, Duration::ZERO).step(me, true),
            EscalationStep::Kill
        );
        init.kill().unwrap();
        init.wait().unwrap();
    }
}
