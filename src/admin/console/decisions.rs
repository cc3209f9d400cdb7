//! Decisions as they happen: a list with filters, and word of new ones. The script only asks for the same page again.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::label::Labels;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::domain::policy::reason::Reason;
use crate::domain::route::Door;
use crate::domain::trail::Filter;
use crate::domain::trail::Page;
use crate::domain::trail::Place as Mark;
use crate::domain::trail::tally::LEVELS;
use crate::domain::trail::tally::VERDICTS;
use axum::Extension;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::sse::Event;
use axum::response::sse::KeepAlive;
use axum::response::sse::Sse;
use futures_util::stream;
use maud::Markup;
use maud::html;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Records on one page.
pub(super) const ROWS: usize = 50;
/// Browsers that are told of new decisions at once.
pub(super) const LISTENERS_MAX: usize = 64;
/// Browsers are told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked whether the session is still open.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// `GET /console`.
pub(super) async fn list(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    let (filter, older) = asked(query.as_deref());
    let wanted = filter.clone();
    let page = console
        .read(move |trail, goes_on| trail.page(&wanted, older, ROWS, goes_on))
        .await;
    let Some(page) = page else {
        return layout::unread();
    };
    let is_first = older.is_none();
    let body = html! {
        h1 { "Decisions" }
        (reading(&console))
        (form(&filter, console.trail.is_of_fleet()))
        @if is_first {
            div class="live" data-live-bar { a href=(link("/console", &filter, None)) { "Reload" } }
        }
        // Only the first page changes by itself.
        div data-live[is_first] {
            (found(&page, &filter, "/console", "Decisions, the latest first", None, console.trail.is_of_fleet()))
        }
    };
    layout::page(&signed, Place::Decisions, "Decisions", body)
}

/// `GET /console/events`: a message when something is new. Ends with the session.
pub(super) async fn events(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
) -> Response {
    let Ok(place) = Arc::clone(&console.desk.listeners).try_acquire_owned() else {
        return layout::failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many",
            "Too many pages are kept up to date at this moment.",
        );
    };
    let seen = console.trail.seen();
    let events = stream::unfold(
        (console, signed, seen, place),
        |(console, signed, mut seen, place)| async move {
            loop {
                let changed = tokio::time::timeout(LOOK_EVERY, seen.changed()).await;
                let is_open = console.sessions().look(signed.key, console.now()).is_some();
                if !is_open || matches!(changed, Ok(Err(_))) {
                    return None;
                }
                if changed.is_ok() {
                    tokio::time::sleep(TELL_EVERY).await;
                    let count = *seen.borrow_and_update();
                    let event = Event::default().data(count.to_string());
                    return Some((Ok::<_, Infallible>(event), (console, signed, seen, place)));
                }
            }
        },
    );
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// What a query asks for, and from where on.
pub(super) fn asked(query: Option<&str>) -> (Filter, Option<Mark>) {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let pairs = query
        .0
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    (Filter::from_query(pairs), Mark::parse(query.get("older")))
}

/// What was found, and the way to older ones.
pub(super) fn found(
    page: &Page,
    filter: &Filter,
    path: &str,
    caption: &str,
    labels: Option<&Labels>,
    of_fleet: bool,
) -> Markup {
    html! {
        @if page.entries.is_empty() {
            p class="empty" {
                @if page.older.is_some() { "Nothing of that was found so far." }
                @else if filter.pairs().is_empty() { "There are no decisions yet. They show here as soon as requests come." }
                @else { "There is nothing of that in the records." }
            }
        } @else {
            (layout::table(&page.entries, caption, labels, of_fleet))
        }
        @if let Some(time) = &page.searched_to {
            p class="soft" { "Searched back to " (layout::moment(time)) "." }
        }
        @if let Some(older) = page.older {
            p { a class="button" href=(link(path, filter, Some(older))) rel="next" {
                @if page.searched_to.is_some() { "Search further" } @else { "Older" }
            } }
        }
    }
}

/// That the records from before are not all read yet, or those of other nodes not at all.
pub(super) fn reading(console: &Console) -> Markup {
    let (all, read) = console.trail.progress();
    html! {
        @if let Some(why) = console.trail.missing() {
            p class="notice bad" role="status" {
                "New decisions of other nodes are missing: the stream of the fleet " (why) "."
            }
        }
        @if read < all {
            p class="notice" role="status" {
                "The records from before are being read: " (layout::percent(read, all)) ". What is not read yet does not show."
            }
        }
    }
}

/// A link to the same question, from `older` on.
pub(super) fn link(path: &str, filter: &Filter, older: Option<Mark>) -> String {
    let mut query: Vec<String> = filter
        .pairs()
        .into_iter()
        .map(|(name, value)| format!("{name}={}", layout::encoded(value)))
        .collect();
    query.extend(older.map(|older| format!("older={}", older.text())));
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    }
}

fn form(filter: &Filter, of_fleet: bool) -> Markup {
    let doors: Vec<&str> = Door::ALL.iter().map(|door| door.as_str()).collect();
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    html! {
        form class="filter" method="get" action="/console" role="search" {
            (choice("verdict", "Verdict", &VERDICTS, filter.verdict.as_deref()))
            (choice("level", "Level", &LEVELS, filter.level.as_deref()))
            (choice("door", "Door", &doors, filter.door.as_deref()))
            (choice("reason", "Reason", &reasons, filter.reason.as_deref()))
            (text("application", "Application", 16, filter.application.as_deref()))
            (text("country", "Country", 3, filter.country.as_deref()))
            (text("subject", "User (pseudonym)", 16, filter.subject.as_deref()))
            (text("id", "Decision", 16, filter.id.as_deref()))
            @if of_fleet { (text("node", "Node", 12, filter.node.as_deref())) }
            label class="check" { input type="checkbox" name="all" value="1" checked[filter.all]; "requests without a verdict" }
            button { "Filter" }
            @if !filter.pairs().is_empty() { a class="button" href="/console" { "Clear" } }
        }
    }
}

fn choice(name: &str, label: &str, values: &[&str], chosen: Option<&str>) -> Markup {
    html! {
        label {
            (label)
            select name=(name) {
                option value="" { "any" }
                // A link may ask for what there is not: nobody shall read that it asks for anything.
                @if let Some(other) = chosen.filter(|chosen| !values.contains(chosen)) {
                    option value=(other) selected { (other) " (unknown)" }
                }
                @for value in values {
                    option value=(value) selected[chosen == Some(*value)] { (layout::words(value)) }
                }
            }
        }
    }
}

fn text(name: &str, label: &str, size: u8, value: Option<&str>) -> Markup {
    html! {
        label {
            (label)
            input type="text" name=(name) size=(size) maxlength="128" value=(value.unwrap_or_default());
        }
    }
}
