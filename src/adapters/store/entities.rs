//! What the stores keep, whichever they are: the kinds of entry, their keys, their times to live and the decayed
//! counters. Pure: nothing here reads a clock, a file or a socket.

use crate::domain::demand::DemandKey;
use crate::domain::demand::DemandScope;
use crate::domain::demand::WINDOW_MAX;
use crate::domain::history::LinkKey;
use crate::domain::history::LinkKind;
use crate::domain::history::PROFILE_TTL;
use crate::domain::history::decayed;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::SubjectKey;
use crate::domain::ids::ValueHash;
use crate::domain::review::QUEUE_TTL;
use crate::domain::time::AHEAD_MAX;
use crate::domain::time::Timestamp;
use std::time::Duration;

/// The version of every encoding and key of the stores. Another number is another world: old values read as missing.
pub const SCHEMA: u8 = 1;
/// Counters are forgotten after this many of their longest half-lives without an event: a thousandth is left by then.
pub const HALF_LIVES_KEPT: u32 = 10;
/// The most numbers that one entry of counters holds.
pub const RATES_MAX: usize = 4;
/// No counter goes above this, whatever a store says.
pub const RATE_CEILING: f32 = 1e9;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What an entry is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Failures and attempts of an address.
    Address,
    /// Distinct addresses that failed or were new for a subject within 24 hours.
    Addresses,
    /// Failures and attempts of an agent.
    Agent,
    /// Failures and attempts of an autonomous system.
    AutonomousSystem,
    /// The baseline of a service account.
    Client,
    /// A stronger factor that is owed.
    Demand(DemandScope),
    /// The provenance of a code, token, session or login in progress.
    Link(LinkKind),
    /// Failures of a prefix.
    Prefix,
    /// The profile of a subject.
    Profile,
    /// The queue of held logins.
    Review,
    /// The scopes of a client, granted and used.
    Scopes,
    /// Failures of a subject.
    Subject,
    /// Failures and attempts of a tenant.
    Tenant,
    /// A ticket that can be redeemed once.
    Ticket,
    /// Distinct subjects with a confirmed login from an address within 30 days.
    Trusted,
    /// Distinct names tried from an address within an hour.
    Users,
}

/// The key of one entry.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryKey {
    /// What it is about.
    pub kind: Kind,
    id: Id,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Id {
    Pseudonym(Pseudonym),
    Value(ValueHash),
}

/// Decayed counters that share one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    at: Timestamp,
    values: [f32; RATES_MAX],
}

/// The sizes of two neighbouring windows of a distinct count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowCounts {
    /// The number of the current window since the epoch.
    pub epoch: i64,
    /// Distinct values in the current window.
    pub current: f32,
    /// Distinct values in the current window and the one before it together.
    pub both: f32,
}

/// A value of a distinct count: the first 32 bits of its hash. Among a million of them some hundred coincide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WindowValue(u32);

/// Two neighbouring windows of a distinct count with the values themselves, as the Redis scripts keep a few.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FewWindows {
    /// The number of the current window since the epoch.
    pub epoch: i64,
    /// The values of the window before.
    pub previous: Vec<ValueHash>,
    /// The values of the current window.
    pub current: Vec<ValueHash>,
}

impl WindowValue {
    /// The part of `value` that is kept.
    pub fn of(value: ValueHash) -> Self {
        Self((value >> 32) as u32)
    }

    /// As a script takes it.
    pub fn bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// The value with the rest of its bits zero: what every store adds.
    pub fn hash(self) -> ValueHash {
        u64::from(self.0) << 32
    }
}

impl FewWindows {
    /// The windows from the bytes that the Redis scripts write: version, number as a double, how many values are of the
    /// window before, the values. `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(9)?;
        let (before, values) = rest.split_first()?;
        let (values, remainder) = values.as_chunks::<4>();
        let values: Vec<ValueHash> = values
            .iter()
            .map(|bytes| WindowValue(u32::from_be_bytes(*bytes)).hash())
            .collect();
        let (previous, current) = values.split_at_checked(usize::from(*before))?;
        remainder.is_empty().then_some(Self {
            epoch: moment(head)?,
            previous: previous.to_vec(),
            current: current.to_vec(),
        })
    }

    fn counts(&self) -> WindowCounts {
        let more = self
            .previous
            .iter()
            .filter(|value| !self.current.contains(value))
            .count();
        WindowCounts {
            epoch: self.epoch,
            current: self.current.len() as f32,
            both: (self.current.len() + more) as f32,
        }
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 26] = [
        Self::Address,
        Self::Addresses,
        Self::Agent,
        Self::AutonomousSystem,
        Self::Client,
        Self::Demand(DemandScope::Browser),
        Self::Demand(DemandScope::Source),
        Self::Demand(DemandScope::User),
        Self::Link(LinkKind::AccessToken),
        Self::Link(LinkKind::BackChannel),
        Self::Link(LinkKind::Code),
        Self::Link(LinkKind::Decision),
        Self::Link(LinkKind::PushedRequest),
        Self::Link(LinkKind::RefreshToken),
        Self::Link(LinkKind::Session),
        Self::Link(LinkKind::Transaction),
        Self::Link(LinkKind::UserCode),
        Self::Prefix,
        Self::Profile,
        Self::Review,
        Self::Scopes,
        Self::Subject,
        Self::Tenant,
        Self::Ticket,
        Self::Trusted,
        Self::Users,
    ];

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in keys and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Addresses => "addresses",
            Self::Agent => "agent",
            Self::AutonomousSystem => "asn",
            Self::Client => "client",
            Self::Demand(DemandScope::Browser) => "demand_browser",
            Self::Demand(DemandScope::Source) => "demand_source",
            Self::Demand(DemandScope::User) => "demand_user",
            Self::Link(LinkKind::AccessToken) => "access_token",
            Self::Link(LinkKind::BackChannel) => "back_channel",
            Self::Link(LinkKind::Code) => "code",
            Self::Link(LinkKind::Decision) => "decision",
            Self::Link(LinkKind::PushedRequest) => "pushed_request",
            Self::Link(LinkKind::RefreshToken) => "refresh_token",
            Self::Link(LinkKind::Session) => "session",
            Self::Link(LinkKind::Transaction) => "transaction",
            Self::Link(LinkKind::UserCode) => "user_code",
            Self::Prefix => "prefix",
            Self::Profile => "profile",
            Self::Review => "review",
            Self::Scopes => "scopes",
            Self::Subject => "subject",
            Self::Tenant => "tenant",
            Self::Ticket => "ticket",
            Self::Trusted => "trusted",
            Self::Users => "users",
        }
    }

    /// The half-lives of the counters of this kind, in the order of [`Rates`]; empty for kinds without counters.
    pub fn half_lives(self) -> &'static [Duration] {
        const ADDRESS: [Duration; 3] = [MINUTE.saturating_mul(10), DAY, DAY];
        const SUBJECT: [Duration; 2] = [MINUTE.saturating_mul(10), DAY];
        const PREFIX: [Duration; 1] = [HOUR];
        // Failures of the hour and of the day, attempts of the hour and of the day.
        const SOURCE: [Duration; 4] = [HOUR, DAY, HOUR, DAY];
        const TENANT: [Duration; 2] = [MINUTE.saturating_mul(5), MINUTE.saturating_mul(5)];
        match self {
            Self::Address => &ADDRESS,
            Self::Agent | Self::AutonomousSystem => &SOURCE,
            Self::Prefix => &PREFIX,
            Self::Subject => &SUBJECT,
            Self::Tenant => &TENANT,
            Self::Addresses
            | Self::Client
            | Self::Demand(_)
            | Self::Link(_)
            | Self::Profile
            | Self::Review
            | Self::Scopes
            | Self::Ticket
            | Self::Trusted
            | Self::Users => &[],
        }
    }

    /// The window of the distinct count of this kind; zero for kinds that count nothing distinct.
    pub fn window(self) -> Duration {
        match self {
            Self::Addresses => DAY,
            Self::Trusted => DAY * 30,
            Self::Users => HOUR,
            Self::Address
            | Self::Agent
            | Self::AutonomousSystem
            | Self::Client
            | Self::Demand(_)
            | Self::Link(_)
            | Self::Prefix
            | Self::Profile
            | Self::Review
            | Self::Scopes
            | Self::Subject
            | Self::Tenant
            | Self::Ticket => Duration::ZERO,
        }
    }

    /// How long an entry is kept after it was last written. Demands, links and tickets bring their own time to live.
    pub fn ttl(self) -> Duration {
        match self {
            Self::Client | Self::Link(_) | Self::Profile | Self::Scopes | Self::Ticket => {
                PROFILE_TTL
            }
            Self::Demand(_) => WINDOW_MAX,
            Self::Review => QUEUE_TTL,
            Self::Addresses | Self::Trusted | Self::Users => self.window() * 2,
            Self::Address
            | Self::Agent
            | Self::AutonomousSystem
            | Self::Prefix
            | Self::Subject
            | Self::Tenant => {
                self.half_lives().iter().max().copied().unwrap_or_default() * HALF_LIVES_KEPT
            }
        }
    }

    /// How long counters are kept that hold no failures: one half-life after the latest success. Most addresses are homes
    /// that never see a failure; an office is busy enough to keep its counts.
    pub fn quiet_ttl(self) -> Duration {
        match self.half_lives() {
            [] | [_] => self.ttl(),
            // All that is counted of a subject are failures.
            _ if self == Self::Subject => self.ttl(),
            lives => lives.iter().max().copied().unwrap_or_default(),
        }
    }

    /// The number of the window in which `at` falls.
    pub fn epoch(self, at: Timestamp) -> i64 {
        let window = i64::try_from(self.window().as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        at.millis().div_euclid(window)
    }

    /// How much of its window has passed at `at`, 0 to 1.
    fn elapsed_share(self, at: Timestamp) -> f32 {
        let window = i64::try_from(self.window().as_millis())
            .unwrap_or(i64::MAX)
            .max(1);
        at.millis().rem_euclid(window) as f32 / window as f32
    }
}

impl EntryKey {
    /// The key of what is kept about a subject.
    pub fn subject(kind: Kind, subject: SubjectKey) -> Self {
        Self {
            kind,
            id: Id::Pseudonym(subject.0),
        }
    }

    /// The key of what is kept about an address, a network, an agent or a tenant.
    pub fn value(kind: Kind, value: ValueHash) -> Self {
        Self {
            kind,
            id: Id::Value(value),
        }
    }

    /// The key of the queue of held logins: there is one.
    pub fn review() -> Self {
        Self::value(Kind::Review, 0)
    }

    /// The key of a ticket.
    pub fn ticket(ticket: Pseudonym) -> Self {
        Self {
            kind: Kind::Ticket,
            id: Id::Pseudonym(ticket),
        }
    }

    /// The key of an entry of `kind` whose id has these bytes; `None` for a length that no id has.
    pub fn from_id(kind: Kind, id: &[u8]) -> Option<Self> {
        let id = match id.len() {
            8 => Id::Value(ValueHash::from_be_bytes(id.try_into().ok()?)),
            _ => Id::Pseudonym(Pseudonym::from_bytes(id.try_into().ok()?)),
        };
        Some(Self { kind, id })
    }

    /// The key of a demand.
    pub fn demand(demand: DemandKey) -> Self {
        Self {
            kind: Kind::Demand(demand.scope),
            id: Id::Pseudonym(demand.digest),
        }
    }

    /// The key of a link.
    pub fn link(link: LinkKey) -> Self {
        Self {
            kind: Kind::Link(link.kind),
            id: Id::Pseudonym(link.digest),
        }
    }

    /// The id as bytes: 16 of a pseudonym or 8 of a value.
    pub fn id(&self) -> Vec<u8> {
        match self.id {
            Id::Pseudonym(pseudonym) => pseudonym.as_bytes().to_vec(),
            Id::Value(value) => value.to_be_bytes().to_vec(),
        }
    }

    /// Whether it is of a link.
    pub fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }

    /// The id, where it is a pseudonym.
    pub fn pseudonym(&self) -> Option<&Pseudonym> {
        match &self.id {
            Id::Pseudonym(pseudonym) => Some(pseudonym),
            Id::Value(_) => None,
        }
    }

    /// What a sealed value is bound to: the schema, the kind and the id.
    pub fn binding(&self) -> Vec<u8> {
        let mut bytes = vec![SCHEMA];
        bytes.extend_from_slice(self.kind.name().as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&self.id());
        bytes
    }
}

impl Rates {
    /// Counters at `at`, in the order of [`Kind::half_lives`].
    pub fn new(at: Timestamp, values: [f32; RATES_MAX]) -> Self {
        Self { at, values }
    }

    /// The moment to which the counters have been brought.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The counters as they stand at their moment.
    pub fn values(&self) -> [f32; RATES_MAX] {
        self.values
    }

    /// The counters at `now`. Those of a clock that was ahead have decayed by how far they are from it: they say less of now,
    /// until the next count brings them back.
    pub fn decayed_to(&self, kind: Kind, now: Timestamp) -> [f32; RATES_MAX] {
        let away = now.since(self.at) + self.at.since(now).saturating_sub(AHEAD_MAX);
        let mut values = [0.0; RATES_MAX];
        let pairs = self.values.iter().zip(kind.half_lives());
        for (to, (value, half_life)) in values.iter_mut().zip(pairs) {
            *to = decayed(*value, away, *half_life);
        }
        values
    }

    /// How long these counters are kept: see [`Kind::quiet_ttl`].
    pub fn ttl(&self, kind: Kind) -> Duration {
        const NOTHING: f32 = 0.001;
        // The first half of the counters are failures, the others attempts.
        let failures = kind.half_lives().len().div_ceil(2);
        if self
            .values
            .iter()
            .take(failures)
            .any(|count| *count >= NOTHING)
        {
            kind.ttl()
        } else {
            kind.quiet_ttl()
        }
    }

    /// Both together, at the later of the two moments. `newer` is what has just happened: if these counters are far
    /// ahead of it, the clock has been set back and they are brought to its moment as they are.
    pub fn merged(&self, kind: Kind, newer: &Rates) -> Rates {
        let old = Self {
            at: self.at.not_ahead_of(newer.at),
            ..*self
        };
        let at = old.at.max(newer.at);
        let mut values = old.decayed_to(kind, at);
        for (sum, more) in values.iter_mut().zip(newer.decayed_to(kind, at)) {
            *sum = (*sum + more).min(RATE_CEILING);
        }
        Rates { at, values }
    }

    /// The counters as bytes: version, moment as a double, one float per half-life, all little-endian. The scripts of
    /// the Redis store read and write the same form.
    pub fn encode(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + 4 * RATES_MAX);
        bytes.push(SCHEMA);
        bytes.extend_from_slice(&(self.at.millis() as f64).to_le_bytes());
        for (value, _) in self.values.iter().zip(kind.half_lives()) {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The counters from bytes; `None` for another version, another length or numbers that no counter can have.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(9)?;
        let at = moment(head)?;
        let mut values = [0.0; RATES_MAX];
        for (value, _) in values.iter_mut().zip(kind.half_lives()) {
            let (number, more) = rest.split_first_chunk()?;
            *value = count(*number)?;
            rest = more;
        }
        rest.is_empty().then_some(Self {
            at: Timestamp(at),
            values,
        })
    }
}

impl WindowCounts {
    /// The distinct values of the window that ends at `now`: those of the current window, and of the one before as
    /// much as the sliding window still overlaps.
    pub fn estimate(&self, kind: Kind, now: Timestamp) -> f32 {
        let epoch = kind.epoch(now);
        let left = 1.0 - kind.elapsed_share(now);
        if epoch <= self.epoch {
            self.current + (self.both - self.current).max(0.0) * left
        } else if epoch == self.epoch.saturating_add(1) {
            self.current * left
        } else {
            0.0
        }
    }

    /// The counts from the bytes that the Redis scripts write: a few values, or version, epoch as a double, two floats.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        /// More than the scripts keep one by one: not theirs.
        const FEW_BYTES_MAX: usize = 256;
        if bytes.len() <= FEW_BYTES_MAX
            && let Some(few) = FewWindows::decode(bytes)
        {
            return Some(few.counts());
        }
        let (head, rest) = bytes.split_at_checked(9)?;
        let (current, rest) = rest.split_first_chunk()?;
        let (both, rest) = rest.split_first_chunk()?;
        rest.is_empty().then_some(Self {
            epoch: moment(head)?,
            current: count(*current)?,
            both: count(*both)?,
        })
    }
}

/// The whole number behind the version byte.
fn moment(head: &[u8]) -> Option<i64> {
    let (version, number) = head.split_first()?;
    let number = f64::from_le_bytes(number.try_into().ok()?);
    // Beyond this doubles are no longer exact; the year is 287396 then.
    (*version == SCHEMA && number.is_finite() && number.abs() <= 9.0e15).then_some(number as i64)
}

fn count(bytes: [u8; 4]) -> Option<f32> {
    let number = f32::from_le_bytes(bytes);
    (0.0..=RATE_CEILING).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests;
