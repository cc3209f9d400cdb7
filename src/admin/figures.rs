//! The figures of the console as JSON, for programs: overview, monitor report, models, one user. They are counted by the same
//! code as on the pages, and shown to whom decisions are shown.

use crate::admin::AdminState;
use crate::admin::asked::Asked;
use crate::admin::console::Console;
use crate::admin::console::label;
use crate::admin::console::label::Labels;
use crate::admin::console::overview::gathered;
use crate::admin::decisions::answer;
use crate::admin::decisions::let_in;
use crate::admin::decisions::unread;
use crate::admin::review::failed;
use crate::domain::drift::Drift;
use crate::domain::features::FeatureSchema;
use crate::domain::kind::RequestKind;
use crate::domain::time::Timestamp;
use crate::domain::trail::Entry;
use crate::domain::trail::Filter;
use crate::domain::trail::Place;
use crate::domain::trail::tally::Counts;
use crate::domain::trail::tally::Effect;
use crate::domain::trail::tally::LEVELS;
use crate::domain::trail::tally::Span;
use crate::domain::trail::tally::Tally;
use crate::domain::trail::tally::VERDICTS;
use crate::domain::trail::user;
use crate::domain::trail::user::Count;
use crate::domain::trail::user::Network;
use crate::flow::hindsight::Moved;
use crate::flow::score::ModelSet;
use crate::flow::score::Models;
use crate::flow::score::breaker::BreakerState;
use axum::Router;
use axum::extract::Path;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use std::collections::BTreeMap;

/// Counts by level or by verdict.
type Named = BTreeMap<&'static str, u64>;

/// How far the records are known of which figures are.
#[derive(Debug, Serialize)]
struct Known {
    /// Records from before the start are not all read yet.
    is_reading: bool,
    /// Why new decisions of other nodes are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

/// How much comes, how risky it looks, what is done, how quickly.
#[derive(Debug, Serialize)]
struct Overview<'t> {
    span: &'static str,
    #[serde(flatten)]
    known: Known,
    decisions: u64,
    not_allowed: u64,
    levels: Named,
    verdicts: Named,
    unscored: u64,
    unscored_now_percent: u8,
    challenged: u64,
    proven: u64,
    unproven: u64,
    /// Half of the decisions, and 99 of 100, were made within.
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_micros: Option<u64>,
    /// Not there when the state does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_logins: Option<usize>,
    reasons: &'t Counts,
    countries: &'t Counts,
    matched: &'t Counts,
    stretches: Vec<Stretch>,
}

/// A minute or an hour.
#[derive(Debug, Serialize)]
struct Stretch {
    from: String,
    decisions: u64,
    unscored: u64,
    levels: Named,
    verdicts: Named,
}

/// What would have been done.
#[derive(Debug, Serialize)]
struct Monitor<'t> {
    span: &'static str,
    #[serde(flatten)]
    known: Known,
    /// The mode that reaches furthest by now.
    mode: &'static str,
    decisions: u64,
    not_allowed: u64,
    verdicts: Named,
    users: usize,
    /// There were more of them than are told apart.
    are_more_users: bool,
    enforced: u64,
    accepted: u64,
    applications: BTreeMap<&'t str, Group>,
    kinds: BTreeMap<&'t str, Group>,
    reasons: &'t Counts,
    countries: &'t Counts,
    matched: &'t Counts,
}

/// What policy said to a group of requests.
#[derive(Debug, Serialize)]
struct Group {
    decisions: u64,
    not_allowed: u64,
    verdicts: Named,
    enforced: u64,
    accepted: u64,
}

/// Which models answer.
#[derive(Debug, Serialize)]
struct Serving<'m> {
    breaker: &'static str,
    feature_schema: u32,
    models: Vec<Model<'m>>,
    /// What the makers of the models say of them, in Markdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenger: Option<Challenging<'m>>,
}

/// Models that are asked and never answer.
#[derive(Debug, Serialize)]
struct Challenging<'m> {
    sample_percent: u8,
    models: Vec<Model<'m>>,
}

/// One model.
#[derive(Debug, Serialize)]
struct Model<'m> {
    kind: &'static str,
    version: &'m str,
    digest: &'m str,
    features: usize,
    answers: &'static str,
    /// Contributions are worked out, and not the model's word.
    is_exact: bool,
    has_statistics: bool,
    /// How far traffic has moved; not there as long as no request of this kind was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<Distance>,
}

/// How far traffic has moved from what a model was made for.
#[derive(Debug, Serialize)]
struct Distance {
    requests: u32,
    /// Not there as long as there are too few requests; the features neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    score_psi: Option<f64>,
    features: Vec<Feature>,
}

/// One feature, the one that moved furthest first.
#[derive(Debug, Serialize)]
struct Feature {
    name: &'static str,
    psi: f64,
    missing: f64,
}

/// One user.
#[derive(Debug, Serialize)]
struct User<'e> {
    decisions: &'e [Entry],
    #[serde(skip_serializing_if = "Option::is_none")]
    older: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    searched_to: Option<&'e str>,
    #[serde(flatten)]
    known: Known,
    /// What these decisions have in common.
    common: BTreeMap<&'static str, Vec<Count<'e>>>,
    networks: Vec<Network<'e>>,
    /// What analysts said, by decision.
    labels: Labels,
}

/// The routes.
pub(super) fn router(state: AdminState) -> Router {
    Router::new()
        .route("/api/overview", get(overview))
        .route("/api/monitor", get(monitor))
        .route("/api/model", get(model))
        .route("/api/users/{subject}", get(user))
        .layer(middleware::from_fn_with_state(state.clone(), let_in))
        .with_state(state)
}

async fn overview(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let span = match span(query.as_deref(), Span::default()) {
        Ok(span) => span,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    let console = &state.console;
    console.trail.start();
    let Some((stretches, all)) = gathered(console, span).await else {
        return unread();
    };
    let now = state.flow.dependencies().clock.now();
    answer(&Overview {
        span: span.as_str(),
        known: known(console),
        decisions: all.decisions,
        not_allowed: all.met(),
        levels: by_level(&all),
        verdicts: by_verdict(&all.verdicts),
        unscored: all.unscored,
        unscored_now_percent: state.flow.dependencies().scorer.share().percent(now),
        challenged: all.challenged,
        proven: all.proven,
        unproven: all.unproven,
        p50_micros: all.latency_within(0.5),
        p99_micros: all.latency_within(0.99),
        held_logins: state.flow.waiting_logins().await.ok(),
        reasons: &all.reasons,
        countries: &all.countries,
        matched: &all.matched,
        stretches: stretches
            .iter()
            .map(|(start, tally)| Stretch {
                from: Timestamp(start * 1_000).to_rfc3339(),
                decisions: tally.decisions,
                unscored: tally.unscored,
                levels: by_level(tally),
                verdicts: by_verdict(&tally.verdicts),
            })
            .collect(),
    })
}

async fn monitor(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let span = match span(query.as_deref(), Span::Week) {
        Ok(span) => span,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    let console = &state.console;
    console.trail.start();
    let Some((_, all)) = gathered(console, span).await else {
        return unread();
    };
    answer(&Monitor {
        span: span.as_str(),
        known: known(console),
        mode: state.flow.snapshot().rollout.strongest().as_str(),
        decisions: all.decisions,
        not_allowed: all.met(),
        verdicts: by_verdict(&all.verdicts),
        users: all.met_users.len(),
        are_more_users: all.are_more_users,
        enforced: all.enforced(),
        accepted: all.accepted(),
        applications: groups(&all.applications),
        kinds: groups(&all.kinds),
        reasons: &all.reasons,
        countries: &all.met_countries,
        matched: &all.matched,
    })
}

async fn model(State(state): State<AdminState>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    if let Err(problem) = Asked::parse(query.as_bytes(), &[]) {
        return failed(StatusCode::BAD_REQUEST, &problem);
    }
    let snapshot = state.flow.snapshot();
    let scorer = &state.flow.dependencies().scorer;
    let moved = scorer.drift().moved();
    let challenger = snapshot.challenger.as_ref();
    answer(&Serving {
        breaker: match scorer.breaker_state() {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Open => "open",
        },
        feature_schema: FeatureSchema::current().version,
        models: models(&snapshot.models, &moved),
        card: snapshot.models.card.as_deref(),
        challenger: challenger.map(|challenger| Challenging {
            sample_percent: challenger.sample_percent,
            models: models(&challenger.models, &[]),
        }),
    })
}

async fn user(
    State(state): State<AdminState>,
    Path(subject): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let asked = Asked::parse(query.as_bytes(), &["older", "limit", "all"]).and_then(|asked| {
        let all = asked.read("all", "1", |value| (value == "1").then_some(()))?;
        let older = asked.read("older", "what an answer said", Place::parse)?;
        Ok((all.is_some(), older, asked.limit()?))
    });
    let (all, older, limit) = match asked {
        Ok(asked) => asked,
        Err(problem) => return failed(StatusCode::BAD_REQUEST, &problem),
    };
    let filter = Filter {
        all,
        ..Filter::from_query([("subject", subject.as_str())])
    };
    if filter.subject.is_none() {
        return failed(StatusCode::NOT_FOUND, "the path names nobody");
    }
    let console = &state.console;
    console.trail.start();
    let found = console
        .read(move |trail, goes_on| trail.page(&filter, older, limit, goes_on))
        .await;
    let Some(page) = found else {
        return unread();
    };
    let ids = page.entries.iter().map(|entry| entry.id.clone()).collect();
    let labels = label::of(console, ids).await;
    answer(&User {
        decisions: &page.entries,
        older: page.older.map(Place::text),
        searched_to: page.searched_to.as_deref(),
        known: known(console),
        common: user::common(&page.entries).into_iter().collect(),
        networks: user::networks(&page.entries),
        labels,
    })
}

/// The span that a query names.
fn span(query: Option<&str>, otherwise: Span) -> Result<Span, String> {
    let asked = Asked::parse(query.unwrap_or_default().as_bytes(), &["span"])?;
    let span = asked.read("span", "hour, day or week", |name| {
        let mut all = Span::ALL.into_iter();
        all.find(|span| span.as_str() == name)
    })?;
    Ok(span.unwrap_or(otherwise))
}

fn known(console: &Console) -> Known {
    let (all, read) = console.trail.progress();
    Known {
        is_reading: read < all,
        missing: console.trail.missing(),
    }
}

fn by_level(tally: &Tally) -> Named {
    LEVELS.into_iter().zip(tally.levels).collect()
}

fn by_verdict(counts: &[u64; 4]) -> Named {
    VERDICTS.into_iter().zip(*counts).collect()
}

fn groups(effects: &BTreeMap<String, Effect>) -> BTreeMap<&str, Group> {
    let group = |effect: &Effect| Group {
        decisions: effect.total(),
        not_allowed: effect.met(),
        verdicts: by_verdict(&effect.verdicts),
        enforced: effect.enforced,
        accepted: effect.accepted,
    };
    effects
        .iter()
        .map(|(name, effect)| (name.as_str(), group(effect)))
        .collect()
}

fn models<'m>(models: &'m Models, moved: &[(RequestKind, u32, Option<Moved>)]) -> Vec<Model<'m>> {
    models
        .iter()
        .map(|(kind, model)| Model {
            kind: kind.as_str(),
            version: &model.identity.version,
            digest: &model.identity.digest,
            features: FeatureSchema::current().features_of(kind).count(),
            answers: answers(model),
            is_exact: model.native.is_some(),
            has_statistics: model.baseline.is_some(),
            drift: moved
                .iter()
                .find(|(other, _, _)| *other == kind)
                .map(|(_, requests, moved)| distance(*requests, moved.as_ref())),
        })
        .collect()
}

/// What answers, and what stands in.
fn answers(model: &ModelSet) -> &'static str {
    match (model.native.is_some(), model.primary.is_some()) {
        (true, true) if !model.native_first => "onnx_runtime",
        (true, _) => "native",
        (false, true) => "onnx_runtime",
        (false, false) => "nothing",
    }
}

fn distance(requests: u32, moved: Option<&Moved>) -> Distance {
    let (features, score) = match moved {
        Some((features, score)) => (features.as_slice(), Some(*score)),
        None => (&[][..], None),
    };
    let mut sorted: Vec<&Drift> = features.iter().collect();
    sorted.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    Distance {
        requests,
        score_psi: score,
        features: sorted
            .into_iter()
            .map(|drift| Feature {
                name: drift.feature.name(),
                psi: drift.psi,
                missing: drift.missing,
            })
            .collect(),
    }
}
