//! Analysts confirm decisions as safe or compromised, in the console or through a program: the same labels as those of
//! `riskgate label`, each word once.

use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use reqwest::Method;
use serde_json::Value;

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
            &*record.class,
            &*record.action,
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
    // It goes by the gateway, and is on record.
    world.expect_record();
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

/// What the gateway answers to a word: status and body.
async fn told(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    (status, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_what_a_decision_was() {
    let world = with_operators(Options::default()).await;
    world.person("alice").from(HOSTING).sign_in().await;
    let login = world.last_record_of("login").await;
    let token = std::fs::read_to_string(world.data_dir().join("admin.token")).unwrap();
    let url = |id: &str| {
        let port = world.admin_port;
        format!("http://127.0.0.1:{port}/api/decisions/{id}/label")
    };
    let ask = |id: &str, form: &'static str| {
        world
            .http()
            .post(url(id))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
    };
    let by_token = |id: &str, form| ask(id, form).bearer_auth(token.trim());
    let named = |id: &str, form| by_token(id, form).header("x-riskgate-operator", "so\u{20ac}ar");

    // Who may not.
    let (status, body) = told(ask(&login.id, "truth=safe&note=x")).await;
    assert_eq!(status, 401, "{body}");
    let (status, body) = told(ask(&login.id, "truth=safe").bearer_auth("x")).await;
    assert_eq!(status, 401, "{body}");
    let (status, body) = told(named(&login.id, "truth=safe").header("host", "evil.example")).await;
    assert_eq!(status, 421, "{body}");
    let (status, body) = told(by_token(&login.id, "truth=safe")).await;
    assert!(
        status == 400 && body.to_string().contains("names nobody"),
        "{body}"
    );
    let signed = |browser: &Browser<'_>, form: String| {
        let path = format!("/api/decisions/{}/label", login.id);
        let request = browser.request(Method::POST, &path);
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
    };
    let vi = Browser::of(&world, "vi").await;
    let form = format!("truth=safe&note=x&token={}", vi.token);
    let (status, body) = told(signed(&vi, form)).await;
    assert!(
        status == 403 && body.to_string().contains("role analyst"),
        "{body}"
    );
    let ann = Browser::of(&world, "ann").await;
    for form in [
        "truth=safe&note=x".to_owned(),
        format!("truth=safe&token={}", vi.token),
    ] {
        let (status, body) = told(signed(&ann, form)).await;
        assert!(
            status == 403 && body.to_string().contains("`token`"),
            "{body}"
        );
    }

    // What cannot be said.
    for (form, said) in [
        ("", "safe or compromised"),
        ("truth=maybe", "safe or compromised"),
        ("truth=safe&truth=compromised", "it once"),
        ("truth=compromised&sessions=yes", "`sessions`: `yes`"),
        ("truth=compromised&session=end", "no such name but"),
        ("truth=safe&%1b%5b31m=1", "`\\u{1b}[31m`"),
    ] {
        let (status, body) = told(named(&login.id, form)).await;
        let error = body["error"].as_str().unwrap();
        assert!(status == 400 && error.contains(said), "{form}: {body}");
    }
    let long: &'static str =
        Box::leak(format!("truth=safe&note={}", "x".repeat(9_000)).into_boxed_str());
    let answer = named(&login.id, long).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    for id in ["none", "..%2f", "%00", "%ff", &"x".repeat(65)] {
        let answer = named(id, "truth=safe").send().await.unwrap();
        let status = answer.status().as_u16();
        assert!(
            status == 404 || (id == "%ff" && status == 400),
            "{id}: {status}"
        );
    }
    assert!(!world.data_dir().join("labels.jsonl").exists());

    // The word of a program, and that of an operator.
    world.expect_record();
    let form = "truth=compromised&kind=phishing&note=called%20%3Cb%3Eback%0a&sessions=end";
    let (status, body) = eventually(async || {
        let (status, body) = told(named(&login.id, form)).await;
        (![404, 503].contains(&status)).then_some((status, body))
    })
    .await;
    assert_eq!(status, 200, "{body}");
    // Ending sessions is off as shipped.
    assert_eq!(
        (&body["is_new"], &body["ends_sessions"]),
        (&true.into(), &false.into())
    );
    assert_eq!(body["label"]["note"], "called <b>back");
    assert_eq!(body["label"]["attacker_kind"], "phishing");
    let record = world.last_record().await;
    assert_eq!(
        (&*record.class, &*record.action, record.labelled.as_deref()),
        ("operator", "labelled_compromised", Some(login.id.as_str()))
    );
    assert!(
        record.operator.as_deref().unwrap().starts_with("so"),
        "{record:?}"
    );
    let (status, again) = told(named(&login.id, form)).await;
    assert_eq!(
        (status, &again["is_new"], &again["label"]),
        (200, &false.into(), &body["label"])
    );
    world.expect_record();
    let form = format!("truth=safe&note=mistaken&token={}", ann.token);
    let (status, body) = told(signed(&ann, form)).await;
    assert_eq!(
        (status, &body["label"]["operator"]),
        (200, &"ann".into()),
        "{body}"
    );
    let record = world.last_record().await;
    assert_eq!(
        (&*record.action, record.operator.as_deref()),
        ("labelled_safe", Some("ann"))
    );

    // The list has the word that counts.
    let list = async |query: &str| {
        let url = format!("http://127.0.0.1:{}/api/labels{query}", world.admin_port);
        told(world.http().get(url).bearer_auth(token.trim())).await
    };
    let (status, labels) = list("").await;
    assert_eq!(
        (status, labels["labels"].as_array().unwrap().len()),
        (200, 1),
        "{labels}"
    );
    assert_eq!(labels["labels"][0], body["label"]);
    let (_, labels) = list("?truth=compromised").await;
    assert_eq!(labels["labels"].as_array().unwrap().len(), 0);
    let (status, body) = list("?truth=maybe").await;
    assert_eq!(status, 400, "{body}");
    let request = vi.request(Method::GET, "/api/labels");
    assert_eq!(told(request).await.0, 200);
    let request = Browser::new(&world).request(Method::GET, "/api/labels");
    assert_eq!(told(request).await.0, 401);
}
