//! A flood from one network while others log in: the flood is refused, and the others are scored as ever. And when many
//! requests have no score after all, it is seen, said, and answered if policy says so.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::always;
use crate::traffic::alone;
use crate::traffic::join_all;
use reqwest::Method;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::net::TcpListener;

/// The times of the shipped configuration; the unoptimised build of a test gets more.
pub const BUDGET_MS: u32 = if cfg!(debug_assertions) { 5_000 } else { 20 };
/// How many times as many requests the flood sends.
const TIMES: usize = 10;
const TOKENS: &str = r#"{"access_token":"opaque","token_type":"Bearer","expires_in":3600}"#;

/// Logins of others: some in `make test`, more in `make hardening`.
fn logins() -> usize {
    let wanted = std::env::var("RISKGATE_FLOOD_LOGINS").ok();
    wanted.map_or(300, |number| number.parse().expect("a number"))
}

/// An upstream that issues tokens for everything.
pub async fn issuer() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let app =
        axum::Router::new().fallback(async || ([("content-type", "application/json")], TOKENS));
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// A world in front of it that allows everything and takes so many requests a minute from one network.
pub async fn limited(network_per_minute: u16) -> World {
    let port = issuer().await;
    let config = format!(
        "[upstream]\nurl = 'http://127.0.0.1:{port}'\n[score]\nbudget_ms = {BUDGET_MS}\n\
         [limits]\nnetwork_per_minute = {network_per_minute}\n"
    );
    World::start(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        config: config.leak(),
        ..Options::default()
    })
    .await
}

pub async fn login(world: &World, client: &str, user: &str, address: &str) -> (u16, Duration) {
    let start = Instant::now();
    let request = world
        .http()
        .request(Method::POST, format!("{}/oauth2/token", world.url))
        .header("x-forwarded-for", address)
        .header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0",
        )
        .form(&[
            ("grant_type", "password"),
            ("client_id", client),
            ("username", user),
            ("password", "x"),
        ]);
    (world.send(request).await.status, start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenfold_flood_from_one_network_leaves_the_others_scored() {
    const FLOOD_MAX: u16 = 200;
    let _alone = alone().await;
    let world = limited(FLOOD_MAX).await;
    let (logins, done, floods) = (logins(), AtomicUsize::new(0), AtomicUsize::new(0));
    let others = (0..4).map(|_| async {
        let mut results = Vec::new();
        loop {
            let number = done.fetch_add(1, Ordering::Relaxed);
            if number >= logins {
                return results;
            }
            // Each in a network of their own.
            let address = format!("198.{}.{}.7", 18 + number / 250 % 2, number % 250);
            let user = format!("user-{number}");
            results.push(login(&world, "others", &user, &address).await);
        }
    });
    let flood = (0..24).map(|worker: usize| {
        let (world, done, floods) = (&world, &done, &floods);
        async move {
            let mut forwarded = 0;
            loop {
                let number = floods.fetch_add(1, Ordering::Relaxed);
                if number >= TIMES * logins && done.load(Ordering::Relaxed) >= logins + 4 {
                    return forwarded;
                }
                let address = format!("203.0.113.{}", (number * 7 + worker) % 256);
                let (status, _) = login(world, "flood", &format!("name-{number}"), &address).await;
                assert!(status == 200 || status == 429, "{status}");
                forwarded += usize::from(status == 200);
            }
        }
    });
    let start = Instant::now();
    let (others, flood) = tokio::join!(join_all(others.collect()), join_all(flood.collect()));
    let took = start.elapsed();
    let others: Vec<_> = others.into_iter().flatten().collect();
    let failed = others.iter().filter(|(status, _)| *status != 200).count();
    let mut times: Vec<_> = others.iter().map(|(_, took)| *took).collect();
    times.sort();
    let forwarded: usize = flood.iter().sum();
    let sent = floods.load(Ordering::Relaxed) - 24;

    let records = world.records().await;
    let of_others = || {
        records
            .iter()
            .filter(|record| record.client_id.as_deref() == Some("others"))
    };
    let scored = of_others()
        .filter(|record| record.status.as_deref() == Some("scored") && record.fallback.is_none())
        .count();
    assert_eq!(of_others().count(), logins);
    let limited = world
        .metric(
            "riskgate_rate_limited_total",
            &[("scope", "network"), ("enforced", "true")],
        )
        .await;
    eprintln!(
        "{logins} logins beside a flood of {sent} in {took:.1?}: {scored} fully scored, {failed} failed, median \
         {:?}, p99 {:?}; of the flood {forwarded} were forwarded, {limited} refused for their network",
        times[logins / 2],
        times[logins * 99 / 100]
    );
    eprintln!(
        "hardening|D1 a flood from a /24: sent, refused, forwarded|{sent}|{}|{forwarded}",
        sent - forwarded
    );
    eprintln!(
        "hardening|D1 logins beside it: tried, failed, not fully scored|{logins}|{failed}|{}",
        logins - scored
    );
    assert!(sent >= TIMES * logins);
    assert_eq!(failed, 0);
    assert!(scored * 100 >= logins * 99, "{scored} of {logins}");
    // The burst of a minute, and what a minute gives back meanwhile.
    let allowed = f64::from(FLOOD_MAX) * (1.0 + took.as_secs_f64() / 60.0) + 2.0;
    assert!((forwarded as f64) <= allowed, "{forwarded} of {allowed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_unscored_requests_are_noticed_and_policy_may_answer() {
    let _alone = alone().await;
    let port = issuer().await;
    let surge = "[on_unscored.surge]\nabove_percent = 20\nverdict = \"step_up\"\n";
    for (policy, later) in [("", 200), (surge, 400)] {
        let config =
            format!("[upstream]\nurl = 'http://127.0.0.1:{port}'\n[model]\ndir = '/nonexistent'\n");
        let world = World::start(Options {
            mode: "enforce",
            policy: Some(format!("version = 1\n{policy}")),
            config: config.leak(),
            ..Options::default()
        })
        .await;
        // So few say nothing.
        for number in 0..19 {
            let address = format!("198.18.{number}.7");
            let (status, _) = login(&world, "others", &format!("user-{number}"), &address).await;
            assert_eq!(status, 200, "request {number}");
        }
        assert!(!world.log().contains("many requests have no score"));
        for number in 20..25 {
            let address = format!("198.18.{number}.7");
            let (status, _) = login(&world, "others", &format!("user-{number}"), &address).await;
            assert_eq!(status, later, "request {number}, policy {policy:?}");
        }
        let end = Instant::now() + Duration::from_secs(30);
        while world.metric("riskgate_unscored_share", &[]).await < 0.99 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(world.metric("riskgate_unscored_share", &[]).await > 0.99);
        assert!(world.log().contains("many requests have no score"));
        // Ten seconds later nothing is left of it.
        let end = Instant::now() + Duration::from_secs(60);
        while !world.log().contains("requests are scored again") && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(world.log().contains("requests are scored again"));
        drop(world.records().await);
    }
}
