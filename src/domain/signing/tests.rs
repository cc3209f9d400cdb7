//! Keys of every algorithm: what they sign, what they refuse to be, what is published of them.

use super::*;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;

fn der(algorithm: SigningAlgorithm) -> Vec<u8> {
    match algorithm {
        SigningAlgorithm::Es256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            key.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
        SigningAlgorithm::Rs256 => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            key.as_der().unwrap().as_ref().to_vec()
        }
        SigningAlgorithm::EdDsa => {
            let key = Ed25519KeyPair::generate().unwrap();
            key.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
    }
}

fn key(algorithm: SigningAlgorithm) -> SigningKey {
    SigningKey::from_pkcs8(algorithm, &der(algorithm)).unwrap()
}

/// A key that signs and the next one.
pub(in crate::domain) fn ring(algorithm: SigningAlgorithm) -> Ring {
    Ring {
        current: key(algorithm),
        next: Some(key(algorithm)),
        previous: None,
    }
}

/// Keys of every algorithm.
pub(in crate::domain) fn keys() -> SigningKeys {
    let rings = SigningAlgorithm::ALL.map(ring).into_iter().collect();
    SigningKeys::new(SigningAlgorithm::Es256, rings).unwrap()
}

#[test]
fn the_id_is_the_thumbprint_of_the_public_key() {
    // The Ed25519 key and its thumbprint of RFC 8037, appendices A.1 and A.3, in PKCS#8 (RFC 8410 section 7).
    let seed = URL_SAFE_NO_PAD
        .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
        .unwrap();
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    der.extend(seed);
    let key = SigningKey::from_pkcs8(SigningAlgorithm::EdDsa, &der).unwrap();
    assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(
        key.public["x"],
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    );
    // The signature of appendix A.4: Ed25519 draws nothing.
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    assert!(key.verifies(
        signed,
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    ));
    assert_eq!(
        URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).unwrap()),
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn every_algorithm_signs_and_verifies() {
    for algorithm in SigningAlgorithm::ALL {
        assert_eq!(SigningAlgorithm::named(algorithm.as_str()), Some(algorithm));
        let keys = SigningKeys::new(algorithm, vec![ring(algorithm)]).unwrap();
        let token = keys.sign("risk+jwt", &json!({ "a": 1 })).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let header = URL_SAFE_NO_PAD.decode(token.split_once('.').unwrap().0);
        let header: Value = serde_json::from_slice(&header.unwrap()).unwrap();
        let id = header["kid"].as_str().unwrap();
        assert_eq!(
            header,
            json!({ "alg": algorithm.as_str(), "kid": id, "typ": "risk+jwt" })
        );
        let verifier = keys.verifier(id, algorithm).unwrap();
        assert!(verifier.verifies(message, signature));
        assert!(!verifier.verifies(&format!("{message}x"), signature));
        // The next key is known and has signed nothing.
        let next = keys.rings[0].next.as_ref().unwrap();
        assert!(keys.verifier(next.id(), algorithm).is_some());
        assert!(!next.verifies(message, signature));
        for other in SigningAlgorithm::ALL {
            assert_eq!(keys.verifier(id, other).is_some(), other == algorithm);
        }
    }
    assert_eq!(SigningAlgorithm::named("HS256"), None);
    assert_eq!(SigningAlgorithm::named("es256"), None);
}

#[test]
fn only_public_parts_are_published_and_printed() {
    let keys = keys();
    let published = keys.jwks()["keys"].as_array().unwrap();
    assert_eq!(published.len(), 6);
    for key in published {
        let mut names: Vec<&str> = key
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        let expected: &[&str] = match key["kty"].as_str().unwrap() {
            "EC" => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            "RSA" => &["alg", "e", "kid", "kty", "n", "use"],
            _ => &["alg", "crv", "kid", "kty", "use", "x"],
        };
        assert_eq!(names, expected);
    }
    assert_eq!(
        serde_json::from_str::<Value>(keys.document()).unwrap(),
        *keys.jwks()
    );
    let printed = format!("{keys:?}");
    assert!(!printed.contains("Pair"), "{printed}");
}

#[test]
fn a_key_in_two_places_is_published_once() {
    let der = der(SigningAlgorithm::Es256);
    let same = || SigningKey::from_pkcs8(SigningAlgorithm::Es256, &der).unwrap();
    let ring = Ring {
        current: same(),
        next: Some(same()),
        previous: Some(same()),
    };
    let keys = SigningKeys::new(SigningAlgorithm::Es256, vec![ring]).unwrap();
    assert_eq!(keys.jwks()["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let p384 = p384.to_pkcs8v1().unwrap();
    let es256 = SigningAlgorithm::Es256;
    let error = SigningKey::from_pkcs8(es256, p384.as_ref()).unwrap_err();
    assert_eq!(error, SigningKeyError::Algorithm(es256));
    for algorithm in SigningAlgorithm::ALL {
        let der = der(algorithm);
        for other in SigningAlgorithm::ALL {
            let is_read = SigningKey::from_pkcs8(other, &der).is_ok();
            assert_eq!(is_read, other == algorithm, "{algorithm:?} as {other:?}");
        }
        assert!(SigningKey::from_pkcs8(algorithm, &der[..der.len() - 1]).is_err());
        assert!(SigningKey::from_pkcs8(algorithm, b"").is_err());
    }
    let error = SigningKeys::new(SigningAlgorithm::EdDsa, vec![ring(es256)]).unwrap_err();
    assert_eq!(error, SigningKeyError::Missing(SigningAlgorithm::EdDsa));
}
