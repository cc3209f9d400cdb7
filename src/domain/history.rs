//! What was known before this request: the profile of a subject, counters of the sources, and the records that bind
//! codes, tokens and sessions to the decision under which they were given.
//!
//! Pure data and arithmetic: the stores keep these values, `features` reads them, `outcome` says what is learnt.

/// What is usual for a service account.
pub mod client;

/// What is remembered of a token and its successors.
pub mod family;

/// What becomes of history when the secret is exchanged.
pub mod renaming;

/// Which scopes are granted, and which are used.
pub mod scopes;

/// What is kept of a token request for WSO2's token actions.
pub mod token_request;

use crate::domain::demand::Demand;
use crate::domain::demand::DemandChange;
use crate::domain::demand::DemandKey;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::RequestId;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::signals::network::Coordinates;
use crate::domain::time::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use client::ClientBaseline;
pub use client::ClientUse;
pub use family::Redeemed;
pub use family::ShortHash;
pub use family::TokenFamily;
pub use family::TokenUse;
pub use renaming::Previous;
pub use renaming::Renamed;
pub use renaming::Renaming;
pub use scopes::ScopeUsage;
pub use scopes::ScopeUse;
pub use token_request::OwedProof;
pub use token_request::TOKEN_REQUEST_LIFETIME;
pub use token_request::TokenRequest;
pub use token_request::Told;

/// Values kept for one attribute of a profile; the least recently used one makes room.
pub const VALUES_MAX: usize = 12;
/// A value that was not used for this time is no habit any more: it makes room with the next login.
pub const VALUE_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// Places kept in a profile.
pub const PLACES_MAX: usize = 6;
/// Profiles are forgotten after this time without a confirmed login.
pub const PROFILE_TTL: Duration = Duration::from_secs(180 * 24 * 3600);
/// A device that has been known for less weighs less than an old one.
pub const DEVICE_PROBATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// A value is fully familiar only after it has been known for a few of these (aged newness).
pub const NEWNESS_AGE: Duration = Duration::from_secs(6 * 3600);

/// The attributes that a profile counts, as keyed hashes. `None` where the request did not show the value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Familiarity {
    /// The address (IPv6: its /64).
    pub address: Option<ValueHash>,
    /// The autonomous system.
    pub asn: Option<ValueHash>,
    /// The country.
    pub country: Option<ValueHash>,
    /// Browser and major version.
    pub agent: Option<ValueHash>,
    /// Operating system and kind of device.
    pub platform: Option<ValueHash>,
    /// First accepted language.
    pub language: Option<ValueHash>,
    /// The id in the device cookie.
    pub device: Option<ValueHash>,
    /// The TLS fingerprint (JA4), where TLS ends here.
    pub tls: Option<ValueHash>,
}

/// One value that a subject has used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownValue {
    /// The first 32 bits of the keyed hash of the value, the rest zero. That a stranger's value coincides with one of
    /// twelve has a chance of 3 in a billion, and who has not got the key cannot search for one.
    pub value: ValueHash,
    /// How many confirmed logins used it.
    pub count: u32,
    /// The first of them, to ten minutes.
    pub first: Timestamp,
    /// The latest of them, to ten minutes.
    pub last: Timestamp,
}

/// The values of one attribute, at most [`VALUES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownValues(Vec<KnownValue>);

/// A place from which a subject has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is, to a hundredth of a degree (some kilometre).
    pub coordinates: Coordinates,
    /// How many confirmed logins came from it.
    pub count: u32,
    /// The latest of them, to ten minutes.
    pub last: Timestamp,
}

/// Which devices are to be forgotten.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhichDevices {
    /// Every one.
    All,
    /// Every one but this.
    AllBut(ValueHash),
    /// This one.
    One(ValueHash),
}

/// How often a subject's confirmed logins brought something new: the habit against which novelty is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoveltyHabit {
    /// Logins without a known device cookie.
    pub cookie: u32,
    /// Logins from a new address.
    pub address: u32,
    /// Logins with a new agent.
    pub agent: u32,
    /// Logins from a new autonomous system.
    pub asn: u32,
    /// Logins with a new TLS fingerprint.
    pub tls: u32,
}

/// What is known of one subject. Written only from confirmed logins that were low-risk or stepped up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Confirmed logins.
    pub successes: u32,
    /// The first confirmed login, to the minute.
    pub first: Timestamp,
    /// The latest confirmed login, to the minute.
    pub last: Timestamp,
    /// Where the latest confirmed login came from, to a hundredth of a degree.
    pub last_coordinates: Option<Coordinates>,
    /// Addresses.
    pub addresses: KnownValues,
    /// Autonomous systems.
    pub asns: KnownValues,
    /// Countries.
    pub countries: KnownValues,
    /// Browsers with versions.
    pub agents: KnownValues,
    /// Operating systems with device kinds.
    pub platforms: KnownValues,
    /// Languages.
    pub languages: KnownValues,
    /// Device cookies.
    pub devices: KnownValues,
    /// TLS fingerprints.
    pub tls: KnownValues,
    /// Places, at most [`PLACES_MAX`].
    pub places: Vec<Place>,
    /// Confirmed logins per hour of the day (UTC).
    pub hours: [u16; 24],
    /// How often something was new.
    pub habit: NoveltyHabit,
    /// When devices were last forgotten on demand: a device cookie from before it no longer speaks for the subject. The
    /// epoch when never.
    pub forgotten: Timestamp,
}

/// One confirmed login, as a profile learns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Whose profile.
    pub subject: SubjectKey,
    /// When it happened.
    pub at: Timestamp,
    /// What it showed.
    pub familiarity: Familiarity,
    /// Where it came from.
    pub coordinates: Option<Coordinates>,
    /// Whether the device cookie sent was known to the subject or could not have been sent. A device cookie that the
    /// gateway issues with this very login is in `familiarity.device`.
    pub cookie_known: bool,
}

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

/// What a link leads from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// An access token, by its `jti` or, when opaque, by its value.
    AccessToken,
    /// What a client polls the token endpoint with, while a browser approves it elsewhere (`device_code`, `auth_req_id`).
    BackChannel,
    /// An authorization code.
    Code,
    /// A decision, by its id, for as long as WSO2 may ask for it.
    Decision,
    /// A pushed authorization request (`request_uri`, RFC 9126).
    PushedRequest,
    /// A refresh token.
    RefreshToken,
    /// A WSO2 session (`commonAuthId`).
    Session,
    /// A login in progress (`sessionDataKey`, `sessionDataKeyConsent` or a `flowId`).
    Transaction,
    /// What a browser brings to approve such a poll (`user_code`, `authCodeKey`).
    UserCode,
}

/// The key of a link: its kind and the keyed pseudonym of the value. The value itself is never kept.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct LinkKey {
    /// What it leads from.
    pub kind: LinkKind,
    /// The pseudonym of the value.
    pub digest: Pseudonym,
}

/// Under which decision something was given: kept with a code, token, session or login in progress. It is an input to
/// a new decision, not an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The decision.
    pub decision_id: RequestId,
    /// When it was taken.
    pub at: Timestamp,
    /// The tenant, as a keyed hash.
    pub tenant: ValueHash,
    /// The client, as a key.
    pub client: Option<SubjectKey>,
    /// The user or service account, once known.
    pub subject: Option<SubjectKey>,
    /// The risk score 0 to 100; `None` when it was unscored.
    pub score: Option<u8>,
    /// The reasons of the score, by their codes.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether a stronger factor was demanded.
    pub demanded: bool,
    /// When it was; the epoch when it was not.
    pub demanded_at: Timestamp,
    /// Whether the identity server's tokens were withheld for want of a proof: what it stands for is refused.
    pub barred: bool,
    /// Factors of this login so far: a set of [`FACTOR_PASSWORD`], [`FACTOR_STRONG`], [`FACTOR_RELEASED`],
    /// [`FACTOR_SINCE`] and [`FACTOR_PROVEN`].
    pub factors: u8,
    /// Whether the login went to its end.
    pub confirmed: bool,
    /// What the issuing request showed. Never overwritten: a later use is compared with it.
    pub issued_to: Familiarity,
    /// Where the issuing request came from.
    pub coordinates: Option<Coordinates>,
    /// What the latest request that used it showed (an app server redeems the code for the browser).
    pub used_by: Familiarity,
    /// Where the latest request that used it came from.
    pub used_from: Option<Coordinates>,
    /// How many confirmed logins stood behind the subject at issue: the weight of the evidence.
    pub evidence: u32,
    /// Where demands of this login are kept: under its browser and, if a stronger factor was demanded, its source. At
    /// most [`KEYS_MAX`](crate::domain::demand::KEYS_MAX).
    pub demand_keys: Vec<DemandKey>,
    /// The highest score of the login itself; `None` when it was unscored. Unlike `score` it does not grow with the
    /// requests that use the token.
    pub login_score: Option<u8>,
    /// The scopes that the login asked for, at most [`SCOPES_MAX`](client::SCOPES_MAX); empty when it asked for none.
    pub scopes: Vec<ShortHash>,
    /// What is remembered of the tokens that go back to this login; `None` for a code or a login in progress.
    pub family: Option<Box<TokenFamily>>,
    /// That it was used up: a code that was redeemed, a refresh token that was replaced.
    pub redeemed: Option<Redeemed>,
    /// The client id, for the settings of the application: the login door does not name it again. At most
    /// [`APPLICATION_BYTES_MAX`] long.
    pub application: Option<String>,
    /// What a client polls with that this login, or the code that began it, approves.
    pub approves: Option<Pseudonym>,
    /// What the token actions need to know of a token request; with the link from its decision alone. The stores keep it
    /// behind everything else.
    #[serde(skip)]
    pub token_request: Option<Box<TokenRequest>>,
}

/// Longer client ids are not kept with a link.
pub const APPLICATION_BYTES_MAX: usize = 128;

/// The password, or whatever the first step of the application is.
pub const FACTOR_PASSWORD: u8 = 1;
/// A factor beyond the password, seen to be accepted.
pub const FACTOR_STRONG: u8 = 2;
/// No factor, but a word about this one login: an analyst has released it. Kept with the login and its code alone.
pub const FACTOR_RELEASED: u8 = 4;
/// It was seen after it had been demanded.
pub const FACTOR_SINCE: u8 = 8;
/// The identity server's signed word that it was given.
pub const FACTOR_PROVEN: u8 = 16;

/// The factors of a login after one more `step`. `is_old` says that a demand was raised after those `before`.
pub fn factors_after(before: u8, is_old: bool, step: u8) -> u8 {
    let kept = if is_old {
        before & !(FACTOR_SINCE | FACTOR_PROVEN)
    } else {
        before
    };
    let since = if step == FACTOR_STRONG {
        FACTOR_SINCE
    } else {
        0
    };
    kept | step | since
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

impl Familiarity {
    /// The values in the order of their fields.
    pub fn values(&self) -> [Option<ValueHash>; 8] {
        [
            self.address,
            self.asn,
            self.country,
            self.agent,
            self.platform,
            self.language,
            self.device,
            self.tls,
        ]
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> [&mut Option<ValueHash>; 8] {
        [
            &mut self.address,
            &mut self.asn,
            &mut self.country,
            &mut self.agent,
            &mut self.platform,
            &mut self.language,
            &mut self.device,
            &mut self.tls,
        ]
    }
}

impl KnownValues {
    /// Values from a store; `None` for more than [`VALUES_MAX`].
    pub fn from_values(values: Vec<KnownValue>) -> Option<Self> {
        (values.len() <= VALUES_MAX).then_some(Self(values))
    }

    /// What is known of `value`.
    pub fn find(&self, value: ValueHash) -> Option<&KnownValue> {
        let value = kept(value);
        self.0.iter().find(|known| known.value == value)
    }

    /// How many logins used `value`.
    pub fn count(&self, value: ValueHash) -> u32 {
        self.find(value).map_or(0, |known| known.count)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &KnownValue> {
        self.0.iter()
    }

    /// Counts one login with `value`. The least recently used value makes room when the list is full.
    pub fn learn(&mut self, value: ValueHash, at: Timestamp) {
        let (value, at) = (kept(value), to_ten_minutes(at));
        self.0
            .retain(|known| known.value == value || at.since(known.last) < VALUE_TTL);
        if let Some(known) = self.0.iter_mut().find(|known| known.value == value) {
            known.count = known.count.saturating_add(1);
            known.last = known.last.max(at);
            return;
        }
        if self.0.len() >= VALUES_MAX
            && let Some(oldest) = self
                .0
                .iter()
                .enumerate()
                .min_by_key(|(_, known)| known.last)
                .map(|(i, _)| i)
        {
            self.0.swap_remove(oldest);
        }
        self.0.push(KnownValue {
            value,
            count: 1,
            first: at,
            last: at,
        });
    }

    /// Forgets `value`.
    pub fn forget(&mut self, value: ValueHash) {
        let value = kept(value);
        self.0.retain(|known| known.value != value);
    }

    /// Gives every value the name that `name` says. What is then known twice is added up.
    fn rename(&mut self, name: impl Fn(ValueHash) -> ValueHash) {
        let mut renamed: Vec<KnownValue> = Vec::with_capacity(self.0.len());
        for known in self.0.drain(..) {
            let value = kept(name(known.value));
            match renamed.iter_mut().find(|other| other.value == value) {
                Some(other) => {
                    other.count = other.count.saturating_add(known.count);
                    other.first = other.first.min(known.first);
                    other.last = other.last.max(known.last);
                }
                None => renamed.push(KnownValue { value, ..known }),
            }
        }
        self.0 = renamed;
    }
}

impl Profile {
    /// The known values in the order of [`Familiarity::values`].
    pub fn known(&self) -> [&KnownValues; 8] {
        [
            &self.addresses,
            &self.asns,
            &self.countries,
            &self.agents,
            &self.platforms,
            &self.languages,
            &self.devices,
            &self.tls,
        ]
    }

    /// The same, to be changed.
    pub fn known_mut(&mut self) -> [&mut KnownValues; 8] {
        [
            &mut self.addresses,
            &mut self.asns,
            &mut self.countries,
            &mut self.agents,
            &mut self.platforms,
            &mut self.languages,
            &mut self.devices,
            &mut self.tls,
        ]
    }

    /// Whether the latest login used `known`.
    pub fn is_latest(&self, known: &KnownValue) -> bool {
        known.last >= to_ten_minutes(self.last)
    }

    /// Forgets devices. Cookies that were issued before `now` no longer speak for the subject by themselves, those of the
    /// devices that stay do as long as the profile can be read.
    pub fn forget_devices(&mut self, which: WhichDevices, now: Timestamp) {
        match which {
            WhichDevices::All => self.devices = KnownValues::default(),
            WhichDevices::AllBut(device) => {
                let stays = kept(device);
                self.devices.0.retain(|known| known.value == stays);
            }
            WhichDevices::One(device) => self.devices.forget(device),
        }
        self.forgotten = self.forgotten.max(now);
    }

    /// What is left of a profile when everything is forgotten: that device cookies from before `now` count for nothing.
    pub fn forgotten(now: Timestamp) -> Self {
        Self {
            first: now,
            last: now,
            forgotten: now,
            ..Self::default()
        }
    }

    /// The profile after one more confirmed login.
    pub fn learn(&mut self, lesson: &Lesson) {
        let seen = lesson.familiarity;
        let at = to_the_minute(lesson.at);
        let is_new = |known: &KnownValues, value: Option<ValueHash>| {
            value.is_some_and(|v| known.find(v).is_none())
        };
        if self.successes == 0 {
            self.first = at;
        } else {
            // The first login of all brings only new things; it says nothing about habit.
            self.habit.cookie += u32::from(!lesson.cookie_known);
            self.habit.address += u32::from(is_new(&self.addresses, seen.address));
            self.habit.agent += u32::from(is_new(&self.agents, seen.agent));
            self.habit.asn += u32::from(is_new(&self.asns, seen.asn));
            // The first fingerprint of all, where TLS has only lately come to end here, is no novelty either.
            let tls_is_new = !self.tls.is_empty() && is_new(&self.tls, seen.tls);
            self.habit.tls += u32::from(tls_is_new);
        }
        self.successes = self.successes.saturating_add(1);
        for (known, value) in self.known_mut().into_iter().zip(seen.values()) {
            if let Some(value) = value {
                known.learn(value, at);
            }
        }
        if let Some(hour) = self.hours.get_mut(lesson.at.hour_of_day()) {
            *hour = hour.saturating_add(1);
        }
        let coordinates = lesson.coordinates.map(coarse);
        if let Some(coordinates) = coordinates {
            self.learn_place(coordinates, at);
        }
        // A login that is reported late must not move the last one back.
        if at >= self.last {
            self.last = at;
            self.last_coordinates = coordinates.or(self.last_coordinates);
        }
    }

    fn learn_place(&mut self, coordinates: Coordinates, at: Timestamp) {
        let at = to_ten_minutes(at);
        const SAME_PLACE_KM: f32 = 50.0;
        let near = self
            .places
            .iter_mut()
            .find(|place| place.coordinates.distance_km(coordinates) <= SAME_PLACE_KM);
        if let Some(place) = near {
            place.count = place.count.saturating_add(1);
            place.last = place.last.max(at);
            return;
        }
        if self.places.len() >= PLACES_MAX
            && let Some(oldest) = self
                .places
                .iter()
                .enumerate()
                .min_by_key(|(_, place)| place.last)
                .map(|(i, _)| i)
        {
            self.places.swap_remove(oldest);
        }
        self.places.push(Place {
            coordinates,
            count: 1,
            last: at,
        });
    }
}

impl Provenance {
    /// Whether the password was accepted.
    pub fn has_password(&self) -> bool {
        self.factors & FACTOR_PASSWORD != 0
    }

    /// Whether a factor beyond the password was accepted.
    pub fn has_strong_factor(&self) -> bool {
        self.factors & FACTOR_STRONG != 0
    }

    /// Whether a factor beyond the password was accepted after it had been demanded.
    pub fn has_factor_since(&self) -> bool {
        self.factors & FACTOR_SINCE != 0
    }

    /// Whether a stronger factor is owed that the identity server has not yet signed for.
    pub fn owes_proof(&self) -> bool {
        self.demanded && self.factors & FACTOR_PROVEN == 0
    }

    /// The stricter of two words about one poll: what was demanded stays demanded, and what was withheld stays withheld.
    pub fn stricter(mut self, other: &Self) -> Self {
        if other.owes_proof() {
            self.demanded = true;
            self.demanded_at = self.demanded_at.max(other.demanded_at);
            // Two logins: what one has shown says nothing of the other.
            if other.confirmed {
                self.factors &= !(FACTOR_PROVEN | FACTOR_SINCE);
            }
        }
        self.barred |= other.barred;
        self
    }

    /// The profile that a token or session stands for when the subject's own is not at hand: what it was issued to and
    /// what has used it since, with the evidence of the subject at issue.
    pub fn as_profile(&self) -> Profile {
        // A stranger's token is judged against at least one login, a regular's against a few: more would make one
        // change of network look like theft.
        let successes = self.evidence.clamp(1, 8);
        let values = |issued: Option<ValueHash>, used: Option<ValueHash>| {
            let mut known = KnownValues::default();
            for value in [issued, used].into_iter().flatten().map(kept) {
                if known.find(value).is_none() {
                    known.0.push(KnownValue {
                        value,
                        count: successes,
                        first: self.at,
                        last: self.at,
                    });
                }
            }
            known
        };
        Profile {
            successes,
            first: self.at,
            last: self.at,
            // An app server may stand far from its users: travel is counted from where the token was last used.
            last_coordinates: self.used_from.or(self.coordinates),
            addresses: values(self.issued_to.address, self.used_by.address),
            asns: values(self.issued_to.asn, self.used_by.asn),
            countries: values(self.issued_to.country, self.used_by.country),
            agents: values(self.issued_to.agent, self.used_by.agent),
            platforms: values(self.issued_to.platform, self.used_by.platform),
            languages: values(self.issued_to.language, self.used_by.language),
            devices: values(self.issued_to.device, self.used_by.device),
            tls: values(self.issued_to.tls, self.used_by.tls),
            places: [self.coordinates, self.used_from]
                .into_iter()
                .flatten()
                .map(|coordinates| Place {
                    coordinates,
                    count: successes,
                    last: self.at,
                })
                .collect(),
            ..Profile::default()
        }
    }
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

/// The part of a hash that a profile keeps.
pub fn kept(value: ValueHash) -> ValueHash {
    value & !0xFFFF_FFFF
}

/// When a profile began and was last used: enough for the speed of travel.
fn to_the_minute(at: Timestamp) -> Timestamp {
    rounded(at, 60_000)
}

/// Times of single values: what is told apart by them changes over hours, and this takes the fewest bytes.
fn to_ten_minutes(at: Timestamp) -> Timestamp {
    rounded(at, 600_000)
}

fn rounded(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp(at.millis().div_euclid(millis).saturating_mul(millis))
}

/// Places within a profile: address databases know a city at best.
fn coarse(at: Coordinates) -> Coordinates {
    let to_hundredths = |degrees: f32| (degrees * 100.0).round() / 100.0;
    Coordinates {
        latitude: to_hundredths(at.latitude),
        longitude: to_hundredths(at.longitude),
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
    use crate::domain::ids::Pseudonym;

    fn lesson(at: i64, address: u64) -> Lesson {
        Lesson {
            subject: SubjectKey(Pseudonym::from_bytes([1; 16])),
            at: Timestamp(at),
            familiarity: Familiarity {
                address: Some(address),
                ..Familiarity::default()
            },
            coordinates: Coordinates::new(59.9, 10.7),
            cookie_known: false,
        }
    }

    fn approval(demanded_at: i64, factors: u8, confirmed: bool) -> Provenance {
        Provenance {
            decision_id: RequestId::new("d".to_owned()),
            at: Timestamp(demanded_at),
            tenant: 1,
            client: None,
            subject: None,
            score: None,
            reasons: Vec::new(),
            demanded: demanded_at > 0,
            demanded_at: Timestamp(demanded_at),
            barred: false,
            factors,
            confirmed,
            issued_to: Familiarity::default(),
            coordinates: None,
            used_by: Familiarity::default(),
            used_from: None,
            evidence: 0,
            demand_keys: Vec::new(),
            login_score: None,
            scopes: Vec::new(),
            family: None,
            redeemed: None,
            application: None,
            approves: None,
            token_request: None,
        }
    }

    #[test]
    fn of_two_words_about_a_poll_the_stricter_counts() {
        let given = FACTOR_PASSWORD | FACTOR_STRONG | FACTOR_SINCE;
        // Who asked owed a factor; the browser that approves has given one since.
        let kept = approval(0, given, true).stricter(&approval(5, 0, false));
        assert!(kept.owes_proof() && kept.has_factor_since());
        assert_eq!(kept.demanded_at, Timestamp(5));
        // One browser owed it, and another one gave it: that is another login.
        let kept = approval(0, given | FACTOR_PROVEN, true).stricter(&approval(5, 0, true));
        assert!(kept.owes_proof() && !kept.has_factor_since());
        // Nothing was owed, or it was proved.
        for before in [approval(0, 0, true), approval(5, FACTOR_PROVEN, true)] {
            let kept = approval(0, FACTOR_PASSWORD, true).stricter(&before);
            assert!(!kept.owes_proof() && !kept.barred);
        }
        let mut barred = approval(0, 0, true);
        barred.barred = true;
        assert!(approval(0, 0, true).stricter(&barred).barred);
    }

    #[test]
    fn a_profile_is_bounded() {
        let mut profile = Profile::default();
        for i in 0..1_000 {
            profile.learn(&lesson(i * 600_000, (i as u64) << 32));
        }
        assert_eq!(profile.addresses.iter().count(), VALUES_MAX);
        assert_eq!(profile.addresses.count(999 << 32), 1);
        assert_eq!(profile.addresses.count(0), 0);
        // What was not used for long is let go, however much room there is.
        let half_a_year = 182 * 24 * 3_600_000;
        profile.learn(&lesson(half_a_year, 5 << 32));
        assert_eq!(profile.addresses.iter().count(), 1);
        profile.successes -= 1;
        profile.habit.address -= 1;
        assert_eq!(profile.places.len(), 1);
        assert_eq!(profile.successes, 1_000);
        assert_eq!(profile.habit.address, 999);
    }

    #[test]
    fn a_late_report_does_not_move_the_last_login_back() {
        let mut profile = Profile::default();
        profile.learn(&lesson(10 * 60_000, 1));
        profile.learn(&Lesson {
            coordinates: Coordinates::new(0.0, 0.0),
            ..lesson(5 * 60_000, 2)
        });
        assert_eq!(profile.last, Timestamp(10 * 60_000));
        assert_eq!(profile.last_coordinates, Coordinates::new(59.9, 10.7));
    }

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
