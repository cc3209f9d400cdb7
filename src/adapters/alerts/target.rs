//! Where messages may go: an address of the operator's choice, over TLS, and never one at which machines in clouds hand out
//! their own credentials. Names are resolved anew with each connection, and the answer is held to the same rule.

use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use std::io;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// The longest address, in bytes.
const URL_BYTES_MAX: usize = 2_000;

/// An address that was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target(Url);

impl Target {
    /// Checks an address. The error says what was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = (text.len() <= URL_BYTES_MAX)
            .then(|| Url::parse(text).ok())
            .flatten();
        let url = url.ok_or("expected https://host/path")?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("expected neither credentials nor a fragment: messages are signed instead");
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

/// Whether nobody's receiver is at an address: link-local (there clouds keep their metadata), multicast, unspecified, and
/// the one in unique local space at which a cloud keeps the same.
pub(super) fn is_forbidden(ip: IpAddr) -> bool {
    let metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() || ip == metadata
        }
    }
}

/// The system's resolver, of whose answers the forbidden ones are left out.
#[derive(Debug)]
pub(super) struct GuardedResolver;

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
