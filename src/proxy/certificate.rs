//! Certificates of listeners: chain and key, exchanged while connections live on; when they end; whom clients must be
//! certified by. It reads the files that it is given, when it is told to, and never prints a key.

use crate::domain::time::Timestamp;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ParsedCertificate;
use rustls::server::ResolvesServerCert;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

/// A certificate or key file that cannot be used. The text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain cannot be read.
    #[error("`{path}` cannot be read as PEM certificates: {cause}; expected the chain, leaf first")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// It holds no certificate.
    #[error("`{0}` holds no certificate; expected the chain as PEM, leaf first")]
    Empty(PathBuf),
    /// One of its certificates is none.
    #[error("`{path}` holds a certificate that cannot be read: {cause}")]
    Garbled {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The key cannot be read.
    #[error(
        "`{path}` cannot be read as a PEM private key: {cause}; expected PKCS #8, PKCS #1 or SEC 1 without a passphrase"
    )]
    KeyUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The kind of key is not supported.
    #[error(
        "the key in `{path}` cannot be used: {cause}; expected RSA of 2048 bits or more, P-256, P-384 or Ed25519"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// Key and certificate do not belong together.
    #[error(
        "the key in `{key}` is not that of the certificate in `{certificate}`; give both files of one issue"
    )]
    Mismatch {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// Others than owner and group can read or change the key.
    #[error(
        "`{path}` has the mode {mode:o}, so others can read or change it: `chmod 600` it, or 640 for a group"
    )]
    KeyOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// An authority that cannot verify anybody.
    #[error("`{path}` holds no authority of client certificates that can be used: {cause}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

impl CertificateError {
    /// The key of the configuration, within its section, whose file is to be looked at.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Empty(_) | Self::Garbled { .. } => "certificate",
            Self::KeyUnreadable { .. }
            | Self::Key { .. }
            | Self::KeyOpen { .. }
            | Self::Mismatch { .. } => "key",
            Self::Authority { .. } => "client_ca_file",
        }
    }
}

/// A chain and its key that belong together.
#[derive(Debug)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
    not_after: Timestamp,
}

impl Pair {
    /// Reads chain and key.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn read(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let certificates = read_certificates(chain)?;
        let not_after = not_after(chain, &certificates)?;
        let private =
            PrivateKeyDer::from_pem_file(key).map_err(|error| CertificateError::KeyUnreadable {
                path: key.to_owned(),
                cause: error.to_string(),
            })?;
        let signer = any_supported_type(&private).map_err(|cause| CertificateError::Key {
            path: key.to_owned(),
            cause: cause.to_string(),
        })?;
        let certified = CertifiedKey::new(certificates, signer);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(CertificateError::Mismatch {
                    certificate: chain.to_owned(),
                    key: key.to_owned(),
                });
            }
            Err(cause) => {
                return Err(CertificateError::Garbled {
                    path: chain.to_owned(),
                    cause: cause.to_string(),
                });
            }
        }
        Ok(Self {
            certified: Arc::new(certified),
            key: private,
            not_after,
        })
    }

    /// The certificates, leaf first, DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The key, DER.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The moment from which on the chain is worth nothing.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// The certificate of a listener; it can be exchanged while connections live on.
#[derive(Debug)]
pub struct ServerCertificate(ArcSwap<Pair>);

impl ServerCertificate {
    /// With this pair until there is another.
    pub fn new(pair: Pair) -> Self {
        Self(ArcSwap::from_pointee(pair))
    }

    /// The next handshake gets this one.
    pub fn exchange(&self, pair: Pair) {
        self.0.store(Arc::new(pair));
    }

    /// When the present one ends.
    pub fn not_after(&self) -> Timestamp {
        self.0.load().not_after
    }

    /// Whether clients that ask for this name or address take the present one.
    pub fn is_for(&self, host: &str) -> bool {
        let present = self.0.load();
        let Some(Ok(leaf)) = present.chain().first().map(ParsedCertificate::try_from) else {
            return false;
        };
        ServerName::try_from(host).is_ok_and(|name| verify_server_name(&leaf, &name).is_ok())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}

/// Whom clients are certified by, and whether they must be. The authorities are not named to clients: that would tell
/// strangers who they are, and is more than some clients read.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
    required: bool,
}

impl ClientCertificates {
    /// Reads the authorities from a PEM file; a client without a certificate is turned away where they are `required`.
    ///
    /// # Errors
    /// [`CertificateError::Authority`].
    pub fn read(path: &Path, required: bool) -> Result<Self, CertificateError> {
        let unusable = |cause: &dyn std::fmt::Display| CertificateError::Authority {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let authorities = read_certificates(path).map_err(|error| unusable(&error))?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            let authority = authority.clone();
            roots.add(authority).map_err(|error| unusable(&error))?;
        }
        let provider = Arc::new(default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .clear_root_hint_subjects();
        let builder = if required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        Ok(Self {
            verifier: builder.build().map_err(|error| unusable(&error))?,
            authorities,
            required,
        })
    }

    /// What judges them.
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Whether a client without one is turned away.
    pub fn are_required(&self) -> bool {
        self.required
    }
}

impl PartialEq for ClientCertificates {
    fn eq(&self, other: &Self) -> bool {
        (&self.authorities, self.required) == (&other.authorities, other.required)
    }
}

/// The certificates of a PEM file, DER.
///
/// # Errors
/// [`CertificateError::Unreadable`] and [`CertificateError::Empty`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unreadable = |cause: String| CertificateError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unreadable(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(CertificateError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

/// When the first certificate of a chain ends.
fn not_after(
    path: &Path,
    chain: &[CertificateDer<'static>],
) -> Result<Timestamp, CertificateError> {
    let mut first = Timestamp(i64::MAX);
    for certificate in chain {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| CertificateError::Garbled {
                path: path.to_owned(),
                cause: error.to_string(),
            })?;
        let seconds = parsed.validity().not_after.timestamp();
        first = first.min(Timestamp(seconds.saturating_mul(1000)));
    }
    Ok(first)
}
