//! Secrets that others gave and address databases, exchanged while the gateway serves: with a new text in their files, and never
//! with a damaged one.

use crate::certificates::looks;
use crate::certificates::until_looked;
use crate::certificates::until_said;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::listening_port;
use crate::load::Plan;
use crate::reload::records;
use crate::reload::until_recorded;
use riskgate::domain::alert::signature;
use riskgate::domain::audit::AuditEvent;
use serde_json::json;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::task::JoinHandle;
use wso2_sim::RecordedRequest;
use wso2_sim::Sim;
use wso2_sim::SimConfig;

/// What they are called among what is looked at.
const SECRETS: &str = "secrets";
const DATABASES: &str = "databases";
const FIRST: &str = "the-first-secret-of-wso2-and-the-gateway";
const SECOND: &str = "the-second-secret-of-wso2-and-the-gateway";
const FORM: &[(&str, &str)] = &[("grant_type", "client_credentials")];

/// WSO2, as it asks.
#[derive(Clone)]
struct Wso2 {
    http: reqwest::Client,
    url: String,
}

/// Calls of WSO2 that go on until they are told to end.
struct Asking {
    done: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    callers: Vec<JoinHandle<()>>,
}

impl Wso2 {
    async fn asks(&self, secret: &str) -> u16 {
        let question = json!({ "decision_id": "none", "username": "alice" });
        let request = self.http.post(&self.url).bearer_auth(secret);
        let answer = request.json(&question).send().await;
        answer.expect("an answer").status().as_u16()
    }

    async fn until(&self, secret: &str, wanted: u16, world: &World) {
        let end = Instant::now() + PATIENCE;
        while self.asks(secret).await != wanted {
            assert!(Instant::now() < end, "{}", world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks without a pause, and is answered each time.
    fn keeps_asking(&self, secret: &'static str) -> Asking {
        let (done, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::<AtomicU64>::default(),
        );
        let callers = (0..4).map(|_| {
            let (wso2, done, asked) = (self.clone(), Arc::clone(&done), Arc::clone(&asked));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(wso2.asks(secret).await, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let callers = callers.collect();
        Asking {
            done,
            asked,
            callers,
        }
    }
}

impl Asking {
    /// Waits for some more answers, and ends.
    async fn end(self) {
        let wanted = self.asked.load(Ordering::Relaxed) + 20;
        while self.asked.load(Ordering::Relaxed) < wanted
            && !self.callers.iter().all(JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.done.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.expect("every call is answered");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wso2_shows_is_exchanged_while_it_asks() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, previous) = (folder.path().join("secret"), folder.path().join("previous"));
    fs::write(&file, FIRST).expect("a file");
    fs::write(&previous, FIRST).expect("a file");
    let port = listening_port();
    let config = format!(
        "[actions]\nlisten = '127.0.0.1:{port}'\nsecret_file = '{}'\nprevious_secret_file = '{}'\n",
        file.display(),
        previous.display()
    );
    let world = World::start(Options {
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    let wso2 = Wso2 {
        http: reqwest::Client::new(),
        url: format!("http://127.0.0.1:{port}/actions/risk"),
    };
    assert_eq!(wso2.asks(SECOND).await, 401);

    // The new one is taken; the one before is still accepted while WSO2 has it.
    let asking = wso2.keeps_asking(FIRST);
    fs::write(&file, SECOND).expect("a file");
    wso2.until(SECOND, 200, &world).await;
    asking.end().await;
    // Then it goes.
    let asking = wso2.keeps_asking(SECOND);
    fs::write(&previous, SECOND).expect("a file");
    wso2.until(FIRST, 401, &world).await;
    asking.end().await;

    // What is damaged or gone is refused by file and key.
    for damage in [Some("canary"), None] {
        let (place, refused) = (world.log().len(), looks(&world, SECRETS, "refused").await);
        match damage {
            Some(text) => fs::write(&file, text).expect("a file"),
            None => fs::remove_file(&file).expect("a file"),
        }
        until_looked(&world, SECRETS, "refused", refused + 1.0).await;
        let words = ["actions.secret_file", "/secret`", "the old one stays"];
        let log = until_said(&world, place, &words).await;
        assert!(!log.contains("canary"), "{log}");
        assert_eq!(wso2.asks(SECOND).await, 200);
    }

    // Without the key of the one before: taken with the rest of the configuration.
    fs::write(&file, FIRST).expect("a file");
    wso2.until(FIRST, 200, &world).await;
    assert_eq!(wso2.asks(SECOND).await, 200);
    let text = fs::read_to_string(world.config_file()).expect("the configuration");
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("previous_secret_file"));
    let shorter = kept.collect::<Vec<_>>().join("\n");
    assert_ne!(shorter.trim(), text.trim());
    let place = world.log().len();
    fs::write(world.config_file(), shorter).expect("a configuration");
    let log = until_said(&world, place, &["were reloaded"]).await;
    assert!(!log.contains("after a restart alone"), "{log}");
    assert_eq!(wso2.asks(SECOND).await, 401);
    assert_eq!(wso2.asks(FIRST).await, 200);
    world.leaks_nothing(&[FIRST, SECOND]);
}

/// With which of the secrets a message is signed.
fn signed_with(message: &RecordedRequest) -> Option<&'static str> {
    let header = |name: &str| message.header_values(name).concat();
    let seconds = header("webhook-timestamp").parse().expect("seconds");
    let id = header("webhook-id");
    let is_it = |secret: &&str| {
        signature(secret.as_bytes(), &id, seconds, &message.body) == header("webhook-signature")
    };
    [FIRST, SECOND].into_iter().find(is_it)
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_signed_with_the_secret_of_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    fs::write(&file, FIRST).expect("a file");
    let receiver = Sim::start(SimConfig::default()).await.expect("a receiver");
    let config = format!(
        "[alerts]\nurl = '{}/hooks'\nsecret_file = '{}'\n",
        receiver.url,
        file.display()
    );
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(always("block")),
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    let told = async || {
        let before = receiver.recorded().len();
        world
            .post("/oauth2/token", Some("demo-service"), FORM)
            .await;
        let end = Instant::now() + PATIENCE;
        while receiver.recorded().len() == before {
            assert!(Instant::now() < end, "{}", world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        signed_with(&receiver.recorded()[before])
    };
    assert_eq!(told().await, Some(FIRST));
    fs::write(&file, SECOND).expect("a file");
    until_looked(&world, SECRETS, "ok", 1.0).await;
    assert_eq!(told().await, Some(SECOND));
    let place = world.log().len();
    fs::write(&file, "canary").expect("a file");
    until_looked(&world, SECRETS, "refused", 1.0).await;
    let words = ["alerts.secret_file", "6 bytes", "the old one stays"];
    until_said(&world, place, &words).await;
    assert_eq!(told().await, Some(SECOND));
    world.leaks_nothing(&[FIRST, SECOND, "canary"]);
}

fn network(record: &AuditEvent) -> String {
    let record = serde_json::to_value(record).expect("JSON");
    record["network"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn address_databases_are_exchanged_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kinds.csv");
    let put = |kind: &str| {
        let text = format!("192.0.2.0,192.0.2.255,{kind},Somebody\n");
        fs::write(&file, text).expect("a file");
    };
    put("vpn");
    let config = format!("[geo]\nkinds = '{}'\n", file.display());
    let world = World::start(Options {
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    let load = Plan::keeping(4, world.port).start();
    load.until(40).await;
    put("hosting");
    until_looked(&world, DATABASES, "ok", 1.0).await;
    // Those under way may have begun before.
    let answered = load.answered();
    load.until(answered + 40).await;
    let tally = load.end().await;
    tally.assert_all_answered(&world.log());
    let end = Instant::now() + PATIENCE;
    let scored = loop {
        let found = records(&world);
        let scored = found
            .into_iter()
            .filter(|record| !network(record).is_empty());
        let scored: Vec<_> = scored.collect();
        if scored.iter().any(|record| network(record) == "hosting") {
            break scored;
        }
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(scored.first().map(network).as_deref(), Some("vpn"));
    assert_eq!(scored.last().map(network).as_deref(), Some("hosting"));

    for damage in [Some("canary"), None] {
        let (place, refused) = (world.log().len(), looks(&world, DATABASES, "refused").await);
        match damage {
            Some(text) => fs::write(&file, text).expect("a file"),
            None => fs::remove_file(&file).expect("a file"),
        }
        until_looked(&world, DATABASES, "refused", refused + 1.0).await;
        let words = ["geo.kinds", "kinds.csv", "the old ones stay"];
        until_said(&world, place, &words).await;
        let before = records(&world).len() as u64;
        world
            .post("/oauth2/token", Some("demo-service"), FORM)
            .await;
        let found = until_recorded(&world, before + 1).await;
        assert_eq!(found.last().map(network).as_deref(), Some("hosting"));
    }
}
