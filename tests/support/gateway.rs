//! The harness of the gateway tests: a simulated identity server in this process, the real `riskgate` binary as a child
//! process in front of it, and people who use it. Nothing here asserts what the gateway should do, except that each
//! exchange leaves exactly one record; every wait is bounded.
//!
//! ```ignore
//! let world = World::start(Options { mode: "enforce", ..Options::default() }).await;
//! let mut alice = world.person("alice").from("192.0.2.10");
//! let code = alice.sign_in().await;
//! ```

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "each test binary includes the harness and uses a part of it"
)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

#[path = "gateway/again.rs"]
mod again;
#[path = "gateway/configuration.rs"]
mod configuration;
#[path = "gateway/http2.rs"]
mod http2;
#[path = "gateway/node.rs"]
mod node;
#[path = "gateway/person.rs"]
mod person;
#[path = "gateway/process.rs"]
mod process;
#[path = "gateway/raw.rs"]
mod raw;
#[path = "redis.rs"]
pub mod redis;
#[path = "starter.rs"]
mod starter;
#[path = "gateway/succession.rs"]
mod succession;
#[path = "gateway/worlds.rs"]
mod worlds;

pub use http2::Http2;
pub use http2::Http2Answer;
pub use http2::frames;
pub use http2::secured;
pub use node::Node;
pub use person::Answer;
pub use person::CHROME_ON_WINDOWS;
pub use person::Person;
pub use person::basic;
pub use person::param;
pub use process::Process;
pub use process::Sockets;
pub use raw::RawAnswer;
pub use raw::exchange;
pub use starter::policy as beside_starter;
pub use starter::shipped as shipped_policy;
pub use worlds::always;
pub use worlds::deaf;
pub use worlds::enforcing;
pub use worlds::enforcing_before;
pub use worlds::in_front_of;
pub use worlds::rules;
pub use worlds::stepped_up;

use again::Again;
use configuration::certify;
pub use configuration::listening_port;
pub use configuration::root;
use configuration::write;
use redis::RedisServer;
use riskgate::domain::audit::AuditEvent;
use riskgate::domain::audit::is_mark;
use riskgate::domain::features::Feature;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use wso2_sim::RecordedRequest;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::SimTls;

/// A registered redirect URI on which nobody listens: people stop there.
pub const CALLBACK: &str = "https://app.example.com/cb";
/// The `acr` value that means a second factor.
pub const MFA: &str = "urn:riskgate:acr:mfa";
/// A condition that holds by the history of a user alone.
pub const STRANGE: &str = "risk.reasons.exists(r, r in [\"unfamiliar_country\", \"concurrent_country\", \"impossible_travel\", \"unfamiliar_device_and_network\"])";
/// The doors of a login's pages, and of the API in their place.
pub const AT_PAGES: &str = "request.door in [\"login\", \"authn\"]";
/// An address at home: Zurich, a residential network.
pub const HOME: &str = "192.0.2.10";
/// Another address in the same network.
pub const HOME_NEIGHBOUR: &str = "192.0.2.77";
/// Far away: Colombo, a residential network.
pub const FAR: &str = "198.51.100.20";
/// Far away and in a data centre: Frankfurt.
pub const HOSTING: &str = "203.0.113.5";
/// Far away in the other direction: New York, a residential network.
pub const NEW_YORK: &str = "198.51.100.200";
/// A Tor exit.
pub const TOR: &str = "203.0.113.193";
/// The longest that anything may take to show.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where history is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Store {
    /// In a file under the data folder.
    Embedded,
    /// In a Redis of this test's own.
    Redis,
}

/// Two tests of one behaviour: over the embedded store and over Redis.
macro_rules! on_both_stores {
    ($name:ident, $test:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a test may need nothing of its module")]
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn embedded() {
                ($test)(Store::Embedded).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn redis() {
                ($test)(Store::Redis).await;
            }
        }
    };
}
pub(crate) use on_both_stores;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// `off`, `monitor`, `advise` or `enforce`.
    pub mode: &'static str,
    /// The policy; the shipped one when `None`.
    pub policy: Option<String>,
    /// Where history is kept.
    pub store: Store,
    /// Whether the clients' own address is a trusted proxy, so that their `X-Forwarded-*` is believed.
    pub is_peer_trusted: bool,
    /// TLS on both sides of the gateway.
    pub tls: bool,
    /// Further configuration, TOML; its keys win.
    pub config: &'static str,
    /// The identity server.
    pub sim: SimConfig,
    /// The limit of open files of the gateway; that of the tests when `None`.
    pub open_files: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: "monitor",
            policy: None,
            store: Store::Embedded,
            is_peer_trusted: true,
            tls: false,
            config: "",
            sim: SimConfig::default(),
            open_files: None,
        }
    }
}

/// The identity server, the gateway in front of it, and where both write.
pub struct World {
    /// The identity server.
    pub sim: Sim,
    /// Where clients find the gateway, without a slash at its end.
    pub url: String,
    /// The port of the public listener.
    pub port: u16,
    /// The port of metrics and health.
    pub admin_port: u16,
    http: reqwest::Client,
    process: Mutex<Process>,
    redis: Option<RedisServer>,
    folder: TempDir,
    /// Exchanges of which a record is due.
    due: AtomicUsize,
    /// The records that were read so far, up to which byte of the file, and its last line up to there.
    read: Mutex<(Vec<AuditEvent>, usize, String)>,
    again: Again,
}

/// A moment between two requests.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    records: usize,
    received: usize,
}

impl World {
    /// Starts everything; ready when it returns.
    pub async fn start(options: Options) -> Self {
        // A provider that is installed already serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut sim = options.sim.clone();
        sim.tls = options.tls.then_some(SimTls::SelfSigned);
        let sim = Sim::start(sim).await.expect("the simulator starts");
        let redis = (options.store == Store::Redis).then(RedisServer::start);
        let (port, admin_port) = (listening_port(), listening_port());
        let url = if options.tls {
            format!("https://localhost:{port}")
        } else {
            format!("http://127.0.0.1:{port}")
        };
        sim.set_public_url(&url);

        let mut config = configuration::of(
            &options,
            folder.path(),
            &sim,
            redis.as_ref(),
            port,
            admin_port,
        );
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30));
        if options.tls {
            let certificate = certify(folder.path(), &mut config);
            client = client
                .tls_certs_only([
                    reqwest::Certificate::from_pem(certificate.as_bytes()).expect("a certificate")
                ]);
        }
        let policy = options
            .policy
            .as_deref()
            .map_or_else(starter::shipped, starter::policy);
        write(&folder.path().join("policy.toml"), &policy);
        let again = Again::default();
        again.learn(&policy);
        write(&folder.path().join("riskgate.toml"), &config.to_string());
        if let Some(files) = options.open_files {
            write(&folder.path().join(process::OPEN_FILES), &files.to_string());
        }
        let process = Process::start(folder.path(), admin_port).await;
        Self {
            sim,
            url,
            port,
            admin_port,
            http: client.build().expect("an HTTP client"),
            process: Mutex::new(process),
            redis,
            folder,
            due: AtomicUsize::new(0),
            read: Mutex::default(),
            again,
        }
    }

    /// A user of the identity server with a browser of their own, at home unless told otherwise.
    pub fn person(&self, name: &str) -> Person<'_> {
        Person::new(self, name)
    }

    /// Somebody who goes by that name with another device, far from where its user is at home.
    pub fn stranger(&self, name: &str) -> Person<'_> {
        self.person(name).from(NEW_YORK).with(CHROME_ON_WINDOWS)
    }

    /// Replaces the policy file under the running gateway.
    pub fn set_policy(&self, policy: &str) {
        let policy = starter::policy(policy);
        self.again.learn(&policy);
        configuration::replace(&self.folder.path().join("policy.toml"), &policy);
    }

    /// Ends the gateway with SIGTERM: its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.own_process().stop().await
    }

    /// Ends the gateway with SIGTERM and starts it again on what it left: the exit code of the first.
    pub async fn restart(&mut self) -> Option<i32> {
        let code = self.own_process().stop().await;
        *self.own_process() = Process::start(self.folder.path(), self.admin_port).await;
        code
    }

    /// The configuration of the gateway.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("riskgate.toml")
    }

    /// Runs another command of the program on this configuration: exit code, output, errors.
    pub fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let folder = self.folder.path();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_riskgate"))
            .args(arguments)
            .arg("--config")
            .arg(folder.join("riskgate.toml"))
            .current_dir(folder)
            .output()
            .expect("the program can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// The Redis of this world.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("a world with Redis")
    }

    /// The memory of the gateway that is resident, in KiB.
    pub fn resident_kib(&self) -> usize {
        let path = format!("/proc/{}/status", self.process_id());
        let status = std::fs::read_to_string(path).expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// The processor time that the gateway has used, in hundredths of a second.
    pub fn processor_time(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.process_id());
        let stat = std::fs::read_to_string(path).expect("the gateway runs");
        let fields = stat.rsplit_once(") ").expect("its name").1;
        let fields = fields.split(' ').skip(11).take(2);
        fields
            .map(|time| time.parse::<u64>().expect("a number"))
            .sum()
    }

    /// How many files and sockets the gateway has open.
    pub fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process_id());
        std::fs::read_dir(path).expect("the gateway runs").count()
    }

    /// Where the gateway writes its data.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Neither records nor log say any of `secrets` in clear.
    pub fn leaks_nothing(&self, secrets: &[&str]) {
        let records =
            std::fs::read_to_string(self.data_dir().join("audit.jsonl")).expect("records");
        let log = self.log();
        for secret in secrets {
            assert!(
                !records.contains(secret) && !log.contains(secret),
                "a secret was written: {secret}"
            );
        }
    }

    /// What the gateway has logged.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// The client that all requests of this world go through.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Sends a request of whatever form and reads the answer. One record is due for it.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.due.fetch_add(1, Ordering::Relaxed);
        Answer::read(request.send().await.expect("the gateway answers")).await
    }

    /// A request to a path of the gateway, from home, with a browser's headers.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request
            .header("x-forwarded-for", HOME)
            .header("user-agent", person::FIREFOX)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// POST of a form, with HTTP Basic for the client if one is named.
    pub async fn post(&self, path: &str, client: Option<&str>, fields: &[(&str, &str)]) -> Answer {
        let mut request = self.request(reqwest::Method::POST, path).form(fields);
        if let Some(client) = client {
            request = request.header("authorization", basic(client, &format!("{client}-secret")));
        }
        self.send(request).await
    }

    /// Sends bytes as they are and reads until the gateway closes. One record is due.
    pub async fn raw(&self, bytes: &[u8]) -> RawAnswer {
        self.due.fetch_add(1, Ordering::Relaxed);
        raw::exchange(self.port, bytes).await
    }

    /// The same where HTTP itself is broken, so that there is no exchange to record.
    pub async fn raw_unrecorded(&self, bytes: &[u8]) -> RawAnswer {
        raw::exchange(self.port, bytes).await
    }

    /// A record is due for an exchange that the harness did not make.
    pub fn expect_record(&self) {
        self.due.fetch_add(1, Ordering::Relaxed);
    }

    /// Now.
    pub async fn mark(&self) -> Mark {
        Mark {
            records: self.records().await.len(),
            received: self.received().len(),
        }
    }

    /// Every record so far, once what they taught is in the store. Panics when there are more or fewer than are due.
    pub async fn records(&self) -> Vec<AuditEvent> {
        let due = self.due.load(Ordering::Relaxed);
        let end = Instant::now() + PATIENCE;
        let mut found = self.read_records();
        while found.len() < due && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
            found = self.read_records();
        }
        assert_eq!(
            found.len(),
            due,
            "records for {due} exchanges, the last ones: {:#?}\n{}",
            found.iter().rev().take(2).collect::<Vec<_>>(),
            self.log()
        );
        process::until_learnt(self.admin_port).await;
        found
    }

    /// The records since a moment.
    pub async fn records_since(&self, mark: Mark) -> Vec<AuditEvent> {
        self.records().await.split_off(mark.records)
    }

    /// The record of the one exchange since a moment.
    pub async fn record_since(&self, mark: Mark) -> AuditEvent {
        let mut records = self.records_since(mark).await;
        assert_eq!(records.len(), 1, "{records:#?}");
        records.remove(0)
    }

    /// The latest record.
    pub async fn last_record(&self) -> AuditEvent {
        self.records().await.pop().expect("a record")
    }

    /// The latest record of a door.
    pub async fn last_record_of(&self, door: &str) -> AuditEvent {
        let records = self.records().await;
        let record = records
            .into_iter()
            .rfind(|record| record.door.as_deref() == Some(door));
        record.unwrap_or_else(|| panic!("no record of {door}"))
    }

    /// What the identity server received since a moment.
    pub fn received_since(&self, mark: Mark) -> Vec<RecordedRequest> {
        self.received().split_off(mark.received)
    }

    /// What the identity server received, but for the gateway's own look at its keys.
    pub fn received(&self) -> Vec<RecordedRequest> {
        let mut received = self.sim.recorded();
        received.retain(|request| {
            request.method != "GET" || request.header_values("user-agent") != ["riskgate"]
        });
        received
    }

    /// The one request that the identity server received since a moment.
    pub fn received_one_since(&self, mark: Mark) -> RecordedRequest {
        let mut received = self.received_since(mark);
        assert_eq!(received.len(), 1, "{received:#?}");
        received.remove(0)
    }

    /// The sum of a metric over all series that carry these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin("/metrics").await.1;
        let wanted: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter(|line| wanted.iter().all(|label| line.contains(label.as_str())))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// GET from the admin listener: status and body.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        process::admin(self.admin_port, path)
            .await
            .expect("the admin listener answers")
    }

    /// How many confirmed logins of a user the gateway has learnt. Asks by a CIBA request that names the user, which teaches
    /// nothing.
    pub async fn history_of(&self, user: &str) -> u32 {
        let mark = self.mark().await;
        let fields = [("login_hint", user), ("scope", "openid")];
        self.post("/oauth2/ciba", Some("demo-web"), &fields).await;
        let record = self.record_since(mark).await;
        let value = feature(&record, Feature::UserHistory)
            .unwrap_or_else(|| panic!("the history of {user} is not known: {record:#?}"));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let logins = value.exp_m1().round() as u32;
        logins
    }

    /// Waits until the gateway has learnt this many logins of a user: learning happens after the answer.
    pub async fn until_learnt(&self, user: &str, logins: u32) {
        let end = Instant::now() + PATIENCE;
        let mut found = self.history_of(user).await;
        while found < logins && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            found = self.history_of(user).await;
        }
        assert_eq!(found, logins, "logins of {user} that were learnt");
    }

    /// Waits until what was observed so far is in the store: it goes there after the answer, and before the record is written.
    pub async fn settle(&self) {
        drop(self.records().await);
    }

    pub fn read_records(&self) -> Vec<AuditEvent> {
        let text = std::fs::read_to_string(self.data_dir().join("audit.jsonl")).unwrap_or_default();
        // A line without its end is being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut read = self.read.lock().expect("no test panics while it reads");
        let (records, end, last) = &mut *read;
        // A file that is another one by now is read from its beginning.
        if !whole
            .get(..*end)
            .is_some_and(|known| known.ends_with(last.as_str()))
        {
            (*records, *end, *last) = Default::default();
        }
        for line in whole[*end..].split_inclusive('\n') {
            line.clone_into(last);
            if !is_mark(line.as_bytes()) {
                let record =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                self.again.check(&record, &self.config_file());
                records.push(record);
            }
        }
        *end = whole.len();
        records.clone()
    }
}

/// The value of a feature in a record; `None` when it was missing or nothing was derived.
pub fn feature(record: &AuditEvent, feature: Feature) -> Option<f32> {
    record.features.get(feature.index()).copied().flatten()
}

/// Fields as a query or a form.
pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// The claims of a JWT; its signature is the identity server's business.
pub fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token
        .split('.')
        .nth(1)
        .unwrap_or_else(|| panic!("no JWT: {token}"));
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .expect("Base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}
