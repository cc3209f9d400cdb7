//! The stream that a fleet shares: each node's console shows what all nodes have decided, and believes nobody else.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::redis::RedisServer;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use riskgate::domain::audit::AuditEvent;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

const KEY: &[u8] = b"rg:1:audit:{fleet}";
const RECORDS: &str = "riskgate_audit_stream_records_total";

/// A node of a fleet that shares secrets and stream.
async fn node(name: &str, shared: &Path, redis: &RedisServer) -> World {
    let secret = shared.join("secret.key");
    std::fs::write(&secret, [7; 32]).unwrap();
    let config = format!(
        "[keys]\nsecret_file = '{}'\n[audit]\nnode = \"{name}\"\npeople_key_file = '{}'\n\
         [audit.stream]\nenabled = true\nurl = \"{}\"\n",
        secret.display(),
        shared.join("people.key").display(),
        redis.url()
    );
    with_operators(Options {
        // Options are kept for the whole of the run.
        config: Box::leak(config.into_boxed_str()),
        ..Options::default()
    })
    .await
}

/// The record of a login of alice's.
async fn login(world: &World) -> AuditEvent {
    world.person("alice").sign_in().await;
    let records = world.records().await;
    let found = records
        .iter()
        .rev()
        .find(|record| record.door.as_deref() == Some("login") && record.subject.is_some());
    found.expect("a login").clone()
}

/// The page, once it says all of that.
async fn shows(browser: &mut Browser<'_>, path: &str, said: &[&str]) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let missing: Vec<_> = said
            .iter()
            .filter(|text| !page.body.contains(**text))
            .collect();
        if missing.is_empty() {
            return page.body;
        }
        assert!(
            Instant::now() < end,
            "{path} has no {missing:?}: {}",
            page.body
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_console_shows_what_all_nodes_have_decided() {
    let (shared, redis) = (TempDir::new().unwrap(), RedisServer::start());
    let mut one = node("edge-1", shared.path(), &redis).await;
    let two = node("edge-2", shared.path(), &redis).await;
    let (here, there) = (login(&one).await, login(&two).await);
    let subject = here.subject.clone().unwrap();
    assert_eq!(there.subject.as_ref(), Some(&subject));
    let link = |record: &AuditEvent| format!("/console/decisions/{}\"", record.id);
    let links = [link(&here), link(&there)];
    let both: Vec<&str> = links.iter().map(String::as_str).collect();

    for (world, own, other, name) in [
        (&one, &here, &there, "edge-2"),
        (&two, &there, &here, "edge-1"),
    ] {
        let mut browser = Browser::of(world, "ann").await;
        let page = shows(&mut browser, "/console", &both).await;
        assert!(
            page.contains("<td>edge-1</td>") && page.contains("<td>edge-2</td>"),
            "{page}"
        );
        shows(&mut browser, &format!("/console/users/{subject}"), &both).await;
        let page = shows(
            &mut browser,
            &format!("/console?node={name}"),
            &[&link(other)],
        )
        .await;
        assert!(!page.contains(&link(own)), "{page}");
        let said = format!("Decided by the node <strong>{name}</strong>");
        let page = shows(
            &mut browser,
            &format!("/console/decisions/{}", other.id),
            &[&said],
        )
        .await;
        // The whole record, and what is worked out from it.
        for text in [
            "as it stands in the stream",
            "&quot;features&quot;",
            "What if",
            "Worked out by",
        ] {
            assert!(page.contains(text), "no {text}: {page}");
        }
        let one = browser
            .get(&format!("/api/decisions/{}", other.id))
            .await
            .json();
        assert_eq!(
            (&one["node"], &one["is_foreign"]),
            (&name.into(), &true.into()),
            "{one}"
        );
        let record: AuditEvent = serde_json::from_value(one["record"].clone()).unwrap();
        assert_eq!(&record, other);
        // An analyst may say of it what it was.
        let fields = [("truth", "safe"), ("note", "called back")];
        let path = format!("/console/decisions/{}/label", other.id);
        world.expect_record();
        assert_eq!(browser.post(&path, &fields).await.status, 303);
        world.records().await;
    }

    // What is in the stream is the line of the file, with the pseudonym and without the name.
    let entries = redis.command(&[b"XRANGE", KEY, b"-", b"+"]);
    let entries = String::from_utf8_lossy(&entries);
    for (world, record) in [(&one, &here), (&two, &there)] {
        let file = std::fs::read_to_string(world.data_dir().join("audit.jsonl")).unwrap();
        let id = format!("\"id\":\"{}\"", record.id);
        let line = file.lines().find(|line| line.contains(&id)).unwrap();
        assert!(entries.contains(line), "{line}");
    }
    assert!(
        !entries.contains("alice") && !entries.contains("\"mark\""),
        "{entries}"
    );

    // A node that starts reads back what the others did before.
    assert_eq!(one.restart().await, Some(0), "{}", one.log());
    let mut browser = Browser::of(&one, "vi").await;
    shows(&mut browser, "/console", &both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_into_the_stream_is_passed_over() {
    let (shared, redis) = (TempDir::new().unwrap(), RedisServer::start());
    let one = node("edge-1", shared.path(), &redis).await;
    let two = node("edge-2", shared.path(), &redis).await;
    let record = login(&two).await;
    let file = std::fs::read_to_string(two.data_dir().join("audit.jsonl")).unwrap();
    let id = format!("\"id\":\"{}\"", record.id);
    let good = file.lines().find(|line| line.contains(&id)).unwrap();
    let mut browser = Browser::of(&one, "ann").await;
    shows(
        &mut browser,
        "/console",
        &[&format!("/console/decisions/{}\"", record.id)],
    )
    .await;
    let before = one.metric(RECORDS, &[("result", "skipped")]).await;

    // Somebody else's record has no seal of the fleet, one of another line, or other fields.
    let forged = good.replace(&record.id, "forged");
    let long = "x".repeat(1024 * 1024);
    let entries: [&[&[u8]]; 6] = [
        &[b"record", forged.as_bytes(), b"seal", b""],
        &[b"record", forged.as_bytes(), b"seal", &[0; 32]],
        &[b"record", forged.as_bytes()],
        &[b"seal", b"x", b"record", b"{}"],
        &[b"record", long.as_bytes(), b"seal", b"x"],
        &[b"\xff\xfe", b"\0"],
    ];
    for fields in entries {
        let command = [&[b"XADD".as_slice(), KEY, b"*"], fields].concat();
        assert!(redis.command(&command).starts_with(b"$"));
    }
    eventually(async || {
        let skipped = one.metric(RECORDS, &[("result", "skipped")]).await - before;
        (skipped >= 6.0).then_some(())
    })
    .await;
    assert!(
        one.log().contains("no node with this secret has sealed"),
        "{}",
        one.log()
    );
    // What comes behind it shows, and nothing of it does.
    let next = login(&two).await;
    let page = shows(
        &mut browser,
        "/console?all=1",
        &[&format!("/console/decisions/{}\"", next.id)],
    )
    .await;
    assert!(!page.contains("forged"), "{page}");
    assert_eq!(browser.get("/console/decisions/forged").await.status, 404);
    assert!(one.metric(RECORDS, &[("result", "lost")]).await < 0.5);

    // Another type under the name: requests go on, and the page says what is missing.
    redis.command(&[b"DEL", KEY]);
    redis.command(&[b"SADD", KEY, b"x"]);
    shows(
        &mut browser,
        "/console",
        &["New decisions of other nodes are missing", "WRONGTYPE"],
    )
    .await;
    login(&one).await;
    let (status, body) = one.admin("/health/ready").await;
    assert!(status == 200 && body.contains("degraded"), "{body}");
    redis.command(&[b"DEL", KEY]);
    let last = login(&two).await;
    shows(
        &mut browser,
        "/console",
        &[&format!("/console/decisions/{}\"", last.id)],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_redis_is_refused_with_its_remedy() {
    let world = World::start(Options::default()).await;
    let file = world.config_file();
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("\n[audit.stream]\nenabled = true\n");
    std::fs::write(&file, text).unwrap();
    for command in ["check", "run"] {
        let (code, out, err) = world.command(&[command]);
        assert_eq!(code, Some(2), "{out}{err}");
        for part in [
            "riskgate.toml: audit.stream.url: missing",
            "redis+cluster://",
            "audit.stream.enabled = false",
        ] {
            assert!(err.contains(part), "{err}");
        }
    }
}
