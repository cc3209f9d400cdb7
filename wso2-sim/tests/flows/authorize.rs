//! The authorization endpoint: errors, single sign-on, prompts, response types and modes, consent, pushed requests, step-up.

use std::time::Duration;

use wso2_sim::browser::param;

use crate::harness::CB;
use crate::harness::MFA;
use crate::harness::PASSWORD;
use crate::harness::authorize_url;
use crate::harness::browser;
use crate::harness::checked;
use crate::harness::code_of;
use crate::harness::post;
use crate::harness::redeem;
use crate::harness::sign_in;
use crate::harness::start;
use crate::harness::start_with;
use crate::harness::text;

#[tokio::test]
async fn bad_requests_go_to_the_client_only_when_it_is_known() {
    let sim = start().await;
    let mut browser = browser(&sim);
    for (client, more, code) in [
        ("nobody", ("state", "x"), "invalid_client"),
        (
            "demo-web",
            ("redirect_uri", "https://evil.example/cb"),
            "invalid_callback",
        ),
        ("demo-web", ("redirect_uri", ""), "invalid_request"),
        ("demo-web", ("request_uri", "urn:x"), "invalid_request"),
    ] {
        let page = browser
            .get(&authorize_url(&sim, client, &[more]))
            .await
            .unwrap();
        assert_eq!(
            page.location().unwrap().path(),
            "/authenticationendpoint/oauth2_error.do"
        );
        assert_eq!(
            page.location_param("oauthErrorCode").as_deref(),
            Some(code),
            "{more:?}"
        );
    }
    for (more, code) in [
        (("response_type", ""), "invalid_request"),
        (("response_type", "magic"), "unsupported_response_type"),
        (("response_mode", "pigeon"), "invalid_request"),
        (("prompt", "none login"), "invalid_request"),
        (("prompt", "dance"), "invalid_request"),
        (("max_age", "-1"), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("prompt", "none"), "login_required"),
    ] {
        let page = browser
            .get(&authorize_url(&sim, "demo-web", &[more]))
            .await
            .unwrap();
        assert!(
            page.location().unwrap().as_str().starts_with(CB),
            "{more:?}"
        );
        assert_eq!(
            page.location_param("error").as_deref(),
            Some(code),
            "{more:?}"
        );
        assert_eq!(page.location_param("state").as_deref(), Some("s-1"));
    }
    let spa = browser
        .get(&authorize_url(&sim, "demo-spa", &[]))
        .await
        .unwrap();
    assert_eq!(
        spa.location_param("error").as_deref(),
        Some("invalid_request")
    );
    let twice = format!("{}&state=s-2", authorize_url(&sim, "demo-web", &[]));
    let page = browser.get(&twice).await.unwrap();
    assert_eq!(page.status, 400);
    assert_eq!(
        page.location_param("oauthErrorCode").as_deref(),
        Some("invalid_request")
    );
}

#[tokio::test]
async fn a_session_answers_without_a_login_until_it_is_too_old_or_forced() {
    let sim = start().await;
    let mut browser = browser(&sim);
    sign_in(&mut browser, &sim, &authorize_url(&sim, "demo-web", &[])).await;
    let cookie = browser.cookie("commonAuthId").unwrap().to_owned();
    let answer = browser
        .get(&authorize_url(&sim, "demo-consent", &[("prompt", "none")]))
        .await
        .unwrap();
    assert_eq!(
        answer.location_param("error").as_deref(),
        Some("consent_required")
    );
    let answer = browser
        .get(&authorize_url(&sim, "demo-opaque", &[("prompt", "none")]))
        .await
        .unwrap();
    assert!(answer.location_param("code").is_some());
    let forced = browser
        .get(&authorize_url(&sim, "demo-web", &[("prompt", "login")]))
        .await
        .unwrap();
    assert_eq!(
        forced.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );

    sim.advance(Duration::from_secs(60));
    let young = authorize_url(&sim, "demo-web", &[("max_age", "120")]);
    assert!(
        browser
            .get(&young)
            .await
            .unwrap()
            .location_param("code")
            .is_some()
    );
    let old = authorize_url(&sim, "demo-web", &[("max_age", "30")]);
    let page = browser.get(&old).await.unwrap();
    assert_eq!(
        page.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );
    sign_in(&mut browser, &sim, &old).await;
    assert_eq!(browser.cookie("commonAuthId").unwrap(), cookie);

    sim.advance(Duration::from_secs(16 * 60));
    let idle = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    assert_eq!(
        idle.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );
}

#[tokio::test]
async fn acr_values_ask_for_the_second_factor_and_the_id_token_proves_it() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    let body = redeem(&sim, "demo-web", &code).await.json();
    let (_, claims) = checked(&sim, text(&body, "id_token"), "demo-web").await;
    assert_eq!(claims["acr"], PASSWORD);
    assert_eq!(claims["amr"], serde_json::json!(["BasicAuthenticator"]));
    assert_eq!(claims.get("auth_time"), None);
    assert_eq!(claims["nonce"], "n-1");

    // The session has the password only, so the page of the second step comes at once.
    let step_up = [("acr_values", MFA), ("max_age", "300")];
    let page = browser
        .get(&authorize_url(&sim, "demo-web", &step_up))
        .await
        .unwrap();
    assert_eq!(
        page.location().unwrap().path(),
        "/authenticationendpoint/totp.do"
    );
    let begin = sim.now_s();
    let code = code_of(&mut browser, &sim, "demo-web", &step_up).await;
    let body = redeem(&sim, "demo-web", &code).await.json();
    let (_, claims) = checked(&sim, text(&body, "id_token"), "demo-web").await;
    assert_eq!(claims["acr"], MFA);
    assert_eq!(
        claims["amr"],
        serde_json::json!(["BasicAuthenticator", "totp"])
    );
    let authenticated = claims["auth_time"].as_i64().expect("a time");
    assert!((begin..=sim.now_s()).contains(&authenticated), "{claims}");

    // Proven once, the session carries it.
    let page = browser
        .get(&authorize_url(&sim, "demo-web", &step_up))
        .await
        .unwrap();
    assert!(page.location_param("code").is_some());
}

#[tokio::test]
async fn a_gateway_header_asks_for_the_second_factor_on_the_request_of_the_moment() {
    let sim = start().await;
    for (at_authorize, at_login, steps_up) in [
        ("step_up", "allow", true),
        ("allow", "step_up", true),
        ("allow", "allow", false),
        ("unscored", "off", false),
        ("STEP_UP", "step-up", false),
    ] {
        let mut browser = browser(&sim);
        browser.headers = vec![("X-Risk-Verdict".to_owned(), at_authorize.to_owned())];
        let first = browser
            .get(&authorize_url(&sim, "demo-web", &[]))
            .await
            .unwrap();
        let page = browser.follow(first, CB).await.unwrap();
        browser.headers = vec![("x-risk-verdict".to_owned(), at_login.to_owned())];
        let next = browser
            .submit_password(&page, "alice", "wonderland")
            .await
            .unwrap();
        let path = next.location().unwrap().path().to_owned();
        assert_eq!(
            path.ends_with("/totp.do"),
            steps_up,
            "{at_authorize} {at_login} {path}"
        );
    }
    // An application without a script does not care.
    let mut browser = browser(&sim);
    browser.headers = vec![("X-Risk-Verdict".to_owned(), "step_up".to_owned())];
    let url = authorize_url(&sim, "demo-consent", &[("acr_values", MFA)]);
    let page = browser
        .login(&url, CB, "alice", "wonderland", None)
        .await
        .unwrap();
    assert_eq!(page.url.path(), "/authenticationendpoint/oauth2_consent.do");
}

#[tokio::test]
async fn a_script_can_refuse_what_did_not_come_through_the_gateway() {
    let sim = start_with(|config| config.script.requires_risk_status = true).await;
    let mut browser = browser(&sim);
    let url = authorize_url(&sim, "demo-web", &[]);
    let page = browser
        .login(&url, CB, "alice", "wonderland", None)
        .await
        .unwrap();
    assert_eq!(
        page.location_param("error").as_deref(),
        Some("access_denied")
    );
    assert_eq!(
        page.location_param("error_description").as_deref(),
        Some("not_through_gateway")
    );
    browser.headers = vec![("X-Risk-Status".to_owned(), "unscored".to_owned())];
    let page = browser
        .login(&url, CB, "alice", "wonderland", None)
        .await
        .unwrap();
    assert!(page.location_param("code").is_some());
}

#[tokio::test]
async fn tokens_in_the_front_channel_come_in_the_fragment_with_their_hashes() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let url = authorize_url(
        &sim,
        "demo-web",
        &[("response_type", "code id_token token")],
    );
    let page = sign_in(&mut browser, &sim, &url).await;
    let location = page.location().unwrap();
    assert!(location.query().is_none() && location.fragment().is_some());
    let id_token = param(&location, "id_token").unwrap();
    let (_, claims) = checked(&sim, &id_token, "demo-web").await;
    for hash in ["at_hash", "c_hash", "s_hash"] {
        assert_eq!(claims[hash].as_str().unwrap().len(), 22, "{hash}");
    }
    let only_token = authorize_url(&sim, "demo-web", &[("response_type", "token")]);
    let page = browser.get(&only_token).await.unwrap();
    assert!(page.location_param("access_token").is_some());
    assert!(page.location_param("code").is_none());
    let in_query = [("response_type", "token"), ("response_mode", "query")];
    let page = browser
        .get(&authorize_url(&sim, "demo-web", &in_query))
        .await
        .unwrap();
    assert_eq!(
        page.location_param("error").as_deref(),
        Some("invalid_request")
    );
}

#[tokio::test]
async fn form_post_answers_with_a_form() {
    let sim = start().await;
    let mut browser = browser(&sim);
    sign_in(&mut browser, &sim, &authorize_url(&sim, "demo-web", &[])).await;
    let evil = "\"><script>";
    let more = [("response_mode", "form_post"), ("state", evil)];
    let page = browser
        .get(&authorize_url(&sim, "demo-web", &more))
        .await
        .unwrap();
    assert_eq!(page.status, 200);
    assert!(page.body.contains(&format!("action=\"{CB}\"")));
    assert!(page.body.contains("name=\"code\""));
    assert!(page.body.contains("value=\"&quot;&gt;&lt;script&gt;\""));
}

#[tokio::test]
async fn consent_is_asked_once_or_every_time() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let url = authorize_url(&sim, "demo-consent", &[]);
    let page = browser
        .login(&url, CB, "alice", "wonderland", None)
        .await
        .unwrap();
    let key = param(&page.url, "sessionDataKeyConsent").unwrap();
    let door = format!("{}/oauth2/authorize", sim.url);
    let answer = |value: &'static str, key: String| {
        [
            ("sessionDataKeyConsent".to_owned(), key),
            ("consent".to_owned(), value.to_owned()),
        ]
    };
    let fields = answer("deny", key);
    let fields: Vec<_> = fields
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let denied = browser.post_form(&door, &fields).await.unwrap();
    assert_eq!(
        denied.location_param("error").as_deref(),
        Some("access_denied")
    );

    for (choice, asks_again) in [("approve", true), ("approveAlways", false)] {
        let first = browser.get(&url).await.unwrap();
        let key = first.location_param("sessionDataKeyConsent").unwrap();
        let fields = answer(choice, key);
        let fields: Vec<_> = fields
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let mut stranger = crate::harness::browser(&sim);
        let refused = stranger.post_form(&door, &fields).await.unwrap();
        assert_eq!(
            refused.location().unwrap().path(),
            "/authenticationendpoint/retry.do"
        );
        let done = browser.post_form(&door, &fields).await.unwrap();
        assert!(done.location_param("code").is_some());
        let next = browser.get(&url).await.unwrap();
        assert_eq!(
            next.location_param("code").is_none(),
            asks_again,
            "{choice}"
        );
    }
}

#[tokio::test]
async fn a_pushed_request_is_good_once_and_for_a_minute() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let fields = [
        ("response_type", "code"),
        ("redirect_uri", CB),
        ("scope", "openid"),
        ("state", "p-1"),
    ];
    let push = async || {
        let page = post(&sim, "/oauth2/par", Some("demo-web"), &fields).await;
        assert_eq!(page.status, 201);
        assert_eq!(page.json()["expires_in"], 60);
        text(&page.json(), "request_uri").to_owned()
    };
    let url = |uri: &str, client: &str| {
        let uri: String = form_urlencoded::byte_serialize(uri.as_bytes()).collect();
        format!(
            "{}/oauth2/authorize?client_id={client}&request_uri={uri}",
            sim.url
        )
    };
    let uri = push().await;
    let page = sign_in(&mut browser, &sim, &url(&uri, "demo-web")).await;
    assert_eq!(page.location_param("state").as_deref(), Some("p-1"));
    let again = browser.get(&url(&uri, "demo-web")).await.unwrap();
    assert_eq!(
        again.location_param("oauthErrorCode").as_deref(),
        Some("invalid_request")
    );
    let theirs = browser
        .get(&url(&push().await, "demo-opaque"))
        .await
        .unwrap();
    assert_eq!(
        theirs.location_param("oauthErrorCode").as_deref(),
        Some("invalid_request")
    );
    let late = push().await;
    sim.advance(Duration::from_secs(61));
    let late = browser.get(&url(&late, "demo-web")).await.unwrap();
    assert_eq!(
        late.location_param("oauthErrorCode").as_deref(),
        Some("invalid_request")
    );

    let anonymous = post(&sim, "/oauth2/par", None, &fields).await;
    assert_eq!(
        (anonymous.status, text(&anonymous.json(), "error")),
        (401, "invalid_client")
    );
    let bad = [
        ("response_type", "code"),
        ("redirect_uri", "https://evil.example/"),
    ];
    assert_eq!(
        post(&sim, "/oauth2/par", Some("demo-web"), &bad)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn logout_ends_the_session_and_its_tokens() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    let body = redeem(&sim, "demo-web", &code).await.json();
    let hint = text(&body, "id_token");
    let url = format!(
        "{}/oidc/logout?id_token_hint={hint}&post_logout_redirect_uri={CB}&state=bye",
        sim.url
    );
    let page = browser.get(&url).await.unwrap();
    assert_eq!(page.location().unwrap().as_str(), format!("{CB}?state=bye"));
    assert!(browser.cookie("commonAuthId").is_none());
    let next = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    assert_eq!(
        next.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );
    let token = [("token", text(&body, "access_token"))];
    let state = post(&sim, "/oauth2/introspect", Some("demo-web"), &token).await;
    assert_eq!(state.json(), serde_json::json!({"active": false}));
    let evil = format!(
        "{}/oidc/logout?client_id=demo-web&post_logout_redirect_uri=https://evil.example",
        sim.url
    );
    let refused = browser.get(&evil).await.unwrap();
    assert_eq!(
        refused.location().unwrap().path(),
        "/authenticationendpoint/oauth2_error.do"
    );
}
