//! The pipes between the standard streams here and those of a command in the guest.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::fs::{FileType, SeekFrom};

use super::ends::{End, pipe};
use super::flow::{Flow, standard};
use crate::error::{Context, Result};

/// The index of the flow of standard input; those behind it are outputs.
pub(super) const INPUT: usize = 0;

/// Pipes, with the guest's ends of them.
#[derive(Default)]
pub(super) struct Pipes {
    flows: Vec<Flow>,
    theirs: Vec<OwnedFd>,
    unread: Option<Unread>,
}

/// What is left when the guest has its ends.
pub(super) struct Carried {
    pub flows: Vec<Flow>,
    pub unread: Option<Unread>,
}

impl Pipes {
    /// Standard input, output and error. Two that are one file here are one pipe there, so that what
    /// is written to them stays in its order.
    pub(super) fn for_all() -> Result<Self> {
        let mut pipes = Pipes::default();
        pipes.input()?;
        pipes.output("standard output", std::io::stdout())?;
        if is_same_file(std::io::stdout(), std::io::stderr()) {
            let output = pipes.theirs[1].try_clone().context(|| "duplicate a pipe")?;
            pipes.theirs.push(output);
        } else {
            pipes.output("standard error", std::io::stderr())?;
        }
        Ok(pipes)
    }

    /// Standard error alone, if it is not to be on the command's terminal.
    pub(super) fn for_error(wanted: bool) -> Result<Self> {
        let mut pipes = Pipes::default();
        if wanted {
            pipes.output("standard error", std::io::stderr())?;
        }
        Ok(pipes)
    }

    /// The guest's ends, to be sent.
    pub(super) fn guest_ends(&self) -> Vec<RawFd> {
        self.theirs.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Closes the guest's ends, which the supervisor has received by now.
    pub(super) fn into_flows(self) -> Carried {
        Carried { flows: self.flows, unread: self.unread }
    }

    fn input(&mut self) -> Result<()> {
        let (theirs, ours) = pipe().context(|| "make a pipe")?;
        let stdin = standard(std::io::stdin()).context(|| "keep standard input")?;
        self.unread = Unread::of(&stdin, &theirs);
        let sink = End::own(ours).context(|| "set up a pipe")?;
        self.flows.push(Flow::new("standard input", End::source(stdin), sink).sharing_its_terminal());
        self.theirs.push(theirs);
        Ok(())
    }

    fn output(&mut self, what: &'static str, stream: impl AsFd) -> Result<()> {
        let (ours, theirs) = pipe().context(|| "make a pipe")?;
        let sink = End::sink(standard(stream).context(|| format!("keep {what}"))?);
        self.flows.push(Flow::new(what, End::own(ours).context(|| "set up a pipe")?, sink));
        self.theirs.push(theirs);
        Ok(())
    }
}

fn is_same_file(a: impl AsFd, b: impl AsFd) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// A file as standard input that our caller reads on afterwards: what the command has not read is left to it
/// (`while read NAME; do lxm attach "$NAME" -- CMD; done < list`).
pub(super) struct Unread {
    stdin: OwnedFd,
    /// The guest's end of the pipe: the only way to ask what is still in it when ours is closed.
    pipe: OwnedFd,
}

impl Unread {
    fn of(stdin: &OwnedFd, pipe: &OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(stdin).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(())?;
        Some(Unread { stdin: stdin.try_clone().ok()?, pipe: pipe.try_clone().ok()? })
    }

    /// Sets the file back to what the command has read.
    pub(super) fn rewind(self, flow: &Flow) {
        let in_pipe = rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0);
        let back = in_pipe + flow.unwritten();
        if back > 0 {
            // A file that cannot seek has no place to set back to.
            let _ = rustix::fs::seek(&self.stdin, SeekFrom::Current(-(back as i64)));
        }
    }
}
