//! An authority that issues certificates for the tests, one after the other.

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::SerialNumber;
use std::time::Duration;
use std::time::SystemTime;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The certificate, DER.
    pub der: Vec<u8>,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for `localhost` that is good for years.
    pub fn server(&self, name: &str) -> Issued {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, None, None)
    }

    /// The same with an end: this long from now, in whole seconds. `None` for two days ago.
    pub fn server_until(&self, name: &str, left: Option<Duration>) -> Issued {
        let end = Some(end(left));
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, end, None)
    }

    /// A certificate for a client.
    pub fn client(&self, name: &str) -> Issued {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth, None, None)
    }

    /// The same with an end.
    pub fn client_until(&self, name: &str, left: Option<Duration>) -> Issued {
        let end = Some(end(left));
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth, end, None)
    }

    /// A certificate for a client with this serial number.
    pub fn client_numbered(&self, name: &str, serial: u64) -> Issued {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.issue(name, usage, None, Some(serial))
    }

    fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        end: Option<Duration>,
        serial: Option<u64>,
    ) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![usage];
        params.serial_number = serial.map(SerialNumber::from);
        if let Some(end) = end {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
        }
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: made.pem(),
            key: key.serialize_pem(),
            der: made.der().to_vec(),
        }
    }
}

/// The time from 1970 to this long from now, or to two days ago.
fn end(left: Option<Duration>) -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = Duration::from_secs(since.expect("a time after 1970").as_secs());
    match left {
        Some(left) => now + left,
        None => now - Duration::from_secs(2 * 24 * 3600),
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}
