//! The review queue on the operators' listener: list, release, refuse. Each request carries the operators' token and names
//! this listener by address: a page in an operator's browser can do neither.

use crate::admin::AdminState;
use crate::admin::asked::Asked;
use crate::admin::is_address;
use crate::domain::ids::Pseudonym;
use crate::domain::review::Answer;
use crate::domain::review::RulingError;
use crate::flow::AuthFlow;
use crate::flow::desk::DecideError;
use crate::flow::ports::StateError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use std::sync::Arc;
use std::time::Duration;

/// The longest that an analyst waits for the store. What was decided is carried out and recorded all the same.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// The header in which an operator's name comes.
const OPERATOR: &str = "x-riskgate-operator";
/// The longest reason, in bytes.
const BODY_BYTES_MAX: usize = 4_096;

/// The routes.
pub(super) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/review", get(list))
        .route("/review/{id}/release", post(release))
        .route("/review/{id}/refuse", post(refuse))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Lets operators in, and nobody else.
pub(super) async fn guard(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    match admitted(&state, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

/// Whether a request names this listener by its address and carries the operators' token.
pub(super) fn admitted(state: &AdminState, headers: &HeaderMap) -> Result<(), Box<Response>> {
    if !names_this(headers) {
        return Err(Box::new(failed(
            StatusCode::MISDIRECTED_REQUEST,
            "this listener is named by its address or as localhost",
        )));
    }
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    if !authorization.is_some_and(|value| state.operators.admits(value)) {
        let mut answer = failed(
            StatusCode::UNAUTHORIZED,
            "the operators' token is missing or wrong",
        );
        answer.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            header::HeaderValue::from_static("Bearer realm=\"riskgate\""),
        );
        return Err(Box::new(answer));
    }
    Ok(())
}

/// Whether a request names this listener by its address.
pub(super) fn names_this(headers: &HeaderMap) -> bool {
    is_address(host(headers))
}

/// The one name under which a request asks.
pub(super) fn host(headers: &HeaderMap) -> &str {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => "",
    }
}

async fn list(State(state): State<AdminState>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let all = Asked::parse(query.as_bytes(), &["all"])
        .and_then(|asked| asked.read("all", "true or false", |all| all.parse().ok()));
    let all = match all {
        Ok(all) => all.unwrap_or(false),
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    match state.flow.review_listing(all).await {
        Ok(listing) => json(StatusCode::OK, listing.json()),
        Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn release(
    state: State<AdminState>,
    id: Path<String>,
    headers: HeaderMap,
    reason: Bytes,
) -> Response {
    decide(&state, &id, true, &headers, &reason).await
}

async fn refuse(
    state: State<AdminState>,
    id: Path<String>,
    headers: HeaderMap,
    reason: Bytes,
) -> Response {
    decide(&state, &id, false, &headers, &reason).await
}

async fn decide(
    state: &AdminState,
    id: &str,
    is_release: bool,
    headers: &HeaderMap,
    reason: &[u8],
) -> Response {
    let Some(operator) = operator(headers) else {
        return unnamed();
    };
    let Ok(reason) = std::str::from_utf8(reason) else {
        return failed(StatusCode::BAD_REQUEST, "the reason is not UTF-8");
    };
    let decided = ruled(&state.flow, id, is_release, &operator, reason.trim()).await;
    match decided {
        Ok(id) => json(StatusCode::OK, done(id)),
        Err(error @ DecideError::Reason(_)) => failed(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(DecideError::Ruling(error @ RulingError::Unknown)) => {
            failed(StatusCode::NOT_FOUND, &error.to_string())
        }
        Err(DecideError::Ruling(error @ RulingError::Decided)) => {
            failed(StatusCode::CONFLICT, &error.to_string())
        }
        Err(DecideError::State(error)) => {
            failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

/// Does what an analyst has decided. A task of its own: whoever asks may go away in the middle, and the login would be decided
/// without a record.
pub(super) async fn ruled(
    flow: &Arc<AuthFlow>,
    id: &str,
    is_release: bool,
    operator: &str,
    reason: &str,
) -> Result<Pseudonym, DecideError> {
    let flow = Arc::clone(flow);
    let [id, operator, reason] = [id, operator, reason].map(str::to_owned);
    let decided = tokio::spawn(async move {
        flow.decide_review(&id, is_release, &operator, &reason)
            .await
    });
    match tokio::time::timeout(ANSWER_WITHIN, decided).await {
        Ok(Ok(decided)) => decided,
        Ok(Err(error)) => {
            let problem = StateError::Refused(format!("it was not carried out: {error}"));
            Err(DecideError::State(problem))
        }
        Err(_) => Err(DecideError::State(StateError::Timeout)),
    }
}

/// Who asks, as a program with the operators' token says it.
pub(super) fn operator(headers: &HeaderMap) -> Option<String> {
    let operator = String::from_utf8_lossy(headers.get(OPERATOR)?.as_bytes());
    let name = operator.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

pub(super) fn unnamed() -> Response {
    failed(
        StatusCode::BAD_REQUEST,
        "the header `x-riskgate-operator` names nobody",
    )
}

fn done(id: Pseudonym) -> String {
    Answer {
        id: Some(id.to_string()),
        error: None,
    }
    .json()
}

pub(super) fn failed(status: StatusCode, error: &str) -> Response {
    let answer = Answer {
        id: None,
        error: Some(error.to_owned()),
    };
    json(status, answer.json())
}

pub(super) fn json(status: StatusCode, body: String) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        body,
    )
        .into_response()
}
