//! Authorities that the gateway itself trusts, exchanged while it serves: for the identity server, Redis, alerts and spans.

use crate::certificates::after;
use crate::certificates::exchanged_under_load;
use crate::certificates::looks;
use crate::certificates::reread;
use crate::certificates::until_looked;
use crate::certificates::until_said;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::redis::RedisServer;
use crate::issuer::Authority;
use crate::own_certificates::status;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::SimTls;

/// What they are called among what is looked at.
const AUTHORITIES: &str = "authorities";
const FORM: &[(&str, &str)] = &[("grant_type", "client_credentials")];
/// The parts of a process that trust somebody.
const PARTS: [&str; 4] = [
    "upstream.ca_file",
    "state.redis_ca_file",
    "alerts.ca_file",
    "traces.ca_file",
];

/// Files of authorities.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.path().join(key)
    }

    fn put(&self, key: &str, text: &str) -> PathBuf {
        fs::write(self.path(key), text).expect("a file");
        self.path(key)
    }
}

/// Waits until the state is in order, or says this.
async fn until_state(world: &World, word: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, body) = world.admin("/health/ready").await;
        let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        if report["parts"]["state"].to_string().contains(word) {
            return;
        }
        assert!(Instant::now() < end, "{body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_told(receiver: &Sim, path: &str, world: &World) {
    let end = Instant::now() + PATIENCE;
    while !receiver.recorded().iter().any(|it| it.path() == path) {
        assert!(Instant::now() < end, "{path}: {}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_trusted_is_exchanged_without_a_restart() {
    let files = Files::new();
    let (other, ours) = (Authority::new("of others"), Authority::new("of redis"));
    let issued = ours.server("redis");
    let certificate = files.put("redis.crt", &issued.certificate);
    let key = files.put("redis.key", &issued.key);
    let authority = files.put("redis-ca.pem", ours.pem());
    let redis = RedisServer::start_tls(&certificate, &key, &authority);
    let receiver = Sim::start(SimConfig {
        tls: Some(SimTls::SelfSigned),
        ..SimConfig::default()
    })
    .await
    .expect("a receiver");
    let secret = files.put("alerts.secret", "0123456789abcdef0123456789abcdef");
    for part in PARTS {
        files.put(part, other.pem());
    }
    let at = |key: &str| files.path(key).display().to_string();
    let config = format!(
        "[upstream]\nca_file = '{}'\nidle_timeout_seconds = 3600\n[state]\nurl = '{}'\nredis_ca_file = '{}'\n\
         [alerts]\nurl = '{to}/hooks'\nsecret_file = '{}'\nscore_min = 0\nca_file = '{}'\n\
         [traces]\nurl = '{to}/v1/traces'\nsample_percent = 100.0\nca_file = '{}'\n",
        at(PARTS[0]),
        redis.url(),
        at(PARTS[1]),
        secret.display(),
        at(PARTS[2]),
        at(PARTS[3]),
        to = receiver.url,
    );
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(always("block")),
        tls: true,
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await;

    // Nobody is trusted, and the log names the keys.
    assert_eq!(status(&world).await, 502);
    let remedy = "name the authority that issued its certificate in";
    for words in [
        ["an upstream failed", "UnknownIssuer", "upstream.ca_file"],
        ["could not be fetched", remedy, "upstream.ca_file"],
    ] {
        let log = until_said(&world, 0, &words).await;
        let is_one = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(log.lines().any(is_one), "{log}");
    }
    until_state(&world, "state.redis_ca_file").await;
    world
        .post("/oauth2/token", Some("demo-service"), FORM)
        .await;
    until_said(&world, 0, &["spans were not taken"]).await;
    assert!(receiver.recorded().is_empty());

    // The files alone are changed; nobody tells the gateway.
    files.put(PARTS[0], world.sim.ca_pem());
    files.put(PARTS[1], ours.pem());
    files.put(PARTS[2], receiver.ca_pem());
    files.put(PARTS[3], receiver.ca_pem());
    until_looked(&world, AUTHORITIES, "ok", 4.0).await;
    assert_eq!(status(&world).await, 200);
    until_state(&world, "\"ok\"").await;
    world
        .post("/oauth2/token", Some("demo-service"), FORM)
        .await;
    until_told(&receiver, "/hooks", &world).await;
    until_told(&receiver, "/v1/traces", &world).await;
    until_said(
        &world,
        0,
        &["the keys of the identity server are known now"],
    )
    .await;

    // What is damaged is refused by file and key, and the old ones stay.
    for part in PARTS {
        let place = world.log().len();
        let refused = looks(&world, AUTHORITIES, "refused").await;
        let good = fs::read_to_string(files.path(part)).expect("a file");
        files.put(
            part,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        until_looked(&world, AUTHORITIES, "refused", refused + 1.0).await;
        let file = at(part);
        let log = until_said(&world, place, &[part, &file, "the old ones stay"]).await;
        assert!(
            log.contains("expected the certificates of the authorities"),
            "{log}"
        );
        files.put(part, &good);
    }
    assert_eq!(status(&world).await, 200);
    until_state(&world, "\"ok\"").await;

    // Whoever is trusted no more is asked no more, though connections to him are there for the taking.
    files.put(PARTS[0], other.pem());
    until_looked(&world, AUTHORITIES, "ok", 5.0).await;
    assert_eq!(status(&world).await, 502);

    // Another file is taken with the rest of the configuration; a damaged one is refused with it.
    let text = fs::read_to_string(world.config_file()).expect("the configuration");
    let renamed = text.replace(&at(PARTS[0]), &at("moved.pem"));
    assert_ne!(text, renamed);
    let place = world.log().len();
    fs::write(world.config_file(), &renamed).expect("a configuration");
    until_said(
        &world,
        place,
        &[
            "upstream.ca_file",
            "moved.pem",
            "the configuration is not taken",
        ],
    )
    .await;
    files.put("moved.pem", world.sim.ca_pem());
    let place = world.log().len();
    world.signal("HUP");
    let log = until_said(&world, place, &["were reloaded"]).await;
    assert!(!log.contains("after a restart alone"), "{log}");
    assert_eq!(status(&world).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_and_no_connection_of_the_old_trust_is_used_again() {
    let other = Authority::new("of others");
    let world = World::start(Options {
        tls: true,
        config: "[upstream]\nidle_timeout_seconds = 3600\n",
        ..Options::default()
    })
    .await;
    let file = world.data_dir().with_file_name("identity-server-ca.pem");
    let mut before = Vec::new();
    let received = exchanged_under_load(&world, async {
        before.extend(world.sim.recorded().iter().map(|it| it.peer));
        fs::write(&file, format!("{}{}", world.sim.ca_pem(), other.pem())).expect("a file");
        reread(&world, AUTHORITIES, "ok").await;
    })
    .await;
    for request in after(&received) {
        let is_old = before.contains(&request.peer);
        assert!(!is_old, "{} was used before", request.peer);
    }
}
