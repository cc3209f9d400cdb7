//! How many requests may be under way to one upstream: fewer than it has threads, so that what it cannot take is refused
//! here at once, and no more than a part of them at one door, so that a door that hangs leaves room for the others.

use crate::domain::route::Door;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// One for each door, and one for everything that is not scored.
const LANES: usize = Door::ALL.len() + 1;

/// Requests under way to one upstream.
#[derive(Debug)]
pub struct UnderWay {
    max: usize,
    lane_max: usize,
    all: AtomicUsize,
    lanes: [AtomicUsize; LANES],
}

/// One request's turn; it is over when this is dropped.
#[derive(Debug)]
pub struct Turn {
    under_way: Arc<UnderWay>,
    lane: usize,
    metrics: Arc<Metrics>,
}

impl UnderWay {
    /// Room for `max`, of which one door (or all that is not scored) may take three quarters.
    pub fn with_doors(max: usize) -> Arc<Self> {
        Self::new(max, max - max / 4)
    }

    /// Room for `max` of whatever kind.
    pub fn of_one_kind(max: usize) -> Arc<Self> {
        Self::new(max, max)
    }

    fn new(max: usize, lane_max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            lane_max,
            all: AtomicUsize::new(0),
            lanes: std::array::from_fn(|_| AtomicUsize::new(0)),
        })
    }

    /// A turn for a request at `door`, if there is one. Nobody waits.
    pub fn enter(self: &Arc<Self>, door: Option<Door>, metrics: &Arc<Metrics>) -> Option<Turn> {
        let known = door.and_then(|door| Door::ALL.iter().position(|known| *known == door));
        let turn = Turn {
            under_way: Arc::clone(self),
            lane: known.unwrap_or(LANES - 1),
            metrics: Arc::clone(metrics),
        };
        metrics.upstream_begins();
        // Counted before it is looked: the turn counts down again when there was no room.
        let all = self.all.fetch_add(1, Ordering::Relaxed);
        let lane = self.lanes.get(turn.lane)?.fetch_add(1, Ordering::Relaxed);
        (all < self.max && lane < self.lane_max).then_some(turn)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(lane) = self.under_way.lanes.get(self.lane) {
            lane.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.upstream_ends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_door_leaves_room_for_the_others() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let under_way = UnderWay::with_doors(8);
        let enter = |door| under_way.enter(door, &metrics);
        let mut held: Vec<Turn> = (0..6).map(|_| enter(Some(Door::Token)).unwrap()).collect();
        assert!(enter(Some(Door::Token)).is_none());
        held.push(enter(Some(Door::Login)).unwrap());
        held.push(enter(None).unwrap());
        assert!(enter(None).is_none(), "more than all");
        assert_eq!(under_way.count(), 8);
        held.clear();
        assert_eq!(under_way.count(), 0);
        assert!(enter(Some(Door::Token)).is_some());
        assert!(metrics.render().contains("riskgate_upstream_requests 0"));
    }
}
