//! One error type for the whole program, whole across process boundaries.
//!
//! A function returns an error or reports it, never both; only [`crate::cli::main`] and the supervisor's top
//! report. The same value is serialised into the boot socket, the control socket and `failure.toml`, so the
//! admin reads the true cause whichever process it happened in.

use std::fmt;

use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something did not work (exit status 1).
    Failed,
    /// The command line is wrong (2).
    Usage,
    /// The named object does not exist (3).
    NotFound,
    /// It exists already, is in use, runs when it must not, or does not run when it must (4).
    Conflict,
    /// This host lacks a kernel feature, a tool or a right (5).
    HostLacks,
    /// A configuration or template file is wrong (6).
    Config,
    /// It took longer than allowed (7).
    TimedOut,
}

impl Kind {
    /// The process exit status documented for this kind.
    pub fn exit_status(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::NotFound => 3,
            Kind::Conflict => 4,
            Kind::HostLacks => 5,
            Kind::Config => 6,
            Kind::TimedOut => 7,
        }
    }
}

/// A failure: which steps on which objects, the cause, and what the admin can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: Kind,
    /// Outermost step first.
    steps: Vec<String>,
    /// The raw errno of the system call that failed, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, steps: vec![message.into()], errno: None, hint: None }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn host_lacks(message: impl Into<String>) -> Self {
        Self::new(Kind::HostLacks, message)
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(Kind::TimedOut, message)
    }

    /// Names the outer step and object; the innermost message and the errno stay.
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.steps.insert(0, step.into());
        self
    }

    /// Says what the admin can do. The innermost hint wins: it knows most.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The errno of the system call that failed, where one did.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// Outermost first; the last is what is wrong.
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    fn from_os(errno: i32) -> Self {
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        // std appends " (os error N)"; an admin has no use for the number.
        let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
        Error { errno: Some(errno), ..Self::failed(text) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.steps.join(": "))
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        match e.raw_os_error() {
            Some(errno) => Self::from_os(errno),
            None => Self::failed(e.to_string()),
        }
    }
}

impl From<nix::errno::Errno> for Error {
    fn from(e: nix::errno::Errno) -> Self {
        Self::from_os(e as i32)
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(e: rustix::io::Errno) -> Self {
        Self::from_os(e.raw_os_error())
    }
}

impl From<Error> for std::io::Error {
    fn from(e: Error) -> Self {
        std::io::Error::other(e)
    }
}

/// Names the step and the object of a failed call: `open(p).context(|| format!("open `{p}`"))?`.
pub(crate) trait Context<T> {
    fn context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.into().step(step()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_from_the_outside_in_and_keep_the_errno() {
        let e: Result<()> = Err(nix::errno::Errno::ENODEV).context(|| "attach `a` to `b`");
        let e = e.unwrap_err().step("start `web`");
        assert_eq!(e.to_string(), "start `web`: attach `a` to `b`: No such device");
        assert_eq!(e.errno(), Some(libc::ENODEV));
    }

    #[test]
    fn an_error_crosses_a_process_boundary_whole() {
        let e = Error::conflict("`web` runs").hint("stop it").step("destroy `web`");
        let wire = serde_json::to_string(&e).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&wire).unwrap(), e);
        assert_eq!(toml::from_str::<Error>(&toml::to_string(&e).unwrap()).unwrap(), e);
    }
}
