//! Addresses behind names. While a name cannot be looked up, the last good addresses stand in for the answer: servers
//! seldom move, and name servers fail. It connects to nobody.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Names that are remembered: those of one configuration, and of the nodes of a cluster.
const NAMES_MAX: usize = 256;

/// Addresses by name and port.
type Known = HashMap<(String, u16), Vec<SocketAddr>>;

/// Looks names up and remembers what it found. Clones share their memory.
#[derive(Clone, Debug)]
pub struct Names {
    known: Arc<Mutex<Known>>,
    wait: Duration,
}

impl Names {
    /// A lookup that takes longer than `wait` has failed.
    pub fn new(wait: Duration) -> Self {
        Self {
            known: Arc::default(),
            wait,
        }
    }

    /// The addresses of a name; the last good ones when it cannot be looked up.
    ///
    /// # Errors
    /// The name cannot be looked up and never could.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found =
            match tokio::time::timeout(self.wait, tokio::net::lookup_host((host, port))).await {
                Ok(found) => found.map(Iterator::collect::<Vec<_>>),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
        self.settle(host, port, found)
    }

    fn settle(
        &self,
        host: &str,
        port: u16,
        found: io::Result<Vec<SocketAddr>>,
    ) -> io::Result<Vec<SocketAddr>> {
        let mut known = self.known.lock();
        let name = (host.to_owned(), port);
        match found {
            Ok(found) if !found.is_empty() => {
                if known.len() < NAMES_MAX || known.contains_key(&name) {
                    known.insert(name, found.clone());
                }
                Ok(found)
            }
            failed => match known.get(&name) {
                Some(last) => {
                    let error = failed.err().map(|error| error.to_string());
                    tracing::warn!(
                        host,
                        error,
                        "a name cannot be looked up; the last good addresses stay"
                    );
                    Ok(last.clone())
                }
                None => failed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_good_addresses_stay() {
        let names = Names::new(Duration::from_secs(5));
        let good = names.lookup("localhost", 7).await.unwrap();
        assert!(!good.is_empty());
        let fails = || Err(io::Error::other("no name server"));
        assert_eq!(names.settle("localhost", 7, fails()).unwrap(), good);
        assert_eq!(names.settle("localhost", 7, Ok(Vec::new())).unwrap(), good);
        // Of another port or name nothing is known.
        assert!(names.settle("localhost", 8, fails()).is_err());
        assert!(names.lookup("no-such-name.invalid", 7).await.is_err());
        // What it says later counts again.
        let other = vec![SocketAddr::from(([192, 0, 2, 1], 7))];
        assert_eq!(
            names.settle("localhost", 7, Ok(other.clone())).unwrap(),
            other
        );
        assert_eq!(names.settle("localhost", 7, fails()).unwrap(), other);
    }
}
