//! The memory of a single node, in one file (redb). Nothing to install; survives a restart and a crash.
//!
//! Reads go to what is [not written yet](unwritten) and to a snapshot of the tables, and never wait for a writer. Links, which
//! are most of what is written, are bound into [bundles](bundle) in the order in which they come. What is
//! learnt comes in batches from off the request path; it is seen at once and reaches the disk at the next flush, at most
//! [`EmbeddedSettings::flush_interval`] later: a crash loses that much and nothing older. The file is bounded: every entry has a time to live, and every table a
//! maximum beyond which the entries written longest ago make room. Time comes with the calls; the store has no clock.

mod bind;
mod bundle;
mod janitor;
mod ledger;
mod look;
mod maintenance;
mod places;
mod reopening;
mod tables;
mod unwritten;
mod writing;

use crate::adapters::embedded::janitor::Janitor;
use crate::adapters::embedded::ledger::Ledger;
pub use crate::adapters::embedded::look::Look;
pub use crate::adapters::embedded::look::look;
use crate::adapters::embedded::places::Places;
use crate::adapters::embedded::tables::Snapshot;
use crate::adapters::embedded::tables::Tables;
use crate::adapters::embedded::unwritten::File;
use crate::adapters::embedded::unwritten::Layers;
use crate::adapters::embedded::unwritten::Lesson;
use crate::adapters::store::codec::Codec;
use crate::adapters::store::codec::Unreadable;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entries;
use crate::adapters::store::entries::Found;
use crate::adapters::store::plan::Plan;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::Observation;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::WhichDevices;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::review::ReviewQueue;
use crate::domain::time::Timestamp;
use crate::flow::ports::QueueChange;
use crate::flow::ports::Redemption;
use crate::flow::ports::StateError;
use crate::flow::ports::StateStore;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use parking_lot::Mutex;
use redb::Builder;
use redb::Database;
use redb::DatabaseError;
use redb::Durability;
use redb::StorageError;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Memory that the database may use for pages of the file.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Transactions that are not on the disk (of a sweep, of an import) after which a flush comes before its time: each copies
/// the pages that it changes, and the file grows until then.
const UNFLUSHED_MAX: u32 = 16;
/// Entries that wait for the file, of which one takes some 100 to 2,000 bytes. Where more come within a flush interval,
/// whoever learns writes them.
const UNWRITTEN_MAX: usize = 65_536;
/// What was learnt gathers for so long: nobody else reads this file, and entries that many observations change are changed
/// once.
const GATHERING: Duration = Duration::from_millis(50);
/// How long the clock of the calls must have gone evenly before what has ended is removed: no longer than many entries last, so
/// that the file does not grow much by it.
const STEADY_AFTER: Duration = Duration::from_secs(600);
/// Files up to this size are checked whole when they are opened (some 0.2 s); of larger ones only the roots are.
const CHECK_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How the embedded store behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EmbeddedSettings {
    /// The entries that each table keeps; there is one table per kind of entry (profiles, addresses, codes, …). When a
    /// table is full, a twentieth of it makes room: what was written longest ago. Default 1,000,000.
    pub entries_max: u64,
    /// How long what was learnt may wait for the disk; what a crash can lose. Default 1 s; with none each batch is on the
    /// disk before it counts as learnt.
    pub flush_interval: Duration,
    /// How often expired entries are looked for, a bounded number of each table at a time. Default 10 s.
    pub sweep_interval: Duration,
    /// How long the clock of the calls must have gone evenly before they are removed. Default 10 minutes.
    pub steady_after: Duration,
    /// A number that changes with the secret that names are made with. The population counts names of one secret only:
    /// with another number it begins anew. Default 0.
    pub names: u64,
}

/// Why the file could not be opened. Each error names it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The file is not a database, or it is damaged.
    #[error("the state file `{}` is damaged or is not a state file (move it away to start without history): {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file is a database of another program or of another version of this one.
    #[error("the file `{}` is a database but not a state file of this version: {reason}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Another process has the file open.
    #[error("the state file `{}` is in use by another process", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be read or written.
    #[error("the state file `{}` cannot be opened: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The store on a file.
#[derive(Debug)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
    // Stops and joins its thread when it is dropped.
    _janitor: Janitor,
}

/// What the store and its janitor share.
struct Inner {
    // Before the database, so that it lets go of its pages first.
    snapshot: ArcSwap<Snapshot>,
    layers: ArcSwap<Layers>,
    /// What was in memory before the latest transaction: readers may still have it, and taking it down takes milliseconds.
    outgoing: Mutex<Option<Arc<Layers>>>,
    /// Where links are.
    places: Places,
    path: PathBuf,
    settings: EmbeddedSettings,
    codec: Codec,
    /// Held by whoever brings something to the file.
    file: Mutex<Opened>,
    /// Held by whoever learns, and by whoever changes what was learnt. Taken after `file`.
    learning: Mutex<()>,
    /// Whether something was written since the last flush.
    dirty: AtomicBool,
    /// Why what was learnt last could not be written, until something is.
    failed: ArcSwapOption<String>,
    /// Whether the disk has failed: the database takes nothing more until it is opened again.
    lost: AtomicBool,
    /// Transactions since the last flush.
    unflushed: AtomicU32,
    /// The latest moment that a call brought, in milliseconds since the epoch.
    seen: AtomicI64,
    /// What has ended by this moment may be removed: one of `seen` at which the clock had gone evenly.
    ended: AtomicI64,
    /// Held while a new snapshot is taken and shown.
    publishing: Mutex<()>,
}

/// The file, for whoever writes to it.
struct Opened {
    /// `None` while it cannot be opened again.
    database: Option<Database>,
    ledger: Ledger,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            entries_max: 1_000_000,
            flush_interval: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(10),
            steady_after: STEADY_AFTER,
            names: 0,
        }
    }
}

impl EmbeddedStore {
    /// Opens the file at `path`, or makes it (readable by its owner only).
    ///
    /// # Errors
    ///
    /// If the file is damaged, foreign, in use or out of reach. The file is not changed then.
    pub fn open(path: &Path, settings: EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let inner = Arc::new(Inner::open(path, settings)?);
        let janitor = Janitor::start(&inner).map_err(|source| EmbeddedError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            inner,
            _janitor: janitor,
        })
    }

    /// Brings to the disk what has been learnt. Dropping the store does the same.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn flush(&self) -> Result<(), StateError> {
        self.inner.flush().map_err(refused)
    }

    /// Removes the entries that have expired at `now` and says how many they were.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn sweep(&self, now: Timestamp) -> Result<u64, StateError> {
        self.inner.sweep_all(now).map_err(refused)
    }

    /// How many entries there are in all tables.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn entries(&self) -> Result<u64, StateError> {
        self.flush()?;
        let len = self.inner.snapshot.load().len();
        len.map(|len| len + self.inner.places.len())
            .map_err(|error| refused(error.into()))
    }

    /// What held logins that do not open end in. The file itself is sound, and everything else in it goes on.
    fn unreadable(&self, _: Unreadable) -> StateError {
        StateError::Refused(format!(
            "the held logins in the state file `{}` do not open: a newer version wrote them, or they are damaged; go back to that \
             version, or stop the gateway and remove them by `riskgate state forget-held`",
            self.inner.path.display()
        ))
    }

    /// Reads the history without leaving the thread: some 20 µs from the cache (`benches/state.rs`), one disk read per
    /// entry otherwise.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn load_now(&self, query: &HistoryQuery) -> Result<History, StateError> {
        self.inner.seen.store(query.now.millis(), Ordering::Relaxed);
        // In this order: see the head of `unwritten.rs`.
        let layers = self.inner.layers.load();
        let snapshot = self.inner.snapshot.load();
        let file = self.inner.file_at(&snapshot);
        // Those under previous names first: an entry that moves meanwhile is found in one of the two places, since it is put
        // there before it is removed here.
        let mut values = entries::keys(query)
            .iter()
            .rev()
            .map(|key| layers.stored(file, key))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(error.into()))?;
        values.reverse();
        let values = values.iter().map(|value| value.as_ref()?.found(query.now));
        Ok(entries::history(
            query,
            &self.inner.codec,
            entries::sketched,
            values,
        ))
    }
}

#[async_trait]
impl StateStore for EmbeddedStore {
    async fn load(&self, query: &HistoryQuery) -> Result<History, StateError> {
        self.load_now(query)
    }

    async fn record(&self, observations: &[Observation]) -> Result<(), StateError> {
        self.learn(&mut observations.to_vec()).await
    }

    async fn learn(&self, batch: &mut Vec<Observation>) -> Result<(), StateError> {
        if batch.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        let mut observations = std::mem::take(batch);
        let learn = move || {
            let done = inner.record(&observations);
            observations.clear();
            done.map(|()| observations)
        };
        // A batch takes milliseconds; whoever runs this has others to serve.
        *batch = joined(tokio::task::spawn_blocking(learn).await)?;
        Ok(())
    }

    async fn close(&self) -> Result<(), StateError> {
        let inner = Arc::clone(&self.inner);
        joined(tokio::task::spawn_blocking(move || inner.flush()).await)
    }

    fn gathering(&self) -> Duration {
        GATHERING
    }

    async fn issue_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), StateError> {
        let inner = Arc::clone(&self.inner);
        let issue = move || {
            inner.write(Durability::Immediate, |tables| {
                entries::issue(tables, &inner.codec, ticket, binding, at, ttl)
            })
        };
        joined(tokio::task::spawn_blocking(issue).await)
    }

    async fn redeem_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        now: Timestamp,
    ) -> Result<Redemption, StateError> {
        let inner = Arc::clone(&self.inner);
        let redeem = move || {
            // On the disk before anybody is told: after a crash the ticket is still used up.
            inner.write(Durability::Immediate, |tables| {
                entries::redeem(tables, &inner.codec, ticket, binding, now)
            })
        };
        joined(tokio::task::spawn_blocking(redeem).await)
    }

    async fn review_queue(&self) -> Result<ReviewQueue, StateError> {
        let queue = self.inner.queue().map_err(redb::Error::from);
        queue
            .map_err(refused)?
            .map_err(|found| self.unreadable(found))
    }

    async fn change_review_queue(&self, change: QueueChange) -> Result<ReviewQueue, StateError> {
        // Most who ask wait already: nothing is written for them.
        let mut queue = self.review_queue().await?;
        if !change(&mut queue) {
            return Ok(queue);
        }
        let inner = Arc::clone(&self.inner);
        let write = move || {
            let at = Timestamp(inner.seen.load(Ordering::Relaxed));
            inner.write(Durability::Immediate, |tables| {
                entries::change_queue(tables, &inner.codec, &change, at)
            })
        };
        let queue = joined(tokio::task::spawn_blocking(write).await)?;
        queue.map_err(|found| self.unreadable(found))
    }

    async fn forget_devices(
        &self,
        subject: SubjectKey,
        which: WhichDevices,
        now: Timestamp,
    ) -> Result<bool, StateError> {
        let inner = Arc::clone(&self.inner);
        let key = EntryKey::subject(Kind::Profile, subject);
        let forget = move |mut profile: Profile| {
            profile.forget_devices(which, now);
            profile
        };
        let write = move || {
            inner.write(Durability::Immediate, |tables| {
                entries::change_profile(tables, &inner.codec, &key, now, &forget)
            })
        };
        joined(tokio::task::spawn_blocking(write).await)
    }

    async fn population(&self) -> Result<Population, StateError> {
        let inner = Arc::clone(&self.inner);
        let read = move || {
            inner.flush()?;
            Ok(inner.snapshot.load().population()?)
        };
        joined(tokio::task::spawn_blocking(read).await)
    }

    async fn ping(&self) -> Result<(), StateError> {
        if let Some(reason) = self.inner.failed.load().as_deref() {
            let problem = format!("the state file cannot be written: {reason}");
            return Err(StateError::Unavailable(problem));
        }
        self.inner
            .snapshot
            .load()
            .len()
            .map(drop)
            .map_err(|error| refused(error.into()))
    }

    fn kind(&self) -> &'static str {
        "embedded"
    }
}

impl Inner {
    fn open(path: &Path, settings: EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let database = database(path)?;
        let places = Places::default();
        let (ledger, snapshot) = prepared(&database, path, settings.names, &places)?;
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            layers: ArcSwap::default(),
            outgoing: Mutex::new(None),
            places,
            path: path.to_owned(),
            settings,
            codec: Codec::plain(),
            file: Mutex::new(Opened {
                database: Some(database),
                ledger,
            }),
            learning: Mutex::new(()),
            dirty: AtomicBool::new(false),
            failed: ArcSwapOption::empty(),
            lost: AtomicBool::new(false),
            unflushed: AtomicU32::new(0),
            seen: AtomicI64::new(i64::MIN),
            ended: AtomicI64::new(i64::MIN),
            publishing: Mutex::new(()),
        })
    }

    fn record(&self, observations: &[Observation]) -> Result<(), redb::Error> {
        let plan = Plan::of(observations);
        if let Some(last) = observations.last() {
            self.seen.store(last.at.millis(), Ordering::Relaxed);
        }
        // A file that takes nothing must not fill the memory instead: whoever learns hears of it.
        let is_full = self.layers.load().filling().len() >= UNWRITTEN_MAX;
        if is_full || self.failed.load().is_some() {
            self.flush()?;
        }
        {
            let _learning = self.learning.lock();
            // In this order: see the head of `unwritten.rs`.
            let layers = self.layers.load();
            let snapshot = self.snapshot.load();
            let mut lesson = Lesson::new(layers, self.file_at(&snapshot));
            entries::apply(&plan, &self.codec, &mut lesson)?;
        }
        if self.settings.flush_interval.is_zero() {
            self.flush()?;
        }
        Ok(())
    }

    fn file_at<'f>(&'f self, snapshot: &'f Snapshot) -> File<'f> {
        File {
            snapshot,
            latest: &self.snapshot,
            places: &self.places,
        }
    }

    /// What `read` makes of what is stored under `key` and has not ended at `now`.
    fn read<T>(
        &self,
        key: &EntryKey,
        now: Timestamp,
        read: impl FnOnce(Found<'_>) -> Option<T>,
    ) -> Result<Option<T>, StorageError> {
        // In this order: see the head of `unwritten.rs`.
        let layers = self.layers.load();
        let snapshot = self.snapshot.load();
        let stored = layers.stored(self.file_at(&snapshot), key)?;
        Ok(stored.and_then(|stored| read(stored.found(now)?)))
    }

    fn queue(&self) -> Result<Result<ReviewQueue, Unreadable>, StorageError> {
        // When its logins end they say themselves.
        let always = Timestamp(i64::MIN);
        let queue = self.read(&EntryKey::review(), always, |found| match found {
            Found::Bytes(value) => Some(self.codec.kept_queue(Some(value))),
            Found::Link(_) | Found::Rates(_) => None,
        });
        Ok(queue?.unwrap_or_else(|| self.codec.kept_queue(None)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to be told; what is lost is what a crash would have lost.
        drop(self.flush());
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Opens the file at `path`, or makes it (readable by its owner only).
fn database(path: &Path) -> Result<Database, EmbeddedError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let size = options
        .open(path)
        .and_then(|file| file.metadata())
        .map_err(|source| EmbeddedError::Io {
            path: path.to_owned(),
            source,
        })?
        .len();
    opened(path, size, |builder| builder.create(path))
}

/// Opens a file of `size` bytes.
fn opened(
    path: &Path,
    size: u64,
    open: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
) -> Result<Database, EmbeddedError> {
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(size > 0 && size <= CHECK_BYTES_MAX);
    let opened = guarded(|| open(&builder).map_err(|error| database_error(path, error)));
    opened.unwrap_or_else(|reason| {
        Err(EmbeddedError::Damaged {
            path: path.to_owned(),
            reason,
        })
    })
}

/// Makes the tables of a file that has been opened, where it is new, and reads what a store needs of it.
fn prepared(
    database: &Database,
    path: &Path,
    names: u64,
    places: &Places,
) -> Result<(Ledger, Snapshot), EmbeddedError> {
    let prepared = guarded(|| {
        Tables::prepare(database, path, names)?;
        let ledger = Tables::ledger(database, places);
        let snapshot = Snapshot::of(database);
        ledger
            .and_then(|ledger| Ok((ledger, snapshot?)))
            .map_err(|error| damaged(path, &error))
    });
    prepared.unwrap_or_else(|reason| {
        Err(EmbeddedError::Damaged {
            path: path.to_owned(),
            reason,
        })
    })
}

/// Runs `open`, which reads a file that anybody may have damaged. The database reports most damage but may panic on
/// some; at start that is an error like any other.
fn guarded<T>(open: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("the database stopped").to_owned()
    })
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> EmbeddedError {
    EmbeddedError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn database_error(path: &Path, error: DatabaseError) -> EmbeddedError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => EmbeddedError::InUse {
            path: path.to_owned(),
        },
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != io::ErrorKind::InvalidData =>
        {
            EmbeddedError::Io {
                path: path.to_owned(),
                source,
            }
        }
        other => damaged(path, &other),
    }
}

fn joined<T>(
    done: Result<Result<T, redb::Error>, tokio::task::JoinError>,
) -> Result<T, StateError> {
    match done {
        Ok(result) => result.map_err(refused),
        Err(error) => Err(StateError::Refused(format!(
            "the writer of the state file stopped: {error}"
        ))),
    }
}

fn refused(error: redb::Error) -> StateError {
    match error {
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            StateError::Unavailable(error.to_string())
        }
        other => StateError::Refused(other.to_string()),
    }
}
