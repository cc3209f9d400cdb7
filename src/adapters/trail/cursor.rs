//! A way back through the records of one source that are asked for, the latest first. A block is read once one comes to it.

use super::Shared;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::domain::trail::Spot;

/// Blocks that are read between two looks at the time.
const BLOCKS_BEFORE_STOPPING: usize = 4;

/// How it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// There is a record.
    Found,
    /// There is none any more.
    Ended,
    /// Time ran out before one was found.
    Stopped,
}

/// Where one is.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    shared: &'t Shared,
    filter: &'t Filter,
    terms: Vec<u64>,
    /// What is older than this was not looked at yet.
    spot: Spot,
    /// Records of one block that are asked for, and their lines; the latest last.
    found: Vec<(u32, Entry)>,
    /// The block of them.
    block: u64,
    /// The time of the last record that was looked at.
    searched_to: Option<String>,
}

impl<'t> Cursor<'t> {
    /// From `older` on, or from the latest record.
    pub(super) fn new(shared: &'t Shared, filter: &'t Filter, older: Option<Spot>) -> Self {
        let newest = || Spot {
            block: shared.newest(),
            line: u32::MAX,
        };
        let spot = older.unwrap_or_else(newest);
        Self {
            shared,
            filter,
            terms: filter.terms(),
            spot,
            found: Vec::new(),
            block: spot.block,
            searched_to: None,
        }
    }

    /// Looks for the next record, unless there is one. `read` counts blocks; `goes_on` is asked now and then whether there is
    /// time for more.
    pub(super) fn fill(&mut self, read: &mut usize, goes_on: &mut dyn FnMut() -> bool) -> Step {
        while self.found.is_empty() {
            if self.spot == Spot::END {
                return Step::Ended;
            }
            let Some((block, number)) = self.shared.block_at(self.spot.block, &self.terms) else {
                self.spot = Spot::END;
                return Step::Ended;
            };
            let before = if number == self.spot.block {
                self.spot.line
            } else {
                u32::MAX
            };
            let entries = (0..before).zip(block.entries());
            self.found = entries.collect();
            if let Some((_, first)) = self.found.first() {
                self.searched_to = Some(first.time.clone());
            }
            self.found.retain(|(_, entry)| self.filter.matches(entry));
            self.block = number;
            // What is not found in this block is older than all of it.
            self.spot = match number.checked_sub(1) {
                Some(block) => Spot {
                    block,
                    line: u32::MAX,
                },
                None => Spot::END,
            };
            *read += 1;
            if self.found.is_empty() && read.is_multiple_of(BLOCKS_BEFORE_STOPPING) && !goes_on() {
                return Step::Stopped;
            }
        }
        Step::Found
    }

    /// The next record.
    pub(super) fn peek(&self) -> Option<&Entry> {
        self.found.last().map(|(_, entry)| entry)
    }

    /// Takes the next record.
    pub(super) fn take(&mut self) -> Option<Entry> {
        self.found.pop().map(|(_, entry)| entry)
    }

    /// What is older than this was not taken yet.
    pub(super) fn spot(&self) -> Spot {
        match self.found.last() {
            Some((line, _)) => Spot {
                block: self.block,
                line: line.saturating_add(1),
            },
            None => self.spot,
        }
    }

    /// The time up to which everything was looked at or taken.
    pub(super) fn searched_to(&self) -> Option<String> {
        let next = self.peek().map(|entry| entry.time.clone());
        next.or_else(|| self.searched_to.clone())
    }
}
