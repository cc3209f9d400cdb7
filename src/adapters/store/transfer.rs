//! What an operator does to a memory as a whole: copy it to another one, look at one subject, forget. Never on the path
//! of a request.

use crate::adapters::store::codec::Codec;
use crate::adapters::store::entities::EntryKey;
use crate::adapters::store::entities::Kind;
use crate::adapters::store::entities::Rates;
use crate::adapters::store::sketch::Windows;
use crate::domain::demand::Demand;
use crate::domain::history::ClientBaseline;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::history::ScopeUsage;
use crate::domain::ids::ValueHash;
use crate::domain::review::ReviewQueue;
use crate::domain::time::Timestamp;
use crate::flow::ports::StateError;
use async_trait::async_trait;

/// Entries in one page of an export, more or less.
pub const PAGE: usize = 500;
/// No distinct count is copied as more than this.
const DISTINCT_MAX: f32 = 100_000.0;

/// One entry on its way, in a form that every store can write.
#[derive(Clone, Debug, PartialEq)]
pub struct Portable {
    /// Its key.
    pub key: EntryKey,
    /// When it ends.
    pub expires: Timestamp,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A baseline.
    Client(ClientBaseline),
    /// A demand.
    Demand(Demand),
    /// A distinct count.
    Distinct(Distinct),
    /// A link.
    Link(Provenance),
    /// A profile.
    Profile(Profile),
    /// Counters.
    Rates(Rates),
    /// The queue of held logins.
    Review(ReviewQueue),
    /// The scopes of a client.
    Scopes(ScopeUsage),
}

/// A distinct count of two windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Distinct {
    /// The number of the current window.
    pub epoch: i64,
    /// What was seen in it.
    pub current: Members,
    /// What was seen in the one before.
    pub previous: Members,
}

/// Distinct values, or only how many they were: the stores estimate large numbers in ways that cannot be turned into
/// one another. A number is copied as that many made-up values; a value that comes back afterwards counts once more.
#[derive(Clone, Debug, PartialEq)]
pub enum Members {
    /// How many.
    Number(f32),
    /// Which.
    Values(Vec<ValueHash>),
}

/// Where an export goes on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    /// Which table or node.
    pub part: usize,
    /// The place in it, in the store's own form; empty for its beginning.
    pub at: Vec<u8>,
}

/// A page of an export.
#[derive(Debug, Default)]
pub struct Page {
    /// Live entries.
    pub entries: Vec<Portable>,
    /// Entries that do not open: of another secret, or damaged.
    pub unreadable: u64,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// Entries that were written.
    pub written: u64,
    /// Entries that were there already and stayed as they were.
    pub kept: u64,
}

/// What changes a profile.
pub type Change<'c> = &'c (dyn Fn(Profile) -> Profile + Send + Sync);

/// A memory in the hands of an operator.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// The entries at `cursor` that are alive at `now`. Every entry that is there from the first page to the last is
    /// seen at least once. Tickets are left out: a copy of one could be redeemed twice.
    async fn export(&self, cursor: Cursor, now: Timestamp) -> Result<Page, StateError>;

    /// Writes entries that are not there yet. Doing so again changes nothing.
    async fn import(&self, entries: &[Portable], now: Timestamp) -> Result<Imported, StateError>;

    /// How common values are.
    async fn export_population(&self) -> Result<Population, StateError>;

    /// Takes over how common values are, unless something is known already.
    async fn import_population(&self, population: &Population) -> Result<bool, StateError>;

    /// What is under `key`, if it is alive at `now`.
    async fn read(&self, key: &EntryKey, now: Timestamp) -> Result<Option<Body>, StateError>;

    /// Changes the profile under `key`, if there is one, without losing what others learn at the same time.
    async fn change(
        &self,
        key: &EntryKey,
        now: Timestamp,
        change: Change<'_>,
    ) -> Result<bool, StateError>;

    /// Removes entries and says how many were there.
    async fn remove(&self, keys: &[EntryKey], now: Timestamp) -> Result<u64, StateError>;

    /// Whether the store holds values of another secret and none of ours.
    async fn is_foreign(&self, now: Timestamp) -> Result<bool, StateError>;

    /// Brings to the disk what was written, where that is up to us.
    fn finish(&self) -> Result<(), StateError>;
}

impl Distinct {
    /// As whole sketches keep it.
    pub fn windows(&self, key: &EntryKey) -> Windows {
        let mut windows = Windows::default();
        let before = self.epoch.saturating_sub(1);
        for (epoch, members) in [(before, &self.previous), (self.epoch, &self.current)] {
            for value in members.values(key, epoch) {
                windows.add(epoch, value);
            }
        }
        windows
    }
}

impl Members {
    /// The values, made up from key and window where only their number is known.
    pub fn values(&self, key: &EntryKey, epoch: i64) -> Vec<ValueHash> {
        match self {
            Self::Values(values) => values.clone(),
            Self::Number(number) => {
                let seed = key
                    .binding()
                    .into_iter()
                    .chain(epoch.to_be_bytes())
                    .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
                        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
                    });
                let count = number.clamp(0.0, DISTINCT_MAX).round() as u64;
                (0..count).map(|n| scattered(seed ^ n)).collect()
            }
        }
    }
}

impl Body {
    /// What `bytes` under `key` say to a store that keeps whole sketches.
    pub fn open(codec: &Codec, key: &EntryKey, bytes: &[u8], now: Timestamp) -> Option<Self> {
        match key.kind {
            Kind::Profile => codec.open_profile(key, bytes, now).map(Self::Profile),
            Kind::Client => codec.open_client(key, bytes, now).map(Self::Client),
            Kind::Demand(_) => codec.open_demand(key, bytes, now).map(Self::Demand),
            Kind::Link(_) => codec.open_link(key, bytes, now).map(Self::Link),
            Kind::Addresses | Kind::Trusted | Kind::Users => codec
                .open_windows(key, bytes)
                .map(|windows| Self::Distinct(windows.members())),
            Kind::Review => codec.open_queue(bytes).map(Self::Review),
            Kind::Scopes => codec.open_scopes(key, bytes, now).map(Self::Scopes),
            Kind::Ticket => None,
            Kind::Address
            | Kind::Agent
            | Kind::AutonomousSystem
            | Kind::Prefix
            | Kind::Subject
            | Kind::Tenant => Rates::decode(key.kind, bytes).map(Self::Rates),
        }
    }

    /// The bytes of this under `key`; `None` for a distinct count, which each store keeps in its own way.
    pub fn seal(&self, codec: &Codec, key: &EntryKey, expires: Timestamp) -> Option<Vec<u8>> {
        match self {
            Self::Profile(profile) => codec.profile(key, profile),
            Self::Client(client) => codec.client(key, client),
            Self::Demand(demand) => codec.demand(key, demand),
            Self::Link(provenance) => codec.link(key, provenance, expires),
            Self::Rates(rates) => Some(rates.encode(key.kind)),
            Self::Review(queue) => codec.queue(queue),
            Self::Scopes(usage) => codec.scopes(key, usage),
            Self::Distinct(_) => None,
        }
    }
}

/// SplitMix64: as good as random.
fn scattered(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
