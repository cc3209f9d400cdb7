//! Distinct counts of fixed size: exact while few, a HyperLogLog (Flajolet et al., 2007) beyond. For the stores that
//! count by themselves; Redis brings its own.

use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::WindowCounts;
use crate::adapters::store::transfer::Distinct;
use crate::adapters::store::transfer::Members;
use crate::domain::ids::ValueHash;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// Up to this many values are kept as they are.
pub const FEW_MAX: usize = 32;
/// Registers of the estimate beyond: a standard error of 1.04 / sqrt(512) = 4.6 %.
const REGISTERS: usize = 512;
const REGISTER_BITS: u32 = 9;

/// How many distinct values were added; at most some 530 bytes when encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sketch {
    /// The values themselves.
    Few(Vec<ValueHash>),
    /// Registers.
    Many(Vec<u8>),
}

/// Distinct counts of the current window and the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    epoch: i64,
    current: Sketch,
    previous: Sketch,
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Sketch {
    /// Adds a value. Values are keyed hashes and therefore as good as random.
    pub fn add(&mut self, value: ValueHash) {
        match self {
            Self::Few(values) if values.contains(&value) => {}
            Self::Few(values) if values.len() < FEW_MAX => values.push(value),
            Self::Few(values) => {
                let mut registers = vec![0; REGISTERS];
                values
                    .iter()
                    .copied()
                    .chain([value])
                    .for_each(|value| raise(&mut registers, value));
                *self = Self::Many(registers);
            }
            Self::Many(registers) => raise(registers, value),
        }
    }

    /// How many distinct values were added.
    pub fn count(&self) -> f32 {
        match self {
            Self::Few(values) => values.len() as f32,
            Self::Many(registers) => estimate(registers),
        }
    }

    /// How many distinct values were added to either.
    pub fn count_with(&self, other: &Sketch) -> f32 {
        match (self, other) {
            (one, Self::Few(values)) if values.is_empty() => one.count(),
            (Self::Few(values), other) if values.is_empty() => other.count(),
            (Self::Few(one), Self::Few(other)) => {
                (one.len() + other.iter().filter(|value| !one.contains(value)).count()) as f32
            }
            (Self::Many(registers), Self::Few(values))
            | (Self::Few(values), Self::Many(registers)) => {
                let mut registers = registers.clone();
                values
                    .iter()
                    .for_each(|value| raise(&mut registers, *value));
                estimate(&registers)
            }
            (Self::Many(one), Self::Many(other)) => {
                let both: Vec<u8> = one.iter().zip(other).map(|(a, b)| *a.max(b)).collect();
                estimate(&both)
            }
        }
    }

    /// Whether a decoded sketch has the sizes that this module gives.
    fn is_sound(&self) -> bool {
        match self {
            Self::Few(values) => values.len() <= FEW_MAX,
            Self::Many(registers) => registers.len() == REGISTERS,
        }
    }
}

impl Windows {
    /// Adds a value in the window of `epoch`. What is older than the window before the current one is let go; an
    /// entry that is more than one window ahead comes from a clock that has been set back and starts anew.
    pub fn add(&mut self, epoch: i64, value: ValueHash) {
        match epoch.saturating_sub(self.epoch) {
            0 => {}
            1 => {
                self.previous = std::mem::take(&mut self.current);
                self.epoch = epoch;
            }
            -1 => {
                self.previous.add(value);
                return;
            }
            _ => {
                *self = Self {
                    epoch,
                    ..Self::default()
                }
            }
        }
        self.current.add(value);
    }

    /// What was seen, as far as it is known which values they were.
    pub fn members(&self) -> Distinct {
        let members = |sketch: &Sketch| match sketch {
            Sketch::Few(values) => Members::Values(values.clone()),
            Sketch::Many(_) => Members::Number(sketch.count()),
        };
        Distinct {
            epoch: self.epoch,
            current: members(&self.current),
            previous: members(&self.previous),
        }
    }

    /// The sizes of the windows.
    pub fn counts(&self) -> WindowCounts {
        WindowCounts {
            epoch: self.epoch,
            current: self.current.count(),
            both: self.current.count_with(&self.previous),
        }
    }

    /// The distinct values in the window that ends at `now`.
    pub fn estimate(&self, kind: Kind, now: Timestamp) -> f32 {
        self.counts().estimate(kind, now)
    }

    /// Whether decoded windows have the sizes that this module gives.
    pub fn is_sound(&self) -> bool {
        self.current.is_sound() && self.previous.is_sound()
    }
}

fn raise(registers: &mut [u8], value: ValueHash) {
    let place = usize::try_from(value >> (u64::BITS - REGISTER_BITS)).unwrap_or(0);
    // The bit that is set keeps the rank within the bits that are left.
    let rank = ((value << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() + 1;
    if let Some(register) = registers.get_mut(place) {
        *register = (*register).max(u8::try_from(rank).unwrap_or(u8::MAX));
    }
}

fn estimate(registers: &[u8]) -> f32 {
    const ALPHA: f32 = 0.7213 / (1.0 + 1.079 / REGISTERS as f32);
    let m = REGISTERS as f32;
    let sum: f32 = registers
        .iter()
        .map(|register| (-f32::from((*register).min(60))).exp2())
        .sum();
    let raw = ALPHA * m * m / sum.max(f32::MIN_POSITIVE);
    let zeros = registers.iter().filter(|register| **register == 0).count();
    if raw <= 2.5 * m && zeros > 0 {
        m * (m / zeros as f32).ln()
    } else {
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: as good as the keyed hashes that the gateway counts.
    fn hash(n: u64) -> u64 {
        let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[test]
    fn few_are_counted_exactly_and_many_within_three_errors() {
        let mut sketch = Sketch::default();
        for n in 0..200_000u64 {
            sketch.add(hash(n));
            sketch.add(hash(n));
            let seen = n + 1;
            if seen <= FEW_MAX as u64 {
                assert_eq!(sketch.count(), seen as f32);
            }
            if [100, 1_000, 10_000, 200_000].contains(&seen) {
                let ratio = sketch.count() / seen as f32;
                assert!((0.86..1.14).contains(&ratio), "{seen}: {ratio}");
            }
        }
        assert!(postcard::to_stdvec(&sketch).unwrap().len() < 530);
    }

    #[test]
    fn the_union_counts_shared_values_once() {
        for (first, second) in [
            (0..20u64, 10..30u64),
            (0..20, 0..2_000),
            (0..2_000, 1_000..3_000),
        ] {
            let (mut one, mut other) = (Sketch::default(), Sketch::default());
            first.clone().for_each(|n| one.add(hash(n)));
            second.clone().for_each(|n| other.add(hash(n)));
            let ratio = one.count_with(&other) / second.end as f32;
            assert!(
                (0.86..1.14).contains(&ratio),
                "{first:?} {second:?}: {ratio}"
            );
        }
    }

    #[test]
    fn windows_rotate_and_late_values_find_theirs() {
        let mut windows = Windows::default();
        windows.add(100, 1);
        windows.add(101, 2);
        windows.add(100, 3);
        windows.add(99, 4);
        assert_eq!(
            windows.counts(),
            WindowCounts {
                epoch: 99,
                current: 1.0,
                both: 1.0
            }
        );
        let mut windows = Windows::default();
        windows.add(100, 1);
        windows.add(101, 1);
        windows.add(101, 2);
        windows.add(100, 3);
        assert_eq!(
            windows.counts(),
            WindowCounts {
                epoch: 101,
                current: 2.0,
                both: 3.0
            }
        );
        windows.add(103, 9);
        assert_eq!(
            windows.counts(),
            WindowCounts {
                epoch: 103,
                current: 1.0,
                both: 1.0
            }
        );
    }
}
