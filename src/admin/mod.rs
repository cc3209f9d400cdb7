//! The edge that faces operators, on a listener of their own: metrics and health for whoever reaches it by a name that it
//! has, the review queue for whoever has the operators' token, the console for whoever signs in.

/// What programs ask, read.
mod asked;

/// Pages for analysts.
pub mod console;

/// Decisions, for programs.
mod decisions;

/// Figures, for programs.
mod figures;

/// What analysts know of decisions, for programs.
mod labels;

/// The review queue.
mod review;

/// The rollout.
mod rollout;

use crate::domain::bearer_token::BearerToken;
use crate::flow::AuthFlow;
use crate::flow::score::breaker::BreakerState;
use crate::listening;
use crate::listening::Listening;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use console::Console;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Connections at a time: a browser has six.
const CONNECTIONS_MAX: usize = 256;

/// What the handlers show.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The health.
    pub health: Arc<Health>,
    /// The path, for the gauges that are read off it.
    pub flow: Arc<AuthFlow>,
    /// The token of operators.
    pub operators: BearerToken,
    /// Pages for analysts.
    pub console: Console,
    /// Further names under which metrics and health are asked for, with their port or without.
    pub hosts: Arc<[String]>,
}

impl AdminState {
    /// Whether a request names this listener: by an address, as localhost, by the console's name or by one of its own. One
    /// that names no host is no browser's, which a foreign page could have sent here under a name of its own.
    fn is_named_by(&self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(header::HOST) {
            return true;
        }
        let host = review::host(headers);
        let bare = without_port(host);
        let is_ours =
            |name: &String| name.eq_ignore_ascii_case(host) || name.eq_ignore_ascii_case(bare);
        self.console.is_named_by(headers) || self.hosts.iter().any(is_ours)
    }
}

/// The routes.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state.clone())
        .merge(console::router(state.console.clone()))
        .merge(decisions::router(state.clone()))
        .merge(figures::router(state.clone()))
        .merge(labels::router(state.clone()))
        .merge(review::router(state.clone()))
        .merge(rollout::router(state))
}

/// Whether a Host header is an address or localhost. A name that somebody else can let resolve to this machine is not
/// (DNS rebinding).
fn is_address(host: &str) -> bool {
    let without_port = without_port(host);
    let bare = without_port
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(without_port);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((front, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            front
        }
        _ => host,
    }
}

/// Serves until `stop` says so.
pub async fn serve(listener: TcpListener, state: AdminState, stop: watch::Receiver<bool>) {
    let listening = Listening {
        name: "admin",
        connections_max: CONNECTIONS_MAX,
        tls: None,
    };
    listening::serve(listener, listening, router(state), stop).await;
}

async fn live() -> &'static str {
    "alive\n"
}

/// A balancer that asks under whatever name learns whether to send users; how each part is doing is not for everybody.
async fn ready(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let (ready, mut report) = state.health.readiness();
    if !state.is_named_by(&headers) {
        report.parts.clear();
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn metrics(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    if !state.is_named_by(&headers) {
        return (
            StatusCode::MISDIRECTED_REQUEST,
            "metrics are asked for by an address, as localhost, or by a name in admin.hosts\n",
        )
            .into_response();
    }
    gauges(&state);
    // What is not known keeps its last value.
    if let Ok(waiting) = state.flow.waiting_logins().await {
        state.metrics.review_waiting(waiting);
    }
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        state.metrics.render(),
    )
        .into_response()
}

/// Brings the gauges up to date.
fn gauges(state: &AdminState) {
    let level = |breaker| match breaker {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    };
    let dependencies = state.flow.dependencies();
    state
        .metrics
        .breaker("model", level(dependencies.scorer.breaker_state()));
    state
        .metrics
        .breaker("state", level(dependencies.state_breaker.state()));
    state.metrics.in_flight(dependencies.in_flight.count());
    state.flow.measure_rollout();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_hosts() {
        for good in [
            "127.0.0.1:9090",
            "127.0.0.1",
            "localhost",
            "LOCALHOST:9090",
            "[::1]:9090",
            "[::1]",
            "10.0.0.7:1",
        ] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9090",
            "127.0.0.1:9090:9090",
            "localhost:",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
