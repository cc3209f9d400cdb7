//! The requests that an event stands for, byte for byte as a browser or an app would send them, and the answers of the
//! identity server. Values are made up from numbers; a password is always the same and never looked at.

use crate::app::replay::Answer;
use crate::app::replay::events::Event;
use crate::app::replay::events::EventKind;
use crate::app::replay::visitors::Number;
use crate::app::replay::visitors::Visitors;
use crate::domain::signals::session::SESSION_COOKIE;
use form_urlencoded::Serializer;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::header;

/// The host that everybody calls.
const HOST: &str = "login.example.com";
/// Where apps live.
const APP: &str = "https://app.example.com/callback";
/// The client of events that name none.
const CLIENT: &str = "app";
/// The tenant whose endpoints have no prefix.
const SUPER_TENANT: &str = "carbon.super";

/// One request.
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) body: Vec<u8>,
    /// The session cookie.
    session: Option<String>,
    /// Whether a browser speaks, with its device cookie.
    browser: bool,
}

impl Sent {
    fn form(event: &Event<'_>, path: &str, browser: bool, pairs: &[(&str, &str)]) -> Self {
        let mut form = Serializer::new(String::with_capacity(128));
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            form.append_pair(name, value);
        }
        Self {
            method: Method::POST,
            target: endpoint(event, path),
            body: form.finish().into_bytes(),
            session: None,
            browser,
        }
    }

    fn page(target: String, session: Option<String>) -> Self {
        Self {
            method: Method::GET,
            target,
            body: Vec::new(),
            session,
            browser: true,
        }
    }

    /// The header fields.
    pub(super) fn headers(&self, event: &Event<'_>, visitors: &Visitors) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::HOST, HeaderValue::from_static(HOST));
        if let Some(agent) = &event.agent {
            headers.insert(header::USER_AGENT, agent.clone());
        }
        if let Some(language) = &event.language {
            headers.insert(header::ACCEPT_LANGUAGE, language.clone());
        }
        if self.method == Method::POST {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        let device = visitors.cookie(event.device).filter(|_| self.browser);
        let cookies = match (device, &self.session) {
            (Some(device), Some(session)) => Some(format!("{SESSION_COOKIE}={session}; {device}")),
            (Some(device), None) => Some(device.to_owned()),
            (None, Some(session)) => Some(format!("{SESSION_COOKIE}={session}")),
            (None, None) => None,
        };
        if let Some(cookies) = cookies.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::COOKIE, cookies);
        }
        headers
    }
}

/// The key of a login in progress.
pub(super) fn flow_key(number: Number) -> String {
    format!("3bd1f207-e5b5-4b45-8a91-{number:012x}")
}

/// The value of a session cookie.
pub(super) fn session(number: Number) -> String {
    format!("session-{number}")
}

/// An authorization code.
pub(super) fn code(number: Number) -> String {
    format!("code-{number}")
}

/// A refresh token.
pub(super) fn refresh_token(number: Number) -> String {
    format!("refresh-{number}")
}

/// Username and password at the login form.
pub(super) fn password(event: &Event<'_>, key: &str) -> Sent {
    Sent::form(
        event,
        "/commonauth",
        true,
        &[
            ("username", event.user),
            ("password", "x"),
            ("sessionDataKey", key),
        ],
    )
}

/// The second factor of the login `key`.
pub(super) fn second_factor(event: &Event<'_>, key: &str) -> Sent {
    Sent::form(
        event,
        "/commonauth",
        true,
        &[("OTPCode", "123456"), ("sessionDataKey", key)],
    )
}

/// The return to the authorize endpoint after the login `key`.
pub(super) fn resume(event: &Event<'_>, key: &str) -> Sent {
    let target = endpoint(event, "/oauth2/authorize") + "?sessionDataKey=" + key;
    Sent::page(target, None)
}

/// An authorize request, with a session if there is one; `again` is the same with the demand for a stronger factor.
pub(super) fn authorize(event: &Event<'_>, session: Option<&str>, again: Option<String>) -> Sent {
    let target = again.unwrap_or_else(|| {
        let query = Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", client(event))
            .append_pair("redirect_uri", APP)
            .append_pair("scope", scopes(event, "openid"))
            .append_pair("state", "s")
            .finish();
        endpoint(event, "/oauth2/authorize") + "?" + &query
    });
    Sent::page(target, session.map(str::to_owned))
}

/// An app redeems a code.
pub(super) fn redeem(event: &Event<'_>, code: &str) -> Sent {
    Sent::form(
        event,
        "/oauth2/token",
        false,
        &[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", APP),
            ("client_id", client(event)),
            ("client_secret", secret(event)),
        ],
    )
}

/// An app presents a refresh token.
pub(super) fn refresh(event: &Event<'_>, token: &str) -> Sent {
    Sent::form(
        event,
        "/oauth2/token",
        false,
        &[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", client(event)),
            ("client_secret", secret(event)),
            ("scope", event.scopes),
        ],
    )
}

/// A service account asks for a token for itself.
pub(super) fn client_credentials(event: &Event<'_>) -> Sent {
    Sent::form(
        event,
        "/oauth2/token",
        false,
        &[
            ("grant_type", "client_credentials"),
            ("client_id", event.whom()),
            ("client_secret", "x"),
            ("scope", event.scopes),
        ],
    )
}

/// Nobody is signed in: the login page.
pub(super) fn login_page(key: &str) -> Answer {
    Answer::Redirect(
        format!("https://{HOST}/authenticationendpoint/login.do?sessionDataKey={key}"),
        None,
    )
}

/// The password was wrong.
pub(super) fn login_failed(key: &str) -> Answer {
    Answer::Redirect(
        format!(
            "https://{HOST}/authenticationendpoint/login.do?sessionDataKey={key}&authFailure=true"
        ),
        None,
    )
}

/// The password was right, and a second factor is asked for.
pub(super) fn second_factor_page(key: &str) -> Answer {
    Answer::Redirect(
        format!("https://{HOST}/authenticationendpoint/totp.do?sessionDataKey={key}"),
        None,
    )
}

/// The login is done: back into the flow, with a session.
pub(super) fn resumed(event: &Event<'_>, key: &str, number: Number) -> Answer {
    let target = endpoint(event, "/oauth2/authorize");
    Answer::Redirect(
        format!("https://{HOST}{target}?sessionDataKey={key}"),
        Some(session(number)),
    )
}

/// The browser is sent to the app with a code.
pub(super) fn code_given(number: Number) -> Answer {
    Answer::Redirect(format!("{APP}?code={}&state=s", code(number)), None)
}

/// Tokens.
pub(super) fn tokens(number: Number, renews: bool) -> Answer {
    let renewal = if renews {
        format!(",\"refresh_token\":\"{}\"", refresh_token(number))
    } else {
        String::new()
    };
    Answer::Json(
        200,
        format!(
            "{{\"access_token\":\"access-{number}\",\"token_type\":\"Bearer\",\"expires_in\":3600{renewal}}}"
        ),
    )
}

/// No tokens: the code, the refresh token or the secret is not accepted.
pub(super) fn tokens_refused(event: &Event<'_>) -> Answer {
    if event.kind == EventKind::ClientCredentials {
        Answer::Json(401, r#"{"error":"invalid_client"}"#.to_owned())
    } else {
        Answer::Json(400, r#"{"error":"invalid_grant"}"#.to_owned())
    }
}

fn endpoint(event: &Event<'_>, path: &str) -> String {
    if event.tenant == SUPER_TENANT {
        path.to_owned()
    } else {
        format!("/t/{}{path}", event.tenant)
    }
}

fn client<'e>(event: &Event<'e>) -> &'e str {
    if event.client.is_empty() {
        CLIENT
    } else {
        event.client
    }
}

fn secret(event: &Event<'_>) -> &'static str {
    if event.is_confidential { "x" } else { "" }
}

fn scopes<'e>(event: &Event<'e>, otherwise: &'e str) -> &'e str {
    if event.scopes.is_empty() {
        otherwise
    } else {
        event.scopes
    }
}
