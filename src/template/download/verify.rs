//! Texts that are signed in the clear, checked by `gpgv`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// What of `signed` is signed by one of the keys in `keyring`.
pub fn signed_text(signed: &[u8], keyring: &Path) -> Result<Vec<u8>> {
    let keyring = std::path::absolute(keyring).context(|| "find the keyring")?;
    if !keyring.is_file() {
        return Err(Error::config(format!("there is no keyring `{}`", keyring.display())));
    }
    let dir = tempfile::tempdir().context(|| "make a temporary directory")?;
    let (input, output) = (dir.path().join("signed"), dir.path().join("text"));
    std::fs::write(&input, signed).context(|| "write what is to be verified")?;
    let mut gpgv = Command::new("gpgv");
    gpgv.arg("--keyring").arg(&keyring).arg("--output").arg(&output).arg(&input);
    let ran = match gpgv.stdin(Stdio::null()).env("LC_ALL", "C").output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Error::host_lacks("signatures are checked by `gpgv`, which is not installed").hint("install `gpgv`")
            );
        }
        other => other.context(|| "run `gpgv`")?,
    };
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(Error::failed(format!("it is not signed by a key of `{}`", keyring.display()))
            .hint(format!("gpgv said: {}", said.trim().replace('\n', "; "))));
    }
    // Only what the signature covers: an attacker can put other text around it.
    std::fs::read(&output).context(|| "read what was verified")
}
