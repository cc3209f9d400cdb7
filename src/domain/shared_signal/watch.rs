//! From records to events: remembers the last level of each user and whose a decision was, within bounds, and says what has
//! changed. A name that somebody merely typed says nothing of its owner: only decisions about credentials that WSO2 has
//! confirmed, or about a session, code or token that it has issued, count.

use crate::domain::audit::AuditEvent;
use crate::domain::audit::Word;
use crate::domain::policy::decision::Mode;
use crate::domain::risk::RiskLevel;
use crate::domain::shared_signal::Happening;
use crate::domain::shared_signal::Initiator;
use crate::domain::shared_signal::Signal;
use crate::domain::time::Timestamp;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// Users whose last level is remembered.
pub const LEVELS_MAX: usize = 200_000;
/// Decisions of which it is remembered whose they were, for an analyst's word that comes later.
pub const DECISIONS_MAX: usize = 200_000;
/// Reason codes in one event.
const REASONS_MAX: usize = 8;
/// Events of WSO2 are noted as `by` whom.
const BY_USER: &str = "by user";
const BY_ADMIN: &str = "by admin";

/// What of a record matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// A decision about a user.
    Decision {
        /// The user's pseudonym.
        subject: String,
        /// The level.
        level: RiskLevel,
        /// Reason codes, strongest first.
        reasons: Vec<Word>,
        /// Whether its mode is one whose levels are told.
        counts: bool,
        /// When.
        at: Timestamp,
        /// Its id.
        id: String,
    },
    /// An analyst has confirmed that it was somebody else.
    Compromised {
        /// The id of the decision.
        decision: String,
        /// When.
        at: Timestamp,
    },
    /// WSO2 says that a session was ended before its time.
    Revoked {
        /// The user's pseudonym.
        subject: String,
        /// Who ended it.
        initiator: Initiator,
        /// When.
        at: Timestamp,
        /// The id of the record.
        id: String,
    },
}

/// What became of something that was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Told {
    /// There is nothing to tell.
    Nothing,
    /// This is to be told.
    Signal(Signal),
    /// The sessions behind this decision must end, but it is not known here whose they are.
    Unknown,
}

/// What is remembered.
#[derive(Debug)]
pub struct Watch {
    levels: Recent<String, RiskLevel>,
    decisions: Recent<String, String>,
}

/// The latest of many values. Beyond its bound the one that came first goes.
#[derive(Debug)]
struct Recent<K, V> {
    most: usize,
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl Seen {
    /// What a record shows, if anything. `modes` are those whose decisions are told.
    pub fn of(event: &AuditEvent, modes: &[Mode]) -> Option<Self> {
        let at = || Timestamp::from_rfc3339(&event.time);
        match (&*event.class, &*event.action) {
            ("scored", _) => {
                // A service account that speaks for itself is no user.
                if event.grant_type.as_deref() == Some("client_credentials") || !is_proved(event) {
                    return None;
                }
                let is_told = modes
                    .iter()
                    .any(|mode| event.mode.as_deref() == Some(mode.as_str()));
                Some(Self::Decision {
                    subject: event.subject.clone()?,
                    level: level(event.level.as_deref()?)?,
                    reasons: event.reasons.iter().take(REASONS_MAX).cloned().collect(),
                    counts: is_told,
                    at: at()?,
                    id: event.id.clone(),
                })
            }
            ("operator", "labelled_compromised") => Some(Self::Compromised {
                decision: event.labelled.clone()?,
                at: at()?,
            }),
            ("event", "session_revoked") => {
                let note = event.note.as_deref().unwrap_or("");
                // Who signs out of one device has not lost the others.
                if note.starts_with(BY_USER) {
                    return None;
                }
                Some(Self::Revoked {
                    subject: event.subject.clone()?,
                    initiator: if note.starts_with(BY_ADMIN) {
                        Initiator::Admin
                    } else {
                        Initiator::System
                    },
                    at: at()?,
                    id: event.id.clone(),
                })
            }
            _ => None,
        }
    }
}

impl Seen {
    /// The user's pseudonym, where it is said.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::Decision { subject, .. } | Self::Revoked { subject, .. } => Some(subject),
            Self::Compromised { .. } => None,
        }
    }
}

/// Whether a decision was about its subject by more than a name.
fn is_proved(event: &AuditEvent) -> bool {
    if !event.named {
        // Of the session, code or token that was presented.
        return true;
    }
    let credentials = matches!(
        event.door.as_deref(),
        Some("login" | "authn" | "flow" | "basic" | "token")
    );
    credentials
        && matches!(
            &*event.outcome,
            "succeeded" | "next_factor" | "tokens_issued"
        )
}

fn level(name: &str) -> Option<RiskLevel> {
    [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High]
        .into_iter()
        .find(|level| level.as_str() == name)
}

impl Default for Watch {
    fn default() -> Self {
        Self::bounded(LEVELS_MAX, DECISIONS_MAX)
    }
}

impl Watch {
    fn bounded(levels: usize, decisions: usize) -> Self {
        Self {
            levels: Recent::new(levels),
            decisions: Recent::new(decisions),
        }
    }

    /// Takes in what was seen, and says what is to be told.
    pub fn observe(&mut self, seen: Seen) -> Told {
        match seen {
            Seen::Decision {
                subject,
                level,
                reasons,
                counts,
                at,
                id,
            } => {
                self.decisions.put(id.clone(), subject.clone());
                if !counts {
                    return Told::Nothing;
                }
                let previous = self.levels.put(subject.clone(), level);
                // Of whom nothing is known is taken to be low.
                if previous.unwrap_or(RiskLevel::Low) == level {
                    return Told::Nothing;
                }
                Told::Signal(Signal {
                    subject,
                    what: Happening::Level {
                        previous,
                        current: level,
                        reasons,
                    },
                    initiator: Initiator::Policy,
                    at,
                    decision: id,
                })
            }
            Seen::Compromised { decision, at } => match self.decisions.get(&decision) {
                Some(subject) => Told::Signal(Signal {
                    subject: subject.clone(),
                    what: Happening::Revoked {
                        reason: "an analyst has confirmed that the account is compromised",
                    },
                    initiator: Initiator::Admin,
                    at,
                    decision,
                }),
                None => Told::Unknown,
            },
            Seen::Revoked {
                subject,
                initiator,
                at,
                id,
            } => Told::Signal(Signal {
                subject,
                what: Happening::Revoked {
                    reason: "the identity server has ended a session before its time",
                },
                initiator,
                at,
                decision: id,
            }),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self {
            most,
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// Puts a value in, and yields the one before.
    fn put(&mut self, key: K, value: V) -> Option<V> {
        let before = self.values.insert(key.clone(), value);
        if before.is_none() {
            self.order.push_back(key);
            if self.order.len() > self.most
                && let Some(first) = self.order.pop_front()
            {
                self.values.remove(&first);
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: &[Mode] = &[Mode::Advise, Mode::Enforce];

    fn login(id: &str, level: &'static str) -> AuditEvent {
        AuditEvent {
            class: "scored".into(),
            id: id.to_owned(),
            time: "2026-11-26T12:00:00.000Z".to_owned(),
            door: Some("login".into()),
            subject: Some("9f0c".to_owned()),
            named: true,
            level: Some(level.into()),
            mode: Some("enforce".into()),
            outcome: "succeeded".into(),
            reasons: vec!["ip_velocity".into(); 20],
            ..AuditEvent::default()
        }
    }

    fn told(watch: &mut Watch, event: &AuditEvent) -> Option<(Option<RiskLevel>, RiskLevel)> {
        match watch.observe(Seen::of(event, MODES)?) {
            Told::Signal(Signal {
                what: Happening::Level {
                    previous, current, ..
                },
                ..
            }) => Some((previous, current)),
            Told::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_level_is_told_when_it_changes() {
        let mut watch = Watch::default();
        for (level, expected) in [
            ("low", None),
            ("low", None),
            ("high", Some((Some(RiskLevel::Low), RiskLevel::High))),
            ("high", None),
            ("medium", Some((Some(RiskLevel::High), RiskLevel::Medium))),
            ("low", Some((Some(RiskLevel::Medium), RiskLevel::Low))),
        ] {
            assert_eq!(told(&mut watch, &login("1", level)), expected, "{level}");
        }
        // The first that is known of a user is told unless it is low.
        let other = AuditEvent {
            subject: Some("71ab".to_owned()),
            ..login("2", "medium")
        };
        assert_eq!(told(&mut watch, &other), Some((None, RiskLevel::Medium)));
    }

    #[test]
    fn a_name_that_was_only_typed_changes_nothing() {
        let mut watch = Watch::default();
        let high = |door: &'static str, outcome: &'static str, named: bool| AuditEvent {
            door: Some(door.into()),
            outcome: outcome.into(),
            named,
            ..login("1", "high")
        };
        for (door, outcome) in [
            ("login", "failed"),
            ("login", "refused_here"),
            ("login", "locked"),
            ("login", "none"),
            // A hint in the request of somebody who holds another session.
            ("authorize", "code_issued"),
            ("par", "succeeded"),
        ] {
            let event = high(door, outcome, true);
            assert_eq!(told(&mut watch, &event), None, "{door} {outcome}");
        }
        let changed = Some((None, RiskLevel::High));
        // A session that WSO2 has issued is its user's, whatever becomes of the request.
        assert_eq!(
            told(&mut watch, &high("token", "refused_here", false)),
            changed
        );
        let mut watch = Watch::default();
        assert_eq!(
            told(&mut watch, &high("login", "next_factor", true)),
            changed
        );
    }

    #[test]
    fn service_accounts_other_modes_and_unscored_requests_are_not_told() {
        let mut watch = Watch::default();
        for event in [
            AuditEvent {
                grant_type: Some("client_credentials".to_owned()),
                named: false,
                ..login("1", "high")
            },
            AuditEvent {
                mode: Some("monitor".into()),
                ..login("1", "high")
            },
            AuditEvent {
                level: None,
                ..login("1", "high")
            },
            AuditEvent {
                subject: None,
                ..login("1", "high")
            },
            AuditEvent {
                class: "resource".into(),
                ..login("1", "high")
            },
        ] {
            assert_eq!(told(&mut watch, &event), None, "{event:?}");
        }
    }

    #[test]
    fn a_confirmed_compromise_ends_the_sessions_of_whose_decision_it_was() {
        let mut watch = Watch::default();
        let label = |id: &str, action: &'static str| AuditEvent {
            class: "operator".into(),
            time: "2026-11-26T13:00:00.000Z".to_owned(),
            action: action.into(),
            labelled: Some(id.to_owned()),
            ..AuditEvent::default()
        };
        assert_eq!(Seen::of(&label("1", "labelled_safe"), MODES), None);
        let seen = Seen::of(&label("1", "labelled_compromised"), MODES).unwrap();
        assert_eq!(watch.observe(seen.clone()), Told::Unknown);
        // Whoever was refused before WSO2 knew the password has no session.
        let refused = AuditEvent {
            outcome: "refused_here".into(),
            ..login("1", "high")
        };
        assert_eq!(told(&mut watch, &refused), None);
        assert_eq!(watch.observe(seen.clone()), Told::Unknown);
        // The mode of a decision is no matter here.
        let monitored = AuditEvent {
            mode: Some("monitor".into()),
            ..login("1", "high")
        };
        assert_eq!(told(&mut watch, &monitored), None);
        let Told::Signal(signal) = watch.observe(seen) else {
            panic!("nothing is told");
        };
        assert_eq!(
            (
                signal.subject.as_str(),
                signal.decision.as_str(),
                signal.initiator
            ),
            ("9f0c", "1", Initiator::Admin)
        );
        assert!(matches!(signal.what, Happening::Revoked { .. }));
    }

    #[test]
    fn a_session_that_its_own_user_ends_is_not_told() {
        let revoked = |note: &str| AuditEvent {
            class: "event".into(),
            id: "2".to_owned(),
            time: "2026-11-26T13:00:00.000Z".to_owned(),
            action: "session_revoked".into(),
            subject: Some("9f0c".to_owned()),
            note: Some(note.to_owned()),
            ..AuditEvent::default()
        };
        assert_eq!(Seen::of(&revoked("by user, event 7"), MODES), None);
        for (note, by) in [
            ("by admin, event 7", Initiator::Admin),
            ("by other", Initiator::System),
        ] {
            let seen = Seen::of(&revoked(note), MODES).unwrap();
            let Told::Signal(signal) = Watch::default().observe(seen) else {
                panic!("nothing is told");
            };
            assert_eq!((signal.initiator, signal.decision.as_str()), (by, "2"));
        }
    }

    #[test]
    fn what_is_remembered_has_its_bound() {
        let mut watch = Watch::bounded(2, 2);
        for (id, subject) in [("1", "a"), ("2", "b"), ("3", "c")] {
            let event = AuditEvent {
                subject: Some(subject.to_owned()),
                ..login(id, "high")
            };
            told(&mut watch, &event);
        }
        assert_eq!(watch.levels.values.len(), 2);
        assert_eq!(watch.levels.order.len(), 2);
        let at = Timestamp(0);
        for (id, is_known) in [("1", false), ("2", true), ("3", true)] {
            let decision = id.to_owned();
            let told = watch.observe(Seen::Compromised { decision, at });
            assert_eq!(told != Told::Unknown, is_known, "{id}");
        }
    }
}
