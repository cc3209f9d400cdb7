//! A block: some hundred records that follow one another in a file, known by where they begin and end and by a Bloom filter
//! of everything that one can ask for in them. What it may hold it is read for; what it cannot hold costs nothing.

use crate::adapters::trail::follow::Source;
use crate::domain::trail::Entry;
use std::sync::Arc;

/// Records of one block.
const RECORDS_MAX: u32 = 256;
/// The longest stretch of a file that is one block.
const BYTES_MAX: u64 = 2 * 1024 * 1024;
/// 64-bit words of the filter. With some 600 different values and 4 bits of each, 4 in 1,000 questions are answered with
/// "perhaps" for nothing.
const WORDS: usize = 128;
const BITS_OF_EACH: u32 = 4;

/// One block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    source: Arc<Source>,
    start: u64,
    end: u64,
    records: u32,
    filter: Arc<[u64; WORDS]>,
}

impl Block {
    /// An empty block at this place of a file.
    pub(super) fn new(source: Arc<Source>, start: u64) -> Self {
        Self {
            source,
            start,
            end: start,
            records: 0,
            filter: Arc::new([0; WORDS]),
        }
    }

    /// Whether one more record of `source` belongs into it.
    pub(super) fn has_room(&self, source: &Arc<Source>) -> bool {
        Arc::ptr_eq(&self.source, source)
            && self.records < RECORDS_MAX
            && self.end - self.start < BYTES_MAX
    }

    /// The file that it is a part of.
    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Whether it is a part of `source`.
    pub(super) fn is_of(&self, source: &Arc<Source>) -> bool {
        Arc::ptr_eq(&self.source, source)
    }

    /// Adds a record that ends at `end`.
    pub(super) fn add(&mut self, end: u64, entry: &Entry) {
        self.end = end;
        self.records += 1;
        let filter = Arc::make_mut(&mut self.filter);
        entry.terms(|term| {
            for (word, bit) in places(term) {
                if let Some(word) = filter.get_mut(word) {
                    *word |= bit;
                }
            }
        });
    }

    /// Whether there may be records in it that have all of these.
    pub(super) fn may_hold(&self, terms: &[u64]) -> bool {
        terms.iter().all(|term| {
            places(*term)
                .all(|(word, bit)| self.filter.get(word).is_some_and(|word| word & bit != 0))
        })
    }

    /// Its lines as they stand in the file; empty when the file cannot be read any more.
    pub(super) fn lines(&self) -> Vec<u8> {
        self.source.read(self.start, self.end)
    }

    /// Its records, the oldest first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.lines()
            .split(|byte| *byte == b'\n')
            .filter_map(Entry::parse)
            .collect()
    }
}

/// The bits of a term: word and mask.
fn places(term: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..BITS_OF_EACH).map(move |turn| {
        // 13 of the 64 bits of the hash for each: 7 for the word, 6 for the bit.
        let part = term >> (turn * 13);
        let word = usize::try_from((part >> 6) & 127).unwrap_or(0);
        (word, 1 << (part & 63))
    })
}
