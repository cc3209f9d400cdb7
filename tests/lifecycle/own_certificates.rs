//! The certificate that the gateway shows to upstreams that ask for one: on every way there, exchanged under traffic,
//! refused when it cannot be used, watched for its end.

use crate::certificates::after;
use crate::certificates::exchanged_under_load;
use crate::certificates::reread;
use crate::certificates::until_said;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::rules;
use crate::issuer::Authority;
use crate::issuer::Issued;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use wso2_sim::ClientCertificates;
use wso2_sim::RecordedRequest;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::SimTls;

const KEYS: &str = "/oauth2/jwks";

/// A pair on the disk.
struct Own {
    folder: TempDir,
}

impl Own {
    fn new(issued: &Issued) -> Self {
        let own = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        own.put(issued);
        own
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("own.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("own.key")
    }

    fn put(&self, issued: &Issued) {
        fs::write(self.certificate(), &issued.certificate).expect("a file");
        fs::write(self.key(), &issued.key).expect("a file");
        mode(&self.key(), 0o600);
    }

    /// The two keys of a section.
    fn keys(&self) -> String {
        let (certificate, key) = (self.certificate(), self.key());
        format!(
            "client_certificate = '{}'\nclient_key = '{}'\n",
            certificate.display(),
            key.display()
        )
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of ours");
}

/// An identity server, or a service, that demands certificates of this authority.
fn demanding(authority: &Authority, is_tls12: bool) -> SimConfig {
    SimConfig {
        tls: Some(SimTls::SelfSigned),
        client_certificates: Some(ClientCertificates {
            ca_pem: authority.pem().to_owned(),
            is_tls12,
        }),
        ..SimConfig::default()
    }
}

async fn world(sim: SimConfig, config: String) -> World {
    World::start(Options {
        tls: true,
        sim,
        // Options are kept for the whole of the run.
        config: config.leak(),
        ..Options::default()
    })
    .await
}

/// Asked of the gateway without a place in its records: what fails before the upstream is asked may have none.
pub(crate) async fn status(world: &World) -> u16 {
    let request = world.request(reqwest::Method::GET, KEYS);
    world.send(request).await.status
}

fn shown(request: &RecordedRequest) -> Option<&[u8]> {
    request.client_certificate.as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_wso2_shows_the_certificate() {
    let authority = Authority::new("of gateways");
    for is_tls12 in [false, true] {
        let issued = authority.client("riskgate");
        let own = Own::new(&issued);
        // A factor is owed, so that the answer with the tokens is held until it is proved: fetched by the gateway itself.
        let world = World::start(Options {
            mode: "enforce",
            policy: Some(rules(&[("request.door == \"authorize\"", "step_up")])),
            tls: true,
            sim: demanding(&authority, is_tls12),
            config: format!("[upstream]\n{}", own.keys()).leak(),
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        let tokens = alice.redeem(&code).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
        let record = world.last_record_of("token").await;
        assert!(record.proof.is_some(), "{record:#?}");
        // The gateway's own look at the keys, at its start, is made by another client.
        let end = Instant::now() + PATIENCE;
        let is_ours =
            |request: &RecordedRequest| request.header_values("user-agent") == ["riskgate"];
        while !world.sim.recorded().iter().any(is_ours) {
            assert!(Instant::now() < end, "{}", world.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let received = world.sim.recorded();
        assert!(
            received
                .iter()
                .any(|request| is_ours(request) && request.path() == KEYS)
        );
        assert!(
            received
                .iter()
                .any(|request| request.path() == "/oauth2/token")
        );
        for request in &received {
            assert_eq!(
                shown(request),
                Some(issued.der.as_slice()),
                "{}",
                request.path()
            );
        }
        let (code, output, errors) = world.command(&["check", "--reach"]);
        assert_eq!(code, Some(0), "{errors}");
        assert!(output.contains("client certificate: "), "{output}");
        assert!(!world.log().contains("PRIVATE KEY"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_one_it_is_502_and_the_log_says_why() {
    let (authority, other) = (Authority::new("of gateways"), Authority::new("of others"));
    let own = Own::new(&other.client("riskgate"));
    for is_tls12 in [false, true] {
        for (config, remedy) in [
            (
                String::new(),
                "set upstream.client_certificate and upstream.client_key",
            ),
            (
                format!("[upstream]\n{}", own.keys()),
                "does it know the authority of that certificate?",
            ),
        ] {
            let world = world(demanding(&authority, is_tls12), config).await;
            assert_eq!(status(&world).await, 502);
            let log = until_said(&world, 0, &["an upstream refused the connection"]).await;
            assert!(log.contains("it asks for a client certificate"), "{log}");
            let kind = [("kind", "tls")];
            assert!(world.metric("riskgate_upstream_errors_total", &kind).await >= 1.0);
            assert!(world.sim.recorded().is_empty());
            let (code, _, errors) = world.command(&["check", "--reach"]);
            assert_eq!(code, Some(2), "{errors}");
            assert!(
                errors.contains("upstream.url") && errors.contains(remedy),
                "{errors}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pair_is_shown_without_a_drop_and_on_connections_of_its_own() {
    let authority = Authority::new("of gateways");
    // Two authorities may give the same number; this one does.
    let first = authority.client_numbered("first", 7);
    let second = authority.client_numbered("second", 7);
    let own = Own::new(&first);
    let world = world(
        demanding(&authority, false),
        format!("[upstream]\nidle_timeout_seconds = 3600\n{}", own.keys()),
    )
    .await;
    let received = exchanged_under_load(&world, async {
        own.put(&second);
        reread(&world, "upstream", "ok").await;
    })
    .await;
    // Whoever began after it was shown the second one, though connections of the first were there for the taking.
    for request in after(&received) {
        assert_eq!(shown(request), Some(second.der.as_slice()));
    }
    assert!(
        received
            .iter()
            .any(|request| shown(request) == Some(first.der.as_slice()))
    );
    // A connection belongs to the certificate with which it was made, for all its life.
    for request in &received {
        let same = received.iter().filter(|other| other.peer == request.peer);
        assert!(
            same.clone().all(|other| shown(other) == shown(request)),
            "{}",
            request.peer
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_cannot_be_shown_is_named_and_the_old_one_stays() {
    let authority = Authority::new("of gateways");
    let good = authority.client("good");
    let own = Own::new(&good);
    let config = format!("[upstream]\n{}", own.keys());
    let world = world(demanding(&authority, false), config).await;
    let (other, ended) = (
        authority.client("other"),
        authority.client_until("ended", None),
    );
    let text = |text: &str| text.to_owned();
    for (certificate, key, bits, named, remedy) in [
        (
            &good.certificate,
            other.key.clone(),
            0o600,
            "upstream.client_key",
            "both files of one issue",
        ),
        (
            &good.certificate,
            text("no key"),
            0o600,
            "upstream.client_key",
            "PKCS #8",
        ),
        (
            &text("no certificate"),
            good.key.clone(),
            0o600,
            "upstream.client_certificate",
            "leaf first",
        ),
        (
            &ended.certificate,
            ended.key.clone(),
            0o600,
            "upstream.client_certificate",
            "renewed",
        ),
        (
            &other.certificate,
            other.key.clone(),
            0o644,
            "upstream.client_key",
            "chmod 600",
        ),
    ] {
        let place = world.log().len();
        fs::write(own.certificate(), certificate).expect("a file");
        fs::write(own.key(), key).expect("a file");
        mode(&own.key(), bits);
        reread(&world, "upstream", "refused").await;
        let log = until_said(&world, place, &[named, remedy, "the old one stays"]).await;
        assert!(log.contains("own.crt") || log.contains("own.key"), "{log}");
        assert!(!log.contains("PRIVATE KEY"), "{log}");
        world.sim.clear_recorded();
        assert_eq!(status(&world).await, 200);
        let received = world.sim.recorded();
        assert!(
            received
                .iter()
                .all(|request| shown(request) == Some(good.der.as_slice()))
        );
        let (code, _, errors) = world.command(&["check"]);
        let is_wrong = named != "upstream.client_certificate" || remedy != "renewed";
        assert_eq!(code, Some(if is_wrong { 2 } else { 0 }), "{errors}");
        assert!(!is_wrong || errors.contains(named), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_end_is_told_as_that_of_any_certificate() {
    let authority = Authority::new("of gateways");
    let own = Own::new(&authority.client("for years"));
    let config = format!("[upstream]\n{}", own.keys());
    let world = world(demanding(&authority, false), config).await;
    let health = async || {
        let (_, body) = world.admin("/health/ready").await;
        let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        report["parts"]["certificate"].clone()
    };
    assert_eq!(health().await["status"], "ok");
    let day = Duration::from_secs(24 * 3600);
    own.put(&authority.client_until("soon", Some(day * 5)));
    let place = world.log().len();
    reread(&world, "upstream", "ok").await;
    until_said(
        &world,
        place,
        &["the client certificate of `upstream` ends within 7 days"],
    )
    .await;
    let labels = [("listener", "upstream")];
    let ends = world
        .metric("riskgate_certificate_not_after_seconds", &labels)
        .await;
    let left = (ends - jiff::Timestamp::now().as_second() as f64) / day.as_secs_f64();
    assert!(left <= 5.0 && left > 3.9, "{left}");
    let report = health().await;
    assert_eq!(report["status"], "degraded");
    assert!(
        report
            .to_string()
            .contains("client certificate of `upstream`"),
        "{report}"
    );
    let (code, output, errors) = world.command(&["check"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        output.contains("the client certificate in") && output.contains("ends at"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_shown_one_of_their_own_and_introspection_that_of_wso2() {
    let (ours, theirs) = (Authority::new("for WSO2"), Authority::new("for orders"));
    let service = Sim::start(demanding(&theirs, false))
        .await
        .expect("a service");
    let (for_wso2, first, second) = (
        ours.client("to wso2"),
        theirs.client("to orders"),
        theirs.client("to orders again"),
    );
    let (to_wso2, to_orders) = (Own::new(&for_wso2), Own::new(&first));
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, secret) = (
        folder.path().join("orders-ca.pem"),
        folder.path().join("introspection.secret"),
    );
    fs::write(&ca, service.ca_pem()).expect("a file");
    fs::write(&secret, "riskgate-ops-secret\n").expect("a file");
    let config = format!(
        "[upstream]\n{}[[resource]]\nprefix = '/orders'\nupstream = '{}'\naudience = 'https://orders'\nca_file = '{}'\n\
         connect_timeout_ms = 5000\nscopes = ['openid']\n{}[resource.introspection]\nclient_id = 'riskgate-ops'\n\
         secret_file = '{}'\n",
        to_wso2.keys(),
        service.url,
        ca.display(),
        to_orders.keys(),
        secret.display(),
    );
    let world = world(demanding(&ours, false), config).await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    let code = alice.sign_in().await;
    let token = alice.redeem(&code).await.member("access_token");
    let call = async || {
        let request = world.request(reqwest::Method::GET, "/orders/7");
        let request = request.header("authorization", format!("Bearer {token}"));
        let answer = world.send(request).await;
        // Nothing is there, which is the service's own word.
        assert_eq!(answer.status, 404, "{answer:?}");
        let asked = service.recorded().pop().expect("the service was asked");
        assert!(asked.target.starts_with("/orders/7"), "{asked:?}");
        asked.client_certificate.expect("a certificate").to_vec()
    };
    assert_eq!(call().await, first.der);
    let asked = world.sim.recorded();
    let asked = asked
        .iter()
        .rfind(|request| request.path() == "/oauth2/introspect");
    assert_eq!(
        shown(asked.expect("WSO2 was asked")),
        Some(for_wso2.der.as_slice())
    );

    // A key of another issue stays out, whatever else is reloaded.
    fs::write(to_orders.key(), &second.key).expect("a file");
    let place = world.log().len();
    reread(&world, "resource", "refused").await;
    until_said(&world, place, &["resource[0].client_key", "were reloaded"]).await;
    assert_eq!(call().await, first.der);
    to_orders.put(&second);
    let renewed = ours.client("to wso2 again");
    to_wso2.put(&renewed);
    reread(&world, "resource", "ok").await;
    assert_eq!(call().await, second.der);
    let asked = world.sim.recorded();
    let asked = asked
        .iter()
        .rfind(|request| request.path() == "/oauth2/introspect");
    assert_eq!(
        shown(asked.expect("WSO2 was asked")),
        Some(renewed.der.as_slice())
    );
    let labels = [("listener", "resource")];
    let ends = world
        .metric("riskgate_certificate_not_after_seconds", &labels)
        .await;
    assert!(ends > 0.0);
}
