//! What an ID token proves: its signature by a published key, whom and what it is for, and how and when its user was
//! authenticated (OpenID Connect Core sections 2 and 3.1.3.7, RFC 7519, RFC 8725).
//!
//! How form and signature are checked is in `jwt`. No error carries a part of a token.

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

/// What a token says of itself before anything is verified: enough to tell what is to be expected of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Claimed {
    /// For whom it is.
    pub audience: Vec<String>,
    /// Whom it is about.
    pub subject: Option<String>,
    /// Who has issued it.
    pub issuer: Option<String>,
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
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    #[serde(deserialize_with = "jwt::seconds")]
    exp: Timestamp,
    #[serde(deserialize_with = "jwt::seconds")]
    iat: Timestamp,
    #[serde(default, deserialize_with = "jwt::some_seconds")]
    nbf: Option<Timestamp>,
    #[serde(default, deserialize_with = "jwt::some_seconds")]
    auth_time: Option<Timestamp>,
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
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

impl From<JwtError> for IdTokenError {
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
        let claims = jwt::signed(token, TokenKind::Id, keys)?;
        Self::checked(claims, expected)
    }

    /// Verifies `token` with `keys` in the same way: what it proves, and everything that it says.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify_all(
        token: &str,
        keys: &KeySet,
        expected: &Expected<'_>,
    ) -> Result<(Self, Map<String, Value>), IdTokenError> {
        let claims = jwt::signed(token, TokenKind::Id, keys)?;
        let all = jwt::decoded(claims).map_err(|_| IdTokenError::Claims)?;
        Ok((Self::checked(claims, expected)?, all))
    }

    fn checked(claims: &str, expected: &Expected<'_>) -> Result<Self, IdTokenError> {
        let claims: Claims = jwt::decoded(claims).map_err(|_| IdTokenError::Claims)?;
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
            iss: Option<String>,
        }
        let named = jwt::parts(token).and_then(|(_, claims, _)| jwt::decoded::<Named>(claims));
        let Ok(named) = named else {
            return Self::default();
        };
        Self {
            audience: {
                let mut names = named.aud.into_names();
                names.truncate(LIST_MAX);
                names
            },
            subject: named.sub,
            issuer: named.iss,
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

#[cfg(test)]
mod tests;
