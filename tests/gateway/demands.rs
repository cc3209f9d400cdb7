//! A demand is not shaken off: dropped cookies, another tab, another browser string, another grant, the login form alone.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::deaf;
use crate::gateway::enforcing;
use crate::gateway::rules;

/// A world in which one browser string is risky and every other is not: as if it alone made the score.
const RISKY: &str = "curl/8.5.0";

async fn world() -> World {
    enforcing(rules(&[
        (
            "request.door == \"login\" && agent.browser == \"curl\"",
            "step_up",
        ),
        ("true", "allow"),
    ]))
    .await
}

/// The same, and every authorize request of demo-web is risky; applications run no script.
async fn deaf_world(config: &'static str) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            (
                "request.door == \"authorize\" && client.id == \"demo-web\"",
                "step_up",
            ),
            ("true", "allow"),
        ])),
        config,
        sim: deaf(),
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
    assert!(scopes.iter().any(|code| code == "browser"), "{scopes:?}");
    assert!(scopes.iter().any(|code| code == "source"), "{scopes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_grant_does_not_go_round_it() {
    let world = world().await;
    let mut alice = challenged(&world).await;
    alice = alice.with(CHROME_ON_WINDOWS).in_app("demo-legacy");
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
    assert!(!answer.body.contains("access_token"), "{answer:?}");
    let record = world.record_since(mark).await;
    assert_eq!(record.action, "step_up_impossible", "{record:#?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn twenty_tries_from_one_address_let_nobody_through() {
    let world = world().await;
    challenged(&world).await;
    let mut asked = 1;
    for _ in 0..20 {
        let mut alice = world.person("alice").from(FAR).with(CHROME_ON_WINDOWS);
        let answer = alice.log_in().await;
        if answer.is_page("totp.do") {
            asked += 1;
        } else {
            assert_eq!(answer.status, 429, "{answer:?}");
            assert!(answer.header("retry-after").is_some());
            assert!(answer.body.contains("<html"), "{answer:?}");
        }
    }
    // Her telephone has rung three times, and no more.
    assert_eq!(asked, 3);
    let record = world.last_record_of("login").await;
    assert_eq!(record.action, "challenges_exhausted", "{record:#?}");
    // From everywhere else as well, and in the JSON of the app-native API.
    let mut alice = world.person("alice").with(CHROME_ON_WINDOWS);
    let path = alice.authorize_path(&[("response_mode", "direct")]);
    let step = alice.get(&path).await;
    let body = serde_json::json!({"flowId": step.member("flowId"), "selectedAuthenticator": {
        "authenticatorId": step.json()["nextStep"]["authenticators"][0]["authenticatorId"],
        "params": {"username": "alice", "password": alice.password()}}});
    let answer = alice.post_json("/oauth2/authn", &body).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.json()["traceId"].is_string(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_rings_no_telephone() {
    let world = world().await;
    for _ in 0..3 {
        let mut guess = world
            .person("alice")
            .from(FAR)
            .with(RISKY)
            .guessing("nothing");
        guess.log_in().await;
    }
    challenged(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_ask_ends_in_a_page() {
    let world = deaf_world("").await;
    let mut alice = world.person("alice");
    let mut sent = 0;
    for attempt in 0..6 {
        let path = alice.authorize_path(&[]);
        let answer = alice.get(&path).await;
        if answer.status == 403 {
            assert!(answer.body.contains("wait five minutes"), "{answer:?}");
            assert!(attempt <= 2, "{attempt}");
            assert_eq!(world.last_record().await.action, "step_up_looped");
            assert!(sent <= 2, "{sent}");
            return;
        }
        sent += usize::from(
            answer
                .location()
                .is_some_and(|to| to.path() == "/oauth2/authorize"),
        );
        let mut page = alice.follow(answer).await;
        if page.is_page("login.do") {
            let answer = alice.submit_password(&page).await;
            page = alice.follow(answer).await;
        }
        let code = page.code().unwrap_or_else(|| panic!("no code: {page:?}"));
        assert_eq!(alice.redeem(&code).await.status, 400);
    }
    panic!("it goes on and on");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_rewrite_style_the_demand_is_added_on_the_way() {
    let world = deaf_world("[step_up]\nstyle = \"rewrite\"\n").await;
    let mut alice = world.person("alice");
    let mark = world.mark().await;
    let path = alice.authorize_path(&[("max_age", "1000")]);
    let answer = alice.get(&path).await;
    assert!(
        answer
            .location()
            .is_some_and(|to| to.path() == "/authenticationendpoint/login.do"),
        "{answer:?}"
    );
    assert_eq!(world.record_since(mark).await.action, "rewritten");
    let received = world.received_one_since(mark).target;
    assert!(
        received.ends_with("&acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=300")
            && !received.contains("1000"),
        "{received}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_must_be_proved_again_and_cannot_answer_in_silence() {
    let world = deaf_world("").await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    let answer = alice.log_in().await;
    assert!(answer.code().is_some(), "{answer:?}");
    let mut alice = alice.in_app("demo-web");
    let path = alice.authorize_path(&[("prompt", "none")]);
    let answer = alice.get(&path).await;
    let location = answer.location().expect("a redirect to the application");
    assert!(
        location.as_str().starts_with(crate::gateway::CALLBACK)
            && location.as_str().contains("error=login_required"),
        "{location}"
    );
    let path = alice.authorize_path(&[]);
    let location = alice.get(&path).await.location().expect("a redirect");
    assert!(
        location
            .as_str()
            .ends_with("&acr_values=urn%3Ariskgate%3Aacr%3Amfa&max_age=300&prompt=login"),
        "{location}"
    );
    let page = alice.get(location.as_str()).await;
    let page = alice.follow(page).await;
    assert!(page.is_page("login.do"), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_the_copy_in_the_browser_stands_in() {
    let mut world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[
            (
                "request.door == \"login\" && agent.browser == \"curl\"",
                "step_up",
            ),
            ("true", "allow"),
        ])),
        store: crate::gateway::Store::Redis,
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice").from(FAR).with(RISKY);
    let page = alice.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let copy = alice.cookie("__Host-rg_demand").expect("a copy").to_owned();
    // What this node knew goes with it, and the store is gone.
    world.redis().kill();
    world.restart().await;
    // One that was changed is as good as none.
    for (cookie, verdict) in [(format!("{copy}A"), "allow"), (copy, "step_up")] {
        let mut alice = world.person("alice").from(FAR).with(CHROME_ON_WINDOWS);
        alice.set_cookie("__Host-rg_demand", &cookie);
        alice.try_password().await;
        let record = world.last_record_of("login").await;
        assert_eq!(record.verdict.as_deref(), Some(verdict), "{record:#?}");
        assert_eq!(
            record.fallback.as_deref(),
            Some("state_unavailable"),
            "{record:#?}"
        );
    }
}
