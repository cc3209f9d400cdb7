//! What an API route costs beside passing on: the verification of an access token, the look-up of one that was verified
//! before, and a signed assertion.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench ends at the first surprise; its macros make undocumented items"
)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use riskgate::domain::access_token;
use riskgate::domain::access_token::AccessToken;
use riskgate::domain::ids::Pseudonym;
use riskgate::domain::ids::RequestId;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::jwt::KeySet;
use riskgate::domain::jwt::RealmKeys;
use riskgate::domain::policy::reason::Reason;
use riskgate::domain::resource::ASSERTION_TYPE;
use riskgate::domain::resource::Assertion;
use riskgate::domain::resource::OnUnscored;
use riskgate::domain::resource::Resource;
use riskgate::domain::risk::RiskLevel;
use riskgate::domain::risk_claims::RiskClaims;
use riskgate::domain::signing::Ring;
use riskgate::domain::signing::SigningAlgorithm;
use riskgate::domain::signing::SigningKey;
use riskgate::domain::signing::SigningKeys;
use riskgate::domain::time::Timestamp;
use riskgate::flow::resource::tokens::Verified;
use riskgate::flow::resource::tokens::VerifiedTokens;
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;

const ISSUER: &str = "https://login.example.com/oauth2/token";
const AUDIENCE: &str = "https://orders.example.com";
const NOW: Timestamp = Timestamp(1_770_000_000_000);

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token as WSO2 signs it, and the key that verifies it.
fn issued() -> (String, Arc<RealmKeys>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let keys = json!({"keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k",
        "n": b64(public.modulus().big_endian_without_leading_zero()),
        "e": b64(public.exponent().big_endian_without_leading_zero()),
    }]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).expect("a key set");
    let claims = json!({
        "sub": "e204849c-4ec2-41f1-8ff7-ec1ebff02821", "aut": "APPLICATION_USER", "iss": ISSUER,
        "client_id": "1u31N7of6gCNR9FqkG1neSlsF_Qa", "aud": ["1u31N7of6gCNR9FqkG1neSlsF_Qa", AUDIENCE],
        "nbf": 1_770_000_000, "azp": "1u31N7of6gCNR9FqkG1neSlsF_Qa", "scope": "openid orders:read",
        "exp": 1_770_003_600, "iat": 1_770_000_000, "jti": "6c1b1f5e-0f5e-4f0a-9d5e-3f1d2a5b7c11",
        "org_id": "10084a8d-113f-4211-a0d5-efe36b082211", "org_name": "Super", "org_handle": "carbon.super",
    });
    let header = json!({"x5t": "MTBm", "kid": "k", "typ": "at+jwt", "alg": "RS256"});
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let mut bytes = vec![0; pair.public_modulus_len()];
    let padding = &signature::RSA_PKCS1_SHA256;
    pair.sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut bytes)
        .unwrap();
    let keys = RealmKeys {
        issuer: Some(ISSUER.to_owned()),
        keys,
    };
    (format!("{signed}.{}", b64(bytes)), Arc::new(keys))
}

fn signing(algorithm: SigningAlgorithm) -> SigningKeys {
    let random = SystemRandom::new();
    let document = if algorithm == SigningAlgorithm::Es256 {
        let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::generate_pkcs8(kind, &random)
    } else {
        Ed25519KeyPair::generate_pkcs8(&random)
    };
    let ring = Ring {
        current: SigningKey::from_pkcs8(algorithm, document.unwrap().as_ref()).unwrap(),
        next: None,
        previous: None,
    };
    SigningKeys::new(algorithm, vec![ring]).unwrap()
}

fn assertion(bench: &mut Criterion) {
    let (token, keys) = issued();
    bench.bench_function("verify an access token (RS256, 2048 bits)", |run| {
        run.iter(|| AccessToken::authentic(black_box(&token), &keys.keys));
    });
    let tokens = VerifiedTokens::default();
    let verified = Verified {
        token: AccessToken::authentic(&token, &keys.keys).unwrap(),
        keys: Arc::clone(&keys),
        links: Vec::new(),
        client: SubjectKey(Pseudonym::from_bytes([7; 16])),
    };
    tokens.insert(access_token::digest(&token), Arc::new(verified));
    bench.bench_function(
        "find an access token that was verified, and check it",
        |run| {
            run.iter(|| {
                let digest = access_token::digest(black_box(&token));
                let found = tokens.find(&digest).unwrap();
                assert!(found.is_by(&keys));
                found.token.check(ISSUER, NOW).unwrap();
                found
            });
        },
    );
    let resource = Resource {
        prefix: "/orders".to_owned(),
        upstream: Arc::from("/orders https://orders.internal:8443"),
        realm: String::new(),
        tenant: "carbon.super".to_owned(),
        token_issuer: None,
        audience: AUDIENCE.to_owned(),
        issuer: "riskgate".to_owned(),
        token_audiences: vec![AUDIENCE.to_owned()],
        scopes: Vec::new(),
        max_level: RiskLevel::Medium,
        on_unscored: OnUnscored::Allow,
        introspection: None,
    };
    let id = RequestId::new("01890a5d-ac96-774b-bcce-b302099a8057".to_owned());
    let risk = RiskClaims::Scored {
        score: 63,
        level: RiskLevel::Medium,
        reasons: vec![Reason::UnfamiliarDevice, Reason::UnfamiliarNetwork],
    };
    let asserted = Assertion {
        resource: &resource,
        subject: "e204849c-4ec2-41f1-8ff7-ec1ebff02821",
        client_id: "1u31N7of6gCNR9FqkG1neSlsF_Qa",
        token_hash: "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
        id: &id,
        decision: Some(&id),
        risk: Some(&risk),
        status: "scored",
        now: NOW,
    };
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
        let keys = signing(algorithm);
        let name = format!("make and sign an assertion ({})", algorithm.as_str());
        bench.bench_function(&name, |run| {
            run.iter(|| keys.sign(ASSERTION_TYPE, &black_box(&asserted).claims()));
        });
    }
}

criterion_group!(benches, assertion);
criterion_main!(benches);
