//! The keys that an identity server publishes (RFC 7517), as far as they can verify a signature: bounded, and with
//! everything left out that is not for it.

use jsonwebtoken::Algorithm;
use jsonwebtoken::AlgorithmFamily;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::AlgorithmParameters;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::PublicKeyUse;
use serde::Deserialize;

/// The longest document that is read.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Keys that one set may have.
pub const KEYS_MAX: usize = 32;

/// A set of keys that verify signatures.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
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
                    && id.is_none_or(|id| key.id.as_deref() == Some(id))
            })
            .map(|key| &key.key)
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        // A private key that was published by mistake is not made worse here: its public part verifies.
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let verifies = match &jwk.common.public_key_use {
            Some(PublicKeyUse::Signature) | None => true,
            Some(_) => false,
        };
        let is_pair = matches!(
            jwk.algorithm,
            AlgorithmParameters::RSA(_)
                | AlgorithmParameters::EllipticCurve(_)
                | AlgorithmParameters::OctetKeyPair(_)
        );
        if !verifies || !is_pair {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        if key.family() == AlgorithmFamily::Hmac {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id,
            algorithm: jwk.common.key_algorithm.map(|known| known.to_string()),
            key,
        })
    }
}
