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
use axum::Extension;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::Response;
use maud::Markup;
use maud::html;
use std::collections::BTreeMap;

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
            code { "riskgate state show --user NAME" } " says which one belongs to a name."
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
    let count = |what: fn(&Entry) -> Option<&str>| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in entries.iter().filter_map(what) {
            *counts.entry(value).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    };
    let groups = [
        ("Verdicts", count(|entry| entry.verdict.as_deref())),
        ("Countries", count(|entry| entry.country.as_deref())),
        ("Networks", count(|entry| entry.prefix.as_deref())),
        ("Browsers", count(|entry| entry.browser.as_deref())),
        ("Systems", count(|entry| entry.os.as_deref())),
        ("Devices", count(|entry| entry.device.as_deref())),
        ("Applications", count(|entry| entry.client_id.as_deref())),
        ("Outcomes", count(|entry| Some(entry.outcome.as_str()))),
    ];
    html! {
        h2 { "In these " (entries.len()) " decisions" }
        dl class="facts" {
            @for (name, counts) in groups.iter().filter(|(_, counts)| !counts.is_empty()) {
                div {
                    dt { (name) }
                    dd {
                        @for (number, (value, count)) in counts.iter().take(6).enumerate() {
                            @if number > 0 { ", " }
                            (value) " " span class="soft" { "×" (count) }
                        }
                        @if counts.len() > 6 { ", " (counts.len() - 6) " more" }
                    }
                }
            }
        }
    }
}
