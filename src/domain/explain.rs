//! One decision explained: which feature added what to the score, which part of the policy spoke, what would have changed
//! it, and whether the score comes out the same when it is computed again. Everything is arithmetic on the record; nothing
//! is estimated, and what cannot be known is said.

/// Two decisions side by side.
pub mod compare;

/// The explanation in sentences.
pub mod text;

/// The sentences, by language.
pub mod words;

use crate::domain::audit::AuditEvent;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::features::counterfactual;
use crate::domain::policy::PolicySet;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::reason::Reason;
use crate::domain::printable;
use crate::domain::recorded;
use crate::domain::recorded::Case;
use crate::domain::recorded::Gap;
use crate::domain::recorded::Risk;
use crate::domain::recorded::names::Names;
use crate::domain::risk::ModelOutput;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::risk::ScoreSource;
use crate::domain::risk::Thresholds;
use serde::Serialize;
use std::fmt;

/// Up to this a probability of another evaluator counts as the same: what is proved of the two when a model is loaded.
pub const CLOSE: f32 = 1e-6;

/// A way to compute a score.
#[derive(Clone, Copy)]
pub struct Evaluator<'m> {
    /// Its name: `native` or `onnx runtime`.
    pub name: &'static str,
    /// Scores a row.
    pub run: &'m dyn Fn(&FeatureVector) -> Option<ModelOutput>,
}

/// The model that a record names, or why it is not at hand.
#[derive(Clone, Debug)]
pub enum ModelAtHand<'m> {
    /// It is at hand.
    There {
        /// Where.
        file: String,
        /// The log-odds to which the contributions add; `None` where the graph is not the additive one.
        bias: Option<f32>,
        /// The ways to compute a score with it, the one that the record speaks of first.
        evaluators: Vec<Evaluator<'m>>,
    },
    /// It is not.
    Missing {
        /// What there is instead: version and digest, or what is wrong with a file.
        found: Vec<String>,
    },
}

impl fmt::Debug for Evaluator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evaluator({})", self.name)
    }
}

/// One decision, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The record.
    pub record: AuditEvent,
    /// What each feature adds to the log-odds, the largest first; those that add nothing are left out.
    pub contributions: Vec<Part>,
    /// The log-odds to which they add.
    pub base: Option<f32>,
    /// Base and contributions together: the logit of the probability.
    pub logit: Option<f32>,
    /// Whether the score comes out the same.
    pub recomputed: Recomputed,
    /// What it would have been without each of its reasons.
    pub without: Vec<WhatIf>,
    /// The fewest reasons without which the verdict would have been a milder one.
    pub smallest: Option<WhatIf>,
    /// What is known of the policy.
    pub policy: PolicyAtHand,
}

/// What one feature adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The feature.
    pub feature: &'static str,
    /// Its value; `None` where it was missing.
    pub value: Option<f32>,
    /// What it adds to the log-odds.
    pub contribution: f32,
    /// The reason that it gives.
    pub reason: Reason,
}

/// A score that was computed again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Recomputed {
    /// It is the same to the last bit, and so is every contribution.
    Same {
        /// By what.
        evaluator: &'static str,
        /// The model file.
        file: String,
    },
    /// It is another in the last digits, by no more than two evaluators of one model may differ.
    Close {
        /// By what.
        evaluator: &'static str,
        /// The model file.
        file: String,
        /// By how much.
        difference: f32,
    },
    /// It is another: the record or the model was changed, or this version computes differently.
    Different {
        /// By what.
        evaluator: &'static str,
        /// The model file.
        file: String,
        /// What comes out.
        probability: f32,
    },
    /// The model that the record names is not at hand.
    NoModel {
        /// What there is instead.
        found: Vec<String>,
    },
    /// The record does not say which model file it was.
    NotNamed,
    /// There is nothing to compute from.
    Impossible {
        /// Why: the code of a gap.
        gap: &'static str,
    },
}

/// What would have been.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// Without these reasons.
    pub without: Vec<Reason>,
    /// The score.
    pub score: u8,
    /// Its level under the thresholds that held.
    pub level: RiskLevel,
    /// The verdict; `None` where the policy that held is not at hand, or asks for what is not recorded.
    pub verdict: Option<Verdict>,
}

/// What is known of the policy of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "policy", rename_all = "snake_case")]
pub enum PolicyAtHand {
    /// The policy at hand is the one that decided.
    Same {
        /// Whether it gives the recorded verdict again; `None` where it asks for what is not recorded.
        agrees: Option<bool>,
        /// The condition of the rule that matched.
        condition: Option<String>,
    },
    /// It is another one.
    Other {
        /// Its version.
        version: String,
        /// The verdict that it would give; `None` where it asks for what is not recorded.
        verdict: Option<Verdict>,
    },
    /// There is none.
    Missing,
}

impl Explanation {
    /// Explains a record. `policy` and `model` are those at hand; `names` says what is known of names.
    pub fn of(
        event: &AuditEvent,
        policy: Option<&PolicySet>,
        model: &ModelAtHand<'_>,
        names: &mut Names,
    ) -> Self {
        let contributions = parts(event);
        let sum: f32 = event.contributions.iter().sum();
        let has_parts = !event.contributions.is_empty();
        let probability = event.probability.filter(|_| has_parts);
        let (base, logit) = match (model, probability) {
            (
                ModelAtHand::There {
                    bias: Some(bias), ..
                },
                Some(_),
            ) => (Some(*bias), Some(sum + bias)),
            (_, Some(probability)) => {
                let logit = (probability / (1.0 - probability)).ln();
                (Some(logit - sum), Some(logit))
            }
            (_, None) => (None, None),
        };
        let base = base.filter(|base| base.is_finite());
        let is_same = |policy: &PolicySet| event.policy.as_deref() == Some(&**policy.version());
        let case = Case::read(event);
        let in_force = policy.filter(|policy| is_same(policy));
        let (without, smallest) = match &case {
            Ok(case) => what_if(case, in_force, model, names),
            Err(_) => (Vec::new(), None),
        };
        let policy = match (policy, &case) {
            (None, _) => PolicyAtHand::Missing,
            (Some(policy), case) => {
                let again = case.as_ref().ok();
                let again = again.and_then(|case| case.decide(policy, names.name_of(event)).ok());
                let verdict = again.map(|again| again.verdict);
                if is_same(policy) {
                    let recorded = case.as_ref().ok().map(|case| case.verdict);
                    PolicyAtHand::Same {
                        agrees: verdict.map(|verdict| Some(verdict) == recorded),
                        condition: condition(policy, event),
                    }
                } else {
                    PolicyAtHand::Other {
                        version: policy.version().to_string(),
                        verdict,
                    }
                }
            }
        };
        Self {
            recomputed: recompute(event, model),
            record: event.clone(),
            contributions,
            base,
            logit,
            without,
            smallest,
            policy,
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        printable::json_pretty(self).map(|text| text + "\n")
    }
}

/// What the features of a record add, the largest first.
pub fn parts(event: &AuditEvent) -> Vec<Part> {
    let schema = FeatureSchema::current();
    if event.contributions.len() != Feature::COUNT {
        return Vec::new();
    }
    let values = event
        .features
        .iter()
        .copied()
        .chain(std::iter::repeat(None));
    let each = Feature::ALL
        .into_iter()
        .zip(&event.contributions)
        .zip(values);
    let mut parts: Vec<Part> = each
        .filter(|((_, contribution), _)| **contribution != 0.0)
        .map(|((feature, contribution), value)| Part {
            feature: feature.name(),
            value,
            contribution: *contribution,
            reason: schema.entry(feature).reason,
        })
        .collect();
    parts.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
    parts
}

/// Computes the score of a record again.
fn recompute(event: &AuditEvent, model: &ModelAtHand<'_>) -> Recomputed {
    let (Some(probability), false) = (event.probability, event.contributions.is_empty()) else {
        let gap = Gap::NoRow.code();
        return Recomputed::Impossible { gap };
    };
    let row = match recorded::row(event) {
        Ok(row) => row,
        Err(gap) => return Recomputed::Impossible { gap: gap.code() },
    };
    let (file, evaluators) = match model {
        ModelAtHand::There {
            file, evaluators, ..
        } => (file.clone(), evaluators),
        ModelAtHand::Missing { .. } if event.model_digest.is_none() => return Recomputed::NotNamed,
        ModelAtHand::Missing { found } => {
            return Recomputed::NoModel {
                found: found.clone(),
            };
        }
    };
    let mut nearest: Option<(&'static str, f32)> = None;
    for evaluator in evaluators {
        let Some(output) = (evaluator.run)(&row) else {
            continue;
        };
        let again = output.score.probability();
        let same_bits = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        if same_bits((&again, &probability))
            && output
                .contributions
                .iter()
                .zip(&event.contributions)
                .all(same_bits)
        {
            return Recomputed::Same {
                evaluator: evaluator.name,
                file,
            };
        }
        let is_nearer =
            |(_, known): &(_, f32)| (again - probability).abs() < (*known - probability).abs();
        if nearest.as_ref().is_none_or(is_nearer) {
            nearest = Some((evaluator.name, again));
        }
    }
    match nearest {
        Some((evaluator, again)) if (again - probability).abs() <= CLOSE => Recomputed::Close {
            evaluator,
            file,
            difference: again - probability,
        },
        Some((evaluator, probability)) => Recomputed::Different {
            evaluator,
            file,
            probability,
        },
        None => Recomputed::NoModel { found: vec![file] },
    }
}

/// What would have been without each reason, and without the fewest that make it milder.
fn what_if(
    case: &Case<'_>,
    policy: Option<&PolicySet>,
    model: &ModelAtHand<'_>,
    names: &mut Names,
) -> (Vec<WhatIf>, Option<WhatIf>) {
    let Risk::Scored {
        reasons, source, ..
    } = &case.risk
    else {
        return (Vec::new(), None);
    };
    if *source == ScoreSource::Provenance {
        // The row is that of this request, the score that of another.
        return (recorded_what_if(case), None);
    }
    let evaluator = match model {
        ModelAtHand::There { evaluators, .. } => evaluators.first(),
        ModelAtHand::Missing { .. } => None,
    };
    let (Some(evaluator), Ok(row)) = (evaluator, case.row()) else {
        return (recorded_what_if(case), None);
    };
    let mut judge = |without: &[Reason]| -> Option<WhatIf> {
        let changed = without.iter().fold(row.clone(), |row, reason| {
            counterfactual::without(&row, *reason)
        });
        let output = (evaluator.run)(&changed)?;
        let verdict = policy.and_then(|policy| {
            let other = case.rescored(&output, &changed);
            let again = other.decide(policy, names.name_of(case.event)).ok()?;
            Some(again.verdict)
        });
        Some(WhatIf {
            without: without.to_vec(),
            score: output.score.points(),
            level: output.score.level(case.thresholds),
            verdict,
        })
    };
    let each: Vec<WhatIf> = reasons
        .iter()
        .filter_map(|reason| judge(&[*reason]))
        .collect();
    let milder = |other: &WhatIf| match other.verdict {
        Some(verdict) => verdict < case.verdict,
        None => Some(other.level) < case.level(),
    };
    let smallest = each.iter().find(|other| milder(other)).cloned();
    let smallest = smallest.or_else(|| {
        // The strongest reasons first, one more each time; then those that turn out not to be needed go again.
        let mut taken: Vec<Reason> = Vec::new();
        let mut found = None;
        for reason in reasons {
            taken.push(*reason);
            found = judge(&taken).filter(|other| milder(other));
            if found.is_some() {
                break;
            }
        }
        found.as_ref()?;
        for reason in taken.clone() {
            let fewer: Vec<Reason> = taken.iter().copied().filter(|one| *one != reason).collect();
            if let Some(other) = judge(&fewer).filter(|other| milder(other)) {
                taken = fewer;
                found = Some(other);
            }
        }
        found
    });
    (each, smallest)
}

/// What the record itself says of it.
fn recorded_what_if(case: &Case<'_>) -> Vec<WhatIf> {
    let recorded = case.event.counterfactuals.iter();
    recorded
        .filter_map(|other| {
            Some(WhatIf {
                without: vec![Reason::from_code(&other.without)?],
                score: other.score,
                level: RiskScore::from_points(other.score).level(case.thresholds),
                verdict: None,
            })
        })
        .collect()
}

/// The condition of the rule that matched.
fn condition(policy: &PolicySet, event: &AuditEvent) -> Option<String> {
    let matched = event.matched.as_deref()?;
    let rules = policy.rules().iter();
    let rule = rules
        .filter(|rule| rule.enabled)
        .find(|rule| &*rule.name == matched)?;
    Some(rule.when.source().trim().to_owned())
}

/// The thresholds of a record.
fn thresholds(event: &AuditEvent) -> Option<Thresholds> {
    let [medium, high] = event.thresholds?;
    Some(Thresholds { medium, high })
}
