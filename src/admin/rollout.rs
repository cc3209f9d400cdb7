//! The rollout on the operators' listener, for the command line. Each request carries the operators' token, as for the review
//! queue; a change also the name and password of an operator with the role `admin`: a token says that somebody may ask, not
//! who it is.

use crate::admin::AdminState;
use crate::admin::console::sign_in::Refused;
use crate::admin::review::failed;
use crate::admin::review::guard;
use crate::admin::review::json;
use crate::domain::operator::roster::Role;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::scope::Scope;
use crate::domain::rollout_plan::Ask;
use crate::domain::rollout_plan::Direction;
use crate::domain::rollout_plan::Done;
use crate::domain::rollout_plan::status::Said;
use crate::flow::AuthFlow;
use crate::flow::rollout::desk::RolloutError;
use crate::flow::rollout::desk::Voice;
use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use std::net::SocketAddr;
use std::sync::Arc;

/// The longest form, in bytes: the longest names, reason and password, encoded.
const BODY_BYTES_MAX: usize = 16_384;

/// What an operator wants.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    /// Another stage.
    Ask(Ask),
    /// What another operator has asked for, as it was shown.
    Approve(Option<Scope>, String),
}

/// The routes.
pub(super) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/rollout", get(status))
        .route("/rollout/{word}", post(change))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn status(State(state): State<AdminState>) -> Response {
    let flow = Arc::clone(&state.flow);
    match tokio::task::spawn_blocking(move || flow.rollout_status()).await {
        Ok(Ok(status)) => json(StatusCode::OK, status.json()),
        Ok(Err(error)) => failed(status_of(&error), &error.to_string()),
        Err(_) => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the rollout cannot be read",
        ),
    }
}

async fn change(
    State(state): State<AdminState>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(word): Path<String>,
    body: Bytes,
) -> Response {
    let fields: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let get = |name: &str| {
        let mut found = fields.iter().filter(|(field, _)| field == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => value.as_str(),
            _ => "",
        }
    };
    let wish = match wish(&word, get) {
        Ok(wish) => wish,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, problem),
    };
    let (name, password) = (get("operator").to_owned(), get("password").to_owned());
    let verified = state
        .console
        .verify(name, password, &peer.ip().to_string())
        .await;
    let operator = match verified {
        Ok(operator) => operator,
        Err(Refused::Wrong) => {
            return failed(StatusCode::FORBIDDEN, "name or password is wrong");
        }
        Err(Refused::Wait(wait)) => {
            let problem = format!(
                "there were too many attempts; try again in {} seconds",
                wait.as_secs() + 1
            );
            return failed(StatusCode::TOO_MANY_REQUESTS, &problem);
        }
        Err(Refused::Busy) => {
            let problem = "too many sign in at this moment; try again";
            return failed(StatusCode::SERVICE_UNAVAILABLE, problem);
        }
    };
    if operator.role() < Role::Admin {
        let problem = format!(
            "this needs the role {}; `{}` has {}",
            Role::Admin,
            operator.name(),
            operator.role()
        );
        return failed(StatusCode::FORBIDDEN, &problem);
    }
    let done = carry_out(&state.flow, wish, operator.name(), get("reason")).await;
    match done {
        Ok(done) => {
            let said = Said {
                action: done.action.to_owned(),
                from: done.from,
                to: done.to,
                error: String::new(),
            };
            json(StatusCode::OK, said.json())
        }
        Err(error) => failed(status_of(&error), &error.to_string()),
    }
}

/// Reads what is wanted: `promote`, `demote` or `approve`, and the fields `tenant`, `application`, `mode`, `percentage`,
/// or `to` of what is approved.
pub(super) fn wish<'f>(word: &str, get: impl Fn(&str) -> &'f str) -> Result<Wish, &'static str> {
    let named = |name: &str| Some(get(name).trim().to_owned()).filter(|text| !text.is_empty());
    let scope = Scope::new(named("tenant"), named("application"));
    let direction = match word {
        "promote" => Direction::Promote,
        "demote" => Direction::Demote,
        "approve" => {
            const UNREAD: &str = "expected `to`: what was read that waits, such as `enforce 10 %`";
            return Ok(Wish::Approve(scope, named("to").ok_or(UNREAD)?));
        }
        _ => return Err("expected promote, demote or approve"),
    };
    let mode = Mode::ALL
        .into_iter()
        .find(|mode| mode.as_str() == get("mode"))
        .ok_or("expected the mode off, monitor, advise or enforce")?;
    let percentage = get("percentage")
        .trim()
        .parse()
        .map_err(|_| "expected a percentage of 0 to 100")?;
    Ok(Wish::Ask(Ask {
        direction,
        scope,
        mode,
        percentage,
    }))
}

/// Does what an operator wants, who may, away from the threads of the listener.
pub(super) async fn carry_out(
    flow: &Arc<AuthFlow>,
    wish: Wish,
    operator: &str,
    reason: &str,
) -> Result<Done, RolloutError> {
    let flow = Arc::clone(flow);
    let (operator, reason) = (operator.to_owned(), reason.trim().to_owned());
    let done = tokio::task::spawn_blocking(move || {
        let voice = Voice {
            operator: &operator,
            reason: &reason,
        };
        match wish {
            Wish::Ask(ask) => flow.ask_rollout(&ask, voice),
            Wish::Approve(scope, seen) => flow.approve_rollout(scope.as_ref(), &seen, voice),
        }
    });
    done.await.unwrap_or(Err(RolloutError::NoPlan))
}

/// The status of an answer that says why not.
pub(super) fn status_of(error: &RolloutError) -> StatusCode {
    match error {
        RolloutError::NoPlan => StatusCode::NOT_FOUND,
        RolloutError::File { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        RolloutError::Ask(_) | RolloutError::Unprovable(_) => StatusCode::CONFLICT,
    }
}
