//! What is known of decisions afterwards: whether a request was the user's own. A label has a source, and how much that is
//! worth; of several about one decision the one that is worth most counts, the latest of equals.

use crate::domain::audit::AuditEvent;
use crate::domain::printable;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use std::collections::VecDeque;

/// How long after a demand a proof still belongs to it, in milliseconds: as long as a login in progress is remembered.
const PROOF_WITHIN: i64 = 15 * 60 * 1000;
/// How long after a login from an unfamiliar device a changed credential or an ended session speaks against it, in
/// milliseconds.
const REGRET_WITHIN: i64 = 24 * 60 * 60 * 1000;
/// Decisions of one user that wait for a proof.
const WAITING_MAX: usize = 16;
/// Users with such decisions.
const USERS_MAX: usize = 200_000;
/// Held logins that wait for an analyst's word.
const HELD_MAX: usize = 200_000;

/// The longest note of an analyst, in characters.
pub const NOTE_CHARS_MAX: usize = 500;
/// The longest name of an operator or of a kind of attacker.
pub const NAME_CHARS_MAX: usize = 64;

/// Whether a request was the user's own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// It was somebody else's.
    Compromised,
    /// It was the user's own.
    Safe,
}

/// Where a label is from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An analyst has said so.
    Analyst,
    /// An analyst has released or refused the login that was held.
    Review,
    /// The second factor that was asked for was proved soon after.
    StepUp,
    /// WSO2 locked the account soon after.
    AccountLocked,
    /// The credential was changed soon after.
    CredentialUpdated,
    /// A session was ended before its time soon after.
    SessionRevoked,
    /// WSO2 asked for a further factor soon after, and it was wrong.
    FactorFailed,
}

/// One label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The id of the decision.
    pub id: String,
    /// What it says.
    pub label: Truth,
    /// Where it is from.
    pub source: Source,
    /// How much it is worth, in percent.
    pub confidence: u8,
    /// When it was given, RFC 3339 in UTC.
    pub time: String,
    /// Who gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The kind of attacker, as in figures of models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacker_kind: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The labels of many decisions, one each.
#[derive(Clone, Debug, Default)]
pub struct LabelSet(HashMap<String, Label>);

/// Finds out what later records say of earlier ones. Records are given in the order in which they were written, which for a
/// request is that of its end: an event to which it led may come before it.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// By user: decisions that asked for a factor, and when.
    asked: HashMap<String, VecDeque<(String, Timestamp)>>,
    /// By user: logins from devices that were not known, and when.
    unfamiliar: HashMap<String, VecDeque<(String, Timestamp)>>,
    /// By user: the latest event that speaks against logins before it, when, and as it is written.
    told: HashMap<String, (Source, Timestamp, String)>,
    /// By held login: the decision that held it.
    held: HashMap<String, String>,
}

impl Truth {
    /// As it is written in training data: whether it was an attack.
    pub fn is_attack(self) -> bool {
        self == Self::Compromised
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compromised => "compromised",
            Self::Safe => "safe",
        }
    }
}

impl Source {
    /// How much its labels are worth, in percent. An analyst may err; whoever has a second factor may have stolen it, or
    /// have talked its owner into giving it.
    pub fn confidence(self) -> u8 {
        match self {
            Self::Analyst => 95,
            Self::Review => 90,
            Self::StepUp => 80,
            // People forget passwords and end sessions of their own: these are hints, which an export can leave out.
            Self::AccountLocked => 60,
            Self::CredentialUpdated | Self::SessionRevoked => 50,
            Self::FactorFailed => 40,
        }
    }

    /// What an event of WSO2's makes one, and how long after a decision, in milliseconds.
    fn of_event(action: &str) -> Option<(Self, i64)> {
        match action {
            "account_locked" => Some((Self::AccountLocked, PROOF_WITHIN)),
            "credential_updated" => Some((Self::CredentialUpdated, REGRET_WITHIN)),
            "session_revoked" => Some((Self::SessionRevoked, REGRET_WITHIN)),
            "factor_failed" => Some((Self::FactorFailed, PROOF_WITHIN)),
            _ => None,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Analyst => "analyst",
            Self::Review => "review",
            Self::StepUp => "step_up",
            Self::AccountLocked => "account_locked",
            Self::CredentialUpdated => "credential_updated",
            Self::SessionRevoked => "session_revoked",
            Self::FactorFailed => "factor_failed",
        }
    }
}

impl Label {
    /// What an analyst says of a decision. Texts are cut and do nothing to what shows them.
    pub fn of_analyst(
        id: &str,
        label: Truth,
        operator: &str,
        attacker_kind: Option<&str>,
        note: Option<&str>,
        time: String,
    ) -> Self {
        let text = |text: Option<&str>, most: usize| {
            let text = text.map(|text| kept(text, most));
            text.filter(|text| !text.is_empty())
        };
        Self {
            id: id.to_owned(),
            label,
            source: Source::Analyst,
            confidence: Source::Analyst.confidence(),
            time,
            operator: Some(kept(operator, NAME_CHARS_MAX)),
            attacker_kind: text(attacker_kind, NAME_CHARS_MAX),
            note: text(note, NOTE_CHARS_MAX),
        }
    }

    /// Whether another one is the same word of the same operator, at whatever time.
    pub fn says_as(&self, other: &Self) -> bool {
        let timeless = Self {
            time: other.time.clone(),
            ..self.clone()
        };
        timeless == *other
    }
}

impl LabelSet {
    /// Takes a label; the one that is worth more stays, and the later one of equals.
    pub fn add(&mut self, label: Label) {
        match self.0.get(&label.id) {
            Some(known) if known.confidence > label.confidence => {}
            Some(_) | None => {
                self.0.insert(label.id.clone(), label);
            }
        }
    }

    /// The label of a decision.
    pub fn of(&self, id: &str) -> Option<&Label> {
        self.0.get(id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels that are worth at least `confidence`, by id.
    pub fn sorted(&self, confidence: u8) -> Vec<&Label> {
        let worth = |label: &&Label| label.confidence >= confidence;
        let mut labels: Vec<&Label> = self.0.values().filter(worth).collect();
        labels.sort_by(|a, b| a.id.cmp(&b.id));
        labels
    }
}

impl Observer {
    /// What a record says of decisions before it.
    pub fn observe(&mut self, event: &AuditEvent) -> Vec<Label> {
        if event.class == "review" {
            return self.ruled(event).into_iter().collect();
        }
        if let (Some(held), Some("held")) = (&event.review, event.review_state.as_deref())
            && self.held.len() < HELD_MAX
        {
            self.held.insert(held.clone(), event.id.clone());
        }
        let (Some(subject), Some(at)) = (&event.subject, Timestamp::from_rfc3339(&event.time))
        else {
            return Vec::new();
        };
        if event.class == "event" {
            return self.regretted(event, subject, at);
        }
        let mut labels = Vec::new();
        let is_login = event.door.as_deref() == Some("login") && event.score.is_some();
        if is_login
            && event
                .device
                .as_deref()
                .is_some_and(|device| device != "known")
        {
            // It had begun when the event came.
            match self.told.get(subject).filter(|(_, told, _)| at <= *told) {
                Some((source, _, time)) => {
                    let id = event.id.clone();
                    labels.push(label(id, Truth::Compromised, *source, time));
                }
                None => keep(&mut self.unfamiliar, subject, &event.id, at),
            }
        }
        if event.proof.as_deref() == Some("proven") {
            // Whoever has the factor is the user, unless more than a hint says otherwise.
            self.unfamiliar.remove(subject);
            let asked = self.asked.remove(subject).unwrap_or_default();
            let recent = asked
                .into_iter()
                .filter(|(_, then)| at.millis() - then.millis() <= PROOF_WITHIN);
            labels
                .extend(recent.map(|(id, _)| label(id, Truth::Safe, Source::StepUp, &event.time)));
            return labels;
        }
        let asks =
            event.verdict.as_deref() == Some("step_up") && event.door.as_deref() != Some("token");
        if asks {
            keep(&mut self.asked, subject, &event.id, at);
        }
        labels
    }

    /// What happened to an account says something of the logins before it that its own devices have not made.
    fn regretted(&mut self, event: &AuditEvent, subject: &str, at: Timestamp) -> Vec<Label> {
        let Some((source, within)) = Source::of_event(&event.action) else {
            return Vec::new();
        };
        if self.told.len() < USERS_MAX || self.told.contains_key(subject) {
            let told = (source, at, event.time.clone());
            self.told.insert(subject.to_owned(), told);
        }
        let logins = self.unfamiliar.remove(subject).unwrap_or_default();
        let recent = logins
            .into_iter()
            .filter(|(_, then)| at.millis() - then.millis() <= within);
        recent
            .map(|(id, _)| label(id, Truth::Compromised, source, &event.time))
            .collect()
    }

    /// An analyst's word about a held login is one about the request that was held.
    fn ruled(&mut self, event: &AuditEvent) -> Option<Label> {
        let truth = match &*event.action {
            "released" => Truth::Safe,
            "refused" => Truth::Compromised,
            _ => return None,
        };
        let decision = self.held.get(event.review.as_deref()?)?;
        let mut label = label(decision.clone(), truth, Source::Review, &event.time);
        label.operator.clone_from(&event.operator);
        label.note = event.note.clone().filter(|note| !note.is_empty());
        Some(label)
    }
}

/// Keeps a decision of a user: the latest few, of so many users.
fn keep(
    waiting: &mut HashMap<String, VecDeque<(String, Timestamp)>>,
    subject: &str,
    id: &str,
    at: Timestamp,
) {
    if waiting.len() >= USERS_MAX && !waiting.contains_key(subject) {
        return;
    }
    let waiting = waiting.entry(subject.to_owned()).or_default();
    waiting.push_back((id.to_owned(), at));
    if waiting.len() > WAITING_MAX {
        waiting.pop_front();
    }
}

fn label(id: String, truth: Truth, source: Source, time: &str) -> Label {
    Label {
        id,
        label: truth,
        source,
        confidence: source.confidence(),
        time: time.to_owned(),
        operator: None,
        attacker_kind: None,
        note: None,
    }
}

/// A text for a record: without anything that a terminal or a reader of logs could act on, and not too long.
fn kept(text: &str, most: usize) -> String {
    let kept = text.chars().filter(|c| !printable::acts(*c));
    let kept: String = kept.take(most).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, minute: u32, change: impl FnOnce(&mut AuditEvent)) -> AuditEvent {
        let mut event = AuditEvent {
            id: id.to_owned(),
            time: format!("2026-11-26T10:{minute:02}:00.000Z"),
            class: "scored".into(),
            subject: Some("u".to_owned()),
            ..AuditEvent::default()
        };
        change(&mut event);
        event
    }

    fn asked(id: &str, minute: u32) -> AuditEvent {
        event(id, minute, |event| {
            event.door = Some("login".into());
            event.verdict = Some("step_up".into());
        })
    }

    fn proven(id: &str, minute: u32) -> AuditEvent {
        event(id, minute, |event| {
            event.door = Some("token".into());
            event.proof = Some("proven".into());
        })
    }

    #[test]
    fn a_factor_that_was_given_soon_says_that_it_was_the_user() {
        let mut observer = Observer::default();
        for one in [asked("old", 0), asked("new", 20)] {
            assert!(observer.observe(&one).is_empty());
        }
        let other = event("x", 21, |event| {
            event.subject = Some("v".to_owned());
            event.proof = Some("proven".into());
        });
        assert!(observer.observe(&other).is_empty());
        let labels = observer.observe(&proven("p", 22));
        let ids: Vec<&str> = labels.iter().map(|label| label.id.as_str()).collect();
        assert_eq!(ids, ["new"]);
        assert_eq!((labels[0].label, labels[0].confidence), (Truth::Safe, 80));
        // Said once.
        assert!(observer.observe(&proven("q", 23)).is_empty());
    }

    #[test]
    fn an_analysts_word_is_about_the_login_that_was_held() {
        let mut observer = Observer::default();
        let held = event("decision", 0, |event| {
            event.review = Some("h".to_owned());
            event.review_state = Some("held".into());
        });
        let ruled = |action: &'static str, review: &str| {
            event("word", 5, |event| {
                event.class = "review".into();
                event.action = action.into();
                event.review = Some(review.to_owned());
                event.operator = Some("ann".to_owned());
            })
        };
        assert!(observer.observe(&held).is_empty());
        let refused = observer.observe(&ruled("refused", "h"));
        assert_eq!(refused[0].id, "decision");
        assert_eq!(refused[0].label, Truth::Compromised);
        assert_eq!(refused[0].operator.as_deref(), Some("ann"));
        assert_eq!(
            observer.observe(&ruled("released", "h"))[0].label,
            Truth::Safe
        );
        assert!(observer.observe(&ruled("released", "other")).is_empty());
    }

    fn login(id: &str, minute: u32, device: &'static str) -> AuditEvent {
        event(id, minute, |event| {
            event.door = Some("login".into());
            event.device = Some(device.into());
            event.score = Some(40);
        })
    }

    fn told(action: &'static str, minute: u32) -> AuditEvent {
        event("e", minute, |event| {
            event.class = "event".into();
            event.action = action.into();
        })
    }

    #[test]
    fn what_happens_to_an_account_speaks_against_logins_from_devices_that_were_not_known() {
        for (action, source, worth) in [
            ("account_locked", Source::AccountLocked, 60),
            ("credential_updated", Source::CredentialUpdated, 50),
            ("session_revoked", Source::SessionRevoked, 50),
            ("factor_failed", Source::FactorFailed, 40),
        ] {
            let mut observer = Observer::default();
            for one in [
                login("known", 1, "known"),
                login("new", 2, "none"),
                login("foreign", 3, "foreign"),
            ] {
                assert!(observer.observe(&one).is_empty());
            }
            assert!(observer.observe(&told("something_else", 4)).is_empty());
            let labels = observer.observe(&told(action, 5));
            let ids: Vec<&str> = labels.iter().map(|label| label.id.as_str()).collect();
            assert_eq!(ids, ["new", "foreign"], "{action}");
            assert!(
                labels
                    .iter()
                    .all(|label| (label.label, label.source, label.confidence)
                        == (Truth::Compromised, source, worth))
            );
            // Said once.
            assert!(observer.observe(&told(action, 6)).is_empty());
        }
    }

    #[test]
    fn a_login_that_ends_after_the_event_to_which_it_led_is_meant_too() {
        let mut observer = Observer::default();
        observer.observe(&login("first", 3, "none"));
        assert_eq!(observer.observe(&told("account_locked", 5)).len(), 1);
        // It began before, and is on record after; what began later is not meant, nor what a known device did.
        let labels = observer.observe(&login("last", 4, "none"));
        assert_eq!(
            (labels.len(), labels[0].id.as_str(), labels[0].source),
            (1, "last", Source::AccountLocked)
        );
        assert!(observer.observe(&login("later", 6, "none")).is_empty());
        assert!(observer.observe(&login("known", 4, "known")).is_empty());
    }

    #[test]
    fn what_happens_long_after_or_after_a_proof_says_nothing() {
        let mut observer = Observer::default();
        observer.observe(&login("new", 0, "none"));
        assert!(observer.observe(&told("factor_failed", 20)).is_empty());
        observer.observe(&login("new", 21, "none"));
        observer.observe(&proven("p", 22));
        assert!(observer.observe(&told("credential_updated", 23)).is_empty());
        let other = event("e", 25, |event| {
            event.class = "event".into();
            event.action = "credential_updated".into();
            event.subject = Some("v".to_owned());
        });
        observer.observe(&login("new", 24, "none"));
        assert!(observer.observe(&other).is_empty());
    }

    #[test]
    fn the_label_that_is_worth_most_counts_and_the_later_of_equals() {
        let with = |source, truth, time: &str| label("d".to_owned(), truth, source, time);
        let mut set = LabelSet::default();
        set.add(with(Source::StepUp, Truth::Safe, "1"));
        set.add(with(Source::Analyst, Truth::Compromised, "2"));
        set.add(with(Source::StepUp, Truth::Safe, "3"));
        assert_eq!(set.of("d").unwrap().label, Truth::Compromised);
        set.add(with(Source::Analyst, Truth::Safe, "4"));
        assert_eq!(set.of("d").unwrap().label, Truth::Safe);
        assert_eq!(set.sorted(95).len(), 1);
        assert!(set.sorted(96).is_empty() && !set.is_empty() && set.len() == 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut observer = Observer::default();
        for number in 0..100 {
            observer.observe(&asked(&format!("d{number}"), 1));
        }
        assert_eq!(observer.observe(&proven("p", 2)).len(), WAITING_MAX);
    }
}
