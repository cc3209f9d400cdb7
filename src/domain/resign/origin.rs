//! What is needed to have a token back as the identity server has signed it, sealed: whoever holds the token can neither
//! read nor change it. Above all the identity server's signature stays hidden: with it the risk could be cut off, and what
//! remains would be verified by the identity server's keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::AeadInOut;
use chacha20poly1305::KeyInit;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::XNonce;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// The bytes of chance that each seal needs: so many that no two seals share them (XChaCha20-Poly1305).
pub const NONCE_BYTES: usize = 24;

/// What the seal is for: one made for something else does not open.
const PURPOSE: &[u8] = b"riskgate token origin 1";

/// What the identity server's token had that the one of the gateway has not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Origin {
    /// Up to where the payload stays as it is; what was added ends before its last brace.
    pub(super) cut: usize,
    /// The header.
    pub(super) header: Vec<u8>,
    /// The signature.
    pub(super) signature: Vec<u8>,
    /// Where in the payload a hash was exchanged for another of its length, and what it was.
    pub(super) hash: Option<(usize, String)>,
}

/// Seals and opens: under the present secret, and under the one before it for opening.
#[derive(Clone)]
pub struct OriginSeal {
    cipher: XChaCha20Poly1305,
    previous: Option<Box<OriginSeal>>,
}

impl OriginSeal {
    /// A seal from secret bytes of any length.
    pub fn new(key: &[u8]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(&<[u8; 32]>::from(Sha256::digest(key)).into()),
            previous: None,
        }
    }

    /// The same, opening what was sealed under the secret before this one as well.
    pub fn with_previous(mut self, previous: Option<&[u8]>) -> Self {
        self.previous = previous.map(|key| Box::new(Self::new(key)));
        self
    }

    /// The sealed text; `None` only if it could not be written, which needs nothing but memory.
    pub(super) fn seal(&self, origin: &Origin, nonce: &[u8; NONCE_BYTES]) -> Option<String> {
        let mut body = postcard::to_stdvec(origin).ok()?;
        let nonce = XNonce::from(*nonce);
        self.cipher
            .encrypt_in_place(&nonce, PURPOSE, &mut body)
            .ok()?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut body);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    pub(super) fn open(&self, sealed: &str) -> Option<Origin> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, body) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let opened = |seal: &Self| {
            let mut body = body.to_vec();
            seal.cipher
                .decrypt_in_place(&XNonce::from(*nonce), PURPOSE, &mut body)
                .ok()?;
            postcard::from_bytes(&body).ok()
        };
        opened(self).or_else(|| opened(self.previous.as_deref()?))
    }
}

impl std::fmt::Debug for OriginSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OriginSeal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secrets_of_the_deployment_open() {
        let origin = Origin {
            cut: 17,
            header: b"{}".to_vec(),
            signature: vec![7; 64],
            hash: Some((3, "abc".to_owned())),
        };
        let seal = OriginSeal::new(b"one");
        let sealed = seal.seal(&origin, &[1; NONCE_BYTES]).unwrap();
        assert_eq!(seal.open(&sealed), Some(origin.clone()));
        let next = OriginSeal::new(b"two");
        assert_eq!(next.open(&sealed), None);
        let next = next.with_previous(Some(b"one"));
        assert_eq!(next.open(&sealed), Some(origin.clone()));
        assert_ne!(sealed, seal.seal(&origin, &[2; NONCE_BYTES]).unwrap());
        // Neither what is inside nor a changed or shortened one can be had.
        let bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        assert!(!bytes.windows(8).any(|part| part == [7; 8]));
        for place in 0..bytes.len() {
            let mut other = bytes.clone();
            other[place] ^= 1;
            assert_eq!(seal.open(&URL_SAFE_NO_PAD.encode(&other)), None);
            assert_eq!(seal.open(&URL_SAFE_NO_PAD.encode(&bytes[..place])), None);
        }
        assert_eq!(format!("{seal:?}"), "OriginSeal");
    }
}
