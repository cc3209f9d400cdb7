//! Connections of the public listener: how many are open, and how all of them come to an end. First the balancer is told,
//! while everything is still taken; then no more are accepted and those that are open end with their answers; those that
//! stay idle are closed. It never cuts off a request: that is left to whoever waits no longer.

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::Fds;
use pingora::server::ListenFds;
use pingora::server::RuntimeOpts;
use pingora::server::ShutdownWatch;
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::watch;

/// How long an idle connection may still bring a request once the end has begun. That request is answered with
/// `Connection: close`, so that its client does not meet a connection that was closed under it.
const LINGER: Duration = Duration::from_secs(1);
/// A connection that was accepted last gets at least this long for its handshake and its first request.
const SETTLE: Duration = Duration::from_millis(250);

/// The end of a listener, in steps.
#[derive(Debug)]
pub struct Drain {
    draining: AtomicBool,
    begins: Notify,
    stop: watch::Sender<bool>,
    open: watch::Sender<usize>,
    linger: Duration,
}

impl Drain {
    /// A listener that runs. From the beginning of its end on it will accept for the time `drain`; requests under way then
    /// get `grace`.
    pub fn new(drain: Duration, grace: Duration) -> Self {
        Self {
            draining: AtomicBool::new(false),
            begins: Notify::new(),
            stop: watch::channel(false).0,
            open: watch::channel(0).0,
            linger: LINGER.saturating_sub(drain).max(SETTLE).min(grace),
        }
    }

    /// From now on each answer asks its client for another connection, which the balancer leads elsewhere.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::Release);
        self.begins.notify_waiters();
    }

    /// Whether it has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Ready once it has begun: for what would wait longer than the end may take.
    pub async fn begun(&self) {
        let begins = self.begins.notified();
        if !self.is_draining() {
            begins.await;
        }
    }

    /// Accepts no more connections. HTTP/2 clients get GOAWAY.
    pub fn stop(&self) {
        self.begin();
        self.stop.send_replace(true);
    }

    /// Ready once no connection is open.
    pub async fn ended(&self) {
        tokio::time::sleep(SETTLE.min(self.linger)).await;
        self.until_none().await;
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    async fn until_none(&self) {
        // The sender is ours: it cannot be gone.
        drop(self.open.subscribe().wait_for(|open| *open == 0).await);
    }

    fn enter(self: &Arc<Self>) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(Arc::clone(self))
    }
}

/// One open connection.
#[derive(Debug)]
struct Open(Arc<Drain>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .open
            .send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// An application whose connections are counted and may linger.
#[derive(Debug)]
pub struct Counted<A> {
    app: Arc<A>,
    drain: Arc<Drain>,
}

impl<A> Counted<A> {
    /// The connections of `app`.
    pub fn new(app: A, drain: Arc<Drain>) -> Self {
        Self {
            app: Arc::new(app),
            drain,
        }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Counted<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let _open = self.drain.enter();
        self.app.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        let none_left = self.drain.until_none();
        if tokio::time::timeout(self.drain.linger, none_left)
            .await
            .is_err()
        {
            tracing::debug!(open = self.drain.open(), "idle connections are closed");
        }
        self.app.cleanup().await;
    }
}

/// A Pingora service that ends when its [`Drain`] says so, on a socket that was opened before or on one of its own.
pub struct Drained<A> {
    service: Service<A>,
    drain: Arc<Drain>,
    socket: Option<(SocketAddr, TcpListener)>,
}

impl<A> std::fmt::Debug for Drained<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Drained({:?})", self.drain)
    }
}

impl<A> Drained<A> {
    /// `service`, on `socket` where it was opened before. The socket must not block.
    pub fn new(
        service: Service<A>,
        drain: Arc<Drain>,
        socket: Option<(SocketAddr, TcpListener)>,
    ) -> Self {
        Self {
            service,
            drain,
            socket,
        }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> PingoraService for Drained<A> {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        _: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let mut known = Fds::new();
        if let Some((address, socket)) = self.socket.take() {
            // Pingora finds it by the address as it was added, and owns it from here on.
            known.add(address.to_string(), socket.into_raw_fd());
        }
        let known: ListenFds = Arc::new(known.into());
        let stop = self.drain.stop.subscribe();
        self.service
            .start_service(Some(known), stop, listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        self.service.runtime_opts_override(global)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_has_ended_when_the_last_connection_has() {
        let drain = Arc::new(Drain::new(Duration::ZERO, Duration::from_millis(10)));
        let open = drain.enter();
        let begun = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.begun().await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!begun.is_finished());
        drain.stop();
        begun.await.unwrap();
        drain.begun().await;
        assert!(drain.is_draining() && drain.open() == 1);
        let waits = tokio::spawn({
            let drain = Arc::clone(&drain);
            async move { drain.ended().await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waits.is_finished());
        drop(open);
        waits.await.unwrap();
        assert_eq!(drain.open(), 0);
    }
}
