//! What is remembered of a token family: all tokens that go back to one code or one password, whatever refreshed them.
//! It is kept with the link of each token, so that a refresh needs no read beyond the one that finds the link.
//!
//! Two clocks run in it. What is *learnt* (values, gaps, the place of the last use) moves only with uses that were
//! low-risk, so that repeating a theft does not make it familiar. What is *counted* (uses, networks of the last day)
//! moves with every use: it can only raise the risk.

use crate::domain::history::decayed;
use crate::domain::ids::ValueHash;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// Values kept for one attribute of a family; the least recently used one makes room.
pub const FAMILY_VALUES_MAX: usize = 4;
/// Networks of the last day that are told apart.
pub const FAMILY_NETWORKS_MAX: usize = 6;
/// Half-life of the rate at which a family is used.
pub const FAMILY_RATE_HALF_LIFE: Duration = Duration::from_secs(10 * 60);
/// For how long a network counts as used lately.
const NETWORKS_AGE: Duration = Duration::from_secs(24 * 3600);
/// How much the latest gap weighs in the usual one.
const GAP_WEIGHT: f32 = 0.2;
/// Gaps below this, in seconds, count as this long.
const GAP_MIN: f32 = 1.0;
/// A code or token that comes again within this time from the same address is a repeated request, not a replay.
pub const REUSE_GRACE: Duration = Duration::from_secs(5);

/// The first 32 bits of a keyed hash, as profiles keep them.
pub type ShortHash = u32;

/// A value that a family was used with.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FamilyValue {
    value: ShortHash,
    /// Minutes since the epoch.
    first: u32,
    /// Minutes since the epoch.
    last: u32,
}

/// A few values, with the times of their first and last use to the minute.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct FamilyValues(Vec<FamilyValue>);

/// What one token request shows, as a family compares it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenUse {
    /// When.
    pub at: Timestamp,
    /// The address (IPv6: its /64).
    pub address: Option<ValueHash>,
    /// The autonomous system.
    pub asn: Option<ValueHash>,
    /// The country.
    pub country: Option<ValueHash>,
    /// Browser or program with its major version.
    pub agent: Option<ValueHash>,
    /// The same without the version.
    pub browser: Option<ValueHash>,
    /// The TLS fingerprint.
    pub tls: Option<ValueHash>,
    /// The key of a proof of possession.
    pub proof_key: Option<ValueHash>,
    /// Where it came from.
    pub coordinates: Option<Coordinates>,
}

/// The first token request of a family. Never overwritten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FamilyOrigin {
    /// When.
    pub at: Timestamp,
    /// Browser or program with its major version.
    pub agent: Option<ShortHash>,
    /// The same without the version.
    pub browser: Option<ShortHash>,
    /// The TLS fingerprint.
    pub tls: Option<ShortHash>,
    /// The key of the proof of possession.
    pub proof_key: Option<ShortHash>,
    /// Where it came from.
    pub coordinates: Option<Coordinates>,
}

/// What is remembered of one family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenFamily {
    /// The first token request.
    pub origin: FamilyOrigin,
    /// The latest use that was learnt.
    pub last: Timestamp,
    /// Uses that were learnt, the first one included.
    pub uses: u32,
    /// The mean of the logs of the learnt gaps, in seconds.
    pub gap: f32,
    /// Addresses of learnt uses.
    pub addresses: FamilyValues,
    /// Autonomous systems of learnt uses.
    pub asns: FamilyValues,
    /// Countries of learnt uses.
    pub countries: FamilyValues,
    /// The latest use of all.
    pub counted: Timestamp,
    /// Uses, decayed with [`FAMILY_RATE_HALF_LIFE`] to `counted`.
    pub rate: f32,
    /// Autonomous systems of all uses of the last day.
    pub networks: FamilyValues,
}

/// That a code was redeemed, or a refresh token replaced by another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Redeemed {
    /// When.
    pub at: Timestamp,
    /// From which address.
    pub address: Option<ShortHash>,
}

/// The part of a hash that a family keeps.
pub fn short(value: ValueHash) -> ShortHash {
    (value >> 32) as ShortHash
}

impl Redeemed {
    /// Whether presenting it again is a replay: not within [`REUSE_GRACE`] from the same address, as a client does whose
    /// answer got lost.
    pub fn is_replay(&self, address: Option<ValueHash>, now: Timestamp) -> bool {
        let same = address.map(short) == self.address && self.address.is_some();
        !(same && now.since(self.at) <= REUSE_GRACE)
    }
}

impl FamilyValues {
    /// What is known of `value`: when it was first used, to the minute.
    pub fn first(&self, value: ValueHash) -> Option<Timestamp> {
        let value = short(value);
        let found = self.0.iter().find(|known| known.value == value)?;
        Some(Timestamp(i64::from(found.first) * MINUTE_MS))
    }

    /// Whether `value` was used last, or together with the last.
    pub fn is_latest(&self, value: ValueHash) -> bool {
        let latest = self.0.iter().map(|known| known.last).max();
        let value = short(value);
        let found = self.0.iter().find(|known| known.value == value);
        found.is_some_and(|found| Some(found.last) == latest)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many values were used within a day before `now`, `also` included.
    pub fn distinct_lately(&self, also: Option<ValueHash>, now: Timestamp) -> usize {
        let also = also.map(short);
        let others = self.0.iter().filter(|known| {
            Some(known.value) != also
                && now.since(Timestamp(i64::from(known.last) * MINUTE_MS)) < NETWORKS_AGE
        });
        others.count() + usize::from(also.is_some())
    }

    /// Whether there are at most `most`, as there are in whatever this build has written.
    pub fn is_sound(&self, most: usize) -> bool {
        self.0.len() <= most
    }

    /// Gives every value the name that `name` says.
    fn rename(&mut self, name: impl Fn(ValueHash) -> ValueHash) {
        for known in &mut self.0 {
            known.value = short(name(u64::from(known.value) << 32));
        }
    }

    fn learn(&mut self, value: Option<ValueHash>, at: Timestamp, most: usize) {
        let Some(value) = value.map(short) else {
            return;
        };
        let minute = u32::try_from(at.millis().div_euclid(MINUTE_MS)).unwrap_or(0);
        if let Some(known) = self.0.iter_mut().find(|known| known.value == value) {
            known.last = known.last.max(minute);
            return;
        }
        let oldest = self
            .0
            .iter()
            .enumerate()
            .min_by_key(|(_, known)| known.last);
        if let Some((oldest, _)) = oldest.filter(|_| self.0.len() >= most) {
            self.0.swap_remove(oldest);
        }
        self.0.push(FamilyValue {
            value,
            first: minute,
            last: minute,
        });
    }
}

const MINUTE_MS: i64 = 60_000;

impl TokenFamily {
    /// The family that begins with `used`.
    pub fn begin(used: &TokenUse) -> Self {
        let mut family = Self {
            origin: FamilyOrigin {
                at: used.at,
                agent: used.agent.map(short),
                browser: used.browser.map(short),
                tls: used.tls.map(short),
                proof_key: used.proof_key.map(short),
                coordinates: used.coordinates,
            },
            last: used.at,
            counted: used.at,
            ..Self::default()
        };
        family.record(used, true);
        family
    }

    /// The family after one more use that was answered with tokens; `learns` says whether it was low-risk.
    pub fn record(&mut self, used: &TokenUse, learns: bool) {
        for moment in [&mut self.counted, &mut self.last] {
            *moment = moment.not_ahead_of(used.at);
        }
        self.rate = self.rate_at(used.at) + 1.0;
        self.counted = self.counted.max(used.at);
        self.networks.learn(used.asn, used.at, FAMILY_NETWORKS_MAX);
        if !learns {
            return;
        }
        if self.uses > 0 {
            let gap = log_gap(self.last, used.at);
            self.gap = if self.uses == 1 {
                gap
            } else {
                self.gap + GAP_WEIGHT * (gap - self.gap)
            };
        }
        self.uses = self.uses.saturating_add(1);
        self.last = self.last.max(used.at);
        for (values, value) in [
            (&mut self.addresses, used.address),
            (&mut self.asns, used.asn),
            (&mut self.countries, used.country),
        ] {
            values.learn(value, used.at, FAMILY_VALUES_MAX);
        }
    }

    /// The rate at `now`.
    pub fn rate_at(&self, now: Timestamp) -> f32 {
        decayed(self.rate, now.since(self.counted), FAMILY_RATE_HALF_LIFE)
    }

    /// Minus log of the time since the last learnt use over the usual gap; `None` before two gaps were learnt.
    pub fn haste_at(&self, now: Timestamp) -> Option<f32> {
        (self.uses > 2).then(|| self.gap - log_gap(self.last, now))
    }

    /// Gives every value the name that `name` says.
    pub(super) fn rename(&mut self, name: impl Fn(ValueHash) -> ValueHash) {
        for values in [
            &mut self.addresses,
            &mut self.asns,
            &mut self.countries,
            &mut self.networks,
        ] {
            values.rename(&name);
        }
        let origin = &mut self.origin;
        for value in [
            &mut origin.agent,
            &mut origin.browser,
            &mut origin.tls,
            &mut origin.proof_key,
        ] {
            *value = value.map(|value| short(name(u64::from(value) << 32)));
        }
    }

    /// Whether a store may have written this: numbers in range, lists within their bounds.
    pub fn is_sound(&self) -> bool {
        let lists = [&self.addresses, &self.asns, &self.countries];
        lists.iter().all(|list| list.is_sound(FAMILY_VALUES_MAX))
            && self.networks.is_sound(FAMILY_NETWORKS_MAX)
            && self.gap.is_finite()
            && (0.0..=f32::MAX).contains(&self.rate)
    }
}

/// The log of the seconds between two moments, of one second at least.
fn log_gap(from: Timestamp, to: Timestamp) -> f32 {
    to.since(from).as_secs_f32().max(GAP_MIN).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn used(at: i64, asn: u64) -> TokenUse {
        TokenUse {
            at: Timestamp(at),
            asn: Some(asn << 32),
            address: Some(asn << 32),
            ..TokenUse::default()
        }
    }

    #[test]
    fn what_is_not_learnt_is_counted_only() {
        let mut family = TokenFamily::begin(&used(0, 1));
        family.record(&used(HOUR, 2), false);
        assert_eq!((family.uses, family.last), (1, Timestamp(0)));
        assert_eq!(family.asns.first(2 << 32), None);
        assert_eq!(
            family
                .networks
                .distinct_lately(Some(3 << 32), Timestamp(HOUR)),
            3
        );
        assert!(family.rate_at(Timestamp(HOUR)) > 1.0);
        family.record(&used(2 * HOUR, 2), true);
        assert_eq!(family.asns.first(2 << 32), Some(Timestamp(2 * HOUR)));
        assert!(family.asns.is_latest(2 << 32) && !family.asns.is_latest(1 << 32));
    }

    #[test]
    fn a_token_that_comes_sooner_than_usual_is_hasty() {
        let mut family = TokenFamily::begin(&used(0, 1));
        for n in 1..=2 {
            assert_eq!(family.haste_at(Timestamp(n * HOUR)), None);
            family.record(&used(n * HOUR, 1), true);
        }
        let haste = family.haste_at(Timestamp(2 * HOUR + 36_000)).unwrap();
        assert!((haste - 100.0_f32.ln()).abs() < 1e-3, "{haste}");
        assert!(family.haste_at(Timestamp(3 * HOUR)).unwrap().abs() < 1e-3);
    }

    #[test]
    fn a_family_is_bounded_and_forgets_old_networks() {
        let mut family = TokenFamily::begin(&used(0, 1));
        for n in 0..100 {
            family.record(&used(n * 60_000, n as u64), true);
        }
        assert!(family.is_sound());
        let two_days = Timestamp(48 * HOUR);
        assert_eq!(family.networks.distinct_lately(None, two_days), 0);
    }

    #[test]
    fn a_repeated_request_is_no_replay() {
        let redeemed = Redeemed {
            at: Timestamp(0),
            address: Some(7),
        };
        assert!(!redeemed.is_replay(Some(7 << 32), Timestamp(4_000)));
        assert!(redeemed.is_replay(Some(8 << 32), Timestamp(4_000)));
        assert!(redeemed.is_replay(Some(7 << 32), Timestamp(6_000)));
        assert!(redeemed.is_replay(None, Timestamp(1)));
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_let_the_rate_grow() {
        let mut family = TokenFamily::begin(&used(0, 1));
        family.record(&used(30 * 24 * HOUR, 1), true);
        for n in 1..=24 {
            family.record(&used(n * HOUR, 1), true);
        }
        assert!(family.rate_at(Timestamp(25 * HOUR)) < 1.0, "{family:?}");
        assert_eq!(family.last, Timestamp(24 * HOUR));
    }
}
