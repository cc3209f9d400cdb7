//! Sends what waits in a queue to one receiver: one message under way, in order, tried again with growing pauses. A receiver
//! that is away costs messages, which their owner counts, and never a login. What it answers is read to a bound.

use crate::adapters::outbound;
use crate::adapters::outbound::ClientError;
use crate::adapters::target;
use crate::adapters::target::Target;
use crate::domain::alert::RETRIES;
use crate::domain::alert::Receipt;
use crate::domain::alert::signature;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use arc_swap::ArcSwap;
use reqwest::Client;
use reqwest::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// For connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that one attempt may take, with as much of the answer as is read.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that the attempt under way may take once the gateway ends, and then the last ones together.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// Within this time after the gateway has begun to end everything is told, or given up and counted.
pub const END_MAX: Duration = Duration::from_secs(5);

/// Why a message is given up that may have arrived.
const NO_TIME: &str = "there was no time left to tell it";

/// What is sent, and who hears how it went.
pub trait Cargo: Send + Sync + 'static {
    /// What waits in the queue.
    type Item: Send + Sync + 'static;
    /// What the receiver is shown of ours, or what that is made with.
    type Shown: Send + Sync + 'static;
    /// How many of them go into one message.
    const BATCH_MAX: usize;
    /// How much of an answer is read, in bytes.
    const ANSWER_BYTES_MAX: usize = 0;

    /// The message that tells these, the same for each attempt; `None` where it cannot be written.
    fn pack(&self, items: &[Self::Item]) -> Option<Parcel>;

    /// The header fields of an attempt.
    fn fields(
        &self,
        shown: &Self::Shown,
        parcel: &Parcel,
        now: Timestamp,
    ) -> Vec<(&'static str, String)>;

    /// What became of an attempt by the status and the beginning of the answer, and why.
    fn receipt(&self, status: u16, _answer: &[u8]) -> (Receipt, String) {
        let why = format!("the receiver answers {status}");
        (Receipt::of_status(status), why)
    }

    /// A message was taken.
    fn taken(&self, items: &[Self::Item], parcel: &Parcel);

    /// A message is given up.
    fn given_up(&self, items: &[Self::Item], parcel: &Parcel, why: &str);
}

/// One message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parcel {
    /// What a receiver tells it from others by.
    pub id: String,
    /// The body.
    pub body: Vec<u8>,
    /// How many that could not be told it tells of.
    pub lost: u64,
}

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The address.
    pub target: Target,
    /// Certificates of the authorities that the receiver's certificate is checked against, DER.
    pub authorities: Vec<Vec<u8>>,
}

/// Where a receiver is, and what it is shown: exchanged as one, so that a secret goes to nobody but whom it is for.
pub struct Line<S> {
    http: Client,
    target: Target,
    shown: S,
}

/// The line of the moment. An attempt ends by the one that it began with.
pub type CurrentLine<S> = Arc<ArcSwap<Line<S>>>;

impl<S> std::fmt::Debug for Line<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.target.origin())
    }
}

impl<S> Line<S> {
    /// What reaches `destination`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(destination: Destination, shown: S) -> Result<Self, ClientError> {
        let http = target::client(&destination.authorities)?
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(ClientError::Build)?;
        Ok(Self {
            http,
            target: destination.target,
            shown,
        })
    }

    /// The same line to a receiver whose certificate is checked against these authorities (certificates, DER).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn trusting(&self, authorities: Vec<Vec<u8>>) -> Result<Self, ClientError>
    where
        S: Clone,
    {
        let target = self.target.clone();
        let destination = Destination {
            target,
            authorities,
        };
        Self::new(destination, self.shown.clone())
    }

    /// The same line, on which something else is shown.
    #[must_use]
    pub fn showing(&self, shown: S) -> Self {
        Self {
            http: self.http.clone(),
            target: self.target.clone(),
            shown,
        }
    }

    /// What is shown on it.
    pub fn shown(&self) -> &S {
        &self.shown
    }

    /// Whether it is spoken over TLS.
    pub fn is_tls(&self) -> bool {
        self.target.is_tls()
    }
}

/// Brings messages to one receiver.
pub struct Courier<C: Cargo> {
    line: CurrentLine<C::Shown>,
    cargo: C,
    queue: mpsc::Receiver<C::Item>,
    /// What is under way.
    batch: Vec<C::Item>,
    retries: Vec<Duration>,
    attempt_timeout: Duration,
}

impl<C: Cargo> std::fmt::Debug for Courier<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Courier({})", self.origin())
    }
}

impl<C: Cargo> Courier<C> {
    /// What brings the items of `queue` there, as `cargo`.
    pub fn new(line: Line<C::Shown>, cargo: C, queue: mpsc::Receiver<C::Item>) -> Self {
        Self {
            line: Arc::new(ArcSwap::from_pointee(line)),
            cargo,
            queue,
            batch: Vec::with_capacity(C::BATCH_MAX),
            retries: RETRIES.to_vec(),
            attempt_timeout: ATTEMPT_TIMEOUT,
        }
    }

    /// Where another line is put in.
    pub fn line(&self) -> CurrentLine<C::Shown> {
        Arc::clone(&self.line)
    }

    fn origin(&self) -> String {
        self.line.load().target.origin()
    }

    /// Other pauses between attempts, and less time for one: for tests, which cannot wait for minutes.
    #[cfg(test)]
    pub(crate) fn hastily(mut self, retries: &[Duration], attempt: Duration) -> Self {
        self.retries = retries.to_vec();
        self.attempt_timeout = attempt;
        self
    }

    /// Sends until the queue is closed, or `stop` says so; then what waits is tried once more. What is not told by the end,
    /// however that comes, is given up.
    pub async fn run(mut self, clock: Arc<dyn Clock>, mut stop: watch::Receiver<bool>) {
        loop {
            let taken = tokio::select! {
                // In this order: an end bounds its farewell, whether or not the queue is closed as well.
                biased;
                _ = stop.wait_for(|stopped| *stopped) => break,
                taken = self.queue.recv_many(&mut self.batch, C::BATCH_MAX) => taken,
            };
            if taken == 0 {
                return;
            }
            self.send(&self.batch, clock.as_ref(), &mut stop).await;
            self.batch.clear();
        }
        self.queue.close();
        let farewell = async {
            while self.queue.recv_many(&mut self.batch, C::BATCH_MAX).await > 0 {
                self.send(&self.batch, clock.as_ref(), &mut stop).await;
                self.batch.clear();
            }
        };
        if tokio::time::timeout(FAREWELL_TIMEOUT, farewell)
            .await
            .is_err()
        {
            tracing::warn!(receiver = %self.origin(), "the last messages may not have been told");
        }
    }

    /// Sends one message, and again while that may help.
    async fn send(&self, items: &[C::Item], clock: &dyn Clock, stop: &mut watch::Receiver<bool>) {
        let Some(parcel) = self.cargo.pack(items) else {
            let why = "it cannot be written";
            return self.cargo.given_up(items, &Parcel::default(), why);
        };
        let mut pauses = self.retries.iter();
        loop {
            let (receipt, why) = tokio::select! {
                answer = self.attempt(&parcel, clock.now()) => answer,
                () = ending(stop) => (Receipt::Never, NO_TIME.to_owned()),
            };
            match receipt {
                Receipt::Taken => return self.cargo.taken(items, &parcel),
                Receipt::Never => return self.cargo.given_up(items, &parcel, &why),
                Receipt::Later => {}
            }
            let Some(pause) = pauses.next() else {
                return self.cargo.given_up(items, &parcel, &why);
            };
            tracing::debug!(receiver = %self.origin(), "a message is told again later: {why}");
            tokio::select! {
                () = tokio::time::sleep(*pause) => {}
                _ = stop.wait_for(|stopped| *stopped) => {
                    return self.cargo.given_up(items, &parcel, &why);
                }
            }
        }
    }

    /// One attempt: what became of it, and why.
    async fn attempt(&self, parcel: &Parcel, now: Timestamp) -> (Receipt, String) {
        let line = self.line.load_full();
        let mut request = line
            .http
            .post(line.target.url().clone())
            .timeout(self.attempt_timeout);
        for (name, value) in self.cargo.fields(&line.shown, parcel, now) {
            request = request.header(name, value);
        }
        match request.body(parcel.body.clone()).send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let beginning = beginning(answer, C::ANSWER_BYTES_MAX).await;
                self.cargo.receipt(status, &beginning)
            }
            Err(error) => (Receipt::Later, outbound::told(error)),
        }
    }
}

impl<C: Cargo> Drop for Courier<C> {
    /// What is under way may have arrived, and nobody knows; what waits has not.
    fn drop(&mut self) {
        self.queue.close();
        loop {
            while self.batch.len() < C::BATCH_MAX
                && let Ok(item) = self.queue.try_recv()
            {
                self.batch.push(item);
            }
            if self.batch.is_empty() {
                return;
            }
            self.cargo
                .given_up(&self.batch, &Parcel::default(), NO_TIME);
            self.batch.clear();
        }
    }
}

/// The fields of a message in JSON that is signed with `secret` as Standard Webhooks 1.0 has it.
pub fn signed_fields(
    secret: &Secret<Vec<u8>>,
    parcel: &Parcel,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let seconds = now.seconds();
    let signature = signature(secret.expose(), &parcel.id, seconds, &parcel.body);
    vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", parcel.id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ]
}

/// Returns when the gateway ends and the time is over that an attempt gets then.
async fn ending(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stopped| *stopped).await);
    tokio::time::sleep(FAREWELL_TIMEOUT).await;
}

/// The first bytes of an answer: what is beyond the bound, or does not come in time, is not read.
async fn beginning(mut answer: Response, most: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < most
        && let Ok(Some(piece)) = answer.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    body.truncate(most);
    body
}

#[cfg(test)]
pub(crate) mod tests;
