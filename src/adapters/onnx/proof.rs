//! Checks that run a model before it is used: golden vectors, sums, directions, and how long a run takes.

use crate::adapters::onnx::manifest::Golden;
use crate::adapters::onnx::manifest::GoldenRow;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::risk::ModelOutput;
use crate::domain::time::Deadline;
use crate::flow::ports::ModelError;
use crate::flow::ports::RiskModel;
use std::time::Duration;
use std::time::Instant;

/// How far a probability or a contribution may be from the golden one.
const GOLDEN_TOLERANCE: f32 = 1e-4;
/// How close to 0 or 1 a golden probability has to be for an answer of exactly 0 or 1.
const CERTAINTY_TOLERANCE: f32 = 1e-6;
/// How far contributions and bias may be from the logit, for probabilities that leave the logit meaningful.
const SUM_TOLERANCE: f32 = 1e-3;
/// Rounding that does not count as a step in the wrong direction.
const SWEEP_TOLERANCE: f32 = 1e-6;
/// Golden rows from which each feature is swept, and the steps of a sweep.
const SWEEP_ROWS: usize = 4;
const SWEEP_STEPS: u8 = 8;
/// A single run at load may take this long.
const RUN_BUDGET: Duration = Duration::from_secs(1);
/// Runs that are timed, and the time after which timing stops.
const TIMED_RUNS: usize = 500;
const TIMING_BUDGET: Duration = Duration::from_millis(250);

/// What a model promised and does not do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// The answer to a golden row is another one.
    #[error("gives {found} as {what} of the golden row `{row}`; expected {expected}")]
    Golden {
        /// The row.
        row: String,
        /// `probability` or the feature's name.
        what: &'static str,
        /// As in the file.
        expected: f32,
        /// As the model says.
        found: f32,
    },
    /// The risk moves against the direction of the schema.
    #[error("lets the risk move the wrong way as `{feature}` grows from {from} to {to}")]
    Monotone {
        /// The feature.
        feature: &'static str,
        /// Where the step begins.
        from: f32,
        /// Where it ends.
        to: f32,
    },
    /// The model is certain where its trainer was not.
    #[error(
        "gives the probability {found} for the golden row `{row}`; expected one between 0 and 1"
    )]
    Probability {
        /// The row.
        row: String,
        /// What the model says.
        found: f32,
    },
    /// The model does not answer.
    #[error("does not answer for `{row}`: {cause}")]
    Run {
        /// The row or the feature that was swept.
        row: String,
        /// Why.
        cause: ModelError,
    },
    /// The contributions do not explain the score.
    #[error(
        "has contributions that add up to {found} with the bias for the golden row `{row}`; expected {expected}"
    )]
    Sum {
        /// The row.
        row: String,
        /// The logit of the probability.
        expected: f32,
        /// The sum.
        found: f32,
    },
}

/// Checks `model` and returns the 99th percentile of a run. With a `bias`, contributions have to add up to the logit.
pub(super) fn prove(
    model: &dyn RiskModel,
    kind: RequestKind,
    bias: Option<f32>,
    golden: &Golden,
) -> Result<Duration, ProofError> {
    for row in &golden.rows {
        let output = run(model, &row.vector(), &row.name)?;
        check_golden(row, &output)?;
        if let Some(bias) = bias {
            check_sum(row, &output, bias)?;
        }
    }
    for row in golden.rows.iter().take(SWEEP_ROWS) {
        sweep(model, kind, &row.vector())?;
    }
    let rows: Vec<_> = golden.rows.iter().map(GoldenRow::vector).collect();
    time(model, &rows)
}

/// Checks what can be checked without golden vectors, from a row in which everything is missing and one of zeros.
pub(super) fn prove_without_golden(
    model: &dyn RiskModel,
    kind: RequestKind,
) -> Result<Duration, ProofError> {
    let mut zeros = FeatureVector::missing();
    Feature::ALL
        .into_iter()
        .for_each(|feature| zeros.set(feature, 0.0));
    let rows = [FeatureVector::missing(), zeros];
    for row in &rows {
        sweep(model, kind, row)?;
    }
    time(model, &rows)
}

fn run(
    model: &dyn RiskModel,
    features: &FeatureVector,
    row: &str,
) -> Result<ModelOutput, ProofError> {
    let deadline = Deadline::after(Instant::now(), RUN_BUDGET);
    model
        .run(features, deadline)
        .map_err(|cause| ProofError::Run {
            row: row.to_owned(),
            cause,
        })
}

fn check_golden(row: &GoldenRow, output: &ModelOutput) -> Result<(), ProofError> {
    let probability = output.score.probability();
    // Certainty passes only where the trainer's number is so close to it that a float32 cannot tell them apart.
    let certain = probability <= 0.0 || probability >= 1.0;
    if certain && (probability - row.probability).abs() > CERTAINTY_TOLERANCE {
        return Err(ProofError::Probability {
            row: row.name.clone(),
            found: probability,
        });
    }
    let contributions = Feature::ALL
        .iter()
        .map(|feature| feature.name())
        .zip(output.contributions);
    let found = std::iter::once(("probability", probability)).chain(contributions);
    let expected = std::iter::once(&row.probability).chain(&row.contributions);
    for ((what, found), &expected) in found.zip(expected) {
        // Written so that a golden NaN fails.
        let fits = (found - expected).abs() <= GOLDEN_TOLERANCE;
        if !fits {
            return Err(ProofError::Golden {
                row: row.name.clone(),
                what,
                expected,
                found,
            });
        }
    }
    Ok(())
}

fn check_sum(row: &GoldenRow, output: &ModelOutput, bias: f32) -> Result<(), ProofError> {
    let probability = output.score.probability();
    // Close to 0 and 1 a float32 holds too little of the logit to be compared.
    if !(1e-3..=0.999).contains(&probability) {
        return Ok(());
    }
    let expected = (probability / (1.0 - probability)).ln();
    let found = output.contributions.iter().sum::<f32>() + bias;
    if (found - expected).abs() > SUM_TOLERANCE {
        return Err(ProofError::Sum {
            row: row.name.clone(),
            expected,
            found,
        });
    }
    Ok(())
}

/// Moves one feature of `kind` at a time through its range and looks at the direction in which the risk moves. Features of
/// other kinds are always missing.
fn sweep(model: &dyn RiskModel, kind: RequestKind, base: &FeatureVector) -> Result<(), ProofError> {
    for feature in FeatureSchema::current().features_of(kind) {
        let entry = FeatureSchema::current().entry(feature);
        let (low, high) = entry.clip;
        let mut before: Option<(f32, f32)> = None;
        for step in (0..=SWEEP_STEPS).filter(|_| entry.monotone != 0) {
            let value = low + (high - low) * f32::from(step) / f32::from(SWEEP_STEPS);
            let mut row = base.clone();
            row.set(feature, value);
            let probability = run(model, &row, feature.name())?.score.probability();
            if let Some((from, last)) = before
                && (probability - last) * f32::from(entry.monotone) < -SWEEP_TOLERANCE
            {
                return Err(ProofError::Monotone {
                    feature: feature.name(),
                    from,
                    to: value,
                });
            }
            before = Some((value, probability));
        }
    }
    Ok(())
}

fn time(model: &dyn RiskModel, rows: &[FeatureVector]) -> Result<Duration, ProofError> {
    let begun = Instant::now();
    let mut spans = Vec::with_capacity(TIMED_RUNS);
    for vector in rows.iter().cycle().take(TIMED_RUNS) {
        let start = Instant::now();
        run(model, vector, "timing")?;
        spans.push(start.elapsed());
        if begun.elapsed() > TIMING_BUDGET {
            break;
        }
    }
    spans.sort_unstable();
    Ok(spans
        .get(spans.len().saturating_mul(99) / 100)
        .copied()
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::native::checked;
    use crate::flow::ports::ModelIdentity;

    /// Says `offset + slope * geo_km / 10` for everything.
    struct Line {
        offset: f32,
        slope: f32,
        identity: ModelIdentity,
    }

    impl RiskModel for Line {
        fn run(&self, features: &FeatureVector, _: Deadline) -> Result<ModelOutput, ModelError> {
            let km = features.value(Feature::GeoKm);
            checked(self.offset + self.slope * km / 10.0, [0.0; Feature::COUNT])
        }

        fn identity(&self) -> &ModelIdentity {
            &self.identity
        }
    }

    fn line(offset: f32, slope: f32) -> Line {
        Line {
            offset,
            slope,
            identity: ModelIdentity {
                version: "1".into(),
                digest: String::new(),
            },
        }
    }

    fn golden(probability: f32) -> Golden {
        let row = GoldenRow {
            name: "row".into(),
            features: vec![Some(0.0); Feature::COUNT],
            probability,
            contributions: vec![0.0; Feature::COUNT],
        };
        Golden {
            model_version: "1".into(),
            rows: vec![row],
        }
    }

    #[test]
    fn a_model_that_keeps_its_promises_passes() {
        assert!(prove(&line(0.2, 0.5), RequestKind::Login, None, &golden(0.2)).is_ok());
    }

    #[test]
    fn another_answer_than_the_golden_one_is_found() {
        let fault = prove(&line(0.2, 0.0), RequestKind::Login, None, &golden(0.21)).unwrap_err();
        assert!(matches!(
            fault,
            ProofError::Golden {
                what: "probability",
                ..
            }
        ));
        let fault =
            prove(&line(0.2, 0.0), RequestKind::Login, None, &golden(f32::NAN)).unwrap_err();
        assert!(matches!(fault, ProofError::Golden { .. }));
    }

    #[test]
    fn certainty_is_refused() {
        let fault = prove(&line(1.0, 0.0), RequestKind::Login, None, &golden(0.99995)).unwrap_err();
        assert!(matches!(fault, ProofError::Probability { .. }));
        let fault = prove(&line(0.0, 0.0), RequestKind::Login, None, &golden(0.00005)).unwrap_err();
        assert!(matches!(fault, ProofError::Probability { .. }));
        assert!(
            prove(
                &line(1.0, 0.0),
                RequestKind::Login,
                None,
                &golden(0.999_999_9)
            )
            .is_ok()
        );
    }

    #[test]
    fn a_risk_that_falls_with_distance_is_found() {
        let fault = prove(&line(0.8, -0.5), RequestKind::Login, None, &golden(0.8)).unwrap_err();
        assert!(matches!(
            fault,
            ProofError::Monotone {
                feature: "geo_km",
                ..
            }
        ));
    }

    #[test]
    fn contributions_that_do_not_add_up_are_found() {
        assert!(prove(&line(0.5, 0.0), RequestKind::Login, Some(0.0), &golden(0.5)).is_ok());
        let fault =
            prove(&line(0.5, 0.0), RequestKind::Login, Some(0.1), &golden(0.5)).unwrap_err();
        assert!(matches!(fault, ProofError::Sum { .. }));
    }
}
