//! Who is signed in, for admins, who may end sessions of others.

use crate::admin::console::Console;
use crate::admin::console::Signed;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Redirect;
use axum::response::Response;
use maud::html;

/// `GET /console/sessions`.
pub(super) async fn list(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
) -> Response {
    let sessions = console.sessions().listed(console.now());
    let roster = console.roster.load();
    let caption = "Open sessions, the one used last first";
    let body = html! {
        h1 { "Sessions" }
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Operator" } th scope="col" { "Role" } th scope="col" { "From" } th scope="col" { "Opened" }
                    th scope="col" { "Used" } th scope="col" { "End it" }
                } }
                tbody {
                    @for (key, session) in &sessions {
                        @let name = session.operator.name();
                        tr {
                            th scope="row" { (name) }
                            td { @match session.operator.role(&roster) { Some(role) => (role), None => "taken away" } }
                            td { (session.address) }
                            td class="time" { (layout::moment(&session.opened.to_rfc3339())) }
                            td class="time" { (layout::moment(&session.used.to_rfc3339())) }
                            td {
                                @if *key == signed.key { "this one" } @else {
                                    form method="post" action={ "/console/sessions/" (key.front()) "/end" } {
                                        (layout::token(&signed))
                                        button aria-label={ "End the session of " (name) } { "End" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        h2 { "Operators" }
        ul { @for operator in roster.operators() { li { (operator.name()) " (" (operator.role()) ")" } } }
        p class="soft" { "These have passwords and are kept in a file: " code { "riskgate operator add" } " and " code { "riskgate operator remove" } "." }
    };
    layout::page(&signed, Place::Sessions, "Sessions", body)
}

/// `POST /console/sessions/{front}/end`.
pub(super) async fn end(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Path(front): Path<String>,
) -> Response {
    let open = console.sessions().listed(console.now());
    let found = open.into_iter().find(|(key, _)| key.front() == front);
    let ended = found.and_then(|(key, _)| console.sessions().close(key));
    match ended {
        Some(session) => {
            console.flow.record_operator(
                Some(signed.session.operator.name()),
                "session_ended",
                session.operator.name(),
            );
            Redirect::to("/console/sessions").into_response()
        }
        None => layout::failed(
            StatusCode::NOT_FOUND,
            "No such session",
            "It has ended already.",
        ),
    }
}
