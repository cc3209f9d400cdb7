//! `riskgate certs`: what it makes starts a gateway over TLS, is trusted by who is told to, and lets nobody in without the
//! client certificate; nothing that is there is replaced by accident.

use crate::gateway::Options;
use crate::gateway::World;
use reqwest::Certificate;
use reqwest::Identity;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use wso2_sim::ClientCertificates;
use wso2_sim::SimConfig;

/// Everything that is made.
const FILES: [&str; 7] = [
    "dev-actions.crt",
    "dev-actions.key",
    "dev-ca.crt",
    "dev-client.crt",
    "dev-client.key",
    "dev-server.crt",
    "dev-server.key",
];

/// Runs the command in a folder: exit code, output, errors.
fn certs(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .arg("certs")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        !format!("{stdout}{stderr}").contains("PRIVATE KEY"),
        "a key is printed"
    );
    (output.status.code(), stdout, stderr)
}

/// The files of a folder with what is in them.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("a file")
}

/// A client that trusts the made authority alone, with the made certificate or none.
fn client(folder: &Path, is_known: bool) -> reqwest::Client {
    let authority = Certificate::from_pem(read(folder, "dev-ca.crt").as_bytes());
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority.expect("a certificate")]);
    if is_known {
        let pair = read(folder, "dev-client.key") + &read(folder, "dev-client.crt");
        client = client.identity(Identity::from_pem(pair.as_bytes()).expect("a pair"));
    }
    client.build().expect("a client")
}

/// The part of the output that goes into the configuration, with the lines that ask clients for a certificate.
fn printed(output: &str) -> String {
    let (_, rest) = output.split_once("[server.tls]").expect("a section");
    let (section, _) = rest.split_once("\n\n").expect("its end");
    let section = format!("[server.tls]{section}\n");
    let all: String = section
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        // What is a sentence ends in a colon.
        .filter(|line| !line.ends_with(':'))
        .map(|line| format!("{line}\n"))
        .collect();
    let all: toml::Table = all.parse().expect("all of it is TOML");
    assert!(all["actions"]["tls"]["client_ca_file"].is_str(), "{all}");
    assert!(all["upstream"]["client_key"].is_str(), "{all}");
    let wanted = section.replacen("# client_ca_file", "client_ca_file", 1);
    wanted.parse::<toml::Table>().expect("TOML");
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_serves_who_trusts_it_and_shows_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a folder");
    let (code, output, errors) = certs(folder.path(), &["--out", out.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(contents(&out).into_keys().collect::<Vec<_>>(), FILES);
    for name in FILES {
        let mode = fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
        let wanted = if name.ends_with(".key") { 0o600 } else { 0o644 };
        assert_eq!(mode, wanted, "{name}: {mode:o}");
    }
    let world = World::start(Options {
        config: printed(&output).leak(),
        ..Options::default()
    })
    .await;
    let (code, said, errors) = world.command(&["check"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("dev-server.crt, until "), "{said}");
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/oauth2/jwks", world.port);
        let asked = client(&out, true).get(&url).send().await;
        let answer = asked.expect("an answer to who shows the certificate");
        assert_eq!(answer.status(), 200);
        client(&out, false)
            .get(&url)
            .send()
            .await
            .expect_err("no answer to who shows none");
    }
    // Under an authority of the same kind, but another one, it is a stranger's.
    let elsewhere = folder.path().join("elsewhere");
    let (code, ..) = certs(folder.path(), &["--out", elsewhere.to_str().unwrap()]);
    assert_eq!(code, Some(0));
    let url = format!("https://localhost:{}/oauth2/jwks", world.port);
    client(&elsewhere, true)
        .get(&url)
        .send()
        .await
        .expect_err("another authority is not trusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_certificate_serves_towards_wso2_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = certs(folder.path(), &[]);
    assert_eq!(code, Some(0), "{errors}");
    let out = folder.path().join("certs");
    let config = format!(
        "[upstream]\nclient_certificate = '{0}/dev-client.crt'\nclient_key = '{0}/dev-client.key'\n",
        out.display()
    );
    let sim = SimConfig {
        client_certificates: Some(ClientCertificates {
            ca_pem: read(&out, "dev-ca.crt"),
            is_tls12: false,
        }),
        ..SimConfig::default()
    };
    let world = World::start(Options {
        tls: true,
        sim,
        config: config.leak(),
        ..Options::default()
    })
    .await;
    assert_eq!(world.get("/oauth2/jwks").await.status, 200);
}

#[test]
fn nothing_that_is_there_is_replaced_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("certs");
    fs::create_dir(&out).unwrap();
    // One file is enough, whatever it is.
    fs::write(out.join("dev-client.key"), "mine").unwrap();
    fs::write(out.join("server.key"), "of production").unwrap();
    let (code, _, errors) = certs(folder.path(), &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains("certs/dev-client.key") && errors.contains("--force"),
        "{errors}"
    );
    assert_eq!(contents(&out).len(), 2, "nothing was written");
    let (code, _, errors) = certs(folder.path(), &["--force"]);
    assert_eq!(code, Some(0), "{errors}");
    let first = contents(&out);
    assert_eq!(first.len(), FILES.len() + 1);
    let mode = fs::metadata(out.join("dev-client.key")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let (code, _, errors) = certs(folder.path(), &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(FILES.iter().all(|name| errors.contains(name)), "{errors}");
    assert_eq!(contents(&out), first);
    let (code, _, errors) = certs(folder.path(), &["--force"]);
    assert_eq!(code, Some(0), "{errors}");
    let second = contents(&out);
    for name in FILES {
        assert_ne!(first[name], second[name], "{name}");
    }
    assert_eq!(second["server.key"], b"of production");
}

#[test]
fn names_and_days_are_as_asked_and_what_is_none_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = [
        "--name",
        "gateway.test",
        "--name",
        "192.0.2.7",
        "--days",
        "7",
    ];
    let (code, output, errors) = certs(folder.path(), &wanted);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        output.contains("for gateway.test, 192.0.2.7, good for 7 days"),
        "{output}"
    );
    assert!(output.contains("https://gateway.test:"), "{output}");
    assert!(output.contains("--cacert certs/dev-ca.crt"), "{output}");
    let many: Vec<String> = (0..51)
        .map(|number| format!("--name=n{number}.test"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (arguments, expected) in [
        (
            vec!["--name", "https://gateway.test"],
            "without scheme and port",
        ),
        (
            vec!["--name", "gateway.test:8443"],
            "without scheme and port",
        ),
        (vec!["--name", ""], "expected a host name"),
        (many, "51 names, expected 1 to 50"),
        (vec!["--days", "0"], "1..=365"),
        (vec!["--days", "366"], "1..=365"),
    ] {
        let elsewhere = [arguments.as_slice(), &["--out", "elsewhere"]].concat();
        let (code, _, errors) = certs(folder.path(), &elsewhere);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert!(!folder.path().join("elsewhere").exists());
    }
    // A file where the folder should be.
    let (code, _, errors) = certs(folder.path(), &["--out", "certs/dev-ca.crt"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("certs/dev-ca.crt"), "{errors}");
    let (code, output, _) = certs(folder.path(), &["--help"]);
    assert_eq!(code, Some(0));
    for taught in [
        "--name",
        "--days",
        "--out",
        "--force",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(output.contains(taught), "{output}");
    }
}
