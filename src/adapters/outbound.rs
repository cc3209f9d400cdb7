//! What every HTTP client of ours has in common: it goes where it was told and nowhere else. Time and names are the
//! caller's to bound.

use crate::domain::secret::Secret;
use pem::Pem;
use reqwest::Certificate;
use reqwest::Client;
use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use rustls::pki_types::PrivateKeyDer;

/// What is shown to a server that asks for a certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificates, leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// The key, DER.
    pub key: Secret<Vec<u8>>,
}

/// No client can be made of what is configured for it. The text begins with the key that is to be mended, which the
/// caller puts its section before.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An authority is no certificate.
    #[error("ca_file: {0}")]
    Authority(reqwest::Error),
    /// The library refuses the whole.
    #[error("no HTTP client: {0}")]
    Build(reqwest::Error),
    /// The own certificate or its key cannot be used.
    #[error("client_certificate: {0}")]
    Identity(reqwest::Error),
}

/// A client that follows no redirect, asks no proxy of the environment, says nothing of where it comes from, and trusts
/// `authorities` (certificates, DER) alone.
///
/// # Errors
/// An authority is no certificate.
pub fn client(authorities: &[Vec<u8>]) -> Result<ClientBuilder, ClientError> {
    // A provider that is installed already serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusted = authorities.iter().map(|der| Certificate::from_der(der));
    let trusted = trusted
        .collect::<Result<Vec<_>, _>>()
        .map_err(ClientError::Authority)?;
    Ok(Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent("riskgate")
        .tls_certs_only(trusted))
}

/// The same client with an identity.
///
/// # Errors
/// Chain or key cannot be read.
pub fn identified(
    client: ClientBuilder,
    identity: &Identity,
) -> Result<ClientBuilder, ClientError> {
    let label = match PrivateKeyDer::try_from(identity.key.expose().as_slice()) {
        Ok(PrivateKeyDer::Pkcs1(_)) => "RSA PRIVATE KEY",
        Ok(PrivateKeyDer::Sec1(_)) => "EC PRIVATE KEY",
        // What is no key at all is refused under this name as well.
        _ => "PRIVATE KEY",
    };
    let chain = identity.chain.iter();
    let mut parts: Vec<Pem> = chain
        .map(|der| Pem::new("CERTIFICATE", der.as_slice()))
        .collect();
    parts.push(Pem::new(label, identity.key.expose().as_slice()));
    // The library takes PEM alone.
    let text = pem::encode_many(&parts);
    reqwest::Identity::from_pem(text.as_bytes())
        .map(|identity| client.identity(identity))
        .map_err(ClientError::Identity)
}

/// An error with what caused it, since the library's own text stops before the cause. Without the address, whose path may
/// hold a secret.
pub fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::KeyPair;

    /// What of a P-256 key in PKCS #8 is in SEC 1.
    fn sec1(pkcs8: &[u8]) -> Vec<u8> {
        let begins = |window: &[u8]| window.starts_with(&[0x30]) && window.ends_with(&[2, 1, 1, 4]);
        let place = pkcs8.windows(6).position(begins).unwrap();
        let length = usize::from(pkcs8[place + 1]);
        pkcs8[place..place + 2 + length].to_vec()
    }

    #[test]
    fn keys_of_every_form_are_shown_and_what_is_none_is_refused() {
        let key = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["riskgate".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let other = KeyPair::generate().unwrap();
        for (key, is_good) in [
            (key.serialize_der(), true),
            (sec1(&key.serialize_der()), true),
            (other.serialize_der(), false),
            (b"no key".to_vec(), false),
        ] {
            let identity = Identity {
                chain: vec![certificate.clone()],
                key: Secret::new(key),
            };
            let client = identified(client(&[]).unwrap(), &identity);
            assert_eq!(client.unwrap().build().is_ok(), is_good, "{identity:?}");
        }
    }
}
