//! One entry of an archive as tar stores it.

use base64::Engine;
use rustix::fs::Stat;
use tar::{EntryType, Header};

use crate::image::BASE64;
use crate::image::inode_flags::FileFlags;

pub(super) const BLOCK: u64 = 512;

/// A header and the records that say what does not fit into it.
pub(super) struct NewEntry {
    pub header: Header,
    pub pax: Vec<(String, Vec<u8>)>,
}

impl NewEntry {
    pub(super) fn new(kind: EntryType, path: &[u8]) -> Self {
        let mut entry = NewEntry { header: Header::new_ustar(), pax: Vec::new() };
        entry.header.set_entry_type(kind);
        entry.header.set_size(0);
        let mut path = path.to_vec();
        if kind == EntryType::Directory {
            path.push(b'/');
        }
        entry.path(&path);
        entry
    }

    pub(super) fn of(kind: EntryType, path: &[u8], stat: &Stat) -> Self {
        let mut entry = Self::new(kind, path);
        entry.owner(stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
        entry.time(stat.st_mtime, stat.st_mtime_nsec as u32);
        entry
    }

    fn path(&mut self, path: &[u8]) {
        let name = &mut self.header.as_old_mut().name;
        if path.len() > name.len() {
            self.pax.push(("path".to_owned(), path.to_vec()));
        }
        let length = path.len().min(name.len());
        name[..length].copy_from_slice(&path[..length]);
    }

    pub(super) fn target(&mut self, target: &[u8]) {
        let name = &mut self.header.as_old_mut().linkname;
        if target.len() > name.len() {
            self.pax.push(("linkpath".to_owned(), target.to_vec()));
        }
        let length = target.len().min(name.len());
        name[..length].copy_from_slice(&target[..length]);
    }

    pub(super) fn owner(&mut self, uid: u32, gid: u32, mode: u32) {
        self.header.set_mode(mode);
        self.header.set_uid(u64::from(uid));
        self.header.set_gid(u64::from(gid));
        // Seven octal digits in the header.
        const HIGHEST: u32 = 0o7777777;
        if uid > HIGHEST {
            self.header.set_uid(0);
            self.pax.push(("uid".to_owned(), uid.to_string().into_bytes()));
        }
        if gid > HIGHEST {
            self.header.set_gid(0);
            self.pax.push(("gid".to_owned(), gid.to_string().into_bytes()));
        }
    }

    pub(super) fn time(&mut self, seconds: i64, nanos: u32) {
        // Eleven octal digits in the header, of whole seconds from 1970.
        const HIGHEST: i64 = 0o77777777777;
        self.header.set_mtime(seconds.clamp(0, HIGHEST) as u64);
        if nanos == 0 && (0..=HIGHEST).contains(&seconds) {
            return;
        }
        let value = if seconds >= 0 || nanos == 0 {
            format!("{seconds}.{nanos:09}")
        } else {
            // 1.25 s before 1970 are -2 seconds and 750 million nanoseconds.
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos)
        };
        self.pax.push(("mtime".to_owned(), value.into_bytes()));
    }

    pub(super) fn size(&mut self, size: u64) {
        const HIGHEST: u64 = 0o77777777777;
        self.header.set_size(size);
        if size > HIGHEST {
            self.pax.push(("size".to_owned(), size.to_string().into_bytes()));
        }
    }

    pub(super) fn xattrs(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        let mut xattrs: Vec<_> = xattrs.iter().collect();
        xattrs.sort();
        for (name, value) in xattrs {
            self.pax.push(match str::from_utf8(name) {
                // As GNU tar escapes them (its `xattr_encode_keyword`): a record's key ends at a `=`.
                Ok(name) => (format!("SCHILY.xattr.{}", name.replace('%', "%25").replace('=', "%3D")), value.clone()),
                // A key is text (POSIX.1, pax, extended header). libarchive's record is for all names.
                Err(_) => (format!("LIBARCHIVE.xattr.{}", by_percent(name)), BASE64.encode(value).into_bytes()),
            });
        }
    }

    pub(super) fn flags(&mut self, flags: FileFlags) {
        if !flags.is_empty() {
            self.pax.push(("SCHILY.fflags".to_owned(), flags.text().into_bytes()));
        }
    }

    /// Makes it a file with holes; returns the map that goes before its data.
    pub(super) fn sparse(&mut self, path: &[u8], size: u64, data: &[(u64, u64)]) -> Vec<u8> {
        let mut parts = data.to_vec();
        // A hole at the end needs an empty part behind it.
        if data.last().is_none_or(|(offset, length)| offset + length < size) {
            parts.push((size, 0));
        }
        let mut map = format!("{}\n", parts.len());
        for (offset, length) in &parts {
            map += &format!("{offset}\n{length}\n");
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK as usize), 0);
        self.pax.push(("GNU.sparse.major".to_owned(), b"1".to_vec()));
        self.pax.push(("GNU.sparse.minor".to_owned(), b"0".to_vec()));
        self.pax.push(("GNU.sparse.name".to_owned(), path.to_vec()));
        self.pax.push(("GNU.sparse.realsize".to_owned(), size.to_string().into_bytes()));
        self.size(map.len() as u64 + data.iter().map(|(_, length)| length).sum::<u64>());
        map
    }
}

/// As in a URL, which libarchive writes names in.
fn by_percent(name: &[u8]) -> String {
    let byte = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    name.iter().map(byte).collect()
}
