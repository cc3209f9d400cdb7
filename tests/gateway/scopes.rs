//! Which scopes applications are granted and which they use, as `riskgate scopes suggest` tells it.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use crate::gateway::rules;
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
use wso2_sim::SimConfig;

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

/// What is suggested once it `holds`: it is written every few seconds, and at the end.
async fn written(world: &mut World, store: Store, holds: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE + Duration::from_secs(5);
    if store == Store::Embedded {
        // It is one process' alone.
        world.stop().await;
    }
    loop {
        let (code, text) = suggest(world, &["--json"]);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        if code == Some(0) && holds(&found) {
            return found;
        }
        assert!(Instant::now() < end, "{code:?} {text}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn line<'v>(found: &'v Value, client: &str, bearers: &str, scope: &str) -> &'v Value {
    group_line(found, client, (bearers, None), scope)
}

fn group_line<'v>(
    found: &'v Value,
    client: &str,
    (bearers, group): (&str, Option<&str>),
    scope: &str,
) -> &'v Value {
    let of = found.as_array().unwrap().iter().find(|one| {
        let is_group = one["group"].as_str() == group;
        one["client_id"] == client && one["bearers"] == bearers && is_group
    });
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

    let found = written(&mut world, store, |found| {
        line(found, "riskgate-ops", "itself", "internal_user_mgt_list")["used"] == 1
    })
    .await;
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

/// WSO2 with the roles of its users in access tokens.
fn with_roles() -> SimConfig {
    let mut sim = SimConfig::default();
    for client in &mut sim.clients {
        client.names_roles = true;
    }
    for (name, roles) in [
        ("alice", &["tellers"][..]),
        ("bob", &["managers", "Internal/everyone"]),
    ] {
        let user = sim.users.iter_mut().find(|user| user.username == name);
        user.unwrap().roles = roles.iter().map(|&role| role.to_owned()).collect();
    }
    sim
}

/// An access token of a user, with the scopes `openid`, `profile` and `write`.
async fn token_of(world: &World, name: &str) -> String {
    let mut person = world.person(name);
    let page = person
        .get(&person.authorize_path(&[("scope", "openid profile write")]))
        .await;
    let page = person.follow(page).await;
    let answer = person.submit_password(&page).await;
    let code = person.follow(answer).await.code().expect("a code");
    person.redeem(&code).await.member("access_token")
}

async fn introspect(world: &World, client: &str, token: &str) {
    let answer = world
        .post("/oauth2/introspect", Some(client), &[("token", token)])
        .await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");
}

async fn groups_and_questions_are_told_apart_on(store: Store, mode: &'static str) -> Value {
    let asks = "[[token.introspector]]\nclient = \"demo-service\"\nscopes = [\"wri*\"]\n";
    let mut world = World::start(Options {
        store,
        mode,
        policy: Some(format!("{}{asks}", rules(&[("true", "allow")]))),
        sim: with_roles(),
        ..Options::default()
    })
    .await;
    let alice = token_of(&world, "alice").await;
    let bob = token_of(&world, "bob").await;
    let status = with_token(&world, Method::GET, "/oauth2/userinfo", &bob).await;
    assert_eq!(status, 200);
    // Of one API it is known what it asks for, of another it is not.
    introspect(&world, "demo-service", &alice).await;
    introspect(&world, "demo-web", &bob).await;
    written(&mut world, store, |found| {
        line(found, "demo-web", "users", "write")["asked"] == 1
    })
    .await
}

async fn groups_and_questions_are_told_apart(store: Store) {
    let found = groups_and_questions_are_told_apart_on(store, "advise").await;
    for (group, scope, granted, used, asked, advice) in [
        (None, "openid", 2, 1, 1, "keep"),
        (None, "write", 2, 1, 1, "keep"),
        (Some("tellers"), "write", 1, 1, 1, "keep"),
        (Some("tellers"), "openid", 1, 0, 1, "look"),
        (Some("managers"), "write", 1, 0, 1, "look"),
        (Some("managers"), "profile", 1, 1, 1, "keep"),
    ] {
        let line = group_line(&found, "demo-web", ("users", group), scope);
        assert_eq!(
            (
                &line["granted"],
                &line["used"],
                &line["asked"],
                &line["suggestion"]
            ),
            (&granted.into(), &used.into(), &asked.into(), &advice.into()),
            "{group:?} {scope}: {found}"
        );
        assert_eq!(line["grants_needed"], 100);
    }
    assert!(!found.to_string().contains("everyone"), "{found}");
}

on_both_stores!(
    what_groups_use_and_what_apis_ask_about_is_told_apart,
    groups_and_questions_are_told_apart
);

/// In `monitor` the request is not read, so that nobody can say whose groups the token names.
#[tokio::test(flavor = "multi_thread")]
async fn questions_count_where_nobody_is_told_of_the_risk() {
    let found = groups_and_questions_are_told_apart_on(Store::Embedded, "monitor").await;
    for (group, used, advice) in [
        (None, 1, "keep"),
        (Some("tellers"), 0, "look"),
        (Some("managers"), 0, "look"),
    ] {
        let line = group_line(&found, "demo-web", ("users", group), "write");
        assert_eq!(
            (&line["used"], &line["suggestion"]),
            (&used.into(), &advice.into()),
            "{group:?}: {found}"
        );
    }
}
