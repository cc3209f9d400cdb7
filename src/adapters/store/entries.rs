//! The logic over entries that the stores share: which entries answer a query, how they make a history, and how a plan
//! is applied where entries can be read and written one by one.

use crate::adapters::store::codec::Codec;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::RATES_MAX;
use crate::adapters::store::entities::Rates;
use crate::adapters::store::plan::Plan;
use crate::domain::history::FailureRatio;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::LINKS_MAX;
use crate::domain::history::Population;
use crate::domain::time::Timestamp;

/// The most entries that one query reads.
pub(crate) const ENTRIES_MAX: usize = 10 + LINKS_MAX;

/// Entries that one writer at a time can read and write.
pub(crate) trait Entries {
    /// Why an entry could not be read or written.
    type Error;

    /// The value under `key`, as it was written.
    fn get(&mut self, key: &EntryKey) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Writes `value`, to be forgotten at `expires`.
    fn put(
        &mut self,
        key: &EntryKey,
        value: Vec<u8>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), Self::Error>;

    /// Adds to the population.
    fn add(&mut self, more: &Population) -> Result<(), Self::Error>;
}

/// How a store writes its distinct counts.
pub(crate) type Distinct = fn(&Codec, &EntryKey, &[u8], Timestamp) -> Option<f32>;

/// The keys of the entries that answer `query`. [`history`] wants their values in the same order.
pub(crate) fn keys(query: &HistoryQuery) -> Vec<EntryKey> {
    let mut keys = Vec::with_capacity(ENTRIES_MAX);
    keys.push(EntryKey::value(Kind::Address, query.address));
    keys.push(EntryKey::value(Kind::Users, query.address));
    keys.push(EntryKey::value(Kind::Trusted, query.address));
    keys.push(EntryKey::value(Kind::Prefix, query.prefix));
    keys.push(EntryKey::value(Kind::Agent, query.agent));
    keys.push(EntryKey::value(Kind::Tenant, query.tenant));
    keys.extend(
        query
            .asn
            .map(|asn| EntryKey::value(Kind::AutonomousSystem, asn)),
    );
    if let Some(subject) = query.subject {
        keys.push(EntryKey::subject(Kind::Profile, subject));
        keys.push(EntryKey::subject(Kind::Subject, subject));
        keys.push(EntryKey::subject(Kind::Addresses, subject));
    }
    keys.extend(
        query
            .links
            .iter()
            .take(LINKS_MAX)
            .copied()
            .map(EntryKey::link),
    );
    keys
}

/// The history that `values` make. They are in the order of [`keys`]; a value that does not decode is as good as none.
pub(crate) fn history<'v>(
    query: &HistoryQuery,
    codec: &Codec,
    distinct: Distinct,
    values: impl IntoIterator<Item = Option<&'v [u8]>>,
) -> History {
    let mut history = History::default();
    let now = query.now;
    for (key, value) in keys(query).iter().zip(values) {
        let Some(value) = value else { continue };
        match key.kind {
            Kind::Profile => history.profile = codec.open_profile(key, value, now),
            Kind::Addresses => {
                history.subject.addresses_24h = distinct(codec, key, value, now).unwrap_or(0.0)
            }
            Kind::Trusted => {
                history.address.trusted_subjects = distinct(codec, key, value, now).unwrap_or(0.0)
            }
            Kind::Users => {
                history.address.users_1h = distinct(codec, key, value, now).unwrap_or(0.0)
            }
            Kind::Link(_) => {
                let link = query
                    .links
                    .iter()
                    .find(|link| EntryKey::link(**link) == *key);
                if let Some((link, provenance)) = link.zip(codec.open_link(key, value, now)) {
                    history.links.insert(*link, provenance);
                }
            }
            Kind::Address
            | Kind::Agent
            | Kind::AutonomousSystem
            | Kind::Prefix
            | Kind::Subject
            | Kind::Tenant => {
                if let Some(rates) = Rates::decode(key.kind, value) {
                    place(&mut history, key.kind, rates.decayed_to(key.kind, now));
                }
            }
        }
    }
    history
}

/// Applies `plan`.
pub(crate) fn apply<E: Entries>(
    plan: &Plan<'_>,
    codec: &Codec,
    entries: &mut E,
) -> Result<(), E::Error> {
    for (key, more) in &plan.rates {
        let old = entries
            .get(key)?
            .and_then(|bytes| Rates::decode(key.kind, &bytes));
        let new = old.map_or(*more, |old| old.merged(key.kind, more));
        entries.put(
            key,
            new.encode(key.kind),
            new.at(),
            new.at().plus(key.kind.ttl()),
        )?;
    }
    for ((key, epoch), values) in &plan.distinct {
        let mut windows = entries
            .get(key)?
            .and_then(|bytes| codec.open_windows(key, &bytes))
            .unwrap_or_default();
        values.iter().for_each(|value| windows.add(*epoch, *value));
        let window = i64::try_from(key.kind.window().as_millis()).unwrap_or(i64::MAX);
        let at = Timestamp(epoch.saturating_mul(window));
        if let Some(bytes) = codec.windows(key, &windows) {
            // Two windows from the beginning of this one: until the next has passed, some of it still counts.
            entries.put(key, bytes, at, at.plus(key.kind.ttl()))?;
        }
    }
    for (subject, lessons) in &plan.lessons {
        let key = EntryKey::subject(Kind::Profile, *subject);
        let Some(first) = lessons.first() else {
            continue;
        };
        let old = entries
            .get(&key)?
            .and_then(|bytes| codec.open_profile(&key, &bytes, first.at));
        let mut profile = old.unwrap_or_default();
        lessons.iter().for_each(|lesson| profile.learn(lesson));
        if let Some(bytes) = codec.profile(&key, &profile) {
            entries.put(&key, bytes, profile.last, profile.last.plus(key.kind.ttl()))?;
        }
    }
    for (key, (provenance, at, ttl)) in &plan.links {
        let expires = at.plus(*ttl);
        if let Some(bytes) = codec.link(key, provenance, expires) {
            entries.put(key, bytes, *at, expires)?;
        }
    }
    if plan.population.total > 0 {
        entries.add(&plan.population)?;
    }
    Ok(())
}

/// The distinct counts of stores that keep whole sketches.
pub(crate) fn sketched(codec: &Codec, key: &EntryKey, value: &[u8], now: Timestamp) -> Option<f32> {
    codec
        .open_windows(key, value)
        .map(|windows| windows.estimate(key.kind, now))
}

fn place(history: &mut History, kind: Kind, [a, b, c]: [f32; RATES_MAX]) {
    let ratio = FailureRatio {
        failures: a,
        attempts: b,
    };
    match kind {
        Kind::Address => {
            history.address.failures_10m = a;
            history.address.failures_24h = b;
            history.address.attempts_24h = c;
        }
        Kind::Agent => history.agent = ratio,
        Kind::AutonomousSystem => history.asn = ratio,
        Kind::Prefix => history.prefix_failures_1h = a,
        Kind::Subject => {
            history.subject.failures_10m = a;
            history.subject.failures_24h = b;
        }
        Kind::Tenant => history.tenant = ratio,
        Kind::Addresses | Kind::Link(_) | Kind::Profile | Kind::Trusted | Kind::Users => {}
    }
}
