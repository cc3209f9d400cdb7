//! Work beside the requests: the health of the store, the population snapshot, the address of the identity server, the
//! announcement that the listener is up, the end.

use crate::adapters::courier;
use crate::adapters::priority;
use crate::app;
use crate::app::RunError;
use crate::app::admin_client;
use crate::flow::AuthFlow;
use crate::flow::ports::KeySource;
use crate::flow::ports::StateStore;
use crate::flow::score::breaker::BreakerState;
use crate::flow::score::breaker::Listener;
use crate::flow::score::share::ALARM_PERCENT;
use crate::proxy::connections::Drain;
use crate::proxy::upstream::Services;
use crate::proxy::upstream::Upstream;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use async_trait::async_trait;
use pingora::server::ShutdownSignal;
use pingora::server::ShutdownSignalWatch;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How often the store is asked how it is doing.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Pings between two readings of the population.
const POPULATION_EVERY: u32 = 60;
/// Pings between two looks at how far traffic has moved.
const DRIFT_EVERY: u32 = 12;
/// How often the share of unscored requests is looked at.
const SHARE_EVERY: Duration = Duration::from_secs(1);
/// How often what was gathered of scopes is written.
const SCOPES_EVERY: Duration = Duration::from_secs(5);
/// The pause before the keys of the identity server are asked for a second time. It doubles, and leaves room for what a
/// login needs within the bound on such attempts.
const KEYS_PAUSE_MIN: Duration = Duration::from_secs(5);
/// The longest pause.
const KEYS_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the identity server's name is resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// The longest that the listener may take to come up; Pingora alone would go on without one.
const LISTEN_WITHIN: Duration = Duration::from_secs(20);

/// What runs beside the requests and is waited for at the end of the process.
pub struct Beside {
    /// Of everything that has no runtime of its own.
    pub runtime: Runtime,
    /// Of what is learnt.
    pub learning: Runtime,
    /// Brings what was learnt to the store.
    pub observer: JoinHandle<()>,
    /// Brings spans to their collector.
    pub exporting: Option<JoinHandle<()>>,
    /// Brings alerts to their receiver.
    pub alerting: Option<JoinHandle<()>>,
    /// Brings shared signals to theirs.
    pub signalling: JoinHandle<()>,
    /// Looks for another configuration.
    pub reloading: std::thread::JoinHandle<()>,
}

impl Beside {
    /// Waits for the end of each, which has been told to end: none is waited for without a bound. The store is closed in
    /// between, once nothing more is learnt.
    pub fn end(self, state: &dyn StateStore) {
        // It holds the path and the store.
        if self.reloading.join().is_err() {
            tracing::error!("the thread of reloads panicked");
        }
        self.runtime.block_on(async {
            if timeout(Duration::from_secs(3), self.observer)
                .await
                .is_err()
            {
                tracing::warn!("the last observations may be lost");
            }
            // Asked for outright: workers hold the store until their runtimes have ended.
            if let Err(error) = state.close().await {
                tracing::warn!(error = %error, "the last observations may be lost");
            }
            if let Some(exporting) = self.exporting {
                // Spans are no evidence: what is not taken in a second is lost.
                drop(timeout(Duration::from_secs(1), exporting).await);
            }
            // They bound their own farewell, and count what they give up.
            let alerting = async {
                if let Some(alerting) = self.alerting {
                    drop(timeout(courier::END_MAX, alerting).await);
                }
            };
            let signalling = async { drop(timeout(courier::END_MAX, self.signalling).await) };
            tokio::join!(alerting, signalling);
        });
        self.learning.shutdown_timeout(Duration::from_secs(1));
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

/// Where what was learnt goes to the store: a thread that steps back behind those that serve requests, and that has a
/// connection to Redis of its own.
///
/// # Errors
/// The system has no thread left.
pub fn learning() -> Result<Runtime, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("riskgate-learn")
        .on_thread_start(priority::step_back)
        .enable_all()
        .build();
    runtime.map_err(|error| RunError::System(format!("no runtime: {error}")))
}

/// Keeps health, population and the gauges of drift up to date.
pub async fn watch_state(flow: Arc<AuthFlow>, health: Arc<Health>) {
    let dependencies = flow.dependencies();
    let mut turn = 0_u32;
    loop {
        match dependencies.state.ping().await {
            Ok(()) => health.set("state", PartStatus::Ok),
            Err(error) => health.set("state", PartStatus::Degraded(error.to_string())),
        }
        if turn.is_multiple_of(POPULATION_EVERY) {
            match dependencies.state.population().await {
                Ok(population) => dependencies.population.store(Arc::new(population)),
                Err(error) => tracing::warn!(error = %error, "the population could not be read"),
            }
        }
        if turn.is_multiple_of(DRIFT_EVERY) {
            dependencies.scorer.drift().publish(&dependencies.metrics);
        }
        turn = turn.wrapping_add(1);
        tokio::time::sleep(PING_EVERY).await;
    }
}

/// Keeps the share of unscored requests in the metrics, and says when it is more than it may be, and when no longer.
pub async fn watch_share(flow: Arc<AuthFlow>) {
    let dependencies = flow.dependencies();
    let mut is_alarmed = false;
    loop {
        let percent = dependencies
            .scorer
            .share()
            .percent(dependencies.clock.now());
        dependencies.metrics.unscored_share(percent);
        if percent > ALARM_PERCENT && !is_alarmed {
            tracing::error!(percent, "many requests have no score");
        } else if percent <= ALARM_PERCENT && is_alarmed {
            tracing::info!(percent, "requests are scored again");
        }
        is_alarmed = percent > ALARM_PERCENT;
        tokio::time::sleep(SHARE_EVERY).await;
    }
}

/// Writes what was gathered of scopes, now and then.
pub async fn write_scopes(flow: Arc<AuthFlow>) {
    loop {
        tokio::time::sleep(SCOPES_EVERY).await;
        flow.write_scopes();
    }
}

/// Learns the keys of the super tenant before the first login needs them, and tries again until they are known.
pub async fn learn_keys(source: Arc<dyn KeySource>) {
    let mut pause = KEYS_PAUSE_MIN;
    while source.keys("", None).await.is_err() {
        if pause == KEYS_PAUSE_MIN {
            tracing::warn!(
                "the keys of the identity server are not known yet and are asked for until they are; a login that owes a stronger \
                 factor cannot be proved without them"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(KEYS_PAUSE_MAX);
    }
    if pause > KEYS_PAUSE_MIN {
        tracing::info!("the keys of the identity server are known now");
    }
}

/// Follows the identity server when its name resolves to another address. The last good one stays when it does not
/// resolve at all.
pub async fn follow_upstream(upstream: Arc<Upstream>) {
    loop {
        tokio::time::sleep(RESOLVE_EVERY).await;
        let settings = upstream.settings().clone();
        let found =
            tokio::task::spawn_blocking(move || app::resolve(&settings.host, settings.port)).await;
        match found {
            Ok(Ok(address)) => upstream.moved(address),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "the last good address of the identity server stays")
            }
            Err(error) => {
                tracing::error!(error = %error, "the name of the identity server could not be looked up")
            }
        }
    }
}

/// The same for services of the operator's own.
pub async fn follow_services(services: Arc<Services>) {
    loop {
        tokio::time::sleep(RESOLVE_EVERY).await;
        for upstream in services.all() {
            let settings = upstream.settings().clone();
            let name = settings.host.clone();
            let found =
                tokio::task::spawn_blocking(move || app::resolve(&settings.host, settings.port))
                    .await;
            match found {
                Ok(Ok(address)) => upstream.moved(address),
                Ok(Err(error)) => {
                    tracing::warn!(service = %name, error = %error, "the last good address of a service stays");
                }
                Err(error) => {
                    tracing::error!(service = %name, error = %error, "the name of a service could not be looked up");
                }
            }
        }
    }
}

/// Counts what the breaker of `dependency` does, and says so when it opens and when it closes.
pub fn announce_breaker(dependency: &'static str, metrics: &Arc<Metrics>) -> Listener {
    let metrics = Arc::clone(metrics);
    Box::new(move |before, after| {
        metrics.breaker_turned(dependency, after.as_str());
        match (before, after) {
            (BreakerState::Closed, _) => {
                tracing::warn!(dependency, "too many calls in a row failed: doing without");
            }
            (_, BreakerState::Closed) => tracing::info!(dependency, "calls flow again"),
            _ => {}
        }
    })
}

/// Says that the listener is up, once it is. A listener that never comes up ends the process.
pub async fn announce(listen: SocketAddr, health: Arc<Health>) {
    let address = admin_client::reachable(listen);
    let up = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(LISTEN_WITHIN, up).await.is_err() {
        tracing::error!(listen = %listen, "the listener did not come up");
        std::process::exit(1);
    }
    health.serving();
    tracing::info!(listen = %listen, "riskgate is ready");
}

/// Ends the process on SIGTERM in steps, on SIGINT or a second SIGTERM at once.
#[derive(Debug)]
pub struct Shutdown {
    /// Says no as the first step.
    pub health: Arc<Health>,
    /// The listener that ends.
    pub listener: Arc<Drain>,
    /// The time between the readiness' no and the end of accepting.
    pub drain: Duration,
    /// The longest that requests under way then get to end.
    pub grace: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Shutdown {
    async fn recv(&self) -> ShutdownSignal {
        let (mut terminate, mut interrupt) = match (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(error = %error, "signals cannot be watched");
                return std::future::pending().await;
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
        }
        let steps = async {
            self.health.draining();
            self.listener.begin();
            tracing::info!(seconds = self.drain.as_secs(), "draining");
            tokio::time::sleep(self.drain).await;
            self.listener.stop();
            tracing::info!(
                connections = self.listener.open(),
                seconds = self.grace.as_secs(),
                "no more connections are accepted; requests under way may end"
            );
            if tokio::time::timeout(self.grace, self.listener.ended())
                .await
                .is_err()
            {
                tracing::warn!(
                    connections = self.listener.open(),
                    "connections are closed in the middle of a request"
                );
            }
        };
        tokio::select! {
            () = steps => {}
            _ = terminate.recv() => tracing::warn!("a second SIGTERM: the end comes at once"),
            _ = interrupt.recv() => tracing::warn!("SIGINT: the end comes at once"),
        }
        // Whatever was to end has ended, or is not waited for.
        ShutdownSignal::FastShutdown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::jwt::KeySet;
    use crate::domain::jwt::RealmKeys;
    use crate::domain::jwt::UnverifiedHeader;
    use crate::flow::ports::KeysAway;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    /// Has keys once it was asked that often in vain, and knows when that was.
    struct Late {
        began: Instant,
        asked: Mutex<Vec<u64>>,
        away: usize,
    }

    #[async_trait]
    impl KeySource for Late {
        async fn keys(
            &self,
            _realm: &str,
            _wanted: Option<&UnverifiedHeader>,
        ) -> Result<Arc<RealmKeys>, KeysAway> {
            let mut asked = self.asked.lock();
            asked.push(self.began.elapsed().as_secs());
            if asked.len() <= self.away {
                return Err(KeysAway);
            }
            let keys = KeySet::default();
            Ok(Arc::new(RealmKeys { issuer: None, keys }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_asked_for_until_they_are_known() {
        for (away, expected) in [
            (0, &[0][..]),
            (1, &[0, 5]),
            (7, &[0, 5, 15, 35, 75, 135, 195, 255]),
        ] {
            let source = Arc::new(Late {
                began: Instant::now(),
                asked: Mutex::default(),
                away,
            });
            learn_keys(Arc::clone(&source) as Arc<dyn KeySource>).await;
            assert_eq!(*source.asked.lock(), expected, "{away}");
        }
    }
}
