//! The running server: listening, TLS, connections, faults, stopping. It must not look into requests beyond recording
//! them.

use parking_lot::Mutex;
use parking_lot::RwLock;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::action::Action;
use crate::app::App;
use crate::clock::Clock;
use crate::config::ActionSettings;
use crate::config::Flaws;
use crate::config::Outage;
use crate::config::SimConfig;
use crate::config::SimTls;
use crate::config::WebhookSettings;
use crate::keys;
use crate::keys::Keys;
use crate::record::RecordedRequest;
use crate::record::Recorder;
use crate::request::Request;
use crate::response::Response;
use crate::router;
use crate::store::Store;
use crate::users::Users;
use crate::webhooks::Webhooks;
use crate::wire::Connection;
use crate::wire::WireError;

/// Connections at the same time; Tomcat's `maxConnections` is of that size.
const CONNECTIONS_MAX: usize = 8_192;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a started request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the fault `Hang` holds a request.
const HANG_MAX: Duration = Duration::from_secs(600);
/// Pause after a failed accept, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running simulator; it stops when dropped.
pub struct Sim {
    /// Address it listens on.
    pub addr: SocketAddr,
    /// URL of that address, `https://localhost:<port>` or `http://127.0.0.1:<port>`.
    pub url: String,
    app: Arc<App>,
    ca_pem: String,
    stop: watch::Sender<bool>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Sim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sim")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Sim {
    /// Starts listening; the runtime that calls this serves the requests.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or keys or HTTP clients cannot be made.
    pub async fn start(config: SimConfig) -> anyhow::Result<Self> {
        // A provider may be installed already, by us or by the program around us: either serves.
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on `{}`", config.listen))?;
        let addr = listener.local_addr()?;
        let (acceptor, ca_pem) = match config.tls {
            Some(SimTls::SelfSigned) => {
                let identity = keys::tls_identity()?;
                let ca_pem = identity.ca_pem.clone();
                let tls = keys::tls_server(identity, config.client_certificates.as_ref())?;
                (Some(TlsAcceptor::from(Arc::new(tls))), ca_pem)
            }
            None => (None, String::new()),
        };
        let url = if acceptor.is_some() {
            format!("https://localhost:{}", addr.port())
        } else {
            format!("http://{addr}")
        };
        let keys = tokio::task::spawn_blocking(Keys::shared).await??;
        let action = |settings: &Option<ActionSettings>| {
            let action = settings.clone().map(Action::new).transpose()?;
            anyhow::Ok(RwLock::new(action.map(Arc::new)))
        };
        let lock_ms = i64::try_from(config.lock_duration.as_millis()).unwrap_or(i64::MAX / 4);
        let public_url = config.public_url.clone().unwrap_or_else(|| url.clone());
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(App {
            public_url: RwLock::new(public_url.trim_end_matches('/').to_owned()),
            clock: Clock::default(),
            keys: RwLock::new(keys),
            flaws: RwLock::new(Flaws::default()),
            recorder: Recorder::new(config.is_recording, config.recorded_max),
            action: action(&config.action)?,
            id_token_action: action(&config.id_token_action)?,
            password_action: action(&config.password_action)?,
            webhooks: Webhooks::start(config.webhook.clone(), stopped.clone())?,
            outage: RwLock::new(Outage::None),
            response_delay_ms: AtomicU64::new(
                u64::try_from(config.response_delay.as_millis()).unwrap_or(u64::MAX),
            ),
            users: Mutex::new(
                Users::new(&config.users, config.failed_attempts_max, lock_ms)
                    .with_email_logins(config.has_email_logins),
            ),
            store: Mutex::new(Store::new()),
            config,
        });
        let accepting = tokio::spawn(accept_all(listener, acceptor, Arc::clone(&app), stopped));
        Ok(Self {
            addr,
            url,
            app,
            ca_pem,
            stop,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// Stops listening and closes idle connections; requests under way are answered first.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let accepting = self.accepting.lock().take();
        if let Some(task) = accepting {
            // The task ends by itself once told; a panic in it has been reported already.
            drop(task.await);
        }
    }

    /// Every request received since the start or the last [`Sim::clear_recorded`], oldest first, as it came over the wire.
    pub fn recorded(&self) -> Vec<RecordedRequest> {
        self.app.recorder.all()
    }

    /// Forgets the recorded requests.
    pub fn clear_recorded(&self) {
        self.app.recorder.clear();
    }

    /// Switches recording on or off, for benches.
    pub fn set_recording(&self, is_on: bool) {
        self.app.recorder.set_enabled(is_on);
    }

    /// Sets the start of the server's own URLs: what is in front of it often learns its port later.
    pub fn set_public_url(&self, url: &str) {
        *self.app.public_url.write() = url.trim_end_matches('/').to_owned();
    }

    /// The start of the server's own URLs.
    pub fn public_url(&self) -> String {
        self.app.public_url()
    }

    /// Sets or removes the pre-issue access token action.
    ///
    /// # Errors
    ///
    /// The HTTP client for it cannot be made, for example for an unreadable certificate authority.
    pub fn set_action(&self, action: Option<ActionSettings>) -> anyhow::Result<()> {
        set(&self.app.action, action)
    }

    /// Sets or removes the pre-issue ID token action.
    ///
    /// # Errors
    ///
    /// The HTTP client for it cannot be made, for example for an unreadable certificate authority.
    pub fn set_id_token_action(&self, action: Option<ActionSettings>) -> anyhow::Result<()> {
        set(&self.app.id_token_action, action)
    }

    /// Sets or removes the pre-update password action.
    ///
    /// # Errors
    ///
    /// The HTTP client for it cannot be made, for example for an unreadable certificate authority.
    pub fn set_password_action(&self, action: Option<ActionSettings>) -> anyhow::Result<()> {
        set(&self.app.password_action, action)
    }

    /// Sets or removes the receiver of events.
    pub fn set_webhook(&self, webhook: Option<WebhookSettings>) {
        self.app.webhooks.set(webhook);
    }

    /// Events that were lost because the queue was full or the receiver did not take them.
    pub fn webhooks_dropped(&self) -> u64 {
        self.app.webhooks.dropped()
    }

    /// Somebody has logged in at the other identity provider: what that sends for it, as `code` or as the ID of its response.
    pub fn logged_in_elsewhere(&self, subject: &str) -> String {
        let code = crate::seed::random_uuid();
        let mut store = self.app.store();
        store.elsewhere.insert(code.clone(), subject.to_owned());
        code
    }

    /// Adds a delay to every answer.
    pub fn set_response_delay(&self, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.app
            .response_delay_ms
            .store(delay_ms, Ordering::Relaxed);
    }

    /// Plays a fault until told otherwise.
    pub fn set_outage(&self, outage: Outage) {
        *self.app.outage.write() = outage;
    }

    /// Makes tokens wrong until told otherwise.
    pub fn set_flaws(&self, flaws: Flaws) {
        *self.app.flaws.write() = flaws;
    }

    /// Signs with a new key from now on and publishes it in place of the old one.
    ///
    /// # Errors
    ///
    /// No key can be made.
    pub fn rotate_keys(&self) -> anyhow::Result<()> {
        let fresh = Arc::new(Keys::generate()?);
        *self.app.keys.write() = fresh;
        Ok(())
    }

    /// Certificate (PEM) of the authority to trust; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Moves the server's clock forward, so that codes, tokens and locks expire.
    pub fn advance(&self, by: Duration) {
        self.app.clock.advance(by);
    }

    /// The server's clock in seconds since the Unix epoch; one-time codes are checked against it.
    pub fn now_s(&self) -> i64 {
        self.app.clock.now_s()
    }
}

async fn accept_all(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: Arc<App>,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue;
        };
        let (app, acceptor, stopped) = (Arc::clone(&app), acceptor.clone(), stopped.clone());
        tokio::spawn(async move {
            serve_stream(stream, peer, acceptor, &app, stopped).await;
            drop(slot);
        });
    }
}

async fn serve_stream(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    app: &App,
    stopped: watch::Receiver<bool>,
) {
    // Without it small answers wait for the other side's acknowledgement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    match acceptor {
        None => serve(stream, peer, None, app, stopped).await,
        Some(acceptor) => {
            let handshake = acceptor.accept(stream).into_fallible();
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let shown = shown.and_then(|chain| chain.first());
                    let shown = shown.map(|leaf| Bytes::copy_from_slice(leaf));
                    serve(stream, peer, shown, app, stopped).await;
                }
                Ok(Err((_, stream))) => linger(stream).await,
                Err(_) => {}
            }
        }
    }
}

/// Closes a connection whose handshake has failed. What the other side has sent already is read: a reset would take the
/// alert away from it.
async fn linger(mut stream: TcpStream) {
    let mut unread = [0; 4_096];
    let end = async {
        stream.shutdown().await?;
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    // The other side may be gone, or stay for ever.
    drop(tokio::time::timeout(HANDSHAKE_TIMEOUT, end).await);
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    client_certificate: Option<Bytes>,
    app: &App,
    mut stopped: watch::Receiver<bool>,
) {
    let (head_max, body_max) = (app.config.head_bytes_max, app.config.body_bytes_max);
    let mut connection = Connection::new(stream, head_max, body_max);
    // The first request has Tomcat's connection timeout, the next ones the keep-alive.
    let mut patience = REQUEST_TIMEOUT;
    loop {
        let read = tokio::select! {
            read = tokio::time::timeout(patience, connection.read_request()) => read,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        patience = app.config.keep_alive;
        let incoming = match read {
            Ok(Ok(Some(incoming))) => incoming,
            Ok(Err(WireError::Refused(status))) => {
                let refusal = Response::empty(status);
                // Whether the refusal arrives is the sender's concern.
                drop(connection.write_response(&refusal, true, false).await);
                break;
            }
            Ok(Ok(None) | Err(WireError::Closed)) | Err(_) => break,
        };
        let is_head = incoming.method == "HEAD";
        let keeps_alive = incoming.keeps_alive && !*stopped.borrow();
        let request = Request {
            method: incoming.method,
            target: incoming.target,
            headers: incoming.headers,
            body: incoming.body,
            peer,
            client_certificate: client_certificate.clone(),
        };
        let Some(response) = answer(app, request).await else {
            break;
        };
        let written = connection
            .write_response(&response, !is_head, keeps_alive)
            .await;
        if written.is_err() || !keeps_alive {
            break;
        }
    }
    connection.close().await;
}

/// Records, plays the fault, answers; `None` closes the connection.
async fn answer(app: &App, request: Request) -> Option<Response> {
    if app.recorder.is_enabled() {
        app.recorder.push(RecordedRequest {
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            peer: request.peer,
            client_certificate: request.client_certificate.clone(),
            received_ms: app.clock.now_ms(),
        });
    }
    match app.outage() {
        Outage::Hang => {
            tokio::time::sleep(HANG_MAX).await;
            return None;
        }
        Outage::None => {}
        Outage::Reset => return None,
        Outage::Status(status) => return Some(Response::empty(status)),
    }
    let delay_ms = app.response_delay_ms.load(Ordering::Relaxed);
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    let response = router::answer(app, &request).await;
    tracing::debug!(
        method = request.method,
        path = request.target.split('?').next().unwrap_or_default(),
        status = response.status,
        "answered"
    );
    Some(response)
}

fn set(held: &RwLock<Option<Arc<Action>>>, settings: Option<ActionSettings>) -> anyhow::Result<()> {
    let action = settings.map(Action::new).transpose()?.map(Arc::new);
    *held.write() = action;
    Ok(())
}
