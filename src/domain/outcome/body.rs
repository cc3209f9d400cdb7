//! What the body of an answer says: tokens, the steps of the app-native API, what is pushed and what is polled with.

use crate::domain::authenticator::asks_who;
use crate::domain::history::LinkKind;
use crate::domain::outcome::ACCESS_TOKEN_LIFETIME_MAX;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::CODE_LIFETIME;
use crate::domain::outcome::Conclusion;
use crate::domain::outcome::Issued;
use crate::domain::outcome::REFRESH_TOKEN_LIFETIME;
use crate::domain::outcome::TRANSACTION_LIFETIME;
use crate::domain::outcome::access_token_key;
use crate::domain::outcome::authenticator_of;
use crate::domain::outcome::head::RedirectTarget;
use crate::domain::outcome::user_code_key;
use crate::domain::route::Door;
use crate::domain::scope_use::groups_of;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// How long what a client polls with is remembered when its lifetime is not known, and at most.
pub const BACK_CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
const BACK_CHANNEL_LIFETIME_MAX: Duration = Duration::from_secs(3_600);

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
    #[serde(default)]
    authenticators: Value,
}

impl NextStep {
    /// Whether an option of the step asks who the user is.
    fn asks_who(&self) -> bool {
        self.offered().any(|name| asks_who(&name))
    }

    /// The names of the options.
    fn offered(&self) -> impl Iterator<Item = String> {
        let options = self.authenticators.as_array().into_iter().flatten();
        let ids = options.filter_map(|option| option.get("authenticatorId")?.as_str());
        ids.filter_map(authenticator_of)
    }
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

/// Whether the body of an answer goes on with factors none of which asks who the user is.
pub fn offers_factors(body: &[u8]) -> bool {
    let step = serde_json::from_slice::<FlowAnswer>(body)
        .ok()
        .and_then(|answer| answer.next_step);
    step.is_some_and(|step| step.offered().next().is_some() && !step.asks_who())
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
    let step = answer.next_step.as_ref();
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
            let locked = step.is_some_and(|step| {
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
        // Where it is asked who the user is, nothing has been accepted.
        Some("INCOMPLETE") => transaction(if starts_flow || step.is_some_and(NextStep::asks_who) {
            AuthOutcome::LoginPage
        } else {
            AuthOutcome::NextFactor
        }),
        _ if status >= 400 => Conclusion::new(AuthOutcome::RequestRefused),
        _ => Conclusion::new(AuthOutcome::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        // A choice of factors, and one that begins with who it is.
        for (ids, expected) in [
            (
                ["dG90cDpMT0NBTA", "RklET0F1dGhlbnRpY2F0b3I6TE9DQUw"],
                AuthOutcome::NextFactor,
            ),
            (
                [
                    "QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM",
                    "RklET0F1dGhlbnRpY2F0b3I6TE9DQUw",
                ],
                AuthOutcome::LoginPage,
            ),
        ] {
            let options = ids
                .map(|id| format!(r#"{{"authenticatorId":"{id}"}}"#))
                .join(",");
            let step =
                format!(r#"{{"stepType":"MULTI_OPTIONS_PROMPT","authenticators":[{options}]}}"#);
            let body = format!(r#"{{"flowId":"f","flowStatus":"INCOMPLETE","nextStep":{step}}}"#);
            assert_eq!(of(false, &body), expected, "{body}");
        }
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
}
