//! The links that this node has just written. The store learns of them a moment later; whoever redeems a code faster
//! than that still finds it here.

use crate::domain::history::LinkKey;
use crate::domain::history::Provenance;
use moka::sync::Cache;
use std::sync::Arc;
use std::time::Duration;

/// Links kept.
const LINKS_MAX: u64 = 100_000;
/// For how long: far longer than the store takes to learn of them.
const KEPT: Duration = Duration::from_secs(60);

/// A bounded memory of recent links, or none.
#[derive(Clone, Debug)]
pub struct RecentLinks(Option<Cache<LinkKey, Arc<Provenance>>>);

impl Default for RecentLinks {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(LINKS_MAX)
            .time_to_live(KEPT)
            .build();
        Self(Some(cache))
    }
}

impl RecentLinks {
    /// A memory that keeps nothing, for where the store knows at once what was written.
    pub fn none() -> Self {
        Self(None)
    }

    /// Remembers a link.
    pub fn insert(&self, key: LinkKey, provenance: Provenance) {
        if let Some(cache) = &self.0 {
            cache.insert(key, Arc::new(provenance));
        }
    }

    /// What was remembered.
    pub fn find(&self, key: &LinkKey) -> Option<Arc<Provenance>> {
        self.0.as_ref()?.get(key)
    }
}
