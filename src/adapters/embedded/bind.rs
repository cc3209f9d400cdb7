//! Brings links into the file: what was learnt is bound into new bundles, together with what still holds of those that are
//! to be written anew, within the transaction that writes everything else.

use crate::adapters::embedded::bundle::BUNDLE_BYTES;
use crate::adapters::embedded::bundle::BundleId;
use crate::adapters::embedded::bundle::FILLED_UP_BELOW;
use crate::adapters::embedded::bundle::Filling;
use crate::adapters::embedded::bundle::Links;
use crate::adapters::embedded::bundle::Names;
use crate::adapters::embedded::bundle::Shelf;
use crate::adapters::embedded::bundle::ShortName;
use crate::adapters::embedded::bundle::Slot;
use crate::adapters::embedded::ledger::Ledger;
use crate::adapters::embedded::ledger::Turnover;
use crate::adapters::embedded::places::Places;
use crate::adapters::embedded::tables::LINKS;
use crate::adapters::embedded::tables::NAMES;
use crate::adapters::embedded::tables::ROOM;
use crate::adapters::embedded::tables::Tables;
use crate::adapters::embedded::unwritten::Layer;
use crate::adapters::embedded::unwritten::Waiting;
use crate::adapters::store::codec::Codec;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::domain::history::LinkKind;
use crate::domain::time::Timestamp;
use redb::ReadableTable;
use redb::Table;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// What a transaction has to go by for links, and what it is told of them beyond what was learnt.
pub(super) struct Binder<'t> {
    pub(super) codec: &'t Codec,
    pub(super) ledger: &'t Ledger,
    pub(super) places: &'t Places,
    /// What was learnt, and is written with this transaction.
    pub(super) apart: &'t Layer,
    /// What has ended by then is not taken along.
    pub(super) now: Timestamp,
    pub(super) told: HashMap<EntryKey, Told>,
    /// Bundles to remove, whatever is in them.
    pub(super) ended: Vec<BundleId>,
}

/// A link that somebody wrote or removed.
pub(super) enum Told {
    Put(Vec<u8>, Timestamp, Timestamp),
    Removed,
}

/// A link that goes into a bundle.
struct Item {
    key: EntryKey,
    value: Value,
    expires: Timestamp,
    /// When what it replaces has ended.
    ends: Timestamp,
}

/// The value of one.
enum Value {
    Ready(Vec<u8>),
    Waiting(Waiting),
}

/// What is to be done, worked out before anything is written.
#[derive(Default)]
struct Work {
    shelves: BTreeMap<Shelf, Vec<Item>>,
    /// What still holds of bundles that are written anew: it comes first, since it is older.
    carried: BTreeMap<Shelf, Vec<Item>>,
    /// Of each bundle, how many links are replaced or taken out.
    lost: HashMap<BundleId, u32>,
    /// How many links are new, by kind.
    more: BTreeMap<LinkKind, u64>,
    /// Links that are taken out, and where they were.
    erased: Vec<(ShortName, BundleId)>,
    /// Whether links are taken out: then nothing of them may be left in any bundle.
    erases: bool,
}

/// Where a link was.
struct Place {
    key: EntryKey,
    name: Option<(ShortName, BundleId)>,
    /// When that bundle ends.
    ends: Option<Timestamp>,
}

type Rows<'t> = Table<'t, u64, &'static [u8]>;

impl Place {
    fn put(self, value: Value, at: Timestamp, expires: Timestamp, work: &mut Work) {
        let Kind::Link(kind) = self.key.kind else {
            return;
        };
        if self.name.is_none() {
            *work.more.entry(kind).or_default() += 1;
        }
        let shelf = Shelf::of(kind, expires.since(at));
        work.shelves.entry(shelf).or_default().push(Item {
            key: self.key,
            value,
            expires,
            ends: self.ends.map_or(expires, |ends| ends.max(expires)),
        });
    }
}

impl Binder<'_> {
    /// The value of a link as this transaction sees it, with its end, whether or not it has ended.
    pub(super) fn get(
        &self,
        rows: &impl ReadableTable<u64, &'static [u8]>,
        key: &EntryKey,
    ) -> Result<Option<(Vec<u8>, Timestamp)>, redb::Error> {
        match self.told.get(key) {
            Some(Told::Put(value, _, expires)) => return Ok(Some((value.clone(), *expires))),
            Some(Told::Removed) => return Ok(None),
            None => {}
        }
        if let Some(waiting) = self.apart.link(key) {
            let value = waiting.encode(self.codec, key);
            return Ok(value.map(|value| (value, waiting.expires)));
        }
        let place = ShortName::of(key).and_then(|name| self.places.find(name));
        let Some(row) = place.map(|id| rows.get(id)).transpose()?.flatten() else {
            return Ok(None);
        };
        let links = Links::decode(row.value());
        Ok(links.and_then(|links| {
            let slot = links.find(key)?;
            Some((links.value(&slot).to_vec(), slot.expires))
        }))
    }

    fn is_new(&self, key: &EntryKey) -> bool {
        self.told.contains_key(key) || self.apart.has(key)
    }
}

impl Tables<'_> {
    /// Brings all links of this transaction into the file. What it says is to be told to the ledger once the transaction
    /// has succeeded.
    pub(super) fn bind(&mut self) -> Result<Turnover, redb::Error> {
        let mut work = self.work()?;
        let mut turnover = Turnover::default();
        let empty: Vec<BundleId> = self.binder.ledger.empty().collect();
        let is_idle = work.shelves.is_empty() && work.lost.is_empty();
        if is_idle
            && empty.is_empty()
            && self.binder.ended.is_empty()
            && self.binder.told.is_empty()
        {
            return Ok(turnover);
        }
        let transaction = self.transaction;
        let mut rows = transaction.open_table(LINKS)?;
        let mut names = transaction.open_table(NAMES)?;
        for id in empty {
            rows.remove(id)?;
            names.remove(id)?;
            turnover.removed.push((id, Vec::new()));
        }
        for id in std::mem::take(&mut self.binder.ended) {
            remove(id, &mut rows, &mut names, &mut turnover)?;
        }
        turnover.taken.append(&mut work.erased);
        let anew = self.anew(&work);
        for id in &anew {
            self.carry(*id, &rows, &mut work, &mut turnover)?;
            if work.erases {
                remove(*id, &mut rows, &mut names, &mut turnover)?;
            }
        }
        let mut next = self.binder.ledger.next();
        for (shelf, new) in work.shelves {
            work.carried.entry(shelf).or_default().extend(new);
        }
        for (shelf, items) in work.carried {
            let mut filling = Filling::new(shelf);
            for item in items {
                let value = match item.value {
                    Value::Ready(value) => Some(value),
                    Value::Waiting(waiting) => waiting.encode(self.binder.codec, &item.key),
                };
                // One that is too long to be kept is not.
                let Some(value) = value else { continue };
                let full = filling.bytes_with(value.len()) > BUNDLE_BYTES;
                if full && !filling.is_empty() {
                    write(next, &mut filling, &mut rows, &mut names, &mut turnover)?;
                    next += 1;
                }
                filling.push(&item.key, &value, item.expires, item.ends);
                self.turns.did();
            }
            if !filling.is_empty() {
                write(next, &mut filling, &mut rows, &mut names, &mut turnover)?;
                next += 1;
            }
        }
        for (kind, more) in work.more {
            for id in self
                .binder
                .ledger
                .surplus(kind, more, self.entries_max, ROOM)
            {
                let is_gone = turnover.removed.iter().any(|(gone, _)| *gone == id);
                if !is_gone && !anew.contains(&id) {
                    self.made_room = true;
                    remove(id, &mut rows, &mut names, &mut turnover)?;
                }
            }
        }
        Ok(turnover)
    }

    /// What is learnt and told of links.
    fn work(&mut self) -> Result<Work, redb::Error> {
        let mut work = Work::default();
        for (key, waiting) in self.binder.apart.links() {
            if !self.binder.told.contains_key(&key) {
                let (at, expires) = (waiting.at, waiting.expires);
                let value = Value::Waiting(waiting);
                self.replace(&key, &mut work)?
                    .put(value, at, expires, &mut work);
            }
        }
        let told = std::mem::take(&mut self.binder.told);
        for (key, told) in &told {
            let place = self.replace(key, &mut work)?;
            match told {
                Told::Put(value, at, expires) => {
                    place.put(Value::Ready(value.clone()), *at, *expires, &mut work);
                }
                Told::Removed => {
                    work.erases = true;
                    work.erased.extend(place.name);
                }
            }
        }
        // What holds of bundles that are written anew is compared with it.
        self.binder.told = told;
        Ok(work)
    }

    /// What is said of `key` no longer holds.
    fn replace(&mut self, key: &EntryKey, work: &mut Work) -> Result<Place, redb::Error> {
        // Where links of before this layout lie each by itself.
        self.remove_single(key)?;
        let name = ShortName::of(key);
        let bundle = name.and_then(|name| self.binder.places.find(name));
        if let Some(id) = bundle {
            *work.lost.entry(id).or_default() += 1;
        }
        let known = bundle.and_then(|id| self.binder.ledger.get(id));
        Ok(Place {
            key: *key,
            name: name.zip(bundle),
            ends: known.map(|bundle| bundle.ends),
        })
    }

    /// The bundles that are to be written anew.
    fn anew(&self, work: &Work) -> BTreeSet<BundleId> {
        let ledger = self.binder.ledger;
        let mut anew: BTreeSet<BundleId> = work
            .shelves
            .keys()
            .filter_map(|shelf| ledger.open(*shelf))
            .collect();
        for (id, lost) in &work.lost {
            let Some(bundle) = ledger.get(*id) else {
                continue;
            };
            let left = bundle.holding.saturating_sub(*lost);
            if work.erases || (left > 0 && left * 2 < bundle.links) {
                anew.insert(*id);
            }
        }
        if work.erases {
            anew.extend(ledger.worn());
        }
        anew
    }

    /// Takes along what still holds of a bundle.
    fn carry(
        &self,
        id: BundleId,
        rows: &Rows<'_>,
        work: &mut Work,
        turnover: &mut Turnover,
    ) -> Result<(), redb::Error> {
        let binder = &self.binder;
        let Some(bundle) = binder.ledger.get(id) else {
            return Ok(());
        };
        let Some(row) = rows.get(id)? else {
            return Ok(());
        };
        let Some(links) = Links::decode(row.value()) else {
            return Ok(());
        };
        for slot in links.iter() {
            let Slot { key, expires, .. } = slot;
            let Some(name) = ShortName::of(&key) else {
                continue;
            };
            if binder.places.find(name) != Some(id) || binder.is_new(&key) {
                continue;
            }
            if expires <= binder.now {
                turnover.taken.push((name, id));
                continue;
            }
            work.carried.entry(bundle.shelf).or_default().push(Item {
                key,
                value: Value::Ready(links.value(&slot).to_vec()),
                expires,
                ends: bundle.ends,
            });
        }
        Ok(())
    }
}

/// Writes a bundle.
fn write(
    id: BundleId,
    filling: &mut Filling,
    rows: &mut Rows<'_>,
    names: &mut Rows<'_>,
    turnover: &mut Turnover,
) -> Result<(), redb::Error> {
    let (known, row) = filling.finish();
    let has_room = row.len() < FILLED_UP_BELOW;
    rows.insert(id, row)?;
    names.insert(id, known.encode().as_slice())?;
    turnover.written.push((id, known, has_room));
    Ok(())
}

/// Removes a bundle.
fn remove(
    id: BundleId,
    rows: &mut Rows<'_>,
    names: &mut Rows<'_>,
    turnover: &mut Turnover,
) -> Result<(), redb::Error> {
    rows.remove(id)?;
    let known = names.remove(id)?;
    let known = known.and_then(|row| Names::decode(row.value()));
    let held = known.map(|known| known.names).unwrap_or_default();
    turnover.removed.push((id, held));
    Ok(())
}
