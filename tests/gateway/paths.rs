//! Every measured spelling of a path, through the socket: refused, or forwarded in the one canonical form; never to a
//! door that was not scored.

use crate::gateway::Options;
use crate::gateway::World;
use riskgate::domain::target::CanonicalTarget;
use serde_json::Value;

/// Where the identity server's scored servlets are, told apart from the gateway's own table on purpose.
const SERVLETS: [(&str, &str); 14] = [
    ("/oauth2/authorize", "authorize"),
    ("/commonauth", "login"),
    ("/oauth2/authn", "authn"),
    ("/api/server/v1/flow/execute", "flow"),
    ("/oauth2/token", "token"),
    ("/oauth2/par", "par"),
    ("/oauth2/device_authorize", "device_authorize"),
    ("/oauth2/device", "device"),
    ("/oauth2/ciba", "ciba"),
    ("/oauth2/ciba_authorize", "ciba_authorize"),
    ("/samlsso", "saml"),
    ("/samlartresolve", "saml"),
    ("/passivests", "wsfed"),
    ("/api/identity/entitlement/decision/pdp", "pdp"),
];

/// One row of the measurement: the spelling, and the door at which it arrived, with tenant and organization.
struct Row {
    raw: String,
    door: Option<&'static str>,
    tenant: String,
    organization: Option<String>,
}

fn rows() -> Vec<Row> {
    let rows: Vec<Value> = serde_json::from_str(include_str!("../data/path-vectors.json"))
        .expect("the vectors are JSON");
    rows.iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().map(str::to_owned);
            let path = (row["status"] == 200).then(|| {
                let context = text("context").expect("a context").replace("%6f", "o");
                format!(
                    "{}{}",
                    context.trim_end_matches('/'),
                    text("path_info").expect("a path")
                )
            });
            let door = path.and_then(|path| {
                let path = path
                    .strip_suffix('/')
                    .unwrap_or(&path)
                    .replacen("/api/o/", "/api/", 1);
                SERVLETS
                    .iter()
                    .find(|(servlet, _)| *servlet == path)
                    .map(|(_, door)| *door)
            });
            Row {
                raw: text("raw").expect("each row has its raw target"),
                door,
                tenant: text("tenant").unwrap_or_else(|| "carbon.super".to_owned()),
                organization: text("org"),
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_measured_spelling_is_refused_or_forwarded_canonically() {
    let world = World::start(Options::default()).await;
    let rows = rows();
    assert_eq!(rows.len(), 97);
    let (mut arrive, mut forwarded) = (0, 0);
    for Row {
        raw,
        door,
        tenant,
        organization,
    } in &rows
    {
        // An absolute target names its host (RFC 9112 section 3.2.2).
        let host = raw
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .unwrap_or("localhost");
        let body = "x=y";
        let request = format!(
            "POST {raw} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mark = world.mark().await;
        let answer = world.raw(request.as_bytes()).await;
        let record = world.record_since(mark).await;
        let received = world.received_since(mark);
        arrive += usize::from(door.is_some());
        if received.is_empty() {
            assert!((400..500).contains(&answer.status), "`{raw}`: {answer:?}");
            assert!(record.error.is_some(), "`{raw}`: {record:#?}");
            continue;
        }
        forwarded += 1;
        assert_eq!(received.len(), 1, "`{raw}`");
        // A fragment is no part of a request target (RFC 9112 section 3.2) and gone before anything reads it.
        let target = raw.split('#').next().unwrap_or_default();
        let canonical = CanonicalTarget::parse(target.as_bytes())
            .unwrap_or_else(|error| panic!("`{raw}` was forwarded: {error}"));
        assert_eq!(received[0].target, canonical.forwarded(), "`{raw}`");
        if let Some(door) = door {
            assert_eq!(record.door.as_deref(), Some(*door), "`{raw}`: {record:#?}");
            assert_eq!(
                (record.tenant.as_deref(), &record.organization),
                (Some(tenant.as_str()), organization),
                "`{raw}`"
            );
            assert_eq!(record.status.as_deref(), Some("scored"), "`{raw}`");
        }
    }
    assert_eq!(
        (arrive, forwarded),
        (30, 26),
        "spellings that arrive at a door, and that were forwarded"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_spelling_is_the_canonical_one() {
    let world = World::start(Options::default()).await;
    for (raw, target, door) in [
        ("/oauth2/%74oken", "/oauth2/token", "token"),
        ("/oauth2/token/", "/oauth2/token/", "token"),
        ("/commonauth;jsessionid=1", "/commonauth", "login"),
        ("/t/foo/%6fauth2/token", "/t/foo/oauth2/token", "token"),
        (
            "/oauth2/token?x=/../authorize",
            "/oauth2/token?x=/../authorize",
            "token",
        ),
    ] {
        let mark = world.mark().await;
        let request = format!(
            "POST {raw} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        world.raw(request.as_bytes()).await;
        assert_eq!(world.received_one_since(mark).target, target, "{raw}");
        assert_eq!(
            world.record_since(mark).await.door.as_deref(),
            Some(door),
            "{raw}"
        );
    }
}
