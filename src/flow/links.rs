//! The links that this node has just written. The store learns of them a moment later; whoever redeems a code faster
//! than that still finds it here. So it is the latest that are kept, whatever is asked for more often.

use crate::domain::history::LinkKey;
use crate::domain::history::Provenance;
use crate::domain::outcome::ACCESS_TOKEN_LIFETIME_MAX;
use foldhash::fast::RandomState;
use moka::sync::Cache;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Links kept.
const LINKS_MAX: usize = 100_000;
/// For how long: far longer than the store takes to learn of them.
const KEPT: Duration = Duration::from_secs(60);
/// Parts of the memory, each with a lock of its own.
const PARTS: usize = 16;

/// A bounded memory of recent links, or none.
#[derive(Clone)]
pub struct RecentLinks(Option<Arc<Parts>>);

type Parts = [Mutex<Part<Arc<Provenance>>>; PARTS];

/// A part of the links, and the order in which they were written.
struct Part<T> {
    links: HashMap<LinkKey, Recent<T>, RandomState>,
    /// Which was written when; each has a number of its own.
    order: VecDeque<(LinkKey, Instant, u64)>,
    count: u64,
}

struct Recent<T> {
    link: T,
    written: Instant,
    number: u64,
}

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
        Self(Some(Arc::default()))
    }
}

impl RecentLinks {
    /// A memory that keeps nothing, for where the store knows at once what was written.
    pub fn none() -> Self {
        Self(None)
    }

    /// Remembers a link from `now` on, in place of the oldest where there is no room.
    pub fn insert(&self, key: LinkKey, link: Arc<Provenance>, now: Instant) {
        if let Some(mut part) = self.part(&key) {
            part.insert(key, link, now);
        }
    }

    /// What is remembered at `now`.
    pub fn find(&self, key: &LinkKey, now: Instant) -> Option<Arc<Provenance>> {
        self.part(key)?.find(key, now)
    }

    fn part(&self, key: &LinkKey) -> Option<MutexGuard<'_, Part<Arc<Provenance>>>> {
        let [first, ..] = key.digest.as_bytes();
        let part = self.0.as_ref()?.get(usize::from(*first) % PARTS)?;
        // Nothing in a part is half written: a panic leaves it as good as it was.
        Some(part.lock())
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self {
            links: HashMap::default(),
            order: VecDeque::new(),
            count: 0,
        }
    }
}

impl<T: Clone> Part<T> {
    fn insert(&mut self, key: LinkKey, link: T, now: Instant) {
        self.count += 1;
        let number = self.count;
        let recent = Recent {
            link,
            written: now,
            number,
        };
        self.links.insert(key, recent);
        self.order.push_back((key, now, number));
        // One that is written again has two places in the order; the earlier one stands for nothing then.
        while let Some((oldest, written, number)) = self.order.front().copied()
            && (self.order.len() > LINKS_MAX / PARTS || is_old(written, now))
        {
            self.order.pop_front();
            if let Entry::Occupied(entry) = self.links.entry(oldest)
                && entry.get().number == number
            {
                entry.remove();
            }
        }
    }

    fn find(&self, key: &LinkKey, now: Instant) -> Option<T> {
        let recent = self.links.get(key)?;
        (!is_old(recent.written, now)).then(|| recent.link.clone())
    }
}

fn is_old(written: Instant, now: Instant) -> bool {
    now.saturating_duration_since(written) >= KEPT
}

impl std::fmt::Debug for RecentLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecentLinks({})", self.0.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::LinkKind;
    use crate::domain::ids::Pseudonym;

    fn key(number: u32) -> LinkKey {
        let mut digest = [0; 16];
        digest[1..5].copy_from_slice(&number.to_le_bytes());
        LinkKey {
            kind: LinkKind::Code,
            digest: Pseudonym::from_bytes(digest),
        }
    }

    #[test]
    fn the_latest_are_kept_whatever_is_asked_for() {
        let mut part = Part::default();
        let begin = Instant::now();
        let room = u32::try_from(LINKS_MAX / PARTS).unwrap();
        for number in 0..3 * room {
            part.insert(key(number), (), begin);
            // Asked for again and again: it goes all the same.
            part.find(&key(0), begin);
            assert!(part.find(&key(number), begin).is_some(), "{number}");
        }
        assert!(part.find(&key(0), begin).is_none());
        assert!(part.find(&key(2 * room), begin).is_some());
        assert_eq!((part.links.len(), part.order.len()), (6_250, 6_250));
    }

    #[test]
    fn a_link_that_is_written_again_counts_from_then() {
        let mut part = Part::default();
        let begin = Instant::now();
        let later = begin + KEPT / 2;
        part.insert(key(1), (), begin);
        part.insert(key(2), (), begin);
        part.insert(key(1), (), later);
        let end = begin + KEPT;
        assert!(part.find(&key(2), end).is_none() && part.find(&key(1), end).is_some());
        part.insert(key(3), (), end);
        assert_eq!((part.links.len(), part.order.len()), (2, 2));
        // Written again and again, it takes no more room than anything else.
        for _ in 0..10_000 {
            part.insert(key(1), (), end);
        }
        assert_eq!((part.links.len(), part.order.len()), (1, 6_250));
    }
}
