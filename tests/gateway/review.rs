//! Held logins: who waits, who is let in once, who is turned away, and what nobody learns from it.

use crate::gateway::Answer;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::HOME_NEIGHBOUR;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::on_both_stores;
use crate::gateway::rules;
use reqwest::Method;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::review::Entry;
use riskgate::domain::review::Listing;
use serde_json::json;
use std::process::Command;
use tokio::task::JoinSet;

/// What the command line said.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `riskgate review ...` on the configuration of this world.
pub(crate) async fn review(world: &World, args: &[&str]) -> Outcome {
    let config = world.data_dir().with_file_name("riskgate.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_riskgate"));
    command.arg("review").args(args).arg("--config").arg(config);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) async fn waiting(world: &World) -> Vec<Entry> {
    let listed = review(world, &["list", "--json"]).await;
    assert_eq!(listed.code, 0, "{}", listed.err);
    Listing::parse(&listed.out).unwrap().logins
}

/// Decides about a login, which leaves a record.
pub(crate) async fn decide(world: &World, word: &str, id: &str) -> AuditEvent {
    world.expect_record();
    let decided = review(world, &[word, id, "--as", "ann", "--reason", "called back"]).await;
    assert_eq!(decided.code, 0, "{}", decided.err);
    let record = world.last_record().await;
    assert_eq!(record.class, "review", "{record:#?}");
    record
}

async fn enforcing(policy: String, store: Store) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(policy),
        store,
        // A busy machine sends many requests from one address here.
        config: "[limits]\naddress_per_minute = 0\nuser_per_minute = 0\nclient_per_minute = 0",
        ..Options::default()
    })
    .await
}

fn at_login(user: &str) -> String {
    rules(&[(
        &format!("request.door == \"login\" && user.name == \"{user}\""),
        "review",
    )])
}

/// The page at which a browser waits.
fn page_of(answer: &Answer) -> String {
    let path = answer
        .location()
        .map(|location| location.path().to_owned())
        .unwrap_or_default();
    assert!(
        answer.status == 303 && path.starts_with("/riskgate/review/"),
        "not held: {answer:?}"
    );
    path
}

async fn says(person: &mut Person<'_>, page: &str, status: u16, text: &str) -> Answer {
    let answer = person.get(page).await;
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(text), "{answer:?}");
    answer
}

async fn a_released_user_signs_in_once(store: Store) {
    let world = enforcing(at_login("alice"), store).await;
    let mut alice = world.person("alice");
    let login = alice.open().await;
    let mark = world.mark().await;
    let answer = alice.submit_password(&login).await;
    let page = page_of(&answer);
    assert!(alice.cookie("__Host-rg_review").is_some());
    let record = world.record_since(mark).await;
    assert_eq!(
        (
            &*record.action,
            record.verdict.as_deref(),
            &*record.outcome,
            record.review_state.as_deref()
        ),
        ("held", Some("review"), "refused_here", Some("held"))
    );
    let id = record.review.clone().unwrap();

    // The page says what it is about, to nobody else, and looks again by itself.
    let waits = says(&mut alice, &page, 202, "held for review").await;
    assert_eq!(
        waits.header("refresh"),
        Some(format!("5; url={page}?look=1").as_str())
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(waits.header(name), Some(value));
    }
    assert!(waits.body.contains(&id[..8]) && !waits.body.contains(&id));
    assert!(!waits.body.contains("alice") && !waits.body.contains("<script"));
    let stopped = alice.get(&format!("{page}?look=off")).await;
    assert_eq!((stopped.status, stopped.header("refresh")), (202, None));

    // Asking again is the same login.
    let again = alice.submit_password(&login).await;
    page_of(&again);
    assert_eq!(world.last_record_of("login").await.review, Some(id.clone()));
    assert_eq!(world.metric("riskgate_review_waiting", &[]).await, 1.0);
    assert_eq!(
        world
            .metric("riskgate_reviews_total", &[("event", "asked_again")])
            .await,
        1.0
    );
    // What nobody needs to know is not there.
    let listed = review(&world, &["list", "--json"]).await;
    for secret in ["alice", "192.0.2.10", alice.password()] {
        assert!(!listed.out.contains(secret), "{secret}: {}", listed.out);
    }
    let entry = waiting(&world).await.remove(0);
    assert_eq!(
        (
            entry.id.as_str(),
            entry.application.as_str(),
            entry.door.as_str()
        ),
        (id.as_str(), "demo-web", "login")
    );
    // Records name people by names of their own, which can be forgotten.
    assert!(entry.subject.is_some() && record.subject.is_some() && entry.subject != record.subject);
    assert_eq!(entry.country.as_deref(), Some("CH"));
    assert!(entry.score.is_some() && !entry.reasons.is_empty());

    let ruling = decide(&world, "release", &id[..8]).await;
    assert_eq!(
        (
            &*ruling.action,
            ruling.operator.as_deref(),
            ruling.note.as_deref(),
            ruling.review
        ),
        (
            "released",
            Some("ann"),
            Some("called back"),
            Some(id.clone())
        )
    );
    assert_eq!(waiting(&world).await, []);
    let released = says(&mut alice, &page, 200, "You can sign in now").await;
    assert_eq!(released.header("refresh"), None);

    let code = alice.sign_in().await;
    let used = world.last_record_of("login").await;
    assert_eq!(
        (used.verdict.as_deref(), used.review_state.as_deref()),
        (Some("allow"), Some("used")),
        "{used:#?}"
    );
    assert!(
        used.reasons
            .iter()
            .any(|reason| reason == "review_released")
    );
    assert_eq!(alice.redeem(&code).await.status, 200);
    says(&mut alice, &page, 200, "used up").await;
    // It counted once.
    alice.forget_session();
    let answer = alice.try_password().await;
    page_of(&answer);
    assert_ne!(world.last_record_of("login").await.review, Some(id));
}

on_both_stores!(released, a_released_user_signs_in_once);

async fn fifty_at_once_are_let_in_once(store: Store) {
    let world = enforcing(at_login("alice"), store).await;
    let mut alice = world.person("alice");
    page_of(&alice.try_password().await);
    let id = waiting(&world).await.remove(0).id;
    let mut pages = Vec::new();
    for _ in 0..50 {
        pages.push(alice.open().await);
    }
    decide(&world, "release", &id).await;
    let mut tasks = JoinSet::new();
    for page in &pages {
        let key = page
            .url
            .query_pairs()
            .find(|(name, _)| name == "sessionDataKey")
            .unwrap()
            .1
            .into_owned();
        let request = alice.request(Method::POST, "/commonauth").form(&[
            ("username", "alice"),
            ("password", alice.password()),
            ("sessionDataKey", &key),
        ]);
        world.expect_record();
        tasks.spawn(async move { Answer::read(request.send().await.unwrap()).await });
    }
    let (mut let_in, mut held) = (0, 0);
    while let Some(answer) = tasks.join_next().await {
        let answer = answer.unwrap();
        let to = answer.location().map(|to| to.path().to_owned());
        match to.as_deref() {
            Some("/oauth2/authorize") => let_in += 1,
            Some(path) if path.starts_with("/riskgate/review/") => held += 1,
            // On a busy machine the store may take too long: turned away without a place.
            None if answer.status == 403 => held += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((let_in, held), (1, 49));
    // Those who came too late wait as one.
    assert_eq!(waiting(&world).await.len(), 1);
}

on_both_stores!(at_once, fifty_at_once_are_let_in_once);

#[tokio::test(flavor = "multi_thread")]
async fn everything_under_review_takes_a_release_without_and_one_with_a_name() {
    let world = enforcing(always("review"), Store::Embedded).await;
    let mut alice = world.person("alice");
    let path = alice.authorize_path(&[]);
    page_of(&alice.get(&path).await);
    let nameless = waiting(&world).await.remove(0);
    assert_eq!(
        (nameless.subject, nameless.door.as_str()),
        (None, "authorize")
    );
    decide(&world, "release", &nameless.id).await;

    // The way to the login page is free, once; the name is another matter.
    let login = alice.open().await;
    assert!(login.is_page("login.do"), "{login:?}");
    let record = world.last_record_of("authorize").await;
    assert_eq!(record.review_state.as_deref(), Some("used"));
    page_of(&alice.submit_password(&login).await);
    let named = waiting(&world).await.remove(0);
    assert!(named.subject.is_some());
    decide(&world, "release", &named.id).await;

    let code = alice.sign_in().await;
    let states: Vec<_> = world
        .records()
        .await
        .into_iter()
        .rev()
        .filter_map(|record| record.review_state)
        .take(2)
        .collect();
    assert_eq!(states, ["used", "expected"]);
    // The code belongs to the released login. What comes of it does not.
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let refreshed = alice
        .token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.member("refresh_token")),
        ])
        .await;
    assert_eq!(
        (refreshed.status, refreshed.member("error").as_str()),
        (400, "invalid_grant")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_worth_nothing_elsewhere() {
    let policy = rules(&[("request.door == \"login\"", "review")]);
    let world = enforcing(policy, Store::Embedded).await;
    let mut alice = world.person("alice");
    page_of(&alice.try_password().await);
    let id = waiting(&world).await.remove(0).id;
    decide(&world, "release", &id).await;

    // The same user in another browser, in another application, at the same address; another user in this browser.
    let mut elsewhere = world.person("alice").with(CHROME_ON_WINDOWS);
    page_of(&elsewhere.try_password().await);
    let mut same_agent = world.person("alice");
    page_of(&same_agent.try_password().await);
    let mut other_app = alice.clone().in_app("demo-mfa");
    page_of(&other_app.try_password().await);
    let review_cookie = alice.cookie("__Host-rg_review").unwrap().to_owned();
    let mut bob = world.person("bob");
    bob.set_cookie("__Host-rg_review", &review_cookie);
    page_of(&bob.try_password().await);
    // A cookie with a flipped bit is none.
    let mut forged = world.person("alice");
    let last = if review_cookie.ends_with('A') {
        "B"
    } else {
        "A"
    };
    let changed = format!("{}{last}", &review_cookie[..review_cookie.len() - 1]);
    forged.set_cookie("__Host-rg_review", &changed);
    page_of(&forged.try_password().await);
    // In its own browser it is good wherever the browser has gone since.
    alice.move_to(HOME_NEIGHBOUR);
    assert!(alice.log_in().await.code().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_said_so_and_stands() {
    let world = enforcing(at_login("alice"), Store::Embedded).await;
    let mut alice = world.person("alice");
    let page = page_of(&alice.try_password().await);
    let id = waiting(&world).await.remove(0).id;
    let record = decide(&world, "refuse", &id).await;
    assert_eq!(record.action, "refused");
    says(&mut alice, &page, 200, "Sign-in refused").await;
    let again = page_of(&alice.try_password().await);
    says(&mut alice, &again, 200, "Sign-in refused").await;
    assert_eq!(waiting(&world).await, []);
    // One decision stands.
    let late = review(&world, &["release", &id]).await;
    assert_eq!(late.code, 3, "{}", late.err);
    assert!(late.err.contains("decided otherwise"), "{}", late.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_and_unknown_names_are_held_alike() {
    let policy = rules(&[("request.door == \"login\"", "review")]);
    let world = enforcing(policy, Store::Embedded).await;
    let mut seen = Vec::new();
    for name in ["alice", "nobody-of-that-name"] {
        let mut person = world.person(name);
        let held = person.try_password().await;
        let page = page_of(&held);
        let waits = person.get(&page).await;
        let record = world.records().await;
        let id = record
            .iter()
            .rev()
            .find_map(|record| record.review.clone())
            .unwrap();
        let names = |answer: &Answer| {
            let names = answer.headers.iter().map(|(name, _)| name.clone());
            names.filter(|name| name != "date").collect::<Vec<_>>()
        };
        seen.push((
            held.status,
            names(&held),
            waits.status,
            names(&waits),
            waits.body.replace(&id[..8], "REFERENCE"),
            page.len(),
        ));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_is_called_by_its_own_name() {
    let world = enforcing(always("review"), Store::Embedded).await;
    let asked = "/oauth2/authorize?response_type=code&scope=openid&client_id=Stra%C3%9Fe%20%E9%9B%BB%E8%BB%8A";
    page_of(&world.person("alice").get(asked).await);
    assert_eq!(waiting(&world).await.remove(0).application, "Straße 電車");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fills_the_queue() {
    let policy = rules(&[("request.door == \"login\"", "review")]);
    let world = enforcing(policy, Store::Embedded).await;
    // One user, from ever new browsers.
    let mut held = 0;
    for _ in 0..6 {
        let answer = world.person("alice").try_password().await;
        held += usize::from(answer.status == 303);
    }
    assert_eq!(held, 4);
    // Ever new names from one address.
    let mut last = None;
    for number in 0..24 {
        let mut person = world.person(&format!("name-{number}"));
        let answer = person.try_password().await;
        held += usize::from(answer.status == 303);
        last = Some(answer);
    }
    assert_eq!(held, 20);
    let full = last.unwrap();
    assert_eq!(
        (full.status, full.header("retry-after")),
        (503, Some("300")),
        "{full:?}"
    );
    let record = world.last_record_of("login").await;
    assert_eq!((&*record.action, record.review), ("review_full", None));
    assert_eq!(
        world
            .metric("riskgate_reviews_total", &[("event", "full")])
            .await,
        10.0
    );
    assert_eq!(waiting(&world).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_told_in_their_own_words_and_let_in_once() {
    let policy = rules(&[(
        "request.door == \"token\" || request.door == \"authn\"",
        "review",
    )]);
    let world = enforcing(policy, Store::Embedded).await;
    let alice = world.person("alice");
    let fields = [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", alice.password()),
    ];
    let ask = || world.post("/oauth2/token", Some("demo-legacy"), &fields);
    let held = ask().await;
    assert_eq!(
        (held.status, held.member("error").as_str()),
        (400, "invalid_grant")
    );
    let id = waiting(&world).await.remove(0).id;
    decide(&world, "release", &id).await;
    assert_eq!(ask().await.status, 200);
    assert_eq!(ask().await.status, 400);

    // The app-native API has its own form.
    let started = world
        .post(
            "/oauth2/authorize",
            None,
            &[
                ("client_id", "demo-native"),
                ("response_type", "code"),
                ("redirect_uri", crate::gateway::CALLBACK),
                ("scope", "openid"),
                ("response_mode", "direct"),
            ],
        )
        .await;
    let flow = started.json();
    let body = json!({
        "flowId": flow["flowId"].as_str().unwrap_or("none"),
        "selectedAuthenticator": {
            "authenticatorId": "QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM",
            "params": {"username": "alice", "password": alice.password()}
        }
    });
    let request = world
        .request(Method::POST, "/oauth2/authn")
        .header("content-type", "application/json")
        .body(body.to_string());
    let held = world.send(request).await;
    assert_eq!(held.status, 403, "{held:?}");
    assert_eq!(held.member("code"), "RG-403");
    assert!(held.member("message").contains("held for review"));
    // A client's own grants have nobody who could wait.
    let service = world
        .post(
            "/oauth2/token",
            Some("demo-service"),
            &[("grant_type", "client_credentials")],
        )
        .await;
    assert_eq!(service.status, 400, "{service:?}");
    assert_eq!(world.last_record().await.review, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_cannot_be_reached_lets_nobody_in() {
    let mut world = enforcing(at_login("alice"), Store::Redis).await;
    let login = {
        let mut alice = world.person("alice");
        alice.open().await
    };
    world.redis().kill();
    let mark = world.mark().await;
    let mut alice = world.person("alice");
    let answer = alice.submit_password(&login).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("held for review"), "{answer:?}");
    assert_eq!(world.received_since(mark).len(), 0);
    let listed = review(&world, &["list"]).await;
    assert_eq!(listed.code, 1, "{}", listed.err);
    assert!(listed.err.contains("store"), "{}", listed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_survives_a_restart() {
    let mut world = enforcing(at_login("alice"), Store::Embedded).await;
    let cookie = {
        let mut alice = world.person("alice");
        page_of(&alice.try_password().await);
        alice.cookie("__Host-rg_review").unwrap().to_owned()
    };
    assert_eq!(world.restart().await, Some(0));
    let id = waiting(&world).await.remove(0).id;
    decide(&world, "release", &id).await;
    assert_eq!(world.restart().await, Some(0));
    let mut alice = world.person("alice");
    alice.set_cookie("__Host-rg_review", &cookie);
    // The name of the application was lost, the login was not.
    assert!(alice.log_in().await.code().is_some());
}
