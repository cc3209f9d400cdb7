//! Introspection answers: they tell of the risk of the session behind a token, as of now, to whom WSO2 answers anyway.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::form;
use crate::gateway::rules;
use serde_json::Value;
use wso2_sim::SimConfig;

async fn world(mode: &'static str) -> World {
    World::start(Options {
        mode,
        policy: Some(rules(&[("true", "allow")])),
        ..Options::default()
    })
    .await
}

async fn introspect(world: &World, client: &str, token: &str) -> Answer {
    world
        .post("/oauth2/introspect", Some(client), &[("token", token)])
        .await
}

/// What the identity server itself says.
async fn direct(world: &World, client: &str, token: &str) -> String {
    let answer = reqwest::Client::new()
        .post(format!("{}/oauth2/introspect", world.sim.url))
        .header("authorization", basic(client, &format!("{client}-secret")))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&[("token", token)]))
        .send()
        .await
        .unwrap();
    answer.text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_token_is_told_with_its_risk() {
    for client in ["demo-web", "demo-opaque"] {
        let world = world("advise").await;
        let mut alice = world.person("alice").in_app(client);
        let code = alice.sign_in().await;
        let issued = alice.redeem(&code).await;
        let decision = world.last_record_of("token").await;
        for token in ["access_token", "refresh_token"] {
            let token = issued.member(token);
            let mark = world.mark().await;
            let answer = introspect(&world, client, &token).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let told = answer.json();
            assert_eq!(told["active"], true);
            assert_eq!(told["risk_status"], "scored", "{client}: {told}");
            assert_eq!(told["risk_score"], decision.score.unwrap());
            assert_eq!(told["risk_level"], decision.level.as_deref().unwrap());
            assert!(!told["risk_reasons"].as_array().unwrap().is_empty());
            // Everything else is what the identity server says.
            let mut rest = told;
            for claim in ["risk_status", "risk_score", "risk_level", "risk_reasons"] {
                rest.as_object_mut().unwrap().remove(claim);
            }
            let theirs: Value =
                serde_json::from_str(&direct(&world, client, &token).await).unwrap();
            assert_eq!(rest, theirs);
            assert_eq!(world.record_since(mark).await.class, "passed");
            world.leaks_nothing(&[&token]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_active_or_not_known_is_not_told_as_low() {
    let world = world("enforce").await;
    let fields = [
        ("grant_type", "client_credentials"),
        ("scope", "orders:read"),
    ];
    let issued = reqwest::Client::new()
        .post(format!("{}/oauth2/token", world.sim.url))
        .header(
            "authorization",
            basic("demo-service", "demo-service-secret"),
        )
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&fields))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let issued: Value = serde_json::from_str(&issued).unwrap();
    let token = issued["access_token"].as_str().unwrap();
    let told = introspect(&world, "demo-service", token).await.json();
    assert_eq!(
        (&told["active"], &told["risk_status"]),
        (&Value::Bool(true), &Value::from("unscored"))
    );
    assert_eq!(told.get("risk_level"), None);
    assert_eq!(
        introspect(&world, "demo-service", "nonsense").await.body,
        r#"{"active":false}"#
    );
    let unknown = introspect(&world, "nobody", token).await;
    assert_eq!(unknown.status, 401);
    assert!(!unknown.body.contains("risk_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_that_tell_nobody_change_no_byte() {
    for mode in ["monitor", "off"] {
        let world = World::start(Options {
            mode,
            sim: SimConfig::default(),
            ..Options::default()
        })
        .await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        let token = alice.redeem(&code).await.member("access_token");
        let answer = introspect(&world, "demo-web", &token).await;
        assert_eq!(
            answer.body,
            direct(&world, "demo-web", &token).await,
            "{mode}"
        );
        assert!(answer.header("content-length").is_some(), "{mode}");

        // Who asks for which token counts here too, so that the answer must come readable.
        let mark = world.mark().await;
        let credentials = basic("demo-web", "demo-web-secret");
        let body = form(&[("token", &token)]);
        let request = format!(
            "POST /oauth2/introspect HTTP/1.1\r\nHost: a.example\r\nAuthorization: {credentials}\r\nAccept-Encoding: gzip\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        world.raw(request.as_bytes()).await;
        let received = world.received_one_since(mark);
        assert_eq!(received.target, "/oauth2/introspect", "{mode}");
        assert!(
            received.header_values("accept-encoding").is_empty(),
            "{mode}"
        );
    }
}
