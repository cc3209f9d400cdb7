//! What is read and proved before a port is bound, and what is opened then before anything is served, each in the order in
//! which mistakes are to be found. It starts nothing that answers anybody.

use crate::adapters::audit_log::AuditLog;
use crate::adapters::clock::SystemClock;
use crate::adapters::entropy::OsEntropy;
use crate::adapters::geo::CurrentGeo;
use crate::adapters::geo::GeoSettings;
use crate::adapters::redis::RedisStream;
use crate::app::RunError;
use crate::app::actions;
use crate::app::assemble;
use crate::app::assemble::Assembled;
use crate::app::audit;
use crate::app::audit::stream::Running;
use crate::app::background;
use crate::app::certificates;
use crate::app::console;
use crate::app::edge;
use crate::app::inherited;
use crate::app::inherited::Inherited;
use crate::app::keys::Keys;
use crate::app::one;
use crate::app::operators;
use crate::app::reload;
use crate::app::reload::Stamp;
use crate::app::report_geo;
use crate::app::resolve;
use crate::app::resources;
use crate::app::resources::Peers;
use crate::app::sign_in;
use crate::app::signing;
use crate::app::trust::Trusted;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::overrides::Overrides;
use crate::domain::bearer_token::BearerToken;
use crate::flow::ports::StateStore;
use crate::proxy::edge::EdgeSettings;
use crate::proxy::listener;
use crate::proxy::listener::ListenerTls;
use crate::proxy::upstream::UpstreamSettings;
use crate::telemetry;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Everything that was read, and can be used.
pub(super) struct Found {
    pub(super) config: Config,
    /// What messages call the file.
    pub(super) file: String,
    /// Of the files before they were read in earnest, so that an edit in between is seen as one.
    pub(super) stamp: Stamp,
    pub(super) trusted: Trusted,
    pub(super) keys: Keys,
    pub(super) assembled: Assembled,
    pub(super) upstream: UpstreamSettings,
    pub(super) peers: Peers,
    /// Where the identity server is.
    pub(super) address: SocketAddr,
    pub(super) tls: Option<ListenerTls>,
    pub(super) edge: EdgeSettings,
    pub(super) actions: Option<actions::Prepared>,
    pub(super) sign_in: Option<sign_in::Prepared>,
    stream: Option<RedisStream>,
    inherited: Inherited,
}

/// Everything that is open.
pub(super) struct Opened {
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) geo: Arc<CurrentGeo>,
    /// Of everything that has no runtime of its own.
    pub(super) runtime: Runtime,
    pub(super) learning: Runtime,
    pub(super) state: Arc<dyn StateStore>,
    pub(super) stream: Option<Running>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) operators: BearerToken,
    pub(super) sockets: Sockets,
}

/// Sockets that listen already.
pub(super) struct Sockets {
    pub(super) admin: TcpListener,
    pub(super) actions: Option<TcpListener>,
    /// One that was passed on. Pingora opens the public one itself; one of ours is only tried, and closed before anybody
    /// takes it for Pingora's.
    pub(super) public: Option<TcpListener>,
}

impl Found {
    /// Reads and proves everything that a configuration names.
    pub(super) fn of(overrides: &Overrides) -> Result<Self, RunError> {
        let config = overrides.config().map_err(one)?;
        let file = overrides.file_name();
        telemetry::start_logging(&config.log.filter, config.log.format)
            .map_err(|error| one(ConfigError::new(&file, format!("log.filter: {error}"))))?;
        let stamp = reload::stamp(overrides, &config);
        let trusted = Trusted::before(&config);

        assemble::can_be_written(&config, &file).map_err(RunError::Config)?;
        let keys = Keys::load(&config, &OsEntropy).map_err(one)?;
        signing::prepare(&config).map_err(one)?;
        let assembled = assemble::snapshot(&config, &file, &keys, 1).map_err(RunError::Config)?;
        let upstream = assemble::upstream(&config, &file).map_err(one)?;
        let peers = resources::peers(&config, &file, &[]).map_err(RunError::Config)?;
        let address = resolve(&upstream.host, upstream.port)
            .map_err(|problem| one(ConfigError::new(&file, format!("upstream.url: {problem}"))))?;
        let load = |tls| certificates::load("server", tls, &listener::PROTOCOLS, &file);
        let tls = config.server.tls.as_ref().map(load).transpose();
        let tls = tls.map_err(one)?;
        let edge = edge::settings(&config, &file).map_err(RunError::Config)?;
        let actions = actions::prepare(&config.actions, &file).map_err(one)?;
        let sign_in = sign_in::prepare(&config, &file).map_err(RunError::Config)?;
        let stream = audit::stream::open(&config, &file, &keys).map_err(one)?;
        let inherited = Inherited::take_over(&config, &file).map_err(one)?;
        Ok(Self {
            config,
            file,
            stamp,
            trusted,
            keys,
            assembled,
            upstream,
            peers,
            address,
            tls,
            edge,
            actions,
            sign_in,
            stream,
            inherited,
        })
    }
}

impl Opened {
    /// Opens what `found` leads to.
    pub(super) fn of(found: &mut Found) -> Result<Self, RunError> {
        let metrics =
            Arc::new(Metrics::new().map_err(|error| RunError::System(error.to_string()))?);
        count_panics(&metrics);
        let health = Arc::new(Health::default());
        let geo = geo(&found.config, &health);
        for warning in &found.assembled.warnings {
            tracing::warn!("{warning}");
        }
        let degraded = found.assembled.model_degraded.clone();
        health.set(
            "model",
            degraded.map_or(PartStatus::Ok, PartStatus::Degraded),
        );

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("riskgate-side")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| RunError::System(format!("no runtime: {error}")))?;
        let learning = background::learning()?;
        let state = {
            let _context = runtime.enter();
            open_state(found)?
        };
        // After the store: with a file, the process before has ended when it is ours, and writes no more records.
        let (audit, stream) = open_audit(found, &metrics, &health)?;
        let operators = operators::load(&found.config, &OsEntropy).map_err(one)?;
        console::read(&found.config.operators_file()).map_err(one)?;
        let sockets = Sockets::of(found)?;
        Ok(Self {
            metrics,
            health,
            geo,
            runtime,
            learning,
            state,
            stream,
            audit,
            operators,
            sockets,
        })
    }
}

impl Sockets {
    fn of(found: &mut Found) -> Result<Self, RunError> {
        let Found {
            config,
            file,
            actions,
            inherited,
            ..
        } = found;
        let mut socket = |address, key| match inherited.take(address) {
            Some(socket) => Ok((socket, true)),
            None => bind(address, key, file).map(|socket| (socket, false)),
        };
        let (admin, _) = socket(config.admin.listen, "admin.listen")?;
        let actions = match actions {
            Some(prepared) => Some(socket(prepared.listen(), "actions.listen")?.0),
            None => None,
        };
        let (public, is_inherited) = socket(config.server.listen, "server.listen")?;
        Ok(Self {
            admin,
            actions,
            public: is_inherited.then_some(public),
        })
    }
}

fn open_state(found: &mut Found) -> Result<Arc<dyn StateStore>, RunError> {
    let (config, file) = (&found.config, &found.file);
    let settings = assemble::store(config, file, &found.keys).map_err(one)?;
    found.trusted.state(config, &settings.redis.tls);
    inherited::open_store(config, &settings, !found.inherited.is_empty())
        .map_err(|error| one(ConfigError::new(file, format!("state.url: {error}"))))
}

fn open_audit(
    found: &mut Found,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<(Arc<AuditLog>, Option<Running>), RunError> {
    let (config, file) = (&found.config, &found.file);
    let mut settings = audit::settings(config, file).map_err(one)?;
    let stream = found.stream.take();
    if let Some(stream) = &stream {
        found.trusted.stream(config, stream);
    }
    let stream = stream
        .map(|stream| Running::start(stream, metrics, health))
        .transpose()
        .map_err(|error| RunError::System(format!("no thread: {error}")))?;
    settings.tap = stream.as_ref().map(Running::tap);
    let audit = AuditLog::open(
        settings,
        Arc::new(SystemClock),
        Arc::new(OsEntropy),
        Arc::clone(metrics),
    );
    let audit =
        audit.map_err(|error| one(ConfigError::new(file, format!("audit.file: {error}"))))?;
    Ok((Arc::new(audit), stream))
}

fn bind(address: SocketAddr, key: &str, file: &str) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::AddrInUse => "; end what listens there, or choose another port",
            ErrorKind::AddrNotAvailable => {
                "; no interface of this machine has that address, 0.0.0.0 stands for all of them"
            }
            ErrorKind::PermissionDenied => {
                "; ports below 1024 need root, CAP_NET_BIND_SERVICE or a socket from the service manager"
            }
            _ => "",
        };
        let problem = format!("{key}: {address} cannot be bound: {error}{remedy}");
        one(ConfigError::new(file, problem))
    })
}

/// The address databases. What is missing is said in the log and shown as a part that is degraded.
fn geo(config: &Config, health: &Health) -> Arc<CurrentGeo> {
    let (geo, missing) = CurrentGeo::open(GeoSettings::from(&config.geo));
    for warning in &missing {
        tracing::warn!("{}: {warning}", warning.role.key());
    }
    report_geo(health, &missing);
    Arc::new(geo)
}

/// A panic is a bug: it costs one request, is counted and keeps its message.
fn count_panics(metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        metrics.panicked();
        before(info);
    }));
}
