//! What outlives a reload: the ports, and what this node keeps in memory.

use crate::domain::history::Population;
use crate::flow::accounts::Accounts;
use crate::flow::agents::KnownAgents;
use crate::flow::demands::RecentDemands;
use crate::flow::desk::sessions::Sessions;
use crate::flow::lessons::Lessons;
use crate::flow::limits::InFlight;
use crate::flow::limits::LimitSettings;
use crate::flow::limits::Limits;
use crate::flow::links::BarredTokens;
use crate::flow::links::RecentLinks;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::ports::Entropy;
use crate::flow::ports::GeoLookup;
use crate::flow::ports::Introspector;
use crate::flow::ports::KeySource;
use crate::flow::ports::Revoker;
use crate::flow::ports::StateStore;
use crate::flow::resource::tokens::VerifiedTokens;
use crate::flow::review::Reviews;
use crate::flow::rollout::RolloutWatch;
use crate::flow::scopes::ScopeWatch;
use crate::flow::score::ScoreSettings;
use crate::flow::score::Scorer;
use crate::flow::score::breaker::Breaker;
use crate::flow::shared_signals::Published;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// Everything that outlives a reload.
pub struct Dependencies {
    /// The memory.
    pub state: Arc<dyn StateStore>,
    /// The breaker in front of it.
    pub state_breaker: Breaker,
    /// Facts about addresses.
    pub geo: Arc<dyn GeoLookup>,
    /// Where records go.
    pub audit: Arc<dyn AuditSink>,
    /// Keys of the identity server.
    pub keys: Arc<dyn KeySource>,
    /// Asks it about tokens.
    pub introspector: Arc<dyn Introspector>,
    /// Tokens that were presented to services lately.
    pub tokens: VerifiedTokens,
    /// Takes back what it has issued.
    pub revoker: Arc<dyn Revoker>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The scorer.
    pub scorer: Scorer,
    /// Request limits.
    pub limits: Limits,
    /// Assessments in flight.
    pub in_flight: Arc<InFlight>,
    /// User agents that were read lately.
    pub agents: KnownAgents,
    /// Links that this node has just written.
    pub recent: RecentLinks,
    /// Demands that this node knows of.
    pub demands: RecentDemands,
    /// Names whose account this node knows.
    pub accounts: Accounts,
    /// What this node remembers for reviews.
    pub reviews: Reviews,
    /// Access tokens that were withheld.
    pub barred: BarredTokens,
    /// What is served to receivers of shared signals.
    pub transmitter: Published,
    /// Whose sessions may be ended.
    pub sessions: Sessions,
    /// Friction budgets, and stages of the rollout that have fallen back.
    pub rollout: RolloutWatch,
    /// Scopes that were granted and used, until they are written.
    pub scopes: ScopeWatch,
    /// How common values are; exchanged now and then.
    pub population: ArcSwap<Population>,
    /// The way to the store.
    pub observations: Lessons,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dependencies({}, {:?})", self.state.kind(), self.scorer)
    }
}

/// What a node has from outside itself.
pub struct Outside {
    /// The memory.
    pub state: Arc<dyn StateStore>,
    /// Facts about addresses.
    pub geo: Arc<dyn GeoLookup>,
    /// Where records go.
    pub audit: Arc<dyn AuditSink>,
    /// Keys of the identity server.
    pub keys: Arc<dyn KeySource>,
    /// Asks it about tokens.
    pub introspector: Arc<dyn Introspector>,
    /// Takes back what it has issued.
    pub revoker: Arc<dyn Revoker>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outside({})", self.state.kind())
    }
}

impl Dependencies {
    /// Those of a node that remembers nothing yet, has no rollout, tells no receivers and ends nobody's sessions. What is
    /// learnt goes to `observations`.
    ///
    /// # Errors
    /// The threads of the scorer cannot be started.
    pub fn new(
        outside: Outside,
        score: &ScoreSettings,
        limits: &LimitSettings,
        state_breaker: Breaker,
        observations: Lessons,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            scorer: Scorer::new(score, Arc::clone(&outside.clock))?,
            state: outside.state,
            state_breaker,
            geo: outside.geo,
            audit: outside.audit,
            keys: outside.keys,
            introspector: outside.introspector,
            tokens: VerifiedTokens::default(),
            revoker: outside.revoker,
            clock: outside.clock,
            entropy: outside.entropy,
            limits: Limits::new(limits),
            in_flight: InFlight::new(score.concurrency_max),
            agents: KnownAgents::default(),
            recent: RecentLinks::default(),
            accounts: Accounts::default(),
            demands: RecentDemands::default(),
            reviews: Reviews::default(),
            barred: BarredTokens::default(),
            transmitter: Published::default(),
            sessions: Sessions::default(),
            rollout: RolloutWatch::default(),
            scopes: ScopeWatch::default(),
            population: ArcSwap::from_pointee(Population::default()),
            observations,
            metrics,
        })
    }
}
