//! The OpenID Connect provider by which operators sign in to the console: what it says of itself, its keys, and the exchange
//! of a code for an ID token. Requests go to the configured issuer and to the endpoints that it names, over TLS or to
//! loopback, and nothing that came from a browser names a host. Nothing of it is on the path of requests.

use crate::adapters::outbound;
use crate::adapters::outbound::ClientError;
use crate::adapters::target;
use crate::adapters::target::Target;
use crate::domain::jwt::KeySet;
use crate::domain::jwt::KeySetError;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::jwt::keys::DOCUMENT_BYTES_MAX;
use crate::domain::secret::Secret;
use crate::domain::sign_in::DiscoveryError;
use crate::domain::sign_in::Endpoints;
use crate::flow::ports::Clock;
use crate::flow::ports::NotRedeemed;
use crate::flow::ports::ProviderAway;
use crate::flow::ports::SignInProvider;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use reqwest::Client;
use reqwest::RequestBuilder;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Semaphore;

/// For connecting, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way.
const REQUESTS_MAX: usize = 4;
/// The longest that a request waits for the others.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// What is known is fetched again after this time.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Within this time it is fetched twice at most, whether that succeeds or not.
const RETRY_WITHIN: Duration = Duration::from_secs(10);

/// Where the provider is, and who we are to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OidcProviderSettings {
    /// Its issuer, as it writes it.
    pub issuer: String,
    /// The client.
    pub client_id: String,
    /// The client's secret; none for a public client.
    pub secret: Option<Secret<String>>,
    /// Where it sends browsers back to.
    pub redirect_uri: String,
    /// Certificates of the authorities that its certificate is checked against, DER.
    pub authorities: Vec<Vec<u8>>,
}

/// Why the provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OidcProviderError {
    /// What it says of itself does not serve.
    #[error("{0}")]
    Discovery(#[from] DiscoveryError),
    /// An endpoint is at an address that is not used.
    #[error("its `{0}`: {1}")]
    Endpoint(&'static str, &'static str),
    /// It does not answer.
    #[error("{0}")]
    Http(String),
    /// Its keys do not serve.
    #[error("its keys: {0}")]
    Keys(#[from] KeySetError),
    /// It answers at length.
    #[error("the answer is longer than {DOCUMENT_BYTES_MAX} bytes")]
    Long,
    /// It answers something else.
    #[error("the answer has the status {0}")]
    Status(u16),
}

/// The provider.
pub struct OidcProvider {
    http: Client,
    settings: OidcProviderSettings,
    places: Semaphore,
    /// Whoever holds it fetches.
    turn: tokio::sync::Mutex<()>,
    memory: Mutex<Memory>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Memory {
    known: Option<(Known, Instant)>,
    /// The last two attempts, the older one first.
    tried: [Option<Instant>; 2],
}

#[derive(Clone, Debug)]
struct Known {
    endpoints: Arc<Endpoints>,
    keys: Arc<KeySet>,
}

#[derive(Deserialize)]
struct Issued {
    id_token: String,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl std::fmt::Debug for OidcProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OidcProvider({})", self.settings.issuer)
    }
}

impl OidcProvider {
    /// A client that has contacted nobody yet.
    ///
    /// # Errors
    /// No client can be made of the settings.
    pub fn new(settings: OidcProviderSettings, clock: Arc<dyn Clock>) -> Result<Self, ClientError> {
        let http = target::client(&settings.authorities)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(ClientError::Build)?;
        Ok(Self {
            http,
            settings,
            places: Semaphore::new(REQUESTS_MAX),
            turn: tokio::sync::Mutex::default(),
            memory: Mutex::default(),
            clock,
        })
    }

    /// Asks it for everything that a sign-in needs but a code.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn look(&self) -> Result<(), OidcProviderError> {
        self.fetch().await.map(drop)
    }

    /// What is known, if it is fresh and has a key for what is wanted.
    fn fresh(&self, wanted: Option<&UnverifiedHeader>) -> Option<Known> {
        let now = self.clock.instant();
        let memory = self.memory.lock();
        let (known, at) = memory.known.as_ref()?;
        let serves = now.saturating_duration_since(*at) < FRESH
            && wanted.is_none_or(|wanted| wanted.is_known_to(&known.keys));
        serves.then(|| known.clone())
    }

    /// Whether the provider may be asked now. The attempt counts from this moment.
    fn may_try(&self) -> bool {
        let now = self.clock.instant();
        let mut memory = self.memory.lock();
        let [before_last, last] = memory.tried;
        let waits =
            before_last.is_some_and(|tried| now.saturating_duration_since(tried) < RETRY_WITHIN);
        if !waits {
            memory.tried = [last, Some(now)];
        }
        !waits
    }

    /// What is known of the provider, fetched where it has to be. Keys that lack what is wanted are given where none better
    /// can be had: nothing is verified with them then.
    async fn known(&self, wanted: Option<&UnverifiedHeader>) -> Result<Known, ProviderAway> {
        if let Some(known) = self.fresh(wanted) {
            return Ok(known);
        }
        let Ok(_turn) = tokio::time::timeout(TURN_TIMEOUT, self.turn.lock()).await else {
            return Err(ProviderAway);
        };
        if let Some(known) = self.fresh(wanted) {
            return Ok(known);
        }
        if self.may_try() {
            match self.fetch().await {
                Ok(known) => {
                    self.memory.lock().known = Some((known, self.clock.instant()));
                }
                Err(error) => {
                    tracing::warn!(error = %error, "the provider by which operators sign in cannot be used");
                }
            }
        }
        self.fresh(None).ok_or(ProviderAway)
    }

    async fn fetch(&self) -> Result<Known, OidcProviderError> {
        let issuer = &self.settings.issuer;
        let address = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let document = self.document(&address, "admin.oidc.issuer").await?;
        let endpoints = Endpoints::read(&document, issuer, self.settings.secret.is_some())?;
        for (name, address) in [
            ("authorization_endpoint", Some(&endpoints.authorization)),
            ("token_endpoint", Some(&endpoints.token)),
            ("end_session_endpoint", endpoints.end_session.as_ref()),
        ] {
            if let Some(address) = address {
                target(name, address)?;
            }
        }
        let keys = self.document(&endpoints.keys, "jwks_uri").await?;
        Ok(Known {
            keys: Arc::new(KeySet::parse(&keys)?),
            endpoints: Arc::new(endpoints),
        })
    }

    /// A small document.
    async fn document(
        &self,
        address: &str,
        name: &'static str,
    ) -> Result<Vec<u8>, OidcProviderError> {
        let request = self.http.get(target(name, address)?.url().clone());
        let (status, body) = self.answer(request).await?;
        if status != 200 {
            return Err(OidcProviderError::Status(status));
        }
        Ok(body)
    }

    /// Status and body of an answer, which is short.
    async fn answer(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), OidcProviderError> {
        let http = |error: reqwest::Error| OidcProviderError::Http(outbound::told(error));
        let place = tokio::time::timeout(TURN_TIMEOUT, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(OidcProviderError::Http("too many ask at once".to_owned()));
        };
        let request = request.header("accept", "application/json");
        let mut answer = request.send().await.map_err(http)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(OidcProviderError::Long);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        token: &str,
    ) -> Result<(u16, Vec<u8>), OidcProviderError> {
        let settings = &self.settings;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &settings.redirect_uri),
            ("code_verifier", verifier),
        ];
        if settings.secret.is_none() {
            fields.push(("client_id", &settings.client_id));
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let mut request = self
            .http
            .post(target("token_endpoint", token)?.url().clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        if let Some(secret) = &settings.secret {
            let credentials = basic(&settings.client_id, secret.expose());
            request = request.header("authorization", credentials);
        }
        self.answer(request).await
    }
}

#[async_trait]
impl SignInProvider for OidcProvider {
    async fn endpoints(&self) -> Result<Arc<Endpoints>, ProviderAway> {
        Ok(self.known(None).await?.endpoints)
    }

    async fn keys(&self, wanted: Option<&UnverifiedHeader>) -> Result<Arc<KeySet>, ProviderAway> {
        Ok(self.known(wanted).await?.keys)
    }

    async fn redeem(&self, code: &str, verifier: &str) -> Result<Secret<String>, NotRedeemed> {
        let known = self.known(None).await.map_err(|_| NotRedeemed::Away)?;
        let answer = self.exchange(code, verifier, &known.endpoints.token).await;
        let (status, body) = answer.map_err(|error| {
            tracing::warn!(error = %error, "the provider gave no answer about a code");
            NotRedeemed::Away
        })?;
        if status == 200 {
            let issued: Issued = serde_json::from_slice(&body).map_err(|_| {
                tracing::warn!("the provider gave no ID token for a code: is `openid` granted?");
                NotRedeemed::Away
            })?;
            return Ok(Secret::new(issued.id_token));
        }
        // What else it says may hold anything.
        let refused = serde_json::from_slice::<Refused>(&body);
        let refused = refused.map(|refused| refused.error);
        let found = match refused.as_deref() {
            Ok("invalid_grant") => NotRedeemed::Code,
            Ok("invalid_client" | "unauthorized_client") => NotRedeemed::Client,
            _ => NotRedeemed::Away,
        };
        tracing::warn!(status, error = %found, "a code was not redeemed");
        Err(found)
    }
}

/// An address that may be used.
fn target(name: &'static str, address: &str) -> Result<Target, OidcProviderError> {
    Target::parse(address).map_err(|expected| OidcProviderError::Endpoint(name, expected))
}

/// Client id and secret as RFC 6749 section 2.3.1 wants them: each encoded as in a form.
fn basic(client_id: &str, secret: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id), encoded(secret));
    format!("Basic {}", STANDARD.encode(pair))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::SystemClock;

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        // `a:b` and `c:d` as form fields.
        assert_eq!(
            basic("a:b", "c:d %"),
            format!("Basic {}", STANDARD.encode("a%3Ab:c%3Ad+%25"))
        );
        assert_eq!(
            basic("Xy_1", "s-1"),
            format!("Basic {}", STANDARD.encode("Xy_1:s-1"))
        );
    }

    #[tokio::test]
    async fn nothing_is_asked_at_an_address_of_the_clouds_or_in_clear() {
        for issuer in [
            "http://login.example.com/oauth2/token",
            "https://169.254.169.254/",
            "https://[fd00:ec2::254]",
        ] {
            let settings = OidcProviderSettings {
                issuer: issuer.to_owned(),
                client_id: "console".to_owned(),
                secret: Some(Secret::new("canary".to_owned())),
                redirect_uri: String::new(),
                authorities: Vec::new(),
            };
            let provider = OidcProvider::new(settings, Arc::new(SystemClock)).unwrap();
            let error = provider.look().await.unwrap_err();
            assert!(
                matches!(error, OidcProviderError::Endpoint("admin.oidc.issuer", _)),
                "{error}"
            );
            assert!(!format!("{provider:?} {error}").contains("canary"));
            assert_eq!(provider.endpoints().await, Err(ProviderAway));
            assert!(!provider.may_try() || !provider.may_try());
        }
    }
}
