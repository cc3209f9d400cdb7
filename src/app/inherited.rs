//! Sockets that whoever started the process has opened and passed on, as systemd does for a socket unit (sd_listen_fds(3):
//! `LISTEN_FDS`, `LISTEN_PID`). They outlive the process: clients that come between the end of one and the start of the
//! next wait in their queue and are not refused. It opens none itself.

use crate::config::Config;
use crate::config::ConfigError;
use listenfd::ListenFd;
use std::net::SocketAddr;
use std::net::TcpListener;

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
