//! What a profile learns from, over both stores: only from logins that the identity server confirmed and that were
//! low-risk or passed a second factor.

use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::gateway::Store;
use crate::gateway::TOR;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::enforcing;
use crate::gateway::on_both_stores;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::features::Feature;

const COOKIE: &str = "__Host-rg_device";

/// A gateway that enforces the policy as it is shipped.
async fn enforcing_on(store: Store) -> World {
    World::start(Options {
        mode: "enforce",
        store,
        ..Options::default()
    })
    .await
}

fn has(record: &AuditEvent, reason: &str) -> bool {
    record.reasons.iter().any(|known| known == reason)
}

on_both_stores!(
    a_confirmed_low_risk_login_is_learnt,
    |store: Store| async move {
        let world = enforcing_on(store).await;
        let mut alice = world.person("alice");
        let mut records: Vec<AuditEvent> = Vec::new();
        for logins in 1..=3 {
            alice.forget_session();
            alice.log_in().await;
            let record = world.last_record_of("login").await;
            assert_eq!(
                (&*record.outcome, record.level.as_deref(), record.learnt),
                ("succeeded", Some("low"), true),
                "{record:#?}"
            );
            records.push(record);
            world.until_learnt("alice", logins).await;
        }
        assert!(
            has(&records[0], "new_account") && records[0].device.as_deref() == Some("none"),
            "{:#?}",
            records[0]
        );
        for later in &records[1..] {
            assert!(later.score < records[0].score, "{records:#?}");
            assert!(
                !has(later, "unfamiliar_device") && later.device.as_deref() == Some("known"),
                "{later:#?}"
            );
        }
        assert!(records[2].score <= records[1].score, "{records:#?}");
        assert_eq!(
            world.history_of("bob").await,
            0,
            "nobody else has learnt anything"
        );
    }
);

on_both_stores!(
    failed_logins_leave_the_profile_as_it_is,
    |store: Store| async move {
        let world = World::start(Options {
            mode: "enforce",
            policy: Some(always("allow")),
            store,
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice");
        alice.sign_in().await;
        world.until_learnt("alice", 1).await;
        alice.forget_session();
        alice.log_in().await;
        let before = world.last_record_of("login").await;
        world.until_learnt("alice", 2).await;
        let mut thief = world.person("alice").from(FAR).guessing("guess");
        for _ in 0..4 {
            thief.forget_everything();
            thief.try_password().await;
            let record = world.last_record_of("login").await;
            assert_eq!((&*record.outcome, record.learnt), ("failed", false));
        }
        world.settle().await;
        assert_eq!(world.history_of("alice").await, 2);
        alice.forget_session();
        alice.log_in().await;
        let after = world.last_record_of("login").await;
        assert_eq!(
            (after.level.as_deref(), &*after.outcome),
            (Some("low"), "succeeded"),
            "{after:#?}"
        );
        assert!(
            !has(&after, "unfamiliar_address") && !has(&after, "unfamiliar_country"),
            "{after:#?}"
        );
        assert!(
            before.score <= after.score,
            "the failures count against the account, and only they"
        );
        // Where the thief was is as unknown as before.
        let mut traveller = world.person("alice").from(FAR);
        traveller.log_in().await;
        let record = world.last_record_of("login").await;
        assert!(
            has(&record, "unfamiliar_country")
                || has(&record, "concurrent_country")
                || has(&record, "impossible_travel"),
            "{record:#?}"
        );
    }
);

on_both_stores!(
    a_medium_login_that_nobody_stepped_up_is_not_learnt,
    |store: Store| async move {
        let world = World::start(Options {
            store,
            ..Options::default()
        })
        .await;
        let mut bob = world.person("bob").from(TOR);
        bob.log_in().await;
        let record = world.last_record_of("login").await;
        assert_eq!(
            (record.level.as_deref(), &*record.outcome, record.learnt),
            (Some("medium"), "succeeded", false),
            "{record:#?}"
        );
        world.settle().await;
        assert_eq!(world.history_of("bob").await, 0);
    }
);

on_both_stores!(
    a_medium_login_that_passed_a_second_factor_is_learnt,
    |store: Store| async move {
        let world = enforcing_on(store).await;
        let mut bob = world.person("bob").from(TOR);
        let code = bob.sign_in().await;
        let record = world.last_record_of("login").await;
        assert_eq!(
            (&*record.outcome, record.learnt),
            ("succeeded", true),
            "{record:#?}"
        );
        assert_eq!(bob.redeem(&code).await.status, 200);
        world.until_learnt("bob", 1).await;
    }
);

on_both_stores!(
    a_name_beside_the_code_of_somebody_else_teaches_nothing,
    |store: Store| async move {
        let world = enforcing_on(store).await;
        // They give their own code and say that they are Carol, with a password for good measure: the identity server does
        // not read either.
        for (name, more) in [
            ("bob", &[("username", "carol")][..]),
            ("alice", &[("username", "carol"), ("password", "x")]),
        ] {
            let mut other = world.person(name).from(TOR);
            let answer = other.try_password().await;
            let page = other.follow(answer).await;
            assert!(page.is_page("totp.do"), "{page:?}");
            let answer = other.submit_code_with(&page, more).await;
            let record = world.last_record_of("login").await;
            assert_eq!(
                (&*record.outcome, record.learnt),
                ("succeeded", false),
                "{more:?}: {record:#?}"
            );
            assert!(other.cookie(COOKIE).is_none(), "{more:?}");
            assert!(other.follow(answer).await.code().is_some(), "{more:?}");
        }
        world.settle().await;
        assert_eq!(world.history_of("carol").await, 0);
    }
);

on_both_stores!(
    names_that_nobody_has_leave_nothing,
    |store: Store| async move {
        let mut world = World::start(Options {
            store,
            ..Options::default()
        })
        .await;
        for _ in 0..3 {
            let mut nobody = world.person("nobody");
            nobody.try_password().await;
            let record = world.last_record_of("login").await;
            assert_eq!((&*record.outcome, record.learnt), ("failed", false));
        }
        world.settle().await;
        assert_eq!(world.history_of("nobody").await, 0);
        if store == Store::Redis {
            let keys =
                String::from_utf8_lossy(&world.redis().command(&[b"KEYS", b"*"])).into_owned();
            assert!(keys.contains("rg:1:"), "something is counted: {keys}");
            assert!(
                !keys.contains(":profile:") && !keys.contains("nobody") && !keys.contains(HOME),
                "{keys}"
            );
        }
    }
);

on_both_stores!(
    tokens_keep_what_the_login_showed,
    |store: Store| async move {
        let world = enforcing_on(store).await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        let login = world.last_record_of("login").await;
        // An application server redeems the code from its own address, without a browser.
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", crate::gateway::CALLBACK),
        ];
        let request = world
            .http()
            .post(format!("{}/oauth2/token", world.url))
            .header("x-forwarded-for", crate::gateway::HOSTING)
            .header(
                "authorization",
                crate::gateway::basic("demo-web", "demo-web-secret"),
            )
            .form(&fields);
        let tokens = world.send(request).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        let record = world.last_record_of("token").await;
        assert_eq!(
            (record.source.as_deref(), record.score, &record.subject),
            (Some("provenance"), login.score, &login.subject),
            "{record:#?}"
        );
        assert!(!record.learnt);
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn the_device_cookie_is_set_over_tls_where_the_mode_lets_the_client_see_it() {
    for (mode, is_secure, is_set) in [
        ("enforce", true, true),
        ("advise", true, true),
        ("enforce", false, false),
        ("monitor", true, false),
        ("off", true, false),
    ] {
        let world = World::start(Options {
            mode,
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice");
        if !is_secure {
            alice = alice.without_tls();
        }
        let answer = alice.try_password().await;
        let set: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, value)| name == "set-cookie" && value.starts_with(COOKIE))
            .collect();
        assert_eq!(
            set.len(),
            usize::from(is_set),
            "{mode} {is_secure}: {set:?}"
        );
        let Some((_, cookie)) = set.first() else {
            continue;
        };
        let mut attributes: Vec<_> = cookie.split(';').map(str::trim).collect();
        let value = attributes.remove(0).split_once('=').unwrap().1.to_owned();
        attributes.sort_unstable();
        assert_eq!(
            attributes,
            [
                "HttpOnly",
                "Max-Age=15552000",
                "Path=/",
                "SameSite=None",
                "Secure"
            ]
        );
        assert!(
            !value.contains("alice") && (32..=128).contains(&value.len()),
            "{value}"
        );
        // It is the identity server's own answer otherwise.
        assert!(alice.cookie("commonAuthId").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_device_cookie_the_score_is_lower_and_a_forged_one_is_worse_than_none() {
    let world = enforcing(always("allow")).await;
    let mut alice = world.person("alice");
    for logins in 1..=3 {
        alice.forget_session();
        alice.log_in().await;
        world.until_learnt("alice", logins).await;
    }
    let cookie = alice.cookie(COOKIE).expect("the cookie").to_owned();
    let mut foreign = world.person("bob");
    foreign.log_in().await;
    let foreign = foreign.cookie(COOKIE).expect("the cookie").to_owned();
    let mut forged = cookie.clone();
    forged.replace_range(4..6, if cookie[4..6] == *"AA" { "BB" } else { "AA" });

    let mut scores = Vec::new();
    // The wrong password keeps the profile as it is between the attempts.
    for (value, standing) in [
        (Some(&cookie), "known"),
        (None, "none"),
        (Some(&foreign), "foreign"),
        (Some(&forged), "foreign"),
    ] {
        let mut somebody = world.person("alice").guessing("wrong");
        if let Some(value) = value {
            somebody.set_cookie(COOKIE, value);
        }
        somebody.try_password().await;
        let record = world.last_record_of("login").await;
        assert_eq!(record.device.as_deref(), Some(standing), "{record:#?}");
        assert_eq!(
            has(&record, "unfamiliar_device"),
            standing != "known",
            "{record:#?}"
        );
        scores.push(record.score.expect("a score"));
    }
    assert!(
        scores[0] < scores[1] && scores[1] < scores[2] && scores[2] <= scores[3],
        "{scores:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_in_a_data_centre_becomes_known() {
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", "demo-service"),
        ("client_secret", "demo-service-secret"),
    ];
    let mut at_home = world.person("dave").from(HOSTING);
    let mut scores = Vec::new();
    for _ in 0..6 {
        let answer = at_home.post("/oauth2/token", &fields).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = world.last_record_of("token").await;
        assert_eq!(
            (record.level.as_deref(), record.learnt),
            (Some("low"), true),
            "{record:#?}"
        );
        assert_eq!(record.kind.as_deref(), Some("m2m"));
        let cookie = record.features[Feature::SurpriseCookie.index()];
        assert!(
            cookie.is_none_or(|surprise| surprise == 0.0),
            "a program without a cookie is no surprise: {record:#?}"
        );
        scores.push(record.score);
    }
    // Six requests within a second are a burst, and no more than that.
    assert!(scores.iter().all(|score| *score < Some(15)), "{scores:?}");

    let mut elsewhere = world.person("dave").from(TOR);
    elsewhere.post("/oauth2/token", &fields).await;
    let record = world.last_record_of("token").await;
    assert_ne!(record.level.as_deref(), Some("low"), "{record:#?}");
    assert!(!record.learnt);
}
