//! One decision: what was seen, how risky it looked and why, what policy made of it, what would have changed it. The row can
//! be worked out again with another value, by the model in force.

use crate::admin::console::Console;
use crate::admin::console::Fields;
use crate::admin::console::Signed;
use crate::admin::console::chart;
use crate::admin::console::decisions;
use crate::admin::console::label;
use crate::admin::console::layout;
use crate::admin::console::layout::Place;
use crate::admin::console::networks;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::Word;
use crate::domain::explain;
use crate::domain::explain::Evaluator;
use crate::domain::explain::Explanation;
use crate::domain::explain::ModelAtHand;
use crate::domain::explain::words::Language;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::recorded::names::Names;
use crate::domain::risk::RiskScore;
use crate::domain::trail::Filter;
use crate::domain::trail::Found;
use crate::domain::trail::sentence;
use axum::Extension;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::Markup;
use maud::html;

/// Contributions that are shown before one asks for all.
const FIRST_CONTRIBUTIONS: usize = 12;
/// A contribution of less, in log-odds, changes no score by a point.
const SMALL: f32 = 0.005;
/// The longest id that is looked for.
pub(in crate::admin) const ID_BYTES_MAX: usize = 64;

/// `GET /console/decisions/{id}`.
pub(super) async fn show(
    State(console): State<Console>,
    Extension(signed): Extension<Signed>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let found = if id.len() <= ID_BYTES_MAX {
        console.read(move |trail, _| trail.find(&id)).await
    } else {
        Some(None)
    };
    let Some(found) = found else {
        return layout::unread();
    };
    let Some(found) = found else {
        return layout::failed(
            StatusCode::NOT_FOUND,
            "No such decision",
            "No record has this id. It may be too old, or have come a moment ago: then load the page again.",
        );
    };
    let event = &found.event;
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let labels = label::of(&console, vec![event.id.clone()]).await;
    let is_done = query.get("done") == "label";
    let from = from_where(&console, event).await;
    let title = format!("Decision {}", event.id);
    let body = html! {
        h1 { "Decision " code { (event.id) } }
        (written_by(&console, &found))
        (summary(event))
        div class="columns" {
            div {
                (why(event))
                (contributions(event))
            }
            div {
                (policy(&console, event))
                @if event.verdict.is_some() { (label::section(&signed, &event.id, labels.get(&event.id), is_done)) }
                (counterfactuals(event))
                (what_if(&console, event, &query))
            }
        }
        (in_words(&console, event))
        h2 { "What was seen" }
        (seen(event))
        (from)
        h2 { "How it ended" }
        (ended(event))
        details {
            summary {
                "The record as it stands in the "
                @if found.is_foreign { "stream" } @else { "audit file" }
            }
            pre { (serde_json::to_string_pretty(event).unwrap_or_default()) }
        }
    };
    layout::page(&signed, Place::Elsewhere, &title, body)
}

/// Where this user's latest requests came from, this one among them where it is one of these.
async fn from_where(console: &Console, event: &AuditEvent) -> Markup {
    let Some(subject) = event.subject.as_deref() else {
        return html! {};
    };
    let filter = Filter::from_query([("subject", subject)]);
    let page = console
        .read(move |trail, goes_on| trail.page(&filter, None, decisions::ROWS, goes_on))
        .await;
    page.map_or_else(
        || html! { p class="soft" { "The other decisions about this user could not be read just now." } },
        |page| networks::map(&page.entries),
    )
}

/// Which node decided, where the page may be of any.
fn written_by(console: &Console, found: &Found) -> Markup {
    let node = found.node.as_deref().unwrap_or("unknown");
    html! {
        @if found.is_foreign {
            p class="notice" { "Decided by the node " strong { (node) } ". This is its record as the stream of the fleet has it; the record of proof is in the audit files of that node." }
        } @else if console.trail.is_of_fleet() {
            p class="soft" { "Decided by this node, " strong { (node) } "." }
        }
    }
}

fn summary(event: &AuditEvent) -> Markup {
    let mode = event.mode.as_deref().unwrap_or("-");
    html! {
        ul class="tiles" {
            li { "Verdict" b { @match event.verdict.as_deref() {
                Some(verdict) => (layout::badge(verdict)),
                None => "-",
            } } }
            li { "Score" b { @match event.score { Some(score) => (score), None => "-" } }
                @match event.level.as_deref() {
                    Some(level) => (layout::badge(level)),
                    None => { @if let Some(status) = &event.status { (layout::badge(status)) } }
                }
            }
            li { "Done" b { (layout::words(&event.action)) } "mode " (mode) }
            li { "Outcome" b { (layout::words(&event.outcome)) } "status " (event.response_status) }
            li { "When (UTC)" b { (layout::moment(&event.time)) } "decided in " (event.timing.decision) " µs" }
        }
        @if mode != "enforce" && event.verdict.as_deref().is_some_and(|verdict| verdict != "allow") {
            p class="notice" { "Nothing of this was done to the user: the mode was " (mode) "." }
        }
        @if let (Some(held), Some("held")) = (&event.review, event.review_state.as_deref()) {
            p { a href={ "/console/review#login-" (layout::encoded(held)) } { "To the queue of held logins" } }
        }
    }
}

fn why(event: &AuditEvent) -> Markup {
    html! {
        h2 { "Why" }
        @if event.reasons.is_empty() {
            p class="soft" {
                @if event.status.as_deref() == Some("unscored") { "There was no score: " (layout::words(event.fallback.as_deref().unwrap_or("unknown"))) "." }
                @else { "There was no reason against it." }
            }
        } @else {
            ol { @for code in &event.reasons { li { (sentence(code)) " " code class="soft" { (code) } } } }
        }
    }
}

/// The explanation that `riskgate explain` gives, with the policy and the models in force.
fn in_words(console: &Console, event: &AuditEvent) -> Markup {
    if event.verdict.is_none() {
        return html! {};
    }
    let snapshot = console.flow.snapshot();
    let kind = kind_of(event);
    let identity = &snapshot.models.serving(kind).1.identity;
    let run = |row: &FeatureVector| console.flow.what_if(kind, row).map(|(_, output)| output);
    let is_same = event.model_digest.as_deref() == Some(identity.digest.as_str());
    let model = if is_same {
        ModelAtHand::There {
            file: identity.version.clone(),
            bias: None,
            evaluators: vec![Evaluator {
                name: "native",
                run: &run,
            }],
        }
    } else {
        ModelAtHand::Missing {
            found: vec![identity.version.clone()],
        }
    };
    let policy = &snapshot.policy;
    // Names are not looked up here: the console knows pseudonyms alone.
    let mut names = Names::of(policy, None);
    let explanation = Explanation::of(event, Some(policy), &model, &mut names);
    html! {
        details {
            summary { "The whole explanation in words, and what the smallest change would have been" }
            pre { (explain::text::text(&explanation, Language::English)) }
        }
    }
}

fn kind_of(event: &AuditEvent) -> RequestKind {
    event
        .kind
        .as_deref()
        .and_then(RequestKind::from_name)
        .unwrap_or(RequestKind::Login)
}

/// Features with what they contributed, the strongest first.
fn strongest(event: &AuditEvent) -> Option<Vec<(Feature, f32, Option<f32>)>> {
    if event.contributions.len() != Feature::COUNT {
        return None;
    }
    let values = event.features.iter().copied();
    let mut all: Vec<_> = Feature::ALL
        .into_iter()
        .zip(event.contributions.iter().copied())
        .zip(values.chain(std::iter::repeat(None)))
        .map(|((feature, part), value)| (feature, part, value))
        .filter(|(_, part, _)| part.abs() >= SMALL)
        .collect();
    all.sort_by(|(_, a, _), (_, b, _)| b.abs().total_cmp(&a.abs()));
    Some(all)
}

fn contributions(event: &AuditEvent) -> Markup {
    let Some(all) = strongest(event) else {
        return html! {
            @if !event.contributions.is_empty() {
                p class="notice" { "This record was made with another list of features: its contributions are in the record below." }
            }
        };
    };
    if all.is_empty() {
        return html! {};
    }
    let most = all.first().map_or(1.0, |(_, part, _)| part.abs());
    let first: Vec<_> = all.iter().take(FIRST_CONTRIBUTIONS).collect();
    let rest: Vec<_> = all.iter().skip(FIRST_CONTRIBUTIONS).collect();
    html! {
        h2 { "What each feature contributed" }
        p class="soft" { "In log-odds. To the right: more risk; to the left: less. With the model's bias they add up to the score." }
        (bars(&first, most, "Contributions, the strongest first"))
        @if !rest.is_empty() {
            details {
                summary { (rest.len()) " smaller ones" }
                (bars(&rest, most, "Smaller contributions"))
            }
        }
    }
}

fn bars(parts: &[&(Feature, f32, Option<f32>)], most: f32, caption: &str) -> Markup {
    let schema = FeatureSchema::current();
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { th scope="col" { "Feature" } th scope="col" class="number" { "Value" } th scope="col" class="number" { "Log-odds" } th scope="col" { "" span class="soft" { "less | more" } } } }
                tbody {
                    @for (feature, part, value) in parts {
                        tr {
                            th scope="row" { (layout::words(feature.name())) br; span class="soft" { (schema.entry(*feature).meaning) } }
                            td class="number" { @match value { Some(value) => (number(*value)), None => "missing" } }
                            td class="number" { (format!("{part:+.2}")) }
                            td { (chart::contribution(*part, most)) }
                        }
                    }
                }
            }
        }
    }
}

fn number(value: f32) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}

fn policy(console: &Console, event: &AuditEvent) -> Markup {
    let snapshot = console.flow.snapshot();
    let policy = &snapshot.policy;
    let thresholds = policy.thresholds(
        event.tenant.as_deref().unwrap_or_default(),
        event.client_id.as_deref().unwrap_or_default(),
    );
    let is_same = event.policy.as_deref() == Some(policy.version());
    let rule = event
        .matched
        .as_deref()
        .and_then(|name| policy.rules().iter().find(|rule| &*rule.name == name));
    html! {
        h2 { "Policy" }
        @if let Some(matched) = &event.matched {
            p { "It was decided by " strong { bdi { (layout::words(matched)) } } "." }
        }
        @if let Some(score) = event.score {
            (chart::thresholds(score, thresholds.medium, thresholds.high))
            p class="soft" { "Medium begins at " (thresholds.medium) ", high at " (thresholds.high) " by the policy in force." }
        }
        @if let Some(rule) = rule {
            pre { (rule.when.source()) }
        }
        @if !is_same && event.policy.is_some() {
            p class="notice" { "The policy has changed since: thresholds and rule are those of today." }
        }
        @if !event.skipped_rules.is_empty() {
            p { "Passed over, since there was no score: " (event.skipped_rules.join(", ")) "." }
        }
        @if let Some(shown) = &event.shown {
            p { "As long as the name was not proved, " (layout::badge(shown)) " showed: what a name that nobody has would get." }
        }
    }
}

fn counterfactuals(event: &AuditEvent) -> Markup {
    html! {
        @if !event.counterfactuals.is_empty() {
            h2 { "What would have changed it" }
            ul {
                @for other in &event.counterfactuals {
                    li { "Without \"" (sentence(&other.without)) "\" the score would have been " strong { (other.score) } "." }
                }
            }
        }
        @if let (Some(model), Some(score)) = (&event.challenger_model, event.challenger_score) {
            p { "The challenger " code { (model) } " gave " strong { (score) }
                @if let Some(verdict) = &event.challenger_verdict { ": " (layout::badge(verdict)) } "." }
        }
    }
}

/// The row as it was recorded; none where the record has another list of features.
fn row(event: &AuditEvent) -> Option<FeatureVector> {
    let values: Vec<f32> = event
        .features
        .iter()
        .map(|value| value.unwrap_or(f32::NAN))
        .collect();
    FeatureVector::from_slice(&values)
}

fn what_if(console: &Console, event: &AuditEvent, query: &Fields) -> Markup {
    let kind = kind_of(event);
    let Some(recorded) = row(event) else {
        return html! {};
    };
    let Some((version, output)) = console.flow.what_if(kind, &recorded) else {
        return html! {};
    };
    let is_same_model = event.model.as_deref() == Some(version.as_str());
    let is_same_score = event
        .probability
        .is_some_and(|probability| probability.to_bits() == probability_of(output.score).to_bits());
    let asked = query.get("feature");
    let feature = Feature::ALL
        .into_iter()
        .find(|feature| feature.name() == asked);
    let value = query.get("value").trim();
    let changed = feature.and_then(|feature| {
        let value = if value.is_empty() {
            f32::NAN
        } else {
            value.parse().ok()?
        };
        let mut changed = recorded.clone();
        changed.set(feature, value);
        let (_, output) = console.flow.what_if(kind, &changed)?;
        Some((feature, changed.value(feature), output))
    });
    let strongest = strongest(event).unwrap_or_default();
    html! {
        h2 id="what-if" { "What if" }
        p class="soft" {
            "Worked out by " code { (version) } ": "
            @if is_same_model && is_same_score { "the recorded score, bit for bit." }
            @else if is_same_model { strong { (output.score.points()) } " for the row as recorded." }
            @else { strong { (output.score.points()) } " for the row as recorded; another model made the decision." }
        }
        form class="filter" method="get" action={ (layout::decision_path(&event.id)) "#what-if" } {
            label { "Feature"
                select name="feature" {
                    @for (feature, _, _) in &strongest {
                        option value=(feature.name()) selected[asked == feature.name()] { (layout::words(feature.name())) }
                    }
                    @for feature in Feature::ALL.iter().filter(|feature| !strongest.iter().any(|(other, _, _)| other == *feature)) {
                        option value=(feature.name()) selected[asked == feature.name()] { (layout::words(feature.name())) }
                    }
                }
            }
            label { "Value (empty: missing)" input type="text" inputmode="decimal" name="value" size="8" maxlength="16" value=(value); }
            button { "Work it out" }
        }
        @match changed {
            Some((feature, value, output)) => {
                p role="status" { "With " strong { (layout::words(feature.name())) } " "
                    @if value.is_nan() { "missing" } @else { "at " (number(value)) }
                    " the score would be " strong { (output.score.points()) } "." }
            }
            None => { @if feature.is_some() { p class="notice bad" role="alert" { "The value is no number." } } }
        }
    }
}

fn probability_of(score: RiskScore) -> f32 {
    score.probability()
}

fn facts(pairs: &[(&str, Option<String>)]) -> Markup {
    html! {
        dl class="facts" {
            @for (name, value) in pairs {
                @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

fn word(word: &Option<Word>) -> Option<String> {
    word.as_deref().map(str::to_owned)
}

fn seen(event: &AuditEvent) -> Markup {
    let agent = |said: &String| layout::agent(said).to_owned();
    let operator = event.as_org.clone().unwrap_or_default();
    html! {
        (facts(&[
            ("Door", word(&event.door)),
            ("Path", Some(format!("{} {}", event.method, event.route))),
            ("Tenant", event.tenant.clone()),
            ("Organization", event.organization.clone()),
            ("Application", event.client_id.clone()),
            ("Grant", event.grant_type.clone()),
            ("Network", event.prefix.clone()),
            ("Country", event.country.clone()),
            ("Operator of the network", event.asn.map(|asn| format!("AS{asn} {operator}"))),
            ("Kind of network", word(&event.network)),
            ("Browser", event.browser.as_ref().map(agent)),
            ("System", event.os.as_ref().map(agent)),
            ("Device", event.device.as_deref().map(|said| layout::device(said).to_owned())),
            ("TLS fingerprint", event.ja4.clone()),
            ("HTTP fingerprint", event.http_fingerprint.clone()),
            ("Scored as", word(&event.kind)),
            ("Score from", word(&event.source)),
            ("No better, because of", event.fallback.as_deref().map(layout::words)),
            ("Operator", event.operator.clone()),
            ("Note", event.note.clone()),
            ("Policy before", event.policy_from.clone()),
            ("Policy since", event.policy_to.clone()),
        ]))
        @if let Some(id) = &event.labelled {
            p { "Said of the decision " a href=(layout::decision_path(id)) { code { (id) } } }
        }
        @if let Some(subject) = &event.subject {
            p { "User: " a href=(layout::user_path(subject)) { code { (subject) } } }
        }
    }
}

fn ended(event: &AuditEvent) -> Markup {
    let listed = |list: &[Word]| (!list.is_empty()).then(|| list.join(", "));
    facts(&[
        ("Demand", word(&event.demand)),
        ("Owed by", listed(&event.demand_scopes)),
        ("Proof", event.proof.as_deref().map(layout::words)),
        (
            "Tokens withheld",
            event.revocation.as_deref().map(layout::words),
        ),
        ("Told to WSO2", listed(&event.token_actions)),
        ("Held login", event.review.clone()),
        ("State of it", word(&event.review_state)),
        (
            "Learnt from it",
            Some(if event.learnt { "yes" } else { "no" }.to_owned()),
        ),
        ("Error", word(&event.error)),
        ("Model", event.model.clone()),
        ("Policy", event.policy.clone()),
        ("Configuration", Some(event.config.to_string())),
        (
            "Reading the state",
            Some(format!("{} µs", event.timing.state)),
        ),
        (
            "Features and model",
            Some(format!("{} µs", event.timing.score)),
        ),
        ("Whole exchange", Some(format!("{} µs", event.timing.total))),
    ])
}
