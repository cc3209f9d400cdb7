//! What the file lets go of by the clock of the calls, and when that is not believed.

use crate::facts::*;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::domain::history::LinkKind;
use riskgate::flow::ports::StateStore;
use std::time::Duration;
use std::time::Instant;

#[tokio::test]
async fn the_sweeper_runs_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let quick = Duration::from_millis(20);
    let settings = EmbeddedSettings {
        flush_interval: quick,
        sweep_interval: quick,
        steady_after: Duration::from_secs(2),
        ..EmbeddedSettings::default()
    };
    let store = EmbeddedStore::open(&folder.path().join("state.redb"), settings).unwrap();
    let begun = Instant::now();
    store
        .record(&[linked(
            link(LinkKind::Code, 1),
            provenance(1, START),
            START,
            MINUTE,
        )])
        .await
        .unwrap();
    // The clock is the one of the calls.
    store.load(&query(1, START.plus(HOUR))).await.unwrap();
    let end = begun + Duration::from_secs(60);
    while store.entries().unwrap() > 0 {
        assert!(Instant::now() < end, "the sweeper has not come");
        tokio::time::sleep(quick).await;
    }
    // Not before the clock, which has leapt, has gone evenly for a while.
    assert!(begun.elapsed() > Duration::from_secs(2));
}

/// What is rewritten, or ended, while a clock is ahead is still there once it has been set back.
#[tokio::test]
async fn a_clock_that_is_ahead_for_a_while_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let quick = Duration::from_millis(20);
    let settings = EmbeddedSettings {
        flush_interval: quick,
        sweep_interval: quick,
        ..EmbeddedSettings::default()
    };
    let ahead = START.plus(200 * 24 * HOUR);
    let keep = |n, at| linked(link(LinkKind::Session, n), provenance(1, at), at, HOUR);
    let store = EmbeddedStore::open(&path, settings).unwrap();
    let first = [keep(1, START), keep(2, START), learnt(lesson(7, START))];
    store.record(&first).await.unwrap();
    store.flush().unwrap();
    store.load(&query(1, ahead)).await.unwrap();
    tokio::time::sleep(10 * quick).await;
    // Its bundle is written anew with what replaces one of its links.
    store.record(&[keep(2, ahead)]).await.unwrap();
    store.flush().unwrap();
    tokio::time::sleep(10 * quick).await;
    drop(store);
    let store = EmbeddedStore::open(&path, settings).unwrap();
    store.load(&query(1, ahead)).await.unwrap();
    tokio::time::sleep(10 * quick).await;
    let mut asked = query(7, START.plus(MINUTE));
    asked.links = vec![link(LinkKind::Session, 1)];
    let found = store.load(&asked).await.unwrap();
    assert_eq!(found.links.len(), 1);
    assert!(found.profile.is_some());
}
