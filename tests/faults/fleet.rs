//! The stores of a fleet change under a running gateway: a server that flaps, a Sentinel that makes another master, a
//! cluster that moves its slots. Every login goes through.
//!
//! `RISKGATE_FAULT_SECONDS` sets for how long the server flaps and the cluster moves slots.

use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::traffic::Crowd;
use crate::traffic::Phase;
use crate::traffic::alone;
use crate::traffic::recovered;
use crate::traffic::world;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

fn seconds(default: u64) -> Duration {
    let set = std::env::var("RISKGATE_FAULT_SECONDS").ok();
    Duration::from_secs(set.and_then(|text| text.parse().ok()).unwrap_or(default))
}

async fn on(url: &str) -> World {
    world(&format!("state.url = \"{url}\"\n")).await
}

/// Logins until `done`, and the share of their requests that went without state.
async fn logins_until(world: &World, name: &str, done: impl Fn() -> bool) -> f64 {
    let (mut without, mut all, mut logins) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    while !done() {
        // A login that does not end with tokens ends the test.
        let phase = Crowd::people(1).log_in(world).await;
        phase.assert_marked();
        assert!(phase.causes("unscored").is_empty());
        let (stateless, requests) = counted(&phase);
        without += stateless;
        all += requests;
        logins += 2;
        for scored in &phase.scored {
            slowest = slowest.max(Duration::from_micros(scored.record.timing.decision));
        }
    }
    let share = f64::from(without) / f64::from(all.max(1));
    eprintln!(
        "{name}: {logins} logins went through; {all} scored requests, {:.2} % without state; slowest decision {slowest:?}",
        share * 100.0
    );
    share
}

fn counted(phase: &Phase) -> (u32, u32) {
    let stateless = phase
        .scored
        .iter()
        .filter(|scored| scored.record.fallback.is_some());
    let count = |n: usize| u32::try_from(n).expect("a small count");
    (count(stateless.count()), count(phase.scored.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_and_goes() {
    let _alone = alone().await;
    let mut redis = RedisServer::start();
    let world = on(&redis.url()).await;
    recovered(&world).await;
    let done = AtomicBool::new(false);
    let (share, flaps) = tokio::join!(
        logins_until(&world, "redis flaps every 2 s", || done
            .load(Ordering::SeqCst)),
        async {
            let (end, mut flaps) = (Instant::now() + seconds(10), 0);
            while Instant::now() < end {
                redis.kill();
                tokio::time::sleep(Duration::from_secs(1)).await;
                redis.restart();
                tokio::time::sleep(Duration::from_secs(1)).await;
                flaps += 1;
            }
            done.store(true, Ordering::SeqCst);
            flaps
        }
    );
    assert!(flaps >= 3 && share < 1.0, "{flaps} flaps, {share}");
    eprintln!(
        "redis flaps every 2 s: {flaps} times; scored as before after {:?}",
        recovered(&world).await
    );
    assert!(world.metric("riskgate_panics_total", &[]).await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_makes_another_master() {
    let _alone = alone().await;
    let mut first = RedisServer::start();
    let port = first.port().to_string();
    let second = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    let sentinel = RedisServer::start_sentinel(&format!(
        "sentinel monitor mymaster 127.0.0.1 {port} 1\nsentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n",
    ));
    let world = on(&format!(
        "redis+sentinel://127.0.0.1:{}/mymaster",
        sentinel.port()
    ))
    .await;
    recovered(&world).await;
    let told = |server: &RedisServer, words: &[&[u8]], wanted: &str| {
        String::from_utf8_lossy(&server.command(words)).contains(wanted)
    };
    let replica = second.port().to_string();
    let end = Instant::now() + Duration::from_secs(40);
    while !(told(&second, &[b"INFO", b"replication"], "master_link_status:up")
        && told(
            &sentinel,
            &[b"SENTINEL", b"REPLICAS", b"mymaster"],
            &replica,
        ))
    {
        assert!(Instant::now() < end, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.kill();
    let killed = Instant::now();
    let promoted = || told(&second, &[b"INFO", b"replication"], "role:master");
    logins_until(&world, "sentinel failover", || {
        promoted() || killed.elapsed() > Duration::from_secs(60)
    })
    .await;
    let failover = killed.elapsed();
    let after = recovered(&world).await;
    eprintln!(
        "sentinel failover: another master after {failover:?}, scored as before {after:?} later"
    );
    assert!(promoted() && after < Duration::from_secs(5), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_its_slots() {
    let _alone = alone().await;
    let servers = RedisServer::start_cluster();
    let url = format!("redis+cluster://127.0.0.1:{}", servers[0].port());
    let world = on(&url).await;
    recovered(&world).await;
    let ids: Vec<String> = servers
        .iter()
        .map(|server| {
            let answer = server.command(&[b"CLUSTER", b"MYID"]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            text.lines().nth(1).expect("an id").trim().to_owned()
        })
        .collect();
    let address = format!("127.0.0.1:{}", servers[0].port());
    let end = Instant::now() + seconds(10);
    let moves = std::thread::spawn(move || {
        let mut moved = 0;
        while Instant::now() < end || moved == 0 {
            let (from, to) = (moved % 3, (moved + 1) % 3);
            let status = Command::new("redis-cli")
                .args(["--cluster", "reshard", &address, "--cluster-yes"])
                .args(["--cluster-from", &ids[from], "--cluster-to", &ids[to]])
                .args(["--cluster-slots", "1000"])
                .stdout(Stdio::null())
                .status();
            assert!(status.expect("redis-cli runs").success(), "move {moved}");
            moved += 1;
        }
        moved
    });
    let share = logins_until(&world, "cluster moves its slots", || moves.is_finished()).await;
    let moved = moves.join().expect("the moves end well");
    eprintln!("cluster moves its slots: {moved} times 1,000 of them");
    assert!(share <= 0.05, "{share}");
    recovered(&world).await;
}

/// The resident set of the gateway that this test has started, in bytes.
fn resident() -> i64 {
    let own = std::process::id().to_string();
    let of = |name: &str, status: &str| -> Option<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.to_owned())
    };
    let found = std::fs::read_dir("/proc")
        .expect("Linux")
        .flatten()
        .find_map(|entry| {
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let is_ours = of("Name:", &status)? == "riskgate" && of("PPid:", &status)? == own;
            let kib: i64 = of("VmRSS:", &status)?.parse().ok()?;
            is_ours.then_some(kib * 1_024)
        });
    found.expect("a gateway of this test")
}

/// Every name is another one; a hundred addresses try them with the password grant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_names_leave_nothing_behind() {
    const NAMES: usize = 5_000;
    let _alone = alone().await;
    let redis = RedisServer::start();
    let world = on(&redis.url()).await;
    recovered(&world).await;
    let keys = || {
        let answer = redis.command(&[b"DBSIZE"]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        text.trim()
            .trim_start_matches(':')
            .parse::<usize>()
            .expect("a number")
    };
    let used = || {
        let answer = redis.command(&[b"INFO", b"memory"]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        line.expect("a figure")
            .trim()
            .parse::<i64>()
            .expect("a number")
    };
    let try_names = async |names: std::ops::Range<usize>| {
        for n in names {
            let name = format!("nobody-{n}");
            let mut person = world
                .person(&name)
                .from(&format!("192.0.2.{}", 100 + n % 100))
                .in_app("demo-legacy");
            let fields = [
                ("grant_type", "password"),
                ("username", name.as_str()),
                ("password", "x"),
            ];
            let answer = person.token(&fields).await;
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
        world.settle().await;
    };
    try_names(0..500).await;
    let before = (keys(), used(), resident());
    try_names(500..NAMES).await;
    let after = (keys(), used(), resident());
    let grown = |from: i64, to: i64| (to - from) as f64 / 1_048_576.0;
    let (redis_mib, own_mib) = (grown(before.1, after.1), grown(before.2, after.2));
    eprintln!(
        "made-up names through the gateway: {} more, {} keys then {}, redis {redis_mib:+.2} MiB, gateway {own_mib:+.2} MiB",
        NAMES - 500,
        before.0,
        after.0
    );
    // Each of the hundred addresses goes from a list of names to an estimate, which is one more key.
    assert!(after.0 <= before.0 + 110, "{before:?} {after:?}");
    assert!(redis_mib < 2.0 && own_mib < 16.0, "{redis_mib} {own_mib}");
}
