//! Records of other nodes: read from the stream that the fleet shares, checked, and kept in nameless files of this process,
//! where the trail finds them as it finds those of the node's own file. What is no record of a node is counted and passed
//! over. Nothing here writes to the stream.

use super::Shared;
use super::follow::Source;
use crate::domain::trail::foreign::Foreign;
use crate::domain::trail::foreign::StreamId;
use crate::flow::ports::Clock;
use crate::flow::ports::RecordStream;
use crate::flow::ports::StateError;
use crate::flow::ports::StreamEntry;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;

/// Entries that are read in one round trip.
const PAGE: usize = 256;
/// How often the stream is looked at that did not grow.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The pause between two full pages, so that the server has time for others.
const PACE: Duration = Duration::from_millis(10);
/// How long one waits for a stream that is away.
const RETRY: Duration = Duration::from_secs(1);
/// Looks without anything new after which it is asked whether the stream has begun anew.
const LOOKS_BEFORE_DOUBT: u32 = 20;
/// What is read back at the start: the latest entries, and their bytes.
const READ_BACK_MAX: usize = 20_000;
const READ_BACK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The longest file, and how many there are: the oldest makes room.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const FILES_MAX: usize = 4;
/// The part of the health report.
const PART: &str = "console_stream";

/// Reads records of other nodes.
pub struct Others {
    /// The stream.
    pub stream: Arc<dyn RecordStream>,
    /// What this node is called: its records are in its own file.
    pub node: String,
    /// Where files may be made.
    pub folder: PathBuf,
    /// Where this runs.
    pub runtime: Handle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Told how it goes.
    pub health: Arc<Health>,
}

/// Files without a name, the latest last.
#[derive(Debug, Default)]
struct Files {
    kept: VecDeque<Arc<Source>>,
    /// The length of the last one.
    length: u64,
    /// Whether it was said that somebody else writes to the stream as well.
    is_foreign_said: bool,
}

impl std::fmt::Debug for Others {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Others(beside {})", self.node)
    }
}

impl Others {
    /// Begins to read into `shared`, until that is stopped.
    pub(super) fn start(self, shared: Arc<Shared>) {
        self.metrics.audit_stream("skipped", 0);
        let runtime = self.runtime.clone();
        runtime.spawn(async move { self.run(&shared).await });
    }

    async fn run(&self, shared: &Shared) {
        let (mut from, mut idle, mut files) = (None, 0_u32, Files::default());
        while !shared.stop.load(Ordering::Relaxed) {
            let read = match from {
                Some(from) => self.stream.from(from, PAGE).await,
                None => self.latest().await,
            };
            let (entries, why) = match read {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let is_away = why.is_some();
            self.tell(shared, why);
            if is_away {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let last = entries.last().map(|entry| entry.id.next());
            from = last.or(from).or(Some(StreamId::default()));
            idle = if entries.is_empty() { idle + 1 } else { 0 };
            for page in entries.chunks(PAGE) {
                self.keep(page, shared, &mut files);
                tokio::task::yield_now().await;
            }
            if idle > LOOKS_BEFORE_DOUBT {
                idle = 0;
                from = self.doubted(from).await;
            }
            let pause = if entries.len() < PAGE {
                LOOK_EVERY
            } else {
                PACE
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The latest entries, the oldest of them first.
    async fn latest(&self) -> Result<Vec<StreamEntry>, StateError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut to = Some(StreamId::LAST);
        while let Some(last) = to {
            let page = self.stream.up_to(last, PAGE).await?;
            to = page.last().and_then(|entry| entry.id.before());
            let lines = page.iter().filter_map(|entry| entry.line.as_ref());
            bytes += lines.map(Vec::len).sum::<usize>();
            found.extend(page);
            if found.len() >= READ_BACK_MAX || bytes >= READ_BACK_BYTES_MAX {
                break;
            }
            tokio::time::sleep(PACE).await;
        }
        found.reverse();
        Ok(found)
    }

    /// From where on to read, where nothing has come for a while: a stream whose end is before that place has begun anew.
    async fn doubted(&self, from: Option<StreamId>) -> Option<StreamId> {
        let Ok(end) = self.stream.up_to(StreamId::LAST, 1).await else {
            return from;
        };
        let end = end
            .first()
            .map_or(StreamId::default(), |entry| entry.id.next());
        from.map(|from| from.min(end))
    }

    /// Keeps what is a record of another node.
    fn keep(&self, entries: &[StreamEntry], shared: &Shared, files: &mut Files) {
        let now = self.clock.now();
        let (mut lines, mut count, mut skipped) = (String::new(), 0_u64, 0);
        for entry in entries {
            let line = entry.line.as_deref();
            match line.and_then(|line| Foreign::parse(line, now)) {
                Some(foreign) if foreign.node == self.node => {}
                Some(foreign) => {
                    lines.push_str(&foreign.line);
                    count += 1;
                }
                None => skipped += 1,
            }
        }
        if !files.is_foreign_said && entries.iter().any(|entry| entry.line.is_none()) {
            files.is_foreign_said = true;
            tracing::warn!(
                "the stream of the fleet has entries that no node with this secret has sealed: they are passed over; \
                 keys.secret_file must be alike on all nodes"
            );
        }
        self.metrics.audit_stream("skipped", skipped);
        if lines.is_empty() {
            return;
        }
        match files.add(lines.as_bytes(), &self.folder, shared) {
            Ok((source, at)) => {
                self.metrics.audit_stream("read", count);
                shared.take(&source, at, lines.as_bytes());
            }
            Err(error) => {
                self.metrics.audit_stream("skipped", count);
                tracing::error!(error = %error, count, "records of other nodes cannot be kept for the console");
            }
        }
    }

    fn tell(&self, shared: &Shared, why: Option<StateError>) {
        let why = why.map(|error| error.of_stream());
        let status = why.clone().map_or(PartStatus::Ok, PartStatus::Degraded);
        self.health.set(PART, status);
        shared.set_missing(why);
    }
}

impl Files {
    /// Puts lines into the latest file: that, and their place in it.
    fn add(
        &mut self,
        lines: &[u8],
        folder: &std::path::Path,
        shared: &Shared,
    ) -> std::io::Result<(Arc<Source>, u64)> {
        let source = match self.kept.back() {
            Some(source) if self.length < FILE_BYTES_MAX => Arc::clone(source),
            _ => {
                let source = Source::nameless(folder)?;
                self.kept.push_back(Arc::clone(&source));
                self.length = 0;
                if self.kept.len() > FILES_MAX
                    && let Some(oldest) = self.kept.pop_front()
                {
                    shared.forget(&oldest);
                }
                source
            }
        };
        let at = self.length;
        source.put(at, lines)?;
        self.length += lines.len() as u64;
        Ok((source, at))
    }
}
