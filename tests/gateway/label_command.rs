//! `riskgate label` beside a gateway that runs: on record, told and acted on as a word in the console is; and what it does
//! where no gateway is.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::operators::eventually;
use crate::receiver::receiver;
use crate::shared_signals::AUDIENCE;
use crate::shared_signals::ISSUER;
use crate::shared_signals::event;
use crate::shared_signals::verified;

/// A gateway that tells `url`, and may end sessions.
async fn world(url: &str) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("ops.secret");
    std::fs::write(&secret, "riskgate-ops-secret").unwrap();
    let config = format!(
        "[upstream.management]\nclient_id = \"riskgate-ops\"\nsecret_file = '{}'\nend_sessions = true\n\
         [shared_signals]\nissuer = '{ISSUER}'\n[[shared_signals.receivers]]\nname = 'app'\nurl = '{url}'\n\
         audience = '{AUDIENCE}'\n",
        secret.display()
    );
    let world = World::start(Options {
        // Lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    (world, folder)
}

async fn ended(world: &World) -> f64 {
    let ended = [("result", "ended")];
    world.metric("riskgate_session_endings_total", &ended).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_of_the_command_is_one_of_the_gateway_that_runs() {
    let (url, messages) = receiver("/ssf", "202 Accepted\r\ncontent-length: 0");
    let (mut world, _folder) = world(&url).await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    assert!(!alice.open().await.is_page("login.do"));
    world.records().await;

    // One for the word, one for what came of the sessions.
    world.expect_record();
    world.expect_record();
    let words = [
        "label",
        &login.id,
        "--compromised",
        "--as",
        "bo\u{202e}",
        "--note",
        "she called",
    ];
    let (code, out, err) = world.command(&words);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, format!("compromised  {}\n", login.id));
    assert_eq!(
        err,
        "riskgate: the sessions of this user at WSO2 are being ended\n"
    );
    let records = world.records().await;
    let said: Vec<_> = records
        .iter()
        .filter(|record| record.class == "operator")
        .map(|record| (&*record.action, record.labelled.as_deref()))
        .collect();
    let id = Some(login.id.as_str());
    assert_eq!(said, [("labelled_compromised", id), ("sessions_ended", id)]);
    let operator = records.last().unwrap().operator.clone().unwrap();
    assert!(
        operator.starts_with("bo") && !operator.contains('\u{202e}'),
        "{operator}"
    );
    assert!(alice.open().await.is_page("login.do"));
    world.records().await;
    let (_, token) = messages.recv_timeout(PATIENCE).unwrap();
    let told = verified(&world, &token).await;
    assert_eq!(told["txn"], login.id);
    assert_eq!(
        event(&told, "session-revoked")["initiating_entity"],
        "admin"
    );

    // Sessions may be left alone, and an unknown id is nothing.
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    world.expect_record();
    let words = ["label", &login.id, "--compromised", "--keep-sessions"];
    let (code, _, err) = world.command(&words);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    world.records().await;
    assert!((ended(&world).await - 1.0).abs() < f64::EPSILON);
    let (code, _, err) = world.command(&["label", "0199-none", "--safe"]);
    assert_eq!(code, Some(3), "{err}");
    let file = world.data_dir().join("labels.jsonl");
    let lines = || std::fs::read_to_string(&file).unwrap().lines().count();
    assert_eq!(lines(), 2);

    // A token that is not the gateway's changes nothing.
    let token = world.data_dir().join("admin.token");
    let real = std::fs::read_to_string(&token).unwrap();
    std::fs::write(&token, "0".repeat(32)).unwrap();
    let (code, _, err) = world.command(&["label", &login.id, "--safe"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("admin.token_file"), "{err}");
    std::fs::write(&token, real).unwrap();
    assert_eq!(lines(), 2);

    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    let words = ["label", &login.id, "--compromised", "--note", "again"];
    let (code, out, err) = world.command(&words);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, format!("compromised  {}\n", login.id));
    assert!(
        err.contains("kept in the file alone") && err.contains("no gateway answers at"),
        "{err}"
    );
    assert_eq!(lines(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_and_is_no_gateway_is_told_nothing() {
    let world = World::start(Options::default()).await;
    world.person("alice").sign_in().await;
    let login = world.last_record_of("login").await;
    // Such as another program at the same port.
    let (url, messages) = receiver("", "404 Not Found\r\ncontent-length: 0");
    let address = url.strip_prefix("http://").unwrap();
    let words = ["label", &login.id, "--safe", "--admin", address];
    let (code, _, err) = world.command(&words);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("it leaves no record") && err.contains("is no riskgate"),
        "{err}"
    );
    let (head, _) = messages.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /api/decisions/"), "{head}");
    let file = world.data_dir().join("labels.jsonl");
    let kept = eventually(async || std::fs::read_to_string(&file).ok()).await;
    assert!(kept.contains(&login.id), "{kept}");
    world.records().await;
}
