//! Requests as spans from the real gateway to a collector on a socket, and `traceparent` on its way to the upstream.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::form;
use crate::gateway::stepped_up;
use crate::resource::orders;
use riskgate::domain::trace::REQUEST_KEYS;
use riskgate::domain::trace::Stage;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use wso2_sim::SimConfig;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const LATER: &str = "0af7651916cd43dd8448eb211c80319c";
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
    traced_with(url, percent, is_peer_trusted, "").await
}

async fn traced_with(url: &str, percent: f64, is_peer_trusted: bool, more: &str) -> World {
    let config = format!("{more}[traces]\nurl = '{url}'\nsample_percent = {percent:?}\n");
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

/// The spans of the next request, itself first.
fn next_request(spans: &mpsc::Receiver<Value>) -> Vec<Value> {
    let mut found = Vec::new();
    while found
        .last()
        .is_none_or(|span: &Value| span["name"] != "record")
    {
        found.push(spans.recv_timeout(PATIENCE).expect("a span"));
    }
    for span in &found[1..] {
        assert_eq!(span["traceId"], found[0]["traceId"]);
        assert_eq!(span["parentSpanId"], found[0]["spanId"]);
        let (begin, end) = (
            nanos(span, "startTimeUnixNano"),
            nanos(span, "endTimeUnixNano"),
        );
        let within = nanos(&found[0], "startTimeUnixNano")..=nanos(&found[0], "endTimeUnixNano");
        assert!(begin <= end, "{span:#}");
        assert!(within.contains(&begin) && within.contains(&end), "{span:#}");
        let stage = Stage::ALL.iter().find(|it| span["name"] == it.as_str());
        let stage = stage.unwrap_or_else(|| panic!("no stage is called so: {span:#}"));
        assert_eq!(span["kind"], stage.kind().number());
        has_only(span, stage.keys());
    }
    has_only(&found[0], &REQUEST_KEYS);
    let ids: BTreeSet<&str> = found
        .iter()
        .filter_map(|it| it["spanId"].as_str())
        .collect();
    assert_eq!(
        ids.len(),
        found.len(),
        "each has an id of its own: {found:#?}"
    );
    found
}

fn has_only(span: &Value, keys: &[&str]) {
    for attribute in span["attributes"].as_array().unwrap() {
        let key = attribute["key"].as_str().unwrap();
        assert!(keys.contains(&key), "{key} is not documented of {span:#}");
    }
}

fn names(spans: &[Value]) -> Vec<&str> {
    let names = spans.iter().filter_map(|span| span["name"].as_str());
    names.collect()
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found = spans.iter().find(|span| span["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {spans:#?}"))
}

/// The words of a span's attributes.
fn says(span: &Value, key: &str) -> String {
    let value = attribute(span, key);
    value["stringValue"].as_str().unwrap().to_owned()
}

/// Whether the span has failed.
fn has_failed(span: &Value) -> bool {
    span["status"]["code"] == 2
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
    let mut spans = next_request(&spans);
    assert_eq!(
        names(&spans),
        [
            "POST /oauth2/token",
            "admit",
            "body",
            "signals",
            "state",
            "features",
            "score",
            "decide",
            "upstream",
            "answer",
            "record"
        ]
    );
    let request = &spans[0];
    assert_eq!(request["traceId"], TRACE);
    assert_eq!(request["parentSpanId"], CALLER);
    assert_eq!(request["kind"], 2);
    let id = &world.last_record().await.id;
    let body = form(FORM).len().to_string();
    for (span, key, value) in [
        ("POST /oauth2/token", "riskgate.id", id.as_str()),
        ("POST /oauth2/token", "riskgate.door", "token"),
        ("POST /oauth2/token", "riskgate.verdict", "allow"),
        ("POST /oauth2/token", "riskgate.mode", "enforce"),
        ("POST /oauth2/token", "http.route", "/oauth2/token"),
        ("POST /oauth2/token", "http.request.method", "POST"),
        ("POST /oauth2/token", "url.scheme", "http"),
        ("admit", "riskgate.class", "scored"),
        ("state", "db.system.name", "embedded"),
        ("features", "riskgate.kind", "m2m"),
        ("score", "riskgate.source", "native"),
        ("decide", "riskgate.verdict", "allow"),
        ("decide", "riskgate.rule", "rule-0"),
        ("upstream", "http.request.method", "POST"),
        ("upstream", "server.address", "127.0.0.1"),
        ("answer", "riskgate.outcome", "tokens_issued"),
    ] {
        assert_eq!(says(named(&spans, span), key), value, "{span} {key}");
    }
    for (span, key, value) in [
        ("POST /oauth2/token", "http.response.status_code", "200"),
        ("upstream", "http.response.status_code", "200"),
        ("body", "http.request.body.size", body.as_str()),
    ] {
        let found = attribute(named(&spans, span), key);
        assert_eq!(found["intValue"], value, "{span} {key}");
    }
    let recorded = attribute(named(&spans, "record"), "riskgate.recorded");
    assert_eq!(recorded["boolValue"], true);
    assert!(spans.iter().all(|span| !has_failed(span)), "{spans:#?}");
    // The upstream's parent is the span of the call to it.
    let upstream = named(&spans, "upstream")["spanId"].as_str().unwrap();
    assert_eq!(said, format!("00-{TRACE}-{upstream}-01"));
    // The operator's own server is no secret; here it has the address that the client has as well.
    for span in &mut spans {
        let attributes = span["attributes"].as_array_mut().unwrap();
        attributes.retain(|attribute| attribute["key"] != "server.address");
    }
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
    // Spans go out in the order in which their requests ended: what the stranger had recorded would come before these.
    world.records().await;
    let config = std::fs::read_to_string(world.config_file()).unwrap();
    std::fs::write(world.config_file(), config.replace("10.9.8.7", "127.0.0.1")).unwrap();
    world.signal("HUP");
    crate::lifecycle::until_reloaded(&world, "ok", 1.0).await;
    let later = format!("00-{LATER}-{CALLER}-01");
    token(&world, &[("traceparent", &later)]).await;
    for span in next_request(&spans) {
        assert_eq!(span["traceId"], LATER, "{span:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_is_recorded_and_without_traces_the_headers_pass() {
    let (url, spans) = collector();
    let world = traced(&url, 100.0, false).await;
    assert!(token(&world, &[]).await.0.unwrap().ends_with("-01"));
    assert_eq!(next_request(&spans)[0]["parentSpanId"], "");

    let world = World::start(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    let headers = [("traceparent", "anything"), ("tracestate", "a=1")];
    let said = token(&world, &headers).await;
    assert_eq!(said, (Some("anything".to_owned()), Some("a=1".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_goes_nowhere_is_told_as_far_as_it_came() {
    let (url, spans) = collector();
    // Takes connections, and ends each of them at once.
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closing.local_addr().unwrap().port();
    std::thread::spawn(move || closing.incoming().for_each(drop));
    let more = format!("[upstream]\nurl = 'http://127.0.0.1:{port}'\n");
    let world = traced_with(&url, 100.0, false, &more).await;

    let request = world.request(reqwest::Method::POST, "/oauth2/%2ftoken");
    assert_eq!(world.send(request.form(FORM)).await.status, 400);
    let found = next_request(&spans);
    assert_eq!(names(&found), ["POST unreadable", "admit", "record"]);
    assert_eq!(says(&found[1], "riskgate.class"), "refused");
    // It is the client's fault.
    assert!(!says(&found[1], "error.type").is_empty() && !has_failed(&found[0]));

    let request = world.request(reqwest::Method::from_bytes(b"PURGE").unwrap(), "/console/");
    let answer = world.send(request).await;
    let found = next_request(&spans);
    assert_eq!(
        says(&found[0], "http.request.method"),
        "_OTHER",
        "{answer:?}"
    );
    assert!(
        found[0]["name"].as_str().unwrap().starts_with("HTTP /"),
        "{found:#?}"
    );

    let request = world.request(reqwest::Method::POST, "/oauth2/token");
    let request = request.basic_auth("demo-service", Some("demo-service-secret"));
    assert_eq!(world.send(request.form(FORM)).await.status, 502);
    let found = next_request(&spans);
    let upstream = named(&found, "upstream");
    assert!(has_failed(upstream) && has_failed(&found[0]), "{found:#?}");
    assert_eq!(says(upstream, "error.type"), says(&found[0], "error.type"));
    assert!(
        !names(&found).contains(&"answer"),
        "nothing came that could be watched"
    );
    assert!(names(&found).contains(&"decide"), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_proved_is_scored_twice_and_a_held_answer_ends_where_it_is_judged() {
    let (url, spans) = collector();
    let config = format!("[traces]\nurl = '{url}'\nsample_percent = 100.0\n");
    let at_login = "request.door == \"login\"";
    let world = stepped_up(at_login, SimConfig::default(), config.leak()).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let answer = alice.redeem(&code).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        world.last_record().await.proof.as_deref(),
        Some("proven"),
        "its answer was held"
    );
    let mut logins = Vec::new();
    let token = loop {
        let found = next_request(&spans);
        match found[0]["name"].as_str().unwrap() {
            "POST /oauth2/token" => break found,
            "POST /commonauth" => logins.push(found),
            _ => {}
        }
    };
    let count = |name: &str| {
        let names = names(&logins[0]).into_iter();
        names.filter(|found| *found == name).count()
    };
    assert_eq!((count("features"), count("score")), (2, 2), "{logins:#?}");
    assert_eq!(
        says(named(&logins[0], "decide"), "riskgate.verdict"),
        "step_up"
    );
    let (upstream, answer) = (named(&token, "upstream"), named(&token, "answer"));
    assert_eq!(upstream["endTimeUnixNano"], answer["startTimeUnixNano"]);
    assert_eq!(
        attribute(upstream, "http.response.status_code")["intValue"],
        "200"
    );
    let text = format!("{logins:?}{token:?}");
    assert!(!text.contains("alice") && !text.contains(&code), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_the_operators_own_has_a_stage_for_its_token() {
    let (url, spans) = collector();
    let more = orders("http://127.0.0.1:1", "");
    let world = traced_with(&url, 100.0, false, &more).await;
    let request = world.request(reqwest::Method::GET, "/orders/7");
    let answer = world.send(request).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    let found = next_request(&spans);
    assert_eq!(
        names(&found),
        ["GET resource:/orders", "admit", "visit", "record"]
    );
    assert_eq!(says(&found[2], "error.type"), "token_missing");
    assert!(!has_failed(&found[2]));
}
