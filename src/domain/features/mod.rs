//! Numbers for the model: the schema that gateway and trainer share, and the vector in its order.

/// Names, order, ranges and reasons of the features, read from `conf/model/features.toml`.
pub mod schema;

/// Newness and surprise of what a request shows.
pub mod novelty;

/// Counts, ratios and travel.
pub mod velocity;

/// Signals, history and the moment, folded into one vector.
pub mod derive;

/// The row without one of its reasons.
pub mod counterfactual;

pub use schema::Feature;
pub use schema::FeatureSchema;

/// One row for the model, in the order of [`Feature::ALL`]. A missing value is NaN; every other value lies within the
/// feature's clip range.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureVector([f32; Feature::COUNT]);

impl FeatureVector {
    /// A vector in which everything is missing.
    pub fn missing() -> Self {
        Self([f32::NAN; Feature::COUNT])
    }

    /// Sets a feature, clamped to its range. A value that is not finite counts as missing.
    pub fn set(&mut self, feature: Feature, value: f32) {
        let (low, high) = FeatureSchema::current().entry(feature).clip;
        if let Some(slot) = self.0.get_mut(feature.index()) {
            *slot = if value.is_finite() {
                value.clamp(low, high)
            } else {
                f32::NAN
            };
        }
    }

    /// The value of a feature; NaN when missing.
    pub fn value(&self, feature: Feature) -> f32 {
        self.0.get(feature.index()).copied().unwrap_or(f32::NAN)
    }

    /// The row as the model takes it.
    pub fn as_slice(&self) -> &[f32; Feature::COUNT] {
        &self.0
    }

    /// A row from recorded values; the length must be [`Feature::COUNT`]. Each value is taken as [`FeatureVector::set`]
    /// takes it: no row holds anything infinite or out of range, wherever it comes from.
    pub fn from_slice(values: &[f32]) -> Option<Self> {
        let values: &[f32; Feature::COUNT] = values.try_into().ok()?;
        let mut row = Self::missing();
        for (feature, value) in Feature::ALL.into_iter().zip(values) {
            row.set(feature, *value);
        }
        Some(row)
    }

    /// The bits of the row, for cache keys: equal bits are equal inputs, whatever NaN is.
    pub fn bits(&self) -> [u32; Feature::COUNT] {
        self.0.map(f32::to_bits)
    }
}
