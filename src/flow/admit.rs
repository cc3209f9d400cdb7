//! The first step: one canonical form, one class, and the refusal of what cannot be read in exactly one way.

use crate::domain::headers::OF_ONE_CONNECTION;
use crate::domain::ids::RequestId;
use crate::domain::resource;
use crate::domain::route::Door;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::route::RouteMatch;
use crate::domain::signals::client_addr::AddressSource;
use crate::domain::signals::client_addr::Scheme;
use crate::domain::signals::client_addr::client_address;
use crate::domain::signals::session;
use crate::domain::target::CanonicalTarget;
use crate::flow::Dependencies;
use crate::flow::error::Refusal;
use crate::flow::identify;
use crate::flow::snapshot::Snapshot;
use std::net::IpAddr;

/// The longest head that WSO2's connector takes, in bytes.
pub const HEAD_BYTES_MAX: usize = 8_192;
/// What the gateway's own headers may take of it.
pub const OWN_HEAD_BYTES: usize = 1_024;

/// The head of a request as it came from the wire.
#[derive(Clone, Copy, Debug)]
pub struct Knock<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// The target, byte for byte.
    pub raw_target: &'a [u8],
    /// The HTTP version.
    pub version: http::Version,
    /// The header fields.
    pub headers: &'a http::HeaderMap,
    /// The host of an HTTP/2 `:authority`.
    pub authority: Option<&'a str>,
    /// The address of the connection.
    pub peer: IpAddr,
    /// Whether TLS ends here.
    pub tls: bool,
    /// Whether the raw head names a length beside a transfer coding, which the HTTP library has removed by now.
    pub has_length: bool,
    /// Whether a body follows the head, or may.
    pub has_body: bool,
}

/// How far a head could be read, and whether the request may go on.
#[derive(Debug)]
pub struct Admission {
    /// The canonical target and where it leads, as soon as they are known.
    pub destination: Option<(CanonicalTarget, RouteMatch)>,
    /// The door, if the request may go on and is scored.
    pub result: Result<Option<Door>, Refusal>,
}

/// Who speaks, behind trusted proxies.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// Whether its connection is known to be TLS.
    pub secure: bool,
    /// Whether the connection that came here is its own: else TLS fingerprint and the like are those of a proxy.
    pub direct: bool,
}

/// The client of a request.
pub fn client(knock: &Knock<'_>, snapshot: &Snapshot) -> Client {
    let client = client_address(knock.peer, knock.headers, &snapshot.trusted_proxies);
    Client {
        address: client.address,
        secure: client
            .forwarded_proto
            .map_or(knock.tls, |scheme| scheme == Scheme::Https),
        direct: client.source == AddressSource::Peer,
    }
}

/// Reads the head.
pub fn admit(knock: &Knock<'_>, snapshot: &Snapshot) -> Admission {
    let (target, head) = match readable(knock, snapshot) {
        Ok(read) => read,
        Err(refusal) => {
            return Admission {
                destination: None,
                result: Err(refusal),
            };
        }
    };
    let route = snapshot.routes.classify(knock.method, &target);
    let result = enter(knock, &route, head);
    // A browser repeats the query of the request to come, which nobody has read here and no answer to it depends on.
    let target = match route.class {
        RouteClass::Passed(PassedKind::Preflight) => target.without_query(),
        _ => target,
    };
    Admission {
        destination: Some((target, route)),
        result,
    }
}

/// The target, and how long the head is that would be forwarded without our own headers.
fn readable(knock: &Knock<'_>, snapshot: &Snapshot) -> Result<(CanonicalTarget, usize), Refusal> {
    framing(knock)?;
    let target = CanonicalTarget::parse(knock.raw_target)
        .map_err(|error| Refusal::new(error.status(), error.as_str(), error.to_string()))?;
    host(knock, &target, snapshot)?;
    let head = head_size(knock, &target, snapshot);
    fits(head, OWN_HEAD_BYTES)?;
    Ok((target, head))
}

fn enter(knock: &Knock<'_>, route: &RouteMatch, head: usize) -> Result<Option<Door>, Refusal> {
    let basic = || identify::has_basic_credentials(knock.headers);
    match route.class {
        RouteClass::Blocked | RouteClass::Unknown => {
            Err(Refusal::new(404, "not_found", "there is nothing here"))
        }
        _ if !route.method_is_allowed => Err(not_allowed(route)),
        RouteClass::Passed(PassedKind::Preflight) if !is_preflight(knock.method, knock.headers) => {
            Err(not_allowed(route))
        }
        RouteClass::Passed(PassedKind::Preflight) => without_body(knock).map(|()| None),
        RouteClass::Scored(door) => Ok(Some(door)),
        // A user's password on an API is a login like any other.
        RouteClass::Passed(
            PassedKind::Api | PassedKind::Scim | PassedKind::Configured | PassedKind::Portal,
        ) if basic() => Ok(Some(Door::Basic)),
        RouteClass::Resource(_) => {
            // The assertion is longer than what goes to the identity server.
            fits(head, resource::OWN_HEAD_BYTES)?;
            if is_preflight(knock.method, knock.headers) {
                without_body(knock)?;
            }
            Ok(None)
        }
        RouteClass::Own | RouteClass::Passed(_) => Ok(None),
    }
}

fn not_allowed(route: &RouteMatch) -> Refusal {
    let mut refusal = Refusal::new(405, "method", "the method is not allowed for this path");
    refusal.allow = Some(route.methods.allow_header());
    refusal
}

/// Whether a browser asks if a page of another origin may send a request (CORS): that carries no credentials, and only who
/// answers the request knows.
pub(in crate::flow) fn is_preflight(method: &http::Method, headers: &http::HeaderMap) -> bool {
    *method == http::Method::OPTIONS
        && headers.contains_key(http::header::ORIGIN)
        && headers.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD)
        && !headers.contains_key(http::header::AUTHORIZATION)
}

/// What passes unread brings nothing along that could be acted on.
fn without_body(knock: &Knock<'_>) -> Result<(), Refusal> {
    if knock.has_body {
        return Err(Refusal::closing(
            400,
            "preflight",
            "a preflight has no body",
        ));
    }
    Ok(())
}

/// Whether `Connection` names a field that is there and is meant for the identity server: what it names is not forwarded
/// (RFC 9110 section 7.6.1), so that a request would be judged by cookies and credentials that do not arrive.
fn takes_away(headers: &http::HeaderMap) -> bool {
    // An option that is no field, and fields that may be meant for a proxy: good clients name them, and nobody is judged
    // by them. `Connection` does not name itself.
    const FOR_A_PROXY: [&str; 3] = ["close", "http2-settings", "proxy-authorization"];
    let named = headers.get_all(http::header::CONNECTION).iter();
    named
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter_map(|name| std::str::from_utf8(name).ok())
        .any(|name| {
            let is_own = OF_ONE_CONNECTION
                .iter()
                .chain(&FOR_A_PROXY)
                .any(|own| own.eq_ignore_ascii_case(name));
            !is_own && headers.contains_key(name)
        })
}

/// Framing, and cookies, that two parsers could read in two ways.
fn framing(knock: &Knock<'_>) -> Result<(), Refusal> {
    if knock.headers.keys().any(resembles_framing) {
        return Err(Refusal::closing(
            400,
            "framing",
            "a field has almost the name of one that frames the request",
        ));
    }
    let mut lengths = knock.headers.get_all(http::header::CONTENT_LENGTH).iter();
    let is_number = |value: &http::HeaderValue| {
        !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit)
    };
    if lengths.next().is_some_and(|value| !is_number(value)) || lengths.next().is_some() {
        return Err(Refusal::closing(
            400,
            "framing",
            "the length of a request is one number",
        ));
    }
    let codings = knock
        .headers
        .get_all(http::header::TRANSFER_ENCODING)
        .iter()
        .count();
    if codings > 0 {
        let chunked = knock
            .headers
            .get(http::header::TRANSFER_ENCODING)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if codings > 1 || !chunked {
            return Err(Refusal::closing(
                400,
                "transfer_encoding",
                "the only transfer coding accepted is chunked",
            ));
        }
        if knock.has_length || knock.headers.contains_key(http::header::CONTENT_LENGTH) {
            return Err(Refusal::closing(
                400,
                "framing",
                "a request has either a length or a transfer coding",
            ));
        }
        if knock.version < http::Version::HTTP_11 {
            return Err(Refusal::closing(
                400,
                "framing",
                "HTTP/1.0 knows no transfer coding",
            ));
        }
    }
    if takes_away(knock.headers) {
        return Err(Refusal::closing(
            400,
            "framing",
            "a field that is not of the connection alone is named as if it were",
        ));
    }
    let mut cookies = knock.headers.get_all(http::header::COOKIE).iter();
    if cookies.any(session::has_version) {
        return Err(Refusal::new(
            400,
            "cookie",
            "cookies are sent without a version",
        ));
    }
    expectation(knock)?;
    if knock.headers.contains_key(http::header::UPGRADE) && knock.version < http::Version::HTTP_2 {
        return Err(Refusal::closing(400, "upgrade", "upgrades are not offered"));
    }
    Ok(())
}

/// What a body waits for is one thing, so that nobody else takes it for something else and answers before it.
fn expectation(knock: &Knock<'_>) -> Result<(), Refusal> {
    let mut fields = knock.headers.get_all(http::header::EXPECT).iter();
    let is_met = match (fields.next(), fields.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"100-continue"),
        (Some(_), Some(_)) => false,
    };
    if is_met {
        return Ok(());
    }
    Err(Refusal::closing(
        417,
        "expectation",
        "the only expectation that is met is 100-continue",
    ))
}

/// Whether somebody who takes other signs for a hyphen would read a framing field in this name
/// (`Transfer_Encoding`, `Content.Length`).
fn resembles_framing(name: &http::HeaderName) -> bool {
    if *name == http::header::CONTENT_LENGTH || *name == http::header::TRANSFER_ENCODING {
        return false;
    }
    let letters = || name.as_str().bytes().filter(u8::is_ascii_alphanumeric);
    letters().eq(*b"contentlength") || letters().eq(*b"transferencoding")
}

fn host(knock: &Knock<'_>, target: &CanonicalTarget, snapshot: &Snapshot) -> Result<(), Refusal> {
    let mut hosts = knock.headers.get_all(http::header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => {
            return Err(Refusal::closing(400, "host", "a request names one host"));
        }
        (Some(host), None) => Some(
            host.to_str()
                .map_err(|_| Refusal::new(400, "host", "the host is not readable"))?,
        ),
        (None, _) => knock.authority,
    };
    let Some(named) = named.map(str::trim).filter(|host| !host.is_empty()) else {
        return if knock.version < http::Version::HTTP_11 && snapshot.hosts.is_empty() {
            Ok(())
        } else {
            Err(Refusal::new(400, "host", "a request names its host"))
        };
    };
    let plausible = named
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    if !plausible {
        return Err(Refusal::new(400, "host", "the host is not readable"));
    }
    let lower = named.to_ascii_lowercase();
    if target
        .authority()
        .is_some_and(|authority| authority != lower)
    {
        return Err(Refusal::new(
            400,
            "host",
            "host and request target disagree",
        ));
    }
    let without_port = lower
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(lower.as_str(), |(host, _)| host);
    if snapshot.hosts.is_empty()
        || snapshot
            .hosts
            .iter()
            .any(|known| known == &lower || known == without_port)
    {
        Ok(())
    } else {
        Err(Refusal::new(421, "host", "this host is not served here"))
    }
}

/// The head that would be forwarded must fit the identity server's buffer together with our own headers.
fn fits(head: usize, own: usize) -> Result<(), Refusal> {
    if head + own > HEAD_BYTES_MAX {
        return Err(Refusal::new(
            431,
            "head_size",
            "the request's header fields are too large",
        ));
    }
    Ok(())
}

/// The length of the head that would be forwarded, without our own headers.
fn head_size(knock: &Knock<'_>, target: &CanonicalTarget, snapshot: &Snapshot) -> usize {
    /// Space, HTTP version and line end of the request line, and the empty line.
    const LINE_BYTES: usize = 14;
    let line = knock.method.as_str().len() + target.forwarded().len() + LINE_BYTES;
    let fields = knock
        .headers
        .iter()
        .filter(|(name, _)| !snapshot.reserved_headers.contains(name.as_str()));
    fields.fold(line, |size, (name, value)| {
        size + name.as_str().len() + value.len() + 4
    })
}

/// A new id: in the order of time, and else chance.
pub(in crate::flow) fn request_id(dependencies: &Dependencies) -> RequestId {
    let mut random = [0; 10];
    dependencies.entropy.fill(&mut random);
    let millis = u64::try_from(dependencies.clock.now().millis()).unwrap_or(0);
    RequestId::new(
        uuid::Builder::from_unix_timestamp_millis(millis, &random)
            .into_uuid()
            .to_string(),
    )
}

/// A method by its name; one of no meaning here is `OTHER`.
pub(in crate::flow) fn method_name(method: &http::Method) -> &'static str {
    match *method {
        http::Method::DELETE => "DELETE",
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::OPTIONS => "OPTIONS",
        http::Method::PATCH => "PATCH",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        _ => "OTHER",
    }
}
