//! Random identities of new containers.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use crate::error::{Context, Result};

/// Bytes that nobody can guess.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).context(|| "read /dev/urandom")?;
    Ok(bytes)
}

/// A random UUID (version 4, RFC 9562).
pub fn uuid() -> Result<String> {
    let mut bytes = bytes::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A MAC of the range that LXC's guests have too (10:66:6a), so that switches and admins know it.
pub fn mac() -> Result<String> {
    let [a, b, c] = bytes()?;
    Ok(format!("10:66:6a:{a:02x}:{b:02x}:{c:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_their_form_and_differ() {
        let (a, b) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
        assert!(a.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{a}");
        assert!(mac().unwrap().starts_with("10:66:6a:") && mac().unwrap().len() == 17);
    }
}
