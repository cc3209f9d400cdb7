//! The answers to WSO2's actions around tokens and passwords are never errors and never slow, and nobody else gets one.

use crate::gateway::Options;
use crate::gateway::Store;
use crate::gateway::World;
use crate::gateway::on_both_stores;
use crate::gateway::rules;
use crate::issuing::ACCESS;
use crate::issuing::ID;
use crate::issuing::Issuing;
use crate::issuing::PASSWORD;
use crate::issuing::SECRET;
use crate::issuing::call;
use crate::issuing::read;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn the_store_may_be_away() {
    let mut issuing = Issuing::over_redis().await;
    issuing.world.settle().await;
    issuing.world.redis().stop();
    let unscored = json!({
        "op": "add", "path": "/accessToken/claims/-", "value": { "name": "risk_status", "value": "unscored" },
    });
    let (mut fastest, mut fastest_password) = (Duration::MAX, Duration::MAX);
    for number in 0..12_u8 {
        let id = format!("0199b0a0-0000-7000-8000-0000000000{number:02}");
        let call = call(&id, "demo-web", "authorization_code");
        let begun = Instant::now();
        let (status, reply) = issuing.ask(ACCESS, &call).await;
        let took = begun.elapsed();
        assert_eq!(
            (status, &reply["operations"]),
            (200, &json!([unscored])),
            "{reply}"
        );
        fastest = fastest.min(took);
        let password = json!({
            "actionType": "PRE_UPDATE_PASSWORD",
            "event": { "user": { "id": "u" }, "initiatorType": "USER", "action": "UPDATE" },
        });
        let begun = Instant::now();
        let (status, reply) = issuing.ask(PASSWORD, &password).await;
        assert_eq!((status, reply), (200, json!({ "actionStatus": "SUCCESS" })));
        fastest_password = fastest_password.min(begun.elapsed());
    }
    // The store's own time limit is 5 s: who waited for it would never be faster.
    let slowest = Duration::from_secs(4);
    assert!(fastest < slowest, "{fastest:?}");
    assert!(fastest_password < slowest, "{fastest_password:?}");
    issuing.world.redis().cont();
}

async fn what_a_node_has_decided_others_find(store: Store) {
    let mut issuing = Issuing::start_with(Options {
        mode: "enforce",
        policy: Some(format!(
            "{}[[token.rule]]\nname = \"short\"\nwhen = \"true\"\nexpires_in = 60\n",
            rules(&[("true", "allow")])
        )),
        store,
        ..Options::default()
    })
    .await;
    let mut alice = issuing.world.person("alice");
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    let decision = issuing.decision();
    issuing.world.settle().await;
    // Another process knows only what is in the store.
    issuing.world.restart().await;
    let call = call(&decision, "demo-web", "authorization_code");
    let mut reply = Value::Null;
    // On a busy machine the first look may be too slow.
    for _ in 0..200 {
        reply = issuing.ask(ACCESS, &call).await.1;
        if reply["operations"]
            .as_array()
            .is_some_and(|all| all.len() > 1)
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let operations = reply["operations"].as_array().expect("operations");
    assert_eq!(operations.len(), 5, "{reply}");
    assert_eq!(
        operations[4],
        json!({ "op": "replace", "path": "/accessToken/claims/expires_in", "value": 60 })
    );
    let of_other_client = crate::issuing::call(&decision, "demo-spa", "authorization_code");
    let (_, reply) = issuing.ask(ACCESS, &of_other_client).await;
    assert!(
        reply.to_string().matches("risk_score").count() == 0,
        "{reply}"
    );
}

on_both_stores!(
    what_a_node_has_decided_other_nodes_find,
    what_a_node_has_decided_others_find
);

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_decision_is_answered_in_time() {
    let issuing = Issuing::start_with(Options {
        mode: "enforce",
        store: Store::Redis,
        ..Options::default()
    })
    .await;
    let mut took = Vec::new();
    for number in 0..60_u8 {
        let id = format!("0199b0a0-0000-7000-8000-0000000000{number:02}");
        let begun = Instant::now();
        let (_, reply) = issuing
            .ask(ACCESS, &call(&id, "demo-web", "authorization_code"))
            .await;
        // On a busy machine the store may be too slow to say that it has none.
        if reply == json!({ "actionStatus": "SUCCESS" }) {
            took.push(begun.elapsed());
        }
    }
    assert!(!took.is_empty(), "the store was never in time");
    let fastest = took.into_iter().min();
    assert!(
        fastest.is_some_and(|took| took <= Duration::from_millis(500)),
        "{fastest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_cannot_be_a_call_is_an_error() {
    let issuing = Issuing::start("enforce", "").await;
    let send = |path: &str, body: Vec<u8>| {
        let request = issuing.world.http().post(format!("{}{path}", issuing.url));
        read(request.bearer_auth(SECRET).body(body))
    };
    let authentication = json!({ "actionType": "AUTHENTICATION", "flowId": "f" }).to_string();
    for path in [ACCESS, ID, PASSWORD] {
        for body in [&b"{"[..], b"", b"[1]", b"{}", authentication.as_bytes()] {
            let (status, reply) = send(path, body.to_vec()).await;
            assert_eq!(
                (status, &reply["actionStatus"]),
                (400, &json!("ERROR")),
                "{path} {reply}"
            );
        }
        // An action that was registered with the path of another one is answered all the same.
        for kind in [
            "PRE_ISSUE_ACCESS_TOKEN",
            "PRE_ISSUE_ID_TOKEN",
            "PRE_UPDATE_PASSWORD",
            "PRE_UPDATE_PROFILE",
            "NEW",
        ] {
            for event in [json!(null), json!({ "request": 7, "user": [] })] {
                let body = json!({ "actionType": kind, "event": event }).to_string();
                let answer = send(path, body.into_bytes()).await;
                assert_eq!(
                    answer,
                    (200, json!({ "actionStatus": "SUCCESS" })),
                    "{path} {kind}"
                );
            }
        }
        // A user with very many claims is no error either.
        let mut large = call("d", "demo-web", "password");
        large["event"]["accessToken"]["claims"] = (0..4_000)
            .map(|n| json!({ "name": format!("claim-{n}"), "value": "a value of some thirty letters" }))
            .collect();
        let large = large.to_string();
        assert!(large.len() > 200_000);
        assert_eq!(send(path, large.into_bytes()).await.0, 200);
        let plain = issuing.world.http().post(format!("{}{path}", issuing.url));
        let (status, reply) = read(plain.json(&call("d", "demo-web", "password"))).await;
        assert_eq!((status, &reply["actionStatus"]), (401, &json!("ERROR")));
    }
}

/// A certificate of `issuer`, or one that is its own authority; files of it and its key, PEM in one.
fn certified(
    folder: &Path,
    name: &str,
    issuer: Option<&rcgen::CertifiedIssuer<'_, rcgen::KeyPair>>,
) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem()).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_lets_nobody_else_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority =
        rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap())
            .unwrap();
    std::fs::write(path.join("ca.crt"), authority.pem()).unwrap();
    certified(path, "localhost", Some(&authority));
    let wso2 = certified(path, "wso2", Some(&authority));
    let stranger = certified(path, "stranger", None);
    let config = format!(
        "[actions.tls]\ncertificate = '{0}/localhost.crt'\nkey = '{0}/localhost.key'\nclient_ca_file = '{0}/ca.crt'\n",
        path.display()
    );
    let issuing = Issuing::start_with(Options {
        config: Box::leak(config.into_boxed_str()),
        ..Options::default()
    })
    .await;
    let url = format!(
        "{}{ACCESS}",
        issuing.url.replace("http://127.0.0.1", "https://localhost")
    );
    let asked = |identity: Option<Vec<u8>>, secret: &'static str| {
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()]);
        if let Some(pem) = identity {
            client = client.identity(reqwest::Identity::from_pem(&pem).unwrap());
        }
        let request = client.build().unwrap().post(&url).bearer_auth(secret);
        request.json(&call("d", "demo-web", "password")).send()
    };
    let answer = asked(Some(wso2.clone()), SECRET).await.unwrap();
    assert_eq!(answer.status(), 200);
    // The certificate comes beside the secret, not in its place.
    assert_eq!(asked(Some(wso2), "wrong").await.unwrap().status(), 401);
    assert!(asked(None, SECRET).await.is_err());
    assert!(asked(Some(stranger), SECRET).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_nobody_asks_for_are_told_at_the_check() {
    let world = World::start(Options {
        policy: Some("version = 1\n[token]\nmedium.expires_in = 300\n".to_owned()),
        ..Options::default()
    })
    .await;
    let output = Command::new(env!("CARGO_BIN_EXE_riskgate"))
        .args(["check", "--config"])
        .arg(world.data_dir().parent().unwrap().join("riskgate.toml"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("`[token]` has no effect"), "{said}");
}
