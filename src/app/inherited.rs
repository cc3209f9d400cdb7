//! Sockets that whoever started the process has opened and passed on, as systemd does for a socket unit (sd_listen_fds(3):
//! `LISTEN_FDS`, `LISTEN_PID`). They outlive the process: clients that come between the end of one and the start of the
//! next wait in their queue and are not refused. It opens none itself. And the file of the state, which the process before
//! must have let go of.

use crate::adapters::clock::SystemClock;
use crate::adapters::store;
use crate::adapters::store::StoreError;
use crate::adapters::store::StoreSettings;
use crate::config::Config;
use crate::config::ConfigError;
use crate::flow::ports::Clock;
use crate::flow::ports::StateStore;
use listenfd::ListenFd;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Listening sockets that no listener has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

impl Inherited {
    /// Those of the environment. Each must be of a listener of the configuration.
    ///
    /// # Errors
    /// A socket that listens on TCP nowhere, or where no listener is configured.
    pub fn take_over(config: &Config, file: &str) -> Result<Self, ConfigError> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..passed.len() {
            let socket = passed
                .take_tcp_listener(place)
                .and_then(|socket| socket.ok_or_else(|| std::io::Error::other("taken twice")))
                .and_then(|socket| {
                    socket.set_nonblocking(true)?;
                    Ok((socket.local_addr()?, socket))
                });
            sockets.push(socket.map_err(|error| {
                ConfigError::new(
                    "LISTEN_FDS",
                    format!("socket {place} is not one that listens on TCP: {error}"),
                )
            })?);
        }
        let listeners = [
            config.server.listen,
            config.admin.listen,
            config.actions.listen,
        ];
        let stray = sockets.iter().find(|(address, _)| {
            let known = |listener: &SocketAddr| is_same(*listener, *address);
            !listeners.iter().any(known)
        });
        match stray {
            Some((address, _)) => Err(ConfigError::new(
                file,
                format!(
                    "a socket was passed that listens on {address}, expected server.listen {}, admin.listen {} or actions.listen {}",
                    config.server.listen, config.admin.listen, config.actions.listen
                ),
            )),
            None => Ok(Self(sockets)),
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one for a listener of this address.
    pub fn take(&mut self, listener: SocketAddr) -> Option<TcpListener> {
        let place = self
            .0
            .iter()
            .position(|(address, _)| is_same(listener, *address))?;
        Some(self.0.swap_remove(place).1)
    }
}

/// Whether a socket serves a listener: the same address, or every address of both families for every address of one.
fn is_same(listener: SocketAddr, socket: SocketAddr) -> bool {
    let every = listener.ip().is_unspecified() && socket.ip().is_unspecified();
    listener.port() == socket.port() && (every || listener.ip() == socket.ip())
}

/// Opens the store. A process that takes over the sockets of another one waits until that has let go of the file: the
/// sockets are open meanwhile, and who comes waits with it.
pub(super) fn open_store(
    config: &Config,
    settings: &StoreSettings,
    takes_over: bool,
) -> Result<Arc<dyn StateStore>, StoreError> {
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    const SPARE: Duration = Duration::from_secs(15);
    let longest = Duration::from_secs(config.server.drain_seconds + config.server.grace_seconds);
    let start = SystemClock.instant();
    let mut is_said = false;
    loop {
        let opened = store::open(&config.state.url, &config.state.data_dir, settings);
        let waits = takes_over && opened.as_ref().is_err_and(StoreError::is_in_use);
        if !waits || SystemClock.instant().duration_since(start) > longest + SPARE {
            return opened;
        }
        if !is_said {
            is_said = true;
            tracing::info!("waiting for the process before to let go of the state");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Drops the store once nobody else holds it: a file that is closed need not be looked through at the next start. The
/// proxy's workers drop what they have on their own time, which is waited for, but not for long.
pub(super) fn let_go(state: Arc<dyn StateStore>) {
    const LONGEST: Duration = Duration::from_secs(3);
    const LOOK_EVERY: Duration = Duration::from_millis(2);
    let start = SystemClock.instant();
    while Arc::strong_count(&state) > 1 {
        if SystemClock.instant().duration_since(start) > LONGEST {
            tracing::warn!("the state is still held by somebody and ends with the process");
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    drop(state);
    tracing::debug!("the state is let go of");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_once_and_by_its_address() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited(vec![(address, socket)]);
        let other = SocketAddr::new(address.ip(), address.port() ^ 1);
        assert!(inherited.take(other).is_none() && !inherited.is_empty());
        assert!(inherited.take(address).is_some());
        assert!(inherited.take(address).is_none() && inherited.is_empty());
    }

    #[test]
    fn every_address_is_every_address() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(is_same(address("0.0.0.0:443"), address("[::]:443")));
        assert!(!is_same(address("127.0.0.1:443"), address("[::]:443")));
        assert!(!is_same(address("0.0.0.0:443"), address("[::]:444")));
    }
}
