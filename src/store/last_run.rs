//! `last-run.toml`: how the last boot of a container ended, in its log directory, for who asks afterwards.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Layout, now, write_volatile};
use crate::error::Error;
use crate::sys::fs::read_text;
use crate::terminal::QUOTED_LINE;
use crate::types::{ContainerName, Signal};

/// How a boot ended. Written by the supervisor when it has; of one that died with its supervisor, by who
/// sweeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LastRun {
    /// RFC 3339, UTC.
    pub ended: String,
    /// How long the guest ran, in milliseconds; 0 where that is not known.
    #[serde(default)]
    pub lived_ms: u64,
    /// How many of its processes the kernel has killed for want of memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_kills: u64,
    /// The last lines of its console, where its init ended without having been asked to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<String>,
    pub end: RunEnd,
    /// Tells it from another one that ended in the same second: nanoseconds since 1970.
    #[serde(default)]
    pub stamp: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What ended a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum RunEnd {
    /// Its init exited by itself, with this status.
    Exited(i32),
    /// Its init was killed by a signal of this number that nobody sent through lxm.
    Signalled(i32),
    /// The guest powered itself off.
    PoweredOff,
    /// The guest rebooted by itself.
    Rebooted,
    /// It was asked to shut down and did.
    ShutDown,
    /// It was killed because that was asked for, or because its init understands no request.
    Killed,
    /// It was killed because it did not shut down in so many milliseconds.
    TimedOut(u64),
    /// Its supervisor was killed, and it with it.
    Lost,
}

impl RunEnd {
    /// As machines read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RunEnd::Exited(_) => "exited",
            RunEnd::Signalled(_) => "signalled",
            RunEnd::PoweredOff => "powered-off",
            RunEnd::Rebooted => "rebooted",
            RunEnd::ShutDown => "shut-down",
            RunEnd::Killed => "killed",
            RunEnd::TimedOut(_) => "timed-out",
            RunEnd::Lost => "lost",
        }
    }

    /// Whether its init ended without having been asked to, or having said why.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, RunEnd::Exited(_) | RunEnd::Signalled(_))
    }
}

impl LastRun {
    fn file(layout: &Layout, name: &ContainerName) -> PathBuf {
        layout.log_dir(name).join("last-run.toml")
    }

    /// One whose supervisor was killed: no more is known.
    pub(crate) fn lost() -> Self {
        LastRun::of(RunEnd::Lost)
    }

    /// One that ended now, of which no more is said.
    pub(crate) fn of(end: RunEnd) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = since_1970.as_nanos() as u64;
        LastRun { ended: now(), lived_ms: 0, oom_kills: 0, console: Vec::new(), end, stamp }
    }

    /// Keeps it. What cannot be kept is in the log all the same.
    pub(crate) fn write(&self, layout: &Layout, name: &ContainerName) {
        let _ = write_volatile(&Self::file(layout, name), self);
    }

    /// `None` where it has never ended, or what is there cannot be read.
    pub(crate) fn read(layout: &Layout, name: &ContainerName) -> Option<Self> {
        toml::from_str(&read_text(&Self::file(layout, name)).ok()?).ok()
    }

    /// The failure of a wait for a guest that has ended instead.
    pub(crate) fn error(&self, layout: &Layout, name: &ContainerName) -> Error {
        let console: String = self.console.iter().map(|line| format!("{QUOTED_LINE}{line}")).collect();
        Error::failed(format!("container `{name}` has ended: {self}{console}"))
            .hint(format!("`{}` shows its console", layout.command(format_args!("logs {name}"))))
    }
}

/// A sentence without its full stop.
impl fmt::Display for LastRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = Duration::from_millis(self.lived_ms);
        match self.end {
            RunEnd::Exited(status) => write!(f, "its init exited with status {status}")?,
            RunEnd::Signalled(number) => match Signal::from_number(number) {
                Some(signal) => write!(f, "its init was killed by {signal}")?,
                None => write!(f, "its init was killed by signal {number}")?,
            },
            RunEnd::PoweredOff => write!(f, "it powered itself off")?,
            RunEnd::Rebooted => write!(f, "it rebooted")?,
            RunEnd::ShutDown => write!(f, "it was shut down")?,
            RunEnd::Killed => write!(f, "it was killed as asked")?,
            RunEnd::TimedOut(ms) => {
                let limit = Duration::from_millis(ms).as_secs_f32();
                write!(f, "it did not shut down within {limit}s and was killed")?;
            }
            RunEnd::Lost => return write!(f, "its supervisor was killed, or died, and it with it"),
        }
        match self.oom_kills {
            0 => {}
            1 => write!(f, "; the kernel killed a process of it for want of memory")?,
            more => write!(f, "; the kernel killed {more} processes of it for want of memory")?,
        }
        if self.end.is_failure() {
            write!(f, ", {:.2}s after its start", after.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_kept_whole_and_said_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, name) = (Layout::new(dir.path()), "web".parse().unwrap());
        assert_eq!(LastRun::read(&layout, &name), None);
        std::fs::create_dir_all(layout.log_dir(&name)).unwrap();
        for (end, says) in [
            (
                RunEnd::Exited(3),
                "its init exited with status 3; the kernel killed a process of it for want of memory, 1.50s",
            ),
            (RunEnd::Signalled(11), "its init was killed by SIGSEGV"),
            (RunEnd::PoweredOff, "it powered itself off"),
            (RunEnd::Rebooted, "it rebooted"),
            (RunEnd::ShutDown, "it was shut down"),
            (RunEnd::Killed, "it was killed as asked"),
            (RunEnd::TimedOut(60_000), "it did not shut down within 60s and was killed"),
            (RunEnd::Lost, "its supervisor was killed"),
        ] {
            let run = LastRun { lived_ms: 1500, oom_kills: 1, console: vec!["a \"b\"".into()], end, ..LastRun::lost() };
            run.write(&layout, &name);
            assert_eq!(LastRun::read(&layout, &name).as_ref(), Some(&run));
            assert!(run.to_string().starts_with(says), "{run}");
            assert!(run.error(&layout, &name).to_string().ends_with("\n  | a \"b\""));
        }
    }
}
