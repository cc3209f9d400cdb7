//! API routes beyond tokens and levels: opaque tokens, preflights, streams, services that are away, reloads, demands.

use crate::gateway::Options;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::always;
use crate::lifecycle::until_reloaded;
use crate::resource::Service;
use crate::resource::bearer;
use crate::resource::call;
use crate::resource::issued_past;
use crate::resource::orders;
use crate::resource::refused;
use crate::resource::token_of;
use crate::resource::verified;
use crate::resource::world;
use reqwest::Method;
use wso2_sim::SimConfig;

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_is_as_good_as_wso2_says_at_that_moment() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("introspection.secret");
    std::fs::write(&secret, "riskgate-ops-secret\n").unwrap();
    let introspection = format!(
        "scopes = ['openid']\n[resource.introspection]\nclient_id = 'riskgate-ops'\nsecret_file = '{}'",
        secret.display()
    );
    let config = orders(&service.url, &introspection)
        + &orders(&service.url, "").replace("'/orders'", "'/billing'");
    let world = world("enforce", "medium", config).await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    let code = alice.sign_in().await;
    let token = alice.redeem(&code).await.member("access_token");
    assert!(!token.contains('.'), "{token}");
    let issue = world.last_record_of("token").await;
    let mark = world.mark().await;
    assert_eq!(call(&world, &bearer(&token)).await.status, 200);
    let record = world.record_since(mark).await;
    assert_eq!(
        record.token.as_deref(),
        Some("introspection"),
        "{record:#?}"
    );
    assert_eq!(record.token_decision.as_deref(), Some(issue.id.as_str()));
    let asked = world.received_since(mark);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].path(), "/oauth2/introspect");
    let word = verified(&world, service.last().header("x-risk-assertion").unwrap()).await;
    assert_eq!(
        (word["client_id"].as_str(), word["risk_level"].as_str()),
        (Some("demo-opaque"), Some("medium"))
    );
    // Asked again with each request: taken back is taken back at once.
    let fields = [("token", token.as_str())];
    let answer = world
        .post("/oauth2/revoke", Some("demo-opaque"), &fields)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    refused(&call(&world, &bearer(&token)).await, 401, "invalid_token");
    assert_eq!(
        world.last_record().await.error.as_deref(),
        Some("token_revoked")
    );
    // Where nobody may ask, it is no token.
    let other = world
        .request(Method::GET, "/billing")
        .header("authorization", bearer(&token));
    refused(&world.send(other).await, 401, "invalid_token");
    world.leaks_nothing(&[&token, "riskgate-ops-secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_preflight_passes_without_a_token() {
    let service = Service::start().await;
    let world = world("enforce", "low", orders(&service.url, "")).await;
    let asks = || {
        let request = world.request(Method::OPTIONS, "/orders/7");
        request
            .header("origin", "https://app.example.com")
            .header("access-control-request-method", "GET")
    };
    let answer = world.send(asks()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    let seen = service.last();
    assert_eq!(
        (
            seen.header("x-risk-status"),
            seen.header("x-risk-assertion")
        ),
        (Some("off"), None)
    );
    assert_eq!(world.last_record().await.grounds.as_deref(), Some("exempt"));
    // What only looks like one is a request like any other.
    refused(
        &world
            .send(world.request(Method::OPTIONS, "/orders/7"))
            .await,
        401,
        "",
    );
    let with_origin = world
        .request(Method::OPTIONS, "/orders/7")
        .header("origin", "https://a.example");
    refused(&world.send(with_origin).await, 401, "");
    let get = world
        .request(Method::GET, "/orders/7")
        .header("origin", "https://a.example");
    let get = get.header("access-control-request-method", "GET");
    refused(&world.send(get).await, 401, "");
    assert_eq!(world.send(asks().body("{}")).await.status, 400);
    let record = world.last_record().await;
    assert_eq!(record.error.as_deref(), Some("preflight"));
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_and_targets_have_one_form() {
    let service = Service::start().await;
    let world = world("enforce", "low", orders(&service.url, "")).await;
    let token = token_of(&world).await;
    // Far longer than what is read on a scored door.
    let body = vec![b'x'; 1_000_000];
    let request = world
        .request(Method::PUT, "/orders/7")
        .header("authorization", bearer(&token));
    let answer = world.send(request.body(body)).await;
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_000));
    assert_eq!(service.last().body_bytes, 1_000_000);
    let reached = service.seen().len();
    let raw = |target: &str, more: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}Connection: close\r\n\r\n"
        )
    };
    for (target, more, status) in [
        ("/orders/../commonauth", "", 400),
        ("/orders//7", "", 400),
        ("/orders/%2e%2e/7", "", 400),
        ("/orders/a%2fb", "", 400),
        ("/orders/7;x=1", "", 400),
        ("/orders\\7", "", 400),
        (
            "/orders/7",
            "Upgrade: websocket\r\nConnection: upgrade\r\n",
            400,
        ),
        ("/Orders/7", "", 404),
        ("/ordersx", "", 404),
        ("/t/example.com/orders/7", "", 404),
        ("/o/10084a8d-113f-4211-a0d5-efe36b082211/orders/7", "", 404),
    ] {
        let answer = world.raw(raw(target, more).as_bytes()).await;
        assert_eq!(answer.status, status, "{target}");
    }
    assert_eq!(service.seen().len(), reached);
    let answer = world.raw(raw("/orders/", "").as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(service.last().target, "/orders/");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_said_to_be() {
    // Nobody listens on the port that was just given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let unknown = orders("http://no-such-host.invalid:80", "").replace("'/orders'", "'/billing'");
    let world = world("enforce", "low", orders(&gone, "") + &unknown).await;
    let token = token_of(&world).await;
    for path in ["/orders/7", "/billing/7"] {
        let request = world
            .request(Method::GET, path)
            .header("authorization", bearer(&token));
        let answer = world.send(request).await;
        assert_eq!(answer.status, 502, "{path}: {answer:?}");
        assert_eq!(answer.member("message"), "the service does not answer");
        assert_eq!(answer.header("retry-after"), Some("5"));
        let record = world.last_record().await;
        assert_eq!((&*record.class, &*record.action), ("resource", "failed"));
    }
    // Logins go on all the same.
    world.person("bob").sign_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_taken_over_while_it_runs() {
    let (old, new) = (Service::start().await, Service::start().await);
    let world = world("enforce", "high", orders(&old.url, "")).await;
    let token = token_of(&world).await;
    assert_eq!(call(&world, &bearer(&token)).await.status, 401);
    let file = world.data_dir().parent().unwrap().join("riskgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let moved = text
        .replace(&old.url, &new.url)
        .replace("prefix =", "max_level = \"high\"\nprefix =");
    assert_ne!(moved, text);
    std::fs::write(&file, moved).unwrap();
    until_reloaded(&world, "ok", 1.0).await;
    assert_eq!(call(&world, &bearer(&token)).await.status, 200);
    assert_eq!((old.seen().len(), new.seen().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_on_the_user_holds_at_the_services_too() {
    let service = Service::start().await;
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(
            "version = 1\n[thresholds]\nmedium = 1\nhigh = 100\n[[rule]]\nname = \"far\"\n\
             when = 'request.door == \"login\" && network.country == \"LK\"'\nverdict = \"step_up\"\n\
             [[rule]]\nname = \"all\"\nwhen = 'true'\nverdict = \"allow\"\n"
                .to_owned(),
        ),
        config: orders(&service.url, "").leak(),
        sim: SimConfig::default(),
        ..Options::default()
    })
    .await;
    let token = token_of(&world).await;
    assert_eq!(call(&world, &bearer(&token)).await.status, 200);
    // The same user, far away: the password is right, a stronger factor is owed.
    let mut thief = world.person("alice").from(crate::gateway::FAR);
    thief.try_password().await;
    let answer = call(&world, &bearer(&token)).await;
    refused(&answer, 401, "insufficient_user_authentication");
    let record = world.last_record().await;
    assert_eq!(
        (record.demand.as_deref(), &*record.action),
        (Some("outstanding"), "token_risk")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_state_is_away_the_route_says_what_becomes_of_a_token() {
    let service = Service::start().await;
    let config = orders(&service.url, "on_unscored = 'block'")
        + &orders(&service.url, "").replace("'/orders'", "'/billing'");
    let config = config.replace("'demo-opaque'", "'demo-service'");
    let mut world = World::start(Options {
        mode: "enforce",
        policy: Some(always("allow")),
        store: Store::Redis,
        config: config.leak(),
        ..Options::default()
    })
    .await;
    let own = token_of(&world).await;
    let other = issued_past(&world, "demo-service").await;
    world.redis().kill();
    // What this node has issued a moment ago it still knows.
    assert_eq!(call(&world, &bearer(&own)).await.status, 200);
    assert_eq!(world.last_record().await.status.as_deref(), Some("scored"));
    refused(&call(&world, &bearer(&other)).await, 403, "access_denied");
    let record = world.last_record().await;
    assert_eq!(record.action, "token_unscored", "{record:#?}");
    assert!(record.fallback.unwrap().starts_with("state_"));
    let request = world
        .request(Method::GET, "/billing/1")
        .header("authorization", bearer(&other));
    assert_eq!(world.send(request).await.status, 200);
    assert_eq!(
        world.last_record().await.grounds.as_deref(),
        Some("failed_open")
    );
    assert_eq!(service.last().header("x-risk-status"), Some("unscored"));
}
