//! What an attacker does, and what an honest user notices of it: nothing.

use crate::gateway::CHROME_ON_WINDOWS;
use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::HOME_NEIGHBOUR;
use crate::gateway::NEW_YORK;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::enforcing;
use crate::gateway::on_both_stores;
use crate::proof::withheld;
use riskgate::domain::audit::AuditEvent;

fn has_any(record: &AuditEvent, reasons: &[&str]) -> bool {
    record
        .reasons
        .iter()
        .any(|reason| reasons.contains(&&**reason))
}

/// Logs in as often as it takes to be known here.
async fn become_known(world: &World, person: &mut Person<'_>, name: &str, logins: u32) {
    for login in 1..=logins {
        person.forget_session();
        let answer = person.log_in().await;
        assert!(answer.code().is_some(), "{answer:?}");
        world.until_learnt(name, login).await;
    }
}

on_both_stores!(nobody_is_in_two_places_at_once, |store: Store| async move {
    let world = World::start(Options {
        mode: "enforce",
        store,
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice").from(HOME);
    become_known(&world, &mut alice, "alice", 4).await;
    let mut thief = world
        .person("alice")
        .from(NEW_YORK)
        .with(CHROME_ON_WINDOWS)
        .speaking("en-US");
    let page = thief.open().await;
    let mark = world.mark().await;
    let answer = thief.submit_password(&page).await;
    let record = world.record_since(mark).await;
    assert_eq!(
        (
            record.level.as_deref(),
            record.verdict.as_deref(),
            &*record.action
        ),
        (Some("high"), Some("block"), "blocked"),
        "{record:#?}"
    );
    assert!(
        has_any(&record, &["impossible_travel", "concurrent_country"]),
        "{record:#?}"
    );
    assert_eq!(answer.status, 403);
    // Whether the name exists shows to nobody who does not have its password; who has it gets nothing for it.
    assert_eq!(record.shown.as_deref(), Some("allow"), "{record:#?}");
    assert_eq!(world.received_since(mark).len(), 1);
    assert!(thief.cookie("commonAuthId").is_none());
    // She herself is not kept out, neither at home nor with a new address nearby.
    for address in [HOME, HOME_NEIGHBOUR] {
        alice.forget_session();
        alice.move_to(address);
        assert!(alice.log_in().await.code().is_some());
        let record = world.last_record_of("login").await;
        assert_eq!(
            record.level.as_deref(),
            Some("low"),
            "{address}: {record:#?}"
        );
    }
});

on_both_stores!(
    a_stolen_list_of_passwords_is_noticed_at_its_source,
    |store: Store| async move {
        let world = World::start(Options {
            mode: "enforce",
            store,
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice").from(HOME);
        become_known(&world, &mut alice, "alice", 2).await;
        for number in 0..30 {
            let mut bot = world
                .person(&format!("user{number}"))
                .from(FAR)
                .with(CHROME_ON_WINDOWS);
            let page = bot.open().await;
            if page.is_page("login.do") {
                bot.submit_password(&page).await;
            }
        }
        world.settle().await;
        let failed = world
            .records()
            .await
            .iter()
            .filter(|record| record.outcome == "failed")
            .count();
        assert!(
            (3..30).contains(&failed),
            "{failed} guesses were tried before the source was noticed"
        );
        // Even a right password does not get in from there, whatever the form claims to go on with.
        let mut bot = world.person("carol").from(FAR).with(CHROME_ON_WINDOWS);
        let mark = world.mark().await;
        let fields = [
            ("username", "carol"),
            ("password", "carol-sings"),
            ("sessionDataKey", "made-up"),
        ];
        let answer = bot.post("/commonauth", &fields).await;
        let record = world.record_since(mark).await;
        assert_eq!(
            (answer.status, &*record.action),
            (403, "blocked"),
            "{record:#?}"
        );
        assert!(
            has_any(&record, &["credential_stuffing", "ip_velocity"]),
            "{record:#?}"
        );
        assert!(world.received_since(mark).is_empty());
        // Elsewhere life goes on.
        alice.forget_session();
        let answer = alice.log_in().await;
        let record = world.last_record_of("login").await;
        assert!(answer.code().is_some(), "{record:#?}");
        assert_eq!(
            (record.level.as_deref(), record.verdict.as_deref()),
            (Some("low"), Some("allow")),
            "{record:#?}"
        );
        let mut dave = world.person("dave").from(HOME_NEIGHBOUR);
        assert!(
            dave.log_in().await.code().is_some(),
            "a new user at home gets in"
        );
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn guessing_at_the_password_grant_is_noticed_too() {
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let attempt = |user: String| {
        let form = [
            ("grant_type", "password".to_owned()),
            ("username", user),
            ("password", "guess".to_owned()),
        ];
        world
            .http()
            .post(format!("{}/oauth2/token", world.url))
            .header("x-forwarded-for", FAR)
            .header(
                "authorization",
                crate::gateway::basic("demo-legacy", "demo-legacy-secret"),
            )
            .form(&form)
    };
    for number in 0..30 {
        world.send(attempt(format!("user{number}"))).await;
    }
    world.settle().await;
    let mark = world.mark().await;
    let answer = world.send(attempt("bob".to_owned())).await;
    let record = world.record_since(mark).await;
    assert_eq!(answer.status, 400);
    assert_ne!(record.action, "forwarded", "{record:#?}");
    assert!(
        has_any(&record, &["credential_stuffing", "ip_velocity"]),
        "{record:#?}"
    );
    assert!(world.received_since(mark).is_empty());
}

on_both_stores!(
    a_refresh_token_is_bound_to_where_it_is_used,
    |store: Store| async move {
        let world = World::start(Options {
            mode: "enforce",
            store,
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice").from(HOME);
        become_known(&world, &mut alice, "alice", 6).await;
        alice.forget_session();
        let code = alice.sign_in().await;
        let tokens = alice.redeem(&code).await;
        let mut refresh = tokens.member("refresh_token");
        // The same application in the same network, day after day.
        for address in [HOME, HOME, HOME_NEIGHBOUR] {
            alice.move_to(address);
            let answer = alice
                .token(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)])
                .await;
            let record = world.last_record_of("token").await;
            assert_eq!(
                (
                    answer.status,
                    record.level.as_deref(),
                    record.verdict.as_deref()
                ),
                (200, Some("low"), Some("allow")),
                "{address}: {record:#?}"
            );
            assert!(
                record.subject.is_some() && record.outcome == "tokens_issued",
                "{record:#?}"
            );
            refresh = answer.member("refresh_token");
        }
        // Stolen: another country, network and program.
        let mut thief = world
            .person("alice")
            .from(NEW_YORK)
            .with("curl/8.5.0")
            .speaking("en");
        let mark = world.mark().await;
        let answer = thief
            .token(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)])
            .await;
        let record = world.record_since(mark).await;
        assert_eq!(record.level.as_deref(), Some("high"), "{record:#?}");
        assert_eq!(
            (answer.status, record.response_status),
            (400, 400),
            "{answer:?}"
        );
        assert!(world.received_since(mark).is_empty());
        assert!(answer.body.contains("\"error\""), "{answer:?}");
        // The family is not lost: its owner goes on.
        let answer = alice
            .token(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)])
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn a_stepped_up_refresh_starts_a_new_authorization() {
    let policy = crate::gateway::rules(&[(
        "request.grant_type == \"refresh_token\" && client.id == \"demo-web\"",
        "step_up",
    )]);
    let world = enforcing(policy).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    let answer = alice
        .token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.member("refresh_token")),
        ])
        .await;
    withheld(&answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_in_the_hands_of_another_client_is_told() {
    let world = World::start(Options::default()).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", crate::gateway::CALLBACK),
    ];
    let answer = world
        .post("/oauth2/token", Some("demo-opaque"), &fields)
        .await;
    assert_eq!(answer.member("error"), "invalid_grant");
    let record = world.last_record_of("token").await;
    assert!(
        has_any(&record, &["code_mismatch"]) && record.source.as_deref() != Some("provenance"),
        "{record:#?}"
    );
    assert_eq!((&*record.outcome, record.subject), ("failed", None));
    // In another tenant it is nothing either.
    world
        .post("/t/example.com/oauth2/token", Some("demo-web"), &fields)
        .await;
    let record = world.last_record_of("token").await;
    assert!(has_any(&record, &["code_mismatch"]), "{record:#?}");
    // A code that nobody issued here.
    world
        .post(
            "/oauth2/token",
            Some("demo-web"),
            &[
                ("grant_type", "authorization_code"),
                ("code", "made-up"),
                ("redirect_uri", crate::gateway::CALLBACK),
            ],
        )
        .await;
    let record = world.last_record_of("token").await;
    assert!(has_any(&record, &["code_unknown"]), "{record:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_progress_belongs_to_the_browser_that_began_it() {
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let answer = alice.try_password().await;
    let back = answer.location().expect("the way back");
    assert!(back.path() == "/oauth2/authorize", "{back}");
    // Somebody else with the same key begins anew, and is scored for what they are.
    let mut thief = world
        .person("alice")
        .from(FAR)
        .with(CHROME_ON_WINDOWS)
        .speaking("en");
    let mark = world.mark().await;
    thief.get(back.as_str()).await;
    let record = world.record_since(mark).await;
    assert_ne!(record.source.as_deref(), Some("provenance"), "{record:#?}");
    // A key beside `client_id` is a new request.
    let fresh = format!("{}&sessionDataKey=made-up", alice.authorize_path(&[]));
    let mark = world.mark().await;
    alice.get(&fresh).await;
    assert_ne!(
        world.record_since(mark).await.source.as_deref(),
        Some("provenance")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn known_and_unknown_usernames_look_alike() {
    let mut seen = Vec::new();
    for name in ["alice", "no-such-user"] {
        let world = World::start(Options {
            mode: "enforce",
            ..Options::default()
        })
        .await;
        let mut somebody = world.person(name).guessing("wrong");
        let answer = somebody.try_password().await;
        let location = answer.location().expect("a redirect");
        let parameters: Vec<_> = location
            .query_pairs()
            .map(|(name, _)| name.into_owned())
            .filter(|name| name != "sessionDataKey")
            .collect();
        let headers: Vec<_> = answer
            .headers
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let record = world.last_record_of("login").await;
        seen.push((
            answer.status,
            location.path().to_owned(),
            parameters,
            headers,
            record.verdict,
            record.score,
        ));
    }
    assert_eq!(seen[0], seen[1]);
}
