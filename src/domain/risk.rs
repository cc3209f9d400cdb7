//! How risky: the score, its level, and the answer of the scoring step, which always exists.

use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::policy::reason::Reason;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Contributions below this, in log-odds, give no reason.
pub const REASON_MIN: f32 = 0.5;
/// Reasons that one score may have.
pub const REASONS_MAX: usize = 8;

/// The probability that the request is an attack: finite, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct RiskScore(f32);

/// The level of a score, in ascending order of risk.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RiskLevel {
    /// 0 to 14 with the shipped thresholds.
    Low,
    /// 15 to 49.
    Medium,
    /// 50 to 100.
    High,
}

/// Where a level begins, in points of the outside score (0 to 100).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// The first score that is medium.
    pub medium: u8,
    /// The first score that is high.
    pub high: u8,
}

/// What the model says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelOutput {
    /// The calibrated probability of an attack.
    pub score: RiskScore,
    /// The contribution of each feature in log-odds against a typical legitimate login, in the order of the schema;
    /// with the model's bias they add up to the logit of the score.
    pub contributions: [f32; Feature::COUNT],
}

/// Where a score came from: the rungs of the failure ladder, from the best down.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreSource {
    /// The model in ONNX Runtime.
    Model,
    /// An identical request within the last minute.
    Cache,
    /// The decision under which the presented code, token or session was given.
    Provenance,
    /// The same model, evaluated natively, because ONNX Runtime did not answer.
    Native,
    /// The request and the signed device cookie alone, because the state did not answer.
    Stateless,
}

/// Why the model in ONNX Runtime or the state did not give the answer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackCause {
    /// The breaker of the model is open.
    BreakerOpen,
    /// The model returned an error.
    ModelError,
    /// No model is loaded.
    ModelMissing,
    /// The model's answer was not a probability.
    ModelOutput,
    /// The model did not answer within the budget.
    ModelTimeout,
    /// Too many scorings at once.
    Overload,
    /// The state could not be reached.
    StateUnavailable,
    /// The state did not answer within the budget.
    StateTimeout,
}

/// The answer of the scoring step.
#[derive(Clone, Debug, PartialEq)]
pub enum Assessment {
    /// There is a score.
    Scored {
        /// The score.
        score: RiskScore,
        /// Why, strongest first.
        reasons: Vec<Reason>,
        /// Per feature in log-odds; empty when the score came from a provenance.
        contributions: Vec<f32>,
        /// Which rung answered.
        source: ScoreSource,
        /// Why no better rung did.
        fallback: Option<FallbackCause>,
    },
    /// There is none; never to be read as low.
    Unscored(FallbackCause),
}

impl RiskScore {
    /// A score, if `probability` is finite and within 0 to 1.
    pub fn new(probability: f32) -> Option<Self> {
        (0.0..=1.0)
            .contains(&probability)
            .then_some(Self(probability))
    }

    /// The score for `points` of 0 to 100; more is 100.
    pub fn from_points(points: u8) -> Self {
        Self(f32::from(points.min(100)) / 100.0)
    }

    /// The probability, 0 to 1.
    pub fn probability(self) -> f32 {
        self.0
    }

    /// The score as it is shown outside: `round(100 p)`, 0 to 100.
    pub fn points(self) -> u8 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0.0..=100.0 by construction"
        )]
        let points = (self.0 * 100.0).round() as u8;
        points
    }

    /// The level under `thresholds`.
    pub fn level(self, thresholds: Thresholds) -> RiskLevel {
        match self.points() {
            points if points >= thresholds.high => RiskLevel::High,
            points if points >= thresholds.medium => RiskLevel::Medium,
            _ => RiskLevel::Low,
        }
    }
}

impl RiskLevel {
    /// The level as it is written in headers, policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for RiskLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            medium: 15,
            high: 50,
        }
    }
}

impl ScoreSource {
    /// The source as it is written in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Cache => "cache",
            Self::Provenance => "provenance",
            Self::Native => "native",
            Self::Stateless => "stateless",
        }
    }
}

impl FallbackCause {
    /// All causes.
    pub const ALL: [Self; 8] = [
        Self::BreakerOpen,
        Self::ModelError,
        Self::ModelMissing,
        Self::ModelOutput,
        Self::ModelTimeout,
        Self::Overload,
        Self::StateUnavailable,
        Self::StateTimeout,
    ];

    /// The cause as it is written in metrics, records and `on_unscored`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker_open",
            Self::ModelError => "model_error",
            Self::ModelMissing => "model_missing",
            Self::ModelOutput => "model_output",
            Self::ModelTimeout => "model_timeout",
            Self::Overload => "overload",
            Self::StateUnavailable => "state_unavailable",
            Self::StateTimeout => "state_timeout",
        }
    }
}

impl Assessment {
    /// The score, when there is one.
    pub fn score(&self) -> Option<RiskScore> {
        match self {
            Self::Scored { score, .. } => Some(*score),
            Self::Unscored(_) => None,
        }
    }

    /// Why no better answer was had.
    pub fn fallback(&self) -> Option<FallbackCause> {
        match self {
            Self::Scored { fallback, .. } => *fallback,
            Self::Unscored(cause) => Some(*cause),
        }
    }

    /// `scored` or `unscored`, as in `X-Risk-Status`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Scored { .. } => "scored",
            Self::Unscored(_) => "unscored",
        }
    }
}

/// The reasons behind the largest contributions, strongest first; features with one reason add up. A missing value may
/// weigh something, but it is no reason: nothing was seen.
pub fn reasons_of(contributions: &[f32; Feature::COUNT], features: &FeatureVector) -> Vec<Reason> {
    let schema = FeatureSchema::current();
    let mut sums: Vec<(Reason, f32)> = Vec::new();
    for (feature, contribution) in Feature::ALL.iter().zip(contributions) {
        if *contribution <= 0.0 || !contribution.is_finite() || features.value(*feature).is_nan() {
            continue;
        }
        let reason = schema.entry(*feature).reason;
        match sums.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += contribution,
            None => sums.push((reason, *contribution)),
        }
    }
    sums.retain(|(_, sum)| *sum >= REASON_MIN);
    sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    sums.into_iter()
        .take(REASONS_MAX)
        .map(|(reason, _)| reason)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contributions_of_one_reason_add_up() {
        let mut contributions = [0.0; Feature::COUNT];
        contributions[Feature::AddressFailures10m.index()] = 0.3;
        contributions[Feature::AddressFailures24h.index()] = 0.3;
        contributions[Feature::LlrCountry.index()] = 2.0;
        contributions[Feature::LlrAsn.index()] = 0.4;
        contributions[Feature::AddressTrust.index()] = -3.0;
        contributions[Feature::UserHistory.index()] = 3.0;
        let mut features = FeatureVector::missing();
        for feature in Feature::ALL
            .into_iter()
            .filter(|feature| *feature != Feature::UserHistory)
        {
            features.set(feature, 1.0);
        }
        assert_eq!(
            reasons_of(&contributions, &features),
            [Reason::UnfamiliarCountry, Reason::IpVelocity]
        );
    }

    #[test]
    fn a_score_is_a_probability() {
        for bad in [f32::NAN, f32::INFINITY, -0.01, 1.01] {
            assert_eq!(RiskScore::new(bad), None);
        }
    }

    #[test]
    fn levels_begin_at_their_thresholds() {
        let level = |points: u8| RiskScore::from_points(points).level(Thresholds::default());
        assert_eq!((level(0), level(14)), (RiskLevel::Low, RiskLevel::Low));
        assert_eq!(
            (level(15), level(49)),
            (RiskLevel::Medium, RiskLevel::Medium)
        );
        assert_eq!((level(50), level(100)), (RiskLevel::High, RiskLevel::High));
    }

    #[test]
    fn points_survive_the_way_in_and_out() {
        for points in 0..=100 {
            assert_eq!(RiskScore::from_points(points).points(), points);
        }
    }
}
