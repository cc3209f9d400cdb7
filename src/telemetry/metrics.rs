//! The metrics, declared in one list and emitted through one method each. Labels come from closed sets alone: never a
//! subject, an address or a path.

/// Of connections and upstreams.
mod edge;

use crate::domain::drift::Drift;
use crate::domain::enforcement::Grounds;
use crate::domain::kind::RequestKind;
use crate::domain::outcome::AuthOutcome;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskScore;
use crate::domain::risk::ScoreSource;
use prometheus::Encoder;
use prometheus::GaugeVec;
use prometheus::HistogramOpts;
use prometheus::HistogramVec;
use prometheus::IntCounter;
use prometheus::IntCounterVec;
use prometheus::IntGauge;
use prometheus::IntGaugeVec;
use prometheus::Opts;
use prometheus::Registry;
use prometheus::TextEncoder;
use std::time::Duration;

/// Upper bounds in seconds: fine around the latency budget of 20 ms.
const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.015,
    0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// Upper bounds of a difference between two scores.
const POINTS: &[f64] = &[
    -50.0, -30.0, -20.0, -10.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0,
];

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refused: IntCounterVec,
    resources: IntCounterVec,
    rate_limited: IntCounterVec,
    actions: IntCounterVec,
    demands: IntCounterVec,
    fallbacks: IntCounterVec,
    unscored: IntCounterVec,
    unscored_share: GaugeVec,
    outcomes: IntCounterVec,
    shadow: IntCounterVec,
    challenger_difference: HistogramVec,
    challenger_flips: IntCounterVec,
    challenger_skipped: IntCounterVec,
    drift_psi: GaugeVec,
    drift_missing: GaugeVec,
    drift_score_psi: GaugeVec,
    drift_rows: IntGaugeVec,
    score_seconds: HistogramVec,
    decision_seconds: HistogramVec,
    state_seconds: HistogramVec,
    state_errors: IntCounterVec,
    state_writes_lost: IntCounter,
    geo_failures: IntCounter,
    bare_pages: IntCounter,
    state_writes_waiting: IntGauge,
    audit_events: IntCounter,
    audit_dropped: IntCounter,
    audit_signed: IntCounter,
    audit_refused: IntGauge,
    audit_stream: IntCounterVec,
    alerts: IntCounterVec,
    shared_signals: IntCounterVec,
    traces: IntCounterVec,
    connections: IntGauge,
    connections_refused: IntCounterVec,
    connections_given_up: IntCounterVec,
    upstream_requests: IntGauge,
    upstream_errors: IntCounterVec,
    resigned: IntCounterVec,
    restored: IntCounterVec,
    proofs: IntCounterVec,
    withheld: IntCounterVec,
    session_endings: IntCounterVec,
    breaker: IntGaugeVec,
    breaker_turns: IntCounterVec,
    in_flight: IntGauge,
    panics: IntCounter,
    reloads: IntCounterVec,
    reload_seconds: HistogramVec,
    reload_refused: IntGauge,
    certificate_reloads: IntCounterVec,
    certificate_ends: IntGaugeVec,
    reviews: IntCounterVec,
    review_waiting: IntGauge,
    rollout: IntCounterVec,
    friction_users: IntGaugeVec,
    friction_share: GaugeVec,
    rollout_fallen: IntGaugeVec,
    info: IntGaugeVec,
}

/// What became of a request, as a label.
#[derive(Clone, Copy, Debug)]
pub struct RequestLabels {
    /// `scored`, `passed`, `resource`, `blocked`, `own`, `unknown` or `refused`.
    pub class: &'static str,
    /// The door, or `none`.
    pub door: &'static str,
    /// The verdict, when something was decided.
    pub verdict: Option<Verdict>,
    /// The mode, when something was decided.
    pub mode: Option<Mode>,
    /// Why it was forwarded, when it was.
    pub grounds: Option<Grounds>,
}

impl Metrics {
    /// Registers every metric. Fails only when two have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counters =
            |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
                let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntGaugeVec> {
            let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let shares = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<GaugeVec> {
            let metric = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let histograms = |name: &str,
                          help: &str,
                          labels: &[&str],
                          bounds: &[f64]|
         -> prometheus::Result<HistogramVec> {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            let metric = HistogramVec::new(options, labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let seconds =
            |name: &str, help: &str, labels: &[&str]| histograms(name, help, labels, SECONDS);
        let points =
            |name: &str, help: &str, labels: &[&str]| histograms(name, help, labels, POINTS);
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let metrics = Self {
            requests: counters(
                "riskgate_requests_total",
                "Requests by class, door, verdict, mode and grounds",
                &["class", "door", "verdict", "mode", "grounds"],
            )?,
            refused: counters(
                "riskgate_requests_refused_total",
                "Requests refused before scoring, by what was wrong",
                &["error"],
            )?,
            resources: counters(
                "riskgate_resource_requests_total",
                "Requests to API routes, by what became of them",
                &["result"],
            )?,
            rate_limited: counters(
                "riskgate_rate_limited_total",
                "Requests over a limit, enforced or not",
                &["scope", "enforced"],
            )?,
            actions: counters(
                "riskgate_actions_total",
                "Calls of WSO2, by what they asked and how they were answered",
                &["action", "result"],
            )?,
            demands: counters(
                "riskgate_demands_total",
                "What happens to demands for a stronger factor",
                &["event"],
            )?,
            fallbacks: counters(
                "riskgate_score_fallbacks_total",
                "Scores from a lower rung, by cause",
                &["cause"],
            )?,
            unscored: counters(
                "riskgate_unscored_total",
                "Requests without a score, by cause",
                &["cause"],
            )?,
            unscored_share: shares(
                "riskgate_unscored_share",
                "Share of the requests of the last ten seconds without a score",
                &[],
            )?,
            outcomes: counters(
                "riskgate_auth_outcomes_total",
                "How attempts ended",
                &["door", "outcome"],
            )?,
            shadow: counters(
                "riskgate_would_have_total",
                "Verdicts that monitor or advise did not enforce",
                &["door", "verdict"],
            )?,
            challenger_difference: points(
                "riskgate_challenger_difference_points",
                "Points of the challenger minus those of the model that answered",
                &["kind"],
            )?,
            challenger_flips: counters(
                "riskgate_challenger_flips_total",
                "Other verdicts that the challenger would have led to",
                &["kind", "verdict", "challenger"],
            )?,
            challenger_skipped: counters(
                "riskgate_challenger_skipped_total",
                "Requests for which the challenger was not asked",
                &["cause"],
            )?,
            drift_psi: shares(
                "riskgate_drift_psi",
                "Population stability index of a feature",
                &["kind", "feature"],
            )?,
            drift_missing: shares(
                "riskgate_drift_missing_share",
                "Share of rows without the feature",
                &["kind", "feature"],
            )?,
            drift_score_psi: shares(
                "riskgate_drift_score_psi",
                "Population stability index of the score",
                &["kind"],
            )?,
            drift_rows: gauges(
                "riskgate_drift_rows",
                "Rows in the window in which drift is watched",
                &["kind"],
            )?,
            score_seconds: seconds("riskgate_score_seconds", "Features and model", &["source"])?,
            decision_seconds: seconds(
                "riskgate_decision_seconds",
                "From the request to the decision, body included",
                &["door"],
            )?,
            state_seconds: seconds(
                "riskgate_state_load_seconds",
                "Reading the state",
                &["result"],
            )?,
            state_errors: counters(
                "riskgate_state_errors_total",
                "Failed calls to the state",
                &["operation", "kind"],
            )?,
            state_writes_lost: counter(
                "riskgate_state_writes_lost_total",
                "Observations that the state did not take",
            )?,
            geo_failures: counter("riskgate_geo_failures_total", "Unreadable address records")?,
            bare_pages: counter("riskgate_login_pages_bare_total", "Pages that say nothing")?,
            state_writes_waiting: gauge(
                "riskgate_state_writes_waiting",
                "Observations on their way to the state",
            )?,
            audit_events: counter("riskgate_audit_events_total", "Audit records written")?,
            audit_dropped: counter(
                "riskgate_audit_events_dropped_total",
                "Audit records lost to a full queue or disk",
            )?,
            audit_signed: counter(
                "riskgate_audit_signatures_total",
                "Signed marks in the audit log",
            )?,
            audit_refused: gauge(
                "riskgate_audit_refused",
                "Whether the disk refuses audit records in strict mode",
            )?,
            audit_stream: counters(
                "riskgate_audit_stream_records_total",
                "Audit records of the fleet's stream",
                &["result"],
            )?,
            alerts: counters(
                "riskgate_alerts_total",
                "Alerts about decisions, by what became of them",
                &["result"],
            )?,
            shared_signals: counters(
                "riskgate_shared_signals_total",
                "Shared signals, by what became of them",
                &["receiver", "event", "result"],
            )?,
            traces: counters(
                "riskgate_traces_total",
                "Requests whose spans were to be exported",
                &["result"],
            )?,
            connections: gauge("riskgate_connections", "Connections of clients")?,
            connections_refused: counters(
                "riskgate_connections_refused_total",
                "Connections for which there was no place",
                &["full"],
            )?,
            connections_given_up: counters(
                "riskgate_connections_given_up_total",
                "Connections and streams whose client did not send what was awaited",
                &["missing"],
            )?,
            upstream_requests: gauge(
                "riskgate_upstream_requests",
                "Requests under way to upstreams",
            )?,
            upstream_errors: counters(
                "riskgate_upstream_errors_total",
                "Failures of the identity server, by kind",
                &["kind"],
            )?,
            resigned: counters(
                "riskgate_tokens_resigned_total",
                "Token answers that were to be signed anew, by what became of them",
                &["result"],
            )?,
            restored: counters(
                "riskgate_tokens_restored_total",
                "Requests in which a token came back as the identity server has signed it",
                &["place"],
            )?,
            proofs: counters(
                "riskgate_proofs_total",
                "Answers that had to prove a stronger factor, by what they proved",
                &["door", "result"],
            )?,
            withheld: counters(
                "riskgate_tokens_withheld_total",
                "Tokens withheld for want of a proof, by what became of them",
                &["door", "revocation"],
            )?,
            session_endings: counters(
                "riskgate_session_endings_total",
                "Users whose sessions were to be ended, by what became of it",
                &["result"],
            )?,
            breaker: gauges(
                "riskgate_breaker_state",
                "0 closed (calls flow), 1 half-open, 2 open",
                &["dependency"],
            )?,
            breaker_turns: counters(
                "riskgate_breaker_transitions_total",
                "Changes of a breaker, by the state that it came to",
                &["dependency", "to"],
            )?,
            in_flight: gauge("riskgate_assessments_in_flight", "Assessments in flight")?,
            panics: counter("riskgate_panics_total", "Panics; each is a bug")?,
            reloads: counters(
                "riskgate_reloads_total",
                "Reloads of configuration, policy and model",
                &["result"],
            )?,
            reload_seconds: seconds(
                "riskgate_reload_seconds",
                "From the look at the files to the exchange or the refusal",
                &["result"],
            )?,
            reload_refused: gauge(
                "riskgate_reload_refused",
                "Whether changed files are refused and the old are in force",
            )?,
            certificate_reloads: counters(
                "riskgate_certificate_reloads_total",
                "Certificates that were read again",
                &["listener", "result"],
            )?,
            certificate_ends: gauges(
                "riskgate_certificate_not_after_seconds",
                "When the certificate ends, in seconds since the epoch",
                &["listener"],
            )?,
            reviews: counters(
                "riskgate_reviews_total",
                "Held logins and what became of them",
                &["event"],
            )?,
            review_waiting: gauge("riskgate_review_waiting", "Logins that wait for review")?,
            rollout: counters(
                "riskgate_rollout_changes_total",
                "Changes of the rollout, by operators and by itself",
                &["action"],
            )?,
            friction_users: gauges(
                "riskgate_friction_users",
                "Known-good users in the window of a stage",
                &["stage"],
            )?,
            friction_share: shares(
                "riskgate_friction_share",
                "Share of them that was challenged",
                &["stage"],
            )?,
            rollout_fallen: gauges(
                "riskgate_rollout_fallen",
                "Whether a stage has fallen back to monitor",
                &["stage"],
            )?,
            info: gauges(
                "riskgate_info",
                "Versions at work; the value is 1",
                &["version", "model", "store"],
            )?,
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// One request has ended.
    pub fn request(&self, labels: RequestLabels) {
        let verdict = labels.verdict.map_or("none", Verdict::as_str);
        let mode = labels.mode.map_or("none", Mode::as_str);
        let grounds = labels.grounds.map_or("none", Grounds::as_str);
        self.requests
            .with_label_values(&[labels.class, labels.door, verdict, mode, grounds])
            .inc();
    }

    /// A token answer was to be signed anew: `signed`, or why it stayed as it is.
    pub fn resigned(&self, result: &str) {
        self.resigned.with_label_values(&[result]).inc();
    }

    /// A token of ours came back in this place of a request.
    pub fn restored(&self, place: &str) {
        self.restored.with_label_values(&[place]).inc();
    }

    /// An answer had to prove a stronger factor.
    pub fn proof(&self, door: &'static str, result: &'static str) {
        self.proofs.with_label_values(&[door, result]).inc();
    }

    /// Tokens were withheld.
    pub fn withheld(&self, door: &'static str, revocation: &'static str) {
        self.withheld.with_label_values(&[door, revocation]).inc();
    }

    /// A request was refused before scoring.
    pub fn refused(&self, error: &'static str) {
        self.refused.with_label_values(&[error]).inc();
    }

    /// A request to an API route was let through, or why not.
    pub fn resource(&self, result: &'static str) {
        self.resources.with_label_values(&[result]).inc();
    }

    /// WSO2 has asked and was answered.
    pub fn action(&self, action: &'static str, result: &'static str) {
        self.actions.with_label_values(&[action, result]).inc();
    }

    /// A request was over a limit.
    pub fn rate_limited(&self, scope: &'static str, enforced: bool) {
        self.rate_limited
            .with_label_values(&[scope, if enforced { "true" } else { "false" }])
            .inc();
    }

    /// Something happened to a demand: `raised`, `outstanding`, `challenged`, `proved`, `proof_failed`, `exhausted`,
    /// `looped`, `enrolment_refused`, `other_name`.
    pub fn demand(&self, event: &'static str) {
        self.demands.with_label_values(&[event]).inc();
    }

    /// A score came from a lower rung.
    pub fn fallback(&self, cause: FallbackCause) {
        self.fallbacks.with_label_values(&[cause.as_str()]).inc();
    }

    /// How many of the last requests had no score, in percent.
    pub fn unscored_share(&self, percent: u8) {
        let none: [&str; 0] = [];
        self.unscored_share
            .with_label_values(&none)
            .set(f64::from(percent) / 100.0);
    }

    /// There was no score.
    pub fn unscored(&self, cause: FallbackCause) {
        self.unscored.with_label_values(&[cause.as_str()]).inc();
    }

    /// An attempt has ended.
    pub fn outcome(&self, door: &'static str, outcome: AuthOutcome) {
        self.outcomes
            .with_label_values(&[door, outcome.as_str()])
            .inc();
    }

    /// A verdict that the mode did not enforce.
    pub fn would_have(&self, door: &'static str, verdict: Verdict) {
        self.shadow
            .with_label_values(&[door, verdict.as_str()])
            .inc();
    }

    /// A challenger was asked: both scores and both verdicts, the model's that answered first.
    pub fn challenged(
        &self,
        kind: RequestKind,
        (own, theirs): (RiskScore, RiskScore),
        (verdict, other): (Verdict, Verdict),
    ) {
        let difference = f64::from(theirs.points()) - f64::from(own.points());
        self.challenger_difference
            .with_label_values(&[kind.as_str()])
            .observe(difference);
        if verdict != other {
            self.challenger_flips
                .with_label_values(&[kind.as_str(), verdict.as_str(), other.as_str()])
                .inc();
        }
    }

    /// A challenger was not asked.
    pub fn challenger_skipped(&self, cause: &'static str) {
        self.challenger_skipped.with_label_values(&[cause]).inc();
    }

    /// How far traffic of `kind` has moved; without `moved` there are too few rows to say.
    pub fn drift(&self, kind: RequestKind, rows: u32, moved: Option<(Vec<Drift>, f64)>) {
        let kind = kind.as_str();
        self.drift_rows
            .with_label_values(&[kind])
            .set(i64::from(rows));
        let Some((features, score)) = moved else {
            return;
        };
        self.drift_score_psi.with_label_values(&[kind]).set(score);
        for drift in features {
            let labels = [kind, drift.feature.name()];
            self.drift_psi.with_label_values(&labels).set(drift.psi);
            self.drift_missing
                .with_label_values(&labels)
                .set(drift.missing);
        }
    }

    /// How long features and model took.
    pub fn score_time(&self, source: Option<ScoreSource>, took: Duration) {
        let source = source.map_or("none", ScoreSource::as_str);
        self.score_seconds
            .with_label_values(&[source])
            .observe(took.as_secs_f64());
    }

    /// How long the decision took.
    pub fn decision_time(&self, door: &'static str, took: Duration) {
        self.decision_seconds
            .with_label_values(&[door])
            .observe(took.as_secs_f64());
    }

    /// How long the state took to answer, and whether it did.
    pub fn state_time(&self, answered: bool, took: Duration) {
        let result = if answered { "ok" } else { "error" };
        self.state_seconds
            .with_label_values(&[result])
            .observe(took.as_secs_f64());
    }

    /// A call to the state failed.
    pub fn state_error(&self, operation: &'static str, kind: &'static str) {
        self.state_errors
            .with_label_values(&[operation, kind])
            .inc();
    }

    /// Observations were lost.
    pub fn state_writes_lost(&self, count: u64) {
        self.state_writes_lost.inc_by(count);
    }

    /// So many observations more are on their way to the state, or so many fewer.
    pub fn state_writes_waiting(&self, change: i64) {
        self.state_writes_waiting.add(change);
    }

    /// The state of a breaker: 0 closed, 1 half-open, 2 open.
    pub fn breaker(&self, dependency: &'static str, state: i64) {
        self.breaker.with_label_values(&[dependency]).set(state);
    }

    /// A breaker has come to another state: `closed`, `half_open` or `open`.
    pub fn breaker_turned(&self, dependency: &'static str, to: &'static str) {
        self.breaker_turns
            .with_label_values(&[dependency, to])
            .inc();
    }

    /// How many assessments are in flight.
    pub fn in_flight(&self, count: usize) {
        self.in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Something panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Which versions are at work.
    pub fn info(&self, model: &str, store: &str) {
        self.info.reset();
        self.info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), model, store])
            .set(1);
    }

    /// The text exposition format (version 0.0.4).
    pub fn render(&self) -> String {
        let mut buffer = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut buffer);
        match encoded {
            Ok(()) => String::from_utf8_lossy(&buffer).into_owned(),
            Err(error) => format!("# metrics could not be encoded: {error}\n"),
        }
    }
}

/// What happens beside the requests.
mod beside;

#[cfg(test)]
mod tests;
