//! Known and unknown usernames cannot be told apart by somebody who has neither the password nor the user's device: same
//! status, same headers, same redirects, same page, wherever they come from. What the history of a name says takes
//! effect once the password was accepted, and then nothing gets out.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::HOME_NEIGHBOUR;
use crate::gateway::HOSTING;
use crate::gateway::MFA;
use crate::gateway::NEW_YORK;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::STRANGE;
use crate::gateway::TOR;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::enforcing;
use crate::gateway::param;
use crate::gateway::rules;
use crate::review::decide;
use crate::review::waiting;
use regex::Regex;
use riskgate::domain::audit::AuditEvent;
use serde_json::json;
use tokio::task::JoinSet;
use wso2_sim::SimConfig;

/// A user who is at home at the usual address, and a name that nobody has.
const KNOWN: &str = "erin";
const UNKNOWN: &str = "zelda";
/// The doors at which a name may be proved.
const DOORS: &str =
    "(request.door in [\"login\", \"authn\"] || request.grant_type == \"password\")";

/// A world in which erin has logged in three times from home.
async fn world_of(policy: Option<String>, sim: SimConfig) -> World {
    let world = World::start(Options {
        mode: "enforce",
        policy,
        sim,
        ..Options::default()
    })
    .await;
    let mut erin = world.person(KNOWN);
    for login in 1..=3 {
        erin.forget_session();
        let answer = erin.log_in().await;
        assert!(answer.code().is_some(), "{answer:?}");
        world.until_learnt(KNOWN, login).await;
    }
    drop(erin);
    world
}

/// The same, where the history of a user from elsewhere gets `verdict` at the doors that prove names.
async fn world_that(verdict: &str) -> World {
    let when = format!("{DOORS} && {STRANGE}");
    let policy = rules(&[(&when, verdict), ("true", "allow")]);
    world_of(Some(policy), SimConfig::default()).await
}

/// Erin's password far from home.
fn thief(world: &World) -> Person<'_> {
    world
        .person(KNOWN)
        .from(NEW_YORK)
        .with(CHROME_ON_WINDOWS)
        .speaking("en-US")
}

/// What an outsider sees of an answer, without what is random in every answer and without the name that they typed. That
/// the app-native API counts the attempts that a user has left is the identity server's own doing.
fn seen(answer: &Answer, name: &str) -> String {
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| name != "date")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    let mut json = answer.json();
    let messages = json.pointer_mut("/nextStep/messages");
    for message in messages
        .and_then(|list| list.as_array_mut())
        .into_iter()
        .flatten()
    {
        message.as_object_mut().unwrap().remove("context");
    }
    let body = match json.is_null() {
        true => answer.body.clone(),
        false => {
            headers.retain(|header| !header.starts_with("content-length"));
            json.to_string()
        }
    };
    let text = format!("{}\n{}\n\n{body}", answer.status, headers.join("\n"));
    let random = Regex::new(
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[A-Za-z0-9_-]{40,}",
    );
    let port = Regex::new(r"127\.0\.0\.1(:|%3A)\d+").unwrap();
    let text = random.unwrap().replace_all(&text, "*").into_owned();
    port.replace_all(&text, "HOST").replace(name, "NAME")
}

/// A password grant of somebody at `address`.
async fn grant(world: &World, name: &str, password: &str, address: &str) -> Answer {
    let request = world
        .http()
        .post(format!("{}/oauth2/token", world.url))
        .header("x-forwarded-for", address)
        .header("authorization", basic("demo-legacy", "demo-legacy-secret"))
        .form(&[
            ("grant_type", "password"),
            ("username", name),
            ("password", password),
        ]);
    world.send(request).await
}

/// A password in the app-native API.
async fn native(person: &mut Person<'_>, name: &str, password: &str) -> (Answer, Option<Answer>) {
    let path = person.authorize_path(&[("response_mode", "direct"), ("login_hint", name)]);
    let start = person.get(&path).await;
    let Some(flow) = start.json()["flowId"].as_str().map(str::to_owned) else {
        return (start, None);
    };
    let body = json!({ "flowId": flow, "selectedAuthenticator": {
        "authenticatorId": "QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM",
        "params": { "username": name, "password": password } } });
    let answer = person.post_json("/oauth2/authn", &body).await;
    (start, Some(answer))
}

/// Everything that an outsider at `address` sees of tries at each door.
async fn tries(world: &World, name: &str, address: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // What was counted of one try must be there at the next, or chance decides where a score comes to lie.
    let mut note = async |door: &str, answer: &Answer| {
        found.push((door.to_owned(), seen(answer, name)));
        world.settle().await;
    };
    let mut outsider = world
        .person(name)
        .from(address)
        .guessing("not the password");
    for prompt in ["login", "none", ""] {
        let path = outsider.authorize_path(&[("login_hint", name), ("prompt", prompt)]);
        let answer = outsider.get(&path).await;
        note("login_hint", &answer).await;
    }
    for _ in 0..2 {
        let page = outsider.open().await;
        note("authorize", &page).await;
        if page.is_page("login.do") {
            let answer = outsider.submit_password(&page).await;
            note("login", &answer).await;
            // Once more in the same login, and then without a name.
            let answer = outsider.submit_password(&page).await;
            note("login, again", &answer).await;
            let key = param(&page.url, "sessionDataKey").unwrap();
            let fields = [("password", "no"), ("sessionDataKey", key.as_str())];
            let answer = outsider.post("/commonauth", &fields).await;
            note("login, without a name", &answer).await;
        }
    }
    let page = outsider.open().await;
    note("authorize, afterwards", &page).await;

    let mut app = world.person(name).from(address);
    let (start, answer) = native(&mut app, name, "not the password").await;
    note("authorize, app-native", &start).await;
    if let Some(answer) = answer {
        note("authn", &answer).await;
    }
    for _ in 0..2 {
        let answer = grant(world, name, "not the password", address).await;
        note("password grant", &answer).await;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_learns_who_exists_by_trying_names() {
    for address in [HOME, HOME_NEIGHBOUR, FAR, NEW_YORK, HOSTING, TOR] {
        // A world for each name: what failed before must not stand between the two.
        let tried = async |name: &'static str| {
            let world = world_of(None, SimConfig::default()).await;
            let seen = tries(&world, name, address).await;
            let scores = world.records().await.into_iter().map(|one| one.score);
            (seen, scores.collect::<Vec<_>>())
        };
        let ((known, scores), (unknown, others)) = tokio::join!(tried(KNOWN), tried(UNKNOWN));
        for ((door, known), (_, unknown)) in known.iter().zip(&unknown) {
            assert_eq!(known, unknown, "{door} from {address}");
        }
        assert_eq!(known.len(), unknown.len(), "{address}");
        // Something was there to be hidden.
        assert_ne!(scores, others, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_history_says_a_wrong_password_looks_the_same() {
    for verdict in ["block", "review", "step_up"] {
        let mut all = Vec::new();
        for name in [KNOWN, UNKNOWN] {
            let world = world_that(verdict).await;
            all.push(tries(&world, name, NEW_YORK).await);
            let records = world.records().await;
            let hidden = |record: &AuditEvent| record.verdict.as_deref() == Some(verdict);
            assert_eq!(
                records.iter().any(hidden),
                name == KNOWN,
                "{verdict} {name}"
            );
            if name == KNOWN {
                let record = records.into_iter().find(hidden).unwrap();
                assert_eq!(
                    (record.shown.as_deref(), &*record.action),
                    (Some("allow"), "forwarded"),
                    "{record:#?}"
                );
                assert_eq!(record.demand, None, "nothing is raised: {record:#?}");
            }
        }
        for ((door, known), (_, unknown)) in all[0].iter().zip(&all[1]) {
            assert_eq!(known, unknown, "{verdict}: {door}");
        }
        assert_eq!(all[0].len(), all[1].len());
    }
}

/// No session, code or token has reached the browser, and none can be fetched by what it has seen.
async fn nothing_got_out(person: &mut Person<'_>, answers: &[&Answer]) {
    for answer in answers {
        for (name, value) in &answer.headers {
            let carries = value.starts_with("commonAuthId=") || value.contains("code=");
            assert!(!carries, "{name}: {value}");
        }
        for word in ["access_token", "id_token", "authData"] {
            assert!(!answer.body.contains(word), "{answer:?}");
        }
    }
    assert!(person.cookie("commonAuthId").is_none());
    let page = person.open().await;
    assert!(page.code().is_none(), "{page:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_that_the_history_forbids_yields_nothing() {
    let world = world_that("block").await;
    let mut thief = thief(&world);
    let page = thief.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let mark = world.mark().await;
    let answer = thief.submit_password(&page).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let record = world.record_since(mark).await;
    assert_eq!(
        (
            record.verdict.as_deref(),
            record.shown.as_deref(),
            &*record.action,
            &*record.outcome,
            record.learnt
        ),
        (
            Some("block"),
            Some("allow"),
            "blocked",
            "refused_here",
            false
        ),
        "{record:#?}"
    );
    assert!(record.shown_score.is_some() && record.shown_score < record.score);
    assert_eq!(
        world.received_since(mark).len(),
        1,
        "the password was tried"
    );
    nothing_got_out(&mut thief, &[&answer]).await;
    // Going on with the same login leads nowhere either.
    let again = thief
        .get(&format!("/commonauth?sessionDataKey={key}"))
        .await;
    let token = [("token", "123456"), ("sessionDataKey", key.as_str())];
    let more = thief.post("/commonauth", &token).await;
    let resumed = thief
        .get(&format!("/oauth2/authorize?sessionDataKey={key}"))
        .await;
    nothing_got_out(&mut thief, &[&again, &more, &resumed]).await;

    // The other doors.
    let (_, answer) = native(&mut thief, KNOWN, "erin-pw-1").await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status, answer.member("code").as_str()),
        (403, "RG-403")
    );
    let granted = grant(&world, KNOWN, "erin-pw-1", NEW_YORK).await;
    assert_eq!(
        (granted.status, granted.member("error").as_str()),
        (400, "access_denied")
    );
    nothing_got_out(&mut thief, &[&answer, &granted]).await;

    // The user herself is as welcome as ever.
    let mut erin = world.person(KNOWN);
    assert!(erin.log_in().await.code().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_where_the_identity_server_asks_for_a_second_factor_by_itself() {
    let when = format!("{DOORS} && {STRANGE}");
    let policy = rules(&[(&when, "block"), ("true", "allow")]);
    let world = world_of(Some(policy), SimConfig::default()).await;
    let mut thief = thief(&world).in_app("demo-mfa");
    let page = thief.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let answer = thief.submit_password(&page).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    // The thief has stolen the factor as well; the login is over all the same, in this browser and in another.
    let secret = "KRSXG5CTERIN";
    let code = wso2_sim::totp_at(secret, world.sim.now_s());
    let fields = [("token", code.as_str()), ("sessionDataKey", key.as_str())];
    let mark = world.mark().await;
    let more = thief.post("/commonauth", &fields).await;
    assert_eq!(more.status, 403, "{more:?}");
    let mut other = world.person(KNOWN).from(FAR).in_app("demo-mfa");
    for (name, value) in cookie_pairs(&thief) {
        other.set_cookie(&name, &value);
    }
    let elsewhere = other.post("/commonauth", &fields).await;
    assert_eq!(elsewhere.status, 403, "{elsewhere:?}");
    assert!(world.received_since(mark).is_empty());
    nothing_got_out(&mut thief, &[&answer, &more, &elsewhere]).await;
}

fn cookie_pairs(person: &Person<'_>) -> Vec<(String, String)> {
    let all = person.cookies();
    all.split("; ")
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_is_raised_once_the_password_was_accepted() {
    let world = world_that("step_up").await;
    let mut guess = thief(&world).guessing("nothing");
    guess.try_password().await;
    assert!(guess.cookie("__Host-rg_demand").is_none());
    assert_eq!(
        world
            .metric("riskgate_demands_total", &[("event", "raised")])
            .await,
        0.0
    );
    // A guess at a known name leaves nothing with the login that somebody else ends in the same browser.
    let mut stranger = thief(&world).guessing("nothing");
    let page = stranger.open().await;
    stranger.submit_password(&page).await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let fields = [
        ("username", "olivia"),
        ("password", "olivia-pw-1"),
        ("sessionDataKey", key.as_str()),
    ];
    let mut own = world
        .person("olivia")
        .from(NEW_YORK)
        .with(CHROME_ON_WINDOWS)
        .speaking("en-US");
    for (name, value) in cookie_pairs(&stranger) {
        own.set_cookie(&name, &value);
    }
    let answer = own.post("/commonauth", &fields).await;
    let answer = own.follow(answer).await;
    let code = answer.code().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(own.redeem(&code).await.status, 200, "nothing is owed");

    let mut thief = thief(&world);
    let page = thief.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let record = world.last_record_of("login").await;
    assert_eq!(
        (record.demand.as_deref(), record.shown.as_deref()),
        (Some("raised"), Some("allow")),
        "{record:#?}"
    );
    assert!(thief.cookie("__Host-rg_demand").is_some());
    // The password grant cannot give the factor, whoever asks.
    let granted = grant(&world, KNOWN, "erin-pw-1", NEW_YORK).await;
    assert_eq!(
        (
            granted.status,
            granted.member("error").as_str(),
            granted.member("acr_values").as_str()
        ),
        (400, "interaction_required", MFA)
    );
    let wrong = grant(&world, KNOWN, "nothing", NEW_YORK).await;
    assert_eq!(
        (wrong.status, wrong.member("error").as_str()),
        (400, "invalid_grant")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_held_once_the_password_was_accepted() {
    let world = world_that("review").await;
    let mut guess = thief(&world).guessing("nothing");
    let answer = guess.try_password().await;
    assert!(guess.follow(answer).await.is_page("login.do"));
    assert!(waiting(&world).await.is_empty());

    let mut thief = thief(&world);
    let answer = thief.try_password().await;
    let to = answer.location().expect("a page to wait on");
    assert!(
        answer.status == 303 && to.path().starts_with("/riskgate/review/"),
        "{answer:?}"
    );
    nothing_got_out(&mut thief, &[&answer]).await;
    let record = world.last_record_of("login").await;
    assert_eq!(
        (&*record.action, record.review_state.as_deref()),
        ("held", Some("held")),
        "{record:#?}"
    );
    let held = grant(&world, KNOWN, "erin-pw-1", NEW_YORK).await;
    assert_eq!(
        (held.status, held.member("error").as_str()),
        (400, "invalid_grant")
    );
    assert!(held.body.contains("held for review"), "{held:?}");
    let entries = waiting(&world).await;
    let entry = entries.iter().find(|entry| entry.door == "login").unwrap();
    decide(&world, "release", &entry.id).await;
    // One sign-in is let through, and no second one.
    let answer = thief.log_in().await;
    let code = answer.code().unwrap_or_else(|| panic!("{answer:?}"));
    assert_eq!(
        world.last_record_of("login").await.review_state.as_deref(),
        Some("used")
    );
    assert_eq!(thief.redeem(&code).await.status, 200);
    thief.forget_session();
    let answer = thief.try_password().await;
    assert_eq!(answer.status, 303, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_came_in_an_earlier_form_or_link_is_judged_as_well() {
    let world = world_that("block").await;
    // Identifier first: the name, then the password alone. The simulator takes both in one form, so that the second is
    // sent with the name under another one of the login page's fields.
    let mut thief = thief(&world);
    let path = thief.authorize_path(&[("login_hint", KNOWN)]);
    let answer = thief.get(&path).await;
    let page = thief.follow(answer).await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let mark = world.mark().await;
    let fields = [("password", "erin-pw-1"), ("sessionDataKey", key.as_str())];
    thief.post("/commonauth", &fields).await;
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.verdict.as_deref(), record.shown.as_deref()),
        (Some("block"), Some("allow")),
        "{record:#?}"
    );
    assert_ne!(record.source.as_deref(), Some("provenance"));
    // A mere name in a form is a name, too.
    let page = thief.open().await;
    let key = param(&page.url, "sessionDataKey").unwrap();
    let fields = [("username", KNOWN), ("sessionDataKey", key.as_str())];
    thief.post("/commonauth", &fields).await;
    let fields = [("password", "erin-pw-1"), ("sessionDataKey", key.as_str())];
    let mark = world.mark().await;
    thief.post("/commonauth", &fields).await;
    let record = world.record_since(mark).await;
    assert_eq!(record.verdict.as_deref(), Some("block"), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_says_nothing_and_binds_nobody() {
    let world = world_of(None, SimConfig::default()).await;
    let mut records = Vec::new();
    for name in [KNOWN, UNKNOWN, ""] {
        let somebody = world.person(name).from(FAR);
        let mut path = somebody.authorize_path(&[("login_hint", name)]);
        if name.is_empty() {
            path = somebody.authorize_path(&[]);
        }
        let mark = world.mark().await;
        let request = somebody.request(reqwest::Method::GET, &path);
        world.send(request).await;
        let record = world.record_since(mark).await;
        // Counts fade between two requests.
        let rounded = record
            .features
            .iter()
            .map(|value| value.map(|value| (value * 100.0).round()));
        let features: Vec<_> = rounded.collect();
        records.push((
            record.score,
            record.verdict,
            record.reasons,
            features,
            record.action,
        ));
    }
    assert_eq!(records[0], records[1]);
    assert_eq!(records[0], records[2]);

    // From the user's own device it is more than a hint.
    let mut erin = world.person(KNOWN);
    assert!(erin.log_in().await.code().is_some());
    erin.forget_session();
    world.until_learnt(KNOWN, 4).await;
    let mark = world.mark().await;
    let path = erin.authorize_path(&[("login_hint", KNOWN)]);
    erin.get(&path).await;
    let record = world.record_since(mark).await;
    assert_eq!(record.device.as_deref(), Some("known"), "{record:#?}");
    let logins = crate::gateway::feature(&record, riskgate::domain::features::Feature::UserHistory);
    assert!(logins.is_some_and(|value| value > 1.0), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_users_own_device_nothing_waits() {
    let policy = rules(&[
        ("request.door == \"login\" && device.known", "block"),
        ("true", "allow"),
    ]);
    let world = enforcing(policy).await;
    let mut erin = world.person(KNOWN);
    assert!(erin.log_in().await.code().is_some());
    world.until_learnt(KNOWN, 1).await;
    erin.forget_session();
    let page = erin.open().await;
    let mark = world.mark().await;
    let answer = erin.submit_password(&page).await;
    assert_eq!(answer.status, 403);
    assert!(world.received_since(mark).is_empty());
    let record = world.record_since(mark).await;
    assert_eq!((record.shown, &*record.action), (None, "blocked"));
    assert!(!answer.body.contains(CALLBACK));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_at_once_exhaust_nobody() {
    let world = world_that("step_up").await;
    let mut statuses = Vec::new();
    for name in [KNOWN, UNKNOWN] {
        let mut requests = Vec::new();
        for _ in 0..8 {
            let mut guess = world.person(name).from(NEW_YORK).with(CHROME_ON_WINDOWS);
            let page = guess.open().await;
            let key = param(&page.url, "sessionDataKey").unwrap();
            let fields = [
                ("username", name),
                ("password", "nothing"),
                ("sessionDataKey", key.as_str()),
            ];
            let request = guess.request(reqwest::Method::POST, "/commonauth");
            requests.push(request.form(&fields));
        }
        let mut answers = JoinSet::new();
        for request in requests {
            world.expect_record();
            answers.spawn(async move { request.send().await.unwrap().status().as_u16() });
        }
        statuses.push(answers.join_all().await);
    }
    assert_eq!(statuses[0], statuses[1]);
    assert_eq!(statuses[0], [302; 8]);
}
