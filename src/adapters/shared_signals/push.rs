//! Sends the tokens of one receiver (RFC 8935): one at a time and in their order, tried again with growing pauses. A
//! receiver that is away costs tokens, which are counted, and never a login. What it answers is read to a bound.

use super::Pushes;
use super::SignalsError;
use super::Standing;
use super::given_up;
use crate::adapters::target;
use crate::adapters::target::Target;
use crate::domain::alert::RETRIES;
use crate::domain::alert::Receipt;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::REFUSAL_BYTES_MAX;
use crate::domain::shared_signal::SET_MEDIA_TYPE;
use crate::domain::shared_signal::Token;
use crate::domain::shared_signal::receipt;
use crate::telemetry::metrics::Metrics;
use reqwest::Client;
use reqwest::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// For connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that one attempt may take, with the whole answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that the last attempts may take once the gateway ends.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to one receiver.
pub(super) struct Push {
    name: String,
    http: Client,
    target: Target,
    authorization: Option<Secret<String>>,
    pub(super) retries: Vec<Duration>,
    pub(super) attempt_timeout: Duration,
}

impl Push {
    pub(super) fn new(name: String, settings: Pushes) -> Result<Self, SignalsError> {
        let http = target::client(&settings.authorities)
            .map_err(SignalsError::Authority)?
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(SignalsError::Client)?;
        Ok(Self {
            name,
            http,
            target: settings.target,
            authorization: settings.authorization,
            retries: RETRIES.to_vec(),
            attempt_timeout: ATTEMPT_TIMEOUT,
        })
    }

    /// Sends until the queue is closed, or `stop` says so; then what waits is tried once more.
    pub(super) async fn run(
        self,
        mut queue: mpsc::Receiver<Token>,
        metrics: Arc<Metrics>,
        standing: Standing,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            let token = tokio::select! {
                token = queue.recv() => token,
                _ = stop.wait_for(|stopped| *stopped) => break,
            };
            let Some(token) = token else { return };
            self.send(&token, &metrics, &standing, &mut stop).await;
        }
        let farewell = async {
            // It ends when the transmitter has put its last token in.
            while let Some(token) = queue.recv().await {
                self.send(&token, &metrics, &standing, &mut stop).await;
            }
        };
        if tokio::time::timeout(FAREWELL_TIMEOUT, farewell)
            .await
            .is_err()
        {
            tracing::warn!(receiver = %self.name, "the last shared signals may not have been told");
        }
    }

    /// Sends one token, and again while that may help.
    async fn send(
        &self,
        token: &Token,
        metrics: &Metrics,
        standing: &Standing,
        stop: &mut watch::Receiver<bool>,
    ) {
        let give_up = |why: &str| given_up(&self.name, token.kind, why, metrics, standing);
        let mut pauses = self.retries.iter();
        loop {
            let (receipt, why) = self.attempt(token).await;
            match receipt {
                Receipt::Taken => {
                    metrics.shared_signal(&self.name, token.kind, "delivered");
                    return standing.set(&self.name, None);
                }
                Receipt::Never => return give_up(&why),
                Receipt::Later => {}
            }
            let Some(pause) = pauses.next() else {
                return give_up(&why);
            };
            tracing::debug!(receiver = %self.name, "a shared signal is told again later: {why}");
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                _ = stop.wait_for(|stopped| *stopped) => return give_up(&why),
            }
        }
    }

    /// One attempt: what became of it, and why.
    async fn attempt(&self, token: &Token) -> (Receipt, String) {
        let mut request = self
            .http
            .post(self.target.url().clone())
            .timeout(self.attempt_timeout)
            .header("content-type", SET_MEDIA_TYPE)
            .header("accept", "application/json");
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value.expose());
        }
        match request.body(token.text.clone()).send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let body = beginning(answer).await;
                receipt(status, &body)
            }
            // Its text may name the address, whose path may hold a secret.
            Err(error) => (Receipt::Later, error.without_url().to_string()),
        }
    }
}

/// The first bytes of an answer: what is beyond the bound, or does not come in time, is not read.
async fn beginning(mut answer: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < REFUSAL_BYTES_MAX
        && let Ok(Some(piece)) = answer.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    body.truncate(REFUSAL_BYTES_MAX);
    body
}
