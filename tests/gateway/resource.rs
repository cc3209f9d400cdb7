//! Services of the operator's own: a good token and a risk that the route allows let a request through, with a signed word
//! about the risk; nothing else does.

use crate::gateway::Answer;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::form;
use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use reqwest::Method;
use riskgate::domain::access_token;
use serde_json::Value;
use std::sync::Arc;
use std::sync::Mutex;

const AUDIENCE: &str = "https://orders.example.com";

/// A service behind the gateway that keeps what it is sent.
pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

/// One request as the service got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body_bytes: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let kept = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let kept = Arc::clone(&kept);
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                kept.lock().unwrap().push(Seen {
                    method: head.method,
                    target: head.uri.to_string(),
                    headers: head.headers,
                    body_bytes: body.len(),
                });
                let fields = [
                    ("x-service", "orders"),
                    ("set-cookie", "commonAuthId=of-the-service"),
                    ("access-control-allow-origin", "https://app.example.com"),
                ];
                (fields, body).into_response()
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("the service was reached")
    }
}

/// `[[resource]]` at `/orders` for tokens of the demo application, with more keys.
pub(crate) fn orders(service: &str, more: &str) -> String {
    format!(
        "[[resource]]\nprefix = '/orders'\nupstream = '{service}'\naudience = '{AUDIENCE}'\n\
         token_audiences = ['demo-web', 'demo-opaque']\n{more}\n"
    )
}

/// Every login gets through, and its score is of `level`.
fn all_are(level: &str) -> String {
    let (medium, high) = match level {
        "low" => (99, 100),
        "medium" => (1, 100),
        "high" => (1, 2),
        other => panic!("{other}"),
    };
    format!(
        "version = 1\n[thresholds]\nmedium = {medium}\nhigh = {high}\n\
         [[rule]]\nname = \"all\"\nwhen = 'true'\nverdict = \"allow\"\n"
    )
}

pub(crate) async fn world(mode: &'static str, level: &str, config: String) -> World {
    World::start(Options {
        mode,
        policy: Some(all_are(level)),
        // A test's configuration lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await
}

pub(crate) async fn token_of(world: &World) -> String {
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    alice.redeem(&code).await.member("access_token")
}

pub(crate) async fn call(world: &World, authorization: &str) -> Answer {
    let request = world.request(Method::GET, "/orders/7?limit=5");
    world
        .send(request.header("authorization", authorization))
        .await
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A token that the identity server has issued past the gateway.
pub(crate) async fn issued_past(world: &World, client: &str) -> String {
    let fields = [
        ("grant_type", "client_credentials"),
        ("scope", "orders:read"),
    ];
    let answer = reqwest::Client::new()
        .post(format!("{}/oauth2/token", world.sim.url))
        .header("authorization", basic(client, &format!("{client}-secret")))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&fields))
        .send()
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// The claims of an assertion, as a service verifies them: with the published keys, its own audience, and the type.
pub(crate) async fn verified(world: &World, assertion: &str) -> Value {
    let keys = world.get("/riskgate/jwks.json").await;
    let keys: JwkSet = serde_json::from_str(&keys.body).unwrap();
    let header = jsonwebtoken::decode_header(assertion).unwrap();
    assert_eq!(header.typ.as_deref(), Some("risk-assertion+jwt"));
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&["riskgate"]);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(assertion, &key, &validation)
        .unwrap()
        .claims
}

pub(crate) fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    if status == 401 && !error.is_empty() {
        assert!(
            challenge.contains(&format!("error=\"{error}\"")),
            "{challenge}"
        );
    }
    if !error.is_empty() {
        assert_eq!(answer.member("error"), error, "{answer:?}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_reaches_the_service_with_a_signed_word() {
    let service = Service::start().await;
    let world = world(
        "enforce",
        "medium",
        orders(&service.url, "scopes = ['openid']"),
    )
    .await;
    let token = token_of(&world).await;
    let issue = world.last_record_of("token").await;
    let mark = world.mark().await;
    let request = world
        .request(Method::GET, "/orders/7?limit=5")
        .header("authorization", bearer(&token))
        .header("cookie", "commonAuthId=secret; other=1")
        .header("x-risk-assertion", "forged")
        .header("x-risk-score", "0")
        .header("x-risk-anything", "1")
        .header("x-forwarded-for", "192.0.2.10");
    let answer = world.send(request).await;
    assert_eq!(
        (answer.status, answer.header("x-service")),
        (200, Some("orders"))
    );
    assert_eq!(answer.header("set-cookie"), None);
    let record = world.record_since(mark).await;
    // Nothing of it goes to the identity server.
    assert!(world.received_since(mark).is_empty());

    let seen = service.last();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/orders/7?limit=5")
    );
    assert_eq!(seen.header("authorization"), Some(bearer(&token).as_str()));
    assert_eq!(seen.header("cookie"), None);
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.10"));
    assert_eq!(seen.header("activityid"), Some(record.id.as_str()));
    assert_eq!(seen.header("x-risk-status"), Some("scored"));
    for forged in ["x-risk-score", "x-risk-anything", "x-risk-level"] {
        assert_eq!(seen.header(forged), None, "{forged}");
    }
    assert_eq!(seen.headers.get_all("x-risk-assertion").iter().count(), 1);
    let word = verified(&world, seen.header("x-risk-assertion").unwrap()).await;
    let granted = claims(&token);
    assert_eq!(word["sub"], granted["sub"]);
    assert_eq!(word["client_id"], "demo-web");
    assert_eq!(word["jti"], record.id.as_str());
    assert_eq!(
        word["ath"],
        URL_SAFE_NO_PAD.encode(access_token::digest(&token))
    );
    assert_eq!(
        word["exp"].as_i64().unwrap() - word["iat"].as_i64().unwrap(),
        30
    );
    assert_eq!(
        (word["risk_status"].as_str(), word["risk_level"].as_str()),
        (Some("scored"), Some("medium"))
    );
    assert_eq!(word["risk_score"], issue.score.unwrap());
    assert_eq!(word["decision_id"], issue.id.as_str());
    assert!(!word["risk_reasons"].as_array().unwrap().is_empty());

    assert_eq!(
        (&*record.class, record.route.as_str()),
        ("resource", "resource:/orders")
    );
    assert_eq!(
        (&*record.action, record.grounds.as_deref()),
        ("forwarded", Some("decided"))
    );
    assert_eq!(
        (record.token.as_deref(), record.client_id.as_deref()),
        (Some("jwt"), Some("demo-web"))
    );
    assert_eq!(record.token_decision.as_deref(), Some(issue.id.as_str()));
    assert_eq!(record.subject, issue.subject);
    assert_eq!(
        (record.status.as_deref(), record.verdict.as_deref()),
        (Some("scored"), Some("allow"))
    );
    assert_eq!((record.score, record.response_status), (issue.score, 200));
    // Each request gets a word of its own.
    call(&world, &bearer(&token)).await;
    let next = verified(&world, service.last().header("x-risk-assertion").unwrap()).await;
    assert_ne!(next["jti"], word["jti"]);
    let labels = [("result", "let_through")];
    assert!(
        world
            .metric("riskgate_resource_requests_total", &labels)
            .await
            >= 2.0
    );
    world.leaks_nothing(&[&token, "of-the-service"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_risk_asks_for_a_stronger_authentication_where_it_is_enforced() {
    for (mode, status) in [
        ("enforce", 401),
        ("advise", 200),
        ("monitor", 200),
        ("off", 200),
    ] {
        let service = Service::start().await;
        let world = world(mode, "high", orders(&service.url, "")).await;
        let token = token_of(&world).await;
        let mark = world.mark().await;
        let answer = call(&world, &bearer(&token)).await;
        assert_eq!(answer.status, status, "{mode}: {answer:?}");
        let record = world.record_since(mark).await;
        assert_eq!(record.mode.as_deref(), Some(mode));
        if mode != "off" {
            assert_eq!(record.verdict.as_deref(), Some("step_up"), "{record:#?}");
            assert_eq!(record.level.as_deref(), Some("high"));
        }
        if mode == "enforce" {
            refused(&answer, 401, "insufficient_user_authentication");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                challenge.starts_with(&format!("Bearer realm=\"{AUDIENCE}\"")),
                "{challenge}"
            );
            assert!(challenge.contains("acr_values=\"urn:riskgate:acr:mfa\", max_age=\"300\""));
            assert_eq!((&*record.action, record.error), ("token_risk", None));
            assert!(service.seen().is_empty());
            continue;
        }
        let seen = service.last();
        let word = verified(&world, seen.header("x-risk-assertion").unwrap()).await;
        let status = if mode == "off" { "off" } else { "scored" };
        assert_eq!(word["risk_status"], status, "{mode}");
        assert_eq!(seen.header("x-risk-status"), Some(status));
        // Only who advises tells anybody of the risk.
        let tells = mode == "advise";
        for claim in ["risk_score", "risk_level", "risk_reasons", "decision_id"] {
            assert_eq!(word.get(claim).is_some(), tells, "{mode}: {claim}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_checked_in_every_mode() {
    for mode in ["off", "enforce"] {
        let service = Service::start().await;
        let config = orders(&service.url, "scopes = ['openid']")
            + &orders(&service.url, "")
                .replace("'/orders'", "'/billing'")
                .replace("'demo-web', 'demo-opaque'", "'billing'");
        let world = world(mode, "low", config).await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        let issued = alice.redeem(&code).await;
        let token = issued.member("access_token");
        let (head, rest) = token.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
        let changed =
            URL_SAFE_NO_PAD.encode(claims(&token).to_string().replace("demo-web", "demo-spa"));
        for (name, authorization, status, error, code) in [
            (
                "ID token",
                bearer(&issued.member("id_token")),
                401,
                "invalid_token",
                "token_type",
            ),
            (
                "refresh token",
                bearer(&issued.member("refresh_token")),
                401,
                "invalid_token",
                "token_malformed",
            ),
            (
                "alg none",
                bearer(&format!("{none}.{body}.")),
                401,
                "invalid_token",
                "token_malformed",
            ),
            (
                "changed",
                bearer(&format!("{head}.{changed}.{signature}")),
                401,
                "invalid_token",
                "token_signature",
            ),
            (
                "two tokens",
                format!("{}, {token}", bearer(&token)),
                401,
                "invalid_token",
                "token_malformed",
            ),
            (
                // The space at its end does not arrive.
                "nothing",
                "Bearer ".to_owned(),
                401,
                "",
                "token_missing",
            ),
            (
                "a user's password",
                basic("alice", "wonderland"),
                401,
                "",
                "token_missing",
            ),
            (
                "proof of possession missing",
                format!("DPoP {token}"),
                401,
                "invalid_dpop_proof",
                "token_proof",
            ),
        ] {
            let mark = world.mark().await;
            let answer = call(&world, &authorization).await;
            refused(&answer, status, error);
            let record = world.record_since(mark).await;
            assert_eq!(record.error.as_deref(), Some(code), "{name}: {record:#?}");
            assert_eq!((&*record.class, &*record.action), ("refused", "refused"));
            assert!(!answer.body.contains(&token[..20]), "{name}");
        }
        // A token that is not bound to a key proves nothing with a proof.
        let request = world
            .request(Method::GET, "/orders")
            .header("authorization", format!("DPoP {token}"));
        let answer = world.send(request.header("dpop", "proof")).await;
        refused(&answer, 401, "invalid_token");
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("DPoP ")
        );
        // Without a token, twice, in the query, for another service.
        let answer = world.get("/orders").await;
        refused(&answer, 401, "");
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(
            challenge,
            format!("Bearer realm=\"{AUDIENCE}\", scope=\"openid\"")
        );
        let twice = world
            .request(Method::GET, "/orders")
            .header("authorization", bearer(&token));
        refused(
            &world
                .send(twice.header("authorization", bearer(&token)))
                .await,
            400,
            "invalid_request",
        );
        let query = world
            .request(Method::GET, "/orders?access%5Ftoken=x")
            .header("authorization", bearer(&token));
        refused(&world.send(query).await, 400, "invalid_request");
        let other = world
            .request(Method::GET, "/billing/1")
            .header("authorization", bearer(&token));
        refused(&world.send(other).await, 401, "invalid_token");
        assert_eq!(
            world.last_record().await.error.as_deref(),
            Some("token_audience")
        );
        assert!(service.seen().is_empty(), "{mode}: {:?}", service.seen());
        assert_eq!(call(&world, &bearer(&token)).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_are_asked_for() {
    let service = Service::start().await;
    let world = world(
        "enforce",
        "low",
        orders(&service.url, "scopes = ['openid', 'orders:write']"),
    )
    .await;
    let token = token_of(&world).await;
    let answer = call(&world, &bearer(&token)).await;
    refused(&answer, 403, "insufficient_scope");
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("scope=\"openid orders:write\""),
        "{challenge}"
    );
    assert!(service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_of_the_risk_gets_what_the_route_says() {
    for (on_unscored, status) in [("allow", 200), ("step_up", 401), ("block", 403)] {
        let service = Service::start().await;
        let keys = format!(
            "on_unscored = '{on_unscored}'\nmax_level = 'low'\ntoken_audiences = ['demo-service']"
        );
        let config = orders(&service.url, &keys)
            .replace("token_audiences = ['demo-web', 'demo-opaque']\n", "");
        let world = world("enforce", "low", config).await;
        let token = issued_past(&world, "demo-service").await;
        let mark = world.mark().await;
        let answer = call(&world, &bearer(&token)).await;
        assert_eq!(answer.status, status, "{on_unscored}: {answer:?}");
        let record = world.record_since(mark).await;
        assert_eq!(record.status.as_deref(), Some("unscored"));
        match on_unscored {
            "allow" => {
                let seen = service.last();
                let word = verified(&world, seen.header("x-risk-assertion").unwrap()).await;
                assert_eq!(word["risk_status"], "unscored");
                assert_eq!(word.get("risk_level"), None);
                assert_eq!(seen.header("x-risk-status"), Some("unscored"));
            }
            "step_up" => refused(&answer, 401, "insufficient_user_authentication"),
            _ => {
                refused(&answer, 403, "access_denied");
                assert_eq!(record.action, "token_unscored");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_checked_is_never_let_through() {
    let service = Service::start().await;
    // A realm that the identity server does not know publishes no keys.
    let config = orders(
        &service.url,
        "realm = '/t/nowhere.example'\non_unscored = 'allow'",
    );
    let world = world("monitor", "low", config).await;
    let token = token_of(&world).await;
    let answer = call(&world, &bearer(&token)).await;
    refused(&answer, 503, "temporarily_unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(
        world.last_record().await.error.as_deref(),
        Some("token_unchecked")
    );
    assert!(service.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_tenant_are_not_taken() {
    let service = Service::start().await;
    let world = world(
        "enforce",
        "low",
        orders(&service.url, "realm = '/t/example.com'"),
    )
    .await;
    let token = token_of(&world).await;
    let answer = call(&world, &bearer(&token)).await;
    refused(&answer, 401, "invalid_token");
    assert_eq!(
        world.last_record().await.error.as_deref(),
        Some("token_issuer")
    );
}
