//! Tokens that prove something, and everything that only looks like one.

use super::*;
use crate::domain::jwt::TOKEN_BYTES_MAX;
use crate::domain::jwt::forge;
use crate::domain::jwt::forge::FOREIGN;
use crate::domain::jwt::forge::OWN;
use crate::domain::jwt::forge::SHARED;
use crate::domain::jwt::forge::b64;
use crate::domain::jwt::forge::key_set;
use crate::domain::jwt::forge::raw;
use crate::domain::jwt::forge::token;
use serde_json::Value;
use serde_json::json;

const ISSUER: &str = "https://login.example.com/oauth2/token";
const CLIENT: &str = "demo-web";
const NOW: Timestamp = Timestamp(1_770_000_000_000);

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "e204849c", "aud": CLIENT, "azp": CLIENT,
        "iat": 1_770_000_000, "nbf": 1_770_000_000, "exp": 1_770_003_600, "auth_time": 1_769_999_990,
        "acr": "urn:riskgate:acr:mfa", "amr": ["BasicAuthenticator", "totp"], "nonce": "n", "sid": "s",
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn signed(claims: &Value) -> String {
    token(
        &OWN,
        "RS256",
        &json!({"alg": "RS256", "kid": "rsa_RS256"}),
        claims,
    )
}

fn verify(token: &str) -> Result<IdToken, IdTokenError> {
    let expected = Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        now: NOW,
    };
    IdToken::verify(token, &key_set(), &expected)
}

/// HMAC-SHA-256 over a token, with whatever key.
fn hmac_token(key: &[u8], kid: &str) -> String {
    forge::hmac(key, &json!({"alg": "HS256", "kid": kid}), &claims())
}

#[test]
fn every_accepted_algorithm_verifies() {
    for (algorithm, kid) in [
        ("RS256", Some("rsa_RS256")),
        ("PS256", Some("rsa_PS256")),
        ("ES256", Some("ec")),
        ("EdDSA", Some("ed")),
        // A token may leave out which key it was signed with.
        ("RS256", None),
    ] {
        let header = json!({"alg": algorithm, "kid": kid, "x5t": "abc"});
        let found = verify(&token(&OWN, algorithm, &header, &claims())).unwrap();
        assert_eq!(found.acr.as_deref(), Some("urn:riskgate:acr:mfa"));
        assert_eq!(found.amr, ["BasicAuthenticator", "totp"]);
        assert_eq!(found.authenticated, Some(Timestamp(1_769_999_990_000)));
        assert_eq!(found.subject, "e204849c");
    }
}

#[test]
fn what_is_unusual_and_right_is_taken() {
    let good = [
        signed(&with("aud", json!([CLIENT, "api"]))),
        signed(&without("azp")),
        signed(&without("auth_time")),
        signed(&without("acr")),
        signed(&without("amr")),
        signed(&without("nbf")),
        signed(&with("exp", json!(1_770_003_600.5))),
        // Within the tolerance for clocks that differ.
        signed(&with("exp", json!(1_769_999_941))),
        signed(&with("iat", json!(1_770_000_060))),
        token(
            &OWN,
            "RS256",
            &json!({"alg": "RS256", "kid": "rsa_RS256", "typ": "jwt"}),
            &claims(),
        ),
    ];
    for token in good {
        verify(&token).unwrap();
    }
}

#[test]
fn forgeries_are_refused() {
    use IdTokenError::Algorithm;
    use IdTokenError::Audience;
    use IdTokenError::Claims;
    use IdTokenError::Expired;
    use IdTokenError::Issuer;
    use IdTokenError::KeyUnknown;
    use IdTokenError::Malformed;
    use IdTokenError::NotYet;
    use IdTokenError::Signature;
    use IdTokenError::Type;

    let good = signed(&claims());
    let (head, tail) = good.split_once('.').unwrap();
    let (body, signature) = tail.split_once('.').unwrap();
    let unsigned = |alg: &str| {
        let header = b64(json!({"alg": alg, "kid": "rsa_RS256"}).to_string());
        format!("{header}.{body}.")
    };
    let public_key = OWN.rsa_der();
    let modulus = OWN.rsa_jwk("", "")["n"].as_str().unwrap().to_owned();
    let headed = |header: Value| token(&OWN, "RS256", &header, &claims());
    let foreign = |header: Value| token(&FOREIGN, "RS256", &header, &claims());
    let rs = |kid: &str| json!({"alg": "RS256", "kid": kid});
    let doubled = |text: &str, more: &str| {
        let text = text.replacen('{', &format!("{{{more},"), 1);
        raw(&OWN, "RS256", &rs("rsa_RS256").to_string(), &text)
    };
    let forgeries: Vec<(&str, String, IdTokenError)> = vec![
        // No signature.
        ("alg none", unsigned("none"), Malformed),
        (
            "alg None with a signature",
            headed(json!({"alg": "None"})),
            Algorithm,
        ),
        (
            "alg none with a signature",
            headed(json!({"alg": "none", "kid": "rsa_RS256"})),
            Algorithm,
        ),
        ("empty signature", unsigned("RS256"), Malformed),
        ("two parts", format!("{head}.{body}"), Malformed),
        (
            "alg missing",
            headed(json!({"kid": "rsa_RS256"})),
            Malformed,
        ),
        ("alg empty", headed(json!({"alg": ""})), Algorithm),
        ("alg lower case", headed(json!({"alg": "rs256"})), Algorithm),
        // A secret in place of a key pair.
        (
            "HS256 with the published key in DER",
            hmac_token(&public_key, "rsa_RS256"),
            Algorithm,
        ),
        (
            "HS256 with the modulus",
            hmac_token(modulus.as_bytes(), "rsa_RS256"),
            Algorithm,
        ),
        (
            "HS256 with an empty key",
            hmac_token(b"", "rsa_RS256"),
            Algorithm,
        ),
        (
            "HS256 with a shared secret of the set",
            hmac_token(SHARED.as_bytes(), "shared"),
            Algorithm,
        ),
        // Another key, or one that the token brings along.
        (
            "foreign key under our id",
            foreign(rs("rsa_RS256")),
            Signature,
        ),
        (
            "foreign key without an id",
            foreign(json!({"alg": "RS256"})),
            Signature,
        ),
        ("foreign key of its own id", foreign(rs("evil")), KeyUnknown),
        (
            "jku",
            foreign(json!({"alg": "RS256", "kid": "evil", "jku": "https://evil.example/jwks"})),
            KeyUnknown,
        ),
        (
            "jku under our id",
            foreign(
                json!({"alg": "RS256", "kid": "rsa_RS256", "jku": "https://evil.example/jwks"}),
            ),
            Signature,
        ),
        (
            "x5u",
            foreign(json!({"alg": "RS256", "kid": "rsa_RS256", "x5u": "https://evil.example/x"})),
            Signature,
        ),
        (
            "x5c",
            foreign(json!({"alg": "RS256", "kid": "rsa_RS256", "x5c": ["MIIB"]})),
            Signature,
        ),
        (
            "jwk in the header",
            foreign(
                json!({"alg": "RS256", "kid": "evil", "jwk": FOREIGN.rsa_jwk("evil", "RS256")}),
            ),
            KeyUnknown,
        ),
        (
            "kid as a path",
            foreign(rs("../../../dev/null")),
            KeyUnknown,
        ),
        (
            "kid as SQL",
            foreign(rs("x' UNION SELECT 'k'--")),
            KeyUnknown,
        ),
        ("kid empty", foreign(rs("")), KeyUnknown),
        (
            "kid a number",
            headed(json!({"alg": "RS256", "kid": 7})),
            Malformed,
        ),
        ("an encryption key", headed(rs("enc")), KeyUnknown),
        ("a shared secret's id", headed(rs("shared")), KeyUnknown),
        // A key used with an algorithm that is not its own.
        (
            "RS512 with an RS256 key",
            token(
                &OWN,
                "RS512",
                &json!({"alg": "RS512", "kid": "rsa_RS256"}),
                &claims(),
            ),
            KeyUnknown,
        ),
        (
            "PS256 with an RS256 key",
            token(
                &OWN,
                "PS256",
                &json!({"alg": "PS256", "kid": "rsa_RS256"}),
                &claims(),
            ),
            KeyUnknown,
        ),
        (
            "ES256 with an RSA key",
            token(
                &OWN,
                "ES256",
                &json!({"alg": "ES256", "kid": "rsa_RS256"}),
                &claims(),
            ),
            KeyUnknown,
        ),
        (
            "ES384 with a P-256 key",
            token(
                &OWN,
                "ES256",
                &json!({"alg": "ES384", "kid": "ec"}),
                &claims(),
            ),
            KeyUnknown,
        ),
        (
            "ES256 by a foreign key",
            token(
                &FOREIGN,
                "ES256",
                &json!({"alg": "ES256", "kid": "ec"}),
                &claims(),
            ),
            Signature,
        ),
        (
            "EdDSA by a foreign key",
            token(
                &FOREIGN,
                "EdDSA",
                &json!({"alg": "EdDSA", "kid": "ed"}),
                &claims(),
            ),
            Signature,
        ),
        (
            "ES256 of zeros (psychic)",
            format!(
                "{}.{body}.{}",
                b64(r#"{"alg":"ES256","kid":"ec"}"#),
                b64([0; 64])
            ),
            Signature,
        ),
        // Changed after signing.
        (
            "claims exchanged",
            format!(
                "{head}.{}.{signature}",
                b64(with("sub", json!("admin")).to_string())
            ),
            Signature,
        ),
        (
            "header exchanged",
            format!(
                "{}.{body}.{signature}",
                b64(r#"{"alg":"RS256","kid":"rsa_RS256","x":1}"#)
            ),
            Signature,
        ),
        (
            "signature cut",
            good[..good.len() - 4].to_owned(),
            Signature,
        ),
        (
            "signature not Base64url",
            format!("{head}.{body}.++++"),
            Signature,
        ),
        // Not a signed JWT of this kind.
        ("five parts", format!("{good}.a.b"), Malformed),
        (
            "encrypted header",
            headed(json!({"alg": "RS256", "kid": "rsa_RS256", "enc": "A256GCM"})),
            Malformed,
        ),
        (
            "crit",
            headed(json!({"alg": "RS256", "kid": "rsa_RS256", "crit": ["exp"]})),
            Malformed,
        ),
        (
            "b64 false",
            headed(json!({"alg": "RS256", "kid": "rsa_RS256", "b64": false})),
            Malformed,
        ),
        (
            "an access token",
            headed(json!({"alg": "RS256", "kid": "rsa_RS256", "typ": "at+jwt"})),
            Type,
        ),
        (
            "a logout token",
            headed(json!({"alg": "RS256", "kid": "rsa_RS256", "typ": "logout+jwt"})),
            Type,
        ),
        (
            "a security event",
            headed(json!({"alg": "RS256", "kid": "rsa_RS256", "typ": "secevent+jwt"})),
            Type,
        ),
        ("empty", String::new(), Malformed),
        ("dots", "..".to_owned(), Malformed),
        (
            "too long",
            format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)),
            Malformed,
        ),
        ("padding", format!("{head}=.{body}.{signature}"), Malformed),
        // For somebody else, by somebody else, at another time.
        (
            "other issuer",
            signed(&with("iss", json!("https://evil.example/oauth2/token"))),
            Issuer,
        ),
        (
            "other tenant",
            signed(&with(
                "iss",
                json!("https://login.example.com/t/foo/oauth2/token"),
            )),
            Issuer,
        ),
        (
            "issuer with a slash",
            signed(&with("iss", json!(format!("{ISSUER}/")))),
            Issuer,
        ),
        ("issuer missing", signed(&without("iss")), Claims),
        (
            "issuer a list",
            signed(&with("iss", json!([ISSUER]))),
            Claims,
        ),
        (
            "other audience",
            signed(&with("aud", json!("other"))),
            Audience,
        ),
        ("audience missing", signed(&without("aud")), Claims),
        ("audience empty", signed(&with("aud", json!([]))), Audience),
        (
            "audience a prefix",
            signed(&with("aud", json!("demo-web-2"))),
            Audience,
        ),
        (
            "authorized party is another",
            signed(&with("azp", json!("other"))),
            Audience,
        ),
        (
            "two audiences, nobody authorized",
            signed(&{
                let mut claims = without("azp");
                claims["aud"] = json!([CLIENT, "other"]);
                claims
            }),
            Audience,
        ),
        (
            "many audiences",
            signed(&with("aud", json!(vec![CLIENT; LIST_MAX + 1]))),
            Claims,
        ),
        (
            "expired",
            signed(&with("exp", json!(1_769_999_940))),
            Expired,
        ),
        ("exp missing", signed(&without("exp")), Claims),
        (
            "exp a text",
            signed(&with("exp", json!("1770003600"))),
            Claims,
        ),
        (
            "exp beyond reason",
            signed(&with("exp", json!(1e300))),
            Claims,
        ),
        ("exp negative", signed(&with("exp", json!(-1))), Expired),
        ("iat missing", signed(&without("iat")), Claims),
        (
            "iat in the future",
            signed(&with("iat", json!(1_770_000_100))),
            NotYet,
        ),
        (
            "nbf in the future",
            signed(&with("nbf", json!(1_770_000_100))),
            NotYet,
        ),
        (
            "auth_time in the future",
            signed(&with("auth_time", json!(1_770_000_100))),
            NotYet,
        ),
        (
            "auth_time a text",
            signed(&with("auth_time", json!("now"))),
            Claims,
        ),
        ("sub missing", signed(&without("sub")), Claims),
        ("sub empty", signed(&with("sub", json!(""))), Claims),
        ("amr a text", signed(&with("amr", json!("totp"))), Claims),
        (
            "acr a list",
            signed(&with("acr", json!(["urn:riskgate:acr:mfa"]))),
            Claims,
        ),
        (
            "aud twice",
            doubled(&claims().to_string(), r#""aud":"other""#),
            Claims,
        ),
        (
            "acr twice",
            doubled(&claims().to_string(), r#""acr":"x""#),
            Claims,
        ),
        (
            "claims no object",
            raw(&OWN, "RS256", &rs("rsa_RS256").to_string(), "[]"),
            Claims,
        ),
    ];
    assert!(forgeries.len() >= 60);
    for (name, token, expected) in forgeries {
        assert_eq!(verify(&token), Err(expected), "{name}");
    }
}

/// RFC 8037 appendix A.4: a signature that was not made here.
#[test]
fn the_example_of_the_rfc_has_a_good_signature() {
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let example = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
                   hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let expected = Expected {
        issuer: ISSUER,
        client_id: CLIENT,
        now: NOW,
    };
    // The signature is good; what it signs is no set of claims.
    assert_eq!(
        IdToken::verify(example, &keys, &expected),
        Err(IdTokenError::Claims)
    );
    let changed = example.replace("hgyY", "hgyZ");
    assert_eq!(
        IdToken::verify(&changed, &keys, &expected),
        Err(IdTokenError::Signature)
    );
}
