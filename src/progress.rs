//! How long work is shown: a bar on a terminal, a few plain lines elsewhere, nothing with `-q`.
//!
//! All of it goes to stderr; stdout carries data alone. On a terminal a bar keeps a thread that
//! redraws it, so nothing that forks without exec may show progress.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressStyle};

use crate::terminal::{self, say};

static QUIET: AtomicBool = AtomicBool::new(false);

/// How often a line is written where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Silences all progress of this process, for `-q`.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// One piece of work in progress; may be shared by the threads that do it.
///
/// Dropped without [`Progress::finish`] it vanishes: the error that follows says what happened.
pub struct Progress(ProgressOutput);

enum ProgressOutput {
    Bar(ProgressBar),
    Plain(Plain),
    Hidden,
}

struct Plain {
    label: String,
    begun: Instant,
    /// Milliseconds after `begun` at which the next line is due.
    due: AtomicU64,
    done: AtomicU64,
    /// In bytes; 0 where it is unknown.
    total: AtomicU64,
    message: Mutex<String>,
}

impl Progress {
    /// Shows work of `total` bytes; 0 where that is not known beforehand.
    pub fn bytes(label: impl Into<String>, total: u64) -> Self {
        let template = match total {
            0 => "{prefix} {spinner} {decimal_bytes} {decimal_bytes_per_sec} {wide_msg}",
            _ => "{prefix} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {wide_msg}",
        };
        Self::new(label.into(), total, template)
    }

    /// Shows work of unknown size: that it is running, and for how long it has been.
    pub fn spinner(label: impl Into<String>) -> Self {
        Self::new(label.into(), 0, "{prefix} {spinner} {elapsed} {wide_msg}")
    }

    /// Shows work of unknown size by plain lines even on a terminal: it starts no thread.
    pub fn lines(label: impl Into<String>) -> Self {
        if QUIET.load(Ordering::Relaxed) {
            Self::hidden()
        } else {
            Progress(ProgressOutput::Plain(Plain::begin(label.into(), 0)))
        }
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Progress(ProgressOutput::Hidden)
    }

    fn new(label: String, total: u64, template: &str) -> Self {
        if QUIET.load(Ordering::Relaxed) {
            return Self::hidden();
        }
        if !std::io::stderr().is_terminal() {
            return Progress(ProgressOutput::Plain(Plain::begin(label, total)));
        }
        let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
        let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(terminal::line(&label).into_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(ProgressOutput::Bar(bar))
    }

    /// Counts `n` more bytes as done.
    pub fn inc(&self, n: u64) {
        match &self.0 {
            ProgressOutput::Bar(bar) => bar.inc(n),
            ProgressOutput::Plain(plain) => {
                plain.done.fetch_add(n, Ordering::Relaxed);
                plain.write_if_due();
            }
            ProgressOutput::Hidden => {}
        }
    }

    /// Says what is being worked on at the moment.
    pub fn set_message(&self, message: impl Into<String>) {
        match &self.0 {
            ProgressOutput::Bar(bar) => bar.set_message(terminal::line(&message.into()).into_owned()),
            ProgressOutput::Plain(plain) => {
                *plain.message.lock().unwrap_or_else(|e| e.into_inner()) = message.into();
                plain.write_if_due();
            }
            ProgressOutput::Hidden => {}
        }
    }

    /// Says that the work is done.
    pub fn finish(self) {
        match &self.0 {
            ProgressOutput::Bar(bar) => {
                bar.finish_and_clear();
                let label = bar.prefix();
                say(format_args!("{label}: done{}", amount_and_time(bar.position(), bar.elapsed())));
            }
            ProgressOutput::Plain(plain) => {
                let done = plain.done.load(Ordering::Relaxed);
                say(format_args!("{}: done{}", plain.label, amount_and_time(done, plain.begun.elapsed())));
            }
            ProgressOutput::Hidden => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let ProgressOutput::Bar(bar) = &self.0
            && !bar.is_finished()
        {
            bar.finish_and_clear();
        }
    }
}

impl Plain {
    fn begin(label: String, total: u64) -> Self {
        say(&label);
        Plain {
            label,
            begun: Instant::now(),
            due: AtomicU64::new(PLAIN_INTERVAL.as_millis() as u64),
            done: AtomicU64::new(0),
            total: AtomicU64::new(total),
            message: Mutex::new(String::new()),
        }
    }

    fn write_if_due(&self) {
        let now = self.begun.elapsed().as_millis() as u64;
        let due = self.due.load(Ordering::Relaxed);
        let next = now + PLAIN_INTERVAL.as_millis() as u64;
        // Of several threads one writes the line.
        if now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            say(self.line());
        }
    }

    fn line(&self) -> String {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let mut line = self.label.clone();
        match total {
            0 if done == 0 => {}
            0 => line += &format!(": {}", DecimalBytes(done)),
            _ => line += &format!(": {} of {}", DecimalBytes(done), DecimalBytes(total)),
        }
        let message = self.message.lock().unwrap_or_else(|e| e.into_inner());
        if !message.is_empty() {
            line += &format!(": {message}");
        }
        line
    }
}

fn amount_and_time(done: u64, time: Duration) -> String {
    let amount = if done == 0 { String::new() } else { format!("{} in ", DecimalBytes(done)) };
    match time.as_secs() {
        0..10 => format!(" ({amount}{:.1} s)", time.as_secs_f64()),
        _ => format!(" ({amount}{})", HumanDuration(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_how_far_and_with_what() {
        let plain = Plain::begin("unpack".to_owned(), 300_000_000);
        plain.done.store(150_000_000, Ordering::Relaxed);
        assert_eq!(plain.line(), "unpack: 150.00 MB of 300.00 MB");
        *plain.message.lock().unwrap() = "usr/bin/env".to_owned();
        assert_eq!(plain.line(), "unpack: 150.00 MB of 300.00 MB: usr/bin/env");
        assert_eq!(Plain::begin("build".to_owned(), 0).line(), "build");
    }

    #[test]
    fn every_face_can_be_driven_and_finished() {
        for progress in [Progress::bytes("a", 10), Progress::bytes("b", 0), Progress::spinner("c"), Progress::hidden()]
        {
            progress.set_message("m");
            progress.inc(10);
            progress.finish();
        }
    }
}
