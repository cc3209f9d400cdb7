//! `riskgate model`, as an operator calls it: the real binary on the shipped model and a small file of events, whose
//! scores are held by what they say of each other and not by their figures.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic is how a test reports a failure"
)]

#[path = "model/outcome.rs"]
mod outcome;

use riskgate::domain::features::Feature;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;

/// A month of three people and a robot, and who attacks them. The column `Case` names the events that tests look at.
const EVENTS: &str = "tests/data/events/month.csv";
const MODEL: &str = "conf/model";
const ROW_BYTES: usize = 4 * Feature::COUNT;

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

/// One row of the scores.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    kind: String,
    probability: Option<f64>,
    verdict: String,
    is_attack: bool,
    attacker: String,
    logins: u32,
    user: String,
}

fn riskgate(arguments: &[&str], input: Option<&[u8]>) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that refuses its arguments does not read.
    drop(stdin.write_all(input.unwrap_or_default()));
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    Outcome {
        code: done.status.code().unwrap(),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

/// Evaluates with everything that can be written; returns the folder with `scores.csv`, `features.npy`, `figures.json`.
fn evaluated(model: &str, events: &str, more: &[&str], input: Option<&[u8]>) -> (TempDir, Outcome) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (scores, features, figures) = (
        place("scores.csv"),
        place("features.npy"),
        place("figures.json"),
    );
    let mut arguments = vec![
        "model",
        "eval",
        model,
        "--events",
        events,
        "--scores",
        &scores,
        "--features",
        &features,
        "--json",
        &figures,
    ];
    arguments.extend(more);
    let outcome = riskgate(&arguments, input);
    (folder, outcome)
}

fn rows(folder: &Path) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(folder.join("scores.csv")).unwrap();
    let names = reader.headers().unwrap().clone();
    let expected = "index,kind,probability,score,verdict,label,attacker_kind,cohort,logins,user";
    assert_eq!(names.iter().collect::<Vec<_>>().join(","), expected);
    let row = |record: csv::StringRecord| Row {
        kind: record[1].to_owned(),
        probability: (!record[2].is_empty()).then(|| record[2].parse().unwrap()),
        verdict: record[4].to_owned(),
        is_attack: &record[5] == "1",
        attacker: record[6].to_owned(),
        logins: record[8].parse().unwrap(),
        user: record[9].to_owned(),
    };
    reader
        .records()
        .map(|record| row(record.unwrap()))
        .collect()
}

/// The rows that the events file names.
fn cases(rows: &[Row]) -> BTreeMap<String, Row> {
    let mut reader = csv::Reader::from_path(EVENTS).unwrap();
    let names = reader.headers().unwrap();
    let case = names.iter().position(|name| name == "Case").unwrap();
    let cases: Vec<String> = reader
        .records()
        .map(|record| record.unwrap()[case].to_owned())
        .collect();
    assert_eq!(cases.len(), rows.len());
    cases
        .into_iter()
        .zip(rows.iter().cloned())
        .filter(|(case, _)| !case.is_empty())
        .collect()
}

fn figures(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("figures.json")).unwrap()).unwrap()
}

#[test]
fn scores_are_ordered_as_a_person_would() {
    let (folder, outcome) = evaluated(MODEL, EVENTS, &[], None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(
        outcome.err.contains("unknown columns: Case"),
        "{}",
        outcome.err
    );
    let rows = rows(folder.path());
    let cases = cases(&rows);
    let score = |case: &str| {
        let row = &cases[case];
        row.probability.unwrap_or_else(|| panic!("{case}: {row:?}"))
    };
    for order in [
        ["home", "new-device-at-home", "far-vpn-new-device"],
        ["home", "first-alice", "stuffing-last"],
        ["home", "stolen-cookie-far", "far-vpn-new-device"],
        ["stuffing-first", "stuffing-last", "stuffing-hit"],
    ] {
        let scores = order.map(score);
        assert!(
            scores[0] < scores[1] && scores[1] <= scores[2],
            "{order:?} {scores:?}"
        );
    }
    // A browser that never keeps cookies is not suspected for it.
    assert!(score("carol-without-cookie") < score("new-device-at-home"));
    // An attack on others leaves a user at home in peace.
    assert!(
        score("bob-after-attack") < 0.3,
        "{}",
        score("bob-after-attack")
    );
    for (case, verdict) in [
        ("home", "allow"),
        ("sso-home", "allow"),
        ("refresh-home", "allow"),
        ("code-alice", "allow"),
        ("bob-after-attack", "allow"),
        ("stuffing-last", "block"),
    ] {
        assert_eq!(cases[case].verdict, verdict, "{case}: {:?}", cases[case]);
    }
    assert_ne!(cases["far-vpn-new-device"].verdict, "allow");
    assert_eq!(cases["home"].logins, 24);
    assert_eq!(cases["first-alice"].logins, 0);
    let kinds: Vec<_> = [
        "home",
        "sso-home",
        "code-alice",
        "refresh-home",
        "robot-home",
    ]
    .map(|case| cases[case].kind.as_str())
    .to_vec();
    assert_eq!(kinds, ["login", "login", "token", "token", "m2m"]);
    assert_eq!(cases["robot-home"].user, "robot");
}

#[test]
fn the_same_events_give_the_same_bytes() {
    let (one, _) = evaluated(MODEL, EVENTS, &[], None);
    let (other, outcome) = evaluated(MODEL, "-", &[], Some(&std::fs::read(EVENTS).unwrap()));
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    for file in ["scores.csv", "features.npy"] {
        let bytes = |folder: &TempDir| std::fs::read(folder.path().join(file)).unwrap();
        assert!(bytes(&one) == bytes(&other), "{file}");
    }
}

#[test]
fn earlier_events_only_warm_the_state() {
    let (whole, _) = evaluated(MODEL, EVENTS, &[], None);
    let (part, outcome) = evaluated(MODEL, EVENTS, &["--from", "2026-03-20"], None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let (whole_rows, part_rows) = (rows(whole.path()), rows(part.path()));
    assert!(!part_rows.is_empty() && part_rows.len() < whole_rows.len());
    let warmed = whole_rows.len() - part_rows.len();
    assert_eq!(part_rows, whole_rows[warmed..]);
    let bytes = |folder: &TempDir| std::fs::read(folder.path().join("features.npy")).unwrap();
    let (whole_bytes, part_bytes) = (bytes(&whole), bytes(&part));
    let header = whole_bytes.len() - whole_rows.len() * ROW_BYTES;
    assert_eq!(part_bytes.len(), header + part_rows.len() * ROW_BYTES);
    assert!(part_bytes[header..] == whole_bytes[header + warmed * ROW_BYTES..]);
    let figures = figures(part.path());
    assert_eq!(figures["events"], whole_rows.len());
    assert_eq!(figures["warmed"], warmed);
}

/// The figures, computed once more from the rows in the plainest way.
#[test]
fn figures_are_those_of_the_rows() {
    let (folder, outcome) = evaluated(MODEL, EVENTS, &["--evaluator", "native"], None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let rows = rows(folder.path());
    let figures = &figures(folder.path())["kinds"]["login"];
    let of = |attack: bool| -> Vec<f64> {
        rows.iter()
            .filter(|row| row.kind == "login" && row.is_attack == attack)
            .filter_map(|row| row.probability)
            .collect()
    };
    let (good, attacks) = (of(false), of(true));
    assert!(good.len() > 70 && attacks.len() > 30);
    let pairs = attacks
        .iter()
        .flat_map(|attack| good.iter().map(move |good| (*attack, *good)));
    let wins: f64 = pairs
        .map(|(attack, good)| match attack.total_cmp(&good) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        })
        .sum();
    let near = |found: &serde_json::Value, expected: f64, what: &str| {
        let found = found.as_f64().unwrap_or(f64::NAN);
        assert!(
            (found - expected).abs() < 1e-6,
            "{what}: {found} {expected}"
        );
    };
    near(
        &figures["all"]["auc"],
        wins / (good.len() * attacks.len()) as f64,
        "AUC",
    );

    let mut descending = good.clone();
    descending.sort_by(|a, b| b.total_cmp(a));
    // At 1 % of fewer than 100 legitimate events not a single one may be challenged.
    let bar = descending[good.len() / 100];
    let caught = attacks.iter().filter(|score| **score > bar).count();
    let rate = &figures["all"]["at_one_percent"]["rate"];
    near(rate, caught as f64 / attacks.len() as f64, "at 1 %");

    let all = || {
        good.iter()
            .map(|p| (*p, 0.0))
            .chain(attacks.iter().map(|p| (*p, 1.0)))
    };
    let count = all().count() as f64;
    let squares: f64 = all().map(|(p, label)| (p - label) * (p - label)).sum();
    near(&figures["brier"], squares / count, "Brier score");
    let error: f64 = (0..15)
        .map(|bin| {
            let here = all().filter(|(p, _)| ((p * 15.0) as usize).min(14) == bin);
            here.map(|(p, label)| p - label).sum::<f64>().abs() / count
        })
        .sum();
    near(&figures["calibration_error"], error, "calibration error");

    let login = |row: &&Row| row.kind == "login" && !row.is_attack;
    let challenged = rows
        .iter()
        .filter(login)
        .filter(|row| row.verdict != "allow")
        .count();
    assert_eq!(figures["challenged"]["count"], challenged);
    assert_eq!(figures["challenged"]["of"], good.len());
    let stuffing = rows
        .iter()
        .filter(|row| row.kind == "login" && row.attacker == "stuffing");
    let verdicts = figures["verdicts"]["stuffing"].as_object().unwrap();
    let counted: u64 = verdicts.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counted, stuffing.count() as u64);
}

#[test]
fn a_model_file_alone_serves_as_well() {
    let onnx = std::fs::read_dir(MODEL)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path: &PathBuf| path.to_string_lossy().contains("risk-login"))
        .unwrap();
    let (alone, outcome) = evaluated(&onnx.display().to_string(), EVENTS, &[], None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let (folder, _) = evaluated(MODEL, EVENTS, &[], None);
    let logins = |folder: &TempDir| -> Vec<Row> {
        let rows = rows(folder.path());
        rows.into_iter().filter(|row| row.kind == "login").collect()
    };
    assert_eq!(logins(&alone).first(), logins(&folder).first());
}

#[test]
fn what_cannot_be_used_is_said_and_no_panic() {
    let header = "Login Timestamp,User ID,IP Address,User Agent String,Login Successful\n";
    let good = "2026-01-01 00:00:00.000,a,192.0.2.1,x,True\n";
    let bad = "2026-01-01 00:00:00.000,a,nowhere,x,True\n";
    for (model, events, more, expected) in [
        (MODEL, "", vec![], "no header line"),
        (MODEL, header, vec![], "no events"),
        (MODEL, "a,b\n1,2\n", vec![], "no column `Login Timestamp`"),
        (MODEL, bad, vec![], "`IP Address`: `nowhere`"),
        (
            MODEL,
            good,
            vec!["--geo", "src"],
            "no address databases in it",
        ),
        (MODEL, good, vec!["--policy", "Cargo.toml"], "Cargo.toml"),
        (
            MODEL,
            good,
            vec!["--from", "yesterday"],
            "expected YYYY-MM-DD",
        ),
        (
            MODEL,
            good,
            vec!["--label", "colour"],
            "expected attacker-kind",
        ),
        ("no/such/model", good, vec![], "cannot be read"),
        ("Cargo.toml", good, vec![], "Cargo.toml"),
        ("conf/policy.toml", good, vec![], "is not a model manifest"),
    ] {
        let text = if events.starts_with("2026") {
            [header, events].concat()
        } else {
            events.to_owned()
        };
        let mut arguments = vec!["model", "eval", model, "--events", "-"];
        arguments.extend(more);
        let outcome = riskgate(&arguments, Some(text.as_bytes()));
        assert_eq!(
            outcome.code, 2,
            "{expected}: {}{}",
            outcome.out, outcome.err
        );
        assert!(
            outcome.err.contains(expected),
            "{expected}: {}",
            outcome.err
        );
        assert!(!outcome.err.contains("panicked"), "{}", outcome.err);
    }
    let text = [header, bad, good, bad].concat();
    let arguments = ["model", "eval", MODEL, "--events", "-", "--skip-bad"];
    let skipping = |count| riskgate(&[&arguments[..], &[count]].concat(), Some(text.as_bytes()));
    assert_eq!(skipping("1").code, 2);
    let passed = skipping("2");
    assert_eq!(passed.code, 0, "{}", passed.err);
    assert!(
        passed.out.contains("2 bad records passed over"),
        "{}",
        passed.out
    );
    assert!(passed.err.contains("passed over: line 2"), "{}", passed.err);
}

/// Names and headers that the gateway itself would refuse are rows of their own, as live.
#[test]
fn what_the_gateway_cannot_read_is_refused_as_live() {
    let header = "Login Timestamp,User ID,IP Address,User Agent String,Login Successful\n";
    let long = "x".repeat(20_000);
    let text = format!(
        "{header}2026-01-01 00:00:00.000,a\0b,192.0.2.1,x,True\n\
         2026-01-01 00:00:01.000,alice,192.0.2.1,{long},True\n\
         2026-01-01 00:00:02.000,{long},192.0.2.1,x,False\n\
         2026-01-01 00:00:03.000,\u{202e}<b>'\"\";--,192.0.2.1,x,True\n"
    );
    let (folder, outcome) = evaluated(MODEL, "-", &[], Some(text.as_bytes()));
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let rows = rows(folder.path());
    let verdicts: Vec<_> = rows.iter().map(|row| row.verdict.as_str()).collect();
    assert_eq!(verdicts[1..3], ["refused", "refused"]);
    assert!(rows[1].probability.is_none());
    assert!(rows[3].probability.is_some(), "{rows:?}");
}

#[test]
fn a_usable_model_is_told_in_words_and_json() {
    let words = riskgate(&["model", "inspect", MODEL], None);
    assert_eq!(words.code, 0, "{}{}", words.out, words.err);
    for expected in [
        "the gateway would use it",
        "login ",
        "golden vectors reproduced",
        "the native evaluator can stand in",
        "native: p50",
    ] {
        assert!(words.out.contains(expected), "{expected}: {}", words.out);
    }
    let json = riskgate(&["model", "inspect", MODEL, "--json"], None);
    assert_eq!(json.code, 0);
    let inspected: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(inspected["usable"], true);
    assert_eq!(
        inspected["schema"]["features"].as_array().unwrap().len(),
        Feature::COUNT
    );
    let login = &inspected["models"][0];
    assert_eq!(login["kind"], "login");
    assert_eq!(login["additive"], true);
    assert!(login["golden_rows"].as_u64().unwrap() > 5);
    assert_eq!(login["said"]["metadata"]["model_kind"], "login");
    assert_eq!(
        login["said"]["metadata"]["feature_names"][0],
        Feature::ALL[0].name()
    );
    let native = &login["native"];
    let (p50, p99) = (
        native["p50"].as_f64().unwrap(),
        native["p99"].as_f64().unwrap(),
    );
    assert!(p50 > 0.0 && p99 >= p50, "{native}");
}

#[test]
fn what_the_gateway_would_refuse_is_told_with_the_check_that_failed() {
    let shipped = std::fs::read_dir(MODEL)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path: &PathBuf| path.to_string_lossy().contains("risk-login"))
        .unwrap();
    let good = std::fs::read(&shipped).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let replaced = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = good
            .windows(from.len())
            .position(|here| here == from)
            .unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let version = "schema_version";
    for (path, expected) in [
        ("no/such/file.onnx".to_owned(), "cannot be read"),
        (written("empty.onnx", b""), "has no graph"),
        (written("text.onnx", b"hello"), "is not an ONNX model"),
        (
            written("cut.onnx", &good[..good.len() / 2]),
            "is not an ONNX model",
        ),
        (written("zeros.onnx", &[0; 100]), "is not an ONNX model"),
        (
            written("large.onnx", &vec![0; 2 << 20]),
            "is larger than the 1048576 bytes allowed",
        ),
        (
            written("operator.onnx", &replaced(b"Sigmoid", b"Sigmund")),
            "",
        ),
        (
            written("features.onnx", &replaced(b"llr_asn", b"llr_ans")),
            "for `feature_names`",
        ),
        (
            written(
                "schema.onnx",
                &replaced(version.as_bytes(), b"schemo_version"),
            ),
            "for `schema_version`",
        ),
        (
            written("manifest.toml", b"file = 3"),
            "is not a model manifest",
        ),
        (
            folder.path().join("nothing").display().to_string(),
            "cannot be read",
        ),
    ] {
        let outcome = riskgate(&["model", "inspect", &path], None);
        let text = outcome.out.clone() + &outcome.err;
        assert_eq!(outcome.code, 2, "{path}: {text}");
        assert!(text.contains(expected), "{path}: {text}");
        assert!(
            text.contains("the gateway would refuse it"),
            "{path}: {text}"
        );
        assert!(!text.contains("panicked"), "{path}: {text}");
        let json = riskgate(&["model", "inspect", &path, "--json"], None);
        let inspected: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(
            (json.code, &inspected["usable"]),
            (2, &false.into()),
            "{path}"
        );
        assert!(
            inspected["fault"].as_str().unwrap().contains(expected),
            "{path}"
        );
    }
}

/// The rows of an audit log score as they were recorded, and count by what is known of them.
#[test]
fn an_audit_log_is_scored_as_it_was_recorded() {
    let (replayed, _) = evaluated(MODEL, EVENTS, &["--evaluator", "native"], None);
    let replayed_rows = rows(replayed.path());
    let bytes = std::fs::read(replayed.path().join("features.npy")).unwrap();
    let header = bytes.len() - replayed_rows.len() * ROW_BYTES;
    let folder = tempfile::tempdir().unwrap();
    let (mut log, mut labels) = (String::new(), "id,label,attacker_kind\n".to_owned());
    let mut expected = Vec::new();
    for (number, row) in replayed_rows.iter().enumerate() {
        let from = header + number * ROW_BYTES;
        let values = bytes[from..from + ROW_BYTES].as_chunks::<4>().0.iter();
        let features: Vec<Option<f32>> = values
            .map(|value| Some(f32::from_le_bytes(*value)).filter(|value| value.is_finite()))
            .collect();
        if row.kind != "login" || features.iter().all(Option::is_none) {
            continue;
        }
        let event = riskgate::domain::audit::AuditEvent {
            seq: number as u64,
            id: format!("id-{number}"),
            time: "2026-03-01T00:00:00.000Z".to_owned(),
            door: Some("login".into()),
            features,
            ..Default::default()
        };
        log += &(serde_json::to_string(&event).unwrap() + "\n");
        if number % 7 != 0 {
            let label = u8::from(row.is_attack);
            labels += &format!("id-{number},{label},{}\n", row.attacker);
            expected.push(row.clone());
        }
    }
    let place = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(place("audit.jsonl"), log).unwrap();
    std::fs::write(place("labels.csv"), labels).unwrap();
    let (log, known, scores) = (
        place("audit.jsonl"),
        place("labels.csv"),
        place("scores.csv"),
    );
    let arguments = [
        "model",
        "eval",
        MODEL,
        "--audit",
        &log,
        "--labels",
        &known,
        "--scores",
        &scores,
        "--evaluator",
        "native",
    ];
    let outcome = riskgate(&arguments, None);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let found = rows(folder.path());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let difference = found.probability.unwrap() - expected.probability.unwrap();
        assert!(difference.abs() < 1e-6, "{found:?} {expected:?}");
        assert_eq!(
            (found.is_attack, &found.attacker),
            (expected.is_attack, &expected.attacker)
        );
    }
    assert!(outcome.out.contains("stuffing"), "{}", outcome.out);

    for (arguments, expected) in [
        (
            vec!["--audit", "Cargo.toml"],
            "is no record of the audit log",
        ),
        (vec!["--audit", "/dev/null"], "no records with features"),
        (
            vec!["--audit", &log, "--labels", "Cargo.toml"],
            "Cargo.toml",
        ),
        (
            vec!["--audit", &log, "--events", &log],
            "cannot be used with",
        ),
        (
            vec!["--labels", &known, "--events", EVENTS],
            "cannot be used with",
        ),
        (vec![], "--events"),
    ] {
        let outcome = riskgate(&[&["model", "eval", MODEL], &arguments[..]].concat(), None);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.err);
        assert!(
            outcome.err.contains(expected),
            "{arguments:?}: {}",
            outcome.err
        );
        assert!(!outcome.err.contains("panicked"), "{}", outcome.err);
    }
}
