//! WSO2 asks before it issues a token or changes a password: what the tokens say afterwards, how long they live, and which
//! are not issued at all.

use crate::gateway::Options;
use crate::gateway::PATIENCE;
use crate::gateway::basic;
use crate::gateway::claims;
use crate::gateway::deaf;
use crate::gateway::form;
use crate::gateway::listening_port;
use crate::gateway::rules;
use crate::issuing::ACCESS;
use crate::issuing::Issuing;
use crate::issuing::PASSWORD;
use crate::issuing::SECRET;
use crate::issuing::call;
use crate::issuing::lifetime;
use crate::issuing::read;
use crate::issuing::risk;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;
use wso2_sim::ActionAuth;
use wso2_sim::ActionSettings;
use wso2_sim::Flaws;
use wso2_sim::SignatureFlaw;

/// Alice owes a second factor at the login page.
const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";

#[tokio::test(flavor = "multi_thread")]
async fn tokens_say_what_was_decided_about_their_request() {
    let issuing = Issuing::start("enforce", "").await;
    let world = &issuing.world;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let said = risk(&tokens.member("access_token"));
    assert_eq!(said, issuing.headers());
    assert_eq!(said["risk_status"], "scored");
    assert_eq!(risk(&tokens.member("id_token")), said);
    let record = world.last_record().await;
    assert_eq!(record.token_actions, ["claims"]);

    // A refresh is decided anew, and its token says so and nothing else.
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &tokens.member("refresh_token")),
    ];
    alice.move_to(crate::gateway::HOSTING);
    let renewed = alice.token(&fields).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let renewed_said = risk(&renewed.member("access_token"));
    assert_eq!(renewed_said, issuing.headers());
    assert_ne!(renewed_said["risk_score"], said["risk_score"]);
    assert_eq!(risk(&renewed.member("id_token")), renewed_said);

    // Around the gateway nothing is decided: what the token said before does not stay.
    let direct = world
        .http()
        .post(format!("{}/oauth2/token", world.sim.url))
        .header("authorization", basic("demo-web", "demo-web-secret"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &renewed.member("refresh_token")),
        ]));
    let (status, direct) = read(direct).await;
    assert_eq!(status, 200, "{direct}");
    let said = risk(direct["access_token"].as_str().unwrap());
    assert_eq!(said, json!({ "risk_status": "unscored" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn weaker_modes_tell_less() {
    const TERMS: &str = "[token.low]\nexpires_in = 120\nremove_scopes = [\"profile\"]\n";
    for (mode, told, lives) in [
        ("off", false, 3600),
        ("monitor", false, 3600),
        ("advise", true, 3600),
        ("enforce", true, 120),
    ] {
        let issuing = Issuing::start(mode, TERMS).await;
        let mut alice = issuing.world.person("alice");
        let code = alice.sign_in().await;
        let tokens = alice.redeem(&code).await;
        assert_eq!(tokens.status, 200, "{mode}: {tokens:?}");
        let access = tokens.member("access_token");
        assert_eq!(risk(&access) != json!({}), told, "{mode}");
        assert_eq!(lifetime(&access), lives, "{mode}");
        let scope = claims(&access)["scope"].clone();
        let kept = if mode == "enforce" {
            "openid"
        } else {
            "openid profile"
        };
        assert_eq!(scope, kept, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn riskier_tokens_live_shorter_and_may_less() {
    const TERMS: &str = "[token]\nmedium.expires_in = 300\nmedium.refresh_expires_in = 1800\nhigh.remove_scopes = [\"prof*\"]\n";
    for (medium, high, level) in [(1, 100, "medium"), (1, 2, "high")] {
        let thresholds = format!("[thresholds]\nmedium = {medium}\nhigh = {high}\n{TERMS}");
        let issuing = Issuing::start("enforce", &thresholds).await;
        let world = &issuing.world;
        let mut alice = world.person("alice").from(crate::gateway::HOSTING);
        let code = alice.sign_in().await;
        let tokens = alice.redeem(&code).await;
        let access = tokens.member("access_token");
        assert_eq!(risk(&access)["risk_level"], level, "{tokens:?}");
        assert_eq!(
            (lifetime(&access), &tokens.json()["expires_in"]),
            (300, &json!(300))
        );
        let scope = if level == "high" {
            "openid"
        } else {
            "openid profile"
        };
        assert_eq!(
            (&claims(&access)["scope"], tokens.member("scope").as_str()),
            (&json!(scope), scope)
        );
        let record = world.last_record().await;
        let told: &[&str] = if level == "high" {
            &["claims", "lifetime", "refresh_lifetime", "scopes"]
        } else {
            &["claims", "lifetime", "refresh_lifetime"]
        };
        assert_eq!(record.token_actions, told);
        // The refresh token ends after half an hour instead of a day.
        world.sim.advance(Duration::from_secs(1801));
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.member("refresh_token")),
        ];
        assert_eq!(alice.token(&fields).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_speak_before_levels_and_may_refuse() {
    const RULES: &str = r#"
[token]
low.expires_in = 60
[[token.rule]]
name = "no-services"
when = 'request.grant_type == "client_credentials"'
refuse = true
[[token.rule]]
name = "off"
enabled = false
when = "true"
refuse = true
[[token.rule]]
name = "from-home"
when = 'network.country == "CH" && client.id == "demo-web" && risk.score >= 0'
expires_in = 900
"#;
    let issuing = Issuing::start("enforce", RULES).await;
    let world = &issuing.world;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(lifetime(&tokens.member("access_token")), 900, "{tokens:?}");
    let fields = [("grant_type", "client_credentials")];
    let refused = world
        .post("/oauth2/token", Some("demo-service"), &fields)
        .await;
    assert_eq!(
        (refused.status, refused.member("error").as_str()),
        (400, "access_denied")
    );
    assert_eq!(world.last_record().await.token_actions, ["refused"]);
    assert_eq!(
        world
            .metric("riskgate_actions_total", &[("result", "refused")])
            .await
            .round() as u8,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_score_says_that_and_only_that() {
    let issuing = Issuing::start_with(Options {
        mode: "enforce",
        policy: Some("version = 1\n[token]\nunscored.expires_in = 240\n".to_owned()),
        config: "[model]\ndir = '/nonexistent'\n",
        ..Options::default()
    })
    .await;
    let mut alice = issuing.world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    let access = tokens.member("access_token");
    assert_eq!(risk(&access), json!({ "risk_status": "unscored" }));
    assert_eq!(lifetime(&access), 240);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_told_to_its_own_request_alone() {
    let issuing = Issuing::start("enforce", "").await;
    let world = &issuing.world;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    alice.redeem(&code).await;
    let own = issuing.decision();
    let (status, reply) = issuing
        .ask(ACCESS, &call(&own, "demo-web", "authorization_code"))
        .await;
    assert_eq!(
        (status, reply["operations"].as_array().unwrap().len()),
        (200, 4)
    );

    // That of a login is not that of a token.
    let logins = world.sim.recorded();
    let login = logins
        .iter()
        .rev()
        .find(|request| request.path() == "/commonauth")
        .unwrap();
    let of_login = login.header_values("x-risk-decision-id")[0].to_owned();
    let mut of_other_tenant = call(&own, "demo-web", "authorization_code");
    of_other_tenant["event"]["tenant"]["name"] = json!("example.com");
    let mut unnamed = call(&own, "demo-web", "authorization_code");
    unnamed["event"]["request"]["additionalHeaders"] = json!([]);
    for call in [
        call(&own, "demo-spa", "authorization_code"),
        call(&own, "demo-web", "refresh_token"),
        call(&own, "", ""),
        call(&of_login, "demo-web", "authorization_code"),
        call(
            "0199b0a0-0000-7000-8000-000000000000",
            "demo-web",
            "authorization_code",
        ),
        call("' OR 1=1 --", "demo-web", "authorization_code"),
        of_other_tenant,
        unnamed,
    ] {
        let (status, reply) = issuing.ask(ACCESS, &call).await;
        assert_eq!(
            (status, reply),
            (200, json!({ "actionStatus": "SUCCESS" })),
            "{call}"
        );
    }

    // A client that brings somebody's id with its request is not believed: the header is the gateway's.
    let mut bob = world.person("bob").from(crate::gateway::HOSTING);
    let code = bob.sign_in().await;
    let request = bob
        .request(reqwest::Method::POST, "/oauth2/token")
        .header("authorization", basic("demo-web", "demo-web-secret"))
        .header("X-Risk-Decision-Id", &own)
        .header("X_Risk_Decision_Id", &own)
        .form(&[
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", crate::gateway::CALLBACK),
        ]);
    let tokens = bob.send(request).await;
    assert_ne!(issuing.decision(), own);
    assert_eq!(risk(&tokens.member("access_token")), issuing.headers());
}

/// A world in which alice owes a factor that the identity server never asks for.
async fn owing(config: &'static str) -> Issuing {
    Issuing::start_with(Options {
        mode: "enforce",
        policy: Some(rules(&[(AT_LOGIN, "step_up"), ("true", "allow")])),
        sim: deaf(),
        config,
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_would_prove_nothing_are_not_issued() {
    let issuing = owing("").await;
    let world = &issuing.world;
    let mut alice = world.person("alice");
    // With `openid` the claims of the ID token are looked at before it is issued; without it there will be none.
    for scope in ["openid profile", "profile"] {
        alice.forget_everything();
        let page = alice.get(&alice.authorize_path(&[("scope", scope)])).await;
        let page = alice.follow(page).await;
        let answer = alice.submit_password(&page).await;
        let code = alice.follow(answer).await.code().expect("a code");
        let mark = world.mark().await;
        let answer = alice.redeem(&code).await;
        assert_eq!(
            (answer.status, answer.member("error").as_str()),
            (400, "invalid_grant"),
            "{scope}: {answer:?}"
        );
        assert_eq!(answer.member("acr_values"), crate::gateway::MFA);
        let record = world.record_since(mark).await;
        assert_eq!(
            record.proof.as_deref(),
            Some("refused_before_issue"),
            "{scope}"
        );
        assert_eq!(
            record.token_actions.last().map(|code| &**code),
            Some("unproven")
        );
        assert_eq!(record.outcome, "refused_here");
        // Nothing was issued that would have to be taken back.
        assert_eq!(record.revocation, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wso2_says_before_it_issues_an_id_token_proves_it() {
    // The factor is given, and the ID token is one that only the client can check.
    let issuing = Issuing::start_with(Options {
        mode: "enforce",
        policy: Some(rules(&[(AT_LOGIN, "step_up"), ("true", "allow")])),
        ..Options::default()
    })
    .await;
    let world = &issuing.world;
    world.sim.set_flaws(Flaws {
        signature: SignatureFlaw::SharedSecret,
        ..Flaws::default()
    });
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    let tokens = alice.redeem(&code).await;
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let record = world.last_record().await;
    assert_eq!(record.proof.as_deref(), Some("proven"), "{record:#?}");
    assert!(record.token_actions.iter().any(|code| code == "proven"));
    // Without the action nobody can say what such a token proves.
    world.sim.set_id_token_action(None).unwrap();
    alice.forget_everything();
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_risky_user_does_not_change_the_password() {
    let issuing = Issuing::start_with(Options {
        mode: "enforce",
        policy: Some(rules(&[(AT_LOGIN, "step_up"), ("true", "allow")])),
        ..Options::default()
    })
    .await;
    let world = &issuing.world;
    let change = |name: &'static str, old: &'static str, new: &'static str| {
        let request = world
            .http()
            .patch(format!("{}/scim2/Me", world.sim.url))
            .header("authorization", basic(name, old))
            .json(&json!({
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [{ "op": "replace", "value": { "password": new } }],
            }));
        read(request)
    };
    // The password was right, and the factor is asked for: alice owes it.
    let mut alice = world.person("alice");
    let page = alice.open().await;
    let answer = alice.submit_password(&page).await;
    let page = alice.follow(answer).await;
    assert!(page.is_page("totp.do"), "{page:?}");
    world.settle().await;
    let (status, body) = change("alice", "wonderland", "looking-glass").await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["detail"].as_str().unwrap().contains("second factor"),
        "{body}"
    );
    let (status, body) = change("bob", "builder-2024", "builder-2025").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(change("bob", "builder-2025", "builder-2026").await.0, 200);

    // What an administrator does, and the recovery by which the owner gets rid of a thief, go on.
    for (initiator, action, status) in [
        ("ADMIN", "UPDATE", "SUCCESS"),
        ("USER", "RESET", "SUCCESS"),
        ("USER", "DELETE", "SUCCESS"),
        ("USER", "UPDATE", "FAILED"),
        ("APPLICATION", "UPDATE", "FAILED"),
    ] {
        let call = json!({
            "actionType": "PRE_UPDATE_PASSWORD",
            "event": {
                "tenant": { "name": "carbon.super" },
                "user": { "id": "u", "claims": [{ "uri": "http://wso2.org/claims/username", "value": "Alice" }] },
                "initiatorType": initiator,
                "action": action,
            },
        });
        let (_, reply) = issuing.ask(PASSWORD, &call).await;
        assert_eq!(reply["actionStatus"], status, "{initiator} {action}");
    }

    // Once the factor is given the password may be changed.
    let answer = alice.submit_code(&page).await;
    let code = alice.follow(answer).await.code().expect("a code");
    assert_eq!(alice.redeem(&code).await.status, 200);
    world.settle().await;
    assert_eq!(change("alice", "wonderland", "looking-glass").await.0, 200);
}

/// The same by the clock of the one who asks, over real sockets and a Redis that stands still. How long a call takes is the
/// machine's matter as well, so that the shortest of them counts; what each is answered does not depend on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stands_still_keeps_nobody_waiting() {
    const LONGEST: Duration = Duration::from_millis(50);
    let mut issuing = Issuing::over_redis().await;
    issuing
        .world
        .redis()
        .command(&[b"CLIENT", b"PAUSE", b"600000", b"ALL"]);
    let call = call(
        "a-decision-of-another-node",
        "demo-web",
        "authorization_code",
    );
    let end = Instant::now() + PATIENCE;
    let mut shortest = Duration::MAX;
    let mut calls = 0;
    // Some at least, so that not only the first one is seen.
    while calls < 5 || shortest >= LONGEST {
        assert!(Instant::now() < end, "the shortest call took {shortest:?}");
        let begun = Instant::now();
        let (status, reply) = issuing.ask(ACCESS, &call).await;
        shortest = shortest.min(begun.elapsed());
        calls += 1;
        assert_eq!((status, &reply["actionStatus"]), (200, &json!("SUCCESS")));
        assert_eq!(
            reply["operations"],
            json!([{
                "op": "add", "path": "/accessToken/claims/-",
                "value": { "name": "risk_status", "value": "unscored" },
            }]),
            "call {calls}"
        );
    }
}

/// WSO2 makes a failed token of every call that fails, so that it matters that ours does not, and that a stranger's does.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_at_once_or_costs_the_token() {
    let mut issuing = Issuing::over_redis().await;
    let own = format!("{}{ACCESS}", issuing.url);
    let asked = async |issuing: &Issuing, url: &str, auth: ActionAuth, attempts: u32| {
        let mut action = ActionSettings::new(url);
        action.auth = auth;
        action.attempts_max = attempts;
        issuing.world.sim.set_action(Some(action)).unwrap();
        let fields = [("grant_type", "client_credentials")];
        let client = Some("demo-service");
        let answer = issuing.world.post("/oauth2/token", client, &fields).await;
        match answer.status {
            200 => risk(&answer.member("access_token"))["risk_status"].clone(),
            500 => json!(answer.member("error")),
            _ => panic!("{answer:?}"),
        }
    };
    let secret = || SECRET.to_owned();
    let ways = |secret: fn() -> String| {
        [
            ActionAuth::Bearer(secret()),
            ActionAuth::Basic("wso2".to_owned(), secret()),
            ActionAuth::ApiKey("x-api-key".to_owned(), secret()),
        ]
    };
    for auth in ways(|| SECRET.to_owned()) {
        // One attempt is enough.
        assert_eq!(asked(&issuing, &own, auth, 1).await, "scored");
    }
    for auth in ways(|| "wrong".to_owned())
        .into_iter()
        .chain([ActionAuth::None])
    {
        assert_eq!(asked(&issuing, &own, auth, 2).await, "server_error");
    }
    // Where nobody listens.
    let nobody = format!("http://127.0.0.1:{}{ACCESS}", listening_port());
    let auth = ActionAuth::Bearer(secret());
    assert_eq!(asked(&issuing, &nobody, auth, 2).await, "server_error");
    // One attempt is enough as well while the store stands still.
    let pause: [&[u8]; 4] = [b"CLIENT", b"PAUSE", b"600000", b"ALL"];
    issuing.world.redis().command(&pause);
    let auth = ActionAuth::Bearer(secret());
    assert_ne!(asked(&issuing, &own, auth, 1).await, "server_error");
}
