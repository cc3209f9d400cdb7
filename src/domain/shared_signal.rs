//! What receivers of the operator's are told of users, in the words of the Shared Signals Framework 1.0 and CAEP 1.0: which
//! events there are, the security event token (RFC 8417) that carries one, and what a receiver answers to it (RFC 8935).
//! Users are named by their pseudonym (RFC 9493, `opaque`), or as the identity server names them to the receiver (`iss_sub`).
//! Nothing is signed or sent here.

/// Events that wait until a user's name is known.
pub mod held;

/// Tokens that wait until they are fetched.
pub mod poll;

/// From records to events.
pub mod watch;

use crate::domain::alert::Receipt;
use crate::domain::audit::Word;
use crate::domain::printable;
use crate::domain::risk::RiskLevel;
use crate::domain::route::KEYS_PATH;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The `typ` of a security event token (RFC 8417 section 2.3).
pub const SET_TYPE: &str = "secevent+jwt";
/// The media type of one that is pushed (RFC 8935 section 2.1).
pub const SET_MEDIA_TYPE: &str = "application/secevent+jwt";
/// The longest answer of a receiver that is looked at, in bytes.
pub const REFUSAL_BYTES_MAX: usize = 4_096;
/// The longest part of a receiver's text that is written down, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// What a receiver can be told of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignalKind {
    /// Decisions give a user another level than before.
    RiskLevelChange,
    /// The sessions of a user must end.
    SessionRevoked,
}

/// Who brought an event about (CAEP 1.0 section 2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Initiator {
    /// An analyst, or an administrator at the identity server.
    Admin,
    /// The risk policy.
    Policy,
    /// The identity server.
    System,
}

/// What has happened to a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Happening {
    /// Another level.
    Level {
        /// The level before, where it is known.
        previous: Option<RiskLevel>,
        /// The level now.
        current: RiskLevel,
        /// Reason codes, strongest first.
        reasons: Vec<Word>,
    },
    /// The sessions must end.
    Revoked {
        /// Why, in a sentence for administrators.
        reason: &'static str,
    },
}

/// One event about one user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signal {
    /// Whom it is about: the pseudonym under which the state keeps them.
    pub subject: String,
    /// What has happened.
    pub what: Happening,
    /// Who brought it about.
    pub initiator: Initiator,
    /// When.
    pub at: Timestamp,
    /// The id of the decision, or of the record that says so.
    pub decision: String,
}

/// What makes the token of one receiver out of an event.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Who says so.
    pub issuer: &'a str,
    /// Who is told.
    pub audience: &'a str,
    /// The id of the token, unlike every other.
    pub id: &'a str,
    /// When the token was made.
    pub at: Timestamp,
    /// The user's name where it is not the pseudonym.
    pub name: Option<&'a Named>,
}

/// How the identity server names a user to a client (RFC 9493 section 3.2.4).
#[derive(Clone, Eq, PartialEq)]
pub struct Named {
    /// The issuer.
    pub iss: String,
    /// The user, as this issuer says to this client.
    pub sub: String,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Named({}, [redacted])", self.iss)
    }
}

/// A signed token, on its way to one receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// Its `jti`.
    pub id: String,
    /// What it tells of.
    pub kind: SignalKind,
    /// The token itself.
    pub text: String,
}

/// An event on its way to a receiver that reads no tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// Its id, unlike every other.
    pub id: String,
    /// The event.
    pub signal: Signal,
}

/// Why a receiver does not take a token (RFC 8935 section 2.4).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Refusal {
    /// The code.
    pub err: String,
    /// In words.
    #[serde(default)]
    pub description: String,
}

impl SignalKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::RiskLevelChange, Self::SessionRevoked];

    /// As it is written in the configuration, and as the last part of its URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RiskLevelChange => "risk-level-change",
            Self::SessionRevoked => "session-revoked",
        }
    }

    /// The event type (CAEP 1.0 section 3).
    pub fn uri(self) -> &'static str {
        match self {
            Self::RiskLevelChange => {
                "https://schemas.openid.net/secevent/caep/event-type/risk-level-change"
            }
            Self::SessionRevoked => {
                "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
            }
        }
    }
}

impl Initiator {
    /// As CAEP names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Policy => "policy",
            Self::System => "system",
        }
    }
}

impl Signal {
    /// Which kind of event it is.
    pub fn kind(&self) -> SignalKind {
        match self.what {
            Happening::Level { .. } => SignalKind::RiskLevelChange,
            Happening::Revoked { .. } => SignalKind::SessionRevoked,
        }
    }

    /// The claims of the token that tells a receiver (SSF 1.0 section 4: `sub_id` and no `sub`, no `exp`).
    pub fn claims(&self, envelope: &Envelope<'_>) -> Value {
        let mut event = Map::new();
        let mut say = |name: &str, value: Value| event.insert(name.to_owned(), value);
        say("event_timestamp", self.at.seconds().into());
        say("initiating_entity", self.initiator.as_str().into());
        match &self.what {
            Happening::Level {
                previous,
                current,
                reasons,
            } => {
                say("principal", "USER".into());
                say("current_level", level(*current).into());
                if let Some(previous) = previous {
                    say("previous_level", level(*previous).into());
                }
                // It must be there; a decision that is low may have no reasons.
                let reasons = match reasons.as_slice() {
                    [] => "none".to_owned(),
                    some => some.join(" "),
                };
                say("risk_reason", reasons.into());
            }
            Happening::Revoked { reason } => drop(say("reason_admin", json!({ "en": reason }))),
        }
        let subject = match envelope.name {
            Some(Named { iss, sub }) => json!({ "format": "iss_sub", "iss": iss, "sub": sub }),
            None => json!({ "format": "opaque", "id": self.subject }),
        };
        json!({
            "iss": envelope.issuer,
            "aud": envelope.audience,
            "jti": envelope.id,
            "iat": envelope.at.seconds(),
            "txn": self.decision,
            "sub_id": subject,
            "events": { self.kind().uri(): event },
        })
    }
}

impl Notice {
    /// The event in the words of records and alerts.
    fn json(&self) -> Value {
        let signal = &self.signal;
        let mut event = Map::new();
        let mut say = |name: &str, value: Value| event.insert(name.to_owned(), value);
        say("id", self.id.as_str().into());
        say("event", signal.kind().as_str().into());
        say("time", signal.at.to_rfc3339().into());
        say("subject", signal.subject.as_str().into());
        say("decision_id", signal.decision.as_str().into());
        say("initiator", signal.initiator.as_str().into());
        match &signal.what {
            Happening::Level {
                previous,
                current,
                reasons,
            } => {
                say("level", current.as_str().into());
                say(
                    "previous_level",
                    previous.map_or(Value::Null, |level| level.as_str().into()),
                );
                say("reasons", json!(reasons));
            }
            Happening::Revoked { reason } => drop(say("reason", (*reason).into())),
        }
        event.into()
    }
}

/// The body of a message with these events, the oldest first. `lost` are those that could not be told since the last one that
/// was taken.
pub fn notices(notices: &[Notice], lost: u64) -> Value {
    let signals: Vec<Value> = notices.iter().map(Notice::json).collect();
    json!({ "type": "risk.signals", "lost": lost, "signals": signals })
}

impl Refusal {
    /// Reads the body of an answer; `None` when it says nothing in this form.
    pub fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body.get(..REFUSAL_BYTES_MAX).unwrap_or(body)).ok()
    }

    /// Whether the same token may be taken later: a receiver that does not know the key yet reads the key set anew.
    pub fn may_pass(&self) -> bool {
        self.err == "invalid_key"
    }

    /// What may be written down of it.
    pub fn text(&self) -> String {
        let said = format!("{}: {}", self.err, self.description);
        let short: String = said.chars().take(TEXT_CHARS_MAX).collect();
        printable::plain(&short).into_owned()
    }
}

/// What a transmitter says of itself (SSF 1.0 section 7.1). Streams are those of its configuration: there are no endpoints at
/// which receivers could make or change them, so none are named.
pub fn metadata(issuer: &str) -> Value {
    json!({
        "spec_version": "1_0",
        "issuer": issuer,
        "jwks_uri": format!("{issuer}{KEYS_PATH}"),
        "delivery_methods_supported": ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"],
        "default_subjects": "ALL",
    })
}

/// What became of an attempt, by status and body of the answer.
pub fn receipt(status: u16, body: &[u8]) -> (Receipt, String) {
    let said = Refusal::parse(body).filter(|_| !(200..300).contains(&status));
    let receipt = match Receipt::of_status(status) {
        Receipt::Never if said.as_ref().is_some_and(Refusal::may_pass) => Receipt::Later,
        receipt => receipt,
    };
    let why = match said {
        Some(said) => format!("the receiver answers {status}: {}", said.text()),
        None => format!("the receiver answers {status}"),
    };
    (receipt, why)
}

fn level(level: RiskLevel) -> &'static str {
    match level {
        RiskLevel::Low => "LOW",
        RiskLevel::Medium => "MEDIUM",
        RiskLevel::High => "HIGH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope<'_> = Envelope {
        issuer: "https://sso.example.com",
        audience: "https://app.example.com/",
        id: "0a1b",
        at: Timestamp(1_700_000_001_500),
        name: None,
    };

    fn signal(what: Happening, initiator: Initiator) -> Signal {
        Signal {
            subject: "9f0c".to_owned(),
            what,
            initiator,
            at: Timestamp(1_700_000_000_900),
            decision: "0199".to_owned(),
        }
    }

    #[test]
    fn a_change_of_level_has_the_claims_of_the_profile() {
        let change = Happening::Level {
            previous: Some(RiskLevel::Low),
            current: RiskLevel::High,
            reasons: vec!["impossible_travel".into(), "ip_velocity".into()],
        };
        let claims = signal(change, Initiator::Policy).claims(&ENVELOPE);
        assert_eq!(
            claims,
            json!({
                "iss": "https://sso.example.com",
                "aud": "https://app.example.com/",
                "jti": "0a1b",
                "iat": 1_700_000_001,
                "txn": "0199",
                "sub_id": { "format": "opaque", "id": "9f0c" },
                "events": { "https://schemas.openid.net/secevent/caep/event-type/risk-level-change": {
                    "principal": "USER",
                    "current_level": "HIGH",
                    "previous_level": "LOW",
                    "risk_reason": "impossible_travel ip_velocity",
                    "initiating_entity": "policy",
                    "event_timestamp": 1_700_000_000,
                } },
            })
        );
        // What is not known is not said; what must be said is.
        let first = Happening::Level {
            previous: None,
            current: RiskLevel::Medium,
            reasons: Vec::new(),
        };
        let claims = signal(first, Initiator::Policy).claims(&ENVELOPE);
        let event = &claims["events"][SignalKind::RiskLevelChange.uri()];
        assert_eq!(event.get("previous_level"), None);
        assert_eq!(event["risk_reason"], "none");
    }

    #[test]
    fn a_revocation_has_the_claims_of_the_profile() {
        let revoked = Happening::Revoked { reason: "because" };
        let claims = signal(revoked, Initiator::Admin).claims(&ENVELOPE);
        assert_eq!(
            claims["events"],
            json!({ "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {
                "initiating_entity": "admin",
                "reason_admin": { "en": "because" },
                "event_timestamp": 1_700_000_000,
            } })
        );
        assert_eq!((claims.get("sub"), claims.get("exp")), (None, None));
        // Who knows the user by another name is told that one alone.
        let name = Named {
            iss: "https://is.example.com/oauth2/token".to_owned(),
            sub: "alice".to_owned(),
        };
        let envelope = Envelope {
            name: Some(&name),
            ..ENVELOPE
        };
        let named = signal(Happening::Revoked { reason: "because" }, Initiator::Admin);
        let named = named.claims(&envelope);
        assert_eq!(
            named["sub_id"],
            json!({ "format": "iss_sub", "iss": "https://is.example.com/oauth2/token", "sub": "alice" })
        );
        assert!(!named.to_string().contains("9f0c"));
        assert!(!format!("{name:?}").contains("alice"));
    }

    #[test]
    fn who_reads_no_tokens_is_told_the_same_in_plain_words() {
        let notice = |id: &str, signal| Notice {
            id: id.to_owned(),
            signal,
        };
        let change = Happening::Level {
            previous: None,
            current: RiskLevel::High,
            reasons: vec!["impossible_travel".into()],
        };
        let revoked = Happening::Revoked { reason: "because" };
        let both = [
            notice("0a", signal(change, Initiator::Policy)),
            notice("0b", signal(revoked, Initiator::Admin)),
        ];
        let time = "2023-11-14T22:13:20.900Z";
        assert_eq!(
            notices(&both, 3),
            json!({ "type": "risk.signals", "lost": 3, "signals": [
                { "id": "0a", "event": "risk-level-change", "time": time, "subject": "9f0c",
                  "decision_id": "0199", "initiator": "policy", "level": "high", "previous_level": null,
                  "reasons": ["impossible_travel"] },
                { "id": "0b", "event": "session-revoked", "time": time, "subject": "9f0c",
                  "decision_id": "0199", "initiator": "admin", "reason": "because" },
            ] })
        );
    }

    #[test]
    fn kinds_are_written_as_their_events_are_named() {
        for kind in SignalKind::ALL {
            assert!(kind.uri().ends_with(&format!("/{}", kind.as_str())));
            assert_eq!(json!(kind), kind.as_str());
        }
    }

    #[test]
    fn a_refusal_is_read_and_only_what_may_pass_is_tried_again() {
        let said = |err: &str| format!("{{\"err\":\"{err}\",\"description\":\"no\"}}");
        for (status, body, receipt_is, why_is) in [
            (202, "", Receipt::Taken, "the receiver answers 202"),
            (
                202,
                "{\"err\":\"x\"}",
                Receipt::Taken,
                "the receiver answers 202",
            ),
            (
                400,
                &said("invalid_audience"),
                Receipt::Never,
                "the receiver answers 400: invalid_audience: no",
            ),
            (
                400,
                &said("invalid_key"),
                Receipt::Later,
                "the receiver answers 400: invalid_key: no",
            ),
            (400, "<html>", Receipt::Never, "the receiver answers 400"),
            (
                401,
                &said("authentication_failed"),
                Receipt::Never,
                "the receiver answers 401: authentication_failed: no",
            ),
            (503, "", Receipt::Later, "the receiver answers 503"),
            (302, "", Receipt::Never, "the receiver answers 302"),
        ] {
            let (receipt, why) = receipt(status, body.as_bytes());
            assert_eq!(
                (receipt, why.as_str()),
                (receipt_is, why_is),
                "{status} {body}"
            );
        }
        // Nothing of a hostile text acts on a terminal, and it does not fill a disk.
        let hostile = json!({ "err": "x\u{1b}[2J", "description": "y".repeat(3_000) }).to_string();
        let (_, why) = receipt(400, hostile.as_bytes());
        assert!(
            !why.contains('\u{1b}') && why.chars().count() < 300,
            "{why}"
        );
    }
}
