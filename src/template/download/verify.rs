//! Texts that are signed in the clear, checked by `gpgv`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// What of `signed` is signed by one of the keys in `keyring`.
pub(super) fn signed_text(signed: &[u8], keyring: &Path) -> Result<Vec<u8>> {
    let keyring = std::path::absolute(keyring).context(|| "find the keyring")?;
    if !keyring.is_file() {
        return Err(Error::config(format!("there is no keyring `{}`", keyring.display())));
    }
    let mut gpgv = Command::new("gpgv");
    // Its output is only what the signature covers: an attacker can put other text around it.
    gpgv.arg("--keyring").arg(&keyring).args(["--output", "-"]).env("LC_ALL", "C");
    let mut gpgv = match gpgv.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Error::host_lacks("signatures are checked by `gpgv`, which is not installed").hint("install `gpgv`")
            );
        }
        other => other.context(|| "run `gpgv`")?,
    };
    let mut input = gpgv.stdin.take().expect("it is a pipe");
    let ran = std::thread::scope(|scope| {
        // The status of one that ends before it has read all decides.
        scope.spawn(move || drop(input.write_all(signed)));
        gpgv.wait_with_output()
    });
    let ran = ran.context(|| "run `gpgv`")?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(Error::failed(format!("it is not signed by a key of `{}`", keyring.display()))
            .hint(format!("gpgv said: {}", said.trim().replace('\n', "; "))));
    }
    Ok(ran.stdout)
}
