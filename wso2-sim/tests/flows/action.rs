//! The pre-issue access token action as its endpoint sees it, and what the answers do to tokens.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use wso2_sim::ActionAuth;
use wso2_sim::ActionSettings;

use crate::harness::Endpoint;
use crate::harness::basic;
use crate::harness::browser;
use crate::harness::checked;
use crate::harness::code_of;
use crate::harness::redeem;
use crate::harness::start;
use crate::harness::text;
use crate::harness::token;

fn success(operations: Value) -> (u16, Value) {
    (
        200,
        json!({"actionStatus": "SUCCESS", "operations": operations}),
    )
}

#[tokio::test]
async fn the_call_has_the_shape_of_the_contract_and_its_answer_is_obeyed() {
    let operations = json!([
        {"op": "add", "path": "/accessToken/claims/-", "value": {"name": "risk_score", "value": 73}},
        {"op": "remove", "path": "/accessToken/scopes/2"},
        {"op": "replace", "path": "/accessToken/claims/expires_in", "value": 300},
        {"op": "add", "path": "/response/parameters/-", "value": {"name": "risk_level", "value": "medium"}},
        {"op": "add", "path": "/response/parameters/-", "value": {"name": "access_token", "value": "mine"}},
    ]);
    let endpoint = Endpoint::start(vec![success(operations), success(json!([]))]).await;
    let sim = start().await;
    let mut settings = ActionSettings::new(&endpoint.url);
    settings.auth = ActionAuth::Bearer("t0ken".to_owned());
    sim.set_action(Some(settings)).unwrap();
    let mut browser = browser(&sim);
    let code = code_of(
        &mut browser,
        &sim,
        "demo-web",
        &[("scope", "openid profile write")],
    )
    .await;

    let mut client = crate::harness::browser(&sim);
    client.headers = vec![
        basic("demo-web", "demo-web-secret"),
        ("X-Risk-Decision-Id".to_owned(), "d-1".to_owned()),
        ("cookie".to_owned(), "a=b".to_owned()),
    ];
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", crate::harness::CB),
        ("device", "phone"),
    ];
    let url = format!("{}/oauth2/token", sim.url);
    let body = client.post_form(&url, &fields).await.unwrap().json();
    assert_eq!(
        (&body["scope"], &body["expires_in"]),
        (&json!("openid profile"), &json!(300))
    );
    assert_eq!(body["risk_level"], "medium");
    let (_, claims) = checked(&sim, text(&body, "access_token"), "demo-web").await;
    assert_eq!(claims["risk_score"], 73);
    assert_eq!(claims["scope"], "openid profile");

    let call = endpoint.received().remove(0);
    assert_eq!(call.headers["x-wso2-api-version"], "v1.3");
    assert_eq!(call.headers["authorization"], "Bearer t0ken");
    let request = &call.body;
    assert_eq!(request["actionType"], "PRE_ISSUE_ACCESS_TOKEN");
    assert!(request["requestId"].is_string());
    let event = &request["event"];
    assert_eq!(event["request"]["grantType"], "authorization_code");
    assert_eq!(
        event["request"]["scopes"],
        json!(["openid", "profile", "write"])
    );
    let headers = event["request"]["additionalHeaders"].as_array().unwrap();
    assert!(headers.contains(&json!({"name": "x-risk-decision-id", "value": ["d-1"]})));
    assert!(
        headers
            .iter()
            .all(|header| header["name"] != "authorization" && header["name"] != "cookie")
    );
    let params = &event["request"]["additionalParams"];
    assert_eq!(*params, json!([{"name": "device", "value": ["phone"]}]));
    assert_eq!(
        event["tenant"],
        json!({"id": "-1234", "name": "carbon.super"})
    );
    assert_eq!(event["user"]["id"], claims["sub"]);
    assert_eq!(event["accessToken"]["tokenType"], "JWT");
    assert!(event["session"]["sessionDataKeyConsent"].is_string());
    assert_eq!(event["refreshToken"]["claims"][0]["value"], 86_400);
    assert_eq!(request["allowedOperations"][0]["op"], "add");

    // On refresh the added claim is carried, so the endpoint sees it and adding it again is skipped.
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&body, "refresh_token")),
    ];
    let refreshed = token(&sim, Some("demo-web"), &fields).await.json();
    let (_, claims) = checked(&sim, text(&refreshed, "access_token"), "demo-web").await;
    assert_eq!(claims["risk_score"], 73);
    let seen = endpoint.received().remove(1).body;
    let known = seen["event"]["accessToken"]["claims"].as_array().unwrap();
    assert!(known.contains(&json!({"name": "risk_score", "value": 73})));
}

#[tokio::test]
async fn failures_are_closed_and_only_some_are_tried_again() {
    for (answer, status, error, calls) in [
        (
            (
                200,
                json!({"actionStatus": "FAILED", "failureReason": "access_denied", "failureDescription": "no"}),
            ),
            400,
            "access_denied",
            1,
        ),
        (
            (
                200,
                json!({"actionStatus": "FAILED", "failureReason": "server_error"}),
            ),
            500,
            "server_error",
            1,
        ),
        (
            (200, json!({"actionStatus": "INCOMPLETE", "operations": []})),
            500,
            "server_error",
            1,
        ),
        (
            (400, json!({"actionStatus": "ERROR"})),
            500,
            "server_error",
            1,
        ),
        ((302, json!({})), 500, "server_error", 1),
        ((503, json!({})), 500, "server_error", 2),
    ] {
        let endpoint = Endpoint::start(vec![answer.clone()]).await;
        let sim = start().await;
        sim.set_action(Some(ActionSettings::new(&endpoint.url)))
            .unwrap();
        let page = token(
            &sim,
            Some("demo-service"),
            &[("grant_type", "client_credentials")],
        )
        .await;
        assert_eq!(
            (page.status, text(&page.json(), "error")),
            (status, error),
            "{answer:?}"
        );
        assert_eq!(endpoint.received().len(), calls, "{answer:?}");
    }
}

#[tokio::test]
async fn a_dead_or_silent_endpoint_costs_the_token() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sim = start().await;
    let mut settings = ActionSettings::new(format!("http://{}", silent.local_addr().unwrap()));
    settings.read_timeout = Duration::from_millis(50);
    sim.set_action(Some(settings)).unwrap();
    let fields = [("grant_type", "client_credentials")];
    let page = token(&sim, Some("demo-service"), &fields).await;
    assert_eq!(
        page.json(),
        json!({"error": "server_error", "error_description": "Internal Server Error."})
    );
    assert_eq!(page.status, 500);
    // Opaque tokens do not pass through the action.
    assert_eq!(token(&sim, Some("demo-opaque"), &fields).await.status, 200);
    drop(silent);
    assert_eq!(token(&sim, Some("demo-service"), &fields).await.status, 500);
    sim.set_action(None).unwrap();
    assert_eq!(token(&sim, Some("demo-service"), &fields).await.status, 200);
}

#[tokio::test]
async fn an_allow_list_of_headers_is_kept() {
    let endpoint = Endpoint::start(vec![success(json!([]))]).await;
    let sim = start().await;
    let mut settings = ActionSettings::new(&endpoint.url);
    settings.allowed_headers = Some(vec!["x-risk-decision-id".to_owned()]);
    sim.set_action(Some(settings)).unwrap();
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    redeem(&sim, "demo-web", &code).await;
    let event = endpoint.received().remove(0).body;
    assert_eq!(event["event"]["request"]["additionalHeaders"], json!([]));
}

#[tokio::test]
async fn a_refused_refresh_leaves_the_token_as_it_was() {
    let refusal = json!({"actionStatus": "FAILED", "failureReason": "invalid_grant", "failureDescription": "risk"});
    let answers = vec![success(json!([])), (200, refusal), success(json!([]))];
    let endpoint = Endpoint::start(answers).await;
    let sim = start().await;
    sim.set_action(Some(ActionSettings::new(&endpoint.url)))
        .unwrap();
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    let body = redeem(&sim, "demo-web", &code).await.json();
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&body, "refresh_token")),
    ];
    let refused = token(&sim, Some("demo-web"), &fields).await;
    assert_eq!(
        (refused.status, text(&refused.json(), "error")),
        (400, "invalid_grant")
    );
    assert_eq!(token(&sim, Some("demo-web"), &fields).await.status, 200);
    assert_eq!(token(&sim, Some("demo-web"), &fields).await.status, 400);
}
