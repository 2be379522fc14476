//! Giving back memory that only the start needed.

use crate::error::{Context, Result};

/// Drops this program's code and constants and its libraries', and the heap's free pages. What is
/// needed again is read again, from the page cache; a process that waits needs little.
pub(crate) fn release() -> Result<()> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").context(|| "read our own mappings")?;
    for (start, length) in clean_file_mappings(&smaps) {
        // SAFETY: the range is a private mapping of a file without write permission or pages
        // of our own, so every page comes back as it was from the file at the next access.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
    drop(smaps);
    // SAFETY: takes an integer; the allocator returns free memory only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    Ok(())
}

/// Start and length in bytes of mappings that hold nothing but a file's pages: not writable, and
/// nothing anonymous in them (the relocated constants are anonymous, and would come back unrelocated).
fn clean_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(header) = parse_header(line) {
            current = header;
        } else if line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB") {
            found.extend(current.take());
        }
    }
    found
}

/// `Some(range)` for a mapping's first line, with the range if it is a private, unwritable one of a file.
fn parse_header(line: &str) -> Option<Option<(usize, usize)>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let permissions = words.next()?;
    let path = words.nth(3).unwrap_or("");
    let droppable = permissions.starts_with('r') && &permissions[1..2] == "-" && permissions.ends_with('p');
    Some((droppable && path.starts_with('/')).then_some((start, end - start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_private_file_mappings_are_dropped() {
        let smaps = "\
            1000-2000 r-xp 00000000 08:01 1 /usr/bin/lxm\nRss: 4 kB\nAnonymous:             0 kB\n\
            2000-4000 r--p 00001000 08:01 1 /usr/bin/lxm\nAnonymous:             8 kB\n\
            4000-5000 rw-p 00003000 08:01 1 /usr/bin/lxm\nAnonymous:             0 kB\n\
            6000-7000 r-xp 00000000 00:00 0 [vdso]\nAnonymous:             0 kB\n\
            8000-9000 r--s 00000000 08:01 2 /x\nAnonymous:             0 kB\n";
        assert_eq!(clean_file_mappings(smaps), [(0x1000, 0x1000)]);
    }

    #[test]
    fn this_program_goes_on_after_its_image_was_dropped() {
        assert!(!clean_file_mappings(&std::fs::read_to_string("/proc/self/smaps").unwrap()).is_empty());
        release().unwrap();
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
    }
}
