//! Which scopes applications are granted and which they use, as `riskgate scopes suggest` tells it.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use crate::resource::Service;
use crate::resource::bearer;
use crate::resource::call;
use crate::resource::orders;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// What the command prints, and its exit code.
fn suggest(world: &World, more: &[&str]) -> (Option<i32>, String) {
    let config = world.data_dir().parent().unwrap().join("riskgate.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .args(["scopes", "suggest", "--config"])
        .arg(config)
        .args(more)
        .output()
        .expect("the command runs");
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), text)
}

fn line<'v>(found: &'v Value, client: &str, bearers: &str, scope: &str) -> &'v Value {
    let of = found
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["client_id"] == client && one["bearers"] == bearers);
    of.and_then(|one| {
        let mut scopes = one["scopes"].as_array()?.iter();
        scopes.find(|line| line["scope"] == scope)
    })
    .unwrap_or(&Value::Null)
}

async fn with_token(world: &World, method: Method, path: &str, token: &str) -> u16 {
    let request = world.request(method, path).bearer_auth(token);
    world.send(request).await.status
}

async fn an_operator_sees_what_is_granted_and_used(store: Store) {
    let service = Service::start().await;
    let route = orders(&service.url, "scopes = ['write']");
    let mut world = World::start(Options {
        store,
        // A test's configuration lives as long as the test.
        config: route.leak(),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let page = alice
        .get(&alice.authorize_path(&[("scope", "openid profile write")]))
        .await;
    let page = alice.follow(page).await;
    let answer = alice.submit_password(&page).await;
    let code = alice.follow(answer).await.code().expect("a code");
    let token = alice.redeem(&code).await.member("access_token");
    assert_eq!(
        with_token(&world, Method::GET, "/oauth2/userinfo", &token).await,
        200
    );
    assert_eq!(call(&world, &bearer(&token)).await.status, 200);
    let fields = [
        ("grant_type", "client_credentials"),
        ("scope", "internal_user_mgt_list internal_session_delete"),
    ];
    let answer = world
        .post("/oauth2/token", Some("riskgate-ops"), &fields)
        .await;
    let token = answer.member("access_token");
    assert_eq!(
        with_token(&world, Method::GET, "/scim2/Users", &token).await,
        200
    );

    // What WSO2 does not accept teaches nothing.
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let forged = format!(
        "{}.{}.{}",
        part("{\"alg\":\"none\"}"),
        part("{\"client_id\":\"evil\",\"scope\":\"openid\"}"),
        part("x")
    );
    let status = with_token(&world, Method::GET, "/oauth2/userinfo", &forged).await;
    assert_eq!(status, 401);

    // It is written every few seconds.
    let end = Instant::now() + PATIENCE + Duration::from_secs(5);
    if store == Store::Embedded {
        tokio::time::sleep(Duration::from_secs(12)).await;
        world.stop().await;
    }
    let found = loop {
        let (code, text) = suggest(&world, &["--json"]);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        if code == Some(0)
            && line(&found, "riskgate-ops", "itself", "internal_user_mgt_list")["used"] == 1
        {
            break found;
        }
        assert!(Instant::now() < end, "{code:?} {text}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    for (client, bearers, scope, granted, used, advice) in [
        ("demo-web", "users", "openid", 1, 1, "keep"),
        ("demo-web", "users", "profile", 1, 1, "keep"),
        // At an API route.
        ("demo-web", "users", "write", 1, 1, "keep"),
        (
            "riskgate-ops",
            "itself",
            "internal_user_mgt_list",
            1,
            1,
            "keep",
        ),
        (
            "riskgate-ops",
            "itself",
            "internal_session_delete",
            1,
            0,
            "wait",
        ),
    ] {
        let line = line(&found, client, bearers, scope);
        assert_eq!(
            (&line["granted"], &line["used"], &line["suggestion"]),
            (&granted.into(), &used.into(), &advice.into()),
            "{client} {scope}: {found}"
        );
    }
    assert!(!found.to_string().contains("evil"), "{found}");
    let (code, text) = suggest(&world, &["--client", "demo-web"]);
    assert_eq!(code, Some(0));
    assert!(
        text.contains("demo-web in carbon.super, tokens for users"),
        "{text}"
    );
    assert!(!text.contains("riskgate-ops"), "{text}");
    assert_eq!(suggest(&world, &["--client", "nobody"]).0, Some(3));
}

on_both_stores!(
    an_operator_sees_what_is_granted_and_used_by_applications,
    an_operator_sees_what_is_granted_and_used
);
