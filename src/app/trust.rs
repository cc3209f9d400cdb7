//! Whom a connection of ours trusts: the authorities of a configured file, or those of the system. All are DER.

use crate::proxy::certificate::CertificateError;
use crate::proxy::certificate::read_certificates;
use std::path::Path;

/// The authorities of a file; none without one.
///
/// # Errors
/// What is wrong with the file.
pub fn of_file(file: Option<&Path>) -> Result<Vec<Vec<u8>>, CertificateError> {
    let certificates = file.map(read_certificates).transpose()?;
    let certificates = certificates.into_iter().flatten();
    Ok(certificates
        .map(|certificate| certificate.to_vec())
        .collect())
}

/// Those of the system.
pub fn of_system() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found
        .into_iter()
        .map(|certificate| certificate.to_vec())
        .collect()
}

/// The authorities of a file; without one those of the system, where TLS is spoken.
///
/// # Errors
/// What is wrong with the file.
pub fn of_file_or_system(
    file: Option<&Path>,
    is_tls: bool,
) -> Result<Vec<Vec<u8>>, CertificateError> {
    if file.is_none() && is_tls {
        return Ok(of_system());
    }
    of_file(file)
}
