//! What this one request shows. Extraction is pure: headers, parameters and look-ups come in as values.

/// What is known of the network.
pub mod network;

/// The client's address behind trusted proxies.
pub mod client_addr;

/// Browser, system, kind of device; the TLS handshake.
pub mod agent;

/// Session and device cookies.
pub mod session;

use crate::domain::history::Familiarity;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use agent::AgentFacts;
use agent::TlsFingerprint;
use network::NetworkFacts;
use network::address_text;
use network::host_hash;
use network::velocity_prefix;
use session::DeviceCookie;
use std::net::IpAddr;
use std::sync::Arc;

/// Who a request is about, and how that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// Nobody is named.
    Anonymous,
    /// A service account that speaks for itself.
    Client {
        /// Its key.
        key: SubjectKey,
    },
    /// A user whose name the request carries.
    Named {
        /// Their key.
        key: SubjectKey,
        /// The name as sent. Kept in memory for the policy, never stored or logged.
        name: String,
    },
}

/// The signals of one request.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Whom it is about.
    pub subject: Subject,
    /// The OAuth client, by its id.
    pub client_id: Option<String>,
    /// The client's key.
    pub client: Option<SubjectKey>,
    /// The address that speaks.
    pub address: IpAddr,
    /// Its network.
    pub network: NetworkFacts,
    /// Browser and system.
    pub agent: Arc<AgentFacts>,
    /// The handshake, where TLS ends here.
    pub tls: Option<TlsFingerprint>,
    /// A hash of method, version and the order of the header names.
    pub http_fingerprint: u32,
    /// The device cookie.
    pub device: DeviceCookie,
    /// Whether the door is one that browsers use.
    pub browser_door: bool,
    /// Whether the parameters are hidden in a signed or pushed object.
    pub parameters_hidden: bool,
    /// What a token request asks for, and how.
    pub grant: GrantSignals,
    /// The keyed hashes of all that.
    pub hashes: SignalHashes,
}

/// What a request for tokens asks for, and what it can show beside it. Empty at other doors.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GrantSignals {
    /// The hashes of the scopes asked for, at most [`SCOPES_MAX`](crate::domain::history::client::SCOPES_MAX).
    pub scopes: Vec<ValueHash>,
    /// Whether the client authenticates itself, with a secret or an assertion. Whether rightly, only WSO2 can say.
    pub client_authenticates: bool,
    /// The key of the proof of possession (DPoP, RFC 9449) that came along. The proof itself is not checked here.
    pub proof_key: Option<ValueHash>,
}

/// The keyed hashes under which a request's signals are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SignalHashes {
    /// For profiles.
    pub familiarity: Familiarity,
    /// The address (IPv6: its /64).
    pub address: ValueHash,
    /// The /24 or /48.
    pub prefix: ValueHash,
    /// Agent and TLS fingerprint together.
    pub agent_tls: ValueHash,
    /// The browser or program without its version.
    pub browser: ValueHash,
    /// The tenant.
    pub tenant: ValueHash,
}

impl Subject {
    /// The key, when somebody is named.
    pub fn key(&self) -> Option<SubjectKey> {
        match self {
            Self::Anonymous => None,
            Self::Client { key } | Self::Named { key, .. } => Some(*key),
        }
    }
}

impl SignalHashes {
    /// Hashes what a request shows.
    pub fn of(
        people: &Pseudonymizer,
        tenant: &str,
        address: IpAddr,
        network: &NetworkFacts,
        agent: &AgentFacts,
        tls: Option<&TlsFingerprint>,
        device: &DeviceCookie,
    ) -> Self {
        let text = |space, value: &str| people.value(space, value.as_bytes());
        let host = host_hash(people, address);
        let ja4 = tls.map_or("", |tls| tls.ja4.as_str());
        Self {
            familiarity: Familiarity {
                address: Some(host),
                asn: network
                    .asn
                    .map(|asn| text(NameSpace::AutonomousSystem, &asn.to_string())),
                country: network
                    .country
                    .map(|country| text(NameSpace::Country, country.as_str())),
                agent: Some(text(NameSpace::Agent, &agent.release)),
                platform: Some(text(NameSpace::Platform, &agent.platform)),
                language: agent
                    .language
                    .as_deref()
                    .map(|tag| text(NameSpace::Language, tag)),
                device: match device {
                    DeviceCookie::Valid(token) => {
                        Some(people.value(NameSpace::Device, &token.device))
                    }
                    DeviceCookie::Absent | DeviceCookie::Forged | DeviceCookie::Unsendable => None,
                },
                tls: tls.map(|tls| text(NameSpace::TlsFingerprint, &tls.ja4)),
            },
            address: host,
            prefix: text(NameSpace::Prefix, &address_text(velocity_prefix(address))),
            agent_tls: people
                .pseudonym(
                    NameSpace::Agent,
                    &[
                        agent.release.as_bytes(),
                        agent.os.as_bytes(),
                        ja4.as_bytes(),
                    ],
                )
                .value_hash(),
            browser: text(NameSpace::Agent, &agent.browser),
            tenant: text(NameSpace::Tenant, tenant),
        }
    }
}

/// A hash of method, HTTP version and the order of header names (FNV-1a): tools order their headers in their own way.
/// Cookies and what proxies add are left out by the caller.
pub fn http_fingerprint<'a>(
    method: &str,
    version: http::Version,
    names: impl Iterator<Item = &'a str>,
) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let mix = |hash: u32, bytes: &[u8]| {
        bytes.iter().fold(hash, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(PRIME)
        })
    };
    let version: &[u8] = if version == http::Version::HTTP_2 {
        b"2"
    } else {
        b"1"
    };
    names.fold(
        mix(mix(OFFSET, method.as_bytes()), version),
        |hash, name| mix(mix(hash, b"\n"), name.as_bytes()),
    )
}
