//! Steps with several options: WSO2 shows them on its login page, also after the password. What was given is counted as
//! where there is one option only, and picking one gives nothing.

use crate::gateway::AT_PAGES;
use crate::gateway::Answer;
use crate::gateway::MFA;
use crate::gateway::Person;
use crate::gateway::STRANGE;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::enforcing_before;
use crate::gateway::param;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use serde_json::json;
use wso2_sim::SimConfig;

/// Alice owes a second factor at the login page.
const AT_LOGIN: &str = "request.door in [\"login\", \"authn\"] && user.name == \"alice\"";
/// The app-native API's names of the options: `BasicAuthenticator`, `FIDOAuthenticator` and `totp`, each of `LOCAL`.
const PASSWORD: &str = "QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM";
const PASSKEY: &str = "RklET0F1dGhlbnRpY2F0b3I6TE9DQUw";
const TOTP: &str = "dG90cDpMT0NBTA";

/// A password or a passkey, then a one-time code or a passkey.
fn options() -> SimConfig {
    SimConfig {
        offers_passkeys: true,
        ..SimConfig::default()
    }
}

/// A world in which erin has logged in from home, and her history keeps away who comes from elsewhere.
async fn world_that_blocks_strangers() -> World {
    let when = format!("{AT_PAGES} && {STRANGE}");
    let policy = rules(&[(&when, "block"), ("true", "allow")]);
    let world = enforcing_before(options(), policy).await;
    let mut erin = world.person("erin");
    for login in 1..=3 {
        erin.forget_session();
        let answer = erin.log_in().await;
        assert!(answer.code().is_some(), "{answer:?}");
        world.until_learnt("erin", login).await;
    }
    drop(erin);
    world
}

/// The options of the page to which an answer leads.
fn offered(answer: &Answer) -> String {
    let location = answer
        .location()
        .unwrap_or_else(|| panic!("no redirect: {answer:?}"));
    assert!(location.path().ends_with("/login.do"), "{location}");
    assert_eq!(param(&location, "authFailure"), None);
    param(&location, "authenticators").unwrap()
}

/// Follows the link of an option.
async fn pick(person: &mut Person<'_>, page: &Answer, option: &str) -> Answer {
    let key = param(&page.url, "sessionDataKey").unwrap();
    let link = format!("/commonauth?idp=LOCAL&authenticator={option}&sessionDataKey={key}");
    person.get(&link).await
}

async fn challenged(world: &World) -> f64 {
    let labels = [("event", "challenged")];
    world.metric("riskgate_demands_total", &labels).await
}

fn ended(record: &AuditEvent) -> (&str, &str) {
    (&record.action, &record.outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_that_was_picked_after_the_password_proves_the_login() {
    for posts in [false, true] {
        let world = stepped_up(AT_LOGIN, options(), "").await;
        let mut alice = world.person("alice");
        let page = alice.open().await;
        assert!(page.is_page("login.do"), "{page:?}");
        let record = world.last_record_of("authorize").await;
        assert_eq!(ended(&record), ("forwarded", "login_page"), "{record:#?}");

        let mark = world.mark().await;
        let answer = alice.submit_password(&page).await;
        assert_eq!(offered(&answer), "totp:LOCAL;FIDOAuthenticator:LOCAL");
        let record = world.record_since(mark).await;
        assert_eq!(ended(&record), ("forwarded", "next_factor"), "{record:#?}");
        assert_eq!(challenged(&world).await, 1.0);

        let page = alice.follow(answer).await;
        let mark = world.mark().await;
        let key = param(&page.url, "sessionDataKey").unwrap();
        let fields = [
            ("idp", "LOCAL"),
            ("authenticator", "totp"),
            ("sessionDataKey", key.as_str()),
        ];
        let answer = match posts {
            true => alice.post("/commonauth", &fields).await,
            false => pick(&mut alice, &page, "totp").await,
        };
        let record = world.record_since(mark).await;
        assert_eq!(ended(&record), ("forwarded", "next_factor"), "{record:#?}");
        // That nobody was asked anew does not ring a telephone again.
        assert_eq!(challenged(&world).await, 1.0);

        let page = alice.follow(answer).await;
        assert!(page.is_page("totp.do"), "{page:?}");
        let mark = world.mark().await;
        let answer = alice.submit_code(&page).await;
        let record = world.record_since(mark).await;
        assert_eq!(ended(&record), ("forwarded", "succeeded"), "{record:#?}");
        assert!(record.learnt, "{record:#?}");
        let code = alice.follow(answer).await.code().expect("a code");
        let tokens = alice.redeem(&code).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        assert_eq!(claims(&tokens.member("id_token"))["acr"], MFA);
        let record = world.last_record().await;
        assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_counts_as_wrong() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    let mut guess = world.person("alice").guessing("not the password");
    guess.try_password().await;
    let record = world.last_record().await;
    assert_eq!(ended(&record), ("forwarded", "failed"), "{record:#?}");
    assert_eq!(challenged(&world).await, 0.0);

    // A code that is wrong, with the pick and after it.
    let mut alice = world.person("alice");
    let answer = alice.try_password().await;
    let page = alice.follow(answer).await;
    alice.set_factor("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    for more in [&[("authenticator", "totp"), ("idp", "LOCAL")][..], &[]] {
        alice.submit_code_with(&page, more).await;
        let record = world.last_record().await;
        assert_eq!(ended(&record), ("forwarded", "failed"), "{record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_password_was_of_is_known_from_then_on() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    let mut alice = world.person("alice");
    let answer = alice.try_password().await;
    let page = alice.follow(answer).await;
    let answer = alice.submit_code_with(&page, &[("username", "bob")]).await;
    let record = world.last_record().await;
    assert_eq!(&*record.outcome, "succeeded", "{record:#?}");
    assert!(!record.learnt, "nothing is learnt of bob: {record:#?}");
    assert!(alice.follow(answer).await.code().is_some());
    assert_eq!(world.history_of("bob").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telephone_rings_three_times_and_no_more() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    let mut asked = 0;
    for _ in 0..8 {
        let mut alice = world.stranger("alice");
        let answer = alice.try_password().await;
        match answer.status {
            302 => asked += 1,
            status => assert_eq!(status, 429, "{answer:?}"),
        }
    }
    assert_eq!(asked, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_that_the_history_forbids_does_not_lead_to_the_options() {
    let world = world_that_blocks_strangers().await;
    let mut thief = world.stranger("erin").in_app("demo-mfa");
    let page = thief.open().await;
    let mark = world.mark().await;
    let answer = thief.submit_password(&page).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let record = world.record_since(mark).await;
    assert_eq!(ended(&record), ("blocked", "refused_here"), "{record:#?}");
    // Neither does the login go on.
    let code = wso2_sim::totp_at("KRSXG5CTERIN", world.sim.now_s());
    let key = param(&page.url, "sessionDataKey").unwrap();
    pick(&mut thief, &page, "totp").await;
    let fields = [("token", code.as_str()), ("sessionDataKey", &key)];
    let answer = thief.post("/commonauth", &fields).await;
    assert!(thief.cookie("commonAuthId").is_none(), "{answer:?}");
}

/// A password that is sent along with the pick of an option that does not read it was not looked at by anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_beside_a_pick_proves_nothing() {
    let world = world_that_blocks_strangers().await;
    for name in ["erin", "zelda"] {
        let mut outsider = world.stranger(name);
        let page = outsider.open().await;
        let key = param(&page.url, "sessionDataKey").unwrap();
        let fields = [
            ("username", name),
            ("password", "not the password"),
            ("authenticator", "FIDOAuthenticator"),
            ("idp", "LOCAL"),
            ("sessionDataKey", &key),
        ];
        let answer = outsider.post("/commonauth", &fields).await;
        assert_eq!(answer.status, 302, "{name}: {answer:?}");
        let location = answer.location().unwrap();
        assert!(location.path().ends_with("/fido2-auth.jsp"), "{location}");
    }
    for name in ["erin", "zelda"] {
        let mut outsider = world.stranger(name);
        let flow = begin(&mut outsider).await;
        let params = json!({"username": name, "password": "not the password"});
        let answer = choose(&mut outsider, &flow, PASSKEY, params).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(answer.member("flowStatus"), "INCOMPLETE");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_ring_a_telephone() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    for _ in 0..5 {
        let mut outsider = world.stranger("alice");
        let page = outsider.open().await;
        let key = param(&page.url, "sessionDataKey").unwrap();
        let fields = [
            ("username", "alice"),
            ("password", "not the password"),
            ("authenticator", "FIDOAuthenticator"),
            ("sessionDataKey", &key),
        ];
        outsider.post("/commonauth", &fields).await;
    }
    assert_eq!(challenged(&world).await, 0.0);
    let mut alice = world.stranger("alice");
    let answer = alice.try_password().await;
    assert_eq!(offered(&answer), "totp:LOCAL;FIDOAuthenticator:LOCAL");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_session_the_options_are_those_of_the_second_step() {
    let world = stepped_up("request.door == \"par\"", options(), "").await;
    let mut alice = world.person("alice");
    let answer = alice.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
    let page = alice.clone().in_app("demo-mfa").open().await;
    assert!(page.is_page("login.do"), "{page:?}");
    let record = world.last_record_of("authorize").await;
    assert_eq!(ended(&record), ("forwarded", "next_factor"), "{record:#?}");
    let mut stranger = world.person("alice").in_app("demo-mfa");
    stranger.open().await;
    let record = world.last_record_of("authorize").await;
    assert_eq!(ended(&record), ("forwarded", "login_page"), "{record:#?}");
}

/// Begins a login of the app-native API.
async fn begin(person: &mut Person<'_>) -> String {
    let path = person.authorize_path(&[("response_mode", "direct")]);
    person.get(&path).await.member("flowId")
}

async fn choose(person: &mut Person<'_>, flow: &str, option: &str, params: Value) -> Answer {
    let chosen = json!({"authenticatorId": option, "params": params});
    let body = json!({"flowId": flow, "selectedAuthenticator": chosen});
    person.post_json("/oauth2/authn", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_native_api_counts_the_same() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    let mut alice = world.person("alice");
    let mark = world.mark().await;
    let flow = begin(&mut alice).await;
    let record = world.record_since(mark).await;
    assert_eq!(&*record.outcome, "login_page", "{record:#?}");

    let mark = world.mark().await;
    let params = json!({"username": "alice", "password": alice.password()});
    let answer = choose(&mut alice, &flow, PASSWORD, params).await;
    let step = &answer.json()["nextStep"];
    assert_eq!(step["stepType"], "MULTI_OPTIONS_PROMPT", "{answer:?}");
    let record = world.record_since(mark).await;
    assert_eq!(ended(&record), ("forwarded", "next_factor"), "{record:#?}");
    assert_eq!(challenged(&world).await, 1.0);

    let mark = world.mark().await;
    let answer = choose(&mut alice, &flow, TOTP, json!({})).await;
    let step = &answer.json()["nextStep"];
    assert_eq!(step["stepType"], "AUTHENTICATOR_PROMPT", "{answer:?}");
    let record = world.record_since(mark).await;
    assert_eq!(ended(&record), ("forwarded", "next_factor"), "{record:#?}");
    assert_eq!(challenged(&world).await, 1.0);

    let secret = wso2_sim::seed::ALICE_TOTP_SECRET;
    let code = wso2_sim::totp_at(secret, world.sim.now_s());
    let answer = choose(&mut alice, &flow, TOTP, json!({"token": code})).await;
    assert_eq!(answer.member("flowStatus"), "SUCCESS_COMPLETED");
    let record = world.last_record().await;
    assert_eq!(&*record.outcome, "succeeded", "{record:#?}");
    assert!(record.learnt, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_session_the_app_native_api_begins_with_the_second_step() {
    let mut sim = options();
    for client in &mut sim.clients {
        client.is_app_native |= client.client_id == "demo-mfa";
    }
    let world = stepped_up("request.door == \"par\"", sim, "").await;
    let mut alice = world.person("alice");
    let answer = alice.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
    for (mut person, outcome) in [
        (alice.clone().in_app("demo-mfa"), "next_factor"),
        (world.person("alice").in_app("demo-mfa"), "login_page"),
    ] {
        begin(&mut person).await;
        let record = world.last_record_of("authorize").await;
        assert_eq!(ended(&record), ("forwarded", outcome), "{record:#?}");
    }
}

/// WSO2 can be told to leave parameters out of the addresses of its pages, and these are what is read.
#[tokio::test(flavor = "multi_thread")]
async fn login_pages_that_say_nothing_are_told_of_once() {
    const TOLD: &str = "login pages of the identity server come without `authenticators`";
    for (hidden, bare, told) in [("authenticators", 12.0, 1), ("spId", 0.0, 0)] {
        let sim = SimConfig {
            hidden_page_params: vec![hidden.to_owned()],
            ..options()
        };
        let world = stepped_up(AT_LOGIN, sim, "").await;
        for _ in 0..12 {
            let page = world.person("alice").open().await;
            assert!(page.is_page("login.do"), "{page:?}");
        }
        let counted = world.metric("riskgate_login_pages_bare_total", &[]).await;
        assert_eq!(counted, bare);
        let log = world.log();
        assert_eq!(log.matches(TOLD).count(), told, "{log}");
        assert!(told == 0 || log.contains("redirect_params"), "{log}");
    }
}

/// WSO2 hands the parameters of the request that began a login on to its pages. None of them may pass for its own word.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_puts_words_into_the_identity_servers_mouth() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    for (word, value) in [
        ("authFailure", "false"),
        ("authFailure", "true"),
        ("authenticators", "totp:LOCAL;FIDOAuthenticator:LOCAL"),
        ("errorCode", "17003"),
        ("lockedReason", "ADMIN_INITIATED"),
    ] {
        let mut alice = world.person("alice").guessing("not the password");
        let page = alice.open_with(&[(word, value)]).await;
        if page.is_page("login.do") {
            alice.submit_password(&page).await;
            let record = world.last_record_of("login").await;
            assert_eq!(&*record.outcome, "failed", "{word}={value}: {record:#?}");
        } else {
            assert_eq!(page.status, 400, "{word}={value}: {page:?}");
        }
    }
}

/// The app-native API hands the members of `params` to WSO2's login beside what it says itself: none may take its place.
#[tokio::test(flavor = "multi_thread")]
async fn the_app_native_api_goes_on_with_the_login_that_it_names() {
    let world = stepped_up(AT_LOGIN, options(), "").await;
    let mut alice = world.person("alice");
    let flow = begin(&mut alice).await;
    let other = begin(&mut alice).await;
    for (name, value) in [
        ("sessionDataKey", other.as_str()),
        ("authenticator", "totp"),
        ("restart_flow", "true"),
    ] {
        let params = json!({"username": "alice", "password": alice.password(), name: value});
        let mark = world.mark().await;
        let answer = choose(&mut alice, &flow, PASSWORD, params).await;
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert!(world.received_since(mark).is_empty(), "{name}");
        let record = world.record_since(mark).await;
        assert_eq!(record.error.as_deref(), Some("framework_parameter"));
    }
}
