//! What a login that owes a stronger factor costs beside the extra connection: the verification of the ID token. Logins
//! that owe nothing run none of this.

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
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use riskgate::domain::front_channel::FrontChannel;
use riskgate::domain::id_token::Expected;
use riskgate::domain::id_token::IdToken;
use riskgate::domain::jwt::KeySet;
use riskgate::domain::time::Timestamp;
use serde_json::json;
use std::hint::black_box;

const ISSUER: &str = "https://login.example.com/oauth2/token";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn proof(bench: &mut Criterion) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = pair.public_key();
    let keys = json!({"keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k",
        "n": b64(public.modulus().big_endian_without_leading_zero()),
        "e": b64(public.exponent().big_endian_without_leading_zero()),
    }]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).expect("a key set");
    let claims = json!({
        "iss": ISSUER, "sub": "e204849c-4ec2-41f1-8ff7-ec1ebff02821", "aud": "demo-web", "azp": "demo-web",
        "iat": 1_770_000_000, "nbf": 1_770_000_000, "exp": 1_770_003_600, "auth_time": 1_769_999_990,
        "acr": "urn:riskgate:acr:mfa", "amr": ["BasicAuthenticator", "totp"], "nonce": "n-0S6",
        "sid": "c4e1", "isk": "4f1c", "org_name": "Super", "org_handle": "carbon.super",
    });
    let signed = format!(
        "{}.{}",
        b64(json!({"alg": "RS256", "kid": "k", "x5t": "k"}).to_string()),
        b64(claims.to_string())
    );
    let mut bytes = vec![0; pair.public_modulus_len()];
    pair.sign(
        &signature::RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut bytes,
    )
    .unwrap();
    let token = format!("{signed}.{}", b64(bytes));
    let expected = Expected {
        issuer: ISSUER,
        client_id: "demo-web",
        now: Timestamp(1_770_000_000_000),
    };
    assert!(IdToken::verify(&token, &keys, &expected).is_ok());
    bench.bench_function("verify an ID token (RS256, 2048 bits)", |run| {
        run.iter(|| IdToken::verify(black_box(&token), &keys, &expected));
    });
    let location = format!("https://app.example.com/cb#id_token={token}&state=s-1");
    bench.bench_function("read a redirect with an ID token", |run| {
        run.iter(|| FrontChannel::of_location(black_box(&location)));
    });
}

criterion_group!(benches, proof);
criterion_main!(benches);
