//! Digests of files, in hexadecimal.

use std::io::{ErrorKind, Read, Result};

use sha2::{Digest, Sha256};

/// SHA-256 of all that `source` has from here on.
pub(crate) fn sha256(mut source: impl Read) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn streams_have_the_digest_that_sha256sum_prints() {
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::sha256(&b"abc"[..]).unwrap(), of_abc);
        // FIPS 180-2's long message: more than one buffer.
        let of_million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        let million = std::io::Read::chain(&[b'a'; 999_999][..], &b"a"[..]);
        assert_eq!(super::sha256(million).unwrap(), of_million);
    }
}
