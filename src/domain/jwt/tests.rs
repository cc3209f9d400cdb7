//! Signatures against the vectors of Project Wycheproof, and what may stand in a key set.

use super::*;
use crate::domain::jwt::forge::OWN;
use crate::domain::jwt::forge::b64;
use crate::domain::jwt::forge::key_set;
use crate::domain::jwt::forge::token;
use serde_json::Value;
use serde_json::json;
use wycheproof::ecdsa;
use wycheproof::eddsa;
use wycheproof::rsa_pkcs1_verify as pkcs1;
use wycheproof::rsa_pss_verify as pss;

/// How many vectors were tried, and how many of them are good.
#[derive(Debug, Default, Eq, PartialEq)]
struct Tally {
    tried: usize,
    good: usize,
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// An integer without zeros at its front, or `width` bytes of it.
fn integer(text: &Value, width: usize) -> String {
    let bytes = hex(text);
    let short: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let zeros = width.saturating_sub(short.len());
    b64([vec![0; zeros], short].concat())
}

/// The key of a group of vectors as an identity server would publish it.
fn published(group: &Value) -> KeySet {
    let key = &group["publicKey"];
    let jwk = if key["modulus"].is_string() {
        json!({"kty": "RSA", "n": integer(&key["modulus"], 0), "e": integer(&key["publicExponent"], 0)})
    } else if key["wx"].is_string() {
        let (curve, width) = match key["curve"].as_str().unwrap() {
            "secp256r1" => ("P-256", 32),
            "secp384r1" => ("P-384", 48),
            other => panic!("{other}"),
        };
        json!({
            "kty": "EC", "crv": curve, "x": integer(&key["wx"], width), "y": integer(&key["wy"], width),
        })
    } else {
        json!({"kty": "OKP", "crv": "Ed25519", "x": b64(hex(&key["pk"]))})
    };
    KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap()
}

/// Every vector of a set gets the verdict that it names.
fn agree(set: &str, algorithm: Algorithm) -> Tally {
    let set: Value = serde_json::from_str(set).unwrap();
    let mut tally = Tally::default();
    for group in set["testGroups"].as_array().unwrap() {
        let keys = published(group);
        let key = keys.find(None, algorithm).next().unwrap();
        for vector in group["tests"].as_array().unwrap() {
            let signature = b64(hex(&vector["sig"]));
            let found = is_signed(&hex(&vector["msg"]), &signature, key, algorithm);
            tally.tried += 1;
            tally.good += usize::from(found);
            match vector["result"].as_str().unwrap() {
                "valid" => assert!(found, "{algorithm:?}: {vector}"),
                "invalid" => assert!(!found, "{algorithm:?}: {vector}"),
                // Good by the mathematics, bad by the letter: either is right.
                "acceptable" => {}
                other => panic!("{other}"),
            }
        }
    }
    tally
}

#[test]
fn signatures_get_the_verdicts_of_wycheproof() {
    use Algorithm::ES256;
    use Algorithm::ES384;
    use Algorithm::EdDSA;
    use Algorithm::PS256;
    use Algorithm::PS384;
    use Algorithm::PS512;
    use Algorithm::RS256;
    use Algorithm::RS384;
    use Algorithm::RS512;
    let sets = [
        (pkcs1::TestName::Rsa2048Sha256.json_data(), RS256),
        (pkcs1::TestName::Rsa3072Sha256.json_data(), RS256),
        (pkcs1::TestName::Rsa4096Sha256.json_data(), RS256),
        (pkcs1::TestName::Rsa2048Sha384.json_data(), RS384),
        (pkcs1::TestName::Rsa3072Sha384.json_data(), RS384),
        (pkcs1::TestName::Rsa2048Sha512.json_data(), RS512),
        (pkcs1::TestName::Rsa4096Sha512.json_data(), RS512),
        (
            pss::TestName::RsaPss2048Sha256Mgf1SaltLen32.json_data(),
            PS256,
        ),
        (
            pss::TestName::RsaPss3072Sha256Mgf1SaltLen32.json_data(),
            PS256,
        ),
        (
            pss::TestName::RsaPss2048Sha384Mgf1SaltLen48.json_data(),
            PS384,
        ),
        (
            pss::TestName::RsaPss4096Sha512Mgf1SaltLen64.json_data(),
            PS512,
        ),
        // A JWS has the signature as two integers of fixed length, not as DER (RFC 7518 section 3.4).
        (
            ecdsa::TestName::EcdsaSecp256r1Sha256P1363.json_data(),
            ES256,
        ),
        (
            ecdsa::TestName::EcdsaSecp384r1Sha384P1363.json_data(),
            ES384,
        ),
        (eddsa::TestName::Ed25519.json_data(), EdDSA),
    ];
    let mut all = Tally::default();
    for (set, algorithm) in sets {
        let tally = agree(set, algorithm);
        assert!(
            tally.good > 0 && tally.good < tally.tried,
            "{algorithm:?}: {tally:?}"
        );
        all.tried += tally.tried;
        all.good += tally.good;
    }
    assert!(all.tried > 2000, "{all:?}");
}

/// Signatures that are good in some other form or by some other rule than that of a JWS.
#[test]
fn what_another_algorithm_would_take_is_refused() {
    let others = [
        // A salt that is not as long as the hash (RFC 7518 section 3.5), and another hash within the padding.
        (
            pss::TestName::RsaPss2048Sha256Mgf1SaltLen0.json_data(),
            Algorithm::PS256,
        ),
        (
            pss::TestName::RsaPss2048Sha256Mgf1Sha1_20.json_data(),
            Algorithm::PS256,
        ),
        // PKCS #1 where PSS is named, and the other way round.
        (pkcs1::TestName::Rsa2048Sha256.json_data(), Algorithm::PS256),
        (
            pss::TestName::RsaPss2048Sha256Mgf1SaltLen32.json_data(),
            Algorithm::RS256,
        ),
        // Another hash.
        (pkcs1::TestName::Rsa2048Sha512.json_data(), Algorithm::RS256),
        // DER.
        (
            ecdsa::TestName::EcdsaSecp256r1Sha256.json_data(),
            Algorithm::ES256,
        ),
    ];
    for (set, algorithm) in others {
        let set: Value = serde_json::from_str(set).unwrap();
        for group in set["testGroups"].as_array().unwrap() {
            let keys = published(group);
            let key = keys.find(None, algorithm).next().unwrap();
            let tests = group["tests"].as_array().unwrap().iter();
            for vector in tests.filter(|vector| vector["result"] == "valid") {
                let signature = b64(hex(&vector["sig"]));
                let found = is_signed(&hex(&vector["msg"]), &signature, key, algorithm);
                assert!(!found, "{algorithm:?}: {vector}");
            }
        }
    }
}

#[test]
fn key_sets_are_bounded_and_must_be_usable() {
    let parse = |value: Value| KeySet::parse(value.to_string().as_bytes()).err();
    assert_eq!(parse(json!({"keys": []})), Some(KeySetError::Unusable));
    assert_eq!(
        parse(json!({"keys": [{"kty": "oct", "k": "AAAA"}]})),
        Some(KeySetError::Unusable)
    );
    assert_eq!(parse(json!([])), Some(KeySetError::Malformed));
    assert_eq!(parse(json!({"keys": "x"})), Some(KeySetError::Malformed));
    let many: Vec<Value> = (0..=keys::KEYS_MAX).map(|_| OWN.ec_jwk("ec")).collect();
    assert_eq!(parse(json!({ "keys": many })), Some(KeySetError::Large));
    let long = vec![b' '; keys::DOCUMENT_BYTES_MAX + 1];
    assert_eq!(KeySet::parse(&long).err(), Some(KeySetError::Large));
}

#[test]
fn the_header_tells_whether_a_key_is_known() {
    let header = |kid: &str| {
        UnverifiedHeader::read(
            &token(
                &OWN,
                "RS256",
                &json!({"alg": "RS256", "kid": kid}),
                &json!({}),
            ),
            TokenKind::Id,
        )
        .unwrap()
    };
    assert!(header("rsa_RS256").is_known_to(&key_set()));
    assert!(!header("new").is_known_to(&key_set()));
}
