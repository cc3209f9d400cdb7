//! Request limits per address, network, user and client (token buckets of the crate governor), and the bound on assessments in
//! flight. Memory is bounded: sources that have gone quiet are dropped when the tables grow.

use crate::domain::ids::ValueHash;
use crate::domain::signals::network::host_hash;
use crate::flow::AuthFlow;
use crate::flow::exchange::Exchange;
use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock as _;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use serde::Deserialize;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Sources that one table keeps before quiet ones are dropped.
const SOURCES_MAX: usize = 200_000;

/// Requests per minute on scored doors; 0 switches a limit off. A burst of a minute's worth is allowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Per client address (IPv6: per /64). Offices share one address: be generous.
    pub address_per_minute: u32,
    /// Per network (IPv4: /24, IPv6: /48).
    pub network_per_minute: u32,
    /// Per username, from anywhere.
    pub user_per_minute: u32,
    /// Per OAuth client.
    pub client_per_minute: u32,
}

/// The limits at work.
#[derive(Debug)]
pub struct Limits {
    address: Option<Limiter>,
    network: Option<Limiter>,
    user: Option<Limiter>,
    client: Option<Limiter>,
    clock: DefaultClock,
}

type Limiter = RateLimiter<ValueHash, DashMapStateStore<ValueHash>, DefaultClock>;

/// Which limit was reached, and when to come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limited {
    /// `address`, `network`, `user` or `client`.
    pub scope: &'static str,
    /// Whole seconds, at least 1.
    pub retry_after: u64,
}

/// Counts what is in flight; a guard counts down when it is dropped.
#[derive(Debug)]
pub struct InFlight {
    count: AtomicUsize,
    max: usize,
}

/// One assessment in flight.
#[derive(Debug)]
pub struct InFlightGuard(Arc<InFlight>);

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            address_per_minute: 600,
            network_per_minute: 6_000,
            user_per_minute: 60,
            client_per_minute: 12_000,
        }
    }
}

impl Limits {
    /// Limits from settings.
    pub fn new(settings: &LimitSettings) -> Self {
        let limiter = |per_minute| {
            NonZeroU32::new(per_minute).map(|quota| RateLimiter::dashmap(Quota::per_minute(quota)))
        };
        Self {
            address: limiter(settings.address_per_minute),
            network: limiter(settings.network_per_minute),
            user: limiter(settings.user_per_minute),
            client: limiter(settings.client_per_minute),
            clock: DefaultClock::default(),
        }
    }

    /// Counts one request against each limit that applies. The first one reached answers.
    pub fn check(
        &self,
        address: ValueHash,
        network: Option<ValueHash>,
        user: Option<ValueHash>,
        client: Option<ValueHash>,
    ) -> Result<(), Limited> {
        self.one("address", self.address.as_ref(), Some(address))?;
        self.one("network", self.network.as_ref(), network)?;
        self.one("user", self.user.as_ref(), user)?;
        self.one("client", self.client.as_ref(), client)
    }

    fn one(
        &self,
        scope: &'static str,
        limiter: Option<&Limiter>,
        key: Option<ValueHash>,
    ) -> Result<(), Limited> {
        let (Some(limiter), Some(key)) = (limiter, key) else {
            return Ok(());
        };
        if limiter.len() > SOURCES_MAX {
            limiter.retain_recent();
        }
        // Full of sources that are all busy: a new one passes unlimited rather than growing the table.
        if limiter.len() > 2 * SOURCES_MAX {
            return Ok(());
        }
        limiter.check_key(&key).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            Limited {
                scope,
                retry_after: wait.as_secs().saturating_add(1),
            }
        })
    }
}

impl AuthFlow {
    /// Counts a request to a page of the gateway's own against the limit of its address, in every mode: these pages are
    /// nobody's login.
    pub fn limit_own(&self, exchange: &Exchange) -> Result<(), Limited> {
        let address = host_hash(&exchange.snapshot.people, exchange.client.address);
        self.dependencies().limits.check(address, None, None, None)
    }
}

impl InFlight {
    /// Room for `max` at once.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            max,
        })
    }

    /// A place, if there is one. Nobody waits.
    pub fn enter(self: &Arc<Self>) -> Option<InFlightGuard> {
        let guard = InFlightGuard(Arc::clone(self));
        (self.count.fetch_add(1, Ordering::Relaxed) < self.max).then_some(guard)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_over_its_limit_is_told_when_to_return() {
        let limits = Limits::new(&LimitSettings {
            address_per_minute: 3,
            network_per_minute: 5,
            user_per_minute: 0,
            client_per_minute: 0,
        });
        for _ in 0..3 {
            assert_eq!(limits.check(1, Some(7), Some(9), None), Ok(()));
        }
        let limited = limits.check(1, Some(7), Some(9), None).unwrap_err();
        assert_eq!(limited.scope, "address");
        assert!((1..=21).contains(&limited.retry_after), "{limited:?}");
        // What is refused to an address is not taken from its network.
        for address in [2, 3] {
            assert_eq!(limits.check(address, Some(7), Some(9), None), Ok(()));
        }
        let limited = limits.check(4, Some(7), Some(9), None).unwrap_err();
        assert_eq!(limited.scope, "network");
        assert_eq!(limits.check(5, Some(8), Some(9), None), Ok(()));
    }

    #[test]
    fn the_refused_place_is_given_back() {
        let room = InFlight::new(1);
        let first = room.enter();
        assert!(first.is_some() && room.enter().is_none());
        drop(first);
        assert_eq!(room.count(), 0);
        assert!(room.enter().is_some());
    }
}
