//! The scripts in `conf/wso2/` do what their page says. Those for WSO2 are JavaScript, so Node runs them; the one that
//! registers actions is for a shell with curl.
//!
//! Needs the Node that `scripts/fetch-node.sh` fetches, or one on the PATH, and curl; without them this test fails.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

use serde_json::Value;
use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

#[test]
fn the_script_that_reads_headers_follows_the_verdict() {
    run("step-up.test.mjs", 14);
}

#[test]
fn the_script_that_asks_follows_the_answer() {
    run("ask.test.mjs", 10);
}

fn run(file: &str, cases: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fetched = root.join("vendor/node/bin/node");
    let node = if fetched.is_file() {
        fetched
    } else {
        "node".into()
    };
    let run = Command::new(&node)
        .arg("--test")
        .arg(root.join("tests/wso2").join(file))
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "`{}` cannot be run: {error}; run `scripts/fetch-node.sh`",
                node.display()
            )
        });
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    let report = String::from_utf8_lossy(&run.stdout);
    assert!(
        report.contains(&format!("pass {cases}\n")),
        "expected {cases} cases to have run: {report}"
    );
}

/// One request: its line, its Authorization header, its body.
type Received = (String, String, Value);

/// The management API, as far as the script uses it.
fn management_api() -> (String, mpsc::Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &sender);
        }
    });
    (url, received)
}

fn answer(stream: TcpStream, sender: &mpsc::Sender<Received>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut authorization, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    sender
        .send((first.trim_end().to_owned(), authorization, body))
        .unwrap();
    let id = r#"{"type":"X","id":"24f64d17-9824-4e28-8413-de45728d8e84","name":"riskgate"}"#;
    let head = format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{id}",
        id.len()
    );
    reader.get_mut().write_all(head.as_bytes()).unwrap();
}

#[test]
fn the_actions_are_registered_and_activated() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, token) = (folder.path().join("secret"), folder.path().join("token"));
    std::fs::write(&secret, "a-secret-of-thirty-two-letters-or-more\n").unwrap();
    std::fs::write(&token, "a-token\n").unwrap();
    let (url, received) = management_api();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/wso2/register-actions.sh");
    let run = |names: &[&str]| {
        Command::new("sh")
            .arg(&script)
            .args(names)
            .env("WSO2", &url)
            .env("RISKGATE", "https://riskgate.internal:9091")
            .env("SECRET_FILE", &secret)
            .env("TOKEN_FILE", &token)
            .output()
            .unwrap()
    };
    let done = run(&[]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(
        text(&done.stdout).matches("registered and active").count(),
        3
    );
    for (kind, path) in [
        ("preIssueAccessToken", "pre-issue-access-token"),
        ("preIssueIdToken", "pre-issue-id-token"),
        ("preUpdatePassword", "pre-update-password"),
    ] {
        let (line, authorization, body) = received.recv().unwrap();
        assert_eq!(line, format!("POST /api/server/v1/actions/{kind} HTTP/1.1"));
        assert_eq!(authorization, "Bearer a-token");
        let endpoint = &body["endpoint"];
        assert_eq!(
            endpoint["uri"],
            format!("https://riskgate.internal:9091/actions/{path}")
        );
        assert_eq!(
            endpoint["authentication"],
            json!({ "type": "BEARER", "properties": { "accessToken": "a-secret-of-thirty-two-letters-or-more" } })
        );
        if kind == "preUpdatePassword" {
            assert_eq!(
                body["attributes"],
                json!(["http://wso2.org/claims/username"])
            );
            assert_eq!(body["passwordSharing"]["format"], "SHA256_HASHED");
        } else {
            assert_eq!(endpoint["allowedHeaders"], json!(["x-risk-decision-id"]));
        }
        let (line, ..) = received.recv().unwrap();
        let id = "24f64d17-9824-4e28-8413-de45728d8e84";
        assert_eq!(
            line,
            format!("POST /api/server/v1/actions/{kind}/{id}/activate HTTP/1.1")
        );
    }
    let wrong = run(&["preIssueEverything"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("expected preIssueAccessToken"));
}
