//! The public listener: its certificate, and the Pingora service that accepts. What becomes of a connection is in `edge`.

use crate::proxy::GatewayProxy;
use crate::proxy::edge::Edge;
use crate::proxy::edge::EdgeSettings;
use arc_swap::ArcSwap;
use pingora::listeners::L4BufferSettings;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::Acceptor;
use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What is read ahead of a connection; Pingora's own 64 KiB are much for one that is idle.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// A certificate or key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read as PEM.
    #[error("`{path}` cannot be read as PEM: {cause}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// It holds no certificate.
    #[error("`{0}` holds no certificate")]
    Empty(PathBuf),
    /// Key and certificate do not belong together, or the kind of key is not supported.
    #[error("the key in `{path}` cannot be used: {cause}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// The server certificate; it can be exchanged while connections live on.
#[derive(Debug)]
pub struct ServerCertificate(ArcSwap<CertifiedKey>);

impl ServerCertificate {
    /// Reads chain and key.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        Ok(Self(ArcSwap::from_pointee(read(chain, key)?)))
    }

    /// Reads chain and key again; on an error the old ones stay.
    pub fn reload(&self, chain: &Path, key: &Path) -> Result<(), CertificateError> {
        self.0.store(Arc::new(read(chain, key)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let certificates = read_certificates(chain)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| CertificateError::Unreadable {
            path: key.to_owned(),
            cause: error.to_string(),
        })?;
    let unusable = |cause: rustls::Error| CertificateError::Key {
        path: key.to_owned(),
        cause: cause.to_string(),
    };
    let certified = CertifiedKey::new(
        certificates,
        any_supported_type(&private).map_err(unusable)?,
    );
    certified.keys_match().map_err(unusable)?;
    Ok(certified)
}

/// The certificates of a PEM file, DER.
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

/// The service that takes connections at `address` and serves `proxy` over them.
pub fn service(
    conf: &Arc<ServerConf>,
    proxy: GatewayProxy,
    settings: EdgeSettings,
    address: SocketAddr,
    certificate: Option<Arc<ServerCertificate>>,
) -> pingora::Result<Service<Edge>> {
    let acceptor = certificate.map(acceptor).transpose()?;
    let edge = Edge::new(conf, proxy, settings, acceptor);
    let mut service = Service::new("riskgate".to_owned(), edge);
    let buffers = L4BufferSettings::default().read(READ_BUFFER_BYTES);
    service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers));
    Ok(service)
}

/// TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
fn acceptor(certificate: Arc<ServerCertificate>) -> pingora::Result<Acceptor> {
    // The paths are not read: the resolver stands in for them.
    let mut tls = TlsSettings::intermediate("", "")?;
    tls.set_cert_resolver(certificate);
    tls.enable_h2();
    Ok(tls.build())
}
