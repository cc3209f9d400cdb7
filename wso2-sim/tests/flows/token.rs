//! The token endpoint: client authentication, error rules, every grant, the shapes of tokens, introspection, revocation.

use std::time::Duration;

use serde_json::json;

use crate::harness::CB;
use crate::harness::authorize_url;
use crate::harness::browser;
use crate::harness::checked;
use crate::harness::code_of;
use crate::harness::post;
use crate::harness::redeem;
use crate::harness::sign_in;
use crate::harness::start;
use crate::harness::text;
use crate::harness::token;

#[tokio::test]
async fn errors_have_the_statuses_of_wso2() {
    let sim = start().await;
    let cc = ("grant_type", "client_credentials");
    for (path, client, fields, status, error) in [
        ("/oauth2/token", None, vec![cc], 401, "invalid_client"),
        (
            "/oauth2/token",
            None,
            vec![cc, ("client_id", "demo-service")],
            401,
            "invalid_client",
        ),
        (
            "/oauth2/token",
            None,
            vec![cc, ("client_id", "demo-service"), ("client_secret", "x")],
            401,
            "invalid_client",
        ),
        (
            "/oauth2/token",
            Some("nobody"),
            vec![cc],
            401,
            "invalid_client",
        ),
        (
            "/oauth2/token",
            Some("demo-service"),
            vec![cc, ("client_secret", "x")],
            400,
            "invalid_request",
        ),
        (
            "/oauth2/token",
            Some("demo-service"),
            vec![cc, ("client_id", "demo-web")],
            401,
            "invalid_client",
        ),
        (
            "/oauth2/token",
            Some("demo-service"),
            vec![],
            400,
            "invalid_request",
        ),
        (
            "/oauth2/token",
            Some("demo-service"),
            vec![("grant_type", "magic")],
            400,
            "unsupported_grant_type",
        ),
        (
            "/oauth2/token",
            Some("demo-service"),
            vec![("grant_type", "password")],
            400,
            "unauthorized_client",
        ),
        (
            "/oauth2/token",
            Some("demo-service"),
            vec![cc, cc],
            400,
            "invalid_request",
        ),
        (
            "/oauth2/token?scope=a",
            Some("demo-service"),
            vec![cc, ("scope", "a")],
            400,
            "invalid_request",
        ),
        (
            "/oauth2/token?password=x",
            Some("demo-legacy"),
            vec![("grant_type", "password")],
            400,
            "invalid_request",
        ),
        (
            "/oauth2/token",
            Some("demo-web"),
            vec![("grant_type", "authorization_code")],
            400,
            "invalid_request",
        ),
        (
            "/oauth2/token",
            Some("demo-web"),
            vec![("grant_type", "authorization_code"), ("code", "x")],
            400,
            "invalid_grant",
        ),
        (
            "/oauth2/token",
            Some("demo-web"),
            vec![("grant_type", "refresh_token"), ("refresh_token", "x")],
            400,
            "invalid_grant",
        ),
    ] {
        let page = post(&sim, path, client, &fields).await;
        assert_eq!(
            (page.status, text(&page.json(), "error")),
            (status, error),
            "{path} {client:?} {fields:?}"
        );
        assert_eq!(page.header("www-authenticate").is_some(), status == 401);
        assert_eq!(page.header("cache-control"), Some("no-store"));
    }
    let secret = post(&sim, "/oauth2/token?client_secret=x", None, &[cc]).await;
    assert_eq!(
        text(&secret.json(), "error_description"),
        "Invalid request with sensitive data in the URL."
    );
    let mut browser = browser(&sim);
    let get = browser
        .get(&format!("{}/oauth2/token", sim.url))
        .await
        .unwrap();
    assert_eq!(get.status, 405);
}

#[tokio::test]
async fn a_code_is_good_once_with_its_redirect_and_its_verifier() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    let elsewhere = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", "https://localhost/cb"),
    ];
    let wrong = token(&sim, Some("demo-web"), &elsewhere).await;
    assert_eq!(text(&wrong.json(), "error"), "invalid_grant");
    let stolen = redeem(&sim, "demo-opaque", &code).await;
    assert_eq!(text(&stolen.json(), "error"), "invalid_grant");
    let body = redeem(&sim, "demo-web", &code).await.json();
    assert_eq!(body["token_type"], "Bearer");
    let again = redeem(&sim, "demo-web", &code).await;
    assert_eq!(
        (again.status, text(&again.json(), "error")),
        (400, "invalid_grant")
    );
    // The second use takes the tokens of the first with it.
    let state = post(
        &sim,
        "/oauth2/introspect",
        Some("demo-web"),
        &[("token", text(&body, "access_token"))],
    )
    .await;
    assert_eq!(state.json(), json!({"active": false}));

    let late = code_of(&mut browser, &sim, "demo-web", &[]).await;
    sim.advance(Duration::from_secs(301));
    assert_eq!(redeem(&sim, "demo-web", &late).await.status, 400);

    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let pkce = [
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    for (verifier, status) in [
        ("wrong-verifier-wrong-verifier-wrong-verifier", 400),
        ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", 200),
    ] {
        let code = code_of(&mut browser, &sim, "demo-spa", &pkce).await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", "demo-spa"),
            ("code", code.as_str()),
            ("redirect_uri", CB),
            ("code_verifier", verifier),
        ];
        assert_eq!(token(&sim, None, &fields).await.status, status);
    }
}

#[tokio::test]
async fn tokens_have_the_members_of_wso2() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(
        &mut browser,
        &sim,
        "demo-web",
        &[("scope", "openid read internal_session_view")],
    )
    .await;
    let body = redeem(&sim, "demo-web", &code).await.json();
    assert_eq!(body["scope"], "openid read");
    assert_eq!(body["expires_in"], 3600);
    let (header, at) = checked(&sim, text(&body, "access_token"), "demo-web").await;
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(header.kid, header.x5t.map(|x5t| format!("{x5t}_RS256")));
    assert_eq!(at["iss"], format!("{}/oauth2/token", sim.url));
    assert_eq!(at["aut"], "APPLICATION_USER");
    assert_eq!(at["binding_type"], "sso-session");
    assert_eq!(at["org_handle"], "carbon.super");
    for absent in ["acr", "amr", "auth_time"] {
        assert_eq!(at.get(absent), None);
    }
    let (header, id) = checked(&sim, text(&body, "id_token"), "demo-web").await;
    assert_eq!(header.typ, None);
    assert_eq!(id["sub"], at["sub"]);
    for present in ["at_hash", "c_hash", "sid", "isk", "jti", "nonce", "org_id"] {
        assert!(id[present].is_string(), "{present}");
    }
    let info = {
        let mut browser = crate::harness::browser(&sim);
        let bearer = format!("Bearer {}", text(&body, "access_token"));
        browser.headers.push(("authorization".to_owned(), bearer));
        browser
            .get(&format!("{}/oauth2/userinfo", sim.url))
            .await
            .unwrap()
    };
    assert_eq!(info.json()["sub"], id["sub"]);
}

#[tokio::test]
async fn the_issuer_names_the_tenant_and_discovery_agrees() {
    let sim = start().await;
    sim.set_public_url("https://idp.example.com/");
    let mut browser = browser(&sim);
    for (path, issuer) in [
        (
            "/oauth2/token/.well-known/openid-configuration",
            "https://idp.example.com/oauth2/token",
        ),
        (
            "/.well-known/openid-configuration",
            "https://idp.example.com/oauth2/token",
        ),
        (
            "/t/example.com/.well-known/openid-configuration",
            "https://idp.example.com/t/example.com/oauth2/token",
        ),
    ] {
        let document = browser
            .get(&format!("{}{path}", sim.url))
            .await
            .unwrap()
            .json();
        assert_eq!(document["issuer"], issuer);
        assert_eq!(document["token_endpoint"], issuer);
        assert!(text(&document, "pushed_authorization_request_endpoint").ends_with("/oauth2/par"));
    }
    let fields = [("grant_type", "client_credentials")];
    let page = post(
        &sim,
        "/t/example.com/oauth2/token",
        Some("demo-service"),
        &fields,
    )
    .await;
    let (_, claims) = checked(&sim, text(&page.json(), "access_token"), "demo-service").await;
    assert_eq!(
        claims["iss"],
        "https://idp.example.com/t/example.com/oauth2/token"
    );
    assert_eq!(claims["org_handle"], "example.com");
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_used_one_is_refused() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(
        &mut browser,
        &sim,
        "demo-web",
        &[("acr_values", "urn:riskgate:acr:mfa")],
    )
    .await;
    let first = redeem(&sim, "demo-web", &code).await.json();
    let old = text(&first, "refresh_token").to_owned();
    let refresh = async |value: &str, client: &str| {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", value)];
        token(&sim, Some(client), &fields).await
    };
    assert_eq!(refresh(&old, "demo-legacy").await.status, 400);
    let second = refresh(&old, "demo-web").await.json();
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_ne!(second["access_token"], first["access_token"]);
    let (_, id) = checked(&sim, text(&second, "id_token"), "demo-web").await;
    assert_eq!(id["acr"], "urn:riskgate:acr:mfa");
    assert_eq!(id.get("nonce"), None);
    let reused = refresh(&old, "demo-web").await;
    assert_eq!(
        (reused.status, text(&reused.json(), "error")),
        (400, "invalid_grant")
    );
    let wide = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&second, "refresh_token")),
        ("scope", "openid more"),
    ];
    let refused = token(&sim, Some("demo-web"), &wide).await;
    assert_eq!(text(&refused.json(), "error"), "invalid_scope");
    sim.advance(Duration::from_secs(86_401));
    assert_eq!(
        refresh(text(&second, "refresh_token"), "demo-web")
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn the_password_grant_counts_failures_and_names_itself() {
    let sim = start().await;
    let attempt = async |password: &str| {
        let fields = [
            ("grant_type", "password"),
            ("username", "carol"),
            ("password", password),
            ("scope", "openid"),
        ];
        token(&sim, Some("demo-legacy"), &fields).await
    };
    let body = attempt("carol-sings").await.json();
    let (_, id) = checked(&sim, text(&body, "id_token"), "demo-legacy").await;
    assert_eq!(id["amr"], json!(["password"]));
    assert_eq!(id.get("acr"), None);
    assert!(body["refresh_token"].is_string());
    for _ in 0..5 {
        let page = attempt("wrong").await;
        assert_eq!(
            page.json(),
            json!({
                "error": "invalid_grant", "error_description": "Authentication failed for carol",
            })
        );
    }
    assert_eq!(attempt("carol-sings").await.status, 400);
}

#[tokio::test]
async fn client_credentials_have_no_user_and_json_bodies_are_accepted() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let body = json!({"grant_type": "client_credentials", "client_id": "demo-service",
        "client_secret": "demo-service-secret"});
    let url = format!("{}/oauth2/token", sim.url);
    let page = browser.post_json(&url, &body).await.unwrap();
    let answer = page.json();
    assert_eq!(answer["scope"], "default");
    assert_eq!(answer.get("refresh_token"), None);
    assert_eq!(answer.get("id_token"), None);
    let (_, claims) = checked(&sim, text(&answer, "access_token"), "demo-service").await;
    assert_eq!(
        (&claims["aut"], &claims["sub"]),
        (&json!("APPLICATION"), &json!("demo-service"))
    );
    let broken = browser.post_json(&url, &json!([1])).await.unwrap();
    assert_eq!(
        (broken.status, text(&broken.json(), "error")),
        (400, "invalid_request")
    );
    let twice = json!({"grant_type": ["a", "b"], "client_id": "demo-service"});
    assert_eq!(browser.post_json(&url, &twice).await.unwrap().status, 400);
}

#[tokio::test]
async fn opaque_tokens_stay_the_same_while_they_are_valid() {
    let sim = start().await;
    let ask = async |scope: &str| {
        let fields = [("grant_type", "client_credentials"), ("scope", scope)];
        token(&sim, Some("demo-opaque"), &fields).await.json()
    };
    let (one, two, other) = (ask("read").await, ask("read").await, ask("write").await);
    assert_eq!(one["access_token"], two["access_token"]);
    assert_ne!(one["access_token"], other["access_token"]);
    assert!(!text(&one, "access_token").contains('.'));
    let state = post(
        &sim,
        "/oauth2/introspect",
        Some("demo-opaque"),
        &[("token", text(&one, "access_token"))],
    )
    .await
    .json();
    assert_eq!(state["active"], true);
    assert_eq!(state["client_id"], "demo-opaque");
    assert_eq!(state.get("jti"), None);
    sim.advance(Duration::from_secs(3_601));
    assert_ne!(ask("read").await["access_token"], one["access_token"]);

    let jwt = async || {
        let fields = [("grant_type", "client_credentials")];
        token(&sim, Some("demo-service"), &fields).await.json()
    };
    assert_ne!(jwt().await["access_token"], jwt().await["access_token"]);
}

#[tokio::test]
async fn introspection_and_revocation_need_a_caller() {
    let sim = start().await;
    let fields = [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "wonderland"),
        ("scope", "read"),
    ];
    let body = token(&sim, Some("demo-legacy"), &fields).await.json();
    let at = [("token", text(&body, "access_token"))];
    assert_eq!(
        post(&sim, "/oauth2/introspect", None, &at).await.status,
        401
    );
    let blank = post(&sim, "/oauth2/introspect", Some("demo-web"), &[]).await;
    assert_eq!(
        (blank.status, blank.json()),
        (400, json!({"error": "Invalid input"}))
    );
    let state = post(&sim, "/oauth2/introspect", Some("demo-web"), &at)
        .await
        .json();
    assert_eq!(
        (&state["active"], &state["username"]),
        (&json!(true), &json!("alice@carbon.super"))
    );
    let garbage = post(
        &sim,
        "/oauth2/introspect",
        Some("demo-web"),
        &[("token", "x")],
    )
    .await;
    assert_eq!(
        (garbage.status, garbage.json()),
        (200, json!({"active": false}))
    );
    // Somebody else's token cannot be revoked; the answer does not say so.
    assert_eq!(
        post(&sim, "/oauth2/revoke", Some("demo-web"), &at)
            .await
            .status,
        200
    );
    assert_eq!(
        post(&sim, "/oauth2/introspect", Some("demo-web"), &at)
            .await
            .json()["active"],
        true
    );
    let revoked = post(&sim, "/oauth2/revoke", Some("demo-legacy"), &at).await;
    assert_eq!((revoked.status, revoked.body.as_str()), (200, ""));
    assert_eq!(
        post(&sim, "/oauth2/introspect", Some("demo-web"), &at)
            .await
            .json()["active"],
        false
    );
}

#[tokio::test]
async fn a_device_waits_for_its_user() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let start = post(
        &sim,
        "/oauth2/device_authorize",
        Some("demo-web"),
        &[("scope", "openid")],
    )
    .await
    .json();
    assert_eq!(
        (&start["expires_in"], &start["interval"]),
        (&json!(600), &json!(5))
    );
    let user_code = text(&start, "user_code").to_owned();
    assert_eq!(user_code.len(), 6);
    let device_code = text(&start, "device_code").to_owned();
    let poll = async || {
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device_code.as_str()),
        ];
        token(&sim, Some("demo-web"), &fields).await.json()
    };
    assert_eq!(poll().await["error"], "authorization_pending");
    assert_eq!(poll().await["error"], "slow_down");
    let door = format!("{}/oauth2/device", sim.url);
    let unknown = browser
        .post_form(&door, &[("user_code", "nope")])
        .await
        .unwrap();
    assert!(unknown.location_param("error").is_some());
    let login = browser
        .post_form(&door, &[("user_code", &user_code)])
        .await
        .unwrap();
    let page = browser.follow(login, CB).await.unwrap();
    let done = browser
        .submit_password(&page, "alice", "wonderland")
        .await
        .unwrap();
    let end = browser.follow(done, CB).await.unwrap();
    assert_eq!(end.url.path(), "/authenticationendpoint/device_success.do");
    let tokens = poll().await;
    let (_, id) = checked(&sim, text(&tokens, "id_token"), "demo-web").await;
    assert_eq!(id["amr"], json!(["BasicAuthenticator"]));
    assert_eq!(poll().await["error"], "invalid_grant");
}

#[tokio::test]
async fn a_token_is_exchanged_for_one_with_the_same_subject() {
    let sim = start().await;
    let mut browser = browser(&sim);
    let code = code_of(&mut browser, &sim, "demo-web", &[]).await;
    let body = redeem(&sim, "demo-web", &code).await.json();
    let exchange = async |subject: &str| {
        let fields = [
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", subject),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
        ];
        token(&sim, Some("demo-opaque"), &fields).await
    };
    assert_eq!(exchange("nonsense").await.status, 400);
    let exchanged = exchange(text(&body, "access_token")).await.json();
    let state = post(
        &sim,
        "/oauth2/introspect",
        Some("demo-web"),
        &[("token", text(&exchanged, "access_token"))],
    )
    .await;
    assert_eq!(state.json()["username"], "alice@carbon.super");
}

#[tokio::test]
async fn tls_serves_with_a_certificate_that_its_authority_vouches_for() {
    let sim =
        crate::harness::start_with(|config| config.tls = Some(wso2_sim::SimTls::SelfSigned)).await;
    assert!(sim.url.starts_with("https://localhost:"));
    let mut trusting = browser(&sim);
    let page = sign_in(&mut trusting, &sim, &authorize_url(&sim, "demo-web", &[])).await;
    assert!(page.location_param("code").is_some());
    let mut strict = wso2_sim::browser::Browser::new(&[]).unwrap();
    assert!(strict.get(&sim.url).await.is_err());
}
