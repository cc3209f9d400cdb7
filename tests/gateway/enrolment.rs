//! A user without a second factor, when one is demanded: the user's own device enrols one, anybody else never gets to
//! choose it, and an analyst may open the way.

use crate::gateway::Answer;
use crate::gateway::FAR;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::param;
use crate::gateway::rules;
use crate::review::decide;
use crate::review::waiting;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use riskgate::domain::audit::AuditEvent;
use wso2_sim::SimConfig;

/// Nobody owes anything at the first login; whoever is known is stepped up.
async fn world(config: &'static str) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            ("request.door == \"login\" && user.logins >= 1", "step_up"),
            ("true", "allow"),
        ])),
        config,
        sim: SimConfig {
            enrols_at_login: true,
            ..SimConfig::default()
        },
        ..Options::default()
    })
    .await
}

/// Dave, who has no second factor, on the device that he has logged in with once.
async fn dave(world: &World) -> Person<'_> {
    let mut dave = world.person("dave");
    let answer = dave.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
    world.until_learnt("dave", 1).await;
    dave.forget_session();
    dave
}

/// The secret in the URL of the page on which an app is enrolled.
fn secret(page: &Answer) -> String {
    let key = param(&page.url, "ske").expect("a key");
    let key = String::from_utf8(STANDARD.decode(key).expect("Base64")).expect("text");
    param(&key.parse().expect("a URL"), "secret").expect("a secret")
}

fn session_of(page: &Answer) -> String {
    param(&page.url, "sessionDataKey").expect("a login in progress")
}

/// Answers the page on which an app is enrolled.
async fn answer_page(person: &mut Person<'_>, session: &str, answer: &str) -> Answer {
    let fields = [("ENABLE_TOTP", answer), ("sessionDataKey", session)];
    person.post("/commonauth", &fields).await
}

/// Enrols an app on the page and signs in with it: the tokens.
async fn enrol(world: &World, person: &mut Person<'_>, page: &Answer) -> Answer {
    assert!(page.is_page("totp_enroll.do"), "{page:?}");
    person.set_factor(&secret(page));
    let answer = answer_page(person, &session_of(page), "true").await;
    let page = person.follow(answer).await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let answer = person.submit_code(&page).await;
    let code = person.follow(answer).await.code().expect("a code");
    assert!(world.last_record_of("login").await.learnt);
    person.redeem(&code).await
}

/// Nothing of the page, nor the way to it, has reached the browser.
fn shows_no_page(answer: &Answer) {
    assert!(
        !answer.body.contains("otpauth") && !answer.body.contains("enroll"),
        "{answer:?}"
    );
    for (name, value) in &answer.headers {
        assert!(
            !value.contains("enroll") && !value.contains("ske="),
            "{name}: {value}"
        );
    }
}

fn is_held(answer: &Answer) -> bool {
    let to = answer.location();
    answer.status == 303 && to.is_some_and(|to| to.path().starts_with("/riskgate/review/"))
}

async fn last(world: &World) -> AuditEvent {
    world.last_record_of("login").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_known_device_enrols_and_proves_it() {
    let world = world("").await;
    let mut dave = dave(&world).await;
    let page = dave.log_in().await;
    let tokens = enrol(&world, &mut dave, &page).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let id_token = claims(&tokens.member("id_token"));
    assert_eq!(id_token["acr"], crate::gateway::MFA);
    // From now on he is asked for it, and so is everybody else.
    let mut thief = world.person("dave").from(FAR);
    let page = thief.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_password_alone_is_never_shown_the_page() {
    let world = world("").await;
    let mut owner = dave(&world).await;
    let mut thief = world.person("dave").from(FAR);
    let login = thief.open().await;
    let session = session_of(&login);
    let answer = thief.submit_password(&login).await;
    shows_no_page(&answer);
    assert!(is_held(&answer), "{answer:?}");
    let record = last(&world).await;
    assert_eq!(
        (
            &*record.action,
            &*record.outcome,
            record.review_state.as_deref()
        ),
        ("held", "refused_here", Some("held")),
        "{record:#?}"
    );
    assert_eq!(waiting(&world).await.len(), 1);
    assert_eq!(
        world
            .metric("riskgate_demands_total", &[("event", "enrolment_refused")])
            .await,
        1.0
    );

    // The identity server waits for the page's answer. It gets none, neither yes nor no, by form or by link.
    for answer in ["true", "false", "TRUE", "x"] {
        let mark = world.mark().await;
        let reply = answer_page(&mut thief, &session, answer).await;
        shows_no_page(&reply);
        assert!(is_held(&reply), "{answer}: {reply:?}");
        assert!(world.received_since(mark).is_empty(), "{answer}");
    }
    let link = format!("/commonauth?ENABLE_TOTP=true&sessionDataKey={session}");
    let mark = world.mark().await;
    assert!(is_held(&thief.get(&link).await));
    assert!(world.received_since(mark).is_empty());
    // Another browser with the same key is no better off.
    let mut other = world.person("dave").from(FAR).with("curl/8.5.0");
    let mark = world.mark().await;
    let reply = answer_page(&mut other, &session, "true").await;
    shows_no_page(&reply);
    assert!(world.received_since(mark).is_empty(), "{reply:?}");
    // The portal's page itself has nothing to show without its key.
    let page = format!("/authenticationendpoint/totp_enroll.do?sessionDataKey={session}");
    assert!(!thief.get(&page).await.body.contains("otpauth"));
    // A code does not enrol anything either.
    let fields = [("token", "000000"), ("sessionDataKey", session.as_str())];
    let reply = thief.post("/commonauth", &fields).await;
    shows_no_page(&reply);
    assert!(thief.follow(reply).await.code().is_none());

    // Nothing was enrolled: the owner finds the page as before.
    let page = owner.log_in().await;
    assert!(page.is_page("totp_enroll.do"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_login_enrols_once() {
    let world = world("").await;
    drop(dave(&world).await);
    let mut elsewhere = world.person("dave").from(FAR);
    assert!(is_held(&elsewhere.try_password().await));
    let id = waiting(&world).await.remove(0).id;
    decide(&world, "release", &id).await;
    // A wrong password is answered by the identity server.
    let mut guess = elsewhere.clone().guessing("nothing");
    let answer = guess.try_password().await;
    assert!(guess.follow(answer).await.is_page("login.do"));

    let page = elsewhere.log_in().await;
    let tokens = enrol(&world, &mut elsewhere, &page).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let states: Vec<_> = world
        .records()
        .await
        .into_iter()
        .filter_map(|record| record.review_state)
        .collect();
    assert_eq!(states, ["held", "used"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_may_hold_or_refuse_everybody() {
    for (rule, held) in [("review", true), ("block", false)] {
        let config = format!("[step_up]\nwithout_factor = \"{rule}\"");
        let world = world(Box::leak(config.into_boxed_str())).await;
        let mut dave = dave(&world).await;
        let answer = dave.try_password().await;
        shows_no_page(&answer);
        assert_eq!(is_held(&answer), held, "{answer:?}");
        if !held {
            assert_eq!(
                (answer.status, &*last(&world).await.action),
                (403, "blocked")
            );
        }
        let session = "unknown";
        let reply = answer_page(&mut dave, session, "true").await;
        shows_no_page(&reply);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_demand_the_page_is_the_identity_servers_business() {
    // An application that always wants both factors; the gateway demands nothing.
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[("true", "allow")])),
        sim: SimConfig {
            enrols_at_login: true,
            ..SimConfig::default()
        },
        ..Options::default()
    })
    .await;
    let mut dave = world.person("dave").in_app("demo-mfa");
    let page = dave.log_in().await;
    let tokens = enrol(&world, &mut dave, &page).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
}
