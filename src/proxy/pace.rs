//! The time in which a client has to show something: the head of its request, then its body at no less than a least
//! rate. Pingora's own timeouts begin anew with every byte; these do not.

use crate::proxy::places::Places;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes per second below which a body that is passed on is given up, once its first allowance is used.
const BODY_RATE_MIN: u64 = 1_024;
/// What an idle connection, or one without its first head, has while places are scarce.
const SCARCE: Duration = Duration::from_secs(2);
/// A body that comes too slowly is refused with an answer when its next piece comes; where none comes, the exchange ends
/// without one this much later.
const BODY_GRACE: Duration = Duration::from_secs(1);
/// How often it is looked whether the deadline has moved. Who waits for a head beyond that is not looked at any more until
/// something happens: of connections that are idle there may be many.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const NONE: u64 = u64::MAX;
const MICROS: u64 = 1_000_000;

const FIRST_HEAD: u8 = 0;
const NEXT_HEAD: u8 = 1;
const SERVING: u8 = 2;
const BODY: u8 = 3;
const OUT: u8 = 4;

tokio::task_local! {
    static PACE: Arc<Pace>;
}

/// Where one exchange is, and until when it may be there.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// Microseconds since then.
    deadline: AtomicU64,
    phase: AtomicU8,
}

impl Pace {
    /// Waits for a head: the first one of a connection, or another one on a connection that was kept.
    pub fn of_head(is_first: bool, allowed: Duration) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            deadline: AtomicU64::new(micros(allowed)),
            phase: AtomicU8::new(if is_first { FIRST_HEAD } else { NEXT_HEAD }),
        })
    }

    /// The pace of the exchange that this task serves, whose head is there.
    pub fn of_this_exchange() -> Option<Arc<Self>> {
        let pace = PACE.try_with(Arc::clone).ok()?;
        pace.deadline.store(NONE, Ordering::Relaxed);
        pace.phase.store(SERVING, Ordering::Relaxed);
        Some(pace)
    }

    /// The body begins, and has `allowed` and what its bytes add to it.
    pub fn body_begins(&self, allowed: Duration) {
        let now = micros(self.began.elapsed());
        self.deadline
            .store(now.saturating_add(micros(allowed)), Ordering::Relaxed);
        self.phase.store(BODY, Ordering::Relaxed);
    }

    /// Some of the body has come. False when it should have come earlier.
    pub fn body_came(&self, bytes: usize, allowed: Duration) -> bool {
        if self.phase.load(Ordering::Relaxed) != BODY {
            self.body_begins(allowed);
        }
        let now = micros(self.began.elapsed());
        let deadline = self.deadline.load(Ordering::Relaxed);
        let more = (bytes as u64).saturating_mul(MICROS) / BODY_RATE_MIN;
        self.deadline
            .store(deadline.saturating_add(more), Ordering::Relaxed);
        now <= deadline
    }

    /// All of the body has come.
    pub fn body_ended(&self) {
        self.deadline.store(NONE, Ordering::Relaxed);
        self.phase.store(SERVING, Ordering::Relaxed);
    }

    /// Whether the exchange was given up.
    pub fn is_out(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == OUT
    }

    /// Runs an exchange to its end, or gives it up: `Err` names what did not come.
    pub async fn keep<T>(
        self: Arc<Self>,
        places: &Places,
        exchange: impl Future<Output = T>,
    ) -> Result<T, &'static str> {
        let watched = Arc::clone(&self);
        tokio::select! {
            biased;
            result = PACE.scope(self, exchange) => Ok(result),
            missing = watched.runs_out(places) => Err(missing),
        }
    }

    async fn runs_out(&self, places: &Places) -> &'static str {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut has_waited = false;
        loop {
            // Before the look at the deadline, so that nothing is told in between.
            let scarcity = has_waited.then(|| places.scarcity());
            let Some(left) = self.left(places) else {
                return match self.phase.swap(OUT, Ordering::Relaxed) {
                    FIRST_HEAD => "head",
                    NEXT_HEAD => "idle",
                    _ => "body",
                };
            };
            let now = Instant::now();
            match scarcity {
                Some(scarcity) if self.waits_for_head() => {
                    sleep.as_mut().reset(now + left);
                    tokio::select! {
                        biased;
                        () = self.head_came() => {}
                        () = sleep.as_mut() => {}
                        () = scarcity => {}
                    }
                }
                _ => {
                    sleep.as_mut().reset(now + left.min(LOOK_EVERY));
                    sleep.as_mut().await;
                }
            }
            has_waited = true;
        }
    }

    fn waits_for_head(&self) -> bool {
        matches!(self.phase.load(Ordering::Relaxed), FIRST_HEAD | NEXT_HEAD)
    }

    /// Ready once the head is there. The exchange runs in the same task and before this: it is looked whenever that did.
    async fn head_came(&self) {
        std::future::poll_fn(|_| match self.waits_for_head() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }

    /// How long it may take yet; `None` when the time is over.
    fn left(&self, places: &Places) -> Option<Duration> {
        let mut deadline = self.deadline.load(Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            FIRST_HEAD | NEXT_HEAD if places.are_scarce() => {
                deadline = deadline.min(micros(SCARCE))
            }
            BODY => deadline = deadline.saturating_add(micros(BODY_GRACE)),
            _ => {}
        }
        let left = deadline.saturating_sub(micros(self.began.elapsed()));
        (left > 0).then(|| Duration::from_micros(left))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NONE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;
    use std::future::pending;

    fn places() -> Arc<Places> {
        Places::new(5, 0, Arc::new(Metrics::new().unwrap()))
    }

    const SECOND: Duration = Duration::from_secs(1);

    async fn given_up(pace: Arc<Pace>, places: &Places) -> (&'static str, u64) {
        let start = Instant::now();
        let missing = pace.keep(places, pending::<()>()).await.unwrap_err();
        (missing, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_and_less_when_places_are_scarce() {
        let room = places();
        let first = Pace::of_head(true, 10 * SECOND);
        assert_eq!(given_up(first, &room).await, ("head", 10));
        let next = Pace::of_head(false, 30 * SECOND);
        assert_eq!(given_up(next, &room).await, ("idle", 30));
        let _held: Vec<_> = (0..4).map(|_| room.take(None).unwrap()).collect();
        let next = Pace::of_head(false, 30 * SECOND);
        assert_eq!(given_up(next, &room).await, ("idle", 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_is_left_alone_until_places_are_scarce() {
        let room = places();
        let mut looks = 0;
        let exchange = std::future::poll_fn(|_| {
            looks += 1;
            Poll::<()>::Pending
        });
        let start = Instant::now();
        let kept = Pace::of_head(false, 3_600 * SECOND).keep(&room, exchange);
        let comes = async {
            tokio::time::sleep(600 * SECOND).await;
            let _held: Vec<_> = (0..4).map(|_| room.take(None).unwrap()).collect();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            kept = kept => assert_eq!(kept, Err("idle")),
            () = comes => {}
        }
        assert_eq!(start.elapsed().as_secs(), 600);
        // The first look, the one after some seconds, the 600th second and the word about the places.
        assert!(looks <= 4, "{looks} looks");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_after_a_long_silence_has_no_more_time_than_another() {
        let exchange = async {
            tokio::time::sleep(100 * SECOND).await;
            Pace::of_this_exchange().unwrap().body_begins(10 * SECOND);
            pending::<()>().await;
        };
        let start = Instant::now();
        let room = places();
        let kept = Pace::of_head(false, 3_600 * SECOND).keep(&room, exchange);
        assert_eq!(kept.await, Err("body"));
        let took = start.elapsed();
        let last = 110 * SECOND + BODY_GRACE + LOOK_EVERY;
        assert!(took > 110 * SECOND && took <= last, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_without_a_body_has_all_time() {
        let exchange = async {
            let pace = Pace::of_this_exchange().unwrap();
            tokio::time::sleep(1_000 * SECOND).await;
            pace.is_out()
        };
        let pace = Pace::of_head(true, SECOND);
        assert_eq!(pace.keep(&places(), exchange).await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_a_least_rate() {
        let room = places();
        let drip = async |bytes: usize| {
            let exchange = async move {
                let pace = Pace::of_this_exchange().unwrap();
                pace.body_begins(10 * SECOND);
                for second in 0..60 {
                    tokio::time::sleep(SECOND).await;
                    if !pace.body_came(bytes, 10 * SECOND) {
                        return second;
                    }
                }
                pace.body_ended();
                tokio::time::sleep(100 * SECOND).await;
                100
            };
            Pace::of_head(true, SECOND).keep(&room, exchange).await
        };
        assert_eq!(drip(2_000).await, Ok(100));
        assert_eq!(drip(1).await, Ok(10));
        // Nothing at all comes.
        let silent = async {
            Pace::of_this_exchange().unwrap().body_begins(10 * SECOND);
            pending::<()>().await;
        };
        let kept = Pace::of_head(true, SECOND).keep(&room, silent).await;
        assert_eq!(kept, Err("body"));
    }
}
