//! Requests as spans: begun with the exchange, handed over when it is closed. Off unless a sink is set; then a request that
//! is not recorded costs its ids. Nothing here waits.

use crate::domain::time::Timestamp;
use crate::domain::trace::Attribute;
use crate::domain::trace::CHANCE_BYTES;
use crate::domain::trace::FinishedTrace;
use crate::domain::trace::Span;
use crate::domain::trace::Stage;
use crate::domain::trace::Trace;
use crate::domain::trace::TraceParent;
use crate::flow::exchange::Exchange;
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
        let Some(mut trace) = exchange.trace.take().filter(|trace| trace.is_sampled) else {
            return;
        };
        trace.upstream_answered(now);
        self.sink.write(finished(&trace, exchange, now, entropy));
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
    let mut spans = vec![Span {
        id: trace.span_id,
        parent: trace.parent,
        name: format!("{} {route}", exchange.method),
        kind: 2,
        begin: since(exchange.started),
        end: since(now),
        attributes: attributes(exchange, route),
        is_error: exchange.failure.is_some() || exchange.response_status >= 500,
    }];
    for mark in trace.marks() {
        let is_upstream = mark.stage == Stage::Upstream;
        let mut id = trace.upstream_id;
        if !is_upstream {
            entropy.fill(&mut id);
        }
        spans.push(Span {
            id,
            parent: Some(trace.span_id),
            name: mark.stage.as_str().to_owned(),
            kind: if is_upstream { 3 } else { 1 },
            begin: since(mark.begin),
            end: since(mark.end),
            attributes: Vec::new(),
            is_error: is_upstream && exchange.failure.is_some(),
        });
    }
    FinishedTrace {
        trace_id: trace.trace_id,
        began_nanos: nanos(exchange.at),
        spans,
    }
}

/// Words of closed sets, numbers, and the id of the decision, by which its record is found.
fn attributes(exchange: &Exchange, route: String) -> Vec<(&'static str, Attribute)> {
    let text = |text: &str| Attribute::Text(text.to_owned());
    let mut found = vec![
        ("http.request.method", text(exchange.method)),
        ("http.route", Attribute::Text(route)),
        (
            "http.response.status_code",
            Attribute::Number(i64::from(exchange.response_status)),
        ),
        ("riskgate.id", text(exchange.id.as_str())),
        ("riskgate.class", text(record::class(exchange))),
        ("riskgate.action", Attribute::Text(record::action(exchange))),
    ];
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
    }
    found
}

fn nanos(at: Timestamp) -> u128 {
    u128::try_from(at.millis()).unwrap_or(0) * 1_000_000
}
