//! Runs a builder's program: its output to a log, its last line on the progress display.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};
use crate::progress::Progress;
use crate::sys::process::end_with_parent;

/// How many of the log's last lines an error shows.
const SHOWN: usize = 12;

/// Runs `command` to its end; fails with the last lines of its output if it does.
pub fn run(mut command: Command, log: &Path, progress: &Progress) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let step = || format!("run `{program}`");
    let mut log_file = create_log(log)?;
    writeln!(log_file, "+ {command:?}").context(|| format!("write `{}`", log.display()))?;

    let (reader, writer) = std::io::pipe().context(step)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context(step)?).stderr(writer);
    // It cleans up after itself on SIGTERM, which it gets also when we are killed.
    end_with_parent(&mut command, nix::sys::signal::Signal::SIGTERM);
    let mut child = command.spawn().context(step)?;
    // The command holds the pipe's write end; without it we wait for the end of output in vain.
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
    let said: String = last.iter().map(|line| format!("\n  | {line}")).collect();
    Err(Error::failed(format!("`{program}` failed ({status}); it said at last:{said}"))
        .hint(format!("all that it said is in `{}`", log.display())))
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
    shown.chars().filter(|c| !c.is_control()).collect::<String>().trim_end().to_owned()
}

/// Whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // sbin too: debootstrap is there, and an administrator's PATH under sudo or cron may lack it.
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
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
    fn a_program_that_ends_well_says_nothing() {
        assert!(run_sh("echo fine").0.is_ok());
        assert!(run_sh("exit 1").0.is_err());
    }
}
