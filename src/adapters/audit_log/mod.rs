//! Audit records as JSON Lines in a file, chained and signed ([`crate::domain::audit`]). A bounded queue stands between the
//! request path and the disk: a record that finds no room is dropped and counted, its number is missing from the file, and
//! a mark says so. Everything that costs time, hashing included, is done by a thread of its own.

/// Keys on disk.
pub mod keys;

/// People's names.
pub mod people;

/// Files on disk.
pub mod segment;

mod writer;

use crate::adapters::audit_log::people::People;
use crate::adapters::audit_log::segment::Segment;
use crate::adapters::audit_log::writer::Writer;
use crate::adapters::priority;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::journal::Journal;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
use crate::flow::ports::RecordTap;
use crate::telemetry::metrics::Metrics;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// Records that may wait for the disk.
const QUEUE_MAX: usize = 16_384;
/// In strict mode, records that may wait before new requests are refused: the rest is for those that are under way.
const QUEUE_STRICT_MAX: u64 = 8_192;

/// Where records go, and how they are kept.
#[derive(Clone, Debug)]
pub struct AuditLogSettings {
    /// The file.
    pub file: PathBuf,
    /// The folder of the keys.
    pub folder: PathBuf,
    /// What the node is called from its first start on; a drawn name when absent.
    pub node: Option<String>,
    /// The key of people's names.
    pub people: PathBuf,
    /// Whether a record is kept until the disk takes it, and requests are refused meanwhile.
    pub strict: bool,
    /// Records after which a checkpoint is made.
    pub checkpoint_records: u64,
    /// The time after which a checkpoint is made where there is something to vouch for.
    pub checkpoint_every: Duration,
    /// The size at which a file is put aside; zero for never.
    pub rotate_bytes: u64,
    /// The age in seconds at which a file is put aside; zero for never.
    pub rotate_seconds: u64,
    /// How many files that were put aside are kept; zero for all.
    pub keep_files: usize,
    /// For how many seconds they are kept; zero for ever.
    pub keep_seconds: u64,
    /// Who is handed the lines of records that are in the file.
    pub tap: Option<Arc<dyn RecordTap>>,
}

/// Why an audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogError {
    /// The file.
    #[error("audit log `{path}` cannot be opened for appending: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The keys.
    #[error("the keys of the audit log in `{folder}` cannot be used: {cause}")]
    Keys {
        /// Where.
        folder: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// Appends records to a file from a thread of its own. Dropping it writes what is queued.
#[derive(Debug)]
pub struct AuditLog {
    queue: Mutex<Queue>,
    shared: Arc<Shared>,
    strict: bool,
    node: String,
    metrics: Arc<Metrics>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Numbers are given under the lock, so that they are in order in the queue.
#[derive(Debug)]
struct Queue {
    records: Option<SyncSender<AuditEvent>>,
    seq: u64,
}

/// What the writer and those who write to it know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// The number of the last record, lost ones included.
    seq: AtomicU64,
    /// Records that wait; counted in strict mode alone.
    waiting: AtomicU64,
    /// Whether the disk refuses.
    refused: AtomicBool,
    /// No more records come.
    ends: AtomicBool,
}

impl AuditLog {
    /// Opens the file for appending, with access for the owner alone, and begins a chain in it.
    ///
    /// # Errors
    /// The file cannot be opened, or the keys cannot be read or written.
    pub fn open(
        settings: AuditLogSettings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AuditLogError> {
        let of_file = |cause| AuditLogError::File {
            path: settings.file.clone(),
            cause,
        };
        let of_keys = |cause| AuditLogError::Keys {
            folder: settings.folder.clone(),
            cause,
        };
        // The file is here, where nothing else says so.
        std::fs::create_dir_all(&settings.folder).map_err(of_keys)?;
        let (segment, found) = Segment::open(&settings.file, clock.now()).map_err(of_file)?;
        let segment = if settings.strict {
            segment.strict().map_err(of_file)?
        } else {
            segment
        };
        segment.keep_name();
        let taken = keys::take(&settings.folder, settings.node.as_deref(), entropy.as_ref())
            .map_err(of_keys)?;
        if let Some(key) = &taken.auditor {
            tracing::warn!(
                key = %key.display(),
                "a key for the auditor was made: take it off this machine, as long as it is here the records prove nothing \
                 against who controls the machine"
            );
        }
        if settings
            .node
            .as_ref()
            .is_some_and(|node| *node != taken.this.node)
        {
            tracing::warn!(
                node = taken.this.node,
                "audit.node: the node keeps the name of its first start"
            );
        }
        let people =
            People::open(&settings.people, entropy.as_ref(), clock.instant()).map_err(of_keys)?;
        let journal = Journal::begin(&taken.this, &taken.next)
            .map_err(|error| of_keys(std::io::Error::other(error)))?;
        let (strict, node) = (settings.strict, taken.this.node.clone());
        let (queue, records) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(
            settings.clone(),
            (clock, entropy),
            Arc::clone(&metrics),
            Arc::clone(&shared),
            (segment, found),
            (journal, people),
        );
        let end = strict.then(|| StrictEnd {
            shared: Arc::clone(&shared),
            metrics: Arc::clone(&metrics),
        });
        let writer = std::thread::Builder::new()
            .name("riskgate-audit".to_owned())
            .spawn(move || {
                let _end = end;
                // In strict mode requests wait for their records.
                if !strict {
                    priority::step_back();
                }
                writer.run(&records);
            })
            .map_err(of_file)?;
        Ok(Self {
            queue: Mutex::new(Queue {
                records: Some(queue),
                seq: 0,
            }),
            shared,
            strict,
            node,
            metrics,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Whether the keys could be used, as far as that shows without taking them.
    ///
    /// # Errors
    /// What [`Self::open`] would say.
    pub fn look(settings: &AuditLogSettings) -> Result<(), AuditLogError> {
        let of_keys = |cause| AuditLogError::Keys {
            folder: settings.folder.clone(),
            cause,
        };
        keys::look(&settings.folder, settings.node.as_deref()).map_err(of_keys)?;
        people::look(&settings.people).map_err(of_keys)
    }

    /// What the node is called in its records.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Writes what is queued and ends the chain and the thread. Records that come later are dropped and counted.
    pub fn close(&self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.queue.lock().records.take();
        let writer = self.writer.lock().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the audit writer panicked");
        }
    }
}

impl AuditSink for AuditLog {
    fn write(&self, mut event: AuditEvent) {
        // Before the writer can have it, which takes it off again.
        let waits = u64::from(self.strict);
        self.shared.waiting.fetch_add(waits, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        let mut sent = false;
        if let Some(records) = &queue.records {
            event.seq = queue.seq + 1;
            self.shared.seq.store(event.seq, Ordering::Relaxed);
            sent = records.try_send(event).is_ok();
            queue.seq += 1;
        }
        drop(queue);
        if !sent {
            self.shared.waiting.fetch_sub(waits, Ordering::Relaxed);
            self.metrics.audit_dropped(1);
        }
    }

    fn takes(&self) -> bool {
        !self.strict
            || (!self.shared.refused.load(Ordering::Relaxed)
                && self.shared.waiting.load(Ordering::Relaxed) < QUEUE_STRICT_MAX)
    }
}

/// The end of the writer in strict mode: where it was not told to end, nobody takes records any more.
struct StrictEnd {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Drop for StrictEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.refused.store(true, Ordering::Relaxed);
            self.metrics.audit_refused(true);
            tracing::error!("the audit writer panicked: scored requests are refused");
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
