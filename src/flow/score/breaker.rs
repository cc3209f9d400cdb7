//! A circuit breaker as a state machine. `Closed` means that calls flow. Time is an argument, so that every transition
//! is tested without waiting.

use parking_lot::Mutex;
use serde::Deserialize;
use std::time::Duration;
use std::time::Instant;

/// When a breaker opens and how it probes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Consecutive failures that open it.
    pub failures: u32,
    /// Milliseconds for which it stays open before one call may probe. Doubles once, with a failed probe.
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

/// Told about each change: the state before it and the one after.
pub type Listener = Box<dyn Fn(BreakerState, BreakerState) + Send + Sync>;

/// A breaker.
pub struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
    listener: Option<Listener>,
}

#[derive(Debug)]
enum Inner {
    Closed { failures: u32 },
    Open { until: Instant, wait: Duration },
    HalfOpen { since: Instant, wait: Duration },
}

impl BreakerState {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Breaker({:?}, {:?})", self.settings, self.state())
    }
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
            listener: None,
        }
    }

    /// The same breaker, telling `listener` about every change, on the thread of the call that made it.
    pub fn telling(self, listener: Listener) -> Self {
        Self {
            listener: Some(listener),
            ..self
        }
    }

    /// Whether a call may be made at `now`. In the half-open state exactly one caller gets `true`; a probe of which
    /// nothing was heard for the opening time gives its place to another.
    pub fn admit(&self, now: Instant) -> bool {
        self.change(|inner| match *inner {
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
        })
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        self.change(|inner| match *inner {
            // A straggler from before the opening proves nothing about now.
            Inner::Open { .. } => {}
            Inner::Closed { .. } | Inner::HalfOpen { .. } => *inner = Inner::Closed { failures: 0 },
        });
    }

    /// A call failed at `now`.
    pub fn failed(&self, now: Instant) {
        // With the pauses of a store's connection this keeps the way back under three seconds.
        const BACKOFF_FACTOR_MAX: u32 = 2;
        let first_wait = Duration::from_millis(self.settings.open_ms.max(1));
        self.change(|inner| match *inner {
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
        });
    }

    /// The state at this moment.
    pub fn state(&self) -> BreakerState {
        self.inner.lock().state()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let before = inner.state();
        let result = change(&mut inner);
        let after = inner.state();
        drop(inner);
        if before != after
            && let Some(listener) = &self.listener
        {
            listener(before, after);
        }
        result
    }
}

impl Inner {
    fn state(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
            Self::Open { .. } => BreakerState::Open,
        }
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
            wait = (wait * 2).min(200);
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

    #[test]
    fn every_change_is_told_once() {
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let listener = std::sync::Arc::clone(&told);
        let (breaker, now) = breaker();
        let breaker = breaker.telling(Box::new(move |before, after| {
            listener.lock().push((before, after));
        }));
        breaker.succeeded();
        (0..5).for_each(|_| breaker.failed(now));
        let later = now + Duration::from_millis(100);
        assert!(breaker.admit(later));
        breaker.failed(later);
        assert!(breaker.admit(later + Duration::from_millis(200)));
        breaker.succeeded();
        breaker.succeeded();
        use BreakerState::Closed;
        use BreakerState::HalfOpen;
        use BreakerState::Open;
        let expected = [
            (Closed, Open),
            (Open, HalfOpen),
            (HalfOpen, Open),
            (Open, HalfOpen),
            (HalfOpen, Closed),
        ];
        assert_eq!(*told.lock(), expected);
    }
}
