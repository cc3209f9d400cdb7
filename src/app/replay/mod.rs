//! Login events through the gateway's own path: each event becomes the requests that it stands for, and these are
//! admitted, assessed, decided and learnt by the same code as live traffic, over a store in memory. What the identity
//! server would say is what the event says. Nothing here computes a feature, a score or a verdict.

/// Events as CSV.
pub mod events;

/// The requests of an event, as a browser or an app would send them.
mod requests;

/// Cookie jars, sessions, codes and tokens.
mod visitors;

/// Time, networks and chance of a replay.
mod world;

use crate::adapters::geo::GeoDatabases;
use crate::adapters::identity_server::NoIdentityServer;
use crate::adapters::memory::MemoryStore;
use crate::domain::enforcement::Enforcement;
use crate::domain::features::FeatureVector;
use crate::domain::outcome::AuthOutcome;
use crate::domain::outcome::ResponseHead;
use crate::domain::parameters::BodyHeaders;
use crate::domain::parameters::Parameters;
use crate::domain::policy::decision::Verdict;
use crate::domain::risk::RiskScore;
use crate::domain::target::CanonicalTarget;
use crate::domain::time::Timestamp;
use crate::flow::AuthFlow;
use crate::flow::Dependencies;
use crate::flow::admit::Knock;
use crate::flow::assess::Request;
use crate::flow::dependencies::Outside;
use crate::flow::error::Refusal;
use crate::flow::exchange::Exchange;
use crate::flow::lessons;
use crate::flow::lessons::LessonQueue;
use crate::flow::limits::LimitSettings;
use crate::flow::links::RecentLinks;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::StateStore;
use crate::flow::score::ScoreSettings;
use crate::flow::score::breaker::Breaker;
use crate::flow::score::breaker::BreakerSettings;
use crate::flow::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use events::Event;
use events::EventKind;
use requests::Sent;
use std::sync::Arc;
use std::time::Duration;
use visitors::Presented;
use visitors::Visitors;
use world::EventClock;
use world::EventNetworks;
use world::NoRecords;
use world::RepeatableChance;

/// How often the population snapshot is read again, in the time of the events: as often as the gateway does.
const POPULATION_EVERY: Duration = Duration::from_secs(300);
/// How often what has ended is forgotten, in the time of the events.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Observations of one event at most: its request, the second factor, the way back to the app.
const OBSERVATIONS_MAX: usize = 16;
/// The budget of one decision. What is measured is not speed, and a busy machine must not change a score.
const BUDGET: Duration = Duration::from_secs(60);

/// A gateway whose traffic comes from a file.
pub struct Replay {
    flow: AuthFlow,
    store: Arc<MemoryStore>,
    clock: Arc<EventClock>,
    networks: Arc<EventNetworks>,
    queue: LessonQueue,
    visitors: Visitors,
    population_at: Timestamp,
    sweep_at: Timestamp,
}

/// What the gateway made of one event.
#[derive(Clone, Debug)]
pub struct Played {
    /// Whether and how it was judged.
    pub said: Said,
    /// The score.
    pub score: Option<RiskScore>,
    /// The row of the model; `None` when the score is that of an earlier decision, or there is none.
    pub features: Option<FeatureVector>,
    /// Confirmed logins of the user before the event.
    pub logins: u32,
    /// Whether a profile learnt from it.
    pub learnt: bool,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Said {
    /// The policy's word.
    Verdict(Verdict),
    /// The request cannot be read, and is refused before it is scored.
    Refused,
    /// It cannot happen here: the login, code or refresh that it follows was refused or not completed.
    Unreached,
}

impl Said {
    /// The word in files and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verdict(verdict) => verdict.as_str(),
            Self::Refused => "refused",
            Self::Unreached => "unreached",
        }
    }
}

/// What an identity server answers.
enum Answer {
    /// A redirect, with a session cookie if any.
    Redirect(String, Option<String>),
    /// JSON.
    Json(u16, String),
}

impl Replay {
    /// A gateway that knows nobody yet. Request limits do not apply, nothing is cached, and deadlines are far away.
    pub fn new(mut snapshot: Snapshot, databases: Option<GeoDatabases>) -> Result<Self, String> {
        snapshot.budget = BUDGET;
        let clock = Arc::new(EventClock::default());
        let networks = Arc::new(EventNetworks::new(databases));
        let store = Arc::new(MemoryStore::new());
        let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
        let (observations, queue) = lessons::queue(OBSERVATIONS_MAX, Arc::clone(&metrics));
        let scoring = ScoreSettings {
            cache_entries: 0,
            ..ScoreSettings::default()
        };
        let no_limits = LimitSettings {
            address_per_minute: 0,
            network_per_minute: 0,
            user_per_minute: 0,
            client_per_minute: 0,
        };
        let outside = Outside {
            state: Arc::clone(&store) as Arc<dyn StateStore>,
            geo: Arc::clone(&networks) as Arc<dyn crate::flow::ports::GeoLookup>,
            audit: Arc::new(NoRecords) as Arc<dyn AuditSink>,
            keys: Arc::new(NoIdentityServer),
            introspector: Arc::new(NoIdentityServer),
            revoker: Arc::new(NoIdentityServer),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(RepeatableChance::new(1)),
        };
        let breaker = Breaker::new(BreakerSettings::default());
        let dependencies = Dependencies {
            // What was just written is in the store before the next event.
            recent: RecentLinks::none(),
            ..Dependencies::new(
                outside,
                &scoring,
                &no_limits,
                breaker,
                observations,
                metrics,
            )
            .map_err(|error| format!("no threads: {error}"))?
        };
        Ok(Self {
            flow: AuthFlow::new(dependencies, snapshot),
            store,
            clock,
            networks,
            queue,
            visitors: Visitors::default(),
            population_at: Timestamp(i64::MIN),
            sweep_at: Timestamp(i64::MIN),
        })
    }

    /// Entries that the memory holds, their bytes, and how many of them are profiles.
    pub fn memory(&self) -> (usize, usize, usize) {
        self.store.size()
    }

    /// Plays one event. Events come in the order of their time.
    pub async fn play(&mut self, event: &Event<'_>) -> Result<Played, String> {
        self.clock.set(event.at);
        self.networks.say(event.network.clone());
        self.keep_house(event.at).await?;
        match event.kind {
            EventKind::Login => self.login(event).await,
            EventKind::Sso => self.sso(event).await,
            EventKind::Code => self.code(event).await,
            EventKind::Refresh => self.refresh(event).await,
            EventKind::ClientCredentials => self.client_credentials(event).await,
        }
    }

    async fn keep_house(&mut self, now: Timestamp) -> Result<(), String> {
        if now >= self.population_at {
            let population = self.store.population().await.map_err(|e| e.to_string())?;
            self.flow
                .dependencies()
                .population
                .store(Arc::new(population));
            self.population_at = now.plus(POPULATION_EVERY);
        }
        if now >= self.sweep_at {
            self.store.forget_ended(now);
            self.visitors.sweep(now);
            self.sweep_at = now.plus(SWEEP_EVERY);
        }
        Ok(())
    }

    async fn login(&mut self, event: &Event<'_>) -> Result<Played, String> {
        self.visitors.begin(event.family, event.at);
        let key = requests::flow_key(self.visitors.number());
        let is_demanded = !event.family.is_empty() && self.open_app(event, &key).await?;
        let mut exchange = match self.send(event, &requests::password(event, &key)).await? {
            Ok(exchange) => exchange,
            Err(played) => return Ok(played),
        };
        let mut played = played(&exchange);
        if is_demanded && played.said == Said::Verdict(Verdict::Allow) {
            played.said = Said::Verdict(Verdict::StepUp);
        }
        if !forwarded(&mut exchange) {
            played.learnt = self.close(exchange).await?;
            return Ok(played);
        }
        if !event.is_successful {
            self.answer(event, &mut exchange, requests::login_failed(&key))
                .await;
            played.learnt = self.close(exchange).await?;
            return Ok(played);
        }
        if played.said == Said::Verdict(Verdict::StepUp) {
            // WSO2's script reads the verdict, or finds the `acr` that was asked for, and wants the second factor.
            self.answer(event, &mut exchange, requests::second_factor_page(&key))
                .await;
            self.close(exchange).await?;
            played.learnt = self.second_factor(event, &key).await?;
            return Ok(played);
        }
        let session = self.visitors.number();
        let resumed = requests::resumed(event, &key, session);
        let passes = self.answer(event, &mut exchange, resumed).await;
        let succeeded = passes && exchange.outcome == AuthOutcome::Succeeded;
        played.learnt = self.close(exchange).await?;
        if succeeded {
            self.visitors.give_session(event.family, session, event.at);
            self.back_to_app(event, &key).await?;
        }
        Ok(played)
    }

    /// The browser comes from an app: the authorize endpoint sends it to the login page, with `key`. When it is refused
    /// there, the login door is tried all the same, as by somebody who kept the page open. Returns whether a stronger
    /// factor was demanded.
    async fn open_app(&mut self, event: &Event<'_>, key: &str) -> Result<bool, String> {
        let (first, last) = self.authorize(event, None).await?;
        let Ok(mut exchange) = last else {
            return Ok(false);
        };
        let passes = forwarded(&mut exchange);
        if passes {
            self.answer(event, &mut exchange, requests::login_page(key))
                .await;
        }
        self.close(exchange).await?;
        Ok(passes && first.said == Said::Verdict(Verdict::StepUp))
    }

    /// An authorize request, and once more where the gateway sends the browser back with a demand for a stronger factor.
    /// Returns what was made of the first, and the last exchange.
    async fn authorize(
        &mut self,
        event: &Event<'_>,
        session: Option<&str>,
    ) -> Result<(Played, Result<Exchange, Played>), String> {
        let request = requests::authorize(event, session, None);
        let mut exchange = match self.send(event, &request).await? {
            Ok(exchange) => exchange,
            Err(played) => return Ok((played.clone(), Err(played))),
        };
        let first = played(&exchange);
        let Some(target) = redirected(&exchange) else {
            return Ok((first, Ok(exchange)));
        };
        exchange.outcome = AuthOutcome::RefusedHere;
        self.close(exchange).await?;
        let again = requests::authorize(event, session, Some(target));
        let last = self.send(event, &again).await?;
        Ok((first, last))
    }

    /// Whoever has the second factor gives it. Returns whether a profile learnt from it.
    async fn second_factor(&mut self, event: &Event<'_>, key: &str) -> Result<bool, String> {
        if !event.has_second_factor {
            return Ok(false);
        }
        let sent = self
            .send(event, &requests::second_factor(event, key))
            .await?;
        let Ok(mut exchange) = sent else {
            return Ok(false);
        };
        if !forwarded(&mut exchange) {
            return self.close(exchange).await;
        }
        let session = self.visitors.number();
        let passes = self
            .answer(event, &mut exchange, requests::resumed(event, key, session))
            .await;
        let succeeded = passes && exchange.outcome == AuthOutcome::Succeeded;
        let learnt = self.close(exchange).await?;
        if succeeded {
            self.visitors.give_session(event.family, session, event.at);
            self.back_to_app(event, key).await?;
        }
        Ok(learnt)
    }

    /// The browser goes on to the authorize endpoint, which sends it to the app with a code. Only where the file goes on
    /// with the login.
    async fn back_to_app(&mut self, event: &Event<'_>, key: &str) -> Result<(), String> {
        if event.family.is_empty() {
            return Ok(());
        }
        let sent = self.send(event, &requests::resume(event, key)).await?;
        if let Ok(mut exchange) = sent {
            if forwarded(&mut exchange) {
                let code = self.visitors.number();
                if self
                    .answer(event, &mut exchange, requests::code_given(code))
                    .await
                {
                    self.visitors.give_code(event.family, code, event.at);
                }
            }
            self.close(exchange).await?;
        }
        Ok(())
    }

    async fn sso(&mut self, event: &Event<'_>) -> Result<Played, String> {
        let session = match self.visitors.session(event.family, event.at) {
            Presented::Unreached => return Ok(Played::unreached()),
            Presented::Issued(session) => requests::session(session),
            Presented::Foreign => format!("unknown-{}", event.line),
        };
        let (played, last) = self.authorize(event, Some(&session)).await?;
        let Ok(mut exchange) = last else {
            return Ok(played);
        };
        if !forwarded(&mut exchange) {
            self.close(exchange).await?;
            return Ok(played);
        }
        if played.said == Said::Verdict(Verdict::StepUp) {
            let key = requests::flow_key(self.visitors.number());
            self.answer(event, &mut exchange, requests::second_factor_page(&key))
                .await;
            self.close(exchange).await?;
            self.second_factor(event, &key).await?;
            return Ok(played);
        }
        if event.is_successful {
            let code = self.visitors.number();
            if self
                .answer(event, &mut exchange, requests::code_given(code))
                .await
            {
                self.visitors.give_code(event.family, code, event.at);
            }
        }
        self.close(exchange).await?;
        Ok(played)
    }

    async fn code(&mut self, event: &Event<'_>) -> Result<Played, String> {
        let code = match self.visitors.code(event.family, event.at) {
            Presented::Unreached => return Ok(Played::unreached()),
            Presented::Issued(code) => requests::code(code),
            Presented::Foreign => format!("unknown-{}", event.line),
        };
        self.token(event, &requests::redeem(event, &code)).await
    }

    async fn refresh(&mut self, event: &Event<'_>) -> Result<Played, String> {
        let token = self
            .visitors
            .token(event.family, event.token, event.address, event.at);
        let token = match token {
            Presented::Unreached => return Ok(Played::unreached()),
            Presented::Issued(token) => requests::refresh_token(token),
            Presented::Foreign => format!("unknown-{}", event.line),
        };
        self.token(event, &requests::refresh(event, &token)).await
    }

    async fn client_credentials(&mut self, event: &Event<'_>) -> Result<Played, String> {
        self.token(event, &requests::client_credentials(event))
            .await
    }

    /// A request at the token endpoint and its answer.
    async fn token(&mut self, event: &Event<'_>, sent: &Sent) -> Result<Played, String> {
        let mut exchange = match self.send(event, sent).await? {
            Ok(exchange) => exchange,
            Err(played) => return Ok(played),
        };
        let mut played = played(&exchange);
        if forwarded(&mut exchange) {
            let number = self.visitors.number();
            let renews = event.kind != EventKind::ClientCredentials;
            let answer = if event.is_successful {
                requests::tokens(number, renews)
            } else {
                requests::tokens_refused(event)
            };
            if self.answer(event, &mut exchange, answer).await && event.is_successful && renews {
                self.visitors
                    .give_token(event.family, number, event.address, event.at);
            }
        }
        played.learnt = self.close(exchange).await?;
        Ok(played)
    }

    /// Sends one request as far as its decision. One that cannot be read is closed at once.
    async fn send(
        &mut self,
        event: &Event<'_>,
        sent: &Sent,
    ) -> Result<Result<Exchange, Played>, String> {
        let headers = sent.headers(event, &self.visitors);
        let knock = Knock {
            method: &sent.method,
            raw_target: sent.target.as_bytes(),
            version: http::Version::HTTP_11,
            headers: &headers,
            authority: None,
            peer: event.address,
            tls: true,
            has_length: false,
            has_body: false,
        };
        let (mut exchange, admitted) = self.flow.admit(&knock);
        let judged = match admitted {
            Ok(()) => self.judge(event, sent, &headers, &mut exchange).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = judged {
            self.flow.refuse(&mut exchange, &refusal);
            self.close(exchange).await?;
            return Ok(Err(Played {
                said: Said::Refused,
                ..Played::unreached()
            }));
        }
        Ok(Ok(exchange))
    }

    async fn judge(
        &self,
        event: &Event<'_>,
        sent: &Sent,
        headers: &http::HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        let Some(door) = exchange.door else {
            return Ok(());
        };
        let query = exchange.target.as_ref().and_then(CanonicalTarget::query);
        let parameters = BodyHeaders::of(headers)
            .and_then(|kind| Parameters::parse(door, &sent.method, query, kind, &sent.body))
            .map_err(|error| Refusal::new(error.status(), error.as_str(), error.to_string()))?;
        let request = Request {
            version: http::Version::HTTP_11,
            headers,
            parameters: Some(&parameters),
            tls: event.tls.as_ref(),
        };
        self.flow.judge(exchange, request).await
    }

    /// The identity server answers; what it and the gateway set travels with the browser. Returns whether the answer went
    /// out as it was, and not another one in its place.
    async fn answer(&mut self, event: &Event<'_>, exchange: &mut Exchange, answer: Answer) -> bool {
        let (head, body) = match answer {
            Answer::Redirect(location, session) => (
                ResponseHead {
                    status: 302,
                    location: Some(location),
                    session,
                },
                None,
            ),
            Answer::Json(status, body) => (
                ResponseHead {
                    status,
                    ..ResponseHead::default()
                },
                Some(body),
            ),
        };
        // Nobody waits for an analyst in a replay: no cookie could say who it was.
        let headers = http::HeaderMap::new();
        let plan = self.flow.answered(exchange, &head, &headers).await;
        for cookie in &plan.cookies {
            if let Some(pair) = cookie.split(';').next() {
                self.visitors.set_cookie(event.device, pair);
            }
        }
        let passes = plan.replace.is_none();
        if let Some(body) = body
            && self.flow.wants_body(exchange, head.status)
        {
            self.flow.answered_with(exchange, body.as_bytes());
        }
        passes
    }

    /// Ends an exchange and learns from it at once. Returns whether a profile learnt.
    async fn close(&mut self, exchange: Exchange) -> Result<bool, String> {
        self.flow.close(exchange, false);
        let mut learnt = false;
        while let Some(observation) = self.queue.try_recv() {
            learnt |= observation.lesson.is_some();
            self.store
                .record(&[observation])
                .await
                .map_err(|error| error.to_string())?;
            self.queue.are_through(1);
        }
        Ok(learnt)
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replay({:?})", self.flow)
    }
}

impl Played {
    fn unreached() -> Self {
        Self {
            said: Said::Unreached,
            score: None,
            features: None,
            logins: 0,
            learnt: false,
        }
    }
}

fn played(exchange: &Exchange) -> Played {
    let (Some(assessed), Some(decision)) = (&exchange.assessed, exchange.carried_out()) else {
        return Played {
            said: Said::Refused,
            ..Played::unreached()
        };
    };
    Played {
        said: Said::Verdict(decision.verdict),
        score: assessed.assessment.score(),
        features: assessed.features.clone(),
        logins: assessed.logins(),
        learnt: false,
    }
}

/// Whether the request goes to the identity server; else the gateway has answered it.
fn forwarded(exchange: &mut Exchange) -> bool {
    if exchange.permit.is_some() {
        return true;
    }
    exchange.outcome = AuthOutcome::RefusedHere;
    false
}

/// Where a demand for a stronger factor sends the browser.
fn redirected(exchange: &Exchange) -> Option<String> {
    match exchange
        .decided
        .as_ref()
        .map(|decided| &decided.enforcement)
    {
        Some(Enforcement::Redirect(target)) => Some(target.clone()),
        Some(Enforcement::Forward(..) | Enforcement::Rewrite(..) | Enforcement::Reject(_))
        | None => None,
    }
}
