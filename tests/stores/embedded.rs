//! What only a file can suffer.

use crate::facts::*;
use crate::review::held;
use crate::review::hold;
use riskgate::adapters::embedded::EmbeddedError;
use riskgate::adapters::embedded::EmbeddedSettings;
use riskgate::adapters::embedded::EmbeddedStore;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::LinkKind;
use riskgate::flow::ports::StateStore;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

const CRASH_FILE: &str = "RISKGATE_TEST_CRASH_FILE";
const FULL_FILE: &str = "RISKGATE_TEST_FULL_FILE";
const HELD_FILE: &str = "RISKGATE_TEST_HELD_FILE";

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, EmbeddedSettings::default()).unwrap()
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let key = link(LinkKind::RefreshToken, 1);
    let asked = HistoryQuery {
        links: vec![key],
        ..query(1, START)
    };
    let before = {
        let store = open(&path);
        let batch = [
            learnt(lesson(1, START)),
            tried(attempt(1, true, true), START),
            linked(key, provenance(1, START), START, DAY),
        ];
        store.record(&batch).await.unwrap();
        store.load(&asked).await.unwrap()
    };
    let store = open(&path);
    let after = store.load(&asked).await.unwrap();
    assert_eq!(after, before);
    assert!(after.profile.is_some() && after.links.len() == 1 && after.address.users_1h == 1.0);
    assert_eq!(store.population().await.unwrap().total, 1);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let _store = open(&path);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

/// Not a test by itself: the victim of the next one, in a process of its own.
#[tokio::test]
async fn a_process_that_is_killed() {
    let Some(path) = std::env::var_os(CRASH_FILE) else {
        return;
    };
    let store = open(Path::new(&path));
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    until_on_disk(Path::new(&path)).await;
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// Waits until a copy of the file knows the first subject: the store flushes by itself, nobody asks it to.
async fn until_on_disk(path: &Path) {
    let copy = path.with_extension("copy");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        fs::copy(path, &copy).unwrap();
        // One that was made in the middle of a change may be damaged: the next one is not.
        if let Ok(store) = EmbeddedStore::open(&copy, EmbeddedSettings::default())
            && let Ok(history) = store.load(&query(1, START)).await
            && history.profile.is_some()
        {
            return;
        }
        assert!(Instant::now() < end, "nothing has come to the disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "embedded::a_process_that_is_killed",
            "--nocapture",
            "--test-threads",
            "1",
        ])
        .env(CRASH_FILE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let ready = std::io::BufRead::lines(output)
        .map_while(Result::ok)
        .any(|line| line.contains("ready"));
    assert!(ready, "the other process has written");
    // While it lives, nobody else gets the file.
    let error = EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap_err();
    assert!(matches!(error, EmbeddedError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("state.redb"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();

    let store = open(&path);
    let profile = store.load(&query(1, START)).await.unwrap().profile.unwrap();
    assert!(
        (1..=2).contains(&profile.successes),
        "{}",
        profile.successes
    );
}

#[tokio::test]
async fn files_that_are_no_state_files_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let noise: Vec<u8> = (0..40_000u64).map(|n| hash(n) as u8).collect();
    for content in [b"hello".to_vec(), noise, vec![0; 8_192]] {
        fs::write(&path, &content).unwrap();
        let error = EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap_err();
        assert!(matches!(error, EmbeddedError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("state.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let missing = folder.path().join("no such folder").join("state.redb");
    let error = EmbeddedStore::open(&missing, EmbeddedSettings::default()).unwrap_err();
    assert!(matches!(error, EmbeddedError::Io { .. }), "{error}");
}

#[tokio::test]
async fn databases_of_other_programs_and_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.redb");
    let other: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(other).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap_err();
    assert!(matches!(error, EmbeddedError::Foreign { .. }), "{error}");

    let path = folder.path().join("newer.redb");
    drop(open(&path));
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("riskgate");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(meta)
        .unwrap()
        .insert("schema", 99)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap_err();
    assert!(
        matches!(&error, EmbeddedError::Foreign { reason, .. } if reason.contains("99")),
        "{error}"
    );
}

/// Damage anywhere in the file: an error that names it, or a store that answers. Never the end of the process.
#[tokio::test]
async fn a_damaged_file_is_an_error_or_reads_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    {
        let store = open(&path);
        let batch: Vec<_> = (0..300).map(|n| learnt(lesson(n, START))).collect();
        store.record(&batch).await.unwrap();
    }
    let sound = fs::read(&path).unwrap();
    let (mut refused, mut served) = (0, 0);
    for round in 0..40u64 {
        let mut damaged = sound.clone();
        for n in 0..64 {
            let place = hash(round * 1_000 + n) as usize % damaged.len();
            damaged[place] ^= (hash(n) as u8) | 1;
        }
        if round % 4 == 0 {
            damaged.truncate(damaged.len() / 2);
        }
        fs::write(&path, &damaged).unwrap();
        match EmbeddedStore::open(&path, EmbeddedSettings::default()) {
            Err(error) => {
                assert!(error.to_string().contains("state.redb"), "{error}");
                refused += 1;
            }
            Ok(store) => {
                for n in 0..300 {
                    let _answer = store.load(&query(n, START)).await;
                }
                served += 1;
            }
        }
    }
    assert!(refused > 0, "{refused} refused, {served} served");
}

#[tokio::test]
async fn values_that_do_not_decode_read_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    {
        let store = open(&path);
        store
            .record(&[
                learnt(lesson(1, START)),
                tried(attempt(1, true, true), START),
            ])
            .await
            .unwrap();
    }
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    for table in [
        "profile",
        "subject",
        "address",
        "users",
        "trusted",
        "addresses",
        "tenant",
    ] {
        let definition: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(table);
        let mut table = transaction.open_table(definition).unwrap();
        let keys: Vec<Vec<u8>> = {
            use redb::ReadableTable;
            table
                .iter()
                .unwrap()
                .map(|entry| entry.unwrap().0.value().to_vec())
                .collect()
        };
        assert!(!keys.is_empty());
        for (n, key) in (0..).zip(keys) {
            let noise: Vec<u8> = (0..=200u64).map(|i| hash(i * 7 + n) as u8 | 0x10).collect();
            table.insert(key.as_slice(), noise.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
    drop(database);
    let store = open(&path);
    let history = store.load(&query(1, START)).await.unwrap();
    assert_eq!(
        (history.profile, history.subject, history.address),
        (None, Default::default(), Default::default())
    );
    // And they are replaced by what is learnt next.
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    assert_eq!(
        store
            .load(&query(1, START))
            .await
            .unwrap()
            .profile
            .unwrap()
            .successes,
        1
    );
}

/// The version in front of the queue of held logins in the file at `path`, from here on `version`: the one before.
fn queue_version(path: &Path, version: u8) -> u8 {
    use redb::ReadableTable;
    let review: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("review");
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let before = {
        let mut table = transaction.open_table(review).unwrap();
        let (key, mut stored) = {
            let (key, stored) = table.first().unwrap().expect("a queue");
            (key.value().to_vec(), stored.value().to_vec())
        };
        // Behind when it was written and when it expires.
        let before = std::mem::replace(&mut stored[16], version);
        table.insert(key.as_slice(), stored.as_slice()).unwrap();
        before
    };
    transaction.commit().unwrap();
    before
}

/// After a downgrade: held logins are not lost for that, and everything else goes on.
#[tokio::test]
async fn held_logins_that_do_not_open_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let first = open(&path);
    first.change_review_queue(hold(held(1))).await.unwrap();
    drop(first);
    let version = queue_version(&path, 200);
    let store = open(&path);
    for answer in [
        store.review_queue().await,
        store.change_review_queue(hold(held(2))).await,
    ] {
        let problem = answer.expect_err("it does not open").to_string();
        for part in ["state.redb", "do not open", "state forget-held"] {
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    store.flush().unwrap();
    store.ping().await.unwrap();
    drop(store);
    queue_version(&path, version);
    let store = open(&path);
    let queue = store.review_queue().await.unwrap();
    assert_eq!(queue.items(), [held(1)]);
    let history = store.load(&query(1, START)).await.unwrap();
    assert!(history.profile.is_some());
}

#[tokio::test]
async fn what_has_expired_is_swept_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("state.redb"));
    let batch: Vec<_> = (0..12_000)
        .map(|n| {
            linked(
                link(LinkKind::Code, n),
                provenance(n, START),
                START,
                if n % 2 == 0 { MINUTE } else { HOUR },
            )
        })
        .collect();
    store.record(&batch).await.unwrap();
    assert_eq!(store.entries().unwrap(), 12_000);
    assert_eq!(store.sweep(START.plus(MINUTE)).unwrap(), 6_000);
    assert_eq!(store.entries().unwrap(), 6_000);
    assert_eq!(store.sweep(START.plus(MINUTE)).unwrap(), 0);
    assert_eq!(store.sweep(START.plus(HOUR)).unwrap(), 6_000);
}

#[tokio::test]
async fn a_full_table_lets_go_of_the_oldest() {
    let folder = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings {
        entries_max: 1_000,
        ..EmbeddedSettings::default()
    };
    let store = EmbeddedStore::open(&folder.path().join("state.redb"), settings).unwrap();
    for n in 0..3_000u64 {
        let at = START.plus(Duration::from_secs(n));
        store.record(&[learnt(lesson(n, at))]).await.unwrap();
        // The first one keeps coming back.
        if n % 100 == 0 {
            store.record(&[learnt(lesson(0, at))]).await.unwrap();
        }
    }
    let now = START.plus(HOUR);
    assert!(
        store.entries().unwrap() <= 1_010,
        "{}",
        store.entries().unwrap()
    );
    assert!(store.load(&query(0, now)).await.unwrap().profile.is_some());
    assert!(store.load(&query(1, now)).await.unwrap().profile.is_none());
    assert!((2_500..3_000).all(|n| store.load_now(&query(n, now)).unwrap().profile.is_some()));
}

#[tokio::test]
async fn made_up_names_do_not_grow_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("state.redb"));
    store
        .record(&[
            learnt(lesson(1, START)),
            tried(attempt(1, true, true), START),
        ])
        .await
        .unwrap();
    let before = store.entries().unwrap();
    for some in (0..20_000u64).collect::<Vec<_>>().chunks(500) {
        let batch: Vec<_> = some
            .iter()
            .map(|n| tried(attempt(1_000 + n, true, false), START))
            .collect();
        store.record(&batch).await.unwrap();
    }
    assert_eq!(store.entries().unwrap(), before);
    let users = store.load(&query(1, START)).await.unwrap().address.users_1h;
    assert!((17_000.0..23_000.0).contains(&users), "{users}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_in_parallel_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&folder.path().join("state.redb")));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..50 {
                store
                    .record(&[
                        learnt(lesson(1, START)),
                        tried(attempt(1, true, true), START),
                    ])
                    .await
                    .unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let history = store.load(&query(1, START)).await.unwrap();
    assert_eq!(history.profile.unwrap().successes, 400);
    close(history.address.failures_24h, 400.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_its_way_to_the_file_is_never_missed() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&folder.path().join("state.redb")));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flushes = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let flushing = std::thread::spawn({
        let (store, stop, flushes) = (store.clone(), stop.clone(), flushes.clone());
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store.flush().unwrap();
                flushes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    let end = Instant::now() + Duration::from_secs(60);
    let mut number = 0;
    while number < 400 || flushes.load(std::sync::atomic::Ordering::Relaxed) < 3 {
        assert!(Instant::now() < end, "{flushes:?} flushes");
        number += 1;
        let key = link(LinkKind::Code, number);
        let batch = [
            learnt(lesson(1, START)),
            linked(key, provenance(number, START), START, DAY),
        ];
        store.record(&batch).await.unwrap();
        // At once, and while what was learnt before goes to the file.
        for earlier in [number, number.div_ceil(2), 1] {
            let key = link(LinkKind::Code, earlier);
            let asked = HistoryQuery {
                links: vec![key],
                ..query(1, START)
            };
            let history = store.load(&asked).await.unwrap();
            assert!(history.links.contains_key(&key), "{earlier} after {number}");
            assert_eq!(u64::from(history.profile.unwrap().successes), number);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flushing.join().unwrap();
    assert_eq!(store.population().await.unwrap().total, number);
}

#[tokio::test]
async fn a_process_whose_file_may_not_grow() {
    let Ok(path) = std::env::var(FULL_FILE) else {
        return;
    };
    let store = open(Path::new(&path));
    let batch_of = |number: u64| -> Vec<_> {
        (0..200)
            .map(|n| {
                let n = number * 200 + n;
                linked(link(LinkKind::Code, n), provenance(n, START), START, DAY)
            })
            .collect()
    };
    // Whoever learns hears of it, and goes on hearing of it: nothing gathers in memory that cannot be written.
    let mut refused = 0;
    for number in 0..500 {
        refused += u32::from(store.record(&batch_of(number)).await.is_err());
        drop(store.flush());
    }
    assert!(refused > 400, "{refused}");
    println!("refused");
}

#[test]
fn a_file_that_cannot_grow_refuses_what_is_to_be_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let text = limited(
        "embedded::a_process_whose_file_may_not_grow",
        FULL_FILE,
        &path,
    );
    assert!(text.contains("refused"), "{text}");
}

/// Runs one of the tests in a process that writes no file beyond 2 MiB, unless it lifts that itself: what it prints.
fn limited(test: &str, variable: &str, path: &Path) -> String {
    // The size is in blocks of 512 or 1,024 bytes; the signal would end the process before it gets the error.
    let output = Command::new("sh")
        .args(["-c", "ulimit -S -f 4096; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(variable, path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

/// Not a test by itself: it fills its file, and then has the room that it lacked.
#[tokio::test]
async fn a_process_whose_file_may_grow_again() {
    let Ok(path) = std::env::var(HELD_FILE) else {
        return;
    };
    let store = open(Path::new(&path));
    let old = link(LinkKind::Code, 1);
    let known = [
        learnt(lesson(1, START)),
        linked(old, provenance(1, START), START, DAY),
    ];
    store.record(&known).await.unwrap();
    store.flush().unwrap();
    store.ping().await.unwrap();

    // Until the disk takes no more, which the health says from then on.
    let mut last = 1_u64;
    while store.flush().is_ok() {
        let batch: Vec<_> = (last + 1..=last + 200)
            .map(|n| linked(link(LinkKind::Code, n), provenance(n, START), START, DAY))
            .collect();
        if store.record(&batch).await.is_err() {
            break;
        }
        last += 200;
        assert!(last < 200_000, "the file is never full");
    }
    let why = store.ping().await.unwrap_err().to_string();
    assert!(why.contains("cannot be written"), "{why}");
    assert!(store.record(&known).await.is_err());

    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while store.ping().await.is_err() {
        assert!(Instant::now() < end, "the file is not written again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let new = link(LinkKind::Code, last + 1);
    let batch = [
        learnt(lesson(1, START)),
        linked(new, provenance(last + 1, START), START, DAY),
    ];
    store.record(&batch).await.unwrap();
    store.flush().unwrap();

    // What was known before and what waited is there, in this store and in the next one.
    let waited = link(LinkKind::Code, last);
    let asked = HistoryQuery {
        links: vec![old, waited, new],
        ..query(1, START)
    };
    let history = store.load(&asked).await.unwrap();
    assert_eq!(history.links.len(), 3);
    assert_eq!(history.profile.as_ref().unwrap().successes, 2);
    drop(store);
    let store = open(Path::new(&path));
    assert_eq!(store.load(&asked).await.unwrap(), history);
    let probe = Path::new(&path).with_extension("probe");
    assert!(!probe.exists());
    println!("written again");
}

#[test]
fn a_file_is_written_again_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let text = limited(
        "embedded::a_process_whose_file_may_grow_again",
        HELD_FILE,
        &path,
    );
    assert!(text.contains("written again"), "{text}");
}
