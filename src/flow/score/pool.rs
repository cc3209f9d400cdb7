//! Where a model runs that cannot be trusted on the worker: a few threads of its own behind a bounded queue.
//!
//! A quick model runs inline, because a hop costs more than the run. One that overran once, or was slow over its golden
//! rows, runs here, where a caller can stop waiting.

use crate::domain::features::FeatureVector;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::ModelOutput;
use crate::domain::time::Deadline;
use crate::flow::ports::ModelError;
use crate::flow::ports::RiskModel;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use tokio::sync::oneshot;

/// Scorings that may wait for a thread; more are shed.
const QUEUE_MAX: usize = 64;

struct Job {
    model: Arc<dyn RiskModel>,
    features: FeatureVector,
    deadline: Deadline,
    answer: oneshot::Sender<Result<ModelOutput, ModelError>>,
}

/// The pool. Runs that nobody waits for any more are bounded by its threads.
#[derive(Debug)]
pub struct ModelPool {
    jobs: SyncSender<Job>,
}

impl ModelPool {
    /// Starts `threads` threads; at least one. They end when the pool is dropped.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("riskgate-model-{index}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Runs the model and waits until `deadline` at most.
    pub async fn run(
        &self,
        model: Arc<dyn RiskModel>,
        features: FeatureVector,
        deadline: Deadline,
    ) -> Result<ModelOutput, FallbackCause> {
        let (answer, wait) = oneshot::channel();
        self.jobs
            .try_send(Job {
                model,
                features,
                deadline,
                answer,
            })
            .map_err(|_| FallbackCause::Overload)?;
        match tokio::time::timeout_at(deadline.instant().into(), wait).await {
            Ok(Ok(Ok(output))) => Ok(output),
            Ok(Ok(Err(error))) => Err(cause_of(&error)),
            // The thread dropped the answer: the run panicked.
            Ok(Err(_)) => Err(FallbackCause::ModelError),
            Err(_) => Err(FallbackCause::ModelTimeout),
        }
    }
}

/// The cause that a model's error is counted under.
pub fn cause_of(error: &ModelError) -> FallbackCause {
    match error {
        ModelError::Failed(_) => FallbackCause::ModelError,
        ModelError::Output => FallbackCause::ModelOutput,
        ModelError::Timeout => FallbackCause::ModelTimeout,
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let next = queue.lock().recv();
        let Ok(job) = next else { return };
        // A caller that has stopped waiting needs no answer.
        if job.answer.is_closed() {
            continue;
        }
        // A panic in a model must cost one answer and not the thread.
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            job.model.run(&job.features, job.deadline)
        }));
        let result =
            run.unwrap_or_else(|_| Err(ModelError::Failed("the model panicked".to_owned())));
        // The caller may be gone by now.
        drop(job.answer.send(result));
    }
}
