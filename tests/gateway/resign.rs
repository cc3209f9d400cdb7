//! Tokens signed anew: they tell the risk, every verifier with the published keys takes them, and the identity server gets
//! back what it has signed wherever they return.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::Http2;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::form;
use crate::gateway::rules;
use crate::resource;
use crate::resource::Service;
use crate::resource::bearer;
use crate::resource::orders;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use wso2_sim::Flaws;
use wso2_sim::RecordedRequest;
use wso2_sim::SignatureFlaw;
use wso2_sim::SimConfig;

const RESIGNS: &str = "[signing]\nresign_tokens = true\n";

async fn resigning(mode: &'static str) -> World {
    World::start(Options {
        mode,
        policy: Some(rules(&[("true", "allow")])),
        config: RESIGNS,
        ..Options::default()
    })
    .await
}

/// The published keys.
async fn key_set(world: &World, path: &str) -> Vec<Value> {
    let answer = world.get(path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["keys"].as_array().unwrap().clone()
}

fn header(token: &str) -> Value {
    let part = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn id(token: &str) -> String {
    header(token)["kid"].as_str().unwrap().to_owned()
}

/// Whether a verifier that knows these keys alone takes the token.
fn verifies(keys: &[Value], token: &str) -> bool {
    let head = header(token);
    let Some(key) = keys.iter().find(|key| key["kid"] == head["kid"]) else {
        return false;
    };
    let algorithm = head["alg"].as_str().unwrap().parse().unwrap();
    assert_eq!(key["alg"], head["alg"]);
    let mut validation = Validation::new(algorithm);
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(&serde_json::from_value(key.clone()).unwrap()).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok()
}

fn half_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(token)[..16])
}

/// Whether a token is as the identity server has signed it.
fn is_original(token: &str) -> bool {
    header(token).get("x5t").is_some() && claims(token).get("risk_origin").is_none()
}

/// The value of a parameter in a request as the identity server received it.
fn parameter(request: &RecordedRequest, name: &str) -> String {
    let body = request.body_text();
    let query = request
        .target
        .split_once('?')
        .map_or("", |(_, query)| query);
    form_urlencoded::parse(format!("{body}&{query}").as_bytes())
        .find(|(known, _)| known == name)
        .unwrap_or_else(|| panic!("no {name}: {request:?}"))
        .1
        .into_owned()
}

async fn resigned(world: &World, result: &str) -> f64 {
    let labels = [("result", result)];
    world
        .metric("riskgate_tokens_resigned_total", &labels)
        .await
}

/// Alice's tokens.
async fn tokens_of_alice(world: &World) -> Answer {
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_tell_the_risk_and_both_key_sets_verify_them() {
    for mode in ["advise", "enforce"] {
        let world = resigning(mode).await;
        let tokens = tokens_of_alice(&world).await;
        let (access, identity) = (tokens.member("access_token"), tokens.member("id_token"));
        let keys = key_set(&world, "/oauth2/jwks").await;
        let own = key_set(&world, "/riskgate/jwks.json").await;
        // One of the simulator's, and a current and a next one of each algorithm.
        assert_eq!((keys.len(), own.len()), (7, 6));
        for token in [&access, &identity] {
            assert!(verifies(&keys, token) && verifies(&own, token) && !is_original(token));
            assert_eq!(header(token)["alg"], "RS256");
        }
        assert_eq!(header(&access)["typ"], "at+jwt");
        let told = claims(&access);
        assert!(told["risk_score"].as_u64().unwrap() <= 100, "{told}");
        assert!(told["risk_level"].is_string() && told["risk_reasons"].is_array());
        assert_eq!(told["risk_status"], "scored");
        assert_eq!(claims(&identity)["at_hash"], half_hash(&access));
        assert_eq!(claims(&identity)["sub"], told["sub"]);
        assert!((resigned(&world, "signed").await - 1.0).abs() < 0.1);
        // The tenant's own, and discovery.
        assert_eq!(key_set(&world, "/t/example.com/oauth2/jwks").await.len(), 7);
        let path = "/oauth2/token/.well-known/openid-configuration";
        let discovery = world.get(path).await.json();
        let supported = discovery["claims_supported"].as_array().unwrap();
        assert!(
            supported.iter().any(|claim| claim == "risk_score"),
            "{discovery}"
        );
        world.leaks_nothing(&[&access, &identity]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_server_gets_its_own_tokens_back() {
    let world = resigning("enforce").await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    let (access, identity) = (tokens.member("access_token"), tokens.member("id_token"));
    let secrets = basic("demo-web", "demo-web-secret");

    // In the header and in the body.
    let mark = world.mark().await;
    let request = alice.request(reqwest::Method::GET, "/oauth2/userinfo");
    let answer = alice
        .send(request.header("authorization", format!("Bearer {access}")))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = world.received_one_since(mark);
    let bearer = received.header_values("authorization").concat();
    assert!(is_original(bearer.strip_prefix("Bearer ").unwrap()));
    let mark = world.mark().await;
    let fields = [
        ("token", access.as_str()),
        ("token_type_hint", "access_token"),
    ];
    let answer = world
        .post("/oauth2/introspect", Some("demo-web"), &fields)
        .await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");
    let original = parameter(&world.received_one_since(mark), "token");
    assert!(is_original(&original) && bearer.ends_with(&original));
    assert_eq!(claims(&original)["jti"], claims(&access)["jti"]);

    // A refresh gives new ones, which return as well.
    let renewed = alice
        .token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.member("refresh_token")),
        ])
        .await;
    let renewed = renewed.member("access_token");
    assert!(!is_original(&renewed));

    // As a hint, by GET and by POST, and where the session ends.
    for mark in [world.mark().await] {
        let path = alice.authorize_path(&[("id_token_hint", &identity), ("prompt", "none")]);
        assert!(alice.get(&path).await.code().is_some());
        assert!(is_original(&parameter(
            &world.received_one_since(mark),
            "id_token_hint"
        )));
    }
    let mark = world.mark().await;
    let hint = [("id_token_hint", identity.as_str()), ("scope", "openid")];
    world.post("/oauth2/par", Some("demo-web"), &hint).await;
    assert!(is_original(&parameter(
        &world.received_one_since(mark),
        "id_token_hint"
    )));
    let mark = world.mark().await;
    let query = form(&[
        ("id_token_hint", &identity),
        ("post_logout_redirect_uri", CALLBACK),
    ]);
    let answer = alice.get(&format!("/oidc/logout?{query}")).await;
    let target = answer.location().map(|location| location.to_string());
    assert!(
        target.is_some_and(|it| it.starts_with(CALLBACK)),
        "{answer:?}"
    );
    assert!(is_original(&parameter(
        &world.received_one_since(mark),
        "id_token_hint"
    )));
    let mark = world.mark().await;
    let answer = alice
        .post("/oidc/logout", &[("id_token_hint", &identity)])
        .await;
    assert!(answer.status == 302, "{answer:?}");
    assert!(is_original(&parameter(
        &world.received_one_since(mark),
        "id_token_hint"
    )));

    // At the token endpoint.
    for name in ["subject_token", "actor_token", "assertion"] {
        let mark = world.mark().await;
        let fields = [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            (name, &access),
        ];
        world.post("/oauth2/token", Some("demo-web"), &fields).await;
        let received = world.received_one_since(mark);
        assert!(is_original(&parameter(&received, name)), "{name}");
        assert_eq!(received.header_values("authorization"), [secrets.as_str()]);
    }

    // What is revoked is revoked.
    let tokens = tokens_of_alice(&world).await.member("access_token");
    world
        .post("/oauth2/revoke", Some("demo-web"), &[("token", &tokens)])
        .await;
    let answer = world
        .post(
            "/oauth2/introspect",
            Some("demo-web"),
            &[("token", &tokens)],
        )
        .await;
    assert_eq!(answer.json()["active"], false, "{answer:?}");
    for (place, at_least) in [("authorization", 1.0), ("body", 5.0), ("query", 2.0)] {
        let count = world
            .metric("riskgate_tokens_restored_total", &[("place", place)])
            .await;
        assert!(count >= at_least, "{place}: {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_goes_on_as_it_came() {
    let world = resigning("enforce").await;
    let access = tokens_of_alice(&world).await.member("access_token");
    let (message, signature) = access.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let mut told = claims(&access);
    told["risk_score"] = 0.into();
    let forged = format!(
        "{head}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(told.to_string())
    );
    for token in [
        forged.as_str(),
        &format!("{message}.AAAA"),
        "a.b.c",
        "opaque",
    ] {
        let mark = world.mark().await;
        let answer = world
            .post("/oauth2/introspect", Some("demo-web"), &[("token", token)])
            .await;
        assert_eq!(answer.json()["active"], false, "{answer:?}");
        assert_eq!(parameter(&world.received_one_since(mark), "token"), token);
        let request = world.request(reqwest::Method::GET, "/oauth2/userinfo");
        let request = request.header("authorization", format!("Bearer {token}"));
        assert_eq!(world.send(request).await.status, 401, "{token}");
    }
    // A form that is too long is refused, as on scored doors; other bodies pass.
    let long = "x".repeat(70_000);
    let answer = world
        .post("/oauth2/introspect", Some("demo-web"), &[("token", &long)])
        .await;
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn weaker_modes_and_other_tokens_stay_as_they_are() {
    for mode in ["off", "monitor"] {
        let world = resigning(mode).await;
        let tokens = tokens_of_alice(&world).await;
        assert!(is_original(&tokens.member("access_token")));
        assert!(is_original(&tokens.member("id_token")));
    }
    let world = resigning("enforce").await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert!(!tokens.member("access_token").contains('.'), "{tokens:?}");
    assert!(is_original(&tokens.member("id_token")));
    assert!((resigned(&world, "opaque").await - 1.0).abs() < 0.1);
    // Errors are not token answers.
    let answer = alice.redeem("never-issued").await;
    assert_eq!(answer.member("error"), "invalid_grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_that_we_cannot_sign_leaves_the_answer_alone() {
    let world = resigning("enforce").await;
    for signature in [SignatureFlaw::SharedSecret, SignatureFlaw::ForeignKey] {
        world.sim.set_flaws(Flaws {
            signature,
            ..Flaws::default()
        });
        let tokens = tokens_of_alice(&world).await;
        assert!(is_original(&tokens.member("access_token")), "{signature:?}");
        let identity = claims(&tokens.member("id_token"));
        assert_eq!(
            identity["at_hash"],
            half_hash(&tokens.member("access_token"))
        );
    }
    assert!((resigned(&world, "id_token").await - 1.0).abs() < 0.1);
    assert!((resigned(&world, "unverified").await - 1.0).abs() < 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_identity_servers_keys_nothing_is_signed() {
    let world = resigning("enforce").await;
    // Those of the server itself were fetched at the start, those of a tenant were not.
    world.sim.set_flaws(Flaws {
        hides_keys: true,
        ..Flaws::default()
    });
    let path = "/t/example.com/oauth2/token";
    let fields = [("grant_type", "client_credentials")];
    let tokens = world.post(path, Some("demo-service"), &fields).await;
    assert!(is_original(&tokens.member("access_token")), "{tokens:?}");
    assert!((resigned(&world, "keys_away").await - 1.0).abs() < 0.1);
    // What is not there is not merged.
    assert_eq!(world.get("/oauth2/jwks").await.status, 503);
    world.sim.set_flaws(Flaws::default());
    // The gateway asks again after a while; until then nobody waits for it.
    let end = Instant::now() + PATIENCE;
    loop {
        let tokens = world.post(path, Some("demo-service"), &fields).await;
        let access = tokens.member("access_token");
        if !is_original(&access) {
            let keys = key_set(&world, "/t/example.com/oauth2/jwks").await;
            assert!(verifies(&keys, &access) && claims(&access)["risk_status"] == "scored");
            break;
        }
        assert!(Instant::now() < end, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_scored_says_so() {
    let world = World::start(Options {
        mode: "enforce",
        config: "[signing]\nresign_tokens = true\naccess_token_algorithm = \"EdDSA\"\n[model]\ndir = \"nowhere\"\n",
        ..Options::default()
    })
    .await;
    let tokens = tokens_of_alice(&world).await;
    let access = tokens.member("access_token");
    let told = claims(&access);
    assert_eq!(told["risk_status"], "unscored");
    for name in ["risk_score", "risk_level", "risk_reasons"] {
        assert!(told.get(name).is_none(), "{told}");
    }
    // The configured algorithm is that of access tokens; an ID token keeps its own.
    let keys = key_set(&world, "/oauth2/jwks").await;
    assert!(header(&access)["alg"] == "EdDSA" && verifies(&keys, &access));
    let identity = tokens.member("id_token");
    assert!(header(&identity)["alg"] == "RS256" && verifies(&keys, &identity));
    assert_eq!(claims(&identity)["at_hash"], half_hash(&access));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_held_for_its_proof_tells_the_risk_as_well() {
    let rule = "request.door == \"authorize\" && client.id == \"demo-web\"";
    let world = crate::gateway::stepped_up(rule, SimConfig::default(), RESIGNS).await;
    let mark = world.mark().await;
    let tokens = tokens_of_alice(&world).await;
    let record = world.records_since(mark).await.pop().unwrap();
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    let (access, identity) = (tokens.member("access_token"), tokens.member("id_token"));
    let keys = key_set(&world, "/oauth2/jwks").await;
    assert!(verifies(&keys, &access) && verifies(&keys, &identity) && !is_original(&access));
    assert_eq!(claims(&identity)["acr"], MFA);
    assert_eq!(claims(&identity)["at_hash"], half_hash(&access));
    assert_eq!(
        tokens.header("content-length"),
        Some(tokens.body.len().to_string().as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_http_1_0_get_whole_answers() {
    let world = World::start(Options {
        mode: "enforce",
        tls: true,
        config: RESIGNS,
        ..Options::default()
    })
    .await;
    let client = Http2::connect(&world).await;
    let headers = [
        (
            "authorization",
            basic("demo-service", "demo-service-secret"),
        ),
        (
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        ),
    ];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let body = form(&[("grant_type", "client_credentials")]);
    let answer = client
        .send(&world, "POST", "/oauth2/token", &headers, &body, 999)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!is_original(&answer.member("access_token")), "{answer:?}");
    assert_eq!(answer.header("transfer-encoding"), None);
    drop(client);

    let world = resigning("enforce").await;
    let own = key_set(&world, "/riskgate/jwks.json").await.len();
    for (version, method) in [("1.1", "GET"), ("1.1", "HEAD"), ("1.0", "GET")] {
        let request = format!(
            "{method} /oauth2/jwks HTTP/{version}\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\
             If-None-Match: \"a\"\r\nRange: bytes=0-3\r\nConnection: close\r\n\r\n"
        );
        let mark = world.mark().await;
        let answer = world.raw(request.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-length"), None, "{answer:?}");
        let received = world.received_one_since(mark);
        for name in ["accept-encoding", "if-none-match", "range"] {
            assert!(received.header_values(name).is_empty(), "{received:?}");
        }
        match (version, method) {
            (_, "HEAD") => assert_eq!(answer.body(), ""),
            ("1.0", _) => {
                assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
                let document: Value = serde_json::from_str(answer.body()).unwrap();
                assert_eq!(document["keys"].as_array().unwrap().len(), own + 1);
            }
            _ => {
                assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
                assert!(answer.body().ends_with("\r\n0\r\n\r\n"), "{answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_the_gateway_take_them() {
    let service = Service::start().await;
    let config = format!("{RESIGNS}{}", orders(&service.url, ""));
    let world = resource::world("enforce", "low", config).await;
    let access = resource::token_of(&world).await;
    assert!(!is_original(&access));
    for _ in 0..2 {
        let answer = resource::call(&world, &bearer(&access)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The service gets the token that the client holds, and a word that agrees with it.
    let seen = service.last();
    assert_eq!(seen.header("authorization"), Some(bearer(&access).as_str()));
    let assertion = seen.header("x-risk-assertion").unwrap();
    let word = resource::verified(&world, assertion).await;
    assert_eq!(word["risk_score"], claims(&access)["risk_score"]);
    // What our keys have signed for something else, or not at all, is no token.
    let (message, signature) = access.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let mut told = claims(&access);
    told["risk_score"] = 0.into();
    let told = URL_SAFE_NO_PAD.encode(told.to_string());
    let forged = format!("{head}.{told}.{signature}");
    let reached = service.seen().len();
    for token in [forged.as_str(), assertion, &format!("{message}.AAAA")] {
        let answer = resource::call(&world, &bearer(token)).await;
        resource::refused(&answer, 401, "invalid_token");
    }
    assert_eq!(service.seen().len(), reached);
}

/// A client that fetches the keys when it meets one that it does not know.
struct Verifier {
    keys: Vec<Value>,
    fetched: usize,
}

impl Verifier {
    async fn takes(&mut self, world: &World, token: &str) -> bool {
        if verifies(&self.keys, token) {
            return true;
        }
        self.keys = key_set(world, "/oauth2/jwks").await;
        self.fetched += 1;
        verifies(&self.keys, token)
    }
}

/// A client that gets tokens, verifies them and lets the last two return, until it is told to stop, and counts its tokens: the
/// ids of the keys in the order in which it met them, how often it fetched the key set, and its requests.
async fn busy_client(
    world: &World,
    stop: &AtomicBool,
    tokens: &AtomicUsize,
) -> (Vec<String>, usize, usize) {
    let mut verifier = Verifier {
        keys: key_set(world, "/oauth2/jwks").await,
        fetched: 0,
    };
    let (mut seen, mut requests) = (Vec::new(), 0);
    let mut before: Option<String> = None;
    let credentials = [("grant_type", "client_credentials")];
    while !stop.load(Ordering::Acquire) {
        let answer = world
            .post("/oauth2/token", Some("demo-service"), &credentials)
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let token = answer.member("access_token");
        assert!(!is_original(&token) && verifier.takes(world, &token).await);
        if !seen.contains(&id(&token)) {
            seen.push(id(&token));
        }
        // The last one of the key before returns as well.
        for token in [&token].into_iter().chain(&before) {
            let fields = [("token", token.as_str())];
            let answer = world
                .post("/oauth2/introspect", Some("demo-service"), &fields)
                .await;
            assert_eq!(answer.json()["active"], true, "{answer:?}");
            requests += 1;
        }
        before = Some(token);
        requests += 1;
        tokens.fetch_add(1, Ordering::AcqRel);
    }
    (seen, verifier.fetched, requests)
}

/// The id of the RSA key that signs.
async fn signs(world: &World) -> Value {
    let keys = key_set(world, "/riskgate/jwks.json").await;
    let key = keys.iter().find(|key| key["alg"] == "RS256");
    key.unwrap()["kid"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_loses_no_request() {
    // A quick machine asks more often than clients may.
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(rules(&[("true", "allow")])),
        config: "signing.resign_tokens = true\nlimits.address_per_minute = 0\nlimits.network_per_minute = 0\nlimits.client_per_minute = 0",
        ..Options::default()
    })
    .await;
    let first = key_set(&world, "/oauth2/jwks").await;
    let stop = AtomicBool::new(false);
    let tokens = [const { AtomicUsize::new(0) }; 4];
    // However quick the machine is, every client gets ten more tokens.
    let until_more = async || {
        let goals = tokens
            .each_ref()
            .map(|count| count.load(Ordering::Acquire) + 10);
        let end = Instant::now() + PATIENCE;
        while tokens
            .iter()
            .zip(goals)
            .any(|(count, goal)| count.load(Ordering::Acquire) < goal)
        {
            assert!(Instant::now() < end, "{tokens:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let rotations = async {
        for _ in 0..2 {
            until_more().await;
            let before = signs(&world).await;
            let status = tokio::process::Command::new(env!("CARGO_BIN_EXE_riskgate"))
                .args(["keys", "rotate", "--signing", "--force", "--config"])
                .arg(world.config_file())
                .stdout(std::process::Stdio::null())
                .status()
                .await
                .unwrap();
            assert!(status.success());
            let end = Instant::now() + PATIENCE;
            while signs(&world).await == before {
                assert!(Instant::now() < end, "{}", world.log());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        until_more().await;
        stop.store(true, Ordering::Release);
    };
    let (one, two, three, four, ()) = tokio::join!(
        busy_client(&world, &stop, &tokens[0]),
        busy_client(&world, &stop, &tokens[1]),
        busy_client(&world, &stop, &tokens[2]),
        busy_client(&world, &stop, &tokens[3]),
        rotations
    );
    let knows = |id: &String| first.iter().any(|key| key["kid"] == id.as_str());
    for (seen, fetched, requests) in [one, two, three, four] {
        assert!(seen.len() == 3 && requests > 80, "{seen:?}, {requests}");
        // The key of the first rotation was in the set before it signed; that of the second had to be fetched.
        assert!(knows(&seen[0]) && knows(&seen[1]) && !knows(&seen[2]));
        assert_eq!(fetched, 1);
    }
    assert!((resigned(&world, "signed").await) > 100.0);
}
