//! The queue as operators see it and answer it, in JSON and as a table: the same on the listener and on the command line.

use super::ReviewQueue;
use super::Standing;
use super::printable as shown;
use crate::domain::printable;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// What the listener answers to who asks for the queue.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Held logins, oldest first.
    pub logins: Vec<Entry>,
}

/// One held login.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// `waiting`, `released`, `refused`, `spent`.
    pub state: String,
    /// When it was held, RFC 3339.
    pub at: String,
    /// Seconds since then.
    pub age_seconds: u64,
    /// Seconds until it leaves the queue.
    pub left_seconds: u64,
    /// The tenant domain.
    pub tenant: String,
    /// The application; empty when the request named none.
    pub application: String,
    /// The pseudonym of the user, if the request named one.
    pub subject: Option<String>,
    /// Whether the user has logged in with this device before.
    pub known_device: bool,
    /// The door.
    pub door: String,
    /// The score, 0 to 100.
    pub score: Option<u8>,
    /// Codes of the reasons.
    pub reasons: Vec<String>,
    /// ISO 3166 code.
    pub country: Option<String>,
    /// `residential`, `vpn`, `hosting`, `tor`.
    pub network: Option<String>,
    /// The decision that held it, as in the audit record.
    pub decision_id: String,
    /// Who decided.
    pub operator: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What the listener answers to a decision, and to what it cannot do.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The whole id of the login that was decided about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Listing {
    /// The queue at `now`: those that wait, or all.
    pub fn of(queue: &ReviewQueue, all: bool, now: Timestamp) -> Self {
        let shown = queue.items().iter().filter(|item| now < item.expires);
        let logins = shown
            .filter(|item| all || item.standing(now) == Standing::Waiting)
            .map(|item| Entry {
                id: item.id.to_string(),
                state: item.standing(now).as_str().to_owned(),
                at: item.at.to_rfc3339(),
                age_seconds: now.since(item.at).as_secs(),
                left_seconds: item.expires.since(now).as_secs(),
                tenant: item.tenant.clone(),
                application: item.application.clone(),
                subject: item.subject.map(|subject| subject.to_string()),
                known_device: item.known_device,
                door: item.door.clone(),
                score: item.score,
                reasons: item.reasons.clone(),
                country: item.country.clone(),
                network: item.network.clone(),
                decision_id: item.decision_id.to_string(),
                operator: item.ruling.as_ref().map(|ruling| ruling.operator.clone()),
                reason: item
                    .ruling
                    .as_ref()
                    .map(|ruling| ruling.reason.clone())
                    .filter(|reason| !reason.is_empty()),
            })
            .collect();
        Self { logins }
    }

    /// Reads what [`Listing::json`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As JSON.
    pub fn json(&self) -> String {
        printable::json(self).unwrap_or_default()
    }

    /// As a table for people, a line each. What came from requests is shown without anything that a terminal acts on.
    pub fn table(&self) -> String {
        if self.logins.is_empty() {
            return "no login waits for review\n".to_owned();
        }
        let mut text = format!(
            "{:<8}  {:<8}  {:>5}  {:>5}  {:<16}  {:<16}  {:<8}  {:<6}  {:<7}  {:<11}  reasons\n",
            "id",
            "state",
            "age",
            "score",
            "tenant",
            "application",
            "user",
            "device",
            "country",
            "network"
        );
        for login in &self.logins {
            let _infallible = writeln!(
                text,
                "{:<8}  {:<8}  {:>5}  {:>5}  {:<16}  {:<16}  {:<8}  {:<6}  {:<7}  {:<11}  {}",
                front(&login.id, 8),
                front(&login.state, 8),
                age(Duration::from_secs(login.age_seconds)),
                login
                    .score
                    .map_or_else(|| "-".to_owned(), |score| score.to_string()),
                front(&login.tenant, 16),
                front(&login.application, 16),
                login
                    .subject
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), |subject| front(subject, 8)),
                if login.known_device { "known" } else { "new" },
                login
                    .country
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), shown),
                login
                    .network
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), shown),
                shown(&login.reasons.join(","))
            );
        }
        text
    }
}

impl Answer {
    /// Reads what [`Answer::json`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As JSON.
    pub fn json(&self) -> String {
        printable::json(self).unwrap_or_default()
    }
}

fn front(text: &str, chars: usize) -> String {
    shown(text).chars().take(chars).collect()
}

fn age(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    }
}
