//! A panic in a hook costs one request. The gateway of a debug build panics where a request asks for it.

use crate::client::Client;
use crate::gateway::Http2;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::always;
use crate::load;
use crate::load::Plan;
use crate::load::scaled;
use crate::reload::until_recorded;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The hooks in which it can be asked for.
const HOOKS: [&str; 4] = [
    "request_filter",
    "upstream_request_filter",
    "response_filter",
    "response_body_filter",
];

fn asking(hook: &str) -> Vec<u8> {
    format!("GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\nX-Riskgate-Fault: {hook}\r\n\r\n")
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_hook_costs_one_request() {
    let world = World::start(Options {
        mode: "enforce",
        // The load looks like a stolen secret, sooner or later by how quick the machine is.
        policy: Some(always("allow")),
        config: "limits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0",
        ..Options::default()
    })
    .await;
    let load = Plan::keeping(3, world.port).start();
    load.until(50).await;
    let rounds = scaled(3, 200);
    // An optimised build has no such points: whoever asks is served.
    let wanted = if cfg!(debug_assertions) { 500 } else { 200 };
    let mut asked = 0;
    for _ in 0..rounds {
        for hook in HOOKS {
            let mut client = Client::new(world.port, None);
            let answer = client.exchange(&asking(hook)).await;
            // Once the head of the answer is out, all that is left is to break it off.
            match answer {
                Ok(answer) => assert_eq!(answer.status, wanted, "{hook}: {answer:?}"),
                Err(failure) => assert_eq!(hook, "response_body_filter", "{failure:?}"),
            }
            asked += 1;
        }
    }
    load.until(200).await;
    let tally = load.end().await;
    tally.assert_all_answered(&world.log());
    let panics = world.metric("riskgate_panics_total", &[]).await;
    let points = if wanted == 500 { asked as f64 } else { 0.0 };
    assert!((panics - points).abs() < 0.5, "{panics} of {points}");
    let answered = tally.answered.load(Ordering::Relaxed);
    let records = until_recorded(&world, answered + asked).await;
    assert_eq!(
        records.len() as u64,
        answered + asked,
        "each leaves its record"
    );
    assert_eq!(world.admin("/health/ready").await.0, 200);
    load::row(
        "R28",
        "panics in hooks, and the requests beside them",
        asked + answered,
        asked,
        tally.lost(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_streams_of_a_connection_live_on() {
    let world = World::start(Options {
        tls: true,
        ..Options::default()
    })
    .await;
    world.sim.set_response_delay(Duration::from_millis(400));
    let connection = Http2::connect(&world).await;
    for hook in HOOKS {
        let fault = [("x-riskgate-fault", hook)];
        let beside = async |pause| {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            connection
                .send(&world, "GET", "/oauth2/jwks", &[], "", 1)
                .await
        };
        let broken = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.expect_record();
            connection.try_send("GET", "/oauth2/jwks", &fault).await
        };
        let (before, broken, after) = tokio::join!(beside(0), broken, beside(200));
        assert_eq!((before.status, after.status), (200, 200), "{hook}");
        let is_whole = broken == Some(200);
        assert_ne!(is_whole, cfg!(debug_assertions), "{hook}: {broken:?}");
    }
    assert_eq!(world.records().await.len(), 3 * HOOKS.len());
}
