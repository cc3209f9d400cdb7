//! What a record costs in the writer's thread: as plain JSON, as it was before there was a chain, and chained; the name of a
//! person; what a line costs who checks it; and how fast `riskgate audit verify` checks a log on the disk.
//!
//! Bar: a million records a minute (17,000 a second) for whoever checks; below it the bench ends with an error. The log has
//! some 540 MB, in a temporary folder.
//!
//! `cargo bench --bench audit`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench ends at the first surprise; its macros make undocumented items"
)]

mod budget;

use budget::step;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use riskgate::domain::audit::AUDIT_SCHEMA;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::audit::AuditTiming;
use riskgate::domain::audit::journal::Found;
use riskgate::domain::audit::journal::Journal;
use riskgate::domain::audit::people::PeopleKey;
use riskgate::domain::audit::seal::Seal;
use riskgate::domain::audit::verify::Extent;
use riskgate::domain::audit::verify::Trust;
use riskgate::domain::audit::verify::Verifier;
use riskgate::domain::features::Feature;
use riskgate::domain::ids::Pseudonym;
use std::fs::File;
use std::hint::black_box;
use std::io::BufWriter;
use std::io::Write;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

/// Lines that are checked at once.
const LINES: u64 = 20_000;
/// Records of the log on the disk.
const LOGGED: u64 = 200_000;
/// Records a second that are checked at least: a million a minute.
const BAR: f64 = 17_000.0;
/// Of so many rounds the fastest is held to the bar: a machine that stands still makes any of them late.
const ROUNDS: usize = 3;

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// A record of a scored login, as long as they are.
fn event(seq: u64) -> AuditEvent {
    let features = (0..Feature::COUNT).map(|place| Some(place as f32 * 0.137_531));
    let contributions = (0..Feature::COUNT).map(|place| place as f32 * -0.021_733);
    AuditEvent {
        schema: AUDIT_SCHEMA,
        seq,
        time: "2026-11-26T15:00:00.123Z".to_owned(),
        id: "0193691e-8f5c-7d6c-a1b2-5c6d7e8f9012".to_owned(),
        class: "scored".into(),
        door: Some("login".into()),
        route: "/commonauth".to_owned(),
        method: "POST".into(),
        tenant: text("carbon.super"),
        client_id: text("1u31N7of6gCNR9FqkG1neSlsF_Qa"),
        subject: text("5f0c9a41d3b8e2765f0c9a41d3b8e276"),
        address: text("a41d3b8e2765f0c95f0c9a41d3b8e276"),
        prefix: text("203.0.113.0/24"),
        country: text("CH"),
        asn: Some(64_500),
        as_org: text("Example Networks"),
        network: Some("residential".into()),
        browser: text("Chrome 142"),
        os: text("Windows 10"),
        ja4: text("t13d1516h2_8daaf6152771_02713d6af862"),
        http_fingerprint: text("1f2e3d4c"),
        device: Some("known".into()),
        kind: Some("login".into()),
        features: features.collect(),
        status: Some("scored".into()),
        score: Some(12),
        probability: Some(0.123_456),
        level: Some("low".into()),
        source: Some("native".into()),
        contributions: contributions.collect(),
        verdict: Some("allow".into()),
        matched: text("default_low"),
        mode: Some("enforce".into()),
        action: "forwarded".into(),
        grounds: Some("decided".into()),
        response_status: 302,
        outcome: "succeeded".into(),
        learnt: true,
        model: text("login-1.0.0"),
        policy: text("0123456789abcdef"),
        config: 1,
        timing: AuditTiming {
            state: 120,
            score: 12,
            decision: 310,
            total: 24_000,
        },
        ..AuditEvent::default()
    }
}

fn time() -> String {
    "2026-11-26T15:00:00.123Z".to_owned()
}

fn journal() -> (Journal, Seal) {
    let seal = Seal::first("edge-1", [1; 32], [2; 32]);
    let journal = Journal::begin(&seal, &seal.next([3; 32])).unwrap();
    (journal, seal)
}

fn audit(bench: &mut Criterion) {
    let mut record = event(1);
    let mut lines = Vec::with_capacity(8192);
    serde_json::to_writer(&mut lines, &record).unwrap();
    println!("a record of {} bytes", lines.len());

    step(
        bench,
        "a record as JSON",
        Duration::from_micros(10),
        |run| {
            run.iter(|| {
                lines.clear();
                serde_json::to_writer(&mut lines, black_box(&record)).unwrap();
                lines.push(b'\n');
            });
        },
    );
    let (mut written, _) = journal();
    step(
        bench,
        "a record, chained",
        Duration::from_micros(15),
        |run| {
            let mut seq = 0;
            run.iter(|| {
                seq += 1;
                record.seq = seq;
                lines.clear();
                // Numbers begin anew with each run of the bench: the first one may mark a gap, or follow none.
                written
                    .record(&mut lines, black_box(&record), &time)
                    .unwrap();
            });
        },
    );
    step(bench, "a checkpoint", Duration::from_micros(50), |run| {
        run.iter(|| {
            lines.clear();
            written.checkpoint(&mut lines, time(), &[7; 32]).unwrap();
        });
    });
    let people = PeopleKey::new([5; 32]);
    let mut person = 0_u128;
    step(
        bench,
        "the name of a person who was not met lately",
        Duration::from_micros(5),
        |run| {
            run.iter(|| {
                person += 1;
                people.name(black_box(Pseudonym::from_bytes(person.to_be_bytes())))
            });
        },
    );

    let (mut written, seal) = journal();
    let mut lines = Vec::new();
    written
        .started(&mut lines, time(), &[4; 32], Found::default())
        .unwrap();
    for seq in 1..=LINES {
        written.record(&mut lines, &event(seq), &time).unwrap();
    }
    written.ended(&mut lines, time(), &[5; 32]).unwrap();
    let auditor = seal.auditor().unwrap();
    let mut group = bench.benchmark_group("check");
    group.throughput(Throughput::Elements(LINES));
    group.sample_size(10);
    for (name, with_key) in [
        ("with the auditor's key", true),
        ("with the public key", false),
    ] {
        let mut trust = Trust::default();
        trust.public.insert(auditor.public);
        if with_key {
            trust.keys.insert(auditor.node.clone(), auditor.key.clone());
        }
        let check = || {
            let mut verifier = Verifier::new(trust.clone(), Extent::Closed);
            verifier.begin("bench");
            for line in lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                verifier.line(line, true);
            }
            assert!(verifier.finish().is_sound());
        };
        group.bench_function(name, |run| run.iter(check));
        hold(name, LINES, check);
    }
    group.finish();
    on_the_disk();
}

/// The command itself, over a log that has just been written.
fn on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.jsonl");
    let key = folder.path().join("auditor.key");
    let (mut written, seal) = journal();
    let auditor = seal.auditor().unwrap();
    let public = auditor.public.to_string();
    std::fs::write(&key, auditor.to_text()).unwrap();
    let mut file = BufWriter::new(File::create(&log).unwrap());
    let mut lines = Vec::new();
    written
        .started(&mut lines, time(), &[4; 32], Found::default())
        .unwrap();
    for seq in 1..=LOGGED {
        written.record(&mut lines, &event(seq), &time).unwrap();
        file.write_all(&lines).unwrap();
        lines.clear();
    }
    written.ended(&mut lines, time(), &[5; 32]).unwrap();
    file.write_all(&lines).unwrap();
    file.flush().unwrap();
    drop(file);
    let bytes = std::fs::metadata(&log).unwrap().len();
    println!("a log of {LOGGED} records, {} MB", bytes / 1_000_000);
    let key = key.to_str().unwrap();
    for (name, flags) in [
        ("riskgate audit verify --key", ["--key", key]),
        (
            "riskgate audit verify --public-key",
            ["--public-key", &public],
        ),
    ] {
        hold(name, LOGGED, || {
            let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
                .args(["audit", "verify", "--closed"])
                .args(flags)
                .arg(&log)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}");
            assert!(said.contains(&LOGGED.to_string()), "{said}");
        });
    }
}

/// Ends the bench where `count` records are not checked as quickly as they have to be.
fn hold(name: &str, count: u64, check: impl Fn()) {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        check();
        start.elapsed()
    });
    let fastest = rounds.min().unwrap_or(Duration::MAX);
    let rate = count as f64 / fastest.as_secs_f64();
    println!("{name}: {rate:.0} records a second, bar {BAR:.0}");
    assert!(
        rate >= BAR,
        "{name}: {rate:.0} records a second, bar {BAR:.0}"
    );
}

criterion_group!(benches, audit);

fn main() -> ExitCode {
    benches();
    budget::hold()
}
