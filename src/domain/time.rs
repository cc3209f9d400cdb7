//! Instants and spans as values. Nothing here reads a clock: `now` is always an argument.

use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;
use std::time::Instant;

/// Wall-clock time in milliseconds since the Unix epoch (UTC). For records, signatures and history; durations on the
/// request path are measured with [`Deadline`], which a clock step cannot move.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

/// Clocks of nodes may differ by this much. A moment that is further ahead of now was written by a clock that has been set back
/// since: what follows from it must not stand still until the clock is there again.
pub const AHEAD_MAX: Duration = Duration::from_secs(600);

/// Whether a wall clock has gone evenly of late, held to the monotonic one: one that is wrong after a start is mostly set right
/// within minutes, and nothing should be removed for good by what it says until then. One that stands still or goes back removes
/// nothing too early.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steadiness(Option<(Timestamp, Instant)>);

/// The moment by which something must have ended, on the monotonic clock.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Deadline(Instant);

impl Timestamp {
    /// Milliseconds since the epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time that passed since `earlier`; zero when the clock went backwards.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whether it is of a clock that was ahead of `now`: see [`AHEAD_MAX`].
    pub fn is_ahead_of(self, now: Timestamp) -> bool {
        self.since(now) > AHEAD_MAX
    }

    /// This moment, or `now` where it is of a clock that was ahead.
    pub fn not_ahead_of(self, now: Timestamp) -> Timestamp {
        if self.is_ahead_of(now) { now } else { self }
    }

    /// This moment moved by `span`.
    pub fn plus(self, span: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The hour of the day in UTC, 0 to 23.
    pub fn hour_of_day(self) -> usize {
        usize::try_from(self.0.div_euclid(3_600_000).rem_euclid(24)).unwrap_or(0)
    }

    /// The day of the week in UTC: 1 is Monday, 7 is Sunday (ISO 8601).
    pub fn weekday(self) -> u8 {
        // The epoch was a Thursday.
        u8::try_from((self.0.div_euclid(86_400_000) + 3).rem_euclid(7) + 1).unwrap_or(1)
    }

    /// Whether it is a Saturday or a Sunday in UTC.
    pub fn is_weekend(self) -> bool {
        self.weekday() >= 6
    }

    /// RFC 3339 in UTC with milliseconds. Times beyond the year 9999 are cut to it.
    pub fn to_rfc3339(self) -> String {
        let bounded = self.0.clamp(
            jiff::Timestamp::MIN.as_second() * 1000,
            jiff::Timestamp::MAX.as_second() * 1000,
        );
        let moment = jiff::Timestamp::from_millisecond(bounded).unwrap_or_default();
        format!("{moment:.3}")
    }

    /// The moment that an RFC 3339 text names.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let moment: jiff::Timestamp = text.parse().ok()?;
        Some(Self(moment.as_millisecond()))
    }
}

impl Steadiness {
    /// Whether the clock, which says `now`, has been looked at for `span` and has not leapt ahead within it.
    pub fn holds(&mut self, now: Timestamp, instant: Instant, span: Duration) -> bool {
        let (began, since) = *self.0.get_or_insert((now, instant));
        let passed = instant.saturating_duration_since(since);
        if now.is_ahead_of(began.plus(passed)) {
            self.0 = Some((now, instant));
            return span.is_zero();
        }
        passed >= span
    }
}

impl Deadline {
    /// The moment `budget` after `start`.
    pub fn after(start: Instant, budget: Duration) -> Self {
        Self(start.checked_add(budget).unwrap_or(start))
    }

    /// The moment itself.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left at `now`; zero when it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_span() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
        assert_eq!(
            Timestamp(9_000).since(Timestamp(5_000)),
            Duration::from_secs(4)
        );
    }

    #[test]
    fn a_clock_that_leaps_ahead_is_believed_once_it_goes_evenly() {
        let (begin, minute) = (Instant::now(), Duration::from_secs(60));
        let mut steadiness = Steadiness::default();
        let mut is_steady = |minutes: u32, ahead: u32| {
            let now = Timestamp(0).plus((minutes + ahead) * minute);
            steadiness.holds(now, begin + minutes * minute, 60 * minute)
        };
        assert!(!is_steady(0, 0) && !is_steady(59, 0) && is_steady(60, 0));
        // Not of a leap that has been set back when it is looked at, nor of a clock that is only a little ahead.
        assert!(is_steady(70, 10));
        assert!(!is_steady(80, 4 * 1_440) && !is_steady(139, 4 * 1_440));
        assert!(is_steady(140, 4 * 1_440));
        // Back again it removes nothing too early.
        assert!(is_steady(141, 0));
        assert!(!is_steady(142, 5 * 1_440));
        assert!(Steadiness::default().holds(Timestamp(0), begin, Duration::ZERO));
    }

    #[test]
    fn dates_are_right() {
        assert_eq!(Timestamp(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Timestamp(951_782_400_123).to_rfc3339(),
            "2000-02-29T00:00:00.123Z"
        );
        assert_eq!(
            Timestamp(1_795_651_199_999).to_rfc3339(),
            "2026-11-25T23:59:59.999Z"
        );
        assert_eq!(Timestamp(-1).to_rfc3339(), "1969-12-31T23:59:59.999Z");
        assert!(
            Timestamp(i64::MAX).to_rfc3339().starts_with("9999-12-"),
            "{}",
            Timestamp(i64::MAX).to_rfc3339()
        );
    }

    #[test]
    fn weekdays_are_iso() {
        assert_eq!(Timestamp(0).weekday(), 4);
        assert_eq!(Timestamp(1_795_651_199_999).weekday(), 3);
        let day = |n: i64| Timestamp(n * 86_400_000);
        assert_eq!(
            [1, 2, 3, 4].map(|n| day(n).is_weekend()),
            [false, true, true, false]
        );
    }

    #[test]
    fn hours_are_of_the_day() {
        assert_eq!(Timestamp(0).hour_of_day(), 0);
        assert_eq!(Timestamp(25 * 3_600_000).hour_of_day(), 1);
        assert_eq!(Timestamp(-3_600_000).hour_of_day(), 23);
    }
}
