//! Takes what was observed from the queue to the store, in batches, beside the requests.

use crate::domain::history::Observation;
use crate::flow::lessons::LessonQueue;
use crate::flow::ports::StateStore;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Observations that may wait for the store; more are lost and counted.
pub const OBSERVATIONS_MAX: usize = 16_384;
/// Observations that are applied in one call.
const BATCH_MAX: usize = 1_024;
/// How often a batch that gathers is looked at: what is urgent waits no longer than this.
const LOOK: Duration = Duration::from_millis(5);
/// The longest that one call may take.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes observations from the queue to the store until `stop` says so; what is queued by then is still taken.
pub async fn run(
    mut queue: LessonQueue,
    mut stop: watch::Receiver<bool>,
    store: Arc<dyn StateStore>,
    metrics: Arc<Metrics>,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            taken = queue.recv_many(&mut batch, BATCH_MAX) => {
                if taken == 0 {
                    return;
                }
                gather(&mut queue, &mut batch, store.gathering()).await;
                queue.are_through(record(&mut batch, store.as_ref(), &metrics).await);
            }
            changed = stop.changed() => {
                // A sender that is gone means the same as its word.
                if changed.is_err() || *stop.borrow() {
                    break;
                }
            }
        }
    }
    queue.close();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        queue.are_through(record(&mut batch, store.as_ref(), &metrics).await);
    }
}

/// Lets a batch grow for `time`, or until something in it is urgent or somebody waits for it: one transaction for what comes meanwhile costs little
/// more than one for a single observation. Links are known on this node all the while.
async fn gather(queue: &mut LessonQueue, batch: &mut Vec<Observation>, time: Duration) {
    let end = Instant::now() + time;
    let mut looked_at = 0;
    while batch.len() < BATCH_MAX && Instant::now() < end {
        let is_awaited = tokio::select! {
            () = tokio::time::sleep(LOOK.min(time)) => false,
            () = queue.hurried() => true,
        };
        while batch.len() < BATCH_MAX
            && let Some(next) = queue.try_recv()
        {
            batch.push(next);
        }
        if is_awaited || batch.iter().skip(looked_at).any(is_urgent) {
            return;
        }
        looked_at = batch.len();
    }
}

/// Whether the next request may have to be judged by it: somebody guesses, or owes a stronger factor or has just shown it.
fn is_urgent(observation: &Observation) -> bool {
    let has_failed = observation
        .attempt
        .as_ref()
        .is_some_and(|attempt| attempt.failed);
    has_failed || !observation.demands.is_empty()
}

/// Applies a batch and empties it; how many there were.
async fn record(batch: &mut Vec<Observation>, store: &dyn StateStore, metrics: &Metrics) -> usize {
    let count = batch.len();
    let lost = match tokio::time::timeout(RECORD_TIMEOUT, store.learn(batch)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the store did not answer in time".to_owned()),
    };
    if let Some(error) = lost {
        metrics.state_error("record", "failed");
        metrics.state_writes_lost(count as u64);
        tracing::warn!(error = %error, lost = count, "observations were lost");
    }
    batch.clear();
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::Attempt;
    use crate::flow::lessons;

    #[tokio::test(start_paused = true)]
    async fn a_failure_waits_for_nobody() {
        let time = Duration::from_millis(50);
        let metrics = Arc::new(Metrics::new().unwrap());
        let (lessons, mut queue) = lessons::queue(16, metrics);
        let begin = Instant::now();
        let mut batch = vec![Observation::default()];
        lessons.send(Observation::default());
        gather(&mut queue, &mut batch, time).await;
        assert_eq!(batch.len(), 2);
        assert!(begin.elapsed() >= time && begin.elapsed() < time + 2 * LOOK);

        let failed = Observation {
            attempt: Some(Attempt {
                failed: true,
                address: 1,
                prefix: 2,
                asn: None,
                agent: 3,
                tenant: 4,
                subject: None,
                subject_known: false,
                address_known: false,
            }),
            ..Observation::default()
        };
        let begin = Instant::now();
        let mut batch = vec![Observation::default()];
        lessons.send(failed);
        gather(&mut queue, &mut batch, time).await;
        assert_eq!(batch.len(), 2);
        assert!(begin.elapsed() < 2 * LOOK);
    }
    #[tokio::test(start_paused = true)]
    async fn whoever_waits_ends_the_gathering() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (lessons, mut queue) = lessons::queue(16, metrics);
        lessons.send(Observation::default());
        let mut batch = Vec::new();
        let begin = Instant::now();
        let learns = async {
            queue.recv_many(&mut batch, BATCH_MAX).await;
            gather(&mut queue, &mut batch, Duration::from_secs(60)).await;
            queue.are_through(batch.len());
        };
        tokio::join!(learns, lessons.settled());
        assert!(begin.elapsed() <= LOOK);
    }
}
