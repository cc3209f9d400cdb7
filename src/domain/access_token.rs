//! What an access token grants: to which client, about whom, for which services and scopes, until when, and to the holder
//! of which key it is bound (RFC 9068, RFC 7519, RFC 8725; the form in which WSO2 IS issues them).
//!
//! How form and signature are checked is in `jwt`. No error carries a part of a token. Whether the risk of what it was
//! issued under is too high is not for this file to say.

use crate::domain::history::scopes::Groups;
use crate::domain::jwt;
use crate::domain::jwt::Audience;
use crate::domain::jwt::JwtError;
use crate::domain::jwt::KeySet;
use crate::domain::jwt::LIST_MAX;
use crate::domain::jwt::SKEW;
use crate::domain::jwt::TokenKind;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

/// The longest subject, client or token id.
pub const NAME_BYTES_MAX: usize = 256;

/// The SHA-256 of a token: by that it is told from others without being kept.
pub type TokenDigest = [u8; 32];

/// A JWT whose signature and form were verified. That says nothing about whether it is good now and here: see
/// [`AccessToken::check`] and [`Grant::check_audience`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessToken {
    /// Who issued it.
    pub issuer: String,
    /// Its id: unique within the issuer.
    pub id: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// From when on it is good, where it says so.
    pub not_before: Option<Timestamp>,
    /// What it grants.
    pub grant: Grant,
}

/// What a token grants, whether it says so itself or the identity server does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The user, or the client itself where no user is.
    pub subject: String,
    /// The client that holds it.
    pub client_id: String,
    /// The services that it is for; `None` where nothing is said of them, as of many tokens that are no JWTs.
    pub audience: Option<Vec<String>>,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Whose it is alone.
    pub binding: Binding,
    /// The groups of the user, as far as the token names them.
    pub groups: Groups,
}

/// To what a token is bound (RFC 7800): whoever presents it must show that.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Binding {
    /// To nothing: whoever bears it may use it.
    None,
    /// To something that cannot be shown through the gateway, such as a client certificate (RFC 8705).
    Other,
    /// To a key that each request proves (RFC 9449).
    ProofKey,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum AccessTokenError {
    /// Not signed, signed with a shared secret, or with an algorithm that is not in the list.
    #[error("the algorithm of the token is not accepted")]
    Algorithm,
    /// For other services.
    #[error("the token is for another service")]
    Audience,
    /// It is bound to what this request does not show.
    #[error("the token is bound to a key that the request does not show")]
    Bound,
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
    /// It was taken back, or the identity server does not know it.
    #[error("the token is not active")]
    Revoked,
    /// The signature does not match.
    #[error("the signature of the token does not match")]
    Signature,
    /// A token of another kind, such as an ID token.
    #[error("the token is of another type")]
    Type,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    client_id: String,
    jti: String,
    #[serde(deserialize_with = "jwt::seconds")]
    exp: Timestamp,
    #[serde(deserialize_with = "jwt::seconds")]
    iat: Timestamp,
    #[serde(default, deserialize_with = "jwt::some_seconds")]
    nbf: Option<Timestamp>,
    scope: Option<String>,
    cnf: Option<Map<String, Value>>,
    #[serde(default)]
    groups: Value,
    #[serde(default)]
    roles: Value,
}

impl AccessTokenError {
    /// The reason as it is written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Audience => "audience",
            Self::Bound => "bound",
            Self::Claims => "claims",
            Self::Expired => "expired",
            Self::Issuer => "issuer",
            Self::KeyUnknown => "key_unknown",
            Self::Malformed => "malformed",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
            Self::Signature => "signature",
            Self::Type => "type",
        }
    }
}

impl From<JwtError> for AccessTokenError {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Algorithm => Self::Algorithm,
            JwtError::KeyUnknown => Self::KeyUnknown,
            JwtError::Malformed => Self::Malformed,
            JwtError::Signature => Self::Signature,
            JwtError::Type => Self::Type,
        }
    }
}

impl AccessToken {
    /// Verifies signature and form of `token`. The answer is the same at all times and places, and can be kept for as
    /// long as `keys` are those that are published.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn authentic(token: &str, keys: &KeySet) -> Result<Self, AccessTokenError> {
        let claims = jwt::signed(token, TokenKind::Access, keys)?;
        let claims: Claims = jwt::decoded(claims).map_err(|_| AccessTokenError::Claims)?;
        let audience = claims.aud.into_names();
        let names = [&claims.sub, &claims.client_id, &claims.jti];
        let is_usable = |name: &&String| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        if audience.len() > LIST_MAX || !names.iter().all(is_usable) {
            return Err(AccessTokenError::Claims);
        }
        Ok(Self {
            issuer: claims.iss,
            id: claims.jti,
            issued: claims.iat,
            not_before: claims.nbf,
            grant: Grant {
                subject: claims.sub,
                client_id: claims.client_id,
                audience: Some(audience),
                scope: claims.scope.unwrap_or_default(),
                expires: claims.exp,
                binding: Binding::of(claims.cnf.as_ref()),
                groups: Groups::of([&claims.groups, &claims.roles].into_iter()),
            },
        })
    }

    /// Whether it was issued by `issuer` and is good at `now`.
    ///
    /// # Errors
    /// Issuer or time.
    pub fn check(&self, issuer: &str, now: Timestamp) -> Result<(), AccessTokenError> {
        if self.issuer != issuer {
            return Err(AccessTokenError::Issuer);
        }
        self.grant.check_time(now)?;
        let starts = [Some(self.issued), self.not_before];
        let latest = now.plus(SKEW);
        if starts.into_iter().flatten().any(|start| start > latest) {
            return Err(AccessTokenError::NotYet);
        }
        Ok(())
    }
}

impl Grant {
    /// Whether it has not ended at `now`.
    ///
    /// # Errors
    /// [`AccessTokenError::Expired`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), AccessTokenError> {
        if now >= self.expires.plus(SKEW) {
            return Err(AccessTokenError::Expired);
        }
        Ok(())
    }

    /// Whether it is for one of the services that go by the names of `accepted` (RFC 9068 section 4). Where nothing is said
    /// of services the scopes alone decide.
    ///
    /// # Errors
    /// [`AccessTokenError::Audience`].
    pub fn check_audience(&self, accepted: &[String]) -> Result<(), AccessTokenError> {
        match &self.audience {
            Some(names) if !names.iter().any(|name| accepted.contains(name)) => {
                Err(AccessTokenError::Audience)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it may be presented as it is: with a proof of its key where `proves`, else as plain bearer token. A bound
    /// token without its proof is worth as little as one that is not bound with a proof (RFC 9449 sections 7.1 and 7.2).
    ///
    /// # Errors
    /// [`AccessTokenError::Bound`].
    pub fn check_binding(&self, proves: bool) -> Result<(), AccessTokenError> {
        match (self.binding, proves) {
            (Binding::None, false) | (Binding::ProofKey, true) => Ok(()),
            (Binding::None, true) | (Binding::ProofKey, false) | (Binding::Other, _) => {
                Err(AccessTokenError::Bound)
            }
        }
    }

    /// Whether it carries this scope, which is compared by every byte (RFC 6749 section 3.3).
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scope.split(' ').any(|own| own == scope)
    }
}

impl Binding {
    /// What the `cnf` member says. One that says several things asks for all of them, and not all could be shown.
    pub fn of(confirmation: Option<&Map<String, Value>>) -> Self {
        let Some(confirmation) = confirmation else {
            return Self::None;
        };
        let is_key = confirmation.get("jkt").is_some_and(Value::is_string);
        if is_key && confirmation.len() == 1 {
            Self::ProofKey
        } else {
            Self::Other
        }
    }
}

/// The digest of a token.
pub fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token).into()
}

#[cfg(test)]
pub(in crate::domain) mod tests;
