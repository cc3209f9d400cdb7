//! The audit records cannot be written: logins go on, and every record that is lost is counted.

use crate::gateway::World;
use crate::traffic::Crowd;
use crate::traffic::alone;
use crate::traffic::is_measured;
use crate::traffic::world;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::audit::is_mark;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

const WRITTEN: &str = "riskgate_audit_events_total";
const LOST: &str = "riskgate_audit_events_dropped_total";
const DECISIONS: &str = "riskgate_decision_seconds";

/// Waits until that many records were lost, and not one more.
async fn until_lost(world: &World, count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let count = count as f64;
    let end = Instant::now() + Duration::from_secs(60);
    while world.metric(LOST, &[]).await < count - 0.5 {
        assert!(
            Instant::now() < end,
            "{} of {count} are counted as lost",
            world.metric(LOST, &[]).await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lost = world.metric(LOST, &[]).await;
    assert!(
        (lost - count).abs() < 0.5,
        "{lost} are counted as lost, {count} were"
    );
}

/// Without records the histogram says how long decisions took: how many there were, and how many of them were late.
async fn decisions(world: &World) -> (f64, f64) {
    let all = world.metric(&format!("{DECISIONS}_count"), &[]).await;
    let in_time = world
        .metric(&format!("{DECISIONS}_bucket"), &[("le", "0.03")])
        .await;
    let sum = world.metric(&format!("{DECISIONS}_sum"), &[]).await;
    eprintln!(
        "audit disk full: {all} decisions, mean {:.3} ms, {in_time} of them within 30 ms",
        sum / all * 1_000.0
    );
    (all, all - in_time)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_the_records_is_full() {
    let _alone = alone().await;
    let world = world("audit.file = \"/dev/full\"\n").await;
    Crowd::people(6).steps(&world).await;
    let requests = world.received();
    let marked = requests
        .iter()
        .filter(|request| request.header_values("x-risk-status") == ["scored"]);
    assert!(marked.count() >= 6 * 2 * 4);
    until_lost(&world, requests.len()).await;
    assert!(world.metric(WRITTEN, &[]).await < 0.5);
    assert!(
        world.log().contains("audit records could not be written"),
        "{}",
        world.log()
    );
    // Once more if a decision was late: the machine may have been busy with something else. The bar is that of the shipped
    // times, so that `make faults` asks for it.
    let (_, late) = decisions(&world).await;
    if late > 0.5 && is_measured() {
        Crowd::people(6).steps(&world).await;
        until_lost(&world, world.received().len()).await;
        let (all, still) = decisions(&world).await;
        assert!(
            all > 90.0 && still - late < 0.5,
            "{} of {all} are late",
            still
        );
    }
}

/// A pipe stands for a disk that fails and comes back: without a reader every write to it fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_the_records_fails_and_comes_back() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("audit.pipe");
    let made = Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .expect("mkfifo runs");
    assert!(made.success());
    let reader = open(&pipe);
    let world = world(&format!("audit.file = '{}'\n", pipe.display())).await;
    Crowd::people(1).steps(&world).await;
    let first = world.received().len();
    let (seen, reader) = read(reader, move |record| record.seq == first as u64).await;
    assert_eq!(seen.len(), first);

    drop(reader);
    Crowd::people(1).steps(&world).await;
    let second = world.received().len();
    until_lost(&world, second - first).await;

    let reader = open(&pipe);
    Crowd::people(1).steps(&world).await;
    let third = world.received().len();
    let (seen, _reader) = read(reader, move |record| record.seq == third as u64).await;
    // What was counted as lost is missing, so that the gap in the numbers is as large as the count says.
    let numbers: Vec<u64> = seen.iter().map(|record| record.seq).collect();
    let expected: Vec<u64> = (second as u64 + 1..=third as u64).collect();
    assert_eq!(numbers, expected);
    until_lost(&world, second - first).await;
}

/// Opens a pipe so that neither side waits for the other.
fn open(pipe: &Path) -> BufReader<File> {
    let file = File::options().read(true).write(true).open(pipe);
    BufReader::new(file.expect("the pipe opens"))
}

/// Reads records up to the one that is the last.
async fn read(
    mut reader: BufReader<File>,
    is_last: impl Fn(&AuditEvent) -> bool + Send + 'static,
) -> (Vec<AuditEvent>, BufReader<File>) {
    let reading = tokio::task::spawn_blocking(move || {
        let mut records = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            if is_mark(line.as_bytes()) {
                continue;
            }
            let record: AuditEvent =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let last = is_last(&record);
            records.push(record);
            if last {
                return (records, reader);
            }
        }
    });
    let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
    read.expect("the last record comes").expect("records")
}
