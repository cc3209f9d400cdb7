//! What HTTP/2 allows and HTTP/1 behind it would read in another way: authorities, methods, targets, names, cookies; and
//! what a client may do with frames alone.

use crate::gateway::Http2;
use crate::gateway::Http2Answer;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::in_front_of;
use crate::gateway::secured;
use bytes::Bytes;
use http::Request;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const HOSTS: &str =
    "[server]\nhosts = [\"localhost\"]\nwrite_timeout_seconds = 2\nhead_timeout_seconds = 3";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn world() -> World {
    World::start(Options {
        tls: true,
        config: HOSTS,
        ..Options::default()
    })
    .await
}

/// The status of a request without a body; 0 when its stream was reset, or its connection closed.
async fn status(client: &Http2, request: Request<()>) -> u16 {
    client
        .ask(request)
        .await
        .map_or(0, |answer: Http2Answer| answer.status)
}

fn request(method: &str, url: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(url)
        .version(http::Version::HTTP_2)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_host_method_and_target_have_one_reading() {
    let world = world().await;
    let get = |authority: &str, host: Option<&str>| {
        let request = request("GET", &format!("https://{authority}/oauth2/jwks"));
        match host {
            Some(host) => request.header("host", host),
            None => request,
        }
    };
    let here = format!("localhost:{}", world.port);
    let at = |path: &str| request("GET", &format!("https://{here}{path}"));
    let cases = [
        ("the host", get(&here, None), &[200][..]),
        ("the host without a port", get("localhost", None), &[200]),
        ("another host", get("evil.example", None), &[421]),
        (
            "another host beneath",
            get("localhost.evil.example", None),
            &[421],
        ),
        (
            "another host as Host",
            get(&here, Some("evil.example")),
            &[400, 0],
        ),
        (
            "a user before the host",
            get("localhost@evil.example", None),
            &[400, 0],
        ),
        (
            "a user before our host",
            get("evil.example@localhost", None),
            &[400, 0],
        ),
        (
            "a method in lower case",
            request("get", &format!("https://{here}/oauth2/jwks")),
            &[400, 405],
        ),
        (
            "an unknown method",
            request("QUERY", &format!("https://{here}/oauth2/token")),
            &[405],
        ),
        (
            "TRACE",
            request("TRACE", &format!("https://{here}/oauth2/token")),
            &[405],
        ),
        ("an empty segment", at("//oauth2/jwks"), &[400]),
        ("a dot", at("/oauth2/./jwks"), &[400]),
        ("an escape", at("/oauth2/%6awks"), &[200]),
        ("a path parameter", at("/oauth2;x/jwks"), &[400]),
        (
            "a length in another spelling",
            at("/oauth2/jwks").header("content_length", "3"),
            &[400, 0],
        ),
        (
            "a coding in another spelling",
            at("/oauth2/jwks").header("transfer_encoding", "chunked"),
            &[400, 0],
        ),
        (
            "9 KiB of head",
            at("/oauth2/jwks").header("x-own", "a".repeat(9_000)),
            &[431],
        ),
        (
            "14 KiB of head",
            at("/oauth2/jwks").header("x-own", "a".repeat(14_000)),
            &[431],
        ),
    ];
    let mut tries = 0;
    for (what, request, expected) in cases {
        let before = world.received().len();
        tries += 1;
        let client = Http2::connect(&world).await;
        let found = status(&client, request.body(()).expect("a request")).await;
        assert!(expected.contains(&found), "{what}: {found}");
        let arrived = world.received().len() - before;
        assert_eq!(arrived, usize::from(found == 200), "{what}");
    }
    // The library refuses some of it before there is an exchange; what arrived was one.
    let arrived = world.received().len();
    let end = Instant::now() + PATIENCE;
    while world.read_records().len() < arrived {
        assert!(Instant::now() < end, "{:#?}", world.read_records());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.read_records().len() <= tries);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_cookies_arrive_in_one_field_and_risk_headers_not_at_all() {
    let world = world().await;
    let client = Http2::connect(&world).await;
    let url = format!("https://localhost:{}/oauth2/jwks", world.port);
    let request = request("GET", &url)
        .header("cookie", "one=1")
        .header("cookie", "two=2")
        .header("cookie", "three=3")
        .header("x-risk-score", "0")
        .header("x_risk_score", "0")
        .header("x-forwarded-for_", "203.0.113.9")
        .header("x_forwarded_for", "203.0.113.9");
    world.expect_record();
    let answer = client.ask(request.body(()).expect("a request")).await;
    assert_eq!(answer.expect("an answer").status, 200);
    let received = world.received();
    let received = received.last().expect("a request");
    assert_eq!(received.header_values("cookie"), ["one=1; two=2; three=3"]);
    for name in ["x-risk-score", "x_risk_score", "x_forwarded_for"] {
        assert!(received.header_values(name).is_empty(), "{name}");
    }
    world.records().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_a_scored_body_has_its_limit() {
    let world = world().await;
    let client = Http2::connect(&world).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("grant_type=password&x={}", "a".repeat(66_000));
    let answer = client
        .send(&world, "POST", "/oauth2/token", &form, &body, 16_000)
        .await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(world.received().is_empty());
    world.records().await;
}

/// Over HTTP/2 a body needs no length: it follows where the head does not end the stream.
#[tokio::test(flavor = "multi_thread")]
async fn over_http2_a_preflight_ends_with_its_head() {
    let world = world().await;
    let client = Http2::connect(&world).await;
    let asks = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
    ];
    let body = "grant_type=password&username=alice&password=x";
    let answer = client
        .send(&world, "OPTIONS", "/oauth2/token", &asks, body, 16_000)
        .await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(
        world.last_record().await.error.as_deref(),
        Some("preflight")
    );
    assert!(world.received().is_empty());
    let url = format!("https://localhost:{}/oauth2/token", world.port);
    let head = asks
        .iter()
        .fold(request("OPTIONS", &url), |head, (name, value)| {
            head.header(*name, *value)
        });
    world.expect_record();
    client
        .ask(head.body(()).expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(world.last_record().await.action, "forwarded");
    assert_eq!(world.received().len(), 1);
}

/// Streams that are opened and reset at once: the connection ends after a few, and nothing of it is felt elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection() {
    const RESETS: usize = 2_000;
    let world = world().await;
    let client = Http2::connect(&world).await;
    let mut opened = 0;
    while opened < RESETS {
        // The stream is reset as its two ends are dropped.
        if client.try_open("/scim2/Users").await.is_none() {
            break;
        }
        opened += 1;
    }
    let received = world.received().len();
    eprintln!(
        "hardening|D2 rapid resets over HTTP/2: streams opened of {RESETS}, refused, forwarded|{opened}|{}|{received}",
        RESETS - opened
    );
    // A quick client has opened all of them before it hears of the end.
    let end = Instant::now() + PATIENCE;
    while !client.is_over().await {
        assert!(Instant::now() < end, "the connection goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let other = Http2::connect(&world).await;
    let url = format!("https://localhost:{}/oauth2/jwks", world.port);
    let answer = other
        .ask(request("GET", &url).body(()).expect("a request"))
        .await;
    assert_eq!(answer.expect("an answer").status, 200);
}

/// One head in ever more CONTINUATION frames; and empty ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_ends_the_connection() {
    let world = world().await;
    let memory = world.resident_kib();
    for payload in [0_usize, 1_000] {
        let mut stream = secured(&world, b"h2").await;
        stream.write_all(PREFACE).await.expect("a preface");
        // HEADERS without END_HEADERS on stream 1, `:method: GET` in it.
        let headers = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
        stream.write_all(&headers).await.expect("a frame");
        let [_, high, middle, low] = u32::try_from(payload).expect("small").to_be_bytes();
        let mut frame = vec![high, middle, low, 9, 0, 0, 0, 0, 1];
        // A literal field without indexing whose value is as long as the payload allows.
        frame.extend(std::iter::repeat_n(0x82, payload));
        let start = Instant::now();
        let mut sent = 0_u32;
        let (mut reading, mut writing) = tokio::io::split(stream);
        let sending = async {
            while writing.write_all(&frame).await.is_ok() && writing.flush().await.is_ok() {
                sent += 1;
                if sent.is_multiple_of(64) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = sending => {}
            closed = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut answer)) => {
                assert!(closed.is_ok(), "the gateway does not close");
            }
        }
        eprintln!(
            "a head in frames of {payload} bytes: closed after {sent} frames, {:.1?}",
            start.elapsed()
        );
    }
    let grown = world.resident_kib().saturating_sub(memory);
    assert!(grown < 64 * 1024, "{grown} KiB");
    assert!(world.received().is_empty());
}

/// An answer for which the client opens no window.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_stays_shut_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let app = axum::Router::new().fallback(async || vec![b'a'; 1 << 20]);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let options = in_front_of(port);
    let config = format!("{HOSTS}\n{}", options.config);
    let world = World::start(Options {
        tls: true,
        config: config.leak(),
        ..options
    })
    .await;
    let tls = secured(&world, b"h2").await;
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(1)
        .handshake::<_, Bytes>(tls)
        .await
        .expect("HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    let url = format!("https://localhost:{}/oauth2/jwks", world.port);
    let request = request("GET", &url).body(()).expect("a request");
    let mut requests = requests.ready().await.expect("a connection");
    let start = Instant::now();
    let (answer, _) = requests.send_request(request, true).expect("a stream");
    world.expect_record();
    let mut body = answer.await.expect("a head").into_body();
    let ends = async { while let Some(Ok(_)) = body.data().await {} };
    tokio::time::timeout(PATIENCE, ends)
        .await
        .expect("the gateway gives up");
    let took = start.elapsed();
    eprintln!("a window that stays shut: given up after {took:.1?}");
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
    assert_eq!(world.last_record().await.outcome, "abandoned");
    server.abort();
}
