//! The public listener: what it shows over TLS, and the Pingora service that accepts. What becomes of a connection is in
//! `edge`, how all of them end in `connections`.

use crate::proxy::GatewayProxy;
use crate::proxy::certificate::ClientCertificates;
use crate::proxy::certificate::ServerCertificate;
use crate::proxy::connections::Counted;
use crate::proxy::connections::Drain;
use crate::proxy::connections::Drained;
use crate::proxy::edge::Edge;
use crate::proxy::edge::EdgeSettings;
use pingora::listeners::L4BufferSettings;
use pingora::listeners::ListenerConfig;
use pingora::listeners::tls::Acceptor;
use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;

/// What is read ahead of a connection; Pingora's own 64 KiB are much for one that is idle.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What a TLS listener shows and asks for.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Its certificate.
    pub certificate: Arc<ServerCertificate>,
    /// Whose certificates clients show, where they are asked for one.
    pub clients: Option<Arc<ClientCertificates>>,
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
) -> pingora::Result<Drained<Counted<Edge>>> {
    let acceptor = tls.map(acceptor).transpose()?;
    let edge = Edge::new(conf, proxy, settings, acceptor);
    let counted = Counted::new(edge, Arc::clone(&drain));
    let mut service = Service::new("riskgate".to_owned(), counted);
    let buffers = L4BufferSettings::default().read(READ_BUFFER_BYTES);
    service.add_listener(ListenerConfig::tcp(address.to_string()).l4_buffer(buffers));
    let socket = socket.map(|socket| (address, socket));
    Ok(Drained::new(service, drain, socket))
}

/// TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
fn acceptor(tls: ListenerTls) -> pingora::Result<Acceptor> {
    // The paths are not read: the resolver stands in for them.
    let mut settings = TlsSettings::intermediate("", "")?;
    settings.set_cert_resolver(tls.certificate);
    if let Some(clients) = tls.clients {
        settings.set_client_cert_verifier(clients);
    }
    settings.enable_h2();
    Ok(settings.build())
}
