//! Shared signals from the real gateway to a receiver on a socket: a level that changes, a compromise that is confirmed, that
//! nothing of a level is told while the gateway only watches, and the same in plain JSON.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::World;
use crate::lifecycle::until_reloaded;
use crate::operators::Browser;
use crate::operators::eventually;
use crate::operators::with_operators;
use crate::receiver::header;
use crate::receiver::receiver;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::JwkSet;
use riskgate::domain::alert::signature;
use serde_json::Value;

pub(crate) const ISSUER: &str = "https://sso.example.com";
pub(crate) const AUDIENCE: &str = "https://app.example.com/";
const AUTHORIZATION: &str = "Bearer s3cret-of-the-receiver";

/// Everything is allowed; the level is that of the thresholds alone.
pub(crate) fn levels(medium: u8, high: u8) -> String {
    format!(
        "version = 1\n[thresholds]\nmedium = {medium}\nhigh = {high}\n\
         [[rule]]\nname = \"all\"\nwhen = 'true'\nverdict = \"allow\"\n"
    )
}

/// A gateway with operators that tells `url`; the folder holds what the receiver wants to be shown.
async fn telling(url: &str, mode: &'static str, more: &str) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let authorization = folder.path().join("authorization");
    std::fs::write(&authorization, format!("{AUTHORIZATION}\n")).unwrap();
    let config = format!(
        "[shared_signals]\nissuer = '{ISSUER}'\n[[shared_signals.receivers]]\nname = 'app'\nurl = '{url}'\n\
         audience = '{AUDIENCE}'\nauthorization_file = '{}'\n{more}",
        authorization.display()
    );
    let world = with_operators(Options {
        mode,
        policy: Some(levels(99, 100)),
        // Lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    (world, folder)
}

/// The claims of a token, once the keys that the gateway publishes have verified it.
pub(crate) async fn verified(world: &World, token: &str) -> Value {
    let set: JwkSet =
        serde_json::from_value(world.get("/riskgate/jwks.json").await.json()).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("secevent+jwt"));
    let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&[AUDIENCE]);
    rules.set_issuer(&[ISSUER]);
    rules.set_required_spec_claims(&["iss", "aud"]);
    jsonwebtoken::decode::<Value>(token, &key, &rules)
        .unwrap()
        .claims
}

pub(crate) fn event<'a>(claims: &'a Value, kind: &str) -> &'a Value {
    &claims["events"][format!("https://schemas.openid.net/secevent/caep/event-type/{kind}")]
}

/// An analyst confirms that a decision was compromised, once the console shows it.
pub(crate) async fn confirm(world: &World, browser: &mut Browser<'_>, decision: &str) {
    let path = format!("/console/decisions/{decision}/label");
    let word = [("truth", "compromised"), ("note", "she called")];
    world.expect_record();
    eventually(async || (browser.post(&path, &word).await.status == 303).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_changes_and_a_confirmed_compromise_are_told() {
    let (url, messages) = receiver("/ssf/s3cret", "202 Accepted\r\ncontent-length: 0");
    let (world, _folder) = telling(&url, "advise", "").await;
    // A receiver finds the keys by the metadata.
    let metadata = world.get("/.well-known/ssf-configuration").await;
    assert_eq!(
        (metadata.status, metadata.header("cache-control")),
        (200, Some("public, max-age=300")),
        "{metadata:?}"
    );
    let metadata = metadata.json();
    assert_eq!(metadata["issuer"], ISSUER);
    assert_eq!(metadata["jwks_uri"], format!("{ISSUER}/riskgate/jwks.json"));
    assert_eq!(
        metadata["delivery_methods_supported"],
        serde_json::json!(["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"])
    );
    let of_tenant = world
        .get("/t/example.com/.well-known/ssf-configuration")
        .await;
    assert_eq!(of_tenant.status, 404);

    let mut alice = world.person("alice");
    alice.sign_in().await;
    drop(world.records().await);

    world.set_policy(&levels(1, 2));
    until_reloaded(&world, "ok", 1.0).await;
    // Whoever types a name without its password changes nothing: the first that is told is her own login.
    let mut mallory = world.person("alice").guessing("wrong");
    mallory.log_in().await;
    alice.forget_session();
    alice.sign_in().await;
    let login = world.last_record_of("login").await;
    assert_eq!(login.level.as_deref(), Some("high"), "{login:?}");
    let (head, token) = messages.recv_timeout(PATIENCE).unwrap();
    assert_eq!(header(&head, "content-type"), "application/secevent+jwt");
    assert_eq!(header(&head, "authorization"), AUTHORIZATION);
    let told = verified(&world, &token).await;
    let level = event(&told, "risk-level-change");
    assert_eq!(
        (
            &level["previous_level"],
            &level["current_level"],
            &level["principal"]
        ),
        (&"LOW".into(), &"HIGH".into(), &"USER".into())
    );
    assert_eq!(told["txn"], login.id);

    let mut ann = Browser::of(&world, "ann").await;
    confirm(&world, &mut ann, &login.id).await;
    let (_, token) = messages.recv_timeout(PATIENCE).unwrap();
    let ended = verified(&world, &token).await;
    assert_eq!(
        event(&ended, "session-revoked")["initiating_entity"],
        "admin"
    );
    assert_eq!(
        (&ended["sub_id"], &ended["txn"]),
        (&told["sub_id"], &told["txn"])
    );
    assert_ne!(ended["jti"], told["jti"]);
    for kind in ["risk-level-change", "session-revoked"] {
        let labels = [
            ("receiver", "app"),
            ("event", kind),
            ("result", "delivered"),
        ];
        eventually(async || {
            let count = world.metric("riskgate_shared_signals_total", &labels).await;
            (count >= 1.0).then_some(())
        })
        .await;
    }
    world.leaks_nothing(&["s3cret"]);
    assert!(!token.contains("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_watches_no_level_is_told_but_a_compromise_is() {
    let (url, messages) = receiver("/ssf/s3cret", "202 Accepted\r\ncontent-length: 0");
    let (mut world, _folder) = telling(&url, "monitor", "").await;
    world.set_policy(&levels(1, 2));
    until_reloaded(&world, "ok", 1.0).await;
    world.person("alice").sign_in().await;
    let login = world.last_record_of("login").await;
    assert_eq!(login.level.as_deref(), Some("high"), "{login:?}");
    let mut ann = Browser::of(&world, "ann").await;
    confirm(&world, &mut ann, &login.id).await;
    let (_, token) = messages.recv_timeout(PATIENCE).unwrap();
    let told = verified(&world, &token).await;
    assert_eq!(
        event(&told, "session-revoked")["initiating_entity"],
        "admin"
    );
    assert_eq!(told["txn"], login.id);
    assert_eq!(world.stop().await, Some(0), "{}", world.log());
    // It was the first and the last.
    assert!(messages.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_tokens_is_told_in_plain_json() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let (url, messages) = receiver("/hooks/s3cret", "204 No Content");
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let config = format!(
        "[shared_signals]\nissuer = '{ISSUER}'\n[[shared_signals.receivers]]\nname = 'siem'\n\
         delivery = 'webhook'\nurl = '{url}'\nsecret_file = '{}'\n",
        secret.display()
    );
    let world = World::start(Options {
        mode: "advise",
        policy: Some(levels(1, 2)),
        // Lives as long as the test.
        config: config.leak(),
        ..Options::default()
    })
    .await;
    world.person("alice").sign_in().await;
    let login = world.last_record_of("login").await;
    let (head, body) = messages.recv_timeout(PATIENCE).unwrap();
    let (id, seconds) = (
        header(&head, "webhook-id"),
        header(&head, "webhook-timestamp").parse().unwrap(),
    );
    assert_eq!(
        header(&head, "webhook-signature"),
        signature(SECRET.as_bytes(), id, seconds, body.as_bytes())
    );
    let message: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(message["type"], "risk.signals");
    let signal = &message["signals"][0];
    assert_eq!(
        (
            &signal["event"],
            &signal["level"],
            &signal["previous_level"]
        ),
        (&"risk-level-change".into(), &"high".into(), &Value::Null)
    );
    assert_eq!(signal["decision_id"], login.id);
    // Records have another name of hers, which can be erased.
    assert!(
        signal["subject"].is_string() && signal["subject"].as_str() != login.subject.as_deref()
    );
    world.leaks_nothing(&["s3cret", SECRET]);
    assert!(!body.contains("alice"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_users_by_a_client_is_told_of_them_by_that_name() {
    let (url, messages) = receiver("/ssf/s3cret", "202 Accepted\r\ncontent-length: 0");
    let more = "subject = 'iss_sub'\nclient_id = 'demo-web'\n";
    let (world, _folder) = telling(&url, "advise", more).await;
    world.set_policy(&levels(1, 2));
    until_reloaded(&world, "ok", 1.0).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let login = world.last_record_of("login").await;
    // What was told of her login waits until the client has an ID token of hers.
    let tokens = alice.redeem(&code).await;
    let id = crate::gateway::claims(&tokens.member("id_token"));
    let (_, token) = messages.recv_timeout(PATIENCE).unwrap();
    let told = verified(&world, &token).await;
    assert_eq!(
        told["sub_id"],
        serde_json::json!({ "format": "iss_sub", "iss": id["iss"], "sub": id["sub"] })
    );
    assert_eq!(told["txn"], login.id);
    assert_eq!(event(&told, "risk-level-change")["current_level"], "HIGH");
    let mut ann = Browser::of(&world, "ann").await;
    confirm(&world, &mut ann, &login.id).await;
    let (_, token) = messages.recv_timeout(PATIENCE).unwrap();
    let ended = verified(&world, &token).await;
    assert_eq!(ended["sub_id"], told["sub_id"]);
    assert!(event(&ended, "session-revoked").is_object());
    // The name is the client's to know, and stands nowhere else.
    world.records().await;
    world.leaks_nothing(&[id["sub"].as_str().unwrap()]);
}
