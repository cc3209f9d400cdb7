//! A memory that forgets when the process ends, and one that fails on command: for tests and simulations. Both keep to
//! the same contract as the real stores.

use crate::adapters::store::codec::Codec;
use crate::adapters::store::codec::Unreadable;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entries;
use crate::adapters::store::entries::Entries;
use crate::adapters::store::plan::Plan;
use crate::adapters::store::plan::add_to_population;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::Observation;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::WhichDevices;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::review::ReviewQueue;
use crate::domain::time::Timestamp;
use crate::flow::ports::QueueChange;
use crate::flow::ports::Redemption;
use crate::flow::ports::StateError;
use crate::flow::ports::StateStore;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A store in a map. It grows without bound.
#[derive(Debug, Default)]
pub struct MemoryStore {
    map: Mutex<Map>,
}

/// What a [`FaultyStore`] does to its calls.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum StoreFault {
    /// The call is answered after this time.
    Delayed(Duration),
    /// The call fails at once.
    Failing(StateError),
    /// The call never returns; whoever waits needs a deadline.
    Hanging,
    /// The call is passed on.
    #[default]
    None,
    /// What the call changes in the queue of held logins is changed, and the answer is lost: the call fails.
    Unheard(StateError),
}

/// Passes calls on to another store, or fails as it is told.
pub struct FaultyStore {
    inner: Arc<dyn StateStore>,
    fault: Mutex<StoreFault>,
    calls: AtomicU64,
}

#[derive(Debug, Default)]
struct Map {
    entries: HashMap<EntryKey, (Vec<u8>, Timestamp)>,
    population: Population,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are, expired or not.
    pub fn entries(&self) -> usize {
        self.map.lock().entries.len()
    }

    /// How many entries there are, expired or not, the bytes of their keys and values, and how many of them are profiles.
    pub fn size(&self) -> (usize, usize, usize) {
        let map = self.map.lock();
        let values = map.entries.values().map(|(value, _)| value.len());
        let each = size_of::<EntryKey>() + size_of::<(Vec<u8>, Timestamp)>();
        let count = map.entries.len();
        let profiles = map.entries.keys().filter(|key| key.kind == Kind::Profile);
        (
            count,
            values.sum::<usize>() + count * each,
            profiles.count(),
        )
    }

    /// Gives up what has ended by `now`.
    pub fn forget_ended(&self, now: Timestamp) {
        self.map
            .lock()
            .entries
            .retain(|_, (_, expires)| now < *expires);
    }

    /// The bytes of a subject's profile, for comparing.
    pub fn profile_bytes(&self, subject: SubjectKey) -> Option<Vec<u8>> {
        let key = EntryKey::subject(Kind::Profile, subject);
        self.map
            .lock()
            .entries
            .get(&key)
            .map(|(bytes, _)| bytes.clone())
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn load(&self, query: &HistoryQuery) -> Result<History, StateError> {
        let map = self.map.lock();
        let keys = entries::keys(query);
        let values = keys.iter().map(|key| {
            let (value, expires) = map.entries.get(key)?;
            (query.now < *expires).then_some(value.as_slice())
        });
        Ok(entries::history(
            query,
            &Codec::plain(),
            entries::sketched,
            values,
        ))
    }

    async fn record(&self, observations: &[Observation]) -> Result<(), StateError> {
        match entries::apply(
            &Plan::of(observations),
            &Codec::plain(),
            &mut *self.map.lock(),
        ) {
            Ok(()) => Ok(()),
            Err(never) => match never {},
        }
    }

    async fn issue_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), StateError> {
        let mut map = self.map.lock();
        match entries::issue(&mut *map, &Codec::plain(), ticket, binding, at, ttl) {
            Ok(()) => Ok(()),
            Err(never) => match never {},
        }
    }

    async fn redeem_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        now: Timestamp,
    ) -> Result<Redemption, StateError> {
        let mut map = self.map.lock();
        match entries::redeem(&mut *map, &Codec::plain(), ticket, binding, now) {
            Ok(redemption) => Ok(redemption),
            Err(never) => match never {},
        }
    }

    async fn review_queue(&self) -> Result<ReviewQueue, StateError> {
        let map = self.map.lock();
        let stored = map.entries.get(&EntryKey::review());
        let kept = stored.map(|(bytes, _)| bytes.as_slice());
        Codec::plain().kept_queue(kept).map_err(unreadable)
    }

    async fn change_review_queue(&self, change: QueueChange) -> Result<ReviewQueue, StateError> {
        let mut map = self.map.lock();
        let now = Timestamp::default();
        match entries::change_queue(&mut *map, &Codec::plain(), &change, now) {
            Ok(queue) => queue.map_err(unreadable),
            Err(never) => match never {},
        }
    }

    async fn forget_devices(
        &self,
        subject: SubjectKey,
        which: WhichDevices,
        now: Timestamp,
    ) -> Result<bool, StateError> {
        let mut map = self.map.lock();
        let forget = |mut profile: Profile| {
            profile.forget_devices(which, now);
            profile
        };
        let key = EntryKey::subject(Kind::Profile, subject);
        match entries::change_profile(&mut *map, &Codec::plain(), &key, now, &forget) {
            Ok(found) => Ok(found),
            Err(never) => match never {},
        }
    }

    async fn population(&self) -> Result<Population, StateError> {
        Ok(self.map.lock().population.clone())
    }

    async fn ping(&self) -> Result<(), StateError> {
        Ok(())
    }

    fn kind(&self) -> &'static str {
        "memory"
    }
}

impl Entries for Map {
    type Error = Infallible;

    fn get(&mut self, key: &EntryKey) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.entries.get(key).map(|(value, _)| value.clone()))
    }

    fn put(
        &mut self,
        key: &EntryKey,
        value: Vec<u8>,
        _at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), Infallible> {
        self.entries.insert(*key, (value, expires));
        Ok(())
    }

    fn remove(&mut self, key: &EntryKey) -> Result<(), Infallible> {
        self.entries.remove(key);
        Ok(())
    }

    fn add(&mut self, more: &Population) -> Result<(), Infallible> {
        let counts = more.counts.iter().map(|(value, count)| (*value, *count));
        add_to_population(&mut self.population, more.total, counts);
        Ok(())
    }
}

impl FaultyStore {
    /// Passes calls on to `inner` until told otherwise.
    pub fn new(inner: Arc<dyn StateStore>) -> Self {
        Self {
            inner,
            fault: Mutex::default(),
            calls: AtomicU64::new(0),
        }
    }

    /// From now on calls meet `fault`.
    pub fn set(&self, fault: StoreFault) {
        *self.fault.lock() = fault;
    }

    /// How many calls have been made, whatever became of them.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn meet(&self) -> Result<(), StateError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault.lock().clone();
        match fault {
            StoreFault::Delayed(delay) => tokio::time::sleep(delay).await,
            StoreFault::Failing(error) => return Err(error),
            StoreFault::Hanging => std::future::pending::<()>().await,
            StoreFault::None | StoreFault::Unheard(_) => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore")
            .field("kind", &self.inner.kind())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for FaultyStore {
    async fn load(&self, query: &HistoryQuery) -> Result<History, StateError> {
        self.meet().await?;
        self.inner.load(query).await
    }

    async fn record(&self, observations: &[Observation]) -> Result<(), StateError> {
        self.meet().await?;
        self.inner.record(observations).await
    }

    async fn issue_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), StateError> {
        self.meet().await?;
        self.inner.issue_ticket(ticket, binding, at, ttl).await
    }

    async fn redeem_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        now: Timestamp,
    ) -> Result<Redemption, StateError> {
        self.meet().await?;
        self.inner.redeem_ticket(ticket, binding, now).await
    }

    async fn review_queue(&self) -> Result<ReviewQueue, StateError> {
        self.meet().await?;
        self.inner.review_queue().await
    }

    async fn change_review_queue(&self, change: QueueChange) -> Result<ReviewQueue, StateError> {
        self.meet().await?;
        let changed = self.inner.change_review_queue(change).await;
        let fault = self.fault.lock().clone();
        match fault {
            StoreFault::Unheard(error) => Err(error),
            _ => changed,
        }
    }

    async fn forget_devices(
        &self,
        subject: SubjectKey,
        which: WhichDevices,
        now: Timestamp,
    ) -> Result<bool, StateError> {
        self.meet().await?;
        self.inner.forget_devices(subject, which, now).await
    }

    async fn population(&self) -> Result<Population, StateError> {
        self.meet().await?;
        self.inner.population().await
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.meet().await?;
        self.inner.ping().await
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

fn unreadable(_: Unreadable) -> StateError {
    StateError::Refused("the held logins do not open".to_owned())
}
