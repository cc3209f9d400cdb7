//! What was learnt and is not in the file yet. A batch of observations changes a table of entries in memory, which readers
//! see at once; once a flush interval the table is set apart and goes to the file in one transaction, each entry once however
//! often it changed. A transaction copies every page that it touches, so that many small ones cost many times as much.
//!
//! Readers look at the table that fills, then at the one that is being written, then at the one that was written last, then
//! at the file, in this order: a table is let go of only when the file has what is in it, and nobody misses an entry that is
//! on its way.

use crate::adapters::embedded::bundle::Links;
use crate::adapters::embedded::bundle::ShortName;
use crate::adapters::embedded::bundle::Slot;
use crate::adapters::embedded::places::Places;
use crate::adapters::embedded::tables;
use crate::adapters::embedded::tables::Snapshot;
use crate::adapters::priority::Turns;
use crate::adapters::store::codec::Codec;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::Rates;
use crate::adapters::store::entries::Entries;
use crate::adapters::store::entries::Found;
use crate::adapters::store::plan::add_to_population;
use crate::domain::history::Population;
use crate::domain::history::Provenance;
use crate::domain::time::Timestamp;
use arc_swap::ArcSwap;
use arc_swap::Guard;
use dashmap::DashMap;
use parking_lot::Mutex;
use redb::AccessGuard;
use redb::StorageError;
use std::sync::Arc;

/// How often a link is looked for whose bundle has just gone.
const LOOKS: usize = 8;

/// Keys are made with a secret, so that nobody can choose where they go.
type Hasher = foldhash::fast::RandomState;

/// A value as it goes to the file.
#[derive(Clone)]
enum Value {
    /// Its header before it.
    Stored(Arc<[u8]>),
    Link(Waiting),
    /// Counters, with their end.
    Rates(Rates, Timestamp),
    /// The entry is to be removed.
    Removed,
}

/// A link that waits for the file. What it leads to is shared with whoever else has it at hand, and made into bytes only when
/// it is written.
#[derive(Clone)]
pub(super) struct Waiting {
    provenance: Arc<Provenance>,
    pub(super) at: Timestamp,
    pub(super) expires: Timestamp,
}

/// One table of entries that are not in the file yet.
#[derive(Default)]
pub(super) struct Layer {
    entries: DashMap<EntryKey, Value, Hasher>,
    population: Mutex<Population>,
}

/// The table that fills, the one that is being written, and the one that was written last: whoever has just been seen comes
/// again, and is not read from the file then.
#[derive(Default)]
pub(super) struct Layers {
    filling: Arc<Layer>,
    being_written: Option<Arc<Layer>>,
    written: Option<Arc<Layer>>,
}

/// What there is under a key.
pub(super) enum Stored {
    /// On its way to the file.
    Unwritten(Arc<[u8]>),
    /// A link on its way to the file.
    Waiting(Waiting),
    /// Counters on their way to the file.
    Rates(Rates, Timestamp),
    /// In the file.
    Written(Row),
    /// In a bundle of the file, and a snapshot that has it, where the one that was taken before has not.
    Bound {
        row: Row,
        slot: Slot,
        _held: Option<Arc<Snapshot>>,
    },
}

/// A row of the file. It may be looked at as long as its snapshot is held.
type Row = AccessGuard<'static, &'static [u8]>;

/// The entries as a batch of observations finds and changes them.
pub(super) struct Lesson<'f> {
    layers: Guard<Arc<Layers>>,
    file: File<'f>,
    turns: Turns,
}

/// What is in the file, for whoever reads.
#[derive(Clone, Copy)]
pub(super) struct File<'f> {
    /// Taken after the tables in memory.
    pub(super) snapshot: &'f Snapshot,
    pub(super) latest: &'f ArcSwap<Snapshot>,
    pub(super) places: &'f Places,
}

impl Waiting {
    /// As it goes to the file; `None` if it is too long to be kept.
    pub(super) fn encode(&self, codec: &Codec, key: &EntryKey) -> Option<Vec<u8>> {
        codec.link(key, &self.provenance, self.expires)
    }
}

impl Stored {
    /// What it says at `now`; `None` once it has ended.
    pub(super) fn found(&self, now: Timestamp) -> Option<Found<'_>> {
        match self {
            Self::Unwritten(bytes) => tables::payload(bytes, now).map(Found::Bytes),
            Self::Rates(rates, expires) => (now < *expires).then_some(Found::Rates(*rates)),
            Self::Waiting(link) => (now < link.expires).then_some(Found::Link(&link.provenance)),
            Self::Written(row) => tables::payload(row.value(), now).map(Found::Bytes),
            Self::Bound { row, slot, .. } => {
                let links = Links::decode(row.value()).filter(|_| now < slot.expires)?;
                Some(Found::Bytes(links.value(slot)))
            }
        }
    }

    /// The counters, whether or not they have ended.
    fn rates(&self, kind: Kind) -> Option<Rates> {
        match self {
            Self::Rates(rates, _) => Some(*rates),
            Self::Unwritten(_) | Self::Waiting(_) | Self::Written(_) | Self::Bound { .. } => {
                Rates::decode(kind, self.value()?)
            }
        }
    }

    /// The value, whether or not it has ended. Whoever learns does not read links, and counters are not read as bytes.
    fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Unwritten(bytes) => tables::value(bytes),
            Self::Written(row) => tables::value(row.value()),
            Self::Bound { row, slot, .. } => {
                Links::decode(row.value()).map(|links| links.value(slot))
            }
            Self::Waiting(_) | Self::Rates(..) => None,
        }
    }
}

impl File<'_> {
    fn get(self, key: &EntryKey) -> Result<Option<Stored>, StorageError> {
        if let Some(name) = ShortName::of(key) {
            // A link that is bound anew is found in one of its two places: the old one stays until the next transaction.
            // Whoever is so slow that it is gone by then looks again.
            for _ in 0..LOOKS {
                let Some(id) = self.places.find(name) else {
                    break;
                };
                let (row, later) = match self.snapshot.links().get(id)? {
                    Some(row) => (Some(row), None),
                    None => {
                        let later = self.latest.load_full();
                        (later.links().get(id)?, Some(later))
                    }
                };
                if let Some(row) = row {
                    let slot = Links::decode(row.value()).and_then(|links| links.find(key));
                    return Ok(slot.map(|slot| Stored::Bound {
                        row,
                        slot,
                        _held: later,
                    }));
                }
            }
        }
        Ok(self.snapshot.get(key)?.map(Stored::Written))
    }
}

impl Layer {
    /// Entries that wait for the file.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits for the file.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.population.lock().total == 0
    }

    /// The link under `key`, if one waits.
    pub(super) fn link(&self, key: &EntryKey) -> Option<Waiting> {
        match self.entries.get(key)?.value() {
            Value::Link(link) => Some(link.clone()),
            Value::Stored(_) | Value::Rates(..) | Value::Removed => None,
        }
    }

    /// Whether something is known of `key` here.
    pub(super) fn has(&self, key: &EntryKey) -> bool {
        self.entries.contains_key(key)
    }

    /// The links that wait.
    pub(super) fn links(&self) -> Vec<(EntryKey, Waiting)> {
        let links = self.entries.iter().filter_map(|entry| match entry.value() {
            Value::Link(link) => Some((*entry.key(), link.clone())),
            Value::Stored(_) | Value::Rates(..) | Value::Removed => None,
        });
        links.collect()
    }

    /// Brings all of it but the links into the tables of a transaction, neighbours together.
    pub(super) fn write(&self, file: &mut tables::Tables<'_>) -> Result<(), redb::Error> {
        let mut entries: Vec<(EntryKey, Option<Arc<[u8]>>)> = self
            .entries
            .iter()
            .filter_map(|entry| match entry.value() {
                Value::Stored(value) => Some((*entry.key(), Some(Arc::clone(value)))),
                Value::Rates(rates, expires) => {
                    let value = rates.encode(entry.key().kind);
                    let stored = tables::with_header(&value, rates.at(), *expires);
                    Some((*entry.key(), Some(Arc::from(stored))))
                }
                Value::Removed => Some((*entry.key(), None)),
                Value::Link(_) => None,
            })
            .collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in entries {
            match value {
                Some(value) => file.put_stored(&key, &value)?,
                None => file.remove(&key)?,
            }
        }
        let population = self.population.lock().clone();
        if population.total > 0 {
            file.add(&population)?;
        }
        Ok(())
    }

    fn add(&self, more: &Population) {
        let counts = more.counts.iter().map(|(value, count)| (*value, *count));
        add_to_population(&mut self.population.lock(), more.total, counts);
    }
}

impl Layers {
    /// What is known of `key` here: `None` when the file must be asked.
    fn get(&self, key: &EntryKey) -> Option<Value> {
        let layers = [
            Some(&self.filling),
            self.being_written.as_ref(),
            self.written.as_ref(),
        ];
        let found = |layer: &Arc<Layer>| layer.entries.get(key).map(|found| found.clone());
        layers.into_iter().flatten().find_map(found)
    }

    /// What is under `key`, here or in `file`, which must not have been looked at before `self` was taken.
    pub(super) fn stored(
        &self,
        file: File<'_>,
        key: &EntryKey,
    ) -> Result<Option<Stored>, StorageError> {
        match self.get(key) {
            Some(Value::Stored(bytes)) => Ok(Some(Stored::Unwritten(bytes))),
            Some(Value::Link(link)) => Ok(Some(Stored::Waiting(link))),
            Some(Value::Rates(rates, expires)) => Ok(Some(Stored::Rates(rates, expires))),
            Some(Value::Removed) => Ok(None),
            None => file.get(key),
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
        let written = layers.load().written.clone();
        layers.store(Arc::new(Self {
            filling: Arc::new(next),
            being_written: Some(Arc::clone(&full)),
            written,
        }));
        full
    }

    /// The file has what was set apart, and readers of the file see it. Where nothing else was written to the file, what was
    /// set apart stays in memory until the next time.
    ///
    /// What there was until now is returned: who reads may still have it, and should not be the one who has to take it down.
    pub(super) fn let_go(layers: &ArcSwap<Self>, stays: bool) -> Arc<Self> {
        let current = layers.load();
        let written = match &current.being_written {
            Some(apart) => Some(apart),
            None => current.written.as_ref(),
        };
        layers.swap(Arc::new(Self {
            filling: Arc::clone(&current.filling),
            being_written: None,
            written: written.filter(|_| stays).cloned(),
        }))
    }

    /// Nothing was learnt for a while: what was written last need not stay.
    pub(super) fn forget_written(layers: &ArcSwap<Self>) -> Option<Arc<Self>> {
        let is_there = layers.load().written.is_some();
        is_there.then(|| Self::let_go(layers, false))
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
            current.filling.add(&apart.population.lock());
            layers.store(Arc::new(Self {
                filling: Arc::clone(&current.filling),
                being_written: None,
                written: current.written.clone(),
            }));
        }
    }
}

impl<'f> Lesson<'f> {
    /// For whoever learns, one at a time.
    pub(super) fn new(layers: Guard<Arc<Layers>>, file: File<'f>) -> Self {
        Self {
            layers,
            file,
            turns: Turns::every(tables::WRITTEN_AT_ONCE),
        }
    }
}

impl Entries for Lesson<'_> {
    type Error = redb::Error;

    fn get(&mut self, key: &EntryKey) -> Result<Option<Vec<u8>>, redb::Error> {
        let stored = self.layers.stored(self.file, key)?;
        Ok(stored.and_then(|stored| stored.value().map(<[u8]>::to_vec)))
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
            .insert(*key, Value::Stored(Arc::from(stored)));
        self.turns.did();
        Ok(())
    }

    fn count(&mut self, key: &EntryKey, more: &Rates) -> Result<(), redb::Error> {
        let stored = self.layers.stored(self.file, key)?;
        let old = stored.and_then(|stored| stored.rates(key.kind));
        let new = old.map_or(*more, |old| old.merged(key.kind, more));
        let value = Value::Rates(new, new.at().plus(new.ttl(key.kind)));
        self.layers.filling.entries.insert(*key, value);
        self.turns.did();
        Ok(())
    }

    fn put_link(
        &mut self,
        key: &EntryKey,
        _codec: &Codec,
        provenance: &Arc<Provenance>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), redb::Error> {
        let link = Waiting {
            provenance: Arc::clone(provenance),
            at,
            expires,
        };
        self.layers.filling.entries.insert(*key, Value::Link(link));
        self.turns.did();
        Ok(())
    }

    fn remove(&mut self, key: &EntryKey) -> Result<(), redb::Error> {
        self.layers.filling.entries.insert(*key, Value::Removed);
        Ok(())
    }

    fn add(&mut self, more: &Population) -> Result<(), redb::Error> {
        self.layers.filling.add(more);
        Ok(())
    }
}
