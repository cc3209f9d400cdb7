//! Records as events of the Open Cybersecurity Schema Framework: class Authentication (3002) with the profile
//! `security_control`. The record stays the evidence; this is a view of it for other systems. The schema that it keeps to is
//! in `tests/data/ocsf/`.

use crate::domain::audit::AuditEvent;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The version of the schema.
const VERSION: &str = "1.9.0-dev";
const CATEGORY: u32 = 3;
const CLASS: u32 = 3002;

/// A record as an event. `None` where it is not about authentication: no scored door, or its time cannot be read.
pub fn authentication(event: &AuditEvent) -> Option<Value> {
    let door = event.door.as_deref()?;
    let time: jiff::Timestamp = event.time.parse().ok()?;
    let activity = activity(door, event.grant_type.as_deref());
    let (status, status_name) = status(&event.outcome);
    let (action, action_name, disposition, disposition_name) = control(event);
    let (severity, severity_name) = severity(event);
    let verdict = event.verdict.as_deref().unwrap_or("none");
    let mut all = object(json!({
        "activity_id": activity.0,
        "activity_name": activity.1,
        "category_uid": CATEGORY,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS,
        "class_name": "Authentication",
        "type_uid": CLASS * 100 + activity.0,
        "type_name": format!("Authentication: {}", activity.1),
        "time": time.as_millisecond(),
        "timezone_offset": 0,
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "status_detail": event.outcome,
        "status_code": event.response_status.to_string(),
        "action_id": action,
        "action": action_name,
        "disposition_id": disposition,
        "disposition": disposition_name,
        "is_alert": matches!(verdict, "review" | "block"),
        "is_remote": true,
        "message": message(event, door, verdict),
        "metadata": metadata(event),
        "user": user(event),
        "src_endpoint": source(event),
        "service": service(event),
        "http_request": { "http_method": event.method, "uid": event.id },
        "unmapped": unmapped(event),
    }));
    let (protocol, name) = protocol(door);
    put(&mut all, "auth_protocol_id", Some(protocol));
    put(&mut all, "auth_protocol", Some(name));
    put(&mut all, "is_mfa", second_factor(event));
    if let Some(score) = event.score {
        let (level, name) = level(event.level.as_deref());
        put(&mut all, "risk_score", Some(score));
        put(&mut all, "risk_level_id", Some(level));
        put(&mut all, "risk_level", Some(name));
    }
    let reasons = event.reasons.join(", ");
    put(
        &mut all,
        "risk_details",
        Some(reasons).filter(|text| !text.is_empty()),
    );
    if let Some(policy) = &event.policy {
        let rule = event.matched.as_deref().unwrap_or("none");
        let policy = json!({
            "name": rule,
            "version": policy,
            "is_applied": event.mode.as_deref() == Some("enforce"),
        });
        put(&mut all, "policy", Some(policy));
    }
    Some(Value::Object(all))
}

/// Before a password was given it is a stage before the logon; a token for what was logged on to is part of it.
fn activity(door: &str, grant: Option<&str>) -> (u32, &'static str) {
    match (door, grant) {
        ("token", Some("refresh_token")) | ("pdp", _) => (99, "Other"),
        ("login" | "authn" | "basic" | "token", _) => (1, "Logon"),
        _ => (6, "Preauth"),
    }
}

fn protocol(door: &str) -> (u32, &'static str) {
    match door {
        "basic" => (11, "Basic Authentication"),
        "saml" => (5, "SAML"),
        "authorize" | "login" => (4, "OpenID"),
        "token" | "par" | "device" | "ciba" | "authn" => (6, "OAUTH 2.0"),
        _ => (0, "Unknown"),
    }
}

fn status(outcome: &str) -> (u32, &'static str) {
    match outcome {
        "succeeded" | "code_issued" | "tokens_issued" | "approved" => (1, "Success"),
        "failed" | "locked" | "request_refused" | "refused_here" | "upstream_error"
        | "abandoned" | "returned" => (2, "Failure"),
        "login_page" | "consent" | "next_factor" => (99, "Other"),
        _ => (0, "Unknown"),
    }
}

/// Action and disposition, with their names.
fn control(event: &AuditEvent) -> (u32, &'static str, u32, &'static str) {
    let watched = matches!(event.mode.as_deref(), Some("monitor" | "advise"));
    let verdict = event.verdict.as_deref();
    match &*event.action {
        "forwarded" if watched && verdict != Some("allow") => (3, "Observed", 17, "Logged"),
        "forwarded" if event.demand.is_some() => (4, "Modified", 23, "Challenge"),
        "forwarded" => (1, "Allowed", 1, "Allowed"),
        "redirected" | "rewritten" => (4, "Modified", 23, "Challenge"),
        "held" => (2, "Denied", 14, "Delayed"),
        "withheld" => (2, "Denied", 24, "Access Revoked"),
        "failed" => (1, "Allowed", 27, "Error"),
        "refused" | "rate_limited" | "review_full" => (2, "Denied", 25, "Rejected"),
        _ => (2, "Denied", 2, "Blocked"),
    }
}

fn severity(event: &AuditEvent) -> (u32, &'static str) {
    match event.level.as_deref() {
        Some("high") => (4, "High"),
        Some("medium") => (3, "Medium"),
        _ if event.status.as_deref() == Some("unscored") => (2, "Low"),
        _ => (1, "Informational"),
    }
}

fn level(level: Option<&str>) -> (u32, &'static str) {
    match level {
        Some("low") => (1, "Low"),
        Some("medium") => (2, "Medium"),
        Some("high") => (3, "High"),
        _ => (99, "Other"),
    }
}

/// Whether a second factor is known to have been given, or owed and not given.
fn second_factor(event: &AuditEvent) -> Option<bool> {
    match event.proof.as_deref() {
        Some("proven") => Some(true),
        Some(_) => Some(false),
        None => None,
    }
}

fn message(event: &AuditEvent, door: &str, verdict: &str) -> String {
    match (event.score, event.level.as_deref()) {
        (Some(score), Some(level)) => format!(
            "{door}: {verdict} (score {score}, {level}); {}",
            event.action
        ),
        _ => format!("{door}: {verdict} (no score); {}", event.action),
    }
}

fn metadata(event: &AuditEvent) -> Value {
    let mut metadata = object(json!({
        "version": VERSION,
        "profiles": ["security_control"],
        "product": {
            "name": "riskgate",
            "vendor_name": "riskgate",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "uid": event.id,
        "sequence": event.seq,
        "log_name": "audit",
        "log_version": event.schema.to_string(),
        "original_time": event.time,
        "event_code": event.class,
    }));
    put(&mut metadata, "tenant_uid", event.tenant.clone());
    Value::Object(metadata)
}

fn user(event: &AuditEvent) -> Value {
    let is_service = event.grant_type.as_deref() == Some("client_credentials");
    let mut user = match &event.subject {
        Some(subject) if is_service => {
            object(json!({ "uid": subject, "type_id": 4, "type": "Service" }))
        }
        Some(subject) => object(json!({ "uid": subject, "type_id": 1, "type": "User" })),
        None => object(json!({ "name": "unknown", "type_id": 0, "type": "Unknown" })),
    };
    put(&mut user, "domain", event.tenant.clone());
    Value::Object(user)
}

fn source(event: &AuditEvent) -> Value {
    let mut source = object(json!({ "uid": event.address.as_deref().unwrap_or("unknown") }));
    if event.asn.is_some() || event.as_org.is_some() {
        let mut system = Map::new();
        put(&mut system, "number", event.asn);
        put(&mut system, "name", event.as_org.clone());
        put(
            &mut source,
            "autonomous_system",
            Some(Value::Object(system)),
        );
    }
    let country = event
        .country
        .as_ref()
        .map(|country| json!({ "country": country }));
    put(&mut source, "location", country);
    let prints = event
        .ja4
        .as_ref()
        .map(|ja4| json!([{ "algorithm_id": 99, "algorithm": "JA4", "value": ja4 }]));
    put(&mut source, "fingerprints", prints);
    Value::Object(source)
}

fn service(event: &AuditEvent) -> Value {
    let mut service = object(json!({ "name": "WSO2 Identity Server" }));
    put(&mut service, "uid", event.client_id.clone());
    Value::Object(service)
}

/// What the class has no place for, under the names of the record.
fn unmapped(event: &AuditEvent) -> Value {
    let mut rest = object(json!({
        "route": event.route,
        "action": event.action,
        "learnt": event.learnt,
    }));
    for (name, value) in [
        ("door", event.door.as_deref()),
        ("grant_type", event.grant_type.as_deref()),
        ("prefix", event.prefix.as_deref()),
        ("network", event.network.as_deref()),
        ("browser", event.browser.as_deref()),
        ("os", event.os.as_deref()),
        ("device", event.device.as_deref()),
        ("kind", event.kind.as_deref()),
        ("risk_status", event.status.as_deref()),
        ("source", event.source.as_deref()),
        ("fallback", event.fallback.as_deref()),
        ("verdict", event.verdict.as_deref()),
        ("mode", event.mode.as_deref()),
        ("grounds", event.grounds.as_deref()),
        ("demand", event.demand.as_deref()),
        ("proof", event.proof.as_deref()),
        ("error", event.error.as_deref()),
        ("model", event.model.as_deref()),
        ("review", event.review.as_deref()),
    ] {
        put(&mut rest, name, value);
    }
    Value::Object(rest)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

fn put(map: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_keeps_its_meaning() {
        let event = AuditEvent {
            schema: 2,
            seq: 7,
            time: "2026-11-26T15:00:00.123Z".to_owned(),
            id: "id-7".to_owned(),
            class: "scored".into(),
            door: Some("login".into()),
            method: "POST".into(),
            tenant: Some("carbon.super".to_owned()),
            subject: Some("ab".repeat(16)),
            score: Some(88),
            level: Some("high".into()),
            reasons: vec!["impossible_travel".into(), "risk_high".into()],
            verdict: Some("block".into()),
            matched: Some("default_high".to_owned()),
            policy: Some("0123456789abcdef".to_owned()),
            mode: Some("enforce".into()),
            action: "blocked".into(),
            outcome: "refused_here".into(),
            response_status: 403,
            ..AuditEvent::default()
        };
        let said = authentication(&event).unwrap();
        for (pointer, expected) in [
            ("/class_uid", json!(3002)),
            ("/type_uid", json!(300_201)),
            ("/time", json!(1_795_705_200_123_i64)),
            ("/action_id", json!(2)),
            ("/disposition_id", json!(2)),
            ("/status_id", json!(2)),
            ("/severity_id", json!(4)),
            ("/risk_level_id", json!(3)),
            ("/risk_score", json!(88)),
            ("/risk_details", json!("impossible_travel, risk_high")),
            ("/user/uid", json!("ab".repeat(16))),
            ("/metadata/uid", json!("id-7")),
            ("/policy/is_applied", json!(true)),
            ("/is_alert", json!(true)),
        ] {
            assert_eq!(said.pointer(pointer), Some(&expected), "{pointer}");
        }
        let watched = AuditEvent {
            mode: Some("monitor".into()),
            action: "forwarded".into(),
            ..event.clone()
        };
        assert_eq!(authentication(&watched).unwrap()["action"], "Observed");
        let passed = AuditEvent {
            door: None,
            ..event
        };
        assert_eq!(authentication(&passed), None);
    }
}
