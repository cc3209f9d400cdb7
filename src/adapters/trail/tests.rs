//! The trail over files that grow, are exchanged, and hold lines of others.

use super::*;
use crate::domain::audit::journal::Journal;
use crate::domain::audit::seal::Seal;
use crate::domain::time::Timestamp;
use crate::domain::trail::foreign::StreamId;
use crate::flow::ports::Clock;
use crate::flow::ports::RecordStream;
use crate::flow::ports::StateError;
use crate::flow::ports::StreamEntry;
use crate::telemetry::metrics::Metrics;
use std::io::Write;
use std::path::Path;

const START: i64 = 1_795_600_000;

fn line(number: i64, subject: &str, verdict: &'static str) -> String {
    let event = AuditEvent {
        schema: 1,
        id: format!("id-{number}"),
        time: Timestamp((START + number) * 1_000).to_rfc3339(),
        class: "scored".into(),
        door: Some("login".into()),
        subject: Some(subject.to_owned()),
        verdict: Some(verdict.into()),
        features: vec![Some(1.0), None],
        ..AuditEvent::default()
    };
    serde_json::to_string(&event).unwrap() + "\n"
}

fn append(file: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Waits until something shows.
fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}");
}

/// Waits until the trail has seen this many records.
fn wait(trail: &AuditTrail, count: u64) {
    let seen = trail.seen();
    until(&format!("{count} records are not seen"), || {
        *seen.borrow() >= count
    });
    assert_eq!(*seen.borrow(), count);
}

fn ids(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.id.as_str()).collect()
}

fn all(trail: &AuditTrail, filter: &Filter, most: usize) -> Vec<String> {
    let (mut found, mut older) = (Vec::new(), None);
    loop {
        let page = trail.page(filter, older, most, &mut || true);
        found.extend(page.entries.into_iter().map(|entry| entry.id));
        older = page.older;
        if older.is_none() {
            return found;
        }
    }
}

#[test]
fn every_record_is_found_once_the_latest_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let mut text = String::new();
    for number in 0..2_000 {
        let subject = if number == 700 { "rare" } else { "often" };
        let verdict = if number % 10 == 0 { "block" } else { "allow" };
        text += &line(number, subject, verdict);
        if number % 100 == 0 {
            text += "{\"mark\":\"checkpoint\"}\nnot json\n\n";
        }
    }
    append(&file, &text);
    let trail = AuditTrail::new(file.clone());
    trail.start();
    trail.start();
    wait(&trail, 2_000);

    let expected: Vec<String> = (0..2_000)
        .rev()
        .map(|number| format!("id-{number}"))
        .collect();
    assert_eq!(all(&trail, &Filter::default(), 50), expected);
    let blocked = Filter::from_query([("verdict", "block")]);
    assert_eq!(all(&trail, &blocked, 7).len(), 200);
    let rare = trail.page(
        &Filter::from_query([("subject", "rare")]),
        None,
        10,
        &mut || true,
    );
    assert_eq!(ids(&rare), ["id-700"]);
    assert_eq!(
        trail.find("id-1234").unwrap().event.features,
        vec![Some(1.0), None]
    );
    assert_eq!(trail.find("id-2000"), None);
    let decisions: u64 = trail
        .stretches(Span::Day, START + 2_000)
        .iter()
        .map(|(_, tally)| tally.decisions)
        .sum();
    assert_eq!(decisions, 2_000);

    // What comes is seen, half a line is not.
    append(&file, &line(2_000, "often", "allow"));
    append(&file, "{\"id\":\"half\"");
    wait(&trail, 2_001);
    let latest = trail.page(&Filter::default(), None, 2, &mut || true);
    assert_eq!(ids(&latest), ["id-2000", "id-1999"]);
}

#[test]
fn a_search_that_takes_long_stops_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    // Both values are in every block, and never in one record but the first.
    let text: String = (0..3_000)
        .map(|number| match number {
            0 => line(0, "a", "block"),
            _ if number % 2 == 0 => line(number, "a", "allow"),
            _ => line(number, "b", "block"),
        })
        .collect();
    append(&file, &text);
    let trail = AuditTrail::new(file);
    trail.start();
    wait(&trail, 3_000);
    let filter = Filter::from_query([("subject", "a"), ("verdict", "block")]);
    let page = trail.page(&filter, None, 10, &mut || false);
    assert!(page.entries.is_empty() && page.older.is_some() && page.searched_to.is_some());
    let rest = trail.page(&filter, page.older, 10, &mut || true);
    assert_eq!(
        (ids(&rest), rest.older, rest.searched_to.as_deref()),
        (vec!["id-0"], None, None)
    );
}

#[test]
fn a_file_that_is_exchanged_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    append(
        &folder.path().join("audit.20260101T000000Z.jsonl"),
        &line(1, "a", "allow"),
    );
    append(&folder.path().join("other.jsonl"), &line(99, "a", "allow"));
    append(&file, &line(2, "a", "allow"));
    let trail = AuditTrail::new(file.clone());
    trail.start();
    wait(&trail, 2);
    std::fs::rename(&file, folder.path().join("audit.20260102T000000Z.jsonl")).unwrap();
    append(&file, &line(3, "a", "allow"));
    wait(&trail, 3);
    append(&file, &line(4, "a", "allow"));
    wait(&trail, 4);
    let expected = ["id-4", "id-3", "id-2", "id-1"];
    assert_eq!(all(&trail, &Filter::default(), 2), expected);
    assert!(trail.find("id-2").is_some());
}

#[test]
fn a_file_that_was_removed_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let old = folder.path().join("audit.20260101T000000Z.jsonl");
    append(&old, &line(1, "a", "allow"));
    append(&file, &line(2, "a", "allow"));
    let trail = AuditTrail::new(file);
    trail.start();
    wait(&trail, 2);
    std::fs::remove_file(&old).unwrap();
    // Nobody holds its room on the disk any more.
    let is_open = |entry: std::fs::DirEntry| {
        let path = std::fs::read_link(entry.path());
        path.is_ok_and(|path| path.to_string_lossy().starts_with(&*old.to_string_lossy()))
    };
    until("it is held open", || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        !open.flatten().any(is_open)
    });
    assert_eq!(all(&trail, &Filter::default(), 2), ["id-2"]);
    assert_eq!(trail.find("id-1"), None);
}

/// File systems give the number of a file that is gone to the next one: most of them at once.
#[test]
fn a_new_file_is_followed_that_has_the_number_of_a_removed_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let old = folder.path().join("audit.20260101T000000Z.jsonl");
    // Nothing in it is kept, as of a day on which nothing came.
    append(&old, "{\"mark\":\"checkpoint\"}\n");
    append(&file, &line(1, "a", "allow"));
    let trail = AuditTrail::new(file.clone());
    trail.start();
    wait(&trail, 1);
    std::fs::remove_file(&old).unwrap();
    std::fs::rename(&file, folder.path().join("audit.20260102T000000Z.jsonl")).unwrap();
    append(&file, &line(2, "a", "allow"));
    wait(&trail, 2);
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let trail = AuditTrail::new(file.clone());
    trail.start();
    assert_eq!(
        trail.page(&Filter::default(), None, 5, &mut || true),
        Page::default()
    );
    append(&file, &line(1, "a", "allow"));
    wait(&trail, 1);
    // A line that is none of ours does no harm.
    append(
        &file,
        &("x".repeat(3 * 1024 * 1024) + "\n" + &line(2, "a", "allow")),
    );
    wait(&trail, 2);
}

/// A stream of other nodes' making.
#[derive(Debug, Default)]
struct Written {
    entries: Mutex<Vec<StreamEntry>>,
    is_away: AtomicBool,
}

impl Written {
    /// The record `number` of a node, as an entry.
    fn add(&self, node: &str, number: i64) {
        let seal = Seal::first(node, [1; 32], [2; 32]);
        let mut journal = Journal::begin(&seal, &seal.next([3; 32])).unwrap();
        let mut event: AuditEvent = serde_json::from_str(&line(number, "a", "allow")).unwrap();
        event.seq = 1;
        let mut lines = Vec::new();
        journal.record(&mut lines, &event, &String::new).unwrap();
        lines.pop();
        self.add_line(Some(lines));
    }

    fn add_line(&self, line: Option<Vec<u8>>) {
        let mut entries = self.entries.lock();
        let id = StreamId {
            millis: entries.len() as u64 + 1,
            seq: 0,
        };
        entries.push(StreamEntry { id, line });
    }
}

#[async_trait::async_trait]
impl RecordStream for Written {
    async fn ready(&self) -> Result<(), StateError> {
        Ok(())
    }

    async fn append(&self, _: &[Vec<u8>]) -> Result<usize, StateError> {
        panic!("a reader writes nothing");
    }

    async fn from(&self, from: StreamId, most: usize) -> Result<Vec<StreamEntry>, StateError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(StateError::Timeout);
        }
        let entries = self.entries.lock();
        let found = entries.iter().filter(|entry| entry.id >= from);
        Ok(found.take(most).cloned().collect())
    }

    async fn up_to(&self, to: StreamId, most: usize) -> Result<Vec<StreamEntry>, StateError> {
        let entries = self.entries.lock();
        let found = entries.iter().rev().filter(|entry| entry.id <= to);
        Ok(found.take(most).cloned().collect())
    }
}

#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn instant(&self) -> std::time::Instant {
        panic!("nobody asks for it");
    }

    fn now(&self) -> Timestamp {
        Timestamp((START + 100_000) * 1_000)
    }
}

/// A trail through `file` and that stream.
fn beside(file: &Path, stream: &Arc<Written>, metrics: &Arc<Metrics>) -> AuditTrail {
    let trail = AuditTrail::new(file.to_owned()).beside(Others {
        stream: Arc::clone(stream) as Arc<dyn RecordStream>,
        node: "edge-1".to_owned(),
        folder: file.parent().unwrap().to_owned(),
        runtime: tokio::runtime::Handle::current(),
        clock: Arc::new(Now),
        metrics: Arc::clone(metrics),
        health: Arc::default(),
    });
    trail.start();
    trail
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_other_nodes_stand_between_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let (stream, metrics) = (Arc::<Written>::default(), Arc::new(Metrics::new().unwrap()));
    // The node's own have even numbers, and are in the stream as well; among the others are some that are none.
    for number in 0..2_000 {
        if number % 2 == 0 {
            append(&file, &line(number, "a", "allow"));
            stream.add("edge-1", number);
        } else {
            stream.add("edge-2", number);
            stream.add_line((number % 3 == 0).then(|| b"{}".to_vec()));
        }
    }
    let trail = beside(&file, &stream, &metrics);
    wait(&trail, 2_000);
    let expected: Vec<String> = (0..2_000)
        .rev()
        .map(|number| format!("id-{number}"))
        .collect();
    for most in [7, 50, 3_000] {
        assert_eq!(all(&trail, &Filter::default(), most), expected, "{most}");
    }
    let theirs = Filter::from_query([("node", "edge-2")]);
    let theirs = all(&trail, &theirs, 50);
    assert!(theirs.len() == 1_000 && theirs[0] == "id-1999" && theirs[999] == "id-1");
    let found = trail.find("id-777").unwrap();
    assert_eq!(
        (found.node.as_deref(), found.is_foreign, found.event.seq),
        (Some("edge-2"), true, 1)
    );
    assert!(!trail.find("id-778").unwrap().is_foreign);
    let decisions: u64 = trail
        .stretches(Span::Week, START + 2_000)
        .iter()
        .map(|(_, tally)| tally.decisions)
        .sum();
    assert_eq!(decisions, 2_000);
    let text = metrics.render();
    for said in ["read\"} 1000", "skipped\"} 1000"] {
        assert!(text.contains(said), "{text}");
    }
    // What it keeps has no name on the disk.
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 1);
    // What comes later shows, and so does that nothing comes.
    stream.add("edge-3", 5_000);
    wait(&trail, 2_001);
    let page = trail.page(&Filter::default(), None, 1, &mut || true);
    assert_eq!(page.entries[0].node(), Some("edge-3"));
    stream.is_away.store(true, Ordering::Relaxed);
    for _ in 0..6_000 {
        if trail.missing().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(trail.missing().as_deref(), Some("did not answer in time"));
    assert_eq!(
        ids(&trail.page(&Filter::default(), None, 1, &mut || true)),
        ["id-5000"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_among_all_nodes_stops_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let stream = Arc::<Written>::default();
    // Both values are in every block of the node's own, and never in one record but the first.
    let text: String = (0..3_000)
        .map(|number| match number {
            0 => line(0, "a", "block"),
            _ if number % 2 == 0 => line(number, "a", "allow"),
            _ => line(number, "b", "block"),
        })
        .collect();
    append(&file, &text);
    stream.add("edge-2", 5_000);
    let trail = beside(&file, &stream, &Arc::new(Metrics::new().unwrap()));
    wait(&trail, 3_001);
    let filter = Filter::from_query([("subject", "a"), ("verdict", "block")]);
    let page = trail.page(&filter, None, 10, &mut || false);
    assert!(page.entries.is_empty() && page.older.is_some() && page.searched_to.is_some());
    let older = Place::parse(&page.older.unwrap().text());
    let rest = trail.page(&filter, older, 10, &mut || true);
    assert_eq!((ids(&rest), rest.older), (vec!["id-0"], None));
}
