//! Connections on the control socket, and what each of them waits for.

use std::time::Duration;

use nix::sys::wait::WaitStatus;

use crate::error::Result;
use crate::proto::control::{Exit, Reply, Rung, Status};
use crate::sys::clone::Child;
use crate::sys::pidfd;
use crate::sys::socket::Packets;

/// All connections. They outlive a boot: who waits for a reboot waits across it.
#[derive(Default)]
pub struct Clients(pub Vec<Client>);

/// A connection and its purpose.
pub struct Client {
    pub packets: Packets,
    pub waits_for: WaitsFor,
    pub closed: bool,
}

pub enum WaitsFor {
    /// Its request has not come yet.
    Request,
    /// The guest's end.
    Stopped,
    /// The guest's next boot.
    Rebooted,
    /// Every change.
    Changes,
    /// The end of a command of its own.
    Command(Child),
}

impl Client {
    pub fn new(packets: Packets) -> Self {
        Client { packets, waits_for: WaitsFor::Request, closed: false }
    }

    /// Sends a reply; a client that is gone is closed.
    pub fn tell(&mut self, reply: &Reply) {
        self.closed |= self.packets.send(reply, &[]).is_err();
    }

    /// Reaps its command if that has ended, and tells it how.
    pub fn reap_command(&mut self) -> Result<()> {
        if let WaitsFor::Command(child) = &self.waits_for
            && let Some(status) = pidfd::try_reap(&child.pidfd)?
        {
            self.tell(&Reply::Exited(exit_of(status)));
            self.closed = true;
        }
        Ok(())
    }
}

impl Clients {
    /// Forgets those that are closed; says whether the last one has just gone.
    pub fn drop_closed(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|client| !client.closed);
        before > 0 && self.0.is_empty()
    }

    /// Tells everybody who follows the state.
    pub fn tell_changes(&mut self, status: &Status) {
        for client in self.0.iter_mut().filter(|client| matches!(client.waits_for, WaitsFor::Changes)) {
            client.tell(&Reply::Status(status.clone()));
        }
    }

    /// Tells everybody who waits for the end how far the ladder is.
    pub fn tell_rung(&mut self, rung: Rung) {
        for client in self.0.iter_mut().filter(|c| matches!(c.waits_for, WaitsFor::Stopped | WaitsFor::Rebooted)) {
            client.tell(&Reply::Rung(rung));
        }
    }

    /// The guest is dead, and with it every command in it: buries those.
    pub fn bury_commands(&mut self) -> Result<()> {
        for client in &mut self.0 {
            if let WaitsFor::Command(child) = &client.waits_for {
                pidfd::wait_exit(&child.pidfd, Duration::from_secs(5))?;
            }
            client.reap_command()?;
        }
        self.0.retain(|client| !client.closed);
        Ok(())
    }

    /// The guest has booted again.
    pub fn rebooted(&mut self, rung: Rung) {
        for client in self.0.iter_mut().filter(|client| matches!(client.waits_for, WaitsFor::Rebooted)) {
            client.tell(&Reply::Rebooted(rung));
            client.closed = true;
        }
        self.0.retain(|client| !client.closed);
    }

    /// The guest has ended for good and nothing of it is left.
    pub fn stopped(&mut self, rung: Rung) {
        for client in self.0.iter_mut().filter(|c| matches!(c.waits_for, WaitsFor::Stopped | WaitsFor::Rebooted)) {
            client.tell(&Reply::Stopped(rung));
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
