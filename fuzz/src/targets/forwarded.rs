//! `X-Forwarded-For`, `Forwarded`, `X-Forwarded-Proto` and `traceparent`: of a peer that is not trusted nothing is believed,
//! and what a client wrote before the proxies' own entries changes nothing.

use crate::input::Input;
use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use riskgate::domain::headers;
use riskgate::domain::hex;
use riskgate::domain::signals::client_addr::AddressSource;
use riskgate::domain::signals::client_addr::ClientAddress;
use riskgate::domain::signals::client_addr::TrustedProxies;
use riskgate::domain::signals::client_addr::client_address;
use riskgate::domain::trace::TraceParent;
use std::net::IpAddr;
use std::sync::LazyLock;

const LIST: HeaderName = HeaderName::from_static("x-forwarded-for");
const NAMES: [HeaderName; 3] = [
    LIST,
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Lines, each a digit for the name of a header and its value.
pub(super) fn forwarded(bytes: &[u8]) -> bool {
    static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(str::to_owned);
        TrustedProxies::parse(&networks).expect("networks")
    });
    let near = IpAddr::from([10, 0, 0, 1]);
    let far = IpAddr::from([203, 0, 113, 9]);

    let mut map = HeaderMap::new();
    for line in Input::new(bytes).lines() {
        check_trace(line);
        check_name(line);
        let mut line = Input::new(line);
        if let Some(name) = line.choice(&NAMES)
            && let Ok(value) = HeaderValue::from_bytes(line.rest())
        {
            map.append(name, value);
        }
    }
    let believed = client_address(far, &map, &TRUSTED);
    assert_eq!(
        (believed.address, believed.source),
        (far, AddressSource::Peer)
    );
    assert!(believed.forwarded_proto.is_none() && !believed.malformed);

    let client = client_address(near, &map, &TRUSTED);
    assert_eq!(client.address, client.address.to_canonical());
    if client.source == AddressSource::Peer {
        assert_eq!(client.address, near);
    } else if !TRUSTED.contains(client.address) {
        check_again(near, &client, &TRUSTED);
        check_prefix(near, &client, &map, &TRUSTED);
    }
    client.source != AddressSource::Peer && !client.malformed
}

/// Written as the gateway writes it, and read by a gateway behind it.
fn check_again(near: IpAddr, client: &ClientAddress, trusted: &TrustedProxies) {
    let mut map = HeaderMap::new();
    let value = client.address.to_string();
    map.append(LIST, value.parse().expect("an address is a value"));
    let again = client_address(near, &map, trusted);
    assert_eq!(again.address, client.address);
    assert!(!again.malformed);
}

/// What a client puts before everything else is not read, once an address was found that no proxy has.
fn check_prefix(near: IpAddr, client: &ClientAddress, map: &HeaderMap, trusted: &TrustedProxies) {
    if client.source != AddressSource::XForwardedFor || client.malformed {
        return;
    }
    let mut longer = map.clone();
    longer.remove(&LIST);
    longer.append(
        LIST,
        HeaderValue::from_static("192.0.2.66, unknown, \"[::1"),
    );
    for value in map.get_all(&LIST) {
        longer.append(LIST, value.clone());
    }
    let again = client_address(near, &longer, trusted);
    assert_eq!(again.address, client.address);
}

fn check_trace(value: &[u8]) {
    if let Some(parent) = TraceParent::parse(value) {
        let (id, span) = (hex::encode(&parent.trace_id), hex::encode(&parent.span_id));
        assert_eq!(value.get(3..35), Some(id.as_bytes()));
        assert_eq!(value.get(36..52), Some(span.as_bytes()));
    }
}

/// Neither case nor a `_` in place of a `-` makes another name of it.
fn check_name(name: &[u8]) {
    if let Ok(name) = std::str::from_utf8(name) {
        let spelled = name.to_ascii_uppercase().replace('-', "_");
        assert_eq!(headers::is_reserved(name), headers::is_reserved(&spelled));
    }
}
