//! Sessions, SCIM, decisions: the APIs that a gateway uses or guards.

use serde_json::json;

use crate::harness::authorize_url;
use crate::harness::basic;
use crate::harness::browser;
use crate::harness::code_of;
use crate::harness::post;
use crate::harness::redeem;
use crate::harness::start;
use crate::harness::text;
use crate::harness::token;

#[tokio::test]
async fn a_gateway_ends_a_session_and_its_tokens_with_a_client_credentials_token() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    let tokens = redeem(&sim, "demo-web", &code).await.json();
    let at = [("token", text(&tokens, "access_token"))];
    let state = post(&sim, "/oauth2/introspect", Some("demo-web"), &at)
        .await
        .json();
    let user = text(&state, "sub").to_owned();

    let fields = [
        ("grant_type", "client_credentials"),
        ("scope", "internal_session_view internal_session_delete"),
    ];
    let ops = token(&sim, Some("riskgate-ops"), &fields).await.json();
    let bearer = text(&ops, "access_token").to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/users/v1/{user}/sessions", sim.url);
    let anonymous = http.get(&url).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let other = http
        .get(&url)
        .basic_auth("bob", Some("builder-2024"))
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 403);
    let list = http.get(&url).bearer_auth(&bearer).send().await.unwrap();
    let list: serde_json::Value = serde_json::from_str(&list.text().await.unwrap()).unwrap();
    let session = &list["sessions"][0];
    assert_eq!(session["applications"][0]["appName"], "demo-web");
    let id = text(session, "id");
    let gone = http
        .delete(format!("{url}/{id}"))
        .bearer_auth(&bearer)
        .send()
        .await
        .unwrap();
    assert_eq!(gone.status(), 204);

    assert_eq!(
        post(&sim, "/oauth2/introspect", Some("demo-web"), &at)
            .await
            .json()["active"],
        false
    );
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&tokens, "refresh_token")),
    ];
    assert_eq!(token(&sim, Some("demo-web"), &refresh).await.status, 400);
    let next = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    assert_eq!(
        next.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );
}

#[tokio::test]
async fn basic_credentials_at_scim_are_a_login() {
    let sim = start().await;
    let get = async |user: &str, password: &str, path: &str| {
        let mut browser = browser(&sim);
        browser.headers.push(basic(user, password));
        browser.get(&format!("{}{path}", sim.url)).await.unwrap()
    };
    let me = get("alice", "wonderland", "/scim2/Me").await;
    assert_eq!((me.status, &me.json()["userName"]), (200, &json!("alice")));
    assert_eq!(me.header("content-type"), Some("application/scim+json"));
    let wrong = get("alice", "x", "/scim2/Me").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("www-authenticate").is_some());
    assert_eq!(get("alice", "wonderland", "/scim2/Users").await.status, 403);
    let all = get("admin", "admin", "/scim2/Users?count=3").await.json();
    assert_eq!(
        (
            &all["itemsPerPage"],
            all["totalResults"].as_u64().unwrap() >= 12
        ),
        (&json!(3), true)
    );
    let bob = get("admin", "admin", "/scim2/Users?filter=userName%20eq%20bob")
        .await
        .json();
    let id = text(&bob["Resources"][0], "id").to_owned();

    let lock = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{"op": "replace", "value": {"urn:scim:wso2:schema": {"accountLocked": true}}}]});
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let patch = http
        .patch(format!("{}/scim2/Users/{id}", sim.url))
        .basic_auth("admin", Some("admin"))
        .json(&lock)
        .send()
        .await
        .unwrap();
    assert_eq!(patch.status(), 200);
    assert_eq!(get("bob", "builder-2024", "/scim2/Me").await.status, 401);
    for _ in 0..5 {
        get("carol", "x", "/scim2/Me").await;
    }
    assert_eq!(get("carol", "carol-sings", "/scim2/Me").await.status, 401);
}

#[tokio::test]
async fn a_decision_reads_the_risk_from_the_environment() {
    let sim = start().await;
    let ask = async |score: serde_json::Value| {
        let mut browser = browser(&sim);
        browser.headers.push(basic("admin", "admin"));
        let body = json!({"Request": {"Environment": {"Attribute": [
            {"AttributeId": "urn:riskgate:risk-score", "Value": score}]}}});
        let url = format!("{}/api/identity/entitlement/decision/pdp", sim.url);
        browser.post_json(&url, &body).await.unwrap()
    };
    assert_eq!(
        ask(json!(49)).await.json()["Response"][0]["Decision"],
        "Permit"
    );
    assert_eq!(
        ask(json!(50)).await.json()["Response"][0]["Decision"],
        "Deny"
    );
    assert_eq!(ask(json!(70.5)).await.status, 400);
}
