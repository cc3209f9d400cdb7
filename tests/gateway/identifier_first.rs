//! Logins that begin with the name alone. Its page reads nothing else: a password or a code that is sent along was looked at
//! by nobody, whatever page comes next.

use crate::gateway::AT_PAGES;
use crate::gateway::Answer;
use crate::gateway::Person;
use crate::gateway::STRANGE;
use crate::gateway::World;
use crate::gateway::enforcing_before;
use crate::gateway::param;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use riskgate::domain::audit::AuditEvent;
use serde_json::json;
use wso2_sim::AfterIdentifier;
use wso2_sim::SimConfig;

/// Alice owes a second factor at the login page.
const AT_LOGIN: &str = "request.door in [\"login\", \"authn\"] && user.name == \"alice\"";
/// The app-native API's names of the options, each of `LOCAL`.
const IDENTIFIER: &str = "SWRlbnRpZmllckV4ZWN1dG9yOkxPQ0FM";

fn begins_with_name(after: AfterIdentifier) -> SimConfig {
    SimConfig {
        identifier_first: Some(after),
        ..SimConfig::default()
    }
}

/// A world in which erin has logged in from home, and her history keeps away who comes from elsewhere.
async fn world_that_blocks_strangers(after: AfterIdentifier) -> World {
    let when = format!("{AT_PAGES} && {STRANGE}");
    let policy = rules(&[(&when, "block"), ("true", "allow")]);
    let world = enforcing_before(begins_with_name(after), policy).await;
    let mut erin = world.person("erin");
    for login in 1..=3 {
        erin.forget_session();
        let answer = log_in(&mut erin, after).await;
        assert!(answer.code().is_some(), "{answer:?}");
        world.until_learnt("erin", login).await;
    }
    drop(erin);
    world
}

/// Sends the form of the page for the name, with whatever more.
async fn send_name(person: &mut Person<'_>, page: &Answer, more: &[(&str, &str)]) -> Answer {
    assert_eq!(param(&page.url, "inputType").as_deref(), Some("idf"));
    let key = param(&page.url, "sessionDataKey").unwrap();
    let name = person.name().to_owned();
    let mut fields = vec![
        ("username", name.as_str()),
        ("sessionDataKey", key.as_str()),
    ];
    fields.extend(more);
    person.post("/commonauth", &fields).await
}

/// A login to its end, as people do it.
async fn log_in(person: &mut Person<'_>, after: AfterIdentifier) -> Answer {
    let page = person.open().await;
    let answer = send_name(person, &page, &[("authType", "idf")]).await;
    let page = person.follow(answer).await;
    let answer = match after {
        AfterIdentifier::Password => person.submit_password(&page).await,
        AfterIdentifier::Code => person.submit_code(&page).await,
    };
    person.follow(answer).await
}

fn ended(record: &AuditEvent) -> (&str, &str) {
    (&record.action, &record.outcome)
}

async fn challenged(world: &World) -> f64 {
    let labels = [("event", "challenged")];
    world.metric("riskgate_demands_total", &labels).await
}

/// What may be sent with the name: the second as WSO2's own form does, the third as the way back to it.
const ALONG: [&[(&str, &str)]; 5] = [
    &[("password", "not the password")],
    &[("password", "not the password"), ("authType", "idf")],
    &[("token", "123456")],
    &[("password", "not the password"), ("token", "123456")],
    &[("password", "not the password"), ("authenticator", "")],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_name_and_password_is_the_same_in_two_forms() {
    let world = world_that_blocks_strangers(AfterIdentifier::Password).await;
    let mut thief = world.stranger("erin");
    let page = thief.open().await;
    let mark = world.mark().await;
    let answer = send_name(&mut thief, &page, &[]).await;
    let record = world.record_since(mark).await;
    assert_eq!(ended(&record), ("forwarded", "login_page"), "{record:#?}");
    let page = thief.follow(answer).await;
    let mark = world.mark().await;
    let answer = thief.submit_password(&page).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let record = world.record_since(mark).await;
    assert_eq!(ended(&record), ("blocked", "refused_here"), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_with_a_name_does_not_tell_whose_name_it_is() {
    for after in [AfterIdentifier::Code, AfterIdentifier::Password] {
        let world = world_that_blocks_strangers(after).await;
        for along in ALONG {
            let mut answers = Vec::new();
            for name in ["erin", "zelda"] {
                let mut outsider = world.stranger(name);
                let page = outsider.open().await;
                let answer = send_name(&mut outsider, &page, along).await;
                let path = answer.location().map(|location| location.path().to_owned());
                answers.push((answer.status, path));
            }
            assert_eq!(answers[0], answers[1], "{after:?} {along:?}");
            assert_eq!(answers[0].0, 302, "{after:?} {along:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_take_of_the_users_challenges() {
    let world = stepped_up(AT_LOGIN, begins_with_name(AfterIdentifier::Code), "").await;
    for along in ALONG {
        let mut outsider = world.stranger("alice");
        let page = outsider.open().await;
        let answer = send_name(&mut outsider, &page, along).await;
        assert_eq!(answer.status, 302, "{along:?}: {answer:?}");
    }
    assert_eq!(challenged(&world).await, 0.0);
}

/// Nor is a code that was sent with the name a factor that was given.
#[tokio::test(flavor = "multi_thread")]
async fn nor_is_it_a_factor() {
    let world = stepped_up(AT_LOGIN, begins_with_name(AfterIdentifier::Password), "").await;
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let answer = send_name(&mut alice, &page, &[("token", "123456")]).await;
    let page = alice.follow(answer).await;
    // At the page for the password a code is not read either, and the password still asks for the second factor.
    let more = [("token", "123456")];
    let answer = alice.submit_password_with(&page, &more).await;
    let page = alice.follow(answer).await;
    assert!(page.is_page("totp.do"), "{page:?}");
    assert_eq!(challenged(&world).await, 1.0);
}

/// The code is what counts where there is no password, and a password beside it changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_at_its_page_whatever_stands_beside_it() {
    let world = stepped_up(AT_LOGIN, begins_with_name(AfterIdentifier::Code), "").await;
    for more in [&[][..], &[("password", "not the password")]] {
        let mut alice = world.person("alice");
        let page = alice.open().await;
        let answer = send_name(&mut alice, &page, &[]).await;
        let page = alice.follow(answer).await;
        assert!(page.is_page("totp.do"), "{page:?}");
        let mark = world.mark().await;
        let answer = alice.submit_code_with(&page, more).await;
        let record = world.record_since(mark).await;
        assert_eq!(ended(&record), ("forwarded", "succeeded"), "{record:#?}");
        assert!(record.learnt, "{more:?}: {record:#?}");
        let code = alice.follow(answer).await.code().expect("a code");
        assert_eq!(alice.redeem(&code).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_native_api_reads_no_more_with_a_name() {
    let world = world_that_blocks_strangers(AfterIdentifier::Code).await;
    for name in ["erin", "zelda"] {
        for along in ["password", "token"] {
            let mut outsider = world.stranger(name);
            let path = outsider.authorize_path(&[("response_mode", "direct")]);
            let flow = outsider.get(&path).await.member("flowId");
            let params = json!({"username": name, along: "123456"});
            let chosen = json!({"authenticatorId": IDENTIFIER, "params": params});
            let body = json!({"flowId": flow, "selectedAuthenticator": chosen});
            let answer = outsider.post_json("/oauth2/authn", &body).await;
            assert_eq!(answer.status, 200, "{name} {along}: {answer:?}");
            assert_eq!(answer.member("flowStatus"), "INCOMPLETE");
        }
    }
}
