//! Operators who sign in by an OpenID Connect provider (OpenID Connect Core section 3.1, RFC 7636, RFC 9207, RFC 9700): with
//! what a browser is sent away, what has to come back with it, and whom an ID token lets in as what. Pure: keys, chance and
//! moments are arguments.

/// Where the endpoints of a provider are.
pub mod discovery;

use crate::domain::id_token::Expected;
use crate::domain::id_token::IdToken;
use crate::domain::id_token::IdTokenError;
use crate::domain::jwt::KeySet;
use crate::domain::operator::roster::Role;
use crate::domain::page_key::PageKey;
use crate::domain::page_key::Purpose;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use discovery::DiscoveryError;
pub use discovery::Endpoints;
use serde_json::Map;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long somebody may take at the provider.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(10 * 60);
/// Bytes of chance that an attempt is made from.
pub const SEED_BYTES: usize = 32;
/// The longest code that is redeemed, in bytes.
pub const CODE_BYTES_MAX: usize = 4_096;
/// Roles or groups that may be mapped, in all.
pub const MAPPED_MAX: usize = 64;
/// The longest role, claim name, scope or client id, in bytes.
pub const WORD_BYTES_MAX: usize = 255;
/// The longest name of an operator, in bytes, without the mark of where it comes from.
const NAME_BYTES_MAX: usize = 128;
/// What stands before the names of operators whom a provider has vouched for: no local operator's name has a colon.
pub const MARK: &str = "oidc:";
/// Attempts that have come back and are remembered, so that none comes back twice.
const USED_MAX: usize = 1_024;

/// What is agreed with the provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProviderRules {
    /// Who it is, in its own words.
    pub issuer: String,
    /// Who we are to it.
    pub client_id: String,
    /// Where it sends browsers back to.
    pub redirect_uri: String,
    /// Where it may send them after they have signed out there.
    pub signed_out_uri: String,
    /// What is asked for, `openid` among it.
    pub scopes: Vec<String>,
    /// The claim that names an operator.
    pub name_claim: String,
    /// The claim that lists roles or groups.
    pub roles_claim: String,
    /// What they are here.
    pub roles: Vec<(String, Role)>,
    /// The authentication context class that must have been reached.
    pub acr: Option<String>,
}

/// One attempt of one browser: what the provider is told, and what must come back. All of it is worked out from what the
/// browser's cookie holds, with a key that it does not have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    state: String,
    nonce: String,
    verifier: Secret<String>,
    to: String,
}

/// What came back with a browser, as it stands in the query. What is not there is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Returned<'a> {
    /// The code.
    pub code: &'a str,
    /// The state.
    pub state: &'a str,
    /// Who says so (RFC 9207).
    pub issuer: &'a str,
    /// Why not.
    pub error: &'a str,
}

/// Why nobody is let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotAdmitted {
    /// The context class that is asked for was not reached.
    Acr,
    /// The provider did not let them in.
    Denied,
    /// By another provider than the one that was asked, or by none that says so.
    Issuer,
    /// No code came back, or none that could be one.
    Malformed,
    /// The claim that names operators is not there, or nothing that could be shown.
    Name,
    /// The ID token was not made for this attempt.
    Nonce,
    /// None of the roles of somebody is one here.
    Role {
        /// Who it is, with the mark.
        name: Arc<str>,
    },
    /// The state is that of no attempt of this browser, or of one that has come back before.
    State,
    /// The ID token is not good.
    Token(IdTokenError),
}

/// Who is let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted {
    /// The name, with the mark of where it comes from.
    pub name: Arc<str>,
    /// The role.
    pub role: Role,
    /// The provider's own name for them, which does not change.
    pub subject: String,
}

/// The attempts that have come back, until their end.
#[derive(Debug, Default)]
pub struct Used(VecDeque<([u8; 32], Timestamp)>);

impl NotAdmitted {
    /// The reason as it is written in records and the log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Acr => "acr",
            Self::Denied => "denied",
            Self::Issuer => "issuer",
            Self::Malformed => "malformed",
            Self::Name => "name",
            Self::Nonce => "nonce",
            Self::Role { .. } => "no_role",
            Self::State => "state",
            Self::Token(error) => match error {
                IdTokenError::Algorithm => "token_algorithm",
                IdTokenError::Audience => "token_audience",
                IdTokenError::Claims => "token_claims",
                IdTokenError::Expired => "token_expired",
                IdTokenError::Issuer => "token_issuer",
                IdTokenError::KeyUnknown => "token_key_unknown",
                IdTokenError::Malformed => "token_malformed",
                IdTokenError::NotYet => "token_not_yet",
                IdTokenError::Signature => "token_signature",
                IdTokenError::Type => "token_type",
            },
        }
    }
}

impl Attempt {
    /// Where the browser goes afterwards.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// What proves to the provider that the code was given to this attempt (RFC 7636).
    pub fn verifier(&self) -> &str {
        self.verifier.expose()
    }

    /// Whether the state that came back is that of this attempt.
    pub fn is_of(&self, state: &str) -> bool {
        is_equal(&self.state, state)
    }

    fn of(key: &PageKey, seed: &[u8], to: &str) -> Self {
        let derive = |label: &str| URL_SAFE_NO_PAD.encode(key.derived(label.as_bytes(), seed));
        Self {
            state: derive("state"),
            nonce: derive("nonce"),
            verifier: Secret::new(derive("verifier")),
            to: to.to_owned(),
        }
    }
}

impl ProviderRules {
    /// Whether the same people are let in as by `other`, as the same.
    pub fn lets_in_like(&self, other: &Self) -> bool {
        self.issuer == other.issuer
            && self.client_id == other.client_id
            && self.name_claim == other.name_claim
            && self.roles_claim == other.roles_claim
            && self.roles == other.roles
            && self.acr == other.acr
    }

    /// Begins an attempt that leads to `to` in the end: the attempt, and the value of the cookie that holds it.
    pub fn begin(
        &self,
        key: &PageKey,
        seed: &[u8; SEED_BYTES],
        to: &str,
        now: Timestamp,
    ) -> (Attempt, String) {
        let sealed = key.seal(
            Purpose::SignIn,
            seed,
            &self.bound(to),
            now.plus(ATTEMPT_MAX),
        );
        let cookie = format!("{sealed}.{}", URL_SAFE_NO_PAD.encode(to));
        (Attempt::of(key, seed, to), cookie)
    }

    /// The attempt of a cookie, unless it is none of ours, of another provider, or has ended.
    pub fn resume(&self, key: &PageKey, cookie: &str, now: Timestamp) -> Option<Attempt> {
        let (sealed, to) = cookie.split_once('.')?;
        let to = String::from_utf8(URL_SAFE_NO_PAD.decode(to).ok()?).ok()?;
        let seed = key.open(Purpose::SignIn, sealed, &self.bound(&to), now)?;
        Some(Attempt::of(key, &seed, &to))
    }

    fn bound<'a>(&'a self, to: &'a str) -> [&'a [u8]; 4] {
        [&self.issuer, &self.client_id, &self.redirect_uri, to].map(str::as_bytes)
    }

    /// The address at which the provider signs somebody in for an attempt.
    pub fn address(&self, endpoints: &Endpoints, attempt: &Attempt) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier()));
        let scopes = self.scopes.join(" ");
        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &self.redirect_uri),
            ("scope", &scopes),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if let Some(acr) = &self.acr {
            fields.push(("acr_values", acr));
        }
        with_query(&endpoints.authorization, &fields)
    }

    /// The address at which somebody signs out of the provider, where it has one. The provider asks them first: no token is
    /// handed along that would prove who asks, since addresses are written down in many places.
    pub fn sign_out_address(&self, endpoints: &Endpoints) -> Option<String> {
        let fields = [
            ("client_id", self.client_id.as_str()),
            ("post_logout_redirect_uri", &self.signed_out_uri),
        ];
        Some(with_query(endpoints.end_session.as_ref()?, &fields))
    }

    /// The code that came back. Its state was looked at before.
    ///
    /// # Errors
    /// Another provider answers, or this one says no.
    pub fn code<'a>(
        &self,
        endpoints: &Endpoints,
        returned: &Returned<'a>,
    ) -> Result<&'a str, NotAdmitted> {
        let is_missing = returned.issuer.is_empty() && endpoints.names_itself;
        let is_other = !returned.issuer.is_empty() && returned.issuer != self.issuer;
        if is_missing || is_other {
            return Err(NotAdmitted::Issuer);
        }
        if !returned.error.is_empty() {
            return Err(NotAdmitted::Denied);
        }
        let fits = (1..=CODE_BYTES_MAX).contains(&returned.code.len());
        fits.then_some(returned.code).ok_or(NotAdmitted::Malformed)
    }

    /// Whom an ID token lets in.
    ///
    /// # Errors
    /// The first thing that is wrong with it, or that it gives no role.
    pub fn admit(
        &self,
        token: &str,
        keys: &KeySet,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<Admitted, NotAdmitted> {
        let expected = Expected {
            issuer: &self.issuer,
            client_id: &self.client_id,
            now,
        };
        let (token, claims) =
            IdToken::verify_all(token, keys, &expected).map_err(NotAdmitted::Token)?;
        let nonce = claims.get("nonce").and_then(Value::as_str).unwrap_or("");
        if !is_equal(nonce, &attempt.nonce) {
            return Err(NotAdmitted::Nonce);
        }
        if self.acr.is_some() && token.acr != self.acr {
            return Err(NotAdmitted::Acr);
        }
        let name = claims.get(&self.name_claim).and_then(Value::as_str);
        let name = name
            .filter(|name| is_shown(name))
            .ok_or(NotAdmitted::Name)?;
        let name: Arc<str> = format!("{MARK}{name}").into();
        let Some(role) = self.role(&claims) else {
            return Err(NotAdmitted::Role { name });
        };
        Ok(Admitted {
            name,
            role,
            subject: token.subject,
        })
    }

    /// The highest of the roles that a token gives. A text is one role, whatever is in it: one that was split could be made
    /// to hold another's.
    fn role(&self, claims: &Map<String, Value>) -> Option<Role> {
        let given = match claims.get(&self.roles_claim)? {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let names = given.iter().filter_map(Value::as_str);
        names
            .filter_map(|name| self.roles.iter().find(|(mapped, _)| mapped == name))
            .map(|(_, role)| *role)
            .max()
    }
}

impl Used {
    /// Takes a state, which comes back once; whether this was the first time.
    pub fn take(&mut self, state: &str, now: Timestamp) -> bool {
        while self.0.front().is_some_and(|(_, ends)| *ends <= now) {
            self.0.pop_front();
        }
        let digest: [u8; 32] = Sha256::digest(state).into();
        if self.0.iter().any(|(known, _)| *known == digest) {
            return false;
        }
        // The provider redeems a code once as well: the oldest may be forgotten.
        if self.0.len() >= USED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((digest, now.plus(ATTEMPT_MAX)));
        true
    }
}

/// Whether a name can stand in records and on pages, and is the same to whoever reads it.
fn is_shown(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+/|:=".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// Compares secrets in a time that does not tell where they differ.
fn is_equal(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    one.len() == other.len() && pairs.fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// An address with further parameters.
fn with_query(address: &str, fields: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{address}{joint}{query}")
}

#[cfg(test)]
mod tests;
