//! Tokens that grant something, and everything that only looks like one.

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
use serde_json::json;

const ISSUER: &str = "https://login.example.com/oauth2/token";
const AUDIENCE: &str = "https://orders.example.com";
const NOW: Timestamp = Timestamp(1_770_000_000_000);

fn header() -> Value {
    json!({"alg": "RS256", "kid": "rsa_RS256", "typ": "at+jwt", "x5t": "MTBm"})
}

fn headed(name: &str, value: Value) -> Value {
    let mut header = header();
    header[name] = value;
    header
}

/// The claims of a token as WSO2 IS issues it.
fn claims() -> Value {
    json!({
        "sub": "e204849c-4ec2-41f1-8ff7-ec1ebff02821", "aut": "APPLICATION_USER", "binding_type": "sso-session",
        "iss": ISSUER, "client_id": "1u31N7of6gCNR9FqkG1neSlsF_Qa", "aud": ["1u31N7of6gCNR9FqkG1neSlsF_Qa", AUDIENCE],
        "nbf": 1_770_000_000, "azp": "1u31N7of6gCNR9FqkG1neSlsF_Qa", "org_id": "10084a8d", "org_name": "Super",
        "scope": "openid orders:read", "exp": 1_770_003_600, "iat": 1_770_000_000, "binding_ref": "d8a6f3",
        "jti": "6c1b", "org_handle": "carbon.super",
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
    token(&OWN, "RS256", &header(), claims)
}

/// As a plain bearer token at a service of its own.
fn verify(token: &str) -> Result<AccessToken, AccessTokenError> {
    let found = AccessToken::authentic(token, &key_set())?;
    found.check(ISSUER, NOW)?;
    found
        .grant
        .check_audience(&["orders".to_owned(), AUDIENCE.to_owned()])?;
    found.grant.check_binding(false)?;
    Ok(found)
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
        let header = json!({"alg": algorithm, "kid": kid, "typ": "at+jwt"});
        let found = verify(&token(&OWN, algorithm, &header, &claims())).unwrap();
        assert_eq!(found.grant.client_id, "1u31N7of6gCNR9FqkG1neSlsF_Qa");
        assert_eq!(found.grant.expires, Timestamp(1_770_003_600_000));
        assert_eq!(found.id, "6c1b");
        assert!(found.grant.has_scope("orders:read") && !found.grant.has_scope("orders"));
        assert!(!found.grant.has_scope("") && !found.grant.has_scope("Orders:read"));
    }
}

#[test]
fn what_is_unusual_and_right_is_taken() {
    let typed = |kind: &str| token(&OWN, "RS256", &headed("typ", json!(kind)), &claims());
    let good = [
        typed("AT+JWT"),
        typed("application/at+jwt"),
        signed(&with("aud", json!("orders"))),
        signed(&without("scope")),
        signed(&without("nbf")),
        signed(&with("exp", json!(1_770_003_600.5))),
        // Within the tolerance for clocks that differ.
        signed(&with("exp", json!(1_769_999_941))),
        signed(&with("iat", json!(1_770_000_060))),
    ];
    for token in good {
        verify(&token).unwrap();
    }
}

#[test]
fn a_bound_token_needs_its_proof_and_a_proof_needs_a_bound_token() {
    let binding = |cnf: Value| {
        let token = signed(&with("cnf", cnf));
        let found = AccessToken::authentic(&token, &key_set()).unwrap();
        let takes = |proves| found.grant.check_binding(proves).is_ok();
        (takes(false), takes(true))
    };
    assert_eq!(binding(json!({"jkt": "0ZcOCORZ"})), (false, true));
    assert_eq!(binding(json!({"x5t#S256": "bwcK0esc"})), (false, false));
    // Both would have to be shown.
    let both = json!({"jkt": "0ZcOCORZ", "x5t#S256": "bwcK0esc"});
    assert_eq!(binding(both), (false, false));
    assert_eq!(binding(json!({"jkt": 7})), (false, false));
    assert_eq!(binding(json!({})), (false, false));
    let plain = verify(&signed(&claims())).unwrap();
    assert!(plain.grant.check_binding(true).is_err());
}

#[test]
fn forgeries_are_refused() {
    let forgeries = forgeries();
    assert!(forgeries.len() >= 100);
    for (name, token, expected) in forgeries {
        assert_eq!(verify(&token), Err(expected), "{name}");
    }
}

/// What is no access token of the identity server for a service of ours, here and now, and the first thing that is wrong.
#[rustfmt::skip] // A line per forgery is the point of the table.
pub(in crate::domain) fn forgeries() -> Vec<(&'static str, String, AccessTokenError)> {
    use AccessTokenError::Algorithm;
    use AccessTokenError::Audience;
    use AccessTokenError::Bound;
    use AccessTokenError::Claims;
    use AccessTokenError::Expired;
    use AccessTokenError::Issuer;
    use AccessTokenError::KeyUnknown;
    use AccessTokenError::Malformed;
    use AccessTokenError::NotYet;
    use AccessTokenError::Signature;
    use AccessTokenError::Type;

    let good = signed(&claims());
    verify(&good).unwrap();
    let (head, tail) = good.split_once('.').unwrap();
    let (body, signature) = tail.split_once('.').unwrap();
    let unsigned = |header: Value| format!("{}.{body}.", b64(header.to_string()));
    // What a key holder would sign if only the header were believed.
    let own = |header: Value| token(&OWN, "RS256", &header, &claims());
    let foreign = |header: Value| token(&FOREIGN, "RS256", &header, &claims());
    let by = |algorithm: &str, kid: &str| {
        let header = json!({"alg": algorithm, "kid": kid, "typ": "at+jwt"});
        token(&OWN, algorithm, &header, &claims())
    };
    let zeros = |kid: &str, signature: Vec<u8>| {
        let header = json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"});
        format!("{}.{body}.{}", b64(header.to_string()), b64(signature))
    };
    let hs256 = headed("alg", json!("HS256"));
    let hmac = |key: &[u8]| forge::hmac(key, &hs256, &claims());
    let modulus = OWN.rsa_jwk("", "")["n"].as_str().unwrap().to_owned();
    let doubled = |text: String, more: &str| text.replacen('{', &format!("{{{more},"), 1);
    let es256 = by("ES256", "ec");
    let (es_signed, es_signature) = es256.rsplit_once('.').unwrap();
    let der = der(&base64_bytes(es_signature));
    // 256 bytes leave four bits of their last character without meaning.
    let trailing = {
        let mut text = good.clone();
        let last = text.pop().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.find(last).unwrap();
        text.push(alphabet.chars().nth(at + 1).unwrap());
        text
    };
    let typed =
        |kind: &str, claims: &Value| token(&OWN, "RS256", &headed("typ", json!(kind)), claims);
    let dpop = json!({"jti": "x", "htm": "GET", "htu": "https://orders.example.com", "iat": 1_770_000_000});

    vec![
        // No signature, in every spelling.
        ("alg none", unsigned(headed("alg", json!("none"))), Malformed),
        ("alg none, two parts", format!("{head}.{body}"), Malformed),
        ("alg none with a signature", own(headed("alg", json!("none"))), Algorithm),
        ("alg None", own(headed("alg", json!("None"))), Algorithm),
        ("alg NONE", own(headed("alg", json!("NONE"))), Algorithm),
        ("alg nOnE", own(headed("alg", json!("nOnE"))), Algorithm),
        ("alg none with a space", own(headed("alg", json!("none "))), Algorithm),
        ("alg empty", own(headed("alg", json!(""))), Algorithm),
        ("alg null", own(headed("alg", Value::Null)), Malformed),
        ("alg a list", own(headed("alg", json!(["RS256"]))), Malformed),
        ("alg lower case", own(headed("alg", json!("rs256"))), Algorithm),
        ("alg of a weak curve", own(headed("alg", json!("ES256K"))), Algorithm),
        ("alg RS1", own(headed("alg", json!("RS1"))), Algorithm),
        ("alg of encryption", own(headed("alg", json!("RSA-OAEP"))), Algorithm),
        ("signature empty", unsigned(header()), Malformed),
        // A secret in place of a key pair.
        ("HS256 with the published key in DER", hmac(&OWN.rsa_der()), Algorithm),
        ("HS256 with the modulus", hmac(modulus.as_bytes()), Algorithm),
        ("HS256 with an empty key", hmac(b""), Algorithm),
        ("HS256 with a secret of the set", hmac(SHARED.as_bytes()), Algorithm),
        // A key that the token brings along.
        ("foreign key under our id", foreign(header()), Signature),
        ("foreign key without an id", foreign(headed("kid", Value::Null)), Signature),
        ("jku", foreign(headed("jku", json!("https://evil.example/jwks"))), Signature),
        ("jku to an address within", foreign(headed("jku", json!("http://169.254.169.254/"))), Signature),
        ("x5u", foreign(headed("x5u", json!("https://evil.example/cert.pem"))), Signature),
        ("x5c", foreign(headed("x5c", json!(["MIIB"]))), Signature),
        ("jwk", foreign(headed("jwk", FOREIGN.rsa_jwk("rsa_RS256", "RS256"))), Signature),
        ("jwk under an id of its own", foreign(json!({ "alg": "RS256", "kid": "evil", "typ": "at+jwt", "jwk": FOREIGN.rsa_jwk("evil", "RS256"), })), KeyUnknown),
        // Names of keys.
        ("kid as a path", foreign(headed("kid", json!("../../../../dev/null"))), KeyUnknown),
        ("kid as SQL", foreign(headed("kid", json!("x' UNION SELECT 'key'--"))), KeyUnknown),
        ("kid as a command", foreign(headed("kid", json!("key|/usr/bin/id"))), KeyUnknown),
        ("kid empty", foreign(headed("kid", json!(""))), KeyUnknown),
        ("kid very long", foreign(headed("kid", json!("k".repeat(10_000)))), KeyUnknown),
        ("kid with a zero byte", foreign(headed("kid", json!("rsa_RS256\u{0}"))), KeyUnknown),
        ("kid in other letters", foreign(headed("kid", json!("RSA_rs256"))), KeyUnknown),
        ("kid a number", own(headed("kid", json!(7))), Malformed),
        ("kid an object", own(headed("kid", json!({"$ne": ""}))), Malformed),
        ("kid of a key for encryption", own(headed("kid", json!("enc"))), KeyUnknown),
        ("kid of a shared secret", own(headed("kid", json!("shared"))), KeyUnknown),
        // A key with an algorithm that is not its own.
        ("RS512 with an RS256 key", by("RS512", "rsa_RS256"), KeyUnknown),
        ("PS256 with an RS256 key", by("PS256", "rsa_RS256"), KeyUnknown),
        ("ES256 with an RSA key", by("ES256", "rsa_RS256"), KeyUnknown),
        ("EdDSA with an RSA key", by("EdDSA", "rsa_RS256"), KeyUnknown),
        ("RS256 with an EC key", by("RS256", "ec"), KeyUnknown),
        // Signatures that are none.
        ("ES256 of zeros", zeros("ec", vec![0; 64]), Signature),
        ("ES256 with r zero", zeros("ec", [vec![0; 32], vec![1; 32]].concat()), Signature),
        ("ES256 with s zero", zeros("ec", [vec![1; 32], vec![0; 32]].concat()), Signature),
        ("ES256 of ones", zeros("ec", vec![0xff; 64]), Signature),
        ("ES256 in DER", format!("{es_signed}.{}", b64(der)), Signature),
        ("ES256 cut in half", format!("{es_signed}.{}", &es_signature[..43]), Signature),
        ("ES256 by a foreign key", { let header = json!({"alg": "ES256", "kid": "ec", "typ": "at+jwt"}); token(&FOREIGN, "ES256", &header, &claims()) }, Signature),
        ("EdDSA by a foreign key", { let header = json!({"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}); token(&FOREIGN, "EdDSA", &header, &claims()) }, Signature),
        ("RS256 of zeros", format!("{head}.{body}.{}", b64([0; 256])), Signature),
        ("signature cut", good[..good.len() - 4].to_owned(), Signature),
        ("signature lengthened", format!("{good}AAAA"), Signature),
        ("signature with other last bits", trailing, Signature),
        ("signature of another token", { let other = signed(&with("jti", json!("other"))); let (_, other) = other.rsplit_once('.').unwrap(); format!("{head}.{body}.{other}") }, Signature),
        ("signature in the other alphabet", format!("{head}.{body}.++//"), Signature),
        // Changed after signing.
        ("claims exchanged", { let claims = b64(with("scope", json!("admin")).to_string()); format!("{head}.{claims}.{signature}") }, Signature),
        ("header exchanged", { let header = b64(headed("x", json!(1)).to_string()); format!("{header}.{body}.{signature}") }, Signature),
        ("claims empty", format!("{head}..{signature}"), Signature),
        ("header empty", format!(".{body}.{signature}"), Malformed),
        // Forms.
        ("empty", String::new(), Malformed),
        ("dots", "..".to_owned(), Malformed),
        ("four parts", format!("{good}.x"), Malformed),
        ("a dot at the end", format!("{good}."), Malformed),
        ("five parts", format!("{good}.a.b"), Malformed),
        ("an encrypted token", { let header = json!({"alg": "RSA-OAEP", "enc": "A256GCM", "typ": "at+jwt"}); format!("{}.a.b.c.d", b64(header.to_string())) }, Malformed),
        ("enc in three parts", own(headed("enc", json!("A256GCM"))), Malformed),
        ("crit", own(headed("crit", json!(["exp"]))), Malformed),
        ("crit empty", own(headed("crit", json!([]))), Malformed),
        ("b64 false", own(headed("b64", json!(false))), Malformed),
        ("a token within", raw(&OWN, "RS256", &header().to_string(), &good), Claims),
        ("JSON serialization", json!({"protected": head, "payload": body, "signature": signature}).to_string(), Malformed),
        ("too long", format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX)), Malformed),
        ("header with padding", format!("{head}=.{body}.{signature}"), Malformed),
        ("claims with padding", format!("{head}.{body}=.{signature}"), Signature),
        ("signature with padding", format!("{good}=="), Signature),
        ("space before", format!(" {good}"), Malformed),
        ("space after", format!("{good} "), Signature),
        ("line feed within", format!("{head}\n.{body}.{signature}"), Malformed),
        ("zero byte after", format!("{good}\u{0}"), Signature),
        ("a dot of another script", good.replace('.', "\u{ff0e}"), Malformed),
        ("letters of another script", good.replacen('e', "\u{435}", 1), Malformed),
        ("header no JSON", raw(&OWN, "RS256", "alg=RS256", &claims().to_string()), Malformed),
        ("header a list", raw(&OWN, "RS256", "[]", &claims().to_string()), Malformed),
        ("alg twice", raw(&OWN, "RS256", &doubled(header().to_string(), r#""alg":"none""#), &claims().to_string()), Malformed),
        ("kid twice", raw(&OWN, "RS256", &doubled(header().to_string(), r#""kid":"evil""#), &claims().to_string()), Malformed),
        ("header not UTF-8", { let message = format!("{}.{body}", b64(b"{\"alg\":\"RS256\",\"kid\":\"\xff\",\"typ\":\"at+jwt\"}")); format!("{message}.{}", b64(OWN.sign("RS256", message.as_bytes()))) }, Malformed),
        // Other tokens, all of them signed by the identity server (RFC 8725 section 3.12).
        ("an ID token", own(json!({"alg": "RS256", "kid": "rsa_RS256"})), Type),
        ("an ID token with its type", typed("JWT", &claims()), Type),
        ("a logout token", typed("logout+jwt", &claims()), Type),
        ("a DPoP proof", typed("dpop+jwt", &dpop), Type),
        ("a security event", typed("secevent+jwt", &claims()), Type),
        ("a client's assertion", typed("client-authentication+jwt", &claims()), Type),
        ("a risk assertion", typed("risk-assertion+jwt", &claims()), Type),
        ("an introspection answer", typed("token-introspection+jwt", &claims()), Type),
        ("a type that only begins right", typed("at+jwt+x", &claims()), Type),
        ("a proof that calls itself access token", typed("at+jwt", &dpop), Claims),
        ("typ a list", own(headed("typ", json!(["at+jwt"]))), Malformed),
        // For somebody else, by somebody else.
        ("other issuer", signed(&with("iss", json!("https://evil.example/oauth2/token"))), Issuer),
        ("other tenant", signed(&with("iss", json!("https://login.example.com/t/foo/oauth2/token"))), Issuer),
        ("issuer with a slash", signed(&with("iss", json!(format!("{ISSUER}/")))), Issuer),
        ("issuer in capitals", signed(&with("iss", json!(ISSUER.to_uppercase()))), Issuer),
        ("issuer a list", signed(&with("iss", json!([ISSUER]))), Claims),
        ("issuer missing", signed(&without("iss")), Claims),
        ("other audience", signed(&with("aud", json!("https://other.example.com"))), Audience),
        ("audience longer", signed(&with("aud", json!(format!("{AUDIENCE}.evil.example")))), Audience),
        ("audience shorter", signed(&with("aud", json!("https://orders.example"))), Audience),
        ("audiences in one text", signed(&with("aud", json!(format!("{AUDIENCE} other")))), Audience),
        ("audience in a list of lists", signed(&with("aud", json!([[AUDIENCE]]))), Claims),
        ("audience an object", signed(&with("aud", json!({"0": AUDIENCE}))), Claims),
        ("audience empty", signed(&with("aud", json!([]))), Audience),
        ("audience null", signed(&with("aud", Value::Null)), Claims),
        ("audience missing", signed(&without("aud")), Claims),
        ("many audiences", signed(&with("aud", json!(vec![AUDIENCE; LIST_MAX + 1]))), Claims),
        ("audience twice", raw(&OWN, "RS256", &header().to_string(), &doubled(claims().to_string(), r#""aud":"x""#)), Claims),
        // At another time.
        ("expired", signed(&with("exp", json!(1_769_999_940))), Expired),
        ("exp negative", signed(&with("exp", json!(-1))), Expired),
        ("exp zero", signed(&with("exp", json!(0))), Expired),
        ("exp in milliseconds", signed(&with("exp", json!(1_770_003_600_000_u64))), Claims),
        ("exp huge", signed(&with("exp", json!(1e300))), Claims),
        ("exp beyond numbers", raw(&OWN, "RS256", &header().to_string(), &claims().to_string().replace("1770003600", "1e999")), Claims),
        ("exp of many digits", raw(&OWN, "RS256", &header().to_string(), &claims().to_string().replace("1770003600", &"9".repeat(400))), Claims),
        ("exp a text", signed(&with("exp", json!("1770003600"))), Claims),
        ("exp null", signed(&with("exp", Value::Null)), Claims),
        ("exp missing", signed(&without("exp")), Claims),
        ("exp twice", raw(&OWN, "RS256", &header().to_string(), &doubled(claims().to_string(), r#""exp":9999999999"#)), Claims),
        ("nbf in the future", signed(&with("nbf", json!(1_770_000_100))), NotYet),
        ("nbf a text", signed(&with("nbf", json!("now"))), Claims),
        ("iat in the future", signed(&with("iat", json!(1_770_000_100))), NotYet),
        ("iat missing", signed(&without("iat")), Claims),
        // Whom it is about.
        ("sub missing", signed(&without("sub")), Claims),
        ("sub empty", signed(&with("sub", json!(""))), Claims),
        ("sub long", signed(&with("sub", json!("s".repeat(NAME_BYTES_MAX + 1)))), Claims),
        ("sub a number", signed(&with("sub", json!(1))), Claims),
        ("client missing", signed(&without("client_id")), Claims),
        ("jti missing", signed(&without("jti")), Claims),
        ("jti empty", signed(&with("jti", json!(""))), Claims),
        ("scope a list", signed(&with("scope", json!(["admin"]))), Claims),
        ("cnf a text", signed(&with("cnf", json!("jkt"))), Claims),
        ("claims a list", raw(&OWN, "RS256", &header().to_string(), "[]"), Claims),
        ("claims no JSON", raw(&OWN, "RS256", &header().to_string(), "{"), Claims),
        ("claims with more after them", raw(&OWN, "RS256", &header().to_string(), &format!("{}{{}}", claims())), Claims),
        // Bound to a key, and presented without it.
        ("bound to a proof key", signed(&with("cnf", json!({"jkt": "0ZcOCORZ"}))), Bound),
        ("bound to a certificate", signed(&with("cnf", json!({"x5t#S256": "bwcK0esc"}))), Bound),
    ]
}

fn base64_bytes(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap()
}

/// Two integers of 32 bytes in DER (SEC 1), as everything but JOSE has them.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut short: Vec<u8> = bytes
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        if short[0] >= 0x80 {
            short.insert(0, 0);
        }
        [vec![2, u8::try_from(short.len()).unwrap()], short].concat()
    };
    let both = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    [vec![0x30, u8::try_from(both.len()).unwrap()], both].concat()
}

#[test]
fn errors_carry_no_part_of_a_token() {
    let token = signed(&with("iss", json!("https://evil.example")));
    let error = verify(&token).unwrap_err();
    assert!(!format!("{error} {error:?} {}", error.as_str()).contains("evil"));
}
