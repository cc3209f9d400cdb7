//! The world of a replay in place of the real one: the time is that of the event, addresses are what the file says of
//! them, chance is the same each time, and nobody keeps records.

use crate::adapters::clock::SystemClock;
use crate::adapters::geo::GeoDatabases;
use crate::domain::audit::AuditEvent;
use crate::domain::signals::network::NetworkFacts;
use crate::domain::time::Timestamp;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
use crate::flow::ports::GeoLookup;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The calendar of the events. Deadlines run on the real monotonic clock.
#[derive(Debug, Default)]
pub(super) struct EventClock(AtomicI64);

/// What is known of the address of the event at hand: the databases' word, and the file's where they have none.
#[derive(Debug, Default)]
pub(super) struct EventNetworks {
    databases: Option<GeoDatabases>,
    said: Mutex<NetworkFacts>,
}

/// Numbers that are as good as random and the same in every replay (SplitMix64). For device ids, never for secrets.
#[derive(Debug)]
pub(super) struct RepeatableChance(AtomicU64);

/// Takes no records.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRecords;

impl EventClock {
    /// It is `now`.
    pub(super) fn set(&self, now: Timestamp) {
        self.0.store(now.millis(), Ordering::Relaxed);
    }
}

impl Clock for EventClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }
}

impl EventNetworks {
    /// With `databases` over what the file says.
    pub(super) fn new(databases: Option<GeoDatabases>) -> Self {
        Self {
            databases,
            said: Mutex::default(),
        }
    }

    /// What the file says of the next address.
    pub(super) fn say(&self, facts: NetworkFacts) {
        *self.said.lock() = facts;
    }
}

impl GeoLookup for EventNetworks {
    fn lookup(&self, address: IpAddr) -> NetworkFacts {
        let said = self.said.lock().clone();
        let Some(databases) = &self.databases else {
            return said;
        };
        let found = databases.lookup(address);
        NetworkFacts {
            asn: found.asn.or(said.asn),
            as_org: found.as_org.or(said.as_org),
            country: found.country.or(said.country),
            city: found.city.or(said.city),
            coordinates: found.coordinates.or(said.coordinates),
            kind: found.kind.or(said.kind),
        }
    }
}

impl RepeatableChance {
    /// The sequence of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for RepeatableChance {
    fn fill(&self, bytes: &mut [u8]) {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks_mut(8) {
            let mut mixed = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            for (to, from) in chunk.iter_mut().zip(mixed.to_le_bytes()) {
                *to = from;
            }
        }
    }
}

impl AuditSink for NoRecords {
    fn write(&self, _: AuditEvent) {}

    fn keeps(&self) -> bool {
        false
    }
}
