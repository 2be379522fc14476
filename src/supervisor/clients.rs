//! Connections on the control socket, and what each of them waits for.

use std::time::Duration;

use nix::sys::wait::WaitStatus;

use super::attach::{Entered, Entering};
use super::setup::Setup;
use crate::error::{Error, Result};
use crate::proto::control::{Exit, Reply, StopStage, SupervisorStatus};
use crate::sys::clone::Child;
use crate::sys::pidfd;
use crate::sys::socket::Packets;
use crate::types::Signal;

/// All connections. They outlive a boot: who waits for a reboot waits across it.
#[derive(Default)]
pub(super) struct Clients(pub Vec<Client>);

/// A connection and its purpose.
pub(super) struct Client {
    pub packets: Packets,
    pub waits_for: WaitsFor,
    pub closed: bool,
}

pub(super) enum WaitsFor {
    /// Its request has not come yet.
    Request,
    /// The guest's end.
    Stopped,
    /// The guest's next boot.
    Rebooted,
    /// Every change.
    Changes,
    /// A command of its own that is not executed yet.
    Entering(Entering),
    /// The end of a command of its own.
    Command(Child),
}

impl Client {
    pub(super) fn new(packets: Packets) -> Self {
        Client { packets, waits_for: WaitsFor::Request, closed: false }
    }

    /// Sends a reply; a client that is gone is closed, and so is one that does not receive.
    pub(super) fn tell(&mut self, reply: &Reply) {
        self.closed |= self.packets.send_now(reply).is_err();
    }

    /// Answers its request with an error, the last that it hears.
    pub(super) fn refuse(&mut self, error: Error) {
        self.tell(&Reply::Failed(error));
        self.closed = true;
    }

    /// Reads the report of its command on the way in; returns what is to be reaped of that.
    pub(super) fn look_at_command(&mut self) -> Vec<Child> {
        let WaitsFor::Entering(entering) = &mut self.waits_for else { return Vec::new() };
        let Some(entered) = entering.look() else { return Vec::new() };
        let WaitsFor::Entering(entering) = std::mem::replace(&mut self.waits_for, WaitsFor::Request) else {
            return Vec::new();
        };
        let left = entering.into_processes(&entered);
        match entered {
            Entered::Running(child) => self.waits_for = WaitsFor::Command(child),
            Entered::NotRun((status, error)) => {
                self.tell(&Reply::NotRun { status, error });
                self.closed = true;
            }
        }
        left
    }

    /// Gives up its command if that is too long on its way in.
    fn give_up_late(&mut self, setup: &Setup) -> Option<Entering> {
        let WaitsFor::Entering(entering) = &self.waits_for else { return None };
        let error = entering.is_late(setup)?;
        self.refuse_command(error)
    }

    /// Answers that the command does not run, and gives it up.
    pub(super) fn refuse_command(&mut self, error: Error) -> Option<Entering> {
        match std::mem::replace(&mut self.waits_for, WaitsFor::Request) {
            WaitsFor::Entering(mut entering) => {
                entering.abandon();
                self.tell(&Reply::Failed(error));
                self.closed = true;
                Some(entering)
            }
            other => {
                self.waits_for = other;
                None
            }
        }
    }

    /// Sends `signal` to its command, and gives up one that has no process yet.
    ///
    /// A process that has not executed the command yet takes the signal as any process: it dies of it.
    pub(super) fn signal_command(&mut self, signal: Signal) -> Result<Option<Entering>> {
        let child = match &self.waits_for {
            WaitsFor::Command(child) => return pidfd::send_signal(&child.pidfd, signal).map(|()| None),
            WaitsFor::Entering(entering) => entering.child()?,
            _ => return Err(Error::failed("a signal came without a command to send it to")),
        };
        let Some(child) = child else {
            return Ok(self.refuse_command(Error::failed("the command was interrupted before it ran")));
        };
        pidfd::send_signal(&child.pidfd, signal).map(|()| None)
    }

    /// Reaps its command if that has ended, and tells it how.
    pub(super) fn reap_command(&mut self) {
        let WaitsFor::Command(child) = &self.waits_for else { return };
        match pidfd::try_reap(&child.pidfd) {
            Ok(None) => return,
            Ok(Some(status)) => self.tell(&Reply::Exited(exit_of(status))),
            Err(e) => self.tell(&Reply::Failed(e)),
        }
        self.closed = true;
    }
}

impl Clients {
    /// Drops closed connections; returns whether the last one was just closed.
    pub(super) fn drop_closed(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|client| !client.closed);
        before > 0 && self.0.is_empty()
    }

    /// Gives up commands that do not come to run; returns when to look again.
    pub(super) fn give_up_late(&mut self, setup: &Setup) -> (Vec<Entering>, Duration) {
        let late = self.0.iter_mut().filter_map(|client| client.give_up_late(setup)).collect();
        let due = self.0.iter().filter_map(|client| match &client.waits_for {
            WaitsFor::Entering(entering) => Some(entering.due()),
            _ => None,
        });
        (late, due.min().unwrap_or(Duration::MAX))
    }

    /// Sends the state to every client that watches it.
    pub(super) fn tell_changes(&mut self, status: &SupervisorStatus) {
        for client in self.0.iter_mut().filter(|client| matches!(client.waits_for, WaitsFor::Changes)) {
            client.tell(&Reply::Status(status.clone()));
        }
    }

    /// Sends the stop stage to every client that waits for the end.
    pub(super) fn tell_stop_stage(&mut self, stop_stage: StopStage) {
        for client in self.0.iter_mut().filter(|c| matches!(c.waits_for, WaitsFor::Stopped | WaitsFor::Rebooted)) {
            client.tell(&Reply::StopStage(stop_stage));
        }
    }

    /// The guest is dead, and with it every command in it: reaps these.
    pub(super) fn reap_commands(&mut self) {
        for client in &mut self.0 {
            let ended = || Error::failed("the container ended before the command ran in it");
            client.refuse_command(ended()).into_iter().for_each(Entering::reap);
            if let WaitsFor::Command(child) = &client.waits_for {
                let _ = pidfd::wait_exit(&child.pidfd, Duration::from_secs(5));
            }
            client.reap_command();
        }
        self.0.retain(|client| !client.closed);
    }

    /// The guest has booted again.
    pub(super) fn rebooted(&mut self, stop_stage: StopStage) {
        for client in self.0.iter_mut().filter(|client| matches!(client.waits_for, WaitsFor::Rebooted)) {
            client.tell(&Reply::Rebooted(stop_stage));
            client.closed = true;
        }
        self.0.retain(|client| !client.closed);
    }

    /// The guest has ended for good and nothing of it is left.
    pub(super) fn stopped(&mut self, stop_stage: StopStage) {
        for client in self.0.iter_mut().filter(|c| matches!(c.waits_for, WaitsFor::Stopped | WaitsFor::Rebooted)) {
            client.tell(&Reply::Stopped(stop_stage));
        }
        self.0.clear();
    }
}

/// How a reaped process ended.
fn exit_of(status: WaitStatus) -> Exit {
    match status {
        WaitStatus::Exited(_, code) => Exit::Code(code as u8),
        WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
        _ => Exit::Code(255),
    }
}
