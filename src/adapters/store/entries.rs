//! The logic over entries that the stores share: which entries answer a query, how they make a history, and how a plan
//! is applied where entries can be read and written one by one.

use crate::adapters::store::codec::Codec;
use crate::adapters::store::codec::Unreadable;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::RATES_MAX;
use crate::adapters::store::entities::Rates;
use crate::adapters::store::plan::Learnt;
use crate::adapters::store::plan::Plan;
use crate::adapters::store::transfer::Change;
use crate::domain::demand::DEMANDS_MAX;
use crate::domain::history::FailureRatio;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::LINKS_MAX;
use crate::domain::history::Population;
use crate::domain::history::Previous;
use crate::domain::history::Provenance;
use crate::domain::ids::Pseudonym;
use crate::domain::review::ReviewQueue;
use crate::domain::time::Timestamp;
use crate::flow::ports::QueueChange;
use crate::flow::ports::Redemption;
use std::sync::Arc;
use std::time::Duration;

/// The most entries that one query reads.
pub(crate) const ENTRIES_MAX: usize = 2 * (12 + LINKS_MAX + DEMANDS_MAX);

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

    /// Adds to counters.
    fn count(&mut self, key: &EntryKey, more: &Rates) -> Result<(), Self::Error> {
        let old = self
            .get(key)?
            .and_then(|bytes| Rates::decode(key.kind, &bytes));
        let new = old.map_or(*more, |old| old.merged(key.kind, more));
        let expires = new.at().plus(new.ttl(key.kind));
        self.put(key, new.encode(key.kind), new.at(), expires)
    }

    /// Keeps a link until `expires`. One that is too long to be kept is not.
    fn put_link(
        &mut self,
        key: &EntryKey,
        codec: &Codec,
        provenance: &Arc<Provenance>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), Self::Error> {
        match codec.link(key, provenance, expires) {
            Some(bytes) => self.put(key, bytes, at, expires),
            None => Ok(()),
        }
    }

    /// Removes what is under `key`.
    fn remove(&mut self, key: &EntryKey) -> Result<(), Self::Error>;

    /// Adds to the population.
    fn add(&mut self, more: &Population) -> Result<(), Self::Error>;
}

/// What a store has under a key.
#[derive(Clone, Copy)]
pub(crate) enum Found<'v> {
    /// As it was written.
    Bytes(&'v [u8]),
    /// What a link leads to, which is still at hand.
    Link(&'v Provenance),
    /// Counters.
    Rates(Rates),
}

impl<'v> From<&'v [u8]> for Found<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// How a store writes its distinct counts.
pub(crate) type Distinct = fn(&Codec, &EntryKey, &[u8], Timestamp) -> Option<f32>;

/// The keys of the entries that answer `query`, those under previous names last. [`history`] wants their values in the
/// same order.
pub(crate) fn keys(query: &HistoryQuery) -> Vec<EntryKey> {
    let mut keys = Vec::with_capacity(ENTRIES_MAX);
    push_keys(query, &mut keys);
    if let Some(previous) = &query.previous {
        push_keys(&previous.query, &mut keys);
    }
    keys
}

fn push_keys(query: &HistoryQuery, keys: &mut Vec<EntryKey>) {
    if query.is_about_sources() {
        keys.push(EntryKey::value(Kind::Address, query.address));
        keys.push(EntryKey::value(Kind::Users, query.address));
        keys.push(EntryKey::value(Kind::Trusted, query.address));
        keys.push(EntryKey::value(Kind::Prefix, query.prefix));
        keys.push(EntryKey::value(Kind::Agent, query.agent));
        keys.push(EntryKey::value(Kind::Tenant, query.tenant));
    }
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
            .client
            .map(|client| EntryKey::subject(Kind::Client, client)),
    );
    keys.extend(
        query
            .scopes
            .map(|client| EntryKey::subject(Kind::Scopes, client)),
    );
    keys.extend(
        query
            .links
            .iter()
            .take(LINKS_MAX)
            .copied()
            .map(EntryKey::link),
    );
    keys.extend(
        query
            .demands
            .iter()
            .take(DEMANDS_MAX)
            .copied()
            .map(EntryKey::demand),
    );
}

/// The history that `values` make. They are in the order of [`keys`]; a value that does not decode is as good as none.
pub(crate) fn history<'v, V: Into<Found<'v>>>(
    query: &HistoryQuery,
    codec: &Codec,
    distinct: Distinct,
    values: impl IntoIterator<Item = Option<V>>,
) -> History {
    let mut values = values.into_iter().map(|value| value.map(Into::into));
    let mut history = history_of(query, codec, distinct, &mut values);
    if let Some(previous) = &query.previous {
        let before = history_of(&previous.query, codec, distinct, &mut values);
        add_previous(&mut history, before, query, previous);
    }
    history
}

fn history_of<'v>(
    query: &HistoryQuery,
    codec: &Codec,
    distinct: Distinct,
    values: &mut impl Iterator<Item = Option<Found<'v>>>,
) -> History {
    let mut history = History::default();
    let now = query.now;
    let mut keys = Vec::with_capacity(ENTRIES_MAX);
    push_keys(query, &mut keys);
    for (key, value) in keys.iter().zip(values) {
        let value = match value {
            Some(Found::Bytes(value)) => value,
            Some(Found::Link(provenance)) => {
                place_link(&mut history, query, key, Some(provenance.clone()));
                continue;
            }
            Some(Found::Rates(rates)) => {
                place(&mut history, key.kind, rates.decayed_to(key.kind, now));
                continue;
            }
            None => continue,
        };
        match key.kind {
            Kind::Profile => history.profile = codec.open_profile(key, value, now),
            Kind::Client => history.client = codec.open_client(key, value, now),
            Kind::Scopes => history.scopes = codec.open_scopes(key, value, now),
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
                let provenance = codec.open_link(key, value, now);
                place_link(&mut history, query, key, provenance);
            }
            Kind::Demand(_) => {
                let wanted = query
                    .demands
                    .iter()
                    .find(|demand| EntryKey::demand(**demand) == *key);
                let demand = codec.open_demand(key, value, now);
                let brought_back = demand.and_then(|demand| demand.brought_back(now));
                if let Some((wanted, demand)) = wanted.zip(brought_back) {
                    history.demands.insert(*wanted, demand);
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
            Kind::Review | Kind::Ticket => {}
        }
    }
    history
}

/// Adds what was kept under the names of the previous secret. Counters are the sum, since nothing is counted twice;
/// distinct counts are the larger one, since the two cannot be compared.
fn add_previous(history: &mut History, before: History, query: &HistoryQuery, names: &Previous) {
    let renaming = &names.renaming;
    if history.profile.is_none() {
        history.profile = before.profile.map(|profile| profile.renamed(renaming));
    }
    if history.client.is_none() {
        history.client = before.client.map(|client| client.renamed(renaming));
    }
    for (present, previous) in query.links.iter().zip(&names.query.links) {
        if let Some(provenance) = before.links.get(previous)
            && !history.links.contains_key(present)
        {
            let provenance = provenance.clone().renamed(renaming);
            history.links.insert(*present, provenance);
        }
    }
    for (present, previous) in query.demands.iter().zip(&names.query.demands) {
        if let Some(demand) = before.demands.get(previous) {
            let demand = demand.renamed(renaming);
            let merged = history
                .demands
                .get(present)
                .map_or(demand, |known| known.merged(&demand));
            history.demands.insert(*present, merged);
        }
    }
    history.subject.failures_10m += before.subject.failures_10m;
    history.subject.failures_24h += before.subject.failures_24h;
    history.address.failures_10m += before.address.failures_10m;
    history.address.failures_24h += before.address.failures_24h;
    history.address.attempts_24h += before.address.attempts_24h;
    history.prefix_failures_1h += before.prefix_failures_1h;
    for (ratio, more) in [
        (&mut history.asn, before.asn),
        (&mut history.asn_24h, before.asn_24h),
        (&mut history.agent, before.agent),
        (&mut history.agent_24h, before.agent_24h),
        (&mut history.tenant, before.tenant),
    ] {
        ratio.failures += more.failures;
        ratio.attempts += more.attempts;
    }
    for (count, other) in [
        (
            &mut history.subject.addresses_24h,
            before.subject.addresses_24h,
        ),
        (&mut history.address.users_1h, before.address.users_1h),
        (
            &mut history.address.trusted_subjects,
            before.address.trusted_subjects,
        ),
    ] {
        *count = count.max(other);
    }
}

/// Applies `plan`.
pub(crate) fn apply<E: Entries>(
    plan: &Plan<'_>,
    codec: &Codec,
    entries: &mut E,
) -> Result<(), E::Error> {
    for (key, more) in &plan.rates {
        entries.count(key, more)?;
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
    for pupil in plan.pupils() {
        let current = entries.get(&pupil.key)?;
        let previous = match &pupil.previous {
            Some((key, _)) => entries.get(key)?,
            None => None,
        };
        let learnt = pupil.learnt(codec, current.as_deref(), previous.as_deref());
        if let Some(Learnt { bytes, at, ttl }) = learnt {
            entries.put(&pupil.key, bytes, at, at.plus(ttl))?;
            if let Some((key, _)) = pupil.previous.filter(|_| previous.is_some()) {
                entries.remove(&key)?;
            }
        }
    }
    for (key, (provenance, at, ttl)) in &plan.links {
        entries.put_link(key, codec, provenance, *at, at.plus(*ttl))?;
    }
    if plan.population.total > 0 {
        entries.add(&plan.population)?;
    }
    Ok(())
}

/// Whether a stored ticket is still to be redeemed or has been: its first byte.
const TICKET_ISSUED: u8 = 0;
const TICKET_REDEEMED: u8 = 1;

/// Keeps a ticket. One that is there already stays as it is.
pub(crate) fn issue<E: Entries>(
    entries: &mut E,
    codec: &Codec,
    ticket: Pseudonym,
    binding: Pseudonym,
    at: Timestamp,
    ttl: Duration,
) -> Result<(), E::Error> {
    let key = EntryKey::ticket(ticket);
    let expires = at.plus(ttl);
    if entries.get(&key)?.is_none()
        && let Some(sealed) = codec.ticket(&key, binding, expires)
    {
        let value = [&[TICKET_ISSUED], sealed.as_slice()].concat();
        entries.put(&key, value, at, expires)?;
    }
    Ok(())
}

/// Redeems a ticket, for stores that have one writer at a time. Whoever is told that it is good must first have brought
/// the change to where it survives.
pub(crate) fn redeem<E: Entries>(
    entries: &mut E,
    codec: &Codec,
    ticket: Pseudonym,
    binding: Pseudonym,
    now: Timestamp,
) -> Result<Redemption, E::Error> {
    let key = EntryKey::ticket(ticket);
    let Some(mut value) = entries.get(&key)? else {
        return Ok(Redemption::Unknown);
    };
    let Some((state, sealed)) = value.split_first_mut() else {
        return Ok(Redemption::Unknown);
    };
    if *state != TICKET_ISSUED {
        return Ok(Redemption::AlreadyRedeemed);
    }
    *state = TICKET_REDEEMED;
    let Some(expires) = codec.ticket_end(&key, sealed) else {
        return Ok(Redemption::Unknown);
    };
    let good = codec.is_ticket(&key, sealed, binding, now);
    entries.put(&key, value, now, expires)?;
    Ok(if good {
        Redemption::Redeemed
    } else {
        Redemption::Unknown
    })
}

/// Changes the queue of held logins, for stores that have one writer at a time. A queue that has grown too long to be kept
/// stays as it was, and so does one that does not open.
pub(crate) fn change_queue<E: Entries>(
    entries: &mut E,
    codec: &Codec,
    change: &QueueChange,
    at: Timestamp,
) -> Result<Result<ReviewQueue, Unreadable>, E::Error> {
    let key = EntryKey::review();
    let stored = entries.get(&key)?;
    let Ok(mut queue) = codec.kept_queue(stored.as_deref()) else {
        return Ok(Err(Unreadable));
    };
    let before = queue.clone();
    if !change(&mut queue) {
        return Ok(Ok(queue));
    }
    let Some(bytes) = codec.queue(&queue) else {
        return Ok(Ok(before));
    };
    let at = queue.latest().max(at);
    entries.put(&key, bytes, at, at.plus(key.kind.ttl()))?;
    Ok(Ok(queue))
}

/// Changes the profile under `key`, if there is one, for stores that have one writer at a time.
pub(crate) fn change_profile<E: Entries>(
    entries: &mut E,
    codec: &Codec,
    key: &EntryKey,
    now: Timestamp,
    change: Change<'_>,
) -> Result<bool, E::Error> {
    let old = entries
        .get(key)?
        .and_then(|bytes| codec.open_profile(key, &bytes, now));
    let Some(profile) = old.map(change) else {
        return Ok(false);
    };
    if let Some(bytes) = codec.profile(key, &profile) {
        let expires = profile.last.plus(key.kind.ttl());
        entries.put(key, bytes, profile.last, expires)?;
    }
    Ok(true)
}

/// The distinct counts of stores that keep whole sketches.
pub(crate) fn sketched(codec: &Codec, key: &EntryKey, value: &[u8], now: Timestamp) -> Option<f32> {
    codec
        .open_windows(key, value)
        .map(|windows| windows.estimate(key.kind, now))
}

fn place_link(
    history: &mut History,
    query: &HistoryQuery,
    key: &EntryKey,
    provenance: Option<Provenance>,
) {
    let link = query
        .links
        .iter()
        .find(|link| EntryKey::link(**link) == *key);
    if let Some((link, provenance)) = link.zip(provenance) {
        history.links.insert(*link, provenance);
    }
}

fn place(history: &mut History, kind: Kind, [a, b, c, d]: [f32; RATES_MAX]) {
    let ratio = |failures, attempts| FailureRatio { failures, attempts };
    match kind {
        Kind::Address => {
            history.address.failures_10m = a;
            history.address.failures_24h = b;
            history.address.attempts_24h = c;
        }
        Kind::Agent => {
            history.agent = ratio(a, c);
            history.agent_24h = ratio(b, d);
        }
        Kind::AutonomousSystem => {
            history.asn = ratio(a, c);
            history.asn_24h = ratio(b, d);
        }
        Kind::Prefix => history.prefix_failures_1h = a,
        Kind::Subject => {
            history.subject.failures_10m = a;
            history.subject.failures_24h = b;
        }
        Kind::Tenant => history.tenant = ratio(a, b),
        Kind::Addresses
        | Kind::Client
        | Kind::Demand(_)
        | Kind::Link(_)
        | Kind::Profile
        | Kind::Review
        | Kind::Scopes
        | Kind::Ticket
        | Kind::Trusted
        | Kind::Users => {}
    }
}
