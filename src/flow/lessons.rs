//! The queue in which what was observed waits for the store. Requests never wait for it; who is about to change what is
//! known of a person does, so that nothing older is learnt over the change.

use crate::domain::history::Observation;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// The end at which observations are put in.
pub struct Lessons {
    queue: mpsc::Sender<Observation>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
}

/// The end at which they are taken out.
pub struct LessonQueue {
    queue: mpsc::Receiver<Observation>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
}

struct Progress {
    /// Observations that were put in.
    sent: AtomicU64,
    /// Of these, how many are through: in the store, or lost.
    through: watch::Sender<u64>,
    /// Somebody waits for the batch that gathers.
    hurry: Notify,
}

/// A queue for at most `capacity` observations, one or more; what finds it full is lost and counted.
pub fn queue(capacity: usize, metrics: Arc<Metrics>) -> (Lessons, LessonQueue) {
    let (sender, receiver) = mpsc::channel(capacity);
    let progress = Arc::new(Progress {
        sent: AtomicU64::new(0),
        through: watch::Sender::new(0),
        hurry: Notify::new(),
    });
    let lessons = Lessons {
        queue: sender,
        progress: Arc::clone(&progress),
        metrics: Arc::clone(&metrics),
    };
    let queue = LessonQueue {
        queue: receiver,
        progress,
        metrics,
    };
    (lessons, queue)
}

impl Lessons {
    /// Puts an observation in. Never waits.
    pub fn send(&self, observation: Observation) {
        if self.queue.try_send(observation).is_ok() {
            self.progress.sent.fetch_add(1, Ordering::Release);
            self.metrics.state_writes_waiting(1);
        } else {
            self.metrics.state_writes_lost(1);
        }
    }

    /// Returns once all that was put in before is through. Does not end by itself where nobody takes out: callers bound it.
    pub async fn settled(&self) {
        let sent = self.progress.sent.load(Ordering::Acquire);
        let mut through = self.progress.through.subscribe();
        if *through.borrow() < sent {
            self.progress.hurry.notify_one();
            // The sender is in our own hands: this ends by the count alone.
            drop(through.wait_for(|through| *through >= sent).await);
        }
    }
}

impl LessonQueue {
    /// Waits for observations and appends up to `most` of them; 0 when the other end is gone and all were taken. They count
    /// as waiting until [`are_through`](Self::are_through).
    pub async fn recv_many(&mut self, batch: &mut Vec<Observation>, most: usize) -> usize {
        self.queue.recv_many(batch, most).await
    }

    /// The next one, if one is there. It counts as waiting until [`are_through`](Self::are_through).
    pub fn try_recv(&mut self) -> Option<Observation> {
        self.queue.try_recv().ok()
    }

    /// So many of those that were taken are in the store, or lost.
    pub fn are_through(&self, count: usize) {
        self.progress
            .through
            .send_modify(|through| *through += count as u64);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.state_writes_waiting(-count);
    }

    /// Returns when somebody waits for what is being gathered.
    pub async fn hurried(&self) {
        self.progress.hurry.notified().await;
    }

    /// Nothing more can be put in; what is in the queue can still be taken.
    pub fn close(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Lessons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sent = self.progress.sent.load(Ordering::Relaxed);
        write!(f, "Lessons({sent} sent)")
    }
}

impl std::fmt::Debug for LessonQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LessonQueue({} waiting)", self.queue.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_waits_for_what_was_sent_before() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (lessons, mut queue) = queue(2, metrics);
        lessons.settled().await;
        lessons.send(Observation::default());
        lessons.send(Observation::default());
        let taken = queue.try_recv();
        assert!(taken.is_some());
        queue.are_through(1);
        let early = tokio::time::timeout(Duration::from_secs(1), lessons.settled()).await;
        assert!(early.is_err(), "one is still on its way");
        tokio::time::timeout(Duration::from_secs(1), queue.hurried())
            .await
            .expect("who gathers is told");
        assert!(queue.try_recv().is_some());
        // What is sent after is not waited for.
        let both = async {
            tokio::task::yield_now().await;
            lessons.send(Observation::default());
            queue.are_through(1);
        };
        tokio::join!(lessons.settled(), both);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_lost_and_waited_for_by_nobody() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (lessons, queue) = queue(1, Arc::clone(&metrics));
        for _ in 0..3 {
            lessons.send(Observation::default());
        }
        let text = metrics.render();
        assert!(
            text.contains("riskgate_state_writes_lost_total 2"),
            "{text}"
        );
        assert!(text.contains("riskgate_state_writes_waiting 1"), "{text}");
        queue.are_through(1);
        lessons.settled().await;
        assert!(metrics.render().contains("riskgate_state_writes_waiting 0"));
    }
}
