//! Authorities that are exchanged while connections to Redis are open: each is made anew, and no call is lost for it.

use crate::facts::*;
use crate::redis::connect;
use crate::redis_server::RedisServer;
use rcgen::CertifiedKey;
use rcgen::KeyPair;
use riskgate::adapters::redis::RedisAuthorities;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::redis::RedisStore;
use riskgate::adapters::redis::RedisStream;
use riskgate::adapters::redis::RedisTls;
use riskgate::domain::trail::foreign::StreamId;
use riskgate::flow::ports::RecordStream;
use riskgate::flow::ports::StateError;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// How long a machine that is busy may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who writes and reads meanwhile.
const CALLERS: u64 = 4;
/// Calls before the exchange, and after it, of all of them.
const CALLS: u64 = 200;

fn certified() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// A server with TLS, and its authority.
fn server() -> (TempDir, RedisServer, String) {
    let folder = tempfile::tempdir().unwrap();
    let made = certified();
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = RedisServer::start_tls(&certificate, &key, &certificate);
    (folder, server, made.cert.pem())
}

fn settings(authorities: &RedisAuthorities) -> RedisSettings {
    RedisSettings {
        tls: RedisTls {
            authorities: authorities.clone(),
            client: None,
        },
        ..patient()
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes, and reads what it wrote, until it is told to end.
async fn call(store: Arc<RedisStore>, n: u64, calls: Arc<AtomicU64>, done: Arc<AtomicBool>) {
    let mut written = 0;
    while !done.load(Ordering::Relaxed) {
        store.record(&[learnt(lesson(n, START))]).await.unwrap();
        written += 1;
        let found = store.load(&query(n, START)).await.unwrap();
        assert!(found.profile.is_some(), "after {written}");
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_made_anew_under_another_trust_and_no_call_is_lost() {
    let (_folder, server, ours) = server();
    let authorities = RedisAuthorities::of(ours.clone().into_bytes());
    let store = Arc::new(connect(&server, settings(&authorities)));
    let (calls, done) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (1..=CALLERS)
        .map(|n| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(call(store, n, Arc::clone(&calls), done))
        })
        .collect();
    let made = async |more: u64| {
        let wanted = calls.load(Ordering::Relaxed) + more;
        until("calls", async || {
            // Who has failed is seen below, and at once.
            calls.load(Ordering::Relaxed) >= wanted || callers.iter().any(|call| call.is_finished())
        })
        .await;
    };
    made(CALLS).await;
    for round in 0..3 {
        let before = server.peers();
        assert!(!before.is_empty());
        let other = certified().cert.pem();
        authorities.exchange(Some(format!("{ours}{other}").into_bytes()));
        made(CALLS).await;
        until("the old connections end", async || {
            server.peers().is_disjoint(&before)
        })
        .await;
        assert!(!server.peers().is_empty(), "round {round}");
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }

    // Whoever is trusted no more is asked no more, though a connection to him is open.
    authorities.exchange(Some(certified().cert.pem().into_bytes()));
    until("the connection is given up", async || {
        let refused = store.load(&query(1, START)).await;
        matches!(refused, Err(StateError::Unavailable(why)) if why.contains("state.redis_ca_file"))
    })
    .await;
    until("the connection ends", async || server.peers().is_empty()).await;
    // And again, when he is.
    authorities.exchange(Some(ours.into_bytes()));
    until("the connection is back", async || {
        let found = store.load(&query(1, START)).await;
        found.is_ok_and(|found| found.profile.is_some())
    })
    .await;
}

#[tokio::test]
async fn the_stream_of_the_fleet_is_trusted_anew_as_well() {
    let (_folder, server, ours) = server();
    let authorities = RedisAuthorities::of(ours.clone().into_bytes());
    let stream = RedisStream::connect(&server.url(), settings(&authorities), "fleet", 1_000);
    let stream = stream.unwrap();
    stream.up_to(StreamId::LAST, 1).await.unwrap();
    let before = server.peers();
    assert_eq!(before.len(), 1);
    let other = certified().cert.pem();
    authorities.exchange(Some(format!("{ours}{other}").into_bytes()));
    // Without a call: nobody has to come for the old connection to end.
    until("another connection", async || {
        let peers = server.peers();
        !peers.is_empty() && peers.is_disjoint(&before)
    })
    .await;
    stream.up_to(StreamId::LAST, 1).await.unwrap();
    authorities.exchange(Some(other.into_bytes()));
    until("no connection", async || server.peers().is_empty()).await;
    assert!(stream.up_to(StreamId::LAST, 1).await.is_err());
}
