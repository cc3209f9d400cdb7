//! The audit log as an auditor, an analyst and a person who wants to be forgotten meet it: through the commands.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

const NODE: &str = "[audit]\nnode = \"edge-1\"\n";

fn log_file(world: &World) -> PathBuf {
    world.data_dir().join("audit.jsonl")
}

/// Runs the check with the auditor's key, or with the public one.
fn verify(world: &World, with_key: bool, more: &[&str]) -> (Option<i32>, String) {
    let file = |name: &str| world.data_dir().join(name).display().to_string();
    let (flag, key) = if with_key {
        ("--key", file("audit-auditor.edge-1.key"))
    } else {
        ("--public-key", file("audit-public.edge-1.key"))
    };
    let arguments = [&["audit", "verify", flag, &key], more].concat();
    let (code, out, err) = world.command(&arguments);
    assert_eq!(err, "", "{out}");
    (code, out)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_finds_what_was_done_to_records() {
    let mut world = World::start(Options {
        config: NODE,
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    world.records().await;
    assert_eq!(world.restart().await, Some(0), "{}", world.log());
    world.person("bob").sign_in().await;
    let count = world.records().await.len();
    let (code, out) = verify(&world, true, &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("edge-1, boot 1") && out.contains("not ended"),
        "{out}"
    );
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    for with_key in [true, false] {
        let (code, out) = verify(&world, with_key, &["--closed"]);
        assert_eq!(code, Some(0), "{out}");
        assert!(
            out.contains("edge-1, boot 0") && out.contains("sound:"),
            "{out}"
        );
        let (_, out) = verify(&world, with_key, &["--closed", "--json"]);
        let report: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(report["records"], count, "{out}");
    }

    // What was packed is not read, and not passed over in silence: where nothing is missing without it, too.
    let packed = world.data_dir().join("audit.20200101T000000.000Z.jsonl.gz");
    std::fs::write(&packed, b"\x1f\x8b").expect("a file");
    let folder = world.data_dir().display().to_string();
    for files in [&[][..], &[folder.as_str()]] {
        let (code, out) = verify(&world, true, &[files, &["--closed"]].concat());
        assert_eq!(code, Some(4), "{out}");
        let named = format!("not checked: `{}` is packed", packed.display());
        assert!(out.contains(&named) && !out.contains("\nsound:"), "{out}");
        assert!(out.contains("NOT ALL CHECKED: nothing wrong in"), "{out}");
        let (code, out) = verify(&world, true, &[files, &["--part"]].concat());
        assert_eq!(code, Some(0), "{out}");
        assert!(
            out.contains("jsonl.gz` is packed and was not read"),
            "{out}"
        );
    }
    let (code, _, err) = world.command(&["explain", "0198-none"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(
        err.contains("jsonl.gz` is packed and was not read"),
        "{err}"
    );
    let (_, out, err) = world.command(&["replay"]);
    assert!(
        out.contains("jsonl.gz` is packed and was not read"),
        "{out}{err}"
    );
    std::fs::remove_file(&packed).expect("a file");

    let path = log_file(&world);
    let text = std::fs::read_to_string(&path).expect("records");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("\"outcome\":\"succeeded\""))
        .expect("a record");
    let changed = |from: &str, to: &str| {
        let mut lines = lines.clone();
        let line = lines[at].replacen(from, to, 1);
        assert_ne!(line, lines[at]);
        lines[at] = &line;
        lines.join("\n") + "\n"
    };
    let removed = [&lines[..at], &lines[at + 1..]].concat().join("\n") + "\n";
    let mut swapped = lines.clone();
    swapped.swap(at, at - 1);
    let cases = [
        ("changed", changed("\"succeeded\"", "\"failed\"")),
        ("missing", removed),
        ("displaced", swapped.join("\n") + "\n"),
        ("cut", lines[..lines.len() - 1].join("\n") + "\n"),
        ("foreign", text.clone() + "{}\n"),
    ];
    for (wrong, text) in cases {
        std::fs::write(&path, text).expect("a file");
        for with_key in [true, false] {
            let (code, out) = verify(&world, with_key, &["--closed"]);
            assert_eq!(code, Some(4), "{wrong}: {out}");
            assert!(
                out.contains("NOT SOUND") && out.contains(&format!(": {wrong}")),
                "{wrong}: {out}"
            );
        }
    }
    // The line is named, for a change to which the key leads.
    std::fs::write(&path, changed("\"succeeded\"", "\"failed\"")).expect("a file");
    let (_, out) = verify(&world, true, &["--closed"]);
    assert!(
        out.starts_with(&format!("{}:{}: changed", path.display(), at + 1)),
        "{out}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_wrong_say_what_is_wrong() {
    let world = World::start(Options::default()).await;
    let (code, _, err) = world.command(&["audit", "verify", "/nonexistent/a.jsonl"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("/nonexistent/a.jsonl"), "{err}");
    let config = world.config_file().display().to_string();
    let (code, _, err) = world.command(&["audit", "verify", "--key", &config]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("is no auditor's key"), "{err}");
    let (code, _, err) = world.command(&["audit", "verify", "--public-key", "00"]);
    assert_eq!(code, Some(2), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_exported_as_events_of_ocsf() {
    let world = World::start(Options {
        config: NODE,
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    let records = world.records().await;
    let (code, out, err) = world.command(&["audit", "export", "--format", "ocsf"]);
    assert_eq!(code, Some(0), "{err}");
    let events: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let scored: Vec<_> = records
        .iter()
        .filter(|record| record.door.is_some())
        .collect();
    assert_eq!(events.len(), scored.len());
    for (event, record) in events.iter().zip(scored) {
        assert_eq!(event["class_uid"], 3002);
        assert_eq!(event["metadata"]["uid"], record.id.as_str());
        assert_eq!(event["risk_score"].as_u64(), record.score.map(u64::from));
        assert_eq!(event["user"]["uid"].as_str(), record.subject.as_deref());
    }

    // What was packed is missing, which is said, in the place of files and by the exit code.
    let packed = world.data_dir().join("audit.20200101T000000.000Z.jsonl.gz");
    std::fs::write(&packed, b"\x1f\x8b").expect("a file");
    let folder = world.data_dir().display().to_string();
    let labels = world.data_dir().join("labels.csv").display().to_string();
    let told = "jsonl.gz` is packed and was not read";
    for words in [
        &["audit", "export", "--format", "ocsf"][..],
        &["audit", "export", "--format", "ocsf", &folder],
        &["label", "--export", &labels],
        &["label", "--export", &labels, "--audit", &folder],
    ] {
        let (code, some, err) = world.command(words);
        assert_eq!(code, Some(4), "{words:?}: {err}");
        assert!(err.contains(told), "{words:?}: {err}");
        assert!(words[0] == "label" || some == out, "{words:?}: {some}");
    }
    let (code, _, err) = world.command(&["label", "0198-none", "--safe", "--audit", &folder]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains(told), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_erased_is_nobody_in_old_records_and_somebody_new_in_later_ones() {
    let mut world = World::start(Options {
        config: NODE,
        ..Options::default()
    })
    .await;
    let subject_of = async |name: &str| {
        world.person(name).sign_in().await;
        let record = world.last_record_of("login").await;
        record.subject.expect("the record names somebody")
    };
    let (alice, bob) = (subject_of("alice").await, subject_of("bob").await);
    let named = |name: &str| world.command(&["audit", "subject", "--user", name]).1;
    assert_eq!(named("alice").trim(), alice);
    assert_eq!(named("bob").trim(), bob);
    let (code, out, err) = world.command(&["audit", "erase", "--user", "alice"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains(&alice) && out.contains("audit-people.key"),
        "{out}"
    );
    assert_ne!(named("alice").trim(), alice);
    assert_eq!(named("bob").trim(), bob);
    // The gateway that runs takes it over.
    let end = Instant::now() + PATIENCE;
    while subject_of("alice").await == alice {
        assert!(Instant::now() < end, "the old name is still in use");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(subject_of("alice").await, named("alice").trim());
    assert_eq!(subject_of("bob").await, bob);
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    let (code, out) = verify(&world, true, &["--closed"]);
    assert_eq!(code, Some(0), "{out}");
    let text = std::fs::read_to_string(log_file(&world)).expect("records");
    assert!(text.contains("{\"mark\":\"erased\""));
}

/// Records that cannot be written: nobody gets in at a scored door, and everything else is served.
#[tokio::test(flavor = "multi_thread")]
async fn strict_mode_refuses_what_it_cannot_record() {
    let world = World::start(Options {
        config: "[audit]\nmode = \"strict\"\nfile = \"/dev/full\"\n",
        ..Options::default()
    })
    .await;
    let end = Instant::now() + PATIENCE;
    while world.metric("riskgate_audit_refused", &[]).await < 0.5 {
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let path = "/oauth2/authorize?response_type=code&client_id=demo-web&redirect_uri=https%3A%2F%2Fapp.example%2Fcb";
    let request = world
        .http()
        .get(format!("http://127.0.0.1:{}{path}", world.port));
    assert_eq!(request.send().await.expect("an answer").status(), 503);
    assert!(world.received().is_empty());
    let request = world
        .http()
        .get(format!("http://127.0.0.1:{}/oauth2/jwks", world.port));
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    assert_eq!(world.received().len(), 1);
}
