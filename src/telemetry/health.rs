//! Liveness and readiness. Ready means that requests are served; a dependency that is away degrades the answer but does
//! not take the node out, because every login still goes through.

use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// How one part is doing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status", content = "detail")]
pub enum PartStatus {
    /// As it should be.
    Ok,
    /// A fallback answers in its place.
    Degraded(String),
}

/// The health of the process.
#[derive(Debug, Default)]
pub struct Health {
    serving: AtomicBool,
    draining: AtomicBool,
    parts: Mutex<BTreeMap<&'static str, PartStatus>>,
}

/// The answer of the readiness check.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// `ready`, `degraded`, `starting` or `draining`.
    pub status: &'static str,
    /// Each part.
    pub parts: BTreeMap<&'static str, PartStatus>,
}

impl Health {
    /// The listener accepts connections.
    pub fn serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// The process is about to end: load balancers should send nothing more.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// How `part` is doing from now on.
    pub fn set(&self, part: &'static str, status: PartStatus) {
        self.turn(part, status);
    }

    /// The same, and whether that is new.
    pub fn turn(&self, part: &'static str, status: PartStatus) -> bool {
        self.parts.lock().insert(part, status.clone()) != Some(status)
    }

    /// `part` is there no more.
    pub fn forget(&self, part: &'static str) {
        self.parts.lock().remove(part);
    }

    /// Whether traffic should come, and how each part is doing.
    pub fn readiness(&self) -> (bool, Readiness) {
        let parts = self.parts.lock().clone();
        let degraded = parts.values().any(|part| *part != PartStatus::Ok);
        let (ready, status) = match (
            self.draining.load(Ordering::Acquire),
            self.serving.load(Ordering::Acquire),
        ) {
            (true, _) => (false, "draining"),
            (false, false) => (false, "starting"),
            (false, true) if degraded => (true, "degraded"),
            (false, true) => (true, "ready"),
        };
        (ready, Readiness { status, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degraded_is_ready_and_draining_is_not() {
        let health = Health::default();
        assert!(!health.readiness().0);
        health.serving();
        health.set(
            "model",
            PartStatus::Degraded("the native evaluator answers".to_owned()),
        );
        let (ready, report) = health.readiness();
        assert!(ready);
        assert_eq!(report.status, "degraded");
        health.draining();
        assert!(!health.readiness().0);
    }
}
