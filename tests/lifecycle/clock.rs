//! The process under a clock that jumps (libfaketime); its monotonic clock and everybody else's go on as they are.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::always;
use crate::load;
use crate::load::Plan;
use crate::load::alone;
use crate::load::scaled;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// The path of a library that the system's packages bring.
pub fn preload(name: &str) -> String {
    let under = |folder: PathBuf| [folder.join(name), folder.join("faketime").join(name)];
    let found = fs::read_dir("/usr/lib")
        .expect("/usr/lib")
        .flatten()
        .flat_map(|entry| under(entry.path()))
        .find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("{name} is missing: run scripts/setup.sh test"));
    found.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_fails_nobody() {
    let _alone = alone().await;
    let mut world = World::start(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        config: "limits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.user_per_minute = 0\nlimits.client_per_minute = 0",
        ..Options::default()
    })
    .await;
    let file = |name: &str| world.config_file().with_file_name(name);
    let clock = file("clock");
    fs::write(&clock, "+0").expect("a file");
    let environment = format!(
        "LD_PRELOAD={}\nFAKETIME_TIMESTAMP_FILE={}\nFAKETIME_NO_CACHE=1\nFAKETIME_DONT_FAKE_MONOTONIC=1\nDONT_FAKE_MONOTONIC=1\n",
        preload("libfaketimeMT.so.1"),
        clock.display()
    );
    fs::write(file("environment"), environment).expect("a file");
    assert_eq!(world.restart().await, Some(0), "{}", world.log());
    for logins in 1..=3 {
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        assert_eq!(alice.redeem(&code).await.status, 200);
        world.until_learnt("alice", logins).await;
    }
    world.settle().await;

    let load = Plan::keeping(3, world.port).start();
    let mut jumps = 0;
    let mut seen = Vec::new();
    for round in 0..scaled(1, 5) {
        // An hour on, back, an hour back, a year on, and to where everybody is.
        for jump in ["+3600", "+0", "-3600", "+31536000", "+0"] {
            fs::write(&clock, jump).expect("a file");
            jumps += 1;
            let more = load.answered() + 150;
            load.until(more).await;
            let mut alice = world.person("alice");
            let code = alice.sign_in().await;
            assert_eq!(
                alice.redeem(&code).await.status,
                200,
                "{round}, {jump}\n{}",
                world.log()
            );
        }
    }
    let tally = load.end().await;
    tally.assert_all_answered(&world.log());
    let answered = tally.answered.load(Ordering::Relaxed);
    let mut wrong = 0;
    for record in crate::reload::until_recorded(&world, answered).await {
        seen.push(record.time.clone());
        let is_wrong = record
            .reasons
            .iter()
            .any(|reason| reason == "impossible_travel")
            || record.status.as_deref() == Some("unscored");
        wrong += u64::from(is_wrong);
    }
    // The clock did jump: there are records of next year.
    let years: std::collections::BTreeSet<_> =
        seen.iter().map(|time| time[..4].to_owned()).collect();
    assert!(years.len() >= 2, "{years:?}");
    assert_eq!(wrong, 0);
    assert!(world.metric("riskgate_panics_total", &[]).await < 0.5);
    assert_eq!(world.admin("/health/ready").await.0, 200);
    load::row(
        "R18",
        &format!("requests over {jumps} jumps of the clock"),
        answered,
        0,
        tally.lost(),
    );
}
