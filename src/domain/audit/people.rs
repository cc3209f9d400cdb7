//! Whom records are about, under names that can be forgotten: erasing a person makes their name in old records one that
//! nothing leads to any more, while the records, and the chain over them, stay as they are.
//!
//! Names are made by a pseudorandom function whose key can be *punctured*: after that it still works everywhere but at one
//! point. It is the tree of Goldreich, Goldwasser and Micali, "How to Construct Random Functions", JACM 33(4), 1986: each
//! node's children are hashes of it, and a leaf is the value. To puncture a leaf, the key gives up every node above it and
//! keeps the siblings beside the way there (Boneh and Waters, "Constrained Pseudorandom Functions and Their Applications",
//! ASIACRYPT 2013, section 3.3). So there is no list of people: a key without erasures is one seed, and each erasure adds some
//! kilobytes.
//!
//! An erased person who comes back is somebody new: the name is then made at the next point. Nothing here reads a file.

use crate::domain::ids::Pseudonym;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of a seed.
pub const SEED_BYTES: usize = 32;
/// Levels of the tree; each takes two bits of the point.
const LEVELS: u32 = 32;
/// How often one person can be erased.
const TIMES_MAX: u32 = 1_000;
/// People that can be erased under one key. With more it holds too much; see [`PeopleError::Full`].
pub const ERASED_MAX: u64 = 10_000;
/// The version of the form in which a key is kept.
const FORM: u32 = 1;

/// A key for names.
#[derive(Clone, Eq, PartialEq, Serialize, Deserialize)]
pub struct PeopleKey {
    form: u32,
    /// How many were erased.
    erased: u64,
    /// Nodes whose leaves are all there, by level and the bits of the way to them.
    nodes: BTreeMap<(u32, u64), [u8; SEED_BYTES]>,
}

/// Why somebody cannot be erased, or a key not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeopleError {
    /// Too many were erased already.
    #[error("{ERASED_MAX} people were erased under this key: a new key makes everybody a new name")]
    Full,
    /// What is kept is no key.
    #[error("is no key of people's names")]
    Form,
}

impl PeopleKey {
    /// A key from a random seed.
    pub fn new(seed: [u8; SEED_BYTES]) -> Self {
        Self {
            form: FORM,
            erased: 0,
            nodes: [((0, 0), seed)].into(),
        }
    }

    /// The name of a person in records.
    pub fn name(&self, subject: Pseudonym) -> Pseudonym {
        let leaf = (0..TIMES_MAX)
            .find_map(|time| self.leaf(point(subject, time)))
            .unwrap_or_default();
        let [first, ..] = *Sha256::digest(leaf).as_chunks::<16>().0 else {
            return Pseudonym::from_bytes([0; 16]);
        };
        Pseudonym::from_bytes(first)
    }

    /// Makes the present name of a person one that cannot be made again.
    ///
    /// # Errors
    /// Too many people, or this one too often.
    pub fn erase(&mut self, subject: Pseudonym) -> Result<(), PeopleError> {
        if self.erased >= ERASED_MAX {
            return Err(PeopleError::Full);
        }
        let point = (0..TIMES_MAX)
            .map(|time| point(subject, time))
            .find(|point| self.leaf(*point).is_some())
            .ok_or(PeopleError::Full)?;
        let ((level, _), mut seed) = self.above(point).ok_or(PeopleError::Full)?;
        self.nodes.remove(&(level, way(point, level)));
        for level in level..LEVELS {
            let own = way(point, level + 1) & 3;
            for branch in (0..4).filter(|branch| *branch != own) {
                let path = way(point, level) << 2 | branch;
                self.nodes.insert((level + 1, path), child(&seed, branch));
            }
            seed = child(&seed, own);
        }
        self.erased += 1;
        Ok(())
    }

    /// How many people were erased.
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data: it always has this form.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// From what is kept.
    ///
    /// # Errors
    /// It is no key.
    pub fn parse(bytes: &[u8]) -> Result<Self, PeopleError> {
        let key: Self = postcard::from_bytes(bytes).map_err(|_| PeopleError::Form)?;
        let is_node = |(level, path): &(u32, u64)| {
            *level <= LEVELS && path.checked_shr(2 * level).unwrap_or(0) == 0
        };
        if key.form == FORM && key.nodes.keys().all(is_node) {
            Ok(key)
        } else {
            Err(PeopleError::Form)
        }
    }

    fn leaf(&self, point: u64) -> Option<[u8; SEED_BYTES]> {
        let ((level, _), seed) = self.above(point)?;
        let branches = (level..LEVELS).map(|level| way(point, level + 1) & 3);
        Some(branches.fold(seed, |seed, branch| child(&seed, branch)))
    }

    /// The node that is kept on the way to a leaf; `None` when the leaf is gone.
    fn above(&self, point: u64) -> Option<((u32, u64), [u8; SEED_BYTES])> {
        (0..=LEVELS).find_map(|level| {
            let node = (level, way(point, level));
            self.nodes.get(&node).map(|seed| (node, *seed))
        })
    }
}

impl fmt::Debug for PeopleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeopleKey({} erased)", self.erased)
    }
}

/// Where in the tree a person's name is, for the first time or after so many erasures. Two people of a million share a
/// point with a probability of 3 in 100 million; then they share their erasure.
fn point(subject: Pseudonym, time: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(b"riskgate audit: person");
    hash.update(time.to_be_bytes());
    hash.update(subject.as_bytes());
    let [first, ..] = *hash.finalize().as_chunks::<8>().0 else {
        return 0;
    };
    u64::from_be_bytes(first)
}

/// The first bits of a point, two for each level.
fn way(point: u64, level: u32) -> u64 {
    point.checked_shr(2 * (LEVELS - level)).unwrap_or(0)
}

fn child(seed: &[u8; SEED_BYTES], branch: u64) -> [u8; SEED_BYTES] {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(branch.to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn person(n: u64) -> Pseudonym {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        Pseudonym::from_bytes(bytes)
    }

    #[test]
    fn a_name_is_the_same_for_one_key_and_person_alone() {
        let key = PeopleKey::new([1; SEED_BYTES]);
        assert_eq!(
            key.name(person(1)),
            PeopleKey::new([1; SEED_BYTES]).name(person(1))
        );
        assert_ne!(key.name(person(1)), key.name(person(2)));
        assert_ne!(
            key.name(person(1)),
            PeopleKey::new([2; SEED_BYTES]).name(person(1))
        );
        assert_ne!(key.name(person(1)), person(1));
    }

    #[test]
    fn who_is_erased_is_somebody_new_and_nobody_else_changes() {
        let mut key = PeopleKey::new([1; SEED_BYTES]);
        let names: Vec<Pseudonym> = (0..200).map(|n| key.name(person(n))).collect();
        for n in 0..20 {
            key.erase(person(n)).unwrap();
        }
        for (n, name) in names.iter().enumerate() {
            assert_eq!(key.name(person(n as u64)) == *name, n >= 20, "{n}");
        }
        let again = key.name(person(3));
        key.erase(person(3)).unwrap();
        assert!(key.name(person(3)) != again && key.name(person(3)) != names[3]);
        assert_eq!(key.erased(), 21);
        // The size is what the reference says.
        let size = key.to_bytes().len() / 21;
        assert!((2_000..5_000).contains(&size), "{size}");
    }

    /// No hash of what is left leads to the leaf that was given up: no node of the key is on the way to it.
    #[test]
    fn nothing_on_the_way_to_an_erased_name_is_left() {
        let mut key = PeopleKey::new([1; SEED_BYTES]);
        let gone = point(person(7), 0);
        key.erase(person(7)).unwrap();
        for (level, path) in key.nodes.keys() {
            assert_ne!(*path, way(gone, *level), "level {level}");
        }
        assert!(key.leaf(gone).is_none());
    }

    #[test]
    fn a_key_keeps_its_form() {
        let mut key = PeopleKey::new([9; SEED_BYTES]);
        key.erase(person(1)).unwrap();
        assert_eq!(PeopleKey::parse(&key.to_bytes()), Ok(key.clone()));
        assert_eq!(PeopleKey::parse(b"canary"), Err(PeopleError::Form));
        assert_eq!(PeopleKey::parse(&[]), Err(PeopleError::Form));
        assert_eq!(format!("{key:?}"), "PeopleKey(1 erased)");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), n: u64) {
            if let Ok(mut key) = PeopleKey::parse(&bytes) {
                let _name = key.name(person(n));
                let _erased = key.erase(person(n));
            }
        }
    }
}
