//! What becomes of history when the secret of the deployment is exchanged: what was kept under the names that the
//! previous secret made is found under those, and goes on under the new ones.
//!
//! A hash cannot be turned into another one without the value, so that a profile is carried over value by value, each
//! when it is seen again. What is not seen while both secrets are configured is forgotten with the old names.

use crate::domain::demand::About;
use crate::domain::demand::Demand;
use crate::domain::demand::DemandKey;
use crate::domain::history::ClientBaseline;
use crate::domain::history::Familiarity;
use crate::domain::history::HistoryQuery;
use crate::domain::history::KnownValues;
use crate::domain::history::Names;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::family::short;
use crate::domain::history::kept;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use serde::Deserialize;
use serde::Serialize;

/// Where what one exchange showed was kept before, under the names that the previous secret makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Previous {
    /// The same question with the previous names.
    pub query: Box<HistoryQuery>,
    /// From them to the present ones.
    pub renaming: Renaming,
}

/// The subject that a lesson is about under its previous name, and what becomes of the values it showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renamed {
    /// The name under which the profile was kept.
    pub subject: SubjectKey,
    /// From its values to the present ones.
    pub renaming: Renaming,
}

/// Pairs of a previous hash and the present one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Renaming {
    values: Vec<(ValueHash, ValueHash)>,
    subjects: Vec<(SubjectKey, SubjectKey)>,
    demands: Vec<(DemandKey, DemandKey)>,
}

impl Renaming {
    /// From everything that a request showed under the previous names to what it showed under the present ones.
    pub fn between(previous: &Familiarity, present: &Familiarity) -> Self {
        let mut renaming = Self::default();
        for (from, to) in previous.values().into_iter().zip(present.values()) {
            if let (Some(from), Some(to)) = (from, to) {
                renaming.values.push((from, to));
            }
        }
        renaming
    }

    /// Also renames this value.
    pub fn with_value(mut self, previous: ValueHash, present: ValueHash) -> Self {
        self.values.push((previous, present));
        self
    }

    /// Also renames this subject or client.
    pub fn with_subject(mut self, previous: SubjectKey, present: SubjectKey) -> Self {
        self.subjects.push((previous, present));
        self
    }

    /// The present hash for `value`, or `value` itself.
    pub fn value(&self, value: ValueHash) -> ValueHash {
        let found = self
            .values
            .iter()
            .find(|(from, _)| kept(*from) == kept(value));
        found.map_or(value, |(_, to)| *to)
    }

    /// The present name for `subject`, or `subject` itself.
    pub fn subject(&self, subject: SubjectKey) -> SubjectKey {
        let found = self.subjects.iter().find(|(from, _)| *from == subject);
        found.map_or(subject, |(_, to)| *to)
    }

    /// Also renames this demand.
    pub fn with_demand(mut self, previous: DemandKey, present: DemandKey) -> Self {
        self.demands.push((previous, present));
        self
    }

    /// The present key for `key`, or `key` itself.
    pub fn demand(&self, key: DemandKey) -> DemandKey {
        let found = self.demands.iter().find(|(from, _)| *from == key);
        found.map_or(key, |(_, to)| *to)
    }

    fn known(&self, known: &mut KnownValues) {
        known.rename(|value| self.value(value));
    }

    fn familiarity(&self, seen: &mut Familiarity) {
        for value in seen.values_mut() {
            *value = value.map(|value| self.value(value));
        }
    }
}

impl Profile {
    /// The profile with the values that are known under both names brought to the present ones.
    pub fn renamed(mut self, renaming: &Renaming) -> Self {
        for known in self.known_mut() {
            renaming.known(known);
        }
        // Of the other names only the account itself knows how they are written.
        self.names = Names::default();
        self
    }
}

impl Provenance {
    /// The provenance under the present names, as far as they are known.
    pub fn renamed(mut self, renaming: &Renaming) -> Self {
        self.tenant = renaming.value(self.tenant);
        self.client = self.client.map(|client| renaming.subject(client));
        self.subject = self.subject.map(|subject| renaming.subject(subject));
        renaming.familiarity(&mut self.issued_to);
        renaming.familiarity(&mut self.used_by);
        for scope in &mut self.scopes {
            *scope = short(renaming.value(u64::from(*scope) << 32));
        }
        if let Some(family) = &mut self.family {
            family.rename(|value| renaming.value(value));
        }
        for key in &mut self.demand_keys {
            *key = renaming.demand(*key);
        }
        self
    }
}

impl Demand {
    /// The demand with the present names of those whom it is about, as far as they are known.
    pub fn renamed(mut self, renaming: &Renaming) -> Self {
        if let About::One(subject) = self.about {
            self.about = About::One(renaming.subject(subject));
        }
        if let Some(proved) = &mut self.proved {
            proved.subject = renaming.subject(proved.subject);
        }
        self
    }
}

impl ClientBaseline {
    /// The baseline under the present names.
    pub fn renamed(mut self, renaming: &Renaming) -> Self {
        for known in [&mut self.scopes, &mut self.prefixes, &mut self.tls] {
            renaming.known(known);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::Lesson;
    use crate::domain::ids::Pseudonym;
    use crate::domain::time::Timestamp;

    #[test]
    fn values_that_are_seen_again_move_and_the_others_stay() {
        let subject = SubjectKey(Pseudonym::from_bytes([1; 16]));
        let mut profile = Profile::default();
        for (at, address) in [(0, 1 << 32), (60_000, 1 << 32), (120_000, 2 << 32)] {
            profile.learn(&Lesson {
                subject,
                at: Timestamp(at),
                familiarity: Familiarity {
                    address: Some(address),
                    ..Familiarity::default()
                },
                coordinates: None,
                cookie_known: true,
            });
        }
        let seen = |address| Familiarity {
            address: Some(address),
            ..Familiarity::default()
        };
        let renaming = Renaming::between(&seen(1 << 32), &seen(100 << 32));
        let moved = profile.renamed(&renaming);
        assert_eq!(moved.addresses.count(100 << 32), 2);
        assert_eq!(moved.addresses.count(1 << 32), 0);
        assert_eq!(moved.addresses.count(2 << 32), 1);
    }
}
