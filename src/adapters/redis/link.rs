//! The connection to Redis: made when it is first needed, remade in the background with growing, scattered pauses when
//! it breaks. A call never waits for a connection that has already failed once: it is told so at once.

use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::endpoint::Connection;
use crate::adapters::redis::endpoint::Endpoint;
use crate::flow::ports::StateError;
use redis::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;
use redis::Value;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// The first pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause, before scatter: about one attempt per second.
const PAUSE_MAX: Duration = Duration::from_millis(1_000);
/// Failures in a row after which a connection that still looks open is given up: a path that swallows packets, or a
/// cluster client that lost its nodes.
const FAILURES_MAX: u32 = 8;

/// The one connection of a store.
#[derive(Debug)]
pub(super) struct Link {
    endpoint: Endpoint,
    settings: RedisSettings,
    phase: watch::Sender<Phase>,
    connecting: AtomicBool,
    failures: AtomicU32,
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

/// Says that nobody is connecting any more, however that ended.
struct Connecting(Weak<Link>);

impl Link {
    /// A link that connects on first use.
    pub(super) fn new(endpoint: Endpoint, settings: RedisSettings) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            settings,
            phase: watch::Sender::new(Phase::Idle { generation: 0 }),
            connecting: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            warnings: Mutex::default(),
        })
    }

    /// What an operator should know about the server, found when connecting.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
        match error.kind() {
            // The former master of a Sentinel set: the next connection asks for the new one.
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                if single {
                    self.lose(held, &said(error));
                }
                StateError::Refused(said(error))
            }
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ) => StateError::Unavailable(said(error)),
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => {
                StateError::Refused(said(error))
            }
            _ if error.is_timeout() => self.timed_out(held),
            _ => {
                // A cluster client mends single nodes by itself.
                if single {
                    self.lose(held, &said(error));
                } else {
                    self.failed(held, &said(error));
                }
                StateError::Unavailable(said(error))
            }
        }
    }

    fn failed(self: &Arc<Self>, held: &Held, reason: &str) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.lose(held, reason);
        }
    }

    /// Gives up the connection, unless it has been replaced meanwhile, and starts to make another.
    fn lose(self: &Arc<Self>, held: &Held, reason: &str) {
        let lost = self.phase.send_if_modified(|phase| {
            let is_current =
                matches!(phase, Phase::Ready(current) if current.generation == held.generation);
            if is_current {
                *phase = Phase::Down {
                    generation: held.generation,
                    reason: reason.to_owned(),
                };
            }
            is_current
        });
        if lost {
            self.connect_in_background();
        }
    }

    fn connect_in_background(self: &Arc<Self>) {
        if !self.connecting.swap(true, Ordering::AcqRel) {
            let guard = Connecting(Arc::downgrade(self));
            tokio::spawn(async move { connect(&guard).await });
        }
    }

    async fn attempt(&self) -> Result<Connection, String> {
        match tokio::time::timeout(
            self.settings.connection_timeout,
            self.endpoint.connect(&self.settings),
        )
        .await
        {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(format!(
                "no connection to {}: {}",
                self.endpoint,
                said(&error)
            )),
            Err(_) => Err(format!("no connection to {}: timed out", self.endpoint)),
        }
    }

    async fn inspect(&self, mut connection: Connection) {
        let allowed = self.settings.write_timeout;
        let Ok(Some(policy)) =
            tokio::time::timeout(allowed, eviction_policy(&mut connection)).await
        else {
            return;
        };
        let warning = eviction_warning(&policy);
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
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
    let mut pause = PAUSE_MIN;
    // The store may be dropped while its server is away.
    while let Some(link) = guard.0.upgrade() {
        match link.attempt().await {
            Ok(connection) => {
                link.failures.store(0, Ordering::Relaxed);
                let inspected = connection.clone();
                link.phase.send_modify(|phase| {
                    *phase = Phase::Ready(Held {
                        connection,
                        generation: phase.generation() + 1,
                    });
                });
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
        // Scattered by half, so that the nodes of a fleet do not come back as one.
        tokio::time::sleep(pause.mul_f32(1.0 + 0.5 * rand::random::<f32>())).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// An error in the server's own words, such as `NOPERM User … has no permissions`.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}

/// `maxmemory-policy`, by whichever command the server's user may give; `None` when it may give neither.
async fn eviction_policy(connection: &mut Connection) -> Option<String> {
    let configured: Result<Vec<String>, _> = redis::cmd("CONFIG")
        .arg("GET")
        .arg("maxmemory-policy")
        .query_async(connection)
        .await;
    if let Ok([_, policy]) = configured.as_deref() {
        return Some(policy.clone());
    }
    let Ok(Value::BulkString(info)) = redis::cmd("INFO")
        .arg("memory")
        .query_async(connection)
        .await
    else {
        return None;
    };
    let info = String::from_utf8_lossy(&info);
    info.lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"))
        .map(|policy| policy.trim().to_owned())
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
}
