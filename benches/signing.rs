//! What a token answer costs that is signed anew, and what its token costs when it returns, for each algorithm. Answers and
//! requests without such tokens run none of this.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench ends at the first surprise; its macros make undocumented items"
)]

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use riskgate::domain::jwt::KeySet;
use riskgate::domain::policy::reason::Reason;
use riskgate::domain::resign::Ours;
use riskgate::domain::resign::Resigning;
use riskgate::domain::resign::origin::OriginSeal;
use riskgate::domain::risk::RiskLevel;
use riskgate::domain::risk_claims::RiskClaims;
use riskgate::domain::signing::Ring;
use riskgate::domain::signing::SigningAlgorithm;
use riskgate::domain::signing::SigningKey;
use riskgate::domain::signing::SigningKeys;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::hint::black_box;

fn der(algorithm: SigningAlgorithm) -> Vec<u8> {
    match algorithm {
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            pair.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
        SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            pair.as_der().unwrap().as_ref().to_vec()
        }
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().unwrap();
            pair.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
    }
}

fn keys() -> SigningKeys {
    let ring = |algorithm| Ring {
        current: SigningKey::from_pkcs8(algorithm, &der(algorithm)).unwrap(),
        next: None,
        previous: None,
    };
    let rings = SigningAlgorithm::ALL.map(ring).into_iter().collect();
    SigningKeys::new(SigningAlgorithm::Es256, rings).unwrap()
}

fn signing(bench: &mut Criterion) {
    let (theirs, keys) = (keys(), keys());
    let published = KeySet::parse(theirs.document().as_bytes()).unwrap();
    let seal = OriginSeal::new(b"a secret of a bench");
    let ours = Ours {
        keys: &keys,
        seal: &seal,
    };
    let risk = RiskClaims::Scored {
        score: 47,
        level: RiskLevel::Medium,
        reasons: vec![Reason::UnfamiliarDevice, Reason::RiskMedium],
    };
    // As large as WSO2's.
    let payload = json!({
        "sub": "81a8d4bc-3b3a-4c5f-8d3f-2d2f6f0f6a70", "aut": "APPLICATION_USER", "iss": "https://login.example.com/oauth2/token",
        "client_id": "demo-web", "aud": "demo-web", "nbf": 1_700_000_000, "azp": "demo-web", "org_id": "10084a8d-113f-4211-a0d5-efe36b082211",
        "scope": "openid profile email", "exp": 1_700_003_600, "org_name": "Super", "iat": 1_700_000_000,
        "jti": "3c1dd2a5-9c6b-4dd4-9d5f-9a9d5c3c2f3e", "binding_type": "sso-session",
    });
    for algorithm in SigningAlgorithm::ALL {
        let resigning = Resigning {
            theirs: &published,
            ours,
            algorithm: None,
            nonces: [[1; 24], [2; 24]],
        };
        let header = Map::from_iter([("typ".to_owned(), Value::from("at+jwt"))]);
        let key = theirs.current(algorithm).unwrap();
        let token = key.seal(header, payload.to_string().as_bytes()).unwrap();
        let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 })
            .to_string();
        let answer = resigning.answer(body.as_bytes(), &risk).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let new = answer.get("access_token").and_then(Value::as_str);
        let new = new.unwrap().to_owned();
        let name = algorithm.as_str();
        println!(
            "{name}: a token of {} bytes has {} afterwards",
            token.len(),
            new.len()
        );
        bench.bench_function(&format!("answer signed anew, {name}"), |bench| {
            bench.iter(|| black_box(resigning.answer(black_box(body.as_bytes()), &risk).unwrap()));
        });
        bench.bench_function(&format!("token had back, {name}"), |bench| {
            bench.iter(|| black_box(ours.restored(black_box(&new)).unwrap()));
        });
        let bearer = format!("Bearer {token}");
        bench.bench_function(&format!("token of WSO2 passed, {name}"), |bench| {
            bench.iter(|| black_box(ours.authorization(black_box(&bearer))));
        });
    }
}

criterion_group!(benches, signing);
criterion_main!(benches);
