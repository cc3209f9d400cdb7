//! How anything gets into the file: in one transaction, with what was learnt until then, one at a time.

use crate::adapters::embedded::Inner;
use crate::adapters::embedded::Opened;
use crate::adapters::embedded::UNFLUSHED_MAX;
use crate::adapters::embedded::bind::Binder;
use crate::adapters::embedded::guarded;
use crate::adapters::embedded::tables::Tables;
use crate::adapters::embedded::unwritten::Layer;
use crate::adapters::embedded::unwritten::Layers;
use crate::domain::time::Timestamp;
use redb::Durability;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Inner {
    /// Runs `change` in a transaction that has all that was learnt so far, and shows readers what it did. Nobody learns
    /// meanwhile: `change` may be about what was learnt.
    pub(super) fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let mut file = self.file.lock();
        let _learning = self.learning.lock();
        let apart = Layers::set_apart(&self.layers);
        let done = self.outlasting(&mut file, |file| {
            self.transact(file, durability, false, &apart, change)
        });
        self.settle(&done);
        self.dirty.store(true, Ordering::Release);
        // What a transaction frees can be used again only once a later one is on the disk.
        if done.is_ok()
            && self.unflushed.fetch_add(1, Ordering::AcqRel) >= UNFLUSHED_MAX
            && let Err(error) = self.persist(&mut file, &Layer::default())
        {
            // The change is made; the next flush tries again.
            tracing::warn!(%error, "the state file could not be flushed");
        }
        done
    }

    /// Brings to the disk all that was learnt and written so far.
    pub(super) fn flush(&self) -> Result<(), redb::Error> {
        let mut file = self.file.lock();
        let apart = {
            let _learning = self.learning.lock();
            Layers::set_apart(&self.layers)
        };
        if apart.is_empty() && !self.dirty.load(Ordering::Acquire) {
            *self.outgoing.lock() = Layers::forget_written(&self.layers);
            return Ok(());
        }
        let done = self.persist(&mut file, &apart);
        let _learning = done.is_err().then(|| self.learning.lock());
        self.settle(&done);
        done
    }

    /// Brings to the disk `apart` and all that is in the file. The caller holds `file`.
    fn persist(&self, file: &mut Opened, apart: &Layer) -> Result<(), redb::Error> {
        self.unflushed.store(0, Ordering::Release);
        self.outlasting(file, |file| {
            self.transact(file, Durability::Immediate, true, apart, |_| Ok(()))
        })?;
        self.dirty.store(false, Ordering::Release);
        Ok(())
    }

    /// Runs `work` on the file, also where the database panics, as it does on some damage: then the file is lost until it is
    /// opened again.
    fn outlasting<T>(
        &self,
        file: &mut Opened,
        work: impl FnOnce(&mut Opened) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        guarded(|| work(file)).unwrap_or_else(|reason| {
            self.lost.store(true, Ordering::Release);
            // What is known of it here may be half changed.
            file.database = None;
            Err(redb::Error::Corrupted(reason))
        })
    }

    /// Writes `apart` and then what `change` does, in one transaction, and shows it to readers of the file. What was learnt
    /// stays in memory for a while where nothing but this was written.
    fn transact<T>(
        &self,
        file: &mut Opened,
        durability: Durability,
        is_flush: bool,
        apart: &Layer,
        change: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let Opened { database, ledger } = file;
        let database = database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        transaction.set_durability(durability)?;
        // A file that was not closed is usable again at once, at the price of a little more to write now.
        transaction.set_quick_repair(is_flush);
        let binder = Binder {
            codec: &self.codec,
            ledger,
            places: &self.places,
            apart,
            now: Timestamp(self.ended.load(Ordering::Relaxed)),
            told: HashMap::new(),
            ended: Vec::new(),
        };
        let mut tables = Tables::of(&transaction, binder, self.settings.entries_max);
        apart.write(&mut tables)?;
        tables.make_room()?;
        let done = change(&mut tables)?;
        let turnover = tables.bind()?;
        // What had to go must not be seen in memory either.
        let stays = is_flush && !tables.made_room;
        drop(tables);
        transaction.commit()?;
        if let Err(error) = self.publish(database) {
            // It is made all the same, and must not be made twice; the next one shows it.
            tracing::error!(%error, "what was written to the state file does not show yet");
        }
        // After it can be seen, and before what waited is let go of.
        ledger.apply(turnover, &self.places);
        *self.outgoing.lock() = Some(Layers::let_go(&self.layers, stays));
        Ok(done)
    }

    /// After a transaction: what it was to write waits on where it failed. Whoever failed holds `learning`.
    fn settle<T>(&self, done: &Result<T, redb::Error>) {
        match done {
            Ok(_) if self.failed.load().is_none() => {}
            Ok(_) => {
                self.failed.store(None);
                tracing::info!("the state file is written again");
            }
            Err(error) => {
                self.lost.fetch_or(is_of_disk(error), Ordering::AcqRel);
                // The first error says more than those that follow from it.
                if self.failed.load().is_none() {
                    tracing::error!(%error, "the state file cannot be written");
                    self.failed.store(Some(Arc::new(error.to_string())));
                }
                Layers::put_back(&self.layers);
            }
        }
    }
}

/// Whether the database takes nothing more after this error.
fn is_of_disk(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::embedded::EmbeddedSettings;
    use crate::adapters::embedded::EmbeddedStore;
    use crate::flow::ports::StateStore;
    use std::time::Duration;

    #[tokio::test]
    async fn a_database_that_panics_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let settings = EmbeddedSettings {
            flush_interval: Duration::from_millis(20),
            ..EmbeddedSettings::default()
        };
        let store = EmbeddedStore::open(&path, settings).unwrap();
        let panics = |_: &mut Tables<'_>| -> Result<(), redb::Error> { panic!("for the test") };
        let error = store.inner.write(Durability::None, panics).unwrap_err();
        assert!(error.to_string().contains("for the test"), "{error}");
        let told = store.ping().await.unwrap_err().to_string();
        assert!(told.contains("for the test"), "{told}");
        // What reads it for the janitor may panic as well, and the janitor goes on.
        crate::adapters::embedded::janitor::keeping(&store.inner, || panic!("for the test"));
        for _ in 0..500 {
            let is_open = !store.inner.lost.load(Ordering::Acquire);
            if is_open && store.inner.write(Durability::None, |_| Ok(())).is_ok() {
                store.ping().await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the file is not opened again");
    }
}
