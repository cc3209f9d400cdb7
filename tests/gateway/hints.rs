//! A `login_hint` is what somebody wrote into a link: nothing that is done under it is done by whom it names.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::param;
use crate::gateway::rules;
use wso2_sim::SimConfig;
use wso2_sim::User;
use wso2_sim::seed::ALICE_TOTP_SECRET;
use wso2_sim::seed::BOB_TOTP_SECRET;
use wso2_sim::seed::SUPER_TENANT;

const AT_ALICE: (&str, &str) = ("login_hint", "alice");
const IN_BROWSER: (&str, &str) = ("response_type", "id_token token");

/// A factor is asked for at the login form of one browser, and at the authorize endpoint of another; at the token endpoint
/// for one application.
async fn world() -> World {
    world_with(SimConfig::default()).await
}

async fn world_with(sim: SimConfig) -> World {
    World::start(Options {
        sim,
        mode: "enforce",
        policy: Some(rules(&[
            (
                "request.door == \"login\" && agent.browser == \"curl\"",
                "step_up",
            ),
            (
                "request.door == \"authorize\" && agent.browser == \"Chrome\"",
                "step_up",
            ),
            (
                "request.door == \"token\" && client.id == \"demo-opaque\"",
                "step_up",
            ),
            ("true", "allow"),
        ])),
        ..Options::default()
    })
    .await
}

/// Somebody with alice's password is asked for a factor, from afar.
async fn alice_owes(world: &World) {
    let mut elsewhere = world.person("alice").from(FAR).with("curl/8.5.0");
    let page = elsewhere.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
}

async fn alice_still_owes(world: &World) {
    let mut elsewhere = world.person("alice").from("203.0.113.77");
    let page = elsewhere.log_in().await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.demand.as_deref(), Some("outstanding"), "{record:#?}");
    assert!(page.is_page("totp.do"), "{page:?}");
}

/// Through the pages to the application.
async fn through(person: &mut Person<'_>, page: Answer) -> Answer {
    let answer = person.submit_password(&page).await;
    let mut answer = person.follow(answer).await;
    if answer.is_page("totp.do") {
        answer = person.submit_code(&answer).await;
        answer = person.follow(answer).await;
    }
    answer
}

fn has_tokens(answer: &Answer) -> bool {
    let location = answer.location().expect("a redirect");
    location
        .fragment()
        .unwrap_or_default()
        .contains("id_token=")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_factor_of_a_session_proves_nothing_for_whom_a_link_names() {
    for app in ["demo-web", "demo-spa"] {
        let world = world().await;
        alice_owes(&world).await;
        let mut bob = world
            .person("bob")
            .from("203.0.113.20")
            .with(CHROME_ON_WINDOWS);
        let page = bob.open().await;
        let answer = through(&mut bob, page).await;
        assert!(answer.code().is_some(), "{answer:?}");
        let mut bob = bob.in_app(app);
        let of_bob = world.last_record_of("login").await.subject;
        assert!(of_bob.is_some());

        // On his own session, with the factor that it has.
        let door = if app == "demo-spa" {
            let answer = bob.open_with(&[AT_ALICE, IN_BROWSER]).await;
            assert!(has_tokens(&answer), "{answer:?}");
            "authorize"
        } else {
            let answer = bob.open_with(&[AT_ALICE]).await;
            let code = answer.code().expect("a code");
            let tokens = bob.redeem(&code).await;
            assert_eq!(tokens.status, 200, "{tokens:?}");
            "token"
        };
        let record = world.last_record_of(door).await;
        assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
        assert_eq!(record.subject, of_bob, "{record:#?}");
        alice_still_owes(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_factor_of_a_login_proves_nothing_for_whom_its_last_request_names() {
    let world = world().await;
    alice_owes(&world).await;
    let mut bob = world
        .person("bob")
        .from("203.0.113.20")
        .with(CHROME_ON_WINDOWS)
        .in_app("demo-spa");
    let page = bob.open_with(&[IN_BROWSER]).await;
    let answer = bob.submit_password(&page).await;
    let page = bob.follow(answer).await;
    let answer = bob.submit_code(&page).await;
    let back = answer.location().expect("back to the authorize endpoint");
    assert!(back.path().ends_with("/oauth2/authorize"), "{answer:?}");
    let answer = bob.get(&format!("{back}&login_hint=alice")).await;
    assert!(has_tokens(&answer), "{answer:?}");
    let record = world.last_record_of("authorize").await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    alice_still_owes(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_under_a_hint_is_met_by_whoever_logs_in() {
    let world = world().await;
    let mut bob = world
        .person("bob")
        .from("203.0.113.20")
        .with(CHROME_ON_WINDOWS);
    let page = bob.open_with(&[AT_ALICE]).await;
    let answer = through(&mut bob, page).await;
    let tokens = bob.redeem(&answer.code().expect("a code")).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.last_record_of("token").await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    world.settle().await;
    // What was owed by this browser is met; a newer version of it, of which nothing is asked, owes nothing.
    let mut updated = world.person("bob").from("203.0.113.20");
    updated.set_cookies_of(&bob);
    updated.forget_session();
    let page = updated.open().await;
    assert!(page.is_page("login.do"), "{page:?}");
    let record = world.last_record_of("authorize").await;
    assert_eq!(record.demand, None, "{record:#?}");
    let answer = updated.submit_password(&page).await;
    let answer = updated.follow(answer).await;
    assert!(answer.code().is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_may_log_in_where_a_session_is() {
    let world = world().await;
    let mut bob = world.person("bob");
    bob.sign_in().await;
    let of_bob = world.last_record_of("login").await.subject;
    let mut alice = world.person("alice");
    alice.set_cookies_of(&bob);
    let page = alice.open_with(&[("prompt", "login")]).await;
    assert!(page.is_page("login.do"), "{page:?}");
    let answer = through(&mut alice, page).await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.outcome, "succeeded", "{record:#?}");
    let of_alice = record.subject;
    assert_ne!(of_alice, of_bob);
    let tokens = alice.redeem(&answer.code().expect("a code")).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.last_record_of("token").await;
    assert_eq!(record.subject, of_alice, "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_under_a_hint_is_that_of_the_session() {
    let world = world().await;
    let mut bob = world.person("bob");
    bob.sign_in().await;
    let of_bob = world.last_record_of("login").await.subject;
    assert!(of_bob.is_some());
    // The session has given a password; the application asks for more, in a link that names somebody else.
    let page = bob.open_with(&[AT_ALICE, ("acr_values", MFA)]).await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let answer = bob.submit_code(&page).await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.outcome, "succeeded", "{record:#?}");
    assert_eq!(record.subject, of_bob, "{record:#?}");
    let answer = bob.follow(answer).await;
    let tokens = bob.redeem(&answer.code().expect("a code")).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.last_record_of("token").await;
    assert_eq!(record.subject, of_bob, "{record:#?}");
    // Whose browser this is was learnt for him alone: to her it is a stranger's.
    world.until_learnt("bob", 2).await;
    assert_eq!(world.history_of("alice").await, 0);
    let mut alice = world.person("alice");
    alice.set_cookies_of(&bob);
    alice.forget_session();
    alice.log_in().await;
    let record = world.last_record_of("login").await;
    assert_eq!(record.device.as_deref(), Some("foreign"), "{record:#?}");
}

/// Logs in at the identity server itself, with both factors.
async fn past_the_gateway(world: &World, person: &mut Person<'_>) {
    let path = person.authorize_path(&[("client_id", "demo-mfa")]);
    let to = |path: &str| format!("{}{path}", world.sim.url);
    let answered = async |request: reqwest::RequestBuilder| {
        Answer::read(request.send().await.expect("an answer")).await
    };
    let key = |answer: &Answer| {
        let location = answer.location().expect("a redirect");
        param(&location, "sessionDataKey").expect("a login in progress")
    };
    let password = person.password().to_owned();
    let code = wso2_sim::totp_at(ALICE_TOTP_SECRET, world.sim.now_s());
    let steps = [
        &[("username", "alice"), ("password", password.as_str())][..],
        &[("token", &*code)],
    ];
    let http = world.http();
    let mut answer = answered(http.get(to(&path))).await;
    for step in steps {
        keep_cookies(person, &answer);
        let key = key(&answer);
        let fields = [step, &[("sessionDataKey", &key)]].concat();
        let request = http
            .post(to("/commonauth"))
            .header("cookie", person.cookies());
        answer = answered(request.form(&fields)).await;
    }
    keep_cookies(person, &answer);
    assert!(person.cookie("commonAuthId").is_some(), "{answer:?}");
}

fn keep_cookies(person: &mut Person<'_>, answer: &Answer) {
    let set = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    for (_, cookie) in set {
        let pair = cookie
            .split(';')
            .next()
            .and_then(|pair| pair.split_once('='));
        let (name, value) = pair.expect("a cookie");
        person.set_cookie(name, value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_named_nobody_proves_nothing_for_who_is_called_the_same() {
    let mut sim = SimConfig::default();
    let alice = sim.users.iter().find(|user| user.username == "alice");
    let sub = alice.expect("alice").id();
    sim.users
        .push(User::new(SUPER_TENANT, &sub, "s").with_totp(BOB_TOTP_SECRET));
    let world = world_with(sim).await;
    let victim = || world.person(&sub).guessing("s");
    let page = victim().from(FAR).with("curl/8.5.0").log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    // Nothing here has seen who it is: the user of another identity provider may have the same `sub`.
    let mut somebody = world
        .person("alice")
        .from("203.0.113.30")
        .in_app("demo-opaque");
    past_the_gateway(&world, &mut somebody).await;
    let answer = somebody.open_with(&[("max_age", "300")]).await;
    let tokens = somebody.redeem(&answer.code().expect("a code")).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.last_record_of("token").await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    assert_eq!(record.subject, None, "{record:#?}");
    let page = victim().log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
}
