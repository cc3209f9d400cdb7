//! Tokens signed anew on their way out, and had back on their way in: whether that is done for an exchange, with which keys,
//! and what it tells of the risk. What cannot be done for a token leaves it as it is; a token is never held back for it.

use crate::domain::history::LinkKind;
use crate::domain::jwt::RealmKeys;
use crate::domain::jwt::TokenKind;
use crate::domain::jwt::UnverifiedHeader;
use crate::domain::resign;
use crate::domain::resign::Ours;
use crate::domain::resign::Resigning;
use crate::domain::resign::Untouched;
use crate::domain::resign::origin::NONCE_BYTES;
use crate::domain::resign::origin::OriginSeal;
use crate::domain::risk_claims::RiskClaims;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::signing::SigningAlgorithm;
use crate::domain::signing::SigningKeys;
use crate::domain::target::CanonicalTarget;
use crate::flow::AuthFlow;
use crate::flow::admit::Admission;
use crate::flow::exchange::Exchange;
use crate::flow::introspection;
use crate::flow::ports::KeysAway;
use crate::flow::snapshot::Snapshot;
use http::HeaderMap;
use http::header;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a token answer waits for the keys of the identity server, which are known but for the first time and after that
/// every quarter of an hour.
const KEYS_WAIT: Duration = Duration::from_millis(250);

/// That tokens are signed anew, and how.
#[derive(Clone, Debug)]
pub struct Resign {
    /// The keys.
    pub keys: Arc<SigningKeys>,
    /// Seals the way back.
    pub seal: OriginSeal,
    /// The algorithm of access tokens; `None` for the one that each has.
    pub algorithm: Option<SigningAlgorithm>,
}

/// A look for keys; it ends when this is dropped, however it ends.
struct Look(Arc<AtomicBool>);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Resign {
    /// The keys, as what is signed and sealed with them is read.
    pub(in crate::flow) fn ours(&self) -> Ours<'_> {
        Ours {
            keys: &self.keys,
            seal: &self.seal,
        }
    }
}

impl Exchange {
    /// The keys that have signed what may return in this request: those of ours, where it goes to the identity server.
    fn returns_to(&self) -> Option<Ours<'_>> {
        let resign = self.snapshot.resign.as_ref()?;
        let class = self.route.as_ref().map(|route| route.class)?;
        goes_there(class).then(|| resign.ours())
    }
}

impl AuthFlow {
    /// The head of a token answer has come: the keys that its tokens are verified with, if they are signed anew.
    pub(in crate::flow) async fn keys_of_tokens(
        &self,
        exchange: &Exchange,
    ) -> Option<Arc<RealmKeys>> {
        let is_told = exchange.mode().is_some_and(RiskClaims::are_told);
        if !is_told || exchange.snapshot.resign.is_none() {
            return None;
        }
        let mut fetch = Box::pin(self.fetch(exchange, None));
        let found = tokio::time::timeout(KEYS_WAIT, &mut fetch).await;
        if found.is_err() {
            // It goes on for those who come after.
            self.go_on(fetch);
        }
        let keys = found.ok().and_then(Result::ok);
        if keys.is_none() {
            self.dependencies().metrics.resigned("keys_away");
        }
        keys
    }

    /// The body of a token answer has come, and what it issued is known: the body with its tokens signed anew.
    pub(in crate::flow) fn resigned(
        &self,
        exchange: &Exchange,
        keys: &RealmKeys,
        body: &[u8],
    ) -> Option<String> {
        let resign = exchange.snapshot.resign.as_ref()?;
        let mut nonces = [[0; NONCE_BYTES]; 2];
        let entropy = &self.dependencies().entropy;
        nonces.iter_mut().for_each(|nonce| entropy.fill(nonce));
        let resigning = Resigning {
            theirs: &keys.keys,
            ours: resign.ours(),
            algorithm: resign.algorithm,
            nonces,
        };
        let result = match risk_of_issued(exchange) {
            Some(risk) => resigning.answer(body, &risk),
            // What was issued could not be read.
            None => Err(Untouched::Malformed),
        };
        if result == Err(Untouched::KeyUnknown) {
            self.look_again(exchange, body);
        }
        let metrics = &self.dependencies().metrics;
        metrics.resigned(
            result
                .as_ref()
                .map_or_else(|why| why.as_str(), |_| "signed"),
        );
        result.ok()
    }

    /// The identity server signs with a key that was not published when its keys were fetched: they are fetched anew beside
    /// this request, so that the tokens after this one are signed.
    fn look_again(&self, exchange: &Exchange, body: &[u8]) {
        let header = resign::access_token(body)
            .and_then(|token| UnverifiedHeader::read(token, TokenKind::Access).ok());
        if let Some(header) = header {
            self.go_on(Box::pin(self.fetch(exchange, Some(header))));
        }
    }

    /// The keys of the realm, which outlive the request that asks for them.
    fn fetch(
        &self,
        exchange: &Exchange,
        wanted: Option<UnverifiedHeader>,
    ) -> impl Future<Output = Result<Arc<RealmKeys>, KeysAway>> + Send + use<> {
        let keys = Arc::clone(&self.dependencies().keys);
        let realm = exchange.target.as_ref().map_or("", CanonicalTarget::prefix);
        let realm = realm.to_owned();
        async move { keys.keys(&realm, wanted.as_ref()).await }
    }

    /// Lets a look for keys go on beside the requests: one at a time; the source bounds how often there is one.
    fn go_on<F>(&self, fetch: Pin<Box<F>>)
    where
        F: Future<Output = Result<Arc<RealmKeys>, KeysAway>> + Send + 'static,
    {
        if self.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let look = Look(Arc::clone(&self.is_looking));
        tokio::spawn(async move {
            let _look = look;
            if fetch.await.is_err() {
                tracing::debug!("the keys of the identity server could not be had");
            }
        });
    }

    /// A body on its way to the identity server, with tokens of ours as the identity server has signed them.
    pub fn restored_body(
        &self,
        exchange: &Exchange,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<String> {
        let keys = exchange.returns_to()?;
        let restored = match content_type(headers)? {
            "application/x-www-form-urlencoded" => keys.pairs(std::str::from_utf8(body).ok()?),
            "application/json" => keys.members(body),
            _ => None,
        }?;
        self.dependencies().metrics.restored("body");
        Some(restored)
    }

    /// The same for the value of an `Authorization` header.
    pub fn restored_authorization(
        &self,
        exchange: &Exchange,
        headers: &HeaderMap,
    ) -> Option<String> {
        let keys = exchange.returns_to()?;
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        let restored = keys.authorization(value.to_str().ok()?)?;
        self.dependencies().metrics.restored("authorization");
        Some(restored)
    }

    /// The same for the query of a request that was admitted: the whole target.
    pub(in crate::flow) fn restored_target(
        &self,
        raw_target: &[u8],
        admission: &Admission,
        snapshot: &Snapshot,
    ) -> Option<String> {
        let resign = snapshot.resign.as_ref()?;
        let (target, route) = admission.destination.as_ref()?;
        target.query().filter(|_| goes_there(route.class))?;
        let (path, query) = std::str::from_utf8(raw_target).ok()?.split_once('?')?;
        let query = resign.ours().pairs(query)?;
        self.dependencies().metrics.restored("query");
        Some(format!("{path}?{query}"))
    }
}

/// Whether the form of a request that is not scored may carry a token of ours, or one about which the answer tells the risk,
/// so that it is read.
pub fn takes_form(exchange: &Exchange, headers: &HeaderMap) -> bool {
    let class = exchange.route.as_ref().map(|route| route.class);
    let takes_token = matches!(
        class,
        Some(RouteClass::Passed(
            PassedKind::Introspect | PassedKind::Logout | PassedKind::Revoke | PassedKind::UserInfo
        ))
    );
    let is_wanted = takes_token && exchange.snapshot.resign.is_some();
    (is_wanted || introspection::is_possible(exchange))
        && exchange.method == "POST"
        && content_type(headers) == Some("application/x-www-form-urlencoded")
        && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Whether requests of a class go to the identity server.
fn goes_there(class: RouteClass) -> bool {
    matches!(class, RouteClass::Scored(_) | RouteClass::Passed(_))
}

fn content_type(headers: &HeaderMap) -> Option<&'static str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default().trim();
    ["application/x-www-form-urlencoded", "application/json"]
        .into_iter()
        .find(|known| kind.eq_ignore_ascii_case(known))
}

/// What is told of the decision under which the access token of this answer was issued: the same that introspection tells
/// of it later, as long as the thresholds stay.
fn risk_of_issued(exchange: &Exchange) -> Option<RiskClaims> {
    let mut issued = exchange.issued.iter();
    let (_, link, _) = issued.find(|(key, _, _)| key.kind == LinkKind::AccessToken)?;
    let application = exchange
        .assessed
        .as_ref()
        .and_then(|assessed| assessed.signals.client_id.as_deref())
        .unwrap_or_default();
    let policy = &exchange.snapshot.policy;
    let thresholds = policy.thresholds(exchange.tenant(), application);
    Some(RiskClaims::of_link(link, thresholds))
}
