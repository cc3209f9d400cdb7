//! Attempts that come back as they went, everything that only looks like one, and whom a token lets in.

use super::*;
use crate::domain::jwt::forge;
use crate::domain::jwt::forge::FOREIGN;
use crate::domain::jwt::forge::OWN;
use crate::domain::jwt::forge::SHARED;
use crate::domain::jwt::forge::key_set;
use crate::domain::jwt::forge::token;
use serde_json::json;

const ISSUER: &str = "https://login.example.com/oauth2/token";
const NOW: Timestamp = Timestamp(1_770_000_000_000);

fn rules() -> ProviderRules {
    ProviderRules {
        issuer: ISSUER.to_owned(),
        client_id: "console".to_owned(),
        redirect_uri: "https://risk.example.com/console/sign-in/callback".to_owned(),
        signed_out_uri: "https://risk.example.com/console/sign-in".to_owned(),
        scopes: vec!["openid".to_owned(), "roles".to_owned()],
        name_claim: "username".to_owned(),
        roles_claim: "roles".to_owned(),
        roles: vec![
            ("risk-viewer".to_owned(), Role::Viewer),
            ("risk-admin".to_owned(), Role::Admin),
        ],
        acr: None,
    }
}

fn endpoints() -> Endpoints {
    Endpoints {
        authorization: "https://login.example.com/oauth2/authorize".to_owned(),
        end_session: Some("https://login.example.com/oidc/logout?x=1".to_owned()),
        ..Endpoints::default()
    }
}

fn key() -> PageKey {
    PageKey::new(b"k")
}

fn attempt() -> Attempt {
    rules().begin(&key(), &[7; SEED_BYTES], "/console", NOW).0
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "e204849c", "aud": "console", "iat": 1_770_000_000, "exp": 1_770_003_600,
        "nonce": attempt().nonce, "username": "ada", "roles": ["everyone", "risk-viewer"], "acr": "pwd",
    })
}

fn signed(claims: &Value) -> String {
    token(
        &OWN,
        "RS256",
        &json!({"alg": "RS256", "kid": "rsa_RS256"}),
        claims,
    )
}

fn admit(rules: &ProviderRules, token: &str) -> Result<Admitted, NotAdmitted> {
    rules.admit(token, &key_set(), &attempt(), NOW)
}

#[test]
fn a_browser_is_sent_with_a_challenge_and_no_secret() {
    let (rules, attempt) = (rules(), attempt());
    let address = rules.address(&endpoints(), &attempt);
    let (front, query) = address.split_once('?').unwrap();
    assert_eq!(front, "https://login.example.com/oauth2/authorize");
    let field = |name: &str| {
        form_urlencoded::parse(query.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    };
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "console"),
        ("redirect_uri", rules.redirect_uri.as_str()),
        ("scope", "openid roles"),
        ("code_challenge_method", "S256"),
        ("acr_values", ""),
    ] {
        assert_eq!(field(name), value, "{name}");
    }
    // RFC 7636 section 4.1: 43 to 128 characters.
    assert_eq!(attempt.verifier().len(), 43);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(attempt.verifier()));
    assert_eq!(field("code_challenge"), challenge);
    assert!(
        !address.contains(attempt.verifier())
            && !format!("{attempt:?}").contains(attempt.verifier())
    );
    assert!(attempt.is_of(&field("state")) && field("state") != field("nonce"));
    let asks = ProviderRules {
        acr: Some("mfa".to_owned()),
        ..rules.clone()
    };
    assert!(
        asks.address(&endpoints(), &attempt)
            .ends_with("&acr_values=mfa")
    );
    assert_eq!(
        rules.sign_out_address(&endpoints()).unwrap(),
        "https://login.example.com/oidc/logout?x=1&client_id=console&post_logout_redirect_uri=https%3A%2F%2Frisk.example.com%2Fconsole%2Fsign-in"
    );
}

#[test]
fn an_attempt_comes_back_by_its_own_cookie_in_time() {
    let (rules, key) = (rules(), key());
    let to = "/console/users/ab?older=1-2";
    let (attempt, cookie) = rules.begin(&key, &[7; SEED_BYTES], to, NOW);
    let resumed = rules.resume(&key, &cookie, NOW.plus(Duration::from_secs(599)));
    assert_eq!(resumed.as_ref(), Some(&attempt));
    assert_eq!(attempt.to(), to);
    // Neither is what must stay between us and the provider in the cookie, nor what comes back.
    let decoded = String::from_utf8_lossy(
        &URL_SAFE_NO_PAD
            .decode(cookie.split('.').next().unwrap())
            .unwrap(),
    )
    .into_owned();
    for secret in [attempt.verifier(), &attempt.state, &attempt.nonce] {
        assert!(!cookie.contains(secret) && !decoded.contains(secret));
    }
    assert_eq!(rules.resume(&key, &cookie, NOW.plus(ATTEMPT_MAX)), None);
    let other_key = PageKey::new(b"other");
    assert_eq!(rules.resume(&other_key, &cookie, NOW), None);
    let mut other = rules.clone();
    other.issuer = "https://evil.example".to_owned();
    assert_eq!(other.resume(&key, &cookie, NOW), None);
    let (sealed, _) = cookie.split_once('.').unwrap();
    for forged in [
        format!("{sealed}.{}", URL_SAFE_NO_PAD.encode("//evil.example")),
        format!("{sealed}."),
        sealed.to_owned(),
        format!("A{cookie}"),
        String::new(),
        ".".to_owned(),
        "A".repeat(100_000),
    ] {
        assert_eq!(rules.resume(&key, &forged, NOW), None, "{forged}");
    }
    // Every attempt has values of its own.
    let (another, _) = rules.begin(&key, &[8; SEED_BYTES], to, NOW);
    assert!(!attempt.is_of(&another.state) && !attempt.is_of("") && another.nonce != attempt.nonce);
}

#[test]
fn only_the_provider_that_was_asked_answers() {
    let rules = rules();
    let code = |issuer: &'static str, error: &'static str, names_itself| {
        let endpoints = Endpoints {
            names_itself,
            ..endpoints()
        };
        let returned = Returned {
            code: "c",
            state: "s",
            issuer,
            error,
        };
        rules.code(&endpoints, &returned)
    };
    assert_eq!(code("", "", false), Ok("c"));
    assert_eq!(code(ISSUER, "", false), Ok("c"));
    assert_eq!(code(ISSUER, "", true), Ok("c"));
    assert_eq!(code("", "", true), Err(NotAdmitted::Issuer));
    assert_eq!(
        code("https://evil.example", "", false),
        Err(NotAdmitted::Issuer)
    );
    assert_eq!(code("", "access_denied", false), Err(NotAdmitted::Denied));
    for code in ["", &"x".repeat(CODE_BYTES_MAX + 1)] {
        let returned = Returned {
            code,
            ..Returned::default()
        };
        assert_eq!(
            rules.code(&endpoints(), &returned),
            Err(NotAdmitted::Malformed)
        );
    }
}

#[test]
fn a_token_lets_in_with_the_highest_of_its_roles() {
    let mut claims = claims();
    let found = admit(&rules(), &signed(&claims)).unwrap();
    assert_eq!(
        (&*found.name, found.role, found.subject.as_str()),
        ("oidc:ada", Role::Viewer, "e204849c")
    );
    for (roles, role) in [
        (json!(["risk-viewer", "risk-admin"]), Some(Role::Admin)),
        (json!("risk-admin"), Some(Role::Admin)),
        (
            json!([1, null, ["risk-admin"], "risk-viewer"]),
            Some(Role::Viewer),
        ),
        // A text is not split: it may be a name that somebody has chosen.
        (json!("risk-admin,risk-viewer"), None),
        (json!("risk-viewer risk-admin"), None),
        (json!(["Risk-Admin", "risk-admin "]), None),
        (json!([]), None),
        (json!(null), None),
        (json!({"risk-admin": true}), None),
    ] {
        claims["roles"] = roles.clone();
        let found = admit(&rules(), &signed(&claims));
        let expected = role.ok_or_else(|| NotAdmitted::Role {
            name: "oidc:ada".into(),
        });
        assert_eq!(found.map(|found| found.role), expected, "{roles}");
    }
}

#[test]
fn a_token_that_was_not_made_for_this_lets_nobody_in() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signed(&claims)
    };
    let header = json!({"alg": "RS256", "kid": "rsa_RS256"});
    let unsigned = {
        let good = signed(&claims());
        let claims = good.split('.').nth(1).unwrap().to_owned();
        format!("{}.{claims}.AAAA", forge::b64(r#"{"alg":"none"}"#))
    };
    let shared = forge::hmac(
        SHARED.as_bytes(),
        &json!({"alg": "HS256", "kid": "shared"}),
        &claims(),
    );
    use IdTokenError::*;
    for (token, expected) in [
        (with("nonce", json!("other")), NotAdmitted::Nonce),
        (with("nonce", json!(null)), NotAdmitted::Nonce),
        (with("nonce", json!("")), NotAdmitted::Nonce),
        (
            with("iss", json!("https://evil.example")),
            NotAdmitted::Token(Issuer),
        ),
        (with("aud", json!("another")), NotAdmitted::Token(Audience)),
        (
            with("aud", json!(["console", "another"])),
            NotAdmitted::Token(Audience),
        ),
        (with("azp", json!("another")), NotAdmitted::Token(Audience)),
        (
            with("exp", json!(1_769_999_000)),
            NotAdmitted::Token(Expired),
        ),
        (
            with("iat", json!(1_770_009_000)),
            NotAdmitted::Token(NotYet),
        ),
        (
            token(&FOREIGN, "RS256", &header, &claims()),
            NotAdmitted::Token(Signature),
        ),
        (unsigned, NotAdmitted::Token(Algorithm)),
        (shared, NotAdmitted::Token(Algorithm)),
        ("x".to_owned(), NotAdmitted::Token(Malformed)),
        (with("username", json!(null)), NotAdmitted::Name),
        (with("username", json!("")), NotAdmitted::Name),
        (with("username", json!("ad\u{430}")), NotAdmitted::Name),
        (with("username", json!("<b>ada</b>")), NotAdmitted::Name),
        (with("username", json!("ada bo")), NotAdmitted::Name),
        (with("username", json!("a".repeat(129))), NotAdmitted::Name),
    ] {
        assert_eq!(admit(&rules(), &token), Err(expected), "{token}");
    }
    let asks = ProviderRules {
        acr: Some("mfa".to_owned()),
        ..rules()
    };
    assert_eq!(admit(&asks, &signed(&claims())), Err(NotAdmitted::Acr));
    assert_eq!(
        admit(&asks, &with("acr", json!(null))),
        Err(NotAdmitted::Acr)
    );
    assert!(admit(&asks, &with("acr", json!("mfa"))).is_ok());
}

#[test]
fn a_state_comes_back_once() {
    let mut used = Used::default();
    assert!(used.take("a", NOW) && !used.take("a", NOW) && used.take("b", NOW));
    for number in 0..2 * USED_MAX {
        assert!(used.take(&number.to_string(), NOW));
    }
    assert_eq!(used.0.len(), USED_MAX);
    let later = NOW.plus(ATTEMPT_MAX);
    assert!(used.take("c", later) && used.0.len() == 1);
}
