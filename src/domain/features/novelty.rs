//! Newness and surprise: how little what a request shows is known of its subject.

use crate::domain::history::KnownValue;
use crate::domain::history::KnownValues;
use crate::domain::history::NEWNESS_AGE;
use crate::domain::history::Profile;
use crate::domain::ids::ValueHash;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// The share that a value is taken to have among all logins while the population is too small to say.
#[derive(Clone, Copy, Debug)]
pub enum Commonness {
    /// One address of many.
    Address,
    /// A value of a few dozen common ones: a network, a browser version.
    Many,
    /// A value of a handful: a country, an operating system, a language.
    Few,
}

impl Commonness {
    fn share(self) -> f32 {
        match self {
            Self::Address => 1e-4,
            Self::Many => 0.02,
            Self::Few => 0.2,
        }
    }
}

/// The likelihood ratio log p(x) / p(x | subject) of Freeman et al. (NDSS 2016), with p(x | subject) smoothed by one
/// pseudo-login from the population. Familiar values are negative; an unseen one gives log(1 + logins), so that the
/// evidence grows with the history.
pub fn likelihood_ratio(
    profile: &Profile,
    known: &KnownValues,
    value: ValueHash,
    share: Option<f32>,
    otherwise: Commonness,
) -> f32 {
    let global = share.unwrap_or_else(|| otherwise.share()).clamp(1e-6, 1.0);
    let count = known.count(value) as f32;
    let local = (count + global) / (profile.successes as f32 + 1.0);
    (global / local).ln()
}

/// 1 for a value never seen, falling towards 0 with the age of the first confirmed login that used it: a value counts
/// as known only gradually, so that the second malicious request does not look normal. What the account began with is
/// as old as the account and never new.
pub fn newness(profile: &Profile, known: Option<&KnownValue>, now: Timestamp) -> f32 {
    let first = known.map(|known| known.first);
    aged(first, profile.first, now, NEWNESS_AGE)
}

/// The same where the first use alone is known: 1 without one, 0 if it lies no later than `began`, else falling with
/// `age`.
pub fn aged(first: Option<Timestamp>, began: Timestamp, now: Timestamp, age: Duration) -> f32 {
    match first {
        None => 1.0,
        Some(first) if first <= began => 0.0,
        Some(first) => (-(now.since(first).as_secs_f32() / age.as_secs_f32())).exp(),
    }
}

/// Minus log of the rate at which the subject's logins bring this kind of novelty; 0 when nothing is new. Who always
/// comes from new addresses is not punished for one more.
pub fn surprise(is_new: bool, times_new: u32, successes: u32) -> f32 {
    if !is_new || successes == 0 {
        return 0.0;
    }
    let rate = (times_new as f32 + 0.5) / (successes as f32 + 1.0);
    -rate.min(1.0).ln()
}

/// Minus log of the smoothed share of the subject's logins in this hour: neighbouring hours count half, and a prior of
/// six logins spread over the day keeps a short history quiet.
pub fn hour_surprise(hours: &[u16; 24], hour: usize) -> f32 {
    const PRIOR: f32 = 6.0;
    let at = |offset: usize| f32::from(hours.get((hour + offset) % 24).copied().unwrap_or(0));
    let total: f32 = hours.iter().map(|count| f32::from(*count)).sum();
    let near = (at(0) + 0.5 * at(1) + 0.5 * at(23)) / 2.0;
    -((near + PRIOR / 24.0) / (total + PRIOR)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unseen_value_weighs_as_much_as_the_history() {
        let profile = Profile {
            successes: 9,
            ..Profile::default()
        };
        let ratio = likelihood_ratio(&profile, &profile.asns, 1, Some(0.02), Commonness::Many);
        assert!((ratio - 10.0_f32.ln()).abs() < 1e-5);
    }

    #[test]
    fn a_familiar_value_lowers_the_ratio() {
        let mut profile = Profile {
            successes: 9,
            ..Profile::default()
        };
        for _ in 0..9 {
            profile.asns.learn(1, Timestamp(0));
        }
        assert!(likelihood_ratio(&profile, &profile.asns, 1, None, Commonness::Many) < -3.5);
    }

    #[test]
    fn newness_fades() {
        let profile = Profile {
            first: Timestamp(0),
            ..Profile::default()
        };
        let known = |first| KnownValue {
            value: 1,
            count: 1,
            first: Timestamp(first),
            last: Timestamp(first),
        };
        let later = Timestamp(1).plus(NEWNESS_AGE);
        assert_eq!(newness(&profile, None, later), 1.0);
        assert_eq!(newness(&profile, Some(&known(0)), Timestamp(0)), 0.0);
        assert!((newness(&profile, Some(&known(1)), later) - (-1.0_f32).exp()).abs() < 1e-6);
        let week_later = later.plus(Duration::from_secs(7 * 24 * 3600));
        assert!(newness(&profile, Some(&known(1)), week_later) < 1e-6);
    }

    #[test]
    fn travellers_are_not_surprising() {
        assert!(surprise(true, 0, 20) > 3.0);
        assert!(surprise(true, 18, 20) < 0.2);
        assert_eq!(surprise(false, 0, 20), 0.0);
    }

    #[test]
    fn hours_near_the_usual_are_usual() {
        let mut hours = [0; 24];
        hours[9] = 40;
        assert!(hour_surprise(&hours, 9) < 1.0);
        assert!(hour_surprise(&hours, 10) < hour_surprise(&hours, 3));
        assert!(hour_surprise(&[0; 24], 3) < 3.3);
    }
}
