//! How a service account usually asks for tokens: its rate, its scopes. Learnt from confirmed requests only, so that who
//! merely tries with its name does not move it. What is *learnt* moves only with requests that were low-risk; the rate
//! and the moment of the last request are *counted* with every confirmed one, since they can only raise the risk.

use crate::domain::history::KnownValues;
use crate::domain::history::decayed;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::signals::network::NetworkKind;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// Half-life of the rate that is compared with the habit.
pub const CLIENT_RATE_HALF_LIFE: Duration = Duration::from_secs(5 * 60);
/// Half-life of the habit: mean and variance of the rate over time.
pub const CLIENT_HABIT_HALF_LIFE: Duration = Duration::from_secs(2 * 24 * 3600);
/// Half-life of the rate that shows what a burst of minutes does not: how much is drawn over an hour.
pub const CLIENT_VOLUME_HALF_LIFE: Duration = Duration::from_secs(3600);
/// Half-life of the highest rates seen.
pub const CLIENT_PEAK_HALF_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The highest rates count as usual from the next stretch of this length on.
const STRETCH: Duration = Duration::from_secs(12 * 3600);
/// Scopes of one request that are learnt.
pub const SCOPES_MAX: usize = 12;
/// Requests from which on a baseline says something, unless it is a day old.
const SETTLED_REQUESTS: u64 = 5;
/// The age at which a baseline says something, however few requests it has seen.
const SETTLED_AGE: Duration = Duration::from_secs(24 * 3600);
/// How much the latest gap weighs in the usual one.
const GAP_WEIGHT: f32 = 0.05;
/// Requests per hour of the day are halved when one hour reaches this: habits change.
const HOUR_MAX: u16 = 4_096;

/// One confirmed request of a client for itself (RFC 6749 section 4.4), as its baseline learns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientUse {
    /// The client.
    pub client: SubjectKey,
    /// When it happened.
    pub at: Timestamp,
    /// The scopes it asked for, at most [`SCOPES_MAX`].
    pub scopes: Vec<ValueHash>,
    /// The /24 or /48 that it came from.
    pub prefix: Option<ValueHash>,
    /// The TLS fingerprint.
    pub tls: Option<ValueHash>,
    /// The kind of network.
    pub network: Option<NetworkKind>,
    /// Whether it was low-risk. One that was not counts towards the rate and nothing else.
    pub learns: bool,
}

/// The highest value of something, in two steps: what is going on now does not become its own measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Highest {
    /// Of the stretches of time before the present one; 0 while there is none. Decays with [`CLIENT_PEAK_HALF_LIFE`] from
    /// the beginning of the present one.
    pub usual: f32,
    /// Of the present stretch.
    pub current: f32,
}

/// What is usual for one client.
///
/// The mean weighs by time and not by request: a client that sleeps at night has a low mean and a large variance. Each
/// gap between two requests enters with the average that the decaying rate had over it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientBaseline {
    /// Learnt requests.
    pub requests: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The latest confirmed request: the moment to which the numbers have been brought.
    pub last: Timestamp,
    /// Requests, decayed with [`CLIENT_RATE_HALF_LIFE`].
    pub rate: f32,
    /// The mean of the rate over time, with [`CLIENT_HABIT_HALF_LIFE`].
    pub mean: f32,
    /// The mean of its square.
    pub mean_square: f32,
    /// The highest learnt rate.
    pub peak: Highest,
    /// Requests, decayed with [`CLIENT_VOLUME_HALF_LIFE`].
    pub volume: f32,
    /// The highest learnt volume.
    pub volume_peak: Highest,
    /// When the present stretch of [`STRETCH`] began, by which the highest values are told apart.
    pub stretch: Timestamp,
    /// Scopes it was given, with their ages.
    pub scopes: KnownValues,
    /// The /24 or /48 that it came from.
    pub prefixes: KnownValues,
    /// TLS fingerprints.
    pub tls: KnownValues,
    /// Since when it has come from each kind of network, in ascending order of suspicion.
    pub networks: [Option<Timestamp>; 4],
    /// The mean of the logs of the gaps between requests, in seconds.
    pub gap: f32,
    /// Learnt requests per hour of the day (UTC) from Monday to Friday.
    pub weekdays: [u16; 24],
    /// The same on Saturdays and Sundays.
    pub weekends: [u16; 24],
}

impl ClientBaseline {
    /// The baseline after one more confirmed request. One that is reported late counts as if it had just happened.
    pub fn learn(&mut self, used: &ClientUse) {
        if self.last == Timestamp::default() {
            self.first = used.at;
            self.last = used.at;
            self.stretch = used.at;
        }
        self.set_back(used.at);
        let (rate, volume) = (self.rate_at(used.at), self.volume_at(used.at));
        if used.learns {
            self.mean_square = self.mean_square_at(used.at);
            self.mean = self.mean_at(used.at);
            self.learn_habits(used);
        }
        self.rate = rate + 1.0;
        self.volume = volume + 1.0;
        if used.learns {
            self.learn_highest(used.at);
        }
        self.last = self.last.max(used.at);
    }

    /// Brings what is of a clock that was ahead of `at` back to it: nothing would decay before the clock is there again.
    fn set_back(&mut self, at: Timestamp) {
        if !self.last.is_ahead_of(at) {
            return;
        }
        let moments = [&mut self.first, &mut self.last, &mut self.stretch];
        for moment in moments
            .into_iter()
            .chain(self.networks.iter_mut().flatten())
        {
            *moment = at.min(*moment);
        }
        for known in [&mut self.scopes, &mut self.prefixes, &mut self.tls] {
            known.set_back(at);
        }
    }

    fn learn_highest(&mut self, at: Timestamp) {
        let age = at.since(self.stretch);
        for (highest, value) in [
            (&mut self.peak, self.rate),
            (&mut self.volume_peak, self.volume),
        ] {
            if age >= STRETCH {
                highest.usual = highest.usual_after(age);
                highest.current = 0.0;
            }
            highest.current = highest.current.max(value);
        }
        if age >= STRETCH {
            self.stretch = at;
        }
    }

    fn learn_habits(&mut self, used: &ClientUse) {
        if self.requests == 0 {
            self.first = used.at;
        } else {
            let gap = log_gap(self.last, used.at);
            self.gap = if self.requests == 1 {
                gap
            } else {
                self.gap + GAP_WEIGHT * (gap - self.gap)
            };
        }
        self.requests = self.requests.saturating_add(1);
        for scope in used.scopes.iter().take(SCOPES_MAX) {
            self.scopes.learn(*scope, used.at);
        }
        for (known, value) in [(&mut self.prefixes, used.prefix), (&mut self.tls, used.tls)] {
            if let Some(value) = value {
                known.learn(value, used.at);
            }
        }
        if let Some(since) = used
            .network
            .and_then(|kind| self.networks.get_mut(kind as usize))
        {
            since.get_or_insert(used.at);
        }
        let hours = if used.at.is_weekend() {
            &mut self.weekends
        } else {
            &mut self.weekdays
        };
        if let Some(hour) = hours.get_mut(used.at.hour_of_day()) {
            *hour = hour.saturating_add(1);
            if *hour >= HOUR_MAX {
                hours.iter_mut().for_each(|count| *count /= 2);
            }
        }
    }

    /// Whether enough is known to call something new.
    pub fn is_settled(&self, now: Timestamp) -> bool {
        self.requests >= SETTLED_REQUESTS
            || (self.requests > 0 && now.since(self.first) >= SETTLED_AGE)
    }

    /// Since when the account has come from this kind of network.
    pub fn network_since(&self, kind: NetworkKind) -> Option<Timestamp> {
        self.networks.get(kind as usize).copied().flatten()
    }

    /// The requests per hour of a day like that of `now`.
    pub fn hours_like(&self, now: Timestamp) -> &[u16; 24] {
        if now.is_weekend() {
            &self.weekends
        } else {
            &self.weekdays
        }
    }

    /// By how much the log of the time since the last request is below that of the usual gap; 0 when it is above.
    pub fn haste_at(&self, now: Timestamp) -> f32 {
        (self.gap - log_gap(self.last, now)).max(0.0)
    }

    /// The log of how the rate, this request included, stands to the usual highest one; `None` while none is known.
    pub fn rate_ratio_at(&self, now: Timestamp) -> Option<f32> {
        let usual = self.peak.usual_after(now.since(self.stretch));
        (usual > 0.0).then(|| ((self.rate_at(now) + 1.0) / (usual + 1.0)).ln())
    }

    /// The same for the volume.
    pub fn volume_ratio_at(&self, now: Timestamp) -> Option<f32> {
        let usual = self.volume_peak.usual_after(now.since(self.stretch));
        (usual > 0.0).then(|| ((self.volume_at(now) + 1.0) / (usual + 1.0)).ln())
    }

    /// The rate at `now`.
    pub fn rate_at(&self, now: Timestamp) -> f32 {
        decayed(self.rate, now.since(self.last), CLIENT_RATE_HALF_LIFE)
    }

    /// The volume at `now`.
    pub fn volume_at(&self, now: Timestamp) -> f32 {
        decayed(self.volume, now.since(self.last), CLIENT_VOLUME_HALF_LIFE)
    }

    /// The mean rate at `now`.
    pub fn mean_at(&self, now: Timestamp) -> f32 {
        self.over_gap(self.mean, self.rate, CLIENT_RATE_HALF_LIFE, now)
    }

    /// The variance of the rate at `now`.
    pub fn variance_at(&self, now: Timestamp) -> f32 {
        (self.mean_square_at(now) - self.mean_at(now).powi(2)).max(0.0)
    }

    /// By how many standard deviations the rate at `now` is above the mean. A deviation of less than one request is
    /// taken as one, so that a quiet client may send a second request.
    pub fn excess_at(&self, now: Timestamp) -> f32 {
        (self.rate_at(now) - self.mean_at(now)) / self.variance_at(now).sqrt().max(1.0)
    }

    fn mean_square_at(&self, now: Timestamp) -> f32 {
        // The square of a rate that halves in five minutes halves in two and a half.
        let half = CLIENT_RATE_HALF_LIFE / 2;
        self.over_gap(self.mean_square, self.rate.powi(2), half, now)
    }

    /// The running mean of something that stood at `value` at the last request and has halved every `half_life` since.
    fn over_gap(&self, mean: f32, value: f32, half_life: Duration, now: Timestamp) -> f32 {
        let gap = now.since(self.last);
        if gap.is_zero() {
            return mean;
        }
        let lives = gap.as_secs_f32() / half_life.as_secs_f32();
        let average = value * (1.0 - (-lives).exp2()) / (lives * std::f32::consts::LN_2);
        let kept = decayed(1.0, gap, CLIENT_HABIT_HALF_LIFE);
        mean * kept + average * (1.0 - kept)
    }
}

impl Highest {
    /// What is usual when the present stretch began `age` ago: when it is over, what it has shown as well.
    pub fn usual_after(&self, age: Duration) -> f32 {
        let before = decayed(self.usual, age, CLIENT_PEAK_HALF_LIFE);
        if age >= STRETCH {
            before.max(self.current)
        } else {
            before
        }
    }
}

/// The log of the seconds between two moments, of one second at least.
fn log_gap(from: Timestamp, to: Timestamp) -> f32 {
    to.since(from).as_secs_f32().max(1.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Pseudonym;

    const MINUTE: i64 = 60_000;

    fn used(minute: i64, scopes: &[ValueHash]) -> ClientUse {
        ClientUse {
            client: SubjectKey(Pseudonym::from_bytes([1; 16])),
            at: Timestamp(minute * MINUTE),
            scopes: scopes.to_vec(),
            prefix: None,
            tls: None,
            network: None,
            learns: true,
        }
    }

    #[test]
    fn a_steady_client_is_at_its_mean() {
        let mut baseline = ClientBaseline::default();
        for minute in 0..14 * 24 * 60 {
            baseline.learn(&used(minute, &[1]));
        }
        let now = Timestamp(14 * 24 * 60 * MINUTE);
        // Once a minute with a half-life of five: 5 / ln 2 = 7.2 on average.
        assert!((6.5..7.5).contains(&baseline.mean_at(now)), "{baseline:?}");
        assert!(baseline.excess_at(now).abs() < 1.0);
        assert!(baseline.variance_at(now) < 1.0);
        // The same client, a hundred times as busy for five minutes.
        for n in 0..500 {
            baseline.learn(&used(14 * 24 * 60 + 30 + n / 100, &[1]));
        }
        assert!(baseline.excess_at(baseline.last) > 50.0);
        assert!(baseline.peak.current > 300.0);
        // The burst is not its own measure, neither by minutes nor by the hour.
        let now = baseline.last;
        assert!(baseline.rate_ratio_at(now).unwrap() > 3.0);
        assert!(baseline.volume_ratio_at(now).unwrap() > 1.5);
        let later = now.plus(STRETCH);
        baseline.learn(&ClientUse {
            at: later,
            ..used(0, &[1])
        });
        assert!(baseline.rate_ratio_at(later).unwrap() < -3.0);
    }

    #[test]
    fn nothing_is_usual_on_the_first_day() {
        let mut baseline = ClientBaseline::default();
        for minute in 0..11 * 60 {
            baseline.learn(&used(minute, &[1]));
        }
        assert_eq!(baseline.rate_ratio_at(baseline.last), None);
        assert_eq!(baseline.volume_ratio_at(baseline.last), None);
        let next = Timestamp(MINUTE).plus(STRETCH);
        assert!(baseline.volume_ratio_at(next).unwrap() < 0.0);
    }

    #[test]
    fn a_nightly_job_has_a_low_mean_and_a_high_peak() {
        let mut baseline = ClientBaseline::default();
        for day in 0..10 {
            for n in 0..60 {
                baseline.learn(&used(day * 24 * 60 + n / 20, &[1]));
            }
        }
        assert!(baseline.mean < 2.0, "{baseline:?}");
        assert!(baseline.peak.usual > 50.0, "{baseline:?}");
    }

    #[test]
    fn late_and_many_are_bounded() {
        let mut baseline = ClientBaseline::default();
        let scopes: Vec<ValueHash> = (0..1_000).map(|n| n << 32).collect();
        baseline.learn(&used(100, &scopes));
        baseline.learn(&used(95, &[7 << 32]));
        assert_eq!(baseline.last, Timestamp(100 * MINUTE));
        assert_eq!(baseline.scopes.iter().count(), SCOPES_MAX);
        assert_eq!(baseline.scopes.count(7 << 32), 2);
        assert!((baseline.rate - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_let_the_rate_grow() {
        const DAY: i64 = 24 * 60;
        let mut baseline = ClientBaseline::default();
        for minute in 0..3 * DAY {
            baseline.learn(&used(minute, &[1]));
        }
        let (usual, highest) = (baseline.rate, baseline.peak.usual);
        baseline.learn(&used(30 * DAY, &[1]));
        for minute in 3 * DAY..4 * DAY {
            baseline.learn(&used(minute, &[1]));
        }
        let now = Timestamp(4 * DAY * MINUTE);
        assert_eq!(baseline.last, Timestamp((4 * DAY - 1) * MINUTE));
        assert!(baseline.rate_at(now) < usual + 1.0, "{baseline:?}");
        assert!(baseline.peak.current < highest + 2.0, "{baseline:?}");
        assert!(baseline.rate_ratio_at(now).unwrap() < 0.5, "{baseline:?}");
    }
}
