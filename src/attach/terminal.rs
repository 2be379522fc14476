//! Commands that have a terminal of the guest, whose other side is ours.

use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Sig;

use super::ends::End;
use super::flow::{Filtered, Flow, standard};
use super::outcome::finish;
use super::pipes::Carried;
use super::relay::{Relay, RelayEvent, is_to_end};
use crate::client::reply;
use crate::error::{Context, Error, Result};
use crate::proto::control::Reply;
use crate::sys;
use crate::sys::socket::Packets;
use crate::sys::tty::RawMode;

const INPUT: usize = 0;
const OUTPUT: usize = 1;

/// A terminal that collects lines keeps no more than 4095 bytes of one and drops the rest.
const LINE: usize = 1024;

/// The guest's terminal.
struct GuestTerminal {
    master: OwnedFd,
    /// Held open: with no other side a master reads as hung up, and a command may close its own.
    slave: OwnedFd,
}

/// Relays until the command has ended; gives its exit status. `carried` are the streams that are not on
/// the terminal.
pub(super) fn relay(packets: &Packets, carried: Carried) -> Result<u8> {
    let master = match reply(packets)? {
        (Reply::Terminal, mut fds) => {
            fds.pop().ok_or_else(|| Error::failed("the guest's terminal was not received"))?
        }
        (other, _) => return finish(other),
    };
    let mut guest = Some(GuestTerminal { slave: sys::tty::open_slave(&master)?, master });
    let here = std::io::stdin().is_terminal();
    let raw = if here { Some(RawMode::enter(std::io::stdin())?) } else { None };
    let mut flows = guest.as_ref().map_or(Ok(Vec::new()), |guest| guest.flows(here))?;
    flows.extend(carried.flows);
    let outputs: Vec<usize> = (OUTPUT..flows.len()).collect();
    let signals = [Sig::SIGWINCH, Sig::SIGTERM, Sig::SIGHUP, Sig::SIGTSTP, Sig::SIGCONT];
    let mut relay = Relay::new(&signals, flows)?;
    let mut end_of_input = None;
    let answer = loop {
        match relay.wait(Some(packets), end_of_input.as_ref().map(EndOfInput::due))? {
            RelayEvent::Signal(signal) if signal == Sig::SIGWINCH as i32 => resize(guest.as_ref()),
            RelayEvent::Signal(signal) if [Sig::SIGTSTP as i32, Sig::SIGCONT as i32].contains(&signal) => {
                stop_or_go_on(signal, raw.as_ref());
                resize(guest.as_ref());
            }
            // Our terminal is gone, or a signal ends us: closing the master hangs the command up.
            RelayEvent::Signal(signal) => return Ok((128 + signal) as u8),
            RelayEvent::Packet => break reply(packets),
            RelayEvent::Ended(INPUT) if relay.flows[INPUT].has_sink() => {
                end_of_input.get_or_insert_with(EndOfInput::new);
            }
            // Its output has no reader any more: the command gets SIGHUP, as from a terminal that is closed.
            RelayEvent::Ended(OUTPUT) => {
                relay.flows[INPUT].close();
                (guest, end_of_input) = (None, None);
            }
            RelayEvent::Ended(_) | RelayEvent::Leave | RelayEvent::Nothing => {}
        }
        if let (Some(end), Some(guest)) = (&mut end_of_input, &guest) {
            end.say(guest, &mut relay.flows[INPUT]);
        }
    };
    if let Some(signal) = relay.finish(&outputs, is_to_end)? {
        return Ok((128 + signal) as u8);
    }
    drop(raw);
    let status = finish(answer?.0)?;
    relay.failure()?;
    Ok(status)
}

impl GuestTerminal {
    fn flows(&self, from_terminal: bool) -> Result<Vec<Flow>> {
        let step = || "set up the terminal";
        let own = || End::own(self.master.try_clone()?).context(step);
        let stdin = End::source(standard(std::io::stdin()).context(step)?);
        let stdout = End::sink(standard(std::io::stdout()).context(step)?);
        let mut input = Flow::new("standard input", stdin, own()?);
        if !from_terminal {
            let master = self.master.try_clone()?;
            let mut length = 0;
            input = input.filtered(Box::new(move |data| {
                Filtered::Pass(broken_up(data, sys::tty::end_of_file_key(&master), &mut length))
            }));
        }
        Ok(vec![input, Flow::new("standard output", own()?, stdout)])
    }
}

/// Breaks lines up that are longer than the terminal keeps: the end-of-file key behind a part of one
/// hands that part over and adds nothing (termios(3), VEOF). `length` is that of the last line so far.
fn broken_up(data: &[u8], end_of_file: Option<u8>, length: &mut usize) -> Vec<u8> {
    let Some(key) = end_of_file else { return data.to_vec() };
    let mut out = Vec::with_capacity(data.len() + data.len() / LINE + 1);
    for &byte in data {
        out.push(byte);
        *length = if matches!(byte, b'\n' | b'\r') { 0 } else { *length + 1 };
        // Behind ^V the key would be taken literally.
        if *length >= LINE && byte != 0x16 {
            out.push(key);
            *length = 0;
        }
    }
    out
}

/// A stop that was asked for gives the terminal back; afterwards it is raw again.
pub(super) fn stop_or_go_on(signal: i32, raw: Option<&RawMode>) {
    if signal == Sig::SIGTSTP as i32 {
        raw.inspect(|raw| raw.suspend());
        let _ = nix::sys::signal::raise(Sig::SIGSTOP);
    }
    raw.inspect(|raw| raw.resume());
}

fn resize(guest: Option<&GuestTerminal>) {
    let (rows, cols) = sys::tty::window_size(std::io::stdin().as_fd());
    // A terminal that is being closed has no size.
    let _ = guest.map(|guest| sys::tty::set_window_size(&guest.master, rows, cols));
}

/// Standard input has ended. A terminal has no end, only a key that says it to whoever reads then; so
/// it is typed, as a person would, whenever all that came before has been read.
struct EndOfInput {
    due: Instant,
    pause: Duration,
    /// Typed to a program that takes single keys, where it is a key like others: once.
    typed_raw: bool,
}

impl EndOfInput {
    const LONGEST: Duration = Duration::from_millis(500);

    fn new() -> Self {
        EndOfInput { due: Instant::now(), pause: Duration::from_millis(1), typed_raw: false }
    }

    fn due(&self) -> Instant {
        self.due
    }

    fn say(&mut self, guest: &GuestTerminal, input: &mut Flow) {
        if self.due > Instant::now() {
            return;
        }
        self.due = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(Self::LONGEST);
        if input.unwritten() > 0 || sys::tty::has_unread_input(&guest.slave) {
            return;
        }
        match sys::tty::end_of_file_key(&guest.master) {
            Some(key) => input.append(&[key]),
            None if !self.typed_raw => {
                input.append(&[4]);
                self.typed_raw = true;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_up_for_canonical_terminals_alone() {
        let mut length = 0;
        assert_eq!(broken_up(b"short\nlines\n", Some(4), &mut length), b"short\nlines\n");
        let long = vec![b'x'; 2 * LINE + 1];
        let broken = broken_up(&long, Some(4), &mut length);
        assert_eq!((broken.len(), broken[LINE], broken[2 * LINE + 1], length), (2 * LINE + 3, 4, 4, 1));
        assert_eq!(broken_up(&long, None, &mut length), long);
    }
}
