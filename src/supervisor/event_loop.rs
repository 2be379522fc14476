//! The life of a guest between its init's execution and its end: one poll(2) loop.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::signal::Signal as Sig;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::WaitStatus;

use super::boot::Booted;
use super::clients::{Client, Clients, WaitsFor};
use super::console::Console;
use super::poll_set::{AGAIN, EventSource, PollSet};
use super::setup::Setup;
use super::stop::{Escalation, EscalationStep, StopGoal};
use super::unattended::Unattended;
use super::{Manager, attach, ending, notify, stop};
use crate::config::Init;
use crate::error::{Error, Result};
use crate::proto::control::{AttachRequest, GuestState, Reply, Request, StopRequest, StopStage, SupervisorStatus};
use crate::store::RunEnd;
use crate::sys::clone::Child;
use crate::sys::pidfd;
use crate::sys::socket::PacketListener;

/// How long after the start, or the last client, memory is given back: to read it again for the next client
/// of a script's loop would take longer than to serve it.
const REST: Duration = Duration::from_secs(1);

/// How the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Off,
    Reboot,
}

/// A running guest.
pub(super) struct RunningGuest<'a> {
    setup: &'a Setup,
    booted: Booted,
    escalation: Option<Escalation>,
    /// Processes to be reaped: commands of our own in the guest, commands whose client has gone, the helper
    /// that locked its mounts.
    orphans: Vec<Child>,
    /// The same that are still on their way in.
    unattended: Unattended,
    status: SupervisorStatus,
    /// Init has said that its signal handlers are installed.
    signals_installed: bool,
    /// Init has just said that it is ready: there will be little to do from now on.
    just_booted: bool,
    flow: notify::RateLimit,
    /// What the kernel said of its init's end, once it has ended.
    ended: Option<WaitStatus>,
    /// Connections are not accepted until then: there were no descriptors or no memory for one.
    deaf_until: Option<Instant>,
}

/// What the loop serves beside the guest itself; all of it outlives a boot.
pub(super) struct Surroundings<'a> {
    pub signals: &'a SignalFd,
    pub listener: &'a PacketListener,
    pub console: &'a mut Console,
    pub clients: &'a mut Clients,
    pub manager: &'a mut Manager,
}

impl<'a> RunningGuest<'a> {
    pub(super) fn new(setup: &'a Setup, mut booted: Booted, boots: u32) -> Self {
        let status = SupervisorStatus {
            state: GuestState::Running,
            leader: booted.leader.pid.as_raw(),
            // Others than systemd have no way to say it.
            ready: (setup.guest.init == Init::Systemd).then_some(false),
            text: String::new(),
            boot_us: None,
            boots,
        };
        let orphans = booted.locker.take().into_iter().collect();
        RunningGuest {
            setup,
            booted,
            escalation: None,
            orphans,
            unattended: Unattended::default(),
            status,
            signals_installed: false,
            just_booted: false,
            flow: notify::RateLimit::new(),
            ended: None,
            deaf_until: None,
        }
    }

    /// What it took to end the guest.
    pub(super) fn stop_stage(&self) -> StopStage {
        self.escalation.as_ref().map_or(StopStage::Exited, Escalation::stop_stage)
    }

    /// Whether its end was requested from outside.
    pub(super) fn was_asked(&self) -> bool {
        self.escalation.is_some()
    }

    /// What ended it.
    pub(super) fn end(&self) -> RunEnd {
        ending::of(self.escalation.as_ref(), self.ended)
    }

    /// How long ago it was booted.
    pub(super) fn lived(&self) -> Duration {
        self.booted.at.elapsed()
    }

    /// Serves the guest and its clients until it ends. Nothing else ends this: an error is a client's, or
    /// over in a moment.
    pub(super) fn watch(&mut self, around: &mut Surroundings<'_>) -> Ending {
        around.clients.tell_changes(&self.status);
        // Not at once: whoever waits for the start comes first.
        let mut rest_at = Some(Instant::now() + REST);
        loop {
            let due = around.manager.tick(self.setup, &self.booted.leader, self.booted.at.elapsed());
            let (late, look_again) = around.clients.give_up_late(self.setup);
            self.unattended.add(late);
            let timeout = self.escalate(around.clients).min(due).min(look_again);
            let at_rest = rest_at.take_if(|at| *at <= Instant::now()).is_some();
            let timeout = rest_at.map_or(timeout, |at| timeout.min(at.saturating_duration_since(Instant::now())));
            for source in self.wait(around, timeout, at_rest) {
                match source {
                    EventSource::Leader => return self.reap_leader(),
                    EventSource::Signals => self.take_signals(around),
                    EventSource::Listener => self.accept(around),
                    EventSource::Notify => self.take_notifications(around),
                    EventSource::Console => around.console.take_output(),
                    EventSource::ConsoleClients => around.console.serve_clients(),
                    EventSource::Client(index) => self.serve(index, around),
                    EventSource::Command(index) => around.clients.0[index].reap_command(),
                    EventSource::Entering(index) => self.orphans.extend(around.clients.0[index].look_at_command()),
                    EventSource::Unattended => self.orphans.extend(self.unattended.look()),
                    EventSource::Orphan => {
                        self.orphans.retain(|child| matches!(pidfd::try_reap(&child.pidfd), Ok(None)))
                    }
                }
            }
            if around.clients.drop_closed() || std::mem::take(&mut self.just_booted) {
                rest_at = Some(Instant::now() + REST);
            }
        }
    }

    fn accept(&mut self, around: &mut Surroundings<'_>) {
        loop {
            match around.listener.accept() {
                Ok(Some(packets)) => around.clients.0.push(Client::new(packets)),
                Ok(None) => return,
                // The connection waits on, and would wake us again at once.
                Err(_) => {
                    self.deaf_until = Some(Instant::now() + AGAIN);
                    return;
                }
            }
        }
    }

    fn wait(&mut self, around: &Surroundings<'_>, mut timeout: Duration, at_rest: bool) -> Vec<EventSource> {
        let now = Instant::now();
        self.deaf_until.take_if(|until| *until <= now);
        let silence = if self.booted.notify.is_some() { self.flow.wait(now) } else { Duration::ZERO };
        for pause in [self.deaf_until.map(|until| until - now), Some(silence).filter(|pause| !pause.is_zero())] {
            timeout = pause.map_or(timeout, |pause| timeout.min(pause));
        }
        let (input, output) = (PollFlags::POLLIN, PollFlags::POLLIN | PollFlags::POLLOUT);
        let mut set = PollSet::default();
        set.add(EventSource::Signals, around.signals.as_fd(), input);
        if self.deaf_until.is_none() {
            set.add(EventSource::Listener, around.listener.as_fd(), input);
        }
        if let Some(notify) = self.booted.notify.as_ref().filter(|_| silence.is_zero()) {
            set.add(EventSource::Notify, notify.as_fd(), input);
        }
        if let Some(master) = around.console.master() {
            set.add(EventSource::Console, master, input);
        }
        for (stream, backlog) in around.console.clients() {
            set.add(EventSource::ConsoleClients, stream, if backlog { output } else { input });
        }
        for (index, client) in around.clients.0.iter().enumerate() {
            set.add(EventSource::Client(index), client.packets.as_fd(), input);
            match &client.waits_for {
                WaitsFor::Command(child) => set.add(EventSource::Command(index), child.pidfd.as_fd(), input),
                WaitsFor::Entering(entering) => set.add(EventSource::Entering(index), entering.report(), input),
                _ => {}
            }
        }
        for report in self.unattended.report() {
            set.add(EventSource::Unattended, report, input);
        }
        for orphan in &self.orphans {
            set.add(EventSource::Orphan, orphan.pidfd.as_fd(), input);
        }
        // Last, so that what was said before the end is heard before it.
        set.add(EventSource::Leader, self.booted.leader.pidfd.as_fd(), input);
        set.wait(timeout, at_rest, &self.booted.leader.pidfd)
    }

    /// Takes the steps of a shutdown that are due; returns how long until the next one.
    fn escalate(&mut self, clients: &mut Clients) -> Duration {
        loop {
            let Some(escalation) = &mut self.escalation else { return Duration::MAX };
            let lived = self.booted.at.elapsed();
            let step = escalation.step(self.booted.leader.pid, self.signals_installed, lived);
            // A frozen guest handles no signal; cgroup.kill needs no thaw.
            if !matches!(step, EscalationStep::Wait(_) | EscalationStep::Kill | EscalationStep::HangUp) {
                let _ = self.setup.cgroup.set_frozen(false, Duration::from_secs(1));
            }
            let done = match step {
                EscalationStep::Wait(duration) => return duration,
                EscalationStep::Signal(signal) => pidfd::send_signal(&self.booted.leader.pidfd, signal),
                EscalationStep::Kill => self.setup.cgroup.kill(),
                // With nobody to wait for it is killed.
                EscalationStep::SignalOthers(signal) => self.setup.cgroup.signal_others(self.booted.leader.pid, signal),
                EscalationStep::Itself(argument) => self.run_init(argument),
                EscalationStep::HangUp => {
                    self.orphans.extend(stop::hang_up(&self.booted.leader));
                    continue;
                }
            };
            // What cannot be done is followed by the next stop stage.
            if done.is_err()
                && let Some(escalation) = &mut self.escalation
            {
                escalation.step_failed();
            }
            clients.tell_stop_stage(self.stop_stage());
        }
    }

    fn run_init(&mut self, argument: &str) -> Result<()> {
        let command = [&*self.setup.guest.init_path.to_string_lossy(), argument].map(str::to_owned);
        let request = AttachRequest { command: command.into(), ..AttachRequest::default() };
        let entering = attach::spawn(self.setup, &self.booted.leader.pidfd, &request, None, Vec::new())?;
        self.unattended.add([entering]);
        Ok(())
    }

    fn begin_stop(&mut self, goal: StopGoal, limit: Duration, clients: &mut Clients) {
        let request = stop::request(self.setup, self.booted.leader.pid, goal);
        let escalation = Escalation::new(request, goal, limit);
        match &mut self.escalation {
            Some(current) => current.join(escalation),
            None => self.escalation = Some(escalation),
        }
        self.status.state = GuestState::Stopping;
        clients.tell_changes(&self.status);
    }

    fn take_signals(&mut self, around: &mut Surroundings<'_>) {
        while let Ok(Some(info)) = around.signals.read_signal() {
            // machined of systemd 258 and newer ends the supervisor of a machine whose leader has ended, and
            // is often the first to see that. That is no request to stop: if the guest reboots the unit
            // starts again, and a stop that was requested is remembered by systemd itself.
            if around.manager.restarts_us() && self.has_ended() {
                continue;
            }
            if let Some(goal) = stop::asked_by(info.ssi_signo as i32) {
                let left = self.escalation.as_ref().map(Escalation::left);
                let limit = around.manager.asked_to_stop(self.setup, goal, left);
                self.begin_stop(goal, limit, around.clients);
            }
        }
    }

    fn has_ended(&self) -> bool {
        pidfd::wait_exit(&self.booted.leader.pidfd, Duration::ZERO).unwrap_or(false)
    }

    fn take_notifications(&mut self, around: &mut Surroundings<'_>) {
        let Some(socket) = &self.booted.notify else { return };
        let before = self.status.clone();
        // Bounded: the socket's queue is, and whoever fills it must not keep us here.
        for _ in 0..32 {
            if !self.flow.wait(Instant::now()).is_zero() {
                break;
            }
            let Some(message) = notify::receive(socket, self.booted.leader.pid) else { break };
            self.flow.took();
            let Some(message) = message else { continue };
            if message.ready && self.status.ready != Some(true) {
                self.status.ready = Some(true);
                self.just_booted = true;
                self.status.boot_us = Some(self.booted.at.elapsed().as_micros() as u64);
            }
            self.signals_installed |= message.signals_installed;
            if let Some(text) = &message.status {
                self.status.text.clone_from(text);
            }
            around.manager.notified(self.setup, &message);
        }
        if self.status != before {
            around.clients.tell_changes(&self.status);
        }
    }

    /// Serves what client `index` has sent; a client that sends nonsense gets an error and is closed.
    fn serve(&mut self, index: usize, around: &mut Surroundings<'_>) {
        let received = around.clients.0[index].packets.recv::<Request>();
        let (request, fds) = match received {
            Ok(Some(received)) => received,
            Ok(None) => return self.client_gone(&mut around.clients.0[index]),
            Err(e) => return around.clients.0[index].refuse(e),
        };
        if let Err(e) = self.answer(index, request, fds, around) {
            around.clients.0[index].refuse(e);
        }
    }

    /// A command whose client has gone gets SIGHUP, as from a terminal that is closed; one that ignores it
    /// runs on, and is reaped here.
    fn client_gone(&mut self, client: &mut Client) {
        client.closed = true;
        match std::mem::replace(&mut client.waits_for, WaitsFor::Request) {
            WaitsFor::Command(child) => {
                // Its session's group, which has its number: not reaped yet, so the number is not used again.
                let _ = nix::sys::signal::killpg(child.pid, Sig::SIGHUP);
                self.orphans.push(child);
            }
            WaitsFor::Entering(mut entering) => {
                entering.abandon();
                self.unattended.add([entering]);
            }
            _ => {}
        }
    }

    fn answer(
        &mut self,
        index: usize,
        request: Request,
        mut fds: Vec<OwnedFd>,
        around: &mut Surroundings<'_>,
    ) -> Result<()> {
        match request {
            Request::Status => around.clients.0[index].tell(&Reply::Status(self.status.clone())),
            Request::Watch => {
                around.clients.0[index].waits_for = WaitsFor::Changes;
                around.clients.0[index].tell(&Reply::Status(self.status.clone()));
            }
            Request::Stop(StopRequest { timeout_ms }) => {
                around.clients.0[index].waits_for = WaitsFor::Stopped;
                self.begin_stop(StopGoal::PowerOff, Duration::from_millis(timeout_ms), around.clients);
            }
            Request::Reboot(StopRequest { timeout_ms }) => {
                around.clients.0[index].waits_for = WaitsFor::Rebooted;
                self.begin_stop(StopGoal::Reboot, Duration::from_millis(timeout_ms), around.clients);
            }
            Request::Attach(request) => {
                let client = &mut around.clients.0[index];
                let Setup { layout, name, cgroup, .. } = self.setup;
                cgroup.require_thawed(name, &layout.command(format_args!("unfreeze {name}")))?;
                let leader = &self.booted.leader.pidfd;
                let entering = attach::spawn(self.setup, leader, &request, Some(&client.packets), fds)?;
                client.waits_for = WaitsFor::Entering(entering);
            }
            Request::Signal(signal) => {
                let refused = around.clients.0[index].signal_command(signal)?;
                self.unattended.add(refused);
            }
            Request::Console { rows, cols } => {
                let stream = fds.pop().ok_or_else(|| Error::failed("no stream came for the console"))?;
                around.console.take_output();
                let scrollback = around.console.add(stream)?;
                around.console.resize(rows, cols)?;
                let (from, to, rotated) = (scrollback.from, scrollback.to, scrollback.rotated);
                around.clients.0[index].tell(&Reply::Console { from, to, rotated });
            }
            Request::Resize { rows, cols } => {
                around.console.resize(rows, cols)?;
                around.clients.0[index].tell(&Reply::Done);
            }
        }
        Ok(())
    }

    /// What the leader's end means (reboot(2) in a pid namespace: pid_namespaces(7)), unless its end was
    /// requested from outside.
    fn reap_leader(&mut self) -> Ending {
        self.ended = pidfd::try_reap(&self.booted.leader.pidfd).unwrap_or(None);
        self.unattended.reap();
        for orphan in self.orphans.drain(..) {
            // Those in the guest died with its pid namespace.
            let _ = pidfd::wait_exit(&orphan.pidfd, Duration::from_secs(5));
            let _ = pidfd::try_reap(&orphan.pidfd);
        }
        match (self.escalation.as_ref().map(Escalation::goal), self.ended) {
            (Some(StopGoal::Reboot), _) | (None, Some(WaitStatus::Signaled(_, Sig::SIGHUP, _))) => Ending::Reboot,
            _ => Ending::Off,
        }
    }
}
