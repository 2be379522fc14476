//! `lxm attach`: a command in a guest, from the request to its exit status.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Sig;
use nix::sys::signalfd::SignalFd;

use super::outcome::finish;
use super::pipes::{self, Carried, Pipes};
use super::relay::{Relay, RelayEvent, is_to_end};
use super::terminal;
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::client::{connect, reply};
use crate::error::{Error, Result};
use crate::proto::control::{AttachRequest, Request};
use crate::store::{BootRecord, Layout};
use crate::sys;
use crate::sys::socket::Packets;
use crate::types::{ContainerName, Signal};

/// What to run in the guest.
#[derive(Debug, Default)]
pub(crate) struct Command {
    /// Program and arguments; empty means the user's login shell.
    pub command: Vec<String>,
    pub user: Option<String>,
    /// `KEY=VALUE`, or `KEY` to take it from here.
    pub env: Vec<String>,
    pub cwd: Option<String>,
    pub clear_env: bool,
    pub terminal: TerminalMode,
}

/// Whether the command gets a terminal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TerminalMode {
    #[default]
    IfHere,
    Always,
    Never,
}

/// Runs a command in a running container; gives its exit status, or the one that says why it did
/// not run (126, 127, [`super::OUR_FAILURE`]).
pub(crate) fn run(layout: &Layout, name: &ContainerName, command: Command) -> Result<u8> {
    let packets = connect(layout, name)?;
    if crate::systemd::is_running() {
        // `systemctl freeze` freezes the supervisor too. Otherwise it refuses by itself.
        ContainerCgroup::new(Hierarchies::detect()?, BootRecord::cgroup_of(layout, name)?)
            .require_thawed(name, &layout.command(format_args!("unfreeze {name}")))?;
    }
    let here = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let tty = match command.terminal {
        TerminalMode::IfHere => here,
        TerminalMode::Always => true,
        TerminalMode::Never => false,
    };
    let (rows, cols) = sys::tty::window_size(std::io::stdin().as_fd());
    let request = AttachRequest {
        env: environment(&command, tty)?,
        command: command.command,
        user: command.user,
        cwd: command.cwd,
        clear_env: command.clear_env,
        tty,
        rows,
        cols,
    };
    let pipes = match tty {
        // Only what is shown on this terminal is the guest's terminal's: errors may go elsewhere.
        true => Pipes::for_error(command.terminal == TerminalMode::IfHere && !std::io::stderr().is_terminal())?,
        false => Pipes::for_all()?,
    };
    if tty {
        packets.send(&Request::Attach(request), &pipes.guest_ends())?;
        return terminal::relay(&packets, pipes.into_flows());
    }
    // From the moment that the command may run, signals are for it.
    let signals = sys::signals::descriptor(&PASSED_ON)?;
    packets.send(&Request::Attach(request), &pipes.guest_ends())?;
    without_terminal(&packets, signals, pipes.into_flows())
}

/// Resolves `KEY` to this process's value, and passes on what kind of terminal this is.
fn environment(command: &Command, tty: bool) -> Result<Vec<String>> {
    let mut env = Vec::new();
    if tty && !command.clear_env {
        let terminal =
            ["TERM", "COLORTERM"].into_iter().filter_map(|key| Some(format!("{key}={}", std::env::var(key).ok()?)));
        env.extend(terminal);
    }
    for entry in &command.env {
        match entry.split_once('=') {
            Some(("", _)) => return Err(Error::usage(format!("`--env {entry}`: a variable has a name"))),
            Some(_) => env.push(entry.clone()),
            None => env.extend(std::env::var(entry).ok().map(|value| format!("{entry}={value}"))),
        }
    }
    Ok(env)
}

/// What a command that has pipes is sent.
const PASSED_ON: [Sig; 6] = [Sig::SIGTERM, Sig::SIGINT, Sig::SIGHUP, Sig::SIGQUIT, Sig::SIGUSR1, Sig::SIGUSR2];

/// The SIGTERMs that come.
///
/// timeout(1) signals its child and then its group, which the child is of: two at once are one wish.
#[derive(Default)]
struct Terminations {
    first: Option<Instant>,
}

impl Terminations {
    const ONE_REQUEST: Duration = Duration::from_secs(1);

    /// Whether one that comes now is a wish of its own, after the first.
    fn again(&mut self) -> bool {
        self.first.get_or_insert_with(Instant::now).elapsed() >= Self::ONE_REQUEST
    }
}

/// The command has pipes: carries what is in them, and passes signals on.
fn without_terminal(packets: &Packets, signals: SignalFd, carried: Carried) -> Result<u8> {
    let Carried { flows, unread } = carried;
    let outputs: Vec<usize> = (1..flows.len()).collect();
    let mut relay = Relay::with(signals, flows);
    let mut terminations = Terminations::default();
    let answer = loop {
        match relay.wait(Some(packets), None)? {
            // A command may ignore the first one, or wait for a disk and not hear it.
            RelayEvent::Signal(libc::SIGTERM) if terminations.again() => break None,
            RelayEvent::Signal(signal) => pass_on(packets, signal),
            RelayEvent::Packet => break Some(reply(packets)),
            RelayEvent::Ended(pipes::INPUT) => relay.flows[pipes::INPUT].close(),
            RelayEvent::Ended(_) | RelayEvent::Leave | RelayEvent::Nothing => {}
        }
    };
    if let Some(unread) = unread {
        unread.rewind(&relay.flows[pipes::INPUT]);
    }
    // The supervisor hangs a command up whose client has gone.
    let Some(answer) = answer else { return Ok((128 + libc::SIGTERM) as u8) };
    // It has ended: what it wrote is still in the pipes, and only that is waited for, not end of file,
    // which a daemon that it left behind would hold up forever.
    let mut is_same_wish = |signal| signal == libc::SIGTERM && terminations.first.is_some() && !terminations.again();
    if let Some(signal) = relay.finish(&outputs, |signal| is_to_end(signal) && !is_same_wish(signal))? {
        return Ok((128 + signal) as u8);
    }
    let status = finish(answer?.0)?;
    relay.failure()?;
    Ok(status)
}

fn pass_on(packets: &Packets, signal: i32) {
    if let Some(signal) = Signal::from_number(signal) {
        // A supervisor that has ended has closed the connection, which was reported already.
        let _ = packets.send(&Request::Signal(signal), &[]);
    }
}
