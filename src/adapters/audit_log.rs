//! Audit records as JSON Lines in a file. A bounded queue stands between the request path and the disk: a record that
//! finds no room is dropped and counted, and its number is missing from the file, so that the loss shows.

use crate::domain::audit::AuditEvent;
use crate::flow::ports::AuditSink;
use crate::telemetry::metrics::Metrics;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// Records that may wait for the disk.
const QUEUE_MAX: usize = 16_384;
/// How long a batch gathers: a record is in the file at most this much later.
const GATHER: Duration = Duration::from_millis(20);
/// Records that are written with one flush.
const BATCH_MAX: usize = 4096;

/// Why an audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("audit log `{path}` cannot be opened for appending: {cause}")]
pub struct AuditLogError {
    path: PathBuf,
    cause: std::io::Error,
}

/// Appends records to a file from a thread of its own. Dropping it writes what is queued.
#[derive(Debug)]
pub struct AuditLog {
    queue: Mutex<Option<SyncSender<AuditEvent>>>,
    seq: AtomicU64,
    metrics: Arc<Metrics>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Opens `path` for appending, with access for the owner alone.
    pub fn open(path: &Path, metrics: Arc<Metrics>) -> Result<Self, AuditLogError> {
        let error = |cause| AuditLogError {
            path: path.to_owned(),
            cause,
        };
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options.open(path).map_err(error)?;
        let (queue, records) = sync_channel(QUEUE_MAX);
        let counted = Arc::clone(&metrics);
        let writer = std::thread::Builder::new()
            .name("riskgate-audit".to_owned())
            .spawn(move || write_all(file, &records, &counted))
            .map_err(error)?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            seq: AtomicU64::new(0),
            metrics,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes what is queued and ends the thread. Records that come later are dropped and counted.
    pub fn close(&self) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the audit writer panicked");
        }
    }
}

impl AuditSink for AuditLog {
    fn write(&self, mut event: AuditEvent) {
        event.seq = self.seq.fetch_add(1, Ordering::Relaxed) + 1;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(event).is_ok());
        if !sent {
            self.metrics.audit_dropped(1);
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_all(file: File, records: &Receiver<AuditEvent>, metrics: &Metrics) {
    let mut out = Lines::new(file);
    while let Ok(first) = records.recv() {
        // Whoever sends to a thread that waits has to wake it, which costs more than the record itself: under load the
        // thread looks now and then instead.
        std::thread::sleep(GATHER);
        // What has queued up meanwhile is written in one go.
        let mut batch = Vec::with_capacity(4096);
        let mut count = 0;
        for event in std::iter::once(first).chain(records.try_iter().take(BATCH_MAX)) {
            match serde_json::to_writer(&mut batch, &event) {
                Ok(()) => {
                    batch.push(b'\n');
                    count += 1;
                }
                Err(error) => lose(1, metrics, &error),
            }
        }
        match out.append(&batch) {
            Ok(()) => metrics.audit_written(count),
            Err(error) => lose(count, metrics, &error),
        }
    }
}

/// A file that holds whole lines. A batch is in it as a whole or not at all, so that what counts as lost is not there.
struct Lines {
    file: File,
    /// The length up to which the file is good; `None` when it is not a regular file.
    good: Option<u64>,
    /// Half a line could not be taken back: the next one begins on a line of its own.
    broken: bool,
}

impl Lines {
    fn new(file: File) -> Self {
        let good = file
            .metadata()
            .ok()
            .filter(std::fs::Metadata::is_file)
            .map(|data| data.len());
        Self {
            file,
            good,
            broken: false,
        }
    }

    fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.broken {
            self.file.write_all(b"\n")?;
            self.broken = false;
            self.good = self.good.map(|good| good + 1);
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.good = self.good.map(|good| good + lines.len() as u64);
                Ok(())
            }
            Err(error) => {
                let taken_back = self
                    .good
                    .is_some_and(|good| self.file.set_len(good).is_ok());
                self.broken = !taken_back && self.good.is_some();
                Err(error)
            }
        }
    }
}

fn lose(count: u64, metrics: &Metrics, error: &dyn std::fmt::Display) {
    metrics.audit_dropped(count);
    tracing::error!(error = %error, lost = count, "audit records could not be written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_numbered_lines_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let metrics = Arc::new(Metrics::new().unwrap());
        let log = AuditLog::open(&path, Arc::clone(&metrics)).unwrap();
        for _ in 0..1_000 {
            log.write(AuditEvent {
                id: "line\nbreak \u{1b}[31m \u{202e}".to_owned(),
                ..AuditEvent::default()
            });
        }
        drop(log);
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<AuditEvent> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len() as u64 + metrics.audit_dropped_total(), 1_000);
        assert!(events.is_sorted_by_key(|event| event.seq));
    }

    #[test]
    fn what_comes_after_the_end_is_counted_as_lost() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let log = AuditLog::open(&dir.path().join("a"), Arc::clone(&metrics)).unwrap();
        log.close();
        log.write(AuditEvent::default());
        assert_eq!(metrics.audit_dropped_total(), 1);
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_named() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let error = AuditLog::open(Path::new("/nonexistent/audit.jsonl"), metrics).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/audit.jsonl"));
    }
}
