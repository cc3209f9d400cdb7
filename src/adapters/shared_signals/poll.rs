//! Keeps the tokens of one receiver until it fetches them (RFC 8936). A poll that finds nothing waits, within bounds of time
//! and number; it holds no thread, and may be dropped at any moment.

use super::QUEUE_MAX;
use super::account::Account;
use crate::domain::shared_signal::Token;
use crate::domain::shared_signal::poll::Outbox;
use crate::domain::shared_signal::poll::PollAnswer;
use crate::domain::shared_signal::poll::PollRequest;
use crate::domain::shared_signal::poll::Settled;
use crate::flow::ports::SignalOutbox;
use async_trait::async_trait;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a poll waits for something at most: less than what balancers grant an idle connection.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Polls of one receiver that wait at the same time. One more, and the first of them is answered.
const POLLS_MAX: u64 = 4;

/// What waits for one receiver.
pub(super) struct Polled {
    account: Arc<Account>,
    outbox: Mutex<Outbox>,
    /// How many tokens were put in, and the end.
    put: watch::Sender<u64>,
    /// How many polls have begun to wait.
    polls: watch::Sender<u64>,
    wait: Duration,
}

impl std::fmt::Debug for Polled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Polled({})", self.account.name())
    }
}

impl Polled {
    pub(super) fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            outbox: Mutex::new(Outbox::new(QUEUE_MAX)),
            put: watch::Sender::default(),
            polls: watch::Sender::default(),
            wait: WAIT_MAX,
        }
    }

    /// Another time to wait: for tests.
    #[cfg(test)]
    pub(super) fn waiting(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// Puts a token in. One that makes room for it is counted.
    pub(super) fn put(&self, token: Token) {
        let lost = self.outbox().put(token);
        if let Some(lost) = lost {
            self.account.count(lost.kind, "queue_full");
            let why = "it does not fetch what waits for it";
            self.account.stands(Some(why));
        }
        self.put.send_modify(|put| *put += 1);
    }

    /// Nobody will fetch anything any more. Who waits is answered.
    pub(super) fn end(&self) {
        let lost = self.outbox().take();
        for token in &lost {
            self.account.count(token.kind, "given_up");
        }
        if !lost.is_empty() {
            let receiver = self.account.name();
            tracing::warn!(receiver = %receiver, events = lost.len(), "shared signals were not fetched and are lost");
        }
        self.put.send_modify(|put| *put += 1);
    }

    fn settle(&self, request: &PollRequest) {
        let settled = self.outbox().settle(request);
        for settled in settled {
            match settled {
                Settled::Taken(kind) => self.account.delivered(kind),
                Settled::Refused(kind, why) => {
                    let why = format!("the receiver says {why}");
                    self.account.given_up(kind, &why);
                }
            }
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock()
    }
}

#[async_trait]
impl SignalOutbox for Polled {
    async fn poll(&self, request: &PollRequest) -> PollAnswer {
        self.settle(request);
        let mut put = self.put.subscribe();
        let given = self.outbox().give(request);
        if !given.is_empty() || !request.waits() {
            return given;
        }
        let mut polls = self.polls.subscribe();
        let mut number = 0;
        self.polls.send_modify(|polls| {
            *polls += 1;
            number = *polls;
        });
        tokio::select! {
            // The senders are ours: they cannot be gone.
            _ = put.changed() => {}
            _ = polls.wait_for(|polls| *polls >= number + POLLS_MAX) => {}
            () = tokio::time::sleep(self.wait) => {}
        }
        self.outbox().give(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::shared_signals::account::Standing;
    use crate::domain::shared_signal::SignalKind;
    use crate::telemetry::health::Health;
    use crate::telemetry::health::PartStatus;
    use crate::telemetry::metrics::Metrics;
    use serde_json::Value;

    const LONG: Duration = Duration::from_secs(600);

    fn polled(wait: Duration) -> (Arc<Polled>, Arc<Health>) {
        let health = Arc::new(Health::default());
        let standing = Standing::new(Arc::clone(&health));
        standing.begin();
        let metrics = Arc::new(Metrics::new().unwrap());
        let account = Account::new("app".to_owned(), metrics, standing);
        (Arc::new(Polled::new(account).waiting(wait)), health)
    }

    fn token(id: &str) -> Token {
        Token {
            id: id.to_owned(),
            kind: SignalKind::RiskLevelChange,
            text: format!("text of {id}"),
        }
    }

    fn begin(polled: &Arc<Polled>, body: &str) -> tokio::task::JoinHandle<Vec<String>> {
        let request = PollRequest::parse(body.as_bytes()).unwrap();
        let polled = Arc::clone(polled);
        tokio::spawn(async move { ids(polled.poll(&request).await) })
    }

    async fn poll(polled: &Arc<Polled>, body: &str) -> Vec<String> {
        begin(polled, body).await.unwrap()
    }

    fn ids(answer: PollAnswer) -> Vec<String> {
        let answer: Value = serde_json::from_str(&answer.json()).unwrap();
        answer["sets"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    async fn until_waiting(polled: &Polled, polls: u64) {
        drop(
            polled
                .polls
                .subscribe()
                .wait_for(|begun| *begun >= polls)
                .await,
        );
    }

    fn told(polled: &Polled, result: &str) -> u64 {
        let text = polled.account.metrics().render();
        let line = text.lines().find(|line| {
            line.starts_with("riskgate_shared_signals_total{")
                && line.contains(&format!("result=\"{result}\""))
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn is_degraded(health: &Health) -> bool {
        health.readiness().1.parts["shared_signals"] != PartStatus::Ok
    }

    #[tokio::test]
    async fn a_poll_waits_until_there_is_something() {
        let (polled, _) = polled(LONG);
        let waiting = begin(&polled, "{}");
        until_waiting(&polled, 1).await;
        polled.put(token("a"));
        assert_eq!(waiting.await.unwrap(), ["a"]);
        // What was not acknowledged is given again, and at once.
        assert_eq!(poll(&polled, "{}").await, ["a"]);
        assert_eq!(told(&polled, "delivered"), 0);
        let waiting = begin(&polled, "{\"ack\": [\"a\"]}");
        until_waiting(&polled, 2).await;
        assert_eq!(told(&polled, "delivered"), 1);
        polled.put(token("b"));
        assert_eq!(waiting.await.unwrap(), ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_finds_nothing_ends_and_one_that_must_not_wait_ends_at_once() {
        let (polled, _) = polled(WAIT_MAX);
        let begun = tokio::time::Instant::now();
        assert!(
            poll(&polled, "{\"returnImmediately\": true}")
                .await
                .is_empty()
        );
        assert!(poll(&polled, "{\"maxEvents\": 0}").await.is_empty());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(poll(&polled, "{}").await.is_empty());
        assert_eq!(begun.elapsed().as_secs(), WAIT_MAX.as_secs());
    }

    #[tokio::test]
    async fn only_so_many_polls_wait() {
        let (polled, _) = polled(LONG);
        let mut waiting = Vec::new();
        for number in 1..=POLLS_MAX {
            waiting.push(begin(&polled, "{}"));
            until_waiting(&polled, number).await;
        }
        let last = begin(&polled, "{}");
        // The first makes room for it; the others go on waiting.
        assert!(waiting.remove(0).await.unwrap().is_empty());
        assert!(waiting.iter().all(|poll| !poll.is_finished()) && !last.is_finished());
        polled.put(token("a"));
        for poll in waiting.into_iter().chain([last]) {
            assert_eq!(poll.await.unwrap(), ["a"]);
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_given_up_and_health_says_so_until_something_is_taken() {
        let (polled, health) = polled(LONG);
        for id in ["a", "b"] {
            polled.put(token(id));
        }
        let refused =
            "{\"setErrs\": {\"a\": {\"err\": \"invalid_audience\", \"description\": \"who?\"}}}";
        assert_eq!(poll(&polled, refused).await, ["b"]);
        assert_eq!(told(&polled, "given_up"), 1);
        assert!(is_degraded(&health));
        let taken = "{\"ack\": [\"b\"], \"returnImmediately\": true}";
        assert!(poll(&polled, taken).await.is_empty());
        assert!(!is_degraded(&health));
    }

    #[tokio::test]
    async fn who_waits_is_answered_at_the_end() {
        let (polled, _) = polled(LONG);
        let waiting = begin(&polled, "{}");
        until_waiting(&polled, 1).await;
        polled.end();
        let answered = tokio::time::timeout(LONG / 10, waiting).await;
        assert!(answered.expect("an answer").unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_receiver_that_never_fetches_costs_its_oldest_tokens() {
        let (polled, health) = polled(LONG);
        for n in 0..QUEUE_MAX {
            polled.put(token(&n.to_string()));
        }
        assert!(!is_degraded(&health));
        polled.put(token("last"));
        assert!(is_degraded(&health));
        assert_eq!(told(&polled, "queue_full"), 1);
        assert_eq!(poll(&polled, "{\"maxEvents\": 1}").await, ["1"]);
        polled.end();
        assert_eq!(told(&polled, "given_up"), u64::try_from(QUEUE_MAX).unwrap());
    }
}
