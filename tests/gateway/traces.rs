//! Requests as spans from the real gateway to a collector on a socket, and `traceparent` on its way to the upstream.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::always;
use serde_json::Value;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const FORM: &[(&str, &str)] = &[("grant_type", "client_credentials")];

/// A collector that takes everything: its address and the spans that it gets.
fn collector() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (got, spans) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            let body = loop {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0, "a whole request is sent: {text}");
                text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    if length.is_some_and(|length: usize| body.len() >= length) {
                        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
                        break body.to_owned();
                    }
                }
            };
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
                .unwrap();
            let message: Value = serde_json::from_str(&body).unwrap();
            let found = message["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
            for span in found.as_array().unwrap() {
                if got.send(span.clone()).is_err() {
                    return;
                }
            }
        }
    });
    (url, spans)
}

async fn traced(url: &str, percent: f64, is_peer_trusted: bool) -> World {
    let config = format!("[traces]\nurl = '{url}'\nsample_percent = {percent:?}\n");
    World::start(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        is_peer_trusted,
        // Lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await
}

/// A token request with headers of a trace: what the upstream got of them.
async fn token(world: &World, headers: &[(&str, &str)]) -> (Option<String>, Option<String>) {
    let mark = world.mark().await;
    let mut request = world
        .request(reqwest::Method::POST, "/oauth2/token")
        .basic_auth("demo-service", Some("demo-service-secret"))
        // As a load balancer does.
        .header("x-forwarded-for", "192.0.2.7")
        .form(FORM);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = world.send(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = world.received_one_since(mark);
    let said = |name: &str| {
        let values = received.header_values(name);
        assert!(values.len() <= 1, "{name}: {values:?}");
        values.first().map(|value| (*value).to_owned())
    };
    (said("traceparent"), said("tracestate"))
}

/// The spans of one trace, by name; there are `count`.
fn spans_of(spans: &mpsc::Receiver<Value>, count: usize) -> Vec<Value> {
    (0..count)
        .map(|_| spans.recv_timeout(PATIENCE).expect("a span"))
        .collect()
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("{key} is not in {span:#}"))["value"]
}

fn nanos(span: &Value, key: &str) -> u128 {
    span[key].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_its_caller_records_is_told_with_its_stages_and_passed_on() {
    let (url, spans) = collector();
    let world = traced(&url, 0.0, true).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("traceparent", parent.as_str()), ("tracestate", "a=1")];
    let (said, state) = token(&world, &headers).await;
    let said = said.unwrap();
    assert_eq!(state.as_deref(), Some("a=1"));
    let spans = spans_of(&spans, 5);
    let named = |name: &str| {
        let found = spans.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is not in {spans:#?}"))
    };
    let request = named("POST /oauth2/token");
    assert_eq!(request["traceId"], TRACE);
    assert_eq!(request["parentSpanId"], CALLER);
    assert_eq!(request["kind"], 2);
    let id = &world.last_record().await.id;
    for (key, value) in [
        ("riskgate.id", id.as_str()),
        ("riskgate.door", "token"),
        ("riskgate.verdict", "allow"),
        ("riskgate.mode", "enforce"),
        ("http.route", "/oauth2/token"),
    ] {
        assert_eq!(attribute(request, key)["stringValue"], value, "{key}");
    }
    assert_eq!(
        attribute(request, "http.response.status_code")["intValue"],
        "200"
    );
    for stage in ["body", "state", "score", "upstream"] {
        let span = named(stage);
        assert_eq!(span["traceId"], TRACE);
        assert_eq!(span["parentSpanId"], request["spanId"]);
        let (begin, end) = (
            nanos(span, "startTimeUnixNano"),
            nanos(span, "endTimeUnixNano"),
        );
        assert!(
            nanos(request, "startTimeUnixNano") <= begin && begin <= end,
            "{span:#}"
        );
        assert!(end <= nanos(request, "endTimeUnixNano"), "{span:#}");
    }
    // The upstream's parent is the span of the call to it.
    let upstream = named("upstream")["spanId"].as_str().unwrap();
    assert_eq!(said, format!("00-{TRACE}-{upstream}-01"));
    let text = format!("{spans:?}");
    for secret in ["192.0.2.7", "demo-service", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_has_nothing_recorded_and_a_broken_parent_is_replaced() {
    let (url, spans) = collector();
    let world = traced(&url, 0.0, false).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let (said, _) = token(&world, &[("traceparent", &parent)]).await;
    let said = said.unwrap();
    assert!(said.starts_with(&format!("00-{TRACE}-")), "{said}");
    assert!(said.ends_with("-00") && !said.contains(CALLER), "{said}");
    for broken in [
        &[("traceparent", "00-zz"), ("tracestate", "a=1")][..],
        &[
            ("traceparent", &parent),
            ("traceparent", &parent),
            ("tracestate", "a=1"),
        ],
        &[("tracestate", "a=1")],
    ] {
        let (said, state) = token(&world, broken).await;
        let said = said.unwrap();
        assert_eq!(said.len(), 55, "{said}");
        assert!(!said.contains(TRACE), "{said}");
        assert_eq!(state, None, "{broken:?}");
    }
    assert!(spans.recv_timeout(Duration::from_millis(800)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_is_recorded_and_without_traces_the_headers_pass() {
    let (url, spans) = collector();
    let world = traced(&url, 100.0, false).await;
    assert!(token(&world, &[]).await.0.unwrap().ends_with("-01"));
    let spans = spans_of(&spans, 5);
    let request = spans.iter().find(|span| span["kind"] == 2).unwrap();
    assert_eq!(request["parentSpanId"], "");

    let world = World::start(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let headers = [("traceparent", "anything"), ("tracestate", "a=1")];
    let said = token(&world, &headers).await;
    assert_eq!(said, (Some("anything".to_owned()), Some("a=1".to_owned())));
}
