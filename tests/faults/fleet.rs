//! The stores of a fleet change under a running gateway: a server that flaps, a Sentinel that makes another master, a
//! cluster that moves its slots. Every login goes through.
//!
//! `RISKGATE_FAULT_SECONDS` sets for how long the cluster moves slots.

use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::table;
use crate::table::Breaker;
use crate::table::Moment;
use crate::table::Tally;
use crate::table::open_max;
use crate::traffic::Crowd;
use crate::traffic::alone;
use crate::traffic::is_measured;
use crate::traffic::many;
use crate::traffic::recovered;
use crate::traffic::recovery_max;
use crate::traffic::world;
use crate::wire::Wire;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

fn seconds(default: u64) -> Duration {
    let set = std::env::var("RISKGATE_FAULT_SECONDS").ok();
    Duration::from_secs(set.and_then(|text| text.parse().ok()).unwrap_or(default))
}

async fn on(url: &str) -> World {
    world(&format!("state.url = \"{url}\"\n")).await
}

/// Logins until `done`: all of them went through, whatever state there was.
async fn logins_until(world: &World, done: impl Fn() -> bool) -> Tally {
    let phase = Crowd::people(1).until(world, done).await;
    phase.assert_marked();
    assert!(phase.causes("unscored").is_empty());
    phase.tally()
}

/// How often the store is connected to in the worst second, counted where the connections arrive.
async fn most_in_a_second(wire: &Wire, done: impl Fn() -> bool) -> u64 {
    let (mut most, mut before) = (0, wire.connections());
    while !done() {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = wire.connections();
        // On a busy machine a second takes longer.
        let seconds = began.elapsed().as_secs().max(1);
        (most, before) = (most.max((now - before) / seconds), now);
    }
    most
}

/// `RISKGATE_FLAP_SECONDS` sets for how long. Memory is held to its bar where what is kept for a minute was there before:
/// in a shorter run it is that which grows, with as many logins as the machine is fast.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_and_goes() {
    const CONNECTS_MAX: u64 = 10;
    const GROWTH_MAX: i64 = 10 * 1_048_576;
    const WARM_UP: Duration = Duration::from_secs(75);
    let _alone = alone().await;
    let mut redis = RedisServer::start();
    // What is in between takes every connection, as a balancer does, whether or not the server is there.
    let wire = Wire::to(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
    let world = on(&format!("redis://{}", wire.address())).await;
    recovered(&world).await;
    let set = std::env::var("RISKGATE_FLAP_SECONDS").ok();
    let time = Duration::from_secs(set.and_then(|text| text.parse().ok()).unwrap_or(10));
    // Pools and tables are there after some logins; what is kept for a minute is there after a minute of them.
    Crowd::people(20).log_in(&world).await;
    let fresh = resident();
    let began = Moment::now();
    logins_until(&world, || began.elapsed() > time.min(WARM_UP)).await;
    let began = Moment::now();
    let done = AtomicBool::new(false);
    let is_done = || done.load(Ordering::SeqCst);
    let before = resident();
    let (tally, most, (flaps, ended)) = tokio::join!(
        logins_until(&world, is_done),
        most_in_a_second(&wire, is_done),
        async {
            let (mut flaps, mut ended) = (0, began);
            while began.elapsed() < time || flaps < 3 {
                redis.kill();
                tokio::time::sleep(Duration::from_secs(1)).await;
                // A slow machine needs longer for as many reads as it takes to notice.
                let open = [("dependency", "state")];
                let end = Instant::now() + recovery_max();
                while world.metric("riskgate_breaker_state", &open).await < 0.5
                    && Instant::now() < end
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                ended = Moment::now();
                redis.restart();
                tokio::time::sleep(Duration::from_secs(1)).await;
                flaps += 1;
            }
            // The way back needs somebody who asks.
            let is_back = async || {
                let breaker = table::breaker(&world, began, Some(ended)).await;
                breaker.opened.is_some() && breaker.closed.is_some()
            };
            while !is_back().await && ended.elapsed() < recovery_max() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            done.store(true, Ordering::SeqCst);
            (flaps, ended)
        }
    );
    let grown = resident() - before;
    eprintln!(
        "redis flaps every 2 s: {flaps} times in {time:?}; at most {most} connections in a second, the gateway grew by {:.1} MiB, and by {:.1} MiB before",
        grown as f64 / 1_048_576.0,
        (before - fresh) as f64 / 1_048_576.0
    );
    let breaker = table::breaker(&world, began, Some(ended)).await;
    tally.print(
        &format!("flapping every 2 s for {} s", time.as_secs()),
        breaker,
    );
    assert!(flaps >= 3 && tally.stateless_share() < 1.0, "{flaps} flaps");
    let back = breaker.closed.is_none_or(|time| time <= recovery_max());
    assert!(breaker.opened.is_some() && back, "{breaker:?}");
    assert!(most <= CONNECTS_MAX, "{most} connections in a second");
    assert!(
        time < WARM_UP || grown <= GROWTH_MAX,
        "grown by {grown} bytes"
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
        "sentinel monitor mymaster 127.0.0.1 {port} 1\nsentinel down-after-milliseconds mymaster 1500\nsentinel failover-timeout mymaster 3000\n",
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
    let end = Instant::now() + Duration::from_secs(120);
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
    let killed = Moment::now();
    first.kill();
    let promoted = || told(&second, &[b"INFO", b"replication"], "role:master");
    let tally = logins_until(&world, || {
        promoted() || killed.elapsed() > Duration::from_secs(150)
    })
    .await;
    let ended = Moment::now();
    let failover = killed.elapsed();
    let after = recovered(&world).await;
    eprintln!(
        "sentinel failover: another master after {failover:?}, scored as before {after:?} later"
    );
    let breaker = table::breaker(&world, killed, Some(ended)).await;
    tally.print("Sentinel failover", breaker);
    assert!(
        breaker.opened.is_some_and(|time| time <= open_max()),
        "{breaker:?}"
    );
    assert!(promoted() && after <= recovery_max(), "{after:?}");
}

/// Of a cluster's requests at most one in a thousand may lose its history to a slot that moves, while every slot in use
/// moves. `make faults` holds the shipped times to that. Elsewhere, on machines that bring reads late without any moves, it
/// is the way that must not be lost: the gateway waits longer. What counts is what the moves add; the measurement is made
/// again, twice at most: a client that loses its way loses it every time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_its_slots() {
    const SHARE_MAX: f64 = 0.001;
    const REQUESTS_MIN: usize = 1_000;
    const LONGEST: Duration = Duration::from_secs(120);
    let _alone = alone().await;
    let servers = Arc::new(RedisServer::start_cluster());
    let config = format!(
        "state.url = \"redis+cluster://127.0.0.1:{}\"\n",
        servers[0].port()
    );
    let world = world(&config).await;
    recovered(&world).await;
    let time = seconds(10);
    let mut added = Vec::new();
    for _ in 0..3 {
        let began = Moment::now();
        let still = many(&world, || began.elapsed() > time / 2).await.tally();
        let began = Moment::now();
        let enough = Arc::new(AtomicBool::new(false));
        let moves = move_slots(&servers, &enough);
        let (phase, ()) = tokio::join!(many(&world, || moves.is_finished()), async {
            // A slow machine needs longer for as many requests.
            let decisions = async || world.metric("riskgate_decision_seconds_count", &[]).await;
            let before = decisions().await;
            while began.elapsed() < time
                || decisions().await - before < REQUESTS_MIN as f64 && began.elapsed() < LONGEST
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            enough.store(true, Ordering::SeqCst);
        });
        let moved = moves.join().expect("the moves end well");
        phase.assert_marked();
        assert!(phase.causes("unscored").is_empty());
        let tally = phase.tally();
        let breaker = table::breaker(&world, began, Some(Moment::now())).await;
        still.print("cluster: at rest", Breaker::default());
        tally.print(&format!("cluster: {moved} slots in use moved"), breaker);
        assert!(
            tally.requests >= REQUESTS_MIN && moved >= 100,
            "{} requests, {moved} slots",
            tally.requests
        );
        added.push(tally.stateless_share() - still.stateless_share());
        if added.iter().any(|share| *share <= SHARE_MAX) {
            recovered(&world).await;
            return;
        }
    }
    panic!("moves cost {added:?} of the requests their history");
}

/// Moves every slot in which there are keys from its master to the next one, again and again, as `redis-cli` does it; says
/// how many moves there were.
fn move_slots(servers: &Arc<Vec<RedisServer>>, enough: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (servers, enough) = (Arc::clone(servers), Arc::clone(enough));
    std::thread::spawn(move || {
        let ids: Vec<String> = servers
            .iter()
            .map(|server| lines(server, "CLUSTER MYID").remove(0))
            .collect();
        let mut moved = 0;
        for turn in 0.. {
            let (from, to) = (turn % 3, (turn + 1) % 3);
            let slots: BTreeSet<String> = lines(&servers[from], "KEYS rg:*")
                .iter()
                .flat_map(|key| lines(&servers[from], &format!("CLUSTER KEYSLOT {key}")))
                .collect();
            for slot in slots {
                if enough.load(Ordering::SeqCst) {
                    return moved;
                }
                let at = |server: usize, text: &str| {
                    let answer = lines(&servers[server], text);
                    assert_eq!(answer, ["OK"], "{text}");
                };
                let slot = slot.trim_start_matches(':');
                let importing = format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[from]);
                let answer = lines(&servers[to], &importing);
                // The nodes have not told each other everything yet: what is there already needs no move.
                if answer.iter().any(|line| line.contains("already the owner")) {
                    continue;
                }
                assert_eq!(answer, ["OK"], "{importing}");
                let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[to]);
                let answer = lines(&servers[from], &migrating);
                // Or the other way round: it is at the third node by now.
                if answer.iter().any(|line| line.contains("not the owner")) {
                    at(to, &format!("CLUSTER SETSLOT {slot} STABLE"));
                    continue;
                }
                assert_eq!(answer, ["OK"], "{migrating}");
                for key in lines(&servers[from], &format!("CLUSTER GETKEYSINSLOT {slot} 100")) {
                    let port = servers[to].port();
                    // A key that has ended meanwhile is no error.
                    lines(
                        &servers[from],
                        &format!("MIGRATE 127.0.0.1 {port} {key} 0 1000"),
                    );
                }
                for server in [to, from, (turn + 2) % 3] {
                    at(server, &format!("CLUSTER SETSLOT {slot} NODE {}", ids[to]));
                }
                moved += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        moved
    })
}

/// The lines of an answer, without those that say how long others are.
fn lines(server: &RedisServer, command: &str) -> Vec<String> {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let answer = server.command(&words);
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines()
        .filter(|line| !line.starts_with(['*', '$']))
        .map(|line| line.trim().trim_start_matches('+').to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_the_place_of_a_master() {
    let _alone = alone().await;
    let mut servers = RedisServer::start_cluster();
    let replica = servers[2].start_cluster_replica();
    RedisServer::fail_over_soon(&servers);
    RedisServer::fail_over_soon(std::slice::from_ref(&replica));
    let world = on(&format!("redis+cluster://127.0.0.1:{}", servers[0].port())).await;
    recovered(&world).await;
    let killed = Moment::now();
    servers[2].kill();
    let promoted = || {
        let answer = replica.command(&[b"INFO", b"replication"]);
        String::from_utf8_lossy(&answer).contains("role:master")
    };
    let is_over = || promoted() || killed.elapsed() > Duration::from_secs(150);
    let tally = logins_until(&world, is_over).await;
    let ended = Moment::now();
    let failover = killed.elapsed();
    let after = recovered(&world).await;
    eprintln!(
        "cluster failover: another master after {failover:?}, scored as before {after:?} later"
    );
    let breaker = table::breaker(&world, killed, Some(ended)).await;
    tally.print("cluster: a master dies, its replica takes over", breaker);
    assert!(promoted() && after <= recovery_max(), "{after:?}");
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
    // What the gateway keeps for a minute is there as well, of as many names as the machine tries in one.
    let own_max = if is_measured() { 16.0 } else { 64.0 };
    assert!(
        redis_mib < 2.0 && own_mib < own_max,
        "{redis_mib} {own_mib}"
    );
}
