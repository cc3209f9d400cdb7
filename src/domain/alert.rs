//! What somebody is told of a decision at once: which decisions, which of their facts, how a message is signed, when it is
//! tried again. Facts are those of the record, pseudonymous; nothing is sent here.

use crate::domain::audit::AuditEvent;
use crate::domain::audit::Word;
use crate::domain::mac::hmac_sha256;
use crate::domain::policy::decision::Verdict;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use serde::Serialize;
use std::time::Duration;

/// Alerts in one message at most.
pub const BATCH_MAX: usize = 100;

/// After which times a message that was not taken is sent again. Then it is given up.
pub const RETRIES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Which decisions are told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertRule {
    /// By what policy said, whatever the mode did.
    pub verdicts: Vec<Verdict>,
    /// By score: from these points on, 1 to 100; `None` for none.
    pub score_min: Option<u8>,
}

/// What is told of one decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// The id of the decision, as in the record.
    pub id: String,
    /// When the exchange began.
    pub time: String,
    /// The door.
    pub door: Option<Word>,
    /// The tenant domain.
    pub tenant: Option<String>,
    /// The OAuth client id.
    pub client_id: Option<String>,
    /// The pseudonym of the user.
    pub subject: Option<String>,
    /// The pseudonym of the address.
    pub address: Option<String>,
    /// ISO 3166 country code.
    pub country: Option<String>,
    /// The score, 0 to 100.
    pub score: Option<u8>,
    /// `low`, `medium` or `high`.
    pub level: Option<Word>,
    /// What policy said.
    pub verdict: Option<Word>,
    /// Reason codes, strongest first.
    pub reasons: Vec<Word>,
    /// The mode: whether it was acted on.
    pub mode: Option<Word>,
    /// What was done.
    pub action: Word,
    /// How the attempt ended.
    pub outcome: Word,
    /// What is to be said beside, where it is not about one decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One message: what is sent as its body.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertMessage<'a> {
    /// `risk.alerts`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The alerts, oldest first; 1 to [`BATCH_MAX`].
    pub alerts: &'a [Alert],
    /// How many could not be told since the last message that was taken.
    pub lost: u64,
}

/// What became of one attempt to deliver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Receipt {
    /// It was taken.
    Taken,
    /// It may be taken later.
    Later,
    /// It will not be taken.
    Never,
}

impl AlertRule {
    /// The alert about a record, if it is one to be told.
    pub fn alert(&self, event: &AuditEvent) -> Option<Alert> {
        let is_said = self
            .verdicts
            .iter()
            .any(|verdict| event.verdict.as_deref() == Some(verdict.as_str()));
        let is_high = self
            .score_min
            .is_some_and(|bound| event.score.is_some_and(|score| score >= bound));
        // An operator's own word about a held login is a record as well.
        let is_decision = event.class == "scored" && (is_said || is_high);
        let is_fall =
            event.class == "rollout" && matches!(&*event.action, "fell_back" | "over_budget");
        (is_decision || is_fall).then(|| Alert {
            id: event.id.clone(),
            time: event.time.clone(),
            door: event.door.clone(),
            tenant: event.tenant.clone(),
            client_id: event.client_id.clone(),
            subject: event.subject.clone(),
            address: event.address.clone(),
            country: event.country.clone(),
            score: event.score,
            level: event.level.clone(),
            verdict: event.verdict.clone(),
            reasons: event.reasons.clone(),
            mode: event.mode.clone(),
            action: event.action.clone(),
            outcome: event.outcome.clone(),
            note: event.note.clone().filter(|_| is_fall),
        })
    }
}

impl Receipt {
    /// By the status of an answer. Redirects are not followed: where a message goes is the operator's word alone.
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            408 | 425 | 429 | 500..=599 => Self::Later,
            _ => Self::Never,
        }
    }
}

/// The signature of a message, in the form of Standard Webhooks 1.0: `v1,` and the HMAC-SHA256 of id, seconds and body in
/// Base64.
pub fn signature(secret: &[u8], id: &str, seconds: i64, body: &[u8]) -> String {
    let mut mac = hmac_sha256(secret);
    mac.update(id.as_bytes());
    mac.update(format!(".{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(verdict: &'static str, score: Option<u8>) -> AuditEvent {
        AuditEvent {
            class: "scored".into(),
            id: "0199".to_owned(),
            verdict: Some(verdict.into()),
            score,
            ja4: Some("t13d".to_owned()),
            ..AuditEvent::default()
        }
    }

    #[test]
    fn a_decision_is_told_by_verdict_or_score() {
        let rule = AlertRule {
            verdicts: vec![Verdict::Block, Verdict::Review],
            score_min: Some(71),
        };
        for (verdict, score, told) in [
            ("block", None, true),
            ("review", Some(10), true),
            ("step_up", Some(70), false),
            ("step_up", Some(71), true),
            ("allow", Some(100), true),
            ("allow", None, false),
        ] {
            let alert = rule.alert(&event(verdict, score));
            assert_eq!(alert.is_some(), told, "{verdict} {score:?}");
        }
        let word = AuditEvent {
            class: "own".into(),
            ..event("block", Some(100))
        };
        assert_eq!(rule.alert(&word), None);
        let silent = AlertRule {
            verdicts: Vec::new(),
            score_min: None,
        };
        // That a stage is no longer enforced is told whatever else is.
        for (action, told) in [
            ("fell_back", true),
            ("over_budget", true),
            ("promoted", false),
        ] {
            let fall = AuditEvent {
                class: "rollout".into(),
                action: action.into(),
                note: Some("3 of 20".to_owned()),
                ..AuditEvent::default()
            };
            let note = silent.alert(&fall).map(|alert| alert.note);
            assert_eq!(note, told.then(|| Some("3 of 20".to_owned())), "{action}");
        }
        assert_eq!(silent.alert(&event("block", Some(100))), None);
    }

    #[test]
    fn a_message_is_signed_as_others_verify_it() {
        // Worked out with Python's hmac and base64.
        assert_eq!(
            signature(
                b"0123456789abcdef0123456789abcdef",
                "msg_1",
                1_700_000_000,
                b"{}"
            ),
            "v1,2c4VI0bO4Wd5svqP2unEA9pCk0dTAXr/elrHCJ+/efk="
        );
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, receipt) in [
            (200, Receipt::Taken),
            (204, Receipt::Taken),
            (302, Receipt::Never),
            (400, Receipt::Never),
            (401, Receipt::Never),
            (410, Receipt::Never),
            (408, Receipt::Later),
            (429, Receipt::Later),
            (500, Receipt::Later),
            (503, Receipt::Later),
            (100, Receipt::Never),
        ] {
            assert_eq!(Receipt::of_status(status), receipt, "{status}");
        }
    }
}
