//! What is learnt and what is not, over weeks.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "support/town.rs"]
#[allow(dead_code, reason = "each test binary uses a part of the town")]
mod town;

use crate::town::Answer;
use crate::town::DAY;
use crate::town::FIREFOX;
use crate::town::MINUTE;
use crate::town::PHONE;
use crate::town::Seat;
use crate::town::TENANT;
use crate::town::Town;
use crate::town::keys;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use riskgate::adapters::memory::FaultyStore;
use riskgate::adapters::memory::MemoryStore;
use riskgate::adapters::memory::StoreFault;
use riskgate::domain::access_token::Binding;
use riskgate::domain::access_token::Grant;
use riskgate::domain::history::WhichDevices;
use riskgate::domain::history::scopes::Groups;
use riskgate::domain::ids::NameSpace;
use riskgate::domain::policy::decision::Verdict;
use riskgate::domain::token_action::ActionCall;
use riskgate::flow::ports::Clock;
use riskgate::flow::ports::StateError;
use riskgate::flow::ports::StateStore;
use riskgate::flow::scopes;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The score from which a stronger factor is asked for.
const MEDIUM: u8 = 30;
const HOME: [u8; 4] = [84, 1, 13, 77];

#[tokio::test]
async fn two_hundred_failed_logins_leave_the_bytes_of_the_profile_as_they_are() {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(20, &mut home).await;
    let before = town.profile_bytes("alice").unwrap();
    // From her own address and browser, from the same network, from abroad.
    for n in 0..200_u8 {
        let mut seat = match n % 3 {
            0 => home.clone(),
            1 => Seat::at([84, 1, 13, n]),
            _ => Seat::at([84, 12, n, 9]),
        };
        let (seen, _) = town.password(&mut seat, "alice", Answer::Refused).await;
        assert!(!seen.learnt);
        town.wait(MINUTE);
    }
    assert_eq!(town.profile_bytes("alice").unwrap(), before);
}

#[tokio::test]
async fn names_that_never_logged_in_make_no_entries() {
    let mut town = Town::new();
    town.alice_for(3, &mut Seat::at(HOME)).await;
    let mut seat = Seat::at([84, 12, 0, 9]);
    town.password(&mut seat, "nobody-0", Answer::Refused).await;
    let before = town.store.entries();
    let mut forwarded = 0;
    for n in 1..500 {
        let name = format!("nobody-{n}");
        let (seen, _) = town.password(&mut seat, &name, Answer::Refused).await;
        forwarded += usize::from(seen.verdict != Verdict::Block);
        assert_eq!(town.profile_bytes(&name), None);
    }
    // Each login in progress is known by its key for a while. Apart from that the address owes a stronger factor since it
    // was refused; nothing has come by the names.
    const DEMANDS_OF_THE_ADDRESS: usize = 1;
    assert_eq!(
        town.store.entries() - before,
        forwarded + DEMANDS_OF_THE_ADDRESS
    );
    assert!(
        (1..499).contains(&forwarded),
        "it is noticed soon: {forwarded}"
    );
}

/// Whoever has the password but not the second factor comes back every day for a month, in one of several ways. The
/// owner goes on as ever. None of it becomes familiar.
async fn drift(seat: impl Fn(u8, &Seat) -> Seat, times_a_day: u32) -> (u8, u8) {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(40, &mut home).await;
    let mut lowest = u8::MAX;
    let mut highest_of_alice = 0;
    for day in 0..30 {
        let mut attacker = seat(day, &home);
        for _ in 0..times_a_day {
            let (seen, key) = town
                .password(&mut attacker, "alice", Answer::SecondFactor)
                .await;
            assert_ne!(seen.verdict, Verdict::Allow, "day {day}: {}", seen.score);
            assert!(!seen.learnt, "day {day}");
            lowest = lowest.min(seen.score);
            if seen.verdict == Verdict::StepUp {
                let second = town
                    .second_factor(&mut attacker, &key, Answer::Refused)
                    .await;
                assert!(!second.learnt, "day {day}");
            }
            town.wait(MINUTE);
        }
        town.wait(DAY / 2);
        let (seen, _) = town.password(&mut home, "alice", Answer::Accepted).await;
        highest_of_alice = highest_of_alice.max(seen.score);
        town.wait(DAY / 2);
    }
    let profile = town.profile("alice").await;
    for network in [5_u32, 6, 12] {
        let asn = (65_000 + network).to_string();
        let value = town
            .people
            .value(NameSpace::AutonomousSystem, asn.as_bytes());
        assert_eq!(profile.asns.count(value), 0);
    }
    let abroad = town.people.value(NameSpace::Country, b"BR");
    assert_eq!(profile.countries.count(abroad), 0);
    assert_eq!(profile.devices.iter().count(), 1);
    (lowest, highest_of_alice)
}

#[tokio::test]
async fn a_stolen_password_used_slowly_does_not_become_familiar() {
    let linux = |address| Seat {
        agent: FIREFOX,
        ..Seat::at(address)
    };
    let ways: [(&str, (u8, u8)); 6] = [
        // In her own country, with a browser that is not hers: the second factor is asked for.
        ("nearby", drift(|_, _| linux([84, 5, 0, 9]), 1).await),
        (
            "nearby, a new address each day",
            drift(|day, _| linux([84, 5, day, 9]), 1).await,
        ),
        (
            "nearby, three times a day",
            drift(|_, _| linux([84, 5, 0, 9]), 3).await,
        ),
        // Each ten days one step on: another network, then the phone of a kind that she has not got.
        (
            "nearby, step by step",
            drift(
                |day, _| match day / 10 {
                    0 => linux([84, 5, 0, 9]),
                    1 => linux([84, 6, 0, 9]),
                    _ => Seat {
                        agent: PHONE,
                        ..Seat::at([84, 6, 0, 9])
                    },
                },
                1,
            )
            .await,
        ),
        // From abroad, with her kind of browser: refused.
        ("abroad", drift(|_, _| Seat::at([84, 12, 0, 9]), 1).await),
        (
            "abroad, a new address each day",
            drift(|day, _| Seat::at([84, 12, day, 9]), 1).await,
        ),
    ];
    for (way, (attacker, alice)) in ways {
        println!("{way}: the attacker never below {attacker}, Alice never above {alice}");
        assert!(attacker >= MEDIUM, "{way}: {attacker}");
        assert!(alice < MEDIUM, "{way}: {alice}");
    }
}

#[tokio::test]
async fn a_new_device_is_on_probation_for_thirty_days() {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(40, &mut home).await;
    let (seen, _) = town.password(&mut home, "alice", Answer::Accepted).await;
    // What the account began with is an old friend.
    assert_eq!(seen.device_cookie, 0.0);
    let mut phone = Seat {
        agent: PHONE,
        ..Seat::at([84, 2, 0, 9])
    };
    let (seen, key) = town
        .password(&mut phone, "alice", Answer::SecondFactor)
        .await;
    assert_eq!((seen.verdict, seen.device_cookie), (Verdict::StepUp, 0.5));
    let second = town.second_factor(&mut phone, &key, Answer::Accepted).await;
    assert!(second.learnt && phone.cookie.is_some());
    let mut weights = Vec::new();
    for _ in 0..4 {
        let (seen, _) = town.password(&mut phone, "alice", Answer::Accepted).await;
        weights.push(seen.device_cookie);
        town.wait(DAY * 10);
    }
    assert!((weights[0] - 0.25).abs() < 0.01, "{weights:?}");
    assert!(
        weights.windows(2).all(|pair| pair[1] < pair[0]),
        "{weights:?}"
    );
    assert_eq!(weights[3], 0.0);
}

#[tokio::test]
async fn a_service_account_has_a_baseline_of_what_it_was_granted() {
    let mut town = Town::new();
    for _ in 0..10 {
        town.client_token("read+write", true).await;
        town.wait(MINUTE * 10);
    }
    town.client_token("admin", false).await;
    let robot = town.people.client(TENANT, "robot");
    let query = riskgate::domain::history::HistoryQuery {
        now: town.clock.now(),
        subject: Some(robot),
        address: 0,
        prefix: 0,
        asn: None,
        agent: 0,
        tenant: 0,
        client: Some(robot),
        scopes: None,
        links: Vec::new(),
        demands: Vec::new(),
        previous: None,
    };
    let baseline = town.store.load(&query).await.unwrap().client.unwrap();
    assert_eq!(baseline.requests, 10);
    let scope = |name: &str| {
        let value = town.people.value(NameSpace::Scope, name.as_bytes());
        baseline.scopes.count(value)
    };
    assert_eq!((scope("read"), scope("write"), scope("admin")), (10, 10, 0));
    assert!(baseline.rate > 1.0 && baseline.peak.current >= baseline.rate);
}

#[tokio::test]
async fn a_forgotten_device_is_unknown_until_it_is_learnt_again() {
    let mut town = Town::new();
    let mut home = Seat::at(HOME);
    town.alice_for(20, &mut home).await;
    town.store
        .forget_devices(town.user("alice"), WhichDevices::All, town.clock.now())
        .await
        .unwrap();
    let (seen, key) = town
        .password(&mut home, "alice", Answer::SecondFactor)
        .await;
    assert_eq!(seen.device_cookie, 0.5);
    let second = town.second_factor(&mut home, &key, Answer::Accepted).await;
    assert!(second.learnt);
    let (seen, _) = town.password(&mut home, "alice", Answer::Accepted).await;
    assert!((seen.device_cookie - 0.25).abs() < 0.01);
}

#[tokio::test]
async fn an_exchanged_secret_costs_nobody_their_history() {
    let mut before = Town::new();
    let mut home = Seat::at(HOME);
    before.alice_for(20, &mut home).await;
    let (usual, _) = before.password(&mut home, "alice", Answer::Accepted).await;
    let old_name = before.user("alice");
    let old_bytes = before.store.profile_bytes(old_name);
    assert!(old_bytes.is_some());

    // The same store, the secret exchanged, the one before it still known.
    let mut after = Town::on(
        Arc::clone(&before.store),
        Arc::clone(&before.clock),
        &keys(8, Some(7)),
    );
    assert_ne!(after.user("alice"), old_name);
    after.wait(DAY);
    let (seen, _) = after.password(&mut home, "alice", Answer::Accepted).await;
    assert!(seen.learnt);
    assert!(
        seen.score <= usual.score.max(5),
        "{} after {}",
        seen.score,
        usual.score
    );
    assert_eq!(seen.device_cookie, 0.0);
    assert_eq!(after.store.profile_bytes(old_name), None, "it has moved");
    let profile = after.profile("alice").await;
    assert_eq!(profile.successes, 22);
    let address = after.people.value(NameSpace::Address, b"84.1.13.77");
    assert_eq!(profile.addresses.count(address), 22);
    // The second login finds it under the present name, and the cookie is of the present secret.
    after.wait(DAY);
    let mut alone = Town::on(
        Arc::clone(&before.store),
        Arc::clone(&before.clock),
        &keys(8, None),
    );
    let (seen, _) = alone.password(&mut home, "alice", Answer::Accepted).await;
    assert!(seen.score <= usual.score.max(5), "{}", seen.score);
    assert_eq!(seen.device_cookie, 0.0);
    // Without the previous secret it would have been a stranger.
    let store = Arc::new(MemoryStore::new());
    let mut old = Town::on(
        Arc::clone(&store),
        Arc::clone(&before.clock),
        &keys(7, None),
    );
    let mut seat = Seat::at(HOME);
    old.alice_for(20, &mut seat).await;
    let mut stranger = Town::on(store, Arc::clone(&before.clock), &keys(8, None));
    let (seen, _) = stranger
        .password(&mut seat, "alice", Answer::Accepted)
        .await;
    assert!(seen.score > usual.score && seen.device_cookie == 1.0);
}

/// A token of an application, or of one of its users, is let through to a service that asks for a scope.
fn spend(town: &Town, client: &str, subject: &str, groups: &[&str], scope: &str) {
    let grant = Grant {
        subject: subject.to_owned(),
        client_id: client.to_owned(),
        audience: None,
        scope: scope.to_owned(),
        expires: town.clock.now().plus(DAY),
        binding: Binding::None,
        groups: Groups::of(std::iter::once(&json!(groups))),
    };
    let dependencies = town.flow.dependencies();
    let scopes = std::iter::once(scope);
    scopes::spent(dependencies, &town.people, TENANT, &grant, scopes);
}

/// Where in a token the scopes are that WSO2 is told to leave out, asked with the decision id of its request.
async fn left_out(town: &Town, decision: &str, scopes: &[&str]) -> Vec<String> {
    left_out_for(town, ("robot", "client_credentials", &[]), decision, scopes).await
}

/// The same for a client, a grant, and a user in groups.
async fn left_out_for(
    town: &Town,
    (client, grant, groups): (&str, &str, &[&str]),
    decision: &str,
    scopes: &[&str],
) -> Vec<String> {
    let call = token_call((client, grant, groups), decision, scopes);
    let (reply, _) = town.flow.act(&call).await;
    let reply = serde_json::to_value(reply).unwrap();
    let operations = reply["operations"].as_array().cloned().unwrap_or_default();
    operations
        .iter()
        .filter(|operation| operation["op"] == "remove")
        .map(|operation| {
            let path = operation["path"].as_str().unwrap();
            let index = path.rsplit('/').next().unwrap();
            scopes[index.parse::<usize>().unwrap()].to_owned()
        })
        .collect()
}

/// What WSO2 asks before it issues a token for a client, a grant, and a user in groups.
fn token_call(
    (client, grant, groups): (&str, &str, &[&str]),
    decision: &str,
    scopes: &[&str],
) -> ActionCall {
    let call = json!({
        "actionType": "PRE_ISSUE_ACCESS_TOKEN",
        "event": {
            "request": {
                "grantType": grant, "clientId": client,
                "additionalHeaders": [{ "name": "x-risk-decision-id", "value": [decision] }],
            },
            "tenant": { "name": TENANT },
            "accessToken": { "scopes": scopes, "claims": [{ "name": "groups", "value": groups }] },
        },
        "allowedOperations": [
            { "op": "add", "paths": ["/accessToken/claims/"] },
            { "op": "remove", "paths": ["/accessToken/scopes/"] },
        ],
    });
    ActionCall::parse(call.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn scopes_that_are_never_used_go_only_where_every_use_is_seen() {
    const SCOPES: [&str; 5] = [
        "openid",
        "read",
        "payments:read",
        "payments:write",
        "payments:rare",
    ];
    let mut town = Town::new();
    town.obey(
        r#"
version = 1
[[rule]]
name = "all"
when = "true"
verdict = "allow"
[token]
low.remove_unused_scopes = true
watched_scopes = ["payments:*", "openid"]
unused_after_days = 7
unused_after_grants = 10
"#,
    );
    let always = SCOPES[..4].join("+");
    for day in 0..20_u32 {
        // One scope is granted seldom, one is used.
        let all = SCOPES.join("+");
        let decision = town
            .client_token(if day == 0 { &all } else { &always }, true)
            .await;
        let gone = left_out(&town, &decision, &SCOPES).await;
        // The tenth grant waits to be written, and counts.
        let expected: &[&str] = if day >= 9 { &["payments:write"] } else { &[] };
        assert_eq!(gone, expected, "day {day}");
        spend(&town, "robot", "robot", &[], "payments:read");
        // The tokens of its users are others.
        spend(&town, "robot", "a-user", &[], "payments:write");
        town.flow.write_scopes();
        town.learn().await;
        town.wait(DAY);
    }
    // From its first use on it stays, also before the store knows of it.
    let decision = town.client_token(&always, true).await;
    spend(&town, "robot", "robot", &[], "payments:write");
    assert!(left_out(&town, &decision, &SCOPES).await.is_empty());
    town.flow.write_scopes();
    town.learn().await;
    assert!(left_out(&town, &decision, &SCOPES).await.is_empty());
}

/// A policy that takes watched scopes which nobody used from tokens of every level.
fn takes_away_unused(days: u32, grants: u32) -> String {
    format!(
        r#"
version = 1
[[rule]]
name = "all"
when = "true"
verdict = "allow"
[token]
low.remove_unused_scopes = true
medium.remove_unused_scopes = true
high.remove_unused_scopes = true
watched_scopes = ["payments:*"]
unused_after_days = {days}
unused_after_grants = {grants}
"#
    )
}

/// A JWT of a user, as far as it is read without being verified.
fn token_of(groups: &[&str]) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "client_id": "app", "aut": "APPLICATION_USER", "groups": groups });
    format!("{}.{}.c2ln", part(json!({ "alg": "RS256" })), part(claims))
}

#[tokio::test]
async fn a_scope_that_others_use_goes_where_no_group_of_the_user_does() {
    const SCOPES: [&str; 2] = ["payments:read", "payments:write"];
    let mut town = Town::new();
    town.obey(&takes_away_unused(7, 10));
    let granted = SCOPES.join(" ");
    for _ in 0..12 {
        for groups in [&["tellers"][..], &["managers"], &["tellers", "managers"]] {
            town.user_token("app", &token_of(groups), &granted).await;
        }
        spend(&town, "app", "ann", &["managers"], "payments:write");
        spend(&town, "app", "bob", &["tellers"], "payments:read");
        town.flow.write_scopes();
        town.learn().await;
        town.wait(DAY);
    }
    for (groups, gone) in [
        (&["tellers"][..], &["payments:write"][..]),
        (&["managers"], &["payments:read"]),
        // Each of the user's groups must say so, and each by itself.
        (&["tellers", "managers"], &[]),
        (&["tellers", "guests"], &[]),
        (&["guests"], &[]),
        // Nothing is known of who says nothing of groups, or too much.
        (&[], &[]),
        (&["tellers", "\u{7}"], &[]),
    ] {
        let decision = town.user_token("app", &token_of(groups), &granted).await;
        let whose = ("app", "authorization_code", groups);
        let mut found = left_out_for(&town, whose, &decision, &SCOPES).await;
        found.sort();
        assert_eq!(found, gone, "{groups:?}");
    }
    // A use that names no group may have been the tellers'; it holds before the store knows of it.
    spend(&town, "app", "eve", &[], "payments:write");
    for _ in 0..2 {
        let decision = town
            .user_token("app", &token_of(&["tellers"]), &granted)
            .await;
        let whose = ("app", "authorization_code", &["tellers"][..]);
        assert!(
            left_out_for(&town, whose, &decision, &SCOPES)
                .await
                .is_empty()
        );
        town.flow.write_scopes();
        town.learn().await;
    }
}

/// Whatever the store does, WSO2 has its answer within 50 ms, on the clock of the runtime: nothing here takes time but what is
/// waited for.
#[tokio::test(start_paused = true)]
async fn wso2_is_answered_within_50_ms_whatever_the_store_does() {
    const LONGEST: Duration = Duration::from_millis(50);
    const SCOPES: [&str; 2] = ["payments:read", "payments:write"];
    let mut town = Town::new();
    let policy = &takes_away_unused(1, 2);
    town.obey(policy);
    for _ in 0..4 {
        town.client_token(&SCOPES.join("+"), true).await;
        town.flow.write_scopes();
        town.learn().await;
        town.wait(DAY);
    }
    let decision = town.client_token(&SCOPES.join("+"), true).await;
    let password = json!({
        "actionType": "PRE_UPDATE_PASSWORD",
        "event": {
            "tenant": { "name": TENANT },
            "request": { "additionalHeaders": [{ "name": "x-risk-decision-id", "value": ["unknown"] }] },
            "user": { "claims": [{ "uri": "http://wso2.org/claims/username", "value": "alice" }] },
            "initiatorType": "USER", "action": "UPDATE",
        },
    });
    let password = ActionCall::parse(password.to_string().as_bytes()).unwrap();
    let token = token_call(("robot", "client_credentials", &[]), &decision, &SCOPES);
    let unknown = token_call(("robot", "client_credentials", &[]), "unknown", &SCOPES);
    let away = || StateError::Unavailable("gone".to_owned());
    let slow = |millis| StoreFault::Delayed(Duration::from_millis(millis));
    // What the call for the token gets: claims of the decision, or none, and whether unused scopes go.
    for (fault, told, gone) in [
        (StoreFault::None, "scored", 2),
        (slow(15), "scored", 2),
        // The decision is there in time, what is known of the scopes is not.
        (slow(24), "scored", 0),
        (slow(26), "unscored", 0),
        (slow(60_000), "unscored", 0),
        (StoreFault::Hanging, "unscored", 0),
        (StoreFault::Failing(away()), "unscored", 0),
        (StoreFault::Failing(StateError::Timeout), "unscored", 0),
    ] {
        let faulty = Arc::new(FaultyStore::new(
            Arc::clone(&town.store) as Arc<dyn StateStore>
        ));
        faulty.set(fault.clone());
        // Another node, which knows nothing itself.
        let other = town.beside(faulty, &keys(7, None));
        other.obey(policy);
        for call in [&token, &unknown, &password] {
            let begun = other.clock.instant();
            let (reply, result) = other.flow.act(call).await;
            let took = other.clock.instant().duration_since(begun);
            assert!(took <= LONGEST, "{fault:?}: {took:?} for {call:?}");
            let reply = serde_json::to_value(reply).unwrap();
            assert_eq!(reply["actionStatus"], "SUCCESS", "{fault:?}");
            if call == &token {
                let operations = reply["operations"].as_array().unwrap();
                let removed = operations.iter().filter(|one| one["op"] == "remove");
                assert_eq!(
                    (result, removed.count()),
                    (told, gone),
                    "{fault:?}: {reply}"
                );
                let status = json!({ "name": "risk_status", "value": told });
                assert!(
                    operations.iter().any(|one| one["value"] == status),
                    "{fault:?}: {reply}"
                );
            }
        }
    }
}

/// Not what is learnt, but what it takes: a request that is not recorded looks at the clock as often as without traces.
#[tokio::test]
async fn a_request_that_is_not_recorded_in_traces_looks_at_no_clock_for_them() {
    let mut looks = Vec::new();
    for town in [
        Town::new(),
        Town::new().traced(0.0),
        Town::new().traced(1.0),
    ] {
        let mut town = town;
        let before = town.clock.looks.load(Ordering::SeqCst);
        let mut home = Seat::at(HOME);
        town.password(&mut home, "alice", Answer::Accepted).await;
        looks.push(town.clock.looks.load(Ordering::SeqCst) - before);
    }
    assert_eq!(looks[0], looks[1], "{looks:?}");
    assert!(looks[0] < looks[2], "{looks:?}");
}

/// WSO2 does not say how long it lets one live: the configuration does.
#[tokio::test]
async fn a_refresh_token_is_known_for_as_long_as_it_may_rest() {
    for (hours, is_known) in [(24, false), (72, true)] {
        let mut town = Town::new();
        town.lets_rest(hours);
        town.refresh("r-0", "r-1").await;
        town.wait(2 * DAY);
        // At another node, which has it from the store.
        let store = Arc::clone(&town.store) as Arc<dyn StateStore>;
        let mut node = town.beside(store, &keys(7, None));
        node.lets_rest(hours);
        let record = node.refresh("r-1", "r-2").await;
        let unknown = record.reasons.iter().any(|reason| reason == "code_unknown");
        assert_eq!(unknown, !is_known, "{hours}: {record:#?}");
    }
}
