//! What WSO2 asks the gateway beside the requests of browsers: the question of an adaptive script, and the call of a
//! custom authenticator (service extension of action type AUTHENTICATION, contract v1). Both are read leniently, because
//! the forms differ between versions, and answered strictly.

use crate::domain::policy::decision::Verdict;
use serde::Serialize;
use serde_json::Value;
use std::net::IpAddr;

/// The longest identifier that is taken from a call, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Steps of a login that are looked at.
const STEPS_MAX: usize = 32;
/// The name of the header, as WSO2 passes it on.
const DECISION_HEADER: &str = "x-risk-decision-id";
/// The tenant that WSO2 means when it names none.
const SUPER_TENANT: &str = "carbon.super";
/// The super tenant as an organization: its id is the same in every installation of WSO2.
const SUPER_TENANT_ORGANIZATION: &str = "10084a8d-113f-4211-a0d5-efe36b082211";
/// In place of an organization's id: no target can name it, so that nobody is of it.
const NOWHERE: &str = "unknown";

/// What an adaptive script asks: how risky was the request of this user that the gateway decided under this id?
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The value of `X-Risk-Decision-Id` on the request that the script handles.
    pub decision_id: String,
    /// The user that WSO2 has identified. Without one, as at the beginning of a login, any decision of the domain and address answers.
    pub username: Option<String>,
    /// The domain that WSO2 has the user in: that of a tenant, or the id of an organization.
    pub tenant: String,
    /// The client's address as WSO2 sees it.
    pub address: Option<IpAddr>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// `scored`, `unscored`, or `unknown` for an id that the gateway has not given for this user, tenant and address.
    pub risk_status: &'static str,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<u8>,
    /// `allow` or `step_up`; whatever is stronger reads as `step_up`, because a script has nothing stronger to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_verdict: Option<Verdict>,
    /// The reasons, strongest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub risk_reasons: Vec<String>,
    /// The decision that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
}

/// What a custom authenticator is called with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthenticationCall {
    /// The login in progress.
    pub flow_id: String,
    /// The tenant domain.
    pub tenant: String,
    /// The organization that the user is of, where it is not the tenant itself.
    pub organization: Option<String>,
    /// The user that earlier steps have identified.
    pub username: Option<String>,
    /// The decision id, where WSO2 passes the header on.
    pub decision_id: Option<String>,
    /// The authenticators that this login has passed.
    pub passed: Vec<String>,
    /// Whether the browser may be sent elsewhere.
    pub may_redirect: bool,
}

/// The answer to a custom authenticator's call.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "actionStatus", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuthenticationReply {
    /// The step is passed.
    Success {},
    /// The login is refused.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// A code for programs.
        failure_reason: &'static str,
        /// A sentence for people.
        failure_description: &'static str,
    },
    /// The browser has something to do first; WSO2 calls again with the same `flowId`.
    Incomplete {
        /// One operation: the redirect.
        operations: [Redirect; 1],
    },
    /// The call could not be read or the caller is not who it must be.
    #[serde(rename_all = "camelCase")]
    Error {
        /// A code for programs.
        error_message: &'static str,
        /// A sentence for people.
        error_description: String,
    },
}

/// Where the browser is sent.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Redirect {
    op: &'static str,
    url: String,
}

/// Why a call cannot be answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The body is not a JSON object.
    #[error("the body is not a JSON object")]
    Json,
    /// A member is missing or has another type.
    #[error("`{0}` must be a text of 1 to {TEXT_BYTES_MAX} bytes")]
    Member(&'static str),
    /// It is a call of another kind.
    #[error("`actionType` must be `AUTHENTICATION`")]
    Kind,
    /// It is a step of a login, which has an endpoint of its own.
    #[error("`AUTHENTICATION` is answered at `/actions/authenticate` alone")]
    Endpoint,
}

impl Answer {
    /// The answer about an id that is not known for this user.
    pub fn unknown() -> Self {
        Self {
            risk_status: "unknown",
            risk_score: None,
            risk_verdict: None,
            risk_reasons: Vec::new(),
            decision_id: None,
        }
    }
}

impl AuthenticationReply {
    /// Sends the browser to `url`.
    pub fn redirect(url: String) -> Self {
        Self::Incomplete {
            operations: [Redirect {
                op: "redirect",
                url,
            }],
        }
    }
}

impl Question {
    /// Reads the body of a script's question: `decision_id` must be there; `username`, `tenant` and `ip` are what the
    /// answer is bound to.
    pub fn parse(body: &[u8]) -> Result<Self, CallError> {
        let call = object(body)?;
        Ok(Self {
            decision_id: text(&call, "/decision_id").ok_or(CallError::Member("decision_id"))?,
            username: optional(&call, "/username", "username")?,
            tenant: optional(&call, "/tenant", "tenant")?.unwrap_or_else(|| SUPER_TENANT.into()),
            address: match optional(&call, "/ip", "ip")? {
                Some(ip) => Some(ip.parse().map_err(|_| CallError::Member("ip"))?),
                None => None,
            },
        })
    }
}

impl AuthenticationCall {
    /// Reads the body of a call.
    pub fn parse(body: &[u8]) -> Result<Self, CallError> {
        let call = object(body)?;
        if call.pointer("/actionType").and_then(Value::as_str) != Some("AUTHENTICATION") {
            return Err(CallError::Kind);
        }
        let list = |pointer| {
            call.pointer(pointer)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        Ok(Self {
            flow_id: text(&call, "/flowId").ok_or(CallError::Member("flowId"))?,
            tenant: text(&call, "/event/tenant/name").unwrap_or_else(|| SUPER_TENANT.into()),
            organization: call.pointer("/event").and_then(organization),
            username: text(&call, "/event/user/sub"),
            decision_id: decision_id(&call),
            passed: list("/event/authenticatedSteps")
                .iter()
                .take(STEPS_MAX)
                .filter_map(|step| text(step, "/name"))
                .collect(),
            may_redirect: list("/allowedOperations")
                .iter()
                .any(|operation| operation.get("op").and_then(Value::as_str) == Some("redirect")),
        })
    }
}

pub(super) fn object(body: &[u8]) -> Result<Value, CallError> {
    serde_json::from_slice::<Value>(body)
        .ok()
        .filter(Value::is_object)
        .ok_or(CallError::Json)
}

pub(super) fn text(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX)
        .map(str::to_owned)
}

/// The id of the organization that the user of an event is of; `None` for the tenant itself, which is an organization of depth
/// 0 to WSO2. The organization of the event counts where nothing else is said of the user's.
///
/// Older contracts tell an id and a name alone, and mostly of organizations below. One of which it cannot be told is taken for
/// one below: if it was the tenant after all, its user is nobody here, and never is a user of the tenant's taken for a namesake.
pub(super) fn organization(event: &Value) -> Option<String> {
    const OF_USER: &str = "/user/organization";
    const OF_EVENT: &str = "/organization";
    let id = |whose: &str| text(event, &format!("{whose}/id"));
    let (of_user, of_event) = (id(OF_USER), id(OF_EVENT));
    let event_is_tenant = is_tenant(event, OF_EVENT);
    let user_is_tenant = is_tenant(event, OF_USER).or_else(|| match &of_user {
        // Some events say of the user's organization but which it is.
        Some(_) if of_user == of_event => event_is_tenant,
        Some(_) => None,
        None => event_is_tenant,
    });
    match user_is_tenant {
        Some(true) => None,
        // Below, and not said where.
        Some(false) => Some(of_user.or(of_event).unwrap_or_else(|| NOWHERE.to_owned())),
        None => of_user.or(of_event),
    }
}

/// Whether an organization of an event is the tenant itself, as far as the event says so: by its depth, or as what only the
/// tenant's own has.
fn is_tenant(event: &Value, whose: &str) -> Option<bool> {
    let depth = event.pointer(&format!("{whose}/depth"));
    // A negative one is WSO2's word for not knowing.
    match depth.and_then(Value::as_i64) {
        Some(0) => return Some(true),
        Some(1..) => return Some(false),
        Some(_) | None => {}
    }
    let tenant = text(event, "/tenant/name").unwrap_or_else(|| SUPER_TENANT.to_owned());
    let has = |member: &str, value: &str| {
        text(event, &format!("{whose}/{member}"))
            .is_some_and(|text| text.eq_ignore_ascii_case(value))
    };
    let is_known = has("orgHandle", &tenant)
        || (tenant == SUPER_TENANT && has("id", SUPER_TENANT_ORGANIZATION));
    is_known.then_some(true)
}

/// A member that may be missing, but not be of another type.
fn optional(value: &Value, pointer: &str, name: &'static str) -> Result<Option<String>, CallError> {
    match value.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => text(value, pointer)
            .map(Some)
            .ok_or(CallError::Member(name)),
    }
}

/// The decision about the client's request, where WSO2 passes the header on.
pub(super) fn decision_id(call: &Value) -> Option<String> {
    header(call, DECISION_HEADER)
}

/// A header of the client's request: in a list of `{name, value: [..]}`, or in a map as before October 2024.
fn header(call: &Value, name: &str) -> Option<String> {
    let first = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(values) => values.first()?.as_str().map(str::to_owned),
        _ => None,
    };
    let found = match call.pointer("/event/request/additionalHeaders")? {
        Value::Array(headers) => {
            let is_it = |header: &&Value| {
                header
                    .get("name")
                    .and_then(Value::as_str)
                    .is_some_and(|found| found.eq_ignore_ascii_case(name))
            };
            first(headers.iter().find(is_it)?.get("value")?)
        }
        Value::Object(headers) => headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| first(value)),
        _ => None,
    };
    found.filter(|value| !value.is_empty() && value.len() <= TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(headers: Value) -> Value {
        json!({
            "actionType": "AUTHENTICATION",
            "flowId": "f-1",
            "event": {
                "tenant": { "id": "1", "name": "example.com" },
                "request": { "additionalHeaders": headers },
                "user": { "id": "u", "sub": "alice", "userIdentitySource": "LOCAL" },
                "currentStepIndex": 2,
                "authenticatedSteps": [{ "index": 1, "name": "BasicAuthenticator" }],
            },
            "allowedOperations": [{ "op": "redirect" }],
        })
    }

    #[test]
    fn both_forms_of_headers_are_read() {
        for headers in [
            json!([{ "name": "X-Risk-Decision-Id", "value": ["d-1", "d-2"] }]),
            json!([{ "name": "x-risk-decision-id", "value": "d-1" }]),
            json!({ "x-risk-decision-id": "d-1" }),
            json!({ "X-RISK-DECISION-ID": ["d-1"] }),
        ] {
            let read = AuthenticationCall::parse(call(headers.clone()).to_string().as_bytes());
            let read = read.unwrap();
            assert_eq!(read.decision_id.as_deref(), Some("d-1"), "{headers}");
            assert_eq!(read.tenant, "example.com");
            assert_eq!(read.username.as_deref(), Some("alice"));
            assert_eq!(read.passed, ["BasicAuthenticator"]);
            assert!(read.may_redirect);
        }
    }

    #[test]
    fn a_user_is_of_the_organization_that_is_below_the_tenant() {
        let root = json!({ "id": "10084a8d", "depth": 0 });
        let below = json!({ "id": "0a1b-2c", "depth": 1 });
        let of = |user: Value, event: Value| {
            organization(&json!({ "organization": event, "user": { "organization": user } }))
        };
        let none = || Value::Null;
        assert_eq!(organization(&json!({})), None);
        for tenants in [
            of(none(), root.clone()),
            of(root.clone(), root.clone()),
            // The tenant's user, in an organization below it.
            of(root.clone(), below.clone()),
            of(json!({ "id": "10084a8d" }), root.clone()),
            of(json!({}), json!({})),
        ] {
            assert_eq!(tenants, None);
        }
        for there in [
            of(none(), below.clone()),
            of(below.clone(), below.clone()),
            of(json!({ "id": "0a1b-2c" }), below.clone()),
            // The organization's user, at the tenant.
            of(below.clone(), root.clone()),
            of(json!({ "id": "0a1b-2c" }), root.clone()),
        ] {
            assert_eq!(there.as_deref(), Some("0a1b-2c"));
        }
    }

    #[test]
    fn an_organization_of_which_it_is_not_told_is_not_taken_for_the_tenant() {
        let of = |event: Value| {
            organization(&json!({ "tenant": { "name": "acme.com" }, "organization": event }))
        };
        for (event, expected) in [
            (
                json!({ "id": "0a1b-2c", "name": "acme.com" }),
                Some("0a1b-2c"),
            ),
            (json!({ "id": "0a1b-2c", "depth": "0" }), Some("0a1b-2c")),
            (json!({ "id": "0a1b-2c", "depth": -1 }), Some("0a1b-2c")),
            (
                json!({ "id": "0a1b-2c", "orgHandle": "sub.acme.com" }),
                Some("0a1b-2c"),
            ),
            (json!({ "id": "", "depth": 1 }), Some(NOWHERE)),
            // The super tenant's own, of another tenant's event.
            (
                json!({ "id": SUPER_TENANT_ORGANIZATION }),
                Some(SUPER_TENANT_ORGANIZATION),
            ),
            // Only the tenant's own has its name for a handle.
            (json!({ "id": "0a1b-2c", "orgHandle": "ACME.com" }), None),
        ] {
            assert_eq!(of(event.clone()).as_deref(), expected, "{event}");
        }
        // Nor the user's, where that of the event is told.
        let event = json!({
            "organization": { "id": "0a1b-2c", "depth": 1 },
            "user": { "organization": { "id": "10084a8d" } },
        });
        assert_eq!(organization(&event).as_deref(), Some("10084a8d"));
        for tenant in [json!({ "name": "carbon.super" }), Value::Null] {
            let own = json!({ "id": SUPER_TENANT_ORGANIZATION, "name": "Super" });
            let event =
                json!({ "tenant": tenant, "organization": own, "user": { "organization": own } });
            assert_eq!(organization(&event), None);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |body: &str| AuthenticationCall::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error("[]"), CallError::Json);
        assert_eq!(error("{"), CallError::Json);
        assert_eq!(error("{}"), CallError::Kind);
        assert_eq!(
            error(r#"{"actionType":"AUTHENTICATION","flowId":7}"#),
            CallError::Member("flowId")
        );
        let long = format!(r#"{{"decision_id":"{}"}}"#, "x".repeat(513));
        assert_eq!(
            Question::parse(long.as_bytes()).unwrap_err(),
            CallError::Member("decision_id")
        );
        for (body, member) in [
            (r#"{"decision_id":"d","username":["alice"]}"#, "username"),
            (r#"{"decision_id":"d","ip":"example.com"}"#, "ip"),
            (r#"{"decision_id":"d","tenant":""}"#, "tenant"),
        ] {
            assert_eq!(
                Question::parse(body.as_bytes()).unwrap_err(),
                CallError::Member(member)
            );
        }
    }

    #[test]
    fn a_call_of_whatever_form_is_read_without_panic() {
        for broken in [
            json!(null),
            json!(7),
            json!([[]]),
            json!({ "x-risk-decision-id": {} }),
            json!([{ "name": 7 }, { "value": ["d"] }]),
        ] {
            let read = AuthenticationCall::parse(call(broken).to_string().as_bytes()).unwrap();
            assert_eq!(read.decision_id, None);
        }
    }

    #[test]
    fn replies_have_the_form_of_the_contract() {
        let json = |reply: &AuthenticationReply| serde_json::to_value(reply).unwrap();
        assert_eq!(
            json(&AuthenticationReply::Success {}),
            json!({ "actionStatus": "SUCCESS" })
        );
        assert_eq!(
            json(&AuthenticationReply::redirect("https://a/b".to_owned())),
            json!({ "actionStatus": "INCOMPLETE", "operations": [{ "op": "redirect", "url": "https://a/b" }] })
        );
        assert_eq!(
            json(&AuthenticationReply::Failed {
                failure_reason: "r",
                failure_description: "d"
            }),
            json!({ "actionStatus": "FAILED", "failureReason": "r", "failureDescription": "d" })
        );
        assert_eq!(
            json(&AuthenticationReply::Error {
                error_message: "m",
                error_description: "d".to_owned()
            }),
            json!({ "actionStatus": "ERROR", "errorMessage": "m", "errorDescription": "d" })
        );
    }
}
