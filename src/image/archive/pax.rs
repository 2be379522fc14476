//! The records of PAX headers that say more than `tar-core` makes of them.

use base64::Engine;
use rustix::fs::Timespec;
use tar_core::PaxExtensions;

use crate::error::{Error, Result};
use crate::image::acl::AclKind;
use crate::image::attributes::FileAttributes;
use crate::image::inode_flags::FileFlags;
use crate::image::{BASE64, shown};

/// What records say of a file, those of one entry or of the entries that follow (`g`).
pub(super) fn read_pax(pax: &[u8], attributes: &mut FileAttributes, acls: &mut Vec<(AclKind, Vec<u8>)>) -> Result<()> {
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::failed(e.to_string()))?;
        let (key, value) = (record.key_bytes(), record.value_bytes());
        match key {
            b"mtime" => attributes.mtime = time(value).ok_or_else(|| Error::failed("its time is not a number"))?,
            b"uid" => attributes.uid = id(number(key, value)?)?,
            b"gid" => attributes.gid = id(number(key, value)?)?,
            b"size"
            | b"GNU.sparse.realsize"
            | b"GNU.sparse.size"
            | b"GNU.sparse.offset"
            | b"GNU.sparse.numbytes"
            | b"GNU.sparse.major"
            | b"GNU.sparse.minor" => {
                number(key, value)?;
            }
            b"SCHILY.acl.access" => acls.push((AclKind::Access, value.to_vec())),
            b"SCHILY.acl.default" => acls.push((AclKind::Default, value.to_vec())),
            b"SCHILY.fflags" => attributes.flags = FileFlags::parse(value),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    attributes.xattrs.push((unescape(name), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = BASE64.decode(value).map_err(|_| damaged_value(name))?;
                    // It writes those that are text twice.
                    attributes.xattrs.retain(|(other, _)| *other != by_percent(name));
                    attributes.xattrs.push((by_percent(name), value));
                }
            }
        }
    }
    Ok(())
}

fn number(key: &[u8], value: &[u8]) -> Result<u64> {
    let number = str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
    number.ok_or_else(|| Error::failed(format!("its `{}` is not a number", shown(key))))
}

fn damaged_value(name: &[u8]) -> Error {
    Error::failed(format!("its extended attribute `{}` is not base64", shown(name)))
}

pub(super) fn id(id: u64) -> Result<u32> {
    // chown(2) takes the highest one for "leave it".
    let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    id.ok_or_else(|| Error::failed("its owner is not a user or group id"))
}

/// A name as libarchive writes it, bytes as in a URL.
fn by_percent(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex::decode([*high, *low]).ok(),
            _ => None,
        };
        match escaped {
            Some(byte) => (plain.extend(byte), rest = &after[2..]).1,
            None => (plain.push(*first), rest = after).1,
        }
    }
    plain
}

/// GNU tar writes `=` and `%` of an attribute's name as `%3D` and `%25` (its `xattr_encode_keyword`).
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

/// Seconds with a fraction of any length, rounded down to the nanosecond.
fn time(value: &[u8]) -> Option<Timespec> {
    let value = str::from_utf8(value).ok()?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let (negative, whole) = match whole.strip_prefix('-') {
        Some(whole) => (true, whole),
        None => (false, whole),
    };
    let all_digits = |s: &str| s.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (nanos, beyond) = fraction.split_at(fraction.len().min(9));
    let nanos: i64 = format!("{nanos:0<9}").parse().ok()?;
    let seconds: i64 = whole.parse().ok()?;
    if !negative {
        return Some(Timespec { tv_sec: seconds, tv_nsec: nanos });
    }
    // Down is away from zero here, and the nanoseconds count upwards all the same.
    let nanos = nanos + i64::from(beyond.bytes().any(|byte| byte != b'0'));
    Some(match nanos {
        0 => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        _ => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
    })
}

/// Refuses global records that would be of one file: all that follow would be that file.
pub(super) fn check_global(pax: &[u8]) -> Result<()> {
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::failed(format!("the archive's global header is damaged: {e}")))?;
        let key = record.key_bytes();
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            let key = shown(key);
            return Err(Error::failed(format!("the archive sets `{key}` for all entries, which is not supported")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond_on_both_sides_of_1970() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1234567890.5", Some((1_234_567_890, 500_000_000))),
            ("1.123456789987", Some((1, 123_456_789))),
            ("-1", Some((-1, 0))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-0.25", Some((-1, 750_000_000))),
            ("-0.9999999991", Some((-1, 0))),
            ("", None),
            ("-", None),
            ("x", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()).map(|t| (t.tv_sec, t.tv_nsec)), expected, "{text}");
        }
    }

    #[test]
    fn attributes_of_libarchive_are_read_once() {
        let of = |records: &[u8]| {
            let mtime = Timespec { tv_sec: 0, tv_nsec: 0 };
            let flags = FileFlags::default();
            let mut attributes = FileAttributes { mode: 0, uid: 0, gid: 0, mtime, xattrs: Vec::new(), flags };
            read_pax(records, &mut attributes, &mut Vec::new()).map(|()| attributes)
        };
        let found = of(b"26 SCHILY.xattr.user.a=xy\n31 LIBARCHIVE.xattr.user.a=eHk\n").unwrap();
        assert_eq!(found.xattrs, [(b"user.a".to_vec(), b"xy".to_vec())]);
        let found = of(b"37 LIBARCHIVE.xattr.user.%E9%3d=eA==\n").unwrap();
        assert_eq!(found.xattrs, [(b"user.\xe9=".to_vec(), b"x".to_vec())]);
        assert!(of(b"30 LIBARCHIVE.xattr.user.a=e!\n").is_err());
    }

    #[test]
    fn attribute_names_lose_the_escapes_of_gnu_tar() {
        assert_eq!(unescape(b"user.a%3Db%25c%20"), b"user.a=b%c%20");
    }
}
