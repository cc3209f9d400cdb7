//! The edge that faces operators, on a listener of their own: metrics and health for whoever reaches it, the review queue
//! for whoever has the operators' token.

/// The review queue.
mod review;

use crate::domain::operator::OperatorToken;
use crate::flow::AuthFlow;
use crate::flow::score::breaker::BreakerState;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

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
    pub operators: OperatorToken,
}

/// The routes.
pub fn router(state: AdminState) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state.clone())
        .merge(review::router(state))
}

/// Serves until `stop` says so.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let stopped = async move {
        // A sender that is gone means the same as its word.
        drop(stop.wait_for(|stopped| *stopped).await);
    };
    axum::serve(listener, router(state))
        .with_graceful_shutdown(stopped)
        .await
}

async fn live() -> &'static str {
    "alive\n"
}

async fn ready(State(state): State<AdminState>) -> Response {
    let (ready, report) = state.health.readiness();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn metrics(State(state): State<AdminState>) -> Response {
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
}
