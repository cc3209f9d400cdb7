//! The methods for what happens beside the requests: records, alerts, spans, held logins, reloads, certificates. The metrics themselves are declared
//! with the others.

use super::Metrics;
use crate::domain::friction::Count;
use crate::domain::route::Door;
use crate::domain::shared_signal::SignalKind;
use crate::domain::time::Timestamp;
use prometheus::core::Collector;
use std::collections::HashMap;
use std::time::Duration;

/// What is read again by itself, beside the configuration.
const READ_AGAIN: [&str; 7] = [
    "actions",
    "authorities",
    "databases",
    "resource",
    "secrets",
    "server",
    "upstream",
];

impl Metrics {
    /// Alerts ask by how much these have grown. A series that begins with its first event has not grown for Prometheus, and
    /// that event would be told to nobody: so they are there from the start.
    pub(super) fn begin(&self) {
        for result in ["ok", "refused"] {
            drop(self.reloads.with_label_values(&[result]));
            for name in READ_AGAIN {
                drop(self.certificate_reloads.with_label_values(&[name, result]));
            }
        }
        for result in ["given_up", "queue_full"] {
            drop(self.alerts.with_label_values(&[result]));
        }
        for door in Door::ALL {
            let labels = [door.as_str(), "barred"];
            drop(self.withheld.with_label_values(&labels));
        }
        drop(self.audit_stream.with_label_values(&["lost"]));
        drop(self.reviews.with_label_values(&["full"]));
    }

    /// Records of address databases could not be read.
    pub fn geo_failures(&self, count: u64) {
        self.geo_failures.inc_by(count);
    }

    /// Something happened to a held login.
    pub fn review(&self, event: &'static str) {
        self.reviews.with_label_values(&[event]).inc();
    }

    /// How many logins wait for review.
    pub fn review_waiting(&self, count: usize) {
        self.review_waiting
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Audit records were written.
    pub fn audit_written(&self, count: u64) {
        self.audit_events.inc_by(count);
    }

    /// Audit records were lost.
    pub fn audit_dropped(&self, count: u64) {
        self.audit_dropped.inc_by(count);
    }

    /// How many audit records were lost so far.
    pub fn audit_dropped_total(&self) -> u64 {
        self.audit_dropped.get()
    }

    /// A signed mark is in the audit log.
    pub fn audit_signed(&self) {
        self.audit_signed.inc();
    }

    /// In strict mode, the disk refuses records, or takes them again.
    pub fn audit_refused(&self, refused: bool) {
        self.audit_refused.set(refused.into());
    }

    /// Records went to the stream of the fleet (`sent`) or did not (`lost`); others' were taken from it (`read`), or passed
    /// over since they are none (`skipped`).
    pub fn audit_stream(&self, result: &'static str, count: u64) {
        self.audit_stream.with_label_values(&[result]).inc_by(count);
    }

    /// Alerts were sent, found no place (`queue_full`) or were given up.
    pub fn alerts(&self, result: &'static str, count: u64) {
        self.alerts.with_label_values(&[result]).inc_by(count);
    }

    /// An event for a receiver of shared signals was `delivered`, found no place (`queue_full`), was `given_up`, could not be
    /// signed (`no_key`), or was about a user whose name it did not come to know (`subject_unknown`).
    pub fn shared_signal(&self, receiver: &str, kind: SignalKind, result: &'static str) {
        self.shared_signals
            .with_label_values(&[receiver, kind.as_str(), result])
            .inc();
    }

    /// A receiver of shared signals is told no more: its series end.
    pub fn shared_signal_receiver_gone(&self, receiver: &str) {
        let families = self.shared_signals.collect();
        for metric in families.iter().flat_map(|family| family.get_metric()) {
            let labels = metric.get_label().iter();
            let labels: HashMap<&str, &str> =
                labels.map(|label| (label.name(), label.value())).collect();
            if labels.get("receiver") == Some(&receiver)
                && self.shared_signals.remove(&labels).is_err()
            {
                tracing::debug!(receiver, "a series has ended before");
            }
        }
    }

    /// Something that receivers would have been told of was not looked at, or could not be told to anybody.
    pub fn shared_signal_overlooked(&self, result: &'static str) {
        self.shared_signals
            .with_label_values(&["none", "none", result])
            .inc();
    }

    /// Spans of requests were exported, found no place (`queue_full`) or were not taken.
    pub fn traces(&self, result: &'static str, count: u64) {
        self.traces.with_label_values(&[result]).inc_by(count);
    }

    /// The sessions of a user were to be ended.
    pub fn session_ending(&self, result: &'static str) {
        self.session_endings.with_label_values(&[result]).inc();
    }

    /// The rollout was changed: `promoted`, `proposed`, `approved`, `demoted`, `fell_back`; or a stage is `over_budget`.
    pub fn rollout(&self, action: &'static str) {
        self.rollout.with_label_values(&[action]).inc();
    }

    /// The stages that enforce, by name: who was counted, and whether they have fallen back. Others are no longer shown.
    pub fn friction(&self, stages: &[(String, Count, bool)]) {
        self.friction_users.reset();
        self.friction_share.reset();
        self.rollout_fallen.reset();
        for (name, count, has_fallen) in stages {
            let stage = [name.as_str()];
            self.friction_users
                .with_label_values(&stage)
                .set(count.users.into());
            self.friction_share
                .with_label_values(&stage)
                .set(count.share());
            self.rollout_fallen
                .with_label_values(&stage)
                .set((*has_fallen).into());
        }
    }

    /// A reload took effect or was refused, after this time.
    pub fn reload(&self, taken: bool, took: Duration) {
        let result = taken_or_refused(taken);
        self.reloads.with_label_values(&[result]).inc();
        self.reload_refused.set((!taken).into());
        self.reload_seconds
            .with_label_values(&[result])
            .observe(took.as_secs_f64());
    }

    /// The certificate of a listener, or one that upstreams are shown, was read again, and taken or refused.
    pub fn certificate_reload(&self, listener: &'static str, taken: bool) {
        self.certificate_reloads
            .with_label_values(&[listener, taken_or_refused(taken)])
            .inc();
    }

    /// When the certificate of a listener ends, or one that upstreams are shown.
    pub fn certificate_ends(&self, listener: &'static str, not_after: Timestamp) {
        self.certificate_ends
            .with_label_values(&[listener])
            .set(not_after.seconds());
    }

    /// There is no such certificate, or no more.
    pub fn certificate_is_gone(&self, listener: &'static str) {
        // That there was none is no matter.
        drop(self.certificate_ends.remove_label_values(&[listener]));
    }
}

fn taken_or_refused(taken: bool) -> &'static str {
    if taken { "ok" } else { "refused" }
}
