//! Which models answer, how far traffic has moved from what they were made for, and what their makers say of them.

use crate::admin::console::Console;
use crate::admin::console::Signed;
use crate::admin::console::card;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::domain::drift::Drift;
use crate::domain::drift::ROWS_MIN;
use crate::domain::features::FeatureSchema;
use crate::flow::score::ModelSet;
use crate::flow::score::breaker::BreakerState;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// By convention: from here on worth a look.
const PSI_LOOK: f64 = 0.1;
/// By convention: from here on worth an action.
const PSI_ACT: f64 = 0.25;
/// Features that are shown before one asks for all.
const FIRST: usize = 15;

/// `GET /console/model`.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
) -> Response {
    let snapshot = console.flow.snapshot();
    let scorer = &console.flow.dependencies().scorer;
    let moved = scorer.drift().moved();
    let breaker = match scorer.breaker_state() {
        BreakerState::Closed => "closed: the model is asked",
        BreakerState::HalfOpen => "half open: the model is tried again",
        BreakerState::Open => "open: the model is not asked",
    };
    let schema = FeatureSchema::current();
    let body = html! {
        h1 { "Model" }
        p {
            @if snapshot.models.iter().any(|(_, model)| model.is_there()) { "Breaker " (breaker) ". " }
            "Features of schema version " (schema.version) "."
        }
        @for (kind, model) in snapshot.models.iter() {
            h2 { "For " (kind.as_str()) " requests" }
            @if model.is_there() { (facts(model, schema.features_of(kind).count())) } @else { (missing()) }
            @match moved.iter().find(|(other, _, _)| *other == kind) {
                None => { p class="empty" { "No request of this kind was scored since the gateway started." } }
                Some((_, rows, None)) => { p class="empty" { "Drift shows from " (ROWS_MIN) " requests on; there were " (rows) "." } }
                Some((_, rows, Some((features, score)))) => { (drift(*rows, features, *score)) }
            }
        }
        @if let Some(challenger) = &snapshot.challenger {
            h2 { "Challenger" }
            p { "Asked of " (challenger.sample_percent) " % of the requests; it never answers." }
            @for (kind, model) in challenger.models.iter() {
                h3 { "For " (kind.as_str()) " requests" }
                (facts(model, schema.features_of(kind).count()))
            }
        }
        h2 id="card" { "Model card" }
        @match snapshot.models.card.as_deref() {
            Some(text) => { section class="card" aria-labelledby="card" { (card::card(text)) } }
            None => { p class="empty" { "There is no " code { "CARD.md" } " in the folder of the models." } }
        }
    };
    layout::page(&signed, Place::Model, "Model", body)
}

fn missing() -> Markup {
    html! {
        p class="notice bad" role="alert" {
            "There is no model: these requests go unscored, and get what " code { "[on_unscored]" } " says. "
            code { "riskgate check" } " says why, as the log did at the start; a reload takes a model over."
        }
    }
}

fn facts(model: &ModelSet, features: usize) -> Markup {
    let answers = match (model.native.is_some(), model.primary.is_some()) {
        (true, true) if model.native_first => {
            "the native evaluator; ONNX Runtime was compared with it"
        }
        (true, true) => "ONNX Runtime; the native evaluator stands in",
        (true, false) => "the native evaluator",
        (false, true) => "ONNX Runtime",
        (false, false) => "nothing: requests go unscored",
    };
    html! {
        dl class="facts" {
            div { dt { "Version" } dd { (model.identity.version) } }
            div { dt { "SHA-256 of the file" } dd { code { (model.identity.digest.get(..16).unwrap_or(&model.identity.digest)) "…" } } }
            div { dt { "Features" } dd { (features) } }
            div { dt { "Answers" } dd { (answers) } }
            div { dt { "Contributions" } dd { (if model.native.is_some() { "exact" } else { "as the model gives them" }) } }
            div { dt { "Statistics to compare with" } dd { (if model.baseline.is_some() { "came with the model" } else { "none" }) } }
        }
    }
}

fn drift(rows: u32, features: &[Drift], score: f64) -> Markup {
    let mut sorted: Vec<&Drift> = features.iter().collect();
    sorted.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    let many = sorted.iter().filter(|drift| drift.psi >= PSI_ACT).count();
    html! {
        p {
            "Over the last " (layout::grouped(u64::from(rows))) " requests the score has a population stability index of "
            strong { (format!("{score:.2}")) } " " (word(score)) "; "
            (many) " of " (features.len()) " features are at " (PSI_ACT) " or above."
        }
        (table(&sorted.iter().take(FIRST).copied().collect::<Vec<_>>()))
        @if sorted.len() > FIRST {
            details {
                summary { (sorted.len() - FIRST) " features that moved less" }
                (table(&sorted.iter().skip(FIRST).copied().collect::<Vec<_>>()))
            }
        }
    }
}

fn table(features: &[&Drift]) -> Markup {
    let schema = FeatureSchema::current();
    let caption = "Features by how far they moved";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { th scope="col" { "Feature" } th scope="col" class="number" { "Stability index" } th scope="col" { "Meaning of it" } th scope="col" class="number" { "Missing" } } }
                tbody {
                    @for drift in features {
                        tr {
                            th scope="row" { (layout::words(drift.feature.name())) br; span class="soft" { (schema.entry(drift.feature).meaning) } }
                            td class="number" { (format!("{:.3}", drift.psi)) }
                            td { (word(drift.psi)) }
                            td class="number" { (format!("{:.1} %", drift.missing * 100.0)) }
                        }
                    }
                }
            }
        }
    }
}

fn word(psi: f64) -> Markup {
    let (class, text) = match psi {
        psi if psi >= PSI_ACT => ("high", "has moved"),
        psi if psi >= PSI_LOOK => ("medium", "worth a look"),
        _ => ("low", "as it was"),
    };
    html! { span class={ "badge " (class) } { (text) } }
}
