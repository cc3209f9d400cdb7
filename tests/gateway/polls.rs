//! Receivers of shared signals that fetch from the real gateway (RFC 8936): what they get and acknowledge, who is turned
//! away, what is refused, and that the end of the gateway waits for nobody.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::lifecycle::until_reloaded;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use crate::shared_signals::AUDIENCE;
use crate::shared_signals::ISSUER;
use crate::shared_signals::confirm;
use crate::shared_signals::event;
use crate::shared_signals::levels;
use crate::shared_signals::verified;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const PATH: &str = "/riskgate/ssf/poll";

/// The token of one of the receivers.
fn token(name: &str) -> String {
    format!("{name}-").repeat(8)
}

/// A gateway with operators from which `orders` fetches everything and `sessions` what concerns sessions.
async fn polled(mode: &'static str, config: &str) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let receiver = |name: &str, events: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("{}\n", token(name))).unwrap();
        format!(
            "[[shared_signals.receivers]]\nname = '{name}'\ndelivery = 'poll'\naudience = '{AUDIENCE}'\n\
             token_file = '{}'\n{events}\n",
            file.display()
        )
    };
    let config = format!(
        "{config}\n[shared_signals]\nissuer = '{ISSUER}'\n{}{}",
        receiver("orders", ""),
        receiver("sessions", "events = ['session-revoked']"),
    );
    let world = with_operators(Options {
        mode,
        policy: Some(levels(99, 100)),
        // Lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    (world, folder)
}

fn request(world: &World, name: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    let request = world.request(Method::POST, PATH).body(body);
    let authorization = format!("Bearer {}", token(name));
    request
        .header("authorization", authorization)
        .header("content-type", "application/json")
}

/// What a receiver is given; it must be answered as the RFC says.
async fn poll(world: &World, name: &str, body: &Value) -> Value {
    let answer = world.send(request(world, name, body.to_string())).await;
    assert_eq!(
        (
            answer.status,
            answer.header("content-type"),
            answer.header("cache-control")
        ),
        (200, Some("application/json"), Some("no-store")),
        "{answer:?}"
    );
    answer.json()
}

/// Polls until there is something, as receivers do: the ids and the tokens.
async fn fetch(world: &World, name: &str) -> Vec<(String, String)> {
    eventually(async || {
        let given = poll(world, name, &json!({})).await;
        let sets = given["sets"].as_object().unwrap().clone();
        let text = |value: Value| value.as_str().unwrap().to_owned();
        (!sets.is_empty()).then(|| sets.into_iter().map(|(id, set)| (id, text(set))).collect())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_fetch_what_they_are_told_until_they_have_acknowledged_it() {
    let (world, _folder) = polled("advise", "").await;
    let metadata = world.get("/.well-known/ssf-configuration").await.json();
    assert_eq!(metadata["issuer"], ISSUER);
    let at_once = json!({ "returnImmediately": true });
    let nothing = json!({ "sets": {}, "moreAvailable": false });
    assert_eq!(poll(&world, "orders", &at_once).await, nothing);

    world.set_policy(&levels(1, 2));
    until_reloaded(&world, "ok", 1.0).await;
    world.person("alice").sign_in().await;
    let (id, set) = fetch(&world, "orders").await.remove(0);
    let told = verified(&world, &set).await;
    assert_eq!(told["jti"], id);
    assert_eq!(event(&told, "risk-level-change")["current_level"], "HIGH");
    // What is not acknowledged is given again; nothing of it is another receiver's, nor can that acknowledge it.
    assert_eq!(poll(&world, "orders", &at_once).await["sets"][&id], set);
    let foreign = json!({ "ack": [id], "returnImmediately": true });
    assert_eq!(poll(&world, "sessions", &foreign).await, nothing);

    let login = world.last_record_of("login").await;
    let mut ann = Browser::of(&world, "ann").await;
    confirm(&world, &mut ann, &login.id).await;
    let ended = verified(&world, &fetch(&world, "sessions").await[0].1).await;
    assert_eq!(
        event(&ended, "session-revoked")["initiating_entity"],
        "admin"
    );
    assert_eq!(ended["sub_id"], told["sub_id"]);
    let first = json!({ "maxEvents": 1, "returnImmediately": true });
    let given = eventually(async || {
        let given = poll(&world, "orders", &first).await;
        (given["moreAvailable"] == true).then_some(given)
    })
    .await;
    assert_eq!(given["sets"], json!({ &id: set }));
    // One poll acknowledges and fetches the next.
    let given = poll(&world, "orders", &json!({ "ack": [id] })).await;
    let (next, _) = given["sets"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(given["moreAvailable"], false);
    let refused = json!({
        "setErrs": { next: { "err": "invalid_audience", "description": "who?" } },
        "maxEvents": 0,
    });
    assert_eq!(poll(&world, "orders", &refused).await, nothing);
    for (kind, result) in [
        ("risk-level-change", "delivered"),
        ("session-revoked", "given_up"),
    ] {
        let labels = [("receiver", "orders"), ("event", kind), ("result", result)];
        let count = world.metric("riskgate_shared_signals_total", &labels).await;
        assert!((count - 1.0).abs() < f64::EPSILON, "{kind} {count}");
    }
    let (_, health) = world.admin("/health/ready").await;
    assert!(health.contains("invalid_audience: who?"), "{health}");
    world.leaks_nothing(&[&token("orders"), &token("sessions"), &set]);
}

async fn refused(world: &World, request: reqwest::RequestBuilder) -> (Answer, String) {
    let answer = world.send(request).await;
    let error = answer.json()["err"].as_str().unwrap_or_default().to_owned();
    (answer, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_other_forms_are_turned_away() {
    let (world, _folder) = polled("monitor", "").await;
    let bare = || {
        let request = world.request(Method::POST, PATH).body("{}");
        request.header("content-type", "application/json")
    };
    let (answer, error) = refused(&world, bare()).await;
    assert_eq!(
        (answer.status, error.as_str()),
        (401, "authentication_failed")
    );
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"riskgate\"")
    );
    let known = format!("Bearer {}", token("orders"));
    for wrong in [
        "Bearer".to_owned(),
        format!("Bearer {}", token("others")),
        format!("Basic {}", token("orders")),
        format!("{known}x"),
    ] {
        let (answer, error) = refused(&world, bare().header("authorization", &wrong)).await;
        assert_eq!(
            (answer.status, error.as_str()),
            (401, "authentication_failed")
        );
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.ends_with("error=\"invalid_token\""),
            "{challenge}"
        );
    }
    let twice = bare()
        .header("authorization", &known)
        .header("authorization", &known);
    assert_eq!(refused(&world, twice).await.0.status, 401);
    // Who is known asks in one form.
    for (body, status) in [
        (String::new(), 400),
        ("{".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("{\"maxEvents\": -1}".to_owned(), 400),
        ("{\"ack\": \"a\"}".to_owned(), 400),
        (format!("{{\"x\": \"{}\"}}", "y".repeat(70_000)), 413),
    ] {
        let (answer, error) = refused(&world, request(&world, "orders", body)).await;
        assert_eq!((answer.status, error.as_str()), (status, "invalid_request"));
    }
    let form = bare()
        .header("authorization", &known)
        .header("content-type", "text/plain");
    assert_eq!(refused(&world, form).await.0.status, 415);
    let read = world.request(Method::GET, PATH);
    let answer = world.send(read.header("authorization", &known)).await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    // What it says beside is passed over.
    let more = json!({ "returnImmediately": true, "other": { "ack": [] } });
    poll(&world, "orders", &more).await;
    for (code, count) in [("poll_token", 6.0), ("poll", 5.0)] {
        let labels = [("error", code)];
        let refused = world
            .metric("riskgate_requests_refused_total", &labels)
            .await;
        assert!((refused - count).abs() < f64::EPSILON, "{code} {refused}");
    }
    world.leaks_nothing(&[&token("orders"), &token("others")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_limited_by_address() {
    let (world, _folder) = polled("monitor", "[limits]\naddress_per_minute = 3").await;
    let guess = || async {
        let request = world.request(Method::POST, PATH).body("{}");
        world
            .send(request.header("authorization", "Bearer x"))
            .await
    };
    let limited = eventually(async || {
        let answer = guess().await;
        assert!(matches!(answer.status, 401 | 429), "{answer:?}");
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert_eq!(limited.header("content-type"), Some("application/json"));
    assert!(limited.header("retry-after").is_some(), "{limited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_polls_wait_and_the_end_of_the_gateway_for_none() {
    let (mut world, _folder) = polled("monitor", "[server]\ngrace_seconds = 20").await;
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let request = request(&world, "orders", "{}");
        polls.spawn(async move {
            let answer = request.send().await.expect("a poll is answered");
            assert_eq!(answer.status(), 200);
            answer.text().await.expect("to its end")
        });
    }
    // Once all are there, the one that came first makes room.
    let first = polls.join_next().await.unwrap().unwrap();
    let answer: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(answer, json!({ "sets": {}, "moreAvailable": false }));
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    // A poll that was cut off would not have been answered.
    while let Some(answer) = polls.join_next().await {
        assert_eq!(answer.unwrap(), first);
    }
    assert!(!world.log().contains("in the middle of a request"));
}
