//! The identity server is down, hangs or breaks off: the one failure that no login survives. The client hears of it at
//! once and in its own form, and nobody else waits.

use crate::gateway::Answer;
use crate::gateway::World;
use crate::traffic::alone;
use crate::traffic::bar;
use crate::traffic::join_all;
use crate::traffic::recovered;
use crate::traffic::world;
use crate::wire::Closed;
use crate::wire::Wire;
use reqwest::Method;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wso2_sim::Outage;
use wso2_sim::Sim;
use wso2_sim::SimConfig;

/// How long the gateway waits for an answer of a door that hangs.
const HANG: Duration = Duration::from_secs(12);
const ERRORS: &str = "riskgate_upstream_errors_total";
const AUTHORIZE: &str = "/oauth2/authorize?response_type=code&client_id=demo-web&redirect_uri=https://app.example.com/cb&scope=openid";
const CREDENTIALS: [(&str, &str); 2] = [("grant_type", "client_credentials"), ("scope", "read")];

/// How soon a client is told: within a second in `make faults`. A gateway that waits for answers waits for a minute.
fn at_once() -> Duration {
    bar(Duration::from_secs(1), Duration::from_secs(15))
}

/// What each kind of client gets when the identity server fails: a status, and when to try again.
async fn assert_told(world: &World, status: u16, kind: &str, within: Duration) {
    for (form, door) in [
        ("page", Some("authorize")),
        ("oauth", Some("token")),
        ("api", Some("authn")),
        ("page", None),
    ] {
        let mark = world.mark().await;
        let errors = world.metric(ERRORS, &[("kind", kind)]).await;
        let start = Instant::now();
        let answer = match door {
            Some("authorize") => world.get(AUTHORIZE).await,
            Some("token") => {
                world
                    .post("/oauth2/token", Some("demo-service"), &CREDENTIALS)
                    .await
            }
            Some(_) => {
                let body = serde_json::json!({ "flowId": "f", "selectedAuthenticator": { "authenticatorId": "a" } });
                let request = world
                    .request(Method::POST, "/oauth2/authn")
                    .header("content-type", "application/json");
                world.send(request.body(body.to_string())).await
            }
            None => world.get("/oauth2/jwks").await,
        };
        let took = start.elapsed();
        eprintln!(
            "identity server {kind}, {}: {status} after {took:.1?}",
            door.unwrap_or("unscored route")
        );
        assert!(took < within, "{took:?}");
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_form(&answer, form);

        let record = world.record_since(mark).await;
        assert_eq!(
            (record.door.as_deref(), record.response_status),
            (door, status),
            "{record:?}"
        );
        assert_eq!(
            (&*record.outcome, record.error.as_deref()),
            ("upstream_error", Some(kind)),
            "{record:?}"
        );
        let counted = world.metric(ERRORS, &[("kind", kind)]).await - errors;
        assert!((counted - 1.0).abs() < 0.5, "{counted}");
    }
}

fn assert_form(answer: &Answer, form: &str) {
    let json = answer.json();
    match form {
        "page" => {
            assert_eq!(
                answer.header("content-type"),
                Some("text/html; charset=utf-8")
            );
            assert!(
                answer.body.contains("<h1>Sign-in is not available</h1>"),
                "{}",
                answer.body
            );
        }
        "oauth" => assert_eq!(json["error"], "temporarily_unavailable"),
        _ => {
            assert_eq!(json["code"], format!("RG-{}", answer.status));
            assert!(json["traceId"].is_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_server_is_down_and_comes_back() {
    let _alone = alone().await;
    let closed = Closed::port();
    let listen = closed.address();
    let mut world = world(&format!("upstream.url = 'http://{listen}'\n")).await;
    assert_told(&world, 502, "connect_refused", at_once()).await;

    drop(closed);
    let config = SimConfig {
        listen,
        public_url: Some(world.url.clone()),
        ..SimConfig::default()
    };
    world.sim = Sim::start(config).await.expect("the simulator starts");
    eprintln!(
        "identity server is back: a login after {:?}",
        recovered(&world).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_server_accepts_and_says_nothing() {
    let _alone = alone().await;
    // The system accepts connections for a listener that nobody asks for them.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = mute.local_addr().expect("its address");
    let world = world(&format!(
        "upstream.url = 'https://{address}'\nupstream.connect_timeout_ms = 800\n"
    ))
    .await;
    assert_told(&world, 502, "connect_timeout", at_once()).await;
}

/// Waits until so many requests wait for the identity server.
async fn until_under_way(world: &World, count: f64) {
    let end = Instant::now() + HANG / 2;
    while world.metric("riskgate_upstream_requests", &[]).await < count - 0.5
        && Instant::now() < end
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An identity server that never answers at its token door, and at once everywhere else.
async fn hanging_token_door() -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    let app = axum::Router::new()
        .route(
            "/oauth2/token",
            axum::routing::post(std::future::pending::<&'static str>),
        )
        .fallback(async || "something");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    (address, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_server_hangs_on_one_route() {
    let _alone = alone().await;
    let (address, server) = hanging_token_door().await;
    let world = world(&format!(
        "upstream.url = 'http://{address}'\nupstream.read_timeout_seconds = 12\n"
    ))
    .await;
    world.get("/oauth2/jwks").await;

    let hanging = async {
        let waiting =
            (0..20).map(|_| world.post("/oauth2/token", Some("demo-service"), &CREDENTIALS));
        join_all(waiting.collect()).await
    };
    let others = async {
        until_under_way(&world, 20.0).await;
        let mut slowest = Duration::ZERO;
        for path in ["/oauth2/jwks", AUTHORIZE, "/oauth2/jwks", AUTHORIZE] {
            let start = Instant::now();
            assert_eq!(world.get(path).await.status, 200);
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(hanging, others);
    eprintln!("20 requests hang: the slowest other one took {slowest:?}");
    // Far less than those that hang.
    assert!(slowest < HANG / 2, "{slowest:?}");
    for answer in answers {
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (504, Some("5")),
            "{answer:?}"
        );
        assert_form(&answer, "oauth");
    }
    let records = world.records().await;
    let timeouts = records
        .iter()
        .filter(|record| record.error.as_deref() == Some("timeout"));
    assert_eq!(timeouts.count(), 20);
    assert!((world.metric(ERRORS, &[("kind", "timeout")]).await - 20.0).abs() < 0.5);
    server.abort();
}

/// One door hangs: so many of its requests wait, the next ones are told at once, other doors are answered, and when it is
/// over nothing of it is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_that_hangs_takes_its_share_of_the_identity_server_and_no_more() {
    let _alone = alone().await;
    let (address, server) = hanging_token_door().await;
    let world = world(&format!(
        "upstream.url = 'http://{address}'\nupstream.read_timeout_seconds = 12\nupstream.requests_max = 8\n"
    ))
    .await;
    world.get("/oauth2/jwks").await;
    let files = world.open_files();

    let hanging = async {
        let waiting = (0..40).map(|_| async {
            let start = Instant::now();
            let answer = world
                .post("/oauth2/token", Some("demo-service"), &CREDENTIALS)
                .await;
            (answer, start.elapsed())
        });
        join_all(waiting.collect()).await
    };
    let others = async {
        until_under_way(&world, 6.0).await;
        let full = async || world.metric(ERRORS, &[("kind", "full")]).await;
        let end = Instant::now() + HANG / 2;
        while full().await < 33.5 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let under_way = world.metric("riskgate_upstream_requests", &[]).await;
        for path in ["/oauth2/jwks", AUTHORIZE, "/oauth2/jwks", AUTHORIZE] {
            let start = Instant::now();
            assert_eq!(world.get(path).await.status, 200);
            assert!(start.elapsed() < HANG / 2);
        }
        under_way
    };
    let (answers, under_way) = tokio::join!(hanging, others);
    assert!((under_way - 6.0).abs() < 0.5, "{under_way}");
    let (refused, waited): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|(answer, _)| answer.status == 503);
    assert_eq!((refused.len(), waited.len()), (34, 6));
    let slowest = refused.iter().map(|(_, took)| *took).max();
    eprintln!("34 of 40 are refused, the slowest after {slowest:.1?}");
    assert!(slowest < Some(HANG / 2), "{slowest:?}");
    for (answer, _) in &refused {
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_form(answer, "oauth");
    }
    assert!(waited.iter().all(|(answer, _)| answer.status == 504));
    let records = world.records().await;
    let full = records
        .iter()
        .filter(|record| record.error.as_deref() == Some("full"));
    assert_eq!(full.count(), 34);
    assert!((world.metric(ERRORS, &[("kind", "full")]).await - 34.0).abs() < 0.5);
    assert!(world.metric("riskgate_upstream_requests", &[]).await < 0.5);
    // Descriptors of clients and upstream connections are closed or kept for the next ones.
    let end = Instant::now() + Duration::from_secs(60);
    while world.open_files() > files + 8 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        world.open_files() <= files + 8,
        "{} more",
        world.open_files() - files
    );
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_server_closes_without_an_answer() {
    let _alone = alone().await;
    let world = world("").await;
    world.sim.set_outage(Outage::Reset);
    let mark = world.mark().await;
    let answer = world
        .post("/oauth2/token", Some("demo-service"), &CREDENTIALS)
        .await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_form(&answer, "oauth");
    let record = world.record_since(mark).await;
    assert_eq!(record.outcome, "upstream_error", "{record:?}");
    world.sim.set_outage(Outage::None);
    recovered(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_server_breaks_off_within_an_answer() {
    let _alone = alone().await;
    let closed = Closed::port();
    let listen = closed.address();
    let wire = Wire::to(listen).await;
    let mut world = world(&format!("upstream.url = 'http://{}'\n", wire.address())).await;
    drop(closed);
    let config = SimConfig {
        listen,
        public_url: Some(world.url.clone()),
        ..SimConfig::default()
    };
    world.sim = Sim::start(config).await.expect("the simulator starts");

    // Within the head, or within tokens, which are read whole: there is still something to say. Within another body the client
    // has the status already.
    let tokens = || {
        let request = world.request(Method::POST, "/oauth2/token");
        let client = crate::gateway::basic("demo-service", "demo-service-secret");
        request.form(&CREDENTIALS).header("authorization", client)
    };
    let keys = || world.request(Method::GET, "/oauth2/jwks");
    for (bytes, request, door, status) in [
        (20, tokens(), Some("token"), 502),
        (700, tokens(), Some("token"), 502),
        (700, keys(), None, 200),
    ] {
        wire.cut_after(bytes);
        let mark = world.mark().await;
        let errors = world.metric(ERRORS, &[]).await;
        world.expect_record();
        let answer = request.send().await.expect("a head");
        assert_eq!(answer.status(), status);
        let body = answer.bytes().await;
        assert_eq!(body.is_ok(), status == 502, "{body:?}");
        let record = world.record_since(mark).await;
        assert_eq!(
            (record.door.as_deref(), record.response_status),
            (door, status),
            "{record:?}"
        );
        assert_eq!(record.outcome, "upstream_error", "{record:?}");
        assert!(record.error.is_some(), "{record:?}");
        assert!((world.metric(ERRORS, &[]).await - errors - 1.0).abs() < 0.5);
        eprintln!(
            "identity server breaks off after {bytes} bytes: {status}, error {:?}",
            record.error
        );
        // What the identity server may have done already is not asked of it again.
        assert_eq!(world.received_since(mark).len(), 1);
    }
    wire.mend();
    recovered(&world).await;
}

/// A connection that was used before and breaks: the identity server may have done what was asked, and a code that is
/// redeemed twice costs the user all tokens (RFC 9110 section 9.2.2, RFC 6749 section 4.1.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_on_a_used_connection_is_not_sent_again() {
    let _alone = alone().await;
    let closed = Closed::port();
    let listen = closed.address();
    let wire = Wire::to(listen).await;
    let mut world = world(&format!("upstream.url = 'http://{}'\n", wire.address())).await;
    drop(closed);
    let config = SimConfig {
        listen,
        public_url: Some(world.url.clone()),
        ..SimConfig::default()
    };
    world.sim = Sim::start(config).await.expect("the simulator starts");
    for _ in 0..3 {
        wire.mend();
        let answer = world
            .post("/oauth2/token", Some("demo-service"), &CREDENTIALS)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let used = world.received().last().expect("a request").peer;
        wire.cut_after(0);
        let mark = world.mark().await;
        let answer = world
            .post("/oauth2/token", Some("demo-service"), &CREDENTIALS)
            .await;
        let received = world.received_since(mark);
        assert_eq!(received[0].peer, used, "the connection was not used again");
        assert_eq!(received.len(), 1, "sent {} times", received.len());
        assert_eq!(answer.status, 502, "{answer:?}");
        assert_form(&answer, "oauth");
        let record = world.record_since(mark).await;
        assert_eq!(record.outcome, "upstream_error", "{record:?}");
    }
}
