//! A guest that reboots again and again, without having run for a while: each of its next boots waits
//! longer, so that it does not take the host's processors. Clients are served meanwhile.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use super::clients::{Client, WaitsFor};
use super::event_loop::Surroundings;
use super::stop::{StopGoal, asked_by};
use crate::error::Error;
use crate::proto::control::{GuestState, Reply, Request, SupervisorStatus};
use crate::sys;

/// A guest that has run for so long has not failed to boot.
const SETTLED: Duration = Duration::from_secs(30);
/// How many reboots in a row are free.
const FREE: u32 = 5;
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// How soon a guest is booted again.
#[derive(Debug, Default)]
pub(super) struct RebootDelay {
    in_a_row: u32,
}

impl RebootDelay {
    /// The guest has rebooted by itself, `lived` after its boot: how long its next boot waits.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= SETTLED {
            self.in_a_row = 0;
        }
        self.in_a_row += 1;
        match self.in_a_row.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(more) => FIRST.saturating_mul(1 << more.min(16)).min(LONGEST),
        }
    }

    /// Waits with the next boot; returns whether there is to be one.
    pub(super) fn wait(&self, pause: Duration, boots: u32, around: &mut Surroundings<'_>) -> bool {
        if pause.is_zero() {
            return true;
        }
        crate::sys::log::line(&format!(
            "warning: the guest has rebooted {} times in a row: it boots again in {pause:?}",
            self.in_a_row
        ));
        let mut waiting = Waiting {
            status: SupervisorStatus {
                state: GuestState::Starting,
                leader: 0,
                ready: Some(false),
                text: format!("has rebooted {} times in a row and waits before it boots again", self.in_a_row),
                boot_us: None,
                boots,
            },
            boots_now: false,
            ends: false,
        };
        around.clients.tell_changes(&waiting.status);
        waiting.until(Instant::now() + pause, around);
        !waiting.ends
    }
}

struct Waiting {
    status: SupervisorStatus,
    boots_now: bool,
    ends: bool,
}

impl Waiting {
    fn until(&mut self, deadline: Instant, around: &mut Surroundings<'_>) {
        while !self.ends && !self.boots_now {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let ready = self.poll(left, around);
            while let Ok(Some(packets)) = around.listener.accept() {
                around.clients.0.push(Client::new(packets));
            }
            while let Ok(Some(info)) = around.signals.read_signal() {
                match asked_by(info.ssi_signo as i32) {
                    Some(StopGoal::PowerOff) => self.ends = true,
                    Some(StopGoal::Reboot) => self.boots_now = true,
                    None => {}
                }
            }
            for index in ready {
                self.serve(&mut around.clients.0[index]);
            }
            around.clients.drop_closed();
        }
    }

    /// Waits for clients; returns those that have sent something.
    fn poll(&self, left: Duration, around: &Surroundings<'_>) -> Vec<usize> {
        let signals = PollFd::new(around.signals.as_fd(), PollFlags::POLLIN);
        let listener = PollFd::new(around.listener.as_fd(), PollFlags::POLLIN);
        let clients = around.clients.0.iter().map(|client| PollFd::new(client.packets.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<_> = [signals, listener].into_iter().chain(clients).collect();
        if poll(&mut fds, sys::poll::timeout(left)).is_err() {
            // Interrupted, or no memory for it: neither is waited for by asking at once again.
            std::thread::sleep(left.min(FIRST));
            return Vec::new();
        }
        let spoke = |(index, fd): (usize, &PollFd<'_>)| (fd.any() == Some(true)).then_some(index);
        fds[2..].iter().enumerate().filter_map(spoke).collect()
    }

    fn serve(&mut self, client: &mut Client) {
        let request = match client.packets.recv::<Request>() {
            Ok(Some((request, _))) => request,
            Ok(None) => {
                client.closed = true;
                return;
            }
            Err(e) => return refuse(client, e),
        };
        match request {
            Request::Status => client.tell(&Reply::Status(self.status.clone())),
            Request::Watch => {
                client.waits_for = WaitsFor::Changes;
                client.tell(&Reply::Status(self.status.clone()));
            }
            Request::Stop(_) => {
                client.waits_for = WaitsFor::Stopped;
                self.ends = true;
            }
            Request::Reboot(_) => {
                client.waits_for = WaitsFor::Rebooted;
                self.boots_now = true;
            }
            _ => refuse(client, Error::conflict(format!("the guest {}", self.status.text))),
        }
    }
}

fn refuse(client: &mut Client, error: Error) {
    client.tell(&Reply::Failed(error));
    client.closed = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reboots_in_a_row_wait_longer_each_time() {
        let mut pace = RebootDelay::default();
        let quick = Duration::from_secs(1);
        for _ in 0..FREE {
            assert_eq!(pace.after(quick), Duration::ZERO);
        }
        assert_eq!(pace.after(quick), FIRST);
        assert_eq!(pace.after(quick), FIRST * 2);
        for _ in 0..100 {
            assert!(pace.after(quick) <= LONGEST);
        }
        assert_eq!(pace.after(quick), LONGEST);
        assert_eq!(pace.after(SETTLED), Duration::ZERO);
    }
}
