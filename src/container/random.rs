//! Random identities of new containers.

use std::fs::File;
use std::io::Read;

use crate::error::{Context, Result};
use crate::types::Mac;

/// Unpredictable bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).context(|| "read /dev/urandom")?;
    Ok(bytes)
}

/// A random UUID (version 4, RFC 9562).
pub(crate) fn uuid() -> Result<String> {
    Ok(uuid::Builder::from_random_bytes(bytes()?).into_uuid().to_string())
}

/// A MAC of the range that LXC's guests have too (10:66:6a), so that switches and admins know it.
pub(crate) fn mac() -> Result<String> {
    let [a, b, c] = bytes()?;
    Ok(Mac([0x10, 0x66, 0x6a, a, b, c]).to_string())
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
