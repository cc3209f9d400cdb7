//! Events about logins and sessions.

use hmac::Hmac;
use hmac::Mac;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;
use wso2_sim::WebhookSettings;

use crate::harness::CB;
use crate::harness::Endpoint;
use crate::harness::authorize_url;
use crate::harness::basic;
use crate::harness::browser;
use crate::harness::sign_in;
use crate::harness::start;

const EVENTS: &str = "https://schemas.identity.wso2.org/events/";

fn payload<'a>(body: &'a Value, kind: &str) -> &'a Value {
    &body["events"][format!("{EVENTS}{kind}")]
}

#[tokio::test]
async fn failures_successes_and_revocations_are_told_and_signed() {
    let endpoint = Endpoint::start(vec![(202, json!({}))]).await;
    let sim = start().await;
    sim.set_webhook(Some(WebhookSettings {
        url: endpoint.url.clone(),
        secret: Some("k".to_owned()),
    }));
    let mut browser = browser(&sim);
    browser.headers.push((
        "X-Forwarded-For".to_owned(),
        "203.0.113.9, 10.0.0.1".to_owned(),
    ));
    let first = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    let page = browser.follow(first, CB).await.unwrap();
    browser
        .submit_password(&page, "alice", "wrong")
        .await
        .unwrap();
    sign_in(&mut browser, &sim, &authorize_url(&sim, "demo-web", &[])).await;
    let mut admin = crate::harness::browser(&sim);
    admin.headers.push(basic("alice", "wonderland"));
    let me = admin
        .get(&format!("{}/api/users/v1/me/sessions", sim.url))
        .await
        .unwrap()
        .json();
    assert_eq!(me["sessions"][0]["ip"], "203.0.113.9");
    sim.set_outage(wso2_sim::Outage::None);

    let received = endpoint.wait_for(2).await;
    let failed = payload(&received[0].body, "login/event-type/loginFailed");
    assert_eq!(failed["initiatorIpAddress"], "203.0.113.9");
    assert_eq!(failed["user"]["claims"][0]["value"], "alice");
    assert_eq!(
        failed["reason"]["context"]["failedStep"],
        json!({"step": 1, "idp": "LOCAL", "authenticator": "BasicAuthenticator"})
    );
    let success = payload(&received[1].body, "login/event-type/loginSuccess");
    assert_eq!(
        success["authenticationMethods"],
        json!(["BasicAuthenticator"])
    );
    assert_eq!(
        received[1].body["iss"],
        format!("{}/t/carbon.super", sim.url)
    );
    assert!(received[1].body["iat"].as_i64().unwrap() > 1_000_000_000_000);
    let mut mac = Hmac::<Sha256>::new_from_slice(b"k").unwrap();
    mac.update(received[1].raw_body.as_bytes());
    let expected: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        received[1].headers["x-hub-signature"],
        format!("sha256={expected}")
    );

    let sub = success["user"]["id"].as_str().unwrap();
    let url = format!("{}/api/users/v1/{sub}/sessions", sim.url);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let deleted = client
        .delete(&url)
        .basic_auth("admin", Some("admin"))
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.status(), 204);
    let received = endpoint.wait_for(3).await;
    let revoked = payload(&received[2].body, "session/event-type/sessionRevoked");
    assert_eq!(revoked["user"]["id"], sub);
    assert_eq!(sim.webhooks_dropped(), 0);
}
