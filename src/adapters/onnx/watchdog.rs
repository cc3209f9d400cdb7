//! Interrupts runs that overrun their deadline.
//!
//! Arming a run is one atomic store and disarming it one compare-and-swap; a thread looks at the few slots every
//! millisecond while there is traffic and sleeps when there is none. ONNX Runtime looks at the terminate flag between
//! nodes and loop rounds only, so that one long kernel is not interrupted.

use crate::domain::time::Deadline;
use ort::session::NoSelectedOutputs;
use ort::session::RunOptions;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::Thread;
use std::time::Duration;
use std::time::Instant;

/// How late an interruption may be, apart from the scheduler.
const SCAN_INTERVAL: Duration = Duration::from_millis(1);
/// Scans without any run after which the thread goes to sleep.
const IDLE_SCANS: u32 = 100;

/// No run.
const IDLE: u64 = 0;
/// The watchdog is about to set the terminate flag.
const FIRING: u64 = 1;
/// The watchdog has set the terminate flag.
const FIRED: u64 = 2;
/// From here on a state is the deadline in nanoseconds since the watchdog's epoch.
const ARMED_MIN: u64 = 3;

/// The watch over one session: at most one run at a time.
pub(super) struct Watch {
    state: AtomicU64,
    /// Whether there was a run since the last scan.
    used: AtomicBool,
    /// When the terminate flag was set the last time, in nanoseconds since the watchdog's epoch.
    fired_at: AtomicU64,
    options: RunOptions<NoSelectedOutputs>,
}

/// One thread that watches over a fixed number of sessions; it ends when this is dropped.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    epoch: Instant,
    watches: Vec<Watch>,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A run that is being watched.
pub(super) struct Armed<'w> {
    watch: &'w Watch,
    deadline: u64,
}

impl Watchdog {
    /// Starts a watchdog over `count` sessions.
    pub(super) fn start(count: usize) -> Result<Self, WatchdogError> {
        let watches = (0..count)
            .map(|_| {
                Ok(Watch {
                    state: AtomicU64::new(IDLE),
                    used: AtomicBool::new(false),
                    fired_at: AtomicU64::new(0),
                    options: RunOptions::new()
                        .map_err(|error| WatchdogError::Options(error.to_string()))?,
                })
            })
            .collect::<Result<_, WatchdogError>>()?;
        let shared = Arc::new(Shared {
            epoch: Instant::now(),
            watches,
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let spawned = thread::Builder::new()
            .name("model-watchdog".to_owned())
            .spawn(move || watched.watch());
        let thread = spawned?.thread().clone();
        Ok(Self { shared, thread })
    }

    /// The watches, one per session.
    pub(super) fn watches(&self) -> &[Watch] {
        &self.shared.watches
    }

    /// For how long the oldest of the interrupted runs that have not ended has gone on since its interruption; `None` when
    /// there is none.
    pub(super) fn overrun(&self) -> Option<Duration> {
        let watches = self.shared.watches.iter();
        let fired = watches.filter(|watch| watch.state.load(Ordering::SeqCst) == FIRED);
        let first = fired
            .map(|watch| watch.fired_at.load(Ordering::SeqCst))
            .min()?;
        Some(
            self.shared
                .epoch
                .elapsed()
                .saturating_sub(Duration::from_nanos(first)),
        )
    }

    /// Begins to watch a run that has to end by `deadline`.
    pub(super) fn arm<'w>(&self, watch: &'w Watch, deadline: Deadline) -> Armed<'w> {
        let nanos = deadline
            .instant()
            .saturating_duration_since(self.shared.epoch)
            .as_nanos();
        let deadline = u64::try_from(nanos).unwrap_or(u64::MAX).max(ARMED_MIN);
        watch.used.store(true, Ordering::Relaxed);
        // Sequentially consistent with the watchdog's way to bed: it says that it sleeps and looks once more, this
        // says that there is a run and looks whether it sleeps. One of them sees the other.
        watch.state.store(deadline, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Armed { watch, deadline }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Armed<'_> {
    /// The options to run under.
    pub(super) fn options(&self) -> &RunOptions<NoSelectedOutputs> {
        &self.watch.options
    }

    /// Whether the run was interrupted. Afterwards the session can be used again.
    pub(super) fn was_interrupted(self) -> bool {
        let Armed { watch, deadline } = self;
        if watch
            .state
            .compare_exchange(deadline, IDLE, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            return false;
        }
        // The flag must not be cleared before it is set, or it would hit the next run.
        while watch.state.load(Ordering::SeqCst) == FIRING {
            thread::yield_now();
        }
        if let Err(error) = watch.options.unterminate() {
            tracing::error!(error = %error, "the terminate flag of a model run cannot be cleared");
        }
        watch.state.store(IDLE, Ordering::SeqCst);
        true
    }
}

impl Shared {
    fn watch(&self) {
        let mut idle_scans = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let wait = self.scan();
            // Counted, so that none is left out.
            let used = self
                .watches
                .iter()
                .filter(|watch| watch.used.swap(false, Ordering::Relaxed))
                .count()
                > 0;
            idle_scans = if used || wait.is_some() {
                0
            } else {
                idle_scans + 1
            };
            if idle_scans < IDLE_SCANS {
                thread::sleep(wait.unwrap_or(SCAN_INTERVAL).min(SCAN_INTERVAL));
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            if self.scan().is_none() && !self.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle_scans = 0;
        }
    }

    /// Interrupts what has overrun. Returns the time until the next deadline, if a run is on.
    fn scan(&self) -> Option<Duration> {
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut next: Option<u64> = None;
        for watch in &self.watches {
            let state = watch.state.load(Ordering::SeqCst);
            if state < ARMED_MIN {
                continue;
            }
            if state > now {
                next = Some(next.map_or(state, |next| next.min(state)));
            } else if watch
                .state
                .compare_exchange(state, FIRING, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
            {
                if let Err(error) = watch.options.terminate() {
                    tracing::error!(error = %error, "a model run cannot be interrupted");
                }
                watch.fired_at.store(now, Ordering::SeqCst);
                watch.state.store(FIRED, Ordering::SeqCst);
            }
        }
        next.map(|next| Duration::from_nanos(next.saturating_sub(now)))
    }
}

/// Why no watchdog could be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchdogError {
    /// ONNX Runtime gave no run options.
    #[error("no run options: {0}")]
    Options(String),
    /// The system gave no thread.
    #[error("no thread for the watchdog: {0}")]
    Thread(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::onnx::runtime::runtime;

    /// An end that must not come from a slow machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_run_that_goes_on_after_its_interruption_is_known() {
        runtime(None).expect("ONNX Runtime: scripts/fetch-onnxruntime.sh");
        let watchdog = Watchdog::start(2).unwrap();
        assert_eq!(watchdog.overrun(), None);
        let [first, second] = watchdog.watches() else {
            panic!("two watches")
        };
        let in_time = watchdog.arm(first, Deadline::after(Instant::now(), PATIENCE));
        assert_eq!(watchdog.overrun(), None);
        let late = watchdog.arm(second, Deadline::after(Instant::now(), Duration::ZERO));
        let end = Instant::now() + PATIENCE;
        while watchdog.overrun().is_none() {
            assert!(Instant::now() < end, "not interrupted");
            thread::yield_now();
        }
        // It grows for as long as the run does not end.
        let before = watchdog.overrun();
        thread::sleep(Duration::from_millis(5));
        assert!(watchdog.overrun() > before);
        assert!(late.was_interrupted());
        assert_eq!(watchdog.overrun(), None);
        assert!(!in_time.was_interrupted());
    }
}
