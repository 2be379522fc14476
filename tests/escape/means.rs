//! The attacks that a shell cannot make: C programs, static, for any guest.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::sandbox::source_tree;
use crate::support::{Outcome, Sandbox, command, run};

/// Compiles `tests/escape/SOURCE.c`; gives the program, which is in `LXM_ROOT`.
pub fn compile(sandbox: &Sandbox, source: &str) -> PathBuf {
    let program = sandbox.path(source);
    if !program.exists() {
        let source = source_tree().join("tests/escape").join(source).with_extension("c");
        let [from, to] = [&source, &program].map(|path| path.to_str().unwrap());
        run("gcc", &["-static", "-O1", "-pthread", "-o", to, from]).ok();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }
    program
}

/// Puts it into the guest, at `/SOURCE`.
pub fn give(sandbox: &Sandbox, guest: &str, source: &str) {
    let program = compile(sandbox, source);
    let into = format!("{guest}:/{source}");
    sandbox.lxm(&["push", program.to_str().unwrap(), &into]).ok();
    sandbox.lxm(&["attach", guest, "--", "chmod", "755", &format!("/{source}")]).ok();
}

/// Runs a script as the guest's root.
#[track_caller]
pub fn inside(sandbox: &Sandbox, guest: &str, script: &str) -> Outcome {
    sandbox.lxm(&["attach", guest, "--", "sh", "-c", script])
}

/// Starts a script in the guest that goes on when this returns; it is to end by itself, or with the guest.
#[track_caller]
pub fn meanwhile(sandbox: &Sandbox, guest: &str, script: &str) {
    inside(sandbox, guest, &format!("({script}) </dev/null >/tmp/told 2>&1 &")).ok();
}

/// Runs a program of the host, at most for a minute.
#[track_caller]
pub fn on_host(program: &Path, args: &[&str]) -> Outcome {
    let mut program = std::process::Command::new(program);
    program.args(args);
    command::bounded(program, b"", std::time::Duration::from_secs(60))
}
