//! How well scores tell attacks from the rest: ranks, rates at a share of false alarms, calibration, intervals. Pure.

use std::collections::BTreeMap;

/// Bins of the calibration error, of equal width.
const BINS: usize = 15;
/// The quantile of the normal distribution of a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// How often groups are drawn anew for an interval.
const DRAWS: usize = 1000;

/// A share with its 95 % interval (Wilson), as if the events were independent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Share {
    /// How many of `of`.
    pub(super) count: u64,
    /// Of how many.
    pub(super) of: u64,
}

/// Scores of legitimate events, sorted.
#[derive(Debug, Default)]
pub(super) struct Sorted(Vec<f32>);

/// Sums for calibration error and Brier score.
#[derive(Clone, Debug)]
pub(super) struct Calibration {
    bins: [(u64, f64, u64); BINS],
    squares: f64,
}

impl Share {
    /// One more of which it does or does not hold.
    pub(super) fn add(&mut self, holds: bool) {
        self.count += u64::from(holds);
        self.of += 1;
    }

    /// The share; `None` of nothing.
    pub(super) fn rate(self) -> Option<f64> {
        (self.of > 0).then(|| self.count as f64 / self.of as f64)
    }

    /// The interval.
    pub(super) fn interval(self) -> Option<(f64, f64)> {
        let rate = self.rate()?;
        let n = self.of as f64;
        let z2 = Z * Z;
        let middle = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
        Some(((middle - half).max(0.0), (middle + half).min(1.0)))
    }
}

impl Sorted {
    pub(super) fn new(mut scores: Vec<f32>) -> Self {
        scores.sort_unstable_by(f32::total_cmp);
        Self(scores)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The score that an event must exceed, so that at most `share` of these events do: the greatest threshold of which
    /// that holds is the next score above it. `None` when there are no events.
    pub(super) fn above(&self, share: f64) -> Option<f32> {
        let allowed = (share * self.0.len() as f64).floor() as usize;
        if self.0.is_empty() {
            return None;
        }
        match self.0.len().checked_sub(allowed + 1) {
            Some(place) => self.0.get(place).copied(),
            None => Some(f32::NEG_INFINITY),
        }
    }

    /// How many of these events exceed `score`.
    pub(super) fn exceeding(&self, score: f32) -> Share {
        let below = self.0.partition_point(|own| *own <= score);
        Share {
            count: (self.0.len() - below) as u64,
            of: self.0.len() as u64,
        }
    }

    /// The area under the ROC curve of `attacks` against these events; ties count half. `None` without either.
    pub(super) fn auc(&self, attacks: &Sorted) -> Option<f64> {
        if self.0.is_empty() || attacks.0.is_empty() {
            return None;
        }
        let wins: f64 = attacks
            .0
            .iter()
            .map(|score| {
                let below = self.0.partition_point(|own| own < score);
                let to = self.0.partition_point(|own| own <= score);
                (below + to) as f64 / 2.0
            })
            .sum();
        Some(wins / (self.0.len() as f64 * attacks.0.len() as f64))
    }

    /// The 95 % interval of an area (Hanley and McNeil 1982), as if the events were independent.
    pub(super) fn auc_interval(&self, attacks: &Sorted, auc: f64) -> (f64, f64) {
        let (good, bad) = (self.0.len() as f64, attacks.0.len() as f64);
        let q1 = auc / (2.0 - auc);
        let q2 = 2.0 * auc * auc / (1.0 + auc);
        let variance =
            (auc * (1.0 - auc) + (bad - 1.0) * (q1 - auc * auc) + (good - 1.0) * (q2 - auc * auc))
                / (good * bad);
        let half = Z * variance.max(0.0).sqrt();
        ((auc - half).max(0.0), (auc + half).min(1.0))
    }

    /// The average precision of `attacks` against these events: the sum over thresholds of precision times the gain in
    /// recall. `None` without attacks.
    pub(super) fn average_precision(&self, attacks: &Sorted) -> Option<f64> {
        if attacks.0.is_empty() {
            return None;
        }
        let mut sum = 0.0;
        let mut found = 0_usize;
        let mut rest = attacks.0.as_slice();
        while let Some(score) = rest.last().copied() {
            let from = rest.partition_point(|own| *own < score);
            let gained = rest.len() - from;
            found += gained;
            let alarms = self.0.len() - self.0.partition_point(|own| *own < score);
            sum += gained as f64 * found as f64 / (found + alarms) as f64;
            rest = rest.get(..from).unwrap_or_default();
        }
        Some(sum / attacks.0.len() as f64)
    }
}

/// The 95 % interval of the share of `scores` that exceed `threshold`. Scores of one group (a campaign) are alike, so that
/// whole groups are drawn anew; where every score has a group of its own it is Wilson's. `None` of nothing.
pub(super) fn resampled(scores: &[(f32, u64)], threshold: f32) -> Option<(f64, f64)> {
    let mut groups: BTreeMap<u64, Share> = BTreeMap::new();
    let mut all = Share::default();
    for (score, group) in scores {
        groups.entry(*group).or_default().add(*score > threshold);
        all.add(*score > threshold);
    }
    if groups.len() < 2 || groups.len() == scores.len() {
        return all.interval();
    }
    let groups: Vec<Share> = groups.into_values().collect();
    // A generator of its own (SplitMix64), so that the same events give the same interval.
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        groups
            .get((mixed ^ (mixed >> 31)) as usize % groups.len())
            .copied()
            .unwrap_or_default()
    };
    let mut rates: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let mut sum = Share::default();
            for _ in 0..groups.len() {
                let drawn = draw();
                sum.count += drawn.count;
                sum.of += drawn.of;
            }
            sum.rate()
        })
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        rates
            .get((share * (rates.len() - 1) as f64).round() as usize)
            .copied()
    };
    let (low, high) = (at(0.025)?, at(0.975)?);
    if low < high {
        return Some((low, high));
    }
    // Groups that are all alike say nothing by being drawn anew; their number still bounds what can be said.
    let of = groups.len() as u64;
    let count = (all.rate()? * of as f64).round() as u64;
    Share { count, of }.interval()
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            bins: [(0, 0.0, 0); BINS],
            squares: 0.0,
        }
    }
}

impl Calibration {
    /// One more event.
    pub(super) fn add(&mut self, probability: f32, attack: bool) {
        let probability = f64::from(probability);
        let place = ((probability * BINS as f64) as usize).min(BINS - 1);
        if let Some((count, sum, attacks)) = self.bins.get_mut(place) {
            *count += 1;
            *sum += probability;
            *attacks += u64::from(attack);
        }
        let miss = probability - f64::from(u8::from(attack));
        self.squares += miss * miss;
    }

    fn count(&self) -> u64 {
        self.bins.iter().map(|(count, _, _)| count).sum()
    }

    /// The expected calibration error: how far the mean score of a bin is from its share of attacks, weighed by size.
    pub(super) fn error(&self) -> Option<f64> {
        let total = self.count();
        let gaps = self
            .bins
            .iter()
            .map(|(_, sum, attacks)| (sum - *attacks as f64).abs());
        (total > 0).then(|| gaps.sum::<f64>() / total as f64)
    }

    /// The Brier score.
    pub(super) fn brier(&self) -> Option<f64> {
        let total = self.count();
        (total > 0).then(|| self.squares / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    /// The figures of scikit-learn 1.7 for these scores.
    #[test]
    fn ranks_are_those_of_the_textbook() {
        let good = Sorted::new(vec![0.1, 0.4, 0.35, 0.2, 0.8]);
        let attacks = Sorted::new(vec![0.35, 0.8, 0.9]);
        // Pairs won: 0.35 beats 2 and ties 1, 0.8 beats 4 and ties 1, 0.9 beats all 5.
        near(good.auc(&attacks), (2.5 + 4.5 + 5.0) / 15.0);
        // By descending threshold: 0.9 finds 1 of 1; 0.8 finds 2 of 3; 0.35 finds 3 of 6.
        near(
            good.average_precision(&attacks),
            (1.0 + 2.0 / 3.0 + 3.0 / 6.0) / 3.0,
        );
        let (low, high) = good.auc_interval(&attacks, 0.8);
        assert!(low < 0.8 && high > 0.8 && high <= 1.0);
    }

    #[test]
    fn a_threshold_lets_through_no_more_than_allowed() {
        let good = Sorted::new((0..100_u8).map(|i| f32::from(i) / 100.0).collect());
        let at = good.above(0.01).unwrap();
        assert_eq!(good.exceeding(at), Share { count: 1, of: 100 });
        let at = good.above(0.001).unwrap();
        assert_eq!(good.exceeding(at).count, 0);
        assert_eq!(good.above(1.0), Some(f32::NEG_INFINITY));
        // Of equal scores none may pass, since all of them would.
        let flat = Sorted::new(vec![0.5; 10]);
        let at = flat.above(0.2).unwrap();
        assert_eq!(flat.exceeding(at).count, 0);
        assert_eq!(Sorted::default().above(0.1), None);
    }

    #[test]
    fn intervals_hold_at_the_ends() {
        let (low, high) = Share { count: 0, of: 20 }.interval().unwrap();
        assert!(low.abs() < 1e-9 && (high - 0.161_1).abs() < 1e-3, "{high}");
        let (low, high) = Share { count: 10, of: 20 }.interval().unwrap();
        assert!((low - 0.299_3).abs() < 1e-3 && (high - 0.700_7).abs() < 1e-3);
        assert_eq!(Share { count: 0, of: 0 }.interval(), None);
    }

    #[test]
    fn events_of_one_campaign_are_one_experience() {
        let scores = |groups: u64| -> Vec<(f32, u64)> {
            (0..100_u64)
                .map(|i| (if i % groups < groups / 2 { 0.9 } else { 0.1 }, i % groups))
                .collect()
        };
        let width = |groups| {
            let (low, high) = resampled(&scores(groups), 0.5).unwrap();
            high - low
        };
        assert!(width(4) > 2.0 * width(50), "{} {}", width(4), width(50));
        assert_eq!(
            resampled(&scores(100), 0.5),
            Share { count: 50, of: 100 }.interval()
        );
        let alike = vec![(0.9, 1), (0.9, 1), (0.9, 2)];
        assert_eq!(resampled(&alike, 0.5), Share { count: 2, of: 2 }.interval());
        assert_eq!(resampled(&[], 0.5), None);
    }

    #[test]
    fn calibration_compares_scores_with_shares() {
        let mut calibration = Calibration::default();
        assert_eq!(calibration.error(), None);
        for attack in [true, false, false, false] {
            calibration.add(0.25, attack);
        }
        near(calibration.error(), 0.0);
        near(calibration.brier(), (0.5625 + 3.0 * 0.0625) / 4.0);
        calibration.add(1.0, false);
        near(calibration.error(), 0.2);
    }
}
