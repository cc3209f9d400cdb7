//! Clients that poll while a browser approves elsewhere (device grant, CIBA): what the browser owes, the poll owes.

use crate::gateway::Answer;
use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::HOSTING;
use crate::gateway::MFA;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::deaf;
use crate::gateway::form;
use crate::gateway::param;
use crate::gateway::stepped_up;
use crate::proof::withheld_with;
use reqwest::Method;
use std::time::Duration;
use wso2_sim::SimConfig;

const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";
/// Nobody owes anything.
const NOBODY: &str = "user.name == \"nobody\"";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const CIBA: &str = "urn:openid:params:grant-type:ciba";

/// POST as the client on the device.
async fn from_device(world: &World, path: &str, fields: &[(&str, &str)]) -> Answer {
    world.post(path, Some("demo-web"), fields).await
}

struct Device {
    device_code: String,
    user_code: String,
}

async fn start(world: &World) -> Device {
    let fields = [("client_id", "demo-web"), ("scope", "openid")];
    let answer = from_device(world, "/oauth2/device_authorize", &fields).await;
    Device {
        device_code: answer.member("device_code"),
        user_code: answer.member("user_code"),
    }
}

async fn poll(world: &World, name: &str, grant: &str, value: &str) -> Answer {
    // The identity server wants five seconds between two.
    world.sim.advance(Duration::from_secs(6));
    let fields = [("grant_type", grant), (name, value)];
    from_device(world, "/oauth2/token", &fields).await
}

async fn poll_device(world: &World, device: &Device) -> Answer {
    poll(world, "device_code", DEVICE_CODE, &device.device_code).await
}

/// Goes through the login that an answer leads to, with the second factor where it is asked for.
async fn approve(person: &mut Person<'_>, answer: Answer) -> Answer {
    let mut answer = person.follow(answer).await;
    if answer.is_page("login.do") {
        answer = person.submit_password(&answer).await;
        answer = person.follow(answer).await;
    }
    if answer.is_page("totp.do") {
        answer = person.submit_code(&answer).await;
        answer = person.follow(answer).await;
    }
    answer
}

async fn enter(person: &mut Person<'_>, code: &str) -> Answer {
    let answer = person.post("/oauth2/device", &[("user_code", code)]).await;
    approve(person, answer).await
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.member("error"))
}

/// The standard form of a refusal that ends the polling, with what to ask for.
fn is_denied(answer: &Answer) {
    withheld_with("access_denied", answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_is_found_under_the_browser_that_approved_it() {
    let world = stepped_up(NOBODY, SimConfig::default(), "").await;
    let device = start(&world).await;
    let waiting = poll_device(&world, &device).await;
    assert_eq!(error(&waiting), (400, "authorization_pending".to_owned()));
    let record = world.last_record().await;
    assert!(
        !record.reasons.iter().any(|code| code == "code_unknown"),
        "{record:#?}"
    );
    let mut alice = world.person("alice");
    let mark = world.mark().await;
    let page = enter(&mut alice, &device.user_code).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    let records = world.records_since(mark).await;
    let entered = &records[0];
    assert_eq!(
        (
            entered.door.as_deref(),
            entered.client_id.as_deref(),
            &*entered.action
        ),
        (Some("device"), Some("demo-web"), "forwarded")
    );
    let approved = records
        .iter()
        .find(|record| record.outcome == "approved")
        .expect("an approval");
    let mark = world.mark().await;
    let tokens = poll_device(&world, &device).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.record_since(mark).await;
    assert_eq!(record.subject, approved.subject, "{record:#?}");
    assert!(record.subject.is_some());
    assert_eq!(
        (
            &*record.outcome,
            record.proof.as_deref(),
            record.verdict.as_deref()
        ),
        ("tokens_issued", None, Some("allow"))
    );
    world.leaks_nothing(&[&device.device_code, &device.user_code]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_gave_the_factor_releases_the_poll() {
    let world = stepped_up(AT_LOGIN, SimConfig::default(), "").await;
    let device = start(&world).await;
    let page = enter(&mut world.person("alice"), &device.user_code).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    let tokens = poll_device(&world, &device).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert_eq!(claims(&tokens.member("id_token"))["acr"], MFA);
    let record = world.last_record().await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_demanded_of_a_device_is_owed_by_its_browser() {
    let world = stepped_up(NOBODY, SimConfig::default(), "").await;
    let request = world
        .http()
        .post(format!("{}/oauth2/device_authorize", world.url))
        .header("x-forwarded-for", HOSTING)
        .header("user-agent", "tv/1.0")
        .header("authorization", basic("demo-web", "demo-web-secret"))
        .form(&[("scope", "openid")]);
    let answer = world.send(request).await;
    let record = world.last_record().await;
    assert_eq!(record.verdict.as_deref(), Some("step_up"), "{record:#?}");
    let device = Device {
        device_code: answer.member("device_code"),
        user_code: answer.member("user_code"),
    };
    let mark = world.mark().await;
    let page = enter(&mut world.person("alice"), &device.user_code).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    let records = world.records_since(mark).await;
    assert_eq!(
        (records[0].door.as_deref(), records[0].verdict.as_deref()),
        (Some("device"), Some("step_up"))
    );
    assert!(records.iter().any(|record| record.outcome == "next_factor"));
    let tokens = poll_device(&world, &device).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert_eq!(world.last_record().await.proof.as_deref(), Some("proven"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_owes_withholds_the_poll() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    let device = start(&world).await;
    let mut alice = world.person("alice");
    let answer = alice
        .post("/oauth2/device", &[("user_code", &device.user_code)])
        .await;
    let page = alice.follow(answer).await;
    let login = alice.submit_password(&page).await;
    // The login is on its way, and owes.
    let waiting = poll_device(&world, &device).await;
    assert_eq!(error(&waiting), (400, "authorization_pending".to_owned()));
    let page = alice.follow(login).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    let mark = world.mark().await;
    is_denied(&poll_device(&world, &device).await);
    let record = world.record_since(mark).await;
    assert_eq!(
        (
            record.proof.as_deref(),
            &*record.action,
            record.revocation.as_deref(),
            &*record.outcome
        ),
        (
            Some("acr"),
            "step_up_denied",
            Some("revoked"),
            "refused_here"
        ),
        "{record:#?}"
    );
    // The second try is not even asked.
    let mark = world.mark().await;
    is_denied(&poll_device(&world, &device).await);
    assert!(world.received_since(mark).is_empty());
    // Another user's device at the same time is not concerned.
    let other = start(&world).await;
    let page = enter(&mut world.person("bob").from(FAR), &other.user_code).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    assert_eq!(poll_device(&world, &other).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_approves_owes_as_well() {
    let world = stepped_up("request.door == \"device\"", deaf(), "").await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let device = start(&world).await;
    // No page comes between the code and the approval.
    let page = enter(&mut alice, &device.user_code).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    is_denied(&poll_device(&world, &device).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_code_unties_nothing() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    let device = start(&world).await;
    let mut alice = world.person("alice");
    let page = enter(&mut alice, &device.user_code).await;
    assert!(page.is_page("device_success.do"), "{page:?}");
    // Another browser comes with the same code, in every way that there is.
    let mut mallory = world.person("mallory").from(FAR);
    let page = mallory.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let upper = device.user_code.to_uppercase();
    for fields in [
        vec![("user_code", device.user_code.as_str())],
        vec![("user_code", &upper)],
        vec![("user_code", "zzzzzz")],
        vec![("user_code", &device.user_code), ("sessionDataKey", &key)],
        vec![("user_code", &device.user_code), ("client_id", "demo-spa")],
    ] {
        mallory.post("/oauth2/device", &fields).await;
    }
    let twice = format!("/oauth2/device?user_code={}", device.user_code);
    let answer = mallory.post(&twice, &[("user_code", "zzzzzz")]).await;
    assert_eq!(answer.status, 400);
    is_denied(&poll_device(&world, &device).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_has_one_door() {
    let world = stepped_up(NOBODY, SimConfig::default(), "").await;
    let device = start(&world).await;
    let mut alice = world.person("alice");
    let mark = world.mark().await;
    for kind in ["device", "cibaAuthCode", "code device"] {
        let more = [
            ("response_type", kind),
            ("nonce", device.user_code.as_str()),
        ];
        let path = alice.authorize_path(&more);
        assert_eq!(alice.get(&path).await.status, 400, "{kind}");
        let body = path.split_once('?').unwrap().1.to_owned();
        let request = alice
            .request(Method::POST, "/oauth2/par")
            .header("authorization", basic("demo-web", "demo-web-secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        assert_eq!(alice.send(request).await.status, 400, "{kind}");
    }
    let inner = [
        ("response_type", "device"),
        ("nonce", device.user_code.as_str()),
        ("tocommonauth", "true"),
        ("sessionDataKey", "k"),
    ];
    assert_eq!(alice.get(&alice.authorize_path(&inner)).await.status, 400);
    // Nor can a code be approved in another tenant.
    let answer = alice
        .post(
            "/t/example.com/oauth2/device",
            &[("user_code", &device.user_code)],
        )
        .await;
    assert_eq!(answer.status, 400);
    assert!(world.received_since(mark).is_empty());
    let errors: Vec<_> = world
        .records_since(mark)
        .await
        .into_iter()
        .filter_map(|record| record.error)
        .collect();
    assert_eq!(errors.len(), 8);
    assert_eq!(
        errors
            .iter()
            .filter(|error| *error == "response_type")
            .count(),
        7
    );
    assert_eq!(errors[7], "user_code");
    // A device code belongs to its client.
    let fields = [
        ("grant_type", DEVICE_CODE),
        ("device_code", &device.device_code),
    ];
    let other = world
        .post("/oauth2/token", Some("demo-opaque"), &fields)
        .await;
    assert_eq!(error(&other), (400, "invalid_grant".to_owned()));
    let reasons = world.last_record().await.reasons;
    assert!(
        reasons.iter().any(|code| code == "code_mismatch"),
        "{reasons:?}"
    );
}

/// Begins in the background: the id to poll with and the link for the user.
async fn begin_ciba(world: &World, url: &str) -> (String, String) {
    let request = world
        .http()
        .post(format!("{url}/oauth2/ciba"))
        .header("x-forwarded-for", HOME)
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        )
        .header("authorization", basic("demo-web", "demo-web-secret"))
        .form(&[
            ("scope", "openid"),
            ("login_hint", "alice"),
            ("notification_channel", "external"),
        ]);
    let answer = if url == world.url {
        world.send(request).await
    } else {
        Answer::read(request.send().await.unwrap()).await
    };
    let link = reqwest::Url::parse(&answer.member("auth_url")).unwrap();
    let key = param(&link, "authCodeKey").unwrap();
    let path = format!("/oauth2/ciba_authorize?{}", form(&[("authCodeKey", &key)]));
    (answer.member("auth_req_id"), path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_the_background_is_joined_to_its_browser() {
    for (sim, is_proven) in [(SimConfig::default(), true), (deaf(), false)] {
        let world = stepped_up(AT_LOGIN, sim, "").await;
        // The gateway has seen the link, or only the page to which it leads.
        for begins_here in [true, false] {
            let url = if begins_here {
                &world.url
            } else {
                &world.sim.url
            };
            let (id, link) = begin_ciba(&world, url).await;
            let waiting = poll(&world, "auth_req_id", CIBA, &id).await;
            assert_eq!(error(&waiting), (400, "authorization_pending".to_owned()));
            let mut alice = world.person("alice");
            let answer = alice.get(&link).await;
            let page = approve(&mut alice, answer).await;
            assert!(page.is_page("device_success.do"), "{page:?}");
            let answer = poll(&world, "auth_req_id", CIBA, &id).await;
            let record = world.last_record().await;
            if is_proven {
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
            } else {
                is_denied(&answer);
                assert_eq!(record.proof.as_deref(), Some("acr"), "{record:#?}");
            }
            world.leaks_nothing(&[&id]);
        }
    }
}
