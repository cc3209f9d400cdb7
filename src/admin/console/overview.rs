//! Figures over time: how much comes, how risky it looks, what is done, how quickly.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::chart;
use crate::admin::console::chart::Column;
use crate::admin::console::decisions;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::domain::time::Timestamp;
use crate::domain::trail::sentence;
use crate::domain::trail::tally::Counts;
use crate::domain::trail::tally::Span;
use crate::domain::trail::tally::Tally;
use axum::Extension;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// Rows of a list of the most frequent.
const ROWS: usize = 10;
const LEVELS: [(&str, &str); 4] = [
    ("c1", "low"),
    ("c2", "medium"),
    ("c4", "high"),
    ("c0", "unscored"),
];
const VERDICTS: [(&str, &str); 4] = [
    ("c1", "allow"),
    ("c2", "step up"),
    ("c3", "review"),
    ("c4", "block"),
];

/// `GET /console/overview`.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    RawQuery(query): RawQuery,
) -> Response {
    let span = span_of(query.as_deref());
    let Some((stretches, all)) = gathered(&console, span).await else {
        return layout::unread();
    };
    let waiting = console.flow.waiting_logins().await.ok();
    let unscored_now = console
        .flow
        .dependencies()
        .scorer
        .share()
        .percent(console.now());
    let body = html! {
        h1 { "Overview" }
        (decisions::reading(&console))
        (tabs("/console/overview", span))
        (tiles(&all, waiting, unscored_now))
        @if all.decisions == 0 {
            p class="empty" { "No request was decided about within this time." }
        } @else {
            h2 { "Levels" }
            (chart::columns(&drawn(&stretches, span, LEVELS, levels), "Decisions over time by level; the figures are in the table below"))
            (chart::legend(&LEVELS))
            h2 { "Verdicts" }
            (chart::columns(&drawn(&stretches, span, VERDICTS, verdicts), "Decisions over time by verdict; the figures are in the table below"))
            (chart::legend(&VERDICTS))
            div class="columns" {
                (most("Reasons of those not allowed", &all.reasons, all.met(), "reason", true))
                (most("Countries", &all.countries, all.decisions, "country", false))
                (most("What decided", &all.matched, all.decisions, "", false))
            }
            details {
                summary { "The figures behind the drawings" }
                (figures(&stretches))
            }
        }
    };
    layout::page(&signed, Place::Overview, "Overview", body)
}

/// The span that a query names.
pub(super) fn span_of(query: Option<&str>) -> Span {
    Span::from_name(Fields::parse(query.unwrap_or_default().as_bytes()).get("span"))
}

/// The stretches of a span, and all of them in one.
pub(in crate::admin) async fn gathered(
    console: &Console,
    span: Span,
) -> Option<(Vec<(i64, Tally)>, Tally)> {
    let now = console.now().seconds();
    console
        .read(move |trail, _| {
            let stretches = trail.stretches(span, now);
            let mut all = Tally::default();
            stretches.iter().for_each(|(_, tally)| all.merge(tally));
            (stretches, all)
        })
        .await
}

/// The choice of the span.
pub(super) fn tabs(path: &str, span: Span) -> Markup {
    html! {
        nav aria-label="Time" {
            ul class="tabs" {
                @for other in Span::ALL {
                    li { a href={ (path) "?span=" (other.as_str()) } aria-current=[(other == span).then_some("page")] { "The last " (if other == Span::Week { "seven days" } else { other.as_str() }) } }
                }
            }
        }
    }
}

fn tiles(all: &Tally, waiting: Option<usize>, unscored_now: u8) -> Markup {
    let met = all.met();
    let within = |share| {
        all.latency_within(share).map_or_else(
            || "-".to_owned(),
            |micros| format!("{:.1} ms", micros as f64 / 1_000.0),
        )
    };
    html! {
        ul class="tiles" {
            li { "Decisions" b { (layout::grouped(all.decisions)) } }
            li { "Not allowed" b { (layout::percent(met, all.decisions)) } (layout::grouped(met)) }
            li { "Asked for a factor" b { (layout::percent(all.challenged, all.decisions)) } (layout::grouped(all.challenged)) " by enforcement" }
            li { "Proved it" b { (layout::percent(all.proven, all.proven + all.unproven)) } (layout::grouped(all.proven)) " of " (layout::grouped(all.proven + all.unproven)) }
            li { "Unscored" b { (layout::percent(all.unscored, all.decisions)) } "at this moment " (unscored_now) " %" }
            li { "Half decided within" b { (within(0.5)) } "99 of 100 within " (within(0.99)) }
            li { "Held logins" b { @match waiting { Some(waiting) => (waiting), None => "-" } } @if waiting.is_none() { "the state store does not answer; " } a href="/console/review" { "To the queue" } }
        }
    }
}

fn levels(tally: &Tally) -> Vec<u64> {
    let [low, medium, high] = tally.levels;
    vec![low, medium, high, tally.unscored]
}

fn verdicts(tally: &Tally) -> Vec<u64> {
    tally.verdicts.to_vec()
}

fn drawn(
    stretches: &[(i64, Tally)],
    span: Span,
    classes: [(&'static str, &str); 4],
    sizes: fn(&Tally) -> Vec<u64>,
) -> Vec<Column> {
    stretches
        .iter()
        .enumerate()
        .map(|(number, (start, tally))| Column {
            label: label(*start, span, number),
            parts: classes
                .iter()
                .map(|(class, _)| *class)
                .zip(sizes(tally))
                .collect(),
        })
        .collect()
}

/// Hours and minutes under every tenth or fourth column, dates under a week's.
fn label(start: i64, span: Span, number: usize) -> String {
    let text = Timestamp(start * 1_000).to_rfc3339();
    let cut = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default().to_owned();
    match span {
        Span::Hour if number.is_multiple_of(10) => cut(11..16),
        Span::Day if number.is_multiple_of(4) => cut(11..16),
        Span::Week if number % 24 == 12 => cut(5..10),
        _ => String::new(),
    }
}

/// The most frequent keys, with links to their decisions where `filter` names what to ask for.
pub(super) fn most(
    title: &str,
    counts: &Counts,
    whole: u64,
    filter: &str,
    are_reasons: bool,
) -> Markup {
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    html! {
        section {
            h2 { (title) }
            @if sorted.is_empty() { p class="soft" { "None." } } @else {
                div class="scroll" tabindex="0" role="region" aria-label=(title) {
                    table {
                        thead { tr { th scope="col" { "Which" } th scope="col" class="number" { "Count" } th scope="col" class="number" { "Share" } } }
                        tbody {
                            @for (key, count) in sorted.into_iter().take(ROWS) {
                                @let name = if are_reasons { sentence(key) } else { key.as_str() };
                                tr {
                                    th scope="row" {
                                        @if filter.is_empty() { (layout::words(name)) }
                                        @else { a href={ "/console?" (filter) "=" (layout::encoded(key)) } { (name) } }
                                    }
                                    td class="number" { (layout::grouped(*count)) }
                                    td class="number" { (layout::percent(*count, whole)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn figures(stretches: &[(i64, Tally)]) -> Markup {
    let caption = "Decisions over time, the latest first; times without any are left out";
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr {
                    th scope="col" { "From" }
                    th scope="col" class="number" { "Decisions" }
                    @for (_, name) in LEVELS.iter().chain(&VERDICTS) { th scope="col" class="number" { (name) } }
                } }
                tbody {
                    @for (start, tally) in stretches.iter().rev().filter(|(_, tally)| tally.decisions > 0) {
                        tr {
                            td class="time" { (layout::moment(&Timestamp(start * 1_000).to_rfc3339())) }
                            td class="number" { (layout::grouped(tally.decisions)) }
                            @for count in levels(tally).into_iter().chain(verdicts(tally)) { td class="number" { (layout::grouped(count)) } }
                        }
                    }
                }
            }
        }
    }
}
