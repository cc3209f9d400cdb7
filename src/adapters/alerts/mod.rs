//! Tells a receiver of the operator's about decisions, by webhook. It stands before the sink of records and takes its facts
//! from them: on the path there is a comparison and a place in a bounded queue, never a wait. What finds no place is
//! counted. Where messages go is the configuration's word alone.

use crate::adapters::courier::Cargo;
use crate::adapters::courier::Courier;
use crate::adapters::courier::Destination;
use crate::adapters::courier::Line;
use crate::adapters::courier::Parcel;
use crate::adapters::courier::signed_fields;
use crate::adapters::outbound::ClientError;
use crate::domain::alert::Alert;
use crate::domain::alert::AlertMessage;
use crate::domain::alert::AlertRule;
use crate::domain::alert::BATCH_MAX;
use crate::domain::audit::AuditEvent;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::flow::ports::AuditSink;
use crate::telemetry::metrics::Metrics;
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
    pub destination: Destination,
    /// With what messages are signed; at least 32 bytes.
    pub secret: Secret<Vec<u8>>,
    /// Which decisions are told.
    pub rule: AlertRule,
}

/// Stands before a sink of records.
pub struct AlertingSink {
    inner: Arc<dyn AuditSink>,
    rule: AlertRule,
    queue: mpsc::Sender<Alert>,
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

/// Alerts as messages.
pub struct Alerts {
    receiver: String,
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for AlertingSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlertingSink({:?})", self.rule)
    }
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Alerts({})", self.receiver)
    }
}

impl AlertingSink {
    /// The sink, and what delivers its alerts once it is run.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(
        inner: Arc<dyn AuditSink>,
        settings: AlertSettings,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Courier<Alerts>), ClientError> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let alerts = Alerts {
            receiver: settings.destination.target.origin(),
            lost: Arc::clone(&lost),
            metrics: Arc::clone(&metrics),
        };
        let line = Line::new(settings.destination, settings.secret)?;
        let courier = Courier::new(line, alerts, waiting);
        let sink = Self {
            inner,
            rule: settings.rule,
            queue,
            lost,
            metrics,
        };
        Ok((sink, courier))
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

impl Cargo for Alerts {
    type Item = Alert;
    type Shown = Secret<Vec<u8>>;
    const BATCH_MAX: usize = BATCH_MAX;

    fn pack(&self, items: &[Alert]) -> Option<Parcel> {
        let lost = self.lost.load(Ordering::Relaxed);
        let message = AlertMessage {
            kind: "risk.alerts",
            alerts: items,
            lost,
        };
        Some(Parcel {
            id: format!("msg_{}", items.first()?.id),
            body: serde_json::to_vec(&message).ok()?,
            lost,
        })
    }

    fn fields(
        &self,
        secret: &Secret<Vec<u8>>,
        parcel: &Parcel,
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        signed_fields(secret, parcel, now)
    }

    fn taken(&self, items: &[Alert], parcel: &Parcel) {
        self.lost.fetch_sub(parcel.lost, Ordering::Relaxed);
        self.metrics.alerts("sent", count(items));
    }

    fn given_up(&self, items: &[Alert], _parcel: &Parcel, why: &str) {
        let count = count(items);
        self.lost.fetch_add(count, Ordering::Relaxed);
        self.metrics.alerts("given_up", count);
        tracing::warn!(receiver = %self.receiver, alerts = count, "alerts are given up: {why}");
    }
}

fn count(items: &[Alert]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
