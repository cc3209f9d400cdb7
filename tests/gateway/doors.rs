//! Every door and every other kind of path.

use crate::gateway::Options;
use crate::gateway::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_login_is_scored_at_each_door_and_learnt() {
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    let records = world.records().await;
    let doors: Vec<_> = records
        .iter()
        .map(|record| (record.door.as_deref(), record.outcome.as_str()))
        .collect();
    assert_eq!(
        doors,
        [
            (Some("authorize"), "login_page"),
            (None, "none"),
            (Some("login"), "succeeded"),
            (Some("authorize"), "code_issued"),
            (Some("token"), "tokens_issued"),
        ]
    );
    world.until_learnt("alice", 1).await;
    assert!(alice.cookie("__Host-rg_device").is_some());
}
