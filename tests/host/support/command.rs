//! Runs commands, bounded in time, and says what came of them.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::pace::{Clock, Deadline};

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    pub command: String,
    /// As a shell gives it: 128 plus the number where a signal ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// What a quiet machine would have taken.
    pub took: Duration,
}

impl Outcome {
    /// Asserts that it did its work.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self}");
        self
    }

    /// Asserts the exit status of a failure.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    #[track_caller]
    pub fn says(self, needle: &str) -> Self {
        assert!(self.stdout.contains(needle), "`{needle}` is not in the output of {self}");
        self
    }

    #[track_caller]
    pub fn complains(self, needle: &str) -> Self {
        assert!(self.stderr.contains(needle), "`{needle}` is not in the messages of {self}");
        self
    }

    /// The output, parsed.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }

    /// The output without the newline at its end.
    pub fn line(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { command, status, stdout, stderr, took } = self;
        write!(f, "`{command}`: status {status} after {took:.1?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// Runs a program with arguments; fails the trial when it takes longer than a minute.
#[track_caller]
#[must_use = "assert the exit status: `.ok()` or `.fails(STATUS)`"]
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Outcome {
    let mut command = Command::new(program);
    command.args(args);
    bounded(command, b"", Duration::from_secs(60))
}

/// Runs a command with `input` on its standard input, at most for `limit`.
///
/// A command that has ended while something else still holds its output open has leaked a
/// descriptor: that fails too.
#[track_caller]
#[must_use = "assert the exit status: `.ok()` or `.fails(STATUS)`"]
pub fn bounded(mut command: Command, input: &[u8], limit: Duration) -> Outcome {
    let line = describe(&command);
    let clock = Clock::start();
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("run `{line}`: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A command that does not read all of its input is no failure of the test.
        std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, &input)));
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let Some(status) = wait(&mut child, limit) else {
        child.kill().ok();
        child.wait().ok();
        let grace = Duration::from_millis(200);
        let (out, err) = (received(&stdout, grace).0, received(&stderr, grace).0);
        panic!("`{line}` did not end within {limit:?}\n--- stdout\n{out}\n--- stderr\n{err}");
    };
    let took = clock.elapsed();
    let grace = Duration::from_secs(5);
    let (stdout, stdout_ended) = received(&stdout, grace);
    let (stderr, stderr_ended) = received(&stderr, grace);
    let outcome = Outcome { command: line, status: status_of(status), stdout, stderr, took };
    assert!(stdout_ended && stderr_ended, "something that it started keeps its output open: {outcome}");
    outcome
}

/// Waits for a child, at most for `limit`; `None` when it still runs.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Deadline::after(limit);
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if deadline.has_passed() {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

pub fn status_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Collects a stream in a thread; what has come so far is sent when it ends.
fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// What a stream has given, and whether it ended within `grace`.
fn received(stream: &Receiver<Vec<u8>>, grace: Duration) -> (String, bool) {
    let deadline = Deadline::after(grace);
    let mut all = Vec::new();
    let ended = loop {
        match stream.recv_timeout(deadline.remaining()) {
            Ok(part) => all.extend(part),
            Err(RecvTimeoutError::Timeout) if !deadline.has_passed() => {}
            Err(end) => break end == RecvTimeoutError::Disconnected,
        }
    };
    (String::from_utf8_lossy(&all).into_owned(), ended)
}
