//! How the attempt ended, read from the identity server's own answer, and what was issued with it.
//!
//! A login is a success only on WSO2's word: the redirect back into the flow together with its session cookie, a code
//! at the client's redirect URI, a token, or the completed state of the app-native API. A 302 alone says nothing.

use crate::domain::history::LinkKind;
use crate::domain::history::scopes::Groups;
use crate::domain::route::Door;
use crate::domain::route::OWN_PREFIX;
use crate::domain::scope_use::groups_of;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

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

/// The head of the identity server's answer, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The Location header.
    pub location: Option<String>,
    /// The value of a `commonAuthId` cookie that was set, unless it was cleared.
    pub session: Option<String>,
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
}

/// How long a login in progress is remembered.
pub const TRANSACTION_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// How long an authorization code is remembered: WSO2's validity of 300 s and a margin.
pub const CODE_LIFETIME: Duration = Duration::from_secs(360);
/// How long a session is remembered: WSO2's remember-me period.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long a refresh token is remembered when its lifetime is not known: WSO2's default.
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

/// How long what a client polls with is remembered when its lifetime is not known, and at most.
pub const BACK_CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
const BACK_CHANNEL_LIFETIME_MAX: Duration = Duration::from_secs(3_600);

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

impl ResponseHead {
    /// Whether the browser is sent to a page of WSO2's portal on which a factor is enrolled, such as `totp_enroll.do`.
    pub fn leads_to_enrolment(&self) -> bool {
        let location = self
            .location
            .as_deref()
            .filter(|_| (300..400).contains(&self.status));
        location
            .and_then(|location| RedirectTarget::parse(location).page())
            .is_some_and(|page| page.ends_with("_enroll.do"))
    }
}

/// What the head of an answer says. `hands_over` says what the answer may have for the application: at the endpoints of
/// the protocols, also where a login is answered there in place.
pub fn conclude_head(door: Door, hands_over: HandsOver, head: &ResponseHead) -> Conclusion {
    if head.status >= 500 {
        return Conclusion::new(AuthOutcome::UpstreamError);
    }
    match door {
        Door::Basic => Conclusion::new(match head.status {
            401 => AuthOutcome::Failed,
            200..=299 => AuthOutcome::Succeeded,
            _ => AuthOutcome::None,
        }),
        Door::Authorize
        | Door::Login
        | Door::Saml
        | Door::WsFed
        | Door::Device
        | Door::CibaAuthorize => {
            match head
                .location
                .as_deref()
                .filter(|_| (300..400).contains(&head.status))
            {
                Some(location) => conclude_redirect(door, hands_over, head, location),
                // A page that posts itself to the application.
                None if head.status < 300
                    && hands_over != HandsOver::Nothing
                    && head.session.is_some() =>
                {
                    Conclusion::of(AuthOutcome::Succeeded, session_of(head).collect())
                }
                None if head.status >= 400 => Conclusion::new(AuthOutcome::RequestRefused),
                None => Conclusion::new(AuthOutcome::None),
            }
        }
        Door::Token
        | Door::Authn
        | Door::Par
        | Door::Flow
        | Door::DeviceAuthorize
        | Door::Ciba
        | Door::Pdp => Conclusion::new(if head.status >= 400 {
            AuthOutcome::RequestRefused
        } else {
            AuthOutcome::None
        }),
    }
}

fn session_of(head: &ResponseHead) -> impl Iterator<Item = Issued> {
    head.session.iter().map(|value| Issued {
        kind: LinkKind::Session,
        value: value.clone(),
        lifetime: SESSION_LIFETIME,
    })
}

fn conclude_redirect(
    door: Door,
    hands_over: HandsOver,
    head: &ResponseHead,
    location: &str,
) -> Conclusion {
    let target = RedirectTarget::parse(location);
    let session = || session_of(head);
    if let Some(page) = target.page() {
        let failed = target
            .param("authFailure")
            .is_some_and(|value| value == "true")
            || target.param("errorCode").is_some();
        let locked = target
            .param("errorCode")
            .is_some_and(|code| code == "17003")
            || target.param("lockedReason").is_some();
        let key = |name| target.param(name).map(Cow::into_owned);
        let transaction = |outcome| match key("sessionDataKey") {
            Some(value) => {
                Conclusion::with(outcome, LinkKind::Transaction, &value, TRANSACTION_LIFETIME)
            }
            None => Conclusion::new(outcome),
        };
        return match page {
            _ if locked => transaction(AuthOutcome::Locked),
            _ if failed => transaction(AuthOutcome::Failed),
            "login.do" if door == Door::CibaAuthorize => {
                let mut conclusion = transaction(AuthOutcome::LoginPage);
                // The identity server puts the id of the request there itself.
                conclusion.approves = key("nonce");
                conclusion
            }
            "login.do" => transaction(AuthOutcome::LoginPage),
            "oauth2_error.do" => Conclusion::new(AuthOutcome::RequestRefused),
            "retry.do" => Conclusion::new(AuthOutcome::Returned),
            // The last page of an approval; with an error it is where one ends that was none.
            "device_success.do" => {
                let outcome = match target.param("error") {
                    Some(_) => AuthOutcome::RequestRefused,
                    None => AuthOutcome::Approved,
                };
                Conclusion::of(outcome, session().collect())
            }
            "oauth2_consent.do" | "oauth2_authz.do" => match key("sessionDataKeyConsent") {
                Some(value) => {
                    let mut conclusion = Conclusion::with(
                        AuthOutcome::Consent,
                        LinkKind::Transaction,
                        &value,
                        TRANSACTION_LIFETIME,
                    );
                    conclusion.issued.extend(session());
                    conclusion
                }
                None => Conclusion::new(AuthOutcome::Consent),
            },
            // A waiting page is the same step, still being thought about.
            "wait.do" => transaction(AuthOutcome::None),
            _ => transaction(AuthOutcome::NextFactor),
        };
    }
    if target.is_own_step() {
        return Conclusion::new(AuthOutcome::NextFactor);
    }
    if target.is_resume() {
        let Some(key) = target.param("sessionDataKey") else {
            return Conclusion::new(AuthOutcome::None);
        };
        let outcome = if head.session.is_some() {
            AuthOutcome::Succeeded
        } else {
            AuthOutcome::Returned
        };
        let mut conclusion =
            Conclusion::with(outcome, LinkKind::Transaction, &key, TRANSACTION_LIFETIME);
        conclusion.issued.extend(session());
        return conclusion;
    }
    let is_oauth = match hands_over {
        HandsOver::Nothing => return Conclusion::new(AuthOutcome::None),
        HandsOver::OAuth => true,
        HandsOver::Saml => false,
    };
    let handed = |name| target.param(name).filter(|_| is_oauth);
    if handed("error").is_some() {
        return Conclusion::new(AuthOutcome::RequestRefused);
    }
    let mut conclusion = Conclusion::new(AuthOutcome::None);
    if let Some(token) = handed("access_token") {
        conclusion.outcome = AuthOutcome::TokensIssued;
        conclusion.issued.push(Issued {
            kind: LinkKind::AccessToken,
            value: access_token_key(&token),
            lifetime: ACCESS_TOKEN_LIFETIME_MAX,
        });
    }
    if let Some(code) = handed("code") {
        conclusion.outcome = AuthOutcome::CodeIssued;
        conclusion.issued.push(Issued {
            kind: LinkKind::Code,
            value: code.into_owned(),
            lifetime: CODE_LIFETIME,
        });
    }
    if door == Door::Login && head.session.is_some() {
        conclusion.outcome = AuthOutcome::Succeeded;
    }
    conclusion.issued.extend(session());
    conclusion
}

/// A redirect target, taken apart just far enough.
struct RedirectTarget<'a> {
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> RedirectTarget<'a> {
    fn parse(location: &'a str) -> Self {
        let (rest, fragment) = location.split_once('#').unwrap_or((location, ""));
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = match address.split_once("://") {
            Some((_, authority_and_path)) => authority_and_path
                .find('/')
                .and_then(|at| authority_and_path.get(at..))
                .unwrap_or("/"),
            None => address,
        };
        Self {
            path,
            query,
            fragment,
        }
    }

    fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query.as_bytes())
            .chain(form_urlencoded::parse(self.fragment.as_bytes()))
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// The page of WSO2's login portal, if it is one.
    fn page(&self) -> Option<&'a str> {
        let (_, page) = self.path.rsplit_once("/authenticationendpoint/")?;
        Some(page)
    }

    /// Whether it leads to the page of our own step, where the identity server was told to send the browser.
    fn is_own_step(&self) -> bool {
        self.path
            .strip_prefix(OWN_PREFIX)
            .is_some_and(|rest| rest.starts_with("/step/"))
    }

    /// Whether it leads back into a protocol endpoint of WSO2 with the flow's key.
    fn is_resume(&self) -> bool {
        [
            "/oauth2/authorize",
            "/samlsso",
            "/passivests",
            "/oauth2/device",
            "/oauth2/ciba_authorize",
        ]
        .iter()
        .any(|endpoint| self.path.ends_with(endpoint))
            && self.param("sessionDataKey").is_some()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
    expires_in: Option<u64>,
    scope: Option<String>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct FlowAnswer {
    #[serde(rename = "flowId")]
    flow_id: Option<String>,
    #[serde(rename = "flowStatus")]
    flow_status: Option<String>,
    #[serde(rename = "authData")]
    auth_data: Option<AuthData>,
    #[serde(rename = "nextStep")]
    next_step: Option<NextStep>,
}

#[derive(Deserialize)]
struct AuthData {
    code: Option<String>,
}

#[derive(Deserialize)]
struct NextStep {
    #[serde(default)]
    messages: Vec<FlowMessage>,
}

#[derive(Deserialize)]
struct FlowMessage {
    #[serde(rename = "messageId")]
    message_id: Option<String>,
}

#[derive(Deserialize)]
struct PushedAnswer {
    request_uri: Option<String>,
    expires_in: Option<u64>,
}

/// What a client gets that polls from then on (RFC 8628 section 3.2, CIBA Core section 7.3).
#[derive(Deserialize)]
struct BackChannelAnswer {
    device_code: Option<String>,
    user_code: Option<String>,
    auth_req_id: Option<String>,
    auth_url: Option<String>,
    expires_in: Option<u64>,
}

impl BackChannelAnswer {
    fn conclude(self) -> Conclusion {
        let lifetime = self
            .expires_in
            .map_or(BACK_CHANNEL_LIFETIME, Duration::from_secs)
            .min(BACK_CHANNEL_LIFETIME_MAX);
        // Where the identity server leaves it to the client to send the user there.
        let in_url = self.auth_url.as_deref().and_then(|url| {
            let key = RedirectTarget::parse(url).param("authCodeKey")?;
            Some(key.into_owned())
        });
        let code = self.user_code.as_deref().map(user_code_key).or(in_url);
        let polls = self.device_code.or(self.auth_req_id);
        let issued = [(LinkKind::BackChannel, polls), (LinkKind::UserCode, code)];
        let issued = issued.into_iter().filter_map(|(kind, value)| {
            Some(Issued {
                kind,
                value: value?,
                lifetime,
            })
        });
        Conclusion::of(AuthOutcome::None, issued.collect())
    }
}

/// The tokens of a token response (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).
#[derive(Default, Deserialize)]
pub struct IssuedTokens {
    /// The access token.
    pub access_token: Option<String>,
    /// The refresh token.
    pub refresh_token: Option<String>,
    /// The ID token.
    pub id_token: Option<String>,
}

impl std::fmt::Debug for IssuedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IssuedTokens([redacted])")
    }
}

impl IssuedTokens {
    /// Reads a body; `None` when it is not the expected JSON.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// What the JSON body of an answer says. A body that is not the expected JSON says no more than its status.
pub fn conclude_body(door: Door, status: u16, starts_flow: bool, body: &[u8]) -> Conclusion {
    if status >= 500 {
        return Conclusion::new(AuthOutcome::UpstreamError);
    }
    let refused = || {
        Conclusion::new(if status >= 400 {
            AuthOutcome::RequestRefused
        } else {
            AuthOutcome::None
        })
    };
    match door {
        Door::Token => serde_json::from_slice(body)
            .map_or_else(|_| refused(), |answer| conclude_token(status, answer)),
        Door::Authn | Door::Authorize | Door::Flow => serde_json::from_slice(body).map_or_else(
            |_| refused(),
            |answer| conclude_flow(status, starts_flow, answer),
        ),
        Door::Par => match serde_json::from_slice(body) {
            Ok(PushedAnswer {
                request_uri: Some(uri),
                expires_in,
            }) if status < 300 => Conclusion::with(
                AuthOutcome::None,
                LinkKind::PushedRequest,
                &uri,
                Duration::from_secs(expires_in.unwrap_or(60).min(600)),
            ),
            _ => refused(),
        },
        Door::DeviceAuthorize | Door::Ciba if status < 300 => {
            serde_json::from_slice(body).map_or_else(|_| refused(), BackChannelAnswer::conclude)
        }
        Door::Login
        | Door::DeviceAuthorize
        | Door::Device
        | Door::Ciba
        | Door::CibaAuthorize
        | Door::Saml
        | Door::WsFed
        | Door::Pdp
        | Door::Basic => refused(),
    }
}

fn conclude_token(status: u16, answer: TokenAnswer) -> Conclusion {
    if status >= 400 {
        return Conclusion::new(match answer.error.as_deref() {
            Some("invalid_grant" | "invalid_client") => AuthOutcome::Failed,
            _ => AuthOutcome::RequestRefused,
        });
    }
    let mut issued = Vec::new();
    let [of_access, of_id] = [&answer.access_token, &answer.id_token]
        .map(|token| token.as_deref().map(groups_of).unwrap_or_default());
    let lifetime = answer
        .expires_in
        .map_or(ACCESS_TOKEN_LIFETIME_MAX, Duration::from_secs)
        .min(ACCESS_TOKEN_LIFETIME_MAX);
    if let Some(token) = &answer.access_token {
        issued.push(Issued {
            kind: LinkKind::AccessToken,
            value: access_token_key(token),
            lifetime,
        });
    }
    if let Some(token) = answer.refresh_token {
        issued.push(Issued {
            kind: LinkKind::RefreshToken,
            value: token,
            lifetime: REFRESH_TOKEN_LIFETIME,
        });
    }
    let outcome = if issued.is_empty() {
        AuthOutcome::None
    } else {
        AuthOutcome::TokensIssued
    };
    Conclusion {
        scope: answer.scope,
        groups: of_access.and(of_id),
        ..Conclusion::of(outcome, issued)
    }
}

fn conclude_flow(status: u16, starts_flow: bool, answer: FlowAnswer) -> Conclusion {
    let transaction = |outcome| match &answer.flow_id {
        Some(id) => Conclusion::with(outcome, LinkKind::Transaction, id, TRANSACTION_LIFETIME),
        None => Conclusion::new(outcome),
    };
    match answer.flow_status.as_deref() {
        // Nothing that an answer of refusal says is a success.
        Some("SUCCESS_COMPLETED") if status < 400 => {
            match answer.auth_data.and_then(|data| data.code) {
                Some(code) => {
                    Conclusion::with(AuthOutcome::Succeeded, LinkKind::Code, &code, CODE_LIFETIME)
                }
                None => Conclusion::new(AuthOutcome::Succeeded),
            }
        }
        Some("FAIL_INCOMPLETE") => {
            let locked = answer.next_step.is_some_and(|step| {
                step.messages
                    .iter()
                    .any(|message| message.message_id.as_deref() == Some("17003"))
            });
            transaction(if locked {
                AuthOutcome::Locked
            } else {
                AuthOutcome::Failed
            })
        }
        Some("INCOMPLETE") => transaction(if starts_flow {
            AuthOutcome::LoginPage
        } else {
            AuthOutcome::NextFactor
        }),
        _ if status >= 400 => Conclusion::new(AuthOutcome::RequestRefused),
        _ => Conclusion::new(AuthOutcome::None),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(door: Door, location: &str, session: Option<&str>) -> Conclusion {
        let head = ResponseHead {
            status: 302,
            location: Some(location.to_owned()),
            session: session.map(str::to_owned),
        };
        let hands_over = match door {
            Door::Authorize => HandsOver::OAuth,
            _ => HandsOver::Nothing,
        };
        conclude_head(door, hands_over, &head)
    }

    #[test]
    fn recorded_answers_of_the_login_door() {
        let base = "https://idp.example.com/t/foo/authenticationendpoint/";
        for (location, session, expected) in [
            (
                "login.do?sessionDataKey=K1&authFailure=true&authFailureMsg=login.fail.message",
                None,
                AuthOutcome::Failed,
            ),
            (
                "login.do?sessionDataKey=K1&authFailure=true&errorCode=17002&remainingAttempts=3",
                None,
                AuthOutcome::Failed,
            ),
            (
                "retry.do?errorCode=17003&lockedReason=MAX_ATTEMPTS_EXCEEDED&remainingAttempts=0",
                None,
                AuthOutcome::Locked,
            ),
            (
                "retry.do?status=authentication.context.null",
                None,
                AuthOutcome::Returned,
            ),
            (
                "totp.do?sessionDataKey=K1&authenticators=totp",
                None,
                AuthOutcome::NextFactor,
            ),
            (
                "totp.do?sessionDataKey=K1&authFailure=true",
                None,
                AuthOutcome::Failed,
            ),
            (
                "login.do?sessionDataKey=K1&authenticators=BasicAuthenticator%3ALOCAL",
                None,
                AuthOutcome::LoginPage,
            ),
        ] {
            assert_eq!(
                redirect(Door::Login, &format!("{base}{location}"), session).outcome,
                expected,
                "{location}"
            );
        }
    }

    #[test]
    fn success_needs_the_session_cookie() {
        let back = "https://idp.example.com/oauth2/authorize?sessionDataKey=K0";
        let success = redirect(Door::Login, back, Some("cookie"));
        assert_eq!(success.outcome, AuthOutcome::Succeeded);
        assert_eq!(
            success
                .issued
                .iter()
                .map(|issued| issued.kind)
                .collect::<Vec<_>>(),
            [LinkKind::Transaction, LinkKind::Session]
        );
        assert_eq!(
            redirect(Door::Login, back, None).outcome,
            AuthOutcome::Returned
        );
    }

    #[test]
    fn codes_are_seen_at_the_authorize_door_only() {
        let callback = "https://app.example.com/cb?code=C&session_state=x.y&state=S";
        assert_eq!(
            redirect(Door::Authorize, callback, None).outcome,
            AuthOutcome::CodeIssued
        );
        assert_eq!(
            redirect(Door::Login, callback, None).outcome,
            AuthOutcome::None
        );
        assert_eq!(
            redirect(Door::Authorize, "https://app/cb?error=access_denied", None).outcome,
            AuthOutcome::RequestRefused
        );
        let hybrid = redirect(
            Door::Authorize,
            "https://app/cb#access_token=t&code=C",
            None,
        );
        assert_eq!(hybrid.issued.len(), 2);
    }

    #[test]
    fn a_login_in_place_is_answered_for_the_application() {
        let of = |hands_over, status, location: Option<&str>, session: Option<&str>| {
            let head = ResponseHead {
                status,
                location: location.map(str::to_owned),
                session: session.map(str::to_owned),
            };
            let conclusion = conclude_head(Door::Login, hands_over, &head);
            let kinds: Vec<_> = conclusion.issued.iter().map(|issued| issued.kind).collect();
            (conclusion.outcome, kinds)
        };
        let callback = Some("https://app.example.com/cb?code=C");
        let (oauth, saml) = (HandsOver::OAuth, HandsOver::Saml);
        assert_eq!(
            of(oauth, 302, callback, Some("s")),
            (
                AuthOutcome::Succeeded,
                vec![LinkKind::Code, LinkKind::Session]
            )
        );
        assert_eq!(
            of(oauth, 302, callback, None),
            (AuthOutcome::CodeIssued, vec![LinkKind::Code])
        );
        assert_eq!(
            of(saml, 200, None, Some("s")),
            (AuthOutcome::Succeeded, vec![LinkKind::Session])
        );
        assert_eq!(of(saml, 200, None, None), (AuthOutcome::None, vec![]));
        // Nothing of a SAML answer is a code, and nothing at the login door itself is for an application.
        assert_eq!(
            of(saml, 302, callback, Some("s")),
            (AuthOutcome::Succeeded, vec![LinkKind::Session])
        );
        for (status, location) in [(302, callback), (200, None)] {
            assert_eq!(
                of(HandsOver::Nothing, status, location, Some("s")),
                (AuthOutcome::None, vec![])
            );
        }
    }

    #[test]
    fn token_answers() {
        let ok = conclude_body(
            Door::Token,
            200,
            false,
            br#"{"access_token":"a.eyJqdGkiOiJqMSJ9.c","refresh_token":"r","expires_in":3600}"#,
        );
        assert_eq!(ok.outcome, AuthOutcome::TokensIssued);
        assert_eq!(ok.issued[0].value, "jti:j1");
        assert_eq!(ok.issued[0].lifetime, Duration::from_secs(3600));
        for (error, expected) in [
            ("invalid_grant", AuthOutcome::Failed),
            ("invalid_scope", AuthOutcome::RequestRefused),
        ] {
            let body = format!(r#"{{"error":"{error}"}}"#);
            assert_eq!(
                conclude_body(Door::Token, 400, false, body.as_bytes()).outcome,
                expected
            );
        }
        assert_eq!(
            conclude_body(Door::Token, 200, false, b"not json").outcome,
            AuthOutcome::None
        );
    }

    #[test]
    fn app_native_answers() {
        let of =
            |starts, body: &str| conclude_body(Door::Authn, 200, starts, body.as_bytes()).outcome;
        assert_eq!(
            of(
                false,
                r#"{"flowId":"f","flowStatus":"FAIL_INCOMPLETE","nextStep":{"messages":[{"messageId":"17002"}]}}"#
            ),
            AuthOutcome::Failed
        );
        assert_eq!(
            of(
                false,
                r#"{"flowId":"f","flowStatus":"FAIL_INCOMPLETE","nextStep":{"messages":[{"messageId":"17003"}]}}"#
            ),
            AuthOutcome::Locked
        );
        assert_eq!(
            of(true, r#"{"flowId":"f","flowStatus":"INCOMPLETE"}"#),
            AuthOutcome::LoginPage
        );
        assert_eq!(
            of(false, r#"{"flowId":"f","flowStatus":"INCOMPLETE"}"#),
            AuthOutcome::NextFactor
        );
        assert_eq!(
            of(
                false,
                r#"{"flowStatus":"SUCCESS_COMPLETED","authData":{"code":"c"}}"#
            ),
            AuthOutcome::Succeeded
        );
        let contradicts = conclude_body(
            Door::Authn,
            401,
            false,
            br#"{"flowStatus":"SUCCESS_COMPLETED","authData":{"code":"c"}}"#,
        );
        assert_eq!(contradicts.outcome, AuthOutcome::RequestRefused);
        assert!(contradicts.issued.is_empty());
    }

    #[test]
    fn what_is_polled_with_and_what_approves_it() {
        let of = |door, body: &str| conclude_body(door, 200, false, body.as_bytes());
        let kinds = |conclusion: &Conclusion| -> Vec<(LinkKind, String)> {
            let issued = conclusion.issued.iter();
            issued
                .map(|issued| (issued.kind, issued.value.clone()))
                .collect()
        };
        let device = of(
            Door::DeviceAuthorize,
            r#"{"device_code":"D","user_code":"aB-3 x","verification_uri":"u","expires_in":90000}"#,
        );
        assert_eq!(
            kinds(&device),
            [
                (LinkKind::BackChannel, "D".to_owned()),
                (LinkKind::UserCode, "ab3x".to_owned())
            ]
        );
        assert_eq!(device.issued[0].lifetime, Duration::from_secs(3_600));
        let url = "https://idp/oauth2/ciba_authorize?authCodeKey=K&x=1";
        let ciba = of(
            Door::Ciba,
            &format!(r#"{{"auth_req_id":"R","expires_in":120,"auth_url":"{url}"}}"#),
        );
        assert_eq!(
            kinds(&ciba),
            [
                (LinkKind::BackChannel, "R".to_owned()),
                (LinkKind::UserCode, "K".to_owned())
            ]
        );
        let mailed = of(Door::Ciba, r#"{"auth_req_id":"R"}"#);
        assert_eq!(kinds(&mailed).len(), 1);
        for broken in ["", "[]", "{}", r#"{"device_code":7}"#] {
            assert!(
                kinds(&of(Door::DeviceAuthorize, broken)).is_empty(),
                "{broken}"
            );
        }
    }

    #[test]
    fn an_approval_ends_on_its_page() {
        let base = "https://idp.example.com/t/foo/authenticationendpoint/";
        let at = |door, page: &str| redirect(door, &format!("{base}{page}"), None);
        let done = at(Door::Authorize, "device_success.do?app_name=tv");
        assert_eq!(done.outcome, AuthOutcome::Approved);
        let failed = at(Door::Authorize, "device_success.do?error=invalid.code");
        assert_eq!(failed.outcome, AuthOutcome::RequestRefused);
        let page = "login.do?nonce=R&sessionDataKey=K";
        let begun = at(Door::CibaAuthorize, page);
        assert_eq!(begun.approves.as_deref(), Some("R"));
        assert_eq!(begun.issued[0].kind, LinkKind::Transaction);
        assert_eq!(at(Door::Authorize, page).approves, None);
    }

    #[test]
    fn issued_values_do_not_print() {
        let issued = redirect(Door::Authorize, "https://app/cb?code=canary", None);
        assert!(!format!("{issued:?}").contains("canary"));
    }
}
