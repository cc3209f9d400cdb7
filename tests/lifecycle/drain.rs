//! The end of a node under traffic, with another one beside it and clients that go where a balancer would lead them.

use crate::client::Client;
use crate::gateway::Http2;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::always;
use crate::load;
use crate::load::NUMBER;
use crate::load::Plan;
use crate::load::alone;
use crate::load::scaled;
use crate::reload::until_recorded;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_ends_loses_no_request() {
    let _alone = alone().await;
    let requests = scaled(2_000, 100_000);
    let mut world = World::start(Options {
        mode: "enforce",
        // The load looks like a stolen secret, sooner or later by how quick the machine is.
        policy: Some(always("allow")),
        config: "limits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0\nserver.drain_seconds = 5\nserver.grace_seconds = 300",
        ..Options::default()
    })
    .await;
    world.sim.set_response_delay(Duration::from_millis(5));
    let other = world.another_node().await;
    // A balancer in miniature: it asks every node for its readiness, ten times a second, and leads new connections to
    // those that are ready, in turn.
    let (first, second) = (
        Arc::new(AtomicU16::new(world.port)),
        Arc::new(AtomicU16::new(other.port)),
    );
    let turn = AtomicU64::new(0);
    let nodes = {
        let (first, second) = (Arc::clone(&first), Arc::clone(&second));
        Arc::new(move || {
            let ready = [&first, &second].map(|port| port.load(Ordering::Relaxed));
            let place = turn.fetch_add(1, Ordering::Relaxed) % 2;
            match ready[usize::try_from(place).expect("0 or 1")] {
                0 => ready[0].max(ready[1]),
                port => port,
            }
        })
    };
    let admin_port = world.admin_port;
    let balancer = tokio::spawn({
        let first = Arc::clone(&first);
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let url = format!("http://127.0.0.1:{admin_port}/health/ready");
                let ready = reqwest::get(url)
                    .await
                    .is_ok_and(|answer| answer.status() == 200);
                if !ready {
                    first.store(0, Ordering::Relaxed);
                }
            }
        }
    });
    let load = Plan {
        clients: 8,
        fresh: false,
        tls: None,
        nodes,
        requests,
    }
    .start();
    load.until(requests / 3).await;
    let start = Instant::now();
    world.signal("TERM");
    let code = world.ended().await;
    let took = start.elapsed();
    let tally = load.end().await;
    balancer.abort();
    assert_eq!(code, Some(0), "{}", world.log());
    tally.assert_all_answered(&world.log());
    // 5 s of draining, then a second for connections that stay idle, and the end of what is under way; the minutes that requests
    // have are more than the harness waits.
    // The identity server has seen each request once; one that was repeated on a closed connection had not arrived.
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for request in world.received() {
        if let Some(number) = request.header_values(NUMBER).first() {
            *seen.entry((*number).to_owned()).or_default() += 1;
        }
    }
    let twice = seen.values().filter(|count| **count > 1).count();
    assert_eq!((seen.len() as u64, twice), (requests, 0));
    // Each has left a record, at one node or the other; the first wrote its last before it ended.
    let end = Instant::now() + PATIENCE;
    loop {
        let recorded = (crate::reload::records(&world).len() + other.records().len()) as u64;
        if recorded == requests {
            break;
        }
        assert!(
            recorded < requests && Instant::now() < end,
            "{recorded} records"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(other.is_ready().await, "{}", other.log());
    load::row(
        "R20",
        &format!(
            "requests while a node ends (in {took:.1?}); {} asked again on another connection",
            tally.idle.load(Ordering::Relaxed)
        ),
        requests,
        0,
        tally.lost() + twice as u64,
    );
}

/// It drains for longer than any test takes: whatever ends meanwhile has not been ended by the time.
#[tokio::test(flavor = "multi_thread")]
async fn while_it_drains_a_node_answers_and_parts_with_its_connections() {
    let mut world = World::start(Options {
        config: "server.drain_seconds = 3600\nserver.grace_seconds = 10",
        ..Options::default()
    })
    .await;
    let keys = load::request(1);
    let mut busy = Client::new(world.port, None);
    assert!(!busy.exchange(&keys).await.expect("an answer").closes());
    let mut idle = Client::new(world.port, None);
    assert!(!idle.exchange(&keys).await.expect("an answer").closes());
    world.signal("TERM");
    let end = Instant::now() + PATIENCE;
    while world.admin("/health/ready").await.0 != 503 {
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Old and new connections are served, once each; one that has been idle meanwhile as well.
    assert!(busy.exchange(&keys).await.expect("an answer").closes());
    let mut fresh = Client::new(world.port, None);
    assert!(fresh.exchange(&keys).await.expect("an answer").closes());
    let answer = idle.exchange(&keys).await.expect("an answer");
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    assert_eq!(until_recorded(&world, 5).await.len(), 5);
    world.signal("TERM");
    assert_eq!(world.ended().await, Some(0), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_drain_time_nobody_new_is_let_in() {
    let mut world = World::start(Options {
        config: "server.drain_seconds = 1\nserver.grace_seconds = 3600",
        ..Options::default()
    })
    .await;
    // It has a request under way, and so does not end by itself.
    world.sim.set_response_delay(Duration::from_secs(3600));
    let mut under_way = Client::new(world.port, None);
    let keys = load::request(1);
    let under_way = async {
        drop(under_way.exchange(&keys).await);
    };
    let refused = async {
        until_received(&world, 1).await;
        world.signal("TERM");
        let end = Instant::now() + PATIENCE;
        while Client::new(world.port, None).connect().await.is_ok() {
            assert!(Instant::now() < end, "still accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(world.log().contains("requests under way may end"));
    };
    tokio::select! {
        () = refused => {}
        () = under_way => panic!("the request was cut off: {}", world.log()),
    }
    world.signal("TERM");
    assert_eq!(world.ended().await, Some(0), "{}", world.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_and_the_client_is_told_to_go_away() {
    let mut world = World::start(Options {
        tls: true,
        config: "server.drain_seconds = 0\nserver.grace_seconds = 300",
        ..Options::default()
    })
    .await;
    world.sim.set_response_delay(Duration::from_millis(1_500));
    let connection = Http2::connect(&world).await;
    let (world_ref, asked) = (&world, &connection);
    let answers = async {
        let one = asked.send(world_ref, "GET", "/oauth2/jwks", &[], "", 1);
        let two = asked.send(world_ref, "GET", "/oauth2/jwks", &[], "", 1);
        tokio::join!(one, two)
    };
    let end = async {
        until_received(world_ref, 2).await;
        world_ref.signal("TERM");
    };
    let ((one, two), ()) = tokio::join!(answers, end);
    assert_eq!((one.status, two.status), (200, 200));
    // Sooner than the harness waits, and so than the time that streams have.
    assert_eq!(world.ended().await, Some(0), "{}", world.log());
    assert!(
        connection.is_over().await,
        "GOAWAY has ended the connection"
    );
}

/// Waits until so many requests of clients are under way at the identity server.
async fn until_received(world: &World, count: usize) {
    let end = Instant::now() + PATIENCE;
    while world.received().len() < count {
        assert!(Instant::now() < end, "{:#?}", world.received());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once() {
    // In the drain time, and in the time for requests under way.
    for (config, stage) in [
        ("server.drain_seconds = 300", "draining"),
        (
            "server.drain_seconds = 1\nserver.grace_seconds = 300",
            "requests under way may end",
        ),
    ] {
        let mut world = World::start(Options {
            config,
            ..Options::default()
        })
        .await;
        world.sim.set_response_delay(Duration::from_secs(120));
        let port = world.port;
        let hangs = tokio::spawn(async move {
            let mut client = Client::new(port, None);
            client.exchange(&load::request(1)).await.is_ok()
        });
        until_received(&world, 1).await;
        world.signal("TERM");
        let end = Instant::now() + PATIENCE;
        while !world.log().contains(stage) {
            assert!(Instant::now() < end, "{}", world.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.signal("TERM");
        // The harness waits for less than the time that there is.
        assert_eq!(world.ended().await, Some(0), "{}", world.log());
        assert!(world.log().contains("a second SIGTERM"), "{}", world.log());
        assert!(!hangs.await.expect("a client"), "it was cut off");
        let records = until_recorded(&world, 1).await;
        assert_eq!(records.len(), 1, "what was cut off is recorded");
        assert_eq!(records[0].outcome, "abandoned", "{:?}", records[0]);
    }
}
