//! The file after its disk has failed: from the first error on the database takes nothing more and reads only what it has in
//! memory, until it is closed and opened again. The janitor does that, once the disk takes something; what was learnt and is not
//! written waits meanwhile.

use crate::adapters::embedded::EmbeddedError;
use crate::adapters::embedded::Inner;
use crate::adapters::embedded::Opened;
use crate::adapters::embedded::database;
use crate::adapters::embedded::places::Places;
use crate::adapters::embedded::prepared;
use crate::adapters::replace;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The first pause before the file is opened again, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What the disk has to take before the file is let go of, from which some is still read.
const PROBE_BYTES: usize = 1024 * 1024;

/// When to try again.
#[derive(Debug)]
pub(super) struct Reopening {
    waited: Duration,
    pause: Duration,
}

impl Default for Reopening {
    fn default() -> Self {
        Self {
            waited: Duration::ZERO,
            pause: PAUSE_MIN,
        }
    }
}

impl Reopening {
    /// `interval` has passed: opens the file again where it is lost and that is due.
    pub(super) fn look(&mut self, inner: &Inner, interval: Duration) {
        if !inner.lost.load(Ordering::Acquire) {
            *self = Self::default();
            return;
        }
        self.waited += interval;
        if self.waited < self.pause {
            return;
        }
        self.waited = Duration::ZERO;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        match inner.reopen() {
            Ok(()) => tracing::info!("the state file was opened again after an error of its disk"),
            Err(error) => tracing::warn!(%error, "the state file cannot be opened again yet"),
        }
    }
}

impl Inner {
    /// Opens the file again. As after a crash, what was brought to it and not to the disk is gone.
    fn reopen(&self) -> Result<(), EmbeddedError> {
        probed(&self.path).map_err(|source| EmbeddedError::Io {
            path: self.path.clone(),
            source,
        })?;
        let mut file = self.file.lock();
        // It lets go of the lock on the file, which is taken anew.
        file.database = None;
        let database = database(&self.path)?;
        let places = Places::default();
        let (ledger, snapshot) = prepared(&database, &self.path, self.settings.names, &places)?;
        self.places.become_as(places);
        self.snapshot.store(Arc::new(snapshot));
        *file = Opened {
            database: Some(database),
            ledger,
        };
        self.lost.store(false, Ordering::Release);
        Ok(())
    }
}

/// Whether the disk takes something beside the file.
fn probed(path: &Path) -> io::Result<()> {
    let probe = path.with_extension("probe");
    let taken = replace::create(&probe, &vec![0; PROBE_BYTES]);
    // Also one that a process has left which was ended in the middle.
    let removed = std::fs::remove_file(&probe);
    taken.and(removed)
}
