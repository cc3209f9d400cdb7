//! Tells receivers of the operator's about users: by tokens that are pushed or fetched, or in plain JSON. It stands before the sink
//! of records and takes its facts from them: on the path there is a comparison and a place in a bounded queue, never a wait.
//! Another task finds out what has changed, signs, and puts a token into the queue of each receiver. What finds no place is
//! counted.

/// What is counted and said of one receiver.
mod account;

/// Keeps what is in the queue of one receiver until it is fetched.
mod poll;

/// Sends tokens.
mod push;

/// What may be exchanged while events wait.
mod receivers;

/// Sends plain JSON.
mod webhook;

use crate::adapters::courier::Destination;
use crate::domain::audit::AuditEvent;
use crate::domain::bearer_token::BearerToken;
use crate::domain::hex;
use crate::domain::policy::decision::Mode;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::Envelope;
use crate::domain::shared_signal::Named;
use crate::domain::shared_signal::Notice;
use crate::domain::shared_signal::SET_TYPE;
use crate::domain::shared_signal::Signal;
use crate::domain::shared_signal::SignalKind;
use crate::domain::shared_signal::Token;
use crate::domain::shared_signal::watch::Seen;
use crate::domain::shared_signal::watch::Told;
use crate::domain::signing::SigningKeys;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
pub use receivers::Outboxes;
pub use receivers::Prepared;
pub use receivers::Receivers;
use receivers::Stream;
use receivers::Way;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// What was seen and is not looked at yet. One has some 300 bytes.
const SEEN_MAX: usize = 4_000;
/// Tokens that may wait for one receiver. One has some 900 bytes.
pub const QUEUE_MAX: usize = 2_000;
/// Bytes of chance in the id of a token.
const ID_BYTES: usize = 16;

/// Who is told of what.
#[derive(Clone, Debug)]
pub struct SignalSettings {
    /// Who says so: the `iss` of tokens.
    pub issuer: String,
    /// The modes whose decisions change a level that is told.
    pub modes: Vec<Mode>,
    /// The receivers.
    pub receivers: Vec<ReceiverSettings>,
}

/// One receiver.
#[derive(Clone, Debug)]
pub struct ReceiverSettings {
    /// Its name, for metrics and the log.
    pub name: String,
    /// What it is told of.
    pub events: Vec<SignalKind>,
    /// The client by whose ID tokens it knows users; by their pseudonyms when absent. In tokens alone.
    pub named_to: Option<String>,
    /// How.
    pub delivery: Delivery,
}

/// How events come to a receiver.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// As tokens that are sent (RFC 8935).
    Push {
        /// The `aud` of its tokens.
        audience: String,
        /// Where they are sent.
        destination: Destination,
        /// The value of `Authorization`, where it wants one.
        authorization: Option<Secret<String>>,
    },
    /// As tokens that are fetched (RFC 8936).
    Poll {
        /// The `aud` of its tokens.
        audience: String,
        /// What it shows.
        token: BearerToken,
    },
    /// In plain JSON that is sent.
    Webhook {
        /// Where it is sent.
        destination: Destination,
        /// With what it is signed; at least 32 bytes.
        secret: Secret<Vec<u8>>,
    },
}

/// Stands before a sink of records.
pub struct SignallingSink {
    inner: Arc<dyn AuditSink>,
    receivers: Arc<Receivers>,
    seen: mpsc::Sender<Seen>,
}

/// Makes tokens of what was seen, and has them sent.
#[derive(Debug)]
pub struct Transmitter {
    receivers: Arc<Receivers>,
    seen: mpsc::Receiver<Seen>,
}

/// What the transmitter needs once it runs.
pub struct Means {
    /// The keys that sign at the moment; none before the first start has made some.
    pub keys: Box<dyn Fn() -> Option<Arc<SigningKeys>> + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance for ids.
    pub entropy: Arc<dyn Entropy>,
    /// How a client knows the user with a pseudonym, as far as is known.
    pub name: Box<NameOf>,
}

/// From a client and a pseudonym to a name.
pub type NameOf = dyn Fn(&str, &str) -> Option<Named> + Send + Sync;

impl std::fmt::Debug for SignallingSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignallingSink({:?})", self.receivers)
    }
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Means")
    }
}

impl SignalSettings {
    /// A line for each receiver: where it is, or that it comes, and what it is told of.
    pub fn describe(&self) -> Vec<String> {
        let line = |receiver: &ReceiverSettings| {
            let kinds: Vec<&str> = receiver.events.iter().map(|kind| kind.as_str()).collect();
            let kinds = kinds.join(", ");
            let name = &receiver.name;
            match &receiver.delivery {
                Delivery::Push { destination, .. } | Delivery::Webhook { destination, .. } => {
                    let origin = destination.target.origin();
                    format!("shared signals go to: {name} at {origin} ({kinds})")
                }
                Delivery::Poll { .. } => {
                    format!("shared signals are fetched by: {name} ({kinds})")
                }
            }
        };
        self.receivers.iter().map(line).collect()
    }
}

impl SignallingSink {
    /// The sink, and what tells its events to `receivers` once it is run.
    pub fn new(inner: Arc<dyn AuditSink>, receivers: Arc<Receivers>) -> (Self, Transmitter) {
        let (seen, waiting) = mpsc::channel(SEEN_MAX);
        let transmitter = Transmitter {
            receivers: Arc::clone(&receivers),
            seen: waiting,
        };
        let sink = Self {
            inner,
            receivers,
            seen,
        };
        (sink, transmitter)
    }
}

impl AuditSink for SignallingSink {
    fn write(&self, event: AuditEvent) {
        if let Some(seen) = self.receivers.seen(&event)
            && self.seen.try_send(seen).is_err()
        {
            let metrics = &self.receivers.metrics;
            metrics.shared_signal_overlooked("queue_full");
        }
        self.inner.write(event);
    }

    fn takes(&self) -> bool {
        self.inner.takes()
    }

    fn keeps(&self) -> bool {
        self.inner.keeps()
    }
}

impl Transmitter {
    /// Tells until the sinks are gone, or `stop` says so; then what waits is tried once more.
    pub async fn run(mut self, means: Means, mut stop: watch::Receiver<bool>) {
        loop {
            let seen = tokio::select! {
                seen = self.seen.recv() => seen,
                _ = stop.wait_for(|stopped| *stopped) => break,
            };
            let Some(seen) = seen else { break };
            self.tell(seen, &means);
        }
        self.seen.close();
        while let Ok(seen) = self.seen.try_recv() {
            self.tell(seen, &means);
        }
        // Once what was seen before the end is in their queues.
        self.receivers.end().await;
    }

    fn tell(&self, seen: Seen, means: &Means) {
        // Nobody is told any more of what was seen before.
        let Some(telling) = self.receivers.telling() else {
            return;
        };
        let subject = seen.subject().map(str::to_owned);
        let told = telling.watch.lock().observe(seen);
        let keys = (means.keys)();
        let letters = Letters {
            issuer: &telling.issuer,
            keys: keys.as_deref(),
            means,
        };
        // The name of a user may have become known with what was seen.
        for stream in &telling.streams {
            let held = subject.iter().flat_map(|it| stream.lane.held().take(it));
            // It may be told of other events meanwhile.
            for signal in held.filter(|held| stream.events.contains(&held.kind())) {
                stream.tell(signal, &letters);
            }
        }
        let signal = match told {
            Told::Nothing => return,
            Told::Unknown => {
                let metrics = &self.receivers.metrics;
                metrics.shared_signal_overlooked("subject_unknown");
                tracing::warn!(
                    "a confirmed compromise is not told to receivers of shared signals: whose decision it was is not \
                     known, or nobody had signed in"
                );
                return;
            }
            Told::Signal(signal) => signal,
        };
        for stream in &telling.streams {
            if stream.events.contains(&signal.kind()) {
                stream.tell(signal.clone(), &letters);
            }
        }
    }
}

impl Stream {
    /// Puts an event on its way, or holds it until the receiver's name for the user is known.
    fn tell(&self, signal: Signal, letters: &Letters<'_>) {
        let kind = signal.kind();
        let is_put = match &self.lane.way {
            Way::Push(queue, _) => {
                let token = self.token(signal, letters);
                token.is_none_or(|token| queue.try_send(token).is_ok())
            }
            Way::Poll(polled) => {
                // It makes room, and counts what it loses.
                if let Some(token) = self.token(signal, letters) {
                    polled.put(token);
                }
                true
            }
            Way::Webhook(notices, _) => notices.put(Notice {
                id: letters.id(),
                signal,
            }),
        };
        if !is_put {
            self.lane.account.count(kind, "queue_full");
        }
    }

    /// The token of an event; `None` where it is held, or nothing can sign it.
    fn token(&self, signal: Signal, letters: &Letters<'_>) -> Option<Token> {
        let client = self.named_to.as_deref();
        let name = client.map(|client| (letters.means.name)(client, &signal.subject));
        if let Some(None) = name {
            // What makes room for it is not told.
            for lost in self.lane.held().put(signal) {
                self.lane.account.count(lost.kind(), "subject_unknown");
            }
            return None;
        }
        let token = letters.token(&signal, &self.audience, name.flatten().as_ref());
        if token.is_none() {
            self.lane.account.count(signal.kind(), "no_key");
        }
        token
    }
}

/// What makes tokens.
struct Letters<'a> {
    issuer: &'a str,
    keys: Option<&'a SigningKeys>,
    means: &'a Means,
}

impl Letters<'_> {
    /// An id unlike every other.
    fn id(&self) -> String {
        let mut bytes = [0; ID_BYTES];
        self.means.entropy.fill(&mut bytes);
        hex::encode(&bytes)
    }

    /// The token for one receiver; `None` where nothing can sign it.
    fn token(&self, signal: &Signal, audience: &str, name: Option<&Named>) -> Option<Token> {
        let id = self.id();
        let claims = signal.claims(&Envelope {
            issuer: self.issuer,
            audience,
            id: &id,
            at: self.means.clock.now(),
            name,
        });
        match self.keys?.sign(SET_TYPE, &claims) {
            Ok(text) => Some(Token {
                id,
                kind: signal.kind(),
                text,
            }),
            Err(error) => {
                tracing::error!("a shared signal is lost: {error}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
