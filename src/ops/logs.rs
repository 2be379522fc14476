//! Reading a console's log, which its supervisor writes: a file and its rotated older half.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Context, Result};
use crate::store::{AliveLock, Layout};
use crate::types::ContainerName;

/// How soon what the guest writes is seen.
const GLANCE: Duration = Duration::from_millis(50);

/// Which part of the log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    All,
    LastLines(usize),
}

/// Gives what the log holds to `show`, and goes on with what comes until the container has stopped
/// if `follow` says so. `show` says whether it wants more.
pub fn logs(
    layout: &Layout,
    name: &ContainerName,
    part: Part,
    follow: bool,
    show: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> Result<()> {
    layout.require(name)?;
    let path = layout.console_log(name);
    let mut current = open(&path)?;
    let mut text = read(&mut open(&path.with_extension("log.1"))?)?;
    text.extend(read(&mut current)?);
    let wanted = match part {
        Part::All => &text[..],
        Part::LastLines(n) => last_lines(&text, n),
    };
    let mut more = show(wanted)?;
    while follow && more {
        // Looked at first: what it wrote before it ended is still to be read then.
        let alive = AliveLock::is_held(layout, name)?;
        more = show(&read(&mut current)?)?;
        let newer = open(&path)?;
        let is_same = |a: &File, b: &File| a.metadata().ok().map(|m| m.ino()) == b.metadata().ok().map(|m| m.ino());
        match (&current, newer) {
            (Some(old), Some(newer)) if is_same(old, &newer) => {}
            // Rotated, or made only now: from its begin.
            (_, Some(newer)) => {
                current = Some(newer);
                continue;
            }
            (_, None) => {}
        }
        if !alive {
            return Ok(());
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

fn open(path: &PathBuf) -> Result<Option<File>> {
    match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some).context(|| format!("open `{}`", path.display())),
    }
}

/// What comes after what was read before.
fn read(file: &mut Option<File>) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    if let Some(file) = file {
        let at = file.stream_position()?;
        file.read_to_end(&mut text).context(|| "read the console's log")?;
        file.seek(SeekFrom::Start(at + text.len() as u64))?;
    }
    Ok(text)
}

/// The last `n` lines; one without an end yet counts.
fn last_lines(text: &[u8], n: usize) -> &[u8] {
    if n == 0 {
        return &[];
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = ends.map(|(at, _)| at + 1).nth(n - 1).unwrap_or(0);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        for (text, n, wanted) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\n", 1, "a\n"),
            ("a\n", 0, ""),
            ("", 3, ""),
            ("\n\n", 1, "\n"),
        ] {
            assert_eq!(last_lines(text.as_bytes(), n), wanted.as_bytes(), "{text:?} {n}");
        }
    }

    #[test]
    fn the_older_half_comes_first_and_a_stopped_container_is_not_followed_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        std::fs::create_dir_all(layout.container(&name)).unwrap();
        std::fs::create_dir_all(layout.log_dir(&name)).unwrap();
        std::fs::write(layout.console_log(&name).with_extension("log.1"), "old\n").unwrap();
        std::fs::write(layout.console_log(&name), "new\n").unwrap();
        let mut shown = Vec::new();
        let mut show = |bytes: &[u8]| {
            shown.extend_from_slice(bytes);
            Ok(true)
        };
        logs(&layout, &name, Part::All, true, &mut show).unwrap();
        assert_eq!(shown, b"old\nnew\n");
    }
}
