//! Decisions as JSON on the operators' listener, for programs: the lists of the console with its filters, and one whole record.
//! They are shown to whom the console shows them, an operator who is signed in, and to whoever has the operators' token.

use crate::admin::AdminState;
use crate::admin::asked::Asked;
use crate::admin::console::decision::ID_BYTES_MAX;
use crate::admin::console::label;
use crate::admin::review::failed;
use crate::admin::review::guard;
use crate::admin::review::json;
use crate::domain::audit::AuditEvent;
use crate::domain::label::Label;
use crate::domain::printable;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::domain::trail::Place;
use axum::Router;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

/// A part of a list, the latest first.
#[derive(Debug, Serialize)]
struct Listing {
    decisions: Vec<Entry>,
    /// What the next question says as `older`.
    #[serde(skip_serializing_if = "Option::is_none")]
    older: Option<String>,
    /// The time up to which was looked, where time ran out before the list was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    searched_to: Option<String>,
    /// Records from before the start are not all read yet.
    is_reading: bool,
    /// Why new decisions of other nodes are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

/// One decision.
#[derive(Debug, Serialize)]
struct Whole {
    record: AuditEvent,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// The record is from the stream of the fleet.
    is_foreign: bool,
    /// What an analyst said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Label>,
    /// What became of the user's sessions, where they were to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<&'static str>,
}

/// What is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Question {
    filter: Filter,
    older: Option<Place>,
    limit: usize,
}

/// The routes.
pub(super) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/api/decisions", get(list))
        .route("/api/decisions/{id}", get(show))
        .layer(middleware::from_fn_with_state(state.clone(), let_in))
        .with_state(state)
}

/// Lets in who is signed in to the console, by the address or name under which that is reached, or who has the token.
pub(super) async fn let_in(state: State<AdminState>, request: Request, next: Next) -> Response {
    let console = &state.console;
    if console.is_named_by(request.headers()) && console.is_signed_in(request.headers()) {
        return next.run(request).await;
    }
    guard(state, request, next).await
}

async fn list(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let question = match Question::parse(query.as_deref().unwrap_or_default()) {
        Ok(question) => question,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    let trail = &state.console.trail;
    // There may be a program that asks and nobody who signs in.
    trail.start();
    let Question {
        filter,
        older,
        limit,
    } = question;
    let found = state
        .console
        .read(move |trail, goes_on| trail.page(&filter, older, limit, goes_on))
        .await;
    let Some(page) = found else {
        return unread();
    };
    let (all, read) = trail.progress();
    answer(&Listing {
        decisions: page.entries,
        older: page.older.map(Place::text),
        searched_to: page.searched_to,
        is_reading: read < all,
        missing: trail.missing(),
    })
}

async fn show(State(state): State<AdminState>, Path(id): Path<String>) -> Response {
    state.console.trail.start();
    let found = if id.len() <= ID_BYTES_MAX {
        state.console.read(move |trail, _| trail.find(&id)).await
    } else {
        Some(None)
    };
    let found = match found {
        None => return unread(),
        Some(None) => return failed(StatusCode::NOT_FOUND, "no record has this id"),
        Some(Some(found)) => found,
    };
    let id = found.event.id.clone();
    let sessions = &state.flow.dependencies().sessions;
    let sessions = sessions.ending(&id).map(|ending| match ending.result {
        Some(result) => result.as_str(),
        None => "ending",
    });
    let label = label::of(&state.console, vec![id])
        .await
        .into_values()
        .next();
    answer(&Whole {
        record: found.event,
        node: found.node,
        is_foreign: found.is_foreign,
        label,
        sessions,
    })
}

pub(super) fn unread() -> Response {
    let problem = "the records cannot be read";
    failed(StatusCode::INTERNAL_SERVER_ERROR, problem)
}

pub(super) fn answer<T: Serialize>(said: &T) -> Response {
    match printable::json(said) {
        Ok(body) => json(StatusCode::OK, body),
        Err(_) => unread(),
    }
}

impl Question {
    /// Reads a query.
    fn parse(query: &str) -> Result<Self, String> {
        let names = [&["older", "limit"], &Filter::NAMES[..]].concat();
        let asked = Asked::parse(query.as_bytes(), &names)?;
        asked.read("all", "1", |value| (value == "1").then_some(()))?;
        Ok(Self {
            filter: Filter::from_query(asked.pairs()),
            older: asked.read("older", "what an answer said", Place::parse)?,
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
        let question = Question::parse("verdict=block&country=ch&limit=3&older=7-3.9-1&all=1");
        let question = question.unwrap();
        assert_eq!(question.limit, 3);
        assert_eq!(question.older.unwrap().text(), "7-3.9-1");
        assert_eq!(
            question.filter.pairs(),
            [("verdict", "block"), ("country", "CH"), ("all", "1")]
        );
        assert_eq!(Question::parse("").unwrap().limit, LIMIT);
        for (query, said) in [
            ("limit=0", "`limit`: `0`, expected 1 to 200"),
            ("limit=201", "1 to 200"),
            ("limit=x", "1 to 200"),
            ("older=1", "what an answer said"),
            ("level=low&level=high", "`level`: `high`, expected it once"),
            (
                "verdikt=block",
                "expected no such name but older, limit, verdict,",
            ),
            ("all=true", "expected 1"),
            ("a%1b=%0a", "`a\\u{1b}`: `\\n`"),
        ] {
            let problem = Question::parse(query).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
