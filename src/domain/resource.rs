//! API routes: services of the operator's own that are reached through the gateway. What such a service asks of a token
//! and of the risk behind it, what is said to who does not bring it, and what the service is told.
//!
//! Pure values and rules. Whether a token is good is access control and is not a matter of modes; the risk is.

/// What a caller is told who is not let through.
mod challenge;

/// What the service is told.
mod assertion;

use crate::domain::access_token::AccessTokenError;
use crate::domain::access_token::Grant;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::RiskLevel;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::secret::Secret;
pub use assertion::ASSERTION_LIFETIME;
pub use assertion::ASSERTION_TYPE;
pub use assertion::Assertion;
pub use challenge::Challenge;
use serde::Deserialize;
use std::sync::Arc;

/// API routes that one configuration may have.
pub const RESOURCES_MAX: usize = 64;
/// Scopes or audiences that one of them may list.
pub const NAMES_MAX: usize = 16;
/// What the gateway's own headers may take of a head that goes to a service: the assertion is the most of it.
pub const OWN_HEAD_BYTES: usize = 2_560;

/// One API route.
#[derive(Clone, Debug)]
pub struct Resource {
    /// The path that it stands for, with everything beneath it.
    pub prefix: String,
    /// Which of the upstreams it leads to: a name that says where it is, so that one that was configured before is never
    /// taken for one that was configured since.
    pub upstream: Arc<str>,
    /// Where the tokens come from: the prefix of a realm, empty for the super tenant.
    pub realm: String,
    /// The tenant domain of that realm.
    pub tenant: String,
    /// Who must have issued them, where that is configured; else whoever the identity server says.
    pub token_issuer: Option<String>,
    /// What the assertion is for.
    pub audience: String,
    /// Who signs the assertion, in its own words.
    pub issuer: String,
    /// The audiences of which a token must name one.
    pub token_audiences: Vec<String>,
    /// The scopes that a token must have, all of them.
    pub scopes: Vec<String>,
    /// The highest level that is let through.
    pub max_level: RiskLevel,
    /// What becomes of a token of whose risk nothing is known.
    pub on_unscored: OnUnscored,
    /// As whom the identity server is asked about tokens that are no JWTs; without it they are refused.
    pub introspection: Option<IntrospectionClient>,
}

/// A client of the identity server that may ask about tokens (RFC 7662 section 2.1).
#[derive(Clone, Debug)]
pub struct IntrospectionClient {
    /// The client id.
    pub client_id: String,
    /// Its secret.
    pub secret: Secret<String>,
}

/// What becomes of a token of whose risk nothing is known: issued past the gateway, or the memory did not answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum OnUnscored {
    /// It is let through, with an assertion that says so.
    #[default]
    Allow,
    /// It is refused.
    Block,
    /// Its user has to authenticate anew.
    StepUp,
}

/// What becomes of a request whose token is good.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ResourceVerdict {
    /// It goes to the service.
    Allow,
    /// It is refused.
    Block,
    /// Its user has to authenticate anew, with a stronger factor.
    StepUp,
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Denial {
    /// The token cannot be checked now: the identity server is away.
    #[error("the token cannot be checked at the moment")]
    Away,
    /// Nothing is known of the risk, and the route does without such tokens.
    #[error("nothing is known of the risk of this token")]
    Blocked,
    /// The risk is too high.
    #[error("a stronger authentication is required")]
    Level,
    /// There is no token.
    #[error("a token is required")]
    Missing,
    /// A token that is bound to a key comes without exactly one proof of it.
    #[error("exactly one proof of possession is required")]
    Proof,
    /// Several tokens, or one in a place where it would be read by others.
    #[error("a token belongs into the Authorization header, once")]
    Request,
    /// A scope is missing.
    #[error("the token lacks a scope")]
    Scope,
    /// The token is not good.
    #[error("{0}")]
    Token(AccessTokenError),
}

impl Resource {
    /// Whether a token grants what this service asks for; `proves` says that its key is proved.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn check(&self, grant: &Grant, proves: bool) -> Result<(), Denial> {
        grant
            .check_audience(&self.token_audiences)
            .and_then(|()| grant.check_binding(proves))
            .map_err(Denial::Token)?;
        if self.scopes.iter().all(|scope| grant.has_scope(scope)) {
            Ok(())
        } else {
            Err(Denial::Scope)
        }
    }

    /// What becomes of a token with this risk. `demanded` says that its user owes a stronger factor.
    pub fn verdict(&self, risk: &RiskClaims, demanded: bool) -> ResourceVerdict {
        match risk.level() {
            _ if demanded => ResourceVerdict::StepUp,
            Some(level) if level <= self.max_level => ResourceVerdict::Allow,
            Some(_) => ResourceVerdict::StepUp,
            None => match self.on_unscored {
                OnUnscored::Allow => ResourceVerdict::Allow,
                OnUnscored::Block => ResourceVerdict::Block,
                OnUnscored::StepUp => ResourceVerdict::StepUp,
            },
        }
    }
}

impl From<ResourceVerdict> for Verdict {
    fn from(verdict: ResourceVerdict) -> Self {
        match verdict {
            ResourceVerdict::Allow => Self::Allow,
            ResourceVerdict::Block => Self::Block,
            ResourceVerdict::StepUp => Self::StepUp,
        }
    }
}

impl ResourceVerdict {
    /// The verdict as policies name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::StepUp => "step_up",
        }
    }

    /// Why a request is not let through.
    pub fn denial(self) -> Option<Denial> {
        match self {
            Self::Allow => None,
            Self::Block => Some(Denial::Blocked),
            Self::StepUp => Some(Denial::Level),
        }
    }
}

impl Denial {
    /// The status (RFC 6750 section 3.1, RFC 9449 section 7.1, RFC 9470 section 3).
    pub fn status(self) -> u16 {
        match self {
            Self::Request => 400,
            Self::Level | Self::Missing | Self::Proof | Self::Token(_) => 401,
            Self::Blocked | Self::Scope => 403,
            Self::Away => 503,
        }
    }

    /// The name in records and metrics: one of a few.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "token_unchecked",
            Self::Blocked => "token_unscored",
            Self::Level => "token_risk",
            Self::Missing => "token_missing",
            Self::Proof => "token_proof",
            Self::Request => "token_twice",
            Self::Scope => "token_scope",
            Self::Token(error) => match error {
                AccessTokenError::Algorithm => "token_algorithm",
                AccessTokenError::Audience => "token_audience",
                AccessTokenError::Bound => "token_bound",
                AccessTokenError::Claims => "token_claims",
                AccessTokenError::Expired => "token_expired",
                AccessTokenError::Issuer => "token_issuer",
                AccessTokenError::KeyUnknown => "token_key_unknown",
                AccessTokenError::Malformed => "token_malformed",
                AccessTokenError::NotYet => "token_not_yet",
                AccessTokenError::Revoked => "token_revoked",
                AccessTokenError::Signature => "token_signature",
                AccessTokenError::Type => "token_type",
            },
        }
    }

    /// The error code for the caller; none where it has only to bring a token (RFC 6750 section 3.1).
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::Away => Some("temporarily_unavailable"),
            Self::Blocked => Some("access_denied"),
            Self::Level => Some("insufficient_user_authentication"),
            Self::Missing => None,
            Self::Proof => Some("invalid_dpop_proof"),
            Self::Request => Some("invalid_request"),
            Self::Scope => Some("insufficient_scope"),
            Self::Token(_) => Some("invalid_token"),
        }
    }
}

/// Whether a query carries a token (RFC 6750 section 2.3). It would be in every log, and the service might prefer it to
/// the one that was checked.
pub fn names_token(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token")
}

#[cfg(test)]
mod tests;
