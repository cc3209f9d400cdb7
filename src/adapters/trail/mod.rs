//! The console's way through audit files: a thread of its own follows them as they are written, counts, and keeps for every
//! few hundred records where they stand and what they may hold. Requests pay nothing for it. It reads files and writes none.

/// Where records stand, and what they may hold.
mod block;

/// Lines of files that grow and are exchanged.
mod follow;

use crate::domain::audit::AuditEvent;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::domain::trail::Page;
use crate::domain::trail::Place;
use crate::domain::trail::tally::Span;
use crate::domain::trail::tally::Tallies;
use crate::domain::trail::tally::Tally;
use crate::flow::ports::Trail;
use block::Block;
use follow::Follower;
use follow::Source;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Blocks that are kept: some four million records, 20 MB. The oldest make room.
const BLOCKS_MAX: usize = 16_384;
/// How often a file is looked at that did not grow.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Blocks that are read between two looks at the time.
const BLOCKS_BEFORE_STOPPING: usize = 4;

/// The trail through one audit file and the segments before it.
#[derive(Debug)]
pub struct AuditTrail {
    shared: Arc<Shared>,
    file: PathBuf,
    started: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    index: RwLock<Index>,
    /// How many records were seen.
    seen: watch::Sender<u64>,
    stop: AtomicBool,
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
            shared: Arc::new(Shared {
                index: RwLock::default(),
                seen: watch::Sender::new(0),
                stop: AtomicBool::new(false),
            }),
            file,
            started: AtomicBool::new(false),
        }
    }
}

impl Drop for AuditTrail {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Trail for AuditTrail {
    fn start(&self) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let follower = Follower::new(self.file.clone());
        let spawned = std::thread::Builder::new()
            .name("riskgate-trail".to_owned())
            .spawn(move || shared.follow(follower));
        if let Err(error) = spawned {
            tracing::error!(error = %error, "the console sees no records: no thread");
        }
    }

    fn progress(&self) -> (u64, u64) {
        self.shared.read().start
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
        let terms = filter.terms();
        let newest = self.shared.newest();
        let mut at = match older {
            Some(place) => place,
            None => Place {
                block: newest,
                line: u32::MAX,
            },
        };
        let mut read = 0;
        loop {
            let Some((block, number)) = self.shared.block_at(at.block, &terms) else {
                page.searched_to = None;
                return page;
            };
            if number != at.block {
                at = Place {
                    block: number,
                    line: u32::MAX,
                };
            }
            for (line, entry) in block.entries().into_iter().enumerate().rev() {
                let line = u32::try_from(line).unwrap_or(u32::MAX);
                if line >= at.line {
                    continue;
                }
                page.searched_to = Some(entry.time.clone());
                if filter.matches(&entry) {
                    page.entries.push(entry);
                    if page.entries.len() >= most {
                        page.searched_to = None;
                        page.older = Some(Place {
                            block: number,
                            line,
                        });
                        return page;
                    }
                }
            }
            let Some(before) = number.checked_sub(1) else {
                page.searched_to = None;
                return page;
            };
            at = Place {
                block: before,
                line: u32::MAX,
            };
            read += 1;
            if read % BLOCKS_BEFORE_STOPPING == 0 && !goes_on() {
                page.older = Some(at);
                return page;
            }
        }
    }

    fn find(&self, id: &str) -> Option<AuditEvent> {
        let filter = Filter {
            id: Some(id.to_owned()),
            all: true,
            ..Filter::default()
        };
        let terms = filter.terms();
        let mut from = self.shared.newest();
        loop {
            let (block, number) = self.shared.block_at(from, &terms)?;
            let lines = block.lines();
            let found = lines
                .split(|byte| *byte == b'\n')
                .filter(|line| Entry::parse(line).is_some_and(|entry| entry.id == id))
                .find_map(|line| serde_json::from_slice(line).ok());
            if found.is_some() {
                return found;
            }
            from = number.checked_sub(1)?;
        }
    }

    fn stretches(&self, span: Span, now: i64) -> Vec<(i64, Tally)> {
        self.shared.read().tallies.stretches(span, now)
    }
}

impl Shared {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> u64 {
        let index = self.read();
        (index.first + index.blocks.len() as u64).saturating_sub(1)
    }

    /// The latest block up to the one of this number that may hold all of `terms`, and its number.
    fn block_at(&self, number: u64, terms: &[u64]) -> Option<(Block, u64)> {
        let index = self.read();
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
        let bytes = follower.bytes();
        self.write().start = (bytes, 0);
        while !self.stop.load(Ordering::Relaxed) {
            let Some((source, offset, lines)) = follower.next() else {
                let mut index = self.write();
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
        let mut index = self.write();
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

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
