//! Logins that the identity server takes at the endpoint of a protocol (`tocommonauth`) and answers in place: they are scored
//! as the logins that they are, and are no way around a demand.

use crate::gateway::Answer;
use crate::gateway::FAR;
use crate::gateway::Person;
use crate::gateway::deaf;
use crate::gateway::param;
use crate::gateway::stepped_up;
use crate::saml::AT_LOGIN;
use crate::saml::NOBODY;
use crate::saml::in_query;
use crate::saml::open;
use crate::saml::reached;
use crate::saml::request;
use crate::saml::withheld;
use wso2_sim::SimConfig;

/// The fields of a login form that posts to the endpoint of its protocol.
async fn submit_in_place(
    person: &mut Person<'_>,
    path: &str,
    page: &Answer,
    password: &str,
) -> Answer {
    let key = param(&page.url, "sessionDataKey").unwrap();
    let fields = [
        ("username", "alice"),
        ("password", password),
        ("sessionDataKey", &key),
        ("tocommonauth", "true"),
    ];
    person.post(path, &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_answered_in_place_is_a_login() {
    let world = stepped_up(NOBODY, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let page = open(&mut alice, &in_query(&request("", ""))).await;
    let mark = world.mark().await;
    let answer = submit_in_place(&mut alice, "/samlsso", &page, "wrong").await;
    assert_eq!(answer.status, 302);
    let record = world.record_since(mark).await;
    assert_eq!(
        (
            record.door.as_deref(),
            &*record.outcome,
            record.client_id.as_deref()
        ),
        (Some("login"), "failed", Some("demo-saml")),
        "{record:#?}"
    );
    let page = alice.get(answer.location().unwrap().as_str()).await;
    let mark = world.mark().await;
    let answer = submit_in_place(&mut alice, "/samlsso", &page, "wonderland").await;
    reached(&answer, "urn:riskgate:acr:pwd");
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.door.as_deref(), &*record.outcome),
        (Some("login"), "succeeded"),
        "{record:#?}"
    );
    // The same at the authorize endpoint: the code is known to come from this login.
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let answer = submit_in_place(&mut alice, "/oauth2/authorize", &page, "wonderland").await;
    assert_eq!(world.last_record().await.outcome, "succeeded");
    let code = answer.code().unwrap();
    let mark = world.mark().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    let record = world.record_since(mark).await;
    assert!(
        !record.reasons.iter().any(|code| code == "code_unknown"),
        "{record:#?}"
    );
    // Who names no login asks for one, and not at the login door.
    let path = format!("{}&tocommonauth=true", alice.authorize_path(&[]));
    alice.get(&path).await;
    let record = world.last_record().await;
    assert_eq!(
        (record.door.as_deref(), record.client_id.as_deref()),
        (Some("authorize"), Some("demo-web"))
    );
    // What is a login and a logout at once is neither.
    let fields = [
        ("tocommonauth", "true"),
        ("commonAuthLogout", "true"),
        ("sessionDataKey", "k"),
    ];
    for path in ["/samlsso", "/oauth2/authorize", "/passivests"] {
        assert_eq!(alice.post(path, &fields).await.status, 400, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_place_is_no_way_around_a_demand() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    let mut alice = world.person("alice");
    let page = open(&mut alice, &in_query(&request("", ""))).await;
    let answer = submit_in_place(&mut alice, "/samlsso", &page, "wonderland").await;
    withheld(&answer, &world.last_record().await, "acr");
    let mut alice = world.person("alice").from(FAR);
    let page = alice.open().await;
    let answer = submit_in_place(&mut alice, "/oauth2/authorize", &page, "wonderland").await;
    let code = answer
        .code()
        .expect("a code is checked when it is redeemed");
    assert_eq!(alice.redeem(&code).await.status, 400);
    assert_eq!(world.last_record().await.proof.as_deref(), Some("acr"));
}
