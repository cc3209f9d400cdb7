//! App-native authentication: JSON instead of pages, 200 for the user's mistakes.

use serde_json::Value;
use serde_json::json;
use wso2_sim::seed;

use crate::harness::MFA;
use crate::harness::authorize_url;
use crate::harness::browser;
use crate::harness::checked;
use crate::harness::redeem;
use crate::harness::start;
use crate::harness::start_with;
use crate::harness::text;

const PASSWORD_ID: &str = "QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM";
const TOTP_ID: &str = "dG90cDpMT0NBTA";

fn answer(flow: &Value, authenticator: &str, params: Value) -> Value {
    json!({"flowId": flow["flowId"],
        "selectedAuthenticator": {"authenticatorId": authenticator, "params": params}})
}

#[tokio::test]
async fn a_login_in_json_with_a_wrong_password_and_a_second_factor() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let url = authorize_url(
        &sim,
        "demo-web",
        &[("response_mode", "direct"), ("acr_values", MFA)],
    );
    let start = browser.get(&url).await.unwrap();
    assert_eq!(start.status, 200);
    let flow = start.json();
    assert_eq!(flow["flowStatus"], "INCOMPLETE");
    let authenticator = &flow["nextStep"]["authenticators"][0];
    assert_eq!(authenticator["authenticatorId"], PASSWORD_ID);
    assert_eq!(
        authenticator["requiredParams"],
        json!(["username", "password"])
    );
    assert_eq!(
        flow["links"][0]["href"],
        format!("{}/oauth2/authn", sim.url)
    );
    let door = format!("{}/oauth2/authn", sim.url);

    let wrong = answer(
        &flow,
        PASSWORD_ID,
        json!({"username": "alice", "password": "x"}),
    );
    let page = browser.post_json(&door, &wrong).await.unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(page.json()["flowStatus"], "FAIL_INCOMPLETE");
    let message = &page.json()["nextStep"]["messages"][0];
    assert_eq!(message["messageId"], "17002");
    assert_eq!(
        message["context"],
        json!([{"key": "remainingAttempts", "value": "4"}])
    );

    let right = answer(
        &flow,
        PASSWORD_ID,
        json!({"username": "alice", "password": "wonderland"}),
    );
    let second = browser.post_json(&door, &right).await.unwrap().json();
    assert_eq!(
        second["nextStep"]["authenticators"][0]["authenticatorId"],
        TOTP_ID
    );
    let code = wso2_sim::totp_at(seed::ALICE_TOTP_SECRET, sim.now_s());
    let last = answer(&flow, TOTP_ID, json!({"token": code}));
    let done = browser.post_json(&door, &last).await.unwrap();
    assert_eq!(done.json()["flowStatus"], "SUCCESS_COMPLETED");
    assert_eq!(done.json()["authData"]["state"], "s-1");
    assert!(browser.cookie("commonAuthId").is_some());
    let code = text(&done.json()["authData"], "code").to_owned();
    let tokens = redeem(&sim, "demo-web", &code).await.json();
    let (_, id) = checked(&sim, text(&tokens, "id_token"), "demo-web").await;
    assert_eq!(id["acr"], MFA);

    // With the session the answer comes at once.
    let again = browser.get(&url).await.unwrap();
    assert_eq!(again.json()["flowStatus"], "SUCCESS_COMPLETED");
}

#[tokio::test]
async fn callers_mistakes_are_400() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let door = format!("{}/oauth2/authn", sim.url);
    let flow = browser
        .get(&authorize_url(
            &sim,
            "demo-web",
            &[("response_mode", "direct")],
        ))
        .await
        .unwrap()
        .json();
    for (body, code) in [
        (json!({"flowId": "unknown"}), "ABA-60001"),
        (json!([]), "ABA-60001"),
        (answer(&flow, TOTP_ID, json!({"token": "1"})), "ABA-60002"),
        (
            answer(&flow, PASSWORD_ID, json!({"username": "alice"})),
            "ABA-60001",
        ),
        (answer(&flow, PASSWORD_ID, json!(7)), "ABA-60001"),
    ] {
        let page = browser.post_json(&door, &body).await.unwrap();
        assert_eq!(
            (page.status, text(&page.json(), "code")),
            (400, code),
            "{body}"
        );
        assert!(page.json()["traceId"].is_string());
    }
    let form = browser.post_form(&door, &[("flowId", "x")]).await.unwrap();
    assert_eq!(form.status, 415);
    // An application that has it off, and a flow of the login pages.
    let off = authorize_url(&sim, "demo-consent", &[("response_mode", "direct")]);
    assert_eq!(browser.get(&off).await.unwrap().status, 400);
    let pages = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    let key = pages.location_param("sessionDataKey").unwrap();
    let body = answer(
        &json!({"flowId": key}),
        PASSWORD_ID,
        json!({"username": "alice", "password": "wonderland"}),
    );
    assert_eq!(browser.post_json(&door, &body).await.unwrap().status, 400);
}

#[tokio::test]
async fn a_lock_is_told_only_where_reasons_are_shown() {
    for (shows, last_id) in [(true, "17003"), (false, "17002")] {
        let sim = start_with(|config| config.show_auth_failure_reason = shows).await;
        let mut browser = browser(&sim);
        let url = authorize_url(&sim, "demo-web", &[("response_mode", "direct")]);
        let flow = browser.get(&url).await.unwrap().json();
        let wrong = answer(
            &flow,
            PASSWORD_ID,
            json!({"username": "alice", "password": "x"}),
        );
        let mut last = json!(null);
        for _ in 0..6 {
            let door = format!("{}/oauth2/authn", sim.url);
            last = browser.post_json(&door, &wrong).await.unwrap().json();
        }
        assert_eq!(last["nextStep"]["messages"][0]["messageId"], last_id);
    }
}
