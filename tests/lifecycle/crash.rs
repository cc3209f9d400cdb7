//! A process that is killed, and the next one on what it left.

use crate::gateway::Options;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use crate::load;
use crate::load::alone;
use crate::load::scaled;
use std::time::Duration;

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
            // Longer than the file is written at the latest.
            world.until_learnt("alice", round).await;
            world.settle().await;
            tokio::time::sleep(Duration::from_millis(4_000)).await;
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
