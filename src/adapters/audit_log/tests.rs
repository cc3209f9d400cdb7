//! The log on a disk: what is written, lost, put aside, removed and found broken, each time held to the check.

use super::*;
use crate::domain::audit::is_mark;
use crate::domain::audit::mark::MarkKind;
use crate::domain::audit::seal::AuditorKey;
use crate::domain::audit::verify::Extent;
use crate::domain::audit::verify::Trust;
use crate::domain::audit::verify::Verifier;
use crate::domain::audit::verify::report::End;
use crate::domain::audit::verify::report::Report;
use crate::domain::time::Timestamp;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::time::Instant;
use std::time::UNIX_EPOCH;
use tempfile::TempDir;

/// A wall clock that is set by hand; the other one runs, and is moved on with it where time is to pass evenly.
#[derive(Debug)]
struct Wall(AtomicI64, AtomicU64);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.1.load(Ordering::Relaxed))
    }
}

/// Different bytes each time.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let n = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (byte, n) in bytes.iter_mut().zip(n.iter().cycle()) {
            *byte = *n ^ 0x5a;
        }
    }
}

/// A folder, and what a process would keep from one start to the next.
struct Place {
    dir: TempDir,
    clock: Arc<Wall>,
    entropy: Arc<Counting>,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new() -> Self {
        // 2026-11-26T00:00:00Z
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(Wall(AtomicI64::new(1_795_651_200_000), AtomicU64::new(0))),
            entropy: Arc::default(),
            metrics: Arc::new(Metrics::new().unwrap()),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    fn settings(&self) -> AuditLogSettings {
        AuditLogSettings {
            file: self.file(),
            folder: self.dir.path().to_owned(),
            node: Some("edge".to_owned()),
            people: self.dir.path().join("audit-people.key"),
            strict: false,
            checkpoint_records: 100,
            checkpoint_every: Duration::from_secs(3600),
            rotate_bytes: 0,
            rotate_seconds: 0,
            keep_files: 0,
            keep_seconds: 0,
            tap: None,
        }
    }

    fn open(&self, settings: AuditLogSettings) -> AuditLog {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let entropy = Arc::clone(&self.entropy) as Arc<dyn Entropy>;
        AuditLog::open(settings, clock, entropy, Arc::clone(&self.metrics)).unwrap()
    }

    fn pass(&self, span: Duration) {
        let millis = i64::try_from(span.as_millis()).unwrap();
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
    }

    fn pass_evenly(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap();
        self.clock.1.fetch_add(millis, Ordering::Relaxed);
        self.pass(span);
    }

    fn verify(&self, extent: Extent) -> Report {
        let key = std::fs::read_to_string(keys::auditor_file(self.dir.path(), "edge")).unwrap();
        let key = AuditorKey::parse(&key).unwrap();
        let trust = Trust {
            keys: [(key.node, key.key)].into(),
            public: [key.public].into(),
        };
        let mut verifier = Verifier::new(trust, extent);
        for file in segment::older(&self.file()).iter().chain([&self.file()]) {
            verifier.begin(&file.display().to_string());
            for line in std::fs::read(file)
                .unwrap()
                .split_inclusive(|byte| *byte == b'\n')
            {
                let text = line.strip_suffix(b"\n");
                verifier.line(text.unwrap_or(line), text.is_some());
            }
        }
        verifier.finish()
    }

    fn sound(&self) -> Report {
        let report = self.verify(Extent::Closed);
        assert!(report.is_sound(), "{:#?}", report.findings);
        report
    }
}

fn write(log: &AuditLog, count: usize) {
    for _ in 0..count {
        log.write(AuditEvent {
            schema: 2,
            id: "line\nbreak \u{1b}[31m \u{202e}".to_owned(),
            ..AuditEvent::default()
        });
    }
}

fn records(path: &Path) -> Vec<AuditEvent> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !is_mark(line.as_bytes()));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits until the writer has done something that can be seen.
fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn records_are_numbered_lines_of_json() {
    let place = Place::new();
    let log = place.open(place.settings());
    write(&log, 1_000);
    drop(log);
    let events = records(&place.file());
    assert_eq!(
        events.len() as u64 + place.metrics.audit_dropped_total(),
        1_000
    );
    assert!(events.is_sorted_by_key(|event| event.seq));
    let report = place.sound();
    assert_eq!(report.records, events.len() as u64);
    assert_eq!(report.lost, place.metrics.audit_dropped_total());
}

/// More than find room, from many threads: what is missing is counted, in the metric and in the log alike.
#[test]
fn what_is_lost_is_counted_and_marked() {
    let place = Place::new();
    let log = place.open(place.settings());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| write(&log, QUEUE_MAX));
        }
    });
    drop(log);
    let report = place.sound();
    let lost = place.metrics.audit_dropped_total();
    assert_eq!(
        (report.lost, report.records),
        (lost, 4 * QUEUE_MAX as u64 - lost)
    );
    assert_eq!(report.chains[0].last_seq, 4 * QUEUE_MAX as u64);
}

#[test]
fn what_comes_after_the_end_is_counted_as_lost() {
    let place = Place::new();
    let log = place.open(place.settings());
    log.close();
    log.write(AuditEvent::default());
    assert_eq!(place.metrics.audit_dropped_total(), 1);
    assert_eq!(place.sound().lost, 0);
}

#[test]
fn a_path_that_cannot_be_opened_is_named() {
    let place = Place::new();
    let settings = AuditLogSettings {
        file: "/nonexistent/audit.jsonl".into(),
        ..place.settings()
    };
    let (clock, entropy) = (Arc::clone(&place.clock), Arc::clone(&place.entropy));
    let error = AuditLog::open(settings, clock, entropy, Arc::clone(&place.metrics)).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/audit.jsonl"));
}

/// A process that is killed in the middle of a line: what is there stays, and the next one says so.
#[test]
fn a_line_that_broke_off_is_recorded_and_not_overwritten() {
    let place = Place::new();
    let log = place.open(place.settings());
    write(&log, 3);
    until("three records", || {
        std::fs::read_to_string(place.file()).is_ok_and(|text| text.lines().count() == 4)
    });
    let before = std::fs::read(place.file()).unwrap();
    drop(log);
    // As it was before the clean end, and with half a line.
    let cut = [before.as_slice(), b"{\"schema\":2,\"seq\":4,\"ti"].concat();
    std::fs::write(place.file(), &cut).unwrap();
    let log = place.open(place.settings());
    write(&log, 2);
    drop(log);
    let after = std::fs::read(place.file()).unwrap();
    assert!(after.starts_with(&cut) && after[cut.len()] == b'\n');
    let report = place.sound();
    let ends: Vec<End> = report.chains.iter().map(|chain| chain.end).collect();
    assert_eq!((ends, report.records), (vec![End::Crashed, End::Clean], 5));
    // Without the half of a line, the next boot's word for it is not true any more.
    std::fs::write(place.file(), &after[cut.len() + 1..]).unwrap();
    assert!(!place.verify(Extent::Closed).is_sound());
}

#[test]
fn files_are_put_aside_by_size_and_age_and_removed_by_number() {
    let place = Place::new();
    let settings = AuditLogSettings {
        rotate_bytes: 20_000,
        rotate_seconds: 86_400,
        keep_files: 2,
        ..place.settings()
    };
    let log = place.open(settings);
    let aside = || segment::older(&place.file()).len();
    write(&log, 60);
    until("one is put aside for its size", || aside() == 1);
    write(&log, 1);
    place.pass(Duration::from_secs(86_400));
    write(&log, 1);
    until("one is put aside for its age", || aside() == 2);
    let report = place.verify(Extent::Present);
    assert!(report.is_sound(), "{:#?}", report.findings);
    for _ in 0..2 {
        let newest = segment::older(&place.file()).pop();
        place.pass(Duration::from_secs(86_401));
        write(&log, 1);
        until("another one", || {
            segment::older(&place.file()).pop() != newest && aside() == 2
        });
    }
    drop(log);
    assert_eq!(aside(), 2);
    let report = place.sound();
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("removed by the log")),
        "{report:#?}"
    );
    // A file that somebody else removes is missed.
    std::fs::remove_file(&segment::older(&place.file())[0]).unwrap();
    assert!(!place.verify(Extent::Closed).is_sound());
}

#[test]
fn files_are_removed_by_age_from_the_oldest_on() {
    const DAY: Duration = Duration::from_secs(86_400);
    let place = Place::new();
    let settings = AuditLogSettings {
        rotate_seconds: DAY.as_secs(),
        keep_seconds: 3 * DAY.as_secs(),
        ..place.settings()
    };
    let log = place.open(settings);
    let aside = || segment::older(&place.file());
    let next = |number: usize| {
        write(&log, 1);
        place.pass_evenly(DAY);
        write(&log, 1);
        until("one more is put aside", || aside().len() == number);
    };
    let written = |path: &Path, days: u32| {
        let now = UNIX_EPOCH + Duration::from_millis(place.clock.now().millis().unsigned_abs());
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(now - days * DAY).unwrap();
    };
    next(1);
    next(2);
    next(3);
    // A younger one before an old one keeps it: only a beginning of the log is removed.
    let [first, second, third] = &aside()[..] else {
        panic!("{:?}", aside());
    };
    written(first, 5);
    written(second, 1);
    written(third, 5);
    write(&log, 1);
    place.pass_evenly(DAY);
    write(&log, 1);
    until("the first is removed", || !first.exists());
    drop(log);
    assert!(second.exists() && third.exists());
    let mut files = aside();
    files.push(place.file());
    let says = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.contains("\"mark\":\"retired\"")
    };
    assert!(files.iter().any(says));
    place.sound();
}

#[test]
fn a_clock_that_is_set_back_leaves_files_in_their_order() {
    const HOUR: i64 = 3_600_000;
    let place = Place::new();
    let settings = AuditLogSettings {
        rotate_bytes: 20_000,
        keep_files: 2,
        ..place.settings()
    };
    let log = place.open(settings);
    // The second file is put aside while the clock is ahead. Once the fourth is, the second goes, and none from between.
    let begin = place.clock.now().millis();
    for at in [0, 72 * HOUR, HOUR, 2 * HOUR] {
        place.clock.0.store(begin + at, Ordering::Relaxed);
        let before = segment::older(&place.file());
        write(&log, 60);
        until("one more is put aside", || {
            let now = segment::older(&place.file());
            now != before && now.len() <= 2
        });
    }
    drop(log);
    place.sound();
}

#[test]
fn a_clock_that_is_ahead_for_a_while_removes_no_file() {
    const DAY: Duration = Duration::from_secs(86_400);
    let place = Place::new();
    let settings = AuditLogSettings {
        rotate_seconds: DAY.as_secs(),
        keep_seconds: 100 * DAY.as_secs(),
        ..place.settings()
    };
    let aside = || segment::older(&place.file()).len();
    let log = place.open(settings.clone());
    for number in 1..=2 {
        write(&log, 1);
        place.pass_evenly(DAY);
        write(&log, 1);
        until("one more is put aside", || aside() == number);
    }
    place.pass(400 * DAY);
    write(&log, 1);
    until("the third is put aside", || aside() == 3);
    drop(log);
    // A start tells nothing of how the clock goes.
    let log = place.open(settings);
    write(&log, 1);
    until("and the fourth", || aside() == 4);
    write(&log, 1);
    until("the next record is there", || {
        !records(&place.file()).is_empty()
    });
    assert_eq!(aside(), 4);
    // It is right after all.
    place.pass_evenly(DAY / 24);
    write(&log, 1);
    until("the old ones are removed", || aside() == 0);
    drop(log);
    place.sound();
}

#[test]
fn checkpoints_come_by_number_and_by_time() {
    let place = Place::new();
    let settings = AuditLogSettings {
        checkpoint_records: 10,
        ..place.settings()
    };
    let log = place.open(settings);
    write(&log, 10);
    let marks = || {
        std::fs::read_to_string(place.file())
            .unwrap_or_default()
            .matches("\"mark\":\"checkpoint\"")
            .count()
    };
    until("a checkpoint for ten records", || marks() == 1);
    drop(log);
    let settings = AuditLogSettings {
        checkpoint_every: Duration::from_millis(1),
        ..place.settings()
    };
    let log = place.open(settings);
    write(&log, 1);
    until("a checkpoint for the time", || marks() == 2);
    drop(log);
    place.sound();
}

/// Two processes on one file, as when one takes over from the other.
#[test]
fn two_chains_in_one_file_are_both_whole() {
    let place = Place::new();
    let settings = AuditLogSettings {
        rotate_bytes: 50_000,
        ..place.settings()
    };
    let (one, two) = (place.open(settings.clone()), place.open(settings));
    for _ in 0..20 {
        write(&one, 20);
        write(&two, 20);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(one);
    drop(two);
    let report = place.verify(Extent::Closed);
    let records: Vec<u64> = report.chains.iter().map(|chain| chain.records).collect();
    assert_eq!(records, [400, 400], "{:#?}", report.findings);
}

/// A device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn strict_mode_refuses_while_the_disk_does() {
    let place = Place::new();
    let strict = |file: &str, strict| AuditLogSettings {
        file: file.into(),
        strict,
        ..place.settings()
    };
    let log = place.open(strict("/dev/full", true));
    until("requests are refused", || !log.takes());
    let best_effort = place.open(strict("/dev/full", false));
    write(&best_effort, 1);
    until("the record is lost", || {
        place.metrics.audit_dropped_total() == 1
    });
    assert!(best_effort.takes());
    let taking = place.open(strict("/dev/null", true));
    write(&taking, 10);
    assert!(taking.takes());
}

/// Panics at the first line.
#[derive(Debug)]
struct Panics;

impl RecordTap for Panics {
    fn take(&self, _: &[u8]) {
        panic!("of the test");
    }
}

#[test]
fn strict_mode_refuses_once_nobody_writes_any_more() {
    let place = Place::new();
    let settings = |strict| AuditLogSettings {
        strict,
        tap: Some(Arc::new(Panics)),
        ..place.settings()
    };
    let log = place.open(settings(true));
    write(&log, 1);
    until("requests are refused", || !log.takes());
    let best_effort = place.open(settings(false));
    write(&best_effort, 1);
    until("records are lost", || {
        write(&best_effort, 1);
        place.metrics.audit_dropped_total() > 0
    });
    assert!(best_effort.takes());
}

/// Strict mode keeps what the disk does not take: a pipe without a reader fails, and takes everything once there is one.
#[cfg(target_os = "linux")]
#[test]
fn strict_mode_loses_nothing() {
    let place = Place::new();
    let pipe = place.dir.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut both = std::fs::File::options();
    both.read(true).write(true);
    let reader = both.open(&pipe).unwrap();
    let settings = AuditLogSettings {
        file: pipe.clone(),
        strict: true,
        ..place.settings()
    };
    let log = place.open(settings);
    write(&log, 1);
    drop(reader);
    write(&log, 50);
    until("requests are refused", || !log.takes());
    let reader = both.open(&pipe).unwrap();
    let lines = std::thread::spawn(move || {
        use std::io::BufRead;
        let mut seen = Vec::new();
        for line in std::io::BufReader::new(reader).lines() {
            let line = line.unwrap();
            if !is_mark(line.as_bytes()) {
                seen.push(serde_json::from_str::<AuditEvent>(&line).unwrap().seq);
            }
            if line.contains("\"mark\":\"ended\"") {
                return seen;
            }
        }
        seen
    });
    until("requests are taken again", || log.takes());
    drop(log);
    let seen = lines.join().unwrap();
    assert_eq!(place.metrics.audit_dropped_total(), 0);
    // What the first reader had is gone with it; everything after it is there.
    assert!(seen.ends_with(&(2..=51).collect::<Vec<u64>>()), "{seen:?}");
}

#[test]
fn a_mark_says_what_it_is() {
    let place = Place::new();
    drop(place.open(place.settings()));
    let text = std::fs::read_to_string(place.file()).unwrap();
    let kinds: Vec<MarkKind> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<crate::domain::audit::mark::Mark>(line)
                .unwrap()
                .mark
        })
        .collect();
    assert_eq!(kinds, [MarkKind::Started, MarkKind::Ended]);
    assert!(text.lines().all(|line| is_mark(line.as_bytes())));
}
