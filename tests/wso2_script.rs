//! The adaptive scripts in `conf/wso2/` do what their page says. They are JavaScript, so Node runs them.
//!
//! Needs the Node that `scripts/fetch-node.sh` fetches, or one on the PATH; without it this test fails.

#![allow(clippy::panic, reason = "a panic is how a test reports a failure")]

use std::path::Path;
use std::process::Command;

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
