//! Step-up from end to end, and what happens when the demand is not met.

use crate::gateway::CALLBACK;
use crate::gateway::MFA;
use crate::gateway::Options;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::enforcing;
use crate::gateway::rules;
use crate::proof::withheld;
use wso2_sim::SimConfig;

/// The identity server whose applications run no script: it knows nothing of demands.
fn without_script() -> SimConfig {
    let mut sim = SimConfig::default();
    for client in &mut sim.clients {
        client.has_script = false;
    }
    sim
}

#[tokio::test(flavor = "multi_thread")]
async fn a_risky_login_gives_a_second_factor_and_the_tokens_prove_it() {
    let policy = rules(&[(
        "request.door == \"login\" && user.name == \"alice\"",
        "step_up",
    )]);
    let world = enforcing(policy).await;
    let mut alice = world.person("alice");
    let page = alice.log_in().await;
    assert!(page.is_page("totp.do"), "{page:?}");
    let record = world.last_record_of("login").await;
    assert_eq!(
        (record.verdict.as_deref(), &*record.outcome, record.learnt),
        (Some("step_up"), "next_factor", false)
    );

    // A wrong code is a failure and leads back to the page.
    let mark = world.mark().await;
    let key = page
        .url
        .query_pairs()
        .find(|(name, _)| name == "sessionDataKey")
        .unwrap()
        .1
        .into_owned();
    let answer = alice
        .post(
            "/commonauth",
            &[("token", "000000"), ("sessionDataKey", &key)],
        )
        .await;
    assert_eq!(world.record_since(mark).await.outcome, "failed");
    let page = alice.follow(answer).await;
    assert!(page.is_page("totp.do"), "{page:?}");

    let answer = alice.submit_code(&page).await;
    let record = world.last_record_of("login").await;
    assert_eq!(
        (&*record.outcome, record.learnt),
        ("succeeded", true),
        "{record:#?}"
    );
    let answer = alice.follow(answer).await;
    let code = answer
        .code()
        .unwrap_or_else(|| panic!("no code: {answer:?}"));
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let id_token = claims(&tokens.member("id_token"));
    assert_eq!(id_token["acr"], MFA);
    assert!(
        id_token["amr"]
            .as_array()
            .is_some_and(|methods| methods.iter().any(|method| method == "totp")),
        "{id_token}"
    );
    // A session with the factor behind it serves further codes.
    let again = alice.open().await.code().expect("a code without a page");
    assert_eq!(alice.redeem(&again).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_at_the_authorize_door_gives_a_second_factor_and_auth_time() {
    let policy = rules(&[(
        "request.door == \"authorize\" && client.id == \"demo-web\"",
        "step_up",
    )]);
    let world = enforcing(policy).await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let id_token = claims(&tokens.member("id_token"));
    assert_eq!(id_token["acr"], MFA);
    assert!(id_token["auth_time"].is_i64(), "{id_token}");
    let actions: Vec<_> = world
        .records()
        .await
        .into_iter()
        .filter(|record| record.door.as_deref() == Some("authorize"))
        .map(|record| record.action)
        .collect();
    assert_eq!(
        actions,
        ["redirected", "forwarded", "forwarded"],
        "one redirect, then the request, then the return"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_not_issued_when_the_demand_was_not_met() {
    let policy = rules(&[(
        "request.door == \"login\" && user.name == \"alice\"",
        "step_up",
    )]);
    let world = World::start(Options {
        mode: "enforce",
        policy: Some(policy),
        sim: without_script(),
        ..Options::default()
    })
    .await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let mark = world.mark().await;
    let answer = alice.redeem(&code).await;
    withheld(&answer);
    let record = world.record_since(mark).await;
    assert_eq!(
        (record.verdict.as_deref(), &*record.action),
        (Some("step_up"), "step_up_by_authorization")
    );
    assert!(
        record
            .reasons
            .iter()
            .any(|reason| reason == "assurance_insufficient"),
        "{record:#?}"
    );
    // The code is used up; there is no second try.
    assert_eq!(alice.redeem(&code).await.member("error"), "invalid_grant");
    // Whoever owes nothing is served.
    let mut bob = world.person("bob");
    let code = bob.sign_in().await;
    assert_eq!(bob.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_is_not_shaken_off_by_consent_or_by_the_session() {
    let policy = rules(&[(
        "request.door == \"login\" && user.name == \"alice\"",
        "step_up",
    )]);
    let world = enforcing(policy).await;
    // This application asks for consent and has no script.
    let mut alice = world.person("alice").in_app("demo-consent");
    let page = alice.log_in().await;
    assert!(
        page.is_page("oauth2_consent.do") || page.is_page("oauth2_authz.do"),
        "{page:?}"
    );
    let key = page
        .url
        .query_pairs()
        .find(|(name, _)| name == "sessionDataKeyConsent")
        .expect("a key")
        .1
        .into_owned();
    let answer = alice
        .post(
            "/oauth2/authorize",
            &[
                ("sessionDataKeyConsent", &key),
                ("consent", "approve"),
                ("hasApprovedAlways", "false"),
            ],
        )
        .await;
    let code = answer
        .code()
        .unwrap_or_else(|| panic!("no code: {answer:?}"));
    let refused = alice
        .token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
        ])
        .await;
    assert_eq!(
        (refused.status, refused.member("error").as_str()),
        (400, "invalid_grant"),
        "{refused:?}"
    );
    // Another application with the same session: the session was made without the factor.
    let mut alice = alice.in_app("demo-opaque");
    let answer = alice.open().await;
    if let Some(code) = answer.code() {
        let refused = alice.redeem(&code).await;
        assert_eq!(
            (refused.status, refused.member("error").as_str()),
            (400, "invalid_grant"),
            "{refused:?}"
        );
    } else {
        assert!(answer.is_page("totp.do"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn app_native_login_is_stepped_up_by_the_header() {
    let policy = rules(&[(
        "request.door == \"authn\" && user.name == \"alice\"",
        "step_up",
    )]);
    let world = enforcing(policy).await;
    let mut alice = world.person("alice");
    let path = alice.authorize_path(&[("response_mode", "direct")]);
    let step = alice.get(&path).await;
    let submit = |step: &crate::gateway::Answer, params: serde_json::Value| {
        serde_json::json!({"flowId": step.member("flowId"), "selectedAuthenticator": {
            "authenticatorId": step.json()["nextStep"]["authenticators"][0]["authenticatorId"], "params": params}})
    };
    let body = submit(
        &step,
        serde_json::json!({"username": "alice", "password": "wonderland"}),
    );
    let second = alice.post_json("/oauth2/authn", &body).await;
    assert_eq!(second.member("flowStatus"), "INCOMPLETE", "{second:?}");
    assert_eq!(world.last_record().await.outcome, "next_factor");
    let token = wso2_sim::totp_at(wso2_sim::seed::ALICE_TOTP_SECRET, world.sim.now_s());
    let body = submit(&second, serde_json::json!({"token": token}));
    let done = alice.post_json("/oauth2/authn", &body).await;
    let record = world.last_record().await;
    assert_eq!(
        (&*record.outcome, record.learnt),
        ("succeeded", true),
        "{record:#?}"
    );
    let code = done.json()["authData"]["code"]
        .as_str()
        .expect("a code")
        .to_owned();
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    assert_eq!(claims(&tokens.member("id_token"))["acr"], MFA);
}
