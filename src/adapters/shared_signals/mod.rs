//! Tells receivers of the operator's about users: by tokens that are pushed or fetched, or in plain JSON. It stands before the sink
//! of records and takes its facts from them: on the path there is a comparison and a place in a bounded queue, never a wait.
//! Another task finds out what has changed, signs, and puts a token into the queue of each receiver. What finds no place is
//! counted.

/// Keeps what is in the queue of one receiver until it is fetched.
mod poll;

/// Sends tokens.
mod push;

/// What may be exchanged while events wait.
mod reach;

/// Sends plain JSON.
mod webhook;

use crate::adapters::courier::Courier;
use crate::adapters::courier::CourierError;
use crate::adapters::courier::Destination;
use crate::adapters::courier::Line;
use crate::domain::audit::AuditEvent;
use crate::domain::bearer_token::BearerToken;
use crate::domain::policy::decision::Mode;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::Envelope;
use crate::domain::shared_signal::Named;
use crate::domain::shared_signal::Notice;
use crate::domain::shared_signal::SET_TYPE;
use crate::domain::shared_signal::Signal;
use crate::domain::shared_signal::SignalKind;
use crate::domain::shared_signal::Token;
use crate::domain::shared_signal::held::Held;
use crate::domain::shared_signal::watch::Seen;
use crate::domain::shared_signal::watch::Told;
use crate::domain::shared_signal::watch::Watch;
use crate::domain::signing::SigningKeys;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
use crate::flow::ports::SignalOutbox;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use poll::Polled;
use push::Push;
use reach::Known;
pub use reach::Prepared;
pub use reach::Reach;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use webhook::Notices;
use webhook::Webhook;

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
    modes: Vec<Mode>,
    seen: mpsc::Sender<Seen>,
    metrics: Arc<Metrics>,
}

/// Makes tokens of what was seen, and has them sent.
pub struct Transmitter {
    issuer: String,
    seen: mpsc::Receiver<Seen>,
    streams: Vec<Stream>,
    pushes: Vec<Courier<Push>>,
    webhooks: Vec<Courier<Webhook>>,
    outboxes: Vec<(BearerToken, Arc<dyn SignalOutbox>)>,
    reach: Reach,
    standing: Standing,
    metrics: Arc<Metrics>,
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

/// One receiver, and the way to it.
struct Stream {
    name: String,
    events: Vec<SignalKind>,
    named_to: Option<String>,
    held: Held,
    way: Way,
}

/// Where events for one receiver go.
enum Way {
    /// As tokens for this audience.
    Tokens(String, Tokens),
    /// As they are.
    Notices(Notices),
}

/// Where tokens for one receiver go.
enum Tokens {
    /// Into the queue of what sends them.
    Queue(mpsc::Sender<Token>),
    /// Into its outbox.
    Outbox(Arc<Polled>),
}

/// Which receivers do not take what they are sent, and why.
#[derive(Clone)]
struct Standing {
    away: Arc<Mutex<BTreeMap<String, String>>>,
    health: Arc<Health>,
}

impl std::fmt::Debug for SignallingSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignallingSink({:?})", self.modes)
    }
}

impl std::fmt::Debug for Transmitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.streams.iter().map(|stream| stream.name.as_str());
        f.debug_list().entries(names).finish()
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
    /// The sink, and what tells its events once it is run.
    ///
    /// # Errors
    /// See [`CourierError`].
    pub fn new(
        inner: Arc<dyn AuditSink>,
        settings: SignalSettings,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<(Self, Transmitter), CourierError> {
        let (seen, waiting) = mpsc::channel(SEEN_MAX);
        let mut transmitter = Transmitter {
            issuer: settings.issuer,
            seen: waiting,
            streams: Vec::new(),
            pushes: Vec::new(),
            webhooks: Vec::new(),
            outboxes: Vec::new(),
            reach: Reach::default(),
            standing: Standing::new(health),
            metrics: Arc::clone(&metrics),
        };
        for receiver in settings.receivers {
            transmitter.add(receiver)?;
        }
        let sink = Self {
            inner,
            modes: settings.modes,
            seen,
            metrics,
        };
        Ok((sink, transmitter))
    }
}

impl AuditSink for SignallingSink {
    fn write(&self, event: AuditEvent) {
        if let Some(seen) = Seen::of(&event, &self.modes)
            && self.seen.try_send(seen).is_err()
        {
            self.metrics.shared_signal_overlooked("queue_full");
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
    /// Other pauses between attempts, and less time for one: for tests, which cannot wait for minutes.
    #[cfg(test)]
    fn hastily(mut self, retries: &[std::time::Duration], attempt: std::time::Duration) -> Self {
        let pushes = self.pushes.into_iter();
        self.pushes = pushes.map(|push| push.hastily(retries, attempt)).collect();
        let webhooks = self.webhooks.into_iter();
        self.webhooks = webhooks
            .map(|webhook| webhook.hastily(retries, attempt))
            .collect();
        self
    }

    fn add(&mut self, receiver: ReceiverSettings) -> Result<(), CourierError> {
        let name = receiver.name.clone();
        let (metrics, standing) = (Arc::clone(&self.metrics), self.standing.clone());
        let (way, known) = match receiver.delivery {
            Delivery::Push {
                audience,
                destination,
                authorization,
            } => {
                let (queue, waiting) = mpsc::channel(QUEUE_MAX);
                let push = Push {
                    name,
                    metrics,
                    standing,
                };
                let courier = Courier::new(Line::new(destination, authorization)?, push, waiting);
                let known = Known::Push(courier.line());
                self.pushes.push(courier);
                (Way::Tokens(audience, Tokens::Queue(queue)), known)
            }
            Delivery::Poll { audience, token } => {
                let polled = Arc::new(Polled::new(name, metrics, standing));
                self.outboxes.push((token, Arc::clone(&polled) as _));
                let known = Known::Poll(Arc::clone(&polled) as _);
                (Way::Tokens(audience, Tokens::Outbox(polled)), known)
            }
            Delivery::Webhook {
                destination,
                secret,
            } => {
                let (queue, waiting) = mpsc::channel(QUEUE_MAX);
                let lost = Arc::default();
                let webhook = Webhook {
                    name,
                    lost: Arc::clone(&lost),
                    metrics,
                    standing,
                };
                let courier = Courier::new(Line::new(destination, secret)?, webhook, waiting);
                let known = Known::Webhook(courier.line());
                self.webhooks.push(courier);
                (Way::Notices(Notices { queue, lost }), known)
            }
        };
        self.reach.add(receiver.name.clone(), known);
        self.streams.push(Stream {
            name: receiver.name,
            events: receiver.events,
            named_to: receiver.named_to,
            held: Held::default(),
            way,
        });
        Ok(())
    }

    /// What receivers fetch, and by which token each of them is known.
    pub fn outboxes(&self) -> Vec<(BearerToken, Arc<dyn SignalOutbox>)> {
        self.outboxes.clone()
    }

    /// Where a reload puts in how receivers are reached from then on.
    pub fn reach(&self) -> Reach {
        self.reach.clone()
    }

    /// Tells until the sinks are gone, or `stop` says so; then what waits is tried once more.
    pub async fn run(mut self, means: Means, mut stop: watch::Receiver<bool>) {
        // Couriers end once what was seen before the end is in their queues.
        let (end, ended) = watch::channel(false);
        let mut couriers = JoinSet::new();
        for push in std::mem::take(&mut self.pushes) {
            couriers.spawn(push.run(Arc::clone(&means.clock), ended.clone()));
        }
        for webhook in std::mem::take(&mut self.webhooks) {
            couriers.spawn(webhook.run(Arc::clone(&means.clock), ended.clone()));
        }
        let mut watch = Watch::default();
        loop {
            let seen = tokio::select! {
                seen = self.seen.recv() => seen,
                _ = stop.wait_for(|stopped| *stopped) => break,
            };
            let Some(seen) = seen else { break };
            self.tell(&mut watch, seen, &means);
        }
        self.seen.close();
        while let Ok(seen) = self.seen.try_recv() {
            self.tell(&mut watch, seen, &means);
        }
        for stream in &mut self.streams {
            let held = stream.held.end();
            stream.forget(held, &self.metrics);
            if let Way::Tokens(_, Tokens::Outbox(polled)) = &stream.way {
                polled.end();
            }
        }
        end.send_replace(true);
        while let Some(ended) = couriers.join_next().await {
            // Each bounds its own farewell.
            if ended.is_err() {
                tracing::error!("what tells a receiver of shared signals panicked");
            }
        }
    }

    fn tell(&mut self, watch: &mut Watch, seen: Seen, means: &Means) {
        let subject = seen.subject().map(str::to_owned);
        let told = watch.observe(seen);
        let keys = (means.keys)();
        let letters = Letters {
            issuer: &self.issuer,
            keys: keys.as_deref(),
            means,
        };
        // The name of a user may have become known with what was seen.
        for stream in &mut self.streams {
            let held = subject.as_deref().filter(|it| stream.held.has(it));
            for signal in held.map(|it| stream.held.take(it)).unwrap_or_default() {
                stream.tell(signal, &letters, &self.metrics);
            }
        }
        let signal = match told {
            Told::Nothing => return,
            Told::Unknown => {
                self.metrics.shared_signal_overlooked("subject_unknown");
                tracing::warn!(
                    "a confirmed compromise is not told to receivers of shared signals: whose decision it was is not \
                     known, or nobody had signed in"
                );
                return;
            }
            Told::Signal(signal) => signal,
        };
        for stream in &mut self.streams {
            if stream.events.contains(&signal.kind()) {
                stream.tell(signal.clone(), &letters, &self.metrics);
            }
        }
    }
}

impl Stream {
    /// Puts an event on its way, or holds it until the receiver's name for the user is known.
    fn tell(&mut self, signal: Signal, letters: &Letters<'_>, metrics: &Metrics) {
        let kind = signal.kind();
        let id = id(letters.means.entropy.as_ref());
        let is_put = match &self.way {
            Way::Notices(notices) => Some(notices.put(Notice { id, signal })),
            Way::Tokens(audience, tokens) => {
                let client = self.named_to.as_deref();
                let name = client.map(|client| (letters.means.name)(client, &signal.subject));
                if let Some(None) = name {
                    let lost = self.held.put(signal);
                    return self.forget(lost, metrics);
                }
                let token = letters.token(&signal, id, audience, name.flatten().as_ref());
                token.map(|token| tokens.put(token))
            }
        };
        let result = match is_put {
            Some(true) => return,
            Some(false) => "queue_full",
            None => "no_key",
        };
        metrics.shared_signal(&self.name, kind, result);
    }

    /// What was held is not told: the user's name did not become known.
    fn forget(&self, lost: Vec<Signal>, metrics: &Metrics) {
        for signal in lost {
            metrics.shared_signal(&self.name, signal.kind(), "subject_unknown");
        }
    }
}

/// What makes tokens.
struct Letters<'a> {
    issuer: &'a str,
    keys: Option<&'a SigningKeys>,
    means: &'a Means,
}

impl Letters<'_> {
    /// The token for one receiver; `None` where nothing can sign it.
    fn token(
        &self,
        signal: &Signal,
        id: String,
        audience: &str,
        name: Option<&Named>,
    ) -> Option<Token> {
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

impl Tokens {
    /// Whether there is room for one more.
    fn put(&self, token: Token) -> bool {
        match self {
            Self::Queue(queue) => queue.try_send(token).is_ok(),
            Self::Outbox(polled) => {
                // It makes room, and counts what it loses.
                polled.put(token);
                true
            }
        }
    }
}

/// An id unlike every other.
fn id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; ID_BYTES];
    entropy.fill(&mut bytes);
    bytes.iter().fold(String::new(), |mut id, byte| {
        // Writing to a string does not fail.
        write!(id, "{byte:02x}").unwrap_or(());
        id
    })
}

/// An event will not reach its receiver.
fn given_up(name: &str, kind: SignalKind, why: &str, metrics: &Metrics, standing: &Standing) {
    metrics.shared_signal(name, kind, "given_up");
    standing.set(name, Some(why));
    tracing::warn!(receiver = %name, event = kind.as_str(), "a shared signal is given up: {why}");
}

impl Standing {
    fn new(health: Arc<Health>) -> Self {
        let away = Arc::default();
        health.set("shared_signals", PartStatus::Ok);
        Self { away, health }
    }

    /// What became of the last token of a receiver: `Some` with the reason where it was given up.
    fn set(&self, receiver: &str, why: Option<&str>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => away.insert(receiver.to_owned(), why.to_owned()),
            None => away.remove(receiver),
        };
        let texts: Vec<String> = away
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        let status = if texts.is_empty() {
            PartStatus::Ok
        } else {
            PartStatus::Degraded(texts.join("; "))
        };
        self.health.set("shared_signals", status);
    }
}

#[cfg(test)]
mod tests;
