//! Analysts confirm decisions as safe or compromised in the console: the same labels as those of `riskgate label`, each word once.

use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_says_what_a_decision_was() {
    let world = with_operators(Options::default()).await;
    world.person("alice").from(HOSTING).sign_in().await;
    let login = world.last_record_of("login").await;
    let subject = login.subject.clone().unwrap();
    let page = format!("/console/decisions/{}", login.id);
    let path = format!("{page}/label");
    let mut vi = Browser::of(&world, "vi").await;
    let mut ann = Browser::of(&world, "ann").await;
    let seen = eventually(async || {
        let seen = vi.get(&page).await;
        (seen.status == 200).then_some(seen)
    })
    .await;
    assert!(seen.body.contains("Nobody has confirmed"), "{seen:?}");
    assert!(!seen.body.contains("Confirm safe"), "{seen:?}");
    let note = "called <b>back</b>\u{202e}";
    let safe = [("truth", "safe"), ("note", note), ("kind", "phishing")];
    assert_eq!(vi.post(&path, &safe).await.status, 403);
    for (path, fields, status) in [
        (path.as_str(), [("truth", "maybe"), ("note", note)], 400),
        (path.as_str(), [("truth", "safe"), ("note", "  ")], 400),
        (
            "/console/decisions/none/label",
            [("truth", "safe"), ("note", note)],
            404,
        ),
        (
            "/console/decisions/..%2f/label",
            [("truth", "safe"), ("note", note)],
            404,
        ),
    ] {
        assert_eq!(
            ann.post(path, &fields).await.status,
            status,
            "{path} {fields:?}"
        );
    }
    let file = world.data_dir().join("labels.jsonl");
    assert!(!file.exists());

    world.expect_record();
    let done = ann.post(&path, &safe).await;
    assert_eq!(
        (done.status, done.header("location")),
        (303, Some(format!("{page}?done=label#label").as_str()))
    );
    let record = world.last_record().await;
    assert_eq!(
        (
            record.class.as_str(),
            record.action.as_str(),
            record.operator.as_deref(),
            record.labelled.as_deref()
        ),
        (
            "operator",
            "labelled_safe",
            Some("ann"),
            Some(login.id.as_str())
        )
    );
    // A second click is the same word.
    assert_eq!(ann.post(&path, &safe).await.status, 303);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 1);
    world.records().await;

    let seen = vi.get(&page).await.body;
    assert!(
        seen.contains("Confirmed <span class=\"badge safe\">"),
        "{seen}"
    );
    assert!(
        seen.contains("called &lt;b&gt;back&lt;/b&gt;") && !seen.contains('\u{202e}'),
        "{seen}"
    );
    // A kind of attack belongs to attacks alone.
    assert!(!seen.contains("phishing"), "{seen}");
    let user = vi.get(&format!("/console/users/{subject}")).await.body;
    assert!(
        user.contains("badge safe") && user.contains("<svg"),
        "{user}"
    );

    // The command line speaks of the same labels, and the console of those of the command line.
    let out = world.data_dir().join("labels.csv");
    let out = out.to_str().unwrap();
    let (code, said, err) = world.command(&["label", "--export", out]);
    assert_eq!(code, Some(0), "{err}");
    assert!(said.contains("analyst   1 safe, 0 compromised"), "{said}");
    assert!(std::fs::read_to_string(out).unwrap().contains(&login.id));
    let words = [
        "label",
        login.id.as_str(),
        "--compromised",
        "--kind",
        "phishing",
        "--as",
        "bo",
    ];
    assert_eq!(world.command(&words).0, Some(0));
    let seen = vi.get(&page).await.body;
    assert!(
        seen.contains("badge compromised") && seen.contains("phishing"),
        "{seen}"
    );
    // Taken back: the latest word counts.
    world.expect_record();
    assert_eq!(ann.post(&path, &safe).await.status, 303);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
    world.records().await;
}
