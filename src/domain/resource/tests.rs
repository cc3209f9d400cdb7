//! What a route asks for, what it says when it does not get it, and what it tells the service.

use super::*;
use crate::domain::access_token::Binding;
use crate::domain::history::scopes::Groups;
use crate::domain::ids::RequestId;
use crate::domain::policy::reason::Reason;
use crate::domain::time::Timestamp;
use serde_json::Value;
use serde_json::json;

fn orders() -> Resource {
    Resource {
        prefix: "/orders".to_owned(),
        upstream: Arc::from("/orders https://orders.internal:8443"),
        realm: String::new(),
        token_issuer: None,
        tenant: "carbon.super".to_owned(),
        audience: "https://orders.example.com".to_owned(),
        issuer: "riskgate".to_owned(),
        token_audiences: vec!["https://orders.example.com".to_owned()],
        scopes: vec!["orders:read".to_owned(), "openid".to_owned()],
        max_level: RiskLevel::Medium,
        on_unscored: OnUnscored::Allow,
        introspection: None,
    }
}

fn grant() -> Grant {
    Grant {
        subject: "e204849c".to_owned(),
        client_id: "web".to_owned(),
        audience: Some(vec!["https://orders.example.com".to_owned()]),
        scope: "openid orders:read".to_owned(),
        expires: Timestamp(2_000_000_000_000),
        binding: Binding::None,
        groups: Groups::default(),
    }
}

fn scored(score: u8, level: RiskLevel) -> RiskClaims {
    RiskClaims::Scored {
        score,
        level,
        reasons: vec![Reason::UnfamiliarDevice],
    }
}

fn challenge(denial: Denial, proves: bool) -> Option<String> {
    let resource = orders();
    Challenge {
        denial,
        resource: &resource,
        proves,
        acr: "urn:riskgate:acr:mfa",
        max_age: 300,
    }
    .field()
}

#[test]
fn a_token_needs_audience_binding_and_every_scope() {
    assert_eq!(orders().check(&grant(), false), Ok(()));
    let other = Grant {
        audience: Some(vec!["https://other.example.com".to_owned()]),
        ..grant()
    };
    assert_eq!(
        orders().check(&other, false),
        Err(Denial::Token(AccessTokenError::Audience))
    );
    let less = Grant {
        scope: "orders:read".to_owned(),
        ..grant()
    };
    assert_eq!(orders().check(&less, false), Err(Denial::Scope));
    assert_eq!(
        orders().check(&grant(), true),
        Err(Denial::Token(AccessTokenError::Bound))
    );
}

#[test]
fn the_level_decides_and_more_risk_is_never_let_through_instead() {
    let levels = [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High];
    for max_level in levels {
        let resource = Resource {
            max_level,
            ..orders()
        };
        for level in levels {
            let verdict = resource.verdict(&scored(50, level), false);
            let expected = if level <= max_level {
                ResourceVerdict::Allow
            } else {
                ResourceVerdict::StepUp
            };
            assert_eq!(verdict, expected, "{level:?} where {max_level:?}");
            let demanded = resource.verdict(&scored(50, level), true);
            assert_eq!(demanded, ResourceVerdict::StepUp);
        }
    }
}

#[test]
fn unscored_is_what_the_route_says_and_never_low() {
    for (on_unscored, expected) in [
        (OnUnscored::Allow, ResourceVerdict::Allow),
        (OnUnscored::Block, ResourceVerdict::Block),
        (OnUnscored::StepUp, ResourceVerdict::StepUp),
    ] {
        let resource = Resource {
            max_level: RiskLevel::Low,
            on_unscored,
            ..orders()
        };
        assert_eq!(resource.verdict(&RiskClaims::Unscored, false), expected);
        assert_eq!(
            resource.verdict(&RiskClaims::Unscored, true),
            ResourceVerdict::StepUp
        );
    }
}

#[test]
fn challenges_read_as_the_standards_write_them() {
    assert_eq!(
        challenge(Denial::Missing, false).as_deref(),
        Some(r#"Bearer realm="https://orders.example.com", scope="orders:read openid""#)
    );
    assert_eq!(
        challenge(Denial::Token(AccessTokenError::Expired), false).as_deref(),
        Some(
            r#"Bearer realm="https://orders.example.com", error="invalid_token", error_description="the token has expired""#
        )
    );
    assert_eq!(
        challenge(Denial::Scope, false).as_deref(),
        Some(
            r#"Bearer realm="https://orders.example.com", error="insufficient_scope", error_description="the token lacks a scope", scope="orders:read openid""#
        )
    );
    assert_eq!(
        challenge(Denial::Level, false).as_deref(),
        Some(
            r#"Bearer realm="https://orders.example.com", error="insufficient_user_authentication", error_description="a stronger authentication is required", acr_values="urn:riskgate:acr:mfa", max_age="300""#
        )
    );
    let proof = challenge(Denial::Proof, true).unwrap();
    assert!(proof.starts_with("DPoP realm=") && proof.contains(r#"error="invalid_dpop_proof""#));
    assert!(proof.contains("algs=\"ES256"));
    for denial in [Denial::Away, Denial::Blocked, Denial::Request] {
        assert_eq!(challenge(denial, false), None);
    }
}

#[test]
fn a_challenge_cannot_be_broken_out_of() {
    let resource = Resource {
        audience: "https://a\", error=\"x\\\r\nSet-Cookie: a=b".to_owned(),
        ..orders()
    };
    let field = Challenge {
        denial: Denial::Missing,
        resource: &resource,
        proves: false,
        acr: "",
        max_age: 0,
    }
    .field()
    .unwrap();
    assert_eq!(field.matches('"').count(), 4, "{field}");
    assert!(!field.contains(['\r', '\n', '\\']), "{field}");
}

#[test]
fn an_assertion_says_what_it_is_about_and_ends_soon() {
    let resource = orders();
    let id = RequestId::new("0199-a".to_owned());
    let decision = RequestId::new("0199-d".to_owned());
    let risk = scored(63, RiskLevel::Medium);
    let assertion = Assertion {
        resource: &resource,
        subject: "e204849c",
        client_id: "web",
        token_hash: "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
        id: &id,
        decision: Some(&decision),
        risk: Some(&risk),
        status: risk.status(),
        now: Timestamp(1_770_000_000_999),
    };
    assert_eq!(
        Value::Object(assertion.claims()),
        json!({
            "iss": "riskgate", "aud": "https://orders.example.com", "sub": "e204849c", "client_id": "web",
            "jti": "0199-a", "iat": 1_770_000_000, "exp": 1_770_000_030,
            "ath": "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo", "risk_score": 63, "risk_level": "medium",
            "risk_reasons": ["unfamiliar_device"], "risk_status": "scored", "decision_id": "0199-d",
        })
    );
    // Where nobody is to see the risk, only that the gateway was passed.
    let silent = Assertion {
        risk: None,
        status: "off",
        ..assertion
    };
    let claims = silent.claims();
    assert_eq!(claims["risk_status"], "off");
    for hidden in ["risk_score", "risk_level", "risk_reasons", "decision_id"] {
        assert!(!claims.contains_key(hidden), "{hidden}");
    }
}

#[test]
fn a_token_in_the_query_is_seen_in_every_spelling() {
    for query in [
        "access_token=x",
        "a=b&access_token=",
        "access%5Ftoken=x",
        "%61ccess_token=x",
    ] {
        assert!(names_token(query), "{query}");
    }
    for query in ["", "token=x", "access_tokens=x", "a=access_token"] {
        assert!(!names_token(query), "{query}");
    }
}
