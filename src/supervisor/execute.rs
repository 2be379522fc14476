//! The last step of a command on its way into the guest: its environment and its execution.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::not_run::Failure;
use super::setup::PATH;
use super::user::User;
use crate::error::{Error, Kind};
use crate::proto::control::{AttachRequest, NOT_EXECUTABLE, NOT_FOUND, OUR_FAILURE};

/// The command's environment: the guest's default one, the container's, and what was asked for.
fn environment(request: &AttachRequest, user: &User, container: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| {
        env.retain(|(known, _)| known != key);
        env.push((key.to_owned(), value.to_owned()));
    };
    if !request.clear_env {
        for (key, value) in [
            ("container", "lxm"),
            ("PATH", PATH),
            ("HOME", &user.home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
            ("SHELL", &user.shell),
        ] {
            set(key, value);
        }
        container.iter().for_each(|(key, value)| set(key, value));
    }
    for entry in &request.env {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(key, value);
    }
    env
}

/// Executes the command, looked for along the environment's PATH as a shell does.
pub(super) fn execute(
    request: &AttachRequest,
    user: &User,
    container: &BTreeMap<String, String>,
) -> Result<std::convert::Infallible, Failure> {
    let c_string =
        |text: &str| CString::new(text).map_err(|_| (OUR_FAILURE, Error::usage("an argument holds a NUL byte")));
    let env = environment(request, user, container);
    let path = env.iter().find(|(key, _)| key == "PATH").map_or(PATH, |(_, value)| value);
    // A login shell's name starts with `-` (login(1)).
    let shell_name = format!("-{}", Path::new(&user.shell).file_name().unwrap_or_default().to_string_lossy());
    let (program, argv) = match request.command.split_first() {
        Some((program, _)) => {
            (program.as_str(), request.command.iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>, _>>()?)
        }
        None => (user.shell.as_str(), vec![c_string(&shell_name)?]),
    };
    let env = env.iter().map(|(key, value)| c_string(&format!("{key}={value}"))).collect::<Result<Vec<_>, _>>()?;
    let candidates: Vec<std::path::PathBuf> = match program.contains('/') {
        true => vec![program.into()],
        false => path.split(':').map(|dir| Path::new(dir).join(program)).collect(),
    };
    let mut worst = Errno::ENOENT;
    for candidate in candidates {
        let candidate = CString::new(candidate.as_os_str().as_bytes())
            .map_err(|_| (OUR_FAILURE, Error::usage("the command holds a NUL byte")))?;
        let Err(errno) = nix::unistd::execve(&candidate, &argv, &env);
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
            worst = errno;
        }
    }
    let error = Error::from(worst).step(format!("execute `{program}`"));
    match worst {
        Errno::ENOENT => Err((NOT_FOUND, error.with_kind(Kind::NotFound))),
        _ => Err((NOT_EXECUTABLE, error)),
    }
}
