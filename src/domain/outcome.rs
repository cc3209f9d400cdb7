//! How the attempt ended, read from the identity server's own answer, and what was issued with it.
//!
//! A login is a success only on WSO2's word: the redirect back into the flow together with its session cookie, a code
//! at the client's redirect URI, a token, or the completed state of the app-native API. A 302 alone says nothing.

/// Answers that speak by their body.
pub mod body;

/// Answers that speak by their head.
pub mod head;

use crate::domain::authenticator::Unread;
use crate::domain::history::LinkKind;
use crate::domain::history::scopes::Groups;
use crate::domain::route::Door;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

pub use body::BACK_CHANNEL_LIFETIME;
pub use body::IssuedTokens;
pub use body::conclude_body;
pub use body::offers_factors;
pub use head::ResponseHead;
pub use head::conclude_head;

/// How one exchange ended, as far as authentication is concerned.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthOutcome {
    /// The client went away, or the exchange broke off.
    Abandoned,
    /// A device, or a request in the background, was approved in a browser.
    Approved,
    /// An authorization code was issued.
    CodeIssued,
    /// The consent page was shown.
    Consent,
    /// The credentials were refused.
    Failed,
    /// The account is locked.
    Locked,
    /// The login page was shown.
    LoginPage,
    /// The step was accepted and another factor is asked for.
    NextFactor,
    /// Nothing about authentication happened.
    None,
    /// The identity server refused the request for a reason other than credentials.
    RequestRefused,
    /// riskgate answered in place of the identity server.
    RefusedHere,
    /// The browser was sent back into the flow without a session: the login was given up or failed.
    Returned,
    /// The login succeeded.
    Succeeded,
    /// Tokens were issued.
    TokensIssued,
    /// The identity server failed or could not be reached.
    UpstreamError,
}

/// What an answer of the identity server may hand to an application through the browser.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HandsOver {
    /// Nothing: it leads to a page, or is for a program.
    #[default]
    Nothing,
    /// A code, an ID token or an access token.
    OAuth,
    /// A SAML assertion.
    Saml,
}

/// Something that the identity server issued. The value is secret: it is turned into a pseudonym at once.
#[derive(Clone, Eq, PartialEq)]
pub struct Issued {
    /// What it is.
    pub kind: LinkKind,
    /// The code, token, session or key itself.
    pub value: String,
    /// How long it is valid.
    pub lifetime: Duration,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Issued({:?}, [redacted], {:?})",
            self.kind, self.lifetime
        )
    }
}

/// What an answer amounts to.
#[derive(Clone, PartialEq)]
pub struct Conclusion {
    /// How it ended.
    pub outcome: AuthOutcome,
    /// What was issued.
    pub issued: Vec<Issued>,
    /// The `auth_req_id` that the login which has begun is to approve, where the answer names it.
    pub approves: Option<String>,
    /// The scopes that tokens were granted, where the answer names them.
    pub scope: Option<String>,
    /// The groups of the user that the tokens name.
    pub groups: Groups,
    /// What the step does not read that a login goes on with.
    pub unread: Unread,
}

/// How long a login in progress is remembered.
pub const TRANSACTION_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long an authorization code is remembered: WSO2's validity of 300 s and a margin.
pub const CODE_LIFETIME: Duration = Duration::from_secs(360);
/// How long a session is remembered: WSO2's remember-me period.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a refresh token is remembered unless the configuration says what WSO2's lifetime is: WSO2's default.
pub const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(86_400);
/// The longest that an access token is remembered.
pub const ACCESS_TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

impl AuthOutcome {
    /// The outcome as it is written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => "abandoned",
            Self::Approved => "approved",
            Self::CodeIssued => "code_issued",
            Self::Consent => "consent",
            Self::Failed => "failed",
            Self::Locked => "locked",
            Self::LoginPage => "login_page",
            Self::NextFactor => "next_factor",
            Self::None => "none",
            Self::RequestRefused => "request_refused",
            Self::RefusedHere => "refused_here",
            Self::Returned => "returned",
            Self::Succeeded => "succeeded",
            Self::TokensIssued => "tokens_issued",
            Self::UpstreamError => "upstream_error",
        }
    }

    /// Whether credentials were refused.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Locked)
    }
}

impl std::fmt::Debug for Conclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conclusion")
            .field("outcome", &self.outcome)
            .field("issued", &self.issued)
            .finish_non_exhaustive()
    }
}

impl Conclusion {
    fn new(outcome: AuthOutcome) -> Self {
        Self::of(outcome, Vec::new())
    }

    /// This outcome, with what was issued.
    pub fn of(outcome: AuthOutcome, issued: Vec<Issued>) -> Self {
        Self {
            outcome,
            issued,
            approves: None,
            scope: None,
            groups: Groups::default(),
            unread: Unread::default(),
        }
    }

    fn with(outcome: AuthOutcome, kind: LinkKind, value: &str, lifetime: Duration) -> Self {
        let issued = Issued {
            kind,
            value: value.to_owned(),
            lifetime,
        };
        Self::of(outcome, vec![issued])
    }
}

/// The name in an authenticator's id in the app-native API, which is that name and an identity provider in Base64.
pub fn authenticator_of(id: &str) -> Option<String> {
    let text = URL_SAFE_NO_PAD.decode(id.trim_end_matches('=')).ok()?;
    let text = String::from_utf8(text).ok()?;
    let name = text.split_once(':').map(|(name, _)| name.to_owned());
    Some(name.unwrap_or(text))
}

/// The login in progress in a `state` that came from, or goes to, another identity provider: WSO2 puts its kind behind it.
pub fn login_of_state(state: &str) -> Option<&str> {
    state.split(',').next().filter(|key| !key.is_empty())
}

/// The same in a `RelayState`, which WSO2 decodes once more than the form that it came in.
pub fn login_of_relay_state(state: &str) -> Cow<'_, str> {
    if !state.contains(['%', '+']) {
        return Cow::Borrowed(state);
    }
    let decoded = form_urlencoded::parse(state.as_bytes()).next();
    decoded.map_or(Cow::Borrowed(state), |(key, _)| key)
}

/// Under what a `user_code` is remembered: the identity server's database may take letters without case, and people write
/// what separates them in their own way (RFC 8628 section 6.1).
pub fn user_code_key(code: &str) -> String {
    code.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect()
}

/// Whether the conclusion of a door's answer is in its body (JSON) and not in its head.
pub fn needs_body(door: Door, status: u16) -> bool {
    match door {
        Door::Token | Door::Authn | Door::Par | Door::Flow | Door::DeviceAuthorize | Door::Ciba => {
            true
        }
        // `response_mode=direct` answers with JSON instead of a redirect.
        Door::Authorize => status == 200,
        Door::Login
        | Door::Device
        | Door::CibaAuthorize
        | Door::Saml
        | Door::WsFed
        | Door::Pdp
        | Door::Basic => false,
    }
}

/// Under what an access token is remembered: the `jti` of a JWT, else the token itself. The signature is not checked:
/// the token comes straight from the identity server, and the value only names it.
pub fn access_token_key(token: &str) -> String {
    #[derive(Deserialize)]
    struct Claims {
        jti: String,
    }
    let claims = || {
        let payload = token.split('.').nth(1)?;
        let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice::<Claims>(&bytes).ok()
    };
    claims().map_or_else(|| token.to_owned(), |claims| format!("jti:{}", claims.jti))
}
