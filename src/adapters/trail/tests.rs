//! The trail over files that grow, are exchanged, and hold lines of others.

use super::*;
use crate::domain::time::Timestamp;
use std::io::Write;
use std::path::Path;

const START: i64 = 1_795_600_000;

fn line(number: i64, subject: &str, verdict: &str) -> String {
    let event = AuditEvent {
        schema: 1,
        id: format!("id-{number}"),
        time: Timestamp((START + number) * 1_000).to_rfc3339(),
        class: "scored".to_owned(),
        door: Some("login".to_owned()),
        subject: Some(subject.to_owned()),
        verdict: Some(verdict.to_owned()),
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

/// Waits until the trail has seen this many records.
fn wait(trail: &AuditTrail, count: u64) {
    let seen = trail.seen();
    for _ in 0..3_000 {
        if *seen.borrow() >= count {
            assert_eq!(*seen.borrow(), count);
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} of {count} records were seen", *seen.borrow());
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
        trail.find("id-1234").unwrap().features,
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
