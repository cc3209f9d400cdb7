//! Holds logins that policy wants reviewed, lets in those that an analyst has released, and does what analysts decide.
//!
//! The queue is in the store; nothing of a held request is kept but what [`HeldLogin`] says. Where the store does not
//! answer, the login is turned away all the same: a review is policy's word, and no reason to let anybody in.

use crate::domain::audit::AuditEvent;
use crate::domain::enforcement;
use crate::domain::enforcement::CIBA;
use crate::domain::enforcement::DEVICE_CODE;
use crate::domain::enforcement::Enforcement;
use crate::domain::enforcement::Form;
use crate::domain::enforcement::RejectionKind;
use crate::domain::features::derive::DeviceStanding;
use crate::domain::history::FACTOR_RELEASED;
use crate::domain::history::LinkKind;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonym;
use crate::domain::ids::Pseudonymizer;
use crate::domain::ids::SubjectKey;
use crate::domain::page_key::Purpose;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::review;
use crate::domain::review::Asker;
use crate::domain::review::Bound;
use crate::domain::review::HeldLogin;
use crate::domain::review::REASONS_MAX;
use crate::domain::review::ReviewQueue;
use crate::domain::risk::RiskScore;
use crate::domain::route::Door;
use crate::domain::signals::session::cookie_values;
use crate::domain::time::Timestamp;
use crate::flow::Dependencies;
use crate::flow::answer::Replacement;
use crate::flow::assess::Request;
use crate::flow::decide;
use crate::flow::exchange::Assessed;
use crate::flow::exchange::Exchange;
use crate::flow::ports::QueueChange;
use crate::flow::ports::Redemption;
use crate::flow::ports::StateError;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// The cookie of a browser whose login is held. The prefix binds it to this host and to TLS.
pub const REVIEW_COOKIE: &str = "__Host-rg_review";
/// The front of the path on which a held login's page is.
pub const REVIEW_PATH: &str = "/riskgate/review/";
/// The longest that the store may take for the queue or a ticket. Whoever waits for it is held anyway.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(3);
/// For how long a node answers waiting pages from the queue that it read last.
const FRESH: Duration = Duration::from_secs(1);
/// Names of applications that a node remembers for its analysts.
const APPLICATIONS_MAX: u64 = 2_000;
/// After which a client that found the queue full may try again, in seconds.
const FULL_RETRY_SECONDS: u64 = 300;

/// What a node remembers for reviews.
#[derive(Debug)]
pub struct Reviews {
    latest: Mutex<Option<(Instant, Arc<ReviewQueue>)>>,
    applications: Cache<SubjectKey, Arc<str>>,
}

/// What became of a request that policy wants reviewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reviewed {
    /// It waits, or has been refused.
    Held {
        /// The id of the held login.
        id: Pseudonym,
        /// The page that says how it stands.
        page: String,
        /// The Set-Cookie value that binds the browser, where it holds no such cookie yet.
        cookie: Option<String>,
    },
    /// An analyst has released a login from here. Whom it is for shows later: nothing is used up.
    Expected {
        /// The id of the held login.
        id: Pseudonym,
    },
    /// The release has been used for this very request.
    Released {
        /// The id of the held login.
        id: Pseudonym,
    },
}

impl Default for Reviews {
    fn default() -> Self {
        Self {
            latest: Mutex::default(),
            applications: Cache::builder().max_capacity(APPLICATIONS_MAX).build(),
        }
    }
}

impl Reviews {
    pub(in crate::flow) fn fresh(&self, now: Instant) -> Option<Arc<ReviewQueue>> {
        let latest = self.latest.lock();
        let (read, queue) = latest.as_ref()?;
        (now.saturating_duration_since(*read) < FRESH).then(|| Arc::clone(queue))
    }

    pub(in crate::flow) fn keep(&self, now: Instant, queue: ReviewQueue) -> Arc<ReviewQueue> {
        let queue = Arc::new(queue);
        let mut latest = self.latest.lock();
        *latest = Some((now, Arc::clone(&queue)));
        queue
    }
}

impl Reviewed {
    /// The id of the held login.
    pub fn id(&self) -> Pseudonym {
        match self {
            Self::Held { id, .. } | Self::Expected { id } | Self::Released { id } => *id,
        }
    }

    /// As it is written in records and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Expected { .. } => "expected",
            Self::Released { .. } => "used",
        }
    }
}

/// Looks after a decided request: holds it, or lifts the review that an analyst has lifted. Without a review, or in
/// another mode than enforce, it does nothing.
pub async fn review(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    request: Request<'_>,
) {
    remember_application(dependencies, exchange);
    let (Some(assessed), Some(decided)) = (&exchange.assessed, &exchange.decided) else {
        return;
    };
    let is_held = matches!(&decided.enforcement, Enforcement::Reject(rejection) if rejection.kind == RejectionKind::Held);
    let verdict = exchange.carried_out().map(|decision| decision.verdict);
    if decided.mode != Mode::Enforce || verdict != Some(Verdict::Review) || !is_held {
        return;
    }
    if redeems_released_code(door, assessed) {
        decide::lift(dependencies, exchange, door, request.parameters);
        return;
    }
    if !has_person(door, assessed) {
        return;
    }
    let asker = asker(exchange, assessed, door, request.headers);
    match let_in(dependencies, exchange, &asker).await {
        Ok(Some(reviewed)) => {
            dependencies.metrics.review(reviewed.as_str());
            exchange.review = Some(reviewed);
            decide::lift(dependencies, exchange, door, request.parameters);
        }
        Ok(None) => hold(dependencies, exchange, door, asker).await,
        Err(error) => lost(dependencies, &error),
    }
}

/// Looks after a request whose answer must not go out without an analyst's word: lets it out if there is one, and holds
/// the login otherwise. Returns what goes out in place of the answer.
pub async fn answered(
    dependencies: &Dependencies,
    exchange: &mut Exchange,
    door: Door,
    headers: &http::HeaderMap,
) -> Option<Replacement> {
    let rejection = enforcement::rejection(door, RejectionKind::Held, None);
    let form = rejection.form;
    let refused = Some(Replacement::Reject(rejection));
    let assessed = exchange.assessed.as_ref();
    let Some(assessed) = assessed.filter(|assessed| has_person(door, assessed)) else {
        return refused;
    };
    let asker = asker(exchange, assessed, door, headers);
    match let_in(dependencies, exchange, &asker).await {
        Ok(Some(reviewed @ Reviewed::Released { .. })) => {
            dependencies.metrics.review(reviewed.as_str());
            exchange.review = Some(reviewed);
            decide::lift_answered(exchange, door);
            return None;
        }
        Ok(_) => hold(dependencies, exchange, door, asker).await,
        Err(error) => lost(dependencies, &error),
    }
    let enforcement = exchange
        .decided
        .as_ref()
        .map(|decided| &decided.enforcement);
    match (&exchange.review, enforcement) {
        (Some(Reviewed::Held { page, cookie, .. }), _) if form == Form::Page => {
            Some(Replacement::Held {
                page: page.clone(),
                cookie: cookie.clone(),
            })
        }
        (None, Some(Enforcement::Reject(full))) if full.kind == RejectionKind::ReviewFull => {
            Some(Replacement::Reject(full.clone()))
        }
        _ => refused,
    }
}

/// What is kept with something of `kind` that `exchange` issued: an analyst's word is about this one login and goes as
/// far as its code.
pub fn factors(exchange: &Exchange, kind: LinkKind, factors: u8) -> u8 {
    let released = match exchange.review {
        Some(Reviewed::Released { .. }) => FACTOR_RELEASED,
        Some(Reviewed::Held { .. } | Reviewed::Expected { .. }) | None => 0,
    };
    match kind {
        LinkKind::BackChannel | LinkKind::Code | LinkKind::Transaction => factors | released,
        LinkKind::AccessToken
        | LinkKind::Decision
        | LinkKind::PushedRequest
        | LinkKind::RefreshToken
        | LinkKind::Session
        | LinkKind::UserCode => factors & !FACTOR_RELEASED,
    }
}

/// Writes into the record what became of a request that policy wanted reviewed, and what an own page did.
pub fn describe(event: &mut AuditEvent, exchange: &Exchange) {
    if let Some(subject) = exchange.served.and_then(|served| served.subject) {
        event.subject = Some(subject.to_string());
    }
    event.review = exchange
        .review
        .as_ref()
        .map(|reviewed| reviewed.id().to_string());
    event.review_state = exchange
        .review
        .as_ref()
        .map(|reviewed| reviewed.as_str().into());
}

/// A code that was issued for a released login is not reviewed again.
fn redeems_released_code(door: Door, assessed: &Assessed) -> bool {
    door == Door::Token
        && matches!(
            assessed.facts.grant_type.as_deref(),
            Some("authorization_code" | DEVICE_CODE | CIBA)
        )
        && assessed
            .provenance
            .as_deref()
            .is_some_and(|link| link.factors & FACTOR_RELEASED != 0 && link.redeemed.is_none())
}

/// Whether somebody is there who can wait and come back.
fn has_person(door: Door, assessed: &Assessed) -> bool {
    match door {
        Door::Authorize
        | Door::Login
        | Door::Authn
        | Door::Flow
        | Door::Saml
        | Door::WsFed
        | Door::Device
        | Door::CibaAuthorize => true,
        Door::Token => assessed.facts.grant_type.as_deref() == Some("password"),
        Door::Par | Door::DeviceAuthorize | Door::Ciba | Door::Pdp | Door::Basic => false,
    }
}

/// Who asks. A browser that keeps cookies and has none of ours cannot be recognized by anything yet.
fn asker(exchange: &Exchange, assessed: &Assessed, door: Door, headers: &http::HeaderMap) -> Asker {
    let snapshot = &exchange.snapshot;
    let hashes = assessed.signals.hashes;
    let source = snapshot.people.pseudonym(
        NameSpace::Browser,
        &[
            b"source",
            &hashes.address.to_be_bytes(),
            &hashes.agent_tls.to_be_bytes(),
        ],
    );
    let browser = browser(exchange, headers);
    let can_keep = exchange.client.secure
        && enforcement::rejection(door, RejectionKind::Held, None).form == Form::Page;
    let bounds = [
        hashes.familiarity.device.map(Bound::Device),
        browser
            .as_deref()
            .map(|id| browser_bound(&snapshot.people, id)),
        (!can_keep).then_some(Bound::Source(source.value_hash())),
    ];
    let link = assessed.provenance.as_deref();
    Asker {
        tenant: exchange.tenant().to_owned(),
        client: assessed
            .signals
            .client
            .or_else(|| link.and_then(|link| link.client)),
        subject: assessed.about(),
        bounds: bounds.into_iter().flatten().collect(),
    }
}

fn browser(exchange: &Exchange, headers: &http::HeaderMap) -> Option<Vec<u8>> {
    let key = &exchange.snapshot.pages;
    let mut values = cookie_values(headers, REVIEW_COOKIE);
    match (values.next(), values.next()) {
        (Some(value), None) => key.open(Purpose::Browser, value, &[], exchange.at),
        _ => None,
    }
}

fn browser_bound(people: &Pseudonymizer, id: &[u8]) -> Bound {
    Bound::Browser(people.value(NameSpace::Browser, id))
}

/// Uses a release, if there is one for who asks.
async fn let_in(
    dependencies: &Dependencies,
    exchange: &Exchange,
    asker: &Asker,
) -> Result<Option<Reviewed>, StateError> {
    let queue = in_time(dependencies.state.review_queue()).await?;
    let queue = dependencies
        .reviews
        .keep(dependencies.clock.instant(), queue);
    let people = &exchange.snapshot.people;
    let mut expected = None;
    for login in queue.releases(asker, exchange.at) {
        if login.subject != asker.subject {
            expected = Some(Reviewed::Expected { id: login.id });
            continue;
        }
        let (ticket, binding) = pass(people, login);
        let redeemed = in_time(
            dependencies
                .state
                .redeem_ticket(ticket, binding, exchange.at),
        )
        .await?;
        if redeemed == Redemption::Redeemed {
            let id = login.id;
            let spent = dependencies
                .state
                .change_review_queue(Arc::new(move |queue| queue.spend(id)));
            // The ticket alone decides; the queue says so for those who read it.
            match in_time(spent).await {
                Ok(queue) => drop(
                    dependencies
                        .reviews
                        .keep(dependencies.clock.instant(), queue),
                ),
                Err(error) => lost(dependencies, &error),
            }
            return Ok(Some(Reviewed::Released { id }));
        }
    }
    Ok(expected)
}

async fn hold(dependencies: &Dependencies, exchange: &mut Exchange, door: Door, mut asker: Asker) {
    let Some(assessed) = &exchange.assessed else {
        return;
    };
    let snapshot = Arc::clone(&exchange.snapshot);
    let expires = exchange.at.plus(snapshot.review.ttl());
    let mut cookie = None;
    if asker.bounds.is_empty() {
        let mut id = [0; 16];
        dependencies.entropy.fill(&mut id);
        let value = snapshot.pages.seal(Purpose::Browser, &id, &[], expires);
        cookie = Some(format!(
            "{REVIEW_COOKIE}={value}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Lax",
            snapshot.review.ttl().as_secs()
        ));
        asker.bounds.push(browser_bound(&snapshot.people, &id));
    }
    let Some(bound) = asker.bounds.first().copied() else {
        return;
    };
    let login = held_login(
        dependencies,
        exchange,
        assessed,
        door,
        &asker,
        bound,
        expires,
    );
    let id = login.id;
    // What this node has seen a moment ago is enough to turn a flood away.
    let now = dependencies.clock.instant();
    let is_full = dependencies.reviews.fresh(now).is_some_and(|queue| {
        queue.answering(&asker, exchange.at).is_none()
            && queue.is_full_for(&login, &snapshot.review)
    });
    let held = if is_full {
        Ok(None)
    } else {
        add(dependencies, login, asker, &snapshot.review).await
    };
    match held {
        Ok(Some(found)) => {
            dependencies
                .metrics
                .review(if found == id { "held" } else { "asked_again" });
            let page = snapshot
                .pages
                .seal(Purpose::Review, found.as_bytes(), &[], expires);
            exchange.review = Some(Reviewed::Held {
                id: found,
                page: format!("{REVIEW_PATH}{page}"),
                cookie,
            });
        }
        Ok(None) => {
            dependencies.metrics.review("full");
            if let Some(decided) = exchange.decided.as_mut() {
                decided.enforcement = Enforcement::Reject(enforcement::rejection(
                    door,
                    RejectionKind::ReviewFull,
                    Some(FULL_RETRY_SECONDS),
                ));
            }
        }
        Err(error) => lost(dependencies, &error),
    }
}

/// Adds a login to the queue: the id of the one that waits now, `None` when there is no room.
async fn add(
    dependencies: &Dependencies,
    login: HeldLogin,
    asker: Asker,
    settings: &review::ReviewSettings,
) -> Result<Option<Pseudonym>, StateError> {
    let outcome = Arc::new(Mutex::new(None));
    let said = Arc::clone(&outcome);
    let (new, settings) = (login.id, settings.clone());
    let change: QueueChange = Arc::new(move |queue| {
        let held = queue.hold(login.clone(), &asker, &settings).ok();
        *said.lock() = held;
        held == Some(new)
    });
    let queue = in_time(dependencies.state.change_review_queue(change)).await?;
    let queue = dependencies
        .reviews
        .keep(dependencies.clock.instant(), queue);
    let held = *outcome.lock();
    // A queue that could not be kept for its length holds nobody.
    Ok(held.filter(|id| queue.items().iter().any(|item| item.id == *id)))
}

fn held_login(
    dependencies: &Dependencies,
    exchange: &Exchange,
    assessed: &Assessed,
    door: Door,
    asker: &Asker,
    bound: Bound,
    expires: Timestamp,
) -> HeldLogin {
    let mut id = [0; 16];
    dependencies.entropy.fill(&mut id);
    let signals = &assessed.signals;
    let named = signals.client_id.as_deref().map(review::printable);
    let remembered = || {
        let client = asker.client?;
        let known = dependencies.reviews.applications.get(&client);
        Some(known.map_or_else(|| format!("({client})"), |name| name.to_string()))
    };
    let reasons = exchange.decided.as_ref().map(|decided| {
        let codes = decided.decision.reasons.iter().take(REASONS_MAX);
        codes.map(|reason| reason.code().to_owned()).collect()
    });
    HeldLogin {
        id: Pseudonym::from_bytes(id),
        at: exchange.at,
        expires,
        tenant: review::printable(&asker.tenant),
        client: asker.client,
        application: named.or_else(remembered).unwrap_or_default(),
        subject: asker.subject,
        bound,
        source: signals.hashes.address,
        known_device: assessed.device == DeviceStanding::Known,
        door: door.as_str().to_owned(),
        score: assessed.assessment.score().map(RiskScore::points),
        reasons: reasons.unwrap_or_default(),
        decision_id: exchange.id.clone(),
        country: signals.network.country.map(|country| country.to_string()),
        network: signals.network.kind.map(|kind| kind.as_str().to_owned()),
        ruling: None,
        used: false,
    }
}

/// The login form does not name the application again: its name is remembered from the request before.
fn remember_application(dependencies: &Dependencies, exchange: &Exchange) {
    let Some(signals) = exchange.assessed.as_ref().map(|assessed| &assessed.signals) else {
        return;
    };
    if let (Some(key), Some(name)) = (signals.client, &signals.client_id)
        && !dependencies.reviews.applications.contains_key(&key)
    {
        let name = Arc::from(review::printable(name));
        dependencies.reviews.applications.insert(key, name);
    }
}

/// The ticket that a release of `login` gives, and what it is bound to.
pub(in crate::flow) fn pass(people: &Pseudonymizer, login: &HeldLogin) -> (Pseudonym, Pseudonym) {
    let of = |key: Option<SubjectKey>| key.map(|key| *key.0.as_bytes()).unwrap_or_default();
    let ticket = people.pseudonym(NameSpace::Link, &[b"review pass", login.id.as_bytes()]);
    let binding = people.pseudonym(
        NameSpace::Link,
        &[
            b"review binding",
            login.tenant.as_bytes(),
            &of(login.client),
            &of(login.subject),
            &login.bound.bytes(),
        ],
    );
    (ticket, binding)
}

/// Waits for the store, but not for ever.
pub(in crate::flow) async fn in_time<T>(
    call: impl Future<Output = Result<T, StateError>>,
) -> Result<T, StateError> {
    tokio::time::timeout(QUEUE_TIMEOUT, call)
        .await
        .unwrap_or(Err(StateError::Timeout))
}

fn lost(dependencies: &Dependencies, error: &StateError) {
    dependencies.metrics.review("lost");
    tracing::warn!(error = %error, "the review queue could not be read or changed");
}
