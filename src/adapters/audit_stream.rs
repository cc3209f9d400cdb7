//! Audit records on their way from the file to a stream that the fleet shares. A bounded queue stands between them: a line
//! that finds no room is lost for the stream and counted, and neither the file nor a request waits for it. The file stays
//! the record of proof.

use crate::domain::trail::foreign::LINE_BYTES_MAX;
use crate::flow::ports::RecordStream;
use crate::flow::ports::RecordTap;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::watch;

/// Lines that may wait, and their bytes.
const QUEUE_MAX: usize = 16_384;
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines that go in one round trip, and their bytes, but for the last of them.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// How often the stream is asked how it is where there is nothing to send.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long one waits for a stream that is away.
const RETRY: Duration = Duration::from_millis(500);
/// How long lines are still sent once the process ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// The part of the health report.
const PART: &str = "audit_stream";

/// Lines that are on their way.
#[derive(Debug)]
pub struct AuditStream {
    waiting: Mutex<Waiting>,
    /// Somebody has put something into an empty queue.
    wake: Notify,
    /// Lines that were handed to the stream, which has not answered yet.
    under_way: AtomicUsize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl AuditStream {
    /// A queue with nothing in it.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        // Shown from the start, so that the first loss is a difference.
        metrics.audit_stream("sent", 0);
        metrics.audit_stream("lost", 0);
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            under_way: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Sends what comes until `stop` says so, and then for a moment what is left.
    pub async fn run(
        self: Arc<Self>,
        stream: Arc<dyn RecordStream>,
        health: Arc<Health>,
        mut stop: watch::Receiver<bool>,
    ) {
        let (mut pause, mut is_well) = (Duration::ZERO, None);
        loop {
            tokio::select! {
                () = self.due(pause) => {}
                // A sender that is gone means the same as its word.
                _ = stop.wait_for(|stop| *stop) => break,
            }
            let said = self.send(stream.as_ref()).await;
            pause = if said.is_ok() { Duration::ZERO } else { RETRY };
            if is_well != Some(said.is_ok()) {
                is_well = Some(said.is_ok());
                match &said {
                    Ok(()) => tracing::info!("audit records go to the stream"),
                    Err(reason) => {
                        tracing::warn!(reason, "audit records do not go to the stream");
                    }
                }
            }
            health.set(
                PART,
                said.map_or_else(PartStatus::Degraded, |()| PartStatus::Ok),
            );
        }
        if tokio::time::timeout(FAREWELL, self.send(stream.as_ref()))
            .await
            .is_err()
        {
            tracing::warn!("the stream of audit records took too long at the end");
        }
        let waiting = self.waiting.lock().lines.len();
        self.lost(waiting + self.under_way.load(Ordering::Relaxed));
    }

    /// Comes back when there is something to do.
    async fn due(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
        if self.waiting.lock().lines.is_empty() {
            // Nothing came: the stream is asked all the same.
            drop(tokio::time::timeout(PING_EVERY, self.wake.notified()).await);
        }
    }

    /// Sends everything that waits. As long as the stream cannot be reached, it goes on waiting; what was on its way when
    /// something failed is not sent again, since it may be there.
    async fn send(&self, stream: &dyn RecordStream) -> Result<(), String> {
        stream.ready().await.map_err(|error| error.of_stream())?;
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return Ok(());
            }
            // Who gives up waiting for the answer has to know of them.
            self.under_way.store(batch.len(), Ordering::Relaxed);
            let taken = stream.append(&batch).await;
            self.under_way.store(0, Ordering::Relaxed);
            let count = taken.as_ref().map_or(0, |count| *count);
            self.metrics
                .audit_stream("sent", u64::try_from(count).unwrap_or_default());
            self.lost(batch.len().saturating_sub(count));
            taken.map_err(|error| error.of_stream())?;
            if count < batch.len() {
                return Err("some records were refused".to_owned());
            }
        }
    }

    fn batch(&self) -> Vec<Vec<u8>> {
        let mut waiting = self.waiting.lock();
        let mut bytes = 0;
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let Some(line) = waiting.lines.pop_front() else {
                break;
            };
            bytes += line.len();
            batch.push(line);
        }
        waiting.bytes -= bytes;
        batch
    }

    fn lost(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or_default();
        self.metrics.audit_stream("lost", count);
    }
}

impl RecordTap for AuditStream {
    fn take(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.lines.len() < QUEUE_MAX
            && waiting.bytes + line.len() <= QUEUE_BYTES_MAX
            && line.len() <= LINE_BYTES_MAX;
        let was_empty = waiting.lines.is_empty();
        if has_room {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.to_vec());
        }
        drop(waiting);
        if !has_room {
            self.lost(1);
        } else if was_empty {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trail::foreign::StreamId;
    use crate::flow::ports::StateError;
    use crate::flow::ports::StreamEntry;
    use async_trait::async_trait;
    use std::sync::atomic::AtomicBool;

    /// Takes lines as long as it is there, but none that is `bad`.
    #[derive(Debug, Default)]
    struct Kept {
        lines: Mutex<Vec<Vec<u8>>>,
        is_away: AtomicBool,
        breaks: AtomicBool,
        hangs: AtomicBool,
    }

    #[async_trait]
    impl RecordStream for Kept {
        async fn ready(&self) -> Result<(), StateError> {
            if self.is_away.load(Ordering::Relaxed) {
                return Err(StateError::Unavailable("away".to_owned()));
            }
            Ok(())
        }

        async fn append(&self, lines: &[Vec<u8>]) -> Result<usize, StateError> {
            if self.hangs.load(Ordering::Relaxed) {
                tokio::time::sleep(FAREWELL * 2).await;
                return Err(StateError::Timeout);
            }
            if self.breaks.swap(false, Ordering::Relaxed) {
                return Err(StateError::Timeout);
            }
            let good: Vec<_> = lines.iter().filter(|line| *line != b"bad").collect();
            self.lines.lock().extend(good.iter().copied().cloned());
            Ok(good.len())
        }

        async fn from(&self, _: StreamId, _: usize) -> Result<Vec<StreamEntry>, StateError> {
            Ok(Vec::new())
        }

        async fn up_to(&self, _: StreamId, _: usize) -> Result<Vec<StreamEntry>, StateError> {
            Ok(Vec::new())
        }
    }

    fn count(metrics: &Metrics, result: &str) -> u64 {
        let name = format!("riskgate_audit_stream_records_total{{result=\"{result}\"}} ");
        let text = metrics.render();
        let found = text.lines().find_map(|line| line.strip_prefix(&name));
        found.unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn lines_wait_for_a_stream_that_is_away_and_are_sent_once() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let queue = AuditStream::new(Arc::clone(&metrics));
        let stream = Kept::default();
        stream.is_away.store(true, Ordering::Relaxed);
        for number in 0..BATCH_MAX + 1 {
            queue.take(number.to_string().as_bytes());
        }
        assert!(queue.send(&stream).await.unwrap_err().contains("away"));
        assert_eq!(count(&metrics, "lost"), 0);
        stream.is_away.store(false, Ordering::Relaxed);
        queue.send(&stream).await.unwrap();
        assert_eq!(stream.lines.lock().len(), BATCH_MAX + 1);
        assert_eq!(count(&metrics, "sent"), BATCH_MAX as u64 + 1);
        // What may be there is not sent again.
        stream.breaks.store(true, Ordering::Relaxed);
        queue.take(b"on its way");
        assert!(queue.send(&stream).await.is_err());
        assert_eq!(count(&metrics, "lost"), 1);
        for line in ["good", "bad", "good"] {
            queue.take(line.as_bytes());
        }
        assert!(queue.send(&stream).await.is_err());
        assert_eq!(count(&metrics, "lost"), 2);
        queue.send(&stream).await.unwrap();
        assert_eq!(stream.lines.lock().len(), BATCH_MAX + 3);
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let queue = AuditStream::new(Arc::clone(&metrics));
        queue.take(&vec![b'x'; LINE_BYTES_MAX + 1]);
        assert_eq!(
            (queue.waiting.lock().bytes, count(&metrics, "lost")),
            (0, 1)
        );
        for _ in 0..QUEUE_MAX + 5 {
            queue.take(b"x");
        }
        assert_eq!(queue.waiting.lock().lines.len(), QUEUE_MAX);
        assert_eq!(count(&metrics, "lost"), 6);
        let long = vec![b'x'; LINE_BYTES_MAX];
        let queue = AuditStream::new(Arc::clone(&metrics));
        for _ in 0..=QUEUE_BYTES_MAX / LINE_BYTES_MAX {
            queue.take(&long);
        }
        assert!(queue.waiting.lock().bytes <= QUEUE_BYTES_MAX);
        assert_eq!(count(&metrics, "lost"), 7);
    }

    #[tokio::test]
    async fn what_is_left_at_the_end_is_sent_or_counted() {
        for is_away in [false, true] {
            let metrics = Arc::new(Metrics::new().unwrap());
            let queue = Arc::new(AuditStream::new(Arc::clone(&metrics)));
            let stream = Arc::new(Kept::default());
            stream.is_away.store(is_away, Ordering::Relaxed);
            queue.take(b"last");
            let (stop, stopped) = watch::channel(false);
            stop.send(true).unwrap();
            let port = Arc::clone(&stream) as Arc<dyn RecordStream>;
            queue.run(port, Arc::default(), stopped).await;
            assert_eq!(stream.lines.lock().is_empty(), is_away);
            assert_eq!(count(&metrics, "lost"), u64::from(is_away));
        }
    }
    #[tokio::test(start_paused = true)]
    async fn what_the_stream_does_not_answer_at_the_end_is_counted_as_lost() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let queue = Arc::new(AuditStream::new(Arc::clone(&metrics)));
        let stream = Arc::new(Kept::default());
        stream.hangs.store(true, Ordering::Relaxed);
        for number in 0..BATCH_MAX + 3 {
            queue.take(number.to_string().as_bytes());
        }
        let (stop, stopped) = watch::channel(false);
        stop.send(true).unwrap();
        let port = Arc::clone(&stream) as Arc<dyn RecordStream>;
        queue.run(port, Arc::default(), stopped).await;
        assert_eq!(count(&metrics, "lost"), BATCH_MAX as u64 + 3);
        assert_eq!(count(&metrics, "sent"), 0);
    }
}
