//! Labels as JSON on the operators' listener, for programs: what analysts said of decisions, and the word that says it. Whoever
//! has the operators' token may, as for the review queue; an operator who is signed in needs the role that the console asks for,
//! and what every form of the session carries.

use crate::admin::AdminState;
use crate::admin::asked::Asked;
use crate::admin::asked::wrong;
use crate::admin::console::NotAllowed;
use crate::admin::console::label;
use crate::admin::console::label::ENDS;
use crate::admin::console::label::NotKept;
use crate::admin::console::label::Word;
use crate::admin::decisions::answer;
use crate::admin::decisions::let_in;
use crate::admin::decisions::unread;
use crate::admin::review::admitted;
use crate::admin::review::failed;
use crate::admin::review::operator;
use crate::admin::review::unnamed;
use crate::domain::label::Label;
use crate::domain::label::Truth;
use crate::domain::operator::roster::Role;
use crate::flow::desk::sessions::EndResult;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use serde::Serialize;
use std::sync::Arc;

/// The longest form, in bytes: the longest note and name, encoded.
const BODY_BYTES_MAX: usize = 8_192;
/// The fields of a form.
const FIELDS: [&str; 5] = ["truth", "note", "kind", "sessions", "token"];

/// A part of a list, the word that was said last first.
#[derive(Debug, Serialize)]
struct Listing {
    labels: Vec<Label>,
    /// What the next question says as `older`.
    #[serde(skip_serializing_if = "Option::is_none")]
    older: Option<String>,
}

/// A word that counts.
#[derive(Debug, Serialize)]
struct Said {
    label: Label,
    /// The same was not said before.
    is_new: bool,
    /// Whether the sessions of the user are being ended, or were: they were asked to be, and nothing has come between.
    ends_sessions: bool,
}

/// The routes.
pub(super) fn router(state: AdminState) -> Router {
    let list = Router::new()
        .route("/api/labels", get(list))
        .layer(middleware::from_fn_with_state(state.clone(), let_in));
    let say = Router::new()
        .route("/api/decisions/{id}/label", post(say))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    list.merge(say).with_state(state)
}

async fn list(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let question = match Question::parse(query.as_deref().unwrap_or_default()) {
        Ok(question) => question,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    let book = Arc::clone(&state.console.labels);
    let Question {
        truth,
        older,
        limit,
    } = question;
    let found = tokio::task::spawn_blocking(move || book.page(truth, older, limit)).await;
    match found {
        Ok(Ok((labels, older))) => answer(&Listing {
            labels,
            older: older.map(|older| older.to_string()),
        }),
        Ok(Err(error)) => {
            tracing::warn!(%error, "labels cannot be read");
            failed(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the labels cannot be read",
            )
        }
        Err(_) => unread(),
    }
}

async fn say(
    State(state): State<AdminState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Asked::parse(&body, &FIELDS);
    let token = form.as_ref().ok().and_then(|form| form.get("token"));
    let operator = match who(&state, &headers, token.unwrap_or_default()) {
        Ok(operator) => operator,
        Err(refusal) => return *refusal,
    };
    let form = match form {
        Ok(form) => form,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    let get = |name: &str| form.get(name).unwrap_or_default();
    let Some(truth) = label::truth(get("truth")) else {
        return failed(
            StatusCode::BAD_REQUEST,
            &wrong("truth", get("truth"), "safe or compromised"),
        );
    };
    if !["", ENDS].contains(&get("sessions")) {
        let problem = wrong("sessions", get("sessions"), "end or nothing");
        return failed(StatusCode::BAD_REQUEST, &problem);
    }
    let word = Word {
        operator: &operator,
        truth,
        kind: get("kind"),
        note: get("note"),
        ends_sessions: get("sessions") == ENDS,
    };
    // There may be a program that asks and nobody who signs in.
    let trail = &state.console.trail;
    trail.start();
    let (all, read) = trail.progress();
    match label::keep(&state.console, &id, word).await {
        Ok(kept) => answer(&Said {
            ends_sessions: word.ends_sessions
                && truth.is_attack()
                && is_ending(&state, &kept.label.id),
            label: kept.label,
            is_new: kept.is_new,
        }),
        Err(NotKept::Unknown) if read < all => failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "the records from before the start are being read: ask again in a moment",
        ),
        Err(NotKept::Unknown) => failed(StatusCode::NOT_FOUND, "no decision has this id"),
        Err(NotKept::Unread) => unread(),
        Err(NotKept::Unwritten(error)) => failed(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the labels cannot be written: {error}"),
        ),
    }
}

/// Whether sessions are being ended, or were.
fn is_ending(state: &AdminState, id: &str) -> bool {
    let ending = state.flow.dependencies().sessions.ending(id);
    ending.is_some_and(|ending| matches!(ending.result, None | Some(EndResult::Ended)))
}

/// Who says it: an operator who is signed in and may, or whom a program with the operators' token names.
fn who(state: &AdminState, headers: &HeaderMap, token: &str) -> Result<String, Box<Response>> {
    let refused = |problem: &str| Err(Box::new(failed(StatusCode::FORBIDDEN, problem)));
    let console = &state.console;
    if console.is_named_by(headers) {
        match console.operator(headers, Role::Analyst, token) {
            Some(Ok(operator)) => return Ok(operator.to_string()),
            Some(Err(NotAllowed::Role(role))) => {
                return refused(&format!(
                    "this needs the role {}; yours is {role}",
                    Role::Analyst
                ));
            }
            Some(Err(NotAllowed::Token)) => {
                return refused("`token`: expected the value that forms of this session carry");
            }
            None => {}
        }
    }
    admitted(state, headers)?;
    operator(headers).ok_or_else(|| Box::new(unnamed()))
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Question {
    truth: Option<Truth>,
    older: Option<u64>,
    limit: usize,
}

impl Question {
    fn parse(query: &str) -> Result<Self, String> {
        let asked = Asked::parse(query.as_bytes(), &["truth", "older", "limit"])?;
        Ok(Self {
            truth: asked.read("truth", "safe or compromised", label::truth)?,
            older: asked.read("older", "what an answer said", |value| value.parse().ok())?,
            limit: asked.limit()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::asked::LIMIT;

    #[test]
    fn a_question_is_read_as_a_whole_or_not_at_all() {
        assert_eq!(
            Question::parse("truth=safe&limit=3&older=7"),
            Ok(Question {
                truth: Some(Truth::Safe),
                older: Some(7),
                limit: 3
            })
        );
        assert_eq!(Question::parse("").unwrap().limit, LIMIT);
        for (query, said) in [
            ("limit=0", "`limit`: `0`, expected 1 to 200"),
            ("older=-1", "what an answer said"),
            ("truth=maybe", "safe or compromised"),
            ("verdict=x", "no such name but truth, older, limit"),
        ] {
            let problem = Question::parse(query).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn a_form_has_no_other_field() {
        assert!(Asked::parse(b"truth=safe&note=x", &FIELDS).is_ok());
        // Somebody who asks for sessions to be ended and misspells it must hear of it.
        let problem = Asked::parse(b"truth=compromised&session=end", &FIELDS).unwrap_err();
        assert!(problem.contains("`session`: `end`"), "{problem}");
    }
}
