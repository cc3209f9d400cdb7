//! The adaptive script in `conf/wso2/` does what its page says. It is JavaScript, so Node runs it.
//!
//! Needs the Node that `scripts/fetch-node.sh` fetches, or one on the PATH; without it this test fails.

use std::path::Path;
use std::process::Command;

#[test]
fn the_shipped_script_follows_the_verdict() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fetched = root.join("vendor/node/bin/node");
    let node = if fetched.is_file() {
        fetched
    } else {
        "node".into()
    };
    let run = Command::new(&node)
        .arg("--test")
        .arg(root.join("tests/wso2/step-up.test.mjs"))
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
        report.contains("pass 14"),
        "expected 14 cases to have run: {report}"
    );
}
