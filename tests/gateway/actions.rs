//! What WSO2 asks: the question of an adaptive script, and the call of a custom authenticator.

use crate::gateway::FAR;
use crate::gateway::HOME;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::basic;
use crate::gateway::listening_port;
use crate::gateway::param;
use crate::gateway::rules;
use hmac::Hmac;
use hmac::Mac;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;
use tempfile::TempDir;
use wso2_sim::SimConfig;
use wso2_sim::WebhookSettings;

const SECRET: &str = "a-secret-of-wso2-and-the-gateway-alone";

/// A world in which WSO2 may ask.
struct Asked {
    world: World,
    url: String,
    _folder: TempDir,
}

impl Asked {
    async fn start(mode: &'static str, policy: &[(&str, &str)], tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let port = listening_port();
        let mut config = format!(
            "[actions]\nlisten = \"127.0.0.1:{port}\"\nsecret_file = '{}'\n",
            secret.display()
        );
        if tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
            std::fs::write(&certificate, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            config += &format!(
                "[actions.tls]\ncertificate = '{}'\nkey = '{}'\n",
                certificate.display(),
                key.display()
            );
        }
        let world = World::start(Options {
            mode,
            policy: Some(rules(policy)),
            config: Box::leak(config.into_boxed_str()),
            ..Options::default()
        })
        .await;
        let scheme = if tls { "https" } else { "http" };
        Self {
            world,
            url: format!("{scheme}://localhost:{port}"),
            _folder: folder,
        }
    }

    async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.world.http().post(format!("{}{path}", self.url));
        read(request.bearer_auth(SECRET).json(body)).await
    }

    /// Logs in with the password as far as it goes: the decision that WSO2 was told, and its key of the login.
    async fn log_in(&self, name: &str, address: &str) -> (String, String) {
        let mut person = self.world.person(name).from(address);
        let page = person.open().await;
        let flow = param(&page.url, "sessionDataKey").unwrap();
        person.submit_password(&page).await;
        (self.told_at_login(), flow)
    }

    /// The decision that WSO2 was told with the latest password.
    fn told_at_login(&self) -> String {
        let received = self.world.sim.recorded();
        let login = received
            .iter()
            .rev()
            .find(|request| request.path().ends_with("/commonauth"))
            .unwrap();
        login.header_values("x-risk-decision-id")[0].to_owned()
    }
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

fn call(flow: &str, user: &str, passed: &[&str]) -> Value {
    let steps: Vec<Value> = passed
        .iter()
        .zip(1..)
        .map(|(name, index)| json!({ "index": index, "name": name }))
        .collect();
    json!({
        "actionType": "AUTHENTICATION",
        "flowId": flow,
        "requestId": "5168321563",
        "event": {
            "tenant": { "id": "-1234", "name": "carbon.super" },
            "user": { "id": "9f1ab106", "sub": user, "userIdentitySource": "LOCAL" },
            "userStore": { "id": "UFJJTUFSWQ==", "name": "PRIMARY" },
            "application": { "id": "9438473805", "name": "demo" },
            "currentStepIndex": steps.len() + 1,
            "authenticatedSteps": steps,
        },
        "allowedOperations": [{ "op": "redirect" }],
    })
}

const STEP_UP_ALICE: [(&str, &str); 1] = [(
    "request.door == \"login\" && user.name == \"alice\"",
    "step_up",
)];

#[tokio::test(flavor = "multi_thread")]
async fn a_script_learns_what_was_decided_and_only_for_its_user() {
    let asked = Asked::start("enforce", &STEP_UP_ALICE, false).await;
    let (risky, _) = asked.log_in("alice", HOME).await;
    let (calm, _) = asked.log_in("bob", HOME).await;

    let (status, answer) = asked
        .ask(
            "/actions/risk",
            &json!({ "decision_id": risky, "username": "alice", "tenant": "carbon.super", "ip": HOME }),
        )
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["risk_status"], &answer["risk_verdict"]),
        (&json!("scored"), &json!("step_up")),
        "{answer}"
    );
    assert!(
        answer["risk_score"].is_u64() && answer["risk_reasons"].is_array(),
        "{answer}"
    );
    assert_eq!(answer["decision_id"], json!(risky));
    let (_, answer) = asked
        .ask(
            "/actions/risk",
            &json!({ "decision_id": calm, "username": "PRIMARY/Bob@carbon.super" }),
        )
        .await;
    assert_eq!(answer["risk_verdict"], json!("allow"), "{answer}");

    // The id of somebody else's good login, from elsewhere, for another tenant, or a made-up one.
    for question in [
        json!({ "decision_id": calm, "username": "alice" }),
        json!({ "decision_id": calm, "username": "bob", "ip": FAR }),
        json!({ "decision_id": calm, "username": "bob", "tenant": "example.com" }),
        json!({ "decision_id": "0199b0a0-0000-7000-8000-000000000000", "username": "bob" }),
        json!({ "decision_id": "' OR 1=1 --", "username": "bob" }),
    ] {
        let (status, answer) = asked.ask("/actions/risk", &question).await;
        assert_eq!(status, 200);
        assert_eq!(answer, json!({ "risk_status": "unknown" }), "{question}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_in_an_organization_may_ask_without_a_user() {
    let asked = Asked::start("enforce", &STEP_UP_ALICE, false).await;
    let mut person = asked.world.person("alice").of_organization();
    let page = person.open().await;
    person.submit_password(&page).await;
    let decision = asked.told_at_login();
    let organization = wso2_sim::seed::ACME_ORG_ID;
    for (tenant, expected) in [
        (organization, "scored"),
        (&organization.to_ascii_uppercase(), "scored"),
        ("00000000-0000-4000-8000-000000000000", "unknown"),
        ("example.com", "unknown"),
    ] {
        let question = json!({ "decision_id": decision, "tenant": tenant });
        let (_, answer) = asked.ask("/actions/risk", &question).await;
        assert_eq!(answer["risk_status"], json!(expected), "{tenant}: {answer}");
    }
    // One of the tenant is not one of its organization.
    let (of_tenant, _) = asked.log_in("alice", HOME).await;
    let question = json!({ "decision_id": of_tenant, "tenant": organization });
    let (_, answer) = asked.ask("/actions/risk", &question).await;
    assert_eq!(answer, json!({ "risk_status": "unknown" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authenticator_passes_who_owes_nothing_or_has_paid() {
    let asked = Asked::start("enforce", &STEP_UP_ALICE, false).await;
    let (decision, flow) = asked.log_in("bob", HOME).await;
    let (status, reply) = asked
        .ask(
            "/actions/authenticate",
            &call(&flow, "bob", &["BasicAuthenticator"]),
        )
        .await;
    assert_eq!(
        (status, &reply["actionStatus"]),
        (200, &json!("SUCCESS")),
        "{reply}"
    );
    // Where WSO2 names the login by a key of its own, the header leads to the decision.
    let mut by_header = call("8369510297", "bob", &["BasicAuthenticator"]);
    by_header["event"]["request"] =
        json!({ "additionalHeaders": [{ "name": "x-risk-decision-id", "value": [decision] }] });
    let (_, reply) = asked.ask("/actions/authenticate", &by_header).await;
    assert_eq!(reply["actionStatus"], json!("SUCCESS"), "{reply}");

    let (_, flow) = asked.log_in("alice", HOME).await;
    let (_, reply) = asked
        .ask(
            "/actions/authenticate",
            &call(&flow, "alice", &["BasicAuthenticator"]),
        )
        .await;
    assert_eq!(
        (&reply["actionStatus"], &reply["failureReason"]),
        (&json!("FAILED"), &json!("insufficient_authentication")),
        "{reply}"
    );
    let (_, reply) = asked
        .ask(
            "/actions/authenticate",
            &call(&flow, "alice", &["BasicAuthenticator", "totp"]),
        )
        .await;
    assert_eq!(reply["actionStatus"], json!("SUCCESS"), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_went_around_the_gateway_does_not_pass() {
    let asked = Asked::start("enforce", &STEP_UP_ALICE, false).await;
    let (_, flow) = asked.log_in("bob", HOME).await;
    let mut of_other_tenant = call(&flow, "bob", &["BasicAuthenticator"]);
    of_other_tenant["event"]["tenant"]["name"] = json!("example.com");
    for call in [
        call("8369510297", "bob", &["BasicAuthenticator", "totp"]),
        call(&flow, "alice", &["BasicAuthenticator", "totp"]),
        of_other_tenant,
    ] {
        let (status, reply) = asked.ask("/actions/authenticate", &call).await;
        assert_eq!(
            (status, &reply["actionStatus"], &reply["failureReason"]),
            (200, &json!("FAILED"), &json!("unknown_login")),
            "{reply}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_without_the_secret() {
    let asked = Asked::start("enforce", &[], true).await;
    let plain = reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let question = json!({ "decision_id": "d" });
    for path in ["/actions/risk", "/actions/authenticate", "/", "/metrics"] {
        let url = format!("{}{path}", asked.url);
        let requests = [
            plain.post(&url),
            plain.post(&url).bearer_auth("wrong"),
            plain.post(&url).basic_auth("admin", Some(SECRET)),
            plain.get(&url),
        ];
        for request in requests {
            let (status, reply) = read(request.json(&question)).await;
            assert_eq!(
                (status, &reply["actionStatus"]),
                (401, &json!("ERROR")),
                "{path}: {reply}"
            );
        }
    }
    let url = format!("{}/actions/risk", asked.url);
    let (status, _) = read(
        plain
            .post(&url)
            .basic_auth("wso2", Some(SECRET))
            .json(&question),
    )
    .await;
    assert_eq!(status, 200);
    let (status, _) = read(plain.post(&url).header("x-api-key", SECRET).json(&question)).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_get_a_clear_answer_and_the_listener_lives_on() {
    let asked = Asked::start("monitor", &[], false).await;
    let send = |path: &str, body: Vec<u8>| {
        let request = asked.world.http().post(format!("{}{path}", asked.url));
        read(request.bearer_auth(SECRET).body(body))
    };
    for (path, body, said) in [
        ("/actions/risk", &b"{"[..], "JSON object"),
        ("/actions/risk", b"[1]", "JSON object"),
        ("/actions/risk", b"{}", "decision_id"),
        (
            "/actions/risk",
            b"{\"decision_id\":\"\xff\"}",
            "JSON object",
        ),
        ("/actions/authenticate", b"{}", "actionType"),
        ("/actions/authenticate", b"", "JSON object"),
    ] {
        let (status, reply) = send(path, body.to_vec()).await;
        assert_eq!(status, 400, "{path} {reply}");
        assert!(reply.to_string().contains(said), "{path} {reply}");
    }
    let (status, _) = send("/actions/risk", vec![b'x'; 70 * 1024]).await;
    assert_eq!(status, 413);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(send("/actions/risk", deep.into_bytes()).await.0, 400);
    assert_eq!(send("/actions/other", Vec::new()).await.0, 404);
    // In monitor WSO2 is told no id, so that there is none to ask for.
    let (_, answer) = asked
        .ask("/actions/risk", &json!({ "decision_id": "d" }))
        .await;
    assert_eq!(answer, json!({ "risk_status": "unknown" }));
}

/// An event of the user, as WSO2's webhooks tell it now.
fn event(name: &str, user: &str) -> Vec<u8> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let body = json!({
        "iss": "https://localhost:9443/t/carbon.super",
        "jti": "b7a1\u{1b}[31m",
        "iat": u64::try_from(now.as_millis()).unwrap(),
        "events": { format!("https://schemas.identity.wso2.org/events/{name}"): {
            "initiatorType": "USER",
            "user": { "id": "e204", "claims": [{ "uri": "http://wso2.org/claims/username", "value": user }] },
            "tenant": { "id": "-1234", "name": "carbon.super" },
            "userStore": { "id": "UFJJTUFSWQ==", "name": "PRIMARY" },
        }},
    });
    serde_json::to_vec(&body).unwrap()
}

impl Asked {
    async fn tell(&self, body: Vec<u8>, secret: &str) -> u16 {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        let tag = mac.chain_update(&body).finalize().into_bytes();
        let tag: Vec<String> = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        let request = self
            .world
            .http()
            .post(format!("{}/actions/webhook", self.url));
        let request = request.header("x-hub-signature", format!("sha256={}", tag.concat()));
        read(request.body(body)).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_afterwards_labels_the_login_before() {
    let asked = Asked::start("enforce", &[], false).await;
    let (login, _) = asked.log_in("alice", FAR).await;
    drop(asked.world.records().await);
    let changed = "credential/event-type/credentialUpdated";

    // Nobody but WSO2 tells, and what is no message is refused.
    let counted = |result: &'static str| {
        let labels = [("action", "webhook"), ("result", result)];
        let world = &asked.world;
        async move { world.metric("riskgate_actions_total", &labels).await }
    };
    assert_eq!(
        asked
            .tell(
                event(changed, "alice"),
                "another secret that is long enough"
            )
            .await,
        401
    );
    let url = format!("{}/actions/webhook", asked.url);
    let plain = asked.world.http().post(&url).body(event(changed, "alice"));
    assert_eq!(read(plain).await.0, 401);
    assert_eq!(asked.tell(b"{}".to_vec(), SECRET).await, 400);
    let old = String::from_utf8(event(changed, "alice"))
        .unwrap()
        .replace("\"iat\":1", "\"iat\":");
    assert_eq!(asked.tell(old.into_bytes(), SECRET).await, 400);
    assert_eq!(
        asked
            .tell(event("login/event-type/loginSuccess", "alice"), SECRET)
            .await,
        202
    );
    let counts = [
        counted("unauthorized").await,
        counted("bad_request").await,
        counted("stale").await,
        counted("unchanged").await,
    ];
    assert_eq!(counts, [2.0, 1.0, 1.0, 1.0]);

    // One record, of the user, in words that are safe to print.
    asked.world.expect_record();
    assert_eq!(asked.tell(event(changed, "alice"), SECRET).await, 202);
    let record = asked.world.last_record().await;
    assert_eq!(
        (&*record.class, &*record.action),
        ("event", "credential_updated")
    );
    let before = asked.world.records().await;
    let of_login = before.iter().find(|record| record.id == login).unwrap();
    assert_eq!(record.subject, of_login.subject);
    assert_eq!(record.note.as_deref(), Some("by user, event b7a1?[31m"));

    let out = asked.world.data_dir().join("labels.csv");
    let (code, _, errors) = asked
        .world
        .command(&["label", "--export", out.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    let labels = std::fs::read_to_string(&out).unwrap();
    let line = labels
        .lines()
        .find(|line| line.starts_with(&login))
        .unwrap();
    assert!(
        line.contains(",credential_updated,50,") && line.contains(",1,"),
        "{line}"
    );
}

/// The simulated WSO2 itself tells, by its webhooks: nothing here makes an event.
#[tokio::test(flavor = "multi_thread")]
async fn what_wso2s_webhooks_tell_becomes_the_labels_that_it_should() {
    let asked = Asked::start("monitor", &[], false).await;
    let world = &asked.world;
    world.sim.set_webhook(Some(WebhookSettings {
        url: format!("{}/actions/webhook", asked.url),
        secret: Some(SECRET.to_owned()),
    }));
    // The record of an event is due before what leads to it, which may be recorded after it.
    let told = async |action: &str| {
        let records = world.records().await;
        let found = records.into_iter().rfind(|record| record.action == action);
        found
            .filter(|record| record.class == "event")
            .unwrap_or_else(|| panic!("no {action}"))
    };
    let login = async || world.last_record_of("login").await.id;

    // A second factor that is wrong, after a password that is right.
    let mut alice = world.person("alice").from(FAR).in_app("demo-mfa");
    let page = alice.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let first = login().await;
    alice.set_factor("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    world.expect_record();
    alice.submit_code(&page).await;
    let factor = told("factor_failed").await;
    assert!(factor.note.unwrap().starts_with("by user, event "));

    // A session that an administrator ends.
    let mut bob = world.person("bob").from(FAR);
    let code = bob.sign_in().await;
    let session = login().await;
    let tokens = bob.redeem(&code).await;
    let claims = crate::gateway::claims(&tokens.member("id_token"));
    let path = format!("/api/users/v1/{}/sessions", claims["sub"].as_str().unwrap());
    let sim = |method: reqwest::Method, path: &str| {
        world
            .http()
            .request(method, format!("{}{path}", world.sim.url))
    };
    let ops = sim(reqwest::Method::POST, "/oauth2/token")
        .header(
            "authorization",
            basic("riskgate-ops", "riskgate-ops-secret"),
        )
        .form(&[
            ("grant_type", "client_credentials"),
            ("scope", "internal_session_delete"),
        ]);
    let (_, ops) = read(ops).await;
    world.expect_record();
    let ended =
        sim(reqwest::Method::DELETE, &path).bearer_auth(ops["access_token"].as_str().unwrap());
    assert_eq!(read(ended).await.0, 204);
    let revoked = told("session_revoked").await;
    assert!(revoked.note.unwrap().starts_with("by "));

    // A password that is changed after a login.
    let mut dave = world.person("dave").from(FAR);
    dave.sign_in().await;
    let credential = login().await;
    let change = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [{ "op": "replace", "value": { "password": "another-1" } }],
    });
    world.expect_record();
    let changed = sim(reqwest::Method::PATCH, "/scim2/Me")
        .header("authorization", basic("dave", dave.password()))
        .json(&change);
    assert_eq!(read(changed).await.0, 200);
    told("credential_updated").await;

    // An account that locks after failures. Wrong passwords alone say nothing.
    let mut carol = world.person("carol").from(FAR).guessing("wrong");
    let mut guesses = Vec::new();
    let most = SimConfig::default().failed_attempts_max;
    for number in 1..=most {
        if number == most {
            world.expect_record();
        }
        carol.try_password().await;
        guesses.push(login().await);
    }
    told("account_locked").await;

    let out = world.data_dir().join("labels.csv");
    let (code, _, errors) = world.command(&["label", "--export", out.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    let labels = std::fs::read_to_string(&out).unwrap();
    let source_of = |id: &str| {
        let line = labels.lines().find(|line| line.starts_with(id))?;
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields[1], "1", "{line}");
        Some(fields[5].to_owned())
    };
    let mut expected = vec![
        (&first, "factor_failed"),
        (&session, "session_revoked"),
        (&credential, "credential_updated"),
    ];
    expected.extend(guesses.iter().map(|guess| (guess, "account_locked")));
    for (id, source) in expected {
        assert_eq!(source_of(id).as_deref(), Some(source), "{labels}");
    }
    assert_eq!(world.sim.webhooks_dropped(), 0);
    let labels = [("action", "webhook"), ("result", "unauthorized")];
    assert!(world.metric("riskgate_actions_total", &labels).await < 0.1);
}
