//! The console's way through audit files: a thread of its own follows them as they are written, counts, and keeps for every
//! few hundred records where they stand and what they may hold. Requests pay nothing for it. It reads files and writes none.
//! Where the fleet shares a stream, the records of other nodes are kept in the same way beside those of the node's own file,
//! and lists show both in the order of their times.

/// Where records stand, and what they may hold.
mod block;

/// A way back through the records of one source.
mod cursor;

/// Lines of files that grow and are exchanged.
mod follow;

/// Records of other nodes.
mod others;

use crate::domain::audit::AuditEvent;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::domain::trail::Found;
use crate::domain::trail::Page;
use crate::domain::trail::Place;
use crate::domain::trail::tally::Span;
use crate::domain::trail::tally::Tallies;
use crate::domain::trail::tally::Tally;
use crate::flow::ports::Trail;
use block::Block;
use cursor::Cursor;
use cursor::Step;
use follow::Follower;
use follow::Source;
pub use others::Others;
use parking_lot::Mutex;
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Blocks that are kept: some four million records, 20 MB. The oldest make room.
const BLOCKS_MAX: usize = 16_384;
/// How often a file is looked at that did not grow.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The trail through one audit file and the segments before it.
#[derive(Debug)]
pub struct AuditTrail {
    shared: Arc<Shared>,
    file: PathBuf,
    started: AtomicBool,
    others: Option<OfOthers>,
}

/// Records of other nodes, and who reads them once that begins.
#[derive(Debug)]
struct OfOthers {
    shared: Arc<Shared>,
    reader: Mutex<Option<Others>>,
}

#[derive(Debug, Default)]
struct Shared {
    index: RwLock<Index>,
    /// How many records were seen, of all sources.
    seen: Arc<watch::Sender<u64>>,
    stop: AtomicBool,
    /// Why nothing new comes.
    missing: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Index {
    /// The oldest first; the last one may grow.
    blocks: VecDeque<Block>,
    /// The number of the first block that is kept.
    first: u64,
    tallies: Tallies,
    /// Bytes that were there when the process began, and how many of them were read.
    start: (u64, u64),
}

impl AuditTrail {
    /// A trail through `file` and the segments beside it. Nothing is read before [`Trail::start`].
    pub fn new(file: PathBuf) -> Self {
        Self {
            shared: Arc::default(),
            file,
            started: AtomicBool::new(false),
            others: None,
        }
    }

    /// The same, with the records of other nodes.
    #[must_use]
    pub fn beside(mut self, others: Others) -> Self {
        let shared = Shared {
            seen: Arc::clone(&self.shared.seen),
            ..Shared::default()
        };
        self.others = Some(OfOthers {
            shared: Arc::new(shared),
            reader: Mutex::new(Some(others)),
        });
        self
    }
}

impl Drop for AuditTrail {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(others) = &self.others {
            others.shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

impl Trail for AuditTrail {
    fn start(&self) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let follower = Follower::new(self.file.clone());
        shared.index.write().start = (follower.bytes(), 0);
        let spawned = std::thread::Builder::new()
            .name("riskgate-trail".to_owned())
            .spawn(move || shared.follow(follower));
        if let Err(error) = spawned {
            tracing::error!(error = %error, "the console sees no records: no thread");
        }
        if let Some(others) = &self.others {
            let mut reader = others.reader.lock();
            if let Some(reader) = reader.take() {
                reader.start(Arc::clone(&others.shared));
            }
        }
    }

    fn progress(&self) -> (u64, u64) {
        self.shared.index.read().start
    }

    fn seen(&self) -> watch::Receiver<u64> {
        self.shared.seen.subscribe()
    }

    fn page(
        &self,
        filter: &Filter,
        older: Option<Place>,
        most: usize,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Page {
        let mut page = Page::default();
        let mut own = Cursor::new(&self.shared, filter, older.map(|place| place.own));
        let mut others = self.others.as_ref().map(|others| {
            let from = older.and_then(|place| place.others);
            Cursor::new(&others.shared, filter, from)
        });
        let mut read = 0;
        loop {
            let is_full = page.entries.len() >= most;
            let steps = [Some(&mut own), others.as_mut()];
            let steps = steps.into_iter().flatten();
            let mut has_stopped = false;
            for cursor in steps.filter(|_| !is_full) {
                has_stopped |= cursor.fill(&mut read, goes_on) == Step::Stopped;
            }
            if has_stopped {
                page.searched_to = [Some(&own), others.as_ref()]
                    .into_iter()
                    .flatten()
                    .filter_map(Cursor::searched_to)
                    .max();
            }
            if is_full || has_stopped {
                page.older = Some(Place {
                    own: own.spot(),
                    others: others.as_ref().map(Cursor::spot),
                });
                return page;
            }
            // The later of the two; at the same time the node's own.
            let is_foreign = match (own.peek(), others.as_ref().and_then(Cursor::peek)) {
                (Some(own), Some(other)) => other.time > own.time,
                (own, other) => own.is_none() && other.is_some(),
            };
            let next = match &mut others {
                Some(others) if is_foreign => others.take(),
                _ => own.take(),
            };
            let Some(entry) = next else {
                return page;
            };
            page.entries.push(entry);
        }
    }

    fn find(&self, id: &str) -> Option<Found> {
        let found = |shared: &Shared, is_foreign| {
            let (event, node) = shared.find(id)?;
            Some(Found {
                event,
                node,
                is_foreign,
            })
        };
        found(&self.shared, false).or_else(|| found(&self.others.as_ref()?.shared, true))
    }

    fn is_of_fleet(&self) -> bool {
        self.others.is_some()
    }

    fn missing(&self) -> Option<String> {
        self.others.as_ref()?.shared.missing()
    }

    fn stretches(&self, span: Span, now: i64) -> Vec<(i64, Tally)> {
        let mut stretches = self.shared.index.read().tallies.stretches(span, now);
        if let Some(others) = &self.others {
            let theirs = others.shared.index.read().tallies.stretches(span, now);
            for ((_, tally), (_, more)) in stretches.iter_mut().zip(&theirs) {
                tally.merge(more);
            }
        }
        stretches
    }
}

impl Shared {
    /// The record of this id, and its node.
    fn find(&self, id: &str) -> Option<(AuditEvent, Option<String>)> {
        let filter = Filter {
            id: Some(id.to_owned()),
            all: true,
            ..Filter::default()
        };
        let terms = filter.terms();
        let mut from = self.newest();
        loop {
            let (block, number) = self.block_at(from, &terms)?;
            let lines = block.lines();
            let found = lines.split(|byte| *byte == b'\n').find_map(|line| {
                let entry = Entry::parse(line).filter(|entry| entry.id == id)?;
                let event = serde_json::from_slice(line).ok()?;
                Some((event, entry.node().map(str::to_owned)))
            });
            if found.is_some() {
                return found;
            }
            from = number.checked_sub(1)?;
        }
    }

    fn missing(&self) -> Option<String> {
        self.missing.lock().clone()
    }

    fn set_missing(&self, why: Option<String>) {
        *self.missing.lock() = why;
    }

    /// Gives up what stands in `source`, which is the oldest.
    fn forget(&self, source: &Arc<Source>) {
        let mut index = self.index.write();
        while index
            .blocks
            .front()
            .is_some_and(|block| block.is_of(source))
        {
            index.blocks.pop_front();
            index.first += 1;
        }
    }

    /// Gives up what stands in files that were removed: as long as something of them is kept, they are open and take their room
    /// on the disk.
    fn forget_removed(&self) {
        loop {
            let index = self.index.read();
            let oldest = index.blocks.front().map(|block| Arc::clone(block.source()));
            drop(index);
            match oldest.filter(|source| source.is_removed()) {
                Some(removed) => self.forget(&removed),
                None => return,
            }
        }
    }

    fn newest(&self) -> u64 {
        let index = self.index.read();
        (index.first + index.blocks.len() as u64).saturating_sub(1)
    }

    /// The latest block up to the one of this number that may hold all of `terms`, and its number.
    fn block_at(&self, number: u64, terms: &[u64]) -> Option<(Block, u64)> {
        let index = self.index.read();
        let place = usize::try_from(number.checked_sub(index.first)?).ok()?;
        let place = place.min(index.blocks.len().checked_sub(1)?);
        (0..=place).rev().find_map(|place| {
            let block = index
                .blocks
                .get(place)
                .filter(|block| block.may_hold(terms))?;
            Some((block.clone(), index.first + place as u64))
        })
    }

    /// Follows the files until the trail is dropped.
    fn follow(&self, mut follower: Follower) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some((source, offset, lines)) = follower.next() else {
                self.forget_removed();
                let mut index = self.index.write();
                index.start.1 = index.start.0;
                drop(index);
                std::thread::sleep(LOOK_EVERY);
                continue;
            };
            self.take(&source, offset, &lines);
        }
    }

    /// Takes in whole lines that stand at `offset` of a file.
    fn take(&self, source: &Arc<Source>, offset: u64, lines: &[u8]) {
        let mut at = offset;
        let mut found = Vec::new();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if let Some(entry) = Entry::parse(line) {
                found.push((at, line.len() as u64, entry));
            }
            at += line.len() as u64;
        }
        let count = found.len() as u64;
        let mut index = self.index.write();
        for (at, length, entry) in found {
            let fits = index
                .blocks
                .back()
                .is_some_and(|block| block.has_room(source));
            if !fits {
                index.blocks.push_back(Block::new(Arc::clone(source), at));
            }
            if let Some(block) = index.blocks.back_mut() {
                block.add(at + length, &entry);
            }
            index.tallies.count(&entry);
            if index.blocks.len() > BLOCKS_MAX {
                index.blocks.pop_front();
                index.first += 1;
            }
        }
        index.start.1 = (index.start.1 + lines.len() as u64).min(index.start.0);
        drop(index);
        if count > 0 {
            self.seen.send_modify(|seen| *seen += count);
        }
    }
}

#[cfg(test)]
mod tests;
