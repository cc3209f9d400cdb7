//! How links lie in the file: not each by itself but many in one bundle, in the order in which they came. The names of
//! links are as good as random; one by one, each would take a page of the file to itself. What was written together also
//! ends together, so that a bundle goes as a whole.
//!
//! A bundle is a row of two tables: its links, and their short names, which are all that is read when the file is opened.

use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::domain::history::LinkKind;
use crate::domain::time::Timestamp;
use std::ops::Range;
use std::time::Duration;

/// The number of a bundle: a later one has a greater number, and what it says of a link holds.
pub(super) type BundleId = u64;
/// No bundle has a greater number: that many of a thousand a second last for thirty years.
pub(super) const BUNDLE_ID_MAX: BundleId = (1 << 40) - 1;

/// The bytes of a bundle, unless a single link is longer: four pages of the database, of which it takes 16 itself.
pub(super) const BUNDLE_BYTES: usize = 4 * 4_096 - 16;
/// A bundle of less than this is filled up when more of its kind comes.
pub(super) const FILLED_UP_BELOW: usize = BUNDLE_BYTES / 2;

/// The version of both rows.
const VERSION: u8 = 1;
/// Version, kind, lifetime, end.
const NAMES_HEAD: usize = 3 + 8;
/// Version, kind, how many links.
const LINKS_HEAD: usize = 2 + 2;
/// Digest, end of the link, where its bytes end.
const SLOT: usize = 16 + 8 + 4;
/// Bytes of a short name.
const NAME: usize = 7;

/// The kinds of links. A bundle says by its place in this list which of them it holds: the order is part of the file.
const KINDS: [LinkKind; 9] = [
    LinkKind::AccessToken,
    LinkKind::BackChannel,
    LinkKind::Code,
    LinkKind::Decision,
    LinkKind::PushedRequest,
    LinkKind::RefreshToken,
    LinkKind::Session,
    LinkKind::Transaction,
    LinkKind::UserCode,
];

/// Links that may share a bundle: they are of one kind and live about as long.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Shelf {
    pub(super) kind: LinkKind,
    lifetime: u8,
}

/// 56 bits that stand for the key of a link. Of a million links two have the same with a chance of one in a hundred
/// thousand; the earlier of them is missed then, and never taken for the other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct ShortName([u8; NAME]);

/// What is known of a bundle without its links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Names {
    pub(super) shelf: Shelf,
    /// When all of it has ended, and whatever it replaces.
    pub(super) ends: Timestamp,
    pub(super) names: Vec<ShortName>,
}

/// The links of a bundle, as they are read.
#[derive(Clone, Copy)]
pub(super) struct Links<'b> {
    kind: LinkKind,
    slots: &'b [[u8; SLOT]],
    /// Where the bytes of the first link begin.
    begin: usize,
    bytes: &'b [u8],
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Slot {
    pub(super) key: EntryKey,
    pub(super) expires: Timestamp,
    /// Where its value lies in the row.
    pub(super) value: Range<usize>,
}

/// A bundle that is being filled.
pub(super) struct Filling {
    names: Names,
    slots: Vec<u8>,
    values: Vec<u8>,
    row: Vec<u8>,
}

impl Shelf {
    /// Where a link of `kind` belongs that lives for `lifetime`: lifetimes of one shelf differ by a factor of four at most.
    pub(super) fn of(kind: LinkKind, lifetime: Duration) -> Self {
        let steps = lifetime.as_secs().max(1).ilog2() / 2;
        Self {
            kind,
            lifetime: u8::try_from(steps).unwrap_or(u8::MAX),
        }
    }
}

impl ShortName {
    /// The short name of a link; `None` for any other entry.
    pub(super) fn of(key: &EntryKey) -> Option<Self> {
        /// Odd, and as good as random.
        const MIXER: u64 = 0x9E37_79B9_7F4A_7C15;
        let Kind::Link(kind) = key.kind else {
            return None;
        };
        let digest = key.pseudonym()?.as_bytes();
        let (first, second) = digest.split_first_chunk()?;
        let second = u64::from_le_bytes(*second.first_chunk()?);
        let mixed = (u64::from_le_bytes(*first) ^ u64::from(code(kind)))
            .wrapping_mul(MIXER)
            .wrapping_add(second);
        let [name @ .., _] = mixed.to_le_bytes();
        Some(Self(name))
    }

    /// Which of `parts` it falls into.
    pub(super) fn part(self, parts: usize) -> usize {
        let [first, ..] = self.0;
        usize::from(first) % parts.max(1)
    }
}

impl Names {
    /// As they are written.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(NAMES_HEAD + NAME * self.names.len());
        bytes.extend([VERSION, code(self.shelf.kind), self.shelf.lifetime]);
        bytes.extend_from_slice(&self.ends.millis().to_le_bytes());
        for name in &self.names {
            bytes.extend_from_slice(&name.0);
        }
        bytes
    }

    /// As they were written; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let ([version, kind, lifetime], rest) = bytes.split_first_chunk()?;
        let (ends, rest) = rest.split_first_chunk()?;
        let (names, more) = rest.as_chunks();
        (*version == VERSION && more.is_empty()).then_some(())?;
        Some(Self {
            shelf: Shelf {
                kind: *KINDS.get(usize::from(*kind))?,
                lifetime: *lifetime,
            },
            ends: Timestamp(i64::from_le_bytes(*ends)),
            names: names.iter().copied().map(ShortName).collect(),
        })
    }
}

impl<'b> Links<'b> {
    /// As they were written; `None` for anything else.
    pub(super) fn decode(bytes: &'b [u8]) -> Option<Self> {
        let ([version, kind], rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::from(u16::from_le_bytes(*count));
        (*version == VERSION).then_some(())?;
        let (slots, _) = rest.split_at_checked(count * SLOT)?;
        let (slots, _) = slots.as_chunks();
        Some(Self {
            kind: *KINDS.get(usize::from(*kind))?,
            slots,
            begin: LINKS_HEAD + count * SLOT,
            bytes,
        })
    }

    /// The link with this key.
    pub(super) fn find(&self, key: &EntryKey) -> Option<Slot> {
        let wanted = key.pseudonym()?.as_bytes();
        let place = self
            .slots
            .iter()
            .position(|slot| slot.starts_with(wanted))?;
        self.slot(place).filter(|slot| slot.key == *key)
    }

    /// All of them, as far as they are whole.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        (0..self.slots.len()).filter_map(|place| self.slot(place))
    }

    /// The value of one of them.
    pub(super) fn value(&self, slot: &Slot) -> &'b [u8] {
        self.bytes.get(slot.value.clone()).unwrap_or_default()
    }

    fn slot(&self, place: usize) -> Option<Slot> {
        let slot = self.slots.get(place)?;
        let (digest, rest) = slot.split_first_chunk::<16>()?;
        let expires = rest.first_chunk()?;
        let begin = match place.checked_sub(1) {
            Some(before) => end_of(self.slots.get(before)?)?,
            None => 0,
        };
        let value = self.begin + begin..self.begin + end_of(slot)?;
        self.bytes.get(value.clone())?;
        Some(Slot {
            key: EntryKey::from_id(Kind::Link(self.kind), digest)?,
            expires: Timestamp(i64::from_le_bytes(*expires)),
            value,
        })
    }
}

impl Filling {
    /// An empty one.
    pub(super) fn new(shelf: Shelf) -> Self {
        Self {
            names: Names {
                shelf,
                ends: Timestamp(i64::MIN),
                names: Vec::new(),
            },
            slots: Vec::new(),
            values: Vec::with_capacity(BUNDLE_BYTES),
            row: Vec::with_capacity(BUNDLE_BYTES),
        }
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.names.names.is_empty()
    }

    /// Its bytes with a value of `more` bytes added.
    pub(super) fn bytes_with(&self, more: usize) -> usize {
        LINKS_HEAD + self.slots.len() + SLOT + self.values.len() + more
    }

    /// Puts a link in. `ends` is when it and whatever it replaces has ended.
    pub(super) fn push(
        &mut self,
        key: &EntryKey,
        value: &[u8],
        expires: Timestamp,
        ends: Timestamp,
    ) {
        let (Some(name), Some(digest)) = (ShortName::of(key), key.pseudonym()) else {
            return;
        };
        self.names.names.push(name);
        self.names.ends = self.names.ends.max(expires).max(ends);
        self.values.extend_from_slice(value);
        self.slots.extend_from_slice(digest.as_bytes());
        self.slots
            .extend_from_slice(&expires.millis().to_le_bytes());
        let end = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.slots.extend_from_slice(&end.to_le_bytes());
    }

    /// What is known of it, and the row of its links. It is empty then, for others of the same shelf.
    pub(super) fn finish(&mut self) -> (Names, &[u8]) {
        let empty = Names {
            shelf: self.names.shelf,
            ends: Timestamp(i64::MIN),
            names: Vec::with_capacity(self.names.names.len()),
        };
        let names = std::mem::replace(&mut self.names, empty);
        let count = u16::try_from(names.names.len()).unwrap_or(u16::MAX);
        self.row.clear();
        self.row.extend([VERSION, code(names.shelf.kind)]);
        self.row.extend_from_slice(&count.to_le_bytes());
        self.row.append(&mut self.slots);
        self.row.append(&mut self.values);
        (names, &self.row)
    }
}

fn end_of(slot: &[u8; SLOT]) -> Option<usize> {
    let (_, end) = slot.split_last_chunk()?;
    usize::try_from(u32::from_le_bytes(*end)).ok()
}

fn code(kind: LinkKind) -> u8 {
    let place = KINDS.iter().position(|known| *known == kind);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::LinkKey;
    use crate::domain::ids::Pseudonym;
    use proptest::prelude::*;

    fn key(kind: LinkKind, n: u8) -> EntryKey {
        EntryKey::link(LinkKey {
            kind,
            digest: Pseudonym::from_bytes([n; 16]),
        })
    }

    fn filled(lengths: &[usize]) -> (Names, Vec<u8>) {
        let mut filling = Filling::new(Shelf::of(LinkKind::Session, Duration::from_secs(100)));
        for (n, length) in (0..).zip(lengths) {
            let value = vec![n; *length];
            let expires = Timestamp(1_000 - i64::from(n));
            filling.push(&key(LinkKind::Session, n), &value, expires, Timestamp(7));
        }
        let (names, row) = filling.finish();
        (names, row.to_vec())
    }

    #[test]
    fn every_link_of_a_bundle_is_found_and_no_other() {
        let lengths = [3, 0, 700, 1];
        let (names, row) = filled(&lengths);
        assert_eq!(Names::decode(&names.encode()), Some(names.clone()));
        assert_eq!(names.ends, Timestamp(1_000));
        let links = Links::decode(&row).unwrap();
        assert_eq!(links.iter().count(), lengths.len());
        for (n, length) in (0..).zip(lengths) {
            let slot = links.find(&key(LinkKind::Session, n)).unwrap();
            assert_eq!(links.value(&slot), vec![n; length]);
            assert_eq!(slot.expires, Timestamp(1_000 - i64::from(n)));
            assert_eq!(links.iter().nth(usize::from(n)), Some(slot));
        }
        assert_eq!(links.find(&key(LinkKind::Session, 4)), None);
        assert_eq!(links.find(&key(LinkKind::Code, 1)), None);
    }

    #[test]
    fn a_filled_bundle_takes_what_was_said() {
        let mut filling = Filling::new(Shelf::of(LinkKind::Code, Duration::from_secs(1)));
        for n in 0..20 {
            let expected = filling.bytes_with(100);
            filling.push(
                &key(LinkKind::Code, n),
                &[n; 100],
                Timestamp(0),
                Timestamp(0),
            );
            assert!(filling.bytes_with(0) > expected);
        }
        let expected = filling.bytes_with(100);
        filling.push(
            &key(LinkKind::Code, 20),
            &[0; 100],
            Timestamp(0),
            Timestamp(0),
        );
        assert_eq!(filling.finish().1.len(), expected);
        assert!(filling.is_empty());
    }

    #[test]
    fn names_of_kinds_and_lifetimes_are_apart() {
        let of = |kind, n| ShortName::of(&key(kind, n)).unwrap();
        assert_ne!(of(LinkKind::Code, 1), of(LinkKind::Session, 1));
        assert_ne!(of(LinkKind::Code, 1), of(LinkKind::Code, 2));
        assert_eq!(ShortName::of(&EntryKey::review()), None);
        let of = |secs| Shelf::of(LinkKind::Code, Duration::from_secs(secs));
        assert!(of(60) != of(3_600) && of(300) == of(900) && of(0) == of(1));
        // Every kind has a place of its own in the list.
        let kinds = Kind::ALL.into_iter().filter_map(|kind| match kind {
            Kind::Link(kind) => Some(kind),
            _ => None,
        });
        assert!(kinds.clone().all(|kind| KINDS.contains(&kind)) && kinds.count() == KINDS.len());
    }

    proptest! {
        #[test]
        fn hostile_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), flips in any::<[(u16, u8); 4]>()) {
            let (names, row) = filled(&[30, 5, 60]);
            for mut bytes in [bytes, row, names.encode()] {
                for (place, byte) in flips {
                    if let Some(place) = usize::from(place).checked_rem(bytes.len()) {
                        bytes[place] ^= byte;
                    }
                }
                let _ = Names::decode(&bytes);
                if let Some(links) = Links::decode(&bytes) {
                    for slot in links.iter() {
                        prop_assert!(links.value(&slot).len() <= bytes.len());
                        let _ = links.find(&slot.key);
                    }
                }
            }
        }
    }
}
