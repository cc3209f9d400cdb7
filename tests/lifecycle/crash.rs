//! A process that is killed, and the next one on what it left.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use crate::load;
use crate::load::alone;
use crate::load::scaled;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// How soon the next process must serve, in an optimised build.
const UP_MAX: Duration = Duration::from_secs(1);

on_both_stores!(
    a_killed_process_comes_back_and_counts_nothing_twice,
    |store: Store| async move {
        let _alone = alone().await;
        let mut world = World::start(Options {
            mode: "enforce",
            store,
            ..Options::default()
        })
        .await;
        let mut slowest = Duration::ZERO;
        let rounds = u32::try_from(scaled(3, 20)).expect("a small number");
        for round in 1..=rounds {
            world.person("alice").sign_in().await;
            world.until_learnt("alice", round).await;
            if store == Store::Embedded {
                until_on_disk(&world, "alice", round).await;
            }
            slowest = slowest.max(world.crash().await);
            // As many as before: none is lost, none counted a second time.
            assert_eq!(world.history_of("alice").await, round, "{}", world.log());
        }
        if !cfg!(debug_assertions) {
            assert!(slowest <= UP_MAX, "{slowest:?}");
        }
        load::row(
            "R30",
            &format!("kills on {store:?}; up again after {slowest:.1?} at most"),
            u64::from(rounds),
            0,
            0,
        );
    }
);

/// Waits until so many logins of a user are in the file, as a copy of it tells. Nobody asks the gateway for that: it brings
/// to the disk by itself what it has learnt.
async fn until_on_disk(world: &World, user: &str, logins: u32) {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let wanted = format!("profile    {logins} confirmed logins");
    let end = Instant::now() + PATIENCE;
    loop {
        for name in ["secret.key", "state.redb"] {
            let from = world.data_dir().join(name);
            std::fs::copy(from, copy.path().join(name)).expect("a copy");
        }
        let shown = Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(["state", "show", "--user", user, "--data"])
            .arg(copy.path())
            .current_dir(copy.path())
            .output()
            .expect("the program can be started");
        // A copy that was made in the middle of a change may be of no use: the next one is.
        if String::from_utf8_lossy(&shown.stdout).contains(&wanted) {
            return;
        }
        assert!(Instant::now() < end, "{shown:?}\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
