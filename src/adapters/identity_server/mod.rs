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
use crate::domain::secret::Secret;
use crate::flow::ports::Clock;
pub use absent::NoIdentityServer;
use introspection::Pending;
use keys::Realms;
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

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityServerError {
    /// An authority is no certificate.
    #[error("upstream.ca_file: {0}")]
    Authority(reqwest::Error),
    /// No client can be made of the settings.
    #[error("no HTTP client: {0}")]
    Client(reqwest::Error),
}

/// The identity server.
pub struct IdentityServer {
    http: Client,
    origin: String,
    management: Option<ManagementCredential>,
    realms: Realms,
    pending: Pending,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for IdentityServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdentityServer({})", self.origin)
    }
}

impl IdentityServer {
    /// A client that has contacted nobody yet.
    ///
    /// # Errors
    /// See [`IdentityServerError`].
    pub fn new(
        settings: &IdentityServerSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IdentityServerError> {
        let http = outbound::client(&settings.authorities)
            .map_err(IdentityServerError::Authority)?
            .connect_timeout(settings.connect_timeout)
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(settings.idle_timeout)
            .dns_resolver(Arc::new(Names::new(settings.connect_timeout)))
            .tls_danger_accept_invalid_certs(!settings.verify)
            .build()
            .map_err(IdentityServerError::Client)?;
        Ok(Self {
            http,
            origin: settings.origin.clone(),
            management: settings.management.clone(),
            realms: Realms::default(),
            pending: Pending::default(),
            clock,
        })
    }

    /// A request to a path of a realm.
    fn request(&self, method: Method, realm: &str, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{realm}{path}", self.origin))
    }
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
