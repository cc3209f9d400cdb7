//! Tokens in the browser: under a demand they reach the application with a proof or not at all, and the application is
//! told in its own way.

use crate::gateway::Answer;
use crate::gateway::CALLBACK;
use crate::gateway::MFA;
use crate::gateway::World;
use crate::gateway::claims;
use crate::gateway::deaf;
use crate::gateway::stepped_up;
use reqwest::Method;
use wso2_sim::SimConfig;

const AT_LOGIN: &str = "request.door == \"login\" && user.name == \"alice\"";
const AT_AUTHORIZE: &str = "request.door == \"authorize\" && client.id == \"demo-web\"";

/// What an answer hands to the application: the parameters of its fragment or query.
fn handed(answer: &Answer) -> Vec<(String, String)> {
    let location = answer
        .location()
        .filter(|location| location.as_str().starts_with(CALLBACK))
        .unwrap_or_else(|| panic!("not at the application: {answer:?}"));
    let text = location.fragment().or(location.query()).unwrap_or_default();
    form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

fn value<'a>(handed: &'a [(String, String)], name: &str) -> Option<&'a str> {
    handed
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// An error, the state, and nothing else.
fn is_error(answer: &Answer, error: &str) {
    let handed = handed(answer);
    let names: Vec<&str> = handed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["error", "error_description", "state"], "{answer:?}");
    assert_eq!(
        (value(&handed, "error"), value(&handed, "state")),
        (Some(error), Some("s-1"))
    );
    assert_eq!(answer.body, "");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// Goes through the login with these parameters, with the second factor where it is asked for: the last answer.
async fn through_login(world: &World, client: &str, more: &[(&str, &str)]) -> Answer {
    let mut alice = world.person("alice").in_app(client);
    let page = alice.open_with(more).await;
    let answer = alice.submit_password(&page).await;
    let mut answer = alice.follow(answer).await;
    if answer.is_page("totp.do") {
        answer = alice.submit_code(&answer).await;
        answer = alice.follow(answer).await;
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn front_channel_tokens_without_a_proof_become_an_error() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    for response_type in [
        "token",
        "id_token",
        "id_token token",
        "code id_token",
        "code token",
        "code id_token token",
    ] {
        let mark = world.mark().await;
        let mut more = vec![("response_type", response_type)];
        if response_type.contains("code") {
            more.push((
                "code_challenge",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ));
            more.push(("code_challenge_method", "S256"));
        }
        let answer = through_login(&world, "demo-spa", &more).await;
        assert!(
            answer.location().is_some_and(|to| to.fragment().is_some()),
            "{answer:?}"
        );
        is_error(&answer, "unmet_authentication_requirements");
        let record = world.records_since(mark).await.pop().expect("a record");
        let issues_token = response_type.contains("token")
            && response_type != "id_token"
            && response_type != "code id_token";
        let has_id_token = response_type.contains("id_token");
        assert_eq!(
            (
                &*record.action,
                record.proof.as_deref(),
                record.revocation.as_deref()
            ),
            (
                "withheld",
                Some(if has_id_token { "acr" } else { "no_id_token" }),
                Some(if issues_token { "revoked" } else { "none" })
            ),
            "{response_type}: {record:#?}"
        );
        assert_eq!(record.response_status, 302);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn front_channel_tokens_with_a_proof_pass() {
    let world = stepped_up(AT_LOGIN, SimConfig::default(), "").await;
    let answer = through_login(&world, "demo-spa", &[("response_type", "id_token token")]).await;
    let found = handed(&answer);
    assert_eq!(
        claims(value(&found, "id_token").expect("an ID token"))["acr"],
        MFA
    );
    assert!(value(&found, "access_token").is_some());
    assert_eq!(world.last_record().await.proof.as_deref(), Some("proven"));

    // And where nothing is owed nothing is looked at.
    let mut bob = world.person("bob").in_app("demo-spa");
    let page = bob.open_with(&[("response_type", "id_token token")]).await;
    let answer = bob.submit_password(&page).await;
    let answer = bob.follow(answer).await;
    assert!(value(&handed(&answer), "access_token").is_some());
    assert_eq!(world.last_record().await.proof, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_posting_form_becomes_one_that_posts_the_error() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    let more = [
        ("response_type", "code id_token"),
        ("response_mode", "form_post"),
    ];
    let answer = through_login(&world, "demo-web", &more).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"),
        "{policy}"
    );
    let page = &answer.body;
    assert!(page.contains(&format!("action=\"{CALLBACK}\"")), "{page}");
    assert!(
        page.contains("name=\"error\" value=\"unmet_authentication_requirements\""),
        "{page}"
    );
    assert!(
        page.contains("name=\"state\" value=\"s-1\"") && page.contains("<button type=\"submit\">")
    );
    assert!(
        !page.contains("id_token") && !page.contains("name=\"code\""),
        "{page}"
    );
    assert_eq!(
        answer.header("content-length"),
        Some(page.len().to_string().as_str())
    );

    // A code alone is checked when it is redeemed; the page passes as it is.
    let answer = through_login(&world, "demo-web", &[("response_mode", "form_post")]).await;
    assert!(answer.body.contains("name=\"code\""), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_request_under_a_demand_gets_no_code() {
    // The demand is left to a script that is not there; nothing else keeps the identity server from a code.
    let world = stepped_up(AT_AUTHORIZE, deaf(), "[step_up]\nstyle = \"header\"").await;
    let mut alice = world.person("alice").in_app("demo-opaque");
    alice.sign_in().await;
    let mut alice = alice.in_app("demo-web");
    let mark = world.mark().await;
    let answer = alice.open_with(&[("prompt", "none")]).await;
    is_error(&answer, "login_required");
    let record = world.record_since(mark).await;
    assert_eq!(
        (&*record.action, record.proof.as_deref(), &*record.outcome),
        ("withheld", Some("no_id_token"), "refused_here")
    );
    // Another application, which owes nothing, goes on in silence.
    let mut alice = alice.in_app("demo-opaque");
    let code = alice
        .open_with(&[("prompt", "none")])
        .await
        .code()
        .expect("a code");
    assert_eq!(alice.redeem(&code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_gave_the_factor_is_renewed_in_silence() {
    let world = stepped_up(AT_LOGIN, SimConfig::default(), "").await;
    let mut alice = world.person("alice");
    let code = alice.sign_in().await;
    assert_eq!(alice.redeem(&code).await.status, 200);
    for _ in 0..2 {
        let code = alice
            .open_with(&[("prompt", "none")])
            .await
            .code()
            .expect("a code");
        let mark = world.mark().await;
        assert_eq!(alice.redeem(&code).await.status, 200);
        assert_eq!(
            world.record_since(mark).await.proof.as_deref(),
            Some("proven")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_access_token_opens_nothing_here() {
    let world = stepped_up(AT_LOGIN, deaf(), "").await;
    // This client is confidential: its token cannot be revoked without its secret.
    let answer = through_login(&world, "demo-web", &[("response_type", "id_token token")]).await;
    is_error(&answer, "unmet_authentication_requirements");
    assert_eq!(
        world.last_record().await.revocation.as_deref(),
        Some("barred")
    );
    let attempt = world
        .sim
        .recorded()
        .into_iter()
        .find(|request| request.path() == "/oauth2/revoke")
        .expect("it was tried");
    let token = form_urlencoded::parse(attempt.body_text().as_bytes())
        .find(|(name, _)| name == "token")
        .expect("a token")
        .1
        .into_owned();
    let ask = |url: &str| {
        world
            .http()
            .get(format!("{url}/oauth2/userinfo"))
            .header("x-forwarded-for", "192.0.2.10")
            .header("authorization", format!("Bearer {token}"))
            .send()
    };
    let direct = ask(&world.sim.url).await.expect("an answer");
    assert_eq!(direct.status(), 200, "the identity server still takes it");
    let request = world
        .request(Method::GET, "/oauth2/userinfo")
        .header("authorization", format!("Bearer {token}"));
    let mark = world.mark().await;
    assert_eq!(world.send(request).await.status, 401);
    assert_eq!(
        world.record_since(mark).await.error.as_deref(),
        Some("barred")
    );
    let request = world
        .request(Method::GET, "/oauth2/userinfo")
        .header("authorization", "Bearer of-somebody-else");
    assert_eq!(world.last_record().await.error.as_deref(), Some("barred"));
    world.send(request).await;
    assert_eq!(world.last_record().await.error, None);
}
