//! What every signed JWT has in common (RFC 7515, RFC 7519, RFC 8725): three parts, a header that is believed in nothing
//! but the name of a key, a signature by a published key, dates and audiences.
//!
//! Nothing in a token chooses how it is checked: the algorithms are a fixed list, the keys are those of the identity
//! server's key set, and what a header brings along (`jku`, `jwk`, `x5u`, `x5c`) is not looked at. No error carries a
//! part of a token. What a token must say is for its kind to know: `id_token`, `access_token`.

/// The keys that an identity server publishes.
pub mod keys;

/// Tokens for tests, right and wrong.
#[cfg(test)]
#[path = "jwt/forge/tests.rs"]
pub(in crate::domain) mod forge;

use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
pub use keys::KeySet;
pub use keys::KeySetError;
pub use keys::RealmKeys;
use serde::Deserialize;
use serde::Deserializer;
use std::time::Duration;

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// Audiences, methods and the like that a token may list.
pub const LIST_MAX: usize = 16;
/// How far the identity server's clock may be from the gateway's.
pub const SKEW: Duration = Duration::from_secs(60);

/// What a token is taken for. One that says that it is of another kind is none (RFC 8725 section 3.11).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenKind {
    /// An access token: its type says so (RFC 9068 section 2.1).
    Access,
    /// An ID token, into which WSO2 writes no type.
    Id,
}

/// The header of a token, before anything is verified: enough to find the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnverifiedHeader {
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// Why a token is no signed JWT of the kind that is wanted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum JwtError {
    /// Not signed, signed with a shared secret, or with an algorithm that is not in the list.
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// The key set has no key for it.
    #[error("the key of the token is not published")]
    KeyUnknown,
    /// Not three parts of Base64url with JSON in them, too long, encrypted, or with extensions that are not understood.
    #[error("the token is not a signed JWT")]
    Malformed,
    /// The signature does not match.
    #[error("the signature of the token does not match")]
    Signature,
    /// A token of another kind.
    #[error("the token is of another type")]
    Type,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<serde_json::Value>,
    enc: Option<serde_json::Value>,
    b64: Option<serde_json::Value>,
}

/// For whom a token is: one name or a list of them (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::domain) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl TokenKind {
    /// Whether a header of this type may be that of such a token.
    fn takes(self, kind: Option<&str>) -> bool {
        match (self, kind) {
            (Self::Access, Some(kind)) => {
                // The front may be left out (RFC 7515 section 4.1.9).
                kind.eq_ignore_ascii_case("at+jwt")
                    || kind.eq_ignore_ascii_case("application/at+jwt")
            }
            (Self::Access, None) => false,
            (Self::Id, kind) => kind.is_none_or(|kind| kind.eq_ignore_ascii_case("JWT")),
        }
    }
}

impl UnverifiedHeader {
    /// Reads the header of `token`, which is taken for one of `kind`.
    ///
    /// # Errors
    /// What can be said without a key: form, algorithm, type.
    pub fn read(token: &str, kind: TokenKind) -> Result<Self, JwtError> {
        let (header, _, _) = parts(token)?;
        let header: Header = decoded(header)?;
        if header.crit.is_some() || header.enc.is_some() || header.b64.is_some() {
            return Err(JwtError::Malformed);
        }
        if !kind.takes(header.typ.as_deref()) {
            return Err(JwtError::Type);
        }
        Ok(Self {
            algorithm: algorithm(&header.alg).ok_or(JwtError::Algorithm)?,
            key_id: header.kid,
        })
    }

    /// The id of the key, if the token names one.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether `keys` have a key for such a token.
    pub fn is_known_to(&self, keys: &KeySet) -> bool {
        keys.find(self.key_id(), self.algorithm).next().is_some()
    }
}

/// Whom a token says it is about, whoever made it: nothing is verified.
pub fn claimed_subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let (_, claims, _) = parts(token).ok()?;
    let Claims { sub } = decoded(claims).ok()?;
    (!sub.is_empty()).then_some(sub)
}

impl Audience {
    /// The names, however many there are.
    pub(in crate::domain) fn into_names(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Several(several) => several,
        }
    }
}

/// The claims of a token of `kind`, still encoded, once its signature was verified with `keys`.
pub(in crate::domain) fn signed<'a>(
    token: &'a str,
    kind: TokenKind,
    keys: &KeySet,
) -> Result<&'a str, JwtError> {
    let header = UnverifiedHeader::read(token, kind)?;
    let (_, claims, signature) = parts(token)?;
    let (message, _) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let mut found = keys.find(header.key_id(), header.algorithm).peekable();
    if found.peek().is_none() {
        return Err(JwtError::KeyUnknown);
    }
    if !found.any(|key| is_signed(message.as_bytes(), signature, key, header.algorithm)) {
        return Err(JwtError::Signature);
    }
    Ok(claims)
}

/// Whether `signature`, in Base64url, is one of `message`.
fn is_signed(message: &[u8], signature: &str, key: &DecodingKey, algorithm: Algorithm) -> bool {
    jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false)
}

/// The algorithms that are accepted: signatures with a key pair. Neither `none` nor a shared secret is among them.
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        _ => return None,
    })
}

/// Header, claims and signature, still encoded.
pub(in crate::domain) fn parts(token: &str) -> Result<(&str, &str, &str), JwtError> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None)
            if token.len() <= TOKEN_BYTES_MAX && !signature.is_empty() =>
        {
            Ok((header, claims, signature))
        }
        _ => Err(JwtError::Malformed),
    }
}

/// JSON in Base64url. A member that stands twice is an error: two readers could take different ones.
pub(in crate::domain) fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, JwtError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)
}

/// A NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction.
pub(in crate::domain) fn seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Timestamp, D::Error> {
    /// Some thousand years on either side: no sum of dates and spans can overflow.
    const SECONDS_MAX: f64 = 1e11;
    let value = f64::deserialize(deserializer)?;
    if !value.is_finite() || value.abs() > SECONDS_MAX {
        return Err(serde::de::Error::custom("not a date"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the value is bounded above and fractions of a millisecond say nothing"
    )]
    let millis = (value * 1000.0) as i64;
    Ok(Timestamp(millis))
}

/// The same where it may be left out.
pub(in crate::domain) fn some_seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    seconds(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
