//! A demand is not shaken off: dropped cookies, another tab, another browser string, another grant, the login form alone.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::rules;

/// A world in which one browser string is risky and every other is not: as if it alone made the score.
const RISKY: &str = "curl/8.5.0";

async fn world() -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            (
                "request.door == \"login\" && agent.browser == \"curl\"",
                "step_up",
            ),
            ("true", "allow"),
        ])),
        ..Options::default()
    })
    .await
}

async fn challenged(world: &World) -> Person<'_> {
    let mut alice = world.person("alice").from(FAR).with(RISKY);
    let page = alice.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let record = world.last_record_of("login").await;
    assert_eq!(record.demand.as_deref(), Some("raised"), "{record:#?}");
    alice
}

async fn is_still_challenged(world: &World, page: &Answer) {
    assert!(page.is_page("totp.do"), "{page:?}");
    let record = world.last_record_of("login").await;
    assert_eq!(record.verdict.as_deref(), Some("step_up"), "{record:#?}");
    assert_eq!(record.demand.as_deref(), Some("outstanding"), "{record:#?}");
    assert!(
        record
            .reasons
            .iter()
            .any(|reason| reason == "step_up_outstanding"),
        "{record:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_browser_string_without_cookies_is_still_challenged() {
    let world = world().await;
    challenged(&world).await;
    let mut alice = world.person("alice").from(FAR).with(CHROME_ON_WINDOWS);
    let page = alice.log_in().await;
    is_still_challenged(&world, &page).await;
    // Others at the same address go their way.
    let mut bob = world.person("bob").from(FAR);
    let answer = bob.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tab_of_the_same_browser_is_still_challenged() {
    let world = world().await;
    // The tab was there before the demand.
    let mut alice = world.person("alice").from(FAR).with(RISKY);
    let tab = alice.open().await;
    let page = alice.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let answer = alice.submit_password(&tab).await;
    let page = alice.follow(answer).await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let record = world.last_record_of("login").await;
    let mut scopes = record.demand_scopes;
    scopes.sort_unstable();
    assert!(scopes.contains(&"browser".to_owned()), "{scopes:?}");
    assert!(scopes.contains(&"source".to_owned()), "{scopes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_grant_does_not_go_round_it() {
    let world = world().await;
    let mut alice = challenged(&world).await;
    alice = alice.with(CHROME_ON_WINDOWS);
    let mark = world.mark().await;
    let password = alice.password().to_owned();
    let answer = alice
        .token(&[
            ("grant_type", "password"),
            ("username", "alice"),
            ("password", &password),
            ("scope", "openid"),
        ])
        .await;
    assert_eq!(
        (answer.status, answer.member("error").as_str()),
        (400, "interaction_required"),
        "{answer:?}"
    );
    assert!(world.received_since(mark).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_factor_meets_it_and_nothing_is_owed_afterwards() {
    let world = world().await;
    let mut alice = challenged(&world).await;
    let code = alice.sign_in().await;
    assert!(alice.cookie("__Host-rg_demand").is_some());
    assert_eq!(alice.redeem(&code).await.status, 200);
    assert_eq!(
        world
            .metric("riskgate_demands_total", &[("event", "proved")])
            .await,
        1.0
    );
    // The copy goes, and a browser that is not risky owes nothing.
    let again = alice.open().await;
    assert!(again.code().is_some(), "{again:?}");
    assert!(alice.cookie("__Host-rg_demand").is_none());
    let mut alice = world.person("alice").from(FAR).with(CHROME_ON_WINDOWS);
    let answer = alice.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_known_device_still_logs_in() {
    let world = world().await;
    let mut owner = world.person("alice");
    owner.sign_in().await;
    owner.forget_session();
    challenged(&world).await;
    // At home, and even at the attacker's address.
    for address in [crate::gateway::HOME, FAR] {
        owner.move_to(address);
        owner.forget_session();
        let answer = owner.log_in().await;
        let record = world.last_record_of("login").await;
        if record.level.as_deref() == Some("low") {
            assert!(answer.code().is_some(), "{address}: {record:#?}");
            assert_eq!(record.demand, None);
        } else {
            assert_eq!(address, FAR, "{record:#?}");
        }
    }
}
