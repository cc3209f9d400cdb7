//! Three real masters: entities in their slots, slots that are on their way, a master that is replaced. Nothing is lost
//! and nothing counts twice.

use crate::facts::*;
use crate::redis::keys;
use crate::redis::teach_everything;
use crate::redis::text;
use crate::redis_server::RedisServer;
use riskgate::adapters::redis::RedisStore;
use riskgate::domain::history::History;
use riskgate::domain::history::HistoryQuery;
use riskgate::flow::ports::StateStore;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

pub fn url(servers: &[RedisServer]) -> String {
    format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        servers[0].port(),
        servers[1].port()
    )
}

fn id(server: &RedisServer) -> String {
    let answer = text(&server.command(&[b"CLUSTER", b"MYID"]));
    answer.lines().nth(1).expect("an id").trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_entities_from_their_slots() {
    let servers = RedisServer::start_cluster();
    let store = RedisStore::connect(&url(&servers), patient()).unwrap();
    let asked = teach_everything(&store).await;
    for n in 2..40 {
        let learnt = learnt(lesson(n, START));
        let tried = tried(attempt(n, true, true), START);
        store.record(&[learnt, tried]).await.unwrap();
    }
    let history = store.load(&asked).await.unwrap();
    assert_eq!(history.links.len(), 1);
    close(history.address.attempts_24h, 39.0);
    close(history.address.trusted_subjects, 39.0);
    for n in 1..40 {
        let history = store.load(&query(n, START)).await.unwrap();
        assert_eq!(history.profile.unwrap().successes, 1, "{n}");
    }
    assert_eq!(store.population().await.unwrap().total, 39);
    assert!(
        servers.iter().all(|server| !keys(server).is_empty()),
        "every node has its part"
    );
    assert_ne!(history, History::default());
    // A value of another type is as good as none, as it is without a cluster.
    let profile = |name: &String| name.starts_with("rg:1:profile:");
    for server in &servers {
        for name in keys(server).iter().filter(|name| profile(name)) {
            server.command(&[b"DEL", name.as_bytes()]);
            server.command(&[b"SADD", name.as_bytes(), b"member"]);
        }
    }
    assert_eq!(store.load(&asked).await.unwrap().profile, None);
}

/// A slot of which some keys are here and some there: each is read where it is, and what is counted counts once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_on_its_way_is_read_and_written_on_both_sides() {
    let servers = RedisServer::start_cluster();
    let store = Arc::new(RedisStore::connect(&url(&servers), patient()).unwrap());
    let asked = teach_everything(&store).await;
    let before = store.load(&asked).await.unwrap();
    assert!(before.profile.is_some() && before.subject.failures_10m > 0.9);
    let name_in = |server: &RedisServer| {
        let mut names = keys(server).into_iter();
        names.find(|name| name.starts_with("rg:1:profile:"))
    };
    let source = servers.iter().find(|server| name_in(server).is_some());
    let source = source.expect("the profile is somewhere");
    let target = servers
        .iter()
        .find(|server| server.port() != source.port())
        .expect("another master");
    let name = name_in(source).expect("a key");
    let slot = text(&source.command(&[b"CLUSTER", b"KEYSLOT", name.as_bytes()]));
    let slot = slot.trim().trim_start_matches(':').to_owned();
    let set_slot = |server: &RedisServer, words: &[&str]| {
        let words = ["CLUSTER", "SETSLOT", &slot]
            .into_iter()
            .chain(words.iter().copied());
        let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
        assert_eq!(text(&server.command(&words)), "+OK\r\n");
    };
    set_slot(target, &["IMPORTING", &id(source)]);
    set_slot(source, &["MIGRATING", &id(target)]);
    // Names of the slot that nobody has are asked for on the other side.
    assert_eq!(store.load(&asked).await.unwrap(), before);
    let port = target.port().to_string();
    let migrate = ["MIGRATE", "127.0.0.1", &port, &name, "0", "5000"];
    let migrate: Vec<&[u8]> = migrate.iter().map(|word| word.as_bytes()).collect();
    assert_eq!(text(&source.command(&migrate)), "+OK\r\n");
    assert_eq!(store.load(&asked).await.unwrap(), before);
    // The profile is changed over there.
    for _ in 0..5 {
        store.record(&[learnt(lesson(1, START))]).await.unwrap();
    }
    let history = store.load(&asked).await.unwrap();
    assert_eq!(history.profile.as_ref().map(|p| p.successes), Some(6));
    // A script over several names of the slot has to wait for the end of the move; what is in the same batch and did not
    // have to wait counts once.
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.record(&[tried(attempt(1, true, true), START)]).await })
    };
    tokio::time::sleep(Duration::from_millis(30)).await;
    for name in keys(source) {
        let of = text(&source.command(&[b"CLUSTER", b"KEYSLOT", name.as_bytes()]));
        if of.trim().trim_start_matches(':') == slot {
            let migrate = ["MIGRATE", "127.0.0.1", &port, &name, "0", "5000"];
            let migrate: Vec<&[u8]> = migrate.iter().map(|word| word.as_bytes()).collect();
            source.command(&migrate);
        }
    }
    // Every master is told, as `redis-cli --cluster` does: word from node to node takes its time.
    let others = servers
        .iter()
        .filter(|server| ![source.port(), target.port()].contains(&server.port()));
    for server in [target, source].into_iter().chain(others) {
        set_slot(server, &["NODE", &id(target)]);
    }
    waiting.await.unwrap().unwrap();
    let history = store.load(&asked).await.unwrap();
    assert_eq!(history.profile.as_ref().map(|p| p.successes), Some(6));
    close(history.subject.failures_10m, 2.0);
    close(history.address.attempts_24h, 2.0);
}

/// Real moves of slots, made by `redis-cli`, under two nodes that read and write: no read fails, every count is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_stay_exact_while_slots_move() {
    const NAMES: u64 = 60;
    let servers = RedisServer::start_cluster();
    let stores: Vec<_> = (0..2)
        .map(|_| Arc::new(RedisStore::connect(&url(&servers), patient()).unwrap()))
        .collect();
    let ids: Vec<String> = servers.iter().map(id).collect();
    let address = format!("127.0.0.1:{}", servers[0].port());
    let done = Arc::new(AtomicBool::new(false));
    let moves = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            for moved in 0..3 {
                let status = Command::new("redis-cli")
                    .args(["--cluster", "reshard", &address, "--cluster-yes"])
                    .args(["--cluster-from", &ids[moved % 3]])
                    .args(["--cluster-to", &ids[(moved + 1) % 3]])
                    .args(["--cluster-slots", "1500"])
                    .stdout(Stdio::null())
                    .status();
                assert!(status.expect("redis-cli runs").success(), "move {moved}");
            }
            done.store(true, Ordering::SeqCst);
        })
    };
    let tasks: Vec<_> = stores
        .iter()
        .map(|store| {
            let (store, done) = (Arc::clone(store), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut rounds, mut took) = (0_u32, Vec::new());
                while rounds < 3 || !done.load(Ordering::SeqCst) {
                    let batch: Vec<_> = (0..NAMES)
                        .flat_map(|n| {
                            [
                                learnt(lesson(n, START)),
                                tried(attempt(n, true, true), START),
                            ]
                        })
                        .collect();
                    store.record(&batch).await.unwrap();
                    for n in 0..NAMES {
                        let started = Instant::now();
                        store.load(&query(n, START)).await.unwrap();
                        took.push(started.elapsed());
                    }
                    rounds += 1;
                }
                (rounds, took)
            })
        })
        .collect();
    let (mut rounds, mut took) = (0, Vec::new());
    for task in tasks {
        let (more, times) = task.await.unwrap();
        rounds += more;
        took.extend(times);
    }
    took.sort();
    moves.join().unwrap();
    for n in 0..NAMES {
        let history = stores[0].load(&query(n, START)).await.unwrap();
        assert_eq!(history.profile.unwrap().successes, rounds, "{n}");
        close(history.subject.failures_10m, rounds as f32);
    }
    let seen = stores[1].load(&query(0, START)).await.unwrap();
    close(
        seen.address.attempts_24h,
        (u64::from(rounds) * NAMES) as f32,
    );
    let late = took
        .iter()
        .filter(|took| **took > settings().response_timeout);
    eprintln!(
        "4,500 slots moved under {rounds} rounds of {NAMES} logins: every count is exact; {} reads, median {:.1?}, p99 {:.1?}, slowest {:.1?}, {} later than they may be",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
        late.count()
    );
}

/// A master dies and its replica takes its place: the store finds it by itself, without the dead one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_the_place_of_a_master() {
    let mut servers = RedisServer::start_cluster();
    let store = RedisStore::connect(&url(&servers), patient()).unwrap();
    for n in 1..10 {
        store.record(&[learnt(lesson(n, START))]).await.unwrap();
    }
    let replica = servers[2].start_cluster_replica();
    RedisServer::fail_over_soon(&servers);
    RedisServer::fail_over_soon(std::slice::from_ref(&replica));
    servers[2].kill();
    let started = Instant::now();
    let asked: Vec<HistoryQuery> = (1..10).map(|n| query(n, START)).collect();
    'again: loop {
        assert!(started.elapsed() < Duration::from_secs(120), "no failover");
        tokio::time::sleep(Duration::from_millis(50)).await;
        for query in &asked {
            match store.load(query).await {
                Ok(history) => assert_eq!(history.profile.unwrap().successes, 1),
                Err(_) => continue 'again,
            }
        }
        break;
    }
    eprintln!(
        "cluster: all of it served again {:?} after a master died",
        started.elapsed()
    );
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
}

/// What belongs to the masters that are there is learnt, all of it: profiles as well as counts. That a part was lost is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_is_learnt_while_a_master_is_away() {
    let mut servers = RedisServer::start_cluster();
    let store = RedisStore::connect(&url(&servers), patient()).unwrap();
    let mut batch = Vec::new();
    for n in 1..40 {
        batch.push(learnt(lesson(n, START)));
        batch.push(tried(attempt(n, true, true), START));
    }
    store.record(&batch).await.unwrap();
    let sorted = |server: &RedisServer| {
        let mut keys = keys(server);
        keys.sort();
        keys
    };
    let before = [sorted(&servers[0]), sorted(&servers[1])];
    for (server, keys) in servers.iter().zip(&before) {
        let profiles = keys.iter().filter(|key| key.starts_with("rg:1:profile:"));
        assert!(profiles.count() > 3, "{keys:?}");
        server.command(&[b"FLUSHALL"]);
    }
    servers[2].kill();
    let told = store.record(&batch).await;
    assert!(told.is_err(), "a part of it is lost");
    assert_eq!([sorted(&servers[0]), sorted(&servers[1])], before);
    // Once more on a line that is known to be gone.
    for server in &servers[..2] {
        server.command(&[b"FLUSHALL"]);
    }
    assert!(store.record(&batch).await.is_err());
    assert_eq!([sorted(&servers[0]), sorted(&servers[1])], before);
}
