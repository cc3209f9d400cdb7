//! The public listener: plain or TLS, HTTP/1.1 and HTTP/2, and the Pingora service behind it.

use crate::proxy::GatewayProxy;
use crate::proxy::hello::Fingerprinter;
use arc_swap::ArcSwap;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::HttpProxy;
use pingora::proxy::ProxyServiceBuilder;
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
use std::time::Duration;

/// Requests that one connection may carry.
const REQUESTS_PER_CONNECTION: u32 = 10_000;
/// An HTTP/2 connection without streams is closed after this.
const H2_IDLE: Duration = Duration::from_secs(60);

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

/// The service that serves `proxy` at `address`.
pub fn service(
    conf: &Arc<ServerConf>,
    proxy: GatewayProxy,
    address: SocketAddr,
    certificate: Option<Arc<ServerCertificate>>,
) -> pingora::Result<Service<HttpProxy<GatewayProxy>>> {
    let mut options = HttpServerOptions::default();
    options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION);
    options.h2_idle_timeout = Some(H2_IDLE);
    let mut service = ProxyServiceBuilder::new(conf, proxy)
        .name("riskgate")
        .server_options(options)
        .build();
    match certificate {
        None => service.add_tcp(&address.to_string()),
        Some(certificate) => {
            // The paths are not read: the resolver stands in for them.
            let mut tls = TlsSettings::intermediate("", "")?;
            tls.set_cert_resolver(certificate);
            tls.enable_h2();
            service.add_tls_with_settings(&address.to_string(), None, tls);
            service
                .endpoints()
                .set_pre_tls_callback(Arc::new(Fingerprinter));
        }
    }
    Ok(service)
}
