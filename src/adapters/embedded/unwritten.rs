//! What was learnt and is not in the file yet. A batch of observations changes a table of entries in memory, which readers
//! see at once; once a flush interval the table is set apart and goes to the file in one transaction, each entry once however
//! often it changed. A transaction copies every page that it touches, so that many small ones cost many times as much.
//!
//! Readers look at the table that fills, then at the one that is being written, then at the file, in this order: a table is
//! let go of only when the file has what is in it, and nobody misses an entry that is on its way.

use crate::adapters::embedded::tables;
use crate::adapters::embedded::tables::Snapshot;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entries::Entries;
use crate::adapters::store::plan::add_to_population;
use crate::domain::history::Population;
use crate::domain::time::Timestamp;
use arc_swap::ArcSwap;
use arc_swap::Guard;
use dashmap::DashMap;
use redb::AccessGuard;
use redb::StorageError;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// Keys are made with a secret, so that nobody can choose where they go.
type Hasher = foldhash::fast::RandomState;

/// A value as it goes to the file, its header before it; `None` where the entry is to be removed.
type Value = Option<Arc<[u8]>>;

/// One table of entries that are not in the file yet.
#[derive(Default)]
pub(super) struct Layer {
    entries: DashMap<EntryKey, Value, Hasher>,
    population: Mutex<Population>,
}

/// The table that fills and the one that is being written.
#[derive(Default)]
pub(super) struct Layers {
    filling: Arc<Layer>,
    being_written: Option<Arc<Layer>>,
}

/// A stored value, its header before it.
pub(super) enum Stored {
    /// On its way to the file.
    Unwritten(Arc<[u8]>),
    /// In the file.
    Written(AccessGuard<'static, &'static [u8]>),
}

/// The entries as a batch of observations finds and changes them.
pub(super) struct Lesson {
    layers: Guard<Arc<Layers>>,
    snapshot: Guard<Arc<Snapshot>>,
    turns: tables::Turns,
}

impl Stored {
    /// The header and the value.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Unwritten(bytes) => bytes,
            Self::Written(guard) => guard.value(),
        }
    }
}

impl Layer {
    /// Entries that wait for the file.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits for the file.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && lock(&self.population).total == 0
    }

    /// Brings all of it into the tables of a transaction, neighbours together.
    pub(super) fn write(&self, file: &mut tables::Tables<'_>) -> Result<(), redb::Error> {
        let mut entries: Vec<(EntryKey, Value)> = self
            .entries
            .iter()
            .map(|entry| (*entry.key(), entry.value().clone()))
            .collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in entries {
            match value {
                Some(value) => file.put_stored(&key, &value)?,
                None => file.remove(&key)?,
            }
        }
        let population = lock(&self.population).clone();
        if population.total > 0 {
            file.add(&population)?;
        }
        Ok(())
    }

    fn add(&self, more: &Population) {
        let counts = more.counts.iter().map(|(value, count)| (*value, *count));
        add_to_population(&mut lock(&self.population), more.total, counts);
    }
}

impl Layers {
    /// What is known of `key` here: `None` when the file must be asked.
    fn get(&self, key: &EntryKey) -> Option<Value> {
        let found = self.filling.entries.get(key).map(|found| found.clone());
        found.or_else(|| {
            let before = self.being_written.as_ref()?;
            before.entries.get(key).map(|found| found.clone())
        })
    }

    /// The value under `key`, here or in the file. `snapshot` must have been taken after `self`.
    pub(super) fn stored(
        &self,
        snapshot: &Snapshot,
        key: &EntryKey,
    ) -> Result<Option<Stored>, StorageError> {
        match self.get(key) {
            Some(known) => Ok(known.map(Stored::Unwritten)),
            None => Ok(snapshot.get(key)?.map(Stored::Written)),
        }
    }

    /// The table that fills.
    pub(super) fn filling(&self) -> &Layer {
        &self.filling
    }

    /// Sets the table that fills apart, for a transaction; another one fills from now on. Nobody may be learning meanwhile.
    pub(super) fn set_apart(layers: &ArcSwap<Self>) -> Arc<Layer> {
        // One that is still apart is of a transaction that panicked.
        Self::put_back(layers);
        let full = Arc::clone(&layers.load().filling);
        if full.is_empty() {
            // Somebody may learn in the next moment: what was not set apart is not what is written.
            return Arc::default();
        }
        let next = Layer {
            entries: DashMap::with_capacity_and_hasher(full.len(), Hasher::default()),
            population: Mutex::default(),
        };
        layers.store(Arc::new(Self {
            filling: Arc::new(next),
            being_written: Some(Arc::clone(&full)),
        }));
        full
    }

    /// The file has what was set apart, and readers of the file see it.
    pub(super) fn let_go(layers: &ArcSwap<Self>) {
        let filling = Arc::clone(&layers.load().filling);
        layers.store(Arc::new(Self {
            filling,
            being_written: None,
        }));
    }

    /// The file could not take what was set apart: it waits on, behind what was learnt since. Nobody may be learning
    /// meanwhile.
    pub(super) fn put_back(layers: &ArcSwap<Self>) {
        let current = layers.load();
        if let Some(apart) = &current.being_written {
            for entry in &apart.entries {
                let waiting = current.filling.entries.entry(*entry.key());
                waiting.or_insert_with(|| entry.value().clone());
            }
            current.filling.add(&lock(&apart.population));
            Self::let_go(layers);
        }
    }
}

impl Lesson {
    /// For whoever learns, one at a time.
    pub(super) fn new(layers: &ArcSwap<Layers>, snapshot: &ArcSwap<Snapshot>) -> Self {
        // In this order: see the head of this file.
        let layers = layers.load();
        Self {
            layers,
            snapshot: snapshot.load(),
            turns: tables::Turns::default(),
        }
    }
}

impl Entries for Lesson {
    type Error = redb::Error;

    fn get(&mut self, key: &EntryKey) -> Result<Option<Vec<u8>>, redb::Error> {
        let stored = self.layers.stored(&self.snapshot, key)?;
        Ok(stored.and_then(|stored| tables::value(stored.bytes()).map(<[u8]>::to_vec)))
    }

    fn put(
        &mut self,
        key: &EntryKey,
        value: Vec<u8>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), redb::Error> {
        let stored = tables::with_header(&value, at, expires);
        self.layers
            .filling
            .entries
            .insert(*key, Some(Arc::from(stored)));
        self.turns.wrote();
        Ok(())
    }

    fn remove(&mut self, key: &EntryKey) -> Result<(), redb::Error> {
        self.layers.filling.entries.insert(*key, None);
        Ok(())
    }

    fn add(&mut self, more: &Population) -> Result<(), redb::Error> {
        self.layers.filling.add(more);
        Ok(())
    }
}

/// A lock whose holder panicked holds what it held: entries are replaced whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
