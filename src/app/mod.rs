//! The composition root: builds every part from the configuration, top to bottom, and runs them. It decides nothing
//! about requests.

/// The secret of a deployment.
pub mod keys;

/// Secrets that others gave.
mod secret_file;

/// Those that are exchanged while the gateway runs.
pub mod secrets;

/// The keys that sign.
pub mod signing;

/// From the configuration to the parts.
pub mod assemble;

/// Who is told.
pub mod alerts;

/// Which other products are told.
pub mod shared_signals;

/// Where spans go.
pub mod traces;

/// Certificates for development.
pub mod certs;

/// What WSO2 calls.
pub mod actions;

/// What clients may take of the listener.
pub mod edge;

/// API routes.
pub mod resources;

/// `riskgate check`.
pub mod check;

/// Models, proved once.
pub mod models;

/// Contacts the identity server.
pub mod reach;

/// The operators' token.
pub mod operators;

/// The console and its operators.
pub mod console;

/// The provider by which operators sign in to it.
pub mod sign_in;

/// The policy file, as the console edits it.
mod policy_desk;

/// Speaks to the gateway that runs.
mod admin_client;

/// `riskgate health`.
pub mod health;

/// `riskgate --version`.
pub mod version;

/// The audit log.
pub mod audit;

/// What an operator decides about held logins.
pub mod review;

/// The rollout plan.
pub mod rollout;

/// `riskgate scopes`.
pub mod scopes;

/// What an operator does to the memory.
pub mod state;

/// `riskgate model`.
pub mod model;

/// Login events through the gateway's own path.
pub mod replay;

/// Audit logs as they lie on the disk.
pub mod records;

/// `riskgate explain`.
pub mod explain;

/// `riskgate label`.
pub mod labels;

/// The same, by the gateway that runs.
pub mod label_desk;

/// `riskgate replay`.
pub mod rerun;

/// Exchanges configuration, policy, model and certificates.
pub mod reload;

/// Certificates of the listeners.
pub mod certificates;

/// Certificates that upstreams are shown.
pub mod own_certificates;

/// Turns scoring off in the configuration.
pub mod off;

/// A policy, tried on a request that is described.
pub mod trial;

/// Whom connections of ours trust.
pub mod trust;

/// Sockets that were opened before.
pub mod inherited;

/// Work beside the requests.
pub mod background;

/// What is read and opened before anything is served.
mod opening;

use crate::adapters::clock::SystemClock;
use crate::adapters::entropy::OsEntropy;
use crate::adapters::geo::GeoWarning;
use crate::adapters::identity_server::IdentityServer;
use crate::adapters::trail::Others;
use crate::admin;
use crate::admin::AdminState;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::overrides::Overrides;
use crate::domain::printable::lines;
use crate::domain::printable::plain;
use crate::domain::signals::agent::AgentFacts;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::dependencies::Outside;
use crate::flow::learner;
use crate::flow::lessons;
use crate::flow::ports::Clock;
use crate::flow::ports::Introspector;
use crate::flow::ports::KeySource;
use crate::flow::ports::Revoker;
use crate::flow::score::breaker::Breaker;
use crate::proxy::GatewayProxy;
use crate::proxy::connections::Drain;
use crate::proxy::edge::EdgeSettings;
use crate::proxy::listener;
use crate::proxy::listener::ListenerTls;
use crate::proxy::upstream::Services;
use crate::proxy::upstream::Upstream;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use certificates::Certificates;
use opening::Found;
use opening::Opened;
use own_certificates::OwnCertificates;
use parking_lot::Mutex;
use pingora::server::RunArgs;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use secrets::Secrets;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Why the gateway did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used: exit code 2.
    #[error("{}", .0.iter().map(|error| lines(&error.to_string()).into_owned()).collect::<Vec<_>>().join("\n"))]
    Config(Vec<ConfigError>),
    /// Something of the system is missing: exit code 1.
    #[error("{}", plain(.0))]
    System(String),
}

/// One thing is wrong with the configuration.
fn one(error: ConfigError) -> RunError {
    RunError::Config(vec![error])
}

/// Runs the gateway in the foreground until SIGTERM or SIGINT.
pub fn run(overrides: &Overrides) -> Result<(), RunError> {
    let mut found = Found::of(overrides)?;
    let Opened {
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
    } = Opened::of(&mut found)?;
    let Found {
        config,
        file,
        stamp,
        mut trusted,
        keys,
        assembled,
        upstream: upstream_settings,
        peers,
        address,
        tls,
        edge: edge_settings,
        actions,
        sign_in,
        ..
    } = found;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let identity_server = assemble::identity_server(&config, &file, &upstream_settings)
        .map_err(one)
        .and_then(|settings| {
            IdentityServer::new(&settings, Arc::clone(&clock))
                .map(Arc::new)
                .map_err(|error| one(ConfigError::new(&file, format!("upstream.{error}"))))
        })?;
    let (records, alerting) =
        alerts::before(audit.clone(), &config, &file, &metrics).map_err(one)?;
    let means = (&clock, &metrics, &health);
    let told = shared_signals::before(records, &config, &file, runtime.handle(), means);
    let (records, transmitter, published, receivers) = told.map_err(one)?;
    let (observations, queue) = lessons::queue(learner::OBSERVATIONS_MAX, Arc::clone(&metrics));
    let outside = Outside {
        state: Arc::clone(&state),
        geo: geo.clone(),
        audit: records,
        keys: Arc::clone(&identity_server) as Arc<dyn KeySource>,
        introspector: Arc::clone(&identity_server) as Arc<dyn Introspector>,
        revoker: Arc::clone(&identity_server) as Arc<dyn Revoker>,
        clock: Arc::clone(&clock),
        entropy: Arc::new(OsEntropy),
    };
    let state_breaker = Breaker::new(config.state.breaker.clone())
        .telling(background::announce_breaker("state", &metrics));
    let dependencies = Dependencies::new(
        outside,
        &config.score,
        &config.limits,
        state_breaker,
        observations,
        Arc::clone(&metrics),
    );
    let dependencies =
        dependencies.map_err(|error| RunError::System(format!("no threads: {error}")))?;
    let announce = background::announce_breaker("model", &metrics);
    let dependencies = Dependencies {
        scorer: dependencies.scorer.telling(announce),
        transmitter: published,
        sessions: assemble::sessions(&config),
        rollout: rollout::watch(&config),
        ..dependencies
    };
    // Tables and patterns that are made at first use are made before the first login.
    AgentFacts::parse(
        Some("Mozilla/5.0 (X11; Linux x86_64) Chrome/1.0"),
        Some("en"),
    );
    metrics.info(&assembled.snapshot.models.versions(), state.kind());
    let (traces, exporter) = traces::traces(&config, &file, &metrics)
        .map_err(one)?
        .unzip();
    let flow = Arc::new(AuthFlow::new(dependencies, assembled.snapshot).traced(traces));
    let shown = upstream_settings.certificate.clone();
    let own = OwnCertificates::new(shown.map(|shown| (shown, Arc::clone(&identity_server))));
    own.set_services(peers.certificates);
    let upstream = Arc::new(Upstream::new(upstream_settings, address));
    trusted.upstream(&config, &upstream, &identity_server);
    if let Some(alerting) = &alerting {
        trusted.alerts(&config, alerting);
    }
    if let Some(exporter) = &exporter {
        trusted.traces(&config, exporter);
    }
    let secrets = Secrets::new(&config, actions.as_ref(), alerting.as_ref());
    let services = Arc::new(Services::default());
    services.set(peers.named, resolve);

    let listeners = tls.iter().map(|tls| ("server", tls.clone()));
    let of_actions = actions.as_ref().and_then(actions::Prepared::tls);
    let listeners = listeners.chain(of_actions.map(|tls| ("actions", tls)));
    let certificates = Arc::new(Certificates::new(
        listeners.collect(),
        own,
        Arc::clone(&clock),
        Arc::clone(&metrics),
        Arc::clone(&health),
    ));

    let (stop, stopped) = watch::channel(false);
    let observer = learning.spawn(learner::run(
        queue,
        stopped.clone(),
        Arc::clone(&state),
        Arc::clone(&metrics),
    ));
    let exporting = exporter.map(|exporter| runtime.spawn(exporter.run(stopped.clone())));
    let alerting =
        alerting.map(|delivery| runtime.spawn(delivery.run(Arc::clone(&clock), stopped.clone())));
    let means = shared_signals::means(&flow, &clock);
    let signalling = runtime.spawn(transmitter.run(means, stopped.clone()));
    if let (Some(prepared), Some(listener)) = (actions, sockets.actions) {
        let _context = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(|error| RunError::System(error.to_string()))?;
        tracing::info!(listen = %config.actions.listen, "WSO2 may ask");
        let (flow, metrics) = (Arc::clone(&flow), Arc::clone(&metrics));
        runtime.spawn(prepared.serve(listener, flow, metrics, stopped.clone()));
    }
    let others = stream.as_ref().map(|running| Others {
        stream: Arc::clone(&running.stream),
        node: audit.node().to_owned(),
        folder: config.state.data_dir.clone(),
        runtime: running.runtime.clone(),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
    });
    let provider = |found: &sign_in::Prepared| found.provider(&keys, Arc::clone(&clock), &file);
    let provider = sign_in.as_ref().map(provider).transpose().map_err(one)?;
    let console = console::console(&config, &file, &flow, overrides, others, provider);
    let console = console.map_err(one)?;
    let changes = console::changes::Changes::begin(&config, overrides, &console);
    runtime.spawn(console::watch(console.clone(), changes.clone()));
    let admin_state = AdminState {
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        flow: Arc::clone(&flow),
        operators,
        console: console.clone(),
        hosts: config.admin.hosts.clone().into(),
    };
    start_admin(&runtime, sockets.admin, admin_state, stopped)?;
    runtime.spawn(background::watch_state(flow.clone(), health.clone()));
    runtime.spawn(background::watch_share(Arc::clone(&flow)));
    runtime.spawn(background::write_scopes(Arc::clone(&flow)));
    runtime.spawn(background::learn_keys(identity_server.clone()));
    runtime.spawn(background::follow_upstream(Arc::clone(&upstream)));
    runtime.spawn(background::follow_services(Arc::clone(&services)));
    runtime.spawn(background::announce(config.server.listen, health.clone()));
    let reloader = reload::Reloader {
        overrides: overrides.clone(),
        keys,
        flow: Arc::clone(&flow),
        services: Arc::clone(&services),
        certificates: Arc::clone(&certificates),
        trusted,
        secrets,
        geo,
        health: Arc::clone(&health),
        changes,
        identity_server,
        console,
        sign_in: Mutex::new(sign_in),
        receivers,
    };
    let reloading = reloader
        .start(config.clone(), assembled.proved, stamp, stop.subscribe())
        .map_err(|error| RunError::System(format!("reloads cannot be watched for: {error}")))?;
    runtime.spawn(certificates::watch(certificates));
    tracing::info!(
        listen = %config.server.listen,
        upstream = %config.upstream.url,
        admin = %config.admin.listen,
        state = state.kind(),
        model = %flow.snapshot().models.versions(),
        "riskgate {} ({}) starts", env!("CARGO_PKG_VERSION"), version::COMMIT,
    );
    let beside = background::Beside {
        runtime,
        learning,
        observer,
        exporting,
        alerting,
        signalling,
        reloading,
    };
    serve(
        &config,
        Arc::clone(&flow),
        (upstream, services),
        (edge_settings, sockets.public, tls),
        health,
    )?;

    // The proxy has ended: what it has learnt and recorded goes to the disk before the process does.
    flow.write_scopes();
    if stop.send(true).is_err() {
        tracing::debug!("the admin listener had ended before");
    }
    drop(flow);
    beside.end(state.as_ref());
    inherited::let_go(state);
    audit.close();
    if let Some(stream) = stream {
        stream.end();
    }
    tracing::info!("riskgate has ended");
    Ok(())
}

fn serve(
    config: &Config,
    flow: Arc<AuthFlow>,
    (upstream, services): (Arc<Upstream>, Arc<Services>),
    (edge, socket, tls): (EdgeSettings, Option<TcpListener>, Option<ListenerTls>),
    health: Arc<Health>,
) -> Result<(), RunError> {
    let conf = ServerConf {
        threads: config.threads(),
        ..ServerConf::default()
    };
    let grace = Duration::from_secs(config.server.grace_seconds);
    let draining = Duration::from_secs(config.server.drain_seconds);
    let drain = Arc::new(Drain::new(draining, grace));
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = GatewayProxy::new(
        flow,
        upstream,
        services,
        Duration::from_secs(config.server.body_timeout_seconds),
        Duration::from_secs(config.server.write_timeout_seconds),
        Arc::clone(&drain),
    );
    let service = listener::service(
        &server.configuration,
        proxy,
        edge,
        (config.server.listen, socket),
        tls,
        Arc::clone(&drain),
    );
    server.add_service(service);
    server.run(RunArgs {
        shutdown_signal: Box::new(background::Shutdown {
            health,
            listener: drain,
            drain: draining,
            grace,
        }),
    });
    Ok(())
}

fn start_admin(
    runtime: &Runtime,
    listener: TcpListener,
    state: AdminState,
    stopped: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let _context = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|error| RunError::System(error.to_string()))?;
    runtime.spawn(admin::serve(listener, state, stopped));
    Ok(())
}

/// The first address of a name.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("`{host}` does not resolve: {error}"))?;
    addresses
        .next()
        .ok_or_else(|| format!("`{host}` has no address"))
}

fn report_geo(health: &Health, missing: &[GeoWarning]) {
    let problems: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let status = if problems.is_empty() {
        PartStatus::Ok
    } else {
        PartStatus::Degraded(problems.join("; "))
    };
    health.set("geo", status);
}
