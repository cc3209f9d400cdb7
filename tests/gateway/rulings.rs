//! Analysts who decide about a held login at the same time, while its browser looks at its page and tries again.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::Person;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use crate::gateway::param;
use crate::gateway::rules;
use crate::operators::hang_up;
use crate::review::waiting;
use reqwest::Method;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinSet;

/// How many analysts decide at once.
const ANALYSTS: usize = 12;
/// How many times the browser tries at once.
const TRIES: usize = 20;

async fn enforcing(store: Store) -> World {
    World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[("request.door == \"login\"", "review")])),
        store,
        // A busy machine sends many requests from one address here.
        config: "[limits]\naddress_per_minute = 0\nnetwork_per_minute = 0\nuser_per_minute = 0\nclient_per_minute = 0",
        ..Options::default()
    })
    .await
}

/// Holds the login of a person: its page and its id.
async fn held(world: &World, person: &mut Person<'_>) -> (String, String) {
    let answer = person.try_password().await;
    let page = answer.location().expect("a redirect").path().to_owned();
    assert!(page.starts_with("/riskgate/review/"), "{answer:?}");
    let id = waiting(world).await.remove(0).id;
    (page, id)
}

/// What an analyst says, with the operators' token. Any record is counted later.
fn saying(world: &World, word: &str, id: &str, analyst: usize) -> reqwest::RequestBuilder {
    let token = std::fs::read_to_string(world.data_dir().join("admin.token")).expect("a token");
    let url = format!("http://127.0.0.1:{}/review/{id}/{word}", world.admin_port);
    let request = world.http().post(url).bearer_auth(token.trim());
    request
        .header("x-riskgate-operator", format!("analyst-{analyst}"))
        .body(format!("as {analyst} sees it"))
}

/// The password form of a login, from the person's own browser.
fn login_of(person: &Person<'_>, page: &Answer) -> reqwest::RequestBuilder {
    let key = param(&page.url, "sessionDataKey").expect("a login page");
    person.request(Method::POST, "/commonauth").form(&[
        ("username", "alice"),
        ("password", person.password()),
        ("sessionDataKey", &key),
    ])
}

/// Whether the password was let through, and led on to the application.
fn is_let_in(answer: &Answer) -> bool {
    let to = answer.location().map(|to| to.path().to_owned());
    match to.as_deref() {
        Some("/oauth2/authorize") => true,
        Some(path) if path.starts_with("/riskgate/review/") => false,
        // On a busy machine the store may take too long: turned away without a place.
        None if answer.status == 403 => false,
        _ => panic!("{answer:?}"),
    }
}

async fn one_word_stands(store: Store) {
    let world = enforcing(store).await;
    // Opposite words, each from half of the analysts; then the same word from all.
    for words in [
        ["release", "refuse"],
        ["release", "release"],
        ["refuse", "refuse"],
    ] {
        let mut alice = world.person("alice");
        let (page, id) = held(&world, &mut alice).await;
        let mark = world.mark().await;
        let mut analysts = JoinSet::new();
        for analyst in 0..ANALYSTS {
            let word = words[analyst % 2];
            let request = saying(&world, word, &id, analyst);
            analysts
                .spawn(async move { (word, request.send().await.expect("an answer").status()) });
        }
        // Meanwhile the browser looks again and again, until it is decided.
        let end = Instant::now() + PATIENCE;
        let said = loop {
            let answer = alice.get(&page).await;
            let said = ["You can sign in now", "Sign-in refused", "held for review"]
                .iter()
                .position(|text| answer.body.contains(text))
                .unwrap_or_else(|| panic!("{answer:?}"));
            if said < 2 {
                break said;
            }
            assert!(Instant::now() < end, "nobody has decided");
        };
        let stands = ["release", "refuse"][said];
        while let Some(answer) = analysts.join_next().await {
            let (word, status) = answer.expect("an analyst");
            let expected = if word == stands { 200 } else { 409 };
            assert_eq!(status.as_u16(), expected, "{word} where {stands} stands");
        }
        // One record says who has decided; the queue names the same.
        world.expect_record();
        let records = world.records_since(mark).await;
        let decided: Vec<_> = records
            .iter()
            .filter(|record| record.class == "review")
            .collect();
        assert_eq!(decided.len(), 1, "{decided:#?}");
        let action = ["released", "refused"][said];
        assert_eq!(&*decided[0].action, action, "{decided:#?}");
        // It stays so, for the page and for whoever tries again.
        let answer = alice.get(&page).await;
        let text = ["You can sign in now", "Sign-in refused"][said];
        assert!(answer.body.contains(text), "{answer:?}");
        let login = alice.try_password().await;
        assert_eq!(is_let_in(&login), stands == "release", "{login:?}");
        assert!(waiting(&world).await.is_empty());
    }
    let mut counted = 0.0;
    for event in ["released", "refused"] {
        counted += world
            .metric("riskgate_reviews_total", &[("event", event)])
            .await;
    }
    assert_eq!(counted, 3.0);
}

on_both_stores!(opposite_words, one_word_stands);

/// The browser tries from before the word to after it, with many requests at once: a release lets in one of them, a refusal
/// none, however they meet.
async fn the_word_comes_in_the_middle(store: Store) {
    let world = enforcing(store).await;
    for word in ["release", "refuse"] {
        let mut alice = world.person("alice");
        let (_, id) = held(&world, &mut alice).await;
        let mut pages = Vec::new();
        for _ in 0..TRIES {
            pages.push(alice.open().await);
        }
        let mark = world.mark().await;
        let is_said = Arc::new(AtomicBool::new(false));
        let mut tries = JoinSet::new();
        for page in &pages {
            let (is_said, request) = (Arc::clone(&is_said), login_of(&alice, page));
            tries.spawn(async move {
                let mut tried = 0;
                loop {
                    // The last try of each begins after the word.
                    let is_last = is_said.load(Ordering::Acquire);
                    let request = request.try_clone().expect("a request without a stream");
                    let answer = Answer::read(request.send().await.expect("an answer")).await;
                    tried += 1;
                    let is_let_in = is_let_in(&answer);
                    if is_last || is_let_in {
                        return (tried, usize::from(is_let_in));
                    }
                }
            });
        }
        let said = saying(&world, word, &id, 0).send().await;
        assert_eq!(said.expect("an answer").status(), 200);
        is_said.store(true, Ordering::Release);
        let mut let_in = 0;
        while let Some(tried) = tries.join_next().await {
            let (tried, passed) = tried.expect("a browser");
            let_in += passed;
            for _ in 0..tried {
                world.expect_record();
            }
        }
        assert_eq!(let_in, usize::from(word == "release"), "{word}");
        // The word itself.
        world.expect_record();
        let records = world.records_since(mark).await;
        let used = records
            .iter()
            .filter(|record| record.review_state.as_deref() == Some("used"));
        assert_eq!(used.count(), let_in, "{word}");
        let went_on = world.received_since(mark);
        let went_on = went_on
            .iter()
            .filter(|request| request.path() == "/commonauth");
        assert_eq!(went_on.count(), let_in, "{word}");
        // After a release that is used up those who came too late wait as one; after a refusal nobody does.
        let left = waiting(&world).await;
        assert!(left.len() <= let_in, "{left:#?}");
        for login in left {
            let refused = saying(&world, "refuse", &login.id, 1).send().await;
            assert_eq!(refused.expect("an answer").status(), 200);
            world.expect_record();
        }
        world.records().await;
    }
}

on_both_stores!(in_the_middle, the_word_comes_in_the_middle);

/// Analysts hang up in the middle, each a little later than the one before, until one of them has decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_word_leaves_its_record_also_where_its_analyst_has_hung_up() {
    let world = enforcing(Store::Embedded).await;
    for round in 0..6_u64 {
        let mut alice = world.person("alice");
        let (_, id) = held(&world, &mut alice).await;
        let mark = world.mark().await;
        for more in 0_u64.. {
            assert!(more < 100, "nobody has decided");
            let request = saying(&world, "refuse", &id, 1);
            let after = Duration::from_micros(300 * (round + more));
            hang_up(&world, request, after).await;
            // Long enough for the disk.
            tokio::time::sleep(Duration::from_millis(200)).await;
            if waiting(&world).await.is_empty() {
                break;
            }
        }
        world.expect_record();
        let record = world.record_since(mark).await;
        assert_eq!((&*record.class, &*record.action), ("review", "refused"));
    }
}
