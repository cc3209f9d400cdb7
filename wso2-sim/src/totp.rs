//! Time-based one-time passwords (RFC 6238: SHA-1, 30 s, six digits) and the Base32 alphabet (RFC 4648) of their secrets.

use hmac::Hmac;
use hmac::Mac;
use sha1::Sha1;
use uuid::Uuid;

use crate::clock;

/// Length of a time step in seconds (RFC 6238 section 4.1).
const STEP_S: i64 = 30;

/// The code that is valid now for a Base32 secret, as six digits; an unreadable secret yields `000000`.
pub fn totp_now(secret: &str) -> String {
    totp_at(secret, clock::wall_ms() / 1000)
}

/// The code for a Base32 secret at a time in seconds since the Unix epoch, as six digits.
pub fn totp_at(secret: &str, at_s: i64) -> String {
    let counter = u64::try_from(at_s / STEP_S).unwrap_or(0);
    let key = base32(secret).unwrap_or_default();
    format!("{:06}", hotp(&key, counter))
}

/// A fresh secret of 160 bits (RFC 4226 section 4), Base32.
pub(crate) fn fresh_secret() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let random = [Uuid::new_v4(), Uuid::new_v4()];
    let bytes = random.iter().flat_map(|uuid| *uuid.as_bytes());
    bytes
        .filter_map(|byte| LETTERS.get(usize::from(byte & 31)))
        .map(|letter| char::from(*letter))
        .collect()
}

/// Whether `code` is right at `at_s`, one step early or late allowed (clock skew, RFC 6238 section 5.2).
pub(crate) fn is_valid(secret: &str, code: &str, at_s: i64) -> bool {
    base32(secret).is_some_and(|key| !key.is_empty())
        && [-STEP_S, 0, STEP_S]
            .into_iter()
            .any(|skew| totp_at(secret, at_s.saturating_add(skew)) == code.trim())
}

fn hotp(key: &[u8], counter: u64) -> u32 {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else {
        return 0;
    };
    mac.update(&counter.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last().copied().unwrap_or(0) & 0x0f);
    let word = digest
        .get(offset..offset.saturating_add(4))
        .and_then(|slice| <[u8; 4]>::try_from(slice).ok())
        .map_or(0, u32::from_be_bytes);
    (word & 0x7fff_ffff) % 1_000_000
}

fn base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0u32, 0u32);
    for letter in text.bytes().filter(|byte| *byte != b'=' && *byte != b' ') {
        let value = match letter.to_ascii_uppercase() {
            upper @ b'A'..=b'Z' => upper - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        held = (held << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap_or(0));
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of RFC 6238 appendix B (last six of eight digits), key `12345678901234567890`.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (at_s, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            assert_eq!(totp_at(secret, at_s), code);
        }
    }

    #[test]
    fn fresh_secrets_can_be_read_and_differ() {
        let (one, two) = (fresh_secret(), fresh_secret());
        assert_ne!(one, two);
        assert_eq!(base32(&one).map(|bytes| bytes.len()), Some(20));
    }

    #[test]
    fn a_code_lives_one_step_either_way_and_an_unreadable_secret_never_matches() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let code = totp_at(secret, 1_000_000);
        assert!(is_valid(secret, &code, 1_000_000 + STEP_S));
        assert!(!is_valid(secret, &code, 1_000_000 + 3 * STEP_S));
        assert!(!is_valid("!!", &totp_at("!!", 1_000_000), 1_000_000));
        assert!(!is_valid("", &totp_at("", 1_000_000), 1_000_000));
    }
}
