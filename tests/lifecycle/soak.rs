//! Random faults for a while, under traffic that never stops. Everything is drawn from one seed (`RISKGATE_SOAK_SEED`), so
//! that a run that failed can be made again; `RISKGATE_SOAK_SECONDS` says for how long. What clients saw, what the
//! identity server saw, what the records say and what the store holds must agree afterwards: `verdict` compares.

mod memory;
mod traffic;
mod trouble;
mod verdict;

use crate::client;
use crate::client::Client;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::issuer::Authority;
use crate::load;
use crate::load::alone;
use crate::load::scaled;
use memory::Samples;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use traffic::Sent;
use trouble::Stage;

/// Clients side by side.
const CLIENTS: u64 = 6;
/// A run of this length is a measurement, on a machine that does nothing else.
const LONG: Duration = Duration::from_secs(100);

/// How long things take: in a short run as on a machine that others use as well.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The gateway waits so long for an answer of the store, in milliseconds.
    state_ms: u64,
    /// And of the identity server, in seconds.
    upstream_seconds: u64,
    /// After the last fault everything is as before within this time.
    calm: Duration,
    /// After an outage of WSO2, what was under way comes to its end.
    upstream_slack: Duration,
    /// However short a run is, so many requests may have been without their history although nothing was wrong: a share of a few
    /// hundred is less than one.
    late_min: usize,
}

impl Pace {
    fn of(length: Duration) -> Self {
        if length >= LONG {
            return Self {
                state_ms: 100,
                upstream_seconds: 1,
                calm: Duration::from_secs(5),
                upstream_slack: Duration::from_millis(2_500),
                late_min: 3,
            };
        }
        Self {
            state_ms: 1_000,
            upstream_seconds: 5,
            calm: Duration::from_secs(10),
            upstream_slack: Duration::from_millis(7_500),
            // Each client, once or twice, if the machine stands still for a while.
            late_min: 12,
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_leave_no_trace() {
    let _alone = alone().await;
    let seed = number_of("RISKGATE_SOAK_SEED").unwrap_or(1);
    let seconds = number_of("RISKGATE_SOAK_SECONDS").unwrap_or_else(|| scaled(20, 120));
    let length = Duration::from_secs(seconds);
    let pace = Pace::of(length);
    eprintln!("soak of {seconds} s; again with RISKGATE_SOAK_SEED={seed}");

    // What is written is on the disk before it is answered: a killed server loses nothing that it has confirmed.
    let redis = RedisServer::start_with(&["--appendonly", "yes"]);
    let config = format!(
        "state.url = \"{}\"\nstate.response_timeout_ms = {}\nscore.cache_seconds = 0\nscore.cache_entries = 0\nupstream.read_timeout_seconds = {}\nlimits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0\n",
        redis.url(),
        pace.state_ms,
        pace.upstream_seconds
    );
    let world = World::start(Options {
        mode: "enforce",
        tls: true,
        config: config.leak(),
        ..Options::default()
    })
    .await;
    let authority = Authority::new("of the soak");
    let tls = client::trusting(authority.pem());
    let mut stage = Stage::new(world, redis, authority, seed);
    stage.begin().await;
    stage.exchange_certificate();
    let end = Instant::now() + PATIENCE;
    while Client::new(stage.world.port, Some(Arc::clone(&tls)))
        .connect()
        .await
        .is_err()
    {
        assert!(Instant::now() < end, "{}", stage.world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let done = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|place| {
            let client = Client::new(stage.world.port, Some(Arc::clone(&tls)));
            tokio::spawn(traffic::work(client, seed, place, Arc::clone(&done)))
        })
        .collect();
    let mut samples = Samples::of(stage.world.process_id());
    let watch = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                samples.take(begin.elapsed());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            samples
        })
    };
    let windows = stage.faults(begin + length).await;
    // Everything is whole again: so are the answers.
    tokio::time::sleep(pace.calm).await;
    done.store(true, Ordering::Relaxed);
    let mut sent: Vec<Sent> = Vec::new();
    for client in clients {
        sent.extend(client.await.expect("a client ends well"));
    }
    let samples = watch.await.expect("the memory is watched");

    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for window in &windows {
        *counts.entry(window.fault.name()).or_default() += 1;
    }
    eprintln!("faults: {counts:?}");
    let verdict = verdict::reach(&stage.world, &sent, &windows, pace).await;
    eprintln!("{verdict}");
    let memory = samples.judge(length);
    eprintln!("{memory}");
    let descriptors = samples.descriptors();
    eprintln!("open files: {descriptors:?} (after the warm-up, at the end)");
    if let Ok(folder) = std::env::var("RISKGATE_SOAK_KEEP") {
        fs::write(format!("{folder}/soak-memory.csv"), samples.csv()).expect("a file");
        fs::write(format!("{folder}/soak-gateway.log"), stage.world.log()).expect("a file");
    }
    load::row(
        "R31",
        &format!("exchanges over {} faults in {seconds} s", windows.len()),
        sent.len() as u64,
        0,
        verdict.wrong(),
    );
    verdict.assert(&stage.world.log());
    assert!(descriptors.1 <= descriptors.0 + 40, "{descriptors:?}");
    // Pools and tables fill for some minutes; a short run says nothing of memory.
    if length >= Duration::from_secs(600) {
        memory.assert();
    }
}
