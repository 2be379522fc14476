//! Shuts a guest down: in the way that its init understands, then by force.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::setup::Setup;
use crate::config::{Boot, Init};
use crate::distro::init::{ShutdownRequest, by_name, rule};
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

/// How the guest is asked for `goal`.
pub(super) fn request(setup: &Setup, leader: Pid, goal: StopGoal) -> ShutdownRequest {
    let kind = match setup.guest.init {
        // What began as a script may have become an init by execve(2).
        Init::Other => executed_kind(leader).unwrap_or(Init::Other),
        kind => kind,
    };
    let rule = rule(kind);
    match (goal, setup.config.boot.stop_signal, rule.reboot) {
        (_, Some(signal), ShutdownRequest::Ends(_)) => ShutdownRequest::Ends(signal),
        (StopGoal::PowerOff, Some(signal), _) => ShutdownRequest::Signal(signal),
        (StopGoal::PowerOff, None, _) => rule.power_off,
        (StopGoal::Reboot, _, reboot) => reboot,
    }
}

/// The kind of init whose program a process executes, of those that take a signal.
fn executed_kind(leader: Pid) -> Option<Init> {
    let program = std::fs::read_link(format!("/proc/{leader}/exe")).ok()?;
    let kind = by_name(program.file_name()?.to_str()?)?;
    // busybox is a shell as well.
    let is_init = || std::fs::read_to_string(format!("/proc/{leader}/comm")).is_ok_and(|name| name.trim() == "init");
    let takes_signal = matches!(rule(kind).power_off, ShutdownRequest::Signal(_));
    (takes_signal && (kind != Init::Busybox || is_init())).then_some(kind)
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
    /// `None` kills.
    request: Option<ShutdownRequest>,
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
    /// To all processes but the first.
    SignalOthers(Signal),
    /// The init's own program with this argument, run in the guest.
    Itself(&'static str),
    /// Ends what init is connected to: it waits for an answer, and takes no signal meanwhile.
    HangUp,
    Kill,
}

/// How long an init may take to take the signal.
const TAKES_SIGNAL: Duration = Duration::from_secs(1);
/// How often to look whether a young init has installed its handlers.
const HANDLER_POLL: Duration = Duration::from_millis(10);
/// After so long a program that is no init has installed the handlers that it will have.
const GROWN: Duration = Duration::from_secs(3);
/// How long a first process that takes no signal has once the others were asked to end: as docker gives it.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a kill may take to be noticed before it is repeated.
const KILL_POLL: Duration = Duration::from_millis(100);

impl Escalation {
    /// `limit` zero kills at once.
    pub(super) fn new(request: ShutdownRequest, goal: StopGoal, limit: Duration) -> Self {
        let request = (!limit.is_zero()).then_some(request);
        let deadline = Instant::now() + limit;
        Escalation { goal, request, deadline, look_at: None, limit, overdue: false, reached: None }
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

    /// The next step for a guest that booted `lived` ago; `handlers_installed` says whether `leader` is known to
    /// listen already.
    pub(super) fn step(&mut self, leader: Pid, handlers_installed: bool, lived: Duration) -> EscalationStep {
        let left = self.left();
        let Some(request) = self.request.filter(|_| !left.is_zero()) else {
            if self.reached == Some(StopStage::Killed) {
                return EscalationStep::Wait(KILL_POLL);
            }
            self.overdue = self.request.is_some() && !self.limit.is_zero();
            self.reached = Some(StopStage::Killed);
            return EscalationStep::Kill;
        };
        if let Some(reached) = self.reached {
            return self.look_again(leader, reached, left);
        }
        match request {
            ShutdownRequest::Signal(signal) | ShutdownRequest::Ends(signal)
                if handlers_installed || handles(leader, signal) =>
            {
                self.reached = Some(StopStage::Signalled(signal));
                self.look_at = Some(Instant::now() + TAKES_SIGNAL);
                EscalationStep::Signal(signal)
            }
            // To the first process it would be lost (pid_namespaces(7)); what it has started may end, and it after.
            ShutdownRequest::Ends(signal) if lived >= GROWN => {
                self.reached = Some(StopStage::Signalled(signal));
                // A time that somebody has chosen is kept.
                if self.limit == Boot::default().stop_timeout.get() && left > LAST_WORDS {
                    (self.deadline, self.limit) = (Instant::now() + LAST_WORDS, LAST_WORDS);
                }
                EscalationStep::SignalOthers(signal)
            }
            ShutdownRequest::Signal(_) | ShutdownRequest::Ends(_) => EscalationStep::Wait(left.min(HANDLER_POLL)),
            ShutdownRequest::Itself(argument) => {
                self.reached = Some(StopStage::Commanded);
                EscalationStep::Itself(argument)
            }
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
        self.request = None;
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
        let mut escalation =
            Escalation::new(rule(Init::Systemd).power_off, StopGoal::PowerOff, Duration::from_secs(60));
        assert!(
            matches!(escalation.step(me, false, Duration::ZERO), EscalationStep::Wait(_)),
            "the signal is not handled yet"
        );
        assert_eq!(escalation.step(me, true, Duration::ZERO), EscalationStep::Signal(Signal::realtime(4)));
        assert!(matches!(escalation.step(me, true, Duration::ZERO), EscalationStep::Wait(_)));
        escalation.deadline = Instant::now();
        assert_eq!(escalation.step(me, true, Duration::ZERO), EscalationStep::Kill);
        assert_eq!(escalation.stop_stage(), StopStage::Killed);
        assert_eq!(
            Escalation::new(rule(Init::Systemd).power_off, StopGoal::PowerOff, Duration::ZERO).step(
                me,
                true,
                Duration::ZERO
            ),
            EscalationStep::Kill
        );
        init.kill().unwrap();
        init.wait().unwrap();
    }

    #[test]
    fn a_program_that_takes_no_signal_is_not_waited_for_long() {
        let mut init = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let me = Pid::from_raw(init.id() as i32);
        let other = rule(Init::Other);
        let mut escalation = Escalation::new(other.power_off, StopGoal::PowerOff, Duration::from_secs(60));
        let young = escalation.step(me, false, Duration::ZERO);
        assert!(matches!(young, EscalationStep::Wait(_)), "it may install a handler yet");
        let grown = escalation.step(me, false, GROWN);
        assert_eq!(grown, EscalationStep::SignalOthers("TERM".parse().unwrap()));
        assert!(escalation.left() <= LAST_WORDS);
        // A shorter limit stays.
        let mut escalation = Escalation::new(other.reboot, StopGoal::Reboot, Duration::from_secs(2));
        escalation.step(me, false, GROWN);
        assert!(escalation.left() <= Duration::from_secs(2));
        init.kill().unwrap();
        init.wait().unwrap();
    }
}
