//! The path of a request, in one screen: admit it, assess it, decide, let the edge enforce, observe how it ended.
//!
//! This layer speaks to ports alone. It never fails a login because something of ours is away: degradation is a value
//! of the assessment, and what becomes of it is the policy's word.

/// What the path needs from the world.
pub mod ports;

/// What outlives a reload.
pub mod dependencies;

/// Why a request is refused before anything is scored.
pub mod error;

/// What one request is judged by.
pub mod snapshot;

/// What is known of one request so far.
pub mod exchange;

/// Canonical form, class, refusal of what cannot be read.
pub mod admit;

/// Request limits and the bound on what is in flight.
pub mod limits;

/// Whom a request is about and what it presents.
pub mod identify;

/// The messages of SAML single sign-on on the path.
pub mod saml;

/// User agents that were read lately.
pub mod agents;

/// Links that this node has just written.
pub mod links;

/// Demands for a stronger factor.
pub mod demands;

/// Several names of one account.
pub mod accounts;

/// Users without a second factor.
pub mod enrolment;

/// Names under the previous secret.
pub mod rotation;

/// Signals, history, features, score.
pub mod assess;

/// The score under a deadline.
pub mod score;

/// The permit to forward.
pub mod permit;

/// Policy, mode and permit.
pub mod decide;

/// Services of the operator's own.
pub mod resource;

/// Introspection answers with the risk in them.
pub mod introspection;

/// What becomes of the identity server's answer.
pub mod answer;

/// The words of a record.
pub mod record;

/// From the queue to the store.
pub mod learner;

/// The queue in which what was observed waits for the store.
pub mod lessons;

/// Held logins.
pub mod review;

/// What analysts decide about them.
pub mod desk;

/// The devices of a user, for that user.
pub mod devices;

/// Whether an answer proves what is owed.
pub mod proof;

/// Bodies of answers that go out changed.
pub mod rewrite;

/// Tokens signed anew, and had back.
pub mod resign;

/// Outcome, what is learnt, record.
pub mod observe;

/// What is worked out once the answer is out.
pub mod hindsight;

/// What WSO2 tells after the fact, to the record.
pub mod afterwards;

/// From being watched to being enforced.
pub mod rollout;

/// What becomes of codes and tokens that were turned in.
pub mod turned_in;

/// Clients that poll, and browsers that approve.
pub mod back_channel;

/// Names that nobody has proved yet.
pub mod unproven;

/// Answers to what WSO2 asks.
pub mod actions;

/// Scopes that are granted and used.
pub mod scopes;

/// Requests as spans.
pub mod tracing;

/// Answers around tokens and passwords.
pub mod token_action;

/// Our own step in a login.
pub mod step;

/// What is served to receivers of shared signals.
pub mod shared_signals;

use crate::domain::enforcement::Grounds;
use crate::domain::enforcement::RejectionKind;
use crate::domain::enforcement::rejection;
use crate::domain::history::LinkKind;
use crate::domain::ids::RequestId;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::ResponseHead;
use crate::domain::outcome::access_token_key;
use crate::domain::policy::decision::Mode;
use crate::domain::resource::Denial;
use crate::domain::route::Door;
use crate::domain::route::PassedKind;
use crate::domain::route::RouteClass;
use crate::domain::signals::session::DEVICE_COOKIE;
use crate::domain::signals::session::DEVICE_COOKIE_SECONDS;
use crate::domain::trace::Stage;
use crate::flow::admit::Knock;
use crate::flow::answer::AnswerPlan;
use crate::flow::answer::Replacement;
use crate::flow::assess::Request;
use crate::flow::error::Refusal;
use crate::flow::exchange::Exchange;
use crate::flow::identify::link_key;
use crate::flow::observe::pages::LoginPages;
use crate::flow::ports::ClientAuth;
use crate::flow::proof::HeldAnswer;
use crate::flow::snapshot::Snapshot;
use crate::flow::tracing::Traces;
use crate::flow::tracing::of_admission;
use crate::flow::tracing::of_decision;
use crate::flow::tracing::of_record;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use dependencies::Dependencies;

/// The path.
pub struct AuthFlow {
    dependencies: Dependencies,
    snapshot: ArcSwap<Snapshot>,
    /// Why the latest reload was not taken.
    rejected: ArcSwapOption<Vec<String>>,
    /// Whether new keys of the identity server are being looked for.
    is_looking: Arc<AtomicBool>,
    login_pages: LoginPages,
    traces: Option<Traces>,
}

impl std::fmt::Debug for AuthFlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthFlow(snapshot {})", self.snapshot.load().version)
    }
}

impl AuthFlow {
    /// A path with its dependencies and first snapshot.
    pub fn new(dependencies: Dependencies, snapshot: Snapshot) -> Self {
        let plan = snapshot.plan.as_ref();
        rollout::taken(&dependencies, snapshot.version, (None, plan), true);
        Self {
            dependencies,
            snapshot: ArcSwap::from_pointee(snapshot),
            rejected: ArcSwapOption::empty(),
            is_looking: Arc::default(),
            login_pages: LoginPages::default(),
            traces: None,
        }
    }

    /// The same, with requests traced.
    pub fn traced(self, traces: Option<Traces>) -> Self {
        Self { traces, ..self }
    }

    /// What outlives a reload.
    pub fn dependencies(&self) -> &Dependencies {
        &self.dependencies
    }

    /// What requests are judged by at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// New requests are judged by `snapshot` from now on; those under way keep theirs.
    pub fn swap(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let before = self.snapshot.swap(Arc::clone(&snapshot));
        self.rejected.store(None);
        let plans = (before.plan.as_ref(), snapshot.plan.as_ref());
        rollout::taken(&self.dependencies, snapshot.version, plans, false);
    }

    /// Opens the exchange of a request and reads its head. The exchange is there even when the request is refused, so
    /// that every ending is recorded.
    pub fn admit(&self, knock: &Knock<'_>) -> (Exchange, Result<(), Refusal>) {
        let (mut exchange, admitted) = self.open(knock);
        let begin = exchange.is_recorded().then_some(exchange.started);
        let clock = self.dependencies.clock.as_ref();
        exchange.ends(Stage::Admit, begin, clock, of_admission);
        (exchange, admitted)
    }

    fn open(&self, knock: &Knock<'_>) -> (Exchange, Result<(), Refusal>) {
        let snapshot = self.snapshot.load_full();
        let client = admit::client(knock, &snapshot);
        let clock = self.dependencies.clock.as_ref();
        let moment = (clock.now(), clock.instant());
        let method = admit::method_name(knock.method);
        let mut exchange = Exchange::begun(self.request_id(), moment, method, client, snapshot);
        if let Some(traces) = &self.traces {
            let is_trusted = !exchange.client.direct;
            let entropy = self.dependencies.entropy.as_ref();
            exchange.trace = Some(traces.begin(knock.headers, is_trusted, entropy));
        }
        let mut admission = admit::admit(knock, &exchange.snapshot);
        let restored = self.restored_target(knock.raw_target, &admission, &exchange.snapshot);
        if let Some(target) = restored {
            let raw_target = target.as_bytes();
            admission = admit::admit(
                &Knock {
                    raw_target,
                    ..*knock
                },
                &exchange.snapshot,
            );
        }
        if let Some((target, route)) = admission.destination {
            exchange.target = Some(target);
            exchange.route = Some(route);
        }
        if admission.result.is_ok() && self.is_barred(knock, &exchange) {
            let refusal = Refusal::new(401, "barred", "the token is not valid");
            refuse(&mut exchange, &refusal);
            return (exchange, Err(refusal));
        }
        if matches!(admission.result, Ok(Some(_))) && !self.dependencies.audit.takes() {
            let refusal = Refusal::new(503, "audit_unavailable", "try again later");
            refuse(&mut exchange, &refusal);
            return (exchange, Err(refusal));
        }
        match admission.result {
            Ok(door) => {
                exchange.door = door;
                // What the gateway serves itself has no permit to be forwarded, and a service's caller has none yet.
                if door.is_none() && !exchange.is_own() && !exchange.is_visit() {
                    decide::unscored_permit(&mut exchange, Grounds::Exempt);
                }
                (exchange, Ok(()))
            }
            Err(refusal) => {
                refuse(&mut exchange, &refusal);
                (exchange, Err(refusal))
            }
        }
    }

    /// Assesses and decides a request on a scored door. Afterwards the exchange says what becomes of it.
    pub async fn judge(
        &self,
        exchange: &mut Exchange,
        request: Request<'_>,
    ) -> Result<(), Refusal> {
        let Some(door) = exchange.door else {
            return Ok(());
        };
        let dependencies = &self.dependencies;
        let inner = identify::check_response_type(door, request.parameters)
            .and_then(|()| identify::check_framework(door, request.parameters))
            .and_then(|()| identify::check_credentials(door, request.parameters, request.headers))
            .and_then(|()| identify::inner_door(door, request.parameters));
        let door = match inner {
            Ok(door) => door,
            Err(refusal) => {
                refuse(exchange, &refusal);
                return Err(refusal);
            }
        };
        exchange.door = Some(door);
        let refused = assess::assess(dependencies, exchange, door, request)
            .await
            .err();
        if let Some(refusal) = refused {
            refuse(exchange, &refusal);
            return Err(refusal);
        }
        if exchange.off {
            decide::unscored_permit(exchange, Grounds::Off);
            return Ok(());
        }
        let now = dependencies.clock.now();
        let begin = exchange.begins(dependencies.clock.as_ref());
        decide::decide(dependencies, exchange, door, request.parameters, now);
        review::review(dependencies, exchange, door, request).await;
        if exchange.snapshot.answers_wso2 {
            actions::remember(dependencies, exchange);
        }
        demands::raise(dependencies, exchange, door);
        if let Some(limited) = exchange
            .assessed
            .as_ref()
            .and_then(|assessed| assessed.limited)
        {
            dependencies
                .metrics
                .rate_limited(limited.scope, exchange.mode() == Some(Mode::Enforce));
        }
        let end = dependencies.clock.instant();
        exchange.timing.decision = end.saturating_duration_since(exchange.started);
        if let Some(begin) = begin {
            exchange.spent(Stage::Decide, (begin, end), of_decision);
        }
        Ok(())
    }

    /// Judges a request to a service of the operator's own. Without an error it may be forwarded.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn visit(
        &self,
        exchange: &mut Exchange,
        method: &http::Method,
        headers: &http::HeaderMap,
    ) -> Result<(), Denial> {
        resource::visit(&self.dependencies, exchange, method, headers).await
    }

    /// A request that was admitted cannot be read after all.
    pub fn refuse(&self, exchange: &mut Exchange, refusal: &Refusal) {
        refuse(exchange, refusal);
    }

    /// Whether a request asks about the user of an access token that was withheld.
    fn is_barred(&self, knock: &Knock<'_>, exchange: &Exchange) -> bool {
        let asks = exchange
            .route
            .as_ref()
            .is_some_and(|route| route.class == RouteClass::Passed(PassedKind::UserInfo));
        if !asks || self.dependencies.barred.is_empty() {
            return false;
        }
        identify::bearer_token(knock.headers).is_some_and(|token| {
            let key = link_key(
                &exchange.snapshot.people,
                LinkKind::AccessToken,
                &access_token_key(token),
            );
            self.dependencies.barred.contains(&key)
        })
    }

    /// Whether the answer must be held back as a whole, for [`AuthFlow::settle`] to judge.
    pub fn holds(&self, exchange: &Exchange) -> bool {
        let hands_out = exchange.door == Some(Door::Token) && exchange.assessed.is_some();
        let waits = hands_out || exchange.owes.is_some() || exchange.asks_account;
        (waits || unproven::is_held(exchange)) && exchange.permit.is_some()
    }

    /// Judges an answer that was held back. `None` lets it through; else the replacement goes out in its place.
    pub async fn settle(
        &self,
        exchange: &mut Exchange,
        answer: HeldAnswer<'_>,
        client: Option<ClientAuth>,
    ) -> Option<Replacement> {
        let replacement = proof::settle(&self.dependencies, exchange, answer, client).await;
        exchange.replaced = replacement.as_ref().map(Replacement::as_str);
        replacement
    }

    /// The head of the identity server's answer has come. Says what becomes of the answer. `headers` are those of the
    /// request.
    pub async fn answered(
        &self,
        exchange: &mut Exchange,
        head: &ResponseHead,
        headers: &http::HeaderMap,
    ) -> AnswerPlan {
        let dependencies = &self.dependencies;
        let mut plan = AnswerPlan::default();
        exchange.response_status = head.status;
        if let Some(door) = exchange.door {
            self.login_pages.look(&dependencies.metrics, head);
            let conclusion = observe::head(exchange, door, head);
            let facts = exchange.assessed.as_ref().map(|assessed| &assessed.facts);
            let accepts = |facts| unproven::accepts(door, head, &conclusion, facts);
            if exchange.is_unproven() && facts.is_some_and(accepts) {
                plan.replace = unproven::proved(dependencies, exchange, door, headers).await;
            }
            if plan.replace.is_none() {
                plan.replace = self.enrolment(exchange, door, head, headers).await;
            }
            observe::bind(dependencies, exchange, door, conclusion);
            if plan.replace.is_some() {
                exchange.outcome = AuthOutcome::RefusedHere;
            } else if let Some(token) = observe::device(dependencies, exchange, door) {
                let value = exchange.snapshot.device_key.seal(&token);
                plan.cookies.push(format!(
                    "{DEVICE_COOKIE}={value}; Path=/; Max-Age={DEVICE_COOKIE_SECONDS}; Secure; HttpOnly; SameSite=None"
                ));
            }
        }
        plan.cookies.extend(exchange.demand_cookie.take());
        exchange.replaced = plan.replace.as_ref().map(Replacement::as_str);
        plan
    }

    /// What goes out in place of a page on which a second factor would be enrolled by somebody who must not.
    async fn enrolment(
        &self,
        exchange: &mut Exchange,
        door: Door,
        head: &ResponseHead,
        headers: &http::HeaderMap,
    ) -> Option<Replacement> {
        let kind = enrolment::of_answer(exchange, head)?;
        self.dependencies.metrics.demand("enrolment_refused");
        match kind {
            RejectionKind::Held => {
                review::answered(&self.dependencies, exchange, door, headers).await
            }
            kind => Some(Replacement::Reject(rejection(door, kind, None))),
        }
    }

    /// Whether the body of the answer must be shown to [`AuthFlow::answered_with`].
    pub fn wants_body(&self, exchange: &Exchange, status: u16) -> bool {
        observe::wants_body(exchange, status)
    }

    /// The body of the identity server's answer has come.
    pub fn answered_with(&self, exchange: &mut Exchange, body: &[u8]) {
        let Some(door) = exchange.door else {
            return scopes::asked(&self.dependencies, exchange, body);
        };
        if let Some(conclusion) = observe::body(exchange, door, body) {
            observe::bind(&self.dependencies, exchange, door, conclusion);
            shared_signals::issued(&self.dependencies, exchange, body);
        }
    }

    /// The same for an answer that was held back as a whole; `None` is a body that cannot be read. Says what goes out in
    /// its place, if the answer accepts a password and must not go out. `headers` are those of the request.
    pub async fn answered_whole(
        &self,
        exchange: &mut Exchange,
        body: Option<&[u8]>,
        headers: &http::HeaderMap,
    ) -> Option<Replacement> {
        let dependencies = &self.dependencies;
        let door = exchange.door?;
        let conclusion = body.and_then(|body| observe::body(exchange, door, body));
        let status = exchange.response_status;
        let mut replacement = None;
        let facts = exchange.assessed.as_ref().map(|assessed| &assessed.facts);
        let accepts = |facts| unproven::accepts_whole(status, conclusion.as_ref(), facts);
        if unproven::is_held(exchange) && facts.is_some_and(accepts) {
            replacement = unproven::proved(dependencies, exchange, door, headers).await;
        }
        if let Some(conclusion) = conclusion {
            observe::bind(dependencies, exchange, door, conclusion);
        }
        if replacement.is_some() {
            exchange.outcome = AuthOutcome::RefusedHere;
            exchange.replaced = replacement.as_ref().map(Replacement::as_str);
        } else if let Some(body) = body {
            shared_signals::issued(dependencies, exchange, body);
        }
        replacement
    }

    /// The exchange has ended. Called exactly once for each.
    pub fn close(&self, mut exchange: Exchange, abandoned: bool) {
        let dependencies = &self.dependencies;
        let clock = dependencies.clock.as_ref();
        let begin = exchange.begins(clock);
        let (learnt, recorded) = observe::close(dependencies, &mut exchange, abandoned);
        if let (Some(traces), Some(begin)) = (&self.traces, begin) {
            exchange.upstream_ended(begin);
            let now = clock.instant();
            exchange.spent(Stage::Record, (begin, now), |_| of_record(learnt, recorded));
            traces.end(&mut exchange, now, dependencies.entropy.as_ref());
        }
    }

    fn request_id(&self) -> RequestId {
        admit::request_id(&self.dependencies)
    }
}

fn refuse(exchange: &mut Exchange, refusal: &Refusal) {
    exchange.error = Some(refusal.code);
    exchange.outcome = AuthOutcome::RefusedHere;
    exchange.response_status = refusal.status;
    exchange.permit = None;
}
