//! The gateway's own keys for signing tokens and assertions: which of them signs, which verify, and how they are published
//! (RFC 7515, RFC 7517). A key's id is its thumbprint (RFC 7638), so that the same key has the same id on every node.
//!
//! Where the keys are kept is not known here, and no error or print carries a private part. A signature with ECDSA draws
//! its nonce inside the library; that is the only chance in this layer.

/// What is published with the keys.
pub mod published;

use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

/// With what the gateway signs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq)]
pub enum SigningAlgorithm {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// One key pair.
pub struct SigningKey {
    algorithm: SigningAlgorithm,
    id: String,
    public: Value,
    pair: Pair,
    verifier: DecodingKey,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ed(Ed25519KeyPair),
}

/// The keys of one algorithm. All of them verify and are published; the current one signs.
#[derive(Debug)]
pub struct Ring {
    /// The key that signs.
    pub current: SigningKey,
    /// The key that signs after the next rotation: published before it is used, so that nobody who keeps a key set for
    /// a while meets a key that he does not know.
    pub next: Option<SigningKey>,
    /// The key that signed before the last rotation: what it has signed is still about.
    pub previous: Option<SigningKey>,
}

/// The keys of a deployment.
#[derive(Debug)]
pub struct SigningKeys {
    algorithm: SigningAlgorithm,
    rings: Vec<Ring>,
    published: Value,
    document: String,
}

/// Why a key or a set of keys cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigningKeyError {
    /// Not a PKCS#8 key of this algorithm: of another kind, another curve, or shorter than 2,048 bits.
    #[error("not a private key for {}", .0.as_str())]
    Algorithm(SigningAlgorithm),
    /// There is no key for the algorithm that signs.
    #[error("there is no key for {}", .0.as_str())]
    Missing(SigningAlgorithm),
}

/// The library could not sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nothing could be signed with the {} key", .0.as_str())]
pub struct SignError(SigningAlgorithm);

impl SigningAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Es256, Self::Rs256, Self::EdDsa];

    /// The name in a token's header (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    fn registered(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl SigningKey {
    /// A private key in PKCS#8, DER.
    ///
    /// # Errors
    /// It is none for this algorithm.
    pub fn from_pkcs8(algorithm: SigningAlgorithm, der: &[u8]) -> Result<Self, SigningKeyError> {
        let unfit = SigningKeyError::Algorithm(algorithm);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // The members that the thumbprint is made of, in the order of their names (RFC 7638 section 3.2).
        let (pair, mut public) = match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                    .map_err(|_| unfit)?;
                // Uncompressed (SEC 1 section 2.3.3): 4, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) = (point.get(1..33), point.get(33..65));
                let (x, y) = (x.ok_or(unfit)?, y.ok_or(unfit)?);
                let public = json!({ "crv": "P-256", "kty": "EC", "x": text(x), "y": text(y) });
                (Pair::Ec(pair), public)
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| unfit)?;
                let key = pair.public_key();
                let exponent = text(key.exponent().big_endian_without_leading_zero());
                let modulus = text(key.modulus().big_endian_without_leading_zero());
                let public = json!({ "e": exponent, "kty": "RSA", "n": modulus });
                (Pair::Rsa(Box::new(pair)), public)
            }
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| unfit)?;
                let key = text(pair.public_key().as_ref());
                let public = json!({ "crv": "Ed25519", "kty": "OKP", "x": key });
                (Pair::Ed(pair), public)
            }
        };
        let id = text(&Sha256::digest(public.to_string()));
        let verifier = serde_json::from_value(public.clone())
            .ok()
            .and_then(|jwk| DecodingKey::from_jwk(&jwk).ok())
            .ok_or(unfit)?;
        if let Some(members) = public.as_object_mut() {
            members.insert("alg".to_owned(), algorithm.as_str().into());
            members.insert("kid".to_owned(), id.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        Ok(Self {
            algorithm,
            id,
            public,
            pair,
            verifier,
        })
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Its id: the thumbprint.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Signs a payload under a header, whose `alg` and `kid` become those of the key. The payload is taken byte for byte.
    ///
    /// # Errors
    /// The library fails.
    pub fn seal(
        &self,
        mut header: Map<String, Value>,
        payload: &[u8],
    ) -> Result<String, SignError> {
        header.insert("alg".to_owned(), self.algorithm.as_str().into());
        header.insert("kid".to_owned(), self.id.as_str().into());
        let mut token = URL_SAFE_NO_PAD.encode(Value::Object(header).to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed = |_| SignError(self.algorithm);
        match &self.pair {
            Pair::Ec(pair) => {
                let signature = pair
                    .sign_digest(&digest(&SHA256, message))
                    .map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, &digest(&SHA256, message), &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Pair::Ed(pair) => {
                let signature = pair.try_sign(message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    /// Whether `signature`, in Base64url, over `message` is by this key.
    pub fn verifies(&self, message: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.registered();
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.verifier, algorithm)
            .unwrap_or(false)
    }
}

impl SigningKeys {
    /// Keys of which `algorithm` signs where nothing else is said.
    ///
    /// # Errors
    /// There is no key for it.
    pub fn new(algorithm: SigningAlgorithm, rings: Vec<Ring>) -> Result<Self, SigningKeyError> {
        if !rings.iter().any(|ring| ring.algorithm() == algorithm) {
            return Err(SigningKeyError::Missing(algorithm));
        }
        let mut keys: Vec<&SigningKey> = Vec::new();
        for key in rings.iter().flat_map(Ring::keys) {
            // A rotation that was broken off leaves one key in two places.
            if keys.iter().all(|known| known.id != key.id) {
                keys.push(key);
            }
        }
        let published: Vec<&Value> = keys.iter().map(|key| &key.public).collect();
        let published = json!({ "keys": published });
        let document = published.to_string();
        Ok(Self {
            algorithm,
            rings,
            published,
            document,
        })
    }

    /// The key that signs where nothing else is said.
    ///
    /// # Errors
    /// There is none, which [`SigningKeys::new`] rules out.
    pub fn default_key(&self) -> Result<&SigningKey, SignError> {
        self.current(self.algorithm)
            .ok_or(SignError(self.algorithm))
    }

    /// The key that signs with `algorithm`.
    pub fn current(&self, algorithm: SigningAlgorithm) -> Option<&SigningKey> {
        let mut rings = self.rings.iter();
        rings
            .find(|ring| ring.algorithm() == algorithm)
            .map(|ring| &ring.current)
    }

    /// Signs claims. `kind` becomes the `typ` of the header (RFC 7515 section 4.1.9).
    ///
    /// # Errors
    /// The library fails.
    pub fn sign(&self, kind: &str, claims: &impl Serialize) -> Result<String, SignError> {
        let payload = serde_json::to_vec(claims).map_err(|_| SignError(self.algorithm))?;
        let header = Map::from_iter([("typ".to_owned(), Value::from(kind))]);
        self.default_key()?.seal(header, &payload)
    }

    /// The key of an id, whether it signs, signed or will sign.
    pub fn verifier(&self, id: &str, algorithm: SigningAlgorithm) -> Option<&SigningKey> {
        self.rings
            .iter()
            .flat_map(Ring::keys)
            .find(|key| key.id == id && key.algorithm == algorithm)
    }

    /// The public keys as a JSON Web Key Set.
    pub fn jwks(&self) -> &Value {
        &self.published
    }

    /// The same as text.
    pub fn document(&self) -> &str {
        &self.document
    }
}

impl Ring {
    /// The algorithm of its keys.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.current.algorithm
    }

    fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        [
            Some(&self.current),
            self.next.as_ref(),
            self.previous.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({} {})", self.algorithm.as_str(), self.id)
    }
}

#[cfg(test)]
pub(in crate::domain) mod tests;
