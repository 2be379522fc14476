//! Files by http and https: whole or not at all, resumed where they were cut off, checked always.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use ureq::http::StatusCode;
use ureq::tls::{RootCerts, TlsConfig};

use crate::error::{Context, Error, Kind, Result};
use crate::progress::Progress;
use crate::store::FileLock;
use crate::sys::digest;

/// Attempts in a row that bring nothing before it is given up.
const ATTEMPTS: u32 = 4;

pub(super) struct Fetcher {
    agent: ureq::Agent,
    /// How long a server may be silent.
    timeout: Duration,
}

/// A file that has been downloaded and checked; no other process works on it.
#[derive(Debug)]
pub(super) struct Downloaded {
    path: PathBuf,
    #[expect(dead_code, reason = "held, not read")]
    lock: FileLock,
}

impl Downloaded {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, once it has served.
    pub(super) fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).context(|| format!("remove `{}`", self.path.display()))
    }
}

impl Fetcher {
    pub(super) fn new() -> Self {
        Self::with(Duration::from_secs(30), false)
    }

    /// For what is believed because of the way it comes: nothing leads it to a server by http.
    pub(super) fn by_https_alone() -> Self {
        Self::with(Duration::from_secs(30), true)
    }

    #[cfg(test)]
    fn with_timeout(timeout: Duration) -> Self {
        Self::with(timeout, false)
    }

    fn with(timeout: Duration, https_only: bool) -> Self {
        // The host's own certificates: a company's proxy is trusted there, and nowhere else.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(ureq::Proxy::try_from_env())
            .user_agent(concat!("lxm/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .http_status_as_error(false)
            .https_only(https_only)
            .build();
        Fetcher { agent: config.into(), timeout }
    }

    /// Reads a small file.
    pub(super) fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        let step = || format!("download `{url}`");
        let mut failures = 0;
        loop {
            let mut contents = Vec::new();
            let read = self.get(url, 0).and_then(|answer| {
                if answer.status != StatusCode::OK {
                    return Err(refused(answer.status));
                }
                self.pass_on(answer.body, limit, &mut |bytes| {
                    contents.extend_from_slice(bytes);
                    Ok(())
                })
            });
            match read {
                Ok(()) => return Ok(contents),
                Err(e) if failures + 1 >= ATTEMPTS || e.kind() != Kind::TimedOut => return Err(e.step(step())),
                Err(_) => failures += 1,
            }
            pause(failures);
        }
    }

    /// Downloads the file of `size` bytes with this digest into `dir`, continuing what an earlier attempt
    /// left there.
    pub(super) fn download(&self, url: &str, label: &str, sha256: &str, size: u64, dir: &Path) -> Result<Downloaded> {
        let step = || format!("download `{url}`");
        std::fs::create_dir_all(dir).context(|| format!("make `{}`", dir.display()))?;
        forget_old(dir);
        let path = dir.join(sha256);
        let lock = FileLock::acquire(&path)?;
        let progress = Progress::bytes(format!("download {label}"), size);
        let resumed = lock.file().metadata().context(step)?.len() > 0;
        self.complete(url, lock.file(), size, &progress).context(step)?;
        if digest(lock.file()).context(step)? != sha256 {
            lock.file().set_len(0).context(step)?;
            // What was resumed may have been another file of this name; a fresh one is to be believed.
            if resumed {
                self.complete(url, lock.file(), size, &progress).context(step)?;
            }
            if !resumed || digest(lock.file()).context(step)? != sha256 {
                lock.file().set_len(0).context(step)?;
                let error = Error::failed("its contents do not have the digest that the server's list gives");
                return Err(error.hint("the server is being updated, or its data is changed on the way").step(step()));
            }
        }
        progress.finish();
        Ok(Downloaded { path, lock })
    }

    /// Brings `file` to its full size.
    fn complete(&self, url: &str, mut file: &File, size: u64, progress: &Progress) -> Result<()> {
        let mut failures = 0;
        progress.inc(file.metadata()?.len().min(size));
        loop {
            let have = file.metadata()?.len();
            if have == size {
                return Ok(());
            }
            if have > size {
                file.set_len(0)?;
                continue;
            }
            let attempt = self.get(url, have).and_then(|answer| {
                match answer.status {
                    StatusCode::PARTIAL_CONTENT if answer.from == Some(have) => {}
                    // It does not do ranges: all over again.
                    StatusCode::OK => file.set_len(0)?,
                    StatusCode::RANGE_NOT_SATISFIABLE => {
                        file.set_len(0)?;
                        return Err(Error::timed_out("the file on the server is shorter than it was"));
                    }
                    status => return Err(refused(status)),
                }
                let mut at = file.seek(SeekFrom::End(0))?;
                self.pass_on(answer.body, u64::MAX, &mut |bytes| {
                    at += bytes.len() as u64;
                    if at > size {
                        return Err(Error::failed("it is longer than the server's list says"));
                    }
                    progress.inc(bytes.len() as u64);
                    file.write_all(bytes).context(|| "write")
                })
            });
            let brought = file.metadata()?.len() > have;
            failures = if brought { 0 } else { failures + 1 };
            match attempt {
                Err(e) if e.kind() != Kind::TimedOut => return Err(e),
                Err(e) if failures >= ATTEMPTS => return Err(e),
                Ok(()) if failures >= ATTEMPTS => {
                    return Err(Error::failed("it is shorter than the server's list says"));
                }
                _ => pause(failures),
            }
        }
    }

    fn get(&self, url: &str, from: u64) -> Result<Response> {
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|e| unreachable_server(&e))?;
        let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
        // `bytes 100-199/200`
        let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        Ok(Response { status: response.status(), from: begin, body: response.into_body() })
    }

    /// Passes a body on; fails with `Kind::TimedOut` when it is cut off or the server is silent too long.
    fn pass_on(&self, body: ureq::Body, limit: u64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (sender, chunks) = sync_channel::<std::io::Result<Vec<u8>>>(4);
        // Left alone when the server is silent: it ends with the connection or with this process.
        std::thread::spawn(move || {
            let mut reader = body.into_with_config().limit(u64::MAX).reader();
            loop {
                let mut chunk = vec![0; 128 * 1024];
                let read = reader.read(&mut chunk).map(|n| {
                    chunk.truncate(n);
                    chunk
                });
                let ended = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || ended {
                    return;
                }
            }
        });
        let mut total = 0;
        loop {
            match chunks.recv_timeout(self.timeout) {
                Ok(Ok(chunk)) if chunk.is_empty() => return Ok(()),
                Ok(Ok(chunk)) => {
                    total += chunk.len() as u64;
                    if total > limit {
                        return Err(Error::failed(format!("it is longer than {limit} bytes")));
                    }
                    take(&chunk)?;
                }
                Ok(Err(e)) => return Err(Error::timed_out(format!("the connection was cut: {e}"))),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.timeout.as_secs();
                    return Err(Error::timed_out(format!("the server sent nothing for {seconds} s")));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Error::failed("the reading thread failed")),
            }
        }
    }
}

struct Response {
    status: StatusCode,
    /// Where the part begins that was sent.
    from: Option<u64>,
    body: ureq::Body,
}

fn refused(status: StatusCode) -> Error {
    let error = Error::failed(format!("the server says {status}"));
    match status.as_u16() {
        404 | 410 => error.with_kind(Kind::NotFound),
        // It may be better in a moment.
        429 | 500..=599 => error.with_kind(Kind::TimedOut),
        _ => error,
    }
}

fn unreachable_server(e: &ureq::Error) -> Error {
    // These do not change by asking again.
    let hopeless = matches!(
        e,
        ureq::Error::BadUri(_) | ureq::Error::Tls(_) | ureq::Error::HostNotFound | ureq::Error::RequireHttpsOnly(_)
    );
    let error = match e {
        ureq::Error::Timeout(_) => Error::failed("the server does not answer"),
        other => Error::failed(other.to_string()),
    };
    if hopeless { error } else { error.with_kind(Kind::TimedOut) }
}

fn pause(failures: u32) {
    std::thread::sleep(Duration::from_millis(100) * failures.min(20).pow(2));
}

fn digest(mut file: &File) -> std::io::Result<String> {
    file.rewind()?;
    digest::sha256(file)
}

/// Removes what was cut short and then not wanted for a week.
fn forget_old(dir: &Path) {
    let week = Duration::from_secs(7 * 24 * 3600);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > week) && matches!(FileLock::is_held(&entry.path()), Ok(false)) {
            // Another command may have been quicker.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
