//! The wish to end: Ctrl-C, SIGTERM, a closed terminal, or a reader of the output that has gone.

use anyhow::Context as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

/// How often the end was asked for: once means in order, twice at once.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<u8>);

impl Stop {
    /// Listens to the signals from now on.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        let stop = Self(watch::Sender::new(0));
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            let mut signals = signal(kind).context("signals cannot be watched")?;
            let stop = stop.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    stop.set();
                }
            });
        }
        Ok(stop)
    }

    /// Asks for the end.
    pub(crate) fn set(&self) {
        self.0.send_modify(|times| *times = times.saturating_add(1));
    }

    /// Whether the end was asked for.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Waits until the end is asked for.
    pub(crate) async fn wait(&self) {
        self.reached(1).await;
    }

    /// Waits until the end is asked for impatiently.
    pub(crate) async fn wait_urgent(&self) {
        self.reached(2).await;
    }

    async fn reached(&self, least: u8) {
        let mut times = self.0.subscribe();
        // The sender lives in `self`: this cannot fail while somebody waits.
        drop(times.wait_for(|times| *times >= least).await);
    }
}
