//! The demands that this node has just written, and the challenges that it is giving. Bounded, and forgotten in time.

use crate::domain::demand::Demand;
use crate::domain::demand::DemandChange;
use crate::domain::demand::DemandKey;
use crate::domain::demand::WINDOW_MAX;
use crate::domain::time::Timestamp;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Demands and challenges under way that one node remembers.
const REMEMBERED_MAX: u64 = 100_000;
/// The longest that the identity server can take to answer a login.
const UNDER_WAY: Duration = Duration::from_secs(120);

/// What this node knows of demands.
#[derive(Clone, Debug)]
pub struct RecentDemands {
    demands: Cache<DemandKey, Demand>,
    under_way: Cache<DemandKey, Arc<AtomicU32>>,
}

/// A challenge that is being given: it counts until it is known whether it was.
#[derive(Debug)]
pub struct UnderWay(Arc<AtomicU32>);

impl Default for RecentDemands {
    fn default() -> Self {
        Self {
            demands: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(WINDOW_MAX)
                .build(),
            under_way: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_idle(UNDER_WAY)
                .build(),
        }
    }
}

impl RecentDemands {
    /// What is known under `key` at `now`.
    pub fn find(&self, key: &DemandKey, now: Timestamp) -> Option<Demand> {
        let demand = self.demands.get(key)?.brought_back(now)?;
        (now < demand.until).then_some(demand)
    }

    /// Changes at `now` what is known under `key`.
    pub(super) fn apply(&self, key: DemandKey, change: &DemandChange, now: Timestamp) {
        self.demands.entry(key).and_upsert_with(|known| {
            let known = known.and_then(|entry| entry.into_value().brought_back(now));
            change.apply(known)
        });
    }

    /// How many challenges of a user are under way, and one more from now on.
    pub fn begin(&self, key: DemandKey) -> (u32, UnderWay) {
        let count = self.under_way.get_with(key, Arc::default);
        let before = count.fetch_add(1, Ordering::AcqRel);
        (before, UnderWay(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
