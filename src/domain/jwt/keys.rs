//! The keys that an identity server publishes (RFC 7517), as far as they can verify a signature: bounded, and with
//! everything left out that is not for it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::AlgorithmFamily;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::KeyOperations;
use jsonwebtoken::jwk::PublicKeyUse;
use serde::Deserialize;

/// The longest document that is read.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Keys that one set may have.
pub const KEYS_MAX: usize = 32;
/// Primes by which the moduli are known whose factors can be found (CVE-2017-15361): modulo each of them such a modulus is
/// a power of 65537. One of a thousand million others is as well.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// A set of keys that verify signatures.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    /// The one algorithm of its curve.
    of_curve: Option<Algorithm>,
    key: DecodingKey,
}

/// What is published about the tokens of one realm.
#[derive(Clone, Debug, Default)]
pub struct RealmKeys {
    /// Who issues them, in the words of the discovery document; `None` when it could not be had.
    pub issuer: Option<String>,
    /// The keys.
    pub keys: KeySet,
}

/// Why a document is no key set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`DOCUMENT_BYTES_MAX`] or with more than [`KEYS_MAX`] keys.
    #[error("the key set is too large")]
    Large,
    /// Not the JSON of RFC 7517 section 5.
    #[error("the key set is not a JSON Web Key Set")]
    Malformed,
    /// It has no key that could verify a signature.
    #[error("the key set has no usable key")]
    Unusable,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a document. Keys of unknown types, for encryption, or with a shared secret are left out: a set may hold
    /// them beside those that are wanted (RFC 7517 section 5).
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(KeySetError::Large);
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|_| KeySetError::Malformed)?;
        if document.keys.len() > KEYS_MAX {
            return Err(KeySetError::Large);
        }
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(KeySetError::Unusable);
        }
        Ok(Self { keys })
    }

    /// The keys for a token that names `id` and is signed with `algorithm`. A token that names no key is tried with
    /// those of its algorithm.
    pub(crate) fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let name = format!("{algorithm:?}");
        self.keys
            .iter()
            .filter(move |key| {
                key.key.family() == algorithm.family()
                    && key.algorithm.as_ref().is_none_or(|own| *own == name)
                    && key.of_curve.is_none_or(|own| own == algorithm)
                    && id.is_none_or(|id| key.id.as_deref() == Some(id))
            })
            .map(|key| &key.key)
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        // A private key that was published by mistake is not made worse here: its public part verifies.
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let common = &jwk.common;
        let is_for_signatures =
            matches!(&common.public_key_use, Some(PublicKeyUse::Signature) | None);
        let operations = common.key_operations.as_ref();
        if !is_for_signatures || !operations.is_none_or(|all| all.contains(&KeyOperations::Verify))
        {
            return None;
        }
        let of_curve = match &jwk.algorithm {
            AlgorithmParameters::RSA(parameters) => {
                let modulus = URL_SAFE_NO_PAD.decode(&parameters.n).ok()?;
                if is_weak(&modulus) {
                    return None;
                }
                None
            }
            AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
                EllipticCurve::P256 => Some(Algorithm::ES256),
                EllipticCurve::P384 => Some(Algorithm::ES384),
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(parameters) => match parameters.curve {
                EllipticCurve::Ed25519 => Some(Algorithm::EdDSA),
                _ => return None,
            },
            _ => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        if key.family() == AlgorithmFamily::Hmac {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id,
            algorithm: jwk.common.key_algorithm.map(|known| known.to_string()),
            of_curve,
            key,
        })
    }
}

/// Whether a modulus has the form of those that a faulty library made.
fn is_weak(modulus: &[u8]) -> bool {
    PRIMES.into_iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * 65_537 % prime;
            power == rest
        })
    })
}
