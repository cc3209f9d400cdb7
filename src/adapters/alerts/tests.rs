//! Against a receiver on a socket of its own: what it gets, when it does not take it, when it is not there.

use super::*;
use crate::adapters::clock::SystemClock;
use crate::adapters::courier;
use crate::adapters::courier::tests::Answer;
use crate::adapters::courier::tests::Received;
use crate::adapters::courier::tests::header;
use crate::adapters::courier::tests::nobody;
use crate::adapters::courier::tests::receiver;
use crate::adapters::target::Target;
use crate::domain::alert::signature;
use crate::domain::policy::decision::Verdict;
use std::time::Duration;
use tokio::sync::watch;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const SHORT: [Duration; 3] = [Duration::from_millis(20); 3];

/// Keeps how many records it got.
#[derive(Default)]
struct Counted(AtomicU64);

impl AuditSink for Counted {
    fn write(&self, _event: AuditEvent) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn settings(url: &str) -> AlertSettings {
    AlertSettings {
        destination: Destination {
            target: Target::parse(url).unwrap(),
            authorities: Vec::new(),
        },
        secret: Secret::new(SECRET.to_vec()),
        rule: AlertRule {
            verdicts: vec![Verdict::Block],
            score_min: None,
        },
    }
}

fn event(id: &str, verdict: &'static str) -> AuditEvent {
    AuditEvent {
        class: "scored".into(),
        id: id.to_owned(),
        verdict: Some(verdict.into()),
        score: Some(93),
        reasons: vec!["risk_high".into()],
        ..AuditEvent::default()
    }
}

struct Running {
    sink: AlertingSink,
    records: Arc<Counted>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn start(url: &str) -> Running {
    let metrics = Arc::new(Metrics::new().unwrap());
    let records = Arc::new(Counted::default());
    let inner = Arc::clone(&records) as Arc<dyn AuditSink>;
    let (sink, courier) = AlertingSink::new(inner, settings(url), Arc::clone(&metrics)).unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(
        courier
            .hastily(&SHORT, Duration::from_secs(10))
            .run(Arc::new(SystemClock), stopped),
    );
    Running {
        sink,
        records,
        metrics,
        stop,
        task,
    }
}

impl Running {
    /// The counter of a result.
    fn told(&self, result: &str) -> u64 {
        let name = format!("riskgate_alerts_total{{result=\"{result}\"}} ");
        let text = self.metrics.render();
        text.lines()
            .find_map(|line| line.strip_prefix(&name)?.parse().ok())
            .unwrap_or(0)
    }

    async fn until(&self, result: &str, count: u64) {
        let waiting = async {
            while self.told(result) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let within = Duration::from_secs(60);
        let done = tokio::time::timeout(within, waiting).await;
        assert!(done.is_ok(), "{}", self.metrics.render());
        assert_eq!(self.told(result), count);
    }
}

/// Waits for the first message at the receiver.
async fn arrives(received: &Received) {
    let arriving = async {
        while received.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arriving)
        .await
        .expect("the first is told");
}

#[tokio::test]
async fn a_decision_is_told_with_a_signature_and_recorded_all_the_same() {
    let (url, received) = receiver(vec![Answer::Says("204 No Content", "")]).await;
    let running = start(&url);
    running.sink.write(event("1", "allow"));
    running.sink.write(event("2", "block"));
    running.until("sent", 1).await;
    assert_eq!(running.records.0.load(Ordering::Relaxed), 2);
    let (head, body) = received.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("POST /hooks/s3cret HTTP/1.1\r\n"),
        "{head}"
    );
    let seconds: i64 = header(&head, "webhook-timestamp").parse().unwrap();
    assert_eq!(header(&head, "webhook-id"), "msg_2");
    assert_eq!(
        header(&head, "webhook-signature"),
        signature(SECRET, "msg_2", seconds, body.as_bytes())
    );
    let message: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(message["type"], "risk.alerts");
    assert_eq!(message["lost"], 0);
    assert_eq!(message["alerts"].as_array().unwrap().len(), 1);
    assert_eq!(message["alerts"][0]["verdict"], "block");
    assert_eq!(message["alerts"][0]["reasons"][0], "risk_high");
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_under_the_same_id() {
    let (url, received) = receiver(vec![
        Answer::Says("503 Busy", ""),
        Answer::Says("429 Slow", ""),
        Answer::Says("200 OK", ""),
    ])
    .await;
    let running = start(&url);
    running.sink.write(event("1", "block"));
    running.until("sent", 1).await;
    let received = received.lock().unwrap();
    let ids: Vec<&str> = received
        .iter()
        .map(|(head, _)| header(head, "webhook-id"))
        .collect();
    assert_eq!(ids, ["msg_1"; 3]);
    assert!(received.iter().all(|(_, body)| *body == received[0].1));
    assert_eq!(running.told("given_up"), 0);
}

#[tokio::test]
async fn what_is_never_taken_is_given_up_and_the_next_message_says_so() {
    let refusals = ["400 Bad", "302 Found", "200 OK"].map(|status| Answer::Says(status, ""));
    let (url, received) = receiver(refusals.into()).await;
    let running = start(&url);
    for given_up in 1..=2 {
        running.sink.write(event("lost", "block"));
        running.until("given_up", given_up).await;
    }
    running.sink.write(event("3", "block"));
    running.until("sent", 1).await;
    // One attempt each: neither is a refusal repeated nor a redirect followed.
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 3);
    let message: serde_json::Value = serde_json::from_str(&received[2].1).unwrap();
    assert_eq!(message["lost"], 2);
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_alerts_and_nothing_else() {
    let url = nobody().await;
    let running = start(&url);
    running.sink.write(event("1", "block"));
    running.until("given_up", 1).await;
    // A flood while it is away: the queue has its bound, and every alert is accounted for.
    let flood = u64::try_from(QUEUE_MAX + 700).unwrap();
    let begun = std::time::Instant::now();
    for _ in 0..flood {
        running.sink.write(event("2", "block"));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        running.told("queue_full") >= 600,
        "{}",
        running.told("queue_full")
    );
    assert_eq!(running.records.0.load(Ordering::Relaxed), flood + 1);
    running
        .until("given_up", flood + 1 - running.told("queue_full"))
        .await;
}

#[tokio::test]
async fn the_end_tells_what_waits_and_does_not_wait_for_a_receiver_that_is_away() {
    let (url, received) = receiver(vec![Answer::Says("200 OK", "")]).await;
    let running = start(&url);
    running.stop.send(true).unwrap();
    running.sink.write(event("1", "block"));
    running.task.await.unwrap();
    assert_eq!(received.lock().unwrap().len(), 1);

    let (url, _) = receiver(vec![Answer::Says("503 Busy", "")]).await;
    let running = start(&url);
    running.sink.write(event("1", "block"));
    tokio::time::sleep(Duration::from_millis(5)).await;
    running.stop.send(true).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), running.task).await;
    assert!(
        ended.is_ok(),
        "it waits for a receiver that does not take anything"
    );
}

#[tokio::test]
async fn what_is_not_told_by_the_end_is_counted() {
    // One is under way and two wait when the runtime ends, which waits for nobody.
    let (url, received) = receiver(vec![Answer::Silent]).await;
    let running = start(&url);
    running.sink.write(event("1", "block"));
    arrives(&received).await;
    running.sink.write(event("2", "block"));
    running.sink.write(event("3", "block"));
    running.task.abort();
    running.until("given_up", 3).await;

    // Two wait when the gateway says that it ends, and have no time.
    let running = start(&url);
    running.stop.send(true).unwrap();
    running.sink.write(event("1", "block"));
    running.sink.write(event("2", "block"));
    running.until("given_up", 2).await;
}

/// An attempt may take ten seconds, but not once the gateway ends: what it was about is counted, and so is what waits behind it.
#[tokio::test]
async fn the_attempt_under_way_ends_in_time_as_well() {
    let (url, received) = receiver(vec![Answer::Silent]).await;
    let running = start(&url);
    running.sink.write(event("1", "block"));
    arrives(&received).await;
    running.sink.write(event("2", "block"));
    running.stop.send(true).unwrap();
    let ended = tokio::time::timeout(courier::END_MAX, running.task).await;
    assert!(ended.is_ok(), "it waits for the attempt");
    let count = |result: &str| {
        let name = format!("riskgate_alerts_total{{result=\"{result}\"}} 2");
        running.metrics.render().contains(&name)
    };
    assert!(count("given_up"), "{}", running.metrics.render());
}
