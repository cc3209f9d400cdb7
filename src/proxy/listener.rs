//! The public listener: what it shows over TLS, and the Pingora service that accepts. What becomes of a connection is in
//! `edge`, how all of them end in `connections`.

use crate::domain::time::Timestamp;
use crate::proxy::GatewayProxy;
use crate::proxy::certificate::ClientCertificates;
use crate::proxy::certificate::Pair;
use crate::proxy::certificate::ServerCertificate;
use crate::proxy::connections::Counted;
use crate::proxy::connections::Drain;
use crate::proxy::connections::Drained;
use crate::proxy::edge::Edge;
use crate::proxy::edge::EdgeSettings;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use pingora::listeners::L4BufferSettings;
use pingora::listeners::ListenerConfig;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use rustls::ConfigBuilder;
use rustls::ServerConfig;
use rustls::WantsVerifier;
use rustls::crypto::ring::default_provider;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;

/// What is read ahead of a connection; Pingora's own 64 KiB are much for one that is idle.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What the public listener speaks over TLS, the best first.
pub const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a TLS listener shows and asks for. Both can be exchanged: handshakes that begin afterwards go by what is new then,
/// connections that are there live on.
#[derive(Clone)]
pub struct ListenerTls {
    certificate: Arc<ServerCertificate>,
    /// Whose certificates clients show, where they are asked for one.
    clients: Arc<ArcSwapOption<ClientCertificates>>,
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    protocols: Vec<Vec<u8>>,
    config: Arc<ArcSwap<ServerConfig>>,
}

impl std::fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListenerTls({:?})", self.clients.load())
    }
}

impl ListenerTls {
    /// TLS 1.2 and 1.3 with this certificate, asking `clients` for theirs. `protocols` are negotiated by ALPN, the best first.
    ///
    /// # Errors
    /// The cryptography that was compiled in has none of these versions.
    pub fn new(
        pair: Pair,
        clients: Option<ClientCertificates>,
        protocols: &[&[u8]],
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let certificate = Arc::new(ServerCertificate::new(pair));
        let config = made(&builder, &certificate, clients.as_ref(), &protocols);
        Ok(Self {
            certificate,
            clients: Arc::new(ArcSwapOption::from_pointee(clients)),
            builder,
            protocols,
            config: Arc::new(ArcSwap::from_pointee(config)),
        })
    }

    /// The next handshake gets these. Where other clients are let in than before, no session from before is gone on with:
    /// whoever has one would not be asked for a certificate again. Says whether that is so.
    pub fn exchange(&self, pair: Pair, clients: Option<ClientCertificates>) -> bool {
        self.certificate.exchange(pair);
        if self.clients.load().as_deref() == clients.as_ref() {
            return false;
        }
        let config = made(
            &self.builder,
            &self.certificate,
            clients.as_ref(),
            &self.protocols,
        );
        self.clients.store(clients.map(Arc::new));
        self.config.store(Arc::new(config));
        true
    }

    /// When the present certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.certificate.not_after()
    }

    /// Whether clients that ask for this name or address take the present certificate.
    pub fn is_for(&self, host: &str) -> bool {
        self.certificate.is_for(host)
    }

    /// What the next handshake goes by.
    pub fn config(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.config)
    }
}

/// The settings of handshakes, with a memory of sessions of their own.
fn made(
    builder: &ConfigBuilder<ServerConfig, WantsVerifier>,
    certificate: &Arc<ServerCertificate>,
    clients: Option<&ClientCertificates>,
    protocols: &[Vec<u8>],
) -> ServerConfig {
    let builder = builder.clone();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(certificate) as Arc<_>);
    config.alpn_protocols = protocols.to_vec();
    config
}

/// The service that takes connections at `address` and serves `proxy` over them, until `drain` ends it; on `socket` where
/// that was opened before.
pub fn service(
    conf: &Arc<ServerConf>,
    proxy: GatewayProxy,
    settings: EdgeSettings,
    (address, socket): (SocketAddr, Option<TcpListener>),
    tls: Option<ListenerTls>,
    drain: Arc<Drain>,
) -> Drained<Counted<Edge>> {
    let edge = Edge::new(conf, proxy, settings, tls.map(|tls| tls.config()));
    let counted = Counted::new(edge, Arc::clone(&drain));
    let mut service = Service::new("riskgate".to_owned(), counted);
    let buffers = L4BufferSettings::default().read(READ_BUFFER_BYTES);
    service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers));
    let socket = socket.map(|socket| (address, socket));
    Drained::new(service, drain, socket)
}
