//! A circuit breaker as a state machine. `Closed` means that calls flow. Time is an argument, so that every transition
//! is tested without waiting.

use serde::Deserialize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// When a breaker opens and how it probes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Consecutive failures that open it.
    pub failures: u32,
    /// Milliseconds for which it stays open before one call may probe. Doubles with every failed probe, up to ten times.
    pub open_ms: u64,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BreakerState {
    /// Calls flow.
    Closed,
    /// One call probes, the others are held back.
    HalfOpen,
    /// No call flows.
    Open,
}

/// A breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
enum Inner {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration },
    HalfOpen { since: Instant, wait: Duration },
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            open_ms: 500,
        }
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            inner: Mutex::new(Inner::Closed { failures: 0 }),
        }
    }

    /// Whether a call may be made at `now`. In the half-open state exactly one caller gets `true`; a probe of which
    /// nothing was heard for the opening time gives its place to another.
    pub fn admit(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        match *inner {
            Inner::Closed { .. } => true,
            Inner::Open { until, wait } if now >= until => {
                *inner = Inner::HalfOpen { since: now, wait };
                true
            }
            Inner::Open { .. } => false,
            Inner::HalfOpen { since, wait } if now.saturating_duration_since(since) >= wait => {
                *inner = Inner::HalfOpen { since: now, wait };
                true
            }
            Inner::HalfOpen { .. } => false,
        }
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        let mut inner = self.lock();
        match *inner {
            // A straggler from before the opening proves nothing about now.
            Inner::Open { .. } => {}
            Inner::Closed { .. } | Inner::HalfOpen { .. } => *inner = Inner::Closed { failures: 0 },
        }
    }

    /// A call failed at `now`.
    pub fn failed(&self, now: Instant) {
        const BACKOFF_FACTOR_MAX: u32 = 10;
        let first_wait = Duration::from_millis(self.settings.open_ms.max(1));
        let mut inner = self.lock();
        match *inner {
            Inner::Closed { failures } => {
                let failures = failures.saturating_add(1);
                *inner = if failures >= self.settings.failures {
                    Inner::Open {
                        until: now + first_wait,
                        wait: first_wait,
                    }
                } else {
                    Inner::Closed { failures }
                };
            }
            Inner::HalfOpen { wait, .. } => {
                let wait = (wait * 2).min(first_wait * BACKOFF_FACTOR_MAX);
                *inner = Inner::Open {
                    until: now + wait,
                    wait,
                };
            }
            Inner::Open { .. } => {}
        }
    }

    /// The state at this moment.
    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::HalfOpen { .. } => BreakerState::HalfOpen,
            Inner::Open { .. } => BreakerState::Open,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        (
            Breaker::new(BreakerSettings {
                failures: 3,
                open_ms: 100,
            }),
            Instant::now(),
        )
    }

    #[test]
    fn it_opens_after_consecutive_failures() {
        let (breaker, now) = breaker();
        breaker.failed(now);
        breaker.failed(now);
        breaker.succeeded();
        breaker.failed(now);
        breaker.failed(now);
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.failed(now);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.admit(now + Duration::from_millis(99)));
    }

    #[test]
    fn one_call_probes() {
        let (breaker, now) = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        let later = now + Duration::from_millis(100);
        assert!(breaker.admit(later));
        assert!(!breaker.admit(later));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn failed_probes_wait_longer_up_to_a_bound() {
        let (breaker, mut now) = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        let mut wait = 100;
        for _ in 0..8 {
            now += Duration::from_millis(wait);
            assert!(breaker.admit(now), "after {wait} ms");
            breaker.failed(now);
            wait = (wait * 2).min(1_000);
            assert!(!breaker.admit(now + Duration::from_millis(wait - 1)));
        }
    }

    #[test]
    fn a_lost_probe_gives_its_place_away() {
        let (breaker, now) = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        let later = now + Duration::from_millis(100);
        assert!(breaker.admit(later));
        assert!(breaker.admit(later + Duration::from_millis(100)));
    }
}
