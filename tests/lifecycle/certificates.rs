//! Certificates that are exchanged under traffic, that cannot be used, that end; certificates of clients.

use crate::client;
use crate::client::Client;
use crate::client::Failure;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::issuer::Authority;
use crate::issuer::Issued;
use crate::load;
use crate::load::Plan;
use crate::load::alone;
use crate::load::scaled;
use crate::reload::reload;
use crate::reload::replace;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use toml::Table;
use toml::Value;
use wso2_sim::RecordedRequest;

const KEYS: &[u8] = b"GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Requests of one who comes after an exchange.
const AFTER: usize = 20;

/// A world with TLS whose certificate is one of the authority's.
async fn world(first: &Issued, config: &'static str) -> World {
    let world = World::start(Options {
        tls: true,
        config,
        ..Options::default()
    })
    .await;
    put(&world, first);
    reread(&world, "server", "ok").await;
    world
}

/// Puts chain and key where the gateway looks for them, one file after the other.
fn put(world: &World, issued: &Issued) {
    fs::write(file(world, "server.crt"), &issued.certificate).expect("a file");
    fs::write(file(world, "server.key"), &issued.key).expect("a file");
}

fn file(world: &World, name: &str) -> std::path::PathBuf {
    world.data_dir().with_file_name(name)
}

/// How often a look at the files of `listener` has ended so.
pub(crate) async fn looks(world: &World, listener: &str, result: &str) -> f64 {
    let labels = [("listener", listener), ("result", result)];
    let name = "riskgate_certificate_reloads_total";
    world.metric(name, &labels).await
}

/// Waits until it has ended so that often.
pub(crate) async fn until_looked(world: &World, listener: &str, result: &str, wanted: f64) {
    let end = Instant::now() + PATIENCE;
    while looks(world, listener, result).await < wanted {
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends SIGHUP and waits until a look at the files of `listener` has ended so. It may have been one that the gateway took by
/// itself.
pub(crate) async fn reread(world: &World, listener: &str, result: &str) {
    let before = looks(world, listener, result).await;
    world.signal("HUP");
    until_looked(world, listener, result, before + 1.0).await;
}

/// Lets `exchange` happen while connections to the identity server are there for the taking, asks on as one who comes after
/// it, and gives all that the identity server received. No request is lost.
pub(crate) async fn exchanged_under_load(
    world: &World,
    exchange: impl Future<Output = ()>,
) -> Vec<RecordedRequest> {
    let server = fs::read_to_string(file(world, "server.crt"));
    let tls = client::trusting(&server.expect("the certificate of the listener"));
    let load = Plan {
        tls: Some(Arc::clone(&tls)),
        ..Plan::keeping(4, world.port)
    }
    .start();
    load.until(40).await;
    exchange.await;
    let mut fresh = Client::new(world.port, Some(tls));
    for number in 0..AFTER {
        let request =
            format!("GET /oauth2/jwks HTTP/1.1\r\nHost: localhost\r\nx-after: {number}\r\n\r\n");
        let answer = fresh.exchange(request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
    let answered = load.answered();
    load.until(answered + 40).await;
    load.end().await.assert_all_answered(&world.log());
    world.sim.recorded()
}

/// Those of them who came after the exchange.
pub(crate) fn after(received: &[RecordedRequest]) -> Vec<&RecordedRequest> {
    let is_after = |request: &&RecordedRequest| !request.header_values("x-after").is_empty();
    let after: Vec<_> = received.iter().filter(is_after).collect();
    assert_eq!(after.len(), AFTER);
    after
}

/// Waits until the log has every one of these words from `place` on.
pub(crate) async fn until_said(world: &World, place: usize, words: &[&str]) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = world.log().split_off(place);
        if words.iter().all(|word| log.contains(word)) {
            return log;
        }
        assert!(Instant::now() < end, "{words:?}: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a handshake shows this certificate. Every handshake on the way must succeed.
async fn until_shown(world: &World, tls: &Arc<ClientConfig>, wanted: &Issued) {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut fresh = Client::new(world.port, Some(Arc::clone(tls)));
        fresh.connect().await.expect("a handshake");
        if fresh.certificate() == Some(wanted.der.as_slice()) {
            return;
        }
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_under_handshakes() {
    let _alone = alone().await;
    let (handshakes, exchanges) = (scaled(400, 10_000), scaled(12, 100));
    let authority = Authority::new("the authority");
    let first = authority.server("number 0");
    // The connection that lasts is idle for as long as the exchanges take.
    let world = world(&first, "[server]\nkeepalive_seconds = 3600").await;
    let tls = client::trusting(authority.pem());
    let mut lasting = Client::new(world.port, Some(Arc::clone(&tls)));
    assert_eq!(lasting.exchange(KEYS).await.expect("an answer").status, 200);

    let port = world.port;
    let load = Plan {
        clients: 4,
        fresh: true,
        tls: Some(Arc::clone(&tls)),
        nodes: Arc::new(move || port),
        requests: 0,
    }
    .start();
    let mut refused = 0;
    for number in 1..=exchanges {
        load.until(handshakes * number / exchanges).await;
        let next = authority.server(&format!("number {number}"));
        put(&world, &next);
        world.signal("HUP");
        until_shown(&world, &tls, &next).await;
        if number % 4 == 0 {
            // A key of another certificate: what is there stays.
            fs::write(file(&world, "server.key"), &first.key).expect("a file");
            reread(&world, "server", "refused").await;
            refused += 1;
            let mut fresh = Client::new(world.port, Some(Arc::clone(&tls)));
            fresh.connect().await.expect("a handshake");
            assert_eq!(fresh.certificate(), Some(next.der.as_slice()), "{number}");
        }
    }
    load.until(handshakes).await;
    let tally = load.end().await;
    tally.assert_all_answered(&world.log());
    // The connection from before the first exchange has not been touched.
    assert_eq!(lasting.certificate(), Some(first.der.as_slice()));
    assert_eq!(lasting.exchange(KEYS).await.expect("an answer").status, 200);
    assert!(lasting.is_connected());
    let shaken = tally.connections.load(Ordering::Relaxed);
    assert!(shaken >= handshakes, "{shaken}");
    load::row(
        "R23",
        &format!("handshakes over {exchanges} exchanged certificates"),
        shaken,
        refused,
        tally.lost(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_cannot_be_used_is_named_and_the_old_one_stays() {
    let authority = Authority::new("the authority");
    let good = authority.server("good");
    let world = world(&good, "").await;
    let tls = client::trusting(authority.pem());
    let other = authority.server("other");
    let ended = authority.server_until("ended", None);
    let text = |text: &str| text.to_owned();
    for (certificate, key, named, remedy) in [
        (
            good.certificate.clone(),
            other.key.clone(),
            "server.tls.key",
            "both files of one issue",
        ),
        (
            good.certificate.clone(),
            text("no key"),
            "server.tls.key",
            "PKCS #8",
        ),
        (
            text("no certificate"),
            good.key.clone(),
            "server.tls.certificate",
            "leaf first",
        ),
        (
            text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            good.key.clone(),
            "server.tls.certificate",
            "cannot be read",
        ),
        (
            ended.certificate.clone(),
            ended.key.clone(),
            "server.tls.certificate",
            "renewed",
        ),
    ] {
        let before = world.log().len();
        fs::write(file(&world, "server.crt"), certificate).expect("a file");
        fs::write(file(&world, "server.key"), key).expect("a file");
        world.signal("HUP");
        let log = until_said(&world, before, &[named, remedy, "riskgate.toml"]).await;
        assert!(
            log.contains("server.crt") || log.contains("server.key"),
            "{log}"
        );
        assert!(!log.contains("PRIVATE KEY"), "{log}");
        let mut fresh = Client::new(world.port, Some(Arc::clone(&tls)));
        assert_eq!(fresh.exchange(KEYS).await.expect("an answer").status, 200);
        assert_eq!(fresh.certificate(), Some(good.der.as_slice()));
    }
    // What `check` says of the same files.
    let (code, _, errors) = world.command(&["check"]);
    assert!(code == Some(0) || errors.contains("server.tls"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_told() {
    let authority = Authority::new("the authority");
    let day = Duration::from_secs(24 * 3600);
    let world = world(&authority.server("for years"), "").await;
    assert!(
        !world.log().contains("the certificate ends"),
        "{}",
        world.log()
    );
    for (days, said, is_degraded) in [
        (20, "ends within 30 days", false),
        (5, "ends within 7 days", true),
        (1, "ends within a day", true),
    ] {
        let issued = authority.server_until("soon", Some(day * days));
        let before = world.log().len();
        put(&world, &issued);
        world.signal("HUP");
        until_said(&world, before, &[said]).await;
        let ends = world
            .metric(
                "riskgate_certificate_not_after_seconds",
                &[("listener", "server")],
            )
            .await;
        let now = jiff::Timestamp::now().as_second() as f64;
        let left = (ends - now) / day.as_secs_f64();
        assert!(
            left <= f64::from(days) && left > f64::from(days) - 1.1,
            "{left}"
        );
        let (status, body) = world.admin("/health/ready").await;
        assert_eq!(status, 200);
        let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let found = report["parts"]["certificate"]["status"] == "degraded";
        assert_eq!(found, is_degraded, "{body}");
    }
    let (code, output, errors) = world.command(&["check"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        output.contains("warning") && output.contains("ends at"),
        "{output}"
    );
}

/// A client of the gateway with a certificate of its own, or none, and this version of TLS.
fn with_certificate(
    authority: &str,
    own: Option<&Issued>,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate"))
        .expect("a certificate");
    let builder =
        ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![
                CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("a certificate"),
            ];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    })
}

async fn is_let_in(world: &World, tls: Arc<ClientConfig>) -> bool {
    let mut client = Client::new(world.port, Some(tls));
    match client.exchange(KEYS).await {
        Ok(answer) => answer.status == 200,
        // With TLS 1.3 the refusal comes after the client's own last word.
        Err(Failure::Handshake(_) | Failure::Lost(_)) => false,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates_where_they_are_asked() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("clients.pem");
    fs::write(&ca, ours.pem()).expect("a file");
    let server = Authority::new("of the server");
    let (good, bad) = (ours.client("good"), theirs.client("bad"));
    for (kind, without) in [("required", false), ("optional", true)] {
        let config = format!(
            "[server.tls]\nclient_ca_file = '{}'\nclient_certificates = \"{kind}\"\n",
            ca.display()
        );
        let world = world(&server.server("one"), config.leak()).await;
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (own, wanted) in [(Some(&good), true), (None, without), (Some(&bad), false)] {
                let tls = with_certificate(server.pem(), own, version);
                let found = is_let_in(&world, tls).await;
                assert_eq!(found, wanted, "{kind}, {version:?}, {:?}", own.is_some());
            }
        }
        // Another authority takes over while the gateway runs. Who was let in before has a session, and is asked again.
        let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
        let known = versions.map(|version| with_certificate(server.pem(), Some(&good), version));
        for tls in &known {
            assert!(is_let_in(&world, Arc::clone(tls)).await);
        }
        let before = world.log().len();
        fs::write(&ca, theirs.pem()).expect("a file");
        world.signal("HUP");
        until_said(&world, before, &["other client certificates"]).await;
        for tls in known {
            assert!(
                !is_let_in(&world, tls).await,
                "{kind}: a session from before"
            );
        }
        let version = &rustls::version::TLS13;
        for (own, wanted) in [(Some(&good), false), (Some(&bad), true)] {
            let tls = with_certificate(server.pem(), own, version);
            assert_eq!(is_let_in(&world, tls).await, wanted, "{kind}");
        }
        fs::write(&ca, ours.pem()).expect("a file");
    }
}

/// The configuration, with `[server.tls]` asking for client certificates of `ca` in this way, or of nobody.
fn asking(world: &World, asks: Option<(&Path, &str)>) -> String {
    let text = fs::read_to_string(world.config_file()).expect("a configuration");
    let mut config: Table = text.parse().expect("TOML");
    let tls = config["server"]["tls"].as_table_mut().expect("a section");
    tls.retain(|key, _| !key.starts_with("client_"));
    if let Some((ca, kind)) = asks {
        let path = ca.display().to_string();
        tls.insert("client_ca_file".to_owned(), Value::String(path));
        tls.insert("client_certificates".to_owned(), Value::String(kind.into()));
    }
    config.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_asked_in_another_way_while_others_are_served() {
    let _alone = alone().await;
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Authority::new("of the server");
    let world = world(&server.server("one"), "[server]\nkeepalive_seconds = 3600").await;
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("clients.pem");
    fs::write(&ca, ours.pem()).expect("a file");
    let (good, bad) = (ours.client("good"), theirs.client("bad"));
    let version = &rustls::version::TLS13;
    // Who has a good certificate is served at every moment, on connections of all ages.
    let known = with_certificate(server.pem(), Some(&good), version);
    let port = world.port;
    let load = |fresh: bool| {
        let plan = Plan {
            clients: 2,
            fresh,
            tls: Some(Arc::clone(&known)),
            nodes: Arc::new(move || port),
            requests: 0,
        };
        plan.start()
    };
    let (lasting, fresh) = (load(false), load(true));
    // And who had none when nobody was asked stays until he goes.
    let mut early = Client::new(port, Some(client::trusting(server.pem())));
    assert_eq!(early.exchange(KEYS).await.expect("an answer").status, 200);
    // This one goes, with a session that would bring him back.
    let unasked = with_certificate(server.pem(), None, version);
    assert!(is_let_in(&world, Arc::clone(&unasked)).await);

    let mut answers = 0;
    for (asks, without, other) in [
        (Some((ca.as_path(), "required")), false, false),
        (Some((ca.as_path(), "optional")), true, false),
        (None, true, true),
        (Some((ca.as_path(), "required")), false, false),
    ] {
        let before = world.log().len();
        replace(&world.config_file(), &asking(&world, asks));
        reload(&world, "ok").await;
        until_said(&world, before, &["other client certificates"]).await;
        let session = is_let_in(&world, Arc::clone(&unasked)).await;
        assert_eq!(session, without, "{asks:?}: a session from before");
        for (own, wanted) in [(Some(&good), true), (None, without), (Some(&bad), other)] {
            let tls = with_certificate(server.pem(), own, version);
            let found = is_let_in(&world, tls).await;
            assert_eq!(found, wanted, "{asks:?}, {:?}", own.is_some());
        }
        assert_eq!(early.exchange(KEYS).await.expect("an answer").status, 200);
        answers += scaled(40, 1_000);
        lasting.until(answers).await;
        fresh.until(answers).await;
    }
    // What cannot be used changes nothing, and says what to do.
    let before = world.log().len();
    fs::write(&ca, "no authority").expect("a file");
    world.signal("HUP");
    let said = [
        "clients.pem",
        "server.tls.client_ca_file",
        "holds no certificate",
    ];
    until_said(&world, before, &said).await;
    let gone = folder.path().join("gone.pem");
    let before = world.log().len();
    replace(
        &world.config_file(),
        &asking(&world, Some((&gone, "optional"))),
    );
    reload(&world, "refused").await;
    let said = ["gone.pem", "server.tls.client_ca_file", "the old one stays"];
    until_said(&world, before, &said).await;
    for (own, wanted) in [(Some(&good), true), (None, false), (Some(&bad), false)] {
        let tls = with_certificate(server.pem(), own, version);
        assert_eq!(is_let_in(&world, tls).await, wanted, "{:?}", own.is_some());
    }
    assert_eq!(early.exchange(KEYS).await.expect("an answer").status, 200);
    assert!(early.is_connected());
    for load in [lasting, fresh] {
        load.end().await.assert_all_answered(&world.log());
    }
    assert!(!world.log().contains("after a restart"), "{}", world.log());
}
