//! The records of PAX headers that say more than `tar-core` makes of them.

use rustix::fs::Timespec;
use tar_core::PaxExtensions;

use crate::error::{Error, Result};
use crate::image::acl::AclKind;
use crate::image::attributes::FileAttributes;
use crate::image::shown;

pub(super) fn read_pax(pax: &[u8], attributes: &mut FileAttributes, acls: &mut Vec<(AclKind, Vec<u8>)>) -> Result<()> {
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::failed(e.to_string()))?;
        let (key, value) = (record.key_bytes(), record.value_bytes());
        match key {
            b"mtime" => attributes.mtime = time(value).ok_or_else(|| Error::failed("its time is not a number"))?,
            b"size"
            | b"uid"
            | b"gid"
            | b"GNU.sparse.realsize"
            | b"GNU.sparse.size"
            | b"GNU.sparse.offset"
            | b"GNU.sparse.numbytes"
            | b"GNU.sparse.major"
            | b"GNU.sparse.minor" => {
                let number = str::from_utf8(value).ok().and_then(|value| value.parse::<u64>().ok());
                number.ok_or_else(|| Error::failed(format!("its `{}` is not a number", shown(key))))?;
            }
            b"SCHILY.acl.access" => acls.push((AclKind::Access, value.to_vec())),
            b"SCHILY.acl.default" => acls.push((AclKind::Default, value.to_vec())),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    attributes.xattrs.push((unescape(name), value.to_vec()));
                }
            }
        }
    }
    Ok(())
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

/// Global records would apply to all entries that follow; only those that change nothing are taken.
pub(super) fn check_global(pax: &[u8]) -> Result<()> {
    for record in PaxExtensions::new(pax) {
        let record = record.map_err(|e| Error::failed(format!("the archive's global header is damaged: {e}")))?;
        if !matches!(record.key_bytes(), b"comment" | b"charset" | b"hdrcharset" | b"atime" | b"ctime") {
            let key = shown(record.key_bytes());
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
    fn attribute_names_lose_the_escapes_of_gnu_tar() {
        assert_eq!(unescape(b"user.a%3Db%25c%20"), b"user.a=b%c%20");
    }
}
