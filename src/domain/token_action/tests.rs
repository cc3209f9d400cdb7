//! The golden samples of the contract, and what our answers make of calls of every form.

use super::*;
use crate::domain::action::AuthenticationCall;
use crate::domain::action::AuthenticationReply;
use crate::domain::policy::PolicySet;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::RiskLevel;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

fn samples(folder: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/actions")
        .join(folder);
    let mut samples = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        samples.insert(name, serde_json::from_str(&text).unwrap());
    }
    samples
}

fn access_sample() -> Value {
    samples("contract")["pre-issue-access-token.request.sample.json"].clone()
}

fn id_sample() -> Value {
    samples("contract")["pre-issue-id-token.request.sample.json"].clone()
}

fn parsed(call: &Value) -> ActionCall {
    ActionCall::parse(call.to_string().as_bytes()).unwrap()
}

fn token_call(call: &Value) -> TokenCall {
    match parsed(call) {
        ActionCall::Token(call) => *call,
        other => panic!("{other:?}"),
    }
}

fn scored(score: u8, level: RiskLevel) -> RiskClaims {
    RiskClaims::Scored {
        score,
        level,
        reasons: vec![Reason::UnfamiliarDevice, Reason::ImpossibleTravel],
    }
}

fn terms(text: &str) -> Terms {
    let policy = PolicySet::parse(&format!("version = 1\n[token.high]\n{text}\n")).unwrap();
    policy.tokens().terms(Some(RiskLevel::High)).clone()
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

/// What an answer looks like, its values aside: members with the types of what is in them.
fn form(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name}:{}", form(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(_) => "[]".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::Bool(_) => "truth".to_owned(),
        Value::Null => "null".to_owned(),
    }
}

/// The form of one operation: the kind of its path counts, not the name or index in it. The value of a claim has several.
fn form_of_operation(operation: &Value) -> String {
    let path = operation["path"].as_str().unwrap();
    let (front, last) = path.rsplit_once('/').unwrap();
    let last = match last {
        "-" | "expires_in" | "refresh_token" | "id_token" => last,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => "<index>",
        _ => "<name>",
    };
    let value = match &operation["value"] {
        Value::Object(claim) => {
            let names: Vec<&String> = claim.keys().collect();
            format!("{names:?}")
        }
        Value::Null => "none".to_owned(),
        _ => "value".to_owned(),
    };
    format!(
        "{} {front}/{last} {value}",
        operation["op"].as_str().unwrap()
    )
}

/// All operations of all sample answers.
fn known_operations() -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    let mut answers: Vec<Value> = samples("product-is").into_values().collect();
    answers.push(samples("contract")["pre-issue-access-token.response.risk.json"].clone());
    for answer in answers {
        let operations = answer["operations"].as_array().cloned().unwrap_or_default();
        let operations = operations.iter().filter(|one| one["op"] != "redirect");
        forms.extend(operations.map(form_of_operation));
    }
    assert!(forms.len() >= 12, "{forms:?}");
    forms
}

#[test]
fn every_sample_answer_has_the_form_of_ours() {
    let refused = |call: &Value| {
        let reply = ActionReply::Failed {
            failure_reason: "access_denied",
            failure_description: "The request was blocked by risk policy.",
        };
        assert_eq!(form(call), form(&json_of(&reply)));
        json_of(&reply)
    };
    let unchanged = json_of(&ActionReply::unchanged());
    let cut = |most: u32| {
        let call = token_call(&access_sample());
        let (operations, told) = call.under(&terms(&format!("refresh_expires_in = {most}")), &[]);
        assert_eq!(told, [Told::RefreshLifetime]);
        json_of(&ActionReply::Success { operations })
    };
    let known = known_operations();
    for (name, sample) in samples("product-is") {
        match name.as_str() {
            "error-response.json" => {
                let reply = AuthenticationReply::Error {
                    error_message: "Some error message",
                    error_description: "Some error description".to_owned(),
                };
                assert_eq!(json_of(&reply), sample);
            }
            "failure-response.json" => drop(refused(&sample)),
            "incomplete-response.json" => {
                let reply = AuthenticationReply::redirect("testUrl".to_owned());
                assert_eq!(json_of(&reply), sample);
            }
            "pre-update-password-response.json" | "pre-update-profile-response.json" => {
                assert_eq!(unchanged, sample);
            }
            "refresh-token-expiry-response-code-grant.json" => assert_eq!(cut(47_400), sample),
            "refresh-token-expiry-response-refresh-grant.json" => assert_eq!(cut(48_600), sample),
            // Of these our answers use a part; it must be a part.
            "pre-issue-access-token-response-code-before-refresh-with-refresh-token-expiry.json"
            | "pre-issue-access-token-response-code-before-refresh.json"
            | "pre-issue-access-token-response-params.json"
            | "pre-issue-access-token-response.json"
            | "pre-issue-id-token-response.json" => {
                assert_eq!(sample["actionStatus"], "SUCCESS", "{name}");
                for operation in sample["operations"].as_array().unwrap() {
                    assert!(known.contains(&form_of_operation(operation)), "{name}");
                }
            }
            other => panic!("a sample that no test looks at: {other}"),
        }
    }
    let contract = samples("contract");
    let failed = &contract["pre-issue-access-token.response.failed.json"];
    assert_eq!(refused(failed), *failed);
}

#[test]
fn the_sample_of_a_risky_token_is_what_we_answer_but_for_the_status() {
    let call = token_call(&access_sample());
    let claims = scored(73, RiskLevel::Medium);
    let mut operations = call.telling(&claims);
    let (more, told) = call.under(
        &terms("expires_in = 300\nrefresh_expires_in = 1800\nremove_scopes = [\"read\"]"),
        &[],
    );
    operations.extend(more);
    let mut ours = json_of(&ActionReply::Success { operations });
    assert_eq!(told, [Told::Scopes, Told::Lifetime, Told::RefreshLifetime]);
    // The sample has reasons of its own, and no status.
    ours["operations"][2]["value"]["value"] = json!(["new_device", "impossible_travel"]);
    let status = ours["operations"].as_array_mut().unwrap().remove(3);
    assert_eq!(
        status,
        json!({ "op": "add", "path": "/accessToken/claims/-", "value": { "name": "risk_status", "value": "scored" } })
    );
    assert_eq!(
        ours,
        samples("contract")["pre-issue-access-token.response.risk.json"]
    );
}

#[test]
fn every_sample_call_is_read() {
    let contract = samples("contract");
    let mut read = 0;
    for (name, sample) in &contract {
        match name.as_str() {
            "pre-issue-access-token.request.sample.json" => {
                let call = token_call(sample);
                assert_eq!(call.kind, TokenKind::Access);
                assert_eq!(call.decision_id.as_deref(), Some("01JF..."));
                assert_eq!(call.tenant, "carbon.super");
                assert_eq!(call.client_id, "1u31N7of6gCNR9FqkG1neSlsF_Qa");
                assert_eq!(call.grant, "authorization_code");
                assert_eq!(call.scopes, ["openid", "profile", "read"]);
                assert!(call.is_openid() && !call.carries_risk());
            }
            "pre-issue-id-token.request.sample.json" => {
                let call = token_call(sample);
                assert_eq!(call.kind, TokenKind::Id);
                assert_eq!(call.acr(), Some("acr2"));
                assert_eq!(call.amr(), ["BasicAuthenticator", "totp"]);
                assert_eq!(call.auth_time(), Some(Timestamp(1_769_344_213_000)));
                assert_eq!(call.decision_id, None);
            }
            "pre-update-password.v2.sample.json" => {
                let ActionCall::Password(call) = parsed(&sample["request"]) else {
                    panic!("{name}");
                };
                assert_eq!(call.change, Some(PasswordChange::Update));
                assert_eq!((call.tenant.as_str(), call.by_admin), ("bar.com", false));
                assert_eq!(call.names, ["e204849c-…"]);
                let printed = format!("{call:?}");
                assert!(!printed.contains("h1s2"), "{printed}");
            }
            "custom-authentication.samples.json" => {
                let call = &sample["request_step2"];
                let body = call.to_string();
                let error = ActionCall::parse(body.as_bytes()).unwrap_err();
                assert_eq!(error, CallError::Endpoint);
                let read = AuthenticationCall::parse(body.as_bytes()).unwrap();
                assert_eq!(read.passed, ["BasicAuthenticator"]);
                assert!(read.may_redirect);
            }
            "flow-extension.sample.json" => {
                assert_eq!(parsed(&sample["request"]), ActionCall::Other)
            }
            "action-response.schema.json"
            | "pre-issue-access-token.response.failed.json"
            | "pre-issue-access-token.response.risk.json" => continue,
            other => panic!("a sample that no test looks at: {other}"),
        }
        read += 1;
    }
    assert_eq!(read, 5);
}

#[test]
fn older_forms_of_the_call_are_read_as_well() {
    // v1.0 to v1.2 know less: no refresh token, no session, no parameters of the answer; headers were a map once.
    let mut old = access_sample();
    let event = old["event"].as_object_mut().unwrap();
    for member in ["refreshToken", "session", "response", "organization"] {
        event.remove(member);
    }
    for headers in [
        json!({ "x-risk-decision-id": "01JF..." }),
        json!({ "X-Risk-Decision-Id": ["01JF..."] }),
        json!([{ "name": "X-Risk-Decision-Id", "value": ["01JF...", "other"] }]),
    ] {
        old["event"]["request"]["additionalHeaders"] = headers;
        let call = token_call(&old);
        assert_eq!(call.decision_id.as_deref(), Some("01JF..."));
        let (operations, told) =
            call.under(&terms("refresh_expires_in = 60\nexpires_in = 60"), &[]);
        assert_eq!(told, [Told::Lifetime]);
        assert_eq!(operations.len(), 1);
    }
    // The form of a change of a password before v2 had a `flowId` and named no organization.
    let old = json!({
        "actionType": "PRE_UPDATE_PASSWORD",
        "flowId": "f",
        "event": {
            "tenant": { "id": "-1234", "name": "carbon.super" },
            "user": { "id": "u-1", "updatingCredential": { "type": "PASSWORD", "format": "PLAIN_TEXT", "value": "x" } },
            "userStore": { "id": "UFJJTUFSWQ==", "name": "PRIMARY" },
            "initiatorType": "ADMIN",
            "action": "RESET",
        },
    });
    let ActionCall::Password(call) = parsed(&old) else {
        panic!("{old}");
    };
    assert!(call.by_admin);
    assert_eq!(call.change, Some(PasswordChange::Reset));
    // With the claim of the username the user is known by that name too.
    let mut named = old;
    named["event"]["user"]["claims"] = json!([
        { "uri": "http://wso2.org/claims/emailaddress", "value": "x@y.z" },
        { "uri": "http://wso2.org/claims/username", "value": "alice" },
    ]);
    let ActionCall::Password(call) = parsed(&named) else {
        panic!("{named}");
    };
    assert_eq!(call.names, ["alice", "u-1"]);
}

/// The sample as a refreshed token brings it: with the claims of an earlier answer.
fn refreshed() -> Value {
    let mut call = access_sample();
    call["event"]["request"]["grantType"] = json!("refresh_token");
    let claims = call["event"]["accessToken"]["claims"]
        .as_array_mut()
        .unwrap();
    let mut paths = Vec::new();
    for (name, value) in [
        ("risk_score", json!(12)),
        ("risk_level", json!("low")),
        ("risk_reasons", json!([])),
        ("risk_status", json!("scored")),
    ] {
        claims.push(json!({ "name": name, "value": value }));
        paths.push(json!(format!("/accessToken/claims/{name}")));
    }
    for place in [1, 2] {
        let allowed = call["allowedOperations"][place]["paths"]
            .as_array_mut()
            .unwrap();
        allowed.extend(paths.clone());
    }
    call
}

#[test]
fn a_refreshed_token_says_what_is_known_now() {
    let call = token_call(&refreshed());
    assert!(call.carries_risk());
    let operations = json_of(&call.telling(&scored(80, RiskLevel::High)));
    assert_eq!(
        operations,
        json!([
            { "op": "replace", "path": "/accessToken/claims/risk_score", "value": 80 },
            { "op": "replace", "path": "/accessToken/claims/risk_level", "value": "high" },
            { "op": "replace", "path": "/accessToken/claims/risk_reasons", "value": ["unfamiliar_device", "impossible_travel"] },
        ])
    );
    // Without a score nothing of the old one stays.
    let operations = json_of(&call.telling(&RiskClaims::Unscored));
    assert_eq!(
        operations,
        json!([
            { "op": "replace", "path": "/accessToken/claims/risk_status", "value": "unscored" },
            { "op": "remove", "path": "/accessToken/claims/risk_score" },
            { "op": "remove", "path": "/accessToken/claims/risk_level" },
            { "op": "remove", "path": "/accessToken/claims/risk_reasons" },
        ])
    );
    let known = known_operations();
    for operation in operations.as_array().unwrap() {
        assert!(known.contains(&form_of_operation(operation)), "{operation}");
    }
}

#[test]
fn claims_that_are_there_in_part_are_added_and_replaced() {
    let names = ["risk_score", "risk_level", "risk_reasons", "risk_status"];
    for present in 0..16_u8 {
        let mut call = refreshed();
        let claims = call["event"]["accessToken"]["claims"]
            .as_array_mut()
            .unwrap();
        let is_present = |name: &str| {
            let place = names.iter().position(|known| *known == name);
            place.is_none_or(|place| present & (1 << place) != 0)
        };
        claims.retain(|claim| is_present(claim["name"].as_str().unwrap()));
        let call = token_call(&call);
        for claims in [
            scored(12, RiskLevel::Low),
            scored(99, RiskLevel::High),
            RiskClaims::Unscored,
        ] {
            // Whatever was there, what the token says afterwards is exactly what is to be said.
            let mut token: BTreeMap<String, Value> = call.claims.iter().cloned().collect();
            for operation in call.telling(&claims) {
                let name = operation.path.rsplit('/').next().unwrap().to_owned();
                match operation.op {
                    Op::Add => {
                        let claim = operation.value.unwrap();
                        let name = claim["name"].as_str().unwrap().to_owned();
                        let before = token.insert(name, claim["value"].clone());
                        assert_eq!(
                            before, None,
                            "an existing claim is not added: WSO2 skips that in silence"
                        );
                    }
                    Op::Replace => assert!(token.insert(name, operation.value.unwrap()).is_some()),
                    Op::Remove => assert!(token.remove(&name).is_some()),
                }
            }
            token.retain(|name, _| names.contains(&name.as_str()));
            let said: BTreeMap<String, Value> = claims
                .members()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            assert_eq!(token, said, "{present:04b}");
        }
    }
}

#[test]
fn only_what_the_call_allows_is_done() {
    let all = terms("expires_in = 60\nrefresh_expires_in = 60\nremove_scopes = [\"*\"]");
    for (allowed, expected) in [
        (json!(null), 0),
        (json!([]), 0),
        (json!("add"), 0),
        (
            json!([{ "op": "add", "paths": ["/accessToken/claims"] }]),
            0,
        ),
        (
            json!([{ "op": "destroy", "paths": ["/accessToken/claims/"] }]),
            0,
        ),
        (
            json!([{ "op": "replace", "paths": ["/accessToken/claims/"] }]),
            1,
        ),
        (
            json!([{ "op": "replace", "paths": ["/accessToken/claims/expires_in"] }]),
            1,
        ),
        (
            json!([{ "op": "remove", "paths": ["/accessToken/scopes/"] }]),
            3,
        ),
        (
            json!([{ "op": "add", "paths": [7, "/accessToken/claims/"] }]),
            4,
        ),
    ] {
        let mut call = access_sample();
        call["allowedOperations"] = allowed.clone();
        let call = token_call(&call);
        let mut operations = call.telling(&scored(50, RiskLevel::Medium));
        operations.extend(call.under(&all, &[]).0);
        assert_eq!(operations.len(), expected, "{allowed}");
    }
}

#[test]
fn scopes_go_by_their_place_in_the_call_and_lifetimes_are_only_cut() {
    let call = token_call(&access_sample());
    let (operations, told) = call.under(
        &terms(
            "expires_in = 7200\nrefresh_expires_in = 86400\nremove_scopes = [\"read\", \"openid\"]",
        ),
        &[],
    );
    assert_eq!(
        json_of(&operations),
        json!([
            { "op": "remove", "path": "/accessToken/scopes/2" },
            { "op": "remove", "path": "/accessToken/scopes/0" },
        ])
    );
    assert_eq!(told, [Told::Scopes, Told::Scopes]);
    assert_eq!(call.under(&Terms::default(), &[]), (Vec::new(), Vec::new()));
}

#[test]
fn an_id_token_is_told_the_risk_and_keeps_its_lifetime() {
    let call = token_call(&id_sample());
    let operations = call.telling(&scored(73, RiskLevel::High));
    assert_eq!(operations.len(), 4);
    let known = known_operations();
    for operation in &operations {
        assert!(known.contains(&form_of_operation(&json_of(operation))));
    }
    assert_eq!(operations[0].path, "/idToken/claims/-");
    assert_eq!(
        call.under(&terms("expires_in = 60"), &[]),
        (Vec::new(), Vec::new())
    );
}

#[test]
fn a_call_of_whatever_form_is_read_without_panic() {
    for (body, error) in [
        (&b"{"[..], CallError::Json),
        (b"[]", CallError::Json),
        (b"{}", CallError::Member("actionType")),
        (b"{\"actionType\":7}", CallError::Member("actionType")),
    ] {
        assert_eq!(ActionCall::parse(body), Err(error));
    }
    let kinds = [
        "PRE_ISSUE_ACCESS_TOKEN",
        "PRE_ISSUE_ID_TOKEN",
        "PRE_UPDATE_PASSWORD",
    ];
    for kind in kinds {
        for event in [
            json!(null),
            json!([]),
            json!({ "accessToken": { "claims": {}, "scopes": [7, null] }, "request": [] }),
            json!({ "idToken": { "claims": [7, {}, { "name": "acr" }, { "name": "auth_time", "value": i64::MAX }] } }),
            json!({ "user": { "claims": "x" }, "tenant": { "name": "" } }),
        ] {
            let call = json!({ "actionType": kind, "event": event, "allowedOperations": [{ "op": "add" }] });
            if let ActionCall::Token(call) = parsed(&call) {
                assert!(call.telling(&RiskClaims::Unscored).is_empty());
                assert_eq!((call.acr(), call.auth_time()), (None, None));
            }
        }
    }
}
