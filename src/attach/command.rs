use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal as Sig;

use super::control::{connect, reply, unexpected};
use super::relay::{Event, Relay, drain};
use crate::cgroup::{ContainerCgroup, Hierarchies};
use crate::error::{Error, Result};
use crate::host;
use crate::proto::control::{Attach, Reply, Request};
use crate::store::{BootRecord, Layout};
use crate::sys;
use crate::sys::socket::Packets;
use crate::terminal;
use crate::types::{ContainerName, Signal};

/// Exit status for a failure that is not the command's, as env(1) and docker have it.
pub const OUR_FAILURE: u8 = 125;

/// What to run in the guest.
#[derive(Debug, Default)]
pub struct Command {
    /// Program and arguments; empty means the user's login shell.
    pub command: Vec<String>,
    pub user: Option<String>,
    /// `KEY=VALUE`, or `KEY` to take it from here.
    pub env: Vec<String>,
    pub cwd: Option<String>,
    pub clear_env: bool,
    pub terminal: Terminal,
}

/// Whether the command gets a terminal.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    #[default]
    IfHere,
    Always,
    Never,
}

/// Runs a command in a running container; gives its exit status, or the one that says why it did
/// not run (126, 127, [`OUR_FAILURE`]).
pub fn run(layout: &Layout, name: &ContainerName, command: Command) -> Result<u8> {
    let packets = connect(layout, name)?;
    if host::systemd::is_running() {
        // `systemctl freeze` freezes the supervisor too. Otherwise it refuses by itself.
        ContainerCgroup::new(Hierarchies::detect()?, BootRecord::cgroup_of(layout, name)?).require_thawed(name)?;
    }
    let here = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let tty = match command.terminal {
        Terminal::IfHere => here,
        Terminal::Always => true,
        Terminal::Never => false,
    };
    let (rows, cols) = sys::tty::window_size(std::io::stdin().as_fd());
    let request = Attach {
        env: environment(&command, tty)?,
        command: command.command,
        user: command.user,
        cwd: command.cwd,
        clear_env: command.clear_env,
        tty,
        rows,
        cols,
    };
    packets.send(&Request::Attach(request), if tty { &[] } else { &[0, 1, 2] })?;
    if tty { with_terminal(&packets) } else { without_terminal(&packets) }
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

/// The answer that ends it: an exit status.
fn finish(answer: Reply) -> Result<u8> {
    match answer {
        Reply::Exited(exit) => Ok(exit.status()),
        Reply::NotRun { status: OUR_FAILURE, error } => Err(error),
        Reply::NotRun { status, error } => {
            terminal::say(format_args!("error: {error}"));
            Ok(status)
        }
        other => Err(unexpected(&other)),
    }
}

/// The command has our own descriptors: all there is to do is to pass signals on and wait.
fn without_terminal(packets: &Packets) -> Result<u8> {
    let forwarded = [Sig::SIGTERM, Sig::SIGINT, Sig::SIGHUP, Sig::SIGQUIT, Sig::SIGUSR1, Sig::SIGUSR2];
    let mut relay = Relay::new(&forwarded)?;
    loop {
        match relay.wait(packets, None)? {
            Event::Signal(signal) => pass_on(packets, signal)?,
            Event::Packet => return finish(reply(packets)?.0),
            Event::Input(_) | Event::InputEnd | Event::Output | Event::Nothing => {}
        }
    }
}

fn pass_on(packets: &Packets, signal: i32) -> Result<()> {
    match Signal::from_number(signal) {
        Some(signal) => packets.send(&Request::Signal(signal), &[]),
        None => Ok(()),
    }
}

/// The command has a terminal of the guest, and its other side is ours.
fn with_terminal(packets: &Packets) -> Result<u8> {
    let master = match reply(packets)? {
        (Reply::Terminal, mut fds) => fds.pop().ok_or_else(|| Error::failed("the guest's terminal did not arrive"))?,
        (other, _) => return finish(other),
    };
    let _raw = if std::io::stdin().is_terminal() { Some(sys::tty::RawMode::enter(std::io::stdin())?) } else { None };
    let mut relay = Relay::new(&[Sig::SIGWINCH, Sig::SIGTERM, Sig::SIGHUP])?;
    relay.read_input();
    loop {
        match relay.wait(packets, Some(master.as_fd()))? {
            Event::Signal(signal) if signal == Sig::SIGWINCH as i32 => resize(&master),
            // Our terminal is gone, or somebody wants us gone: closing the master hangs the command up.
            Event::Signal(signal) => return Ok((128 + signal) as u8),
            Event::Packet => {
                let answer = reply(packets)?.0;
                // It has ended: what it wrote last is still in the terminal, and only that is waited
                // for, not end of file, which a daemon that it left behind would hold up for ever.
                drain(&master)?;
                return finish(answer);
            }
            Event::Output => drop(relay.copy_output(&master)),
            Event::Input(data) => relay.send_input(&master, &data)?,
            // What a terminal makes of ^D.
            Event::InputEnd => relay.send_input(&master, &[4])?,
            Event::Nothing => {}
        }
    }
}

fn resize(master: &OwnedFd) {
    let (rows, cols) = sys::tty::window_size(std::io::stdin().as_fd());
    // A terminal that is being closed has no size.
    let _ = sys::tty::set_window_size(master, rows, cols);
}
