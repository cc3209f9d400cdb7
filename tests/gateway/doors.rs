//! Every door is scored: one record for each request, and forwarded under its id.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::Mark;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::form;
use crate::saml::deflated;
use reqwest::Method;
use riskgate::domain::audit::AuditEvent;
use serde_json::Value;
use serde_json::json;
use wso2_sim::seed::ACME_ORG_ID;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Since `mark` there was one exchange at `door`: scored, forwarded once under the id of its record.
async fn scored(world: &World, mark: Mark, door: &str) -> AuditEvent {
    let record = world.record_since(mark).await;
    assert_eq!(record.door.as_deref(), Some(door), "{record:#?}");
    assert_eq!(
        (&*record.class, record.status.as_deref(), &*record.action),
        ("scored", Some("scored"), "forwarded"),
        "{record:#?}"
    );
    assert!(
        record.score.is_some_and(|score| score <= 100) && record.error.is_none(),
        "{record:#?}"
    );
    let received = world.received_one_since(mark);
    assert_eq!(received.header_values("activityid"), [record.id.as_str()]);
    assert_eq!(received.header_values("x-risk-status"), ["scored"]);
    record
}

async fn scored_token(world: &World, client: &str, fields: &[(&str, &str)]) -> Answer {
    let mark = world.mark().await;
    let answer = world.post("/oauth2/token", Some(client), fields).await;
    let record = scored(world, mark, "token").await;
    assert_eq!(record.grant_type.as_deref(), Some(fields[0].1));
    assert_eq!(record.client_id.as_deref(), Some(client));
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_login_is_scored_at_each_door_and_learnt() {
    let world = World::start(Options {
        mode: "enforce",
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    let records = world.records().await;
    let doors: Vec<_> = records
        .iter()
        .map(|record| (record.door.as_deref(), &*record.outcome))
        .collect();
    assert_eq!(
        doors,
        [
            (Some("authorize"), "login_page"),
            (None, "none"),
            (Some("login"), "succeeded"),
            (Some("authorize"), "code_issued"),
            (Some("token"), "tokens_issued"),
        ]
    );
    world.until_learnt("alice", 1).await;
    assert!(alice.cookie("__Host-rg_device").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_doors_are_scored_and_forwarded() {
    let world = World::start(Options::default()).await;
    let mut alice = world.person("alice");

    let mark = world.mark().await;
    let path = alice.authorize_path(&[]);
    let answer = alice.get(&path).await;
    scored(&world, mark, "authorize").await;
    assert_eq!(answer.status, 302);

    let page = alice.follow(answer).await;
    let mark = world.mark().await;
    alice.submit_password(&page).await;
    let record = scored(&world, mark, "login").await;
    assert_eq!(record.outcome, "succeeded");
    assert!(
        record
            .subject
            .is_some_and(|subject| !subject.contains("alice"))
    );

    let mut bob = world.person("bob");
    let query = path.split_once('?').unwrap().1.to_owned();
    let mark = world.mark().await;
    let request = bob
        .request(Method::POST, "/oauth2/authorize")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query);
    assert_eq!(bob.send(request).await.status, 302);
    scored(&world, mark, "authorize").await;

    let device = world
        .post(
            "/oauth2/device_authorize",
            Some("demo-web"),
            &[("client_id", "demo-web"), ("scope", "openid")],
        )
        .await;
    let mark = world.mark().await;
    assert_eq!(
        bob.post(
            "/oauth2/device",
            &[("user_code", &device.member("user_code"))]
        )
        .await
        .status,
        302
    );
    scored(&world, mark, "device").await;

    let saml = |value: &str| form(&[("SAMLRequest", value), ("RelayState", "r")]);
    for (method, path, body, door) in [
        (
            Method::GET,
            format!("/samlsso?{}", saml(&deflated("<other/>"))),
            String::new(),
            "saml",
        ),
        (
            Method::POST,
            "/samlsso".to_owned(),
            saml("PG90aGVyLz4="),
            "saml",
        ),
        (
            Method::POST,
            "/samlartresolve".to_owned(),
            form(&[("SAMLart", "AAQ")]),
            "saml",
        ),
        (
            Method::GET,
            format!(
                "/passivests?{}",
                form(&[("wa", "wsignin1.0"), ("wtrealm", "urn:r")])
            ),
            String::new(),
            "wsfed",
        ),
        (
            Method::POST,
            "/passivests".to_owned(),
            form(&[("wa", "wsignin1.0"), ("wtrealm", "urn:r")]),
            "wsfed",
        ),
        (
            Method::GET,
            "/oauth2/ciba_authorize?authCodeKey=k".to_owned(),
            String::new(),
            "ciba_authorize",
        ),
        (
            Method::GET,
            "/commonauth?sessionDataKey=unknown&type=oauth2".to_owned(),
            String::new(),
            "login",
        ),
        (
            Method::POST,
            "/t/example.com/commonauth".to_owned(),
            form(&[
                ("username", "alice"),
                ("password", "x"),
                ("sessionDataKey", "k"),
            ]),
            "login",
        ),
    ] {
        let mark = world.mark().await;
        let mut request = bob.request(method, &path);
        if !body.is_empty() {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body);
        }
        bob.send(request).await;
        scored(&world, mark, door).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn app_native_doors_are_scored_and_forwarded() {
    let world = World::start(Options::default()).await;
    let mut alice = world.person("alice");
    let mark = world.mark().await;
    let start = form(&[
        ("client_id", "demo-web"),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid"),
        ("response_mode", "direct"),
    ]);
    let request = world
        .request(Method::POST, "/oauth2/authorize")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(start);
    let step = world.send(request).await;
    let record = scored(&world, mark, "authorize").await;
    assert_eq!(record.outcome, "login_page");

    let authenticator = step.json()["nextStep"]["authenticators"][0]["authenticatorId"].clone();
    let credentials = |password: &str| {
        json!({"flowId": step.member("flowId"), "selectedAuthenticator": {
            "authenticatorId": authenticator, "params": {"username": "alice", "password": password}}})
    };
    for (password, outcome) in [("wrong", "failed"), ("wonderland", "succeeded")] {
        let mark = world.mark().await;
        let answer = alice
            .post_json("/oauth2/authn", &credentials(password))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = scored(&world, mark, "authn").await;
        assert_eq!(record.outcome, outcome);
        assert!(record.subject.is_some());
        if outcome == "succeeded" {
            let code = answer.json()["authData"]["code"]
                .as_str()
                .expect("a code")
                .to_owned();
            assert_eq!(alice.redeem(&code).await.status, 200);
        }
    }

    for body in [
        json!({"flowType": "REGISTRATION"}),
        json!({"flowId": "f", "actionId": "a", "inputs": {"http://wso2.org/claims/username": "bob"}}),
    ] {
        let mark = world.mark().await;
        assert_eq!(
            alice
                .post_json("/api/server/v1/flow/execute", &body)
                .await
                .status,
            200
        );
        scored(&world, mark, "flow").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_grant_is_scored_as_a_form_and_as_json() {
    let world = World::start(Options::default()).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = scored_token(
        &world,
        "demo-web",
        &[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
        ],
    )
    .await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let fresh = scored_token(
        &world,
        "demo-web",
        &[
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.member("refresh_token")),
        ],
    )
    .await;
    assert_eq!(fresh.status, 200, "{fresh:?}");
    let subject_token = fresh.member("access_token");
    let fields = [
        ("grant_type", EXCHANGE),
        ("subject_token", subject_token.as_str()),
        (
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("audience", "a"),
        ("audience", "b"),
    ];
    // `audience` may repeat (RFC 8693).
    assert_eq!(scored_token(&world, "demo-web", &fields).await.status, 200);
    assert_eq!(
        scored_token(
            &world,
            "demo-service",
            &[("grant_type", "client_credentials")]
        )
        .await
        .status,
        200
    );
    let password = [
        ("grant_type", "password"),
        ("username", "bob"),
        ("password", "builder-2024"),
    ];
    assert_eq!(
        scored_token(&world, "demo-legacy", &password).await.status,
        200
    );

    let device = world
        .post(
            "/oauth2/device_authorize",
            Some("demo-web"),
            &[("client_id", "demo-web"), ("scope", "openid")],
        )
        .await;
    let answer = scored_token(
        &world,
        "demo-web",
        &[
            ("grant_type", DEVICE_CODE),
            ("device_code", &device.member("device_code")),
        ],
    )
    .await;
    assert_eq!(answer.status, 400, "nobody has entered the code");
    // An assertion of nobody's, and a grant that this identity server has not: refused there, scored here.
    for (grant, error) in [
        (
            "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "invalid_grant",
        ),
        (
            "urn:ietf:params:oauth:grant-type:saml2-bearer",
            "unsupported_grant_type",
        ),
    ] {
        let answer = scored_token(
            &world,
            "demo-web",
            &[("grant_type", grant), ("assertion", "a.b.c")],
        )
        .await;
        assert_eq!(answer.member("error"), error);
    }

    for (client, body) in [
        ("demo-service", json!({"grant_type": "client_credentials"})),
        (
            "demo-legacy",
            json!({"grant_type": "password", "username": "bob", "password": "builder-2024"}),
        ),
    ] {
        let mark = world.mark().await;
        let request = world
            .request(Method::POST, "/oauth2/token")
            .header("authorization", basic(client, &format!("{client}-secret")))
            .json(&body);
        assert_eq!(world.send(request).await.status, 200);
        let record = scored(&world, mark, "token").await;
        assert_eq!(record.outcome, "tokens_issued");
        let received: Value = serde_json::from_slice(&world.received_one_since(mark).body).unwrap();
        assert_eq!(received, body);
    }

    // In other tenants and organizations the same doors are there.
    for (prefix, tenant, organization) in [
        ("/t/example.com".to_owned(), "example.com", None),
        (
            format!("/o/{ACME_ORG_ID}"),
            "carbon.super",
            Some(ACME_ORG_ID),
        ),
    ] {
        let mark = world.mark().await;
        let answer = world
            .post(
                &format!("{prefix}/oauth2/token"),
                Some("demo-service"),
                &[("grant_type", "client_credentials")],
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = scored(&world, mark, "token").await;
        assert_eq!(
            (record.tenant.as_deref(), record.organization.as_deref()),
            (Some(tenant), organization)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn back_channel_doors_are_scored_and_forwarded() {
    let world = World::start(Options::default()).await;
    let push = [
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid"),
    ];
    for (path, door, fields, status) in [
        ("/oauth2/par", "par", &push[..], 201),
        (
            "/oauth2/device_authorize",
            "device_authorize",
            &[("client_id", "demo-web")][..],
            200,
        ),
        (
            "/oauth2/ciba",
            "ciba",
            &[("login_hint", "alice"), ("scope", "openid")][..],
            200,
        ),
    ] {
        let mark = world.mark().await;
        let answer = world.post(path, Some("demo-web"), fields).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        scored(&world, mark, door).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_at_an_api_are_a_login() {
    let world = World::start(Options::default()).await;
    for (path, password, status, outcome) in [
        ("/scim2/Me", "wonderland", 200, "succeeded"),
        ("/scim2/Me", "wrong", 401, "failed"),
        ("/api/users/v1/me/sessions", "wrong", 401, "failed"),
        ("/t/example.com/scim2/Me", "wonderland", 200, "succeeded"),
        // Whoever asks gets this one: that it was answered says nothing about the password.
        ("/console/", "wrong", 200, "none"),
        ("/console/", "wonderland", 200, "none"),
    ] {
        let mark = world.mark().await;
        let request = world
            .request(Method::GET, path)
            .header("authorization", basic("alice", password));
        assert_eq!(world.send(request).await.status, status, "{path}");
        let record = scored(&world, mark, "basic").await;
        assert_eq!(record.outcome, outcome, "{path}");
        assert!(!record.learnt || outcome == "succeeded", "{path}");
        assert!(record.subject.is_some());
    }
    // A bearer token is no login, and a client's own credentials at its endpoints are no user's.
    for (path, authorization) in [
        ("/scim2/Me", "Bearer x".to_owned()),
        ("/oauth2/introspect", basic("demo-web", "demo-web-secret")),
        ("/oauth2/revoke", basic("demo-web", "demo-web-secret")),
    ] {
        let mark = world.mark().await;
        let request = world
            .request(Method::POST, path)
            .header("authorization", authorization)
            .form(&[("token", "x")]);
        world.send(request).await;
        let record = world.record_since(mark).await;
        assert_eq!(
            (&*record.class, record.door.as_deref()),
            ("passed", None),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_point_learns_the_risk_where_the_mode_lets_it() {
    const PATH: &str = "/api/identity/entitlement/decision/pdp";
    let forged = json!({"AttributeId": "urn:riskgate:risk-score", "Value": 0});
    let own = json!({"AttributeId": "urn:own", "Value": "x"});
    for mode in ["monitor", "enforce"] {
        let world = World::start(Options {
            mode,
            ..Options::default()
        })
        .await;
        let mark = world.mark().await;
        let body = json!({"Request": {"Action": {"Attribute": [own]}, "Environment": {"Attribute": [own, forged]}}});
        let request = world
            .request(Method::POST, PATH)
            .header("authorization", basic("alice", "wonderland"))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = world.send(request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = scored(&world, mark, "pdp").await;
        let received: Value = serde_json::from_slice(&world.received_one_since(mark).body).unwrap();
        let attributes = received["Request"]["Environment"]["Attribute"]
            .as_array()
            .expect("attributes")
            .clone();
        let ours: Vec<_> = attributes
            .iter()
            .filter(|attribute| attribute["AttributeId"] == forged["AttributeId"])
            .collect();
        if mode == "monitor" {
            assert_eq!(attributes, std::slice::from_ref(&own));
        } else {
            assert_eq!(ours.len(), 1, "{received}");
            assert_eq!(ours[0]["Value"].as_u64(), record.score.map(u64::from));
        }
    }
}
