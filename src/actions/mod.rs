//! The edge that faces WSO2 itself: an adaptive script asks for a decision, a custom authenticator is called. It has a
//! listener of its own, and nobody is answered without credentials. Nothing here forwards anything.

/// Who may ask.
pub mod caller;

/// Connections: plain on loopback, TLS elsewhere.
pub mod listener;

use crate::actions::caller::Caller;
use crate::actions::caller::CurrentCallers;
use crate::domain::action::AuthenticationCall;
use crate::domain::action::AuthenticationReply;
use crate::domain::action::CallError;
use crate::domain::action::Question;
use crate::domain::identity_event::Message;
use crate::domain::token_action::ActionCall;
use crate::flow::AuthFlow;
use crate::flow::afterwards::Taken;
use crate::telemetry::metrics::Metrics;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::post;
use serde_json::json;
use std::sync::Arc;

/// The longest body that is read. WSO2 sends a few KiB.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The same for calls that carry the claims of a token: a user with many groups must not be kept out by their number.
const TOKEN_BODY_BYTES_MAX: usize = 512 * 1024;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct ActionsState {
    /// The path.
    pub flow: Arc<AuthFlow>,
    /// Who may ask.
    pub callers: CurrentCallers,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// The routes. Everything, also what does not exist, is answered to known callers only.
pub fn router(state: ActionsState) -> Router {
    let tokens = || DefaultBodyLimit::max(TOKEN_BODY_BYTES_MAX);
    Router::new()
        .route("/actions/risk", post(risk))
        .route("/actions/authenticate", post(authenticate))
        .route(
            "/actions/pre-issue-access-token",
            post(access_token).layer(tokens()),
        )
        .route(
            "/actions/pre-issue-id-token",
            post(id_token).layer(tokens()),
        )
        .route(
            "/actions/pre-update-password",
            post(password).layer(tokens()),
        )
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(state.clone(), known_caller))
        // Signs its body instead.
        .route("/actions/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

async fn known_caller(State(state): State<ActionsState>, request: Request, next: Next) -> Response {
    match state.callers.load().recognise(request.headers()) {
        Caller::Known => next.run(request).await,
        Caller::Unknown => {
            state.metrics.action("none", "unauthorized");
            let reply = AuthenticationReply::Error {
                error_message: "unauthorized",
                error_description: "credentials are missing or wrong".to_owned(),
            };
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, Json(reply)).into_response()
        }
    }
}

async fn risk(State(state): State<ActionsState>, body: Bytes) -> Response {
    match Question::parse(&body) {
        Ok(question) => {
            let answer = state.flow.answer(&question).await;
            state.metrics.action("risk", answer.risk_status);
            Json(answer).into_response()
        }
        Err(error) => {
            state.metrics.action("risk", "bad_request");
            let body =
                json!({ "error": "invalid_request", "error_description": error.to_string() });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

async fn authenticate(State(state): State<ActionsState>, body: Bytes) -> Response {
    match AuthenticationCall::parse(&body) {
        Ok(call) => {
            let reply = state.flow.authenticate(&call).await;
            state.metrics.action("authenticate", status_of(&reply));
            Json(reply).into_response()
        }
        Err(error) => bad_call(&state, "authenticate", &error),
    }
}

async fn access_token(state: State<ActionsState>, body: Bytes) -> Response {
    act("pre_issue_access_token", state, body).await
}

async fn id_token(state: State<ActionsState>, body: Bytes) -> Response {
    act("pre_issue_id_token", state, body).await
}

async fn password(state: State<ActionsState>, body: Bytes) -> Response {
    act("pre_update_password", state, body).await
}

/// Takes an event. WSO2 tries again where the answer is no 2xx: what says nothing here is as good as taken.
async fn webhook(State(state): State<ActionsState>, headers: HeaderMap, body: Bytes) -> Response {
    let callers = state.callers.load();
    let is_known = callers.recognise_signed(&headers, &body) == Caller::Known
        || callers.recognise(&headers) == Caller::Known;
    drop(callers);
    if !is_known {
        state.metrics.action("webhook", "unauthorized");
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match Message::parse(&body) {
        Ok(message) => {
            let (status, result) = match state.flow.take(&message).await {
                Taken::Recorded => (StatusCode::ACCEPTED, "recorded"),
                Taken::Other => (StatusCode::ACCEPTED, "unchanged"),
                Taken::Stale => (StatusCode::BAD_REQUEST, "stale"),
            };
            state.metrics.action("webhook", result);
            status.into_response()
        }
        Err(error) => bad_call(&state, "webhook", &error),
    }
}

/// Answers an action by its type, whichever of these paths it was registered with. Only what cannot be a call of WSO2's
/// is an error: it makes a failed login of each.
async fn act(action: &'static str, State(state): State<ActionsState>, body: Bytes) -> Response {
    match ActionCall::parse(&body) {
        Ok(call) => {
            let (reply, result) = state.flow.act(&call).await;
            state.metrics.action(action, result);
            Json(reply).into_response()
        }
        Err(error) => bad_call(&state, action, &error),
    }
}

fn bad_call(state: &ActionsState, action: &'static str, error: &CallError) -> Response {
    state.metrics.action(action, "bad_request");
    let reply = AuthenticationReply::Error {
        error_message: "invalid_request",
        error_description: error.to_string(),
    };
    (StatusCode::BAD_REQUEST, Json(reply)).into_response()
}

async fn nothing_here() -> StatusCode {
    StatusCode::NOT_FOUND
}

fn status_of(reply: &AuthenticationReply) -> &'static str {
    match reply {
        AuthenticationReply::Success {} => "success",
        AuthenticationReply::Failed { .. } => "failed",
        AuthenticationReply::Incomplete { .. } => "incomplete",
        AuthenticationReply::Error { .. } => "error",
    }
}
