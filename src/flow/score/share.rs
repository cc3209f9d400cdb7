//! How many of the last requests had no score: what is watched, and what a policy may answer to. Requests over a limit of
//! their source are not counted, so that a source does not decide by itself what the others get.

use crate::domain::time::Timestamp;
use parking_lot::Mutex;

/// Seconds that are looked at.
const SECONDS: usize = 10;
/// Fewer requests than this within them say nothing.
const REQUESTS_MIN: u32 = 20;
/// The share in percent above which an alarm is raised.
pub const ALARM_PERCENT: u8 = 5;

/// The counts of the last seconds.
#[derive(Debug, Default)]
pub struct UnscoredShare(Mutex<[Second; SECONDS]>);

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    at: i64,
    requests: u32,
    unscored: u32,
}

impl UnscoredShare {
    /// One request was assessed.
    pub fn note(&self, now: Timestamp, is_unscored: bool) {
        let at = now.seconds();
        let mut seconds = self.0.lock();
        let place = usize::try_from(at.rem_euclid(SECONDS as i64)).unwrap_or_default();
        if let Some(second) = seconds.get_mut(place) {
            if second.at != at {
                *second = Second {
                    at,
                    ..Second::default()
                };
            }
            second.requests = second.requests.saturating_add(1);
            second.unscored = second.unscored.saturating_add(u32::from(is_unscored));
        }
    }

    /// The share in percent, rounded down; 0 where there are too few requests to tell.
    pub fn percent(&self, now: Timestamp) -> u8 {
        let now = now.seconds();
        let seconds = self.0.lock();
        let recent = seconds
            .iter()
            .filter(|second| second.at <= now && now - second.at < SECONDS as i64);
        let (requests, unscored) = recent.fold((0_u32, 0_u32), |(requests, unscored), second| {
            (
                requests.saturating_add(second.requests),
                unscored.saturating_add(second.unscored),
            )
        });
        if requests < REQUESTS_MIN {
            return 0;
        }
        let percent = u64::from(unscored) * 100 / u64::from(requests);
        u8::try_from(percent).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(second))
    }

    #[test]
    fn the_last_ten_seconds_count() {
        let share = UnscoredShare::default();
        for second in 0..5 {
            for request in 0..10 {
                share.note(at(second), request < 3);
            }
        }
        assert_eq!(share.percent(at(4)), 30);
        assert_eq!(share.percent(at(12)), 30, "two of five seconds are left");
        assert_eq!(share.percent(at(13)), 0, "ten requests say nothing");
        for _ in 0..30 {
            share.note(at(100), true);
        }
        assert_eq!(share.percent(at(100)), 100);
        // A clock that steps back neither panics nor counts what is to come.
        assert_eq!(share.percent(at(50)), 0);
    }
}
