//! Takes what was observed from the queue to the store, in batches, beside the requests.

use crate::domain::history::Observation;
use crate::flow::ports::StateStore;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Observations that may wait for the store; more are lost and counted.
pub const OBSERVATIONS_MAX: usize = 16_384;
/// Observations that are applied in one call.
const BATCH_MAX: usize = 1_024;
/// How long a batch gathers.
const GATHER: Duration = Duration::from_millis(5);
/// The longest that one call may take.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes observations from the queue to the store until `stop` says so; what is queued by then is still taken.
pub async fn run(
    mut queue: mpsc::Receiver<Observation>,
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
                if taken < BATCH_MAX {
                    // One transaction for what comes within a few milliseconds costs little more than one for a
                    // single observation; links are known on this node all the while.
                    tokio::time::sleep(GATHER).await;
                    while batch.len() < BATCH_MAX && let Ok(next) = queue.try_recv() {
                        batch.push(next);
                    }
                }
                record(&mut batch, store.as_ref(), &metrics).await;
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
        record(&mut batch, store.as_ref(), &metrics).await;
    }
}

async fn record(batch: &mut Vec<Observation>, store: &dyn StateStore, metrics: &Metrics) {
    let lost = match tokio::time::timeout(RECORD_TIMEOUT, store.record(batch)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the store did not answer in time".to_owned()),
    };
    if let Some(error) = lost {
        metrics.state_error("record", "failed");
        metrics.state_writes_lost(batch.len() as u64);
        tracing::warn!(error = %error, lost = batch.len(), "observations were lost");
    }
    batch.clear();
}
