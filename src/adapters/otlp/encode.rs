//! The JSON of `ExportTraceServiceRequest` (OTLP 1.3): ids in hexadecimal, times as texts of nanoseconds.

use crate::domain::hex;
use crate::domain::trace::Attribute;
use crate::domain::trace::FinishedTrace;
use crate::domain::trace::Span;
use serde_json::Value;
use serde_json::json;

/// One message with the spans of some requests.
pub(super) fn request(traces: &[FinishedTrace], service: &str) -> Value {
    let spans: Vec<Value> = traces
        .iter()
        .flat_map(|trace| trace.spans.iter().map(|one| span(trace, one)))
        .collect();
    json!({
        "resourceSpans": [{
            "resource": { "attributes": [
                attribute("service.name", &Attribute::Text(service.to_owned())),
                attribute("service.version", &Attribute::Text(env!("CARGO_PKG_VERSION").to_owned())),
            ] },
            "scopeSpans": [{ "scope": { "name": "riskgate" }, "spans": spans }],
        }]
    })
}

fn span(trace: &FinishedTrace, span: &Span) -> Value {
    let moment = |offset: std::time::Duration| (trace.began_nanos + offset.as_nanos()).to_string();
    let attributes: Vec<Value> = span
        .attributes
        .iter()
        .map(|(key, value)| attribute(key, value))
        .collect();
    json!({
        "traceId": hex::encode(&trace.trace_id),
        "spanId": hex::encode(&span.id),
        "parentSpanId": span.parent.map(|id| hex::encode(&id)).unwrap_or_default(),
        "name": span.name,
        "kind": span.kind.number(),
        "startTimeUnixNano": moment(span.begin),
        "endTimeUnixNano": moment(span.end),
        "attributes": attributes,
        // Unset, or an error.
        "status": if span.is_error { json!({ "code": 2 }) } else { json!({}) },
    })
}

fn attribute(key: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Flag(flag) => json!({ "boolValue": flag }),
        // 64-bit numbers are texts in the JSON of protocol buffers.
        Attribute::Number(number) => json!({ "intValue": number.to_string() }),
    };
    json!({ "key": key, "value": value })
}
