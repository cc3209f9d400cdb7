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
use std::collections::BTreeSet;
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
    until_part(world, "state", word).await;
}

/// The same of another part.
async fn until_part(world: &World, part: &str, word: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, body) = world.admin("/health/ready").await;
        let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        if report["parts"][part].to_string().contains(word) {
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
    let other = Authority::new("of others");
    let (redis, ours) = redis_of(&files);
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

/// A Redis with TLS, its authority, and where its files are.
fn redis_of(files: &Files) -> (RedisServer, Authority) {
    let ours = Authority::new("of redis");
    let issued = ours.server("redis");
    let certificate = files.put("redis.crt", &issued.certificate);
    let key = files.put("redis.key", &issued.key);
    let authority = files.put("redis-ca.pem", ours.pem());
    let redis = RedisServer::start_tls(&certificate, &key, &authority);
    (redis, ours)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_redis_are_made_anew_and_no_login_goes_without_its_history() {
    let files = Files::new();
    let (redis, ours) = redis_of(&files);
    let file = files.put("state-ca.pem", ours.pem());
    // Times that a machine which is busy keeps: what is lost then is lost by the exchange.
    let config = format!(
        "[state]\nurl = '{}'\nredis_ca_file = '{}'\nresponse_timeout_ms = 10000\nconnect_timeout_ms = 10000\n\
         [score]\nbudget_ms = 60000\n",
        redis.url(),
        file.display(),
    );
    let world = World::start(Options {
        tls: true,
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    until_state(&world, "\"ok\"").await;
    let mut before = BTreeSet::new();
    exchanged_under_load(&world, async {
        before.extend(redis.peers());
        let both = format!("{}{}", ours.pem(), Authority::new("of others").pem());
        fs::write(&file, both).expect("a file");
        reread(&world, AUTHORITIES, "ok").await;
        let end = Instant::now() + PATIENCE;
        while redis.peers().is_empty() || !redis.peers().is_disjoint(&before) {
            assert!(Instant::now() < end, "{before:?} {:?}", redis.peers());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!before.is_empty());
    for cause in ["state_timeout", "state_unavailable"] {
        let labels = [("cause", cause)];
        let without = world
            .metric("riskgate_score_fallbacks_total", &labels)
            .await;
        assert!(without < 0.5, "{cause}: {without} {}", world.log());
    }
    until_state(&world, "\"ok\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_the_fleet_and_services_are_trusted_anew() {
    let files = Files::new();
    let other = Authority::new("of others");
    let (redis, ours) = redis_of(&files);
    let service = Sim::start(SimConfig {
        tls: Some(SimTls::SelfSigned),
        ..SimConfig::default()
    })
    .await
    .expect("a service");
    let of_stream = files.put("stream-ca.pem", ours.pem());
    let of_service = files.put("orders-ca.pem", service.ca_pem());
    let secret = files.put("introspection.secret", "riskgate-ops-secret\n");
    let config = format!(
        "[audit.stream]\nenabled = true\nurl = '{}'\nca_file = '{}'\n\
         [[resource]]\nprefix = '/orders'\nupstream = '{}'\naudience = 'https://orders'\nca_file = '{}'\n\
         connect_timeout_ms = 5000\nscopes = ['openid']\n[resource.introspection]\nclient_id = 'riskgate-ops'\n\
         secret_file = '{}'\n",
        redis.url(),
        of_stream.display(),
        service.url,
        of_service.display(),
        secret.display(),
    );
    let world = World::start(Options {
        tls: true,
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    let code = alice.sign_in().await;
    let token = alice.redeem(&code).await.member("access_token");
    let call = async || {
        let request = world.request(reqwest::Method::GET, "/orders/7");
        let request = request.header("authorization", format!("Bearer {token}"));
        world.send(request).await.status
    };
    // Nothing is there, which is the service's own word.
    assert_eq!(call().await, 404);
    until_part(&world, "audit_stream", "\"ok\"").await;
    let before = redis.peers();
    assert!(!before.is_empty());

    // The stream: under both authorities, under the other one, and back.
    let taken = looks(&world, AUTHORITIES, "ok").await;
    fs::write(&of_stream, format!("{}{}", ours.pem(), other.pem())).expect("a file");
    until_looked(&world, AUTHORITIES, "ok", taken + 1.0).await;
    let end = Instant::now() + PATIENCE;
    while redis.peers().is_empty() || !redis.peers().is_disjoint(&before) {
        assert!(Instant::now() < end, "{before:?} {:?}", redis.peers());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fs::write(&of_stream, other.pem()).expect("a file");
    until_looked(&world, AUTHORITIES, "ok", taken + 2.0).await;
    while !redis.peers().is_empty() {
        assert!(Instant::now() < end, "{:?}", redis.peers());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world
        .post("/oauth2/token", Some("demo-service"), FORM)
        .await;
    until_part(&world, "audit_stream", "audit.stream.ca_file").await;
    let refused = looks(&world, AUTHORITIES, "refused").await;
    let place = world.log().len();
    fs::write(&of_stream, "no certificate").expect("a file");
    until_looked(&world, AUTHORITIES, "refused", refused + 1.0).await;
    let words = ["audit.stream.ca_file", "stream-ca.pem", "the old ones stay"];
    until_said(&world, place, &words).await;
    fs::write(&of_stream, ours.pem()).expect("a file");
    until_part(&world, "audit_stream", "\"ok\"").await;

    // The service: what is damaged is refused with the whole configuration, and nobody is asked whom nobody trusts.
    let place = world.log().len();
    fs::write(&of_service, "no certificate").expect("a file");
    let words = ["resource[0].ca_file", "orders-ca.pem", "the old one stays"];
    until_said(&world, place, &words).await;
    assert_eq!(call().await, 404);
    for (authority, expected) in [(other.pem(), 502), (service.ca_pem(), 404)] {
        let place = world.log().len();
        fs::write(&of_service, authority).expect("a file");
        until_said(&world, place, &["were reloaded"]).await;
        assert_eq!(call().await, expected);
    }
}
