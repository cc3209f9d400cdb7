//! Where requests of ours to addresses of the operator's choice may go: over TLS, and never to one at which machines in clouds
//! hand out their own credentials. Names are resolved anew with each connection, and the answer is held to the same rule.

use crate::adapters::outbound;
use crate::adapters::outbound::ClientError;
use reqwest::ClientBuilder;
use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::Arc;

/// The longest address, in bytes.
const URL_BYTES_MAX: usize = 2_000;

/// An address that was checked.
#[derive(Clone, Eq, PartialEq)]
pub struct Target(Url);

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.origin())
    }
}

impl Target {
    /// Checks an address. The error says what was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = (text.len() <= URL_BYTES_MAX)
            .then(|| Url::parse(text).ok())
            .flatten();
        let url = url.ok_or("expected https://host/path")?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("expected neither credentials nor a fragment");
        }
        let host = url.host_str().ok_or("expected a host")?;
        let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let is_loopback = literal.is_some_and(|ip| ip.to_canonical().is_loopback());
        if literal.is_some_and(is_forbidden) {
            return Err("expected no link-local, multicast or unspecified address");
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback => Ok(Self(url)),
            _ => Err("expected https://, or http:// and an address of loopback"),
        }
    }

    /// The address.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Scheme, host and port: what may be said of it. Paths of receivers often hold a secret.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// Metadata of clouds beside link-local addresses: Alibaba's, Amazon's and Google's.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether nobody's server is at an address: link-local (there clouds keep their metadata), multicast, unspecified, and
/// those elsewhere at which a cloud keeps the same.
fn is_forbidden(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_link_local()
                || ip.is_multicast()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip == METADATA_V4
        }
        IpAddr::V6(ip) => match ip.segments() {
            // The other name that NAT64 gives to an IPv4 address (RFC 6052).
            [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
                let [.., a, b, c, d] = ip.octets();
                is_forbidden(IpAddr::from([a, b, c, d]))
            }
            _ => {
                ip.is_unicast_link_local()
                    || ip.is_multicast()
                    || ip.is_unspecified()
                    || METADATA_V6.contains(&ip)
            }
        },
    }
}

/// A client for targets: [`outbound::client`] whose names lead nowhere that is forbidden, with one idle connection at most.
///
/// # Errors
/// An authority is no certificate.
pub fn client(authorities: &[Vec<u8>]) -> Result<ClientBuilder, ClientError> {
    Ok(outbound::client(authorities)?
        .pool_max_idle_per_host(1)
        .dns_resolver(Arc::new(GuardedResolver)))
}

/// The system's resolver, of whose answers the forbidden ones are left out.
#[derive(Debug)]
struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|address| !is_forbidden(address.ip()))
                .collect();
            if found.is_empty() {
                let error = io::Error::other("the name resolves to no address that may be used");
                return Err(error.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_may_be_used_are_taken() {
        for url in [
            "https://siem.example.com/hooks/1?x=1",
            "https://10.0.0.7:8443/",
            "https://[fd00::7]/",
            "http://127.0.0.1:9000/",
            "http://[::1]:9000/",
        ] {
            assert!(Target::parse(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "siem.example.com",
            "ftp://siem.example.com/",
            "file:///etc/passwd",
            "http://siem.example.com/",
            "http://10.0.0.7/",
            "http://localhost:9000/",
            "https://user:pass@siem.example.com/",
            "https://siem.example.com/#x",
            "https://169.254.169.254/latest/meta-data/",
            "https://[::ffff:169.254.169.254]/",
            "https://2852039166/",
            "https://0xa9.0xfe.0xa9.0xfe/",
            "https://[fe80::1]/",
            "https://[fd00:ec2::254]/",
            "https://[fd20:ce::254]/",
            "https://[64:ff9b::169.254.169.254]/",
            "https://100.100.100.200/",
            "https://0.0.0.0/",
            "https://224.0.0.1/",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        let target = Target::parse("https://siem.example.com/hooks/s3cret").unwrap();
        assert_eq!(target.origin(), "https://siem.example.com");
        assert_eq!(format!("{target:?}"), "Target(https://siem.example.com)");
    }
}
