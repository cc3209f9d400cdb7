//! Records per second of `riskgate replay`, under a policy and under a policy and a model, and how fast a record is found by
//! its id. The log is that of the demo, many times over, in a file that has just been written.
//!
//! Bar, on two cores: a million records a minute (17,000 a second); below it the bench ends with an error.
//!
//! `cargo bench --bench replay`.

#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use mimalloc::MiMalloc;
use riskgate::app::records;
use riskgate::app::rerun::Plan;
use riskgate::app::rerun::replay;
use riskgate::config::Config;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How often the demo's log is repeated.
const TIMES: usize = 1_000;
/// Records a second at least.
const BAR: f64 = 17_000.0;
/// Of so many rounds the fastest is held to the bar: a machine that stands still makes any of them late.
const ROUNDS: usize = 3;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/records")
        .join(name)
}

fn throughput(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("audit.jsonl");
    let text = std::fs::read_to_string(recorded("demo.jsonl")).expect("records");
    let lines = text.lines().count() * TIMES;
    std::fs::write(&file, text.repeat(TIMES)).expect("a file");
    let config = Config::default();
    let plan = |model| Plan {
        audit: vec![file.clone()],
        policy: Some(recorded("policy.toml")),
        model,
        ..Plan::default()
    };
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(lines as u64));
    group.sample_size(10);
    let model = recorded("model").join("risk-login-1.0.0.onnx");
    for (name, plan) in [("policy", plan(None)), ("model", plan(Some(model)))] {
        let report = replay(&config, &plan).expect("a replay");
        assert_eq!(report.records, lines as u64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| replay(&config, &plan).expect("a replay").replayed);
        });
        let rounds = (0..ROUNDS).map(|_| {
            let start = Instant::now();
            replay(&config, &plan).expect("a replay");
            start.elapsed()
        });
        let fastest = rounds.min().unwrap_or(Duration::MAX);
        let rate = lines as f64 / fastest.as_secs_f64();
        println!("replay, {name}: {rate:.0} records a second, bar {BAR:.0}");
        assert!(
            rate >= BAR,
            "replay, {name}: {rate:.0} records a second, bar {BAR:.0}"
        );
    }
    group.throughput(Throughput::Bytes((text.len() * TIMES) as u64));
    let files = [file.clone()];
    group.bench_function("find", |bencher| {
        bencher.iter(|| {
            let missing = "00000000-0000-7000-8000-000000000000";
            records::find(&files, &[missing]).expect("a search").len()
        });
    });
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
