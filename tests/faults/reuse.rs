//! An identity server that closes its connections after two to ten requests, as a Tomcat does: with a word, or without
//! one, as a device in between may. No login is lost where that can be had, and none is ever sent twice.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::in_front_of;
use crate::traffic::alone;
use crate::traffic::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Logins side by side.
const WORKERS: usize = 16;
const TOKENS: &str = r#"{"access_token":"opaque","token_type":"Bearer","expires_in":3600}"#;

/// How the server ends a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The last answer says so.
    Announced,
    /// It does not.
    Unannounced,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    /// How often each login came.
    logins: Mutex<HashMap<String, usize>>,
}

#[derive(Debug)]
struct Run {
    logins: usize,
    failed: usize,
    twice: usize,
    connections: usize,
}

/// How many logins: few in `make test`, 100,000 in `make hardening`.
fn logins() -> usize {
    let wanted = std::env::var("RISKGATE_REUSE_LOGINS").ok();
    wanted.map_or(2_000, |number| number.parse().expect("a number"))
}

async fn serve(mut stream: TcpStream, requests: usize, end: End, seen: Arc<Seen>) {
    let mut bytes = Vec::new();
    for left in (0..requests).rev() {
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                break bytes.drain(..at + 4).collect::<Vec<u8>>();
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a length"));
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body: Vec<u8> = bytes.drain(..length).collect();
        if let Some(name) = String::from_utf8_lossy(&body).split("scope=").nth(1) {
            let mut logins = seen.logins.lock().expect("no panic");
            *logins.entry(name.to_owned()).or_default() += 1;
        }
        let asked_to_close = head.contains("connection: close");
        let ends = left == 0 || asked_to_close;
        let word = if ends && (end == End::Announced || asked_to_close) {
            "Connection: close\r\n"
        } else {
            ""
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{word}\r\n{TOKENS}",
            TOKENS.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() || ends {
            return;
        }
    }
}

async fn run(end: End, config: &str) -> Run {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = shared.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, 2 + number % 9, end, Arc::clone(&shared)));
        }
    });
    let options = in_front_of(port);
    let config = options
        .config
        .replacen("[upstream]\n", &format!("[upstream]\n{config}\n"), 1);
    let world = World::start(Options {
        config: config.leak(),
        ..options
    })
    .await;
    let (count, next, failed) = (logins(), AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    let workers = (0..WORKERS).map(|_| async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let (user, scope) = (format!("user-{}", number % 500), format!("login-{number}"));
            let request = world
                .request(reqwest::Method::POST, "/oauth2/token")
                .form(&[
                    ("grant_type", "password"),
                    ("client_id", "demo-legacy"),
                    ("username", &user),
                    ("password", "x"),
                    ("scope", &scope),
                ]);
            let answer = request.send().await.expect("the gateway answers");
            let status = answer.status();
            assert!(status == 200 || status == 502, "{status}");
            let body = answer.text().await.expect("a body");
            if status != 200 || body != TOKENS {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    join_all(workers.collect()).await;
    server.abort();
    let took = start.elapsed();
    let arrived = seen.logins.lock().expect("no panic");
    let run = Run {
        logins: count,
        failed: failed.load(Ordering::Relaxed),
        twice: arrived.values().filter(|times| **times > 1).count(),
        connections: seen.connections.load(Ordering::Relaxed),
    };
    eprintln!("{end:?}: {run:?} in {took:.1?}");
    run
}

fn row(name: &str, run: &Run) {
    eprintln!(
        "hardening|R15 {name}|{}|{}|{}",
        run.logins, run.failed, run.twice
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_login_is_lost_to_connections_that_end_with_a_word() {
    let _alone = alone().await;
    let run = run(End::Announced, "").await;
    row(
        "connections end with a word: logins, failed, sent twice",
        &run,
    );
    assert_eq!((run.failed, run.twice), (0, 0), "{run:?}");
    // They were used more than once.
    assert!(run.connections < run.logins / 3, "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_login_is_lost_to_connections_that_end_without_a_word_where_posts_have_their_own() {
    let _alone = alone().await;
    let run = run(End::Unannounced, "reuse_for_posts = false").await;
    row(
        "they end without a word, POSTs have their own: logins, failed, sent twice",
        &run,
    );
    assert_eq!((run.failed, run.twice), (0, 0), "{run:?}");
    assert!(run.connections >= run.logins, "{run:?}");
}

/// Where POSTs share connections, one may meet the end of its connection. It fails at once and is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_login_is_sent_twice_over_connections_that_end_without_a_word() {
    let _alone = alone().await;
    let run = run(End::Unannounced, "").await;
    row(
        "they end without a word, POSTs share them: logins, failed, sent twice",
        &run,
    );
    assert_eq!(run.twice, 0, "{run:?}");
    // One in twenty in `make hardening`; a busy machine hears of the end of a connection later.
    let share = match std::env::var_os("RISKGATE_REUSE_LOGINS") {
        Some(_) => 20,
        None => 8,
    };
    assert!(run.failed <= run.logins / share, "{run:?}");
}
