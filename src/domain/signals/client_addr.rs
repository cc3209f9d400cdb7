//! The address of the client: that of the socket, unless the socket belongs to a trusted proxy that says for whom it
//! speaks. What a client writes about itself is never believed: headers of an untrusted peer are not even read, and of
//! a list only the part that trusted proxies have appended counts.
//!
//! `X-Forwarded-For` wins over `Forwarded` where both are present. Most proxies maintain the former and pass the latter
//! on as the client sent it; a disagreement is reported as malformed.

use crate::domain::signals::network::canonical_address;
use http::HeaderMap;
use ipnet::IpNet;
use ipnet::Ipv4Net;
use std::net::IpAddr;

/// How many hops are followed.
pub const HOPS_MAX: usize = 32;

/// How many networks may be trusted.
pub const TRUSTED_PROXIES_MAX: usize = 256;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED: &str = "forwarded";

/// Networks of proxies whose word is taken. Shipped empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

/// An entry of the list of trusted proxies that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TrustedProxyError {
    /// Neither an address nor a network in CIDR notation (RFC 4632, RFC 4291).
    #[error("trusted proxy `{0}`: expected an address or a network such as `10.0.0.0/8`")]
    Network(String),
    /// A network that holds every address: every client could then name itself.
    #[error("trusted proxy `{0}`: expected a network that does not hold every address")]
    Everybody(String),
    /// More than [`TRUSTED_PROXIES_MAX`].
    #[error("expected at most {TRUSTED_PROXIES_MAX} trusted proxies, found {0}")]
    TooMany(usize),
}

/// The scheme that the client used towards the outermost trusted proxy.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// With TLS.
    Https,
}

/// What an address is known from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AddressSource {
    /// The socket.
    Peer,
    /// `X-Forwarded-For`, written by a trusted proxy.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), written by a trusted proxy.
    Forwarded,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddress {
    /// The address; IPv4-mapped ones as IPv4.
    pub address: IpAddr,
    /// The scheme, where a trusted proxy names it.
    pub forwarded_proto: Option<Scheme>,
    /// What the address is known from.
    pub source: AddressSource,
    /// Whether the words of trusted proxies could not be followed to the client: they are no addresses, too many, or
    /// contradict one another. The address is then that of the last hop that could be followed.
    pub malformed: bool,
}

/// One hop as a header names it.
#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    /// `None` where it is not an address.
    address: Option<IpAddr>,
    proto: Option<Result<Scheme, ()>>,
}

/// Where following a list of hops has led.
struct Walk {
    address: IpAddr,
    proto: Option<Result<Scheme, ()>>,
    malformed: bool,
}

impl TrustedProxies {
    /// Reads a list of addresses and networks.
    ///
    /// # Errors
    /// Names the entry that is neither, or that would trust everybody.
    pub fn parse(entries: &[String]) -> Result<Self, TrustedProxyError> {
        if entries.len() > TRUSTED_PROXIES_MAX {
            return Err(TrustedProxyError::TooMany(entries.len()));
        }
        let networks = entries.iter().map(|entry| {
            let network = entry
                .parse()
                .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
            let network = network.map_err(|_| TrustedProxyError::Network(entry.clone()))?;
            let network = canonical_network(network);
            if network.prefix_len() == 0 {
                return Err(TrustedProxyError::Everybody(entry.clone()));
            }
            Ok(network)
        });
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
        })
    }

    /// Whether an address is that of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical_address(address);
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(text: &str) -> Result<Self, ()> {
        match text {
            _ if text.eq_ignore_ascii_case("http") => Ok(Self::Http),
            _ if text.eq_ignore_ascii_case("https") => Ok(Self::Https),
            _ => Err(()),
        }
    }
}

impl AddressSource {
    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::XForwardedFor => "x_forwarded_for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Who sent a request that came from `peer`: the right-most address of the list that is not a trusted proxy's, or, where
/// all are, the left-most.
pub fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
) -> ClientAddress {
    let peer = canonical_address(peer);
    let mut client = ClientAddress {
        address: peer,
        forwarded_proto: None,
        source: AddressSource::Peer,
        malformed: false,
    };
    if !trusted.contains(peer) {
        return client;
    }
    let listed = headers
        .contains_key(X_FORWARDED_FOR)
        .then(|| walk(peer, trusted, x_forwarded_for(headers)));
    let forwarded = headers
        .contains_key(FORWARDED)
        .then(|| walk(peer, trusted, forwarded_hops(headers)));
    let (walk, source) = match (listed, forwarded) {
        (None, None) => {
            let (proto, malformed) = settle(x_forwarded_proto(headers));
            return ClientAddress {
                forwarded_proto: proto,
                malformed,
                ..client
            };
        }
        (Some(listed), Some(forwarded)) => {
            client.malformed = listed.address != forwarded.address;
            (listed, AddressSource::XForwardedFor)
        }
        (Some(listed), None) => (listed, AddressSource::XForwardedFor),
        (None, Some(forwarded)) => (forwarded, AddressSource::Forwarded),
    };
    let (proto, proto_is_malformed) = settle(match source {
        AddressSource::Forwarded => walk.proto.or_else(|| x_forwarded_proto(headers)),
        AddressSource::Peer | AddressSource::XForwardedFor => x_forwarded_proto(headers),
    });
    ClientAddress {
        address: walk.address,
        forwarded_proto: proto,
        source: if walk.address == peer && walk.malformed {
            AddressSource::Peer
        } else {
            source
        },
        malformed: client.malformed || walk.malformed || proto_is_malformed,
    }
}

/// Follows hops from the right for as long as they are trusted proxies.
fn walk(peer: IpAddr, trusted: &TrustedProxies, hops: impl Iterator<Item = Hop>) -> Walk {
    let mut walk = Walk {
        address: peer,
        proto: None,
        malformed: false,
    };
    for (position, hop) in hops.enumerate() {
        let Some(address) = hop.address.filter(|_| position < HOPS_MAX) else {
            walk.malformed = true;
            return walk;
        };
        walk.address = address;
        walk.proto = hop.proto;
        if !trusted.contains(address) {
            return walk;
        }
    }
    walk
}

/// The hops of all `X-Forwarded-For` headers, from the right.
fn x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|line| {
            line.as_bytes()
                .rsplit(|byte| *byte == b',')
                .map(|element| Hop {
                    address: node_address(element),
                    proto: None,
                })
        })
}

/// The scheme that the nearest proxy names.
fn x_forwarded_proto(headers: &HeaderMap) -> Option<Result<Scheme, ()>> {
    let line = headers.get_all(X_FORWARDED_PROTO).iter().next_back()?;
    let text = line.to_str().unwrap_or_default();
    Some(Scheme::parse(
        text.rsplit(',').next().unwrap_or_default().trim(),
    ))
}

/// The hops of all `Forwarded` headers, from the right. Each line is read for itself, so that a quote which a client
/// leaves open ends with its own line. A line that cannot be read is one hop without an address.
fn forwarded_hops(headers: &HeaderMap) -> impl Iterator<Item = Hop> {
    headers.get_all(FORWARDED).iter().rev().flat_map(|line| {
        let elements = line.to_str().ok().and_then(forwarded_elements);
        elements
            .unwrap_or_else(|| vec![Hop::default()])
            .into_iter()
            .rev()
    })
}

/// The elements of one `Forwarded` line (RFC 7239, section 4), or `None` where it breaks the grammar.
fn forwarded_elements(line: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    let mut rest = line;
    loop {
        let (hop, after) = forwarded_element(rest)?;
        hops.push(hop);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None => return after.is_empty().then_some(hops),
        }
    }
}

/// One element and what follows it: nothing or a comma.
fn forwarded_element(text: &str) -> Option<(Hop, &str)> {
    let mut hop = Hop::default();
    let mut has_node = false;
    let mut rest = text.trim_start_matches([' ', '\t']);
    loop {
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return None;
        }
        let (value, after) = forwarded_value(after)?;
        if name.eq_ignore_ascii_case("for") {
            if has_node {
                return None;
            }
            has_node = true;
            hop.address = node_address(value.as_bytes());
        } else if name.eq_ignore_ascii_case("proto") {
            if hop.proto.is_some() {
                return None;
            }
            hop.proto = Some(Scheme::parse(&value));
        }
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix(';') {
            Some(after) => rest = after.trim_start_matches([' ', '\t']),
            None if after.is_empty() || after.starts_with(',') => return Some((hop, after)),
            None => return None,
        }
    }
}

/// A token or a quoted string, and what follows it.
fn forwarded_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .bytes()
            .position(|byte| !is_token_byte(byte))
            .unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        return (!value.is_empty()).then(|| (value.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// RFC 9110, section 5.6.2. The colon and the brackets are not of it, but many proxies write addresses unquoted.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte)
}

/// The address of a node in any of its usual forms: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`, each also with a zone (RFC 4007). `unknown` and obfuscated names are no addresses.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?.trim_matches([' ', '\t']);
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, port) = rest.split_once(']')?;
            if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
                return None;
            }
            IpAddr::V6(without_zone(inner)?.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((v4, port)) if !port.contains(':') => is_port(port)
                .then(|| v4.parse().ok().map(IpAddr::V4))
                .flatten()?,
            _ => without_zone(text)?.parse().ok()?,
        },
    };
    let address = canonical_address(address);
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    (!address.is_unspecified() && !address.is_multicast() && !is_broadcast).then_some(address)
}

/// The address before a zone id; only IPv6 has zones.
fn without_zone(text: &str) -> Option<&str> {
    match text.split_once('%') {
        Some((address, zone)) => (address.contains(':') && !zone.is_empty()).then_some(address),
        None => Some(text),
    }
}

/// A number of 16 bits, or an obfuscated port (RFC 7239, section 6.2).
fn is_port(text: &str) -> bool {
    let is_number = text.len() <= 5
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok();
    let obfuscated = text.strip_prefix('_').filter(|rest| !rest.is_empty());
    is_number
        || obfuscated.is_some_and(|rest| {
            rest.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        })
}

/// The scheme and whether it could not be read.
fn settle(proto: Option<Result<Scheme, ()>>) -> (Option<Scheme>, bool) {
    match proto {
        None => (None, false),
        Some(Ok(scheme)) => (Some(scheme), false),
        Some(Err(())) => (None, true),
    }
}

/// A network of IPv4-mapped addresses as the IPv4 network that it is.
fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = v6
        .addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96));
    mapped
        .and_then(|(v4, prefix)| Ipv4Net::new(v4, prefix).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests;
