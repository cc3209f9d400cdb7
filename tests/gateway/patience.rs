//! Clients that take their time. Every wait for a client has an end that its bytes do not move: handshake, head, body,
//! the next request, and the reading of an answer; over TCP, TLS and HTTP/2.

use crate::gateway::Http2;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::in_front_of;
use crate::gateway::secured;
use bytes::Bytes;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Every deadline is two seconds; deadlines are looked at every other second.
const DEADLINES: &str = "[server]\nhandshake_timeout_seconds = 2\nhead_timeout_seconds = 2\nbody_timeout_seconds = 2\n\
                         write_timeout_seconds = 2\nkeepalive_seconds = 2";
/// No connection was closed earlier.
const EARLIEST: Duration = Duration::from_millis(1_900);
/// Nor never. What is sent or read by and by goes on for longer in each test, or for ever.
const LATEST: Duration = PATIENCE;
const GET: &[u8] = b"GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";

async fn world(tls: bool) -> World {
    World::start(Options {
        config: DEADLINES,
        tls,
        ..Options::default()
    })
    .await
}

async fn tcp(world: &World) -> TcpStream {
    TcpStream::connect(("127.0.0.1", world.port))
        .await
        .expect("the gateway accepts")
}

/// Waits until so many connections were counted as given up: a connection is closed before it is counted.
async fn assert_given_up(world: &World, missing: &str, count: f64) {
    let name = "riskgate_connections_given_up_total";
    let end = Instant::now() + PATIENCE;
    let mut found = world.metric(name, &[("missing", missing)]).await;
    while found < count && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = world.metric(name, &[("missing", missing)]).await;
    }
    assert_eq!(found, count, "{missing}");
}

/// Sends a byte every half second until the gateway closes; what it said, and how long that took.
async fn drip(stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> (String, Duration) {
    let start = Instant::now();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let sending = async {
        for byte in bytes {
            if writing.write_all(&[*byte]).await.is_err() || writing.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(3 * LATEST, reading.read_to_end(&mut answer));
    tokio::select! {
        () = sending => {}
        closed = closed => assert!(closed.is_ok(), "the gateway does not close"),
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text, start.elapsed())
}

fn assert_in_time(what: &str, took: Duration) {
    eprintln!("{what}: given up after {took:.1?}");
    assert!((EARLIEST..LATEST).contains(&took), "{what}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_is_given_up() {
    for tls in [false, true] {
        let world = world(tls).await;
        let dripped = if tls {
            drip(secured(&world, b"http/1.1").await, GET).await
        } else {
            drip(tcp(&world).await, GET).await
        };
        assert_in_time(&format!("a head that drips, TLS {tls}"), dripped.1);
        assert_eq!(dripped.0, "");
        assert_given_up(&world, "head", 1.0).await;

        // A first answer buys no more for the next head.
        let mut stream = tcp(&world).await;
        if !tls {
            stream.write_all(GET).await.expect("a request");
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer, b"HTTP/1.1 200");
            world.expect_record();
            let (_, took) = drip(stream, GET).await;
            assert_in_time("a second head that drips", took);
            assert_given_up(&world, "idle", 1.0).await;
            world.records().await;
        }
        assert_eq!(world.get("/oauth2/jwks").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_are_closed() {
    let world = world(true).await;
    // No handshake; half of one; a protocol and no request.
    let silent = [
        ("nothing", drip(tcp(&world).await, b"").await),
        (
            "a hello that drips",
            drip(
                tcp(&world).await,
                b"\x16\x03\x01\x00\xfa\x01\x00\x00\xf6\x03\x03",
            )
            .await,
        ),
        (
            "no request over HTTP/1",
            drip(secured(&world, b"http/1.1").await, b"").await,
        ),
        ("no preface", drip(secured(&world, b"h2").await, b"").await),
        (
            "a preface that drips",
            drip(
                secured(&world, b"h2").await,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            )
            .await,
        ),
    ];
    for (what, (_, took)) in &silent {
        assert_in_time(what, *took);
    }
    assert_given_up(&world, "handshake", 2.0).await;
    assert_given_up(&world, "head", 3.0).await;
    assert_eq!(world.get("/oauth2/jwks").await.status, 200);
}

/// A hello that is whole, after which the client is silent: the handshake has one deadline, not one for each part.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stops_in_the_middle_is_given_up() {
    let world = world(true).await;
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client of TLS");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    let start = Instant::now();
    let mut stream = tcp(&world).await;
    stream.write_all(&hello).await.expect("a hello");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(3 * LATEST, stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the gateway does not close");
    assert!(!answer.is_empty(), "the gateway did not answer the hello");
    assert_in_time("a handshake without its end", start.elapsed());
    assert_given_up(&world, "handshake", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_given_up() {
    let world = world(false).await;
    for (path, is_scored) in [("/oauth2/token", true), ("/scim2/Users", false)] {
        let mut stream = tcp(&world).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: 500\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a head");
        world.expect_record();
        let (answer, took) = drip(stream, &[b'a'; 499]).await;
        assert_in_time(&format!("a body that drips at {path}"), took);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        let record = world.last_record().await;
        assert_eq!(
            (record.response_status, record.error.as_deref()),
            (408, Some("body_timeout")),
            "{record:?}"
        );
        assert_eq!(record.door.is_some(), is_scored);
    }
    // Nothing of it comes: nobody is there to be told.
    let mut stream = tcp(&world).await;
    let head = b"POST /scim2/Users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n";
    stream.write_all(head).await.expect("a head");
    world.expect_record();
    let (_, took) = drip(stream, b"").await;
    assert_in_time("a body that does not come", took);
    assert_eq!(
        world.last_record().await.error.as_deref(),
        Some("body_timeout")
    );
    assert_given_up(&world, "body", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_at_a_fair_rate_takes_as_long_as_it_takes() {
    let world = World::start(Options {
        config: "[server]\nbody_timeout_seconds = 5",
        ..Options::default()
    })
    .await;
    let mut stream = tcp(&world).await;
    let head = "POST /scim2/Users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 48000\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("a head");
    world.expect_record();
    // Twelve seconds, at four times the least rate.
    for _ in 0..24 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream.write_all(&[b'a'; 2_000]).await.expect("a piece");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    let received = world.received();
    assert_eq!(received.last().expect("a request").path(), "/scim2/Users");
    assert_eq!(world.last_record().await.error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_stall_are_given_up_and_the_others_go_on() {
    let world = world(true).await;
    let client = Http2::connect(&world).await;
    let start = Instant::now();
    // One says nothing, one drips.
    let (silent, _kept) = client.open("/scim2/Users").await;
    let (dripping, mut body) = client.open("/scim2/Users").await;
    let drips = tokio::spawn(async move {
        while body.send_data(Bytes::from_static(b"a"), false).is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    world.expect_record();
    world.expect_record();
    // One stops in the middle at a door that is scored, where nothing has gone on yet.
    let (scored, mut part) = client.open("/oauth2/token").await;
    let half = Bytes::from_static(b"grant_type=client_credentials&scope=");
    part.send_data(half, false).expect("an open stream");
    world.expect_record();
    let login = client.send(&world, "GET", "/oauth2/jwks", &[], "", 0).await;
    assert_eq!(login.status, 200);
    assert_eq!(scored.await.expect("an answer").status(), 408);
    assert_in_time("a scored body that stops", start.elapsed());
    assert!(
        silent.await.is_err(),
        "a stream without a body was answered"
    );
    assert_in_time("a stream whose body does not come", start.elapsed());
    let answer = dripping.await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 408));
    assert_in_time("a stream whose body drips", start.elapsed());
    drips.abort();
    let records = world.records().await;
    let late = records
        .iter()
        .filter(|record| record.error.as_deref() == Some("body_timeout"));
    assert_eq!(late.count(), 3, "{records:#?}");
    // The connection is as good as new, until it is idle.
    let again = client.send(&world, "GET", "/oauth2/jwks", &[], "", 0).await;
    assert_eq!(again.status, 200);
    let end = Instant::now() + LATEST;
    while world.metric("riskgate_connections", &[]).await > 0.0 {
        assert!(Instant::now() < end, "an idle connection stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An answer of 64 MiB of which the client reads nothing, or a little now and then: all of it would take a day.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_is_given_up() {
    const BYTES: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let app = axum::Router::new().fallback(async move || {
        asked.send(()).expect("the test goes on");
        vec![b'a'; BYTES]
    });
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let options = in_front_of(port);
    let config = format!("{DEADLINES}\n{}", options.config);
    let world = World::start(Options {
        config: Box::leak(config.into_boxed_str()),
        ..options
    })
    .await;
    for reads in [false, true] {
        let start = Instant::now();
        let mut stream = tcp(&world).await;
        stream.write_all(GET).await.expect("a request");
        world.expect_record();
        let is_asked = tokio::time::timeout(PATIENCE, requests.recv()).await;
        assert_eq!(is_asked, Ok(Some(())), "the upstream is not asked");
        // The gateway asks it for its keys as well: the connection may not be there yet. Then it is counted, until it is given up.
        while world.metric("riskgate_connections", &[]).await == 0.0 {
            assert!(start.elapsed() < EARLIEST, "the connection is not counted");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let end = loop {
            if reads {
                let mut piece = [0; 100];
                drop(stream.read(&mut piece).await);
            }
            let open = world.metric("riskgate_connections", &[]).await;
            if open == 0.0 {
                break start.elapsed();
            }
            assert!(start.elapsed() < LATEST, "the gateway does not give up");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_in_time(&format!("an answer that is read slowly ({reads})"), end);
        let record = world.last_record().await;
        assert_eq!(record.outcome, "abandoned", "{record:?}");
    }
    server.abort();
}

/// Operators are few, and each has a place: whoever says nothing or stops in the middle of a head does not keep one.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_keeps_a_place_at_the_admin_listener_without_asking() {
    let world = World::start(Options::default()).await;
    for beginning in [
        "",
        "GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: a",
    ] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", world.admin_port))
            .await
            .expect("the admin listener accepts");
        let bytes = beginning.as_bytes();
        stream.write_all(bytes).await.expect("a beginning");
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(2 * LATEST, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "the listener waits for `{beginning}`");
        assert_in_time(&format!("admin `{beginning}`"), start.elapsed());
    }
}
