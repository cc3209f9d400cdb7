//! The tables of the state file: one per kind of entry, two for the [bundles](super::bundle) of links, one for the
//! population, one that says what the file is.
//!
//! A value is preceded by the moment it was written and the moment it expires, both as little-endian milliseconds. The
//! tables of the kinds of links hold what was written before there were bundles, each link by itself, until it ends.

use crate::adapters::embedded::EmbeddedError;
use crate::adapters::embedded::bind::Binder;
use crate::adapters::embedded::bind::Told;
use crate::adapters::embedded::bundle::Names;
use crate::adapters::embedded::damaged;
use crate::adapters::embedded::ledger::Ledger;
use crate::adapters::embedded::places::Places;
use crate::adapters::priority::Turns;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entries::Entries;
use crate::adapters::store::plan::POPULATION_MAX;
use crate::domain::history::Population;
use crate::domain::time::Timestamp;
use redb::AccessGuard;
use redb::Database;
use redb::ReadOnlyTable;
use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::ReadableTableMetadata;
use redb::StorageError;
use redb::Table;
use redb::TableDefinition;
use redb::TableHandle;
use redb::WriteTransaction;
use std::path::Path;

/// Every kind of entry, in the order of their tables.
pub(super) const KINDS: [Kind; 26] = Kind::ALL;

/// Bytes before a value: when it was written, when it expires.
const HEADER_BYTES: usize = 16;
/// Entries that are written before whoever waits for the processor gets it: learning takes milliseconds and a flush
/// many, and where they share a core with requests, these would wait for all of it.
pub(super) const WRITTEN_AT_ONCE: u32 = 16;
/// The share of a full table that makes room: one in so many.
pub(super) const ROOM: u64 = 20;

/// The form of the file. Until 1 each link was an entry by itself; such a file is read on as it is.
const FORM: u64 = 2;
const FORM_OF_SINGLE_LINKS: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("riskgate");
const META_SCHEMA: &str = "schema";
const META_LOGINS: &str = "logins";
/// Which secret the names are made with.
const META_NAMES: &str = "names";
const POPULATION: TableDefinition<'_, u64, u64> = TableDefinition::new("population");
/// Bundles of links, by their numbers.
pub(super) const LINKS: TableDefinition<'_, u64, Value> = TableDefinition::new("links");
/// The short names of the links in each.
pub(super) const NAMES: TableDefinition<'_, u64, Value> = TableDefinition::new("link_names");

type Key = &'static [u8];
type Value = &'static [u8];

/// The tables as they were at one moment, open for reading.
pub(super) struct Snapshot {
    tables: Vec<ReadOnlyTable<Key, Value>>,
    links: ReadOnlyTable<u64, Value>,
    population: ReadOnlyTable<u64, u64>,
    meta: ReadOnlyTable<&'static str, u64>,
}

/// The tables of one write transaction, opened as they are needed.
pub(super) struct Tables<'t> {
    pub(super) transaction: &'t WriteTransaction,
    pub(super) binder: Binder<'t>,
    pub(super) turns: Turns,
    /// The entries that each table keeps.
    pub(super) entries_max: u64,
    /// Whether entries had to go for want of room.
    pub(super) made_room: bool,
    open: Vec<(Kind, Table<'t, Key, Value>)>,
}

/// The table of a kind.
pub(super) fn definition(kind: Kind) -> TableDefinition<'static, Key, Value> {
    TableDefinition::new(kind.name())
}

/// The value without its header; `None` once it has expired or when it is too short to be one.
pub(super) fn payload(stored: &[u8], now: Timestamp) -> Option<&[u8]> {
    let (_, expires) = header(stored)?;
    (now < expires)
        .then(|| stored.get(HEADER_BYTES..))
        .flatten()
}

/// The value without its header, whether or not it has expired.
pub(super) fn value(stored: &[u8]) -> Option<&[u8]> {
    stored.get(HEADER_BYTES..)
}

/// A value as it is stored: when it was written and when it expires before it.
pub(super) fn with_header(value: &[u8], at: Timestamp, expires: Timestamp) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEADER_BYTES + value.len());
    stored.extend_from_slice(&at.millis().to_le_bytes());
    stored.extend_from_slice(&expires.millis().to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

/// When a stored value was written and when it expires.
pub(super) fn header(stored: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (written, rest) = stored.split_first_chunk()?;
    let (expires, _) = rest.split_first_chunk()?;
    Some((
        Timestamp(i64::from_le_bytes(*written)),
        Timestamp(i64::from_le_bytes(*expires)),
    ))
}

impl Snapshot {
    /// The tables of `database` as they are now.
    pub(super) fn of(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let tables = KINDS
            .iter()
            .map(|kind| transaction.open_table(definition(*kind)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            tables,
            links: transaction.open_table(LINKS)?,
            population: transaction.open_table(POPULATION)?,
            meta: transaction.open_table(META)?,
        })
    }

    /// The stored value under `key`.
    pub(super) fn get(
        &self,
        key: &EntryKey,
    ) -> Result<Option<AccessGuard<'static, Value>>, StorageError> {
        match self.table(key.kind) {
            // Most files have no single links any more.
            Some(table) if key.is_link() && table.is_empty()? => Ok(None),
            Some(table) => table.get(key.id().as_slice()),
            None => Ok(None),
        }
    }

    /// The table of `kind`.
    pub(super) fn table(&self, kind: Kind) -> Option<&ReadOnlyTable<Key, Value>> {
        KINDS
            .iter()
            .position(|known| *known == kind)
            .and_then(|place| self.tables.get(place))
    }

    /// The bundles of links.
    pub(super) fn links(&self) -> &ReadOnlyTable<u64, Value> {
        &self.links
    }

    /// The number of entries in all tables, but for links in bundles.
    pub(super) fn len(&self) -> Result<u64, StorageError> {
        self.tables.iter().map(ReadableTableMetadata::len).sum()
    }

    /// How common values are.
    pub(super) fn population(&self) -> Result<Population, StorageError> {
        let total = self.meta.get(META_LOGINS)?.map_or(0, |total| total.value());
        let mut population = Population {
            total,
            ..Population::default()
        };
        for entry in self.population.iter()?.take(POPULATION_MAX) {
            let (value, count) = entry?;
            population.counts.insert(value.value(), count.value());
        }
        Ok(population)
    }
}

impl<'t> Tables<'t> {
    /// Makes the tables of a new file; refuses a database that is not a state file of this schema.
    pub(super) fn prepare(
        database: &Database,
        path: &Path,
        names: u64,
    ) -> Result<(), EmbeddedError> {
        let foreign = |reason: &str| EmbeddedError::Foreign {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let fail = |error: redb::Error| damaged(path, &error);
        {
            let transaction = database.begin_read().map_err(|error| fail(error.into()))?;
            let known: Vec<String> = transaction
                .list_tables()
                .map_err(|error| fail(error.into()))?
                .map(|table| table.name().to_owned())
                .collect();
            if !known.is_empty() {
                let meta = transaction
                    .open_table(META)
                    .map_err(|_| foreign("its tables are another program's"))?;
                let schema = meta
                    .get(META_SCHEMA)
                    .map_err(|error| fail(error.into()))?
                    .map(|schema| schema.value());
                if schema != Some(FORM) && schema != Some(FORM_OF_SINGLE_LINKS) {
                    return Err(foreign(&format!(
                        "its schema is {schema:?}, expected {FORM}"
                    )));
                }
            }
        }
        let make = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            for kind in KINDS {
                transaction.open_table(definition(kind))?;
            }
            transaction.open_table(LINKS)?;
            transaction.open_table(NAMES)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_SCHEMA, FORM)?;
            let before = meta.insert(META_NAMES, names)?.map(|names| names.value());
            let mut population = transaction.open_table(POPULATION)?;
            if before.is_some_and(|before| before != names) {
                population.retain(|_, _| false)?;
                meta.remove(META_LOGINS)?;
            }
            drop((meta, population));
            Ok(transaction.commit()?)
        };
        make().map_err(fail)
    }

    /// The tables of `transaction`.
    pub(super) fn of(
        transaction: &'t WriteTransaction,
        binder: Binder<'t>,
        entries_max: u64,
    ) -> Self {
        Self {
            transaction,
            binder,
            entries_max,
            made_room: false,
            turns: Turns::every(WRITTEN_AT_ONCE),
            open: Vec::with_capacity(KINDS.len()),
        }
    }

    /// Reads which bundles of links there are.
    pub(super) fn ledger(database: &Database, places: &Places) -> Result<Ledger, redb::Error> {
        let mut ledger = Ledger::default();
        let names = database.begin_read()?.open_table(NAMES)?;
        for row in names.iter()? {
            let (id, row) = row?;
            ledger.read(id.value(), Names::decode(row.value()).as_ref(), places);
        }
        Ok(ledger)
    }

    /// Removes from every table that was written to and holds too much what was written longest ago.
    pub(super) fn make_room(&mut self) -> Result<(), redb::Error> {
        let entries_max = self.entries_max;
        for (_, table) in &mut self.open {
            let len = table.len()?;
            if len <= entries_max {
                continue;
            }
            self.made_room = true;
            let surplus =
                usize::try_from(len - entries_max + entries_max / ROOM).unwrap_or(usize::MAX);
            let mut ages = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            for entry in table.iter()? {
                ages.push(
                    header(entry?.1.value()).map_or(Timestamp(i64::MIN), |(written, _)| written),
                );
            }
            let last = surplus.clamp(1, ages.len().max(1)) - 1;
            let Some((_, oldest_kept, _)) =
                (last < ages.len()).then(|| ages.select_nth_unstable(last))
            else {
                continue;
            };
            let (limit, mut left) = (*oldest_kept, surplus);
            // Among equals the first ones go, and no more than have to.
            table.retain(|_, stored| {
                let goes = left > 0 && header(stored).is_none_or(|(written, _)| written <= limit);
                left -= usize::from(goes);
                !goes
            })?;
        }
        Ok(())
    }

    /// Removes the entries under `keys` that have expired at `now` and says how many they were.
    pub(super) fn remove_expired(
        &mut self,
        kind: Kind,
        keys: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<u64, redb::Error> {
        let table = self.table(kind)?;
        let mut removed = 0;
        for key in keys {
            let expired = table
                .get(key.as_slice())?
                .is_some_and(|stored| payload(stored.value(), now).is_none());
            if expired {
                table.remove(key.as_slice())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Whether there is an entry under `key` that has not expired at `now`.
    pub(super) fn is_alive(&mut self, key: &EntryKey, now: Timestamp) -> Result<bool, redb::Error> {
        if key.is_link() {
            return Ok(self.link(key)?.is_some_and(|(_, expires)| now < expires));
        }
        let stored = self.table(key.kind)?.get(key.id().as_slice())?;
        Ok(stored.is_some_and(|stored| payload(stored.value(), now).is_some()))
    }

    /// Removes a link that lies by itself.
    pub(super) fn remove_single(&mut self, key: &EntryKey) -> Result<(), redb::Error> {
        let table = self.table(key.kind)?;
        if !table.is_empty()? {
            table.remove(key.id().as_slice())?;
        }
        Ok(())
    }

    /// The value of a link and when it ends, whether or not it has.
    fn link(&mut self, key: &EntryKey) -> Result<Option<(Vec<u8>, Timestamp)>, redb::Error> {
        let bound = {
            let rows = self.transaction.open_table(LINKS)?;
            self.binder.get(&rows, key)?
        };
        if bound.is_some() || self.binder.told.contains_key(key) {
            return Ok(bound);
        }
        let stored = self.table(key.kind)?.get(key.id().as_slice())?;
        Ok(stored.and_then(|stored| {
            let (_, expires) = header(stored.value())?;
            Some((value(stored.value())?.to_vec(), expires))
        }))
    }

    /// Writes what [`with_header`] made.
    pub(super) fn put_stored(&mut self, key: &EntryKey, stored: &[u8]) -> Result<(), redb::Error> {
        self.table(key.kind)?.insert(key.id().as_slice(), stored)?;
        self.turns.did();
        Ok(())
    }

    fn table(&mut self, kind: Kind) -> Result<&mut Table<'t, Key, Value>, redb::Error> {
        let place = match self.open.iter().position(|(open, _)| *open == kind) {
            Some(place) => place,
            None => {
                self.open
                    .push((kind, self.transaction.open_table(definition(kind))?));
                self.open.len() - 1
            }
        };
        let table = self.open.get_mut(place).map(|(_, table)| table);
        table.ok_or_else(|| {
            redb::Error::Corrupted("a table that has just been opened is gone".to_owned())
        })
    }
}

impl Entries for Tables<'_> {
    type Error = redb::Error;

    fn get(&mut self, key: &EntryKey) -> Result<Option<Vec<u8>>, redb::Error> {
        if key.is_link() {
            return Ok(self.link(key)?.map(|(value, _)| value));
        }
        let stored = self.table(key.kind)?.get(key.id().as_slice())?;
        Ok(stored.and_then(|stored| value(stored.value()).map(<[u8]>::to_vec)))
    }

    fn put(
        &mut self,
        key: &EntryKey,
        value: Vec<u8>,
        at: Timestamp,
        expires: Timestamp,
    ) -> Result<(), redb::Error> {
        if key.is_link() {
            let told = Told::Put(value, at, expires);
            self.binder.told.insert(*key, told);
            return Ok(());
        }
        self.put_stored(key, &with_header(&value, at, expires))
    }

    fn remove(&mut self, key: &EntryKey) -> Result<(), redb::Error> {
        if key.is_link() {
            self.binder.told.insert(*key, Told::Removed);
            return Ok(());
        }
        self.table(key.kind)?.remove(key.id().as_slice())?;
        Ok(())
    }

    fn add(&mut self, more: &Population) -> Result<(), redb::Error> {
        let mut meta = self.transaction.open_table(META)?;
        let logins = meta.get(META_LOGINS)?.map_or(0, |logins| logins.value());
        meta.insert(META_LOGINS, logins.saturating_add(more.total))?;
        let mut counts = self.transaction.open_table(POPULATION)?;
        for (value, count) in &more.counts {
            let known = counts.get(value)?.map(|known| known.value());
            if known.is_some() || counts.len()? < POPULATION_MAX as u64 {
                counts.insert(value, known.unwrap_or(0).saturating_add(*count))?;
            }
        }
        Ok(())
    }
}
