//! Requests as spans: begun with the exchange, handed over when it is closed. Off unless a sink is set; then a request that
//! is not recorded costs its ids: its stages look at no clock and keep nothing. Nothing here waits.

use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Matched;
use crate::domain::risk::Assessment;
use crate::domain::risk::FallbackCause;
use crate::domain::signals::Signals;
use crate::domain::time::Timestamp;
use crate::domain::trace::Attribute;
use crate::domain::trace::Attributes;
use crate::domain::trace::CHANCE_BYTES;
use crate::domain::trace::FinishedTrace;
use crate::domain::trace::Span;
use crate::domain::trace::SpanKind;
use crate::domain::trace::Stage;
use crate::domain::trace::Trace;
use crate::domain::trace::TraceParent;
use crate::flow::exchange::Exchange;
use crate::flow::limits::Limited;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
use crate::flow::ports::TraceSink;
use crate::flow::record;
use std::sync::Arc;
use std::time::Instant;

/// The header that names a trace (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// The header that goes with it.
pub const TRACESTATE: &str = "tracestate";

/// Where spans go, and of how many requests.
pub struct Traces {
    /// Takes them.
    pub sink: Arc<dyn TraceSink>,
    /// The share of requests that are recorded, 0 to 1.
    pub share: f64,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Traces({})", self.share)
    }
}

impl Traces {
    /// The trace of a request. `is_trusted` says whether a proxy of the operator's own stands before it: nobody else may
    /// have requests recorded.
    pub(in crate::flow) fn begin(
        &self,
        headers: &http::HeaderMap,
        is_trusted: bool,
        entropy: &dyn Entropy,
    ) -> Box<Trace> {
        let mut said = headers.get_all(TRACEPARENT).iter();
        let parent = match (said.next(), said.next()) {
            (Some(one), None) => TraceParent::parse(one.as_bytes()),
            _ => None,
        };
        let mut chance = [0; CHANCE_BYTES];
        entropy.fill(&mut chance);
        Box::new(Trace::begin(parent, is_trusted, self.share, &chance))
    }

    /// The exchange has ended: what is recorded of it goes to the sink.
    pub(in crate::flow) fn end(
        &self,
        exchange: &mut Exchange,
        now: Instant,
        entropy: &dyn Entropy,
    ) {
        if let Some(trace) = exchange.trace.take().filter(|trace| trace.is_sampled) {
            self.sink.write(finished(&trace, exchange, now, entropy));
        }
    }
}

impl Exchange {
    /// The beginning of a stage; `None`, without a look at the clock, where the request is not recorded.
    pub fn begins(&self, clock: &dyn Clock) -> Option<Instant> {
        self.is_recorded().then(|| clock.instant())
    }

    /// The end of a stage that has begun, and what is known of it. Costs nothing where it has not.
    pub fn ends(
        &mut self,
        stage: Stage,
        begin: Option<Instant>,
        clock: &dyn Clock,
        attributes: impl FnOnce(&Self) -> Attributes,
    ) {
        if let Some(begin) = begin {
            let end = clock.instant();
            self.spent(stage, (begin, end), attributes);
        }
    }

    /// The same for a stage whose moments are known in any case.
    pub fn spent(
        &mut self,
        stage: Stage,
        (begin, end): (Instant, Instant),
        attributes: impl FnOnce(&Self) -> Attributes,
    ) {
        if self.is_recorded() {
            let attributes = attributes(self);
            if let Some(trace) = &mut self.trace {
                trace.mark(stage, begin, end, attributes);
            }
        }
    }

    /// The head of the upstream's answer has come.
    pub fn upstream_answered(&mut self, status: u16, clock: &dyn Clock) {
        let method = semantic_method(self.method);
        if let Some(trace) = &mut self.trace {
            trace.upstream_answered(method, Some(status), None, || clock.instant());
        }
    }

    /// Nothing more comes of the upstream: the end of its stages, at `now`.
    pub(in crate::flow) fn upstream_ended(&mut self, now: Instant) {
        let (method, failure) = (semantic_method(self.method), self.failure);
        let Some(trace) = &mut self.trace else {
            return;
        };
        let Some(begin) = trace.upstream_end() else {
            return trace.upstream_answered(method, None, failure, || now);
        };
        self.spent(Stage::Answer, (begin, now), |exchange| {
            let mut found = Attributes::new();
            if exchange.door.is_some() {
                found.push(("riskgate.outcome", text(exchange.outcome.as_str())));
            }
            let failure = exchange.failure.map(|failure| ("error.type", failure));
            let replaced = exchange.replaced.map(|what| ("riskgate.replaced", what));
            let told = [failure, replaced].into_iter().flatten();
            found.extend(told.map(|(key, word)| (key, text(word))));
            found
        });
    }

    /// Whether its stages are kept.
    pub fn is_recorded(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.is_sampled)
    }
}

/// What is known of the admission of an exchange.
pub(in crate::flow) fn of_admission(exchange: &Exchange) -> Attributes {
    let class = ("riskgate.class", text(record::class(exchange)));
    let error = exchange.error.map(|error| ("error.type", text(error)));
    [class].into_iter().chain(error).collect()
}

/// What is known of a request from itself, and whether it was over a limit.
pub(in crate::flow) fn of_signals(signals: &Signals, limited: Option<Limited>) -> Attributes {
    let mut found = vec![("riskgate.agent", text(signals.agent.kind.as_str()))];
    let network = signals.network.kind;
    found.extend(network.map(|kind| ("riskgate.network", text(kind.as_str()))));
    found.extend(limited.map(|limited| ("riskgate.limited", text(limited.scope))));
    found
}

/// What is known of a read of the state of this kind.
pub(in crate::flow) fn of_state(kind: &str, failure: Option<FallbackCause>) -> Attributes {
    let mut found = vec![
        ("db.system.name", text(kind)),
        ("db.operation.name", text("load")),
    ];
    found.extend(failure.map(|cause| ("error.type", text(cause.as_str()))));
    found
}

/// What is known of a score that `model` gave, or did not give, to a request of `kind`.
pub(in crate::flow) fn of_score(kind: &str, model: &str, assessment: &Assessment) -> Attributes {
    let mut found = vec![
        ("riskgate.kind", text(kind)),
        ("riskgate.model", text(model)),
    ];
    match assessment {
        Assessment::Scored {
            source, fallback, ..
        } => {
            found.push(("riskgate.source", text(source.as_str())));
            found.extend(fallback.map(|cause| ("riskgate.fallback", text(cause.as_str()))));
        }
        Assessment::Unscored(cause) => found.push(("error.type", text(cause.as_str()))),
    }
    found
}

/// What is known of a decision once it is made.
pub(in crate::flow) fn of_decision(exchange: &Exchange) -> Attributes {
    let Some(decided) = &exchange.decided else {
        return Attributes::new();
    };
    let decision: &Decision = &decided.decision;
    let reasons = i64::try_from(decision.reasons.len()).unwrap_or(i64::MAX);
    let mut found = vec![
        ("riskgate.verdict", text(decision.verdict.as_str())),
        ("riskgate.mode", text(decided.mode.as_str())),
        ("riskgate.reasons", Attribute::Number(reasons)),
    ];
    if let Matched::Rule { name } = &decision.matched {
        found.push(("riskgate.rule", text(name)));
    }
    found
}

/// What is known of a request to a service of the operator's own.
pub(in crate::flow) fn of_visit(exchange: &Exchange) -> Attributes {
    let Some(visit) = &exchange.visit else {
        return Attributes::new();
    };
    let known = [
        ("riskgate.token", visit.token),
        (
            "riskgate.verdict",
            visit.verdict.map(|verdict| verdict.as_str()),
        ),
        ("error.type", visit.denial.map(|denial| denial.as_str())),
    ];
    let known = known.into_iter();
    known
        .filter_map(|(key, word)| Some((key, text(word?))))
        .collect()
}

/// What is known of what became of an exchange once it had ended.
pub(in crate::flow) fn of_record(learnt: bool, recorded: bool) -> Attributes {
    vec![
        ("riskgate.learnt", Attribute::Flag(learnt)),
        ("riskgate.recorded", Attribute::Flag(recorded)),
    ]
}

fn text(text: &str) -> Attribute {
    Attribute::text(text)
}

/// A method as the semantic conventions name it.
fn semantic_method(method: &'static str) -> &'static str {
    match method {
        "OTHER" => "_OTHER",
        known => known,
    }
}

fn finished(
    trace: &Trace,
    exchange: &Exchange,
    now: Instant,
    entropy: &dyn Entropy,
) -> FinishedTrace {
    let since = |moment: Instant| moment.saturating_duration_since(exchange.started);
    let route = exchange.route.as_ref();
    let route = route.map_or_else(
        || "unreadable".to_owned(),
        |route| route.pattern.to_string(),
    );
    // What no convention knows is no part of a name.
    let method = match exchange.method {
        "OTHER" => "HTTP",
        known => known,
    };
    let mut spans = vec![Span {
        id: trace.span_id,
        parent: trace.parent,
        name: format!("{method} {route}"),
        kind: SpanKind::Server,
        begin: since(exchange.started),
        end: since(now),
        attributes: attributes(exchange, route),
        is_error: exchange.failure.is_some() || exchange.response_status >= 500,
    }];
    for mark in trace.marks() {
        let mut id = trace.upstream_id;
        if mark.stage != Stage::Upstream {
            entropy.fill(&mut id);
        }
        spans.push(Span {
            id,
            parent: Some(trace.span_id),
            name: mark.stage.as_str().to_owned(),
            kind: mark.stage.kind(),
            begin: since(mark.begin),
            end: since(mark.end),
            attributes: mark.attributes.clone(),
            is_error: mark.is_error(),
        });
    }
    FinishedTrace {
        trace_id: trace.trace_id,
        began_nanos: nanos(exchange.at),
        spans,
    }
}

/// Words of closed sets, numbers, and the id of the decision, by which its record is found.
fn attributes(exchange: &Exchange, route: String) -> Attributes {
    let scheme = if exchange.client.secure {
        "https"
    } else {
        "http"
    };
    let mut found = vec![
        (
            "http.request.method",
            text(semantic_method(exchange.method)),
        ),
        ("http.route", Attribute::Text(route)),
        ("url.scheme", text(scheme)),
        ("riskgate.id", text(exchange.id.as_str())),
        ("riskgate.class", text(record::class(exchange))),
        ("riskgate.action", text(record::action(exchange))),
    ];
    let status = exchange.response_status;
    if status > 0 {
        let number = Attribute::Number(i64::from(status));
        found.push(("http.response.status_code", number));
    }
    if let Some(door) = exchange.door {
        found.push(("riskgate.door", text(door.as_str())));
        found.push(("riskgate.outcome", text(exchange.outcome.as_str())));
    }
    if let Some(decided) = &exchange.decided {
        found.push(("riskgate.verdict", text(decided.decision.verdict.as_str())));
        if let Some(level) = decided.decision.level {
            found.push(("riskgate.level", text(level.as_str())));
        }
    }
    if let Some(mode) = exchange.mode() {
        found.push(("riskgate.mode", text(mode.as_str())));
    }
    if let Some(error) = exchange.error.or(exchange.failure) {
        found.push(("error.type", text(error)));
    } else if status >= 500 {
        found.push(("error.type", Attribute::Text(status.to_string())));
    }
    found
}

fn nanos(at: Timestamp) -> u128 {
    u128::try_from(at.millis()).unwrap_or(0) * 1_000_000
}
