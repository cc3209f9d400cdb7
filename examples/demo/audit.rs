//! Follows riskgate's audit file: every new record is shown, kept for the summary, and told to belong to a chapter.

use crate::chapters::Chapter;
use crate::place::Faces;
use crate::screen::Screen;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::audit::is_mark;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Records that are kept; the oldest makes room.
const RECORDS_MAX: usize = 20_000;
/// Nothing new for this long means that every record is written.
const QUIET: Duration = Duration::from_millis(250);
/// The longest wait for that, and for what was observed to be in the store.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// How many observations the gateway has not stored yet.
const WAITING: &str = "riskgate_state_writes_waiting ";

/// A record and the chapter that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) chapter: Chapter,
    pub(crate) event: AuditEvent,
}

/// The records so far.
#[derive(Debug)]
pub(crate) struct Records {
    kept: Mutex<Kept>,
    /// Where the gateway says how it is.
    metrics: String,
    http: reqwest::Client,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Record>,
    newest: Option<Instant>,
    lines: u64,
    unreadable: u64,
    last_seq: u64,
    missing: u64,
}

/// How complete the records are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completeness {
    /// Lines that were read.
    pub(crate) lines: u64,
    /// Numbers that are missing.
    pub(crate) missing: u64,
    /// Lines that are no records.
    pub(crate) unreadable: u64,
}

impl Records {
    /// None yet, of the gateway whose operators' listener is at `admin`.
    pub(crate) fn of(admin: SocketAddr) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(SETTLE_WITHIN)
            .build()?;
        Ok(Self {
            kept: Mutex::default(),
            metrics: format!("http://{admin}/metrics"),
            http,
        })
    }

    /// The records of a chapter that hold a decision, oldest first.
    pub(crate) fn decisions(&self, chapter: Chapter) -> Vec<AuditEvent> {
        let kept = self.lock();
        let of_chapter = kept
            .records
            .iter()
            .filter(|record| record.chapter == chapter);
        of_chapter.map(|record| record.event.clone()).collect()
    }

    /// Waits until nothing new comes and what was observed is in the store.
    pub(crate) async fn settle(&self) {
        let start = Instant::now();
        while start.elapsed() < SETTLE_WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
            let newest = self.lock().newest;
            let since = newest.map_or(start, |newest| newest.max(start));
            if since.elapsed() >= QUIET && self.is_learnt().await {
                return;
            }
        }
    }

    /// Whether the gateway says that nothing waits for the store.
    async fn is_learnt(&self) -> bool {
        let Ok(answer) = self.http.get(&self.metrics).send().await else {
            return false;
        };
        let text = answer.text().await.unwrap_or_default();
        let waiting = text.lines().find_map(|line| line.strip_prefix(WAITING));
        waiting == Some("0")
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }

    /// Whether records are missing.
    pub(crate) fn completeness(&self) -> Completeness {
        let kept = self.lock();
        Completeness {
            lines: kept.lines,
            missing: kept.missing,
            unreadable: kept.unreadable,
        }
    }

    /// Takes one line. Returns the record when it holds a decision.
    fn take(&self, line: &[u8], faces: &Faces) -> Option<Record> {
        let mut kept = self.lock();
        kept.newest = Some(Instant::now());
        if is_mark(line) {
            return None;
        }
        kept.lines = kept.lines.saturating_add(1);
        let Ok(event) = serde_json::from_slice::<AuditEvent>(line) else {
            kept.unreadable = kept.unreadable.saturating_add(1);
            return None;
        };
        let expected = kept.last_seq.saturating_add(1);
        kept.missing = kept
            .missing
            .saturating_add(event.seq.saturating_sub(expected));
        kept.last_seq = event.seq;
        // Without a verdict it is a request that is passed on unscored, such as for a login page.
        event.verdict.as_ref()?;
        let face = event.address.as_ref().and_then(|face| faces.get(face));
        let chapter = face.copied().unwrap_or(Chapter::Visitor);
        let record = Record { chapter, event };
        if kept.records.len() >= RECORDS_MAX {
            kept.records.pop_front();
        }
        kept.records.push_back(record.clone());
        Some(record)
    }
}

/// Reads what is appended to `path`, for ever.
pub(crate) async fn follow(
    path: PathBuf,
    faces: Faces,
    records: Arc<Records>,
    screen: Arc<Screen>,
) {
    let mut file = loop {
        match tokio::fs::File::open(&path).await {
            Ok(file) => break file,
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    let mut buffer = Vec::new();
    loop {
        let start = buffer.len();
        match file.read_buf(&mut buffer).await {
            Ok(0) => tokio::time::sleep(LOOK_EVERY).await,
            Ok(_) => {}
            Err(error) => {
                screen.line(&format!("    the audit file cannot be read: {error}"));
                return;
            }
        }
        if !buffer.iter().skip(start).any(|byte| *byte == b'\n') {
            continue;
        }
        let whole = buffer
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at.saturating_add(1));
        let lines: Vec<u8> = buffer.drain(..whole).collect();
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if let Some(record) = records.take(line, &faces) {
                screen.row(&record.event);
            }
        }
    }
}
