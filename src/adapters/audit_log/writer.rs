//! The thread that writes: batches of records, marks, files that are put aside and removed.

use super::AuditLogSettings;
use super::Shared;
use super::people::People;
use super::segment;
use super::segment::Broken;
use super::segment::Segment;
use crate::adapters::priority::Turns;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::chain::HASH_BYTES;
use crate::domain::audit::chain::Place;
use crate::domain::audit::is_mark;
use crate::domain::audit::journal::Found;
use crate::domain::audit::journal::Journal;
use crate::domain::audit::journal::JournalError;
use crate::domain::audit::mark::Fragment;
use crate::domain::time::Steadiness;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
use crate::telemetry::metrics::Metrics;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

/// How long a batch gathers: a record is in the file at most this much later.
const GATHER: Duration = Duration::from_millis(20);
/// Records that are written with one flush.
const BATCH_MAX: usize = 4096;
/// Records that are made before whoever waits for the processor gets it: a batch takes milliseconds.
const MADE_AT_ONCE: u32 = 4;
/// How long strict mode waits before it tries the disk again.
const RETRY: Duration = Duration::from_millis(100);
/// How long strict mode goes on trying once the process ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the wall clock must have gone evenly before a file is removed for its age.
const STEADY_AFTER: Duration = Duration::from_secs(3_600);
/// How often old files are looked for, beside whenever one is put aside.
const RETIRE_EVERY: Duration = Duration::from_secs(3_600);
/// How long a file is kept on with that could not be put aside.
const ROTATE_RETRY: Duration = Duration::from_secs(60);

/// Owns the file and the chain.
#[derive(Debug)]
pub(super) struct Writer {
    settings: AuditLogSettings,
    chance: Chance,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    segment: Segment,
    journal: Journal,
    people: People,
    /// The first line is not in the file yet; what it has to say.
    begins_after: Option<Option<Place>>,
    /// Parts of lines in the file that no mark has named yet.
    torn: Vec<Fragment>,
    lines: Vec<u8>,
    vouched: Instant,
    rotate_after: Instant,
    retire_after: Instant,
    /// Of the wall clock, by which old files are removed.
    steadiness: Steadiness,
}

/// A line that is signed: time, and the seed of the next key.
type SignedMark =
    fn(&mut Journal, &mut Vec<u8>, String, &[u8; HASH_BYTES]) -> Result<(), JournalError>;

struct Chance {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

impl Chance {
    fn time(&self) -> String {
        self.clock.now().to_rfc3339()
    }

    fn seed(&self) -> [u8; HASH_BYTES] {
        let mut seed = [0; HASH_BYTES];
        self.entropy.fill(&mut seed);
        seed
    }
}

impl Writer {
    pub(super) fn new(
        settings: AuditLogSettings,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
        metrics: Arc<Metrics>,
        shared: Arc<Shared>,
        (segment, found): (Segment, Found),
        (journal, people): (Journal, People),
    ) -> Self {
        let now = clock.instant();
        Self {
            settings,
            chance: Chance { clock, entropy },
            metrics,
            shared,
            segment,
            journal,
            people,
            begins_after: Some(found.after),
            torn: found.torn,
            lines: Vec::with_capacity(64 * 1024),
            vouched: now,
            rotate_after: now,
            retire_after: now,
            steadiness: Steadiness::default(),
        }
    }

    pub(super) fn run(mut self, records: &Receiver<AuditEvent>) {
        self.put(self.settings.strict, |_, _, _, _| Ok(()));
        self.retire();
        loop {
            let next = match self.until_checkpoint() {
                Some(left) => records.recv_timeout(left),
                None => records.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(first) => {
                    // Whoever sends to a thread that waits has to wake it, which costs more than the record itself: under
                    // load the thread looks now and then instead.
                    std::thread::sleep(GATHER);
                    self.write(first, records);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.keep_up();
        }
        self.end();
    }

    /// What has queued up is written in one go.
    fn write(&mut self, first: AuditEvent, records: &Receiver<AuditEvent>) {
        let (mut taken, mut unmade) = (0, 0);
        let erased = self.people.refresh(self.chance.clock.instant());
        self.put(self.settings.strict, |journal, people, lines, chance| {
            let time = || chance.time();
            if let Some(erased) = erased {
                journal.erased(lines, chance.time(), erased)?;
            }
            let mut turns = Turns::every(MADE_AT_ONCE);
            let events = std::iter::once(first).chain(records.try_iter().take(BATCH_MAX));
            for mut event in events {
                taken += 1;
                turns.did();
                event.subject = event.subject.map(|subject| people.name(subject));
                if let Err(error) = journal.record(lines, &event, &time) {
                    // Its number is missing then, like that of every record that is lost.
                    unmade += 1;
                    tracing::error!(error = %error, "an audit record could not be made");
                }
            }
            Ok(())
        });
        self.metrics.audit_dropped(unmade);
        if self.settings.strict {
            self.shared.waiting.fetch_sub(taken, Ordering::Relaxed);
        }
    }

    /// Makes lines and appends them, and before them what has to come first. Returns whether they are in the file.
    fn put(
        &mut self,
        keep: bool,
        make: impl FnOnce(&mut Journal, &mut People, &mut Vec<u8>, &Chance) -> Result<(), JournalError>,
    ) -> bool {
        let before = self.journal.clone();
        let offered = self.shared.seq.load(Ordering::Relaxed);
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let made = self.preface(&mut lines).and_then(|()| {
            make(
                &mut self.journal,
                &mut self.people,
                &mut lines,
                &self.chance,
            )
        });
        if let Err(error) = made {
            tracing::error!(error = %error, "a line of the audit log could not be made");
            self.journal = before;
            self.lines = lines;
            return false;
        }
        let written = self.append(&lines, keep);
        let is_written = written.is_ok();
        let landed = written
            .as_ref()
            .map_or_else(|broken| broken.landed, |()| lines.len());
        self.hand_on(lines.get(..landed).unwrap_or_default());
        match written {
            Ok(()) => {
                self.begins_after = None;
                self.torn.clear();
            }
            Err(broken) => {
                let landed = lines.get(..broken.landed).unwrap_or_default();
                let (journal, fragment) = Journal::landed(&before, &self.journal, landed);
                let lost = self.journal.records() - journal.records();
                self.journal = journal;
                if self.journal.lines() > before.lines() {
                    self.begins_after = None;
                    self.torn.clear();
                }
                self.torn.extend(fragment);
                self.metrics.audit_dropped(lost);
                tracing::error!(
                    error = %broken.cause, lost, offered,
                    "audit records could not be written"
                );
            }
        }
        self.metrics
            .audit_written(self.journal.records() - before.records());
        self.lines = lines;
        is_written
    }

    /// What the file has as whole lines goes beside it as well.
    fn hand_on(&self, landed: &[u8]) {
        let Some(tap) = &self.settings.tap else {
            return;
        };
        let mut turns = Turns::every(MADE_AT_ONCE);
        for line in landed.split_inclusive(|byte| *byte == b'\n') {
            turns.did();
            if let Some(line) = line.strip_suffix(b"\n").filter(|line| !is_mark(line)) {
                tap.take(line);
            }
        }
    }

    fn preface(&mut self, lines: &mut Vec<u8>) -> Result<(), JournalError> {
        let time = self.chance.time();
        if let Some(after) = &self.begins_after {
            let found = Found {
                after: after.clone(),
                torn: self.torn.clone(),
            };
            self.journal
                .started(lines, time, &self.chance.seed(), found)
        } else if self.torn.is_empty() {
            Ok(())
        } else {
            self.journal.torn(lines, time, self.torn.clone())
        }
    }

    /// Appends. In strict mode it goes on until the disk has taken everything, or the process has waited long enough for
    /// its end.
    fn append(&mut self, lines: &[u8], keep: bool) -> Result<(), Broken> {
        let mut written = self.segment.append(lines);
        if keep && written.is_ok() {
            written = self.sync(lines.len());
        }
        let mut landed = 0;
        let mut ending: Option<Instant> = None;
        while let Err(broken) = &written
            && keep
        {
            landed += broken.landed;
            if !self.shared.refused.swap(true, Ordering::Relaxed) {
                self.metrics.audit_refused(true);
                tracing::error!(error = %broken.cause, "audit records cannot be written: scored requests are refused");
            }
            if self.shared.ends.load(Ordering::Relaxed) {
                let now = self.chance.clock.instant();
                let since = *ending.get_or_insert(now);
                if now.saturating_duration_since(since) >= PATIENCE {
                    break;
                }
            }
            std::thread::sleep(RETRY);
            written = self.segment.go_on(lines, landed);
            if written.is_ok() {
                written = self.sync(lines.len().saturating_sub(landed));
            }
        }
        if written.is_ok() && self.shared.refused.swap(false, Ordering::Relaxed) {
            self.metrics.audit_refused(false);
            tracing::info!("audit records are written again");
        }
        written.map_err(|broken| Broken {
            landed: if keep { landed } else { broken.landed },
            cause: broken.cause,
        })
    }

    fn sync(&mut self, landed: usize) -> Result<(), Broken> {
        self.segment
            .sync()
            .map_err(|cause| Broken { landed, cause })
    }

    /// How long until a checkpoint is due; `None` where there is nothing to vouch for.
    fn until_checkpoint(&self) -> Option<Duration> {
        (self.journal.unsigned() > 0).then(|| {
            let since = self
                .chance
                .clock
                .instant()
                .saturating_duration_since(self.vouched);
            self.settings.checkpoint_every.saturating_sub(since)
        })
    }

    /// What is due besides records.
    fn keep_up(&mut self) {
        let unsigned = self.journal.unsigned();
        if unsigned == 0 {
            self.vouched = self.chance.clock.instant();
        }
        let due = self.until_checkpoint().is_some_and(|left| left.is_zero());
        if due || unsigned >= self.settings.checkpoint_records {
            self.vouch("checkpoint", Journal::checkpoint);
        }
        self.rotate();
        if self.chance.clock.instant() >= self.retire_after {
            self.retire();
        }
    }

    /// A signed line.
    fn vouch(&mut self, what: &'static str, mark: SignedMark) -> bool {
        // Whether it can be written or not, the next one is due after the same time.
        self.vouched = self.chance.clock.instant();
        let written = self.put(false, |journal, _, lines, chance| {
            mark(journal, lines, chance.time(), &chance.seed())
        });
        if written {
            self.metrics.audit_signed();
            if let Err(error) = self.segment.sync() {
                tracing::warn!(error = %error, "the disk does not say that it keeps the audit log");
            }
            if let Some(head) = self.journal.head() {
                // For who keeps logs elsewhere: what is in them cannot be cut off here unseen.
                tracing::debug!(
                    node = head.node, boot = head.boot, n = head.n, link = %head.link,
                    "audit log: {what}"
                );
            }
        }
        written
    }

    /// Puts the file aside where it is large or old enough.
    fn rotate(&mut self) {
        let now = self.chance.clock.now();
        let (bytes, seconds) = (self.settings.rotate_bytes, self.settings.rotate_seconds);
        if !self.segment.is_due(bytes, seconds, now)
            || self.chance.clock.instant() < self.rotate_after
            || !self.vouch("file put aside", Journal::rotated)
        {
            return;
        }
        let renewed = if self.segment.is_doubtful() {
            Err(std::io::Error::other(
                "the disk does not keep what is in it",
            ))
        } else {
            self.segment.renew(now)
        };
        if let Err(error) = renewed {
            tracing::error!(error = %error, "the audit log cannot be put aside: it goes on in the same file");
            self.rotate_after = self.chance.clock.instant() + ROTATE_RETRY;
        }
        self.put(false, |journal, _, lines, chance| {
            journal.continued(lines, chance.time())
        });
        self.retire();
    }

    /// Removes files that are too many or too old, and says so. None for its age while the clock is not known to go evenly: one
    /// that is ahead for a while would cost records that nothing brings back.
    fn retire(&mut self) {
        let (files, seconds) = (self.settings.keep_files, self.settings.keep_seconds);
        let (now, instant) = (self.chance.clock.now(), self.chance.clock.instant());
        self.retire_after = instant + RETIRE_EVERY;
        if files == 0 && seconds == 0 {
            return;
        }
        let by_age = seconds > 0 && self.steadiness.holds(now, instant, STEADY_AFTER);
        let older = self.segment.older();
        let too_many = if files == 0 {
            0
        } else {
            older.len().saturating_sub(files)
        };
        for (place, path) in older.iter().enumerate() {
            let is_old = by_age
                && segment::written(path).is_some_and(|at| now.since(at).as_secs() >= seconds);
            if place >= too_many && !is_old {
                // Only a beginning of the log is removed.
                break;
            }
            if !self.remove(path) {
                break;
            }
        }
    }

    fn remove(&mut self, path: &Path) -> bool {
        let last = segment::last(path).ok().and_then(|found| found.after);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Said first: a file that is there although it was to go is no harm.
        let said = self.put(false, |journal, _, lines, chance| {
            journal.retired(lines, chance.time(), name.into_owned(), last)
        });
        if !said {
            return false;
        }
        // And on the disk before the file is gone from it.
        if let Err(error) = self.segment.sync() {
            tracing::error!(file = %path.display(), error = %error, "an old audit file is not removed: the disk does not keep the mark that says so");
            return false;
        }
        match std::fs::remove_file(path) {
            Ok(()) => {
                tracing::info!(file = %path.display(), "an old audit file was removed");
                true
            }
            Err(error) => {
                tracing::error!(file = %path.display(), error = %error, "an old audit file cannot be removed");
                false
            }
        }
    }

    /// The last lines.
    fn end(&mut self) {
        let last = self.shared.seq.load(Ordering::Relaxed);
        self.put(false, |journal, _, lines, chance| {
            journal.lost_up_to(lines, last, &|| chance.time())
        });
        self.vouch("ended", Journal::ended);
    }
}
