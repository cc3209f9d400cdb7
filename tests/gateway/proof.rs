//! What counts as a stronger factor is the identity server's signed word: without it no token leaves, and none that was
//! issued stays good.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::Person;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::deaf;
use crate::gateway::form;
use crate::gateway::rules;
use crate::gateway::stepped_up;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;
use wso2_sim::Flaws;
use wso2_sim::RecordedRequest;
use wso2_sim::SignatureFlaw;
use wso2_sim::SimConfig;

/// Alice owes a second factor at the login page.
const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";
/// Everybody owes one at the authorize door of one application.
const AT_AUTHORIZE: &str = "request.door == \"authorize\" && client.id == \"demo-web\"";

/// A stronger factor is missing: no tokens, `error` in the way that standard clients understand, and what to ask for.
pub(crate) fn withheld_with(error: &str, answer: &Answer) {
    assert_eq!(
        (answer.status, answer.member("error").as_str()),
        (400, error),
        "{answer:?}"
    );
    assert_eq!(answer.member("acr_values"), MFA);
    assert_eq!(answer.json()["max_age"], 300);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for secret in ["access_token", "refresh_token", "id_token"] {
        assert!(answer.json().get(secret).is_none(), "{answer:?}");
    }
}

/// So that the client begins a new authorization.
pub(crate) fn withheld(answer: &Answer) {
    withheld_with("invalid_grant", answer);
}

/// What the gateway itself has sent to an endpoint.
fn own_requests(world: &World, path: &str) -> Vec<RecordedRequest> {
    let mut sent = world.sim.recorded();
    sent.retain(|request| {
        request.path() == path && request.header_values("user-agent") == ["riskgate"]
    });
    sent
}

/// Whether a token that was revoked with this request is active, asked of the identity server itself.
async fn is_active(world: &World, revocation: &RecordedRequest) -> bool {
    let body = revocation.body_text();
    let token = form_urlencoded::parse(body.as_bytes())
        .find(|(name, _)| name == "token")
        .expect("a token")
        .1
        .into_owned();
    let answer = world
        .http()
        .post(format!("{}/oauth2/introspect", world.sim.url))
        .header("authorization", basic("demo-web", "demo-web-secret"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&[("token", &token)]))
        .send()
        .await
        .expect("the identity server answers");
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    answer["active"].as_bool().expect("a flag")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_login_gets_its_tokens_unchanged() {
    let world = stepped_up(AT_AUTHORIZE, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let mark = world.mark().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert_eq!(tokens.header("content-type"), Some("application/json"));
    assert_eq!(claims(&tokens.member("id_token"))["acr"], MFA);
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.proof.as_deref(), &*record.action, &*record.outcome),
        (Some("proven"), "forwarded", "tokens_issued"),
        "{record:#?}"
    );
    assert_eq!(record.revocation, None);
    // The token that was proven renews itself without being asked again.
    let mark = world.mark().await;
    let renewed = alice
        .token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.member("refresh_token")),
        ])
        .await;
    let record = world.record_since(mark).await;
    assert_eq!(
        (renewed.status, record.proof.as_deref()),
        (200, None),
        "{record:#?}"
    );
    assert!(own_requests(&world, "/oauth2/revoke").is_empty());
    assert!(
        (world
            .metric(
                "riskgate_proofs_total",
                &[("door", "token"), ("result", "proven")]
            )
            .await
            - 1.0)
            .abs()
            < 0.1
    );
    world.leaks_nothing(&[
        &code,
        &tokens.member("access_token"),
        &tokens.member("refresh_token"),
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_server_that_ignores_the_demand_are_withheld_and_revoked() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let mark = world.mark().await;
    withheld(&alice.redeem(&code).await);
    let record = world.record_since(mark).await;
    assert_eq!(
        (
            record.proof.as_deref(),
            record.revocation.as_deref(),
            &*record.outcome
        ),
        (Some("acr"), Some("revoked"), "refused_here"),
        "{record:#?}"
    );
    let revocations = own_requests(&world, "/oauth2/revoke");
    assert_eq!(revocations.len(), 2, "refresh and access token");
    for revocation in &revocations {
        assert_eq!(
            revocation.header_values("authorization"),
            [basic("demo-web", "demo-web-secret")]
        );
        assert!(!is_active(&world, revocation).await);
    }
    assert!(
        (world
            .metric(
                "riskgate_tokens_withheld_total",
                &[("revocation", "revoked")]
            )
            .await
            - 1.0)
            .abs()
            < 0.1
    );
    // Whoever owes nothing is served as ever, and nothing of theirs is held.
    let mut bob = world.person("bob");
    let code = bob.sign_in().await;
    let mark = world.mark().await;
    assert_eq!(bob.redeem(&code).await.status, 200);
    assert_eq!(world.record_since(mark).await.proof, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_id_token_is_no_proof() {
    let flaws = Flaws::default();
    for (flaws, expected) in [
        (
            Flaws {
                signature: SignatureFlaw::ForeignKey,
                ..flaws
            },
            "signature",
        ),
        (
            Flaws {
                signature: SignatureFlaw::SharedSecret,
                ..flaws
            },
            "algorithm",
        ),
        (
            Flaws {
                has_wrong_audience: true,
                ..flaws
            },
            "audience",
        ),
        (
            Flaws {
                auth_time_back: Duration::from_secs(3_600),
                ..flaws
            },
            "stale",
        ),
    ] {
        let world = stepped_up(AT_AUTHORIZE, SimConfig::default(), "").await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        world.sim.set_flaws(flaws);
        let mark = world.mark().await;
        withheld(&alice.redeem(&code).await);
        let record = world.record_since(mark).await;
        assert_eq!(record.proof.as_deref(), Some(expected), "{record:#?}");
        assert_eq!(record.revocation.as_deref(), Some("revoked"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_without_openid_cannot_prove() {
    let world = stepped_up(AT_LOGIN, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let page = alice.open_with(&[("scope", "profile")]).await;
    let answer = alice.submit_password(&page).await;
    let page = alice.follow(answer).await;
    let answer = alice.submit_code(&page).await;
    let code = alice.follow(answer).await.code().expect("a code");
    withheld(&alice.redeem(&code).await);
    assert_eq!(
        world.last_record().await.proof.as_deref(),
        Some("no_id_token")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_prove_where_there_is_no_acr() {
    let mut sim = deaf();
    for client in &mut sim.clients {
        client.is_mfa_always = true;
    }
    let strict = stepped_up(AT_AUTHORIZE, sim.clone(), "[step_up]\namr_values = []").await;
    let mut alice = strict.person("alice");
    let code = alice.sign_in().await;
    withheld(&alice.redeem(&code).await);

    let world = stepped_up(AT_AUTHORIZE, sim, "").await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert!(claims(&tokens.member("id_token")).get("acr").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_fetched_and_an_absent_key_set_withholds() {
    let world = stepped_up(AT_AUTHORIZE, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    world.sim.rotate_keys().expect("a new key");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");

    // A key that cannot be fetched: who owes a factor waits for it, nobody else notices.
    let away = Options {
        mode: "enforce",
        policy: Some(rules(&[(AT_AUTHORIZE, "step_up")])),
        ..Options::default()
    };
    let world = World::start(away).await;
    world.sim.set_flaws(Flaws {
        hides_keys: true,
        ..Flaws::default()
    });
    world.sim.rotate_keys().expect("a new key");
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    withheld(&alice.redeem(&code).await);
    let proof = world.last_record_of("token").await.proof;
    // The old keys may have been learnt at the start.
    assert!(
        matches!(proof.as_deref(), Some("keys_away" | "key_unknown")),
        "{proof:?}"
    );
    let mut bob = world.person("bob").in_app("demo-opaque");
    let code = bob.sign_in().await;
    assert_eq!(bob.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_may_be_configured() {
    let world = stepped_up(
        AT_AUTHORIZE,
        SimConfig::default(),
        "[step_up]\nissuer = \"https://other.example\"",
    )
    .await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    withheld(&alice.redeem(&code).await);
    assert_eq!(world.last_record().await.proof.as_deref(), Some("issuer"));
}

/// A client assertion that is good once (RFC 7523).
fn assertion(world: &World, id: &str) -> String {
    use hmac::Mac as _;
    let exp = world.sim.now_s() + 300;
    let audience = format!("{}/oauth2/token", world.url);
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let body = URL_SAFE_NO_PAD.encode(
        serde_json::json!({"iss": "demo-web", "sub": "demo-web", "aud": audience, "exp": exp, "jti": id}).to_string(),
    );
    let signed = format!("{head}.{body}");
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(b"demo-web-secret").expect("a key");
    mac.update(signed.as_bytes());
    format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

async fn redeem_by_assertion(
    world: &World,
    alice: &mut Person<'_>,
    code: &str,
    id: &str,
) -> Answer {
    let assertion = assertion(world, id);
    alice
        .post(
            "/oauth2/token",
            &[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", CALLBACK),
                ("client_id", "demo-web"),
                (
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ),
                ("client_assertion", &assertion),
            ],
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_an_assertion_has_its_tokens_barred_or_the_session_ended() {
    let plain = stepped_up(AT_LOGIN, deaf(), "").await;
    let mut alice = plain.person("alice");
    let code = alice.sign_in().await;
    withheld(&redeem_by_assertion(&plain, &mut alice, &code, "1").await);
    let record = plain.last_record().await;
    assert_eq!(
        (record.proof.as_deref(), record.revocation.as_deref()),
        (Some("acr"), Some("barred"))
    );
    assert!(own_requests(&plain, "/oauth2/revoke").is_empty());

    // With a credential of the gateway's own the session is ended, and the tokens that are bound to it.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ops.secret");
    std::fs::write(&file, "riskgate-ops-secret\n").expect("a file");
    let config = format!(
        "[upstream.management]\nclient_id = \"riskgate-ops\"\nsecret_file = '{}'",
        file.display()
    );
    let world = stepped_up(AT_LOGIN, deaf(), Box::leak(config.into_boxed_str())).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    withheld(&redeem_by_assertion(&world, &mut alice, &code, "1").await);
    let record = world.last_record().await;
    assert_eq!(
        record.revocation.as_deref(),
        Some("sessions_ended"),
        "{record:#?}"
    );
    let mut ended = world.sim.recorded();
    ended.retain(|request| request.method == "DELETE");
    assert_eq!(ended.len(), 1);
    assert!(
        alice.open().await.is_page("login.do"),
        "the session is over"
    );

    // The right assertion with the factor given is served.
    let good = stepped_up(AT_LOGIN, SimConfig::default(), "").await;
    let mut alice = good.person("alice");
    let code = alice.sign_in().await;
    let tokens = redeem_by_assertion(&good, &mut alice, &code, "1").await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_is_redeemed_once_however_many_try() {
    for (sim, successes) in [(SimConfig::default(), 1), (deaf(), 0)] {
        let world = stepped_up(AT_LOGIN, sim, "").await;
        let mut alice = world.person("alice");
        let code = alice.sign_in().await;
        let tries = (0..50).map(|_| {
            let mut one = alice.clone();
            let code = code.clone();
            async move { one.redeem(&code).await }
        });
        let answers = futures_of(tries).await;
        let good = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(good, successes);
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(
                (answer.status, answer.member("error").as_str()),
                (400, "invalid_grant")
            );
        }
    }
}

/// Runs all at once.
async fn futures_of<F: Future<Output = Answer>>(tries: impl Iterator<Item = F>) -> Vec<Answer> {
    let mut pending: Vec<_> = tries.map(Box::pin).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    answers
}
