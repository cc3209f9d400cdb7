//! What a newcomer gets wrong about TLS is told by its cause: `check --reach` says it, and the log of a gateway that starts.

use crate::gateway::redis::RedisServer;
use crate::setup::Setup;
use crate::traffic::alone_without_runtime;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How long a line of the log may take to come.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// Waits until a gateway that runs says something with `part` in it, and ends it.
fn until_said(mut child: Child, part: &str) {
    let output = child.stderr.take().expect("a pipe");
    let (sender, lines) = mpsc::channel();
    let reading = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + SAID_WITHIN;
    let mut said = Vec::new();
    let is_said = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let is_it = line.contains(part);
                said.push(line);
                if is_it {
                    break true;
                }
            }
            Err(_) => break false,
        }
    };
    child.kill().expect("the process can be ended");
    child.wait().expect("the process ends");
    drop(lines);
    reading.join().expect("the reader ends");
    assert!(is_said, "`{part}` is not in: {}", said.join("\n"));
}

#[test]
fn a_redis_without_tls_is_told_from_one_that_does_not_answer() {
    let _alone = alone_without_runtime();
    let redis = RedisServer::start();
    let plain = redis.url();
    let tls = plain.replace("redis://", "rediss://");
    let part = "speaks no TLS: expected redis:// in place of rediss://";
    let stream = format!("audit.stream.enabled = true\naudit.stream.url = '{tls}'");
    for (changes, key) in [
        (format!("state.url = '{tls}'"), "state.url"),
        (stream, "audit.stream.url"),
    ] {
        let setup = Setup::with(&changes);
        let ending = setup.check(&["--reach"]);
        ending.assert_says(&[&setup.file(), key, part]);
        // The identity server of this test is not there; Redis is told of beside it.
        assert!(!ending.text.contains("timed out"), "{}", ending.text);
    }
    // Also by its own word at the start, where the gateway goes on without.
    let setup = Setup::with(&format!("state.url = '{tls}'"));
    until_said(setup.start(&["run"]), part);
}

#[test]
fn a_redis_with_tls_leads_to_its_url_and_to_its_authority() {
    let _alone = alone_without_runtime();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (
        folder.path().join("redis.crt"),
        folder.path().join("redis.key"),
    );
    fs::write(&certificate, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let redis = RedisServer::start_tls(&certificate, &key, &certificate);
    let tls = redis.url();
    let plain = tls.replace("rediss://", "redis://");
    for (url, part) in [
        (
            &plain,
            "if it speaks TLS, it needs rediss:// or `tls=true` in state.url",
        ),
        (
            &tls,
            "name the authority that issued its certificate in state.redis_ca_file",
        ),
    ] {
        let setup = Setup::with(&format!(
            "state.url = '{url}'\nstate.connect_timeout_ms = 5000"
        ));
        setup
            .check(&["--reach"])
            .assert_says(&[&setup.file(), "state.url", part]);
    }
    let known = format!(
        "state.url = '{tls}'\nstate.redis_ca_file = '{}'",
        certificate.display()
    );
    let ending = Setup::with(&known).check(&["--reach"]);
    assert!(!ending.text.contains("state.url"), "{}", ending.text);
}
