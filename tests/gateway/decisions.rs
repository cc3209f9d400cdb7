//! Decisions as JSON: who may ask, what is found, page by page; and how soon one shows in the console.

use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::rules;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use reqwest::Method;
use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use std::time::Duration;
use std::time::Instant;

/// What a program with the operators' token is told: status and body.
async fn ask(world: &World, path: &str) -> (u16, Value) {
    let token = std::fs::read_to_string(world.data_dir().join("admin.token")).unwrap();
    let url = format!("http://127.0.0.1:{}{path}", world.admin_port);
    let request = world.http().get(url).bearer_auth(token.trim());
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    (status, answer.json().await.unwrap())
}

fn ids(list: &Value) -> Vec<String> {
    let decisions = list["decisions"].as_array().unwrap();
    let id = |decision: &Value| decision["id"].as_str().unwrap().to_owned();
    decisions.iter().map(id).collect()
}

/// All that the question finds, so many at a time.
async fn all(world: &World, question: &str, limit: usize) -> Vec<String> {
    let (mut found, mut older) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/decisions?limit={limit}{question}{older}");
        let (status, list) = ask(world, &path).await;
        assert_eq!(status, 200, "{list}");
        let part = ids(&list);
        assert!(part.len() <= limit);
        found.extend(part);
        match list["older"].as_str() {
            Some(place) => older = format!("&older={place}"),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_find_what_the_console_shows() {
    // Nobody is employed: there is no operator for whom records would be read.
    let world = World::start(Options {
        policy: Some(rules(&[("network.kind == \"hosting\"", "block")])),
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    world.person("bob").from(HOSTING).sign_in().await;
    let records = world.records().await;
    let expected: Vec<String> = records
        .iter()
        .rev()
        .map(|record| record.id.clone())
        .collect();
    eventually(async || (all(&world, "&all=1", 200).await == expected).then_some(())).await;
    assert_eq!(all(&world, "&all=1", 1).await, expected);

    let blocked: Vec<String> = records
        .iter()
        .rev()
        .filter(|record| record.verdict.as_deref() == Some("block"))
        .map(|record| record.id.clone())
        .collect();
    assert!(!blocked.is_empty() && blocked.len() < expected.len());
    assert_eq!(all(&world, "&verdict=block", 2).await, blocked);
    assert_eq!(all(&world, "&verdict=block&country=XX", 2).await, [""; 0]);

    let record = records
        .iter()
        .find(|record| record.id == blocked[0])
        .unwrap();
    let (status, one) = ask(&world, &format!("/api/decisions/{}", record.id)).await;
    assert_eq!(
        (status, &one["is_foreign"]),
        (200, &Value::Bool(false)),
        "{one}"
    );
    let whole: AuditEvent = serde_json::from_value(one["record"].clone()).unwrap();
    assert_eq!(&whole, record);
    let (_, list) = ask(&world, "/api/decisions?verdict=block&limit=1").await;
    let shown = &list["decisions"][0];
    assert_eq!(
        (&shown["score"], &shown["node"]),
        (&one["record"]["score"], &one["node"])
    );
    assert!(
        shown["node"].as_str().unwrap().starts_with("node-"),
        "{shown}"
    );

    for (path, status, said) in [
        ("/api/decisions?limit=201", 400, "expected 1 to 200"),
        ("/api/decisions?older=x", 400, "`older`"),
        ("/api/decisions?verdikt=block", 400, "no such name"),
        ("/api/decisions/none", 404, "no record has this id"),
    ] {
        let (found, body) = ask(&world, path).await;
        let error = body["error"].as_str().unwrap();
        assert!(
            found == status && error.contains(said),
            "{path}: {found} {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_shown_to_operators_and_to_nobody_else() {
    let world = with_operators(Options::default()).await;
    let paths = ["/api/decisions", "/api/decisions/none"];
    let mut stranger = Browser::new(&world);
    for path in paths {
        assert_eq!(stranger.get(path).await.status, 401, "{path}");
        for wrong in ["Bearer x", "Basic YTpi"] {
            let request = stranger.request(Method::GET, path);
            let answer = stranger.send(request.header("authorization", wrong)).await;
            assert_eq!(answer.status, 401, "{path}");
        }
        assert_eq!(
            stranger
                .request(Method::POST, path)
                .send()
                .await
                .unwrap()
                .status(),
            401
        );
    }
    // The least role; under another name not even that.
    let mut browser = Browser::of(&world, "vi").await;
    assert_eq!(browser.get("/api/decisions").await.status, 200);
    assert_eq!(browser.get("/api/decisions/none").await.status, 404);
    let request = browser.request(Method::GET, "/api/decisions");
    let answer = browser.send(request.header("host", "evil.example")).await;
    assert_eq!(answer.status, 421, "{answer:?}");
    let request = browser.request(Method::POST, "/api/decisions");
    assert_eq!(browser.send(request).await.status, 405);
    browser.post("/console/sign-out", &[]).await;
    assert_eq!(browser.get("/api/decisions").await.status, 401);
}

/// The fastest of several counts: a machine that stands still makes any of them late.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_shows_within_a_second() {
    const WITHIN: Duration = Duration::from_secs(1);
    let world = with_operators(Options::default()).await;
    let mut vi = Browser::of(&world, "vi").await;
    let request = vi.request(Method::GET, "/console/events");
    let mut events = request.send().await.unwrap();
    let mut fastest = Duration::MAX;
    let end = Instant::now() + PATIENCE;
    for number in 0.. {
        let start = Instant::now();
        let path = format!(
            "/oauth2/authorize?client_id=live-{number}&response_type=code&scope=openid&redirect_uri=https%3A%2F%2Fapp.example%2F"
        );
        world.send(world.request(Method::GET, &path)).await;
        // As the page does it: it asks again when it is told that something is new.
        let shown = async {
            loop {
                let piece = events.chunk().await.unwrap().expect("events go on");
                let is_told = String::from_utf8_lossy(&piece).contains("data:");
                if is_told
                    && vi
                        .get("/console")
                        .await
                        .body
                        .contains(&format!("live-{number}"))
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, shown)
            .await
            .expect("it shows");
        fastest = fastest.min(start.elapsed());
        if fastest < WITHIN {
            return;
        }
        assert!(Instant::now() < end, "the fastest took {fastest:?}");
    }
}
