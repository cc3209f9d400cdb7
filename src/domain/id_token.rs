//! What an ID token proves: its signature by a published key, whom and what it is for, and how and when its user was
//! authenticated (OpenID Connect Core sections 2 and 3.1.3.7, RFC 7519, RFC 8725).
//!
//! Nothing in the token chooses how it is checked: the algorithms are a fixed list, the keys are those of the identity
//! server's key set, and what a header brings along (`jku`, `jwk`, `x5u`, `x5c`) is not looked at. No error carries a
//! part of a token.

/// The keys that an identity server publishes.
pub mod keys;

use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
pub use keys::KeySet;
pub use keys::KeySetError;
pub use keys::RealmKeys;
use serde::Deserialize;
use serde::Deserializer;
use std::time::Duration;

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// Audiences and methods that a token may list.
const LIST_MAX: usize = 16;
/// How far the identity server's clock may be from the gateway's.
pub const SKEW: Duration = Duration::from_secs(60);

/// The header of a token, before anything is verified: enough to find the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnverifiedHeader {
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// What a token says of itself before anything is verified: enough to tell what is to be expected of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claimed {
    /// For whom it is.
    pub audience: Vec<String>,
    /// Whom it is about.
    pub subject: Option<String>,
}

/// What is expected of a token.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who must have issued it.
    pub issuer: &'a str,
    /// The client that it must be for.
    pub client_id: &'a str,
    /// The moment.
    pub now: Timestamp,
}

/// A token whose signature and claims were verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdToken {
    /// The user, under the name that the identity server gives to this client.
    pub subject: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// When the user was authenticated; absent unless the client asked (`max_age`).
    pub authenticated: Option<Timestamp>,
    /// The authentication context class that was reached.
    pub acr: Option<String>,
    /// The methods that were used. WSO2 gives the names of its authenticators.
    pub amr: Vec<String>,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum IdTokenError {
    /// Not signed, signed with a shared secret, or with an algorithm that is not in the list.
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// For another client.
    #[error("the token is for another client")]
    Audience,
    /// A claim is missing or has the wrong form.
    #[error("a claim of the token is missing or malformed")]
    Claims,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// By somebody else.
    #[error("the token has another issuer")]
    Issuer,
    /// The key set has no key for it.
    #[error("the key of the token is not published")]
    KeyUnknown,
    /// Not three parts of Base64url with JSON in them, too long, encrypted, or with extensions that are not understood.
    #[error("the token is not a signed JWT")]
    Malformed,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYet,
    /// The signature does not match.
    #[error("the signature of the token does not match")]
    Signature,
    /// A token of another kind, such as an access token.
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

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    #[serde(deserialize_with = "seconds")]
    exp: Timestamp,
    #[serde(deserialize_with = "seconds")]
    iat: Timestamp,
    #[serde(default, deserialize_with = "some_seconds")]
    nbf: Option<Timestamp>,
    #[serde(default, deserialize_with = "some_seconds")]
    auth_time: Option<Timestamp>,
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl IdTokenError {
    /// The reason as it is written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Expired => "expired",
            Self::Issuer => "issuer",
            Self::KeyUnknown => "key_unknown",
            Self::Malformed => "malformed",
            Self::NotYet => "not_yet",
            Self::Signature => "signature",
            Self::Type => "type",
        }
    }
}

impl UnverifiedHeader {
    /// Reads the header of `token`.
    ///
    /// # Errors
    /// What can be said without a key: form, algorithm, type.
    pub fn read(token: &str) -> Result<Self, IdTokenError> {
        let (header, _, _) = parts(token)?;
        let header: Header = decoded(header)?;
        if header.crit.is_some() || header.enc.is_some() || header.b64.is_some() {
            return Err(IdTokenError::Malformed);
        }
        // WSO2 writes no type into ID tokens; `at+jwt`, `logout+jwt` and the like are other tokens (RFC 8725 3.11).
        if header
            .typ
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT"))
        {
            return Err(IdTokenError::Type);
        }
        Ok(Self {
            algorithm: algorithm(&header.alg).ok_or(IdTokenError::Algorithm)?,
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

impl IdToken {
    /// Verifies `token` with `keys`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(
        token: &str,
        keys: &KeySet,
        expected: &Expected<'_>,
    ) -> Result<Self, IdTokenError> {
        let header = UnverifiedHeader::read(token)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(IdTokenError::Malformed)?;
        let mut found = keys.find(header.key_id(), header.algorithm).peekable();
        if found.peek().is_none() {
            return Err(IdTokenError::KeyUnknown);
        }
        let is_signed = found.any(|key| {
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, header.algorithm)
                .unwrap_or(false)
        });
        if !is_signed {
            return Err(IdTokenError::Signature);
        }
        let (_, claims, _) = parts(token)?;
        let claims: Claims = decoded(claims).map_err(|_| IdTokenError::Claims)?;
        claims.check(expected)?;
        Ok(Self {
            subject: claims.sub,
            issued: claims.iat,
            authenticated: claims.auth_time,
            acr: claims.acr,
            amr: claims.amr,
        })
    }
}

impl Claimed {
    /// Reads `token`; what cannot be read is empty.
    pub fn read(token: &str) -> Self {
        #[derive(Deserialize)]
        struct Named {
            aud: Audience,
            sub: Option<String>,
        }
        let named = parts(token).and_then(|(_, claims, _)| decoded::<Named>(claims));
        let Ok(named) = named else {
            return Self::default();
        };
        Self {
            audience: match named.aud {
                Audience::One(one) => vec![one],
                Audience::Several(several) => several.into_iter().take(LIST_MAX).collect(),
            },
            subject: named.sub,
        }
    }
}

impl Claims {
    fn check(&self, expected: &Expected<'_>) -> Result<(), IdTokenError> {
        if self.iss != expected.issuer {
            return Err(IdTokenError::Issuer);
        }
        let audiences = match &self.aud {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Several(several) => several.as_slice(),
        };
        if audiences.len() > LIST_MAX || self.amr.len() > LIST_MAX || self.sub.is_empty() {
            return Err(IdTokenError::Claims);
        }
        let is_for = audiences.iter().any(|one| one == expected.client_id);
        // OpenID Connect Core section 3.1.3.7, steps 4 and 5.
        let is_authorized = match &self.azp {
            Some(party) => party == expected.client_id,
            None => audiences.len() == 1,
        };
        if !is_for || !is_authorized {
            return Err(IdTokenError::Audience);
        }
        if expected.now >= self.exp.plus(SKEW) {
            return Err(IdTokenError::Expired);
        }
        let latest = expected.now.plus(SKEW);
        let starts = [Some(self.iat), self.nbf, self.auth_time];
        if starts.into_iter().flatten().any(|start| start > latest) {
            return Err(IdTokenError::NotYet);
        }
        Ok(())
    }
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

fn parts(token: &str) -> Result<(&str, &str, &str), IdTokenError> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None)
            if token.len() <= TOKEN_BYTES_MAX && !signature.is_empty() =>
        {
            Ok((header, claims, signature))
        }
        _ => Err(IdTokenError::Malformed),
    }
}

/// JSON in Base64url. A member that stands twice is an error: two readers could take different ones.
fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, IdTokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| IdTokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| IdTokenError::Malformed)
}

/// A NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    /// Some thousand years on either side: no sum below can overflow.
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

fn some_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    seconds(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
