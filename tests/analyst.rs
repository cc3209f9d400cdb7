//! `riskgate explain`, `replay` and `check` on records that the demo left behind (`tests/data/records`), as an analyst runs
//! them. The texts of the golden files are what the program prints, to the letter; those of the page are tried by
//! `tests/examples`.
//!
//! After a change of the texts: `BLESS=1 cargo test --test analyst golden` writes the golden files again.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports a failure"
)]

use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const RECORDS: &str = "tests/data/records/demo.jsonl";
const MODEL: &str = "tests/data/records/model";
const POLICY: &str = "tests/data/records/policy.toml";

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the program in the repository, without a secret that may be about.
fn run(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .args(arguments)
        .current_dir(root())
        .env_remove("RISKGATE_SECRET")
        .env_remove("RISKGATE_SECRET_FILE")
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn explain(id: &str, more: &[&str]) -> Said {
    let mut arguments = vec!["explain", id, "--policy", POLICY];
    if !more.contains(&"--audit") {
        arguments.extend(["--audit", RECORDS]);
    }
    if !more.contains(&"--model") {
        arguments.extend(["--model", MODEL]);
    }
    arguments.extend(more);
    run(&arguments)
}

fn records() -> Vec<AuditEvent> {
    let text = std::fs::read_to_string(root().join(RECORDS)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The first record that fits.
fn first(fits: impl Fn(&AuditEvent) -> bool) -> AuditEvent {
    records()
        .into_iter()
        .find(|event| fits(event))
        .expect("such a record")
}

#[test]
fn golden_explanations() {
    let folder = root().join("tests/data/records/explained");
    let mut seen = 0;
    for name in [
        "allow",
        "step_up",
        "block",
        "unscored",
        "stateless",
        "token",
    ] {
        let file = folder.join(format!("{name}.txt"));
        let golden = std::fs::read_to_string(&file).unwrap();
        let id = golden
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("Decision "));
        let said = explain(id.expect("a decision"), &[]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &said.out).unwrap();
        } else {
            assert_eq!(said.out, golden, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn every_scored_record_comes_out_the_same_to_the_last_bit() {
    let mut computed = 0;
    for event in records() {
        if event.verdict.is_none() {
            continue;
        }
        let said = explain(&event.id, &["--json"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let json: Value = serde_json::from_str(&said.out).unwrap();
        let result = json["recomputed"]["result"].as_str().unwrap();
        let expected = if event.contributions.is_empty() {
            "impossible"
        } else {
            computed += 1;
            "same"
        };
        assert_eq!(result, expected, "{}", event.id);
        assert_eq!(json["policy"]["policy"], "same");
        assert_eq!(json["policy"]["agrees"], true, "{}", event.id);
    }
    assert!(computed >= 10, "{computed}");
}

#[test]
fn what_is_not_there_is_named() {
    let unknown = explain("00000000-0000-7000-8000-000000000000", &[]);
    assert_eq!(unknown.code, Some(3));
    assert!(
        unknown.err.contains("no record has the id"),
        "{}",
        unknown.err
    );
    let id = first(|event| !event.contributions.is_empty()).id;
    let missing = explain(&id, &["--audit", "tests/data/records/none.jsonl"]);
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.err.contains("none.jsonl: cannot be read"),
        "{}",
        missing.err
    );
    let other = explain(&id, &["--model", "tests/data/models/starter"]);
    assert_eq!(other.code, Some(0));
    assert!(
        other.out.contains("is not at hand") && other.out.contains("starter/"),
        "{}",
        other.out
    );
    let language = explain(&id, &["--lang", "tlh"]);
    assert_eq!(language.code, Some(2));
    assert!(language.err.contains("expected en"), "{}", language.err);
}

#[test]
fn a_record_that_was_changed_does_not_come_out_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut event = first(|event| !event.contributions.is_empty());
    event.probability = event.probability.map(|probability| probability / 2.0);
    let file = folder.path().join("audit.jsonl");
    // A broken line before it does not keep it from being found.
    let line = serde_json::to_string(&event).unwrap();
    std::fs::write(&file, format!("{{broken\n{line}\n")).unwrap();
    let said = explain(&event.id, &["--audit", file.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(
        said.out.contains("THE SCORE COMES OUT DIFFERENT"),
        "{}",
        said.out
    );
}

#[test]
fn two_decisions_stand_side_by_side() {
    let one = first(|event| {
        event.verdict.as_deref() == Some("allow")
            && event.kind.as_deref() == Some("login")
            && !event.contributions.is_empty()
    });
    let other = first(|event| {
        event.verdict.as_deref() == Some("block")
            && event.kind.as_deref() == Some("login")
            && !event.contributions.is_empty()
    });
    let said = explain(&one.id, &["--compare", &other.id]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(
        said.out.contains(&one.id) && said.out.contains(&other.id),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("What differs in the score"),
        "{}",
        said.out
    );
    let json: Value =
        serde_json::from_str(&explain(&one.id, &["--compare", &other.id, "--json"]).out).unwrap();
    assert!(json["differences"].as_array().unwrap().len() > 3);
}

#[test]
fn the_demos_traffic_comes_out_the_same_and_a_stricter_policy_differs_as_it_must() {
    let same = run(&["replay", "--policy", POLICY, "--json", "-", RECORDS]);
    assert_eq!(same.code, Some(0), "{}", same.err);
    let same: Value = serde_json::from_str(&same.out).unwrap();
    let decided = records()
        .iter()
        .filter(|event| event.matched.is_some())
        .count();
    assert_eq!(same["replayed"], decided);
    assert_eq!(same["same"], decided);
    assert_eq!(
        (
            &same["not_reproduced"],
            &same["all"]["stricter"],
            &same["all"]["milder"]
        ),
        (&Value::from(0), &Value::from(0), &Value::from(0))
    );

    // By the very model the scores are the same as well; here the one for logins alone.
    let model = format!("{MODEL}/risk-login-1.0.0.onnx");
    let arguments = [
        "replay", "--policy", POLICY, "--model", &model, "--json", "-", RECORDS,
    ];
    let model: Value = serde_json::from_str(&run(&arguments).out).unwrap();
    let scored = |event: &&AuditEvent| {
        let is_login = event.kind.as_deref() == Some("login");
        let has_row = !event.contributions.is_empty();
        event.matched.is_some() && (event.score.is_none() || (is_login && has_row))
    };
    assert_eq!(model["replayed"], records().iter().filter(scored).count());
    assert_eq!(model["all"]["stricter"], 0, "{model:#}");
    assert_eq!(model["all"]["milder"], 0);

    // Medium becomes block: exactly the recorded decisions by the level medium get stricter, but for break-glass accounts.
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(POLICY)).unwrap();
    let draft = text.replace("\nmedium = \"step_up\"", "\nmedium = \"block\"");
    assert_ne!(draft, text);
    let file = folder.path().join("draft.toml");
    std::fs::write(&file, draft).unwrap();
    let html = folder.path().join("report.html");
    let stricter = run(&[
        "replay",
        "--policy",
        file.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
        "--json",
        "-",
        RECORDS,
    ]);
    let stricter: Value = serde_json::from_str(&stricter.out).unwrap();
    let expected = records()
        .iter()
        .filter(|event| event.matched.as_deref() == Some("default_medium"))
        .filter(|event| event.verdict.as_deref() == Some("step_up") && !event.break_glass)
        .filter(|event| {
            // What goes on with a login is not judged again; a code is, where it owes a factor.
            let stands = |wanted: &str| event.standing.iter().any(|code| code == wanted);
            let inherited = event.source.as_deref() == Some("provenance");
            !stands("continues") && (!inherited || stands("outstanding"))
        })
        .count();
    assert!(expected > 0);
    assert_eq!(stricter["all"]["stricter"], expected, "{stricter:#}");
    assert_eq!(stricter["all"]["milder"], 0);
    assert!(std::fs::read_to_string(html).unwrap().contains("<svg"));
}

#[test]
fn what_a_replay_cannot_use_is_named() {
    let missing = run(&["replay", "--policy", "tests/none.toml", RECORDS]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("tests/none.toml"), "{}", missing.err);
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("audit.jsonl");
    std::fs::write(&empty, "no record\n").unwrap();
    let nothing = run(&["replay", "--policy", POLICY, empty.to_str().unwrap()]);
    assert_eq!(nothing.code, Some(3), "{}", nothing.out);
    assert!(
        nothing.out.contains("broken     1 lines"),
        "{}",
        nothing.out
    );
}

#[test]
fn a_check_replays_what_is_at_hand() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root().join(RECORDS), folder.path().join("audit.jsonl")).unwrap();
    let policy = root().join(POLICY);
    let config = |policy: &Path| {
        let file = folder.path().join("riskgate.toml");
        let text = format!(
            "[state]\ndata_dir = {:?}\n[policy]\nfile = {:?}\n[model]\ndir = {:?}\n",
            folder.path(),
            policy,
            root().join("conf/model"),
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let check = |config: PathBuf| run(&["check", "-c", config.to_str().unwrap()]);
    let calm = check(config(&policy));
    assert!(
        calm.out.contains("ok       replay: of the last"),
        "{}{}",
        calm.out,
        calm.err
    );
    assert!(!calm.out.contains("warning  replay:"), "{}", calm.out);
    let text = std::fs::read_to_string(&policy).unwrap();
    let draft = text.replace("\nlow = \"allow\"", "\nlow = \"step_up\"");
    assert_ne!(draft, text);
    let strict = folder.path().join("strict.toml");
    std::fs::write(&strict, draft).unwrap();
    let strict = check(config(&strict));
    assert!(
        strict
            .out
            .contains("warning  replay: this policy challenges more than twice"),
        "{}",
        strict.out
    );
}
