//! Tokens for tests: good ones, and what those who have no key make of them.

use crate::domain::jwt::KeySet;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use std::sync::LazyLock;

/// The identity server's keys.
pub(in crate::domain) static OWN: LazyLock<Signers> = LazyLock::new(Signers::generate);
/// Somebody else's.
pub(in crate::domain) static FOREIGN: LazyLock<Signers> = LazyLock::new(Signers::generate);

/// The secret that stands in the key set of [`key_set`].
pub(in crate::domain) const SHARED: &str = "a shared secret of thirty-two byte";

/// A key pair of each kind.
pub(in crate::domain) struct Signers {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

/// Base64url.
pub(in crate::domain) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signers {
    fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// The RSA key as it is published.
    pub(in crate::domain) fn rsa_jwk(&self, id: &str, algorithm: &str) -> Value {
        let public = self.rsa.public_key();
        json!({
            "kty": "RSA", "use": "sig", "alg": algorithm, "kid": id,
            "n": b64(public.modulus().big_endian_without_leading_zero()),
            "e": b64(public.exponent().big_endian_without_leading_zero()),
        })
    }

    /// The RSA key in DER.
    pub(in crate::domain) fn rsa_der(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    /// The key on P-256 as it is published.
    pub(in crate::domain) fn ec_jwk(&self, id: &str) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": id,
            "x": b64(&point[1..33]), "y": b64(&point[33..65]),
        })
    }

    /// The Ed25519 key as it is published.
    pub(in crate::domain) fn ed_jwk(&self, id: &str) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": b64(self.ed.public_key().as_ref()) })
    }

    /// A signature.
    pub(in crate::domain) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding| {
            let mut bytes = vec![0; self.rsa.public_modulus_len()];
            self.rsa
                .sign(padding, &random, message, &mut bytes)
                .unwrap();
            bytes
        };
        match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("{other}"),
        }
    }
}

/// What the identity server publishes: `rsa_RS256`, `rsa_PS256`, `ec`, `ed`, and keys that verify nothing.
pub(in crate::domain) fn key_set() -> KeySet {
    let keys = json!({"keys": [
        OWN.rsa_jwk("rsa_RS256", "RS256"),
        OWN.rsa_jwk("rsa_PS256", "PS256"),
        OWN.ec_jwk("ec"),
        OWN.ed_jwk("ed"),
        {"kty": "oct", "kid": "shared", "alg": "HS256", "k": b64(SHARED)},
        {"kty": "RSA", "use": "enc", "kid": "enc", "n": OWN.rsa_jwk("", "")["n"], "e": "AQAB"},
        {"kty": "unheard-of", "kid": "odd"},
    ]});
    KeySet::parse(keys.to_string().as_bytes()).unwrap()
}

/// A token of these parts, signed.
pub(in crate::domain) fn token(
    signers: &Signers,
    algorithm: &str,
    header: &Value,
    claims: &Value,
) -> String {
    raw(signers, algorithm, &header.to_string(), &claims.to_string())
}

/// A token of these texts, signed.
pub(in crate::domain) fn raw(
    signers: &Signers,
    algorithm: &str,
    header: &str,
    claims: &str,
) -> String {
    let signed = format!("{}.{}", b64(header), b64(claims));
    let signature = signers.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

/// A token of these parts with an HMAC-SHA-256, with whatever key.
pub(in crate::domain) fn hmac(key: &[u8], header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", b64(tag))
}
