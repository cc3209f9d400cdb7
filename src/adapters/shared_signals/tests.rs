//! Against receivers on sockets of their own: what they get and how it verifies, when they refuse, when they are slow or
//! answer without end, when they are not there.

use super::*;
use crate::adapters::clock::SystemClock;
use crate::adapters::courier::tests::Answer;
use crate::adapters::courier::tests::Received;
use crate::adapters::courier::tests::header;
use crate::adapters::courier::tests::nobody;
use crate::adapters::courier::tests::receiver;
use crate::adapters::entropy::OsEntropy;
use crate::adapters::target::Target;
use crate::domain::alert::signature;
use crate::domain::shared_signal::poll::PollRequest;
use crate::domain::signing::Ring;
use crate::domain::signing::SigningAlgorithm;
use crate::domain::signing::SigningKey;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;

const SHORT: [Duration; 3] = [Duration::from_millis(20); 3];
const ISSUER: &str = "https://sso.example.com";
const AUDIENCE: &str = "https://app.example.com/";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const AUTHORIZATION: &str = "Bearer s3cret-of-the-receiver";

/// Keeps how many records it got.
#[derive(Default)]
struct Counted(AtomicU64);

impl AuditSink for Counted {
    fn write(&self, _event: AuditEvent) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn keys() -> Arc<SigningKeys> {
    let der = rcgen::KeyPair::generate().unwrap().serialize_der();
    let current = SigningKey::from_pkcs8(SigningAlgorithm::Es256, &der).unwrap();
    let ring = Ring {
        current,
        next: None,
        previous: None,
    };
    Arc::new(SigningKeys::new(SigningAlgorithm::Es256, vec![ring]).unwrap())
}

fn event(id: &str, level: &'static str) -> AuditEvent {
    AuditEvent {
        class: "scored".into(),
        id: id.to_owned(),
        time: "2026-11-26T12:00:00.250Z".to_owned(),
        door: Some("login".into()),
        subject: Some("9f0c".to_owned()),
        named: true,
        level: Some(level.into()),
        mode: Some("enforce".into()),
        outcome: "succeeded".into(),
        reasons: vec!["impossible_travel".into()],
        ..AuditEvent::default()
    }
}

/// How clients know users.
type Names = Arc<Mutex<BTreeMap<(String, String), Named>>>;

struct Running {
    sink: SignallingSink,
    receivers: Arc<Receivers>,
    records: Arc<Counted>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    keys: Arc<SigningKeys>,
    names: Names,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn destination(url: &str) -> Destination {
    Destination {
        target: Target::parse(url).unwrap(),
        authorities: Vec::new(),
    }
}

/// Tokens are pushed there.
fn start(urls: &[(&str, &[SignalKind])]) -> Running {
    let receivers = urls
        .iter()
        .enumerate()
        .map(|(n, (url, events))| ReceiverSettings {
            name: format!("app-{n}"),
            events: events.to_vec(),
            named_to: None,
            delivery: Delivery::Push {
                audience: AUDIENCE.to_owned(),
                destination: destination(url),
                authorization: Some(Secret::new(AUTHORIZATION.to_owned())),
            },
        });
    start_with(receivers.collect())
}

fn prepared(receivers: Vec<ReceiverSettings>) -> Prepared {
    let settings = SignalSettings {
        issuer: ISSUER.to_owned(),
        modes: vec![Mode::Enforce],
        receivers,
    };
    Prepared::of(settings).unwrap()
}

fn start_with(receivers: Vec<ReceiverSettings>) -> Running {
    start_at(receivers, &SHORT)
}

fn start_at(receivers: Vec<ReceiverSettings>, retries: &[Duration]) -> Running {
    let metrics = Arc::new(Metrics::new().unwrap());
    let records = Arc::new(Counted::default());
    let inner = Arc::clone(&records) as Arc<dyn AuditSink>;
    let (keys, health) = (keys(), Arc::new(Health::default()));
    let mut all = Receivers::new(
        Handle::current(),
        Arc::new(SystemClock),
        Arc::clone(&metrics),
        Arc::clone(&health),
    );
    all.haste = Some((retries.to_vec(), Duration::from_millis(500)));
    let all = Arc::new(all);
    all.take(Some(prepared(receivers)), drop);
    let (sink, transmitter) = SignallingSink::new(inner, Arc::clone(&all));
    let (stop, stopped) = watch::channel(false);
    let used = Arc::clone(&keys);
    let names = Names::default();
    let means = Means {
        keys: Box::new(move || Some(Arc::clone(&used))),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        name: {
            let names = Arc::clone(&names);
            Box::new(move |client, subject| {
                let key = (client.to_owned(), subject.to_owned());
                names.lock().unwrap().get(&key).cloned()
            })
        },
    };
    let task = tokio::spawn(transmitter.run(means, stopped));
    Running {
        sink,
        receivers: all,
        records,
        metrics,
        health,
        keys,
        names,
        stop,
        task,
    }
}

impl Running {
    /// The counter of a result at a receiver.
    fn told(&self, receiver: &str, result: &str) -> u64 {
        let text = self.metrics.render();
        let counts = text.lines().filter(|line| {
            line.starts_with("riskgate_shared_signals_total{")
                && line.contains(&format!("receiver=\"{receiver}\""))
                && line.contains(&format!("result=\"{result}\""))
        });
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    async fn until_more(&self, receiver: &str, result: &str, count: u64) {
        let waiting = async {
            while self.told(receiver, result) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(done.is_ok(), "{}", self.metrics.render());
    }

    async fn until(&self, receiver: &str, result: &str, count: u64) {
        self.until_more(receiver, result, count).await;
        assert_eq!(self.told(receiver, result), count);
    }

    /// The header and the claims of a token, once the published keys have verified it as another program would.
    fn verified(&self, token: &str) -> (jsonwebtoken::Header, Value) {
        let set: JwkSet = serde_json::from_str(self.keys.document()).unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        let key = set.find(header.kid.as_deref().unwrap()).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        // A security event token does not end (RFC 8417 section 2.2).
        rules.set_required_spec_claims(&["iss", "aud"]);
        let key = DecodingKey::from_jwk(key).unwrap();
        let data = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
        (header, data.claims)
    }
}

#[tokio::test]
async fn a_change_of_level_is_pushed_as_a_token_that_others_verify() {
    let (url, received) = receiver(vec![Answer::Says("202 Accepted", "")]).await;
    let running = start(&[(&url, &SignalKind::ALL)]);
    running.sink.write(event("1", "low"));
    running.sink.write(event("2", "high"));
    running.until("app-0", "delivered", 1).await;
    assert_eq!(running.records.0.load(Ordering::Relaxed), 2);
    let (head, body) = received.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("POST /hooks/s3cret HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(header(&head, "content-type"), "application/secevent+jwt");
    assert_eq!(header(&head, "authorization"), AUTHORIZATION);
    let (header, claims) = running.verified(&body);
    assert_eq!(header.typ.as_deref(), Some("secevent+jwt"));
    assert_eq!(claims["sub_id"]["id"], "9f0c");
    assert_eq!(claims["txn"], "2");
    let event = &claims["events"][SignalKind::RiskLevelChange.uri()];
    assert_eq!(
        (&event["previous_level"], &event["current_level"]),
        (&"LOW".into(), &"HIGH".into())
    );
    assert_eq!(event["event_timestamp"], 1_795_694_400);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 2 * ID_BYTES);
}

#[tokio::test]
async fn a_receiver_is_told_of_what_it_asked_for_alone() {
    let taken = vec![Answer::Says("202 Accepted", "")];
    let (levels, of_levels) = receiver(taken.clone()).await;
    let (sessions, of_sessions) = receiver(taken).await;
    let running = start(&[
        (&levels, &[SignalKind::RiskLevelChange]),
        (&sessions, &[SignalKind::SessionRevoked]),
    ]);
    running.sink.write(event("1", "high"));
    running.sink.write(AuditEvent {
        class: "operator".into(),
        action: "labelled_compromised".into(),
        labelled: Some("1".to_owned()),
        ..event("2", "low")
    });
    running.until("app-0", "delivered", 1).await;
    running.until("app-1", "delivered", 1).await;
    let claims = |received: &Received| running.verified(&received.lock().unwrap()[0].1).1;
    let (level, session) = (claims(&of_levels), claims(&of_sessions));
    assert!(
        level["events"]
            .get(SignalKind::RiskLevelChange.uri())
            .is_some()
    );
    assert!(
        session["events"]
            .get(SignalKind::SessionRevoked.uri())
            .is_some()
    );
    assert_eq!(
        (&level["sub_id"], &level["txn"]),
        (&session["sub_id"], &session["txn"])
    );
    assert_ne!(level["jti"], session["jti"]);
    // Of a decision that is not known nobody can be told.
    running.sink.write(AuditEvent {
        class: "operator".into(),
        action: "labelled_compromised".into(),
        labelled: Some("another".to_owned()),
        ..event("3", "low")
    });
    running.until("none", "subject_unknown", 1).await;
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_as_the_same_token() {
    let unknown_key = "{\"err\":\"invalid_key\",\"description\":\"not yet\"}";
    let (url, received) = receiver(vec![
        Answer::Says("503 Busy", ""),
        Answer::Says("400 Bad", unknown_key),
        Answer::Says("202 Accepted", ""),
    ])
    .await;
    let running = start(&[(&url, &SignalKind::ALL)]);
    running.sink.write(event("1", "high"));
    running.until("app-0", "delivered", 1).await;
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|(_, body)| *body == received[0].1));
    assert!(running.health.readiness().1.parts["shared_signals"] == PartStatus::Ok);
}

#[tokio::test]
async fn what_is_never_taken_is_given_up_and_health_says_so_until_something_is() {
    let refusal = "{\"err\":\"invalid_audience\",\"description\":\"who?\"}";
    let (url, received) = receiver(vec![
        Answer::Says("400 Bad", refusal),
        Answer::Says("302 Found", ""),
        Answer::Says("202 Accepted", ""),
    ])
    .await;
    let running = start(&[(&url, &SignalKind::ALL)]);
    running.sink.write(event("1", "high"));
    running.until("app-0", "given_up", 1).await;
    let PartStatus::Degraded(why) = running.health.readiness().1.parts["shared_signals"].clone()
    else {
        panic!("health is silent");
    };
    assert!(
        why.contains("app-0") && why.contains("invalid_audience: who?"),
        "{why}"
    );
    assert!(!why.contains("s3cret"), "{why}");
    running.sink.write(event("2", "low"));
    running.until("app-0", "given_up", 2).await;
    running.sink.write(event("3", "high"));
    running.until("app-0", "delivered", 1).await;
    // One attempt each: neither is a refusal repeated nor a redirect followed.
    assert_eq!(received.lock().unwrap().len(), 3);
    assert!(running.health.readiness().1.parts["shared_signals"] == PartStatus::Ok);
}

#[tokio::test]
async fn a_receiver_that_floods_stalls_or_is_silent_is_given_up_and_the_others_are_told() {
    let (good, _) = receiver(vec![Answer::Says("202 Accepted", "")]).await;
    for (answer, attempts) in [
        (Answer::Floods, 1),
        (Answer::Stalls, 1),
        (Answer::Silent, 1 + SHORT.len()),
    ] {
        let (url, received) = receiver(vec![answer]).await;
        let running = start(&[(&url, &SignalKind::ALL), (&good, &SignalKind::ALL)]);
        running.sink.write(event("1", "high"));
        running.until("app-1", "delivered", 1).await;
        running.until("app-0", "given_up", 1).await;
        assert_eq!(received.lock().unwrap().len(), attempts);
    }
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_events_and_nothing_else() {
    let url = nobody().await;
    let running = start(&[(&url, &SignalKind::ALL)]);
    let flood = u64::try_from(SEEN_MAX + QUEUE_MAX + 500).unwrap();
    for n in 0..flood {
        running.sink.write(event(
            &n.to_string(),
            if n % 2 == 0 { "high" } else { "low" },
        ));
    }
    assert_eq!(running.records.0.load(Ordering::Relaxed), flood);
    // Each is accounted for: overlooked, without a place, or given up.
    running
        .until(
            "none",
            "queue_full",
            flood - u64::try_from(SEEN_MAX).unwrap(),
        )
        .await;
    // More may follow meanwhile.
    running.until_more("app-0", "given_up", 1).await;
    running.until_more("app-0", "queue_full", 1).await;
}

#[tokio::test]
async fn who_knows_users_by_a_client_is_told_once_that_client_has_met_them() {
    let (url, received) = receiver(vec![Answer::Says("202 Accepted", "")]).await;
    let (other, of_other) = receiver(vec![Answer::Says("202 Accepted", "")]).await;
    let to = |name: &str, url: &str, named_to: Option<&str>| ReceiverSettings {
        name: name.to_owned(),
        events: SignalKind::ALL.to_vec(),
        named_to: named_to.map(str::to_owned),
        delivery: Delivery::Push {
            audience: AUDIENCE.to_owned(),
            destination: destination(url),
            authorization: None,
        },
    };
    let running = start_with(vec![
        to("app-0", &url, Some("orders")),
        to("app-1", &other, None),
    ]);
    let compromised = |id: &str, of: &str| AuditEvent {
        class: "operator".into(),
        action: "labelled_compromised".into(),
        labelled: Some(of.to_owned()),
        ..event(id, "low")
    };
    running.sink.write(event("1", "medium"));
    running.sink.write(event("2", "high"));
    running.sink.write(compromised("3", "2"));
    running.until("app-1", "delivered", 3).await;
    assert!(received.lock().unwrap().is_empty());
    let name = Named {
        iss: "https://is.example.com".to_owned(),
        sub: "alice".to_owned(),
    };
    let key = ("orders".to_owned(), "9f0c".to_owned());
    running.names.lock().unwrap().insert(key, name);
    // With the next that is seen of her, what is new of each kind is told.
    running.sink.write(event("4", "high"));
    running.until("app-0", "delivered", 2).await;
    running.sink.write(event("5", "low"));
    running.until("app-0", "delivered", 3).await;
    let received = received.lock().unwrap().clone();
    let claims: Vec<Value> = received
        .iter()
        .map(|(_, body)| running.verified(body).1)
        .collect();
    assert_eq!(
        claims
            .iter()
            .map(|claims| &claims["txn"])
            .collect::<Vec<_>>(),
        ["2", "2", "5"]
    );
    for claims in &claims {
        assert_eq!(
            claims["sub_id"],
            serde_json::json!({ "format": "iss_sub", "iss": "https://is.example.com", "sub": "alice" })
        );
    }
    let opaque = running.verified(&of_other.lock().unwrap()[0].1).1;
    assert_eq!(opaque["sub_id"]["format"], "opaque");
    // Whom the client never meets is not told, and counted at the end.
    running.sink.write(AuditEvent {
        subject: Some("71ab".to_owned()),
        ..event("6", "high")
    });
    running.until("app-1", "delivered", 5).await;
    running.stop.send(true).unwrap();
    running.until("app-0", "subject_unknown", 1).await;
}

fn pushed(name: &str, url: &str) -> ReceiverSettings {
    ReceiverSettings {
        name: name.to_owned(),
        events: SignalKind::ALL.to_vec(),
        named_to: None,
        delivery: Delivery::Push {
            audience: AUDIENCE.to_owned(),
            destination: destination(url),
            authorization: None,
        },
    }
}

#[tokio::test]
async fn who_goes_is_told_what_waits_once_more_and_leaves_nothing_behind() {
    let taken = Answer::Says("202 Accepted", "");
    let (goes, of_goes) = receiver(vec![Answer::Says("503 Busy", ""), taken]).await;
    let (stays, of_stays) = receiver(vec![taken]).await;
    let (comes, of_comes) = receiver(vec![taken]).await;
    let never = [Duration::from_secs(3_600)];
    let running = start_at(vec![pushed("goes", &goes), pushed("stays", &stays)], &never);
    running.sink.write(event("1", "high"));
    running.sink.write(event("2", "low"));
    running.until("stays", "delivered", 2).await;
    // The first has been tried, and the second waits behind it.
    until(|| of_goes.lock().unwrap().len() == 1).await;
    let next = vec![pushed("comes", &comes), pushed("stays", &stays)];
    running.receivers.take(Some(prepared(next)), drop);
    until(|| of_goes.lock().unwrap().len() == 2).await;
    running.sink.write(event("3", "high"));
    running.until("stays", "delivered", 3).await;
    running.until("comes", "delivered", 1).await;
    let texts = |received: &Received| -> Vec<Value> {
        let received = received.lock().unwrap();
        let claims = received.iter().map(|(_, body)| running.verified(body).1);
        claims.map(|claims| claims["txn"].clone()).collect()
    };
    assert_eq!(texts(&of_goes), ["1", "2"]);
    assert_eq!(texts(&of_stays), ["1", "2", "3"]);
    assert_eq!(texts(&of_comes), ["3"]);
    // What became of the last two is counted nowhere, nor is its receiver away.
    assert!(!running.metrics.render().contains("goes"));
    assert!(running.health.readiness().1.parts["shared_signals"] == PartStatus::Ok);

    // With the last of them the section is off: levels are forgotten, and health is silent.
    running.receivers.take(None, drop);
    running.sink.write(event("4", "low"));
    assert!(!running.metrics.render().contains("stays"));
    assert_eq!(
        running.health.readiness().1.parts.get("shared_signals"),
        None
    );
    let again = prepared(vec![pushed("stays", &stays)]);
    running.receivers.take(Some(again), drop);
    running.sink.write(event("5", "high"));
    running.until("stays", "delivered", 1).await;
    assert_eq!(texts(&of_stays), ["1", "2", "3", "5"]);
    running.stop.send(true).unwrap();
    running.task.await.unwrap();
}

#[tokio::test]
async fn a_receiver_of_the_same_name_that_is_told_in_another_way_is_another_one() {
    let (url, received) = receiver(vec![Answer::Says("202 Accepted", "")]).await;
    let polled = |token: &str| ReceiverSettings {
        delivery: Delivery::Poll {
            audience: AUDIENCE.to_owned(),
            token: BearerToken::parse(&token.repeat(32)).unwrap(),
        },
        ..pushed("app-0", &url)
    };
    let running = start_with(vec![polled("a")]);
    let mut fetched = Outboxes::new();
    let (same, other) = (prepared(vec![polled("b")]), prepared(vec![polled("c")]));
    running.receivers.take(Some(same), |found| fetched = found);
    let first = Arc::clone(&fetched[0].1);
    running.receivers.take(Some(other), |found| fetched = found);
    assert!(Arc::ptr_eq(&first, &fetched[0].1));
    // Who waits is answered once it has gone, and not before what is fetched is another.
    let asked = PollRequest::parse(b"{}").unwrap();
    let waiting = tokio::spawn(async move { first.poll(&asked).await });
    tokio::task::yield_now().await;
    let next = prepared(vec![pushed("app-0", &url)]);
    running.receivers.take(Some(next), |found| {
        assert!(found.is_empty() && !waiting.is_finished());
        fetched = found;
    });
    assert!(waiting.await.unwrap().is_empty());
    running.sink.write(event("1", "high"));
    running.until("app-0", "delivered", 1).await;
    assert_eq!(received.lock().unwrap().len(), 1);
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(done.is_ok(), "it did not come to be");
}

fn webhook(url: &str) -> Running {
    start_with(vec![ReceiverSettings {
        name: "app-0".to_owned(),
        events: SignalKind::ALL.to_vec(),
        named_to: None,
        delivery: Delivery::Webhook {
            destination: destination(url),
            secret: Secret::new(SECRET.to_vec()),
        },
    }])
}

#[tokio::test]
async fn who_reads_no_tokens_is_told_in_plain_json_that_is_signed() {
    let (url, received) = receiver(vec![
        Answer::Says("400 Bad", ""),
        Answer::Says("503 Busy", ""),
        Answer::Says("204 No Content", ""),
    ])
    .await;
    let running = webhook(&url);
    running.sink.write(event("1", "high"));
    running.until("app-0", "given_up", 1).await;
    assert!(running.health.readiness().1.parts["shared_signals"] != PartStatus::Ok);
    running.sink.write(event("2", "low"));
    running.until("app-0", "delivered", 1).await;
    assert!(running.health.readiness().1.parts["shared_signals"] == PartStatus::Ok);
    let received = received.lock().unwrap();
    let [_, first, again] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert_eq!(first.1, again.1);
    let (head, body) = again;
    let id = header(head, "webhook-id");
    assert_eq!(id, header(&first.0, "webhook-id"));
    let seconds: i64 = header(head, "webhook-timestamp").parse().unwrap();
    let signed = signature(SECRET, id, seconds, body.as_bytes());
    assert_eq!(header(head, "webhook-signature"), signed);
    assert_eq!(header(head, "content-type"), "application/json");
    let message: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&message["type"], &message["lost"]),
        (&"risk.signals".into(), &1.into())
    );
    let signal = &message["signals"][0];
    assert_eq!(id, format!("msg_{}", signal["id"].as_str().unwrap()));
    assert_eq!(
        (&signal["previous_level"], &signal["level"]),
        (&"high".into(), &"low".into())
    );
    assert_eq!(signal["decision_id"], "2");
}

#[tokio::test]
async fn the_end_tells_what_waits_and_does_not_wait_for_a_receiver_that_is_away() {
    let (url, received) = receiver(vec![Answer::Says("202 Accepted", "")]).await;
    let running = start(&[(&url, &SignalKind::ALL)]);
    running.sink.write(event("1", "high"));
    running.stop.send(true).unwrap();
    running.task.await.unwrap();
    assert_eq!(received.lock().unwrap().len(), 1);

    let (url, _) = receiver(vec![Answer::Silent]).await;
    let running = start(&[(&url, &SignalKind::ALL)]);
    running.sink.write(event("1", "high"));
    running.stop.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), running.task).await;
    assert!(
        ended.is_ok(),
        "it waits for a receiver that does not answer"
    );
}
