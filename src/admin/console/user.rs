//! One user over time: every decision about a pseudonym, the latest first, and what these have in common.

use crate::admin::console::Console;
use crate::admin::console::Signed;
use crate::admin::console::decisions;
use crate::admin::console::label;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::admin::console::networks;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::domain::trail::user::common;
use axum::Extension;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// Values of one trait that are shown.
const VALUES: usize = 6;

/// `GET /console/users/{subject}`.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Path(subject): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let (asked, older) = decisions::asked(query.as_deref());
    let filter = Filter::from_query([("subject", subject.as_str())]);
    let wanted = Filter {
        all: asked.all,
        ..filter
    };
    let shown = Filter {
        subject: None,
        ..wanted.clone()
    };
    let page = console
        .read(move |trail, goes_on| trail.page(&wanted, older, decisions::ROWS, goes_on))
        .await;
    let Some(page) = page else {
        return layout::unread();
    };
    let ids = page.entries.iter().map(|entry| entry.id.clone()).collect();
    let labels = label::of(&console, ids).await;
    let path = layout::user_path(&subject);
    let body = html! {
        h1 { "User " code { (subject) } }
        (decisions::reading(&console))
        p class="soft" {
            "A pseudonym: the name itself is in no record. "
            code { "riskgate audit subject --user NAME" } " says which one belongs to a name."
        }
        @if !page.entries.is_empty() { (shared(&page.entries)) }
        (networks::map(&page.entries))
        h2 { "Timeline" }
        (decisions::found(&page, &shown, &path, "Decisions about this user, the latest first", Some(&labels), console.trail.is_of_fleet()))
    };
    layout::page(&signed, Place::Elsewhere, "User", body)
}

/// What the decisions on this page have in common.
fn shared(entries: &[Entry]) -> Markup {
    html! {
        h2 { "In these " (entries.len()) " decisions" }
        dl class="facts" {
            @for (name, counts) in common(entries) {
                div {
                    dt { (layout::first_upper(name)) }
                    dd {
                        @for (number, one) in counts.iter().take(VALUES).enumerate() {
                            @if number > 0 { ", " }
                            bdi { (said(name, one.value)) } " " span class="soft" { "×" (one.count) }
                        }
                        @if counts.len() > VALUES { ", " (counts.len() - VALUES) " more" }
                    }
                }
            }
        }
    }
}

/// A value of a trait, in words where the record has a code.
fn said(name: &str, value: &str) -> String {
    match name {
        "browsers" | "systems" => layout::agent(value).to_owned(),
        "devices" => layout::device(value).to_owned(),
        "outcomes" if value == "none" => "nothing about authentication".to_owned(),
        "outcomes" | "verdicts" => layout::words(value),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_records_have_codes_for_is_said_in_words() {
        let entries = ["UNKNOWN", "none", "Chrome 140"].map(|agent| Entry {
            verdict: Some("step_up".to_owned()),
            browser: Some(agent.to_owned()),
            os: Some(agent.to_owned()),
            device: Some("none".to_owned()),
            // An application may be called anything.
            client_id: Some("my_app".to_owned()),
            outcome: "none".to_owned(),
            ..Entry::default()
        });
        let page = shared(&entries).into_string();
        assert!(
            !page.contains("UNKNOWN") && !page.contains(">none<"),
            "{page}"
        );
        for said in [
            "<bdi>not recognized</bdi>",
            "<bdi>not named</bdi>",
            "<bdi>Chrome 140</bdi>",
            "<bdi>no device cookie</bdi>",
            "<bdi>step up</bdi>",
            "<bdi>my_app</bdi>",
        ] {
            assert!(page.contains(said), "{said}\n{page}");
        }
    }
}
