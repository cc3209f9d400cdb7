//! Links in the state file: many to a bundle, the latest word holds, whatever happens in between.

use crate::facts::*;
use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::TableDefinition;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::adapters::store::codec::Codec;
use riskgate::adapters::store::entities::EntryKey;
use riskgate::adapters::store::transfer::Cursor;
use riskgate::adapters::store::transfer::Maintenance;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::LinkKey;
use riskgate::domain::history::LinkKind;
use riskgate::domain::history::Observation;
use riskgate::domain::history::Provenance;
use riskgate::domain::time::Timestamp;
use riskgate::flow::ports::StateStore;
use std::collections::HashMap;
use std::io::BufRead;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

const KILLED_FILE: &str = "RISKGATE_TEST_KILLED_FILE";
const LINKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("links");
const NAMES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("link_names");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("riskgate");
const SINGLE_CODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("code");

/// What was learnt goes to the file when the test says so.
fn open(path: &Path) -> EmbeddedStore {
    open_with(path, EmbeddedSettings::default().entries_max)
}

fn open_with(path: &Path, entries_max: u64) -> EmbeddedStore {
    let settings = EmbeddedSettings {
        entries_max,
        flush_interval: HOUR,
        sweep_interval: HOUR,
        ..EmbeddedSettings::default()
    };
    EmbeddedStore::open(path, settings).unwrap()
}

/// A link whose `evidence` is the number of its version.
fn version(key: LinkKey, version: u32, ttl: Duration) -> Observation {
    let provenance = Provenance {
        evidence: version,
        ..provenance(1, START)
    };
    linked(key, provenance, START, ttl)
}

fn seen(store: &EmbeddedStore, key: LinkKey, now: Timestamp) -> Option<u32> {
    let history = store.load_now(&HistoryQuery::of_link(key, now)).unwrap();
    history.links.get(&key).map(|link| link.evidence)
}

/// The bytes of all bundles in a file that nobody has open.
fn bundles(path: &Path) -> Vec<Vec<u8>> {
    let database = redb::Database::create(path).unwrap();
    let table = database.begin_read().unwrap().open_table(LINKS).unwrap();
    let rows = table.iter().unwrap();
    rows.map(|row| row.unwrap().1.value().to_vec()).collect()
}

#[tokio::test]
async fn the_latest_word_holds_after_every_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let kinds = [LinkKind::Code, LinkKind::RefreshToken, LinkKind::Session];
    let mut expected: HashMap<LinkKey, u32> = HashMap::new();
    let mut store = open(&path);
    for round in 0..60_u64 {
        let some = 1 + hash(round) % 90;
        let batch: Vec<_> = (0..some)
            .map(|n| {
                let choice = hash(round * 1_000 + n);
                let key = link(kinds[(choice % 3) as usize], choice / 3 % 400);
                let count = expected.entry(key).or_default();
                *count += 1;
                let ttl = [HOUR, DAY, DAY * 20][(choice / 7 % 3) as usize];
                version(key, *count, ttl)
            })
            .collect();
        store.record(&batch).await.unwrap();
        if round % 3 != 0 {
            store.flush().unwrap();
        }
        if round % 5 == 4 {
            // As the disk would be found after a crash at this moment: nothing was closed.
            store.flush().unwrap();
            let copy = folder.path().join("copy.redb");
            std::fs::copy(&path, &copy).unwrap();
            let crashed = open(&copy);
            for (key, count) in &expected {
                assert_eq!(
                    seen(&crashed, *key, START),
                    Some(*count),
                    "{key:?} in round {round}"
                );
            }
        }
        if round % 20 == 19 {
            drop(store);
            store = open(&path);
        }
        for (key, count) in &expected {
            assert_eq!(
                seen(&store, *key, START),
                Some(*count),
                "{key:?} in round {round}"
            );
        }
    }
    assert_eq!(store.entries().unwrap(), expected.len() as u64);
    // And an export tells each of them once.
    let (mut cursor, mut told) = (Some(Cursor::default()), 0);
    while let Some(at) = cursor {
        let page = store.export(at, START).await.unwrap();
        assert_eq!(page.unreadable, 0);
        told += page.entries.len();
        cursor = page.next;
    }
    assert_eq!(told, expected.len());
}

/// What was replaced by something that ends earlier does not come back when that has ended.
#[tokio::test]
async fn what_was_replaced_never_holds_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let key = link(LinkKind::Code, 1);
    let store = open(&path);
    // Others that keep its first bundle alive.
    let mut batch = vec![version(key, 1, DAY)];
    batch.extend((2..20).map(|n| version(link(LinkKind::Code, n), 1, DAY)));
    store.record(&batch).await.unwrap();
    store.flush().unwrap();
    store.record(&[version(key, 2, MINUTE)]).await.unwrap();
    store.flush().unwrap();
    let later = START.plus(HOUR);
    assert_eq!(seen(&store, key, START), Some(2));
    assert_eq!(seen(&store, key, later), None);
    store.sweep(later).unwrap();
    drop(store);
    let store = open(&path);
    assert_eq!(seen(&store, key, later), None);
    assert_eq!(seen(&store, link(LinkKind::Code, 2), later), Some(1));
}

/// Not a test by itself: the victim of the next one, in a process of its own.
#[tokio::test]
async fn a_process_that_writes_links_until_it_is_killed() {
    let Some(path) = std::env::var_os(KILLED_FILE) else {
        return;
    };
    let store = open(Path::new(&path));
    for round in 1.. {
        let batch: Vec<_> = (0..40)
            .map(|n| {
                version(
                    link(LinkKind::RefreshToken, (u64::from(round) * 13 + n) % 200),
                    round,
                    DAY,
                )
            })
            .collect();
        store.record(&batch).await.unwrap();
        store.flush().unwrap();
        println!("round {round}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_leaves_what_it_had_flushed() {
    let folder = tempfile::tempdir().unwrap();
    for attempt in 0..4_u64 {
        let path = folder.path().join(format!("state{attempt}.redb"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "bundles::a_process_that_writes_links_until_it_is_killed",
                "--nocapture",
                "--test-threads",
                "1",
            ])
            .env(KILLED_FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let lines = output.lines().map_while(Result::ok);
        let mut rounds =
            lines.filter_map(|line| line.split("round ").nth(1)?.trim().parse::<u32>().ok());
        let wanted = 5 + u32::try_from(attempt).unwrap() * 7;
        let flushed = rounds.by_ref().find(|round| *round >= wanted).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // Lines that were on their way are of rounds that were flushed as well.
        let flushed = rounds.last().unwrap_or(flushed);
        let store = open(&path);
        for n in 0..200_u64 {
            let last = (1..=flushed)
                .rev()
                .find(|round| (0..40).any(|place| (u64::from(*round) * 13 + place) % 200 == n));
            let found = seen(&store, link(LinkKind::RefreshToken, n), START);
            // One round more may have been written.
            assert!(
                found >= last && found <= Some(flushed + 1),
                "{n}: {found:?}, {last:?} of {flushed}"
            );
        }
    }
}

/// A file in which each link was an entry by itself.
#[tokio::test]
async fn a_file_of_single_links_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    {
        let store = open(&path);
        store.record(&[learnt(lesson(1, START))]).await.unwrap();
    }
    let keys = [1, 2, 3].map(|n| link(LinkKind::Code, n));
    {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert("schema", 1)
            .unwrap();
        transaction.delete_table(LINKS).unwrap();
        transaction.delete_table(NAMES).unwrap();
        {
            let mut codes = transaction.open_table(SINGLE_CODES).unwrap();
            for (key, ttl) in keys.iter().zip([DAY, DAY, MINUTE]) {
                let entry = EntryKey::link(*key);
                let expires = START.plus(ttl);
                let provenance = Provenance {
                    evidence: 1,
                    ..provenance(1, START)
                };
                let value = Codec::plain().link(&entry, &provenance, expires).unwrap();
                let mut stored = START.millis().to_le_bytes().to_vec();
                stored.extend(expires.millis().to_le_bytes());
                stored.extend(value);
                codes
                    .insert(entry.id().as_slice(), stored.as_slice())
                    .unwrap();
            }
        }
        transaction.commit().unwrap();
    }
    let store = open(&path);
    assert!(store.load_now(&query(1, START)).unwrap().profile.is_some());
    assert!(keys.iter().all(|key| seen(&store, *key, START) == Some(1)));
    let before = store.entries().unwrap();
    // What is said anew holds, and the old word is gone for good.
    store.record(&[version(keys[0], 2, MINUTE)]).await.unwrap();
    store.flush().unwrap();
    assert_eq!(store.entries().unwrap(), before);
    assert_eq!(seen(&store, keys[0], START), Some(2));
    assert_eq!(seen(&store, keys[0], START.plus(HOUR)), None);
    // One that is removed is, and one that has ended is swept out.
    let removed = store
        .remove(&[EntryKey::link(keys[1])], START)
        .await
        .unwrap();
    assert_eq!((removed, seen(&store, keys[1], START)), (1, None));
    assert_eq!(store.sweep(START.plus(MINUTE)).unwrap(), 2);
    assert_eq!(seen(&store, keys[2], START), None);
    drop(store);
    let store = open(&path);
    assert!(keys.iter().all(|key| seen(&store, *key, START).is_none()));
}

#[tokio::test]
async fn what_is_removed_is_in_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let (gone, stays) = (link(LinkKind::Session, 501), link(LinkKind::Session, 502));
    {
        let store = open(&path);
        for round in 1..=3 {
            // More than one bundle takes, so that earlier words stay where they are.
            let mut batch: Vec<_> = (0..60)
                .map(|n| {
                    version(
                        link(LinkKind::Session, 1_000 * u64::from(round) + n),
                        1,
                        DAY,
                    )
                })
                .collect();
            batch.extend([version(gone, round, DAY), version(stays, round, DAY)]);
            store.record(&batch).await.unwrap();
            store.flush().unwrap();
        }
        let keys = [
            EntryKey::link(gone),
            EntryKey::link(link(LinkKind::Session, 77)),
        ];
        assert_eq!(store.remove(&keys, START).await.unwrap(), 1);
        assert_eq!(
            (seen(&store, gone, START), seen(&store, stays, START)),
            (None, Some(3))
        );
        assert_eq!(store.remove(&keys, START).await.unwrap(), 0);
    }
    let has = |key: LinkKey| {
        let digest = key.digest.as_bytes().as_slice();
        bundles(&path)
            .iter()
            .any(|bundle| bundle.windows(digest.len()).any(|bytes| bytes == digest))
    };
    assert!(!has(gone) && has(stays));
    let store = open(&path);
    assert_eq!(
        (seen(&store, gone, START), seen(&store, stays, START)),
        (None, Some(3))
    );
    assert_eq!(store.entries().unwrap(), 181);
}

#[tokio::test]
async fn links_that_are_written_again_and_again_take_no_more_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    {
        let store = open(&path);
        for round in 0..150_u32 {
            let batch: Vec<_> = (0..100)
                .filter(|n| hash(u64::from(round) * 100 + n).is_multiple_of(4))
                .chain([u64::from(round) % 100])
                .map(|n| version(link(LinkKind::RefreshToken, n), round, DAY))
                .collect();
            store.record(&batch).await.unwrap();
            store.flush().unwrap();
        }
        assert_eq!(store.entries().unwrap(), 100);
    }
    let kept = bundles(&path);
    let bytes: usize = kept.iter().map(Vec::len).sum();
    let entry = EntryKey::link(link(LinkKind::RefreshToken, 1));
    let one = Codec::plain()
        .link(&entry, &provenance(1, START), START.plus(DAY))
        .unwrap()
        .len()
        + 28;
    // Twice what holds at most, and what the last two flushes have left behind.
    assert!(
        bytes <= 3 * 100 * one,
        "{bytes} bytes in {} bundles, {one} each",
        kept.len()
    );
}

#[tokio::test]
async fn links_that_come_one_by_one_share_bundles() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    {
        let store = open(&path);
        for n in 0..120 {
            store
                .record(&[version(link(LinkKind::Session, n), 1, DAY)])
                .await
                .unwrap();
            store.flush().unwrap();
        }
        assert!((0..120).all(|n| seen(&store, link(LinkKind::Session, n), START) == Some(1)));
    }
    let kept = bundles(&path).len();
    assert!(kept <= 20, "{kept} bundles");
}

#[tokio::test]
async fn too_many_links_let_go_of_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let store = open_with(&path, 1_000);
    for some in (0..3_000_u64).collect::<Vec<_>>().chunks(100) {
        let batch: Vec<_> = some
            .iter()
            .map(|n| version(link(LinkKind::Code, *n), 1, DAY))
            .collect();
        store.record(&batch).await.unwrap();
        store.flush().unwrap();
        assert!(
            store.entries().unwrap() <= 1_000,
            "{}",
            store.entries().unwrap()
        );
    }
    let is_there = |n: u64| seen(&store, link(LinkKind::Code, n), START).is_some();
    assert!((2_200..3_000).all(is_there) && !(0..1_900).any(is_there));
    // Other kinds have room of their own.
    store
        .record(&[version(link(LinkKind::Session, 1), 1, DAY)])
        .await
        .unwrap();
    store.flush().unwrap();
    assert!(is_there(2_999) && seen(&store, link(LinkKind::Session, 1), START).is_some());
}

#[tokio::test]
async fn damaged_bundles_read_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let write = async |store: &EmbeddedStore, number: u32| {
        let batch: Vec<_> = (0..100)
            .map(|n| version(link(LinkKind::Code, n), number, DAY))
            .collect();
        store.record(&batch).await.unwrap();
        store.flush().unwrap();
    };
    write(&open(&path), 1).await;
    for (table, salt) in [(LINKS, 0), (NAMES, 1), (LINKS, 2)] {
        {
            let database = redb::Database::create(&path).unwrap();
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(table).unwrap();
                let rows: Vec<(u64, Vec<u8>)> = table
                    .iter()
                    .unwrap()
                    .map(|row| row.unwrap())
                    .map(|(id, row)| (id.value(), row.value().to_vec()))
                    .collect();
                assert!(!rows.is_empty());
                for (id, mut row) in rows {
                    if salt == 2 {
                        row.truncate(row.len() / 2);
                    } else {
                        row.iter_mut()
                            .zip(0..)
                            .for_each(|(byte, n)| *byte = hash(n + id * 7) as u8);
                    }
                    table.insert(id, row.as_slice()).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        let store = open(&path);
        let found = (0..100).filter(|n| seen(&store, link(LinkKind::Code, *n), START).is_some());
        // Of one that was cut off the first links are whole.
        assert!(found.count() < if salt == 2 { 100 } else { 1 });
        write(&store, 2).await;
        assert!((0..100).all(|n| seen(&store, link(LinkKind::Code, n), START) == Some(2)));
        store.sweep(START.plus(DAY * 60)).unwrap();
        assert_eq!(store.entries().unwrap(), 0, "nothing is left over");
        write(&store, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_bound_anew_is_never_missed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&folder.path().join("state.redb")));
    let (stop, looks) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let first: Vec<_> = (0..200)
        .map(|n| version(link(LinkKind::RefreshToken, n), 0, DAY))
        .collect();
    store.record(&first).await.unwrap();
    let looking = std::thread::spawn({
        let (store, stop, looks) = (store.clone(), stop.clone(), looks.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                for n in 0..200 {
                    let found = seen(&store, link(LinkKind::RefreshToken, n), START);
                    assert!(found.is_some(), "{n}");
                }
                looks.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let end = Instant::now() + Duration::from_secs(60);
    let mut round = 0;
    while round < 40 || looks.load(Ordering::Relaxed) < 20 {
        assert!(round < 40 || Instant::now() < end);
        assert!(!looking.is_finished());
        round += 1;
        // Two thirds of the same, so that others are carried along.
        let batch: Vec<_> = (0..200)
            .filter(|n| n % 3 != 0)
            .map(|n| version(link(LinkKind::RefreshToken, n), round, DAY))
            .collect();
        store.record(&batch).await.unwrap();
        store.flush().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    looking.join().unwrap();
}
