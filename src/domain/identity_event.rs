//! What WSO2 tells after the fact: an event of its webhooks (IS 7.2 and later, profile `WSO2`; a security event token,
//! RFC 8417, without a signature of its own). Some say afterwards whose an earlier login was.
//!
//! Events are read leniently: what is missing or of another form counts as not said. Only what is no event at all is an error.

use crate::domain::action::CallError;
use crate::domain::action::object;
use crate::domain::action::organization;
use crate::domain::action::text;
use crate::domain::policy::scope::SUPER_TENANT;
use crate::domain::time::Timestamp;
use serde_json::Value;

/// Where the names of WSO2's events begin.
const FAMILY: &str = "https://schemas.identity.wso2.org/events/";
/// Events in one message; WSO2 sends one.
const EVENTS_MAX: usize = 8;
/// Claims of the user that are looked at.
const CLAIMS_MAX: usize = 64;

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// A password or another credential has another value.
    CredentialUpdated,
    /// A session was ended before its time.
    SessionRevoked,
    /// The password was right and a later step failed.
    FactorFailed,
    /// The account was locked, after failures or by somebody.
    AccountLocked,
}

/// Who did it, by WSO2's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Initiator {
    /// The user.
    User,
    /// An administrator.
    Admin,
    /// An application, WSO2 itself, or nobody that it names.
    Other,
}

/// One event about one user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityEvent {
    /// What happened.
    pub what: What,
    /// Who did it.
    pub initiator: Initiator,
    /// The tenant domain.
    pub tenant: String,
    /// The organization that the user is of, where it is not the tenant itself.
    pub organization: Option<String>,
    /// The names by which the user may be known here, the likeliest first; never empty.
    pub names: Vec<String>,
    /// The event's own id (`jti`).
    pub id: Option<String>,
}

/// A message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// When it was made.
    pub at: Timestamp,
    /// Its events, of those that say something here.
    pub events: Vec<IdentityEvent>,
}

impl What {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CredentialUpdated => "credential_updated",
            Self::SessionRevoked => "session_revoked",
            Self::FactorFailed => "factor_failed",
            Self::AccountLocked => "account_locked",
        }
    }

    fn read(name: &str, event: &Value) -> Option<Self> {
        match name.strip_prefix(FAMILY)? {
            "credential/event-type/credentialUpdated" => Some(Self::CredentialUpdated),
            "session/event-type/sessionRevoked" => Some(Self::SessionRevoked),
            "user/event-type/userAccountLocked" => Some(Self::AccountLocked),
            "login/event-type/loginFailed" => {
                let step = event.pointer("/reason/context/failedStep/step")?.as_i64()?;
                (step > 1).then_some(Self::FactorFailed)
            }
            _ => None,
        }
    }
}

impl Initiator {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }

    fn read(event: &Value) -> Self {
        match text(event, "/initiatorType").as_deref() {
            Some("USER") => Self::User,
            Some("ADMIN") => Self::Admin,
            _ => Self::Other,
        }
    }
}

impl Message {
    /// Reads the body of a delivery. An error where it is no message: no JSON object, no `iat` (milliseconds, as WSO2
    /// writes it), no `events`.
    pub fn parse(body: &[u8]) -> Result<Self, CallError> {
        let message = object(body)?;
        let at = message.get("iat").and_then(Value::as_i64);
        let at = at.filter(|at| *at > 0).ok_or(CallError::Member("iat"))?;
        let events = message.get("events").and_then(Value::as_object);
        let events = events.ok_or(CallError::Member("events"))?;
        let id = text(&message, "/jti");
        let told = events
            .iter()
            .take(EVENTS_MAX)
            .filter_map(|(name, event)| IdentityEvent::read(name, event, id.as_ref()));
        Ok(Self {
            at: Timestamp(at),
            events: told.collect(),
        })
    }
}

impl IdentityEvent {
    /// `None` for an event that says nothing here, or is about nobody.
    fn read(name: &str, event: &Value, id: Option<&String>) -> Option<Self> {
        let what = What::read(name, event)?;
        let names = names(event);
        (!names.is_empty()).then(|| Self {
            what,
            initiator: Initiator::read(event),
            tenant: text(event, "/tenant/name").unwrap_or_else(|| SUPER_TENANT.to_owned()),
            organization: organization(event),
            names,
            id: id.cloned(),
        })
    }
}

/// By what a user may have logged in: the username (with its user store, where that is not the first one), the address of
/// mail, the id.
fn names(event: &Value) -> Vec<String> {
    let claims = event.pointer("/user/claims").and_then(Value::as_array);
    let claims = claims.map(Vec::as_slice).unwrap_or_default();
    let claim = |wanted: &str| {
        let is_wanted = |claim: &&Value| claim.get("uri").and_then(Value::as_str) == Some(wanted);
        let found = claims.iter().take(CLAIMS_MAX).find(is_wanted)?;
        text(found, "/value")
    };
    let store = text(event, "/userStore/name").filter(|store| store != "PRIMARY");
    let username = claim("http://wso2.org/claims/username");
    let in_store = match (&store, &username) {
        (Some(store), Some(name)) if !name.contains('/') => Some(format!("{store}/{name}")),
        _ => None,
    };
    let mail = claim("http://wso2.org/claims/emailaddress");
    let names = [in_store, username, mail, text(event, "/user/id")];
    names.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(name: &str, event: Value) -> Vec<u8> {
        let body = json!({
            "iss": "https://localhost:9443/t/example.org",
            "jti": "j1",
            "iat": 1_770_000_000_000_i64,
            "events": { format!("{FAMILY}{name}"): event },
        });
        serde_json::to_vec(&body).unwrap()
    }

    fn about(more: Value) -> Value {
        let mut event = json!({
            "initiatorType": "USER",
            "user": {
                "id": "e204",
                "claims": [
                    { "uri": "http://wso2.org/claims/emailaddress", "value": "a@b.c" },
                    { "uri": "http://wso2.org/claims/username", "value": "alice" },
                ],
            },
            "tenant": { "id": "1", "name": "example.org" },
            "userStore": { "id": "UFJJTUFSWQ==", "name": "PRIMARY" },
        });
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event
    }

    fn only(body: &[u8]) -> IdentityEvent {
        let mut events = Message::parse(body).unwrap().events;
        assert_eq!(events.len(), 1);
        events.remove(0)
    }

    #[test]
    fn what_says_something_is_read() {
        for (name, what) in [
            (
                "credential/event-type/credentialUpdated",
                What::CredentialUpdated,
            ),
            ("session/event-type/sessionRevoked", What::SessionRevoked),
            ("user/event-type/userAccountLocked", What::AccountLocked),
        ] {
            let event = only(&message(name, about(json!({}))));
            assert_eq!((event.what, event.initiator), (what, Initiator::User));
            assert_eq!(event.tenant, "example.org");
            assert_eq!(event.names, ["alice", "a@b.c", "e204"]);
            assert_eq!(event.id.as_deref(), Some("j1"));
        }
        let stored = json!({ "userStore": { "name": "LDAP" }, "initiatorType": "ADMIN" });
        let event = only(&message("session/event-type/sessionRevoked", about(stored)));
        assert_eq!(event.names[..2], ["LDAP/alice", "alice"]);
        assert_eq!(event.initiator, Initiator::Admin);
    }

    #[test]
    fn a_wrong_password_is_nobodys_proof_and_a_failed_factor_may_be() {
        let failed = |step: Value| {
            let reason = json!({ "reason": { "context": { "failedStep": { "step": step } } } });
            let body = message("login/event-type/loginFailed", about(reason));
            Message::parse(&body).unwrap().events
        };
        assert!(failed(json!(1)).is_empty() && failed(json!("2")).is_empty());
        assert_eq!(failed(json!(2))[0].what, What::FactorFailed);
    }

    #[test]
    fn what_says_nothing_here_is_no_error() {
        for body in [
            message("login/event-type/loginSuccess", about(json!({}))),
            message("session/event-type/sessionRevoked", json!({})),
            message("session/event-type/sessionRevoked", json!([1])),
            message(
                "session/event-type/sessionRevoked",
                json!({ "user": { "claims": 7, "id": "" } }),
            ),
            br#"{"iat":1,"events":{"https://example.org/other":{"user":{"id":"a"}}}}"#.to_vec(),
            br#"{"iat":1,"events":{}}"#.to_vec(),
        ] {
            assert!(Message::parse(&body).unwrap().events.is_empty());
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (body, error) in [
            (&b""[..], CallError::Json),
            (b"[]", CallError::Json),
            (b"{}", CallError::Member("iat")),
            (br#"{"iat":"1","events":{}}"#, CallError::Member("iat")),
            (br#"{"iat":-1,"events":{}}"#, CallError::Member("iat")),
            (br#"{"iat":1}"#, CallError::Member("events")),
            (br#"{"iat":1,"events":[]}"#, CallError::Member("events")),
        ] {
            assert_eq!(Message::parse(body).unwrap_err(), error);
        }
    }
}
