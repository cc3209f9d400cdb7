//! Alerts by webhook from the real gateway to a receiver on a socket: who is told, with what, and that a receiver that is
//! away holds nobody up.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::always;
use crate::receiver::header;
use crate::receiver::receiver;
use riskgate::domain::alert::signature;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A gateway that tells `url`; the folder holds the secret.
async fn telling(url: &str, policy: String) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("alerts.secret");
    std::fs::write(&secret, SECRET).unwrap();
    let config = format!(
        "[alerts]\nurl = '{url}'\nsecret_file = '{}'\nscore_min = 0\n",
        secret.display()
    );
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(policy),
        // Lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    (world, folder)
}

const FORM: &[(&str, &str)] = &[("grant_type", "client_credentials")];

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_told_and_an_allowed_one_is_not() {
    let (url, messages) = receiver("/hooks/s3cret", "204 No Content");
    let (world, _folder) = telling(&url, always("block")).await;
    world
        .post("/oauth2/token", Some("demo-service"), FORM)
        .await;
    let record = world.last_record().await;
    let (head, body) = messages.recv_timeout(PATIENCE).unwrap();
    let message: serde_json::Value = serde_json::from_str(&body).unwrap();
    let alert = &message["alerts"][0];
    assert_eq!(alert["id"], record.id);
    assert_eq!(alert["verdict"], "block");
    assert_eq!(alert["door"], "token");
    assert_eq!(alert["mode"], "enforce");
    let seconds = header(&head, "webhook-timestamp").parse().unwrap();
    let id = header(&head, "webhook-id");
    assert_eq!(
        header(&head, "webhook-signature"),
        signature(SECRET.as_bytes(), id, seconds, body.as_bytes())
    );
    assert_eq!(
        world
            .metric("riskgate_alerts_total", &[("result", "sent")])
            .await,
        1.0
    );
    world.leaks_nothing(&["s3cret", SECRET]);

    world.set_policy(&always("allow"));
    crate::lifecycle::until_reloaded(&world, "ok", 1.0).await;
    world
        .post("/oauth2/token", Some("demo-service"), FORM)
        .await;
    // Alerts go out in the order of their decisions: one of the request that was allowed would come before this.
    world.last_record().await;
    world.set_policy(&always("block"));
    crate::lifecycle::until_reloaded(&world, "ok", 2.0).await;
    world
        .post("/oauth2/token", Some("demo-service"), FORM)
        .await;
    let record = world.last_record().await;
    let (_, body) = messages.recv_timeout(PATIENCE).unwrap();
    let message: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(message["alerts"][0]["id"], record.id);
    assert_eq!(message["alerts"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_answer_holds_nobody_up_and_the_end_does_not_wait_for_it() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (mut world, _folder) = telling(&url, always("block")).await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        world
            .post("/oauth2/token", Some("demo-service"), FORM)
            .await;
        took.push(begun.elapsed());
    }
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_secs(2), "{took:?}");
    let begun = Instant::now();
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(world.read_records().len(), 20);
}
