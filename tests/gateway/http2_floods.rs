//! What a client may do over HTTP/2 with many frames, or with few and much patience: streams without number, resets, pings
//! and settings, heads that grow when they are read, windows that stay shut over an answer that is held.

use crate::gateway::CALLBACK;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::HOME;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::form;
use crate::gateway::frames::CANCEL;
use crate::gateway::frames::DATA;
use crate::gateway::frames::END_HEADERS;
use crate::gateway::frames::END_STREAM;
use crate::gateway::frames::ENHANCE_YOUR_CALM;
use crate::gateway::frames::Fate;
use crate::gateway::frames::Frames;
use crate::gateway::frames::HEADERS;
use crate::gateway::frames::INITIAL_WINDOW_SIZE;
use crate::gateway::frames::PING;
use crate::gateway::frames::PRIORITY;
use crate::gateway::frames::REFUSED_STREAM;
use crate::gateway::frames::RST_STREAM;
use crate::gateway::frames::SETTINGS;
use crate::gateway::frames::WINDOW_UPDATE;
use crate::gateway::frames::block;
use crate::gateway::frames::frame;
use crate::gateway::frames::heads;
use crate::gateway::frames::integer;
use crate::gateway::param;
use crate::gateway::rules;
use crate::http2_heads::closed_once;
use crate::review;
use std::time::Duration;
use std::time::Instant;
use wso2_sim::RecordedRequest;

const JWKS: &str = "/oauth2/jwks";
const PROTOCOL_ERROR: u32 = 1;
/// What breaks the protocol on a stream.
type Broken = fn(u32) -> Vec<u8>;
/// What any of these may cost the gateway: far less than was sent, or would have been made of it.
const MEMORY_KIB: usize = 64 * 1024;
/// Streams on one connection.
const STREAMS: u32 = 2_000;
/// More than all requests of a test.
const TRIED: usize = 10_000;
const FEW_STREAMS: &str = "[server]\nstreams_max = 4\nwrite_timeout_seconds = 2";

async fn world(config: &'static str) -> World {
    World::start(Options {
        tls: true,
        config,
        ..Options::default()
    })
    .await
}

/// The gateway serves on a connection of its own.
async fn goes_on(world: &World) {
    let mut frames = Frames::connect(world).await;
    let fields = frames.request("GET", JWKS, &[]);
    let bytes = heads(1, &fields, true);
    frames.write(&bytes).await.expect("the gateway accepts");
    assert_eq!(frames.fate(1).await, Fate::Answered(200));
}

/// Sends for as long as the gateway takes it, and reads meanwhile: whether it took everything.
async fn pour(frames: &mut Frames, bytes: &[u8], times: usize) -> bool {
    for _ in 0..times {
        if frames.write(bytes).await.is_err() {
            return false;
        }
        frames.drain().await;
        if frames.is_over() {
            return false;
        }
    }
    true
}

/// CVE-2023-44487: each stream is reset in the frame behind its head.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let world = world("").await;
    for (method, path) in [("POST", "/oauth2/token"), ("GET", JWKS)] {
        let mut frames = Frames::connect(&world).await;
        let fields = frames.request(method, path, &[]);
        let mut bytes = Vec::new();
        for number in 0..STREAMS {
            let stream = 2 * number + 1;
            bytes.extend(heads(stream, &fields, method == "GET"));
            bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        drop(frames.write(&bytes).await);
        let end = frames.end().await;
        assert_eq!(end, Some(ENHANCE_YOUR_CALM), "{path}");
    }
    goes_on(&world).await;
    closed_once(&world, TRIED).await;
}

/// CVE-2025-8671: the gateway is made to reset the streams itself.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_the_gateway_has_to_reset_end_the_connection() {
    let world = world("").await;
    let broken: [(&str, Broken, u32); 3] = [
        (
            "a window beyond its bound",
            |stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
            ENHANCE_YOUR_CALM,
        ),
        (
            "data after the end",
            |stream| frame(DATA, END_STREAM, stream, b"more"),
            PROTOCOL_ERROR,
        ),
        (
            "a stream that waits for itself",
            |stream| {
                let weight = [&stream.to_be_bytes()[..], &[1]].concat();
                frame(PRIORITY, 0, stream, &weight)
            },
            ENHANCE_YOUR_CALM,
        ),
    ];
    for (what, frame_of, code) in broken {
        let mut frames = Frames::connect(&world).await;
        let fields = frames.request("GET", JWKS, &[]);
        let mut bytes = Vec::new();
        for number in 0..STREAMS {
            let stream = 2 * number + 1;
            bytes.extend(heads(stream, &fields, true));
            bytes.extend(frame_of(stream));
        }
        drop(frames.write(&bytes).await);
        assert_eq!(frames.end().await, Some(code), "{what}");
    }
    goes_on(&world).await;
    closed_once(&world, TRIED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_streams_one_after_another_end_the_connection() {
    let world = world("").await;
    let mut frames = Frames::connect(&world).await;
    let fields = frames.request("GET", JWKS, &[("host", "evil.example")]);
    let mut bytes = Vec::new();
    for number in 0..200 {
        bytes.extend(heads(2 * number + 1, &fields, true));
    }
    drop(frames.write(&bytes).await);
    assert_eq!(frames.end().await, Some(ENHANCE_YOUR_CALM));
    assert!(world.received().is_empty());
    goes_on(&world).await;
    closed_once(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_and_settings_without_number_cost_nothing() {
    const FRAMES: usize = 1_000;
    const TIMES: usize = 100;
    let world = world("").await;
    let memory = world.resident_kib();
    let floods = [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0])),
        ("priorities", frame(PRIORITY, 0, 9, &[0, 0, 0, 1, 1])),
        ("empty data", Vec::new()),
    ];
    for (what, mut flood) in floods {
        let mut frames = Frames::connect(&world).await;
        if flood.is_empty() {
            let fields = frames.request("POST", "/oauth2/token", &[]);
            let head = heads(1, &fields, false);
            frames.write(&head).await.expect("the gateway accepts");
            flood = frame(DATA, 0, 1, &[]);
        }
        let took_all = pour(&mut frames, &flood.repeat(FRAMES), TIMES).await;
        match what {
            "pings" => assert_eq!(frames.pongs(FRAMES * TIMES).await, FRAMES * TIMES),
            // RUSTSEC-2026-0258.
            "empty data" => assert!(!took_all),
            _ => {}
        }
        goes_on(&world).await;
    }
    let grown = world.resident_kib().saturating_sub(memory);
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    assert_eq!(world.received().len(), 4);
    closed_once(&world, 5).await;
}

/// Nobody reads the answers: the gateway stops taking more.
#[tokio::test(flavor = "multi_thread")]
async fn pings_whose_answers_nobody_reads_do_not_pile_up() {
    let world = world("").await;
    let memory = world.resident_kib();
    let mut frames = Frames::connect(&world).await;
    let flood = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    let mut sent = 0_usize;
    // 160 MiB at most, or until nothing is taken for a while.
    while sent < 1_000 {
        let write = tokio::time::timeout(Duration::from_secs(2), frames.write(&flood)).await;
        if !matches!(write, Ok(Ok(()))) {
            break;
        }
        sent += 1;
    }
    let grown = world.resident_kib().saturating_sub(memory);
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    goes_on(&world).await;
    drop(frames);
    goes_on(&world).await;
    closed_once(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_number_of_streams_they_are_refused_and_the_others_go_on() {
    let world = world(FEW_STREAMS).await;
    let mut frames = Frames::connect(&world).await;
    let body =
        "grant_type=client_credentials&client_id=demo-service&client_secret=demo-service-secret";
    let more = [("content-type", "application/x-www-form-urlencoded")];
    let fields = frames.request("POST", "/oauth2/token", &more);
    let bytes: Vec<u8> = (0..40)
        .flat_map(|number| heads(2 * number + 1, &fields, false))
        .collect();
    frames.write(&bytes).await.expect("the gateway accepts");
    for number in 4..40 {
        let fate = frames.fate(2 * number + 1).await;
        assert_eq!(fate, Fate::Reset(REFUSED_STREAM), "stream {number}");
    }
    for number in 0..4 {
        frames
            .send(DATA, END_STREAM, 2 * number + 1, body.as_bytes())
            .await;
    }
    for number in 0..4 {
        assert_eq!(frames.fate(2 * number + 1).await, Fate::Answered(200));
    }
    assert_eq!(world.received().len(), 4);
    // There is room again.
    let fields = frames.request("GET", JWKS, &[]);
    let bytes = heads(81, &fields, true);
    frames.write(&bytes).await.expect("the gateway accepts");
    assert_eq!(frames.fate(81).await, Fate::Answered(200));
    closed_once(&world, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_fields_has_its_bound_however_short_it_was_on_the_wire() {
    let world = world("").await;
    let memory = world.resident_kib();
    let value = "a".repeat(4_000);
    let long: Vec<_> = (0..10).map(|_| ("x-own", value.as_str())).collect();
    for _ in 0..20 {
        let mut frames = Frames::connect(&world).await;
        let fields = frames.request("GET", JWKS, &long);
        let bytes = heads(1, &fields, true);
        drop(frames.write(&bytes).await);
        assert_eq!(frames.fate(1).await, Fate::Answered(431));

        // One field in the table, and 12,000 times its index: 48 MB of head in 16 KiB.
        let mut frames = Frames::connect(&world).await;
        let mut bytes = block(&frames.request("GET", JWKS, &[]));
        bytes.push(0x40);
        for text in ["x-own", value.as_str()] {
            integer(&mut bytes, 0, 7, text.len());
            bytes.extend(text.as_bytes());
        }
        bytes.extend([0xbe].repeat(12_000));
        frames
            .send(HEADERS, END_HEADERS | END_STREAM, 1, &bytes)
            .await;
        assert_eq!(frames.fate(1).await, Fate::Gone(Some(ENHANCE_YOUR_CALM)));
    }
    let grown = world.resident_kib().saturating_sub(memory);
    assert!(grown < MEMORY_KIB, "{grown} KiB");
    assert!(world.received().is_empty());
    goes_on(&world).await;
    closed_once(&world, 41).await;
}

/// A world in which alice owes a factor, and a code of hers.
async fn owing(config: &'static str) -> (World, String) {
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            (
                "request.door == \"login\" && user.name == \"alice\"",
                "step_up",
            ),
            ("true", "allow"),
        ])),
        tls: true,
        config,
        ..Options::default()
    })
    .await;
    let code = world.person("alice").sign_in().await;
    (world, code)
}

/// The redemption of a code as frames.
fn redemption(frames: &Frames, stream: u32, code: &str) -> Vec<u8> {
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
    ]);
    let authorization = basic("demo-web", "demo-web-secret");
    let more = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-forwarded-for", HOME),
    ];
    let fields = frames.request("POST", "/oauth2/token", &more);
    let mut bytes = heads(stream, &fields, false);
    bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
    bytes
}

/// Tokens that were held until they were proved wait for the window, and for no longer than any other answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_answer_waits_for_the_window_and_not_for_ever() {
    let (world, code) = owing("[server]\nwrite_timeout_seconds = 2").await;
    let mut frames = Frames::connect_with(&world, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let bytes = redemption(&frames, 1, &code);
    world.expect_record();
    frames.write(&bytes).await.expect("the gateway accepts");
    assert_eq!(frames.status(1).await, Some(200));
    assert_eq!(frames.body(1), "");
    // A byte at first, then the rest.
    for more in [1_u32, 60_000] {
        frames.send(WINDOW_UPDATE, 0, 1, &more.to_be_bytes()).await;
    }
    assert_eq!(frames.fate(1).await, Fate::Answered(200));
    let tokens: serde_json::Value = serde_json::from_str(&frames.body(1)).expect("JSON");
    assert!(tokens["access_token"].is_string(), "{tokens}");
    let record = world.last_record().await;
    assert_eq!(
        (&*record.action, record.proof.as_deref()),
        ("forwarded", Some("proven")),
        "{record:#?}"
    );

    let code = world.person("alice").sign_in().await;
    let mut frames = Frames::connect_with(&world, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    let bytes = redemption(&frames, 1, &code);
    let mark = world.mark().await;
    world.expect_record();
    frames.write(&bytes).await.expect("the gateway accepts");
    assert_eq!(frames.fate(1).await, Fate::Reset(CANCEL));
    assert_eq!(frames.body(1), "");
    let record = world.record_since(mark).await;
    assert_eq!(
        (&*record.action, &*record.outcome, record.proof.as_deref()),
        ("failed", "abandoned", Some("proven")),
        "{record:#?}"
    );
    goes_on_with_record(&world).await;
}

async fn goes_on_with_record(world: &World) {
    world.expect_record();
    goes_on(world).await;
    world.records().await;
}

/// The client resets its stream while its tokens are on their way to be checked.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_of_a_held_answer_closes_it_once() {
    let (world, code) = owing("[upstream]\nread_timeout_seconds = 1").await;
    world.sim.set_response_delay(Duration::from_secs(3_600));
    let mut frames = Frames::connect(&world).await;
    let mark = world.mark().await;
    let bytes = redemption(&frames, 1, &code);
    world.expect_record();
    frames.write(&bytes).await.expect("the gateway accepts");
    let end = Instant::now() + PATIENCE;
    while world.received_since(mark).is_empty() {
        assert!(Instant::now() < end, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    let record = world.record_since(mark).await;
    assert_eq!(
        (&*record.action, &*record.outcome, record.error.as_deref()),
        ("failed", "abandoned", Some("request")),
        "{record:#?}"
    );
    world.sim.set_response_delay(Duration::ZERO);
    // The connection is as good as before, and so is the code, of which the identity server has heard nothing.
    world.expect_record();
    let bytes = redemption(&frames, 3, &code);
    frames.write(&bytes).await.expect("the gateway accepts");
    assert_eq!(frames.fate(3).await, Fate::Answered(200));
    assert!(frames.body(3).contains("access_token"));
    world.records().await;
    goes_on_with_record(&world).await;
}

/// A login that is held for an analyst, whose stream is reset behind its form, again and again: it waits once, and nothing
/// of it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_of_a_login_that_is_held_makes_no_other_entry() {
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[("request.door == \"login\"", "review")])),
        tls: true,
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let held = alice.submit_password(&page).await;
    assert_eq!(held.status, 303, "{held:?}");
    let key = param(&page.url, "sessionDataKey").expect("a login page");
    let fields = [
        ("username", "alice"),
        ("password", alice.password()),
        ("sessionDataKey", &key),
    ];
    let (body, cookies) = (form(&fields), alice.cookies());
    let more = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("cookie", cookies.as_str()),
        ("user-agent", CHROME_ON_WINDOWS),
        ("x-forwarded-for", HOME),
    ];
    let so_far = world.records().await.len();
    let mut frames = Frames::connect(&world).await;
    let head = frames.request("POST", "/commonauth", &more);
    let mut bytes = Vec::new();
    for stream in [1, 3, 5, 7, 9, 11] {
        bytes.extend(heads(stream, &head, false));
        bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
        if stream < 11 {
            bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
    }
    frames.write(&bytes).await.expect("the gateway accepts");
    assert_eq!(frames.fate(11).await, Fate::Answered(303));
    let went_on = |request: &RecordedRequest| request.path() == "/commonauth";
    assert!(
        !world.received().iter().any(went_on),
        "a held login went on"
    );
    let waiting = review::waiting(&world).await;
    assert_eq!(waiting.len(), 1, "{waiting:#?}");
    goes_on(&world).await;
    closed_once(&world, so_far + 7).await;
}
