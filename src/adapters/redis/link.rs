//! The connection to Redis: made when it is first needed, remade in the background with growing, scattered pauses when
//! it breaks. A call never waits for a connection that has already failed once: it is told so at once.

use crate::adapters::redis::RedisAuthorities;
use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::connection::Connection;
use crate::adapters::redis::endpoint::Endpoint;
use crate::flow::ports::StateError;
use crate::telemetry::remedy;
use crate::telemetry::remedy::Side;
use parking_lot::Mutex;
use redis::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;
use redis::Value;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

/// The first pause between two attempts to connect.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause, before scatter: about one attempt per second.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(1_000);
/// Connections in a row that did not last for [`PAUSE_MAX`] and are replaced at once all the same.
const SHORT_LIVED_MAX: u32 = 3;
/// Failures in a row after which a connection to one server that still looks open is given up: a path that swallows
/// packets. A cluster sees to its nodes by itself.
const FAILURES_MAX: u32 = 8;

/// How often it is tried to make a connection under another trust before the one of the old trust is given up as well.
const RENEWALS_MAX: u32 = 3;

/// Whose turn it is to connect. Links to the same server share it: while that is away, one of them tries for all.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

/// One connection of a store.
#[derive(Debug)]
pub(super) struct Link {
    endpoint: Endpoint,
    settings: RedisSettings,
    phase: watch::Sender<Phase>,
    /// Where it connects; where it is asked, without.
    runtime: Option<Handle>,
    turn: Turn,
    connecting: AtomicBool,
    failures: AtomicU32,
    latest: Mutex<Latest>,
    warnings: Mutex<Vec<String>>,
}

/// A connection and which one of all it is.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) connection: Connection,
    generation: u64,
}

enum Phase {
    /// Never tried, or the runtime that tried has ended.
    Idle {
        generation: u64,
    },
    Ready(Held),
    Down {
        generation: u64,
        reason: String,
    },
}

/// The latest connection: when it was made, and how many before it did not last.
#[derive(Debug, Default)]
struct Latest {
    made: Option<Instant>,
    short_lived: u32,
}

/// Says that nobody is connecting any more, however that ended.
struct Connecting(Weak<Link>);

impl Link {
    /// A link that connects on first use.
    pub(super) fn new(endpoint: Endpoint, settings: RedisSettings) -> Arc<Self> {
        Self::with(endpoint, settings, None, Turn::default())
    }

    /// A link that connects in `runtime` on first use, when it is its turn.
    pub(super) fn of(
        runtime: Handle,
        turn: Turn,
        endpoint: Endpoint,
        settings: RedisSettings,
    ) -> Arc<Self> {
        Self::with(endpoint, settings, Some(runtime), turn)
    }

    fn with(
        endpoint: Endpoint,
        settings: RedisSettings,
        runtime: Option<Handle>,
        turn: Turn,
    ) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            settings,
            phase: watch::Sender::new(Phase::Idle { generation: 0 }),
            runtime,
            turn,
            connecting: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            latest: Mutex::default(),
            warnings: Mutex::default(),
        })
    }

    /// What an operator should know about the server, found when connecting.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// Whom its connections trust.
    pub(super) fn authorities(&self) -> RedisAuthorities {
        self.settings.tls.authorities.clone()
    }

    /// Whether there is a connection.
    pub(super) fn is_ready(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Ready(_))
    }

    /// Begins to connect, unless there is a connection or somebody has begun.
    pub(super) fn begin(self: &Arc<Self>) {
        if !self.is_ready() {
            self.connect_in_background();
        }
    }

    /// The connection. Waits for the very first attempt; the caller sets the time allowed.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<Held, StateError> {
        if let Phase::Ready(held) = &*self.phase.borrow() {
            return Ok(held.clone());
        }
        self.connect_in_background();
        let mut phase = self.phase.subscribe();
        loop {
            match &*phase.borrow_and_update() {
                Phase::Idle { .. } => {}
                Phase::Ready(held) => return Ok(held.clone()),
                Phase::Down { reason, .. } => return Err(StateError::Unavailable(reason.clone())),
            }
            if phase.changed().await.is_err() {
                return Err(StateError::Unavailable(
                    "the store has been closed".to_owned(),
                ));
            }
        }
    }

    /// Notes that a call was answered.
    pub(super) fn succeeded(&self) {
        // Read first: this is on every call, and a shared line that nobody writes costs nothing.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a call on `held` ran out of time.
    pub(super) fn timed_out(self: &Arc<Self>, held: &Held) -> StateError {
        self.failed(held, "the server does not answer");
        StateError::Timeout
    }

    /// What an error of a call on `held` means, and what it says about the connection.
    pub(super) fn errored(self: &Arc<Self>, held: &Held, error: &RedisError) -> StateError {
        let single = matches!(held.connection, Connection::Single(_));
        let why = refused_as(error, self.settings.side);
        match error.kind() {
            // The former master of a Sentinel set: the next connection asks for the new one.
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                if single {
                    self.lose(held.generation, &why);
                }
                StateError::Refused(why)
            }
            ErrorKind::Server(
                ServerErrorKind::Ask
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::TryAgain,
            ) => StateError::Unavailable(why),
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
                StateError::Refused(why)
            }
            _ if error.is_timeout() => self.timed_out(held),
            _ => {
                if single {
                    self.lose(held.generation, &why);
                }
                StateError::Unavailable(why)
            }
        }
    }

    fn failed(self: &Arc<Self>, held: &Held, reason: &str) {
        if matches!(held.connection, Connection::Single(_))
            && self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX
        {
            self.lose(held.generation, reason);
        }
    }

    /// Gives up the connection, unless it has been replaced meanwhile, and starts to make another.
    fn lose(self: &Arc<Self>, generation: u64, reason: &str) {
        let reason = reason.to_owned();
        if self.replace(generation, Phase::Down { generation, reason }) {
            self.connect_in_background();
        }
    }

    /// Puts another phase in the place of this connection, unless that has gone meanwhile.
    fn replace(&self, generation: u64, next: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let is_current = phase.has(generation);
            if is_current {
                *phase = next;
            }
            is_current
        })
    }

    /// Makes a connection under the present trust in the place of this one, which serves until it is there: its generation.
    /// Calls that are under way end on the old one. Where none can be made, the old one is given up all the same: who is
    /// trusted no more is asked no more.
    async fn renewed(self: &Arc<Self>, generation: u64) -> Option<u64> {
        let mut pause = PAUSE_MIN;
        let mut reason = String::new();
        for _ in 0..RENEWALS_MAX {
            match self.attempt().await {
                Ok(connection) => {
                    let next = generation + 1;
                    let held = Held {
                        connection,
                        generation: next,
                    };
                    return self.replace(generation, Phase::Ready(held)).then_some(next);
                }
                Err(why) => reason = why,
            }
            tokio::time::sleep(scattered(pause)).await;
            pause *= 2;
        }
        self.lose(generation, &reason);
        None
    }

    fn connect_in_background(self: &Arc<Self>) {
        if !self.connecting.swap(true, Ordering::AcqRel) {
            let guard = Connecting(Arc::downgrade(self));
            let link = Arc::downgrade(self);
            // From before the connection is made, so that no exchange is missed.
            let exchanges = self.settings.tls.authorities.exchanges();
            let is_tls = self.endpoint.is_tls();
            let connecting = async move {
                connect(&guard).await;
                drop(guard);
                if is_tls {
                    follow(&link, exchanges).await;
                }
            };
            match &self.runtime {
                Some(runtime) => runtime.spawn(connecting),
                None => tokio::spawn(connecting),
            };
        }
    }

    async fn attempt(&self) -> Result<Connection, String> {
        let attempt = async {
            let mut connection = self.endpoint.connect(&self.settings).await?;
            if let Connection::Single(_) = connection {
                // Something in between may take connections for a server that is not there.
                connection.everywhere(&redis::cmd("PING")).await?;
            }
            Ok::<_, RedisError>(connection)
        };
        match tokio::time::timeout(self.settings.connection_timeout, attempt).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if error.is_io_error() || error.is_timeout() => {
                let is_dropped = error.is_connection_dropped() && !self.endpoint.is_tls();
                let with_tls = is_dropped.then(|| remedy::with_tls(self.settings.side));
                let why = self.mended(said(&error), with_tls);
                Err(self.no_connection(&why).await)
            }
            Ok(Err(error)) => Err(self.told(&self.mended(said(&error), None))),
            Err(_) => Err(self.no_connection("timed out").await),
        }
    }

    /// With what mends it, where that is known.
    fn mended(&self, why: String, remedy: Option<String>) -> String {
        let side = self.settings.side;
        let remedy = remedy
            .or_else(|| remedy::of_tls(&why, side))
            .or_else(|| remedy::of_credentials(&why, side));
        with_remedy(why, remedy)
    }

    fn told(&self, why: &str) -> String {
        format!("no connection to {}: {why}", self.endpoint)
    }

    /// Why nothing came of an attempt that failed on the wire. A server without TLS takes a handshake for the beginning of a
    /// command and waits for the rest of it: one that answers without is told from one that does not answer.
    async fn no_connection(&self, why: &str) -> String {
        if !self.endpoint.is_tls() {
            return self.told(why);
        }
        let asked = self.endpoint.is_without_tls(&self.settings);
        let is_plain = tokio::time::timeout(self.settings.connection_timeout, asked).await;
        let plain = (is_plain == Ok(true)).then(|| remedy::without_tls(self.settings.side));
        self.told(plain.as_deref().unwrap_or(why))
    }

    /// Whether one connection after the other was lost a moment after it was made.
    fn does_not_last(&self) -> bool {
        let mut latest = self.latest.lock();
        let made = latest.made.take();
        latest.short_lived = match made {
            Some(made) if made.elapsed() < PAUSE_MAX => latest.short_lived.saturating_add(1),
            _ => 0,
        };
        latest.short_lived > SHORT_LIVED_MAX
    }

    async fn inspect(&self, mut connection: Connection) {
        let allowed = self.settings.write_timeout;
        let Ok(policies) = tokio::time::timeout(allowed, eviction_policies(&mut connection)).await
        else {
            return;
        };
        let warning = policies.iter().find_map(|policy| eviction_warning(policy));
        let mut warnings = self.warnings.lock();
        // The server of now counts, not the one before a failover.
        warnings.clear();
        if let Some(warning) = warning {
            if let Some(notice) = &self.settings.on_warning {
                notice.call(&warning);
            }
            warnings.push(warning);
        }
    }
}

impl Phase {
    /// Whether this connection is the one that serves.
    fn has(&self, generation: u64) -> bool {
        matches!(self, Self::Ready(held) if held.generation == generation)
    }

    fn generation(&self) -> u64 {
        match self {
            Self::Idle { generation } | Self::Down { generation, .. } => *generation,
            Self::Ready(held) => held.generation,
        }
    }
}

impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle { .. } => "Idle",
            Self::Ready(_) => "Ready",
            Self::Down { .. } => "Down",
        })
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.connecting.store(false, Ordering::Release);
        }
    }
}

async fn connect(guard: &Connecting) {
    let Some(turn) = guard.0.upgrade().map(|link| Arc::clone(&link.turn)) else {
        return;
    };
    let turn = turn.lock().await;
    let mut pause = PAUSE_MIN;
    if guard.0.upgrade().is_some_and(|link| link.does_not_last()) {
        tokio::time::sleep(scattered(PAUSE_MAX / 2)).await;
    }
    // The store may be dropped while its server is away.
    while let Some(link) = guard.0.upgrade() {
        match link.attempt().await {
            Ok(connection) => {
                link.failures.store(0, Ordering::Relaxed);
                link.latest.lock().made = Some(Instant::now());
                let inspected = connection.clone();
                link.phase.send_modify(|phase| {
                    *phase = Phase::Ready(Held {
                        connection,
                        generation: phase.generation() + 1,
                    });
                });
                drop(turn);
                link.inspect(inspected).await;
                return;
            }
            Err(reason) => link.phase.send_modify(|phase| {
                *phase = Phase::Down {
                    generation: phase.generation(),
                    reason,
                };
            }),
        }
        drop(link);
        tokio::time::sleep(scattered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Makes the connection anew whenever other authorities are trusted, until it is lost: whoever makes the next one follows that.
async fn follow(link: &Weak<Link>, mut exchanges: watch::Receiver<Option<Vec<u8>>>) {
    let begun = link.upgrade().map(|link| {
        let phase = link.phase.subscribe();
        let generation = phase.borrow().generation();
        (phase, generation)
    });
    let Some((mut phase, mut generation)) = begun else {
        return;
    };
    loop {
        let lost = async {
            // An error means that the link has gone.
            drop(phase.wait_for(|phase| !phase.has(generation)).await);
        };
        tokio::select! {
            () = lost => return,
            exchanged = exchanges.changed() => if exchanged.is_err() { return },
        }
        let Some(link) = link.upgrade() else { return };
        match link.renewed(generation).await {
            Some(next) => generation = next,
            None => return,
        }
    }
}

/// A pause, longer by up to a half, so that the nodes of a fleet do not come back as one.
pub(super) fn scattered(pause: Duration) -> Duration {
    pause.mul_f32(1.0 + 0.5 * rand::random::<f32>())
}

/// An error in the server's own words, such as `NOPERM User … has no permissions`.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ if error.kind() == ErrorKind::Parse => "what answers there is no Redis".to_owned(),
        _ => error.to_string(),
    }
}

/// An error of a command, with what mends it where our user or password is what the server does not take.
fn refused_as(error: &RedisError, side: Side) -> String {
    let why = said(error);
    let remedy = remedy::of_credentials(&why, side);
    with_remedy(why, remedy)
}

fn with_remedy(why: String, remedy: Option<String>) -> String {
    match remedy {
        Some(remedy) => format!("{why}; {remedy}"),
        None => why,
    }
}

/// `maxmemory-policy` of each server, by whichever command the user may give; empty when it may give neither.
async fn eviction_policies(connection: &mut Connection) -> Vec<String> {
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg("maxmemory-policy");
    if let Ok(answers) = connection.everywhere(&ask).await {
        let pairs = answers.into_iter();
        let pairs = pairs.filter_map(|answer| redis::from_redis_value::<Vec<String>>(answer).ok());
        return pairs.filter_map(|mut pair| pair.pop()).collect();
    }
    let mut ask = redis::cmd("INFO");
    ask.arg("memory");
    let answers = connection.everywhere(&ask).await.unwrap_or_default();
    answers.iter().filter_map(policy_of).collect()
}

fn policy_of(info: &Value) -> Option<String> {
    let Value::BulkString(info) = info else {
        return None;
    };
    let info = String::from_utf8_lossy(info);
    let policy = info
        .lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"))?;
    Some(policy.trim().to_owned())
}

fn eviction_warning(policy: &str) -> Option<String> {
    match policy {
        "noeviction" | "volatile-ttl" => None,
        other => Some(format!(
            "redis evicts by `{other}`: profiles and demands may vanish when memory runs out; use volatile-ttl or noeviction"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_forget_at_random_are_reported() {
        for policy in [
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-random",
        ] {
            assert!(eviction_warning(policy).unwrap().contains(policy));
        }
        assert_eq!(eviction_warning("noeviction"), None);
        assert_eq!(eviction_warning("volatile-ttl"), None);
    }

    #[test]
    fn a_command_that_is_refused_for_our_password_leads_to_its_key() {
        let refused = |code: &str, detail: &str| {
            let error = redis::make_extension_error(code.to_owned(), Some(detail.to_owned()));
            refused_as(&error, Side::RedisStream)
        };
        let said = refused("NOAUTH", "Authentication required.");
        let (why, remedy) = said.split_once("; ").unwrap();
        assert_eq!(why, "NOAUTH Authentication required.");
        assert!(remedy.contains("audit.stream.url"), "{said}");
        assert_eq!(
            refused("OOM", "command not allowed"),
            "OOM command not allowed"
        );
    }
}
