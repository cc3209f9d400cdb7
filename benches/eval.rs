//! Events per second of `riskgate model eval`: logins from a file through the whole path, learning included, with the model
//! in ONNX Runtime and with the native evaluator. The state begins empty each time.
//!
//! Budget, on one core: 50 µs per event (20,000 events per second) with either.
//!
//! `cargo bench --bench eval`. ONNX Runtime must be where the gateway finds it.

#![allow(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use mimalloc::MiMalloc;
use riskgate::app::model::eval::Evaluation;
use riskgate::app::model::eval::Evaluator;
use riskgate::app::model::eval::Input;
use riskgate::app::model::eval::eval;
use std::fmt::Write;
use std::path::Path;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Logins in the file, and the people who log in.
const LOGINS: u64 = 10_000;
const PEOPLE: u64 = 500;

/// Everybody logs in from home now and then; one login in twenty fails, one in a hundred is somebody else's attempt.
fn events() -> String {
    let mut text = "Login Timestamp,User ID,IP Address,Country,ASN,User Agent String,Login Successful,Device ID,\
                    Language,Network Kind,Latitude,Longitude,Attacker Kind\n"
        .to_owned();
    for login in 0..LOGINS {
        let (minute, second) = (login / 60 % 60, login % 60);
        let (day, hour) = (1 + login / 86_400, login / 3_600 % 24);
        let person = login * 7919 % PEOPLE;
        let (network, attacker) = if login % 100 == 99 {
            (200 + login % 50, "naive")
        } else {
            (person % 200, "")
        };
        let home = person % 250 + 1;
        let succeeded = if login % 20 == 7 { "False" } else { "True" };
        let version = 120 + person % 12;
        let device = if attacker.is_empty() {
            person
        } else {
            PEOPLE + login
        };
        writeln!(
            text,
            "2026-01-{day:02} {hour:02}:{minute:02}:{second:02}.000,user{person},{}.{network}.7.{home},NO,{},\
             \"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0\",{succeeded},d{device},\
             nb-NO,residential,59.9,10.7,{attacker}",
            20 + network % 60,
            1_000 + network
        )
        .expect("a text takes more text");
    }
    text
}

fn throughput(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("events.csv");
    std::fs::write(&file, events()).expect("a file");
    let mut group = criterion.benchmark_group("eval");
    group.throughput(Throughput::Elements(LOGINS));
    group.sample_size(10);
    for (name, evaluator) in [
        ("native", Evaluator::Native),
        ("onnx_runtime", Evaluator::OnnxRuntime),
    ] {
        let evaluation = evaluation(&file, evaluator);
        let evaluated = eval(&evaluation, &mut |_| {}).expect("an evaluation");
        assert_eq!(evaluated.events, LOGINS);
        group.bench_function(name, |bencher| {
            bencher.iter(|| eval(&evaluation, &mut |_| {}).expect("an evaluation"));
        });
    }
    group.finish();
}

fn evaluation(events: &Path, evaluator: Evaluator) -> Evaluation {
    Evaluation {
        model: "conf/model".into(),
        input: Input::Events(events.to_owned()),
        geo: None,
        scores: None,
        features: None,
        json: None,
        from: None,
        policy: None,
        label: None,
        evaluator: Some(evaluator),
        library: None,
        skip_bad: 0,
    }
}

criterion_group!(benches, throughput);
criterion_main!(benches);
