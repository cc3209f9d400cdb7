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

/// Keys that verify a good signature, and the same keys where their set says that they are for something else, or are
/// something else. The cases are those of Wycheproof's JSON Web Keys.
#[test]
#[rustfmt::skip] // A line per key is the point of the table.
fn a_key_verifies_what_its_publisher_says_and_nothing_else() {
    let with = |key: Value, name: &str, value: Value| {
        let mut key = key;
        key[name] = value;
        key
    };
    let ec = || OWN.ec_jwk("k");
    let rsa = || OWN.rsa_jwk("k", "RS256");
    let ed = || OWN.ed_jwk("k");
    let off_curve = || {
        let mut y = URL_SAFE_NO_PAD.decode(ec()["y"].as_str().unwrap()).unwrap();
        y[31] ^= 1;
        with(ec(), "y", json!(b64(y)))
    };
    let short = || {
        let modulus = URL_SAFE_NO_PAD.decode(rsa()["n"].as_str().unwrap()).unwrap();
        with(rsa(), "n", json!(b64(&modulus[..128])))
    };
    for (name, algorithm, key, taken) in [
        ("as published", "ES256", ec(), true),
        ("as published", "RS256", rsa(), true),
        ("as published", "EdDSA", ed(), true),
        ("to verify", "ES256", with(ec(), "key_ops", json!(["verify"])), true),
        ("to sign and verify", "RS256", with(rsa(), "key_ops", json!(["sign", "verify"])), true),
        ("an unknown member", "RS256", with(rsa(), "x", json!(1)), true),
        ("for encryption", "ES256", with(ec(), "use", json!("enc")), false),
        ("for encryption", "RS256", with(rsa(), "use", json!("enc")), false),
        ("for another use", "RS256", with(rsa(), "use", json!("other")), false),
        ("to encrypt", "ES256", with(ec(), "key_ops", json!(["encrypt"])), false),
        ("to encrypt", "RS256", with(rsa(), "key_ops", json!(["encrypt"])), false),
        ("to sign alone", "EdDSA", with(ed(), "key_ops", json!(["sign"])), false),
        ("for nothing", "RS256", with(rsa(), "key_ops", json!([])), false),
        ("of another curve", "ES256", with(ec(), "crv", json!("P-384")), false),
        ("of another curve", "ES256", with(ec(), "crv", json!("P-521")), false),
        ("of another curve", "ES256", with(ec(), "crv", json!("secp256k1")), false),
        ("of another curve", "ES256", with(ec(), "crv", json!("Ed25519")), false),
        ("of another curve", "EdDSA", with(ed(), "crv", json!("X25519")), false),
        ("of another curve", "EdDSA", with(ed(), "crv", json!("P-256")), false),
        ("of another kind", "ES256", with(ec(), "kty", json!("RSA")), false),
        ("of another kind", "ES256", with(ec(), "kty", json!("OKP")), false),
        ("of another kind", "RS256", with(rsa(), "kty", json!("EC")), false),
        ("a secret", "RS256", json!({"kty": "oct", "kid": "k", "k": rsa()["n"]}), false),
        ("for another algorithm", "ES256", with(ec(), "alg", json!("ES384")), false),
        ("for an algorithm that is none", "ES256", with(ec(), "alg", json!("ES521")), false),
        ("for an algorithm that is none", "ES256", with(ec(), "alg", json!("ES224")), false),
        ("for another algorithm", "RS256", with(rsa(), "alg", json!("PS256")), false),
        ("for a shared secret", "RS256", with(rsa(), "alg", json!("HS256")), false),
        ("off its curve", "ES256", off_curve(), false),
        ("without a coordinate", "ES256", with(ec(), "y", json!("")), false),
        ("of 1,024 bits", "RS256", short(), false),
        ("without an exponent", "RS256", with(rsa(), "e", json!("")), false),
        ("of another id", "RS256", with(rsa(), "kid", json!("other")), false),
    ] {
        let keys = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes());
        let token = token(&OWN, algorithm, &json!({"alg": algorithm, "kid": "k"}), &json!({}));
        let found = keys.is_ok_and(|keys| signed(&token, TokenKind::Id, &keys).is_ok());
        assert_eq!(found, taken, "{algorithm} {name}");
    }
}

/// The moduli of a faulty library (CVE-2017-15361) are powers of 65537 modulo many primes; a power of it is one modulo all.
#[test]
fn a_modulus_whose_factors_can_be_found_is_no_key() {
    let mut power = vec![1_u8];
    while power.len() < 256 {
        // Times 65537, the lowest byte first.
        let mut next = vec![0_u8; 2];
        next.extend(&power);
        let mut carry = 0_u16;
        for (at, byte) in next.iter_mut().enumerate() {
            let sum = u16::from(*byte) + u16::from(*power.get(at).unwrap_or(&0)) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        power = next;
        power.extend((carry > 0).then(|| carry.to_le_bytes()[0]));
        while power.last() == Some(&0) {
            power.pop();
        }
    }
    let parse = |modulus: &[u8]| {
        let key = json!({"kty": "RSA", "n": b64(modulus), "e": "AQAB"});
        KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).err()
    };
    power.reverse();
    assert_eq!(parse(&power), Some(KeySetError::Unusable));
    // Any other is one.
    *power.last_mut().unwrap() ^= 2;
    assert_eq!(parse(&power), None);
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
