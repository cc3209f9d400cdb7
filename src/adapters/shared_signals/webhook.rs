//! Events for a receiver that reads no tokens: in plain JSON, many in a message, signed as alerts are.

use super::account::Account;
use crate::adapters::courier::Cargo;
use crate::adapters::courier::Parcel;
use crate::adapters::courier::signed_fields;
use crate::domain::alert::BATCH_MAX;
use crate::domain::secret::Secret;
use crate::domain::shared_signal::Notice;
use crate::domain::shared_signal::notices;
use crate::domain::time::Timestamp;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Events as messages.
pub(super) struct Webhook {
    pub(super) account: Arc<Account>,
    pub(super) lost: Arc<AtomicU64>,
}

/// The way into its queue.
pub(super) struct Notices {
    pub(super) queue: mpsc::Sender<Notice>,
    pub(super) lost: Arc<AtomicU64>,
}

impl Notices {
    /// Whether there is room; what finds none is told with the next message as a number.
    pub(super) fn put(&self, notice: Notice) -> bool {
        let is_in = self.queue.try_send(notice).is_ok();
        if !is_in {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        is_in
    }
}

impl Cargo for Webhook {
    type Item = Notice;
    type Shown = Secret<Vec<u8>>;
    const BATCH_MAX: usize = BATCH_MAX;

    fn pack(&self, items: &[Notice]) -> Option<Parcel> {
        let lost = self.lost.load(Ordering::Relaxed);
        Some(Parcel {
            id: format!("msg_{}", items.first()?.id),
            body: notices(items, lost).to_string().into_bytes(),
            lost,
        })
    }

    fn fields(
        &self,
        secret: &Secret<Vec<u8>>,
        parcel: &Parcel,
        now: Timestamp,
    ) -> Vec<(&'static str, String)> {
        signed_fields(secret, parcel, now)
    }

    fn taken(&self, items: &[Notice], parcel: &Parcel) {
        self.lost.fetch_sub(parcel.lost, Ordering::Relaxed);
        for notice in items {
            self.account.delivered(notice.signal.kind());
        }
    }

    fn given_up(&self, items: &[Notice], _parcel: &Parcel, why: &str) {
        for notice in items {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.account.given_up(notice.signal.kind(), why);
        }
    }
}
