//! What was known before this request: the profile of a subject, counters of the sources, and the records that bind
//! codes, tokens and sessions to the decision under which they were given.
//!
//! Pure data and arithmetic: the stores keep these values, `features` reads them, `outcome` says what is learnt.

/// What is usual for a service account.
pub mod client;

/// What is remembered of a token and its successors.
pub mod family;

/// The names of one account.
pub mod names;

/// What is usual for a subject.
pub mod profile;

/// What leads from what was given to the decision behind it.
pub mod provenance;

/// What becomes of history when the secret is exchanged.
pub mod renaming;

/// Which scopes are granted, and which are used.
pub mod scopes;

/// What is kept of a token request for WSO2's token actions.
pub mod token_request;

use crate::domain::demand::Demand;
use crate::domain::demand::DemandChange;
use crate::domain::demand::DemandKey;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use client::ClientBaseline;
pub use client::ClientUse;
pub use family::Redeemed;
pub use family::ShortHash;
pub use family::TokenFamily;
pub use family::TokenUse;
pub use names::Joined;
pub use names::NAMES_MAX;
pub use names::Names;
pub use profile::DEVICE_PROBATION;
pub use profile::Familiarity;
pub use profile::KnownValue;
pub use profile::KnownValues;
pub use profile::Lesson;
pub use profile::NEWNESS_AGE;
pub use profile::NoveltyHabit;
pub use profile::PLACES_MAX;
pub use profile::PROFILE_TTL;
pub use profile::Place;
pub use profile::Profile;
pub use profile::VALUE_TTL;
pub use profile::VALUES_MAX;
pub use profile::WhichDevices;
pub use profile::kept;
pub use provenance::APPLICATION_BYTES_MAX;
pub use provenance::FACTOR_PASSWORD;
pub use provenance::FACTOR_PROVEN;
pub use provenance::FACTOR_RELEASED;
pub use provenance::FACTOR_SINCE;
pub use provenance::FACTOR_STRONG;
pub use provenance::LinkKey;
pub use provenance::LinkKind;
pub use provenance::Provenance;
pub use provenance::SUBJECT_HINTED;
pub use provenance::factors_after;
pub use renaming::Previous;
pub use renaming::Renamed;
pub use renaming::Renaming;
pub use scopes::ScopeUsage;
pub use scopes::ScopeUse;
pub use token_request::OwedProof;
pub use token_request::TOKEN_REQUEST_LIFETIME;
pub use token_request::TokenRequest;
pub use token_request::Told;

/// Decayed counts of one source, already brought to the moment of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AddressCounts {
    /// Failures, half-life 10 minutes.
    pub failures_10m: f32,
    /// Failures, half-life 24 hours.
    pub failures_24h: f32,
    /// Attempts that succeeded or failed, half-life 24 hours.
    pub attempts_24h: f32,
    /// Distinct usernames tried in the last hour, estimated.
    pub users_1h: f32,
    /// Distinct subjects with a confirmed login in the last 30 days, estimated.
    pub trusted_subjects: f32,
}

/// Failures and attempts with one half-life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FailureRatio {
    /// Decayed failures.
    pub failures: f32,
    /// Decayed attempts.
    pub attempts: f32,
}

/// Decayed counts of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SubjectCounts {
    /// Failures, half-life 10 minutes.
    pub failures_10m: f32,
    /// Failures, half-life 24 hours.
    pub failures_24h: f32,
    /// Distinct addresses that failed or were new in the last 24 hours, estimated.
    pub addresses_24h: f32,
}

/// What one request needs to know. One query is one round trip.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryQuery {
    /// The moment to which counters are brought.
    pub now: Timestamp,
    /// The subject, when the request names one.
    pub subject: Option<SubjectKey>,
    /// The address (IPv6: its /64).
    pub address: ValueHash,
    /// The /24 or /48.
    pub prefix: ValueHash,
    /// The autonomous system.
    pub asn: Option<ValueHash>,
    /// Agent and TLS fingerprint together.
    pub agent: ValueHash,
    /// The tenant.
    pub tenant: ValueHash,
    /// The service account whose baseline is wanted, when one asks for itself.
    pub client: Option<SubjectKey>,
    /// The client whose scopes are wanted.
    pub scopes: Option<SubjectKey>,
    /// Links to follow; at most [`LINKS_MAX`].
    pub links: Vec<LinkKey>,
    /// Demands to look for; at most [`DEMANDS_MAX`](crate::domain::demand::DEMANDS_MAX).
    pub demands: Vec<DemandKey>,
    /// Where to look as well while the secret is being exchanged.
    pub previous: Option<Previous>,
}

impl HistoryQuery {
    /// A query that is about one link alone; of sources nothing is read.
    pub fn of_link(key: LinkKey, now: Timestamp) -> Self {
        Self::of_links(vec![key], Vec::new(), now)
    }

    /// Whether it asks about sources at all: each has a hash that is as good as never zero.
    pub fn is_about_sources(&self) -> bool {
        [self.address, self.prefix, self.agent, self.tenant] != [0; 4]
    }

    /// A query that is about links and demands alone; of sources nothing is read.
    pub fn of_links(links: Vec<LinkKey>, demands: Vec<DemandKey>, now: Timestamp) -> Self {
        Self {
            now,
            subject: None,
            address: 0,
            prefix: 0,
            asn: None,
            agent: 0,
            tenant: 0,
            client: None,
            scopes: None,
            links,
            demands,
            previous: None,
        }
    }

    /// A query that is about the scopes of one client alone.
    pub fn of_scopes(client: SubjectKey, now: Timestamp) -> Self {
        Self {
            scopes: Some(client),
            ..Self::of_links(Vec::new(), Vec::new(), now)
        }
    }
}

/// The links that one query may ask for.
pub const LINKS_MAX: usize = 4;

/// The answer to a [`HistoryQuery`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The subject's profile; `None` for a name that never logged in.
    pub profile: Option<Profile>,
    /// The subject's counters.
    pub subject: SubjectCounts,
    /// The address' counters.
    pub address: AddressCounts,
    /// Failures from the prefix, half-life 1 hour.
    pub prefix_failures_1h: f32,
    /// The autonomous system, half-life 1 hour.
    pub asn: FailureRatio,
    /// The autonomous system, half-life 24 hours.
    pub asn_24h: FailureRatio,
    /// Agent and TLS fingerprint, half-life 1 hour.
    pub agent: FailureRatio,
    /// Agent and TLS fingerprint, half-life 24 hours.
    pub agent_24h: FailureRatio,
    /// The tenant, half-life 5 minutes.
    pub tenant: FailureRatio,
    /// What is usual for the service account that asks.
    pub client: Option<ClientBaseline>,
    /// The scopes of the client that was asked about.
    pub scopes: Option<ScopeUsage>,
    /// The links that were found.
    pub links: HashMap<LinkKey, Provenance>,
    /// The demands that were found, met or not.
    pub demands: HashMap<DemandKey, Demand>,
}

/// What is counted of one attempt, successful or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whether WSO2 refused the credentials.
    pub failed: bool,
    /// The address (IPv6: its /64).
    pub address: ValueHash,
    /// The /24 or /48.
    pub prefix: ValueHash,
    /// The autonomous system.
    pub asn: Option<ValueHash>,
    /// Agent and TLS fingerprint together.
    pub agent: ValueHash,
    /// The tenant.
    pub tenant: ValueHash,
    /// The name that was tried, known or not: it enters only fixed-size estimates, and the subject's own counters
    /// if `subject_known`.
    pub subject: Option<SubjectKey>,
    /// Whether the subject has a profile. No key is made for a name that never logged in.
    pub subject_known: bool,
    /// Whether the profile knows the address: then a success from it says nothing about who else is trying.
    pub address_known: bool,
}

/// A link with what it leads to, which several may share, and how long it is kept.
pub type IssuedLink = (LinkKey, Arc<Provenance>, Duration);

/// What one exchange teaches. Applied off the request path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// When it happened.
    pub at: Timestamp,
    /// The attempt to count.
    pub attempt: Option<Attempt>,
    /// The confirmed login to learn.
    pub lesson: Option<Lesson>,
    /// The confirmed request of a service account to learn.
    pub client: Option<ClientUse>,
    /// Whose names are, as the identity server has said.
    pub joined: Vec<Joined>,
    /// Where lesson and client were kept under the previous secret.
    pub renamed: Option<Renamed>,
    /// Links to keep, each for its time to live.
    pub links: Vec<IssuedLink>,
    /// What happens to demands.
    pub demands: Vec<(DemandKey, DemandChange)>,
    /// What happened to the scopes of clients.
    pub scopes: Vec<ScopeUse>,
}

/// How common values are among all confirmed logins of the deployment. A snapshot: it does not move under a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// Confirmed logins counted.
    pub total: u64,
    /// Counts per value; bounded by the store.
    pub counts: HashMap<ValueHash, u64>,
}

impl Population {
    /// The share of `value` among all confirmed logins, smoothed by one; `None` while too little is known to say.
    pub fn share(&self, value: ValueHash) -> Option<f32> {
        const ENOUGH: u64 = 200;
        (self.total >= ENOUGH).then(|| {
            let count = self.counts.get(&value).copied().unwrap_or(0);
            ((count as f64 + 1.0) / (self.total as f64 + 1.0)) as f32
        })
    }
}

/// `value` after `elapsed`, halved once per `half_life`.
pub fn decayed(value: f32, elapsed: Duration, half_life: Duration) -> f32 {
    if value <= 0.0 || half_life.is_zero() {
        return 0.0;
    }
    value * (-(elapsed.as_secs_f32() / half_life.as_secs_f32())).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_halve() {
        let hour = Duration::from_secs(3600);
        assert!((decayed(8.0, hour * 3, hour) - 1.0).abs() < 1e-6);
        assert_eq!(decayed(f32::NEG_INFINITY, hour, hour), 0.0);
    }

    #[test]
    fn a_small_population_says_nothing() {
        let mut population = Population {
            total: 199,
            ..Population::default()
        };
        assert_eq!(population.share(1), None);
        population.total = 999;
        population.counts.insert(1, 99);
        assert!((population.share(1).unwrap() - 0.1).abs() < 1e-6);
    }
}
