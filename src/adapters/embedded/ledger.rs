//! Which bundles of links there are: what of each still holds, when it ends, which are to be written anew. For whoever
//! writes to the file; requests go by [`Places`] alone. Nothing here is changed before a transaction has succeeded.
//!
//! The rules: what is written holds against every bundle before it. A bundle of which less than half still holds is written
//! anew with what comes next, and so is the latest of its shelf until it is well filled. What is replaced ends no later than
//! what replaces it, so that it never holds again when the file is opened.

use crate::adapters::embedded::bundle::BUNDLE_ID_MAX;
use crate::adapters::embedded::bundle::BundleId;
use crate::adapters::embedded::bundle::Names;
use crate::adapters::embedded::bundle::Shelf;
use crate::adapters::embedded::bundle::ShortName;
use crate::adapters::embedded::places::Places;
use crate::domain::history::LinkKind;
use crate::domain::time::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What is known of the bundles in the file.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bundles: BTreeMap<BundleId, Bundle>,
    /// Their ends, the earliest first.
    ends: BTreeSet<(Timestamp, BundleId)>,
    /// The latest of each shelf, while there is room in it.
    open: BTreeMap<Shelf, BundleId>,
    /// Links that hold, by kind.
    holding: BTreeMap<LinkKind, u64>,
    /// Bundles in which nothing holds any more. Readers may still be on their way to them.
    empty: BTreeSet<BundleId>,
    /// The number of the next one.
    next: BundleId,
}

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bundle {
    pub(super) shelf: Shelf,
    pub(super) ends: Timestamp,
    /// Links in it.
    pub(super) links: u32,
    /// Of these, the ones that hold.
    pub(super) holding: u32,
}

/// What a transaction does to the bundles.
#[derive(Debug, Default)]
pub(super) struct Turnover {
    /// Written, in the order of their numbers.
    pub(super) written: Vec<(BundleId, Names, bool)>,
    /// Removed, with the links that they held.
    pub(super) removed: Vec<(BundleId, Vec<ShortName>)>,
    /// Links that were taken out, with the bundle in which they were.
    pub(super) taken: Vec<(ShortName, BundleId)>,
}

impl Ledger {
    /// Takes in a bundle of the file that is opened. They come in the order of their numbers.
    pub(super) fn read(&mut self, id: BundleId, names: Option<&Names>, places: &Places) {
        self.next = self.next.max(id.saturating_add(1));
        match names {
            Some(names) => self.add(id, names, false, places),
            // Nothing leads to it.
            None => drop(self.empty.insert(id)),
        }
    }

    /// The number of the next bundle.
    pub(super) fn next(&self) -> BundleId {
        self.next.min(BUNDLE_ID_MAX)
    }

    /// What is known of a bundle.
    pub(super) fn get(&self, id: BundleId) -> Option<&Bundle> {
        self.bundles.get(&id)
    }

    /// The bundle of a shelf that is to be filled up.
    pub(super) fn open(&self, shelf: Shelf) -> Option<BundleId> {
        self.open.get(&shelf).copied()
    }

    /// Bundles in which nothing holds.
    pub(super) fn empty(&self) -> impl Iterator<Item = BundleId> {
        self.empty.iter().copied()
    }

    /// Bundles in which something no longer holds.
    pub(super) fn worn(&self) -> impl Iterator<Item = BundleId> {
        let worn = self
            .bundles
            .iter()
            .filter(|(_, bundle)| bundle.holding < bundle.links);
        worn.map(|(id, _)| *id)
    }

    /// At most `most` bundles that have ended at `now`, and how many of their links held.
    pub(super) fn ended(&self, now: Timestamp, most: usize) -> (Vec<BundleId>, u64) {
        let ended: Vec<BundleId> = self
            .ends
            .iter()
            .take_while(|(ends, _)| *ends <= now)
            .map(|(_, id)| *id)
            .take(most)
            .collect();
        let links = ended.iter().filter_map(|id| self.get(*id));
        let links = links.map(|bundle| u64::from(bundle.holding)).sum();
        (ended, links)
    }

    /// The earliest bundles of `kind` that have to go so that so many more leave at most `most`, with room for a while.
    pub(super) fn surplus(&self, kind: LinkKind, more: u64, most: u64, room: u64) -> Vec<BundleId> {
        let holding = self.holding.get(&kind).copied().unwrap_or(0) + more;
        if holding <= most {
            return Vec::new();
        }
        let mut left = holding - most + most / room.max(1);
        let of_kind = self
            .bundles
            .iter()
            .filter(|(_, bundle)| bundle.shelf.kind == kind);
        let going = of_kind.take_while(|(_, bundle)| {
            let goes = left > 0;
            left = left.saturating_sub(u64::from(bundle.holding));
            goes
        });
        going.map(|(id, _)| *id).collect()
    }

    /// The transaction has succeeded.
    pub(super) fn apply(&mut self, turnover: Turnover, places: &Places) {
        for (id, names, has_room) in turnover.written {
            self.next = self.next.max(id.saturating_add(1));
            self.add(id, &names, has_room, places);
        }
        for (name, id) in turnover.taken {
            self.forget(name, id, places);
        }
        for (id, names) in turnover.removed {
            for name in names {
                self.forget(name, id, places);
            }
            self.empty.remove(&id);
            if let Some(bundle) = self.bundles.remove(&id) {
                self.ends.remove(&(bundle.ends, id));
                self.close(&bundle.shelf, id);
            }
        }
    }

    fn add(&mut self, id: BundleId, names: &Names, has_room: bool, places: &Places) {
        let links = u32::try_from(names.names.len()).unwrap_or(u32::MAX);
        let Names { shelf, ends, .. } = *names;
        let bundle = Bundle {
            shelf,
            ends,
            links,
            holding: links,
        };
        self.bundles.insert(id, bundle);
        self.ends.insert((ends, id));
        if has_room {
            self.open.insert(shelf, id);
        }
        *self.holding.entry(shelf.kind).or_default() += u64::from(links);
        for name in &names.names {
            if let Some(earlier) = places.put(*name, id) {
                self.lose(earlier);
            }
        }
    }

    /// The link is nowhere from now on, if it is in that bundle.
    fn forget(&mut self, name: ShortName, id: BundleId, places: &Places) {
        if places.remove(name, id) {
            self.lose(id);
        }
    }

    /// A link of the bundle no longer holds.
    fn lose(&mut self, id: BundleId) {
        let Some(bundle) = self.bundles.get_mut(&id) else {
            return;
        };
        bundle.holding = bundle.holding.saturating_sub(1);
        let (shelf, is_empty) = (bundle.shelf, bundle.holding == 0);
        if let Some(holding) = self.holding.get_mut(&shelf.kind) {
            *holding = holding.saturating_sub(1);
        }
        if is_empty {
            self.empty.insert(id);
            self.close(&shelf, id);
        }
    }

    fn close(&mut self, shelf: &Shelf, id: BundleId) {
        if self.open.get(shelf) == Some(&id) {
            self.open.remove(shelf);
        }
    }
}
