//! Whether the requests of today look like those that the model was made for: how often each feature falls into each of
//! the bins that came with the model, and the population stability index (PSI) between then and now. The bins are fixed;
//! bins by quantile alarm over nothing where a feature takes few values.

use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use serde::Deserialize;
use std::collections::HashMap;

/// Fewer rows than this say nothing about a distribution.
pub const ROWS_MIN: u32 = 500;
/// At this many rows all counts are halved: the window forgets.
const ROWS_MAX: u32 = 50_000;
/// Bins of one feature at most.
const BINS_MAX: usize = 64;
/// A share of less counts as this much: an empty bin must not make the index infinite.
const SHARE_MIN: f64 = 1e-4;

/// How one number was distributed when the model was made.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Bins {
    /// Where one bin ends and the next begins, ascending.
    edges: Vec<f32>,
    /// Features: the share of missing values, then of each bin. Scores: of each bin.
    shares: Vec<f64>,
}

/// How features and scores were distributed among the legitimate requests that a model was made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    features: Vec<(Feature, Bins)>,
    score: Bins,
}

/// Why the statistics of a model cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BaselineError {
    /// No such feature.
    #[error("names `{0}`, which is no feature")]
    Feature(String),
    /// The bins are none.
    #[error("has bins for `{0}` whose edges do not ascend or whose shares do not fit them")]
    Bins(String),
    /// Not JSON of that form.
    #[error("cannot be read: {0}")]
    Text(String),
}

/// What was counted since.
#[derive(Clone, Debug, Default)]
pub struct Window {
    rows: u32,
    features: Vec<Vec<u32>>,
    score: Vec<u32>,
}

/// The distance of one feature from its baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The feature.
    pub feature: Feature,
    /// The population stability index: by convention, 0.1 is worth a look and 0.25 an action.
    pub psi: f64,
    /// The share of rows in which it was missing.
    pub missing: f64,
}

impl Bins {
    fn is_sound(&self, more: usize) -> bool {
        let ascend = self
            .edges
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a < b));
        ascend
            && self.edges.len() < BINS_MAX
            && self.shares.len() == self.edges.len() + 1 + more
            && self.shares.iter().all(|share| (0.0..=1.0).contains(share))
    }

    fn bin(&self, value: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    fn psi(&self, counts: &[u32], rows: u32) -> f64 {
        let rows = f64::from(rows.max(1));
        let pairs = self.shares.iter().zip(counts);
        pairs
            .map(|(then, now)| {
                let then = then.max(SHARE_MIN);
                let now = (f64::from(*now) / rows).max(SHARE_MIN);
                (now - then) * (now / then).ln()
            })
            .sum()
    }
}

impl Baseline {
    /// Reads the two entries of a model's metadata; `None` when it has neither.
    pub fn parse(features: &str, score: &str) -> Result<Option<Self>, BaselineError> {
        if features.is_empty() || score.is_empty() {
            return Ok(None);
        }
        let text = |error: serde_json::Error| BaselineError::Text(error.to_string());
        let score: Bins = serde_json::from_str(score).map_err(text)?;
        if !score.is_sound(0) {
            return Err(BaselineError::Bins("score".to_owned()));
        }
        let found: HashMap<String, Bins> = serde_json::from_str(features).map_err(text)?;
        let mut features = Vec::with_capacity(found.len());
        for (name, bins) in found {
            if !bins.is_sound(1) {
                return Err(BaselineError::Bins(name));
            }
            match Feature::from_name(&name) {
                Some(feature) => features.push((feature, bins)),
                None => return Err(BaselineError::Feature(name)),
            }
        }
        features.sort_by_key(|(feature, _)| *feature);
        Ok(Some(Self { features, score }))
    }
}

impl Window {
    /// Counts one row with its score in points.
    pub fn count(&mut self, baseline: &Baseline, row: &FeatureVector, points: u8) {
        if self.features.len() != baseline.features.len() {
            self.features = baseline
                .features
                .iter()
                .map(|(_, bins)| vec![0; bins.shares.len()])
                .collect();
            self.score = vec![0; baseline.score.shares.len()];
            self.rows = 0;
        }
        for ((feature, bins), counts) in baseline.features.iter().zip(&mut self.features) {
            let value = row.value(*feature);
            let bin = if value.is_nan() {
                0
            } else {
                1 + bins.bin(value)
            };
            if let Some(count) = counts.get_mut(bin) {
                *count += 1;
            }
        }
        if let Some(count) = self.score.get_mut(baseline.score.bin(f32::from(points))) {
            *count += 1;
        }
        self.rows += 1;
        if self.rows >= ROWS_MAX {
            self.rows /= 2;
            let lists = self.features.iter_mut().chain([&mut self.score]);
            lists.flatten().for_each(|count| *count /= 2);
        }
    }

    /// Rows in the window.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// How far each feature and the score have moved; `None` before [`ROWS_MIN`] rows.
    pub fn drift(&self, baseline: &Baseline) -> Option<(Vec<Drift>, f64)> {
        if self.rows < ROWS_MIN {
            return None;
        }
        let pairs = baseline.features.iter().zip(&self.features);
        let features = pairs
            .map(|((feature, bins), counts)| Drift {
                feature: *feature,
                psi: bins.psi(counts, self.rows),
                missing: f64::from(counts.first().copied().unwrap_or(0)) / f64::from(self.rows),
            })
            .collect();
        Some((features, baseline.score.psi(&self.score, self.rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Baseline {
        let features =
            r#"{"geo_km": {"edges": [1.0, 5.0], "shares": [0.1, 0.7, 0.15, 0.05], "mean": 1.0}}"#;
        let score = r#"{"edges": [10, 30, 71], "shares": [0.9, 0.08, 0.015, 0.005]}"#;
        Baseline::parse(features, score).unwrap().unwrap()
    }

    fn window(of: &[(f32, u8)], times: usize) -> Window {
        let (baseline, mut window) = (baseline(), Window::default());
        for _ in 0..times {
            for (km, points) in of {
                let mut row = FeatureVector::missing();
                row.set(Feature::GeoKm, *km);
                window.count(&baseline, &row, *points);
            }
        }
        window
    }

    #[test]
    fn the_same_traffic_has_not_moved() {
        let mut same: Vec<_> = vec![(f32::NAN, 5); 10];
        same.extend(vec![(0.5, 5); 70]);
        same.extend(vec![(2.0, 5); 10]);
        same.extend(vec![(2.0, 15); 5]);
        same.extend(vec![(9.0, 15); 5]);
        let (features, score) = window(&same, 10).drift(&baseline()).unwrap();
        assert!(
            features[0].psi < 1e-9 && score < 0.1,
            "{features:?} {score}"
        );
        assert!((features[0].missing - 0.1).abs() < 1e-9);
    }

    #[test]
    fn other_traffic_has() {
        let (features, score) = window(&[(9.0, 80)], 600).drift(&baseline()).unwrap();
        assert!(features[0].psi > 1.0 && score > 1.0);
    }

    #[test]
    fn a_few_rows_say_nothing_and_many_are_forgotten() {
        assert_eq!(window(&[(1.0, 1)], 499).drift(&baseline()), None);
        let many = window(&[(1.0, 1)], 120_000);
        assert!(many.rows() < ROWS_MAX && many.drift(&baseline()).is_some());
    }

    #[test]
    fn statistics_that_are_none_are_refused() {
        let score = r#"{"edges": [10], "shares": [0.9, 0.1]}"#;
        for (features, fault) in [
            ("[]", "cannot be read"),
            (
                r#"{"x": {"edges": [1], "shares": [0, 0, 1]}}"#,
                "no feature",
            ),
            (
                r#"{"geo_km": {"edges": [2, 1], "shares": [0, 0, 0, 1]}}"#,
                "bins for",
            ),
            (
                r#"{"geo_km": {"edges": [1], "shares": [0, 1]}}"#,
                "bins for",
            ),
        ] {
            let found = Baseline::parse(features, score).unwrap_err().to_string();
            assert!(found.contains(fault), "{found}");
        }
        assert_eq!(Baseline::parse("", ""), Ok(None));
    }
}
