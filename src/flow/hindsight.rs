//! What is worked out once the answer is out: what a challenger would have said, what the score would have been without
//! its reasons, whether traffic has moved away from what the model was made for. None of it can delay or change an
//! answer.

use crate::domain::audit::AuditCounterfactual;
use crate::domain::audit::AuditEvent;
use crate::domain::drift::Baseline;
use crate::domain::drift::Drift;
use crate::domain::drift::Window;
use crate::domain::features::FeatureVector;
use crate::domain::features::counterfactual;
use crate::domain::features::counterfactual::Counterfactual;
use crate::domain::kind::RequestKind;
use crate::domain::outcome::AuthOutcome;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::Assessment;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::risk::ScoreSource;
use crate::domain::risk::reasons_of;
use crate::domain::time::Deadline;
use crate::flow::Dependencies;
use crate::flow::decide;
use crate::flow::exchange::Exchange;
use crate::flow::ports::RiskModel;
use crate::flow::score::ModelSet;
use crate::flow::score::Models;
use crate::telemetry::metrics::Metrics;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Reasons for which it is worked out what the score would have been.
const COUNTERFACTUALS_MAX: usize = 3;
/// The longest that a challenger in ONNX Runtime may take.
const CHALLENGER_BUDGET: Duration = Duration::from_millis(2);

/// A model that is scored beside the one that answers.
#[derive(Clone, Debug)]
pub struct Challenger {
    /// The models.
    pub models: Models,
    /// Of how many requests in a hundred.
    pub sample_percent: u8,
}

/// What a challenger said.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenged {
    /// Its version.
    pub version: String,
    /// Its score.
    pub score: RiskScore,
    /// What the policy would have made of it.
    pub verdict: Verdict,
}

/// What was worked out about one exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hindsight {
    /// What the challenger said, if it was asked.
    pub challenged: Option<Challenged>,
    /// What the score would have been without each of the first reasons.
    pub counterfactuals: Vec<Counterfactual>,
}

/// How far each feature and the score have moved.
pub type Moved = (Vec<Drift>, f64);

/// Windows of traffic per kind, each for one model.
#[derive(Debug, Default)]
pub struct DriftWatch([Mutex<Watched>; 3]);

#[derive(Debug, Default)]
struct Watched {
    model: String,
    baseline: Option<Arc<Baseline>>,
    window: Window,
}

impl Hindsight {
    /// Writes it into the record.
    pub fn describe(self, event: &mut AuditEvent) {
        event.counterfactuals = self
            .counterfactuals
            .iter()
            .map(|other| AuditCounterfactual {
                without: other.without.code().into(),
                score: other.points,
            })
            .collect();
        if let Some(challenged) = self.challenged {
            event.challenger_model = Some(challenged.version);
            event.challenger_score = Some(challenged.score.points());
            event.challenger_verdict = Some(challenged.verdict.as_str().into());
        }
    }
}

/// Works it out. Called when the exchange is closed.
pub(in crate::flow) fn look_back(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
) -> Hindsight {
    let counterfactuals = counterfactuals(exchange);
    count_for_drift(dependencies, exchange);
    Hindsight {
        challenged: challenge(dependencies, exchange),
        counterfactuals,
    }
}

fn counterfactuals(exchange: &Exchange) -> Vec<Counterfactual> {
    let worked_out = || {
        let assessed = exchange.assessed.as_ref()?;
        let level = exchange.decided.as_ref()?.decision.level?;
        let row = assessed.features.as_ref()?;
        let (_, model) = exchange.snapshot.models.serving(assessed.kind);
        let native = model.native.as_ref()?;
        let Assessment::Scored {
            reasons, source, ..
        } = &assessed.assessment
        else {
            return None;
        };
        if level == RiskLevel::Low || *source == ScoreSource::Provenance {
            return None;
        }
        let deadline = Deadline::after(exchange.started, Duration::ZERO);
        let points = |row: &FeatureVector| Some(native.run(row, deadline).ok()?.score.points());
        let each = reasons
            .iter()
            .take(COUNTERFACTUALS_MAX)
            .filter_map(|reason| {
                Some(Counterfactual {
                    without: *reason,
                    points: points(&counterfactual::without(row, *reason))?,
                })
            });
        Some(each.collect())
    };
    worked_out().unwrap_or_default()
}

fn challenge(dependencies: &Dependencies, exchange: &mut Exchange) -> Option<Challenged> {
    let snapshot = Arc::clone(&exchange.snapshot);
    let challenger = snapshot.challenger.as_ref()?;
    let door = exchange.door?;
    let decided = exchange.decided.as_ref()?;
    let verdict = decided.decision.verdict;
    let beside = (decided.mode, decided.standing);
    let assessed = exchange.assessed.as_ref()?;
    let row = assessed.features.clone()?;
    let champion = assessed.assessment.score()?;
    let kind = assessed.kind;
    let inherited = matches!(
        &assessed.assessment,
        Assessment::Scored {
            source: ScoreSource::Provenance,
            ..
        }
    );
    if inherited || !is_sampled(exchange.id.as_str(), challenger.sample_percent) {
        return None;
    }
    let skipped = |cause| {
        dependencies.metrics.challenger_skipped(cause);
        None
    };
    // A row describes a request in the terms of one kind; only a model for that kind understands it.
    let (own_kind, model) = challenger.models.serving(kind);
    if own_kind != kind {
        return skipped("other_kind");
    }
    let Some(_place) = dependencies.in_flight.enter() else {
        return skipped("overload");
    };
    let Some(evaluator) = evaluator(model) else {
        return skipped("too_slow");
    };
    let deadline = Deadline::after(dependencies.clock.instant(), CHALLENGER_BUDGET);
    let Ok(output) = evaluator.run(&row, deadline) else {
        return skipped("failed");
    };
    let theirs = Assessment::Scored {
        score: output.score,
        reasons: reasons_of(&output.contributions, &row),
        contributions: Vec::new(),
        source: ScoreSource::Model,
        fallback: None,
    };
    let (decision, _) = decide::verdict(exchange, assessed, &theirs, door, exchange.at, beside);
    let their_verdict = decision.verdict;
    dependencies
        .metrics
        .challenged(kind, (champion, output.score), (verdict, their_verdict));
    Some(Challenged {
        version: model.identity.version.clone(),
        score: output.score,
        verdict: their_verdict,
    })
}

/// The quickest evaluator of a model; none for one that is only to be had slowly.
fn evaluator(model: &ModelSet) -> Option<&Arc<dyn RiskModel>> {
    let quick = model.primary.as_ref().filter(|_| model.quick);
    model.native.as_ref().or(quick)
}

/// The same decision is always in or out (FNV-1a of its id).
fn is_sampled(id: &str, percent: u8) -> bool {
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    // The low bits of FNV are the weak ones.
    (hash >> 8) % 100 < u32::from(percent)
}

fn count_for_drift(dependencies: &Dependencies, exchange: &Exchange) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    // What looks legitimate: WSO2 has accepted what was presented.
    let accepted = matches!(
        exchange.outcome,
        AuthOutcome::Succeeded | AuthOutcome::NextFactor | AuthOutcome::TokensIssued
    );
    let presents = assessed.facts.credentials || assessed.kind == RequestKind::Token;
    let (_, model) = exchange.snapshot.models.serving(assessed.kind);
    if let (Some(row), Some(score), Some(baseline)) = (
        assessed.features.as_ref(),
        assessed.assessment.score(),
        model.baseline.as_ref(),
    ) && accepted
        && presents
        && assessed.state_answered
    {
        let digest = &model.identity.digest;
        dependencies
            .scorer
            .drift()
            .count(assessed.kind, digest, baseline, row, score.points());
    }
}

impl DriftWatch {
    /// Counts one row. A row that comes while another is counted is left out: nobody waits for statistics.
    fn count(
        &self,
        kind: RequestKind,
        model: &str,
        baseline: &Arc<Baseline>,
        row: &FeatureVector,
        points: u8,
    ) {
        let watched = self.0.get(kind.index()).and_then(Mutex::try_lock);
        let Some(mut watched) = watched else {
            return;
        };
        if watched.model != model {
            *watched = Watched {
                model: model.to_owned(),
                baseline: Some(Arc::clone(baseline)),
                window: Window::default(),
            };
        }
        watched.window.count(baseline, row, points);
    }

    /// Writes what has moved to the gauges. Called by a task of its own.
    pub fn publish(&self, metrics: &Metrics) {
        for (kind, rows, moved) in self.moved() {
            metrics.drift(kind, rows, moved);
        }
    }

    /// For each kind with a window: its rows, and how far features and score have moved, where there are enough rows.
    pub fn moved(&self) -> Vec<(RequestKind, u32, Option<Moved>)> {
        let kinds = RequestKind::ALL.into_iter().zip(&self.0);
        kinds
            .filter_map(|(kind, watched)| {
                let (baseline, window) = {
                    let watched = watched.lock();
                    (
                        Arc::clone(watched.baseline.as_ref()?),
                        watched.window.clone(),
                    )
                };
                Some((kind, window.rows(), window.drift(&baseline)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_as_large_as_asked() {
        let id = |n: u32| format!("01890a5d-ac96-774b-bcce-{n:012x}");
        for percent in [0, 10, 50, 100] {
            let sampled = (0..10_000).filter(|n| is_sampled(&id(*n), percent)).count();
            let expected = usize::from(percent) * 100;
            assert!(sampled.abs_diff(expected) <= 300, "{percent}: {sampled}");
        }
    }
}
