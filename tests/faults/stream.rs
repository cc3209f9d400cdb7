//! The stream of audit records is full, away, back: requests go on, the file is whole, and what the stream lacks is counted.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::traffic::alone;
use serde_json::Value;
use std::time::Duration;
use std::time::Instant;

const KEY: &[u8] = b"rg:1:audit:{fleet}";
const RECORDS: &str = "riskgate_audit_stream_records_total";

/// How the part of the stream is, once it is `status`; the gateway takes requests however that is.
async fn until(world: &World, status: &str) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let (code, body) = world.admin("/health/ready").await;
        assert_eq!(code, 200, "{body}");
        let report: Value = serde_json::from_str(&body).expect("JSON");
        let part = &report["parts"]["audit_stream"];
        if part["status"] == status {
            return part.clone();
        }
        assert!(Instant::now() < end, "not {status}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count(world: &World, result: &str) -> f64 {
    world.metric(RECORDS, &[("result", result)]).await
}

/// Waits until every record of the file was sent, or counted as lost.
async fn accounted(world: &World) {
    let end = Instant::now() + PATIENCE;
    loop {
        let records = world.records().await.len() as f64;
        let (sent, lost) = (count(world, "sent").await, count(world, "lost").await);
        if (sent + lost - records).abs() < 0.5 {
            return;
        }
        assert!(
            Instant::now() < end,
            "{sent} sent and {lost} lost of {records}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn length(redis: &RedisServer) -> f64 {
    let answer = redis.command(&[b"XLEN", KEY]);
    let answer = String::from_utf8(answer).expect("a number");
    let number = answer.trim().strip_prefix(':').expect("a number");
    number.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_fails_costs_no_request_and_no_line_of_the_file() {
    let _alone = alone().await;
    let mut redis = RedisServer::start();
    let config = format!(
        "[audit]\nnode = \"edge-1\"\n[audit.stream]\nenabled = true\nurl = \"{}\"\n",
        redis.url()
    );
    let mut world = World::start(Options {
        // Options are kept for the whole of the run.
        config: Box::leak(config.into_boxed_str()),
        ..Options::default()
    })
    .await;
    until(&world, "ok").await;
    world.person("alice").sign_in().await;
    accounted(&world).await;
    assert!((length(&redis) - count(&world, "sent").await).abs() < 0.5);
    assert!(count(&world, "lost").await < 0.5);

    // Full: it answers, and takes nothing.
    redis.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    world.person("alice").sign_in().await;
    let part = until(&world, "degraded").await;
    assert!(
        part["detail"].as_str().expect("a reason").contains("OOM"),
        "{part}"
    );
    accounted(&world).await;
    let lost = count(&world, "lost").await;
    assert!(lost > 0.5);
    redis.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    until(&world, "ok").await;

    // Away: what comes meanwhile waits for it.
    redis.kill();
    until(&world, "degraded").await;
    let before = count(&world, "sent").await;
    world.person("alice").sign_in().await;
    redis.restart();
    until(&world, "ok").await;
    accounted(&world).await;
    let (sent, lost_now) = (
        count(&world, "sent").await - before,
        count(&world, "lost").await,
    );
    assert!(
        sent > 0.5 && (length(&redis) - sent).abs() < 0.5,
        "{sent} sent"
    );
    assert!(
        (lost_now - lost).abs() < 0.5,
        "{lost_now} lost, {lost} before"
    );

    let records = world.records().await.len();
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    let key = world.data_dir().join("audit-auditor.edge-1.key");
    let key = key.display().to_string();
    let (code, out, err) = world.command(&["audit", "verify", "--key", &key, "--closed", "--json"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["records"], records, "{out}");
}
