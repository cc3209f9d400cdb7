//! What a batch of observations changes, summed up: one change per entry, however many observations touched it. The
//! rules of what may be kept at all are here, so that every store keeps to the same.

use crate::adapters::store::codec::Codec;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::RATES_MAX;
use crate::adapters::store::entities::Rates;
use crate::adapters::store::entities::WindowValue;
use crate::domain::demand::DemandChange;
use crate::domain::demand::DemandKey;
use crate::domain::history::Attempt;
use crate::domain::history::ClientUse;
use crate::domain::history::Joined;
use crate::domain::history::Lesson;
use crate::domain::history::Observation;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::Renamed;
use crate::domain::history::Renaming;
use crate::domain::history::ScopeUse;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::time::Timestamp;
use foldhash::fast::RandomState;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Values whose frequency is counted over all confirmed logins. Beyond, only the total grows.
pub(crate) const POPULATION_MAX: usize = 4_096;

/// What to change.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// Counts to add.
    pub(crate) rates: HashMap<EntryKey, Rates, RandomState>,
    /// Values to add to distinct counts, by window. One may come more than once.
    pub(crate) distinct: HashMap<(EntryKey, i64), Vec<ValueHash>, RandomState>,
    /// Logins to learn, in order.
    pub(crate) lessons: HashMap<SubjectKey, Vec<&'a Lesson>, RandomState>,
    /// Whose names are, in order.
    pub(crate) joined: BTreeMap<SubjectKey, Vec<&'a Joined>>,
    /// Requests of service accounts to learn, in order.
    pub(crate) clients: BTreeMap<SubjectKey, Vec<&'a ClientUse>>,
    /// What happened to the scopes of clients, in order.
    pub(crate) scopes: BTreeMap<SubjectKey, Vec<&'a ScopeUse>>,
    /// What happens to demands, in order, and when that was seen: a proof may be older.
    pub(crate) demands: BTreeMap<DemandKey, Vec<(Timestamp, DemandChange)>>,
    /// Where subjects were kept under the previous secret.
    pub(crate) renamed: BTreeMap<SubjectKey, &'a Renamed>,
    /// Links to keep, with the moment from which they count and their time to live.
    pub(crate) links: HashMap<EntryKey, (&'a Arc<Provenance>, Timestamp, Duration), RandomState>,
    /// What to add to the population.
    pub(crate) population: Population,
}

/// One entry that is learnt by reading, changing and writing it: a profile, a baseline, the scopes of a client or a
/// demand.
pub(crate) struct Pupil<'p> {
    /// Where it is kept.
    pub(crate) key: EntryKey,
    /// Where it was kept under the previous secret, and what becomes of its values.
    pub(crate) previous: Option<(EntryKey, &'p Renaming)>,
    learning: Learning<'p>,
}

/// An entry after what there was to learn.
pub(crate) struct Learnt {
    /// As it is written.
    pub(crate) bytes: Vec<u8>,
    /// The moment of its latest change.
    pub(crate) at: Timestamp,
    /// How long it is kept from then on.
    pub(crate) ttl: Duration,
}

enum Learning<'p> {
    Client(&'p [&'p ClientUse]),
    Demand(&'p [(Timestamp, DemandChange)]),
    Profile(&'p [&'p Lesson], &'p [&'p Joined]),
    Scopes(&'p [&'p ScopeUse]),
}

impl Pupil<'_> {
    /// The entry after what there is to learn; `None` for nothing to learn or too much to keep. Bytes that do not open
    /// are as good as none.
    pub(crate) fn learnt(
        &self,
        codec: &Codec,
        current: Option<&[u8]>,
        previous: Option<&[u8]>,
    ) -> Option<Learnt> {
        let key = &self.key;
        let (bytes, at, ttl) = match self.learning {
            Learning::Profile(lessons, joined) => {
                let first = lessons.first().map(|lesson| lesson.at);
                let first = first.or(joined.first().map(|joined| joined.at))?;
                let known = current
                    .and_then(|bytes| codec.open_profile(key, bytes, first))
                    .or_else(|| {
                        let (key, renaming) = self.previous?;
                        Some(
                            codec
                                .open_profile(&key, previous?, first)?
                                .renamed(renaming),
                        )
                    });
                let begins = !lessons.is_empty() || joined.iter().any(|joined| joined.is_account);
                let mut profile = known.or_else(|| begins.then(Profile::default))?;
                lessons.iter().for_each(|lesson| profile.learn(lesson));
                joined.iter().for_each(|joined| profile.join(joined));
                (codec.profile(key, &profile)?, profile.last, key.kind.ttl())
            }
            Learning::Client(uses) => {
                let first = uses.first()?.at;
                let mut client = current
                    .and_then(|bytes| codec.open_client(key, bytes, first))
                    .or_else(|| {
                        let (key, renaming) = self.previous?;
                        Some(codec.open_client(&key, previous?, first)?.renamed(renaming))
                    })
                    .unwrap_or_default();
                uses.iter().for_each(|used| client.learn(used));
                (codec.client(key, &client)?, client.last, key.kind.ttl())
            }
            Learning::Scopes(uses) => {
                let first = uses.first()?.at;
                let mut usage = current
                    .and_then(|bytes| codec.open_scopes(key, bytes, first))
                    .unwrap_or_default();
                uses.iter().for_each(|used| usage.learn(used));
                (codec.scopes(key, &usage)?, usage.last, key.kind.ttl())
            }
            Learning::Demand(changes) => {
                let (seen, first) = changes.first()?;
                let known = current.and_then(|bytes| codec.open_demand(key, bytes, first.at()));
                let known = known.and_then(|demand| demand.brought_back(*seen));
                let demand = changes
                    .iter()
                    .fold(known, |demand, (_, change)| Some(change.apply(demand)))?;
                let at = changes.last()?.1.at();
                let ttl = demand.until.since(at).max(Duration::from_millis(1));
                (codec.demand(key, &demand)?, at, ttl)
            }
        };
        Some(Learnt { bytes, at, ttl })
    }
}

impl<'a> Plan<'a> {
    /// Every profile, baseline, set of scopes and demand that changes.
    pub(crate) fn pupils(&self) -> impl Iterator<Item = Pupil<'_>> {
        let joined_with = |subject| self.joined.get(subject).map_or(&[][..], Vec::as_slice);
        let profiles = self.lessons.iter().map(move |(subject, lessons)| {
            let learning = Learning::Profile(lessons, joined_with(subject));
            self.pupil(Kind::Profile, *subject, learning)
        });
        let joined = self.joined.iter();
        let joined = joined.filter(|(subject, _)| !self.lessons.contains_key(*subject));
        let joined = joined.map(|(subject, joined)| {
            self.pupil(Kind::Profile, *subject, Learning::Profile(&[], joined))
        });
        let clients = self
            .clients
            .iter()
            .map(|(client, uses)| self.pupil(Kind::Client, *client, Learning::Client(uses)));
        let demands = self.demands.iter().map(|(key, changes)| Pupil {
            key: EntryKey::demand(*key),
            previous: None,
            learning: Learning::Demand(changes),
        });
        let scopes = self
            .scopes
            .iter()
            .map(|(client, uses)| self.pupil(Kind::Scopes, *client, Learning::Scopes(uses)));
        let subjects = profiles.chain(joined).chain(clients);
        subjects.chain(scopes).chain(demands)
    }

    fn pupil<'p>(&'p self, kind: Kind, subject: SubjectKey, learning: Learning<'p>) -> Pupil<'p> {
        let renamed = self.renamed.get(&subject);
        Pupil {
            key: EntryKey::subject(kind, subject),
            previous: renamed
                .map(|renamed| (EntryKey::subject(kind, renamed.subject), &renamed.renaming)),
            learning,
        }
    }

    /// Sums up `observations`.
    pub(crate) fn of(observations: &'a [Observation]) -> Self {
        let mut plan = Self::default();
        for observation in observations {
            if let Some(attempt) = &observation.attempt {
                plan.attempt(observation.at, attempt);
            }
            if let Some(lesson) = &observation.lesson {
                plan.lesson(lesson);
            }
            for joined in &observation.joined {
                plan.joined.entry(joined.subject).or_default().push(joined);
            }
            if let Some(used) = &observation.client {
                plan.clients.entry(used.client).or_default().push(used);
            }
            for used in &observation.scopes {
                plan.scopes.entry(used.client).or_default().push(used);
            }
            if let Some(renamed) = &observation.renamed {
                let subject = observation.lesson.as_ref().map(|lesson| lesson.subject);
                let client = observation.client.as_ref().map(|used| used.client);
                if let Some(subject) = subject.or(client) {
                    plan.renamed.insert(subject, renamed);
                }
            }
            for (key, change) in &observation.demands {
                plan.demands
                    .entry(*key)
                    .or_default()
                    .push((observation.at, *change));
            }
            for (link, provenance, ttl) in &observation.links {
                plan.links
                    .insert(EntryKey::link(*link), (provenance, observation.at, *ttl));
            }
        }
        plan
    }

    fn attempt(&mut self, at: Timestamp, attempt: &Attempt) {
        let failed = if attempt.failed { 1.0 } else { 0.0 };
        self.count(
            EntryKey::value(Kind::Address, attempt.address),
            at,
            [failed, failed, 1.0, 0.0],
        );
        self.count(
            EntryKey::value(Kind::Agent, attempt.agent),
            at,
            [failed, failed, 1.0, 1.0],
        );
        self.count(
            EntryKey::value(Kind::Tenant, attempt.tenant),
            at,
            [failed, 1.0, 0.0, 0.0],
        );
        if let Some(asn) = attempt.asn {
            self.count(
                EntryKey::value(Kind::AutonomousSystem, asn),
                at,
                [failed, failed, 1.0, 1.0],
            );
        }
        if attempt.failed {
            self.count(
                EntryKey::value(Kind::Prefix, attempt.prefix),
                at,
                [1.0, 0.0, 0.0, 0.0],
            );
        }
        let Some(subject) = attempt.subject else {
            return;
        };
        self.see(
            EntryKey::value(Kind::Users, attempt.address),
            at,
            subject.0.value_hash(),
        );
        // No entry is made for a name that never logged in: names can be made up without end.
        if attempt.subject_known {
            if attempt.failed || !attempt.address_known {
                self.see(
                    EntryKey::subject(Kind::Addresses, subject),
                    at,
                    attempt.address,
                );
            }
            if attempt.failed {
                self.count(
                    EntryKey::subject(Kind::Subject, subject),
                    at,
                    [1.0, 1.0, 0.0, 0.0],
                );
            }
        }
    }

    fn lesson(&mut self, lesson: &'a Lesson) {
        self.lessons.entry(lesson.subject).or_default().push(lesson);
        let seen = lesson.familiarity;
        if let Some(address) = seen.address {
            self.see(
                EntryKey::value(Kind::Trusted, address),
                lesson.at,
                lesson.subject.0.value_hash(),
            );
        }
        let values = [seen.asn, seen.country, seen.agent, seen.language, seen.tls];
        add_to_population(
            &mut self.population,
            1,
            values.into_iter().flatten().map(|value| (value, 1)),
        );
    }

    fn count(&mut self, key: EntryKey, at: Timestamp, values: [f32; RATES_MAX]) {
        let new = Rates::new(at, values);
        self.rates
            .entry(key)
            .and_modify(|old| *old = old.merged(key.kind, &new))
            .or_insert(new);
    }

    fn see(&mut self, key: EntryKey, at: Timestamp, value: ValueHash) {
        let values = self.distinct.entry((key, key.kind.epoch(at))).or_default();
        let value = WindowValue::of(value).hash();
        if values.last() != Some(&value) {
            values.push(value);
        }
    }
}

/// Adds `logins` and the counts of their values, of which at most [`POPULATION_MAX`] are kept apart.
pub(crate) fn add_to_population(
    population: &mut Population,
    logins: u64,
    counts: impl IntoIterator<Item = (ValueHash, u64)>,
) {
    population.total = population.total.saturating_add(logins);
    for (value, more) in counts {
        if let Some(count) = population.counts.get_mut(&value) {
            *count = count.saturating_add(more);
        } else if population.counts.len() < POPULATION_MAX {
            population.counts.insert(value, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    fn attempt(name: u8, subject_known: bool) -> Observation {
        Observation {
            at: Timestamp(1_000),
            attempt: Some(Attempt {
                failed: true,
                address: 1,
                prefix: 2,
                asn: None,
                agent: 3,
                tenant: 4,
                subject: Some(SubjectKey(Pseudonym::from_bytes([name; 16]))),
                subject_known,
                address_known: false,
            }),
            ..Observation::default()
        }
    }

    #[test]
    fn unknown_names_only_enter_the_sketch_of_the_address() {
        let observations: Vec<_> = (0..50).map(|name| attempt(name, false)).collect();
        let plan = Plan::of(&observations);
        assert_eq!(plan.rates.len(), 4);
        assert_eq!(plan.distinct.len(), 1);
        assert_eq!(plan.distinct.values().next().map(Vec::len), Some(50));
        let address = plan.rates.get(&EntryKey::value(Kind::Address, 1)).unwrap();
        assert_eq!(address.values(), [50.0, 50.0, 50.0, 0.0]);
    }

    #[test]
    fn a_known_name_has_counters_of_its_own() {
        let plan_of = [attempt(7, true)];
        let plan = Plan::of(&plan_of);
        assert_eq!(plan.rates.len(), 5);
        assert_eq!(plan.distinct.len(), 2);
    }

    #[test]
    fn the_population_is_bounded() {
        let mut population = Population::default();
        for value in 0..10_000 {
            add_to_population(&mut population, 1, [(value, 1)]);
        }
        add_to_population(&mut population, 1, [(3, 1), (9_999, 1)]);
        assert_eq!(population.total, 10_001);
        assert_eq!(population.counts.len(), POPULATION_MAX);
        assert_eq!(population.counts.get(&3), Some(&2));
        assert_eq!(population.counts.get(&9_999), None);
    }
}
