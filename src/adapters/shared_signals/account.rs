//! What is counted and said of one receiver, for as long as it is told: once it has gone there is no series of its name, and
//! health does not speak of it. What becomes of its last events is in the log.

use crate::domain::shared_signal::SignalKind;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The part of health.
const PART: &str = "shared_signals";

/// The account of one receiver.
pub(super) struct Account {
    name: String,
    metrics: Arc<Metrics>,
    standing: Standing,
    is_open: Mutex<bool>,
}

/// Which receivers do not take what they are sent, and why.
#[derive(Clone)]
pub(super) struct Standing {
    away: Arc<Mutex<BTreeMap<String, String>>>,
    health: Arc<Health>,
}

impl Account {
    pub(super) fn new(name: String, metrics: Arc<Metrics>, standing: Standing) -> Arc<Self> {
        Arc::new(Self {
            name,
            metrics,
            standing,
            is_open: Mutex::new(true),
        })
    }

    #[cfg(test)]
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An event ended so.
    pub(super) fn count(&self, kind: SignalKind, result: &'static str) {
        // Held while it is counted: who closes it meanwhile would find a new series afterwards.
        if *self.is_open() {
            self.metrics.shared_signal(&self.name, kind, result);
        }
    }

    /// An event has reached it.
    pub(super) fn delivered(&self, kind: SignalKind) {
        self.count(kind, "delivered");
        self.stands(None);
    }

    /// An event will not reach it.
    pub(super) fn given_up(&self, kind: SignalKind, why: &str) {
        self.count(kind, "given_up");
        self.stands(Some(why));
        let (receiver, event) = (&self.name, kind.as_str());
        tracing::warn!(receiver = %receiver, event, "a shared signal is given up: {why}");
    }

    /// What became of its last event: `Some` with the reason where it does not take what it is sent.
    pub(super) fn stands(&self, why: Option<&str>) {
        if *self.is_open() {
            self.standing.set(&self.name, why);
        }
    }

    /// It has gone.
    pub(super) fn close(&self) {
        let mut is_open = self.is_open();
        *is_open = false;
        self.metrics.shared_signal_receiver_gone(&self.name);
        self.standing.set(&self.name, None);
    }

    fn is_open(&self) -> MutexGuard<'_, bool> {
        self.is_open.lock()
    }
}

impl Standing {
    pub(super) fn new(health: Arc<Health>) -> Self {
        let away = Arc::default();
        Self { away, health }
    }

    /// Somebody is told: health says how it goes.
    pub(super) fn begin(&self) {
        self.say(&self.away());
    }

    /// Nobody is told any more.
    pub(super) fn end(&self) {
        self.health.forget(PART);
    }

    fn set(&self, receiver: &str, why: Option<&str>) {
        let mut away = self.away();
        match why {
            Some(why) => away.insert(receiver.to_owned(), why.to_owned()),
            None => away.remove(receiver),
        };
        self.say(&away);
    }

    fn say(&self, away: &BTreeMap<String, String>) {
        let texts: Vec<String> = away
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        let status = if texts.is_empty() {
            PartStatus::Ok
        } else {
            PartStatus::Degraded(texts.join("; "))
        };
        self.health.set(PART, status);
    }

    fn away(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.away.lock()
    }
}
