//! In which bundle of the file the latest word on a link is: some 13 to 26 bytes of memory for each. Requests look here
//! before they read anything, so that a link that is not there costs no read.

use crate::adapters::embedded::bundle::BundleId;
use crate::adapters::embedded::bundle::ShortName;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Parts, each with a lock of its own: a table that grows is copied, and nobody should wait for all of it.
const PARTS: usize = 64;

/// The low forty bits of a number.
type ShortId = [u8; 5];

/// Where links are.
pub(super) struct Places(Vec<Mutex<Part>>);

type Part = HashMap<ShortName, ShortId, RandomState>;

impl Default for Places {
    fn default() -> Self {
        Self((0..PARTS).map(|_| Mutex::default()).collect())
    }
}

impl Places {
    /// The bundle of a link.
    pub(super) fn find(&self, name: ShortName) -> Option<BundleId> {
        self.part(name)?.get(&name).copied().map(long)
    }

    /// From now on the link is in `bundle`; where it was before.
    pub(super) fn put(&self, name: ShortName, bundle: BundleId) -> Option<BundleId> {
        self.part(name)?.insert(name, short(bundle)).map(long)
    }

    /// The link is nowhere from now on, if it is in `bundle`; whether it was.
    pub(super) fn remove(&self, name: ShortName, bundle: BundleId) -> bool {
        let Some(mut part) = self.part(name) else {
            return false;
        };
        match part.entry(name) {
            Entry::Occupied(place) if *place.get() == short(bundle) => {
                place.remove();
                // What thousands have left behind is given back when few are left.
                if part.len() < part.capacity() / 8 {
                    part.shrink_to_fit();
                }
                true
            }
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        }
    }

    /// From now on links are where they are in `other`.
    pub(super) fn become_as(&self, other: Self) {
        for (part, other) in self.0.iter().zip(other.0) {
            *part.lock() = other.into_inner();
        }
    }

    /// How many links there are.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|part| part.lock().len() as u64).sum()
    }

    fn part(&self, name: ShortName) -> Option<MutexGuard<'_, Part>> {
        self.0.get(name.part(PARTS)).map(Mutex::lock)
    }
}

fn short(id: BundleId) -> ShortId {
    let [short @ .., _, _, _] = id.to_le_bytes();
    short
}

fn long([a, b, c, d, e]: ShortId) -> BundleId {
    BundleId::from_le_bytes([a, b, c, d, e, 0, 0, 0])
}
