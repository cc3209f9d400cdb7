//! Request limits: enforced, or only counted.

use crate::gateway::Options;
use crate::gateway::World;

const LIMITS: &str = "[limits]\naddress_per_minute = 0\nuser_per_minute = 3\nclient_per_minute = 0";

fn password(user: &str) -> [(&str, &str); 3] {
    [
        ("grant_type", "password"),
        ("username", user),
        ("password", "wrong"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn enforce_answers_429_and_says_when_to_return() {
    let world = World::start(Options {
        mode: "enforce",
        config: LIMITS,
        ..Options::default()
    })
    .await;
    for _ in 0..3 {
        let answer = world
            .post("/oauth2/token", Some("demo-legacy"), &password("nobody"))
            .await;
        assert_eq!(answer.status, 400);
    }
    let mark = world.mark().await;
    let answer = world
        .post("/oauth2/token", Some("demo-legacy"), &password("nobody"))
        .await;
    assert_eq!(
        (answer.status, answer.member("error").as_str()),
        (429, "temporarily_unavailable"),
        "{answer:?}"
    );
    let seconds: u64 = answer
        .header("retry-after")
        .and_then(|seconds| seconds.parse().ok())
        .expect("seconds");
    assert!((1..=21).contains(&seconds), "{seconds}");
    let record = world.record_since(mark).await;
    assert_eq!(record.action, "rate_limited");
    assert!(
        record.reasons.iter().any(|reason| reason == "rate_limited"),
        "{record:#?}"
    );
    assert!(world.received_since(mark).is_empty());
    // At a door for people the answer is a page; another user is not concerned.
    let mut nobody = world.person("nobody");
    let page = nobody.open().await;
    let answer = nobody.submit_password(&page).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (429, Some("text/html; charset=utf-8"))
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        world
            .post("/oauth2/token", Some("demo-legacy"), &password("somebody"))
            .await
            .status,
        400
    );
    assert_eq!(
        world
            .metric(
                "riskgate_rate_limited_total",
                &[("scope", "user"), ("enforced", "true")]
            )
            .await,
        2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn monitor_only_counts() {
    let world = World::start(Options {
        config: LIMITS,
        ..Options::default()
    })
    .await;
    for _ in 0..5 {
        let mark = world.mark().await;
        let answer = world
            .post("/oauth2/token", Some("demo-legacy"), &password("nobody"))
            .await;
        assert_eq!(answer.status, 400);
        assert_eq!(world.received_since(mark).len(), 1);
    }
    let records = world.records().await;
    let limited = records
        .iter()
        .filter(|record| record.reasons.iter().any(|reason| reason == "rate_limited"))
        .count();
    assert_eq!(limited, 2);
    assert!(records.iter().all(|record| record.action == "forwarded"));
    assert_eq!(
        world
            .metric(
                "riskgate_rate_limited_total",
                &[("scope", "user"), ("enforced", "false")]
            )
            .await,
        2.0
    );
    assert_eq!(
        world
            .metric("riskgate_rate_limited_total", &[("enforced", "true")])
            .await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_clients_have_limits_of_their_own() {
    let config = "[limits]\naddress_per_minute = 4\nuser_per_minute = 0\nclient_per_minute = 2";
    let world = World::start(Options {
        mode: "enforce",
        config,
        ..Options::default()
    })
    .await;
    let from = |address: &str, client: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", "wrong"),
        ];
        let form: Vec<(String, String)> = form
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        world
            .http()
            .post(format!("{}/oauth2/token", world.url))
            .header("x-forwarded-for", address)
            .form(&form)
    };
    // Two of a client, from wherever.
    for (address, limited) in [
        ("192.0.2.1", false),
        ("192.0.2.2", false),
        ("192.0.2.3", true),
    ] {
        assert_eq!(
            world.send(from(address, "one")).await.status == 429,
            limited,
            "{address}"
        );
    }
    // Four from an address, as whatever client.
    for (client, limited) in [
        ("a", false),
        ("b", false),
        ("c", false),
        ("d", false),
        ("e", true),
    ] {
        assert_eq!(
            world.send(from("192.0.2.9", client)).await.status == 429,
            limited,
            "{client}"
        );
    }
    for (scope, count) in [("client", 1.0), ("address", 1.0)] {
        assert_eq!(
            world
                .metric("riskgate_rate_limited_total", &[("scope", scope)])
                .await,
            count,
            "{scope}"
        );
    }
}
