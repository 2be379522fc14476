//! Runs a builder's program: its output to a log, its last line on the progress display.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::sys::process::end_with_parent;
use crate::terminal::{self, QUOTED_LINE};

/// How many of the log's last lines an error shows.
const SHOWN: usize = 12;

/// Runs `command` to its end; fails with the last lines of its output if it does.
///
/// It and all that it starts die with us, whatever kills us, and what they mounted goes with them: they must
/// not keep writing to a directory that another build fills by then.
pub(super) fn run(command: Command, log: &Path, progress: &Progress) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let step = || format!("run `{program}`");
    let mut log_file = create_log(log)?;
    writeln!(log_file, "+ {command:?}").context(|| format!("write `{}`", log.display()))?;

    let mut command = confined(&command);
    let (reader, writer) = std::io::pipe().context(step)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context(step)?).stderr(writer);
    end_with_parent(&mut command, nix::sys::signal::Signal::SIGKILL);
    let mut child = command.spawn().context(step)?;
    // The command holds the pipe's write end: while it does, the output has no end.
    drop(command);
    let mut last = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context(step)?;
        log_file
            .write_all(&line)
            .and_then(|()| log_file.write_all(b"\n"))
            .context(|| format!("write `{}`", log.display()))?;
        let line = printable(&line);
        if !line.is_empty() {
            progress.set_message(line.clone());
            last.push(line);
            last.drain(..last.len().saturating_sub(SHOWN));
        }
    }
    let status = child.wait().context(step)?;
    if status.success() {
        return Ok(());
    }
    let said: String = last.iter().map(|line| format!("{QUOTED_LINE}{line}")).collect();
    Err(Error::failed(format!("`{program}` failed ({status}); its last output:{said}"))
        .hint(format!("its whole output is in `{}`", log.display())))
}

/// `command` in a pid namespace, whose processes all die with its first one, and a mount namespace.
fn confined(command: &Command) -> Command {
    let mut confined = Command::new("unshare");
    confined.args(["--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--propagation", "private", "--"]);
    // The shell is the namespace's init, which gets no signal that it has not asked for and inherits
    // orphans: no builder expects either. With an `exit` to come it does not exec the program.
    confined.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
    confined.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => confined.env(name, value),
            None => confined.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        confined.current_dir(dir);
    }
    confined
}

fn create_log(log: &Path) -> Result<File> {
    let create = || -> std::io::Result<File> {
        std::fs::create_dir_all(log.parent().unwrap_or(Path::new("/")))?;
        File::create(log)
    };
    create().context(|| format!("make the log `{}`", log.display()))
}

/// The line as a terminal may show it: the last of what overwrote itself, without control characters.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or("");
    shown.chars().filter(|c| !terminal::is_control(*c)).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod root_tests {
    use super::*;

    fn run_sh(script: &str) -> (Result<()>, String) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs/build.log");
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let result = run(command, &log, &Progress::hidden());
        (result, std::fs::read_to_string(log).unwrap())
    }

    #[test]
    fn all_output_is_in_the_log_and_the_last_of_it_in_the_error() {
        let (result, log) = run_sh("for i in $(seq 40); do echo line $i; done; printf '\\033[1mbad\\n' >&2; exit 3");
        let e = result.unwrap_err();
        assert!(log.contains("line 1\n") && log.ends_with("\u{1b}[1mbad\n"), "{log}");
        assert!(e.to_string().ends_with("  | line 40\n  | [1mbad"), "{e}");
        assert!(!e.to_string().contains("line 20\n"), "{e}");
        assert!(e.hint_text().unwrap().contains("build.log"));
    }

    #[test]
    fn what_the_program_mounts_and_leaves_running_goes_with_it() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let (result, log) = run_sh("mount -t tmpfs lxm-test /mnt; sleep 1234 & echo $$ $PPID");
        result.unwrap();
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        assert!(log.trim_end().ends_with(" 1"), "its parent should be the namespace's init: {log}");
    }

    #[test]
    fn a_program_that_ends_well_says_nothing() {
        assert!(run_sh("echo fine").0.is_ok());
        assert!(run_sh("exit 1").0.is_err());
    }
}
