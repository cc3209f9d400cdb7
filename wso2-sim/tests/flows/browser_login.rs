//! The login in a browser, hop by hop: pages, cookies, failures, locks, the second step.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wso2_sim::browser::param;
use wso2_sim::seed;

use crate::harness::CB;
use crate::harness::MFA;
use crate::harness::authorize_url;
use crate::harness::authorize_url_in;
use crate::harness::browser;
use crate::harness::sign_in;
use crate::harness::start;
use crate::harness::start_with;

#[tokio::test]
async fn a_login_takes_the_documented_hops() {
    let sim =
        start_with(|config| config.public_url = Some("https://idp.example.com".to_owned())).await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&authorize_url(&sim, "demo-web", &[("acr_values", "x")]))
        .await
        .unwrap();
    assert_eq!(first.status, 302);
    let login = first.location().unwrap();
    assert!(
        login
            .as_str()
            .starts_with("https://idp.example.com/authenticationendpoint/login.do?")
    );
    let key = param(&login, "sessionDataKey").unwrap();
    for (name, value) in [
        ("relyingParty", "demo-web"),
        ("type", "oidc"),
        ("acr_values", "x"),
        ("authenticators", "BasicAuthenticator:LOCAL"),
        ("state", "s-1"),
    ] {
        assert_eq!(param(&login, name).as_deref(), Some(value));
    }
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.starts_with(&format!("sessionNonceCookie-{key}=")));
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=None"));

    sim.set_public_url(&sim.url);
    let page = browser
        .get(&format!(
            "{}/authenticationendpoint/login.do?sessionDataKey={key}&relyingParty=demo-web",
            sim.url
        ))
        .await
        .unwrap();
    for part in [
        "id=\"loginForm\"",
        "action=\"../commonauth\"",
        "name=\"usernameUserInput\"",
        "name=\"username\"",
        "name=\"password\"",
        "name=\"sessionDataKey\"",
        "name=\"chkRemember\"",
    ] {
        assert!(page.body.contains(part), "{part}");
    }
    let context = browser
        .get(&format!(
            "{}/logincontext?sessionDataKey={key}&relyingParty=demo-web",
            sim.url
        ))
        .await
        .unwrap();
    assert_eq!(context.json(), json!({"status": "success"}));

    let done = browser
        .submit_password(&page, "alice", "wonderland")
        .await
        .unwrap();
    let resume = done.location().unwrap();
    assert_eq!(resume.path(), "/oauth2/authorize");
    assert_ne!(param(&resume, "sessionDataKey").unwrap(), key);
    assert!(browser.cookie("commonAuthId").is_some());
    let answer = browser.get(resume.as_str()).await.unwrap();
    assert!(answer.location().unwrap().as_str().starts_with(CB));
    assert_eq!(answer.location_param("state").as_deref(), Some("s-1"));
    assert!(
        answer
            .location_param("session_state")
            .unwrap()
            .contains('.')
    );
    assert!(answer.location_param("code").is_some());
    assert!(browser.cookie("opbs").is_some());

    // A resumed key is worth one answer.
    let again = browser.get(resume.as_str()).await.unwrap();
    assert_eq!(
        again.location().unwrap().path(),
        "/authenticationendpoint/retry.do"
    );
}

#[tokio::test]
async fn a_login_works_without_javascript_and_not_without_the_nonce_cookie() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    let key = first.location_param("sessionDataKey").unwrap();
    let fields = [
        ("usernameUserInput", "alice"),
        ("username", ""),
        ("password", "wonderland"),
        ("sessionDataKey", key.as_str()),
    ];
    let url = format!("{}/commonauth", sim.url);
    let mut stranger = crate::harness::browser(&sim);
    let refused = stranger.post_form(&url, &fields).await.unwrap();
    assert_eq!(
        refused.location_param("status").as_deref(),
        Some("suspicious.authentication.attempts")
    );
    let done = browser.post_form(&url, &fields).await.unwrap();
    assert_eq!(done.location().unwrap().path(), "/oauth2/authorize");
    for unknown in ["", "no-such-key"] {
        let lost = browser
            .post_form(&url, &[("sessionDataKey", unknown)])
            .await
            .unwrap();
        assert_eq!(
            lost.location_param("status").as_deref(),
            Some("authentication.context.null")
        );
    }
}

#[tokio::test]
async fn a_wrong_password_returns_to_the_page_and_the_fifth_locks_without_a_word() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    let mut page = browser.follow(first, CB).await.unwrap();
    for _ in 0..5 {
        let failed = browser
            .submit_password(&page, "bob", "wrong")
            .await
            .unwrap();
        assert_eq!(
            failed.location().unwrap().path(),
            "/authenticationendpoint/login.do"
        );
        assert_eq!(
            failed.location_param("authFailure").as_deref(),
            Some("true")
        );
        assert_eq!(
            failed.location_param("authFailureMsg").as_deref(),
            Some("login.fail.message")
        );
        assert_eq!(failed.location_param("errorCode"), None);
        page = browser.follow(failed, CB).await.unwrap();
        assert!(page.body.contains("role=\"alert\""));
    }
    let locked = browser
        .submit_password(&page, "bob", "builder-2024")
        .await
        .unwrap();
    assert_eq!(
        locked.location_param("authFailure").as_deref(),
        Some("true")
    );
    page = browser.follow(locked, CB).await.unwrap();
    sim.advance(Duration::from_secs(301));
    let open = browser
        .submit_password(&page, "bob", "builder-2024")
        .await
        .unwrap();
    assert_eq!(open.location().unwrap().path(), "/oauth2/authorize");
}

#[tokio::test]
async fn reasons_are_told_when_the_server_shows_them() {
    let sim = start_with(|config| config.show_auth_failure_reason = true).await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    let mut page = browser.follow(first, CB).await.unwrap();
    let unknown = browser.submit_password(&page, "nobody", "x").await.unwrap();
    assert_eq!(
        unknown.location_param("errorCode").as_deref(),
        Some("17001")
    );
    page = browser.follow(unknown, CB).await.unwrap();
    for remaining in ["4", "3", "2", "1"] {
        let failed = browser
            .submit_password(&page, "bob", "wrong")
            .await
            .unwrap();
        assert_eq!(failed.location_param("errorCode").as_deref(), Some("17002"));
        assert_eq!(
            failed.location_param("failedUsername").as_deref(),
            Some("bob")
        );
        assert_eq!(
            failed.location_param("remainingAttempts").as_deref(),
            Some(remaining)
        );
        page = browser.follow(failed, CB).await.unwrap();
    }
    let locked = browser
        .submit_password(&page, "bob", "wrong")
        .await
        .unwrap();
    assert_eq!(
        locked.location().unwrap().path(),
        "/authenticationendpoint/retry.do"
    );
    for (name, value) in [
        ("errorCode", "17003"),
        ("lockedReason", "MAX_ATTEMPTS_EXCEEDED"),
        ("remainingAttempts", "0"),
    ] {
        assert_eq!(locked.location_param(name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn the_second_step_has_its_own_page_and_counts_wrong_codes() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let first = browser
        .get(&authorize_url(&sim, "demo-mfa", &[]))
        .await
        .unwrap();
    let key = first.location_param("sessionDataKey").unwrap();
    let page = browser.follow(first, CB).await.unwrap();
    let second = browser
        .submit_password(&page, "alice", "wonderland")
        .await
        .unwrap();
    assert_eq!(
        second.location().unwrap().path(),
        "/authenticationendpoint/totp.do"
    );
    assert_eq!(
        second.location_param("sessionDataKey").as_deref(),
        Some(key.as_str())
    );
    assert!(browser.cookie("commonAuthId").is_none());
    let page = browser.follow(second, CB).await.unwrap();
    assert!(page.body.contains("name=\"token\""));
    let wrong = browser.submit_code(&page, "000000").await.unwrap();
    assert_eq!(
        wrong.location().unwrap().path(),
        "/authenticationendpoint/totp.do"
    );
    assert_eq!(wrong.location_param("authFailure").as_deref(), Some("true"));
    let page = browser.follow(wrong, CB).await.unwrap();
    let code = wso2_sim::totp_at(seed::ALICE_TOTP_SECRET, sim.now_s());
    let done = browser.submit_code(&page, &code).await.unwrap();
    assert_eq!(done.location().unwrap().path(), "/oauth2/authorize");
    assert!(browser.cookie("commonAuthId").is_some());
}

#[tokio::test]
async fn a_user_without_authenticator_app_stops_at_the_second_step() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let url = authorize_url(&sim, "demo-mfa", &[]);
    let page = browser
        .login(&url, CB, "dave", "dave-was-here", None)
        .await
        .unwrap();
    assert_eq!(page.url.path(), "/authenticationendpoint/totp_error.do");
}

#[tokio::test]
async fn tenants_and_organizations_have_their_own_users_urls_and_cookies() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let url = authorize_url_in(&sim, "/t/example.com", "demo-web", &[]);
    let first = browser.get(&url).await.unwrap();
    assert_eq!(
        first.location().unwrap().path(),
        "/t/example.com/authenticationendpoint/login.do"
    );
    assert!(
        first
            .header("set-cookie")
            .unwrap()
            .contains("; Path=/t/example.com/;")
    );
    sign_in(&mut browser, &sim, &url).await;
    // The session of one tenant is unknown in the other.
    let other = browser
        .get(&authorize_url(&sim, "demo-web", &[]))
        .await
        .unwrap();
    assert_eq!(
        other.location().unwrap().path(),
        "/authenticationendpoint/login.do"
    );

    let org = format!("/o/{}", seed::ACME_ORG_ID);
    let url = authorize_url_in(&sim, &org, "demo-web", &[]);
    let page = browser
        .login(&url, CB, "olga", "olga-pw-1", None)
        .await
        .unwrap();
    assert!(page.location_param("code").is_some());
    let elsewhere = authorize_url(&sim, "demo-web", &[]);
    let none = browser.login(&elsewhere, CB, "olga", "olga-pw-1", None);
    assert_eq!(
        none.await.unwrap().url.path(),
        "/authenticationendpoint/login.do"
    );
}

#[tokio::test]
async fn a_user_without_an_app_enrols_one_where_that_is_on() {
    let sim = start_with(|config| config.enrols_at_login = true).await;
    let mut browser = browser(&sim);
    let url = authorize_url(&sim, "demo-web", &[("acr_values", MFA)]);
    let page = browser
        .login(&url, CB, "dave", "dave-was-here", None)
        .await
        .unwrap();
    assert_eq!(page.url.path(), "/authenticationendpoint/totp_enroll.do");
    let key =
        String::from_utf8(STANDARD.decode(param(&page.url, "ske").unwrap()).unwrap()).unwrap();
    assert!(key.starts_with("otpauth://totp/carbon.super:dave?secret="));
    assert!(page.body.contains("name=\"ENABLE_TOTP\" value=\"true\""));
    let secret = param(&key.parse().unwrap(), "secret").unwrap();
    let session = param(&page.url, "sessionDataKey").unwrap();
    let action = page.url.join("../commonauth").unwrap();
    // Whoever says no does not get round the second step.
    let no = [
        ("ENABLE_TOTP", "false"),
        ("sessionDataKey", session.as_str()),
    ];
    let refused = browser.post_form(action.as_str(), &no).await.unwrap();
    assert_eq!(
        refused.location().unwrap().path(),
        "/authenticationendpoint/totp_error.do"
    );
    let yes = [
        ("ENABLE_TOTP", "true"),
        ("sessionDataKey", session.as_str()),
    ];
    let next = browser.post_form(action.as_str(), &yes).await.unwrap();
    let page = browser.follow(next, CB).await.unwrap();
    assert_eq!(page.url.path(), "/authenticationendpoint/totp.do");
    let code = wso2_sim::totp_at(&secret, sim.now_s());
    let done = browser.submit_code(&page, &code).await.unwrap();
    let back = browser.follow(done, CB).await.unwrap();
    assert!(back.location_param("code").is_some(), "{back:?}");
    // The app is enrolled from now on.
    browser.clear_cookies();
    let page = browser
        .login(&url, CB, "dave", "dave-was-here", None)
        .await
        .unwrap();
    assert_eq!(page.url.path(), "/authenticationendpoint/totp.do");
}
