//! What a server can suffer: silence, death, a full memory, a missing permission.

use crate::facts::*;
use crate::redis::connect;
use crate::redis::recovered;
use crate::redis::teach_everything;
use crate::redis::text;
use crate::redis_server::RedisServer;
use crate::redis_server::free_port;
use riskgate::adapters::redis::Notice;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::redis::RedisStore;
use riskgate::flow::ports::StateError;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// The longest that anything may take to show.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the clock of the runtime counts in.
const TICK: Duration = Duration::from_millis(1);

/// While the server hangs the clock stands still but for what the store waits for, so that what a call takes is what the
/// store has decided, and none of it is the machine's.
#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_the_timeout() {
    let server = RedisServer::start();
    let settings = settings();
    let store = connect(&server, settings.clone());
    recovered(&store).await;
    server.stop();
    tokio::time::pause();
    let mut timeouts = 0;
    for _ in 0..20 {
        let started = tokio::time::Instant::now();
        let error = store.load(&query(1, START)).await.unwrap_err();
        let took = started.elapsed();
        if error == StateError::Timeout {
            timeouts += 1;
            assert!(took <= settings.response_timeout + TICK, "{took:?}");
        } else {
            assert_eq!(took, Duration::ZERO, "{error}");
        }
    }
    assert!(timeouts >= 5, "{timeouts}");
    // After some silence the connection is given up, and calls fail without waiting.
    for _ in 0..10 {
        let started = tokio::time::Instant::now();
        let answer = store.load(&query(1, START)).await;
        assert!(matches!(answer, Err(StateError::Unavailable(_))));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
    let started = tokio::time::Instant::now();
    assert!(store.record(&[learnt(lesson(1, START))]).await.is_err());
    assert!(started.elapsed() <= settings.write_timeout + TICK);
    tokio::time::resume();
    server.cont();
    let recovery = recovered(&store).await;
    eprintln!("hanging server: recovered after {recovery:?}");
}

/// Calls have so much time that they would still wait at the end of the test: what fails has noticed the end of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_noticed_at_once_and_found_again() {
    let mut server = RedisServer::start();
    let store = connect(
        &server,
        RedisSettings {
            response_timeout: 10 * PATIENCE,
            write_timeout: 10 * PATIENCE,
            ..settings()
        },
    );
    recovered(&store).await;
    for round in 0..3 {
        server.kill();
        let started = Instant::now();
        for _ in 0..50 {
            let error = store.load(&query(1, START)).await.unwrap_err();
            assert!(matches!(error, StateError::Unavailable(_)), "{error}");
        }
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        // It stays away for some attempts to connect.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.restart();
        let took = recovered(&store).await;
        eprintln!("dead server, round {round}: recovered after {took:?}");
        // The scripts are gone with the old process.
        store.record(&[learnt(lesson(1, START))]).await.unwrap();
        let history = store.load(&query(1, START)).await.unwrap();
        assert_eq!(history.profile.unwrap().successes, 1);
    }
}

#[tokio::test]
async fn a_store_starts_without_its_server() {
    let port = free_port();
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{port}"), settings()).unwrap();
    let started = Instant::now();
    assert!(matches!(
        store.ping().await,
        Err(StateError::Unavailable(_) | StateError::Timeout)
    ));
    assert!(matches!(
        store.load(&query(1, START)).await,
        Err(StateError::Unavailable(_) | StateError::Timeout)
    ));
    assert!(started.elapsed() < PATIENCE);
}

/// A gateway is put together in one runtime and serves in another: a connection must not die with its first runtime.
#[test]
fn a_store_outlives_the_runtime_that_connected_it() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            recovered(&store).await;
            store.ping().await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_full_memory_refuses_writes_and_still_answers() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    let asked = teach_everything(&store).await;
    let before = store.load(&asked).await.unwrap();
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    for batch in [
        learnt(lesson(1, START)),
        tried(attempt(1, true, true), START),
        linked(asked.links[0], provenance(2, START), START, DAY),
    ] {
        let error = store.record(&[batch]).await.unwrap_err();
        assert!(
            matches!(&error, StateError::Refused(text) if text.contains("OOM")),
            "{error}"
        );
    }
    assert_eq!(store.load(&asked).await.unwrap(), before);
    server.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
}

#[tokio::test]
async fn refusals_of_the_server_are_told_from_its_absence() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    teach_everything(&store).await;
    // A replica that was the master.
    server.command(&[b"REPLICAOF", b"127.0.0.1", b"1"]);
    let error = store.record(&[learnt(lesson(1, START))]).await.unwrap_err();
    assert!(
        matches!(&error, StateError::Refused(text) if text.contains("READONLY")),
        "{error}"
    );
    server.command(&[b"REPLICAOF", b"NO", b"ONE"]);
    recovered(&store).await;
    store.record(&[learnt(lesson(1, START))]).await.unwrap();
    // A user that may do nothing with keys.
    server.command(&[
        b"ACL",
        b"SETUSER",
        b"poor",
        b"on",
        b">canary-secret",
        b"~*",
        b"+ping",
    ]);
    let url = format!("redis://poor:canary-secret@127.0.0.1:{}", server.port());
    let poor = RedisStore::connect(&url, patient()).unwrap();
    poor.ping().await.unwrap();
    let error = poor.load(&query(1, START)).await.unwrap_err();
    assert!(
        matches!(&error, StateError::Refused(text) if text.contains("NOPERM")),
        "{error}"
    );
    // A wrong password.
    let url = format!("redis://poor:canary-wrong@127.0.0.1:{}", server.port());
    let stranger = RedisStore::connect(&url, patient()).unwrap();
    let error = stranger.load(&query(1, START)).await.unwrap_err();
    assert!(
        !format!("{error} {error:?} {stranger:?}").contains("canary"),
        "{error}"
    );
}

/// The commands that the documentation tells an operator to allow are enough.
#[tokio::test]
async fn a_user_with_the_least_commands_is_enough() {
    let server = RedisServer::start();
    let rules = "on >secret ~rg:1:* -@all +ping +mget +get +set +del +evalsha +eval +pfadd +pfcount +pexpire +hset +hexists +hlen +hincrby +hgetall";
    let mut command: Vec<&[u8]> = vec![b"ACL", b"SETUSER", b"riskgate"];
    command.extend(rules.split(' ').map(str::as_bytes));
    assert_eq!(server.command(&command), b"+OK\r\n");
    let url = format!("redis://riskgate:secret@127.0.0.1:{}", server.port());
    let store = RedisStore::connect(&url, patient()).unwrap();
    let asked = teach_everything(&store).await;
    assert!(store.load(&asked).await.unwrap().profile.is_some());
    assert_eq!(store.population().await.unwrap().total, 1);
    assert!(store.warnings().is_empty());
}

#[tokio::test]
async fn an_eviction_policy_that_forgets_profiles_is_reported() {
    let server =
        RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = told.clone();
    let notice = Notice::to(move |text| listener.lock().unwrap().push(text.to_owned()));
    let store = connect(
        &server,
        RedisSettings {
            on_warning: Some(notice),
            ..patient()
        },
    );
    store.ping().await.unwrap();
    let end = Instant::now() + PATIENCE;
    while store.warnings().is_empty() {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.warnings()[0].contains("allkeys-lru"));
    assert_eq!(*told.lock().unwrap(), store.warnings());
    // Without the permission to ask there is nothing to say, and no harm.
    server.command(&[b"ACL", b"SETUSER", b"poor", b"on", b">x", b"~*", b"+ping"]);
    let poor = RedisStore::connect(
        &format!("redis://poor:x@127.0.0.1:{}", server.port()),
        patient(),
    )
    .unwrap();
    poor.ping().await.unwrap();
    // Both ways of asking were refused; what is asked after them is answered after them.
    let end = Instant::now() + PATIENCE;
    while refused(&server, "config|get") == 0 || refused(&server, "info") == 0 {
        assert!(Instant::now() < end, "nobody asks for the policy");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    poor.ping().await.unwrap();
    assert!(poor.warnings().is_empty());
}

/// How often the server has refused a command.
fn refused(server: &RedisServer, command: &str) -> u64 {
    let of_command = format!("cmdstat_{command}:");
    text(&server.command(&[b"INFO", b"commandstats"]))
        .lines()
        .find_map(|line| line.strip_prefix(&of_command))
        .and_then(|counts| counts.split_once("rejected_calls=")?.1.split(',').next())
        .map_or(0, |count| count.parse().unwrap())
}
