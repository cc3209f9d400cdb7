//! Certificates for development: an authority that lives for one call, and what it issues. Its key is never written, so
//! whoever trusts it trusts what it has issued and nothing that somebody else could issue. Writes no file.

use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PKCS_ECDSA_P256_SHA256;
use std::time::Duration;

/// The beginning lies this far back: another machine's clock may be behind.
const CLOCKS_APART: Duration = Duration::from_secs(3600);
/// Who the subjects say they are of.
const ORGANIZATION: &str = "riskgate development";

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate could be made: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// A certificate and its key, PEM.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key, PKCS #8.
    pub key: Secret<String>,
}

/// An authority for one call.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    made: Timestamp,
    ends: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority(until {})", self.ends.to_rfc3339())
    }
}

impl Authority {
    /// One that is made at this moment and is good for this long, as all that it issues.
    ///
    /// # Errors
    /// The library has no key or certificate.
    pub fn new(made: Timestamp, good_for: Duration) -> Result<Self, IssueError> {
        let ends = made.plus(good_for);
        // The moment tells one from the next: two of one name and different keys confuse who trusts both.
        let mut params = params(
            &[],
            &format!("authority of {}", made.to_rfc3339()),
            made,
            ends,
        )?;
        // It issues for ends alone, never another authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, key()?)?,
            made,
            ends,
        })
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// The moment from which on nothing of it is good.
    pub fn ends(&self) -> Timestamp {
        self.ends
    }

    /// A certificate for a server of these names and addresses.
    ///
    /// # Errors
    /// A name cannot be one, or the library has no key or certificate.
    pub fn server(&self, called: &str, names: &[String]) -> Result<Issued, IssueError> {
        self.issue(called, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// The library has no key or certificate.
    pub fn client(&self, called: &str) -> Result<Issued, IssueError> {
        self.issue(called, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        called: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, IssueError> {
        let key = key()?;
        let mut params = params(names, called, self.made, self.ends)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(Issued {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }
}

fn key() -> Result<KeyPair, IssueError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn params(
    names: &[String],
    called: &str,
    made: Timestamp,
    ends: Timestamp,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(names)?;
    let subject = &mut params.distinguished_name;
    subject.remove(DnType::CommonName);
    subject.push(DnType::OrganizationName, ORGANIZATION);
    subject.push(DnType::CommonName, called);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |moment: Timestamp| u64::try_from(moment.seconds()).unwrap_or(0);
    let since = seconds(made).saturating_sub(CLOCKS_APART.as_secs());
    params.not_before = epoch + Duration::from_secs(since);
    params.not_after = epoch + Duration::from_secs(seconds(ends));
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::FromDer;
    use x509_parser::prelude::X509Certificate;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn what_is_issued_is_for_one_use_and_ends_with_its_authority() {
        let now = Timestamp(1_795_651_200_123);
        let authority = Authority::new(now, 7 * DAY).unwrap();
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let server = authority.server("server", &names).unwrap();
        let client = authority.client("client").unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (root, server_der, client_der) = (
            der(&authority.certificate()),
            der(&server.certificate),
            der(&client.certificate),
        );
        let (_, root) = X509Certificate::from_der(&root).unwrap();
        let constraints = root.basic_constraints().unwrap().unwrap().value;
        assert!(constraints.ca && constraints.path_len_constraint == Some(0));
        let (_, server) = X509Certificate::from_der(&server_der).unwrap();
        let (_, client) = X509Certificate::from_der(&client_der).unwrap();
        for issued in [&server, &client] {
            assert_eq!(issued.issuer(), root.subject());
            assert!(!issued.is_ca());
            let validity = issued.validity();
            assert_eq!(validity.not_after.timestamp(), now.plus(7 * DAY).seconds());
            assert_eq!(validity.not_before.timestamp(), now.seconds() - 3_600);
        }
        let usage = |certificate: &X509Certificate<'_>| {
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            (usage.server_auth, usage.client_auth)
        };
        assert_eq!(usage(&server), (true, false));
        assert_eq!(usage(&client), (false, true));
        let names = server.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(
            names.general_names,
            [
                GeneralName::DNSName("localhost"),
                GeneralName::IPAddress(&[127, 0, 0, 1]),
                GeneralName::IPAddress(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            ]
        );
    }

    #[test]
    fn no_key_is_printed() {
        let authority = Authority::new(Timestamp(0), DAY).unwrap();
        let issued = authority.client("client").unwrap();
        assert!(!format!("{authority:?}{issued:?}").contains("PRIVATE KEY"));
    }
}
