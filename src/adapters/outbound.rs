//! What every HTTP client of ours has in common: it goes where it was told and nowhere else. Time and names are the
//! caller's to bound.

use reqwest::Certificate;
use reqwest::Client;
use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// A client that follows no redirect, asks no proxy of the environment, says nothing of where it comes from, and trusts
/// `authorities` (certificates, DER) alone.
///
/// # Errors
/// An authority is no certificate.
pub fn client(authorities: &[Vec<u8>]) -> Result<ClientBuilder, reqwest::Error> {
    // A provider that is installed already serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusted = authorities.iter().map(|der| Certificate::from_der(der));
    let trusted = trusted.collect::<Result<Vec<_>, _>>()?;
    Ok(Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent("riskgate")
        .tls_certs_only(trusted))
}
