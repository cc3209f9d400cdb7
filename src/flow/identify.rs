//! Whom a request is about, what it presents, and what it asks for: read from the parameters of each door.

/// What the identity server's framework reads.
mod framework;
/// What comes back from another identity provider.
mod provider;

use crate::domain::enforcement::AuthorizeFacts;
use crate::domain::enforcement::CIBA;
use crate::domain::enforcement::DEVICE_CODE;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::client::SCOPES_MAX;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::jwt;
use crate::domain::outcome::HandsOver;
use crate::domain::outcome::access_token_key;
use crate::domain::outcome::user_code_key;
use crate::domain::parameters::Parameters;
use crate::domain::route::Door;
use crate::domain::signals::GrantSignals;
use crate::domain::signals::Subject;
use crate::domain::signals::session::SESSION_COOKIE;
use crate::domain::signals::session::cookie_values;
use crate::flow::error::Refusal;
use crate::flow::exchange::Brought;
use crate::flow::exchange::Handled;
use crate::flow::exchange::RequestFacts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

pub use framework::check_framework;

/// What the parameters say.
#[derive(Debug)]
pub struct Identity {
    /// Whom the request is about.
    pub subject: Subject,
    /// The OAuth client.
    pub client_id: Option<String>,
    /// Its key.
    pub client: Option<SubjectKey>,
    /// What the request presents: a code, a refresh token, a login in progress, a pushed request.
    pub presented: Option<LinkKey>,
    /// The session cookie.
    pub session: Option<LinkKey>,
    /// Whether the parameters are hidden in an object that was not read.
    pub parameters_hidden: bool,
    /// What a token request asks for, and how.
    pub grant: GrantSignals,
    /// What later steps need.
    pub facts: RequestFacts,
}

impl Identity {
    /// Whether something of this kind is presented.
    pub fn presents(&self, kind: LinkKind) -> bool {
        self.presented.is_some_and(|key| key.kind == kind)
    }
}

/// The key of a link.
pub fn link_key(people: &Pseudonymizer, kind: LinkKind, value: &str) -> LinkKey {
    let tag: &[u8] = match kind {
        LinkKind::AccessToken => b"access_token",
        LinkKind::BackChannel => b"back_channel",
        LinkKind::Code => b"code",
        LinkKind::Decision => b"decision",
        LinkKind::PushedRequest => b"pushed_request",
        LinkKind::RefreshToken => b"refresh_token",
        LinkKind::Session => b"session",
        LinkKind::Transaction => b"transaction",
        LinkKind::UserCode => b"user_code",
    };
    LinkKey {
        kind,
        digest: people.pseudonym(NameSpace::Link, &[tag, value.as_bytes()]),
    }
}

/// The door that a request really knocks at. The identity server hands a request to any of its protocol endpoints to the
/// login when it says so and names one that is in progress; the forms of some login pages do. Without one it goes on
/// with what was asked for.
///
/// # Errors
/// It asks for a logout at the same time: which of the two is meant would be a matter of taste.
pub fn inner_door(door: Door, parameters: Option<&Parameters>) -> Result<Door, Refusal> {
    let says = |name: &str| {
        parameters
            .and_then(|parameters| parameters.get(name))
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    };
    let names_login = parameters
        .and_then(|parameters| parameters.get("sessionDataKey"))
        .is_some_and(|key| !key.is_empty());
    match door {
        Door::Authorize | Door::Saml | Door::WsFed | Door::Device | Door::CibaAuthorize
            if says("tocommonauth") && names_login =>
        {
            if parameters.is_some_and(|parameters| parameters.get("commonAuthLogout").is_some()) {
                return Err(Refusal::new(
                    400,
                    "login_and_logout",
                    "a request is a login or a logout",
                ));
            }
            Ok(Door::Login)
        }
        other => Ok(other),
    }
}

/// Response types by which the identity server tells itself that a device or a request in the background is approved; from
/// outside they would approve one without the door at which it is known which.
const INNER_RESPONSE_TYPES: [&str; 2] = ["device", "cibaAuthCode"];

/// Whether a request may ask for what it asks for.
///
/// # Errors
/// The response type is the identity server's own.
pub fn check_response_type(door: Door, parameters: Option<&Parameters>) -> Result<(), Refusal> {
    let asked = parameters
        .filter(|_| matches!(door, Door::Authorize | Door::Par))
        .and_then(|parameters| parameters.get("response_type"))
        .unwrap_or_default();
    let is_inner = asked.split_ascii_whitespace().any(|kind| {
        INNER_RESPONSE_TYPES
            .iter()
            .any(|inner| inner.eq_ignore_ascii_case(kind))
    });
    if is_inner {
        return Err(Refusal::new(
            400,
            "response_type",
            "this response type cannot be asked for",
        ));
    }
    Ok(())
}

/// Whether credentials name whoever they name in one reading.
///
/// # Errors
/// Basic credentials that cannot be read here, since another reader may be more lenient; or credentials of another client
/// than the parameters name, since the identity server takes the word of the credentials.
pub fn check_credentials(
    door: Door,
    parameters: Option<&Parameters>,
    headers: &http::HeaderMap,
) -> Result<(), Refusal> {
    let is_client = match door {
        Door::Token | Door::Par | Door::DeviceAuthorize | Door::Ciba => true,
        Door::Basic | Door::Pdp => false,
        Door::Authn
        | Door::Authorize
        | Door::CibaAuthorize
        | Door::Device
        | Door::Flow
        | Door::Login
        | Door::Saml
        | Door::WsFed => return Ok(()),
    };
    let refused = |message: &'static str| Err(Refusal::new(400, "credentials", message));
    let fields = headers.get_all(http::header::AUTHORIZATION);
    if fields.iter().nth(1).is_some() {
        return refused("a request is authorized by one field");
    }
    let basic = basic_credentials(headers);
    if basic.is_none() && has_basic_credentials(headers) {
        return refused("the Basic credentials are not readable");
    }
    let Some(parameters) = parameters.filter(|_| is_client) else {
        return Ok(());
    };
    let named = parameters.get("client_id").filter(|id| !id.is_empty());
    let is_other = |id: &str| {
        let of_basic = basic
            .as_deref()
            .is_some_and(|name| id != name && id != form_decoded(name));
        of_basic || asserted_client(parameters).is_some_and(|client| client != id)
    };
    if named.is_some_and(is_other) {
        return refused("the request names two clients");
    }
    Ok(())
}

/// The client that an assertion is about (RFC 7523 section 3), by its own word: the identity server says whether it is true.
fn asserted_client(parameters: &Parameters) -> Option<String> {
    jwt::claimed_subject(parameters.get("client_assertion")?)
}

/// Where the names in a request are unique.
#[derive(Clone, Copy, Debug)]
pub struct Domains<'r> {
    /// The tenant domain: clients are of a tenant.
    pub tenant: &'r str,
    /// That of users: a tenant, or an organization within it.
    pub users: &'r str,
}

/// What a request asks, as far as it says whom it is about.
struct Asked<'r> {
    door: Door,
    domains: Domains<'r>,
    parameters: Option<&'r Parameters>,
    /// The user part of Basic credentials.
    basic: Option<String>,
    people: &'r Pseudonymizer,
}

/// Reads a request. `parameters` is `None` where a door has none (Basic credentials on an API); `application` is the one
/// that a SAML message names.
pub fn identify(
    door: Door,
    domains: Domains<'_>,
    parameters: Option<&Parameters>,
    headers: &http::HeaderMap,
    application: Option<&str>,
    people: &Pseudonymizer,
) -> Identity {
    let asked = Asked {
        door,
        domains,
        parameters,
        basic: basic_credentials(headers),
        people,
    };
    let get = |name: &str| asked.get(name);
    let client_id = asked.client_id(application);
    let client = client_id
        .as_deref()
        .map(|id| people.client(domains.tenant, id));
    let brought = asked.brought();
    let signed_or_pushed = get("request").is_some() || get("request_uri").is_some();
    // A SOAP body is passed unread.
    let unread = parameters
        .and_then(Parameters::forwarded_content_type)
        .is_some_and(|kind| kind.contains("xml"));
    let direct = get("response_mode") == Some("direct");
    let owned = |name: &str| get(name).map(str::to_owned);
    let scopes = scopes_of(get("scope").unwrap_or_default(), people);
    let grant = if door == Door::Token {
        GrantSignals {
            scopes: scopes.clone(),
            client_authenticates: asked.basic.is_some()
                || get("client_secret").is_some()
                || get("client_assertion").is_some(),
            proof_key: proof_key(headers, people),
        }
    } else {
        GrantSignals::default()
    };
    Identity {
        subject: asked.subject(client),
        presented: asked.presented(),
        session: asked.session(headers),
        client_id,
        client,
        parameters_hidden: signed_or_pushed || unread,
        grant,
        facts: RequestFacts {
            grant_type: owned("grant_type"),
            response_type: owned("response_type"),
            prompt: owned("prompt"),
            acr_values: owned("acr_values"),
            max_age: owned("max_age"),
            scopes,
            fixed: signed_or_pushed,
            second_factor: brought.is_second_factor(),
            credentials: brought.is_any() || asked.authenticates(),
            brings: brought,
            handled: asked.handled(),
            from_provider: door == Door::Login && parameters.is_some_and(provider::is_answer),
            // The answer of WSO2's page on which an authenticator app is enrolled; any other text than `true` is a no.
            enrols: get("ENABLE_TOTP").map(|answer| answer.eq_ignore_ascii_case("true")),
            starts_flow: door == Door::Authorize && direct,
            saml: None,
            hands_over: HandsOver::default(),
        },
    }
}

/// The hashes of the scopes in `text`, at most [`SCOPES_MAX`]. Where there are more, the last stands for all that are left, so
/// that none can hide behind others: with another among them it is another.
fn scopes_of(text: &str, people: &Pseudonymizer) -> Vec<ValueHash> {
    let mut words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.sort_unstable();
    words.dedup();
    let hash = |words: &str| people.value(NameSpace::Scope, words.as_bytes());
    if words.len() <= SCOPES_MAX {
        return words.into_iter().map(hash).collect();
    }
    let (first, left) = words.split_at_checked(SCOPES_MAX - 1).unwrap_or_default();
    let left = left.join(" ");
    let scopes = first.iter().copied().chain([left.as_str()]);
    scopes.map(hash).collect()
}

impl<'r> Asked<'r> {
    /// A parameter that is not empty.
    fn get(&self, name: &str) -> Option<&'r str> {
        self.parameters?.get(name).filter(|value| !value.is_empty())
    }

    fn link(&self, kind: LinkKind, value: &str) -> LinkKey {
        link_key(self.people, kind, value)
    }

    /// Which OAuth client asks. `application` is the one that a SAML message names.
    fn client_id(&self, application: Option<&str>) -> Option<String> {
        // At these doors Basic credentials are a user's, elsewhere the client's (RFC 6749 section 2.3.1).
        let basic_is_user = matches!(self.door, Door::Basic | Door::Pdp | Door::Flow);
        match self.door {
            Door::Saml => application.map(str::to_owned),
            // Which client a login is for says what began it; the identity server does not look at a parameter either.
            Door::Login | Door::Device | Door::CibaAuthorize => None,
            Door::Authn | Door::Flow if self.parameters.and_then(flow_id).is_some() => None,
            _ => self.get("client_id").map(str::to_owned).or_else(|| {
                self.basic
                    .as_ref()
                    .filter(|_| !basic_is_user)
                    .map(|name| form_decoded(name))
                    .or_else(|| self.parameters.and_then(asserted_client))
            }),
        }
    }

    /// Whom the request is about; `client` is who asks.
    fn subject(&self, client: Option<SubjectKey>) -> Subject {
        let named = |name: &str| Subject::Named {
            key: self.people.user(self.domains.users, name),
            name: name.to_owned(),
        };
        match self.door {
            Door::Login => self
                .get("username")
                .or_else(|| self.get("usernameUserInput"))
                .map(named),
            Door::Authn | Door::Flow => self.parameters.and_then(authenticator_username).map(named),
            Door::Authorize | Door::Ciba => self.get("login_hint").map(named),
            Door::Token => match self.get("grant_type") {
                Some("password") => self.get("username").map(named),
                // These present something that was issued to somebody: the link tells to whom.
                Some(
                    "authorization_code" | "refresh_token" | TOKEN_EXCHANGE | DEVICE_CODE | CIBA,
                ) => None,
                _ => client.map(|key| Subject::Client { key }),
            },
            Door::Basic | Door::Pdp => self.basic.as_deref().map(named),
            Door::Par
            | Door::DeviceAuthorize
            | Door::Device
            | Door::CibaAuthorize
            | Door::Saml
            | Door::WsFed => None,
        }
        .unwrap_or(Subject::Anonymous)
    }

    /// The key of the login in progress that the request goes on with. A custom authenticator's page leads back to the login
    /// with the key under another name.
    fn transaction(&self) -> Option<LinkKey> {
        let inner = || self.get("flowId").filter(|_| self.door == Door::Login);
        let parameters = self.parameters.filter(|_| self.door == Door::Login);
        let by_provider = || parameters.and_then(provider::login);
        let by_prompt = parameters.and_then(provider::login_of_prompt);
        by_prompt
            .or_else(|| self.get("sessionDataKey"))
            .or_else(|| self.get("sessionDataKeyConsent"))
            .or_else(inner)
            .map(Cow::Borrowed)
            .or_else(by_provider)
            .map(|key| self.link(LinkKind::Transaction, &key))
    }

    /// What the request presents: a code, a token, a login in progress, a pushed request.
    fn presented(&self) -> Option<LinkKey> {
        let named = |kind, name: &str| self.get(name).map(|value| self.link(kind, value));
        match self.door {
            Door::Token => match self.get("grant_type") {
                Some("authorization_code") => named(LinkKind::Code, "code"),
                Some("refresh_token") => named(LinkKind::RefreshToken, "refresh_token"),
                Some(DEVICE_CODE) => named(LinkKind::BackChannel, "device_code"),
                Some(CIBA) => named(LinkKind::BackChannel, "auth_req_id"),
                grant => turned_in(grant)
                    .and_then(|name| self.get(name))
                    .map(|token| self.link(LinkKind::AccessToken, &access_token_key(token))),
            },
            // A flow key beside `client_id` is a new request that pretends to be a return.
            Door::Authorize if self.get("client_id").is_none() => self.transaction(),
            Door::Authorize => named(LinkKind::PushedRequest, "request_uri"),
            // What is approved says the code; a flow key beside it would only hide it.
            Door::Device if self.get("user_code").is_some() => self
                .get("user_code")
                .map(|code| self.link(LinkKind::UserCode, &user_code_key(code))),
            Door::CibaAuthorize if self.get("authCodeKey").is_some() => {
                named(LinkKind::UserCode, "authCodeKey")
            }
            Door::Login | Door::Saml | Door::WsFed | Door::Device | Door::CibaAuthorize => {
                self.transaction()
            }
            Door::Authn | Door::Flow => self
                .parameters
                .and_then(flow_id)
                .map(|id| self.link(LinkKind::Transaction, id)),
            Door::Par | Door::DeviceAuthorize | Door::Ciba | Door::Pdp | Door::Basic => None,
        }
    }

    /// The session that the browser has.
    fn session(&self, headers: &http::HeaderMap) -> Option<LinkKey> {
        if !self.door.is_browser() && self.door != Door::Authorize {
            return None;
        }
        let value = cookie_values(headers, SESSION_COOKIE).next()?;
        Some(self.link(LinkKind::Session, value))
    }

    /// What a step of a login brings that the option which it picks may read.
    fn brought(&self) -> Brought {
        let Some(parameters) = self.parameters else {
            return Brought::default();
        };
        let (has, unread): (&dyn Fn(&str) -> bool, _) = match self.door {
            Door::Login => (
                &|name: &str| self.get(name).is_some(),
                framework::unread_of_pick(parameters),
            ),
            Door::Authn | Door::Flow => (
                &|name: &str| authenticator_param(parameters, name).is_some(),
                framework::unread_in_api(parameters),
            ),
            _ => return Brought::default(),
        };
        let brought = Brought {
            password: has("password"),
            factor: SECOND_FACTORS.iter().any(|name| has(name)),
        };
        brought.without(unread)
    }

    /// Where a login form is handled.
    fn handled(&self) -> Handled {
        let Some(parameters) = self.parameters.filter(|_| self.door == Door::Login) else {
            return Handled::Elsewhere;
        };
        if framework::restarts(parameters) {
            Handled::AtTheStart
        } else if self.get("authenticator").is_some() {
            Handled::Elsewhere
        } else {
            Handled::AtThePage
        }
    }

    /// Whether a password or a client's own credentials come along, at a door that is no step of a login.
    fn authenticates(&self) -> bool {
        match self.door {
            Door::Token => matches!(
                self.get("grant_type"),
                Some("password" | "client_credentials")
            ),
            Door::Basic | Door::Pdp => self.basic.is_some(),
            _ => false,
        }
    }
}

/// The parameters that carry a factor beyond the password, in the login form and in the app-native API.
const SECOND_FACTORS: [&str; 3] = ["OTPCode", "token", "tokenResponse"];

/// The parameter with the token that a grant turns in for another one. It leads to the login behind it where it is one of
/// WSO2's own that came through here; an assertion or a token of another issuer leads nowhere.
fn turned_in(grant_type: Option<&str>) -> Option<&'static str> {
    match grant_type? {
        TOKEN_EXCHANGE => Some("subject_token"),
        // RFC 7523 section 2.1.
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => Some("assertion"),
        // WSO2's own, for another organization or account of the same user.
        "organization_switch" | "account_switch" => Some("token"),
        _ => None,
    }
}

/// The grant type of a token exchange (RFC 8693).
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The key in a DPoP proof (RFC 9449 section 4.2): the head of the proof, which names the key and nothing that changes
/// from one proof to the next. The signature is for WSO2 to check.
fn proof_key(headers: &http::HeaderMap, people: &Pseudonymizer) -> Option<ValueHash> {
    const PROOF_BYTES_MAX: usize = 8192;
    let proof = headers.get("dpop")?.to_str().ok()?;
    let (head, _) = proof.split_once('.')?;
    (proof.len() <= PROOF_BYTES_MAX && !head.is_empty())
        .then(|| people.value(NameSpace::ProofKey, head.as_bytes()))
}

/// The `flowId` of the app-native API.
fn flow_id(parameters: &Parameters) -> Option<&str> {
    parameters
        .json_text(&["flowId"])
        .filter(|id| !id.is_empty())
}

/// A parameter of the selected authenticator, or of the flow API's inputs.
fn authenticator_param<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters
        .json_text(&["selectedAuthenticator", "params", name])
        .or_else(|| parameters.json_text(&["inputs", name]))
        .filter(|value| !value.is_empty())
}

fn authenticator_username(parameters: &Parameters) -> Option<&str> {
    authenticator_param(parameters, "username")
        .or_else(|| authenticator_param(parameters, USERNAME_CLAIM))
}

/// Under which the flow API takes the username.
const USERNAME_CLAIM: &str = "http://wso2.org/claims/username";

impl RequestFacts {
    /// What the enforcement needs of an authorize request.
    pub fn authorize(&self) -> AuthorizeFacts<'_> {
        AuthorizeFacts {
            acr_values: self.acr_values.as_deref(),
            max_age: self.max_age.as_deref(),
            prompt: self.prompt.as_deref(),
            fixed: self.fixed,
            direct: self.starts_flow,
            body: None,
            reprove: false,
        }
    }
}

/// Whether a request carries Basic credentials (RFC 7617).
pub fn has_basic_credentials(headers: &http::HeaderMap) -> bool {
    headers
        .get_all(http::header::AUTHORIZATION)
        .iter()
        .any(|value| {
            value
                .as_bytes()
                .get(..5)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"))
        })
}

/// The bearer token of a request (RFC 6750 section 2.1).
pub fn bearer_token(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// The client that Basic credentials name.
pub fn basic_client(headers: &http::HeaderMap) -> Option<String> {
    basic_credentials(headers).map(|user| form_decoded(&user))
}

/// The user part of Basic credentials. The password is not even decoded into a value of its own.
fn basic_credentials(headers: &http::HeaderMap) -> Option<String> {
    const ENCODED_BYTES_MAX: usize = 4096;
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > ENCODED_BYTES_MAX {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(decoded.get(..colon)?).ok()?;
    (!user.is_empty()).then(|| user.to_owned())
}

/// Client ids in Basic credentials are form-encoded (RFC 6749 section 2.3.1).
fn form_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests;
