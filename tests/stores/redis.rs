//! What a server that others can reach means for what is kept: one request per read, other writers, hostile values.

use crate::facts::*;
use crate::redis_server::RedisServer;
use crate::review::held;
use crate::review::hold;
use riskgate::adapters::redis::RedisSettings;
use riskgate::adapters::redis::RedisStore;
use riskgate::domain::history::HistoryQuery;
use riskgate::domain::history::LinkKind;
use riskgate::domain::secret::Secret;
use riskgate::flow::ports::StateStore;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

pub fn connect(server: &RedisServer, settings: RedisSettings) -> RedisStore {
    RedisStore::connect(&server.url(), settings).unwrap()
}

pub fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

/// Every key of the server.
pub fn keys(server: &RedisServer) -> Vec<String> {
    let answer = text(&server.command(&[b"KEYS", b"*"]));
    answer
        .lines()
        .filter(|line| line.starts_with("rg:"))
        .map(str::to_owned)
        .collect()
}

/// Calls of each command since the statistics were reset.
fn command_calls(server: &RedisServer) -> Vec<(String, u64)> {
    text(&server.command(&[b"INFO", b"commandstats"]))
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        })
        .collect()
}

/// Waits until `store` answers again and says how long that took.
pub async fn recovered(store: &RedisStore) -> Duration {
    let within = Duration::from_secs(60);
    let started = Instant::now();
    loop {
        if store.load(&query(1, START)).await.is_ok() {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < within,
            "the store has not recovered within {within:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn teach_everything(store: &RedisStore) -> HistoryQuery {
    let code = link(LinkKind::Code, 1);
    let batch = [
        learnt(lesson(1, START)),
        tried(attempt(1, true, true), START),
        linked(code, provenance(1, START), START, DAY),
    ];
    store.record(&batch).await.unwrap();
    HistoryQuery {
        links: vec![code],
        ..query(1, START)
    }
}

/// The last command of every connection but the one that asks.
fn last_commands(server: &RedisServer) -> Vec<String> {
    let clients = text(&server.command(&[b"CLIENT", b"LIST"]));
    let mut last: Vec<String> = clients
        .lines()
        .filter_map(|line| Some(line.split_once(" cmd=")?.1.split(' ').next()?.to_owned()))
        .filter(|command| command != "client|list")
        .collect();
    last.sort();
    last
}

/// Waits until on so many connections all was said that a new one begins with.
async fn connected(server: &RedisServer, connections: u64) {
    let end = Instant::now() + Duration::from_secs(60);
    while !command_calls(server)
        .iter()
        .any(|(name, calls)| name == "config|get" && *calls == connections)
    {
        assert!(Instant::now() < end, "the policy was not asked for");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn each_runtime_has_a_connection_of_its_own() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    let [learning, requests] = [(); 2].map(|()| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    });
    let asked = learning.block_on(teach_everything(&store));
    requests.block_on(async {
        // The first read takes the connection that is there, and begins its own.
        assert!(store.load(&asked).await.unwrap().profile.is_some());
        connected(&server, 2).await;
        assert!(store.load(&asked).await.unwrap().profile.is_some());
    });
    learning.block_on(store.ping()).unwrap();
    assert_eq!(last_commands(&server), ["mget", "ping"]);
}

#[tokio::test]
async fn a_read_is_one_command_in_one_request() {
    let server = RedisServer::start();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let (port, _proxy) = proxy(server.port(), move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        None
    })
    .await;
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{port}"), patient()).unwrap();
    let asked = teach_everything(&store).await;
    let asked = HistoryQuery {
        links: vec![
            asked.links[0],
            link(LinkKind::AccessToken, 2),
            link(LinkKind::Session, 3),
            link(LinkKind::Transaction, 4),
        ],
        ..asked
    };
    store.load(&asked).await.unwrap();
    // Once, beside the first calls, the store asks what the server does when its memory is full.
    connected(&server, 1).await;
    server.command(&[b"CONFIG", b"RESETSTAT"]);
    let before = requests.load(Ordering::SeqCst);
    for _ in 0..100 {
        let history = store.load(&asked).await.unwrap();
        assert!(history.profile.is_some() && history.links.len() == 1);
    }
    assert_eq!(
        requests.load(Ordering::SeqCst) - before,
        100,
        "one request each"
    );
    let calls = command_calls(&server);
    let mget = calls
        .iter()
        .find(|(name, _)| name == "mget")
        .map(|(_, calls)| *calls);
    assert_eq!(mget, Some(100), "{calls:?}");
    assert!(
        calls
            .iter()
            .all(|(name, _)| ["mget", "config|resetstat", "info"].contains(&name.as_str())),
        "{calls:?}"
    );
}

/// Whatever stands before the server: nobody becomes a stranger by an answer that is too short.
#[tokio::test]
async fn an_answer_with_other_numbers_of_values_is_none() {
    let server = RedisServer::start();
    let asked_for = Arc::new(AtomicUsize::new(0));
    let counted = asked_for.clone();
    let (port, _proxy) = proxy(server.port(), move |request| {
        let is_read = request.windows(4).any(|part| part == b"MGET");
        is_read.then(|| {
            counted.fetch_add(1, Ordering::SeqCst);
            b"*1\r\n$-1\r\n".as_slice()
        })
    })
    .await;
    let direct = RedisStore::connect(&server.url(), patient()).unwrap();
    let asked = teach_everything(&direct).await;
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{port}"), patient()).unwrap();
    let error = store.load(&asked).await.unwrap_err().to_string();
    assert!(error.contains("number of values"), "{error}");
    assert_ne!(asked_for.load(Ordering::SeqCst), 0);
}

/// Passes bytes on, both ways at once, but for the segments of clients that `answered` answers itself. A request of one
/// pipeline is one segment.
async fn proxy(
    to: u16,
    answered: impl Fn(&[u8]) -> Option<&'static [u8]> + Send + Sync + 'static,
) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answered = Arc::new(answered);
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let answered = answered.clone();
            tokio::spawn(async move {
                let server = tokio::net::TcpStream::connect(("127.0.0.1", to))
                    .await
                    .unwrap();
                let (mut from_client, to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
                let passed_back = to_client.clone();
                let back = tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                        let mut to_client = passed_back.lock().await;
                        to_client.write_all(&buffer[..length]).await.unwrap();
                    }
                });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    match answered(&buffer[..length]) {
                        Some(answer) => to_client.lock().await.write_all(answer).await.unwrap(),
                        None => to_server.write_all(&buffer[..length]).await.unwrap(),
                    }
                }
                back.abort();
            });
        }
    });
    (port, task)
}

#[tokio::test]
async fn every_key_has_a_time_to_live_and_its_schema_in_the_name() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    teach_everything(&store).await;
    // More names than are kept one by one.
    let names: Vec<_> = (0..40)
        .map(|n| tried(attempt(1_000 + n, true, false), START))
        .collect();
    store.record(&names).await.unwrap();
    let keys = keys(&server);
    assert!(keys.len() >= 13, "{keys:?}");
    for key in keys {
        assert!(
            key.starts_with("rg:1:") && key.contains(":{") && key.contains('}'),
            "{key}"
        );
        let ttl = text(&server.command(&[b"PTTL", key.as_bytes()]));
        let millis: i64 = ttl.trim().trim_start_matches(':').parse().unwrap();
        assert!((1..=180 * 24 * 3_600_000).contains(&millis), "{key}: {ttl}");
    }
}

#[tokio::test]
async fn made_up_names_make_no_keys() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    teach_everything(&store).await;
    let size = |server: &RedisServer| {
        let info = text(&server.command(&[b"INFO", b"memory"]));
        info.lines()
            .find_map(|line| {
                line.strip_prefix("used_memory_dataset:")?
                    .parse::<i64>()
                    .ok()
            })
            .unwrap()
    };
    // The first twenty take the address from a list of names to an estimate.
    let names: Vec<_> = (0..20)
        .map(|n| tried(attempt(500 + n, true, false), START))
        .collect();
    store.record(&names).await.unwrap();
    let (keys_before, bytes_before) = (keys(&server).len(), size(&server));
    for some in (0..20_000u64).collect::<Vec<_>>().chunks(500) {
        let batch: Vec<_> = some
            .iter()
            .map(|n| tried(attempt(1_000 + n, true, false), START))
            .collect();
        store.record(&batch).await.unwrap();
    }
    assert_eq!(keys(&server).len(), keys_before);
    // What a connection holds for a moment is told from the data only by the next look that the server takes at it.
    let end = Instant::now() + Duration::from_secs(30);
    while size(&server) - bytes_before >= 256 * 1024 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let grown = size(&server) - bytes_before;
    assert!(grown < 256 * 1024, "{grown} bytes");
    let users = store.load(&query(1, START)).await.unwrap().address.users_1h;
    assert!((19_000.0..21_000.0).contains(&users), "{users}");
}

#[tokio::test]
async fn hostile_values_read_as_missing_and_are_replaced() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    let asked = teach_everything(&store).await;
    let keys = keys(&server);
    let healthy = store.load(&asked).await.unwrap();
    let noise = |n: u64, length: u64| {
        (0..length)
            .map(|i| hash(n * 131 + i) as u8)
            .collect::<Vec<u8>>()
    };
    for round in 0..60u64 {
        for (n, key) in (0..).zip(&keys) {
            let key = key.as_bytes();
            match round % 6 {
                // Noise of every length, also those that counters have.
                0 => server.command(&[b"SET", key, &noise(round * 100 + n, hash(round + n) % 64)]),
                1 => server.command(&[
                    b"SET",
                    key,
                    &noise(round * 100 + n, [13, 17, 21][(round as usize / 6) % 3]),
                ]),
                // The right version with numbers that are none.
                2 => server.command(&[
                    b"SET",
                    key,
                    &[&[1u8][..], &[0xFF; 20]].concat()[..[13, 17, 21][(round as usize / 6) % 3]],
                ]),
                // Other types.
                3 => {
                    server.command(&[b"DEL", key]);
                    server.command(&[b"RPUSH", key, b"x"])
                }
                4 => {
                    server.command(&[b"DEL", key]);
                    server.command(&[b"HSET", key, b"logins", b"many"])
                }
                // A HyperLogLog that is none.
                _ => server.command(&[b"SET", key, b"HYLL\x01\x00\x00\x00garbage"]),
            };
        }
        let history = store.load(&asked).await.unwrap();
        assert_eq!(history.profile, None, "round {round}");
        assert!(history.links.is_empty(), "round {round}");
        for count in [
            history.address.failures_10m,
            history.address.users_1h,
            history.tenant.attempts,
        ] {
            assert!((0.0..=1e9).contains(&count), "round {round}: {count}");
        }
        store.population().await.ok();
        // Learning goes on as if nothing had been there.
        teach_everything(&store).await;
        let history = store.load(&asked).await.unwrap();
        assert_eq!(history.profile, healthy.profile, "round {round}");
        assert_eq!(history.links, healthy.links, "round {round}");
        assert!(
            history.address.users_1h >= 1.0 && history.address.failures_24h >= 1.0,
            "round {round}: {history:?}"
        );
        assert!(
            store.population().await.unwrap().total >= 1,
            "round {round}"
        );
    }
}

/// By a node that has another secret, such as one that does not know of its exchange yet, or whatever wrote it: held logins
/// are not lost for that.
#[tokio::test]
async fn a_queue_of_held_logins_that_does_not_open_is_not_written_over() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    store.change_review_queue(hold(held(1))).await.unwrap();
    let name = keys(&server).remove(0);
    assert!(name.starts_with("rg:1:review:"), "{name}");
    let stranger = RedisSettings {
        seal_key: Secret::new(b"another key for tests".to_vec()),
        ..patient()
    };
    let stranger = connect(&server, stranger);
    for answer in [
        stranger.review_queue().await,
        stranger.change_review_queue(hold(held(2))).await,
    ] {
        let problem = answer.expect_err("it does not open").to_string();
        assert!(
            problem.contains(&name) && problem.contains("does not open"),
            "{problem}"
        );
    }
    let queue = store.review_queue().await.unwrap();
    assert_eq!(queue.items(), [held(1)]);
    // Noise is no queue either; once it is gone, there is an empty one.
    server.command(&[b"SET", name.as_bytes(), b"noise"]);
    assert!(store.change_review_queue(hold(held(2))).await.is_err());
    assert!(text(&server.command(&[b"GET", name.as_bytes()])).contains("noise"));
    server.command(&[b"DEL", name.as_bytes()]);
    let queue = store.change_review_queue(hold(held(2))).await.unwrap();
    assert_eq!(queue.items(), [held(2)]);
}

#[tokio::test]
async fn a_value_copied_to_another_key_reads_as_missing() {
    let server = RedisServer::start();
    let store = connect(&server, patient());
    store
        .record(&[learnt(lesson(1, START)), learnt(lesson(2, START))])
        .await
        .unwrap();
    let profiles: Vec<_> = keys(&server)
        .into_iter()
        .filter(|key| key.contains(":profile:"))
        .collect();
    server.command(&[
        b"COPY",
        profiles[0].as_bytes(),
        profiles[1].as_bytes(),
        b"REPLACE",
    ]);
    let mut profiles = Vec::new();
    for n in [1, 2] {
        profiles.push(store.load(&query(n, START)).await.unwrap().profile);
    }
    assert_eq!(
        profiles.iter().flatten().count(),
        1,
        "only the one at its own place"
    );
    // Another secret opens nothing.
    let other = RedisSettings {
        seal_key: Secret::new(b"other".to_vec()),
        ..patient()
    };
    assert_eq!(
        connect(&server, other)
            .load(&query(1, START))
            .await
            .unwrap()
            .profile,
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_that_learn_about_one_user_lose_nothing() {
    let server = RedisServer::start();
    let nodes = [
        Arc::new(connect(&server, patient())),
        Arc::new(connect(&server, patient())),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for node in &nodes {
        for task in 0..4u64 {
            let node = node.clone();
            tasks.spawn(async move {
                for n in 0..1_250u64 {
                    let mut lesson = lesson(1, START);
                    lesson.familiarity.device = Some(hash(n % 2));
                    let mut batch = vec![
                        learnt(lesson),
                        tried(attempt(task * 10_000 + n, true, false), START),
                    ];
                    batch.push(tried(attempt(1, true, true), START));
                    node.record(&batch).await.unwrap();
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let history = nodes[0].load(&query(1, START)).await.unwrap();
    let profile = history.profile.unwrap();
    assert_eq!(profile.successes, 10_000);
    assert_eq!(
        (
            profile.devices.count(hash(0)),
            profile.devices.count(hash(1))
        ),
        (5_000, 5_000)
    );
    assert_eq!(
        profile
            .hours
            .iter()
            .map(|hour| u32::from(*hour))
            .sum::<u32>(),
        10_000
    );
    close(history.address.attempts_24h, 20_000.0);
    close(history.subject.failures_24h, 10_000.0);
    close(history.tenant.failures, 20_000.0);
    assert_eq!(nodes[1].population().await.unwrap().total, 10_000);
    let users = history.address.users_1h;
    assert!((4_900.0..=5_100.0).contains(&users), "{users}");
}
