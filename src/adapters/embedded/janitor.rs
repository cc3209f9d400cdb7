//! The thread that flushes the file and removes what has expired, a bounded number of entries at a time.

use crate::adapters::embedded::Inner;
use crate::adapters::embedded::guarded;
use crate::adapters::embedded::reopening::Reopening;
use crate::adapters::embedded::tables;
use crate::adapters::embedded::tables::KINDS;
use crate::adapters::embedded::tables::Snapshot;
use crate::adapters::priority;
use crate::adapters::store::entities::Kind;
use crate::domain::time::Steadiness;
use crate::domain::time::Timestamp;
use redb::Database;
use redb::Durability;
use redb::ReadableTableMetadata;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

/// Entries of one table that one look at it covers.
const STEP: usize = 5_000;

/// Where the next look at each table begins.
type Cursors = [Option<Vec<u8>>; KINDS.len()];

/// Runs until it is dropped; then it flushes a last time.
#[derive(Debug)]
pub(super) struct Janitor {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    /// Starts the thread.
    pub(super) fn start(inner: &Arc<Inner>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let inner = Arc::clone(inner);
        let thread = thread::Builder::new()
            .name("riskgate-state".to_owned())
            .spawn(move || work(&inner, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on standard error.
            drop(thread.join());
        }
    }
}

fn work(inner: &Inner, stopped: &mpsc::Receiver<()>) {
    priority::step_back();
    let mut cursors: Cursors = Default::default();
    let mut since_sweep = Duration::ZERO;
    let mut reopening = Reopening::default();
    let mut steadiness = Steadiness::default();
    let interval = inner.settings.flush_interval.max(Duration::from_millis(1));
    while matches!(
        stopped.recv_timeout(interval),
        Err(RecvTimeoutError::Timeout)
    ) {
        // An error here shows in the calls as well: a file that cannot be written refuses the next batch.
        keeping(inner, || drop(inner.flush()));
        keeping(inner, || reopening.look(inner, interval));
        since_sweep += interval;
        if since_sweep >= inner.settings.sweep_interval {
            since_sweep = Duration::ZERO;
            let now = Timestamp(inner.seen.load(Ordering::Relaxed));
            // A clock that is ahead for a while must not cost what holds once it is set right.
            if steadiness.holds(now, Instant::now(), inner.settings.steady_after) {
                inner.ended.store(now.millis(), Ordering::Relaxed);
                keeping(inner, || drop(inner.sweep(now, &mut cursors)));
            }
        }
    }
    keeping(inner, || drop(inner.flush()));
}

/// Goes on after a panic of the database, as if the disk had failed: without this thread nothing would be written any more.
pub(super) fn keeping(inner: &Inner, turn: impl FnOnce()) {
    if let Err(reason) = guarded(turn) {
        inner.lost.store(true, Ordering::Release);
        tracing::error!(reason, path = %inner.path.display(), "the database of the state file stopped; the file is opened again");
    }
}

impl Inner {
    /// Removes every entry that has expired at `now`.
    pub(super) fn sweep_all(&self, now: Timestamp) -> Result<u64, redb::Error> {
        self.ended.fetch_max(now.millis(), Ordering::Relaxed);
        self.flush()?;
        let mut cursors: Cursors = Default::default();
        let mut removed = 0;
        loop {
            removed += self.sweep(now, &mut cursors)?;
            let (more, _) = self.file.lock().ledger.ended(now, 1);
            if cursors.iter().all(Option::is_none) && more.is_empty() {
                return Ok(removed);
            }
        }
    }

    /// Looks at the next [`STEP`] entries of every table and removes those that have expired.
    fn sweep(&self, now: Timestamp, cursors: &mut Cursors) -> Result<u64, redb::Error> {
        let snapshot = self.snapshot.load_full();
        let mut expired: Vec<(Kind, Vec<Vec<u8>>)> = Vec::new();
        for (kind, cursor) in KINDS.iter().zip(cursors.iter_mut()) {
            let Some(table) = snapshot.table(*kind) else {
                continue;
            };
            if table.is_empty()? {
                *cursor = None;
                continue;
            }
            let from = cursor.take();
            let start = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut keys = Vec::new();
            for (seen, entry) in table.range::<&[u8]>((start, Bound::Unbounded))?.enumerate() {
                let (key, stored) = entry?;
                if tables::payload(stored.value(), now).is_none() {
                    keys.push(key.value().to_vec());
                }
                if seen + 1 >= STEP {
                    *cursor = Some(key.value().to_vec());
                    break;
                }
            }
            if !keys.is_empty() {
                expired.push((*kind, keys));
            }
        }
        // Of bundles it is known when they end.
        let (ended, links) = self.file.lock().ledger.ended(now, STEP);
        if expired.is_empty() && ended.is_empty() {
            return Ok(0);
        }
        self.write(Durability::None, |tables| {
            let mut removed = links;
            tables.binder.ended = ended;
            for (kind, keys) in &expired {
                removed += tables.remove_expired(*kind, keys, now)?;
            }
            Ok(removed)
        })
    }

    /// Shows readers what has been written.
    pub(super) fn publish(&self, database: &Database) -> Result<(), redb::Error> {
        // Two writers may come here in either order; each takes its snapshot within the lock, so that the later stays.
        let _order = self.publishing.lock();
        self.snapshot.store(Arc::new(Snapshot::of(database)?));
        Ok(())
    }
}
