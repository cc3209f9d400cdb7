//! Every other kind of path: what is passed unscored, and what is not there for the public.

use crate::gateway::Options;
use crate::gateway::World;
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn passed_paths_are_forwarded_unscored() {
    let world = World::start(Options {
        mode: "enforce",
        config: "[routes]\npass = [\"/sim\"]",
        ..Options::default()
    })
    .await;
    for (method, path) in [
        (Method::GET, "/oauth2/jwks"),
        (Method::GET, "/t/example.com/oauth2/jwks"),
        (Method::GET, "/oauth2/userinfo"),
        (Method::POST, "/oauth2/introspect"),
        (Method::POST, "/oauth2/revoke"),
        (Method::GET, "/.well-known/openid-configuration"),
        (
            Method::GET,
            "/oauth2/token/.well-known/openid-configuration",
        ),
        (Method::GET, "/oidc/logout"),
        (Method::GET, "/logincontext?sessionDataKey=k"),
        (
            Method::GET,
            "/authenticationendpoint/login.do?sessionDataKey=k",
        ),
        (Method::GET, "/console/"),
        (Method::GET, "/myaccount/overview"),
        (Method::GET, "/scim2/Users"),
        (Method::PATCH, "/scim2/Users/x"),
        (Method::GET, "/api/server/v1/applications"),
        (Method::GET, "/favicon.ico"),
        (Method::HEAD, "/"),
        (Method::GET, "/sim/static"),
    ] {
        let mark = world.mark().await;
        world.send(world.request(method.clone(), path)).await;
        let record = world.record_since(mark).await;
        assert_eq!(
            (&*record.class, record.door.as_deref(), &*record.action),
            ("passed", None, "forwarded"),
            "{path}: {record:#?}"
        );
        assert_eq!((record.score, record.verdict), (None, None), "{path}");
        assert_eq!(record.grounds.as_deref(), Some("exempt"));
        let received = world.received_one_since(mark);
        assert_eq!(
            (received.method.as_str(), received.target.as_str()),
            (method.as_str(), path)
        );
        let risk: Vec<_> = received
            .headers
            .iter()
            .filter(|(name, _)| name.to_lowercase().starts_with("x-risk"))
            .collect();
        assert_eq!(
            risk,
            [&("x-risk-status".to_owned(), "off".to_owned())],
            "{path}"
        );
    }
}

/// A browser's question at a door passes unscored, and nothing with it that somebody could act on.
#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_at_a_door_brings_nothing_along() {
    const ASKS: &str = "Origin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\n";
    const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let options = |path: &str, headers: &str, body: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n{body}"
        )
        .into_bytes()
    };
    for (path, arrives) in [
        ("/oauth2/token", "/oauth2/token"),
        (
            "/oauth2/token?grant_type=password&username=alice&password=x",
            "/oauth2/token",
        ),
        (
            "/t/example.com/oauth2/authn?",
            "/t/example.com/oauth2/authn",
        ),
    ] {
        let mark = world.mark().await;
        let asked = options(path, &format!("{ASKS}Content-Length: 0\r\n"), "");
        world.raw(&asked).await;
        let record = world.record_since(mark).await;
        assert_eq!(
            (&*record.class, &*record.action, record.score),
            ("passed", "forwarded", None),
            "{path}"
        );
        let received = world.received_one_since(mark);
        assert_eq!(
            (received.method.as_str(), received.target.as_str()),
            ("OPTIONS", arrives)
        );
    }
    let body = "grant_type=password&username=alice&password=x";
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (what, headers, body, status, error) in [
        (
            "a body",
            format!("{ASKS}{FORM}{length}"),
            body,
            400,
            "preflight",
        ),
        (
            "a body in chunks",
            format!("{ASKS}{FORM}Transfer-Encoding: chunked\r\n"),
            chunks.as_str(),
            400,
            "preflight",
        ),
        ("no question", String::new(), "", 405, "method"),
        (
            "no method to come",
            "Origin: https://app.example.com\r\n".to_owned(),
            "",
            405,
            "method",
        ),
        (
            "credentials",
            format!("{ASKS}Authorization: Basic YTpi\r\n"),
            "",
            405,
            "method",
        ),
    ] {
        let mark = world.mark().await;
        let asked = options("/oauth2/token", &headers, body);
        let answer = world.raw(&asked).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        let allow = (status == 405).then_some("POST");
        assert_eq!(answer.header("allow"), allow, "{what}");
        let record = world.record_since(mark).await;
        assert_eq!(record.error.as_deref(), Some(error), "{what}");
        assert!(world.received_since(mark).is_empty(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_bodies_are_streamed_whatever_their_size() {
    let world = World::start(Options::default()).await;
    let body = vec![b'a'; 300_000];
    let mark = world.mark().await;
    let request = world
        .request(Method::POST, "/scim2/Bulk")
        .header("content-type", "application/scim+json")
        .body(body.clone());
    world.send(request).await;
    assert_eq!(world.received_one_since(mark).body, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_for_the_public_is_not_there() {
    let world = World::start(Options::default()).await;
    for (path, class) in [
        ("/services/RemoteUserStoreManagerService", "blocked"),
        ("/carbon/admin/login.jsp", "blocked"),
        ("/t/example.com/carbon/admin/login.jsp", "blocked"),
        ("/registry/resource", "blocked"),
        ("/manager/html", "blocked"),
        ("/api/identity/auth/v1.1/authenticate", "blocked"),
        (
            "/t/example.com/api/identity/auth/v1.2/authenticate",
            "blocked",
        ),
        ("/unknown", "unknown"),
        ("/oauth2/unknown", "unknown"),
        ("/commonauth/x", "unknown"),
        ("/admin", "unknown"),
        ("/metrics", "unknown"),
        ("/debug", "unknown"),
        ("/health/ready", "unknown"),
        ("/riskgate/metrics", "own"),
    ] {
        let mark = world.mark().await;
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.header("server").is_none(), "{path}: {answer:?}");
        let record = world.record_since(mark).await;
        assert_eq!(
            (&*record.class, record.error.as_deref(), &*record.action),
            (class, Some("not_found"), "refused"),
            "{path}"
        );
        assert!(world.received_since(mark).is_empty(), "{path}");
    }
    for (method, path, allow) in [
        (Method::GET, "/oauth2/token", "POST"),
        (Method::PUT, "/oauth2/authorize", "GET, POST"),
        (Method::HEAD, "/commonauth", "GET, POST"),
        (
            Method::from_bytes(b"TRACE").unwrap(),
            "/",
            "GET, HEAD, OPTIONS",
        ),
    ] {
        let mark = world.mark().await;
        let answer = world.send(world.request(method, path)).await;
        assert_eq!(answer.status, 405, "{path}: {answer:?}");
        assert!(
            answer
                .header("allow")
                .is_some_and(|value| value.starts_with(allow)),
            "{path}: {answer:?}"
        );
        assert_eq!(
            world.record_since(mark).await.error.as_deref(),
            Some("method")
        );
        assert!(world.received_since(mark).is_empty(), "{path}");
    }
}
