//! Whether known and unknown usernames can be told apart by the clock: the gateway as a process, in front of an upstream
//! that refuses every password at once, so that all of the time is the gateway's.
//!
//! `cargo bench --bench usernames`. For each door 10,000 pairs of tries, one with a name that has a history and one with
//! a name that nobody has, one after the other over one connection, which comes first by the toss of a coin. The policy
//! refuses what is strange for a user, so that the verdicts differ and only the answers must not. It ends with an error
//! when an answer differs or when the means differ by a millisecond or more.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench prints what it found, and ends at the first surprise"
)]

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Pairs for each door.
const PAIRS: usize = 10_000;
/// Pairs when the bench is only started to see that it runs.
const PAIRS_OF_A_TRIAL: usize = 100;
/// Pairs before the first that counts.
const WARM_UP: usize = 200;
/// Users with a history, and as many names without.
const NAMES: usize = 200;
/// Logins that each user has behind them.
const LOGINS: usize = 3;
/// The most that the means may differ, in microseconds.
const DIFFERENCE_MAX: f64 = 1_000.0;
/// How long the gateway may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the upstream accepts.
const RIGHT: &str = "the-right-one";

/// What only the history of a user can say is refused at the doors where names are proved.
const POLICY: &str = r#"
version = 1
[[rule]]
name = "strange"
when = '''
(request.door in ["login", "authn"] || request.grant_type == "password")
  && risk.reasons.exists(r, r in ["unfamiliar_country", "unfamiliar_network", "unfamiliar_address", "unfamiliar_device_and_network", "impossible_travel"])
'''
verdict = "block"
[[rule]]
name = "others"
when = "true"
verdict = "allow"
"#;

/// Where a name is presented.
#[derive(Clone, Copy, Debug)]
enum Door {
    Hint,
    Login,
    Native,
    Grant,
}

const DOORS: [Door; 4] = [Door::Hint, Door::Login, Door::Native, Door::Grant];

impl Door {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hint => "authorize with login_hint",
            Self::Login => "login form",
            Self::Native => "app-native",
            Self::Grant => "password grant",
        }
    }

    /// A try of `name` from `address`.
    fn request(self, name: &str, password: &str, address: &str) -> String {
        let common = format!(
            "Host: login.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\nAccept-Language: nb-NO,nb;q=0.9\r\nX-Forwarded-For: {address}\r\nX-Forwarded-Proto: https\r\n"
        );
        let post = |path: &str, kind: &str, more: &str, body: String| {
            format!(
                "POST {path} HTTP/1.1\r\n{common}{more}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let form = "application/x-www-form-urlencoded";
        match self {
            Self::Hint => format!(
                "GET /oauth2/authorize?response_type=code&client_id=bench&scope=openid&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb&login_hint={name} HTTP/1.1\r\n{common}\r\n"
            ),
            Self::Login => post(
                "/commonauth",
                form,
                "",
                format!(
                    "usernameUserInput={name}&username={name}&password={password}&sessionDataKey=3bd1f207-e5b5-4b45-8a91-000000000001"
                ),
            ),
            Self::Native => post(
                "/oauth2/authn",
                "application/json",
                "",
                format!(
                    r#"{{"flowId":"3bd1f207-e5b5-4b45-8a91-000000000002","selectedAuthenticator":{{"authenticatorId":"QmFzaWNBdXRoZW50aWNhdG9yOkxPQ0FM","params":{{"username":"{name}","password":"{password}"}}}}}}"#
                ),
            ),
            Self::Grant => post(
                "/oauth2/token",
                form,
                "Authorization: Basic YmVuY2g6YmVuY2g=\r\n",
                format!("grant_type=password&username={name}&password={password}&scope=openid"),
            ),
        }
    }
}

/// What the identity server says to a request.
fn refusal(request: &str) -> String {
    let redirect = |location: &str, more: &str| {
        format!(
            "HTTP/1.1 302 Found\r\nLocation: https://login.example.com{location}\r\n{more}Content-Length: 0\r\n\r\n"
        )
    };
    let json = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let page =
        "/authenticationendpoint/login.do?sessionDataKey=3bd1f207-e5b5-4b45-8a91-000000000001";
    if request.starts_with("POST /commonauth") && request.contains(RIGHT) {
        redirect(
            "/oauth2/authorize?sessionDataKey=7e10c4b2-e5b5-4b45-8a91-000000000003",
            "Set-Cookie: commonAuthId=9c41d7aa-e5b5-4b45-8a91-000000000004; Path=/; Secure; HttpOnly; SameSite=None\r\n",
        )
    } else if request.starts_with("POST /commonauth") {
        redirect(
            &format!("{page}&authFailure=true&authFailureMsg=login.fail.message"),
            "",
        )
    } else if request.starts_with("POST /oauth2/authn") {
        json(
            "200 OK",
            r#"{"flowId":"3bd1f207-e5b5-4b45-8a91-000000000002","flowStatus":"FAIL_INCOMPLETE","nextStep":{"messages":[{"messageId":"17002"}]}}"#,
        )
    } else if request.starts_with("POST /oauth2/token") {
        json(
            "400 Bad Request",
            r#"{"error":"invalid_grant","error_description":"Authentication failed"}"#,
        )
    } else if request.starts_with("GET /oauth2/authorize") {
        redirect(page, "")
    } else {
        json("200 OK", r#"{"keys":[]}"#)
    }
}

/// Means, and how sure of them one can be.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The standard error of the mean.
    fn error(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|time| (time - mean).powi(2)).sum();
        (squares / (self.0.len() as f64 - 1.0) / self.0.len() as f64).sqrt()
    }
}

fn main() -> Result<()> {
    // Cargo says `--bench`; whoever starts all targets as tests does not want minutes of load.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let pairs = if is_bench { PAIRS } else { PAIRS_OF_A_TRIAL };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(pairs, is_bench))
}

async fn measure(pairs: usize, is_bench: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = start_upstream().await?;
    let mut gateway = Gateway::start(folder.path(), upstream).await?;
    let mut connection = Connection::to(gateway.listen).await?;
    let mut coin = Coin(0x9e37_79b9_7f4a_7c15);
    for login in 0..LOGINS * NAMES {
        let number = login % NAMES;
        let request = Door::Login.request(&known(number), RIGHT, &home(number));
        let answer = connection.ask(&request).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 302"),
            "a login failed: {answer}"
        );
    }
    // What was learnt arrives a moment after the answer.
    tokio::time::sleep(Duration::from_secs(1)).await;

    println!("{pairs} pairs for each door; microseconds, mean and its standard error");
    let mut worst: f64 = 0.0;
    for door in DOORS {
        let mut times = [Times::default(), Times::default()];
        for pair in 0..pairs + WARM_UP {
            let address = elsewhere(pair);
            let names = [known(pair % NAMES), unknown(pair % NAMES)];
            let mut order = [0, 1];
            if coin.toss() {
                order.swap(0, 1);
            }
            let mut answers = [String::new(), String::new()];
            for side in order {
                let request = door.request(&names[side], "a-wrong-one", &address);
                let started = Instant::now();
                let answer = connection.ask(&request).await?;
                let took = started.elapsed().as_secs_f64() * 1e6;
                if pair >= WARM_UP {
                    times[side].0.push(took);
                }
                answers[side] = without_chance(&answer).replace(&names[side], "NAME");
            }
            ensure!(
                answers[0] == answers[1],
                "{}: answers differ:\n{}\n{}",
                door.as_str(),
                answers[0],
                answers[1]
            );
        }
        let difference = times[0].mean() - times[1].mean();
        worst = worst.max(difference.abs());
        println!(
            "{:26} known {:7.1} +- {:4.1}   unknown {:7.1} +- {:4.1}   difference {:+6.1}",
            door.as_str(),
            times[0].mean(),
            times[0].error(),
            times[1].mean(),
            times[1].error(),
            difference
        );
    }
    let hidden = gateway.stop_and_count_hidden()?;
    println!("verdicts that differed and did not show: {hidden}");
    ensure!(hidden > pairs, "nothing was there to be hidden: {hidden}");
    // A trial runs on a busy machine and without optimisation: it says nothing about time.
    ensure!(
        !is_bench || worst < DIFFERENCE_MAX,
        "the means differ by {worst:.0} us, {DIFFERENCE_MAX:.0} is too much"
    );
    Ok(())
}

fn known(number: usize) -> String {
    format!("known-{number:05}")
}

fn unknown(number: usize) -> String {
    format!("other-{number:05}")
}

fn home(number: usize) -> String {
    format!("78.31.{}.{}", number / 200, number % 200 + 10)
}

/// Where tries come from: ever new addresses, so that no address stands out.
fn elsewhere(pair: usize) -> String {
    format!(
        "151.{}.{}.{}",
        10 + pair / 40_000 % 100,
        pair / 200 % 200,
        pair % 200 + 10
    )
}

/// An answer without its date, without the values of our cookies, which are random, and without whether the connection is
/// kept, which depends on how many requests came over it.
fn without_chance(answer: &str) -> String {
    let lines = answer.lines().filter_map(|line| {
        let lower = line.to_ascii_lowercase();
        if lower.starts_with("date:") || lower.starts_with("connection:") {
            return None;
        }
        let has_value = lower.starts_with("set-cookie: __host-rg_");
        Some(match line.split_once('=').filter(|_| has_value) {
            Some((name, _)) => name,
            None => line,
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Which of two comes first (xorshift).
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & 1 == 1
    }
}

/// The gateway, killed when it is dropped.
struct Gateway {
    child: Child,
    listen: SocketAddr,
    records: std::path::PathBuf,
}

impl Gateway {
    async fn start(folder: &Path, upstream: SocketAddr) -> Result<Self> {
        let (listen, admin) = (free_address()?, free_address()?);
        let data = folder.join("data");
        let policy = folder.join("policy.toml");
        std::fs::write(&policy, POLICY)?;
        let config = format!(
            r#"
[server]
listen = "{listen}"
threads = 1
trusted_proxies = ["127.0.0.0/8"]
drain_seconds = 0
grace_seconds = 1
[upstream]
url = "http://{upstream}"
[admin]
listen = "{admin}"
[mode]
default = "enforce"
[policy]
file = '{policy}'
[state]
data_dir = '{data}'
[limits]
address_per_minute = 0
user_per_minute = 0
network_per_minute = 0
client_per_minute = 0
[log]
filter = "warn"
"#,
            policy = policy.display(),
            data = data.display(),
        );
        let file = folder.join("riskgate.toml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(folder.join("riskgate.log"))?;
        let child = Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(["run", "--config"])
            .arg(&file)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the gateway cannot be started")?;
        let gateway = Self {
            child,
            listen,
            records: data.join("audit.jsonl"),
        };
        let started = Instant::now();
        while TcpStream::connect(listen).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "the gateway does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(gateway)
    }

    /// Ends it, and counts the records in which another verdict showed than the one that holds.
    fn stop_and_count_hidden(&mut self) -> Result<usize> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(started.elapsed() < PATIENCE, "the gateway does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        let records = std::fs::read_to_string(&self.records)?;
        Ok(records.matches(r#""shown":"allow""#).count())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Nothing is left to do when even that fails.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    address: SocketAddr,
}

impl Connection {
    async fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address })
    }

    async fn ask(&mut self, request: &str) -> Result<String> {
        self.stream.write_all(request.as_bytes()).await?;
        let answer = read_message(&mut self.stream)
            .await?
            .context("the gateway closed without an answer")?;
        if answer.to_ascii_lowercase().contains("connection: close") {
            *self = Self::to(self.address).await?;
        }
        Ok(answer)
    }
}

/// One message, head and body; `None` when the connection has ended before it.
async fn read_message(stream: &mut TcpStream) -> Result<Option<String>> {
    const BYTES_MAX: usize = 65_536;
    let mut bytes = Vec::with_capacity(4_096);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(Ok(0), |length| length.trim().parse::<usize>())?;
            if bytes.len() >= end + 4 + length {
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        if bytes.len() > BYTES_MAX {
            bail!("a message of more than {BYTES_MAX} bytes");
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

async fn start_upstream() -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(Some(request)) = read_message(&mut stream).await {
                    if stream
                        .write_all(refusal(&request).as_bytes())
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}
