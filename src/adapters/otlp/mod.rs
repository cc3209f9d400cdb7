//! Sends spans to a collector by OTLP over HTTP, in its JSON encoding. On the path there is a place in a bounded queue, never
//! a wait; spans that find none, or that no collector takes, are counted and gone.

/// Spans as the collector reads them.
mod encode;

use crate::adapters::outbound;
use crate::adapters::outbound::ClientError;
use crate::domain::trace::FinishedTrace;
use crate::flow::ports::TraceSink;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use reqwest::Client;
use reqwest::Url;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;

/// Requests whose spans may wait. One has some 2 KiB.
pub const QUEUE_MAX: usize = 1_000;
/// Requests in one message at most.
const BATCH_MAX: usize = 100;
/// How long more are waited for before a message goes.
const LINGER: Duration = Duration::from_millis(200);
/// For connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that one message may take.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a message that was not taken is sent once more.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// It is no address of a collector.
#[derive(Debug, thiserror::Error)]
#[error("url: expected http:// or https://, a host and a path, without credentials")]
pub struct NoCollector;

/// Takes spans.
#[derive(Debug)]
pub struct OtlpSink {
    queue: mpsc::Sender<FinishedTrace>,
    metrics: Arc<Metrics>,
}

/// Sends what was taken.
#[derive(Debug)]
pub struct Exporter {
    http: CollectorClient,
    url: Url,
    service: String,
    queue: mpsc::Receiver<FinishedTrace>,
    metrics: Arc<Metrics>,
}

/// What the collector is reached by. A message that is under way ends by the one that it began with.
#[derive(Clone, Debug)]
pub struct CollectorClient(Arc<ArcSwap<Client>>);

impl CollectorClient {
    /// The collector's certificate is checked against these authorities from now on.
    ///
    /// # Errors
    /// One of them is no certificate.
    pub fn trust(&self, authorities: &[Vec<u8>]) -> Result<(), ClientError> {
        self.0.store(Arc::new(client(authorities)?));
        Ok(())
    }
}

/// Checks the address of a collector.
///
/// # Errors
/// It has no such form.
pub fn target(text: &str) -> Result<Url, NoCollector> {
    let url = Url::parse(text).map_err(|_| NoCollector)?;
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let is_known = matches!(url.scheme(), "http" | "https");
    if is_plain && is_known && url.has_host() {
        Ok(url)
    } else {
        Err(NoCollector)
    }
}

/// A sink, and what sends for it once it is run. `authorities` are certificates in DER against which an `https` collector
/// is checked.
///
/// # Errors
/// See [`ClientError`].
pub fn sink(
    url: Url,
    authorities: &[Vec<u8>],
    service: &str,
    metrics: Arc<Metrics>,
) -> Result<(OtlpSink, Exporter), ClientError> {
    let http = CollectorClient(Arc::new(ArcSwap::from_pointee(client(authorities)?)));
    let (sender, queue) = mpsc::channel(QUEUE_MAX);
    let taking = OtlpSink {
        queue: sender,
        metrics: Arc::clone(&metrics),
    };
    let exporter = Exporter {
        http,
        url,
        service: service.to_owned(),
        queue,
        metrics,
    };
    Ok((taking, exporter))
}

fn client(authorities: &[Vec<u8>]) -> Result<Client, ClientError> {
    outbound::client(authorities)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(MESSAGE_TIMEOUT)
        .pool_max_idle_per_host(1)
        .build()
        .map_err(ClientError::Build)
}

impl TraceSink for OtlpSink {
    fn write(&self, trace: FinishedTrace) {
        if self.queue.try_send(trace).is_err() {
            self.metrics.traces("queue_full", 1);
        }
    }
}

impl Exporter {
    /// What the collector is reached by.
    pub fn client(&self) -> CollectorClient {
        self.http.clone()
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Sends until the sinks are gone or `stop` says so; what waits then is sent once, within a message's time.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let taken = tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH_MAX) => taken,
                _ = stop.wait_for(|stopped| *stopped) => break,
            };
            if taken == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LINGER) => {}
                _ = stop.wait_for(|stopped| *stopped) => {}
            }
            while batch.len() < BATCH_MAX
                && let Ok(more) = self.queue.try_recv()
            {
                batch.push(more);
            }
            self.send(&batch, true).await;
            batch.clear();
        }
        self.queue.close();
        while self.queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.send(&batch, false).await;
            batch.clear();
        }
    }

    async fn send(&self, batch: &[FinishedTrace], may_repeat: bool) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = encode::request(batch, &self.service).to_string();
        let mut result = self.attempt(&body).await;
        if may_repeat && matches!(result, Err((true, _))) {
            tokio::time::sleep(RETRY_AFTER).await;
            result = self.attempt(&body).await;
        }
        match result {
            Ok(()) => self.metrics.traces("exported", count),
            Err((_, why)) => {
                self.metrics.traces("failed", count);
                tracing::warn!(requests = count, "spans were not taken: {why}");
            }
        }
    }

    /// One attempt. The error says whether another may help, and why it failed.
    async fn attempt(&self, body: &str) -> Result<(), (bool, String)> {
        let http = self.http.0.load_full();
        let sent = http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
            .map_err(|error| (true, outbound::told(error)))?;
        match sent.status().as_u16() {
            200..=299 => Ok(()),
            // The statuses that OTLP has a client repeat.
            status @ (429 | 502 | 503 | 504) => {
                Err((true, format!("the collector answers {status}")))
            }
            status => Err((false, format!("the collector answers {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_with_a_host() {
        for url in [
            "http://127.0.0.1:4318/v1/traces",
            "https://otel.example.com/v1/traces",
        ] {
            assert!(target(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:4318",
            "ftp://a/",
            "http://u:p@a/",
            "http://a/#b",
            "file:///x",
        ] {
            assert!(target(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_spans_and_is_counted() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = target(&format!("http://{}/v1/traces", free.local_addr().unwrap())).unwrap();
        drop(free);
        let metrics = Arc::new(Metrics::new().unwrap());
        let (sink, exporter) = sink(url, &[], "riskgate", Arc::clone(&metrics)).unwrap();
        let trace = FinishedTrace {
            trace_id: [1; 16],
            began_nanos: 0,
            spans: Vec::new(),
        };
        for _ in 0..QUEUE_MAX + 5 {
            sink.write(trace.clone());
        }
        let (stop, stopped) = watch::channel(false);
        stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(20), exporter.run(stopped))
            .await
            .unwrap();
        let text = metrics.render();
        assert!(
            text.contains("riskgate_traces_total{result=\"queue_full\"} 5\n"),
            "{text}"
        );
        assert!(
            text.contains("riskgate_traces_total{result=\"failed\"} 1000\n"),
            "{text}"
        );
    }
}
