//! A model beside the one that answers: recorded and counted, and nothing else. What-if scores stand in the same records.

use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::gateway::World;
use riskgate::domain::audit::AuditEvent;

const NETWORK: &str = concat!(
    "[model.challenger]\ndir = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/models/network\"\n"
);
const ABSENT_SHARE: &str = concat!(
    "[model.challenger]\nsample_percent = 0\ndir = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/models/network\"\n"
);
const BROKEN: &str = concat!(
    "[model.challenger]\ndir = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/models/wrong_schema\"\n"
);

/// A login at home and one from a data centre with everything new, with this challenger.
async fn two_logins(config: &'static str) -> (World, AuditEvent, AuditEvent) {
    let world = World::start(Options {
        mode: "enforce",
        config,
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    alice.log_in().await;
    let quiet = world.last_record_of("login").await;
    world.until_learnt("alice", 1).await;
    let mut thief = world.person("alice").from(HOSTING).guessing("guess");
    thief.try_password().await;
    let risky = world.last_record_of("login").await;
    (world, quiet, risky)
}

fn said(record: &AuditEvent) -> (Option<u8>, Option<&str>, Option<&str>, Vec<&str>) {
    let reasons = record.reasons.iter().map(|code| &**code).collect();
    let (level, verdict) = (record.level.as_deref(), record.verdict.as_deref());
    (record.score, level, verdict, reasons)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_recorded_and_changes_nothing() {
    let (alone, quiet_alone, risky_alone) = two_logins("").await;
    // ONNX Runtime alone can evaluate it, and on a busy machine that may look too slow to be asked.
    let (mut world, mut quiet, mut risky) = two_logins(NETWORK).await;
    for _ in 0..4 {
        if quiet.challenger_score.is_some() && risky.challenger_score.is_some() {
            break;
        }
        (world, quiet, risky) = two_logins(NETWORK).await;
    }
    for (with, without) in [(&quiet, &quiet_alone), (&risky, &risky_alone)] {
        assert_eq!(said(with), said(without), "{with:#?}\n{without:#?}");
        assert!(
            without.challenger_score.is_none() && without.challenger_model.is_none(),
            "{without:#?}"
        );
        assert!(
            with.challenger_score.is_some()
                && with.challenger_model.is_some()
                && with.challenger_verdict.is_some(),
            "{with:#?}"
        );
    }
    assert!(
        quiet.challenger_score != quiet.score || risky.challenger_score != risky.score,
        "it is another model"
    );
    let compared = world
        .metric(
            "riskgate_challenger_difference_points_count",
            &[("kind", "login")],
        )
        .await;
    assert!(compared >= 2.0, "{compared}");
    // It has no model for service accounts: of those it is not asked, and that is counted.
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", "demo-service"),
        ("client_secret", "demo-service-secret"),
    ];
    let mut service = world.person("dave").from(HOSTING);
    service.post("/oauth2/token", &fields).await;
    let token = world.last_record_of("token").await;
    assert_eq!(token.challenger_score, None, "{token:#?}");
    let skipped = world
        .metric(
            "riskgate_challenger_skipped_total",
            &[("cause", "other_kind")],
        )
        .await;
    assert!(skipped >= 1.0, "{skipped}");
    drop(alone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_none_asks_nobody() {
    let (_world, quiet, risky) = two_logins(ABSENT_SHARE).await;
    assert_eq!(
        (quiet.challenger_score, risky.challenger_score),
        (None, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_one_is_a_warning() {
    let (world, quiet, risky) = two_logins(BROKEN).await;
    assert_eq!(
        (quiet.status.as_deref(), risky.challenger_score),
        (Some("scored"), None)
    );
    let log = world.log();
    assert!(
        log.contains("no challenger") && log.contains("wrong_schema"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_risky_record_says_what_would_have_helped() {
    let (_world, quiet, risky) = two_logins("").await;
    assert_eq!(quiet.level.as_deref(), Some("low"), "{quiet:#?}");
    assert!(quiet.counterfactuals.is_empty(), "{quiet:#?}");
    assert_ne!(risky.level.as_deref(), Some("low"), "{risky:#?}");
    let others = &risky.counterfactuals;
    assert!(
        !others.is_empty() && others.len() <= 3,
        "{:#?}",
        risky.counterfactuals
    );
    let score = risky.score.expect("a score");
    for other in others {
        assert!(other.score <= score, "{risky:#?}");
        assert!(risky.reasons.contains(&other.without), "{risky:#?}");
    }
    assert!(others.iter().any(|other| other.score < score), "{risky:#?}");
}
