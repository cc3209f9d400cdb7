//! Where WSO2 takes an e-mail address for the name (multi-attribute login), an account has several names here: what is owed
//! under one of them is owed under all, in whatever browser and at whatever address.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::rules;
use crate::saml;
use wso2_sim::SimConfig;
use wso2_sim::seed::ALICE_TOTP_SECRET;

/// As if this browser string alone made the score.
const RISKY: &str = "curl/8.5.0";
const BY_EMAIL: &str = "alice@users.example";

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
        sim: SimConfig {
            has_email_logins: true,
            ..SimConfig::default()
        },
        ..Options::default()
    })
    .await
}

/// alice by her e-mail address, in a browser that was never here before.
fn by_email<'w>(world: &'w World, address: &str) -> Person<'w> {
    named(world, BY_EMAIL, address)
}

fn named<'w>(world: &'w World, name: &str, address: &str) -> Person<'w> {
    let password = world.person("alice").password().to_owned();
    let mut person = world.person(name).guessing(&password);
    person.set_factor(ALICE_TOTP_SECRET);
    person.from(address).with(CHROME_ON_WINDOWS)
}

/// alice logs in under her username, and WSO2 has said whose tokens these are.
async fn told(world: &World) {
    let mut owner = world.person("alice");
    let code = owner.sign_in().await;
    assert_eq!(owner.redeem(&code).await.status, 200);
    world.until_learnt("alice", 1).await;
    world.settle().await;
}

/// Somebody with her password has to give a factor under her username.
async fn owes(world: &World) {
    let mut elsewhere = world.person("alice").from(FAR).with(RISKY);
    let page = elsewhere.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_that_is_owed_is_owed_under_another_name_too() {
    let world = world().await;
    told(&world).await;
    owes(&world).await;
    let mut other = by_email(&world, "203.0.113.77");
    let code = other.sign_in().await;
    let answer = other.redeem(&code).await;
    assert_eq!(
        (answer.status, answer.member("error").as_str()),
        (400, "invalid_grant"),
        "{answer:?}"
    );
    assert_eq!(answer.member("acr_values"), MFA);
    assert!(!answer.body.contains("_token"), "{answer:?}");
    let record = world.last_record_of("token").await;
    assert_eq!(
        (
            record.proof.as_deref(),
            record.demand.as_deref(),
            &*record.outcome
        ),
        (Some("acr"), Some("outstanding"), "refused_here"),
        "{record:#?}"
    );
    assert_eq!(record.demand_scopes, ["user"]);
    for reason in ["step_up_outstanding", "assurance_insufficient"] {
        assert!(
            record.reasons.iter().any(|code| code == reason),
            "{record:#?}"
        );
    }
    assert_eq!(
        world
            .metric("riskgate_demands_total", &[("event", "other_name")])
            .await,
        1.0
    );
    // The same browser is asked now, and what it proves is let through.
    other.forget_session();
    let page = other.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let answer = other.submit_code(&page).await;
    let answer = other.follow(answer).await;
    let answer = other.redeem(&answer.code().expect("a code")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(claims(&answer.member("id_token"))["acr"], MFA);
    // Who has proved it under one of the names is not asked again for what the other one owes.
    let mut again = by_email(&world, "203.0.113.78");
    let code = again.sign_in().await;
    assert_eq!(again.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_told_owe_together_from_then_on() {
    let world = world().await;
    told(&world).await;
    let mut other = by_email(&world, "203.0.113.77");
    let code = other.sign_in().await;
    assert_eq!(other.redeem(&code).await.status, 200);
    world.until_learnt(BY_EMAIL, 1).await;
    world.settle().await;
    // Under the username, and at the login form of the other name already.
    owes(&world).await;
    let page = by_email(&world, "203.0.113.78").log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let record = world.last_record_of("login").await;
    assert_eq!(record.demand_scopes, ["user"], "{record:#?}");
    // Her telephone rings three times for all of her names together.
    for name in ["alice", BY_EMAIL, "alice"] {
        let page = named(&world, name, "203.0.113.79").log_in().await;
        if page.is_page("totp.do") {
            continue;
        }
        assert_eq!(page.status, 429, "{name}: {page:?}");
    }
    let record = world.last_record_of("login").await;
    assert_eq!(record.action, "challenges_exhausted", "{record:#?}");
    // Nobody else is.
    let mut bob = world.person("bob").from("203.0.113.80");
    let code = bob.sign_in().await;
    assert_eq!(bob.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_under_the_other_name_is_owed_under_the_first() {
    let world = world().await;
    let mut other = by_email(&world, "203.0.113.77");
    let code = other.sign_in().await;
    assert_eq!(other.redeem(&code).await.status, 200);
    world.until_learnt(BY_EMAIL, 1).await;
    world.settle().await;
    // The account is known by one name, under which a factor is owed; then it comes under another one for the first time.
    let page = by_email(&world, FAR).with(RISKY).log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let answer = alice.redeem(&code).await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_grant_tells_it_as_well() {
    let world = world().await;
    told(&world).await;
    owes(&world).await;
    // The name of an account is in a JWT too, where no ID token is asked for.
    for (client, scope) in [
        ("demo-legacy", "openid"),
        ("demo-legacy", "profile"),
        ("demo-opaque", "openid"),
    ] {
        let mut other = by_email(&world, "203.0.113.77").in_app(client);
        let password = other.password().to_owned();
        let answer = other
            .token(&[
                ("grant_type", "password"),
                ("username", BY_EMAIL),
                ("password", &password),
                ("scope", scope),
            ])
            .await;
        assert_eq!(
            (answer.status, answer.member("error").as_str()),
            (400, "interaction_required"),
            "{client} {scope}: {answer:?}"
        );
        assert!(!answer.body.contains("_token"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_in_the_browser_tell_it_as_well() {
    let world = world().await;
    told(&world).await;
    owes(&world).await;
    let mut other = by_email(&world, "203.0.113.77").in_app("demo-spa");
    let page = other
        .open_with(&[("response_type", "id_token token")])
        .await;
    let answer = other.submit_password(&page).await;
    let answer = other.follow(answer).await;
    withheld(&answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_tells_it_whoever_is_named_beside_it() {
    for beside in [&[][..], &[("login_hint", "bob")]] {
        let world = world().await;
        told(&world).await;
        owes(&world).await;
        // It has handed out a code so far, which nobody has redeemed.
        let mut other = by_email(&world, "203.0.113.78");
        let answer = other.log_in().await;
        assert!(answer.code().is_some(), "{answer:?}");
        let tokens = [("response_type", "id_token token")];
        let answer = other.open_with(&[&tokens, beside].concat()).await;
        withheld(&answer);
    }
}

/// An error at the application, and no token.
fn withheld(answer: &Answer) {
    let location = answer.location().expect("a redirect");
    assert!(location.as_str().starts_with(CALLBACK), "{answer:?}");
    let fragment = location.fragment().unwrap_or_default();
    assert!(
        fragment.contains("error=unmet_authentication_requirements"),
        "{answer:?}"
    );
    assert!(!fragment.contains("_token="), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_tells_it_as_well() {
    let world = world().await;
    let through = async |mut person: Person<'_>| {
        let page = saml::open(&mut person, &saml::in_query(&saml::request("", ""))).await;
        saml::through_login(&mut person, &page).await
    };
    let answer = through(world.person("alice")).await;
    saml::reached(&answer, "urn:riskgate:acr:pwd");
    world.until_learnt("alice", 1).await;
    world.settle().await;
    owes(&world).await;
    let answer = through(by_email(&world, "203.0.113.77")).await;
    let record = world.last_record().await;
    saml::withheld(&answer, &record, "acr");
}
