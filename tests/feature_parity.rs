//! The features of the gateway and of the trainer are the same: golden vectors in both directions.
//!
//! `from-gateway.json` is written here, from histories that the gateway's own code learnt; the trainer's tests compare
//! their features with it. `from-trainer.json` is written by `training/make_feature_vectors.py`; this test compares the
//! gateway's features with it. `RISKGATE_WRITE_VECTORS=1 cargo test --test feature_parity` writes the former anew.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "feature_parity/cases.rs"]
mod cases;

#[path = "feature_parity/raw.rs"]
mod raw;

use crate::raw::RawInput;
use riskgate::domain::features::Feature;
use riskgate::domain::features::FeatureVector;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// One request with its features, in the order of the schema; a missing one is null.
#[derive(Debug, Deserialize, Serialize)]
struct Vector {
    name: String,
    raw: RawInput,
    features: Vec<Option<f32>>,
}

fn vector(name: String, raw: RawInput) -> Vector {
    let features = row(&raw.derive());
    Vector {
        name,
        raw,
        features,
    }
}

fn row(found: &FeatureVector) -> Vec<Option<f32>> {
    let values = found.as_slice().iter();
    values
        .map(|value| value.is_finite().then_some(*value))
        .collect()
}

fn read(file: &str) -> Vec<Vector> {
    let text = fs::read_to_string(Path::new("tests/data/features").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Compares within a millionth; a missing value must be missing on both sides.
fn compare(name: &str, found: &[Option<f32>], expected: &[Option<f32>]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for ((feature, found), expected) in Feature::ALL.iter().zip(found).zip(expected) {
        let fits = match (found, expected) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(1.0),
            (None, None) => true,
            _ => false,
        };
        let feature = feature.name();
        assert!(fits, "{name}: {feature} is {found:?}, not {expected:?}");
    }
}

#[test]
fn the_gateway_derives_what_the_trainer_derives() {
    let vectors = read("from-trainer.json");
    assert!(vectors.len() >= 60, "{}", vectors.len());
    for Vector {
        name,
        raw,
        features,
    } in &vectors
    {
        compare(name, &row(&raw.derive()), features);
    }
    covered(&vectors);
}

#[test]
fn the_vectors_for_the_trainer_are_up_to_date() {
    let written = Path::new("tests/data/features/from-gateway.json");
    let now: Vec<_> = cases::all()
        .into_iter()
        .map(|(name, raw)| vector(name, raw))
        .collect();
    covered(&now);
    let lines: Vec<_> = now
        .iter()
        .map(|vector| serde_json::to_string(vector).unwrap())
        .collect();
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    if std::env::var_os("RISKGATE_WRITE_VECTORS").is_some() {
        fs::create_dir_all(written.parent().unwrap()).unwrap();
        fs::write(written, &text).unwrap();
    }
    let before = read("from-gateway.json");
    assert_eq!(before.len(), now.len(), "write the vectors anew");
    for (now, before) in now.iter().zip(&before) {
        assert_eq!(now.name, before.name, "write the vectors anew");
        compare(&now.name, &now.features, &before.features);
    }
}

/// Every feature is present in some vector, and moves in more than one.
fn covered(vectors: &[Vector]) {
    for (f, feature) in Feature::ALL.iter().enumerate() {
        let mut seen: Vec<_> = vectors
            .iter()
            .filter_map(|vector| vector.features[f])
            .collect();
        seen.sort_by(f32::total_cmp);
        seen.dedup();
        assert!(seen.len() >= 2, "`{}` has {seen:?} only", feature.name());
    }
}
