//! Seals for the gateway's own pages and cookies: short texts that the gateway gives to a browser and believes when they
//! come back. Each is made for one purpose, bound to what it was made for, ends by itself and is checked without state
//! (HMAC-SHA-256). Nothing in them is hidden: what must not be seen does not belong into one.

use crate::domain::mac::HmacSha256;
use crate::domain::mac::hmac_sha256;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use std::fmt;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 16;
/// The longest payload, in bytes.
pub const PAYLOAD_MAX: usize = 64;
/// The longest sealed text that is looked at.
const ENCODED_MAX: usize = 128;

/// What a seal is for. One purpose's never passes for another's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// The cookie of a browser whose login is held.
    Browser,
    /// A form that changes something.
    Form,
    /// A device in such a form.
    Device,
    /// The page of a held login.
    Review,
    /// The cookie of an operator who signs in by a provider.
    SignIn,
    /// The page of our own step in a login.
    Step,
}

/// Seals and checks.
#[derive(Clone)]
pub struct PageKey {
    mac: HmacSha256,
    previous: Option<Box<PageKey>>,
}

impl PageKey {
    /// A key from secret bytes.
    pub fn new(key: &[u8]) -> Self {
        Self {
            mac: hmac_sha256(key),
            previous: None,
        }
    }

    /// The same, opening what the secret before this one sealed as well.
    pub fn with_previous(mut self, previous: Option<&[u8]>) -> Self {
        self.previous = previous.map(|key| Box::new(Self::new(key)));
        self
    }

    /// `payload` (at most 64 bytes; more is cut) under a seal that holds until `expires` and together with `bound` only.
    pub fn seal(
        &self,
        purpose: Purpose,
        payload: &[u8],
        bound: &[&[u8]],
        expires: Timestamp,
    ) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&expires.millis().to_be_bytes());
        bytes.extend_from_slice(payload.get(..PAYLOAD_MAX).unwrap_or(payload));
        let tag = self.mac(purpose, &bytes, bound).finalize().into_bytes();
        bytes.extend(tag.into_iter().take(MAC_BYTES));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The payload of a sealed text, if the gateway sealed it for this purpose and binding and it has not ended.
    pub fn open(
        &self,
        purpose: Purpose,
        text: &str,
        bound: &[&[u8]],
        now: Timestamp,
    ) -> Option<Vec<u8>> {
        if text.len() > ENCODED_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        if self
            .mac(purpose, body, bound)
            .verify_truncated_left(tag)
            .is_err()
        {
            return self.previous.as_ref()?.open(purpose, text, bound, now);
        }
        let (version, rest) = body.split_first()?;
        let (expires, payload) = rest.split_first_chunk::<8>()?;
        let holds = *version == VERSION && now < Timestamp(i64::from_be_bytes(*expires));
        holds.then(|| payload.to_vec())
    }

    /// A value that follows from `seed` and that nobody can work out who has not the key. No seal is one of these.
    pub fn derived(&self, label: &[u8], seed: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone().chain_update([b'v']);
        for field in [label, seed] {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }

    fn mac(&self, purpose: Purpose, body: &[u8], bound: &[&[u8]]) -> HmacSha256 {
        let tag = match purpose {
            Purpose::Browser => b'b',
            Purpose::Form => b'f',
            Purpose::Device => b'd',
            Purpose::Review => b'r',
            Purpose::SignIn => b'i',
            Purpose::Step => b's',
        };
        let mut mac = self.mac.clone().chain_update([tag]);
        for field in bound.iter().copied().chain([body]) {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac
    }
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp(1_000);

    #[test]
    fn a_seal_holds_for_its_purpose_binding_and_time() {
        let key = PageKey::new(b"k");
        let sealed = key.seal(Purpose::Form, b"payload", &[b"a", b"b"], END);
        let open =
            |purpose, bound: &[&[u8]], now| key.open(purpose, &sealed, bound, Timestamp(now));
        assert_eq!(
            open(Purpose::Form, &[b"a", b"b"], 999),
            Some(b"payload".to_vec())
        );
        assert_eq!(open(Purpose::Form, &[b"a", b"b"], 1_000), None);
        assert_eq!(open(Purpose::Device, &[b"a", b"b"], 999), None);
        for bound in [&[b"ab".as_slice(), b""][..], &[b"a"], &[], &[b"b", b"a"]] {
            assert_eq!(open(Purpose::Form, bound, 999), None);
        }
        assert_eq!(
            PageKey::new(b"other").open(Purpose::Form, &sealed, &[b"a", b"b"], Timestamp(0)),
            None
        );
        let since = PageKey::new(b"other").with_previous(Some(b"k"));
        assert!(
            since
                .open(Purpose::Form, &sealed, &[b"a", b"b"], Timestamp(0))
                .is_some()
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let key = PageKey::new(b"k");
        let sealed = URL_SAFE_NO_PAD
            .decode(key.seal(Purpose::Review, &[7; 16], &[], END))
            .unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            assert_eq!(
                key.open(Purpose::Review, &text, &[], Timestamp(0)),
                None,
                "bit {bit}"
            );
        }
        for noise in ["", "A", "AAAA", "%%%", &"A".repeat(100_000)] {
            assert_eq!(key.open(Purpose::Review, noise, &[], Timestamp(0)), None);
        }
    }
}
