//! Another binary in the place of the one that runs, on the same sockets.

use crate::gateway::HOME;
use crate::gateway::HOME_NEIGHBOUR;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::on_both_stores;
use crate::load;
use crate::load::NUMBER;
use crate::load::Plan;
use crate::load::alone;
use crate::load::scaled;
use crate::reload::until_recorded;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

on_both_stores!(
    another_process_takes_over_and_nobody_is_refused,
    |store: Store| async move {
        let _alone = alone().await;
        let (requests, upgrades) = (scaled(1_000, 50_000), scaled(2, 10));
        let mut world = World::start(Options {
            mode: "enforce",
            // The load looks like a stolen secret, sooner or later by how quick the machine is.
            policy: Some(always("allow")),
            store,
            config: "limits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0\nserver.drain_seconds = 0\nserver.grace_seconds = 10",
            ..Options::default()
        })
        .await;
        let sockets = world.onto_sockets().await;
        // Somebody is known before the first exchange of processes.
        world.person("alice").sign_in().await;
        world.until_learnt("alice", 1).await;
        world.settle().await;

        let keeps = Plan::keeping(3, world.port).start();
        let port = world.port;
        let knocks = Plan {
            clients: 3,
            fresh: true,
            nodes: std::sync::Arc::new(move || port),
            tls: None,
            requests: 0,
        }
        .start();
        let mut longest = Duration::ZERO;
        for upgrade in 0..upgrades {
            keeps.until(requests / 2 * upgrade / upgrades).await;
            knocks.until(requests / 2 * upgrade / upgrades).await;
            let (code, took) = world.hand_over(&sockets).await;
            assert_eq!(code, Some(0), "{}", world.log());
            longest = longest.max(took);
        }
        keeps.until(requests / 2).await;
        knocks.until(requests / 2).await;
        let (keeps, knocks) = (keeps.end().await, knocks.end().await);
        keeps.assert_all_answered(&world.log());
        knocks.assert_all_answered(&world.log());
        let answered = [&keeps, &knocks].map(|tally| tally.answered.load(Ordering::Relaxed));
        let idle = keeps.idle.load(Ordering::Relaxed);
        let slowest = keeps.slowest().max(knocks.slowest());

        // The two loads count alike: what arrived more than twice arrived too often.
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for request in world.received() {
            if let Some(number) = request.header_values(NUMBER).first() {
                *seen.entry((*number).to_owned()).or_default() += 1;
            }
        }
        let arrived: u64 = seen.values().map(|count| u64::from(*count)).sum();
        assert_eq!(arrived, answered.iter().sum::<u64>());
        let often = seen.values().filter(|count| **count > 2).count();
        assert_eq!(often, 0);
        // Every process has written its records to the end.
        let before = 16;
        let records = until_recorded(&world, arrived).await;
        let of_load = records.len() as u64;
        assert!(
            (arrived..arrived + before).contains(&of_load),
            "{of_load} of {arrived}"
        );
        // What the first one learnt is known to the last one.
        let mut alice = world.person("alice");
        alice.sign_in().await;
        let known = crate::reload::records(&world);
        let login = known
            .iter()
            .rfind(|record| record.door.as_deref() == Some("login"));
        let login = login.expect("a record of the login");
        assert!(
            !login
                .reasons
                .iter()
                .any(|reason| reason == "state_unavailable"),
            "{login:?}"
        );
        assert!(!world.log().contains("may be lost"), "{}", world.log());
        load::row(
            "R21",
            &format!(
                "requests over {upgrades} exchanged processes on {store:?}; {idle} asked again, longest wait {slowest:.1?}, nobody accepted for {longest:.1?} at most"
            ),
            arrived,
            0,
            keeps.lost() + knocks.lost(),
        );
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn no_login_fails_while_processes_are_exchanged() {
    let _alone = alone().await;
    let mut world = World::start(Options {
        mode: "enforce",
        config: "limits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0\nserver.drain_seconds = 0\nserver.grace_seconds = 10",
        ..Options::default()
    })
    .await;
    let sockets = world.onto_sockets().await;
    let (done, finished) = (AtomicBool::new(false), AtomicU32::new(0));
    // Whole logins, of which many steps fall between two processes: what one has bound, the next one knows.
    let logins = async |address: &str| {
        let mut logins = 0_u32;
        while !done.load(Ordering::Relaxed) {
            let mut alice = world.person("alice").from(address);
            let code = alice.sign_in().await;
            let tokens = alice.redeem(&code).await;
            assert_eq!(tokens.status, 200, "{tokens:?}\n{}", world.log());
            logins += 1;
            finished.fetch_add(1, Ordering::Relaxed);
        }
        logins
    };
    // However quick the machine is.
    let some_more = async || {
        let goal = finished.load(Ordering::Relaxed) + 2;
        let end = Instant::now() + PATIENCE;
        while finished.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < end, "{}", world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let exchanges = async {
        for _ in 0..scaled(3, 10) {
            some_more().await;
            let (code, _) = world.hand_over(&sockets).await;
            assert_eq!(code, Some(0), "{}", world.log());
        }
        some_more().await;
        done.store(true, Ordering::Relaxed);
    };
    let (one, two, ()) = tokio::join!(logins(HOME), logins(HOME_NEIGHBOUR), exchanges);
    let logins = one + two;
    assert!(logins >= 6, "{logins} logins");
    let records = crate::reload::records(&world);
    let without: Vec<_> = records
        .iter()
        .filter(|record| record.status.as_deref() == Some("unscored"))
        .collect();
    assert!(without.is_empty(), "{without:#?}");
    load::row(
        "R21",
        "logins while processes are exchanged",
        u64::from(logins),
        0,
        0,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_no_listener_is_named() {
    let world = World::start(Options::default()).await;
    let stray = world.start_on_strange_sockets().await;
    assert!(
        stray.contains("expected server.listen") && stray.contains("admin.listen"),
        "{stray}"
    );
}
