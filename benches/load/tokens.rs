//! Access tokens of the users, as WSO2 would sign them, and the keys that verify them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::sync::LazyLock;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The issuer that the discovery document names.
pub(crate) const ISSUER: &str = "https://login.example.com/oauth2/token";
/// The service that the tokens are for.
pub(crate) const AUDIENCE: &str = "https://orders.example.com";

/// One token for each user, and the key set as JSON without its closing brace.
pub(crate) static ISSUED: LazyLock<Issued> = LazyLock::new(|| Issued::new(crate::traffic::USERS));

/// What the identity server has issued.
pub(crate) struct Issued {
    tokens: Vec<String>,
    /// `{"keys":[…]`.
    pub(crate) key_set: String,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issued {
    #[expect(
        clippy::expect_used,
        reason = "without keys there is nothing to measure"
    )]
    fn new(users: usize) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key");
        let public = pair.public_key();
        let key = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench_RS256",
            "n": b64(public.modulus().big_endian_without_leading_zero()),
            "e": b64(public.exponent().big_endian_without_leading_zero()),
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let header = b64(json!({
            "x5t": "MTBmZDhhNmJlYjkzMjE4YzE4", "kid": "bench_RS256", "typ": "at+jwt", "alg": "RS256",
        })
        .to_string());
        let token = |user: usize| {
            let claims = json!({
                "sub": format!("e204849c-4ec2-41f1-8ff7-{user:012}"), "aut": "APPLICATION_USER",
                "binding_type": "sso-session", "iss": ISSUER, "client_id": "loadBenchClient",
                "aud": ["loadBenchClient", AUDIENCE], "nbf": now, "azp": "loadBenchClient",
                "org_id": "10084a8d-113f-4211-a0d5-efe36b082211", "scope": "openid orders:read",
                "exp": now + 86_400, "org_name": "Super", "iat": now, "jti": format!("6c1b{user:08}"),
                "org_handle": "carbon.super",
            });
            let signed = format!("{header}.{}", b64(claims.to_string()));
            let mut bytes = vec![0; pair.public_modulus_len()];
            pair.sign(
                &signature::RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut bytes,
            )
            .expect("a signature");
            format!("{signed}.{}", b64(bytes))
        };
        Self {
            tokens: (0..users).map(token).collect(),
            key_set: format!(r#"{{"keys":[{key}]"#),
        }
    }

    /// The token of a user.
    pub(crate) fn of(&self, user: usize) -> &str {
        self.tokens.get(user).map_or("", String::as_str)
    }
}
