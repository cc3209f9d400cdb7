//! The links that this node has just written. The store learns of them a moment later; whoever redeems a code faster
//! than that still finds it here.

use crate::domain::history::LinkKey;
use crate::domain::history::Provenance;
use crate::domain::outcome::ACCESS_TOKEN_LIFETIME_MAX;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Links kept.
const LINKS_MAX: u64 = 100_000;
/// For how long: far longer than the store takes to learn of them.
const KEPT: Duration = Duration::from_secs(60);

/// A bounded memory of recent links, or none.
#[derive(Clone, Debug)]
pub struct RecentLinks(Option<Cache<LinkKey, Arc<Provenance>>>);

/// Access tokens that were withheld and whose end the identity server may not know of. They were never handed out; who
/// presents one here has it from elsewhere.
#[derive(Debug)]
pub struct BarredTokens {
    tokens: Cache<LinkKey, ()>,
    /// Whether there was ever one. Most nodes never bar any, and each request asks.
    any: AtomicBool,
}

/// Tokens kept.
const BARRED_MAX: u64 = 10_000;

impl Default for BarredTokens {
    fn default() -> Self {
        Self {
            tokens: Cache::builder()
                .max_capacity(BARRED_MAX)
                .time_to_live(ACCESS_TOKEN_LIFETIME_MAX)
                .build(),
            any: AtomicBool::new(false),
        }
    }
}

impl BarredTokens {
    /// Bars a token.
    pub fn insert(&self, key: LinkKey) {
        self.tokens.insert(key, ());
        self.any.store(true, Ordering::Release);
    }

    /// Whether no token was ever barred: then nobody need look.
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Whether a token is barred.
    pub fn contains(&self, key: &LinkKey) -> bool {
        self.tokens.contains_key(key)
    }
}

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
