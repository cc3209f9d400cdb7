//! The identity server as the gateway itself calls it: for its keys, and to take back what it has issued. Requests go to
//! the configured origin alone: redirects are not followed, no proxy of the environment is used, and nothing that came
//! from a client or a token names a host.

/// None at all.
mod absent;

/// What it says of tokens.
mod introspection;

/// Keys, kept for a while.
mod keys;

/// Revocation and the end of sessions.
mod revocation;

use crate::adapters::names::Names;
use crate::adapters::outbound;
use crate::adapters::outbound::ClientError;
use crate::adapters::outbound::Identity;
use crate::domain::secret::Secret;
use crate::flow::ports::Clock;
pub use absent::NoIdentityServer;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use introspection::Pending;
use keys::Realms;
use parking_lot::Mutex;
use reqwest::Client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use std::sync::Arc;
use std::time::Duration;

/// The longest that one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that are kept open.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Where the identity server is.
#[derive(Clone, Debug)]
pub struct IdentityServerSettings {
    /// `https://host:port` or `http://host:port`, without a slash at its end.
    pub origin: String,
    /// Certificates of the authorities that its certificate is checked against, DER.
    pub authorities: Vec<Vec<u8>>,
    /// Whether its certificate is checked.
    pub verify: bool,
    /// What it is shown when it asks for a certificate.
    pub identity: Option<Identity>,
    /// For connecting, TLS included.
    pub connect_timeout: Duration,
    /// After which an idle connection is closed.
    pub idle_timeout: Duration,
    /// With what sessions are ended; without it none is.
    pub management: Option<ManagementCredential>,
}

impl IdentityServerSettings {
    /// At `origin`, with nothing else configured.
    pub fn at(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            authorities: Vec::new(),
            verify: true,
            identity: None,
            connect_timeout: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(15),
            management: None,
        }
    }
}

/// A client of the identity server that may end sessions (`internal_session_delete`).
#[derive(Clone, Debug)]
pub struct ManagementCredential {
    /// The client id.
    pub client_id: String,
    /// Its secret.
    pub secret: Secret<String>,
}

/// The identity server.
pub struct IdentityServer {
    http: ArcSwap<Client>,
    settings: IdentityServerSettings,
    /// Those of the settings, until there are others.
    tls: Mutex<Tls>,
    /// The one of the settings, until there is another.
    management: ArcSwapOption<ManagementCredential>,
    realms: Realms,
    pending: Pending,
    clock: Arc<dyn Clock>,
}

/// Whom the identity server is to us, and we to it.
#[derive(Clone, Debug)]
struct Tls {
    authorities: Vec<Vec<u8>>,
    identity: Option<Identity>,
}

/// A client with another certificate or other authorities, which is not in use yet.
#[derive(Debug)]
pub struct Renewed(Client, Tls);

impl std::fmt::Debug for IdentityServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityServer({})", self.settings.origin)
    }
}

impl IdentityServer {
    /// A client that has contacted nobody yet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn new(
        settings: &IdentityServerSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            http: ArcSwap::from_pointee(http(settings)?),
            management: ArcSwapOption::from_pointee(settings.management.clone()),
            tls: Mutex::new(Tls {
                authorities: settings.authorities.clone(),
                identity: settings.identity.clone(),
            }),
            settings: settings.clone(),
            realms: Realms::default(),
            pending: Pending::default(),
            clock,
        })
    }

    /// Makes ready what shows another certificate.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn renew(&self, identity: Identity) -> Result<Renewed, ClientError> {
        let identity = Some(identity);
        self.made(Tls {
            identity,
            ..self.tls.lock().clone()
        })
    }

    /// Makes ready what trusts other authorities (certificates, DER).
    ///
    /// # Errors
    /// One of them is no certificate.
    pub fn trust(&self, authorities: Vec<Vec<u8>>) -> Result<Renewed, ClientError> {
        self.made(Tls {
            authorities,
            ..self.tls.lock().clone()
        })
    }

    fn made(&self, tls: Tls) -> Result<Renewed, ClientError> {
        let settings = IdentityServerSettings {
            authorities: tls.authorities.clone(),
            identity: tls.identity.clone(),
            ..self.settings.clone()
        };
        http(&settings).map(|http| Renewed(http, tls))
    }

    /// Requests from now on go by that client, on connections of their own. Those that are under way end on theirs.
    pub fn exchange(&self, renewed: Renewed) {
        self.http.store(Arc::new(renewed.0));
        *self.tls.lock() = renewed.1;
    }

    /// Sessions are ended with this credential from now on; without one none is.
    pub fn manage(&self, credential: Option<ManagementCredential>) {
        self.management.store(credential.map(Arc::new));
    }

    /// A request to a path of a realm.
    fn request(&self, method: Method, realm: &str, path: &str) -> RequestBuilder {
        self.http
            .load()
            .request(method, format!("{}{realm}{path}", self.settings.origin))
    }
}

fn http(settings: &IdentityServerSettings) -> Result<Client, ClientError> {
    let mut client = outbound::client(&settings.authorities)?;
    if let Some(identity) = &settings.identity {
        client = outbound::identified(client, identity)?;
    }
    client
        .connect_timeout(settings.connect_timeout)
        .timeout(REQUEST_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .pool_idle_timeout(settings.idle_timeout)
        .dns_resolver(Arc::new(Names::new(settings.connect_timeout)))
        .tls_danger_accept_invalid_certs(!settings.verify)
        .build()
        .map_err(ClientError::Build)
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            // The port is that of the URL: here it is only part of the key.
            let found = names.lookup(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
