//! Keys of the realms: fetched when they are asked for, kept, and fetched again when they are old or lack a key. However
//! many logins ask and however often, the identity server sees two attempts per realm and [`RETRY_WITHIN`] at most.

use crate::adapters::identity_server::IdentityServer;
use crate::adapters::outbound;
use crate::domain::jwt::KeySet;
use crate::domain::jwt::KeySetError;
use crate::domain::jwt::RealmKeys;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::jwt::keys::DOCUMENT_BYTES_MAX;
use crate::flow::ports::KeySource;
use crate::flow::ports::KeysAway;
use crate::telemetry::remedy;
use crate::telemetry::remedy::Side;
use async_trait::async_trait;
use moka::sync::Cache;
use parking_lot::Mutex;
use reqwest::Method;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// Realms whose keys are kept.
const REALMS_MAX: u64 = 256;
/// Keys that are older are fetched again when they are used.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Keys that are older are not used any more.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Within this time there are two attempts for one realm at most, whether they succeed or not.
pub(super) const RETRY_WITHIN: Duration = Duration::from_secs(10);
/// The longest that a caller waits for another's attempt.
const TURN_TIMEOUT: Duration = Duration::from_secs(3);

/// The realms that were asked for lately.
#[derive(Debug)]
pub(super) struct Realms(Cache<String, Arc<Realm>>);

#[derive(Debug, Default)]
struct Realm {
    known: Mutex<Known>,
    /// Whoever holds it fetches.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(Arc<RealmKeys>, Instant)>,
    /// The last two attempts, the older one first.
    tried: [Option<Instant>; 2],
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Keys(#[from] KeySetError),
    #[error("the document is longer than {DOCUMENT_BYTES_MAX} bytes")]
    Long,
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("{0}")]
    Http(String),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl Default for Realms {
    fn default() -> Self {
        Self(
            Cache::builder()
                .max_capacity(REALMS_MAX)
                .time_to_idle(KEPT)
                .build(),
        )
    }
}

impl Realm {
    /// The keys, if they are fresh and have what is wanted.
    fn fresh(&self, now: Instant, wanted: Option<&UnverifiedHeader>) -> Option<Arc<RealmKeys>> {
        self.held(now, FRESH)
            .filter(|known| wanted.is_none_or(|wanted| wanted.is_known_to(&known.keys)))
    }

    /// The keys, if they are not older than `age`.
    fn held(&self, now: Instant, age: Duration) -> Option<Arc<RealmKeys>> {
        let known = self.known.lock();
        let (keys, at) = known.keys.as_ref()?;
        (now.saturating_duration_since(*at) < age).then(|| Arc::clone(keys))
    }

    /// Whether the identity server may be asked now. The attempt counts from this moment.
    fn may_try(&self, now: Instant) -> bool {
        let mut known = self.known.lock();
        let [before_last, last] = known.tried;
        let waits =
            before_last.is_some_and(|tried| now.saturating_duration_since(tried) < RETRY_WITHIN);
        if !waits {
            known.tried = [last, Some(now)];
        }
        !waits
    }

    fn keep(&self, mut keys: RealmKeys, now: Instant) {
        let mut known = self.known.lock();
        if keys.issuer.is_none() {
            // An issuer does not change; that it could not be read this time says nothing.
            keys.issuer = known.keys.as_ref().and_then(|(old, _)| old.issuer.clone());
        }
        known.keys = Some((Arc::new(keys), now));
    }
}

#[async_trait]
impl KeySource for IdentityServer {
    async fn keys(
        &self,
        realm: &str,
        wanted: Option<&UnverifiedHeader>,
    ) -> Result<Arc<RealmKeys>, KeysAway> {
        let entry = self.realms.0.get_with_by_ref(realm, Arc::default);
        if let Some(keys) = entry.fresh(self.clock.instant(), wanted) {
            return Ok(keys);
        }
        if let Ok(_turn) = tokio::time::timeout(TURN_TIMEOUT, entry.turn.lock()).await {
            let now = self.clock.instant();
            if let Some(keys) = entry.fresh(now, wanted) {
                return Ok(keys);
            }
            if entry.may_try(now) {
                match self.fetch(realm).await {
                    Ok(keys) => entry.keep(keys, self.clock.instant()),
                    Err(error) => {
                        let remedy = remedy::of_tls(&error.to_string(), Side::IdentityServer);
                        let upstream = &self.settings.origin;
                        tracing::warn!(upstream, realm, error = %error, remedy, "the keys of the identity server (`upstream.url`) could not be fetched");
                    }
                }
            }
        }
        entry.held(self.clock.instant(), KEPT).ok_or(KeysAway)
    }
}

impl IdentityServer {
    async fn fetch(&self, realm: &str) -> Result<RealmKeys, FetchError> {
        let (keys, discovery) = tokio::join!(
            self.document(realm, "/oauth2/jwks"),
            self.document(realm, "/oauth2/token/.well-known/openid-configuration"),
        );
        let issuer = match discovery {
            Ok(document) => serde_json::from_slice::<Discovery>(&document)
                .map(|document| document.issuer)
                .ok(),
            Err(error) => {
                let upstream = &self.settings.origin;
                tracing::warn!(upstream, realm, error = %error, "the issuer could not be learnt of the identity server (`upstream.url`)");
                None
            }
        };
        Ok(RealmKeys {
            issuer,
            keys: KeySet::parse(&keys?)?,
        })
    }

    /// A small document.
    async fn document(&self, realm: &str, path: &str) -> Result<Vec<u8>, FetchError> {
        let http = |error: reqwest::Error| FetchError::Http(outbound::told(error));
        let mut answer = self
            .request(Method::GET, realm, path)
            .header(http::header::ACCEPT, "application/json")
            .send()
            .await
            .map_err(http)?;
        if answer.status() != http::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            if document.len() + chunk.len() > DOCUMENT_BYTES_MAX {
                return Err(FetchError::Long);
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}
