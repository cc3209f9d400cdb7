//! The rows of the fault table, and the breaker of the state as the gateway's log tells it. `scripts/faults.sh` prints
//! the rows; what is asserted stands in the tests. A row has no place for logins that failed: one such login ends its test
//! before the row is printed.

use crate::gateway::World;
use crate::traffic::bar;
use riskgate::domain::audit::AuditEvent;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// Elsewhere than in `make faults` breakers turn sooner or later.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon the breaker must be open once every read fails: five reads of 15 ms, and what lies between two reads of a
/// few people who log in.
pub fn open_max() -> Duration {
    bar(Duration::from_secs(1), PATIENCE)
}

/// How soon it must be closed once the store is back: the longest pauses of the connection (1.5 s) and of the breaker
/// (1 s) one after the other, and the next login.
fn close_max() -> Duration {
    bar(Duration::from_secs(3), PATIENCE)
}

/// Lines of the log arrive a little later than what they tell: how often they are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of the scored requests of a while.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Logins that went through: one that does not ends its test.
    pub logins: usize,
    /// Scored requests.
    pub requests: usize,
    /// Of these, those that had to do without the state.
    pub stateless: usize,
    /// Of these, those without any score.
    pub unscored: usize,
    /// The time of each decision, ascending.
    pub decisions: Vec<Duration>,
}

/// When the breaker of the state opened and closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    /// From the beginning of the fault until it opened; `None` if it never did.
    pub opened: Option<Duration>,
    /// From the end of the fault until it closed; `None` if it was not open then.
    pub closed: Option<Duration>,
}

/// A moment, for what the test measures and for what the log says.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: SystemTime,
    own: Instant,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            own: Instant::now(),
        }
    }

    /// This much later.
    pub fn plus(self, time: Duration) -> Self {
        Self {
            wall: self.wall + time,
            own: self.own + time,
        }
    }

    /// The time since then.
    pub fn elapsed(self) -> Duration {
        self.own.elapsed()
    }
}

impl Tally {
    /// Of these records; only those of scored doors count.
    pub fn of<'a>(logins: usize, records: impl Iterator<Item = &'a AuditEvent>) -> Self {
        let mut tally = Self {
            logins,
            ..Self::default()
        };
        for record in records.filter(|record| record.door.is_some()) {
            tally.requests += 1;
            let mut reasons = record.reasons.iter();
            tally.stateless += usize::from(reasons.any(|reason| reason == "state_unavailable"));
            tally.unscored += usize::from(record.status.as_deref() == Some("unscored"));
            let decision = Duration::from_micros(record.timing.decision);
            tally.decisions.push(decision);
        }
        tally.decisions.sort();
        tally
    }

    /// The share of requests without state.
    pub fn stateless_share(&self) -> f64 {
        self.stateless as f64 / self.requests.max(1) as f64
    }

    /// The decision at or below which 99 of 100 lie.
    pub fn p99(&self) -> Duration {
        let place = (self.decisions.len() * 99).div_ceil(100).saturating_sub(1);
        self.decisions.get(place).copied().unwrap_or_default()
    }

    /// The slowest decision.
    pub fn slowest(&self) -> Duration {
        self.decisions.last().copied().unwrap_or_default()
    }

    /// Prints one row of the table, the breaker's times beside it.
    pub fn print(&self, name: &str, breaker: Breaker) {
        let percent =
            |part: usize| format!("{:.2} %", 100.0 * part as f64 / self.requests.max(1) as f64);
        let time =
            |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{time:.2?}"));
        eprintln!(
            "\nrow|{name}|{}|{}|{:.1?}|{:.1?}|{}|{}|{}|{}",
            self.logins,
            self.requests,
            self.p99(),
            self.slowest(),
            percent(self.unscored),
            percent(self.stateless),
            time(breaker.opened),
            time(breaker.closed),
        );
    }
}

/// What the breaker did about a fault from `began` to `ended`. Waits for the log.
pub async fn breaker(world: &World, began: Moment, ended: Option<Moment>) -> Breaker {
    let turns = all_turns(world).await;
    let after = |moment: Moment, is_open: bool| {
        let mut later = turns
            .iter()
            .filter(|(time, open)| *time >= moment.wall && *open == is_open);
        later
            .next()
            .and_then(|(time, _)| time.duration_since(moment.wall).ok())
    };
    let was_open = |moment: Moment| {
        let before = turns.iter().rfind(|(time, _)| *time < moment.wall);
        before.is_some_and(|(_, open)| *open)
    };
    Breaker {
        opened: after(began, true),
        closed: ended
            .filter(|ended| was_open(*ended))
            .and_then(|ended| after(ended, false)),
    }
}

/// The same for a fault that must open it, and that is over: both in time.
pub async fn opened_and_closed(world: &World, name: &str, began: Moment, ended: Moment) -> Breaker {
    // What is scored again was read by a breaker that closes with it; the log is written a little later.
    let end = Instant::now() + PATIENCE;
    let mut found = breaker(world, began, Some(ended)).await;
    while (found.opened.is_none() || found.closed.is_none()) && Instant::now() < end {
        found = breaker(world, began, Some(ended)).await;
    }
    let in_time = |time: Option<Duration>, max| time.is_some_and(|time| time <= max);
    assert!(in_time(found.opened, open_max()), "{name}: {found:?}");
    assert!(in_time(found.closed, close_max()), "{name}: {found:?}");
    found
}

/// The turns in the log, once it has all that the metrics count.
async fn all_turns(world: &World) -> Vec<(SystemTime, bool)> {
    let end = Instant::now() + PATIENCE;
    loop {
        let state = ("dependency", "state");
        let closings = [state, ("to", "closed")];
        let closings = world
            .metric("riskgate_breaker_transitions_total", &closings)
            .await;
        let is_closed = world.metric("riskgate_breaker_state", &[state]).await < 0.5;
        // Only what opens it out of `closed` is a line: once for each closing, and once more while it is not closed.
        let openings = closings + f64::from(u8::from(!is_closed));
        let turns = turns(world);
        let told = |is_open| turns.iter().filter(|(_, open)| *open == is_open).count() as f64;
        if told(true) >= openings && told(false) >= closings {
            return turns;
        }
        assert!(
            Instant::now() < end,
            "{openings} openings and {closings} closings are counted, and the log tells {turns:?}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// When the breaker of the state opened (`true`) and closed.
fn turns(world: &World) -> Vec<(SystemTime, bool)> {
    let log = world.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("dependency=\"state\""));
    let turns = lines.filter_map(|line| {
        let is_open = line.contains("doing without");
        if !is_open && !line.contains("calls flow again") {
            return None;
        }
        let time: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
        Some((SystemTime::from(time), is_open))
    });
    turns.collect()
}
