//! The log of a process of ours that lives long: its standard error, which is a file of its own, or
//! the service manager's.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

/// What such a file grows to. Then it begins anew: a guest that makes us talk must not fill the disk,
/// or the memory that /run is in.
const LIMIT: u64 = 256 << 10;

/// Writes a message to the log, as [`terminal::say`](crate::terminal::say) does to the admin.
pub(crate) fn line(text: &str) {
    let stderr = std::io::stderr().lock();
    // The descriptor is not ours to close.
    let Ok(own) = stderr.as_fd().try_clone_to_owned() else { return };
    append(&mut File::from(own), &crate::terminal::message(text), LIMIT);
}

/// The file is open for appending, so that it is written at its new end after it was cut.
fn append(file: &mut File, text: &str, limit: u64) {
    let full = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() + text.len() as u64 >= limit);
    if full && file.set_len(0).is_ok() {
        let _ = file.write_all(b"(what was here was dropped: the log was full)\n");
    }
    // That the log cannot be written cannot be reported.
    let _ = file.write_all(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_grows_beyond_its_limit_and_has_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::options().append(true).create(true).open(&path).unwrap();
        for number in 0..1000 {
            append(&mut file, &format!("line {number}"), 500);
            assert!(path.metadata().unwrap().len() <= 600);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("(what was here") && text.ends_with("line 999\n"), "{text}");
    }
}
