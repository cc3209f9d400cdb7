//! An organization has users of its own: who is called as somebody in the tenant above it is somebody else here.

use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::rules;
use wso2_sim::seed::ACME_ORG_ID;

async fn world(policy: &[(&str, &str)]) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(policy)),
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_has_neither_the_profile_nor_its_trust() {
    let world = world(&[
        ("request.organization != \"\" && user.known", "block"),
        ("true", "allow"),
    ])
    .await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    world.until_learnt("alice", 1).await;
    let of_tenant = world.last_record_of("login").await;

    // Nothing is known of her namesake, at the same place and with the same browser.
    let mut namesake = world.person("alice").of_organization();
    namesake.sign_in().await;
    let of_organization = world.last_record_of("login").await;
    assert_eq!(of_organization.outcome, "succeeded", "{of_organization:#?}");
    assert_eq!(of_organization.organization.as_deref(), Some(ACME_ORG_ID));
    assert!(of_organization.subject.is_some());
    assert_ne!(of_organization.subject, of_tenant.subject);

    // What was learnt is found again at each door of the organization, by every prefix that leads there.
    world.settle().await;
    for prefix in ["", "/t/carbon.super"] {
        let path = format!("{prefix}/o/{ACME_ORG_ID}/oauth2/token");
        let fields = [
            ("grant_type", "password"),
            ("username", "Alice"),
            ("password", "acme-pw-1"),
        ];
        let answer = world.post(&path, Some("demo-legacy"), &fields).await;
        assert_eq!(answer.status, 400, "{prefix}: {answer:?}");
        let record = world.last_record_of("token").await;
        assert_eq!(record.action, "blocked", "{prefix}: {record:#?}");
        assert_eq!(record.subject, of_organization.subject, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_owes_nothing_and_proves_nothing() {
    const RISKY: &str = "curl/8.5.0";
    let world = world(&[
        (
            "request.door == \"login\" && agent.browser == \"curl\"",
            "step_up",
        ),
        ("true", "allow"),
    ])
    .await;
    // Somebody in the tenant owes a factor, from another place and browser.
    let mut elsewhere = world.person("alice").from(FAR).with(RISKY);
    let page = elsewhere.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");

    let mut namesake = world
        .person("alice")
        .of_organization()
        .with(CHROME_ON_WINDOWS);
    let code = namesake.sign_in().await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.demand, None, "{record:#?}");
    let tokens = namesake.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");

    // What is owed in the organization is owed there, and proved there alone.
    let mut elsewhere = world
        .person("alice")
        .of_organization()
        .from("203.0.113.99")
        .with(RISKY);
    let page = elsewhere.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let answer = elsewhere.submit_code(&page).await;
    let answer = elsewhere.follow(answer).await;
    let code = answer.code().expect("a code");
    let tokens = elsewhere.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.last_record_of("token").await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");

    let mut owner = world.person("alice").with(CHROME_ON_WINDOWS);
    let page = owner.log_in().await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.demand.as_deref(), Some("outstanding"), "{record:#?}");
    assert!(page.is_page("totp.do"), "{page:?}");
}
