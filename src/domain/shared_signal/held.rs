//! Events about users whose name is not known yet to one receiver: the latest of each kind, until it is.

use crate::domain::shared_signal::Signal;
use std::collections::HashMap;
use std::collections::VecDeque;

/// Users of whom something is held, for one receiver. For one there are some 400 bytes.
pub const USERS_MAX: usize = 10_000;

/// What is held, by user.
#[derive(Debug)]
pub struct Held {
    most: usize,
    signals: HashMap<String, Vec<Signal>>,
    order: VecDeque<String>,
}

impl Default for Held {
    fn default() -> Self {
        Self::bounded(USERS_MAX)
    }
}

impl Held {
    fn bounded(most: usize) -> Self {
        Self {
            most,
            signals: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Holds an event in the place of an earlier one of its kind. Beyond the bound the user who came first makes room, and what
    /// was held of that one is yielded.
    pub fn put(&mut self, signal: Signal) -> Vec<Signal> {
        if let Some(held) = self.signals.get_mut(&signal.subject) {
            held.retain(|other| other.kind() != signal.kind());
            held.push(signal);
            return Vec::new();
        }
        let is_full = self.order.len() >= self.most;
        let first = is_full.then(|| self.order.pop_front()).flatten();
        let lost = first.and_then(|first| self.signals.remove(&first));
        self.order.push_back(signal.subject.clone());
        self.signals.insert(signal.subject.clone(), vec![signal]);
        lost.unwrap_or_default()
    }

    /// What is held of a user, which is held no longer.
    pub fn take(&mut self, subject: &str) -> Vec<Signal> {
        let Some(held) = self.signals.remove(subject) else {
            return Vec::new();
        };
        self.order.retain(|other| other != subject);
        held
    }

    /// All that is held.
    pub fn end(&mut self) -> Vec<Signal> {
        self.order.clear();
        let all = std::mem::take(&mut self.signals);
        all.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::risk::RiskLevel;
    use crate::domain::shared_signal::Happening;
    use crate::domain::shared_signal::Initiator;
    use crate::domain::time::Timestamp;

    fn signal(subject: &str, current: Option<RiskLevel>) -> Signal {
        let what = match current {
            Some(current) => Happening::Level {
                previous: None,
                current,
                reasons: Vec::new(),
            },
            None => Happening::Revoked { reason: "because" },
        };
        Signal {
            subject: subject.to_owned(),
            what,
            initiator: Initiator::Policy,
            at: Timestamp(0),
            decision: "0199".to_owned(),
        }
    }

    #[test]
    fn the_latest_of_each_kind_is_held_until_it_is_taken() {
        let mut held = Held::default();
        let (medium, high) = (Some(RiskLevel::Medium), Some(RiskLevel::High));
        for level in [medium, None, high] {
            assert!(held.put(signal("a", level)).is_empty());
        }
        held.put(signal("b", medium));
        assert!(held.take("c").is_empty());
        assert_eq!(held.take("a"), [signal("a", None), signal("a", high)]);
        assert!(held.take("a").is_empty());
        assert_eq!(held.end(), [signal("b", medium)]);
        assert!(held.end().is_empty());
    }

    #[test]
    fn the_user_who_came_first_makes_room() {
        let mut held = Held::bounded(2);
        for user in ["a", "b", "a"] {
            assert!(held.put(signal(user, None)).is_empty());
        }
        assert_eq!(held.put(signal("c", None)), [signal("a", None)]);
        held.take("b");
        assert!(held.put(signal("d", None)).is_empty());
        assert_eq!(held.put(signal("e", None)), [signal("c", None)]);
    }
}
