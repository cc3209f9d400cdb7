//! The clocks of the operating system: the one place that reads them.

use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// Reads the system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}
