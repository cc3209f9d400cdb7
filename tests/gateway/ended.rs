//! An analyst confirms a decision as compromised, and the user's sessions at WSO2 end: what comes of it in each case, and that
//! the word itself waits for nothing.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::rules;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use crate::review;
use riskgate::domain::audit::AuditEvent;
use tempfile::TempDir;
use wso2_sim::Outage;
use wso2_sim::RecordedRequest;

/// The box in the form.
const BOX: &str = "name=\"sessions\"";

/// A gateway with a client that may end sessions, which has this secret.
async fn world(secret: &str, keys: &str, policy: Option<String>) -> (World, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ops.secret");
    std::fs::write(&file, secret).unwrap();
    let config = format!(
        "[upstream.management]\nclient_id = \"riskgate-ops\"\nsecret_file = '{}'\n{keys}",
        file.display()
    );
    let options = Options {
        mode: if policy.is_some() {
            "enforce"
        } else {
            "monitor"
        },
        policy,
        // Options are kept for the whole of the run.
        config: Box::leak(config.into_boxed_str()),
        ..Options::default()
    };
    (with_operators(options).await, folder)
}

async fn switched_on() -> (World, TempDir) {
    world("riskgate-ops-secret\n", "end_sessions = true", None).await
}

/// Confirms a decision as compromised. One record is due for a word that is new, and one for what comes of it.
pub(crate) async fn confirm(ann: &mut Browser<'_>, id: &str, note: &str) -> Answer {
    let page = format!("/console/decisions/{id}");
    eventually(async || (ann.get(&page).await.status == 200).then_some(())).await;
    let fields = [
        ("truth", "compromised"),
        ("note", note),
        ("sessions", "end"),
    ];
    let done = ann.post(&format!("{page}/label"), &fields).await;
    assert_eq!(done.status, 303, "{done:?}");
    done
}

pub(crate) fn expect(world: &World, records: usize) {
    (0..records).for_each(|_| world.expect_record());
}

/// The record of what came of it, which is the last one.
pub(crate) async fn ended(world: &World, id: &str) -> AuditEvent {
    let record = world.last_record().await;
    assert_eq!(
        (
            &*record.class,
            record.operator.as_deref(),
            record.labelled.as_deref()
        ),
        ("operator", Some("ann"), Some(id)),
        "{record:#?}"
    );
    record
}

/// What the gateway itself has sent.
fn own(world: &World, method: &str, path: &str) -> Vec<RecordedRequest> {
    let mut sent = world.sim.recorded();
    sent.retain(|request| {
        request.method == method
            && request.path().starts_with(path)
            && request.header_values("user-agent") == ["riskgate"]
    });
    sent
}

async fn counted(world: &World, result: &str) -> f64 {
    world
        .metric("riskgate_session_endings_total", &[("result", result)])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_that_user_end_once_and_nobody_elses() {
    let (world, _folder) = switched_on().await;
    let mut alice = world.person("alice");
    let mut bob = world.person("bob");
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    bob.sign_in().await;
    assert!(!alice.open().await.is_page("login.do"));
    let mut ann = Browser::of(&world, "ann").await;
    expect(&world, 2);
    confirm(&mut ann, &login.id, "called back").await;
    assert_eq!(ended(&world, &login.id).await.action, "sessions_ended");
    assert_eq!(own(&world, "DELETE", "/api/users/v1/").len(), 1);
    assert!(alice.open().await.is_page("login.do"));
    assert!(!bob.open().await.is_page("login.do"));
    let page = format!("/console/decisions/{}", login.id);
    let seen = ann.get(&page).await.body;
    assert!(
        seen.contains("at WSO2 were ended") && seen.contains(BOX),
        "{seen}"
    );
    assert!((counted(&world, "ended").await - 1.0).abs() < 0.1);
    // The same word again has no effect.
    confirm(&mut ann, &login.id, "called back").await;
    world.records().await;
    assert_eq!(own(&world, "DELETE", "/api/users/v1/").len(), 1);

    // A decision about a token is about whose it is; another word about one ends what there is by then.
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    let token = world.last_record_of("token").await;
    expect(&world, 2);
    confirm(&mut ann, &token.id, "stolen").await;
    assert_eq!(ended(&world, &token.id).await.action, "sessions_ended");
    assert!(alice.open().await.is_page("login.do"));
    expect(&world, 2);
    confirm(&mut ann, &token.id, "stolen, says the user").await;
    assert_eq!(ended(&world, &token.id).await.action, "sessions_none");
    assert_eq!(own(&world, "DELETE", "/api/users/v1/").len(), 2);

    // Who leaves the box empty ends nothing, nor does who says that it was the user.
    let last = world.last_record_of("authorize").await;
    let path = format!("/console/decisions/{}/label", last.id);
    eventually(async || (ann.get(&path.replace("/label", "")).await.status == 200).then_some(()))
        .await;
    for fields in [
        [("truth", "compromised"), ("note", "x"), ("sessions", "")],
        [("truth", "safe"), ("note", "x"), ("sessions", "end")],
    ] {
        world.expect_record();
        assert_eq!(ann.post(&path, &fields).await.status, 303);
        assert!(world.last_record().await.action.starts_with("labelled_"));
    }
    assert!((world.metric("riskgate_session_endings_total", &[]).await - 3.0).abs() < 0.1);
    world.leaks_nothing(&["alice", "riskgate-ops-secret", "called on"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wso2_that_is_away_is_asked_again_and_the_word_waits_for_nothing() {
    let (world, _folder) = switched_on().await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    let mut ann = Browser::of(&world, "ann").await;
    world.sim.set_outage(Outage::Status(503));
    world.sim.clear_recorded();
    expect(&world, 2);
    confirm(&mut ann, &login.id, "x").await;
    assert_eq!(ended(&world, &login.id).await.action, "sessions_away");
    // The word itself has waited for nothing.
    let records = world.records().await;
    assert_eq!(
        records[records.len() - 2].action,
        "labelled_compromised",
        "{records:#?}"
    );
    assert_eq!(own(&world, "POST", "/oauth2/token").len(), 3);
    let page = format!("/console/decisions/{}", login.id);
    let seen = ann.get(&page).await.body;
    assert!(
        seen.contains("it did not answer, three times. Confirm again"),
        "{seen}"
    );
    // The same word again, since nothing came of it.
    world.sim.set_outage(Outage::None);
    world.expect_record();
    confirm(&mut ann, &login.id, "x").await;
    assert_eq!(ended(&world, &login.id).await.action, "sessions_ended");
    assert!(alice.open().await.is_page("login.do"));
    assert!((counted(&world, "away").await - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_credential_is_told_with_what_to_do() {
    let (world, _folder) = world("not it", "end_sessions = true", None).await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    let mut ann = Browser::of(&world, "ann").await;
    world.sim.clear_recorded();
    expect(&world, 2);
    confirm(&mut ann, &login.id, "x").await;
    assert_eq!(ended(&world, &login.id).await.action, "sessions_refused");
    // Asking again would not help, and could lock the client.
    assert_eq!(own(&world, "POST", "/oauth2/token").len(), 1);
    let page = format!("/console/decisions/{}", login.id);
    let seen = ann.get(&page).await.body;
    assert!(seen.contains("internal_session_delete"), "{seen}");
    assert!(!alice.open().await.is_page("login.do"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_never_got_in_is_not_known() {
    let (world, _folder) = switched_on().await;
    let mut alice = world.person("alice").guessing("wrong");
    alice.try_password().await;
    let login = world.last_record_of("login").await;
    let mut ann = Browser::of(&world, "ann").await;
    world.sim.clear_recorded();
    expect(&world, 2);
    confirm(&mut ann, &login.id, "x").await;
    assert_eq!(ended(&world, &login.id).await.action, "sessions_forgotten");
    assert!(own(&world, "POST", "/oauth2/token").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_switched_off_nothing_is_asked() {
    let (world, _folder) = world("riskgate-ops-secret", "", None).await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    let mut ann = Browser::of(&world, "ann").await;
    world.sim.clear_recorded();
    world.expect_record();
    confirm(&mut ann, &login.id, "x").await;
    assert_eq!(world.last_record().await.action, "labelled_compromised");
    let page = format!("/console/decisions/{}", login.id);
    assert!(!ann.get(&page).await.body.contains(BOX));
    assert!(!alice.open().await.is_page("login.do"));
    assert!(own(&world, "POST", "/oauth2/token").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_login_that_is_refused_ends_them_too() {
    let hosting = "request.door == \"login\" && network.kind == \"hosting\"";
    let (world, _folder) = world(
        "riskgate-ops-secret",
        "end_sessions = true",
        Some(rules(&[(hosting, "review")])),
    )
    .await;
    let mut alice = world.person("alice");
    alice.sign_in().await;
    let mut thief = world.person("alice").from(crate::gateway::HOSTING);
    thief.try_password().await;
    let held = world.last_record_of("login").await;
    assert_eq!(held.review_state.as_deref(), Some("held"), "{held:#?}");
    expect(&world, 2);
    let refused = review::review(
        &world,
        &["refuse", held.review.as_deref().unwrap(), "--as", "ann"],
    )
    .await;
    assert_eq!(refused.code, 0, "{}", refused.err);
    assert_eq!(ended(&world, &held.id).await.action, "sessions_ended");
    assert!(alice.open().await.is_page("login.do"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_without_a_credential_is_refused() {
    let (world, folder) = switched_on().await;
    let (code, said, errors) = world.command(&["check"]);
    assert!(
        said.contains("sessions: ended at WSO2"),
        "{code:?} {said} {errors}"
    );
    let file = folder.path().join("ops.secret");
    std::fs::write(&file, "\n").unwrap();
    let (code, _, errors) = world.command(&["check"]);
    assert!(
        code == Some(2) && errors.contains("upstream.management.end_sessions"),
        "{code:?} {errors}"
    );
    std::fs::remove_file(&file).unwrap();
    let (code, _, errors) = world.command(&["check"]);
    assert!(
        code == Some(2) && errors.contains("upstream.management.secret_file"),
        "{code:?} {errors}"
    );
    let config = world.data_dir().join("only.toml");
    std::fs::write(&config, "[upstream.management]\nend_sessions = true\n").unwrap();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.code() == Some(2) && errors.contains("missing field `client_id`"),
        "{errors}"
    );
}
