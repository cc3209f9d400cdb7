//! To the identity server and to services of the operator's own: the peer, which only a permit names, and the head as it
//! is sent.

use crate::domain::headers;
use crate::domain::parameters::Parameters;
use crate::domain::route::Door;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::signals::network::address_text;
use crate::domain::trace::Trace;
use crate::flow::exchange::Exchange;
use crate::flow::permit::ForwardPermit;
use crate::flow::tracing::TRACEPARENT;
use crate::flow::tracing::TRACESTATE;
use crate::proxy::context::RequestContext;
use crate::proxy::own_certificate;
use crate::proxy::own_certificate::OwnCertificate;
use crate::proxy::rewrite;
use crate::proxy::under_way::Turn;
use crate::proxy::under_way::UnderWay;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use pingora::ErrorType;
use pingora::OrErr;
use pingora::http::RequestHeader;
use pingora::prelude::HttpPeer;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpUpstreamRequestPolicy;
use pingora::utils::tls::WrappedX509;
use pingora::utils::tls::parse_x509;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where the identity server is and how it is reached.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its name, for the certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Certificates of the authority that signed its certificate, DER; empty for those of the system.
    pub authorities: Vec<Vec<u8>>,
    /// Whether its certificate is checked.
    pub verify: bool,
    /// What it is shown when it asks for a certificate.
    pub certificate: Option<Arc<OwnCertificate>>,
    /// For connecting, TLS included.
    pub connect_timeout: Duration,
    /// For each read of the answer.
    pub read_timeout: Duration,
    /// After which an idle connection is closed; below the identity server's own.
    pub idle_timeout: Duration,
    /// Requests that may be under way to it.
    pub requests_max: usize,
    /// Whether requests that must not be sent twice go over connections that were used before.
    pub reuse_for_posts: bool,
}

/// The identity server as a peer. The addresses behind its name are resolved beforehand: Pingora would block and panic.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    trusted: ArcSwap<Trusted>,
    address: ArcSwap<SocketAddr>,
    under_way: Arc<UnderWay>,
}

/// Whom an upstream's certificate is checked against: as Pingora takes it, made once and shared by all requests, and the group
/// of the connections that were made under it.
#[derive(Debug)]
struct Trusted {
    authorities: Option<Arc<[WrappedX509]>>,
    group: u64,
}

impl Trusted {
    fn of(authorities: &[Vec<u8>]) -> Self {
        let parsed = authorities
            .iter()
            .map(|der| WrappedX509::new(der.clone(), parse_x509));
        let group = if authorities.is_empty() {
            0
        } else {
            own_certificate::group(authorities, &[])
        };
        Self {
            authorities: (!authorities.is_empty()).then(|| parsed.collect()),
            group,
        }
    }

    /// The peer is checked against them, over connections that were made under them and no others.
    fn put(&self, peer: &mut HttpPeer) {
        peer.options.ca.clone_from(&self.authorities);
        if self.group != 0 {
            // Pingora does not tell authorities apart.
            peer.group_key = own_certificate::joined(peer.group_key, self.group);
        }
    }
}

/// Sets connections apart that nobody else shall use. Zero is for all others.
static OWN_CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Upstream {
    /// The identity server at a resolved address.
    pub fn new(settings: UpstreamSettings, address: SocketAddr) -> Self {
        let under_way = UnderWay::with_doors(settings.requests_max);
        Self::with(settings, address, under_way)
    }

    /// A service at a resolved address.
    pub fn service(settings: UpstreamSettings, address: SocketAddr) -> Self {
        let under_way = UnderWay::of_one_kind(settings.requests_max);
        Self::with(settings, address, under_way)
    }

    fn with(settings: UpstreamSettings, address: SocketAddr, under_way: Arc<UnderWay>) -> Self {
        Self {
            trusted: ArcSwap::from_pointee(Trusted::of(&settings.authorities)),
            settings,
            address: ArcSwap::from_pointee(address),
            under_way,
        }
    }

    /// A turn for a request at `door`, if there is room for one more.
    pub fn enter(&self, door: Option<Door>, metrics: &Arc<Metrics>) -> Option<Turn> {
        self.under_way.enter(door, metrics)
    }

    /// Whether a request must have a connection of its own: one that was used before may be closed by the other side at
    /// the moment at which it is used again, and what was sent must not be sent twice.
    pub fn is_fresh(&self, method: &http::Method) -> bool {
        !self.settings.reuse_for_posts && !method.is_idempotent()
    }

    /// What it was made from.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Connections from now on are checked against these authorities (DER, each of them usable; none for those of the system).
    /// Requests that are under way end on theirs; no other takes those over.
    pub fn trust(&self, authorities: &[Vec<u8>]) {
        self.trusted.store(Arc::new(Trusted::of(authorities)));
    }

    /// The name resolves to another address from now on.
    pub fn moved(&self, address: SocketAddr) {
        if **self.address.load() != address {
            tracing::info!(upstream.host = %self.settings.host, upstream.address = %address, "an upstream has moved");
            self.address.store(Arc::new(address));
        }
    }

    /// The peer for a request that has a permit, over a connection of its own or one that may be shared. The trace of the
    /// request is told where it goes.
    pub fn peer(
        &self,
        _permit: &ForwardPermit,
        is_fresh: bool,
        trace: Option<&mut Trace>,
    ) -> HttpPeer {
        if let Some(trace) = trace {
            trace.leads_to(&self.settings.host, self.settings.port);
        }
        let mut peer = HttpPeer::new(
            **self.address.load(),
            self.settings.tls,
            self.settings.host.clone(),
        );
        let options = &mut peer.options;
        options.connection_timeout = Some(self.settings.connect_timeout);
        options.total_connection_timeout = Some(self.settings.connect_timeout);
        options.read_timeout = Some(self.settings.read_timeout);
        options.write_timeout = Some(self.settings.read_timeout);
        options.idle_timeout = Some(self.settings.idle_timeout);
        if let Some(own) = &self.settings.certificate {
            own.present().put(&mut peer);
        }
        self.trusted.load().put(&mut peer);
        if is_fresh {
            peer.options.idle_timeout = Some(Duration::ZERO);
            peer.group_key = OWN_CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        }
        let options = &mut peer.options;
        options.verify_cert = self.settings.verify;
        options.verify_hostname = self.settings.verify;
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        peer
    }
}

/// The services of the operator's own, by the names under which permits name them.
#[derive(Debug, Default)]
pub struct Services(ArcSwap<HashMap<Arc<str>, Arc<Upstream>>>);

/// Where a service is whose name does not resolve: nobody listens there, and connecting fails at once.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The address of a name and port, or why there is none.
type Resolve = fn(&str, u16) -> Result<SocketAddr, String>;

impl Services {
    /// These are all.
    pub fn set(&self, peers: Vec<(Arc<str>, UpstreamSettings)>, resolve: Resolve) {
        self.0.store(Arc::new(built(peers, resolve)));
    }

    /// These, beside those that the last call named: requests that began before it go on.
    pub fn add(&self, peers: Vec<(Arc<str>, UpstreamSettings)>, resolve: Resolve) {
        let names: HashSet<Arc<str>> = peers.iter().map(|(name, _)| Arc::clone(name)).collect();
        let mut services = built(peers, resolve);
        let before = self.0.load();
        let others = before.iter().filter(|(name, _)| !names.contains(*name));
        services.extend(others.map(|(name, known)| (Arc::clone(name), Arc::clone(known))));
        self.0.store(Arc::new(services));
    }

    /// The one that the routes know by this name.
    pub fn named(&self, name: &str) -> Option<Arc<Upstream>> {
        self.0.load().get(name).map(Arc::clone)
    }

    /// Every one of them.
    pub fn all(&self) -> Vec<Arc<Upstream>> {
        self.0.load().values().map(Arc::clone).collect()
    }

    /// The service that a permit leads to; `None` when it leads to the identity server or to one that is not known.
    pub fn of(&self, permit: &ForwardPermit) -> Option<Arc<Upstream>> {
        self.named(permit.resource()?)
    }
}

fn built(
    peers: Vec<(Arc<str>, UpstreamSettings)>,
    resolve: Resolve,
) -> HashMap<Arc<str>, Arc<Upstream>> {
    let mut services = HashMap::with_capacity(peers.len());
    for (name, settings) in peers {
        let address = resolve(&settings.host, settings.port).unwrap_or_else(|error| {
            tracing::warn!(service = %name, error = %error, "a service cannot be reached yet");
            NOWHERE
        });
        services.insert(name, Arc::new(Upstream::service(settings, address)));
    }
    services
}

/// Writes the head as the identity server gets it: the canonical target, nothing that only the gateway may say, then
/// what the gateway says. Called once for each try.
pub fn write_head(
    session: &Session,
    head: &mut RequestHeader,
    context: &RequestContext,
) -> pingora::Result<()> {
    let (Some(exchange), Some(permit)) = (
        &context.exchange,
        context
            .exchange
            .as_ref()
            .and_then(|exchange| exchange.permit.as_ref()),
    ) else {
        return pingora::Error::e_explain(ErrorType::InternalError, "a request without a permit");
    };
    let host = host(session);
    let scheme = if exchange.client.secure {
        "https"
    } else {
        "http"
    };
    if let Some(changed) = permit.changed() {
        head.set_raw_path(changed.target.as_bytes())?;
    } else if let Some(target) = &exchange.target {
        head.set_raw_path(target.forwarded().as_bytes())?;
    }
    remove_reserved(head, exchange);
    head.remove_header(&http::header::TE);
    head.remove_header(&http::header::TRAILER);
    if context.is_body_read || session.req_header().version < http::Version::HTTP_11 {
        // The body is here already: the client was told to go on by the gateway. HTTP/1.0 has no such word.
        head.remove_header(&http::header::EXPECT);
    }
    if permit.resource().is_some() {
        // On this host they are the identity server's and the gateway's own.
        head.remove_header(&http::header::COOKIE);
    }
    join_cookies(head)?;
    replace_content_type(head, context.parameters.as_ref())?;
    let class = exchange.route.as_ref().map(|route| route.class);
    let is_asked = class == Some(RouteClass::Passed(PassedKind::Introspect));
    let is_held = exchange.owes.is_some() || exchange.asks_account;
    if reads_answer(exchange.door) || is_held || is_asked {
        // The answer is read here as well and must not come compressed.
        head.remove_header(&http::header::ACCEPT_ENCODING);
    }
    rewrite::ask_for_all(head, exchange);
    if let Some(authorization) = &context.authorization {
        head.insert_header(http::header::AUTHORIZATION, authorization.as_str())?;
    }
    if let Some(host) = host {
        head.insert_header(http::header::HOST, host.as_str())?;
        head.insert_header(headers::X_FORWARDED_HOST, host)?;
    }
    let address = address_text(exchange.client.address);
    head.insert_header(headers::X_FORWARDED_FOR, address)?;
    head.insert_header(headers::X_FORWARDED_PROTO, scheme)?;
    head.insert_header(headers::ACTIVITY_ID, exchange.id.as_str())?;
    if let Some(trace) = &exchange.trace {
        head.insert_header(TRACEPARENT, trace.ask_upstream(|| context.now()))?;
        if trace.parent.is_none() {
            // It goes with a traceparent that is not passed on.
            head.remove_header(TRACESTATE);
        }
    }
    for (name, value) in &permit.headers().0 {
        let value = match value {
            Cow::Borrowed(word) => {
                HeaderValue::from_maybe_shared(Bytes::from_static(word.as_bytes()))
            }
            Cow::Owned(text) => HeaderValue::from_str(text),
        };
        let value = value.or_err(ErrorType::InvalidHTTPHeader, "a header of the gateway")?;
        head.insert_header(*name, value)?;
    }
    if context.is_fresh {
        head.insert_header(http::header::CONNECTION, "close")?;
    }
    if let Some(body) = &context.new_body {
        head.remove_header(&http::header::TRANSFER_ENCODING);
        head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
    }
    Ok(())
}

/// Whether the answers of a door are read.
pub fn reads_answer(door: Option<Door>) -> bool {
    matches!(
        door,
        Some(
            Door::Token
                | Door::Authn
                | Door::Par
                | Door::Flow
                | Door::Authorize
                | Door::DeviceAuthorize
                | Door::Ciba
        )
    )
}

fn host(session: &Session) -> Option<String> {
    let head = session.req_header();
    let named = head
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok())
        .map(str::to_owned);
    named.or_else(|| {
        head.uri
            .authority()
            .map(|authority| authority.as_str().to_owned())
    })
}

fn remove_reserved(head: &mut RequestHeader, exchange: &Exchange) {
    let reserved = &exchange.snapshot.reserved_headers;
    let names: Vec<http::HeaderName> = head
        .headers
        .keys()
        .filter(|name| reserved.contains(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        head.remove_header(&name);
    }
}

/// HTTP/2 clients may split their cookies over several fields, which HTTP/1.1 servers read in different ways
/// (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> pingora::Result<()> {
    let fields: Vec<&[u8]> = head
        .headers
        .get_all(http::header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if fields.len() > 1 {
        let joined = fields.join(&b"; "[..]);
        head.insert_header(http::header::COOKIE, joined)?;
    }
    Ok(())
}

/// The identity server must decode the body as it was decoded here.
fn replace_content_type(
    head: &mut RequestHeader,
    parameters: Option<&Parameters>,
) -> pingora::Result<()> {
    match parameters.map(Parameters::forwarded_content_type) {
        Some(Some(content_type)) => head.insert_header(http::header::CONTENT_TYPE, content_type),
        // Without a body there is nothing that could have a type.
        Some(None) => {
            head.remove_header(&http::header::CONTENT_TYPE);
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::upstreams::peer::Peer;

    fn authority() -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        made.unwrap().cert.der().to_vec()
    }

    fn peer(authorities: &[Vec<u8>], own: u64) -> HttpPeer {
        let mut peer = HttpPeer::new("127.0.0.1:9443", true, "localhost".to_owned());
        peer.group_key = own;
        Trusted::of(authorities).put(&mut peer);
        peer
    }

    #[test]
    fn connections_are_shared_under_the_same_authorities_and_no_others() {
        let (one, other) = (authority(), authority());
        let hash = |authorities: &[Vec<u8>]| peer(authorities, 0).reuse_hash();
        assert_eq!(
            hash(std::slice::from_ref(&one)),
            hash(std::slice::from_ref(&one))
        );
        assert_ne!(
            hash(std::slice::from_ref(&one)),
            hash(std::slice::from_ref(&other))
        );
        assert_ne!(
            hash(std::slice::from_ref(&one)),
            hash(&[one.clone(), other])
        );
        assert_ne!(hash(std::slice::from_ref(&one)), hash(&[]));
        // Whoever is shown a certificate is told apart by both.
        let shown = |own| peer(std::slice::from_ref(&one), own).reuse_hash();
        assert_ne!(shown((1 << 63) + 1), shown((1 << 63) + 2));
        assert_eq!(peer(&[], 0).group_key, 0);
        assert_eq!(peer(&[], 0).get_ca().map(|list| list.len()), None);
        assert_eq!(peer(&[one], 0).get_ca().map(|list| list.len()), Some(1));
    }
}
