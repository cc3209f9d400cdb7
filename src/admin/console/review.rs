//! Held logins: what waits, and the operator's word about it, by the desk that the command line uses as well.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::admin::review::ruled;
use crate::domain::audit::AuditEvent;
use crate::domain::operator::roster::Role;
use crate::domain::review::Entry;
use crate::domain::review::RulingError;
use crate::domain::review::TEXT_MAX;
use crate::domain::trail::sentence;
use crate::flow::desk::DecideError;
use axum::Extension;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use maud::Markup;
use maud::html;
use std::collections::HashMap;

/// Decided logins that are shown.
const DECIDED_MAX: usize = 50;
/// Where pages that say what was wrong lead.
const THE_QUEUE: (&str, &str) = ("/console/review", "To the queue");

/// `GET /console/review`.
pub(super) async fn list(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    let listing = match console.flow.review_listing(true).await {
        Ok(listing) => listing,
        Err(error) => {
            return failed(
                StatusCode::SERVICE_UNAVAILABLE,
                "The queue cannot be read",
                &format!(
                    "{}. Logins that are held stay so, and nobody can be released until it answers: load the page again in a moment.",
                    layout::first_upper(&error.to_string())
                ),
            );
        }
    };
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let (waiting, mut decided): (Vec<_>, Vec<_>) = listing
        .logins
        .iter()
        .partition(|login| login.state == "waiting");
    decided.reverse();
    decided.truncate(DECIDED_MAX);
    let records = records(&console, &waiting).await;
    let may_decide = signed.role >= Role::Analyst;
    let named = listing
        .logins
        .iter()
        .find(|login| login.id == query.get("login"));
    let body = html! {
        h1 { "Held logins" }
        @match query.get("done") {
            "release" => { p class="notice" role="status" {
                "Released" (of(named)) ": the user may sign in once within 15 minutes."
            } }
            "refuse" => { p class="notice" role="status" {
                "Refused" (of(named)) ": the user is told so."
                @if console.flow.dependencies().sessions.is_on() { " What became of the user's sessions at WSO2 is on the page of the decision." }
            } }
            _ => {}
        }
        @if waiting.is_empty() {
            p class="empty" { "No login waits for review." }
        }
        @if !may_decide && !waiting.is_empty() {
            p class="notice" { "With the role viewer one can look, and not decide." }
        }
        @for login in &waiting {
            section class="panel" aria-labelledby={ "login-" (login.id) } {
                h2 id={ "login-" (login.id) } { "Held " (age(login.age_seconds)) " ago: " (application(login)) }
                (facts(login, records.get(&login.decision_id)))
                @if may_decide { (form(&signed, login)) }
            }
        }
        h2 { "Decided" }
        @if decided.is_empty() { p class="soft" { "None within the last hours." } } @else { (table(&decided)) }
    };
    layout::page(&signed, Place::Review, "Held logins", body)
}

/// `POST /console/review/{id}/{word}`.
pub(super) async fn decide(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Extension(fields): Extension<Fields>,
    Path((id, word)): Path<(String, String)>,
) -> Response {
    let is_release = match word.as_str() {
        "release" => true,
        "refuse" => false,
        _ => {
            return failed(
                StatusCode::NOT_FOUND,
                "Nothing here",
                "One can release or refuse.",
            );
        }
    };
    // A prefix would do on the command line; a form names the whole id.
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return gone();
    }
    let operator = signed.session.operator.name();
    let reason = fields.get("reason").trim();
    let decided = ruled(&console.flow, &id, is_release, operator, reason).await;
    match decided {
        Ok(_) => Redirect::to(&format!("/console/review?done={word}&login={id}")).into_response(),
        Err(error @ DecideError::Reason(_)) => layout::not_taken(
            StatusCode::BAD_REQUEST,
            "Not done",
            &format!("{}.", layout::first_upper(&error.to_string())),
            reason,
            THE_QUEUE,
        ),
        Err(DecideError::Ruling(RulingError::Unknown)) => gone(),
        Err(DecideError::Ruling(RulingError::Decided)) => failed(
            StatusCode::CONFLICT,
            "Already decided",
            "Somebody has decided otherwise in the meantime; a decision cannot be taken back.",
        ),
        Err(DecideError::State(error)) => failed(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not done",
            &format!(
                "{}. Look at the queue, and try again.",
                layout::first_upper(&error.to_string())
            ),
        ),
    }
}

fn gone() -> Response {
    failed(
        StatusCode::NOT_FOUND,
        "No such login",
        "No held login has this id: it may have left the queue.",
    )
}

/// What was wrong, with the way back to the queue.
fn failed(status: StatusCode, title: &str, text: &str) -> Response {
    layout::failed_at(status, title, text, THE_QUEUE)
}

/// The records of the decisions that held these logins, as far as there is time to look for them. The queue itself knows
/// the user under another pseudonym than the records, and no rule.
async fn records(console: &Console, logins: &[&Entry]) -> HashMap<String, AuditEvent> {
    let ids: Vec<_> = logins
        .iter()
        .map(|login| login.decision_id.clone())
        .collect();
    let read = console.read(move |trail, goes_on| {
        let looked = ids.into_iter().take_while(|_| goes_on());
        looked
            .filter_map(|id| trail.find(&id).map(|found| (id, found.event)))
            .collect()
    });
    read.await.unwrap_or_default()
}

/// The front of an id: what the user sees, and tells the help desk.
fn reference(login: &Entry) -> &str {
    login.id.get(..8).unwrap_or(&login.id)
}

fn of(login: Option<&Entry>) -> Markup {
    html! { @if let Some(login) = login { " (reference " code { (reference(login)) } ")" } }
}

fn application(login: &Entry) -> &str {
    if login.application.is_empty() {
        "no application named"
    } else {
        &login.application
    }
}

fn facts(login: &Entry, record: Option<&AuditEvent>) -> Markup {
    let level = record.and_then(|record| record.level.as_deref());
    let rule = record.and_then(|record| record.matched.as_deref());
    let subject = record.and_then(|record| record.subject.as_deref());
    html! {
        dl class="facts" {
            div { dt { "Score" } dd {
                @match login.score { Some(score) => (score), None => "none" }
                @if let Some(level) = level { " " (layout::badge(level)) }
            } }
            div { dt { "User" } dd {
                @match (subject, &login.subject) {
                    (Some(subject), _) => { a href=(layout::user_path(subject)) { code { (layout::front(subject)) } } }
                    (None, Some(_)) => "named: see the decision",
                    (None, None) => "not named",
                }
            } }
            @if let Some(rule) = rule { div { dt { "Held by" } dd { bdi { (layout::words(rule)) } } } }
            div { dt { "Decision" } dd { a href=(layout::decision_path(&login.decision_id)) { "why it was held" } } }
            div { dt { "Device" } dd { (if login.subject.is_none() { "-" } else if login.known_device { "known to this user" } else { "new to this user" }) } }
            div { dt { "Country" } dd { (login.country.as_deref().unwrap_or("-")) } }
            div { dt { "Network" } dd { (login.network.as_deref().unwrap_or("-")) } }
            div { dt { "Tenant" } dd { (login.tenant) } }
            div { dt { "Door" } dd { (layout::words(&login.door)) } }
            div { dt { "Reference that the user sees" } dd { code { (reference(login)) } } }
            div { dt { "Held at" } dd { (layout::moment(&login.at)) " UTC" } }
            div { dt { "Leaves the queue in" } dd { (age(login.left_seconds)) } }
        }
        @if !login.reasons.is_empty() {
            ul { @for code in &login.reasons { li { (sentence(code)) } } }
        }
    }
}

fn form(signed: &Signed, login: &Entry) -> Markup {
    let path = format!("/console/review/{}", layout::encoded(&login.id));
    let field = format!("reason-{}", login.id);
    html! {
        form method="post" class="actions" {
            (layout::token(signed))
            (layout::no_enter())
            label for=(field) { "Reason, for the record, at most " (TEXT_MAX) " characters"
                input id=(field) type="text" name="reason" size="40" maxlength=(TEXT_MAX);
            }
            button class="primary" formaction={ (path) "/release" } { "Release" }
            button formaction={ (path) "/refuse" } { "Refuse" }
        }
    }
}

fn table(logins: &[&Entry]) -> Markup {
    let caption = "Decided logins, the latest first";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Held (UTC)" } th scope="col" { "State" } th scope="col" { "Reference" } th scope="col" { "Application" }
                    th scope="col" class="number" { "Score" } th scope="col" { "By" } th scope="col" { "Reason" }
                } }
                tbody {
                    @for login in logins {
                        tr {
                            td class="time" { a href=(layout::decision_path(&login.decision_id)) { (layout::moment(&login.at)) } }
                            td { (layout::badge(&login.state)) }
                            td { code { (reference(login)) } }
                            td { (application(login)) }
                            td class="number" { @match login.score { Some(score) => (score), None => "-" } }
                            td { (login.operator.as_deref().unwrap_or("-")) }
                            td { (login.reason.as_deref().unwrap_or("-")) }
                        }
                    }
                }
            }
        }
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}
