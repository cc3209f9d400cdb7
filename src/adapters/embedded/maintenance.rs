//! The file in the hands of an operator: whole tables, page by page. One process at a time has the file, so that the
//! gateway does not run meanwhile.

use crate::adapters::embedded::EmbeddedStore;
use crate::adapters::embedded::bundle::Links;
use crate::adapters::embedded::bundle::ShortName;
use crate::adapters::embedded::bundle::Slot;
use crate::adapters::embedded::refused;
use crate::adapters::embedded::tables;
use crate::adapters::embedded::tables::KINDS;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entries;
use crate::adapters::store::entries::Entries;
use crate::adapters::store::entries::Found;
use crate::adapters::store::transfer::Body;
use crate::adapters::store::transfer::Change;
use crate::adapters::store::transfer::Cursor;
use crate::adapters::store::transfer::Imported;
use crate::adapters::store::transfer::Maintenance;
use crate::adapters::store::transfer::PAGE;
use crate::adapters::store::transfer::Page;
use crate::adapters::store::transfer::Portable;
use crate::domain::history::Population;
use crate::domain::time::Timestamp;
use crate::flow::ports::StateError;
use crate::flow::ports::StateStore;
use async_trait::async_trait;
use redb::Durability;
use std::ops::Bound;

#[async_trait]
impl Maintenance for EmbeddedStore {
    async fn export(&self, cursor: Cursor, now: Timestamp) -> Result<Page, StateError> {
        self.flush()?;
        self.page(&cursor, now)
            .map_err(|error| refused(error.into()))
    }

    async fn import(&self, entries: &[Portable], now: Timestamp) -> Result<Imported, StateError> {
        let codec = &self.inner.codec;
        let write = |tables: &mut tables::Tables<'_>| {
            let mut imported = Imported::default();
            for Portable { key, expires, body } in entries {
                let value = match body {
                    Body::Distinct(distinct) => codec.windows(key, &distinct.windows(key)),
                    other => other.seal(codec, key, *expires),
                };
                let Some(value) = value else { continue };
                if tables.is_alive(key, now)? {
                    imported.kept += 1;
                } else {
                    tables.put(key, value, now, *expires)?;
                    imported.written += 1;
                }
            }
            Ok(imported)
        };
        self.inner.write(Durability::None, write).map_err(refused)
    }

    async fn export_population(&self) -> Result<Population, StateError> {
        self.population().await
    }

    async fn import_population(&self, population: &Population) -> Result<bool, StateError> {
        if self.population().await?.total > 0 {
            return Ok(false);
        }
        let add = |tables: &mut tables::Tables<'_>| tables.add(population);
        self.inner.write(Durability::None, add).map_err(refused)?;
        Ok(true)
    }

    async fn read(&self, key: &EntryKey, now: Timestamp) -> Result<Option<Body>, StateError> {
        let body = self.inner.read(key, now, |found| match found {
            Found::Bytes(value) => Body::open(&self.inner.codec, key, value, now),
            Found::Link(provenance) => Some(Body::Link(provenance.clone())),
            Found::Rates(rates) => Some(Body::Rates(rates)),
        });
        body.map_err(|error| refused(error.into()))
    }

    async fn change(
        &self,
        key: &EntryKey,
        now: Timestamp,
        change: Change<'_>,
    ) -> Result<bool, StateError> {
        let codec = &self.inner.codec;
        let write = |tables: &mut tables::Tables<'_>| {
            entries::change_profile(tables, codec, key, now, change)
        };
        self.inner
            .write(Durability::Immediate, write)
            .map_err(refused)
    }

    async fn remove(&self, keys: &[EntryKey], now: Timestamp) -> Result<u64, StateError> {
        let write = |tables: &mut tables::Tables<'_>| {
            let mut removed = 0;
            for key in keys {
                removed += u64::from(tables.is_alive(key, now)?);
                tables.remove(key)?;
            }
            Ok(removed)
        };
        self.inner
            .write(Durability::Immediate, write)
            .map_err(refused)
    }

    async fn is_foreign(&self, _now: Timestamp) -> Result<bool, StateError> {
        // Nothing in the file is sealed: nobody else writes to it.
        Ok(false)
    }

    fn finish(&self) -> Result<(), StateError> {
        self.flush()
    }
}

impl EmbeddedStore {
    fn page(&self, cursor: &Cursor, now: Timestamp) -> Result<Page, redb::StorageError> {
        let snapshot = self.inner.snapshot.load();
        let mut page = Page::default();
        let Some(kind) = KINDS.get(cursor.part) else {
            return self.links(cursor, now);
        };
        page.next = Some(Cursor {
            part: cursor.part + 1,
            at: Vec::new(),
        });
        if *kind == Kind::Ticket {
            return Ok(page);
        }
        let Some(table) = snapshot.table(*kind) else {
            return Ok(page);
        };
        let start = match cursor.at.as_slice() {
            [] => Bound::Unbounded,
            key => Bound::Excluded(key),
        };
        for (seen, entry) in table.range::<&[u8]>((start, Bound::Unbounded))?.enumerate() {
            let (id, stored) = entry?;
            if seen >= PAGE {
                break;
            }
            if seen + 1 == PAGE {
                page.next = Some(Cursor {
                    part: cursor.part,
                    at: id.value().to_vec(),
                });
            }
            let (Some(value), Some((_, expires))) = (
                tables::payload(stored.value(), now),
                tables::header(stored.value()),
            ) else {
                continue;
            };
            let key = EntryKey::from_id(*kind, id.value());
            let opened = key.and_then(|key| {
                let body = Body::open(&self.inner.codec, &key, value, now)?;
                Some(Portable { key, expires, body })
            });
            match opened {
                Some(entry) => page.entries.push(entry),
                None => page.unreadable += 1,
            }
        }
        Ok(page)
    }

    /// A page of links, bundle by bundle: after all tables.
    fn links(&self, cursor: &Cursor, now: Timestamp) -> Result<Page, redb::StorageError> {
        let mut page = Page::default();
        if cursor.part > KINDS.len() {
            return Ok(page);
        }
        let start = match cursor.at.first_chunk() {
            Some(id) => Bound::Excluded(u64::from_be_bytes(*id)),
            None => Bound::Unbounded,
        };
        let snapshot = self.inner.snapshot.load();
        for row in snapshot.links().range((start, Bound::Unbounded))? {
            let (id, row) = row?;
            let id = id.value();
            let Some(links) = Links::decode(row.value()) else {
                page.unreadable += 1;
                continue;
            };
            for slot in links.iter().filter(|slot| now < slot.expires) {
                // What is said of it elsewhere holds against this.
                let name = ShortName::of(&slot.key);
                if name.and_then(|name| self.inner.places.find(name)) != Some(id) {
                    continue;
                }
                let Slot { key, expires, .. } = slot;
                match Body::open(&self.inner.codec, &key, links.value(&slot), now) {
                    Some(body) => page.entries.push(Portable { key, expires, body }),
                    None => page.unreadable += 1,
                }
            }
            if page.entries.len() >= PAGE {
                page.next = Some(Cursor {
                    part: cursor.part,
                    at: id.to_be_bytes().to_vec(),
                });
                break;
            }
        }
        Ok(page)
    }
}
