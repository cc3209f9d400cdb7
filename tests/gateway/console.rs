//! The console on the operators' listener: who is let in to what, what pages show of hostile requests, what operators do.

use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::rules;
use crate::operators::Browser;
use crate::operators::PASSWORD;
use crate::operators::employ;
use crate::operators::eventually;
use crate::operators::hang_up;
use crate::operators::hidden;
use crate::operators::with_operators;
use reqwest::Method;
use riskgate::domain::operator::roster::Role;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_signs_in_and_out_and_both_are_recorded() {
    let world = with_operators(Options::default()).await;
    let mut browser = Browser::new(&world);
    let there = browser.get("/console/policy?check=1").await;
    assert_eq!(
        (there.status, there.header("location")),
        (
            303,
            Some("/console/sign-in?to=%2Fconsole%2Fpolicy%3Fcheck%3D1")
        )
    );
    for (name, password) in [("ann", "wrong horse battery"), ("nobody", PASSWORD)] {
        let refused = browser.sign_in(name, password).await;
        assert_eq!(refused.status, 401);
        assert!(refused.body.contains("Name or password is wrong"));
        assert!(browser.cookies.iter().all(|(name, _)| name != "rg_console"));
    }
    let records = world.records().await;
    let [.., known, unknown] = records.as_slice() else {
        panic!("{records:#?}");
    };
    assert_eq!(
        (&*known.class, &*known.action),
        ("operator", "sign_in_failed")
    );
    assert_eq!(
        (known.operator.as_deref(), unknown.operator.as_deref()),
        (Some("ann"), None)
    );

    let page = browser.get("/console/sign-in?to=%2Fconsole%2Fmodel").await;
    let fields = [
        ("token", hidden(&page.body)),
        ("name", "ann".to_owned()),
        ("password", PASSWORD.to_owned()),
        ("to", "/console/model".to_owned()),
    ];
    world.expect_record();
    let request = browser
        .request(Method::POST, "/console/sign-in")
        .form(&fields);
    let admitted = browser.send(request).await;
    assert_eq!(
        (admitted.status, admitted.header("location")),
        (303, Some("/console/model"))
    );
    let cookie = admitted
        .headers
        .iter()
        .find(|(_, value)| value.starts_with("rg_console="))
        .map(|(_, value)| value.as_str())
        .unwrap();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    assert_eq!(world.last_record().await.action, "signed_in");

    let page = browser.get("/console/model").await;
    assert_eq!(page.status, 200);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
        "{policy}"
    );

    // The session's value is new with each sign-in, and worth nothing after the end.
    let first = browser.cookies.clone();
    browser.read_token().await;
    world.expect_record();
    assert_eq!(browser.post("/console/sign-out", &[]).await.status, 303);
    assert_eq!(world.last_record().await.action, "signed_out");
    browser.cookies = first.clone();
    assert_eq!(browser.get("/console").await.status, 303);
    browser.cookies.clear();
    assert_eq!(browser.sign_in("ann", PASSWORD).await.status, 303);
    assert_ne!(browser.cookies, first);
    world.leaks_nothing(&[PASSWORD, "wrong horse battery", &browser.cookies[0].1]);
    world.records().await;
}

/// A password costs time in which whoever guesses could hang up.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wrong_is_recorded_also_where_the_browser_has_hung_up() {
    let world = with_operators(Options::default()).await;
    let mut browser = Browser::new(&world);
    let page = browser.get("/console/sign-in").await;
    let fields = [
        ("token", hidden(&page.body)),
        ("name", "ann".to_owned()),
        ("password", "wrong horse battery".to_owned()),
    ];
    world.expect_record();
    let request = browser
        .request(Method::POST, "/console/sign-in")
        .form(&fields);
    hang_up(&world, request, Duration::from_millis(50)).await;
    let record = world.last_record().await;
    assert_eq!(
        (&*record.action, record.operator.as_deref()),
        ("sign_in_failed", Some("ann"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_lets_in_whom_it_should() {
    let world = with_operators(Options::default()).await;
    let id = "0".repeat(32);
    let release = format!("/console/review/{id}/release");
    // The least role, and what that one gets.
    let paths = [
        (Method::GET, "/console", Role::Viewer, 200),
        (
            Method::GET,
            "/console?verdict=block&older=1-1",
            Role::Viewer,
            200,
        ),
        (Method::GET, "/console/decisions/none", Role::Viewer, 404),
        (Method::GET, "/console/users/none", Role::Viewer, 200),
        (Method::GET, "/console/overview", Role::Viewer, 200),
        (
            Method::GET,
            "/console/overview?span=hour",
            Role::Viewer,
            200,
        ),
        (Method::GET, "/console/review", Role::Viewer, 200),
        (Method::GET, "/console/monitor", Role::Viewer, 200),
        (Method::GET, "/console/model", Role::Viewer, 200),
        (Method::GET, "/console/policy", Role::Viewer, 200),
        (Method::GET, "/console/policy?check=1", Role::Viewer, 200),
        (Method::GET, "/console/policy/edit", Role::Admin, 200),
        (
            Method::GET,
            "/console/policy/versions/none",
            Role::Admin,
            404,
        ),
        (Method::POST, "/console/policy/check", Role::Admin, 200),
        (Method::POST, "/console/policy/save", Role::Admin, 409),
        (Method::POST, "/console/policy/restore", Role::Admin, 404),
        (Method::GET, "/console/rollout", Role::Viewer, 200),
        (Method::POST, "/console/rollout/promote", Role::Admin, 400),
        (Method::GET, "/console/nothing", Role::Viewer, 404),
        (Method::POST, release.as_str(), Role::Analyst, 404),
        (
            Method::POST,
            "/console/decisions/none/label",
            Role::Analyst,
            400,
        ),
        (Method::GET, "/console/sessions", Role::Admin, 200),
        (Method::POST, "/console/sessions/0/end", Role::Admin, 404),
    ];
    for (name, role) in [
        (None, None),
        (Some("vi"), Some(Role::Viewer)),
        (Some("ann"), Some(Role::Analyst)),
        (Some("ada"), Some(Role::Admin)),
    ] {
        let mut browser = match name {
            Some(name) => Browser::of(&world, name).await,
            None => Browser::new(&world),
        };
        for (method, path, least, status) in &paths {
            let answer = if *method == Method::GET {
                browser.get(path).await
            } else {
                browser.post(path, &[]).await
            };
            let expected = match role {
                None if *method == Method::GET => 303,
                None => 401,
                Some(role) if role < *least => 403,
                Some(_) => *status,
            };
            assert_eq!(
                answer.status, expected,
                "{name:?} {method} {path}: {}",
                answer.body
            );
            if expected == 303 {
                assert!(
                    answer
                        .header("location")
                        .unwrap()
                        .starts_with("/console/sign-in")
                );
            }
        }
    }
    // The public listener knows nothing of it.
    let public = world.get("/console/sign-in").await;
    assert!(!public.body.contains("riskgate"), "{public:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_carry_their_token_and_come_from_a_page_of_the_console() {
    let world = with_operators(Options::default()).await;
    let mut ada = Browser::of(&world, "ada").await;
    let good = ada.token.clone();
    for token in ["", "0", good.to_uppercase().as_str()] {
        let request = ada.request(Method::POST, "/console/sign-out");
        let answer = ada.send(request.form(&[("token", token)])).await;
        assert_eq!(answer.status, 403, "{token}");
    }
    let sign_out = |ada: &Browser<'_>, name: &'static str, value: String| {
        let request = ada.request(Method::POST, "/console/sign-out");
        request.form(&[("token", &good)]).header(name, value)
    };
    for (name, value) in [
        ("origin", "https://evil.example".to_owned()),
        ("origin", "null".to_owned()),
        ("sec-fetch-site", "cross-site".to_owned()),
        ("sec-fetch-site", "same-site".to_owned()),
    ] {
        let request = sign_out(&ada, name, value.clone());
        assert_eq!(ada.send(request).await.status, 403, "{name}: {value}");
    }
    let request = ada.request(Method::POST, "/console/sign-out");
    let long = [("token", good.clone()), ("more", "x".repeat(9_000))];
    assert_eq!(ada.send(request.form(&long)).await.status, 413);
    // By another name, whoever is asked.
    let request = ada
        .request(Method::GET, "/console")
        .header("host", "evil.example");
    assert_eq!(ada.send(request).await.status, 421);
    assert_eq!(ada.get("/console").await.status, 200);
    world.expect_record();
    let origin = format!("http://127.0.0.1:{}", world.admin_port);
    let request = sign_out(&ada, "origin", origin);
    assert_eq!(ada.send(request).await.status, 303);
    world.records().await;

    // A form for signing in that was planted is none.
    let mut stranger = Browser::new(&world);
    let request = stranger.request(Method::POST, "/console/sign-in");
    let fields = [("token", "x"), ("name", "ada"), ("password", PASSWORD)];
    let answer = stranger.send(request.form(&fields)).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_are_limited_by_name() {
    let world = with_operators(Options::default()).await;
    let mut browser = Browser::new(&world);
    let start = Instant::now();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(browser.sign_in("ann", "wrong horse battery").await.status);
    }
    let page = browser.get("/console/sign-in").await;
    let token = hidden(&page.body);
    let fields = [
        ("token", token.as_str()),
        ("name", "ann"),
        ("password", PASSWORD),
    ];
    let request = browser
        .request(Method::POST, "/console/sign-in")
        .form(&fields);
    let answer = browser.send(request).await;
    // On a machine on which six tries take a minute none is too many.
    if start.elapsed() < Duration::from_secs(55) {
        assert_eq!(statuses, [401; 5]);
        assert_eq!(answer.status, 429, "{answer:?}");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait));
        let records = world.records().await;
        let failed = records.iter().filter(|one| one.action == "sign_in_failed");
        assert_eq!(failed.count(), 5);
    }
    // Another name is not kept out by it.
    assert_eq!(browser.sign_in("vi", PASSWORD).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_show_as_they_happen_and_cannot_leave_their_place() {
    let world = with_operators(Options {
        policy: Some(rules(&[("request.door == \"login\"", "step_up")])),
        ..Options::default()
    })
    .await;
    let mut vi = Browser::of(&world, "vi").await;
    let empty = vi.get("/console/overview").await;
    assert!(
        empty.body.contains("No request was decided about"),
        "{}",
        empty.body
    );

    // Told of what comes.
    let events = vi
        .request(Method::GET, "/console/events")
        .send()
        .await
        .unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let told = tokio::spawn(async move {
        let mut events = events;
        let mut text = String::new();
        while let Some(piece) = events.chunk().await.unwrap() {
            text.push_str(&String::from_utf8_lossy(&piece));
            if text.contains("data:") {
                return;
            }
        }
        panic!("the events have ended: {text}");
    });
    let mut alice = world.person("alice").from(HOSTING);
    alice.sign_in().await;
    tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap();

    let hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";
    let encoded: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
    let path = format!(
        "/oauth2/authorize?client_id={encoded}&response_type=code&scope=openid&redirect_uri={encoded}&login_hint={encoded}&state={encoded}"
    );
    let request = world
        .request(Method::GET, &path)
        .header("user-agent", hostile)
        .header("accept-language", "<script>");
    world.send(request).await;
    let record = world.last_record().await;
    let page = eventually(async || {
        let page = vi.get("/console?all=1").await;
        page.body.contains(&record.id).then_some(page)
    })
    .await;
    let decision = vi.get(&format!("/console/decisions/{}", record.id)).await;
    assert_eq!(decision.status, 200);
    for page in [page, decision] {
        assert!(
            !page.body.contains("<img") && !page.body.contains("<script>"),
            "{}",
            page.body
        );
        assert_eq!(page.body.matches("<script").count(), 1, "ours alone");
        assert!(
            page.body.contains("&lt;script&gt;alert(1)"),
            "{}",
            page.body
        );
    }

    // Filters, the user's page, the figures.
    let login = world.last_record_of("login").await;
    let subject = login.subject.clone().unwrap();
    for (path, is_there) in [
        ("/console?verdict=step_up".to_owned(), true),
        ("/console?verdict=block".to_owned(), false),
        (
            format!(
                "/console?subject={subject}&door=login&level={}",
                login.level.clone().unwrap()
            ),
            true,
        ),
        ("/console?reason=rule_matched".to_owned(), true),
        ("/console?country=XX".to_owned(), false),
        (format!("/console?id={}", login.id), true),
        (format!("/console/users/{subject}"), true),
        (format!("/console/users/{subject}0"), false),
    ] {
        let page = vi.get(&path).await;
        assert_eq!(page.status, 200);
        assert_eq!(
            page.body.contains(&login.id[..]),
            is_there || page.body.contains(&format!("value=\"{}\"", login.id)),
            "{path}: {}",
            page.body
        );
    }
    let decision = vi
        .get(&format!("/console/decisions/{}", login.id))
        .await
        .body;
    for text in [
        "step up",
        "rule-0",
        "request.door == &quot;login&quot;",
        "the mode was monitor",
        "bit for bit",
        "The whole explanation in words",
        "From where",
        "1 network in 1 country",
    ] {
        assert!(decision.contains(text), "{text}: {decision}");
    }
    let what_if = format!("/console/decisions/{}?feature=geo_km&value=9000", login.id);
    assert!(vi.get(&what_if).await.body.contains("the score would be"));
    let what_if = format!("/console/decisions/{}?feature=geo_km&value=far", login.id);
    assert!(vi.get(&what_if).await.body.contains("is no number"));
    let overview = vi.get("/console/overview").await.body;
    assert!(
        overview.contains("<svg") && overview.contains("a policy rule matched"),
        "{overview}"
    );
    let report = vi.get("/console/monitor").await.body;
    assert!(
        report.contains("By application") && report.contains("rule-0"),
        "{report}"
    );
    // What is not there is not made up.
    assert_eq!(vi.get("/console/decisions/%3Cscript%3E").await.status, 404);
    assert_eq!(
        vi.get(&format!("/console/decisions/{}", "x".repeat(500)))
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_releases_a_held_login_and_a_viewer_only_looks() {
    let world = with_operators(Options {
        mode: "enforce",
        policy: Some(rules(&[(
            "request.door == \"login\" && user.name == \"alice\"",
            "review",
        )])),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let login = alice.open().await;
    let held = alice.submit_password(&login).await;
    assert_eq!(held.status, 303, "{held:?}");
    let held = world.last_record().await;
    let (id, user) = (held.review.unwrap(), held.subject.unwrap());

    let mut vi = Browser::of(&world, "vi").await;
    // The records' word for the user, which leads to all that is known, and the rule.
    let user = format!("href=\"/console/users/{user}\"");
    let page = eventually(async || {
        let page = vi.get("/console/review").await.body;
        (page.contains(&user) && page.contains("rule-0")).then_some(page)
    })
    .await;
    assert!(
        page.contains(&id[..8]) && !page.contains("/release"),
        "{page}"
    );
    let mut ann = Browser::of(&world, "ann").await;
    let page = ann.get("/console/review").await.body;
    assert!(
        page.contains(&format!("/console/review/{id}/release")),
        "{page}"
    );
    let note = "called back <b>twice</b>";
    world.expect_record();
    let answer = ann
        .post(
            &format!("/console/review/{id}/release"),
            &[("reason", note)],
        )
        .await;
    let done = format!("/console/review?done=release&login={id}");
    assert!(answer.status == 303 && answer.header("location") == Some(&*done));
    let record = world.last_record().await;
    assert_eq!(
        (
            &*record.class,
            &*record.action,
            record.operator.as_deref(),
            record.note.as_deref()
        ),
        ("review", "released", Some("ann"), Some(note))
    );
    let page = ann.get(&done).await.body;
    let said = format!("Released (reference <code>{}</code>)", &id[..8]);
    assert!(
        page.contains("No login waits") && page.contains(&said) && page.contains("&lt;b&gt;twice"),
        "{page}"
    );
    let again = ann.post(&format!("/console/review/{id}/refuse"), &[]).await;
    assert!(again.status == 409 && again.body.contains("href=\"/console/review\""));
    assert_eq!(
        ann.post(&format!("/console/review/{id}/keep"), &[])
            .await
            .status,
        404
    );
    alice.sign_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_says_by_now_counts() {
    let world = with_operators(Options::default()).await;
    let mut ann = Browser::of(&world, "ann").await;
    let mut ada = Browser::of(&world, "ada").await;
    assert_eq!(ada.get("/console/sessions").await.status, 200);
    // A role that is taken away, an operator who is gone.
    employ(&world, &[("ada", Role::Viewer)]);
    eventually(async || (ada.get("/console/sessions").await.status == 403).then_some(())).await;
    assert_eq!(ann.get("/console").await.status, 303);
    // A file that cannot be used changes nothing.
    let path = world.data_dir().join("operators.toml");
    std::fs::write(&path, "operator = 1").unwrap();
    eventually(async || world.log().contains("stay as they were").then_some(())).await;
    assert_eq!(ada.get("/console").await.status, 200);
    // Another admin ends a session.
    employ(&world, &[("ada", Role::Viewer), ("bea", Role::Admin)]);
    eventually(async || {
        (world.log().matches("of the console have changed").count() >= 3).then_some(())
    })
    .await;
    let mut bea = Browser::of(&world, "bea").await;
    let page = bea.get("/console/sessions").await.body;
    let (_, rest) = page.split_once("action=\"/console/sessions/").unwrap();
    let front = rest.split('/').next().unwrap();
    world.expect_record();
    let ended = bea
        .post(&format!("/console/sessions/{front}/end"), &[])
        .await;
    assert_eq!(ended.status, 303);
    let record = world.last_record().await;
    assert_eq!(
        (&*record.action, record.note.as_deref()),
        ("session_ended", Some("ada"))
    );
    assert_eq!(ada.get("/console").await.status, 303);
}

/// Every text of a record exchanged for `hostile`.
fn poisoned(value: &mut serde_json::Value, hostile: &str) {
    match value {
        serde_json::Value::String(text) => *text = hostile.to_owned(),
        serde_json::Value::Array(values) => {
            values.iter_mut().for_each(|value| poisoned(value, hostile))
        }
        serde_json::Value::Object(members) => members
            .values_mut()
            .for_each(|value| poisoned(value, hostile)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_a_record_can_leave_its_place() {
    let world = with_operators(Options::default()).await;
    let mut vi = Browser::of(&world, "vi").await;
    let mut alice = world.person("alice").from(HOSTING);
    alice.sign_in().await;
    let record = world.last_record_of("login").await;
    // As no gateway writes it: with every field there is, each of them hostile.
    let hostile = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}";
    let mut full = serde_json::to_value(&record).unwrap();
    for field in [
        "organization",
        "grant_type",
        "token",
        "token_decision",
        "as_org",
        "ja4",
        "fallback",
        "challenger_model",
        "challenger_verdict",
        "shown",
        "demand",
        "proof",
        "revocation",
        "error",
        "review",
        "review_state",
        "operator",
        "note",
        "country",
        "network",
        "browser",
        "os",
    ] {
        full[field] = hostile.into();
    }
    for field in ["reasons", "demand_scopes", "skipped_rules", "token_actions"] {
        full[field] = vec![hostile; 3].into();
    }
    full["counterfactuals"] = serde_json::json!([{ "without": hostile, "score": 1 }]);
    full["challenger_score"] = 7.into();
    poisoned(&mut full, hostile);
    let mut counted = full.clone();
    full["id"] = "hostile-1".into();
    counted["id"] = "hostile-2".into();
    counted["time"] = record.time.clone().into();
    counted["verdict"] = "block".into();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(world.data_dir().join("audit.jsonl"))
        .unwrap();
    std::io::Write::write_all(&mut file, format!("{full}\n{counted}\n").as_bytes()).unwrap();
    eventually(async || {
        let page = vi.get("/console").await;
        page.body.contains("hostile-2").then_some(())
    })
    .await;
    let user: String = form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
    let user = user.replace('+', "%20");
    for path in [
        "/console".to_owned(),
        format!("/console?application={user}&subject={user}&country={user}&id={user}"),
        "/console/decisions/hostile-1".to_owned(),
        format!("/console/decisions/hostile-2?feature={user}&value={user}"),
        format!("/console/users/{user}"),
        "/console/overview".to_owned(),
        "/console/monitor".to_owned(),
        "/console/policy".to_owned(),
        format!("/console/review?done={user}"),
        format!("/console/sign-in?to={user}"),
        format!("/console/{user}"),
    ] {
        let page = vi.get(&path).await.body;
        assert!(
            !page.contains("<img") && !page.contains("<script>"),
            "{path}: {page}"
        );
        assert!(page.matches("<script").count() <= 1, "{path}: {page}");
    }
    let page = vi.get("/console/decisions/hostile-1").await.body;
    assert!(page.matches("&lt;img src=x onerror").count() > 25, "{page}");
}
