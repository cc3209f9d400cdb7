//! The memory of a fleet: Redis, standalone, behind Sentinel or as a cluster.
//!
//! A read is one command: everything that a scored request needs is a string under its own key, so that one `MGET`
//! brings it (a cluster is asked by one pipeline per node, side by side). Counters and distinct counts are
//! updated by scripts within the server, profiles by compare-and-set, so that no node overwrites another's update.
//! Every key has a time to live. Profiles and links carry a MAC; whatever does not open reads as missing. Counters are
//! the server's own arithmetic and carry none: they are checked for form and range.
//!
//! The user of the gateway needs `~rg:1:*` and `+ping +mget +get +set +del +eval +evalsha +pfadd +pfcount +pexpire
//! +hset +hexists +hlen +hincrby +hgetall`, and `+config|get` or `+info` if evictions are to be reported. Tickets need
//! `+info +wait`, a stream of records `+xadd +xrange +xrevrange`, the operator's commands `+scan +pttl`, a cluster
//! `+cluster|slots +asking`.

mod cluster;
mod connection;
mod endpoint;
mod keys;
mod learn;
mod link;
mod links;
mod maintenance;
mod nodes;
mod record;
mod review;
mod scripts;
mod slots;
mod stream;
mod tickets;

use crate::adapters::names::Names;
use crate::adapters::redis::endpoint::Endpoint;
use crate::adapters::redis::link::Held;
use crate::adapters::redis::link::Link;
use crate::adapters::redis::links::Links;
use crate::adapters::store::codec::Codec;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::WindowCounts;
use crate::adapters::store::entries;
use crate::adapters::store::plan::POPULATION_MAX;
use crate::adapters::store::transfer::Maintenance;
use crate::domain::history::History;
use crate::domain::history::HistoryQuery;
use crate::domain::history::Observation;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::WhichDevices;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::review::ReviewQueue;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::flow::ports::QueueChange;
use crate::flow::ports::Redemption;
use crate::flow::ports::StateError;
use crate::flow::ports::StateStore;
use crate::telemetry::remedy::Side;
use async_trait::async_trait;
use redis::RedisError;
use redis::Value;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::sync::watch;

pub(crate) use crate::adapters::redis::endpoint::FORMS;
pub use crate::adapters::redis::endpoint::RedisUrlError;
pub use crate::adapters::redis::stream::RedisStream;

/// How the Redis store behaves.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// The time that a read may take, connection included. Default 15 ms.
    pub response_timeout: Duration,
    /// The time that one attempt to connect may take, in the background. Default 200 ms.
    pub connection_timeout: Duration,
    /// The time that writing one batch may take, off the request path. Default 250 ms.
    pub write_timeout: Duration,
    /// Commands that may wait to be sent; beyond that callers wait, within their time. Default 1,024.
    pub in_flight_max: usize,
    /// The secret from which the key for sealing values is derived. The same on every node of a fleet.
    pub seal_key: Secret<Vec<u8>>,
    /// The one before it, while the secret is being exchanged: what it sealed is still read.
    pub previous_seal_key: Option<Secret<Vec<u8>>>,
    /// Whether a ticket counts as redeemed only once a replica knows of it, also while no replica is connected. Without
    /// it a redemption waits for a replica where there is one. Default false.
    pub replica_required: bool,
    /// Our user at the Sentinels, if they have users of their own.
    pub sentinel_username: Option<String>,
    /// The password of the Sentinels, if they have one of their own.
    pub sentinel_password: Option<Secret<String>>,
    /// Certificates for TLS.
    pub tls: RedisTls,
    /// By which keys of the configuration it is named, for what mends a failure. Default the state's.
    pub side: Side,
    /// Told about what an operator should know of the server, each time a connection is made.
    pub on_warning: Option<Notice>,
    /// Addresses of servers that the URL or a cluster names.
    pub names: Names,
}

/// The authorities that servers are checked against, as PEM; those of the system without. Whoever has a clone sees an
/// exchange: connections that are open are made anew, and end once the calls on them have ended.
#[derive(Clone, Debug)]
pub struct RedisAuthorities(Arc<watch::Sender<Option<Vec<u8>>>>);

impl Default for RedisAuthorities {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl RedisAuthorities {
    /// These.
    pub fn of(pem: Vec<u8>) -> Self {
        Self(Arc::new(watch::Sender::new(Some(pem))))
    }

    /// Others from now on.
    pub fn exchange(&self, pem: Option<Vec<u8>>) {
        self.0.send_replace(pem);
    }

    fn pem(&self) -> Option<Vec<u8>> {
        self.0.borrow().clone()
    }

    /// Tells of exchanges from now on.
    fn exchanges(&self) -> watch::Receiver<Option<Vec<u8>>> {
        self.0.subscribe()
    }
}

/// Certificates for TLS, as PEM.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// The authorities that servers are checked against.
    pub authorities: RedisAuthorities,
    /// The certificate and the key of this client.
    pub client: Option<(Vec<u8>, Secret<Vec<u8>>)>,
}

/// Somebody who is told something.
#[derive(Clone)]
pub struct Notice(Arc<dyn Fn(&str) + Send + Sync>);

/// The store in Redis.
#[derive(Debug)]
pub struct RedisStore {
    links: Links,
    /// Connects when the first ticket is given or redeemed.
    ticket_link: Arc<Link>,
    codec: Codec,
    settings: RedisSettings,
    /// One batch of profiles at a time: within a node there is nothing to compete for.
    learning: Mutex<()>,
    /// The same for the queue of held logins.
    reviewing: Mutex<()>,
}

impl RedisSettings {
    /// The defaults, with the secret that every deployment has of its own.
    pub fn new(seal_key: Secret<Vec<u8>>) -> Self {
        Self {
            response_timeout: Duration::from_millis(15),
            connection_timeout: Duration::from_millis(200),
            write_timeout: Duration::from_millis(250),
            in_flight_max: 1_024,
            seal_key,
            previous_seal_key: None,
            replica_required: false,
            sentinel_username: None,
            sentinel_password: None,
            tls: RedisTls::default(),
            side: Side::Redis,
            on_warning: None,
            // Half of the time that a connection may take.
            names: Names::new(Duration::from_millis(100)),
        }
    }
}

impl Notice {
    /// Tells `listener`.
    pub fn to(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    fn call(&self, text: &str) {
        (self.0)(text);
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice(…)")
    }
}

impl RedisStore {
    /// A store at `url`. No connection is made yet: the gateway starts without Redis, and the first call connects.
    ///
    /// # Errors
    ///
    /// If the URL is none of the known forms or the certificates cannot be read. The URL is not part of the message.
    pub fn connect(url: &str, settings: RedisSettings) -> Result<Self, RedisUrlError> {
        let endpoint = endpoint(url, &settings)?;
        let codec = Codec::sealed_since(&settings.seal_key, settings.previous_seal_key.as_ref());
        Ok(Self {
            links: Links::new(endpoint.clone(), settings.clone()),
            ticket_link: Link::new(endpoint, settings.clone()),
            codec,
            settings,
            learning: Mutex::new(()),
            reviewing: Mutex::new(()),
        })
    }

    /// What an operator should know about the server: that it may evict what must not be lost. Empty until connected.
    pub fn warnings(&self) -> Vec<String> {
        self.links.warnings()
    }

    /// Runs `call` on the connection of this runtime, both within `allowed`.
    async fn within<T, F, Fut>(&self, allowed: Duration, call: F) -> Result<T, StateError>
    where
        F: FnOnce(Held) -> Fut,
        Fut: Future<Output = Result<T, RedisError>>,
    {
        within(&self.links.of_this_runtime(), allowed, call).await
    }
}

/// The server that `url` names, once that is known to be of use.
fn endpoint(url: &str, settings: &RedisSettings) -> Result<Endpoint, RedisUrlError> {
    let endpoint = Endpoint::parse(url)?;
    if endpoint.is_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may be quicker; then its provider serves.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    endpoint.check(settings)?;
    Ok(endpoint)
}

async fn within<T, F, Fut>(link: &Arc<Link>, allowed: Duration, call: F) -> Result<T, StateError>
where
    F: FnOnce(Held) -> Fut,
    Fut: Future<Output = Result<T, RedisError>>,
{
    let deadline = tokio::time::Instant::now() + allowed;
    let held = match tokio::time::timeout_at(deadline, link.acquire()).await {
        Ok(held) => held?,
        Err(_) => return Err(StateError::Timeout),
    };
    match tokio::time::timeout_at(deadline, call(held.clone())).await {
        Ok(Ok(answer)) => {
            link.succeeded();
            Ok(answer)
        }
        Ok(Err(error)) => Err(link.errored(&held, &error)),
        Err(_) => Err(link.timed_out(&held)),
    }
}

#[async_trait]
impl StateStore for RedisStore {
    async fn load(&self, query: &HistoryQuery) -> Result<History, StateError> {
        let names = entries::keys(query).iter().map(keys::entry).collect();
        let values: Vec<Value> = self
            .within(self.settings.response_timeout, |mut held| async move {
                held.connection.values(names).await
            })
            .await?;
        let values = values.iter().map(|value| match value {
            Value::BulkString(bytes) => Some(bytes.as_slice()),
            _ => None,
        });
        Ok(entries::history(query, &self.codec, counted, values))
    }

    async fn record(&self, observations: &[Observation]) -> Result<(), StateError> {
        if observations.is_empty() {
            return Ok(());
        }
        self.within(self.settings.write_timeout, |held| {
            self.write(held, observations)
        })
        .await
    }

    async fn issue_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        at: Timestamp,
        ttl: Duration,
    ) -> Result<(), StateError> {
        let allowed = self.settings.write_timeout;
        within(&self.ticket_link, allowed, |mut held| async move {
            self.issue(&mut held.connection, ticket, binding, at, ttl)
                .await
        })
        .await
    }

    async fn redeem_ticket(
        &self,
        ticket: Pseudonym,
        binding: Pseudonym,
        now: Timestamp,
    ) -> Result<Redemption, StateError> {
        let allowed = self.settings.write_timeout;
        within(&self.ticket_link, allowed, |mut held| async move {
            self.redeem(&mut held.connection, ticket, binding, now)
                .await
        })
        .await
    }

    async fn review_queue(&self) -> Result<ReviewQueue, StateError> {
        self.within(self.settings.write_timeout, |mut held| async move {
            let (queue, _) = self.queue(&mut held.connection).await?;
            Ok(queue)
        })
        .await
    }

    async fn change_review_queue(&self, change: QueueChange) -> Result<ReviewQueue, StateError> {
        let _alone = self.reviewing.lock().await;
        self.within(self.settings.write_timeout, |mut held| async move {
            self.change_queue(&mut held.connection, &change).await
        })
        .await
    }

    async fn forget_devices(
        &self,
        subject: SubjectKey,
        which: WhichDevices,
        now: Timestamp,
    ) -> Result<bool, StateError> {
        let forget = move |mut profile: Profile| {
            profile.forget_devices(which, now);
            profile
        };
        let key = EntryKey::subject(Kind::Profile, subject);
        self.change(&key, now, &forget).await
    }

    async fn population(&self) -> Result<Population, StateError> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = self
            .within(self.settings.write_timeout, |mut held| async move {
                let name = keys::population(self.codec.names());
                let mut command = redis::cmd("HGETALL");
                command.arg(&name);
                let answer = held.connection.command(&name, command).await?;
                Ok(redis::from_redis_value(answer)?)
            })
            .await?;
        Ok(record::population(&fields, POPULATION_MAX))
    }

    async fn ping(&self) -> Result<(), StateError> {
        self.within(self.settings.response_timeout, |mut held| async move {
            let ping = redis::cmd("PING");
            held.connection.everywhere(&ping).await.map(drop)
        })
        .await
    }

    fn kind(&self) -> &'static str {
        "redis"
    }
}

/// The distinct counts as the script keeps them.
fn counted(_: &Codec, key: &EntryKey, value: &[u8], now: Timestamp) -> Option<f32> {
    WindowCounts::decode(value).map(|counts| counts.estimate(key.kind, now))
}
