//! The gateway's own paths and the operators' listener: served here alone, and firm against whatever is sent to them.

use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::enforcing;
use crate::gateway::rules;
use crate::review::review;
use reqwest::Method;
use std::os::unix::fs::PermissionsExt;

async fn held_world() -> World {
    enforcing(rules(&[("request.door == \"login\"", "review")])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn own_paths_are_never_forwarded() {
    let world = World::start(Options::default()).await;
    for (method, path, status, allow) in [
        ("GET", "/riskgate", 404, None),
        ("GET", "/riskgate/", 404, None),
        ("GET", "/riskgate/nothing", 404, None),
        ("POST", "/riskgate/nothing", 404, None),
        ("DELETE", "/riskgate/devices/1", 404, None),
        ("GET", "/riskgate/review", 404, None),
        ("GET", "/riskgate/review/a/b", 404, None),
        ("GET", "/t/example.com/riskgate/devices", 404, None),
        ("GET", "/o/1234/riskgate/devices", 404, None),
        ("POST", "/riskgate/review/abc", 405, Some("GET, HEAD")),
        ("PUT", "/riskgate/devices", 405, Some("GET, HEAD, POST")),
        ("OPTIONS", "/riskgate/devices", 405, Some("GET, HEAD, POST")),
        ("GET", "/riskgate/devices", 200, None),
        ("HEAD", "/riskgate/devices", 200, None),
        ("GET", "/riskgate/devices/", 200, None),
    ] {
        let mark = world.mark().await;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = world.send(world.request(method, path)).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (status, allow),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert_eq!(world.received_since(mark).len(), 0, "{path} was forwarded");
        let record = world.record_since(mark).await;
        let action = if status == 200 { "served" } else { "refused" };
        assert_eq!(record.action, action, "{path}: {record:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_not_given_is_not_there() {
    let world = held_world().await;
    let mut alice = world.person("alice");
    let held = alice.try_password().await;
    let page = held.location().unwrap().path().to_owned();
    let sealed = page.rsplit('/').next().unwrap().to_owned();
    let id = world.last_record_of("login").await.review.unwrap();
    let mut tried = vec![
        id.clone(),
        sealed[1..].to_owned(),
        format!("{sealed}A"),
        "A".repeat(sealed.len()),
        "A".repeat(2_000),
        "-".to_owned(),
    ];
    // Every place, another letter.
    for place in (0..sealed.len()).step_by(3) {
        let mut letters: Vec<char> = sealed.chars().collect();
        letters[place] = if letters[place] == 'x' { 'y' } else { 'x' };
        tried.push(letters.into_iter().collect());
    }
    // The form of one page and the cookie of the browser are no page either.
    tried.push(alice.cookie("__Host-rg_review").unwrap().to_owned());
    for wrong in tried.iter().filter(|wrong| **wrong != sealed) {
        let answer = alice.get(&format!("/riskgate/review/{wrong}")).await;
        assert_eq!(answer.status, 404, "{wrong}");
        assert!(!answer.body.contains(&id[..8]), "{wrong}");
    }
    assert_eq!(alice.get(&page).await.status, 202);
    for query in [
        "?look=-1",
        "?look=70000",
        "?look=%3Cscript%3E",
        "?a=b&look=9",
    ] {
        let answer = alice.get(&format!("{page}{query}")).await;
        assert_eq!(answer.status, 202, "{query}");
        assert!(
            answer.header("refresh").unwrap().ends_with("?look=1"),
            "{query}: {answer:?}"
        );
    }
}

/// A request to the operators' listener.
async fn admin(
    world: &World,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (u16, String) {
    let url = format!("http://127.0.0.1:{}{path}", world.admin_port);
    let mut request = world.http().request(method, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_for_operators_alone() {
    let world = held_world().await;
    let mut alice = world.person("alice");
    alice.try_password().await;
    let id = world.last_record_of("login").await.review.unwrap();
    let file = world.data_dir().join("admin.token");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let wrong = format!("Bearer {}", "0".repeat(64));
    let release = format!("/review/{id}/release");
    let none = String::new;

    for authorization in [
        None,
        Some(wrong.as_str()),
        Some("Bearer"),
        Some("Basic YTpi"),
    ] {
        for (method, path) in [(Method::GET, "/review"), (Method::POST, release.as_str())] {
            let mut headers = vec![("x-riskgate-operator", "eve")];
            headers.extend(authorization.map(|value| ("authorization", value)));
            let (status, body) = admin(&world, method, path, &headers, none()).await;
            assert_eq!(status, 401, "{authorization:?} {path}");
            assert!(!body.contains(&id), "{body}");
        }
    }
    // A page in an operator's browser that has found this listener by another name.
    let named = [
        ("authorization", bearer.as_str()),
        ("x-riskgate-operator", "eve"),
        ("host", "evil.example:9090"),
    ];
    let (status, _) = admin(&world, Method::POST, &release, &named, none()).await;
    assert_eq!(status, 421);

    let good = [
        ("authorization", bearer.as_str()),
        ("x-riskgate-operator", "ann"),
    ];
    for (method, path, status) in [
        (Method::GET, release.as_str(), 405),
        (Method::DELETE, "/review", 405),
        (Method::POST, "/review/ffffffff/release", 404),
        (Method::POST, "/review/0/release", 404),
        (Method::POST, "/review/%2e%2e/release", 404),
        (Method::POST, &format!("/review/{id}/forgive"), 404),
    ] {
        let (found, _) = admin(&world, method.clone(), path, &good, none()).await;
        assert_eq!(found, status, "{method} {path}");
    }
    let (status, _) = admin(&world, Method::POST, &release, &good[..1], none()).await;
    assert_eq!(status, 400, "somebody has to decide");
    // Too much by a little: more would still be on its way when the refusal closes the connection.
    let (status, _) = admin(&world, Method::POST, &release, &good, "x".repeat(4_097)).await;
    assert_eq!(status, 413);
    // Nothing of all that has decided anything.
    let (status, body) = admin(&world, Method::GET, "/review", &good, none()).await;
    assert!(status == 200 && body.contains(&id), "{body}");
    // Metrics and health stay open to who reaches them.
    assert_eq!(world.admin("/health/ready").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_is_wrong() {
    let mut world = held_world().await;
    let empty = review(&world, &["list"]).await;
    assert_eq!(
        (empty.code, empty.out.as_str()),
        (0, "no login waits for review\n")
    );
    world.person("alice").try_password().await;
    let id = world.last_record_of("login").await.review.unwrap();
    let listed = review(&world, &["list"]).await;
    assert!(
        listed.out.lines().count() == 2 && listed.out.contains(&id[..8]),
        "{}",
        listed.out
    );
    for unknown in ["ffffffff", "ffffffffffffffffffffffffffffffff", &id[..7]] {
        let said = review(&world, &["release", unknown]).await;
        assert_eq!(said.code, 3, "{unknown}: {}", said.err);
        assert!(said.err.contains("review list"), "{}", said.err);
    }
    for wrong in ["../metrics", "x y", "a\r\nHost: b", &"f".repeat(33), ""] {
        let said = review(&world, &["refuse", wrong]).await;
        assert_eq!(said.code, 2, "{wrong}: {}", said.err);
    }
    assert_eq!(review(&world, &["release"]).await.code, 2);

    let other = tempfile::tempdir().unwrap();
    let token = other.path().join("other.token");
    std::fs::write(other.path().join("admin.token"), "f".repeat(64)).unwrap();
    std::fs::write(&token, "f".repeat(64)).unwrap();
    let folder = other.path().to_str().unwrap();
    let said = review(&world, &["list", "--data", folder]).await;
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("admin.token"), "{}", said.err);
    let said = review(&world, &["list", "--data", &format!("{folder}/missing")]).await;
    assert!(
        said.code == 2 && said.err.contains("admin.token_file"),
        "{}",
        said.err
    );

    world.expect_record();
    let done = review(&world, &["refuse", &id[..10], "--as", "ann\u{1b}[2J"]).await;
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.contains(&id), "{}", done.out);
    let record = world.last_record().await;
    assert_eq!(record.operator.as_deref(), Some("ann?[2J"));
    // Saying it again changes nothing and leaves no record.
    assert_eq!(review(&world, &["refuse", &id]).await.code, 0);
    let all = review(&world, &["list", "--all"]).await;
    assert!(all.out.contains("refused"), "{}", all.out);

    world.stop().await;
    let said = review(&world, &["list"]).await;
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("riskgate run"), "{}", said.err);
}
