//! The console's figures as JSON: who may ask, and that they are those of the records and of the pages.

use crate::gateway::HOSTING;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::rules;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use reqwest::Method;
use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use std::collections::BTreeMap;

const PATHS: [&str; 4] = [
    "/api/overview",
    "/api/monitor",
    "/api/model",
    "/api/users/somebody",
];

/// What a browser is told: status and JSON.
async fn ask(browser: &mut Browser<'_>, path: &str) -> (u16, Value) {
    let answer = browser.get(path).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// How many records have which value.
fn counted<'r>(
    records: impl Iterator<Item = &'r AuditEvent>,
    of: impl Fn(&AuditEvent) -> Option<&str>,
) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for value in records.filter_map(of) {
        *counts.entry(value.to_owned()).or_default() += 1;
    }
    counts
}

/// Counts of an answer, those without any left out.
fn counts(value: &Value) -> BTreeMap<String, u64> {
    let counts: BTreeMap<String, u64> = serde_json::from_value(value.clone()).unwrap();
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_shown_to_operators_and_to_nobody_else() {
    let world = with_operators(Options::default()).await;
    let mut stranger = Browser::new(&world);
    let mut vi = Browser::of(&world, "vi").await;
    for path in PATHS {
        assert_eq!(ask(&mut stranger, path).await.0, 401, "{path}");
        let request = stranger.request(Method::GET, path);
        let wrong = request.header("authorization", "Bearer x");
        assert_eq!(stranger.send(wrong).await.status, 401, "{path}");
        assert_eq!(ask(&mut vi, path).await.0, 200, "{path}");
        let request = vi.request(Method::GET, path);
        let elsewhere = vi.send(request.header("host", "evil.example")).await;
        assert_eq!(elsewhere.status, 421, "{path}");
        let request = vi.request(Method::POST, path);
        assert_eq!(vi.send(request).await.status, 405, "{path}");
        for query in ["?spam=hour", "?span=year", "?span=", "?limit=0", "?all=2"] {
            let (status, body) = ask(&mut vi, &format!("{path}{query}")).await;
            assert_eq!(status, 400, "{path}{query}: {body}");
            assert!(
                body["error"].as_str().unwrap().contains("expected"),
                "{body}"
            );
        }
    }
    let twice = "/api/overview?span=day&span=day";
    assert_eq!(ask(&mut vi, twice).await.0, 400);
    assert_eq!(ask(&mut vi, "/api/users/x?older=1").await.0, 400);
    // Nothing is known of them: an empty list is the truth.
    for subject in [
        "%00",
        "..%2f..%2f",
        "%22%3E%3Cscript%3E",
        &"x".repeat(2_000),
    ] {
        let (status, user) = ask(&mut vi, &format!("/api/users/{subject}")).await;
        assert_eq!(
            (status, user["decisions"].as_array().unwrap().len()),
            (200, 0),
            "{user}"
        );
    }
    assert_eq!(ask(&mut vi, "/api/users/%20").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_those_of_the_records_and_of_the_pages() {
    let world = with_operators(Options {
        mode: "enforce",
        policy: Some(rules(&[("network.kind == \"hosting\"", "block")])),
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    let mut bob = world.person("bob").from(HOSTING);
    for _ in 0..2 {
        assert_eq!(bob.open().await.status, 403);
    }
    let mut ann = Browser::of(&world, "ann").await;
    let records = world.records().await;
    let decided: Vec<&AuditEvent> = records.iter().filter(|one| one.verdict.is_some()).collect();
    let met = || {
        decided
            .iter()
            .copied()
            .filter(|one| one.verdict.as_deref() != Some("allow"))
    };
    assert!(met().count() >= 2 && met().count() < decided.len());
    let all = decided.len() as u64;
    let overview = eventually(async || {
        let (status, overview) = ask(&mut ann, "/api/overview").await;
        (status == 200 && overview["decisions"] == all).then_some(overview)
    })
    .await;
    assert_eq!(
        (&overview["span"], &overview["is_reading"]),
        (&"day".into(), &false.into())
    );
    assert_eq!(overview["not_allowed"], met().count() as u64);
    let by = |of: fn(&AuditEvent) -> Option<&str>| counted(decided.iter().copied(), of);
    assert_eq!(
        counts(&overview["verdicts"]),
        by(|one| one.verdict.as_deref())
    );
    assert_eq!(counts(&overview["levels"]), by(|one| one.level.as_deref()));
    assert_eq!(
        counts(&overview["countries"]),
        by(|one| one.country.as_deref())
    );
    assert_eq!(
        counts(&overview["matched"]),
        by(|one| one.matched.as_deref())
    );
    let mut reasons = BTreeMap::new();
    for reason in met().flat_map(|one| &one.reasons) {
        *reasons.entry(reason.to_string()).or_insert(0) += 1;
    }
    assert_eq!(counts(&overview["reasons"]), reasons);
    let stretches = overview["stretches"].as_array().unwrap();
    let sum: u64 = stretches
        .iter()
        .map(|one| one["decisions"].as_u64().unwrap())
        .sum();
    assert_eq!((stretches.len(), sum), (24, all));
    let (_, hour) = ask(&mut ann, "/api/overview?span=hour").await;
    assert_eq!(hour["stretches"].as_array().unwrap().len(), 60);
    let page = ann.get("/console/overview").await.body;
    assert!(page.contains(&format!("Decisions<b>{all}</b>")), "{page}");

    let (_, monitor) = ask(&mut ann, "/api/monitor").await;
    assert_eq!(
        (&monitor["span"], &monitor["mode"], &monitor["enforced"]),
        (
            &"week".into(),
            &"enforce".into(),
            &(met().count() as u64).into()
        )
    );
    assert_eq!(
        counts(&monitor["verdicts"]),
        by(|one| one.verdict.as_deref())
    );
    let applications = monitor["applications"].as_object().unwrap();
    let in_groups: u64 = applications
        .values()
        .map(|one| one["decisions"].as_u64().unwrap())
        .sum();
    assert_eq!(in_groups, all, "{monitor}");
    let kinds = monitor["kinds"].as_object().unwrap();
    let in_kinds: u64 = kinds
        .values()
        .map(|one| one["not_allowed"].as_u64().unwrap())
        .sum();
    assert_eq!(in_kinds, met().count() as u64);

    let (_, model) = ask(&mut ann, "/api/model").await;
    let login = &model["models"][0];
    assert_eq!(
        (&model["breaker"], &login["kind"]),
        (&"closed".into(), &"login".into())
    );
    let version = login["version"].as_str().unwrap();
    assert!(
        decided
            .iter()
            .any(|one| one.model.as_deref() == Some(version)),
        "{model}"
    );
    let page = ann.get("/console/model").await.body;
    assert!(page.contains(version) && page.contains(&login["digest"].as_str().unwrap()[..16]));
    let card = model["card"].as_str().unwrap();
    let title = card.lines().next().unwrap().trim_start_matches("# ");
    assert!(
        page.contains(&format!("<h3>{title}</h3>")) && page.contains("<table>"),
        "{page}"
    );
    let requests = login["drift"]["requests"].as_u64();
    assert!(requests.is_none_or(|requests| requests <= all), "{model}");
    user(&world, &mut ann, &records).await;
}

/// One user's decisions, what they have in common, and what was said of them.
async fn user(world: &World, ann: &mut Browser<'_>, records: &[AuditEvent]) {
    let login = records
        .iter()
        .rfind(|one| one.door.as_deref() == Some("login"))
        .unwrap();
    let subject = login.subject.as_deref().unwrap();
    world.expect_record();
    let form = [("truth", "safe"), ("note", "asked <b>her</b>")];
    let path = format!("/console/decisions/{}/label", login.id);
    assert_eq!(ann.post(&path, &form).await.status, 303);
    world.records().await;
    let (_, user) = ask(ann, &format!("/api/users/{subject}")).await;
    let of_user: Vec<&str> = records
        .iter()
        .rev()
        .filter(|one| one.subject.as_deref() == Some(subject) && one.verdict.is_some())
        .map(|one| one.id.as_str())
        .collect();
    let decisions = user["decisions"].as_array().unwrap();
    let ids: Vec<&str> = decisions
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, of_user);
    let verdicts = user["common"]["verdicts"].as_array().unwrap();
    let sum: u64 = verdicts
        .iter()
        .map(|one| one["count"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, of_user.len() as u64, "{user}");
    let networks = user["networks"].as_array().unwrap();
    assert_eq!(
        networks[0]["prefix"],
        login.prefix.clone().unwrap(),
        "{user}"
    );
    let label = &user["labels"][&login.id];
    assert_eq!(
        (&label["label"], &label["note"]),
        (&"safe".into(), &"asked <b>her</b>".into())
    );
    let (_, one) = ask(ann, &format!("/api/decisions/{}", login.id)).await;
    assert_eq!(&one["label"], label);
    let (_, first) = ask(ann, &format!("/api/users/{subject}?limit=1")).await;
    assert_eq!(first["decisions"].as_array().unwrap().len(), 1);
    assert_eq!(first["older"].is_string(), of_user.len() > 1, "{first}");
}
