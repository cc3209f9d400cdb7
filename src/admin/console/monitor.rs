//! What would have been done: the report on which one decides to enforce. It counts what policy said to every request,
//! whatever the mode did about it.

use crate::admin::console::Console;
use crate::admin::console::Signed;
use crate::admin::console::decisions;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::admin::console::overview;
use crate::domain::policy::decision::Mode;
use crate::domain::trail::tally::Effect;
use crate::domain::trail::tally::OTHER;
use crate::domain::trail::tally::Span;
use crate::domain::trail::tally::Tally;
use axum::Extension;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::Response;
use maud::Markup;
use maud::html;
use std::collections::BTreeMap;

/// `GET /console/monitor`.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    // A week unless one asks for less: a day says little about what users do.
    let span = match query.as_deref() {
        None => Span::Week,
        asked => overview::span_of(asked),
    };
    let Some((_, all)) = overview::gathered(&console, span).await else {
        return layout::unread();
    };
    let strongest = console.flow.snapshot().rollout.strongest();
    let body = html! {
        h1 { "Monitor report" }
        (decisions::reading(&console))
        p {
            "What policy said to each request, and so what enforcing it does or would do. The mode that reaches furthest is now "
            strong { (strongest) } "."
            @if strongest == Mode::Enforce { " Where it is not yet in force, figures say what would have been done." }
        }
        (overview::tabs("/console/monitor", span))
        @if all.decisions == 0 {
            p class="empty" { "No request was decided about within this time." }
        } @else {
            (summary(&all))
            h2 { "By application" }
            (effects(&all.applications, "application", "Verdicts by application, most not allowed first"))
            h2 { "By kind of request" }
            (effects(&all.kinds, "", "Verdicts by kind of request"))
            div class="columns" {
                (overview::most("Why", &all.reasons, all.met(), "reason", true))
                (overview::most("From where", &all.met_countries, all.met(), "country", false))
                (overview::most("By which rule", &all.matched, all.decisions, "", false))
            }
        }
    };
    layout::page(&signed, Place::Monitor, "Monitor report", body)
}

fn summary(all: &Tally) -> Markup {
    let [_, step_up, review, block] = all.verdicts;
    html! {
        ul class="tiles" {
            li { "Asked for a factor" b { (layout::percent(step_up, all.decisions)) } (layout::grouped(step_up)) " requests" }
            li { "Held" b { (layout::percent(review, all.decisions)) } (layout::grouped(review)) " requests" }
            li { "Refused" b { (layout::percent(block, all.decisions)) } (layout::grouped(block)) " requests" }
            li { "Users met" b { @if all.are_more_users { "at least " } (layout::grouped(all.met_users.len() as u64)) } "told apart by pseudonym" }
            li { "Acted on" b { (layout::percent(all.enforced(), all.met())) } "of those not allowed" }
            li { "Accepted by WSO2" b { (layout::grouped(all.accepted())) } "though not allowed, and not enforced" }
        }
        p class="soft" {
            "A request that WSO2 accepted and policy would not have allowed is an attacker with a password, or a user who would have been "
            "disturbed for nothing: look at some of them before enforcing."
        }
    }
}

fn effects(effects: &BTreeMap<String, Effect>, filter: &str, caption: &str) -> Markup {
    let mut sorted: Vec<(&String, &Effect)> = effects.iter().collect();
    sorted.sort_by(|a, b| b.1.met().cmp(&a.1.met()).then(a.0.cmp(b.0)));
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "Which" }
                    th scope="col" class="number" { "Requests" }
                    th scope="col" class="number" { "Step up" }
                    th scope="col" class="number" { "Review" }
                    th scope="col" class="number" { "Block" }
                    th scope="col" class="number" { "Not allowed" }
                    th scope="col" class="number" { "Acted on" }
                    th scope="col" class="number" { "Accepted by WSO2" }
                } }
                tbody {
                    @for (name, effect) in sorted {
                        @let [_, step_up, review, block] = effect.verdicts;
                        tr {
                            th scope="row" {
                                @if filter.is_empty() || name == OTHER || name.starts_with('(') { (name) }
                                @else { a href={ "/console?" (filter) "=" (layout::encoded(name)) } { (name) } }
                            }
                            td class="number" { (layout::grouped(effect.total())) }
                            td class="number" { (layout::grouped(step_up)) }
                            td class="number" { (layout::grouped(review)) }
                            td class="number" { (layout::grouped(block)) }
                            td class="number" { (layout::percent(effect.met(), effect.total())) }
                            td class="number" { (layout::grouped(effect.enforced)) }
                            td class="number" { (layout::grouped(effect.accepted)) }
                        }
                    }
                }
            }
        }
    }
}
