//! Message authentication codes under a key of any length.

use hmac::Hmac;
use hmac::Mac;
use sha2::Sha256;

/// HMAC-SHA-256 (RFC 2104) with its key.
pub type HmacSha256 = Hmac<Sha256>;

/// HMAC-SHA-256 under `key`, to be fed. It takes keys of every length, so that the fallback is never used; it
/// keeps the function total.
pub fn hmac_sha256(key: &[u8]) -> HmacSha256 {
    <HmacSha256 as Mac>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases 2 and 6 of RFC 4231 (a key shorter than the digest, and one longer than a block), and no key at all.
    #[test]
    fn keys_of_every_length_serve() {
        for (key, message, begins) in [
            (
                b"Jefe".as_slice(),
                "what do ya want for nothing?",
                [0x5b, 0xdc, 0xc1, 0x46],
            ),
            (
                [0xaa; 131].as_slice(),
                "Test Using Larger Than Block-Size Key - Hash Key First",
                [0x60, 0xe4, 0x31, 0x59],
            ),
            (b"", "", [0xb6, 0x13, 0x67, 0x9a]),
        ] {
            let tag = hmac_sha256(key).chain_update(message).finalize();
            assert!(tag.into_bytes().starts_with(&begins), "{key:?}");
        }
    }
}
