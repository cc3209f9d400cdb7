//! A connection from the moment it is accepted to its end: its place, its TLS handshake, its protocol's limits, and the
//! deadlines of everything that its client has to show. It reads no request.

use crate::flow::AuthFlow;
use crate::proxy::GatewayProxy;
use crate::proxy::hello;
use crate::proxy::pace::Pace;
use crate::proxy::places::Place;
use crate::proxy::places::Places;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::apps::HttpServerOptions;
use pingora::apps::ReusedHttpStream;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::ALPN;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream as RawStream;
use pingora::proxy::HttpProxy;
use pingora::proxy::http_proxy;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use rustls::ServerConfig;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Requests that one connection may carry.
const REQUESTS_PER_CONNECTION: u32 = 10_000;
/// The longest list of header fields over HTTP/2, decoded; what is forwarded must be shorter still.
const H2_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// Streams that a client has reset and that are still remembered, or were not yet taken: beyond it the connection ends
/// (CVE-2023-44487).
const H2_RESETS_MAX: usize = 20;
/// Streams that broke the protocol, after which the connection ends.
const H2_ERRORS_MAX: usize = 64;

/// What a client may take of the listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EdgeSettings {
    /// For the whole TLS handshake.
    pub handshake: Duration,
    /// For the first head of a connection.
    pub head: Duration,
    /// For the next head after an answer, and for an HTTP/2 connection without streams.
    pub keepalive: Duration,
    /// Connections in all.
    pub connections_max: usize,
    /// Connections from one address; 0 for no limit.
    pub connections_per_address_max: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams_max: u32,
}

/// What is done with each connection.
pub struct Edge {
    proxy: Arc<HttpProxy<GatewayProxy>>,
    flow: Arc<AuthFlow>,
    tls: Option<Arc<ArcSwap<ServerConfig>>>,
    places: Arc<Places>,
    settings: EdgeSettings,
}

/// One connection that has its place.
struct Connection {
    edge: Arc<Edge>,
    _place: Place,
    has_begun: AtomicBool,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Edge({:?})", self.settings)
    }
}

impl Edge {
    /// Serves `proxy`, over TLS where there are settings of it: each handshake goes by those of its beginning.
    pub fn new(
        conf: &Arc<ServerConf>,
        proxy: GatewayProxy,
        settings: EdgeSettings,
        tls: Option<Arc<ArcSwap<ServerConfig>>>,
    ) -> Self {
        let flow = proxy.flow();
        let mut proxy = http_proxy(conf, proxy);
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION);
        options.h2_idle_timeout = Some(settings.keepalive);
        proxy.server_options = Some(options);
        proxy.h2_options = Some(h2_options(settings.streams_max));
        Self {
            proxy: Arc::new(proxy),
            tls,
            places: Places::new(
                settings.connections_max,
                settings.connections_per_address_max,
                Arc::clone(&flow.dependencies().metrics),
            ),
            flow,
            settings,
        }
    }

    fn place(&self, stream: &Stream) -> Option<Place> {
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr());
        let peer: Option<IpAddr> = peer
            .and_then(SocketAddr::as_inet)
            .map(std::net::SocketAddr::ip);
        // A balancer brings everybody's connections.
        let snapshot = self.flow.snapshot();
        let peer = peer.filter(|peer| !snapshot.trusted_proxies.contains(*peer));
        match self.places.take(peer) {
            Ok(place) => Some(place),
            Err(full) => {
                let metrics = &self.flow.dependencies().metrics;
                metrics.connection_refused(full.as_str());
                None
            }
        }
    }

    /// The connection with TLS on it, where the listener has TLS.
    async fn secured(&self, stream: Stream) -> Option<Stream> {
        let Some(tls) = &self.tls else {
            return Some(stream);
        };
        let handshake = async {
            let mut raw = stream.into_any().downcast::<RawStream>().ok()?;
            hello::read(&mut raw).await.ok()?;
            let acceptor = Acceptor::from_server_config(tls.load_full());
            acceptor.tls_handshake(*raw).await.ok()
        };
        match tokio::time::timeout(self.settings.handshake, handshake).await {
            Ok(secured) => Some(Box::new(secured?)),
            Err(_) => {
                self.given_up("handshake");
                None
            }
        }
    }

    fn given_up(&self, missing: &'static str) {
        let metrics = &self.flow.dependencies().metrics;
        metrics.connection_given_up(missing);
    }
}

fn h2_options(streams_max: u32) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(streams_max)
        .max_header_list_size(H2_HEADER_LIST_BYTES)
        .max_concurrent_reset_streams(H2_RESETS_MAX)
        .max_pending_accept_reset_streams(H2_RESETS_MAX)
        .max_local_error_reset_streams(Some(H2_ERRORS_MAX));
    options
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let place = self.place(&stream)?;
        let stream = self.secured(stream).await?;
        let is_h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let connection = Arc::new(Connection {
            edge: Arc::clone(self),
            _place: place,
            has_begun: AtomicBool::new(false),
        });
        let served = connection.process_new(stream, shutdown);
        if !is_h2 {
            return served.await;
        }
        // HTTP/1 waits for its heads below; of HTTP/2 nothing is seen before the first whole one.
        tokio::pin!(served);
        match tokio::time::timeout(self.settings.head, &mut served).await {
            Ok(reusable) => reusable,
            Err(_) if connection.has_begun.load(Ordering::Relaxed) => served.await,
            Err(_) => {
                self.given_up("head");
                None
            }
        }
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let edge = &self.edge;
        let is_first = !self.has_begun.swap(true, Ordering::Relaxed);
        let allowed = if is_first {
            edge.settings.head
        } else {
            edge.settings.keepalive
        };
        let exchange = edge.proxy.process_new_http(session, shutdown);
        match Pace::of_head(is_first, allowed)
            .keep(&edge.places, exchange)
            .await
        {
            Ok(reusable) => reusable,
            // Dropping the exchange closes the connection, or the stream of HTTP/2.
            Err(missing) => {
                edge.given_up(missing);
                None
            }
        }
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.edge.proxy.server_options()
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.edge.proxy.h2_options()
    }
}
