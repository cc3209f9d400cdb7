//! How many connections there may be, in all and from one address, so that nobody takes them all and file descriptors are
//! left for upstreams, state and the operators' listener. It closes nothing itself.

use crate::telemetry::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// How often those that wait are told at most that places are scarce: it wakes all of them.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Never told.
const NEVER: u64 = u64::MAX;

/// Room for connections.
#[derive(Debug)]
pub struct Places {
    max: usize,
    per_address_max: usize,
    taken: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    scarcity: Notify,
    since: Instant,
    /// When it was last told, in milliseconds since then.
    told: AtomicU64,
    metrics: Arc<Metrics>,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Full {
    /// As many as may be are there.
    All,
    /// As many as may be from this address.
    Address,
}

impl Full {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

impl Places {
    /// Room for `max` in all and `per_address_max` from one IPv4 address or IPv6 /64; 0 for no limit of the latter.
    pub fn new(max: usize, per_address_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_address_max,
            taken: AtomicUsize::new(0),
            by_address: Mutex::default(),
            scarcity: Notify::new(),
            since: Instant::now(),
            told: AtomicU64::new(NEVER),
            metrics,
        })
    }

    /// A place for a connection from `peer`; without one (a balancer that is trusted) it counts in all only.
    pub fn take(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<Place, Full> {
        let address = peer.filter(|_| self.per_address_max > 0).map(source);
        let mut place = Place {
            places: Arc::clone(self),
            address: None,
        };
        self.metrics.connection_opened();
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        if self.are_scarce() {
            self.tell();
        }
        // The guard counts down again when there was no place.
        if before >= self.max {
            return Err(Full::All);
        }
        if let Some(address) = address {
            let mut by_address = self.by_address.lock();
            let count = by_address.entry(address).or_default();
            if *count >= self.per_address_max {
                return Err(Full::Address);
            }
            *count += 1;
            place.address = Some(address);
        }
        Ok(place)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether less than a fifth is left, so that idle connections should make room.
    pub fn are_scarce(&self) -> bool {
        self.taken() >= self.max - self.max / 5
    }

    /// Ready when a connection comes while places are scarce. Whoever waits on it looks first whether they are already.
    pub fn scarcity(&self) -> Notified<'_> {
        self.scarcity.notified()
    }

    fn tell(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(NEVER - 1);
        let told = self.told.load(Ordering::Relaxed);
        let is_due = told == NEVER || Duration::from_millis(now.saturating_sub(told)) >= TELL_EVERY;
        let told_by_us = is_due
            && self
                .told
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if told_by_us {
            self.scarcity.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        self.places.metrics.connection_closed();
        let Some(address) = self.address else { return };
        let mut by_address = self.places.by_address.lock();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// Whoever has one IPv6 address has its whole /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn places(max: usize, per_address_max: usize) -> Arc<Places> {
        Places::new(max, per_address_max, Arc::new(Metrics::new().unwrap()))
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let places = places(10, 2);
        let first = places.take(address("192.0.2.1")).unwrap();
        let _second = places.take(address("192.0.2.1")).unwrap();
        assert_eq!(
            places.take(address("192.0.2.1")).unwrap_err(),
            Full::Address
        );
        assert_eq!(places.taken(), 2);
        let _other = places.take(address("192.0.2.2")).unwrap();
        drop(first);
        assert!(places.take(address("::ffff:192.0.2.1")).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let places = places(10, 1);
        let _one = places.take(address("2001:db8::1")).unwrap();
        assert!(places.take(address("2001:db8::ffff:1")).is_err());
        assert!(places.take(address("2001:db8:0:1::1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn scarcity_is_told_when_somebody_comes_and_not_over_and_over() {
        let places = places(5, 0);
        let mut held: Vec<Place> = (0..3).map(|_| places.take(None).unwrap()).collect();
        let told = places.scarcity();
        held.push(places.take(None).unwrap());
        assert!(told.now_or_never().is_some());
        let again = places.scarcity();
        held.push(places.take(None).unwrap());
        assert!(again.now_or_never().is_none());
        tokio::time::sleep(TELL_EVERY).await;
        let again = places.scarcity();
        places.take(None).unwrap_err();
        assert!(again.now_or_never().is_some());
    }

    #[test]
    fn there_are_no_more_than_all() {
        let places = places(5, 0);
        let mut held: Vec<Place> = (0..4).map(|_| places.take(None).unwrap()).collect();
        assert!(places.are_scarce());
        held.push(places.take(address("192.0.2.1")).unwrap());
        assert_eq!(places.take(None).unwrap_err(), Full::All);
        held.clear();
        assert_eq!(places.taken(), 0);
        assert!(places.by_address.lock().is_empty() && !places.are_scarce());
    }
}
