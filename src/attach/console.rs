//! `lxm console`: this terminal is the guest's console until it is left.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::sys::signal::Signal as Sig;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::escape::{EscapeKeys, Keys};
use super::flow::Filtered;
use super::relay::{Relay, RelayEvent, is_to_end};
use crate::client::{connect, reply, unexpected};
use crate::error::{Context, Result};
use crate::proto::control::{Reply, Request, StopRequest};
use crate::store::Layout;
use crate::sys;
use crate::sys::socket::Packets;
use crate::sys::tty::RawMode;
use crate::types::ContainerName;

/// The index of the flow that shows the console.
const OUTPUT: usize = 1;

/// How long to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until the person leaves.
    Left,
    /// Until the container stops; a signal to us stops it in order.
    Stopped,
}

/// Joins the console of a running container, showing all of its boot first; `joined` is called
/// once that is known to work.
pub(crate) fn console(layout: &Layout, name: &ContainerName, until: Until, joined: impl FnOnce()) -> Result<()> {
    let control = connect(layout, name)?;
    let (stream, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .context(|| "make a socket pair")?;
    let (rows, cols) = sys::tty::window_size(std::io::stdin().as_fd());
    control.send(&Request::Console { rows, cols }, &[theirs.as_raw_fd()])?;
    drop(theirs);
    match reply(&control)?.0 {
        Reply::Console { from, to, rotated } => {
            joined();
            show_scrollback(layout, name, from, to, rotated)?;
        }
        other => return Err(unexpected(&other)),
    }
    let raw = if std::io::stdin().is_terminal() { Some(sys::tty::RawMode::enter(std::io::stdin())?) } else { None };
    relay(layout, name, stream, raw.as_ref(), until)
}

fn relay(layout: &Layout, name: &ContainerName, stream: OwnedFd, raw: Option<&RawMode>, until: Until) -> Result<()> {
    // A connection of its own that ends with the container, and carries the requests we have.
    let control = connect(layout, name)?;
    control.send(&Request::Watch, &[])?;
    let mut escape = EscapeKeys::default();
    let [input, output] = super::stream::flows(stream)?;
    let input = input.filtered(Box::new(move |typed| match escape.filter(typed, Instant::now()) {
        Keys::Pass(keys) => Filtered::Pass(keys),
        Keys::Leave => Filtered::Leave,
    }));
    let signals = [Sig::SIGWINCH, Sig::SIGTERM, Sig::SIGINT, Sig::SIGHUP, Sig::SIGTSTP, Sig::SIGCONT];
    let mut relay = Relay::new(&signals, vec![input, output])?;
    loop {
        match relay.wait(Some(&control), None)? {
            RelayEvent::Signal(signal) if signal == Sig::SIGWINCH as i32 => resize(layout, name)?,
            RelayEvent::Signal(signal) if [Sig::SIGTSTP as i32, Sig::SIGCONT as i32].contains(&signal) => {
                super::terminal::stop_or_go_on(signal, raw);
            }
            RelayEvent::Signal(_) if until == Until::Stopped => stop(layout, name)?,
            RelayEvent::Signal(_) | RelayEvent::Leave => return Ok(()),
            // The supervisor has ended; its last words may still be in the stream.
            RelayEvent::Packet => {
                if control.recv::<Reply>()?.is_none() {
                    relay.finish(&[OUTPUT], is_to_end)?;
                    return relay.failure();
                }
            }
            RelayEvent::Ended(OUTPUT) => return relay.failure(),
            RelayEvent::Ended(_) if until == Until::Left => return Ok(()),
            RelayEvent::Ended(_) | RelayEvent::Nothing => {}
        }
    }
}

fn resize(layout: &Layout, name: &ContainerName) -> Result<()> {
    let (rows, cols) = sys::tty::window_size(std::io::stdin().as_fd());
    let control = connect(layout, name)?;
    control.send(&Request::Resize { rows, cols }, &[])?;
    reply(&control).map(drop)
}

/// Asks for an orderly stop without waiting for it here: the end comes by itself.
fn stop(layout: &Layout, name: &ContainerName) -> Result<()> {
    let limit = layout.config(name)?.boot.stop_timeout.get();
    let control: Packets = connect(layout, name)?;
    control.send(&Request::Stop(StopRequest { timeout_ms: limit.as_millis().max(1) as u64 }), &[])
}

/// Prints what the log holds of this boot.
fn show_scrollback(layout: &Layout, name: &ContainerName, from: u64, to: u64, rotated: bool) -> Result<()> {
    let log = layout.console_log(name);
    let mut stdout = std::io::stdout().lock();
    let mut show = |path: &std::path::Path, from: u64, length: u64| -> std::io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        std::io::copy(&mut file.take(length), &mut stdout)?;
        stdout.flush()
    };
    let shown = if rotated {
        show(&log.with_extension("log.1"), from, u64::MAX).and_then(|()| show(&log, 0, to))
    } else {
        show(&log, from, to - from)
    };
    shown.context(|| format!("show `{}`", log.display()))
}
