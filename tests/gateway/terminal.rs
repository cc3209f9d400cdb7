//! Text that acts on a terminal or breaks out of its line, wherever it can come in: requests of every kind, records that
//! somebody wrote or changed, words of operators. Whatever shows it shows it as an escape: log, records, metrics, the
//! console, and what commands print.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::always;
use crate::gateway::basic;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use form_urlencoded::byte_serialize;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// How a line begins that is none of ours.
const FORGED: &str = "FORGED";

/// Escape sequences in seven and eight bits, links, titles, controls, ends of lines of every kind, directions, characters that
/// nobody sees, and what breaks out of JSON and HTML.
const CORPUS: [&str; 18] = [
    "k7\u{1b}[31;1mred\u{1b}[0m",
    "k7\u{1b}[2J\u{1b}[1;1H\u{1b}[?1049h",
    "k7\u{1b}]8;;https://evil.example/\u{1b}\\link\u{1b}]8;;\u{1b}\\",
    "k7\u{1b}]0;title\u{7}\u{1b}]52;c;ZXZpbA==\u{7}",
    "k7\u{1b}P+q544e\u{1b}\\\u{1b}_Gi=1\u{1b}\\\u{1b}^x\u{1b}\\",
    "k7\u{9b}31m\u{9d}8;;https://evil.example/\u{9c}\u{90}x\u{9c}\u{85}",
    "k7\nFORGED line",
    "k7\r\nFORGED line\rFORGED",
    "k7\u{2028}FORGED\u{2029}FORGED\u{b}FORGED\u{c}",
    "k7\u{8}\u{8}\u{8}\u{7f}\u{7f}",
    "k7\u{202e}exe.gpj\u{202c}\u{202d}",
    "k7\u{2066}a\u{2067}b\u{2068}c\u{2069}\u{200e}\u{200f}\u{61c}",
    "k7\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{180e}",
    "k7\u{e0041}\u{e0042}\u{e007f}\u{fff9}\u{fffb}",
    "k7\0\u{1}\u{1f}",
    "k7\u{e}\u{f}\u{18}\u{1a}\u{5}",
    "k7\"}\n{\"seq\":1,\"FORGED\":\"\\u001b[31m",
    "k7\"><b>\u{1b}[31m</b>&#27;%1b[31m",
];

/// Fields of a record that stay, so that it is still read as one: by number, place and kind.
const KEPT: [&str; 6] = ["schema", "seq", "time", "id", "class", "door"];

fn acts(c: char) -> bool {
    // Not the gateway's own list.
    let is_invisible = matches!(u32::from(c), 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff
        | 0xfff9..=0xfffb | 0xe0000..=0xe007f);
    matches!(u32::from(c), 0..=0x1f | 0x7f..=0x9f) || is_invisible
}

/// Nothing in `text` acts but ends of lines and tabs.
fn assert_inert(what: &str, text: &str) {
    for line in text.split('\n') {
        let found = line.chars().find(|c| acts(*c) && *c != '\t');
        assert_eq!(found, None, "{what}: {line:?}");
    }
}

/// The same where lines mean something: none of them is forged.
fn assert_tame(what: &str, text: &str) {
    assert_inert(what, text);
    for line in text.split('\n') {
        assert!(!line.trim_start().starts_with(FORGED), "{what}: {text}");
    }
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// A header with as much of `text` as a header can have: HTTP itself refuses the controls of ASCII.
fn header(text: &str) -> HeaderValue {
    let bytes: Vec<u8> = text.bytes().filter(|b| *b >= 0x20 && *b != 0x7f).collect();
    HeaderValue::from_bytes(&bytes).unwrap()
}

/// Every door with `text` wherever a client can say something.
async fn knock(world: &World, text: &str) -> Vec<Answer> {
    let value = encoded(text);
    let query = format!(
        "client_id={value}&response_type={value}&scope={value}&prompt={value}&acr_values={value}&login_hint={value}&state={value}&redirect_uri={value}&{value}=1"
    );
    let paths = [
        format!("/oauth2/authorize?{query}"),
        format!("/oauth2/authorize?client_id={value}"),
        format!("/t/{value}/oauth2/authorize?client_id=a"),
        format!("/o/{value}/oauth2/jwks"),
        format!("/{value}/{value}"),
        format!("/oauth2/jwks?{query}"),
    ];
    let mut answers = Vec::new();
    for path in paths {
        let request = world
            .request(Method::GET, &path)
            .header("user-agent", header(text))
            .header("accept-language", header(text))
            .header("referer", header(text))
            .header("x-forwarded-for", header(text))
            .header("forwarded", header(text))
            .header("traceparent", header(text))
            .header("activityid", header(text))
            .header("x-risk-score", header(text))
            .header(
                "cookie",
                header(&format!("commonAuthId={text}; __Host-rg_device={text}")),
            );
        answers.push(world.send(request).await);
    }
    for (path, fields) in [
        (
            "/oauth2/token",
            format!(
                "grant_type={value}&client_id={value}&username={value}&password={value}&code={value}&scope={value}"
            ),
        ),
        (
            "/oauth2/token",
            format!("grant_type=password&username={value}&password=x&scope={value}"),
        ),
        (
            "/commonauth",
            format!("username={value}&password={value}&sessionDataKey={value}"),
        ),
        ("/oauth2/introspect", format!("token={value}")),
    ] {
        let request = world
            .request(Method::POST, path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", basic(text, text))
            .header("user-agent", header(text))
            .body(fields);
        answers.push(world.send(request).await);
    }
    let json =
        serde_json::json!({"grant_type": text, "client_id": text, "username": text, text: text});
    for (kind, body) in [
        ("application/json", json.to_string()),
        ("text/html", text.to_owned()),
    ] {
        let request = world
            .request(Method::POST, "/oauth2/token")
            .header("content-type", kind)
            .body(body);
        answers.push(world.send(request).await);
    }
    answers
}

async fn requests_are_shown_tame(format: &str, config: &'static str) {
    let world = with_operators(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        config,
        ..Options::default()
    })
    .await;
    for text in CORPUS {
        for answer in knock(&world, text).await {
            if !answer.header("content-type").unwrap_or("").contains("json") && answer.status >= 400
            {
                assert_inert("a refusal", &answer.body);
            }
        }
    }
    let records = world.records().await;
    assert!(records.len() > 150, "{}", records.len());
    let file = std::fs::read_to_string(world.data_dir().join("audit.jsonl")).unwrap();
    assert_tame("records", &file);
    for line in file.lines() {
        serde_json::from_str::<Value>(line).expect("a record");
    }
    let log = world.log();
    assert_tame("the log", &log);
    for line in log.lines() {
        if format == "json" {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            assert!(line["level"].is_string(), "{line}");
        } else {
            assert!(line.starts_with("20"), "a line without its time: {line:?}");
        }
    }
    for path in ["/metrics", "/health", "/health/ready"] {
        assert_tame(path, &world.admin(path).await.1);
    }
    for command in [
        &["audit", "verify"][..],
        &["audit", "verify", "--json"],
        &["audit", "export", "--format", "ocsf"],
        &["review", "list", "--all"],
        &["review", "list", "--all", "--json"],
        &["health"],
        &["explain", &records.last().unwrap().id],
        &["explain", "--json", &records.last().unwrap().id],
    ] {
        assert_command_tame(&world, command);
    }
    let mut vi = Browser::of(&world, "vi").await;
    assert_inert("decisions", &vi.get("/console?all=1").await.body);
}

fn assert_command_tame(world: &World, arguments: &[&str]) -> String {
    let (code, out, err) = world.command(arguments);
    let what = format!("{arguments:?} ({code:?})");
    assert!(!err.contains("panicked"), "{what}: {err}");
    assert_tame(&what, &out);
    assert_tame(&what, &err);
    out + &err
}

#[tokio::test(flavor = "multi_thread")]
async fn what_requests_say_acts_on_no_terminal_in_text() {
    requests_are_shown_tame("text", "log.filter = 'debug'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_requests_say_acts_on_no_terminal_in_json() {
    requests_are_shown_tame("json", "log.filter = 'debug'\nlog.format = 'json'").await;
}

/// Every text in `value` but those that are kept, replaced.
fn poison(value: &mut Value, text: &str) {
    match value {
        Value::String(old) => text.clone_into(old),
        Value::Array(list) => list.iter_mut().for_each(|value| poison(value, text)),
        Value::Object(members) => {
            let members = members.iter_mut();
            let other = members.filter(|(name, _)| !KEPT.contains(&name.as_str()));
            other.for_each(|(_, value)| poison(value, text));
        }
        _ => {}
    }
}

/// A record for each text of the corpus, as somebody could have written it, and their ids.
fn hostile_records(model: &Value, folder: &Path) -> (PathBuf, Vec<String>) {
    let file = folder.join("hostile.jsonl");
    let mut out = std::fs::File::create(&file).unwrap();
    let mut ids = Vec::new();
    for (number, text) in CORPUS.into_iter().enumerate() {
        let mut record = model.clone();
        let id = format!("01890a5d-ac96-774b-bcce-{number:012}");
        record["id"] = Value::String(id.clone());
        for field in [
            "note",
            "operator",
            "organization",
            "as_org",
            "client_id",
            "matched",
            "error",
        ] {
            record[field] = Value::String(String::new());
        }
        for field in ["reasons", "standing", "skipped_rules", "token_actions"] {
            record[field] = serde_json::json!([""]);
        }
        poison(&mut record, text);
        // Everything as it is, but for what JSON itself demands.
        writeln!(out, "{record}").unwrap();
        ids.push(id);
    }
    writeln!(out, "{}", CORPUS.join("")).unwrap();
    (file, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_records_say_acts_on_no_terminal() {
    let world = with_operators(Options {
        policy: Some(always("allow")),
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    let login = world.last_record_of("login").await;
    let model = serde_json::to_value(&login).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, ids) = hostile_records(&model, folder.path());
    let audit = file.display().to_string();

    for (id, text) in ids.iter().zip(CORPUS) {
        let shown = assert_command_tame(&world, &["explain", id, "--audit", &audit]);
        assert!(shown.contains("k7"), "{shown}");
        for more in [
            &["--json"][..],
            &["--compare", &ids[0]],
            &["--compare", &ids[0], "--json"],
        ] {
            let arguments = [&["explain", id, "--audit", &audit][..], more].concat();
            let shown = assert_command_tame(&world, &arguments);
            assert!(shown.contains("k7"), "{shown}");
        }
        if !text.contains('\0') {
            let arguments = [
                "label",
                id,
                "--compromised",
                "--kind",
                text,
                "--note",
                text,
                "--as",
                text,
                "--audit",
                &audit,
            ];
            assert_command_tame(&world, &arguments);
            for arguments in [
                &["explain", text, "--audit", &audit][..],
                &["label", text, "--safe", "--audit", &audit],
                &["explain", id, "--audit", &audit, "--model", text],
                &["audit", "verify", text],
                &["review", "refuse", text, "--reason", text],
                &["state", "show", "--user", text, "--tenant", text],
                &["scopes", "suggest", "--client", text],
                &["operator", "add", text],
            ] {
                assert_command_tame(&world, arguments);
            }
        }
    }
    let labels = std::fs::read_to_string(world.data_dir().join("labels.jsonl")).unwrap();
    assert!(labels.lines().count() == CORPUS.len() - 1, "{labels}");
    assert_tame("labels", &labels);
    let csv = folder.path().join("labels.csv");
    assert_command_tame(
        &world,
        &[
            "label",
            "--export",
            &csv.display().to_string(),
            "--audit",
            &audit,
        ],
    );
    assert_tame("exported labels", &std::fs::read_to_string(csv).unwrap());

    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, always("block")).unwrap();
    let (policy, html) = (
        policy.display().to_string(),
        folder.path().join("report.html"),
    );
    let page = html.display().to_string();
    for arguments in [
        &["audit", "verify", &audit][..],
        &["audit", "verify", "--json", &audit],
        &["audit", "export", "--format", "ocsf", &audit],
        &["replay", "--policy", &policy, &audit],
        &["replay", "--policy", &policy, "--json", "-", &audit],
        &["replay", "--policy", &policy, "--html", &page, &audit],
    ] {
        assert_command_tame(&world, arguments);
    }
    assert_inert("the report", &std::fs::read_to_string(html).unwrap());

    // The same in the log that the console reads.
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(world.data_dir().join("audit.jsonl"))
        .unwrap();
    log.write_all(&std::fs::read(&file).unwrap()).unwrap();
    drop(log);
    let mut vi = Browser::of(&world, "vi").await;
    let decisions = eventually(async || {
        let page = vi.get("/console?all=1").await;
        page.body.contains(ids.last()?).then_some(page)
    })
    .await;
    assert_inert("decisions", &decisions.body);
    for id in &ids {
        let page = vi.get(&format!("/console/decisions/{id}")).await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("k7"), "{}", page.body);
        assert_inert("a decision", &page.body);
    }
    for text in CORPUS {
        for path in [
            "/console/users/",
            "/console?client=",
            "/console?id=",
            "/console/",
            "/console/decisions/",
        ] {
            let page = vi.get(&format!("{path}{}", encoded(text))).await;
            assert_inert(path, &page.body);
        }
    }
    assert_tame("the log", &world.log());
}
