//! What cannot be read in exactly one way is refused at a scored door, in the form that the door's clients understand,
//! with a record, and without a byte for the identity server.

use crate::gateway::Options;
use crate::gateway::RawAnswer;
use crate::gateway::World;
use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use std::fmt::Write as _;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const CLIENT: &str =
    "grant_type=client_credentials&client_id=demo-service&client_secret=demo-service-secret";

fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn chunked(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let mut text = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
    );
    for piece in body.as_bytes().chunks(8_000) {
        write!(
            text,
            "{:x}\r\n{}\r\n",
            piece.len(),
            std::str::from_utf8(piece).unwrap()
        )
        .unwrap();
    }
    text += "0\r\n\r\n";
    text.into_bytes()
}

/// A token request padded to `bytes`.
fn padded(bytes: usize) -> String {
    let mut body = CLIENT.to_owned();
    for number in 0.. {
        let field = format!("&pad{number}=");
        let rest = bytes - body.len();
        if rest <= field.len() + 16_000 {
            return format!("{body}{field}{}", "a".repeat(rest - field.len()));
        }
        body = format!("{body}{field}{}", "a".repeat(15_000));
    }
    unreachable!("the padding ends")
}

/// Sends a request that must be refused: the answer and its record.
async fn refused(
    world: &World,
    name: &str,
    request: &[u8],
    status: u16,
) -> (RawAnswer, AuditEvent) {
    let mark = world.mark().await;
    let answer = world.raw(request).await;
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    let record = world.record_since(mark).await;
    assert!(
        record.error.is_some() && record.score.is_none(),
        "{name}: {record:#?}"
    );
    assert_eq!(
        (&*record.action, &*record.outcome, record.response_status),
        ("refused", "refused_here", status),
        "{name}"
    );
    assert!(world.received_since(mark).is_empty(), "{name}");
    (answer, record)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_token_door_with_an_oauth_error() {
    // Even where nothing is enforced: what cannot be read cannot be scored, and is not waved through.
    let world = World::start(Options::default()).await;
    let many: String = (0..101).map(|number| format!("p{number}=1&")).collect();
    let deep = format!(
        "{{\"grant_type\":\"client_credentials\",\"x\":{}1{}}}",
        "[".repeat(40),
        "]".repeat(40)
    );
    const JSON: &str = "Content-Type: application/json\r\n";
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("a repeated parameter", post("/oauth2/token", FORM, &format!("{CLIENT}&grant_type=password")), 400),
        ("a parameter in query and body", post("/oauth2/token?grant_type=client_credentials", FORM, CLIENT), 400),
        ("a password in the query", post("/oauth2/token?password=x", FORM, "grant_type=password&username=a"), 400),
        ("a username in the query", post("/oauth2/token?username=x", FORM, "grant_type=password"), 400),
        ("a secret in the query", post("/oauth2/token?client_secret=x", FORM, "grant_type=client_credentials"), 400),
        ("a malformed escape", post("/oauth2/token", FORM, "grant_type=client_credentials&x=%zz"), 400),
        ("bytes that are no UTF-8", post("/oauth2/token", FORM, "grant_type=client_credentials&x=%ff%fe"), 400),
        ("a control character", post("/oauth2/token", FORM, "grant_type=client_credentials&x=a%00b"), 400),
        ("too many parameters", post("/oauth2/token", FORM, &format!("{many}{CLIENT}")), 400),
        ("a charset of mainframes", post("/oauth2/token", "Content-Type: application/x-www-form-urlencoded; charset=ibm037\r\n", CLIENT), 415),
        ("two charsets", post("/oauth2/token", "Content-Type: application/x-www-form-urlencoded; charset=utf-8; charset=utf-16\r\n", CLIENT), 415),
        ("two content types", post("/oauth2/token", &format!("{FORM}Content-Type: application/json\r\n"), CLIENT), 415),
        ("no content type", post("/oauth2/token", "", CLIENT), 415),
        ("multipart", post("/oauth2/token", "Content-Type: multipart/form-data; boundary=b\r\n", "--b\r\n\r\n--b--"), 415),
        ("text", post("/oauth2/token", "Content-Type: text/plain\r\n", CLIENT), 415),
        ("credentials of another client", post("/oauth2/token", &format!("{FORM}Authorization: Basic YTpi\r\n"), "grant_type=client_credentials&client_id=c"), 400),
        ("two authorizations", post("/oauth2/token", &format!("{FORM}Authorization: Bearer x\r\nAuthorization: Basic YTpi\r\n"), "grant_type=client_credentials"), 400),
        ("credentials that are unreadable", post("/oauth2/token", &format!("{FORM}Authorization: Basic YTpi=\r\n"), "grant_type=client_credentials"), 400),
        ("gzip", post("/oauth2/token", &format!("{FORM}Content-Encoding: gzip\r\n"), "\u{1f}x"), 415),
        ("JSON that is none", post("/oauth2/token", JSON, "{\"grant_type\":"), 400),
        ("a JSON list", post("/oauth2/token", JSON, "[]"), 400),
        ("a repeated JSON member", post("/oauth2/token", JSON, "{\"grant_type\":\"password\",\"grant_type\":\"client_credentials\"}"), 400),
        ("a JSON member that is no text", post("/oauth2/token", JSON, "{\"grant_type\":[\"password\"]}"), 400),
        ("deep JSON", post("/oauth2/token", JSON, &deep), 400),
        ("a body that is too long", post("/oauth2/token", FORM, &padded(65_537)), 413),
        ("a chunked body that is too long", chunked("/oauth2/token", FORM, &padded(65_537)), 413),
        ("a body that says it is too long", b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99999999999\r\n\r\n".to_vec(), 413),
    ];
    for (name, request, status) in cases {
        let (answer, record) = refused(&world, name, &request, status).await;
        assert_eq!(
            (record.door.as_deref(), &*record.class),
            (Some("token"), "refused"),
            "{name}"
        );
        let body: Value = serde_json::from_str(answer.body())
            .unwrap_or_else(|error| panic!("{name}: {error}: {answer:?}"));
        assert_eq!(
            (
                answer.header("content-type"),
                answer.header("cache-control")
            ),
            (Some("application/json"), Some("no-store")),
            "{name}"
        );
        assert_eq!(body["error"], "invalid_request", "{name}");
        assert!(!answer.text.contains("demo-service-secret"), "{name}");
    }
    assert!(world.metric("riskgate_requests_refused_total", &[]).await >= 24.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_browser_doors_with_a_page_and_at_apis_with_their_own_error() {
    let world = World::start(Options::default()).await;
    for (name, request, status) in [
        ("a repeated client", b"GET /oauth2/authorize?client_id=a&client_id=b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(), 400),
        ("a password in the query", post("/commonauth?password=x", FORM, "username=a&sessionDataKey=k"), 400),
        ("a GET with a body", b"GET /oauth2/authorize?client_id=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\nclient_id=b".to_vec(), 400),
        ("two usernames", post("/commonauth", FORM, "username=a&username=b&password=x"), 400),
        ("JSON at the login form", post("/commonauth", "Content-Type: application/json\r\n", "{\"username\":\"a\"}"), 415),
        ("a SAML request twice", post("/samlsso", FORM, "SAMLRequest=a&SAMLRequest=b"), 400),
        ("a long login form", post("/commonauth", FORM, &format!("username={}", "a".repeat(65_536))), 413),
    ] {
        let (answer, record) = refused(&world, name, &request, status).await;
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{name}: {answer:?}");
        assert!(answer.body().contains("<html lang=\"en\">") && answer.body().contains(&record.id), "{name}: {answer:?}");
    }
    for (name, request, status) in [
        (
            "a form at the app-native door",
            post("/oauth2/authn", FORM, "flowId=x"),
            415,
        ),
        (
            "JSON that is none",
            post("/oauth2/authn", "Content-Type: application/json\r\n", "{"),
            400,
        ),
        (
            "a flow id in the query",
            post(
                "/oauth2/authn?flowId=x",
                "Content-Type: application/json\r\n",
                "{}",
            ),
            400,
        ),
        (
            "a username that is a list",
            post(
                "/oauth2/authn",
                "Content-Type: application/json\r\n",
                "{\"selectedAuthenticator\":{\"params\":{\"username\":[\"a\"]}}}",
            ),
            400,
        ),
        (
            "no body at the decision point",
            post(
                "/api/identity/entitlement/decision/pdp",
                "Content-Type: application/json\r\n",
                "",
            ),
            400,
        ),
    ] {
        let (answer, record) = refused(&world, name, &request, status).await;
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{name}: {answer:?}"
        );
        let body: Value =
            serde_json::from_str(answer.body()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(body["traceId"], record.id.as_str(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_and_host_have_one_reading() {
    let world = World::start(Options::default()).await;
    let head =
        |rest: &str| format!("POST /oauth2/token HTTP/1.1\r\n{rest}Connection: close\r\n{FORM}");
    let body = "grant_type=client_credentials";
    for (name, request) in [
        (
            "length and coding",
            format!(
                "{}Content-Length: 29\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "two lengths",
            format!(
                "{}Content-Length: 29\r\nContent-Length: 30\r\n\r\n{body}",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "a length that is no number",
            format!(
                "{}Content-Length: +29\r\n\r\n{body}",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "a coding beside chunked",
            format!(
                "{}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "gzip as the coding",
            format!(
                "{}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "chunked twice",
            format!(
                "{}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "cookies that would not arrive",
            format!(
                "{}Connection: keep-alive, Cookie\r\nCookie: commonAuthId=x\r\nContent-Length: 29\r\n\r\n{body}",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "credentials that would not arrive",
            format!(
                "{}Connection: authorization\r\nAuthorization: Basic YTpi\r\nContent-Length: 29\r\n\r\n{body}",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "two hosts",
            format!(
                "{}Content-Length: 29\r\n\r\n{body}",
                head("Host: localhost\r\nHost: evil.example\r\n")
            ),
        ),
        (
            "no host",
            format!("{}Content-Length: 29\r\n\r\n{body}", head("")),
        ),
        (
            "a host with a path",
            format!(
                "{}Content-Length: 29\r\n\r\n{body}",
                head("Host: localhost/x\r\n")
            ),
        ),
        (
            "another host in the target",
            format!(
                "POST http://evil.example/oauth2/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FORM}Content-Length: 29\r\n\r\n{body}"
            ),
        ),
        (
            "cookies in the form that Tomcat parts by commas",
            format!(
                "{}Cookie: $Version=1; a=b, commonAuthId=x\r\nContent-Length: 29\r\n\r\n{body}",
                head("Host: localhost\r\n")
            ),
        ),
        (
            "an upgrade",
            format!(
                "{}Upgrade: h2c\r\nContent-Length: 29\r\n\r\n{body}",
                head("Host: localhost\r\n")
            ),
        ),
    ] {
        let received = world.received().len();
        // Some of it is refused by the HTTP parser, before there is an exchange to record.
        let answer = world.raw_unrecorded(request.as_bytes()).await;
        assert!(
            answer.status == 400 || (answer.status == 0 && answer.text.is_empty()),
            "{name}: {answer:?}"
        );
        assert_eq!(world.received().len(), received, "{name}");
    }
    // The rest of the connection is not read as a second request.
    let smuggled = format!(
        "{}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    );
    let answer = world.raw_unrecorded(smuggled.as_bytes()).await;
    assert!(answer.text.matches("HTTP/1.1 ").count() <= 1, "{answer:?}");
    assert!(world.received().is_empty());
}

/// Whoever waits with a body says so in one way, also to WSO2; in another spelling somebody would answer before the body, which
/// would then be taken for the next request.
#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_has_one_reading() {
    let world = World::start(Options::default()).await;
    let hidden = "GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let request = |version: &str, path: &str, expects: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n{FORM}{expects}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    for path in ["/oauth2/token", "/scim2/Bulk"] {
        for expects in [
            "Expect: 200-ok\r\n",
            "Expect: y 100-continue\r\n",
            "Expect: 100-continue, 100-continue\r\n",
            "Expect:\r\n",
            "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        ] {
            let name = format!("{path} {expects}");
            let refused_here = request("1.1", path, expects, hidden);
            let (answer, record) = refused(&world, &name, refused_here.as_bytes(), 417).await;
            assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
            assert_eq!(record.error.as_deref(), Some("expectation"), "{name}");
        }
        let mark = world.mark().await;
        let met = request("1.1", path, "Expect: 100-Continue\r\n", CLIENT);
        let answer = world.raw(met.as_bytes()).await;
        assert!(answer.text.starts_with("HTTP/1.1 100"), "{answer:?}");
        assert_eq!(world.received_one_since(mark).body, CLIENT.as_bytes());
        // HTTP/1.0 would take it for the answer.
        let mark = world.mark().await;
        let old = request("1.0", path, "Expect: 100-continue\r\n", CLIENT);
        let answer = world.raw(old.as_bytes()).await;
        assert!(!answer.text.contains("HTTP/1.1 100"), "{answer:?}");
        let received = world.received_one_since(mark);
        assert!(received.header_values("expect").is_empty(), "{received:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_hosts_that_are_served_are_served() {
    let world = World::start(Options {
        config: "[server]\nhosts = [\"login.example.com\"]",
        ..Options::default()
    })
    .await;
    for (host, status) in [
        ("login.example.com", 200),
        ("LOGIN.example.com:8443", 200),
        ("localhost", 421),
        ("login.example.com.evil.example", 421),
    ] {
        let answer = world
            .raw(
                format!("GET /oauth2/jwks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_passes_to_its_last_byte() {
    let world = World::start(Options::default()).await;
    let body = padded(65_536);
    for (name, request) in [
        ("with a length", post("/oauth2/token", FORM, &body)),
        ("chunked", chunked("/oauth2/token", FORM, &body)),
    ] {
        let mark = world.mark().await;
        let answer = world.raw(&request).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let received = world.received_one_since(mark);
        assert!(
            received.body == body.as_bytes(),
            "{name}: {} bytes",
            received.body.len()
        );
        assert_eq!(
            received.header_values("content-type"),
            ["application/x-www-form-urlencoded; charset=UTF-8"]
        );
        assert_eq!(world.record_since(mark).await.outcome, "tokens_issued");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_the_word_gets_it() {
    let world = World::start(Options::default()).await;
    let mark = world.mark().await;
    let answer = world
        .raw(&post(
            "/oauth2/token",
            &format!("{FORM}Expect: 100-continue\r\n"),
            CLIENT,
        ))
        .await;
    assert!(answer.text.starts_with("HTTP/1.1 100 "), "{answer:?}");
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = world.received_one_since(mark);
    assert_eq!(received.body, CLIENT.as_bytes());
    assert!(
        received.header_values("expect").is_empty(),
        "the body is there already"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_the_identity_server_could_not_take_is_refused() {
    let world = World::start(Options::default()).await;
    for (bytes, status) in [(6_000, 200), (8_000, 431), (20_000, 431)] {
        let mark = world.mark().await;
        let answer = world.raw(format!("GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\nX-Own: {}\r\nConnection: close\r\n\r\n", "a".repeat(bytes)).as_bytes()).await;
        assert_eq!(answer.status, status, "{bytes}");
        assert_eq!(
            world.received_since(mark).len(),
            usize::from(status == 200),
            "{bytes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_is_given_up() {
    let world = World::start(Options {
        config: "[server]\nbody_timeout_seconds = 1",
        ..Options::default()
    })
    .await;
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\n{FORM}Content-Length: 50\r\n\r\ngrant_type="
    );
    let (answer, record) = refused(
        &world,
        "a body of which only a part comes",
        request.as_bytes(),
        408,
    )
    .await;
    assert!(answer.body().contains("invalid_request"), "{answer:?}");
    assert_eq!(record.error.as_deref(), Some("body_timeout"));
}
