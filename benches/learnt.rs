//! What a token request costs the state file after its answer: microseconds of processor time of learning it (the plan, the
//! entries in memory) and of bringing it to the disk, with what the system is asked to write. Requests come as at 10,000 a
//! second, a batch every 50 ms and a flush every second, of 2,000 users, of the same among a million others, and of all of
//! that million.
//!
//! `cargo bench --bench learnt`; `-- 100000` for fewer users in the file. Linux.

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

use crate::facts::*;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::domain::history::Provenance;
use riskgate::domain::history::TokenFamily;
use riskgate::domain::history::TokenUse;
use riskgate::domain::ids::RequestId;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::runtime::Runtime;

/// Requests of a second, and the batches in which they are learnt.
const A_SECOND: u64 = 10_000;
const BATCHES: u64 = 20;
/// Seconds that are not counted, and those that are.
const WARM_UP: u64 = 3;
const COUNTED: u64 = 10;
/// Users who ask.
const ACTIVE: u64 = 2_000;

/// What one part took so far.
#[derive(Clone, Copy, Default)]
struct Used {
    learning: Duration,
    flushing: Duration,
    longest: Duration,
    calls: u64,
    bytes: u64,
}

fn main() {
    let users: u64 = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let path = folder.path().join("state.redb");
    // This bench says when what was learnt goes to the disk.
    let settings = EmbeddedSettings {
        flush_interval: Duration::from_secs(3_600),
        sweep_interval: Duration::from_secs(3_600),
        ..EmbeddedSettings::default()
    };
    let store = EmbeddedStore::open(&path, settings).expect("a new file");
    let mut clock = 0;
    println!(
        "| users in the file | who ask | learning µs | flush µs | together | longest flush ms | writes | bytes written | file MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (known, active) in [(ACTIVE, ACTIVE), (users, ACTIVE), (users, users)] {
        fill(&runtime, &store, known, clock);
        let mut used = Used::default();
        for second in 0..WARM_UP + COUNTED {
            let this = a_second(&runtime, &store, active, clock);
            clock += 1;
            if second >= WARM_UP {
                used.learning += this.learning;
                used.flushing += this.flushing;
                used.longest = used.longest.max(this.longest);
                used.calls += this.calls;
                used.bytes += this.bytes;
            }
        }
        let requests = (A_SECOND * COUNTED) as f64;
        let each = |span: Duration| span.as_secs_f64() * 1e6 / requests;
        println!(
            "| {known} | {active} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} | {:.0} | {} |",
            each(used.learning),
            each(used.flushing),
            each(used.learning + used.flushing),
            used.longest.as_secs_f64() * 1e3,
            used.calls as f64 / requests,
            used.bytes as f64 / requests,
            std::fs::metadata(&path).map_or(0, |file| file.len()) >> 20,
        );
    }
}

/// One second of requests, learnt and written.
fn a_second(runtime: &Runtime, store: &EmbeddedStore, active: u64, clock: u64) -> Used {
    let mut used = Used::default();
    let (calls, bytes) = written();
    for batch in 0..BATCHES {
        let first = clock * A_SECOND + batch * (A_SECOND / BATCHES);
        let observations: Vec<_> = (first..first + A_SECOND / BATCHES)
            .map(|number| token(number, hash(number) % active, moment(clock, batch)))
            .collect();
        let before = processor();
        runtime
            .block_on(store.record(&observations))
            .expect("the file takes what was learnt");
        used.learning += processor().saturating_sub(before);
    }
    let before = (processor(), Instant::now());
    store.flush().expect("the file is written");
    used.flushing = processor().saturating_sub(before.0);
    used.longest = before.1.elapsed();
    let (calls_now, bytes_now) = written();
    used.calls = calls_now - calls;
    used.bytes = bytes_now - bytes;
    used
}

/// Makes everybody up to `known` known.
fn fill(runtime: &Runtime, store: &EmbeddedStore, known: u64, clock: u64) {
    let everybody: Vec<u64> = (0..known).collect();
    for some in everybody.chunks(500) {
        let batch: Vec<_> = some
            .iter()
            .map(|user| Observation {
                links: Vec::new(),
                ..token(*user, *user, moment(clock, 0))
            })
            .collect();
        runtime
            .block_on(store.record(&batch))
            .expect("the file takes what was learnt");
    }
    store.flush().expect("the file is written");
}

fn moment(clock: u64, batch: u64) -> Timestamp {
    START.plus(
        Duration::from_secs(clock) + Duration::from_millis(50) * u32::try_from(batch).unwrap(),
    )
}

/// A password grant that went well, as the gateway reports it: each user has an address and a browser of their own.
fn token(number: u64, user: u64, at: Timestamp) -> Observation {
    let mut lesson = lesson(user, at);
    let seen = &mut lesson.familiarity;
    seen.address = Some(hash(user * 3));
    seen.asn = Some(hash(user % 40));
    seen.agent = Some(hash(user % 7));
    seen.device = None;
    seen.tls = None;
    let mut attempt = attempt(user, false, true);
    attempt.address = hash(user * 3);
    attempt.asn = seen.asn;
    attempt.agent = hash(user % 7);
    attempt.address_known = true;
    let access = Provenance {
        decision_id: RequestId::new(format!("01940000-0000-7000-8000-{number:012x}")),
        issued_to: *seen,
        used_by: *seen,
        coordinates: lesson.coordinates,
        used_from: lesson.coordinates,
        family: None,
        redeemed: None,
        approves: None,
        token_request: None,
        demanded: false,
        ..provenance(user, at)
    };
    let used = TokenUse {
        at,
        address: seen.address,
        asn: seen.asn,
        country: seen.country,
        agent: seen.agent,
        browser: Some(hash(13)),
        tls: None,
        proof_key: None,
        coordinates: lesson.coordinates,
    };
    let refresh = Provenance {
        family: Some(Box::new(TokenFamily::begin(&used))),
        ..access.clone()
    };
    Observation {
        at,
        attempt: Some(attempt),
        lesson: Some(lesson),
        links: vec![
            (link(LinkKind::AccessToken, number), Arc::new(access), HOUR),
            (link(LinkKind::RefreshToken, number), Arc::new(refresh), DAY),
        ],
        ..Observation::default()
    }
}

/// What all threads of this process have used, by the scheduler's count.
fn processor() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this is Linux");
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Calls that wrote, and bytes that they wrote, of this process.
fn written() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/io").expect("this is Linux");
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.trim().parse().ok())
            .expect("a count")
    };
    (of("syscw:"), of("wchar:"))
}
