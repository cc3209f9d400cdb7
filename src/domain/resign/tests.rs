//! Tokens that are signed anew and had back: byte for byte, or not at all.

use super::*;
use crate::domain::access_token::AccessTokenError;
use crate::domain::access_token::tests::forgeries;
use crate::domain::jwt::forge;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::RiskLevel;
use crate::domain::signing::tests::keys;
use crate::domain::signing::tests::ring;
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;

/// The identity server's keys, and ours.
static WORLD: LazyLock<(SigningKeys, KeySet, SigningKeys, OriginSeal)> = LazyLock::new(|| {
    let theirs = keys();
    let published = KeySet::parse(theirs.document().as_bytes()).unwrap();
    (theirs, published, keys(), OriginSeal::new(b"secret"))
});

fn ours() -> Ours<'static> {
    Ours {
        keys: &WORLD.2,
        seal: &WORLD.3,
    }
}

fn risk() -> RiskClaims {
    RiskClaims::Scored {
        score: 71,
        level: RiskLevel::High,
        reasons: vec![Reason::UnfamiliarDevice],
    }
}

fn resigning() -> Resigning<'static> {
    Resigning {
        theirs: &WORLD.1,
        ours: ours(),
        algorithm: None,
        nonces: [[1; NONCE_BYTES], [2; NONCE_BYTES]],
    }
}

/// A token of the identity server.
fn issue(algorithm: SigningAlgorithm, header: Value, payload: &str) -> String {
    let Value::Object(header) = header else {
        panic!("a header is an object")
    };
    let key = WORLD.0.current(algorithm).unwrap();
    key.seal(header, payload.as_bytes()).unwrap()
}

fn rs256(payload: &str) -> String {
    issue(
        SigningAlgorithm::Rs256,
        json!({ "typ": "at+jwt", "x5t": "abc" }),
        payload,
    )
}

fn part(token: &str, number: usize) -> String {
    let part = token.split('.').nth(number).unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn member(answer: &str, name: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer[name].as_str().unwrap().to_owned()
}

fn answer(token: &str) -> String {
    json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 }).to_string()
}

fn is_ours(token: &str) -> bool {
    let header: Value = serde_json::from_str(&part(token, 0)).unwrap();
    let algorithm = SigningAlgorithm::named(header["alg"].as_str().unwrap()).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    WORLD
        .2
        .verifier(header["kid"].as_str().unwrap(), algorithm)
        .is_some_and(|key| key.verifies(message, signature))
}

#[test]
fn claims_are_added_at_the_end_and_everything_else_stays() {
    let payload = "{ \"sub\":\"\\u0061l\u{ef}ce\",\"jti\":\"j1\",\"exp\":1.5e9,\"cnf\":{\"x5t#S256\":\"q\"} }\n";
    let token = rs256(payload);
    let body = format!("{{ \"access_token\" : \"{token}\",\"scope\":\"openid\\u0020x\" }}");
    let new = resigning().answer(body.as_bytes(), &risk()).unwrap();
    let signed = member(&new, "access_token");
    assert!(is_ours(&signed));
    assert_eq!(new.replace(&signed, &token), body);
    let text = part(&signed, 1);
    let added = "{ \"sub\":\"\\u0061l\u{ef}ce\",\"jti\":\"j1\",\"exp\":1.5e9,\"cnf\":{\"x5t#S256\":\"q\"} ,\
                 \"risk_score\":71,\"risk_level\":\"high\",\"risk_reasons\":[\"unfamiliar_device\"],\
                 \"risk_status\":\"scored\",\"risk_origin\":\"";
    assert!(text.starts_with(added) && text.ends_with("\"}\n"), "{text}");
    let header: Value = serde_json::from_str(&part(&signed, 0)).unwrap();
    let id = WORLD.2.current(SigningAlgorithm::Rs256).unwrap().id();
    assert_eq!(
        header,
        json!({ "alg": "RS256", "kid": id, "typ": "at+jwt" })
    );
    assert_eq!(ours().restored(&signed).unwrap(), token);
    // What was not scored says so, and nothing else.
    let new = resigning()
        .answer(body.as_bytes(), &RiskClaims::Unscored)
        .unwrap();
    let claims: Value = serde_json::from_str(&part(&member(&new, "access_token"), 1)).unwrap();
    assert!(claims["risk_status"] == "unscored" && claims.get("risk_score").is_none());
}

#[test]
fn the_algorithm_is_the_tokens_own_or_the_configured_one() {
    for algorithm in SigningAlgorithm::ALL {
        let token = issue(algorithm, json!({}), "{}");
        let body = answer(&token);
        for configured in [None, Some(SigningAlgorithm::Es256)] {
            let new = Resigning {
                algorithm: configured,
                ..resigning()
            };
            let new = member(
                &new.answer(body.as_bytes(), &risk()).unwrap(),
                "access_token",
            );
            let header: Value = serde_json::from_str(&part(&new, 0)).unwrap();
            assert_eq!(header["alg"], configured.unwrap_or(algorithm).as_str());
            // The type was missing and is.
            assert!(header.get("typ").is_none() && is_ours(&new));
            assert_eq!(ours().restored(&new).unwrap(), token);
        }
    }
}

#[test]
fn the_hash_in_the_id_token_is_that_of_the_new_access_token() {
    for algorithm in SigningAlgorithm::ALL {
        let token = rs256("{\"jti\":\"j\"}");
        let hash = half_hash(algorithm, &token);
        let payload =
            format!("{{\"nonce\":\"n\",\"at_hash\":\"{hash}\",\"c_hash\":\"c\",\"s_hash\":\"s\"}}");
        let id_token = issue(algorithm, json!({ "x5t": "a" }), &payload);
        let body = format!("{{\"access_token\":\"{token}\",\"id_token\":\"{id_token}\"}}");
        let new = resigning().answer(body.as_bytes(), &risk()).unwrap();
        let (access, id) = (member(&new, "access_token"), member(&new, "id_token"));
        assert!(is_ours(&access) && is_ours(&id));
        let claims: Value = serde_json::from_str(&part(&id, 1)).unwrap();
        assert_eq!(claims["at_hash"], half_hash(algorithm, &access));
        assert_eq!(
            (&claims["nonce"], &claims["c_hash"], &claims["s_hash"]),
            (&json!("n"), &json!("c"), &json!("s"))
        );
        assert!(claims.get("risk_score").is_none());
        let header: Value = serde_json::from_str(&part(&id, 0)).unwrap();
        assert_eq!(header["alg"], algorithm.as_str());
        assert_eq!(ours().restored(&id).unwrap(), id_token);
    }
    // Without a hash it stays as the identity server has signed it.
    let id_token = rs256("{\"sub\":\"a\"}");
    let body = format!(
        "{{\"access_token\":\"{}\",\"id_token\":\"{id_token}\"}}",
        rs256("{}")
    );
    let new = resigning().answer(body.as_bytes(), &risk()).unwrap();
    assert_eq!(member(&new, "id_token"), id_token);
}

#[test]
fn the_hashes_are_those_of_the_standard() {
    // OpenID Connect Core, appendix A.3.
    assert_eq!(
        half_hash(
            SigningAlgorithm::Rs256,
            "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
        ),
        "77QmUPtjPfzWtF2AnpK9RQ"
    );
    let long = half_hash(SigningAlgorithm::EdDsa, "a");
    assert_eq!(URL_SAFE_NO_PAD.decode(long).unwrap().len(), 32);
}

#[test]
fn what_cannot_be_done_leaves_the_answer_alone() {
    let good = rs256("{\"sub\":\"a\"}");
    let id = |payload: &str| {
        format!(
            "{{\"access_token\":\"{good}\",\"id_token\":\"{}\"}}",
            rs256(payload)
        )
    };
    let strange = {
        let other = keys();
        let key = other.current(SigningAlgorithm::Rs256).unwrap();
        key.seal(Map::new(), b"{}").unwrap()
    };
    // A key id of the identity server under a signature of somebody else.
    let forged = {
        let (message, _) = good.rsplit_once('.').unwrap();
        let (_, signature) = strange.rsplit_once('.').unwrap();
        format!("{message}.{signature}")
    };
    let hmac = format!(
        "{}.{}.AAAA",
        URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}"),
        URL_SAFE_NO_PAD.encode("{\"at_hash\":\"x\"}")
    );
    let none = hmac.replace(
        &URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}"),
        &URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"),
    );
    let critical = issue(SigningAlgorithm::Rs256, json!({ "crit": ["x"] }), "{}");
    let with =
        |id_token: &str| format!("{{\"access_token\":\"{good}\",\"id_token\":\"{id_token}\"}}");
    for (body, why) in [
        (String::new(), Untouched::Malformed),
        ("[]".to_owned(), Untouched::Malformed),
        (
            "{\"error\":\"invalid_grant\"}".to_owned(),
            Untouched::Malformed,
        ),
        (
            format!("{{\"access_token\":\"{good}\",\"access_token\":\"{good}\"}}"),
            Untouched::Malformed,
        ),
        ("{\"access_token\":1}".to_owned(), Untouched::Malformed),
        (
            answer("dbb34a5c-9d84-3a6d-93d6-3a2f9ea3f1a3"),
            Untouched::Opaque,
        ),
        (answer("a.b.c.d.e"), Untouched::Opaque),
        (answer("a.b.c"), Untouched::Opaque),
        (answer(&critical), Untouched::Opaque),
        (answer(&rs256("[]")), Untouched::Malformed),
        (answer(&rs256("{\"a\":1,\"a\":2}")), Untouched::Malformed),
        (answer(&rs256("{\"risk_score\":0}")), Untouched::Claimed),
        (
            answer(&rs256("{\"risk_orig\\u0069n\":\"\"}")),
            Untouched::Claimed,
        ),
        (
            answer(&rs256("{\"cnf\":{\"jkt\":\"k\"}}")),
            Untouched::Bound,
        ),
        (answer(&good).replace("Bearer", "dpop"), Untouched::Bound),
        (answer(&strange), Untouched::KeyUnknown),
        (answer(&forged), Untouched::Unverified),
        (answer(&hmac), Untouched::KeyUnknown),
        (answer(&none), Untouched::Unverified),
        (with("a.b.c.d.e"), Untouched::IdToken),
        (with(&hmac), Untouched::IdToken),
        (with(&none), Untouched::IdToken),
        (id("{\"at_hash\":\"of another\"}"), Untouched::IdToken),
        (id("{\"at_hash\":1}"), Untouched::IdToken),
        (id("{\"risk_origin\":\"\"}"), Untouched::Claimed),
        (id("[]"), Untouched::Malformed),
    ] {
        let result = resigning().answer(body.as_bytes(), &risk());
        assert_eq!(result, Err(why), "{body}");
    }
    // A hash that fits, in an ID token of somebody else.
    let payload = format!(
        "{{\"at_hash\":\"{}\"}}",
        half_hash(SigningAlgorithm::Rs256, &good)
    );
    let other = keys();
    let key = other.current(SigningAlgorithm::Rs256).unwrap();
    let foreign = key.seal(Map::new(), payload.as_bytes()).unwrap();
    let result = resigning().answer(with(&foreign).as_bytes(), &risk());
    assert_eq!(result, Err(Untouched::KeyUnknown));
    // No key of ours for the algorithm.
    let es256 = SigningAlgorithm::Es256;
    let only = SigningKeys::new(es256, vec![ring(es256)]).unwrap();
    let few = Resigning {
        ours: Ours {
            keys: &only,
            ..ours()
        },
        ..resigning()
    };
    let result = few.answer(answer(&good).as_bytes(), &risk());
    assert_eq!(result, Err(Untouched::Algorithm));
    let mut names: Vec<&str> = Untouched::ALL.map(Untouched::as_str).to_vec();
    names.dedup();
    assert_eq!(names.len(), Untouched::ALL.len());
}

#[test]
fn only_what_is_ours_is_cut() {
    let token = rs256("{\"sub\":\"a\"}");
    let ours = member(
        &resigning()
            .answer(answer(&token).as_bytes(), &risk())
            .unwrap(),
        "access_token",
    );
    let (message, signature) = ours.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(part(&ours, 1).replace("71", "01"));
    let stranger = keys();
    let foreign = stranger.current(SigningAlgorithm::Rs256).unwrap();
    let foreign = foreign.seal(Map::new(), part(&ours, 1).as_bytes()).unwrap();
    // Signed by us, but for something else.
    let assertion = WORLD.2.sign("risk+jwt", &json!({ "sub": "a" })).unwrap();
    let sealed = |cut: usize, hash: Option<(usize, String)>| {
        let origin = Origin {
            cut,
            header: b"{}".to_vec(),
            signature: vec![1],
            hash,
        };
        WORLD.3.seal(&origin, &[3; NONCE_BYTES]).unwrap()
    };
    let wrong = |origin: &str| {
        let claims = json!({ "sub": "a", "risk_origin": origin });
        WORLD.2.sign("JWT", &claims).unwrap()
    };
    for token in [
        token.as_str(),
        "opaque",
        "",
        "a.b.c",
        &format!("{header}.{other}.{signature}"),
        &format!("{header}.{payload}.AAAA"),
        &foreign,
        &assertion,
        &wrong(""),
        &wrong("AAAA"),
        &wrong(&sealed(usize::MAX, None)),
        &wrong(&sealed(9_999, None)),
        &wrong(&sealed(2, Some((1, "abc".to_owned())))),
        &wrong(&sealed(2, Some((usize::MAX, "a".to_owned())))),
    ] {
        assert_eq!(self::ours().restored(token), None, "{token}");
    }
    // Under another secret the way back is closed.
    let other = OriginSeal::new(b"other");
    let closed = Ours {
        seal: &other,
        ..self::ours()
    };
    assert_eq!(closed.restored(&ours), None);
}

/// Nothing is signed that the identity server has not signed: the table of the API routes, as far as form and signature go.
/// What a token says of issuer, audience and time is for those to judge whom it is shown.
#[test]
fn forgeries_are_not_signed_anew() {
    let theirs = forge::key_set();
    let resigning = Resigning {
        theirs: &theirs,
        ..resigning()
    };
    let of_form = forgeries().into_iter().filter(|(_, _, error)| {
        matches!(
            error,
            AccessTokenError::Algorithm
                | AccessTokenError::KeyUnknown
                | AccessTokenError::Malformed
                | AccessTokenError::Signature
        )
    });
    let mut tried = 0;
    for (name, token, _) in of_form {
        let result = resigning.answer(answer(&token).as_bytes(), &risk());
        assert!(result.is_err(), "{name}: {result:?}");
        tried += 1;
    }
    assert!(tried >= 60, "{tried}");
}

/// What only looks like a token of ours goes to the identity server as it came, wherever it stands: with its risk, and with
/// a signature that nobody there knows.
#[test]
#[rustfmt::skip] // A line per forgery is the point of the table.
fn forgeries_of_ours_are_not_cut() {
    let issued = |sub: &str| {
        let token = rs256(&format!("{{\"sub\":\"{sub}\"}}"));
        let body = answer(&token);
        member(&resigning().answer(body.as_bytes(), &risk()).unwrap(), "access_token")
    };
    let good = issued("a");
    assert!(ours().restored(&good).is_some());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let claims = part(&good, 1);
    let key = |algorithm| WORLD.2.current(algorithm).unwrap();
    let [ec, rsa, ed] = [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa].map(key);
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": "RS256", "kid": rsa.id(), "typ": "at+jwt" });
    let headed = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        header
    };
    // The header is another one, the rest is good.
    let under = |header: Value| format!("{}.{body}.{signature}", text(&header));
    let stranger = keys();
    let foreign = |algorithm: SigningAlgorithm, header: Value| {
        let Value::Object(header) = header else { panic!("a header") };
        let signed = stranger.current(algorithm).unwrap().seal(header, claims.as_bytes()).unwrap();
        // As if it were signed with our key.
        let (message, signature) = signed.rsplit_once('.').unwrap();
        let mut members: Value = serde_json::from_str(&part(&signed, 0)).unwrap();
        members["kid"] = json!(key(algorithm).id());
        let (_, body) = message.split_once('.').unwrap();
        format!("{}.{body}.{signature}", text(&members))
    };
    let hs256 = headed("alg", json!("HS256"));
    let jwk = WORLD.2.jwks()["keys"].as_array().unwrap().iter().find(|key| key["kid"] == rsa.id()).unwrap().clone();
    let hmac = |secret: &[u8]| forge::hmac(secret, &hs256, &serde_json::from_str(&claims).unwrap());
    let with_claims = |claims: &str| format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims));
    let other = issued("b");
    let other_signature = other.rsplit_once('.').unwrap().1;
    let raised = claims.replace("\"risk_score\":71", "\"risk_score\":1");
    let doubled = claims.replacen('{', "{\"risk_origin\":\"AAAA\",", 1);
    let origin = claims.find(",\"risk_origin\"").unwrap();
    let without = format!("{}}}", &claims[..origin]);
    assert!(raised != claims && doubled != claims);
    let forgeries = vec![
        ("alg none", format!("{}.{body}.", text(&headed("alg", json!("none"))))),
        ("alg none with a signature", under(headed("alg", json!("none")))),
        ("alg None", under(headed("alg", json!("None")))),
        ("alg NONE", under(headed("alg", json!("NONE")))),
        ("alg none with a space", under(headed("alg", json!("none ")))),
        ("alg empty", under(headed("alg", json!("")))),
        ("alg null", under(headed("alg", Value::Null))),
        ("alg a list", under(headed("alg", json!(["RS256"])))),
        ("alg lower case", under(headed("alg", json!("rs256")))),
        ("alg of another padding", under(headed("alg", json!("PS256")))),
        ("alg of another hash", under(headed("alg", json!("RS512")))),
        ("alg of another kind", under(headed("alg", json!("ES256")))),
        ("alg of another kind, again", under(headed("alg", json!("EdDSA")))),
        ("signature empty", format!("{message}.")),
        ("no signature", message.to_owned()),
        ("HS256 with the published key", hmac(jwk.to_string().as_bytes())),
        ("HS256 with the modulus", hmac(jwk["n"].as_str().unwrap().as_bytes())),
        ("HS256 with the key set", hmac(WORLD.2.jwks().to_string().as_bytes())),
        ("HS256 with an empty key", hmac(b"")),
        ("a foreign RSA key under our id", foreign(SigningAlgorithm::Rs256, json!({}))),
        ("a foreign EC key under our id", foreign(SigningAlgorithm::Es256, json!({}))),
        ("a foreign Ed25519 key under our id", foreign(SigningAlgorithm::EdDsa, json!({}))),
        ("jku", foreign(SigningAlgorithm::Rs256, json!({"jku": "https://evil.example/jwks"}))),
        ("jku to an address within", foreign(SigningAlgorithm::Rs256, json!({"jku": "http://169.254.169.254/"}))),
        ("x5u", foreign(SigningAlgorithm::Rs256, json!({"x5u": "https://evil.example/cert.pem"}))),
        ("x5c", foreign(SigningAlgorithm::Rs256, json!({"x5c": ["MIIB"]}))),
        ("jwk", foreign(SigningAlgorithm::Rs256, json!({"jwk": jwk}))),
        ("kid of another key", under(headed("kid", json!(ec.id())))),
        ("kid of another key, again", under(headed("kid", json!(ed.id())))),
        ("kid as a path", under(headed("kid", json!("../../../../dev/null")))),
        ("kid as SQL", under(headed("kid", json!("x' UNION SELECT 'key'--")))),
        ("kid empty", under(headed("kid", json!("")))),
        ("kid a number", under(headed("kid", json!(7)))),
        ("kid an object", under(headed("kid", json!({"$ne": ""})))),
        ("kid missing", under(json!({"alg": "RS256", "typ": "at+jwt"}))),
        ("kid twice", format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string().replacen('{', &format!("{{\"kid\":\"{}\",", rsa.id()), 1)))),
        ("header exchanged", under(headed("x", json!(1)))),
        ("type exchanged", under(headed("typ", json!("JWT")))),
        ("crit", under(headed("crit", json!(["exp"])))),
        ("b64 false", under(headed("b64", json!(false)))),
        ("enc", under(headed("enc", json!("A256GCM")))),
        ("the risk exchanged", with_claims(&raised)),
        ("the way back left out", with_claims(&without)),
        ("two ways back", with_claims(&doubled)),
        ("claims empty", format!("{head}..{signature}")),
        ("claims no JSON", with_claims("{")),
        ("signature of another token", format!("{message}.{other_signature}")),
        ("signature of zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 256]))),
        ("ES256 of zeros", format!("{}.{body}.{}", text(&json!({"alg": "ES256", "kid": ec.id()})), URL_SAFE_NO_PAD.encode([0; 64]))),
        ("signature cut", good[..good.len() - 4].to_owned()),
        ("signature lengthened", format!("{good}AAAA")),
        ("signature with padding", format!("{good}==")),
        ("header with padding", format!("{head}=.{body}.{signature}")),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.a.b")),
        ("a dot at the end", format!("{good}.")),
        ("JSON serialization", json!({"protected": head, "payload": body, "signature": signature}).to_string()),
        ("a line feed within", format!("{head}\n.{body}.{signature}")),
        ("a zero byte after", format!("{good}\u{0}")),
        ("too long", format!("{good}{}", "A".repeat(TOKEN_BYTES_MAX + GROWTH_BYTES_MAX))),
        ("our assertion", WORLD.2.sign("risk-assertion+jwt", &json!({"sub": "a"})).unwrap()),
        ("the identity server's own", rs256(&claims)),
    ];
    assert!(forgeries.len() >= 50);
    let keys = ours();
    for (name, token) in forgeries {
        assert_eq!(keys.restored(&token), None, "{name}");
        assert_eq!(keys.authorization(&format!("Bearer {token}")), None, "{name}");
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("token", &token).finish();
        assert_eq!(keys.pairs(&form), None, "{name}");
        assert_eq!(keys.members(json!({ "assertion": token }).to_string().as_bytes()), None, "{name}");
    }
}

#[test]
fn tokens_return_in_every_place() {
    let token = rs256("{\"sub\":\"a\"}");
    let ours = member(
        &resigning()
            .answer(answer(&token).as_bytes(), &risk())
            .unwrap(),
        "access_token",
    );
    let keys = self::ours();
    for scheme in ["Bearer", "bearer", "DPoP"] {
        let value = keys.authorization(&format!("{scheme} {ours}"));
        assert_eq!(value, Some(format!("{scheme} {token}")));
    }
    assert_eq!(keys.authorization(&format!("Basic {ours}")), None);
    assert_eq!(keys.authorization(&format!("Bearer {token}")), None);
    assert_eq!(keys.authorization(&ours), None);
    for name in RETURNING {
        let form = format!("a=%20b&&{name}={ours}&{name}2={ours}&c");
        let expected = format!("a=%20b&&{name}={token}&{name}2={ours}&c");
        assert_eq!(keys.pairs(&form), Some(expected));
        let json = format!("{{\"a\": 1,\"{name}\" :\"{ours}\"}}");
        let expected = format!("{{\"a\": 1,\"{name}\" :\"{token}\"}}");
        assert_eq!(keys.members(json.as_bytes()), Some(expected));
    }
    // An escaped name or value is the same name and value.
    let escaped = format!("t%6fken={}", ours.replace('.', "%2E"));
    assert_eq!(keys.pairs(&escaped), Some(format!("t%6fken={token}")));
    assert_eq!(keys.pairs(&format!("code={ours}&token=x")), None);
    assert_eq!(keys.pairs(""), None);
    assert_eq!(keys.members(b"[]"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_way_back_is_exact(
        names in proptest::collection::btree_set("[a-z]{1,5}|\\PC{1,4}", 0..5),
        value in "\\PC{0,12}",
        space in "[ \t\n\r]{0,2}",
        number in any::<f64>(),
        scored in any::<bool>(),
        with_id_token in any::<bool>(),
        which in 0..3_usize,
    ) {
        let members: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let value = match place % 3 {
                    0 => serde_json::to_string(&value).unwrap(),
                    1 => json!({ "a": [number, null, &value] }).to_string(),
                    _ => format!("{space}-0.0e+1"),
                };
                let name = serde_json::to_string(name).unwrap();
                format!("{space}{name}{space}:{value}{space}")
            })
            .collect();
        let payload = format!("{space}{{{space}{}}}{space}", members.join(","));
        let algorithm = SigningAlgorithm::ALL[which];
        let token = issue(algorithm, json!({ "typ": "at+jwt", "x5t": "a", "other": [1] }), &payload);
        let hash = half_hash(algorithm, &token);
        let id_token = issue(algorithm, json!({}), &format!("{space}{{\"at_hash\"{space}:\"{hash}\",\"z\":{number:?}}}"));
        let id_token = if number.is_finite() && with_id_token { format!(",\"id_token\":\"{id_token}\"") } else { String::new() };
        let body = format!("{space}{{\"access_token\":\"{token}\"{id_token}}}{space}");
        let risk = if scored { risk() } else { RiskClaims::Unscored };
        let new = resigning().answer(body.as_bytes(), &risk).unwrap();
        let mut back = new.clone();
        for name in ["access_token", "id_token"] {
            let answer: Value = serde_json::from_str(&new).unwrap();
            if let Some(signed) = answer[name].as_str() {
                prop_assert!(is_ours(signed));
                back = back.replace(signed, &ours().restored(signed).unwrap());
            }
        }
        prop_assert_eq!(back, body);
    }

    #[test]
    fn hostile_tokens_do_no_harm(token in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        prop_assert_eq!(ours().restored(&token), None);
        prop_assert_eq!(ours().pairs(&format!("token={token}")), None);
        prop_assert_eq!(ours().members(&bytes), None);
        prop_assert!(resigning().answer(&bytes, &risk()).is_err());
    }
}
