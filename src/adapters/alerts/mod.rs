//! Tells a receiver of the operator's about decisions, by webhook. It stands before the sink of records and takes its facts
//! from them: on the path there is a comparison and a place in a bounded queue, never a wait. What finds no place is
//! counted. Where messages go is the configuration's word alone.

/// Sends what is in the queue.
mod delivery;

use crate::adapters::target::Target;
use crate::domain::alert::Alert;
use crate::domain::alert::AlertRule;
use crate::domain::audit::AuditEvent;
use crate::domain::secret::Secret;
use crate::flow::ports::AuditSink;
use crate::telemetry::metrics::Metrics;
pub use delivery::Delivery;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Alerts that may wait. An alert has some 500 bytes.
pub const QUEUE_MAX: usize = 2_000;

/// What is told, and to whom.
#[derive(Clone, Debug)]
pub struct AlertSettings {
    /// Where messages go.
    pub target: Target,
    /// Certificates of the authorities that its certificate is checked against, DER.
    pub authorities: Vec<Vec<u8>>,
    /// With what messages are signed; at least 32 bytes.
    pub secret: Secret<Vec<u8>>,
    /// Which decisions are told.
    pub rule: AlertRule,
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    /// An authority is no certificate.
    #[error("ca_file: {0}")]
    Authority(reqwest::Error),
    /// No client can be made of the settings.
    #[error("no HTTP client: {0}")]
    Client(reqwest::Error),
}

/// Stands before a sink of records.
pub struct AlertingSink {
    inner: Arc<dyn AuditSink>,
    rule: AlertRule,
    queue: mpsc::Sender<Alert>,
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for AlertingSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlertingSink({:?})", self.rule)
    }
}

impl AlertingSink {
    /// The sink, and what delivers its alerts once it is run.
    ///
    /// # Errors
    /// See [`AlertsError`].
    pub fn new(
        inner: Arc<dyn AuditSink>,
        settings: AlertSettings,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Delivery), AlertsError> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let rule = settings.rule.clone();
        let delivery = Delivery::new(settings, waiting, Arc::clone(&lost), Arc::clone(&metrics))?;
        let sink = Self {
            inner,
            rule,
            queue,
            lost,
            metrics,
        };
        Ok((sink, delivery))
    }
}

impl AuditSink for AlertingSink {
    fn write(&self, event: AuditEvent) {
        if let Some(alert) = self.rule.alert(&event)
            && self.queue.try_send(alert).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.metrics.alerts("queue_full", 1);
        }
        self.inner.write(event);
    }

    fn takes(&self) -> bool {
        self.inner.takes()
    }

    fn keeps(&self) -> bool {
        self.inner.keeps()
    }
}

#[cfg(test)]
mod tests;
