//! The raw inputs of features in the form of the vectors' files, and the way from there to the gateway's own types.

use riskgate::domain::features::FeatureVector;
use riskgate::domain::features::derive::Known;
use riskgate::domain::features::derive::derive;
use riskgate::domain::history::AddressCounts;
use riskgate::domain::history::ClientBaseline;
use riskgate::domain::history::FailureRatio;
use riskgate::domain::history::Familiarity;
use riskgate::domain::history::History;
use riskgate::domain::history::Population;
use riskgate::domain::history::Profile;
use riskgate::domain::history::Provenance;
use riskgate::domain::history::SubjectCounts;
use riskgate::domain::ids::Pseudonym;
use riskgate::domain::ids::SubjectKey;
use riskgate::domain::ids::ValueHash;
use riskgate::domain::kind::RequestKind;
use riskgate::domain::signals::GrantSignals;
use riskgate::domain::signals::SignalHashes;
use riskgate::domain::signals::Signals;
use riskgate::domain::signals::Subject;
use riskgate::domain::signals::agent::AgentFacts;
use riskgate::domain::signals::agent::TlsFingerprint;
use riskgate::domain::signals::network::Coordinates;
use riskgate::domain::signals::network::NetworkFacts;
use riskgate::domain::signals::network::NetworkKind;
use riskgate::domain::signals::session::DeviceCookie;
use riskgate::domain::signals::session::DeviceToken;
use riskgate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::sync::Arc;

/// A browser that is no program.
pub(crate) const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
/// A program.
pub(crate) const CURL: &str = "curl/8.5.0";
/// The subject of every request.
pub(crate) fn subject() -> SubjectKey {
    SubjectKey(Pseudonym::from_bytes([9; 16]))
}

/// Whom a request names.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawSubject {
    Anonymous,
    Client,
    Named,
}

/// The device cookie.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RawDevice {
    pub(crate) state: RawCookie,
    /// Whether the cookie names the subject.
    pub(crate) names_subject: bool,
    /// How many subjects it names.
    pub(crate) subjects: usize,
    pub(crate) issued: Timestamp,
}

/// How the device cookie arrived.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawCookie {
    Absent,
    Forged,
    Unsendable,
    Valid,
}

/// What a token request asks for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RawGrant {
    pub(crate) scopes: Vec<ValueHash>,
    pub(crate) client_authenticates: bool,
    pub(crate) proof_key: Option<ValueHash>,
}

/// Failures and attempts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RawRatio {
    pub(crate) failures: f32,
    pub(crate) attempts: f32,
}

/// Counters of an address.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RawAddress {
    pub failures_10m: f32,
    pub failures_24h: f32,
    pub attempts_24h: f32,
    pub users_1h: f32,
    pub(crate) trusted_subjects: f32,
}

/// Counters of a subject.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RawCounts {
    pub failures_10m: f32,
    pub failures_24h: f32,
    pub addresses_24h: f32,
}

/// The counters as loaded.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RawHistory {
    pub(crate) address: RawAddress,
    pub(crate) subject: RawCounts,
    pub prefix_failures_1h: f32,
    pub(crate) asn: RawRatio,
    pub asn_24h: RawRatio,
    pub(crate) agent: RawRatio,
    pub agent_24h: RawRatio,
    pub(crate) tenant: RawRatio,
    pub(crate) client: Option<ClientBaseline>,
}

/// Everything that the features of one request depend on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RawInput {
    pub(crate) kind: RequestKind,
    pub(crate) now: Timestamp,
    pub(crate) subject: RawSubject,
    pub(crate) browser_door: bool,
    pub(crate) scripted: bool,
    /// Whether the handshake contradicts the browser; `None` where TLS does not end here.
    pub(crate) tls_contradicts: Option<bool>,
    pub(crate) parameters_hidden: bool,
    pub(crate) network_kind: Option<NetworkKind>,
    pub(crate) coordinates: Option<Coordinates>,
    pub(crate) device: RawDevice,
    pub(crate) seen: Familiarity,
    pub(crate) prefix: ValueHash,
    /// The browser or program without its version.
    pub(crate) browser: ValueHash,
    pub(crate) grant: RawGrant,
    pub(crate) history: Option<RawHistory>,
    pub(crate) profile: Option<Profile>,
    pub(crate) link: Option<Provenance>,
    pub(crate) population: Population,
}

impl RawInput {
    /// The features, by the gateway's own code.
    pub(crate) fn derive(&self) -> FeatureVector {
        let history = self.history.as_ref().map(RawHistory::history);
        let known = Known {
            history: history.as_ref(),
            profile: self.profile.as_ref(),
            link: self.link.as_ref(),
            population: &self.population,
        };
        derive(self.kind, &self.signals(), known, self.now)
    }

    fn signals(&self) -> Signals {
        let stranger = SubjectKey(Pseudonym::from_bytes([1; 16]));
        let named = self.device.names_subject.then(subject);
        let subjects = named
            .into_iter()
            .chain(std::iter::repeat(stranger))
            .take(self.device.subjects)
            .collect();
        let user_agent = if self.scripted { CURL } else { CHROME };
        Signals {
            subject: match self.subject {
                RawSubject::Anonymous => Subject::Anonymous,
                RawSubject::Client => Subject::Client { key: subject() },
                RawSubject::Named => Subject::Named {
                    key: subject(),
                    name: "alice".to_owned(),
                },
            },
            client_id: None,
            client: None,
            address: [84, 1, 13, 77].into(),
            network: NetworkFacts {
                coordinates: self.coordinates,
                kind: self.network_kind,
                ..NetworkFacts::default()
            },
            agent: Arc::new(AgentFacts::parse(Some(user_agent), None)),
            // A program contradicts nothing; Chrome without GREASE is none.
            tls: self.tls_contradicts.map(|contradicts| TlsFingerprint {
                ja4: "t13d1516h2_8daaf6152771_02713d6af862".to_owned(),
                grease: !contradicts,
            }),
            http_fingerprint: 0,
            device: match self.device.state {
                RawCookie::Absent => DeviceCookie::Absent,
                RawCookie::Forged => DeviceCookie::Forged,
                RawCookie::Unsendable => DeviceCookie::Unsendable,
                RawCookie::Valid => DeviceCookie::Valid(DeviceToken {
                    device: [3; 16],
                    issued: self.device.issued,
                    subjects,
                }),
            },
            browser_door: self.browser_door,
            parameters_hidden: self.parameters_hidden,
            grant: GrantSignals {
                scopes: self.grant.scopes.clone(),
                client_authenticates: self.grant.client_authenticates,
                proof_key: self.grant.proof_key,
            },
            hashes: SignalHashes {
                familiarity: self.seen,
                prefix: self.prefix,
                browser: self.browser,
                ..SignalHashes::default()
            },
        }
    }
}

impl RawHistory {
    fn history(&self) -> History {
        let ratio = |counts: RawRatio| FailureRatio {
            failures: counts.failures,
            attempts: counts.attempts,
        };
        History {
            subject: SubjectCounts {
                failures_10m: self.subject.failures_10m,
                failures_24h: self.subject.failures_24h,
                addresses_24h: self.subject.addresses_24h,
            },
            address: AddressCounts {
                failures_10m: self.address.failures_10m,
                failures_24h: self.address.failures_24h,
                attempts_24h: self.address.attempts_24h,
                users_1h: self.address.users_1h,
                trusted_subjects: self.address.trusted_subjects,
            },
            prefix_failures_1h: self.prefix_failures_1h,
            asn: ratio(self.asn),
            asn_24h: ratio(self.asn_24h),
            agent: ratio(self.agent),
            agent_24h: ratio(self.agent_24h),
            tenant: ratio(self.tenant),
            client: self.client.clone(),
            ..History::default()
        }
    }
}
