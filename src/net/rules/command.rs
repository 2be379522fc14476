//! The program nft: what it is given and what it lists.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::listing::Listing;
use crate::error::{Context, Error, Result};
use crate::store::{FileLock, Layout};

/// Runs `nft` on a whole transaction.
pub(crate) fn run(script: &str) -> Result<()> {
    let child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(not_run)?;
    // Short enough for the pipe, or read by nft while we write; a failure to write is nft's death,
    // which its status tells better.
    let _ = child.stdin.take().expect("it is piped").write_all(script.as_bytes());
    let output = child.wait_with_output().context(|| "run `nft`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or("it does not say why").trim();
    Err(Error::failed(format!("`nft` refuses the rules: {first}")))
}

/// What `nft` lists; `None` where it knows no such object.
pub(crate) fn list(args: &[&str]) -> Result<Option<Listing>> {
    let output = Command::new("nft").arg("-j").args(args).stdin(Stdio::null()).output().map_err(not_run)?;
    if output.status.success() {
        let listing = Listing::parse(&output.stdout).map_err(|e| Error::failed(e.to_string()));
        return listing.map(Some).context(|| "read what `nft` lists");
    }
    // A build option. What there is must not be taken for missing.
    if String::from_utf8_lossy(&output.stderr).contains("JSON support not compiled-in") {
        return Err(Error::host_lacks("the program `nft` was built without JSON")
            .hint("install the distribution's package nftables"));
    }
    Ok(None)
}

fn not_run(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::host_lacks("the program `nft` is not installed").hint("install the package nftables")
        }
        _ => Error::from(e).step("run `nft`"),
    }
}

/// Held by who writes the tables, and by who changes what they are made of.
pub(crate) fn lock(layout: &Layout) -> Result<FileLock> {
    FileLock::acquire(&layout.network_run().join("nft.lock"))
}
