//! The memory on the request path and off it: one full read (profile, counters, four links) and one batch of what was
//! learnt, for the file and for a Redis on loopback, beside a bare `GET`.
//!
//! Budgets: a read from the file below 30 µs; a read from Redis at most twice a bare `GET` at the median.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a bench that cannot be set up has nothing to say"
)]

#[path = "../tests/stores/facts.rs"]
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
mod facts;
#[path = "../tests/support/redis.rs"]
mod redis_server;

use crate::facts::*;
use ::redis as redis_client;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::adapters::redis::RedisStore;
use riskgate::domain::demand::DemandScope;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::flow::ports::StateStore;
use std::hint::black_box;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Subjects with a profile.
const SUBJECTS: u64 = 10_000;

/// A login that ends well, as the gateway reports it.
fn login(n: u64, day: u32) -> Observation {
    let at = START.plus(DAY * day);
    let mut lesson = lesson(n, at);
    lesson.familiarity.address = Some(hash(n * 3 + u64::from(day % 3)));
    lesson.familiarity.device = Some(hash(n * 2 + u64::from(day % 2)));
    let mut attempt = attempt(n, day % 5 == 4, true);
    attempt.address = hash(n * 3 + u64::from(day % 3));
    Observation {
        at,
        attempt: Some(attempt),
        lesson: Some(lesson),
        links: vec![(
            link(LinkKind::RefreshToken, n),
            Arc::new(provenance(n, at)),
            DAY * 30,
        )],
        ..Observation::default()
    }
}

fn fill(runtime: &Runtime, store: &impl StateStore) {
    for day in 0..4 {
        for some in (0..SUBJECTS).collect::<Vec<_>>().chunks(500) {
            let batch: Vec<_> = some.iter().map(|n| login(*n, day)).collect();
            runtime
                .block_on(store.record(&batch))
                .expect("the store takes what was learnt");
        }
    }
}

fn asked(n: u64) -> HistoryQuery {
    let links = [
        LinkKind::RefreshToken,
        LinkKind::Session,
        LinkKind::Code,
        LinkKind::Transaction,
    ];
    HistoryQuery {
        address: hash(n * 3),
        links: links.map(|kind| link(kind, n)).to_vec(),
        demands: [DemandScope::Browser, DemandScope::Source, DemandScope::User]
            .map(|scope| demand_key(scope, n))
            .to_vec(),
        ..query(n, START.plus(DAY * 4))
    }
}

fn embedded(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("state.redb");
    let store = EmbeddedStore::open(&path, EmbeddedSettings::default()).expect("a new file");
    fill(&runtime, &store);
    let mut n = 0;
    criterion.bench_function("state/embedded/load", |bencher| {
        bencher.iter(|| {
            n = (n + 7_919) % SUBJECTS;
            let history = store.load_now(&asked(n)).expect("the file is read");
            assert!(history.profile.is_some());
            black_box(history)
        });
    });
    criterion.bench_function("state/embedded/record_100", |bencher| {
        bencher.iter(|| {
            n = (n + 7_919) % SUBJECTS;
            let batch: Vec<_> = (0..100)
                .map(|i| login((n + i * 97) % SUBJECTS, 5))
                .collect();
            runtime
                .block_on(store.record(&batch))
                .expect("the store takes what was learnt");
        });
    });
    eprintln!(
        "file: {} bytes for {SUBJECTS} subjects",
        std::fs::metadata(&path).map_or(0, |file| file.len())
    );
}

fn redis(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let server = redis_server::RedisServer::start();
    let store = RedisStore::connect(&server.url(), patient()).expect("the URL is right");
    fill(&runtime, &store);
    let client = redis_client::Client::open(server.url()).expect("the URL is right");
    let mut connection = runtime
        .block_on(client.get_multiplexed_async_connection())
        .expect("the server is there");
    server.command(&[b"SET", b"bare", &[b'x'; 300]]);
    criterion.bench_function("state/redis/bare_get", |bencher| {
        bencher.iter(|| {
            let mut get = redis_client::cmd("GET");
            let answer = get.arg("bare").query_async::<Vec<u8>>(&mut connection);
            black_box(runtime.block_on(answer).expect("the server answers"))
        });
    });
    let mut n = 0;
    criterion.bench_function("state/redis/load", |bencher| {
        bencher.iter(|| {
            n = (n + 7_919) % SUBJECTS;
            let history = runtime
                .block_on(store.load(&asked(n)))
                .expect("the server answers");
            assert!(history.profile.is_some());
            black_box(history)
        });
    });
    criterion.bench_function("state/redis/record_100", |bencher| {
        bencher.iter(|| {
            n = (n + 7_919) % SUBJECTS;
            let batch: Vec<_> = (0..100)
                .map(|i| login((n + i * 97) % SUBJECTS, 5))
                .collect();
            runtime
                .block_on(store.record(&batch))
                .expect("the server takes what was learnt");
        });
    });
    let memory = server.command(&[b"INFO", b"memory"]);
    let memory = String::from_utf8_lossy(&memory).into_owned();
    let used = memory
        .lines()
        .find(|line| line.starts_with("used_memory_dataset:"))
        .unwrap_or_default();
    eprintln!(
        "redis: {used} for {SUBJECTS} subjects with three addresses, a link and their counters each"
    );
}

criterion_group!(state, embedded, redis);
criterion_main!(state);
