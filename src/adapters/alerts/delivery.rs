//! Takes alerts from the queue, many at a time, and sends them: one message under way, tried again with growing pauses. A
//! receiver that is away costs alerts, which are counted, and never a login.

use super::AlertSettings;
use super::AlertsError;
use crate::adapters::target;
use crate::adapters::target::Target;
use crate::domain::alert::Alert;
use crate::domain::alert::AlertMessage;
use crate::domain::alert::BATCH_MAX;
use crate::domain::alert::RETRIES;
use crate::domain::alert::Receipt;
use crate::domain::alert::signature;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::telemetry::metrics::Metrics;
use reqwest::Client;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// For connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that one attempt may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that the last attempts may take once the gateway ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Delivers alerts.
pub struct Delivery {
    http: Client,
    target: Target,
    secret: Secret<Vec<u8>>,
    queue: mpsc::Receiver<Alert>,
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    retries: Vec<Duration>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delivery({})", self.target.origin())
    }
}

impl Delivery {
    pub(super) fn new(
        settings: AlertSettings,
        queue: mpsc::Receiver<Alert>,
        lost: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, AlertsError> {
        let http = target::client(&settings.authorities)
            .map_err(AlertsError::Authority)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ATTEMPT_TIMEOUT)
            .build()
            .map_err(AlertsError::Client)?;
        Ok(Self {
            http,
            target: settings.target,
            secret: settings.secret,
            queue,
            lost,
            metrics,
            retries: RETRIES.to_vec(),
        })
    }

    /// Other pauses between attempts: for tests, which cannot wait for minutes.
    #[cfg(test)]
    pub(super) fn retrying_after(mut self, retries: &[Duration]) -> Self {
        self.retries = retries.to_vec();
        self
    }

    /// Delivers until the sinks are gone, or `stop` says so; then what waits is tried once more.
    pub async fn run(mut self, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let taken = tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH_MAX) => taken,
                _ = stop.wait_for(|stopped| *stopped) => break,
            };
            if taken == 0 {
                return;
            }
            self.tell(&batch, clock.as_ref(), &mut stop).await;
            batch.clear();
        }
        self.queue.close();
        let farewell = async {
            while self.queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
                self.tell(&batch, clock.as_ref(), &mut stop).await;
                batch.clear();
            }
        };
        if tokio::time::timeout(FAREWELL_TIMEOUT, farewell)
            .await
            .is_err()
        {
            tracing::warn!("the last alerts may not have been told");
        }
    }

    /// Sends one message, and again while that may help.
    async fn tell(&self, batch: &[Alert], clock: &dyn Clock, stop: &mut watch::Receiver<bool>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let message = AlertMessage {
            kind: "risk.alerts",
            alerts: batch,
            lost,
        };
        let Ok(body) = serde_json::to_vec(&message) else {
            return self.give_up(count, lost, "it cannot be written");
        };
        // The same for each attempt, so that a receiver can tell that it has the message already.
        let id = format!(
            "msg_{}",
            batch.first().map_or("", |alert| alert.id.as_str())
        );
        let mut pauses = self.retries.iter();
        loop {
            let (receipt, why) = self.attempt(&id, &body, clock.now()).await;
            match receipt {
                Receipt::Taken => return self.metrics.alerts("sent", count),
                Receipt::Never => return self.give_up(count, lost, &why),
                Receipt::Later => {}
            }
            let Some(pause) = pauses.next() else {
                return self.give_up(count, lost, &why);
            };
            tracing::debug!(receiver = %self.target.origin(), "alerts are told again later: {why}");
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                _ = stop.wait_for(|stopped| *stopped) => return self.give_up(count, lost, &why),
            }
        }
    }

    /// One attempt: what became of it, and why.
    async fn attempt(&self, id: &str, body: &[u8], now: Timestamp) -> (Receipt, String) {
        let seconds = now.seconds();
        let sent = self
            .http
            .post(self.target.url().clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string())
            .header(
                "webhook-signature",
                signature(self.secret.expose(), id, seconds, body),
            )
            .body(body.to_vec())
            .send()
            .await;
        match sent {
            Ok(answer) => {
                let status = answer.status().as_u16();
                (
                    Receipt::of_status(status),
                    format!("the receiver answers {status}"),
                )
            }
            // Its text may name the address, whose path may hold a secret.
            Err(error) => (Receipt::Later, error.without_url().to_string()),
        }
    }

    fn give_up(&self, count: u64, lost: u64, why: &str) {
        self.lost.fetch_add(count + lost, Ordering::Relaxed);
        self.metrics.alerts("given_up", count);
        tracing::warn!(receiver = %self.target.origin(), alerts = count, "alerts are given up: {why}");
    }
}
