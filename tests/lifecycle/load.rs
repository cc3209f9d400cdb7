//! Clients that send request after request and count what becomes of each. Every fourth asks for a token, which is
//! scored; the others fetch the key set. Each request carries a number that the identity server sees.

use crate::client::Answer;
use crate::client::Client;
use crate::client::Failure;
use crate::gateway::basic;
use rustls::ClientConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;

/// The header with the number of a request.
pub const NUMBER: &str = "x-load-number";
/// Descriptions of failures that are kept.
const KEPT_MAX: usize = 20;

/// How the clients go about it.
#[derive(Clone)]
pub struct Plan {
    /// Clients side by side.
    pub clients: usize,
    /// Whether each request has a connection of its own.
    pub fresh: bool,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<ClientConfig>>,
    /// Where clients turn for a connection: asked for each, as a balancer is.
    pub nodes: Arc<dyn Fn() -> u16 + Send + Sync>,
    /// Requests after which they stop; without end when 0.
    pub requests: u64,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// Begun.
    pub asked: AtomicU64,
    /// Answered.
    pub answered: AtomicU64,
    /// Sent into a connection that had just been closed; asked again.
    pub idle: AtomicU64,
    /// Handshakes, those that failed included.
    pub connections: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
    failures: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

/// Clients at work.
pub struct Load {
    clients: JoinSet<()>,
    done: Arc<AtomicBool>,
    tally: Arc<Tally>,
    is_endless: bool,
}

static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits for the machine.
pub async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// A number for `make test`, or the one for `make hardening`.
pub fn scaled(small: u64, large: u64) -> u64 {
    match std::env::var_os("RISKGATE_HARDENING") {
        Some(_) => large,
        None => small,
    }
}

/// Prints a row of the table of `make hardening`: what was tried, how often, what was turned away, what went wrong.
pub fn row(id: &str, what: &str, tries: u64, refused: u64, wrong: u64) {
    eprintln!("\nhardening|{id}: {what}|{tries}|{refused}|{wrong}");
}

impl Plan {
    /// Clients that keep their connections, in front of one gateway.
    pub fn keeping(clients: usize, port: u16) -> Self {
        Self {
            clients,
            fresh: false,
            tls: None,
            nodes: Arc::new(move || port),
            requests: 0,
        }
    }

    /// Starts.
    pub fn start(self) -> Load {
        let mut clients = JoinSet::new();
        let done = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        for _ in 0..self.clients {
            clients.spawn(work(self.clone(), Arc::clone(&tally), Arc::clone(&done)));
        }
        Load {
            clients,
            done,
            tally,
            is_endless: self.requests == 0,
        }
    }
}

impl Load {
    /// How many answers there are.
    pub fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Waits for this many answers.
    pub async fn until(&self, answers: u64) {
        let end = Instant::now() + Duration::from_secs(300);
        while self.tally.answered.load(Ordering::Relaxed) < answers {
            assert!(Instant::now() < end, "{:?}", self.tally);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the clients end: all of it.
    pub async fn end(mut self) -> Arc<Tally> {
        if self.is_endless {
            self.done.store(true, Ordering::Relaxed);
        }
        while let Some(client) = self.clients.join_next().await {
            client.expect("a client ends well");
        }
        self.tally
    }
}

impl Tally {
    /// How many were lost.
    pub fn lost(&self) -> u64 {
        self.asked.load(Ordering::Relaxed) - self.answered.load(Ordering::Relaxed)
    }

    /// Every request was answered, with 200.
    pub fn assert_all_answered(&self, log: &str) {
        let failures = self.failures.lock().unwrap();
        assert!(
            failures.is_empty() && self.lost() == 0,
            "{} lost: {failures:#?}\n{log}",
            self.lost()
        );
        let statuses = self.statuses.lock().unwrap();
        let others: Vec<_> = statuses.keys().filter(|status| **status != 200).collect();
        assert!(others.is_empty(), "{statuses:?}\n{log}");
    }

    /// The longest that an answer took.
    pub fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    fn fail(&self, text: String) {
        let mut failures = self.failures.lock().unwrap();
        if failures.len() < KEPT_MAX {
            failures.push(text);
        }
    }
}

/// The request of this number.
pub fn request(number: u64) -> Vec<u8> {
    if is_scored(number) {
        let body = "grant_type=client_credentials";
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n{NUMBER}: {number}\r\nX-Forwarded-For: 192.0.2.{}\r\nX-Tag-A: 1\r\nX-Tag-B: 1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            basic("demo-service", "demo-service-secret"),
            number % 250 + 1,
            body.len()
        )
    } else {
        format!("GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n{NUMBER}: {number}\r\n\r\n")
    }
    .into_bytes()
}

/// Whether the request of this number asks for a token.
pub fn is_scored(number: u64) -> bool {
    number.is_multiple_of(4)
}

async fn work(plan: Plan, tally: Arc<Tally>, done: Arc<AtomicBool>) {
    let mut client = Client::new((plan.nodes)(), plan.tls.clone());
    while !done.load(Ordering::Relaxed) {
        let number = tally.asked.fetch_add(1, Ordering::Relaxed);
        if plan.requests > 0 && number >= plan.requests {
            tally.asked.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        if plan.fresh {
            client.hang_up();
        }
        let start = Instant::now();
        let answer = ask(&plan, &mut client, number, &tally).await;
        let took = start.elapsed();
        match answer {
            Ok(answer) => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                *tally
                    .statuses
                    .lock()
                    .unwrap()
                    .entry(answer.status)
                    .or_default() += 1;
                let mut slowest = tally.slowest.lock().unwrap();
                *slowest = took.max(*slowest);
                if answer.status != 200 {
                    let body = String::from_utf8_lossy(&answer.body);
                    tally.fail(format!("request {number}: {}\n{body}", answer.head));
                }
            }
            Err(failure) => tally.fail(format!("request {number}: {failure:?}")),
        }
    }
}

/// One request. What may be repeated is repeated once, on a new connection: a GET whose connection was closed while it was
/// idle.
async fn ask(
    plan: &Plan,
    client: &mut Client,
    number: u64,
    tally: &Tally,
) -> Result<Answer, Failure> {
    let request = request(number);
    let connect = |client: &mut Client| {
        if !client.is_connected() {
            client.turn_to((plan.nodes)());
            tally.connections.fetch_add(1, Ordering::Relaxed);
        }
    };
    connect(client);
    match client.exchange(&request).await {
        Err(Failure::Idle) if !is_scored(number) => {
            tally.idle.fetch_add(1, Ordering::Relaxed);
            connect(client);
            client.exchange(&request).await
        }
        other => other,
    }
}
