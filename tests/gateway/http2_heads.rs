//! Requests over HTTP/2 that no client library would send, frame by frame: heads that are malformed, lengths that are not
//! those of the body, frames out of their order. What is not one request in one reading reaches nobody.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::frames::ACK;
use crate::gateway::frames::CONTINUATION;
use crate::gateway::frames::DATA;
use crate::gateway::frames::END_HEADERS;
use crate::gateway::frames::END_STREAM;
use crate::gateway::frames::Fate;
use crate::gateway::frames::Frames;
use crate::gateway::frames::HEADERS;
use crate::gateway::frames::PING;
use crate::gateway::frames::RST_STREAM;
use crate::gateway::frames::SETTINGS;
use crate::gateway::frames::WINDOW_UPDATE;
use crate::gateway::frames::block;
use crate::gateway::frames::frame;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;

const LIMITS: &str = "[server]\nhosts = [\"localhost\"]\nwrite_timeout_seconds = 2\n";
const JWKS: &str = "/oauth2/jwks";
const SCORED: &str = "/oauth2/token";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
/// PROTOCOL_ERROR.
const BROKEN: u32 = 1;

/// What a request gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gets {
    /// What it asked for, from the identity server.
    Served,
    /// An answer of the gateway's own, and a record that says so.
    Refused(u16),
    /// An answer before there is an exchange.
    Answered(u16),
    /// A stream that is reset; the connection goes on.
    Reset,
    /// The end of the connection.
    Gone,
}

/// A head by a name, and what it gets.
type Head<'a> = (&'a str, Vec<(&'a str, &'a str)>, Gets);

use Gets::Answered;
use Gets::Gone;
use Gets::Refused;
use Gets::Reset;
use Gets::Served;

impl Gets {
    fn is(self, fate: &Fate) -> bool {
        match self {
            Served => *fate == Fate::Answered(200),
            Refused(status) | Answered(status) => *fate == Fate::Answered(status),
            Reset => *fate == Fate::Reset(BROKEN),
            Gone => matches!(fate, Fate::Gone(Some(1..))),
        }
    }

    fn is_recorded(self) -> bool {
        matches!(self, Served | Refused(_))
    }
}

async fn world() -> World {
    World::start(Options {
        tls: true,
        config: LIMITS,
        ..Options::default()
    })
    .await
}

/// The gateway serves: on this connection if it is left, else on another.
async fn goes_on(world: &World, frames: &mut Frames, stream: u32, is_gone: bool) {
    let mut other;
    let frames = if is_gone {
        frames.end().await;
        other = Frames::connect(world).await;
        &mut other
    } else {
        frames
    };
    let authority = frames.authority().to_owned();
    world.expect_record();
    frames
        .head(stream, &good(&authority, "GET", JWKS), true)
        .await;
    assert_eq!(frames.fate(stream).await, Fate::Answered(200));
}

fn good<'a>(authority: &'a str, method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
    ]
}

/// Each of these instead of or after a good head, on a connection of its own; one more request follows.
async fn try_heads(cases: &[Head<'_>], world: &World) {
    for (what, fields, gets) in cases {
        let mark = world.mark().await;
        let mut frames = Frames::connect(world).await;
        if gets.is_recorded() {
            world.expect_record();
        }
        frames.head(1, fields, true).await;
        let fate = frames.fate(1).await;
        assert!(gets.is(&fate), "{what}: {fate:?}");
        let received = world.received_since(mark);
        assert_eq!(received.len(), usize::from(*gets == Served), "{what}");
        for request in &received {
            assert_eq!(request.header_values("x-forwarded-proto"), ["https"]);
            for name in ["te", "http2-settings", "upgrade", "x-risk-score"] {
                assert!(request.header_values(name).is_empty(), "{what}: {name}");
            }
        }
        goes_on(world, &mut frames, 3, *gets == Gone).await;
        // Of what was refused there is one record, of what broke the protocol none.
        let records = world.records_since(mark).await;
        assert_eq!(
            records.len(),
            1 + usize::from(gets.is_recorded()),
            "{what}: {records:#?}"
        );
        if let Refused(status) = gets {
            let refused = records
                .iter()
                .any(|record| &*record.action == "refused" && record.response_status == *status);
            assert!(refused, "{what}: {records:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_each_pseudo_header_once_and_first() {
    let world = world().await;
    let authority = format!("localhost:{}", world.port);
    let a = (":authority", authority.as_str());
    let (m, s, p) = ((":method", "GET"), (":scheme", "https"), (":path", JWKS));
    let host = ("host", authority.as_str());
    let with = |changed| {
        let (name, _): (&str, &str) = changed;
        let rest = [m, s, a, p].into_iter().filter(|field| field.0 != name);
        rest.chain([changed]).collect::<Vec<_>>()
    };
    let cases = [
        ("all of them", vec![m, s, a, p], Served),
        ("in another order", vec![p, a, s, m], Served),
        ("two methods", vec![m, m, s, a, p], Reset),
        (
            "two paths",
            vec![m, s, a, p, (":path", "/oauth2/token")],
            Reset,
        ),
        ("two schemes", vec![m, s, s, a, p], Reset),
        ("two authorities", vec![m, s, a, a, p], Reset),
        ("no method", vec![s, a, p], Reset),
        ("no scheme", vec![m, a, p], Reset),
        ("no path", vec![m, s, a], Reset),
        ("no authority, no host", vec![m, s, p], Answered(400)),
        ("a host alone", vec![m, s, p, host], Served),
        ("two hosts", vec![m, s, p, host, host], Answered(400)),
        ("the same host", vec![m, s, a, p, host], Served),
        (
            "another host",
            vec![m, s, a, p, ("host", "evil.example")],
            Answered(400),
        ),
        (
            "the host without its port",
            vec![m, s, a, p, ("host", "localhost")],
            Answered(400),
        ),
        (
            "an empty authority beside a host",
            vec![m, s, (":authority", ""), p, host],
            Reset,
        ),
        (
            "a list of authorities",
            with((":authority", "localhost,evil.example")),
            Refused(400),
        ),
        (
            "an authority with a path",
            with((":authority", "localhost/x")),
            Reset,
        ),
        (
            "an authority with a space",
            with((":authority", "localhost x")),
            Reset,
        ),
        (
            "a path after a field",
            vec![m, s, a, ("x-a", "b"), p],
            Reset,
        ),
        (
            "one that nobody knows",
            vec![m, s, a, p, (":risk", "0")],
            Gone,
        ),
        (
            "that of answers",
            vec![m, s, a, p, (":status", "200")],
            Reset,
        ),
        (
            "that of WebSocket",
            vec![(":method", "CONNECT"), s, a, p, (":protocol", "websocket")],
            Reset,
        ),
        ("CONNECT", vec![(":method", "CONNECT"), a], Answered(405)),
        ("CONNECT with a path", with((":method", "CONNECT")), Reset),
        ("an empty method", with((":method", "")), Gone),
        (
            "a method with a request line",
            with((":method", "GET /x HTTP/1.1\r\nX: ")),
            Gone,
        ),
        (
            "a scheme that is a URL",
            with((":scheme", "https://evil.example/?")),
            Reset,
        ),
        ("a scheme in clear", with((":scheme", "http")), Served),
        ("an empty path", with((":path", "")), Reset),
        (
            "a path without a slash",
            with((":path", "oauth2/jwks")),
            Reset,
        ),
        ("a star", with((":path", "*")), Refused(400)),
        (
            "a path that is a URL",
            with((":path", "https://localhost/oauth2/jwks")),
            Reset,
        ),
        (
            "a path with a request line",
            with((":path", "/oauth2/jwks HTTP/1.1\r\nX-A: b\r\n\r\n")),
            Reset,
        ),
        (
            "a path with a space",
            with((":path", "/oauth2/jwks x")),
            Reset,
        ),
        ("a path with NUL", with((":path", "/oauth2/jwks\0")), Reset),
    ];
    try_heads(&cases, &world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_http1_do_not_come_over_http2() {
    let world = world().await;
    let authority = format!("localhost:{}", world.port);
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields = good(&authority, "GET", JWKS);
        fields.extend(more);
        fields
    };
    let cases = [
        ("a name in capitals", with(&[("X-Upper", "a")]), Gone),
        (
            "a host in capitals",
            with(&[("Host", "evil.example")]),
            Gone,
        ),
        (
            "a path in capitals",
            with(&[(":Path", "/oauth2/token")]),
            Gone,
        ),
        ("no name", with(&[("", "a")]), Gone),
        ("a name with a space", with(&[("x a", "a")]), Gone),
        ("a name with a field", with(&[("x-a: b", "a")]), Gone),
        (
            "a name with a line",
            with(&[("x-a\r\nx-risk-score", "0")]),
            Gone,
        ),
        ("a name with NUL", with(&[("x\0a", "a")]), Gone),
        ("a name beyond ASCII", with(&[("x-\u{e4}", "a")]), Gone),
        (
            "a value with LF",
            with(&[("x-a", "a\nx-risk-score: 0")]),
            Gone,
        ),
        ("a value with CR", with(&[("x-a", "a\rb")]), Gone),
        (
            "a value with a request",
            with(&[("x-a", "a\r\n\r\nGET /x HTTP/1.1")]),
            Gone,
        ),
        ("a value with NUL", with(&[("x-a", "a\0b")]), Gone),
        ("connection", with(&[("connection", "close")]), Reset),
        (
            "connection with a name",
            with(&[("connection", "x-forwarded-for")]),
            Reset,
        ),
        ("keep-alive", with(&[("keep-alive", "timeout=5")]), Reset),
        (
            "proxy-connection",
            with(&[("proxy-connection", "close")]),
            Reset,
        ),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            Reset,
        ),
        (
            "transfer-encoding that is none",
            with(&[("transfer-encoding", "identity")]),
            Reset,
        ),
        ("upgrade", with(&[("upgrade", "h2c")]), Reset),
        (
            "settings of h2c",
            with(&[("http2-settings", "AAMAAABkAAQAAP__")]),
            Served,
        ),
        ("te: gzip", with(&[("te", "gzip")]), Reset),
        (
            "te: trailers, gzip",
            with(&[("te", "trailers, gzip")]),
            Reset,
        ),
        ("te: trailers", with(&[("te", "trailers")]), Served),
        ("expect", with(&[("expect", "100-continue")]), Served),
        (
            "a length of nothing",
            with(&[("content-length", "0")]),
            Served,
        ),
        (
            "a length of something",
            with(&[("content-length", "5")]),
            Reset,
        ),
        (
            "two lengths",
            with(&[("content-length", "0"), ("content-length", "5")]),
            Reset,
        ),
        (
            "one length twice",
            with(&[("content-length", "0"), ("content-length", "0")]),
            Refused(400),
        ),
        (
            "a list of lengths",
            with(&[("content-length", "0, 0")]),
            Reset,
        ),
        (
            "a length with a sign",
            with(&[("content-length", "+0")]),
            Reset,
        ),
        (
            "a length beyond 64 bits",
            with(&[("content-length", "99999999999999999999")]),
            Reset,
        ),
    ];
    try_heads(&cases, &world).await;
}

/// What follows a head, by a name.
struct Rest {
    what: &'static str,
    length: Option<&'static str>,
    frames: Vec<u8>,
    gets: Gets,
}

const BODY: &[u8] =
    b"grant_type=client_credentials&client_id=demo-service&client_secret=demo-service-secret";

fn rests() -> Vec<Rest> {
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let rest = |what, length, frames: Vec<Vec<u8>>, gets| Rest {
        what,
        length,
        frames: frames.concat(),
        gets,
    };
    let trailers = |fields: &[(&str, &str)], flags| frame(HEADERS, flags, 1, &block(fields));
    let both = END_HEADERS | END_STREAM;
    // The first byte says how many of the last are padding.
    let padded = [&[200][..], BODY].concat();
    vec![
        rest("no length", None, vec![data(END_STREAM, BODY)], Served),
        rest(
            "its length",
            Some("86"),
            vec![data(END_STREAM, BODY)],
            Served,
        ),
        rest(
            "a longer length",
            Some("87"),
            vec![data(END_STREAM, BODY)],
            Reset,
        ),
        rest(
            "a shorter length",
            Some("85"),
            vec![data(END_STREAM, BODY)],
            Reset,
        ),
        rest(
            "a shorter length, and more in another frame",
            Some("86"),
            vec![data(0, BODY), data(END_STREAM, b"&scope=more")],
            Reset,
        ),
        rest(
            "a body where none was announced",
            Some("0"),
            vec![data(END_STREAM, BODY)],
            Reset,
        ),
        rest(
            "more padding than frame",
            None,
            vec![frame(DATA, 0x8 | END_STREAM, 1, &padded)],
            Gone,
        ),
        rest(
            "a head of another stream within the body",
            None,
            vec![frame(HEADERS, both, 2, &block(&[(":method", "GET")]))],
            Gone,
        ),
        rest(
            "data of no stream",
            None,
            vec![frame(DATA, 0, 0, BODY)],
            Gone,
        ),
        rest(
            "data of a stream that was not begun",
            None,
            vec![frame(DATA, 0, 9, BODY)],
            Gone,
        ),
        rest(
            "trailers",
            Some("86"),
            vec![data(0, BODY), trailers(&[("x-risk-score", "0")], both)],
            Served,
        ),
        rest(
            "trailers that are a head",
            None,
            vec![data(0, BODY), trailers(&[(":path", "/scim2/Users")], both)],
            Served,
        ),
        rest(
            "trailers that do not end the stream",
            None,
            vec![data(0, BODY), trailers(&[("x-a", "b")], END_HEADERS)],
            Reset,
        ),
        rest(
            "a continuation without a head",
            None,
            vec![frame(CONTINUATION, END_HEADERS, 1, &block(&[("x", "y")]))],
            Gone,
        ),
        rest(
            "another frame before the head ends",
            None,
            vec![trailers(&[("x", "y")], 0), frame(PING, 0, 0, &[0; 8])],
            Gone,
        ),
        rest(
            "a table that was not agreed on",
            None,
            // An index beyond both tables (RFC 7541 section 2.3.3).
            vec![frame(HEADERS, both, 1, &[0xff, 0x7f])],
            Gone,
        ),
        rest(
            "a window beyond its bound",
            None,
            vec![frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            Gone,
        ),
        rest(
            "a window that opens by nothing",
            None,
            vec![frame(WINDOW_UPDATE, 0, 1, &[0; 4])],
            Gone,
        ),
        rest(
            "settings of half a length",
            None,
            vec![frame(SETTINGS, 0, 0, &[0; 5])],
            Gone,
        ),
        rest(
            "an acknowledgement of nothing",
            None,
            vec![frame(SETTINGS, ACK, 0, &[]), frame(SETTINGS, ACK, 0, &[])],
            Gone,
        ),
        rest(
            "a reset of half a length",
            None,
            vec![frame(RST_STREAM, 0, 1, &[0; 3])],
            Gone,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_as_long_as_its_head_says_and_frames_have_their_order() {
    let world = world().await;
    let mut tried = 0;
    // One is read before it goes on, the other goes on as it comes.
    for path in [SCORED, "/scim2/Users"] {
        for rest in rests() {
            let before = world.received().len();
            let mut frames = Frames::connect(&world).await;
            let authority = frames.authority().to_owned();
            let mut head = good(&authority, "POST", path);
            head.push(FORM);
            head.extend(rest.length.map(|length| ("content-length", length)));
            frames.head(1, &head, false).await;
            drop(frames.write(&rest.frames).await);
            let fate = frames.fate(1).await;
            let what = rest.what;
            let arrived = world.received().split_off(before);
            tried += 1;
            // At the passed path the identity server asks for credentials.
            let is_answered = rest.gets == Served && fate == Fate::Answered(401);
            let is_right = rest.gets.is(&fate) || (is_answered && path != SCORED);
            assert!(is_right, "{what} at {path}: {fate:?}");
            // What is passed on as it comes has arrived whole once it is as long as was said; of more nobody hears.
            let is_whole = path != SCORED && arrived.len() == 1;
            let is_due = arrived.len() == usize::from(rest.gets == Served);
            assert!(is_due || is_whole, "{what} at {path}: {arrived:#?}");
            for request in arrived {
                assert_eq!(request.path(), path, "{what}");
                let announced = if rest.length == Some("0") { b"" } else { BODY };
                assert_eq!(request.body, announced, "{what}");
                assert!(request.header_values("x-risk-score").is_empty(), "{what}");
            }
            if matches!(fate, Fate::Gone(_)) {
                frames.end().await;
                frames = Frames::connect(&world).await;
            }
            frames.head(3, &good(&authority, "GET", JWKS), true).await;
            assert_eq!(frames.fate(3).await, Fate::Answered(200), "{what}");
            tried += 1;
        }
    }
    closed_once(&world, tried).await;
}

/// HTTP/2 is spoken where TLS has agreed on it, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn without_tls_nobody_speaks_http2() {
    let world = World::start(Options::default()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = world.raw_unrecorded(preface).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let upgrade = format!(
        "GET {JWKS} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    );
    let answer = world.raw(upgrade.as_bytes()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(world.last_record().await.error.as_deref(), Some("upgrade"));
    assert!(world.received().is_empty());
    assert_eq!(world.get(JWKS).await.status, 200);
}

/// Of the requests that were tried each was closed at most once, and each that arrived was.
pub(crate) async fn closed_once(world: &World, tried: usize) {
    let end = Instant::now() + PATIENCE;
    let records = loop {
        let under_way = world.metric("riskgate_upstream_requests", &[]).await
            + world.metric("riskgate_assessments_in_flight", &[]).await;
        let counted = world.metric("riskgate_requests_total", &[]).await;
        let records = world.read_records();
        let let_through = records
            .iter()
            .filter(|record| matches!(&*record.action, "forwarded" | "failed"))
            .count();
        let is_whole = f64::from(u32::try_from(records.len()).expect("few")) == counted;
        let arrived = world.received().len();
        if under_way == 0.0 && is_whole && arrived <= let_through {
            break records;
        }
        assert!(
            Instant::now() < end,
            "{under_way} under way, {counted} counted, {} recorded, {arrived} arrived, {let_through} let through: {:#?}",
            records.len(),
            records.last()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let ids: BTreeSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids.len(), records.len(), "one exchange was recorded twice");
    assert!(records.len() <= tried, "{} of {tried}", records.len());
}
