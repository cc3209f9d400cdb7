//! Signing: the RSA key, its certificate and thumbprints as WSO2 writes them, JWTs, the TLS certificate. It must not
//! decide what is signed.

use std::sync::Arc;
use std::sync::OnceLock;

use anyhow::Context as _;
use anyhow::anyhow;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use hmac::Mac;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::PKCS_RSA_SHA256;
use rcgen::PublicKeyData;
use rcgen::SignatureAlgorithm;
use rcgen::SigningKey;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use serde_json::json;
use sha1::Sha1;
use sha2::Digest;
use sha2::Sha256;

use crate::config::ClientCertificates;
use crate::store::hex;

/// One key for the process: making one takes a while, and every simulator of a test run may share it.
static SHARED: OnceLock<Arc<Keys>> = OnceLock::new();

/// The token signing key and what is published about it.
#[derive(Debug)]
pub(crate) struct Keys {
    pair: RsaKeyPair,
    /// JWKS document.
    jwks: Value,
    x5t: String,
}

impl Keys {
    /// The key of this process, made on first use.
    pub(crate) fn shared() -> anyhow::Result<Arc<Self>> {
        if let Some(keys) = SHARED.get() {
            return Ok(Arc::clone(keys));
        }
        let made = Arc::new(Self::generate()?);
        Ok(Arc::clone(SHARED.get_or_init(|| made)))
    }

    /// A key of this process that is never published.
    pub(crate) fn foreign() -> anyhow::Result<Arc<Self>> {
        static FOREIGN: OnceLock<Arc<Keys>> = OnceLock::new();
        if let Some(keys) = FOREIGN.get() {
            return Ok(Arc::clone(keys));
        }
        let made = Arc::new(Self::generate()?);
        Ok(Arc::clone(FOREIGN.get_or_init(|| made)))
    }

    /// A new key.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)
            .map_err(|_| anyhow!("cannot generate an RSA key"))?;
        let signer = RsaSigner {
            public_der: pair.public_key().as_ref().to_vec(),
            pair: &pair,
        };
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        let certificate = params
            .self_signed(&signer)
            .context("cannot make the signing certificate")?;
        let der = certificate.der().as_ref().to_vec();
        // WSO2's thumbprints are the Base64url of the hexadecimal digest, not of the digest.
        let x5t = URL_SAFE_NO_PAD.encode(hex(&Sha1::digest(&der)));
        let x5t_s256 = URL_SAFE_NO_PAD.encode(hex(&Sha256::digest(&der)));
        let public = pair.public_key();
        let jwks = json!({"keys": [{
            "kty": "RSA",
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "use": "sig",
            "alg": "RS256",
            "kid": format!("{x5t}_RS256"),
            "x5c": [STANDARD.encode(&der)],
            "x5t#S256": x5t_s256,
        }]});
        Ok(Self { pair, jwks, x5t })
    }

    pub(crate) fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// A JWT (RS256) over the claims; `typ` is the header's type, where one is set.
    pub(crate) fn sign(&self, typ: Option<&str>, claims: &Value) -> anyhow::Result<String> {
        self.sign_under(&self.x5t, typ, claims)
    }

    /// The same under the id of another key.
    pub(crate) fn sign_as(&self, other: &Self, claims: &Value) -> anyhow::Result<String> {
        self.sign_under(&other.x5t, None, claims)
    }

    fn sign_under(&self, x5t: &str, typ: Option<&str>, claims: &Value) -> anyhow::Result<String> {
        let mut header = json!({
            "x5t": x5t, "kid": format!("{x5t}_RS256"), "alg": "RS256",
        });
        if let (Some(typ), Some(members)) = (typ, header.as_object_mut()) {
            members.insert("typ".to_owned(), Value::from(typ));
        }
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = rsa_sha256(&self.pair, signed.as_bytes())
            .ok_or_else(|| anyhow!("cannot sign a token"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a JWT that this key signed; lifetimes are the caller's business.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        signature::UnparsedPublicKey::new(
            &signature::RSA_PKCS1_2048_8192_SHA256,
            self.pair.public_key().as_ref(),
        )
        .verify(signed.as_bytes(), &signature)
        .ok()?;
        let (_, claims) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

/// A JWT (HS256) over the claims.
pub(crate) fn sign_shared(secret: &str, claims: &Value) -> anyhow::Result<String> {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(json!({"alg": "HS256"}).to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    Ok(format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(shared(secret, &signed)?)
    ))
}

/// The claims of a JWT (HS256) that was made with the secret.
pub(crate) fn verify_shared(secret: &str, token: &str) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let is_same = URL_SAFE_NO_PAD.decode(signature).ok()? == shared(secret, signed).ok()?;
    let (_, claims) = signed.split_once('.').filter(|_| is_same)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

fn shared(secret: &str, signed: &str) -> anyhow::Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|_| anyhow!("a secret of any length serves"))?;
    mac.update(signed.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

/// Certificate chain, private key and the authority's certificate in PEM.
pub(crate) struct TlsIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) ca_pem: String,
}

/// A certificate for this machine's loopback names, under an authority made for it.
pub(crate) fn tls_identity() -> anyhow::Result<TlsIdentity> {
    let mut ca_params = CertificateParams::new(Vec::<String>::new())?;
    ca_params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca_params
        .distinguished_name
        .push(DnType::CommonName, "wso2-sim test authority");
    let authority = CertifiedIssuer::self_signed(ca_params, rcgen::KeyPair::generate()?)?;
    let names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    let key = rcgen::KeyPair::generate()?;
    let leaf = params.signed_by(&key, &authority)?;
    Ok(TlsIdentity {
        chain: vec![leaf.der().clone()],
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        ca_pem: authority.pem(),
    })
}

/// A TLS server with that identity, which asks clients for a certificate where it is told to.
pub(crate) fn tls_server(
    identity: TlsIdentity,
    clients: Option<&ClientCertificates>,
) -> anyhow::Result<ServerConfig> {
    let builder = if clients.is_some_and(|clients| clients.is_tls12) {
        ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
    } else {
        ServerConfig::builder()
    };
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(clients.ca_pem.as_bytes()) {
                roots.add(certificate?)?;
            }
            builder
                .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build()?)
        }
    };
    let mut tls = builder.with_single_cert(identity.chain, identity.key)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// `at_hash`, `c_hash` and `s_hash` (OpenID Connect Core section 3.1.3.6): the left half of the SHA-256.
pub(crate) fn left_half_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default())
}

struct RsaSigner<'a> {
    pair: &'a RsaKeyPair,
    public_der: Vec<u8>,
}

impl PublicKeyData for RsaSigner<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public_der
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl SigningKey for RsaSigner<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        rsa_sha256(self.pair, message).ok_or(rcgen::Error::RemoteKeyError)
    }
}

fn rsa_sha256(pair: &RsaKeyPair, message: &[u8]) -> Option<Vec<u8>> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(
        &signature::RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .ok()?;
    Some(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_verifies_until_a_byte_of_it_changes() {
        let keys = Keys::shared().unwrap();
        let token = keys.sign(Some("at+jwt"), &json!({"sub": "x"})).unwrap();
        assert_eq!(keys.verify(&token).unwrap()["sub"], "x");
        for broken in [
            token.replacen('.', ".A", 1),
            token[..token.len() - 4].to_owned(),
            "a.b.c".to_owned(),
            String::new(),
        ] {
            assert!(keys.verify(&broken).is_none());
        }
    }
}
