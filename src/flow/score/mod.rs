//! The risk score under a deadline. Scoring cannot fail: it ends with a score from some rung of the ladder or with
//! `Unscored` and its cause.

/// When calls to a dependency are worth making.
pub mod breaker;

/// How many requests had no score of late.
pub mod share;

/// Threads for models that cannot run on the worker.
pub mod pool;

/// Numbers and score of one request.
pub mod rating;

use crate::domain::drift::Baseline;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::risk::Assessment;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::ModelOutput;
use crate::domain::risk::ScoreSource;
use crate::domain::risk::reasons_of;
use crate::domain::time::Deadline;
use crate::flow::hindsight::DriftWatch;
use crate::flow::ports::Clock;
use crate::flow::ports::ModelIdentity;
use crate::flow::ports::RiskModel;
use breaker::Breaker;
use breaker::BreakerSettings;
use breaker::BreakerState;
use breaker::Listener;
use moka::sync::Cache;
use pool::ModelPool;
use serde::Deserialize;
use share::UnscoredShare;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// A run that takes this long and ends after its deadline moves the model off the worker.
const OVERRUN: Duration = Duration::from_millis(5);

/// The latency budget and what guards it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreSettings {
    /// Milliseconds for state and model together.
    pub budget_ms: u64,
    /// Assessments in flight; beyond that a request is scored without state.
    pub concurrency_max: usize,
    /// Seconds for which an identical request reuses a score.
    pub cache_seconds: u64,
    /// Scores that the cache keeps.
    pub cache_entries: u64,
    /// Threads for a model that is too slow for the worker.
    pub pool_threads: usize,
    /// The breaker of the model.
    pub breaker: BreakerSettings,
}

/// The models of one snapshot, by the kind of request that they are for.
#[derive(Clone, Debug)]
pub struct Models {
    /// For logins, and for every kind without a model of its own.
    pub login: ModelSet,
    /// For codes and tokens.
    pub token: Option<ModelSet>,
    /// For service accounts.
    pub m2m: Option<ModelSet>,
    /// What their makers say of them, in Markdown, for people: it is not believed.
    pub card: Option<Arc<str>>,
}

/// One model, as often as it can be evaluated.
#[derive(Clone)]
pub struct ModelSet {
    /// The model in ONNX Runtime.
    pub primary: Option<Arc<dyn RiskModel>>,
    /// The same model, evaluated natively; `None` when its graph is not of the additive form.
    pub native: Option<Arc<dyn RiskModel>>,
    /// Which model it is.
    pub identity: Arc<ModelIdentity>,
    /// Whether the native evaluator answers where there is one; else ONNX Runtime does.
    pub native_first: bool,
    /// Whether the golden rows were scored quickly enough to run on the worker.
    pub quick: bool,
    /// How features and scores were distributed when the model was made; `None` when it does not say.
    pub baseline: Option<Arc<Baseline>>,
}

/// Every input of an answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ScoreKey {
    features: [u32; Feature::COUNT],
    schema_version: u32,
    model: Arc<ModelIdentity>,
}

/// Scores.
pub struct Scorer {
    /// `None` when it has no room for a single score.
    cache: Option<Cache<ScoreKey, Arc<ModelOutput>>>,
    breaker: Breaker,
    pool: ModelPool,
    clock: Arc<dyn Clock>,
    /// Microseconds since `epoch` until which the model runs in the pool after an overrun.
    suspect_until: AtomicU64,
    epoch: Instant,
    drift: DriftWatch,
    share: UnscoredShare,
}

impl Default for ScoreSettings {
    fn default() -> Self {
        Self {
            budget_ms: 20,
            concurrency_max: 1024,
            cache_seconds: 60,
            cache_entries: 50_000,
            pool_threads: 2,
            breaker: BreakerSettings::default(),
        }
    }
}

impl std::fmt::Debug for ModelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ModelSet({}, quick: {})",
            self.identity.version, self.quick
        )
    }
}

impl Models {
    /// No model at all: every request ends unscored.
    pub fn missing() -> Self {
        Self {
            login: ModelSet::missing(),
            token: None,
            m2m: None,
            card: None,
        }
    }

    /// Gives `kind` this model.
    pub fn put(&mut self, kind: RequestKind, model: ModelSet) {
        match kind {
            RequestKind::Login => self.login = model,
            RequestKind::Token => self.token = Some(model),
            RequestKind::M2m => self.m2m = Some(model),
        }
    }

    /// The model that scores requests of `kind`, and the kind that it is for: their own, or logins.
    pub fn serving(&self, kind: RequestKind) -> (RequestKind, &ModelSet) {
        let own = match kind {
            RequestKind::Login => None,
            RequestKind::Token => self.token.as_ref(),
            RequestKind::M2m => self.m2m.as_ref(),
        };
        own.map_or((RequestKind::Login, &self.login), |model| (kind, model))
    }

    /// All models with their kinds.
    pub fn iter(&self) -> impl Iterator<Item = (RequestKind, &ModelSet)> {
        let others = [
            (RequestKind::Token, self.token.as_ref()),
            (RequestKind::M2m, self.m2m.as_ref()),
        ];
        std::iter::once((RequestKind::Login, &self.login)).chain(
            others
                .into_iter()
                .filter_map(|(kind, model)| Some((kind, model?))),
        )
    }

    /// The digests of the files, in the order of the kinds.
    pub fn digests(&self) -> String {
        let each = self.iter().map(|(_, model)| model.identity.digest.as_str());
        each.collect::<Vec<_>>().join(", ")
    }

    /// The versions, one if it is the same for all.
    pub fn versions(&self) -> String {
        let first = self.login.identity.version.clone();
        if self
            .iter()
            .all(|(_, model)| model.identity.version == first)
        {
            return first;
        }
        let each = self
            .iter()
            .map(|(kind, model)| format!("{} {}", kind.as_str(), model.identity.version));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Leaves ONNX Runtime out, as if its library were missing: only native evaluators answer.
    pub fn only_native(&mut self) {
        let others = [self.token.as_mut(), self.m2m.as_mut()];
        for model in std::iter::once(&mut self.login).chain(others.into_iter().flatten()) {
            model.primary = None;
        }
    }
}

impl ModelSet {
    /// Whether there is anything to evaluate.
    pub fn is_there(&self) -> bool {
        self.primary.is_some() || self.native.is_some()
    }

    /// A set without any model: every request ends unscored.
    pub fn missing() -> Self {
        let identity = Arc::new(ModelIdentity {
            version: "none".to_owned(),
            digest: String::new(),
        });
        Self {
            primary: None,
            native: None,
            identity,
            native_first: false,
            quick: false,
            baseline: None,
        }
    }
}

impl std::fmt::Debug for Scorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scorer({:?})", self.breaker.state())
    }
}

impl Scorer {
    /// A scorer; starts the threads of its pool.
    pub fn new(settings: &ScoreSettings, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let cache = || {
            Cache::builder()
                .max_capacity(settings.cache_entries)
                .time_to_live(Duration::from_secs(settings.cache_seconds))
                .build()
        };
        Ok(Self {
            cache: (settings.cache_entries > 0).then(cache),
            breaker: Breaker::new(settings.breaker.clone()),
            pool: ModelPool::start(settings.pool_threads)?,
            epoch: clock.instant(),
            clock,
            suspect_until: AtomicU64::new(0),
            drift: DriftWatch::default(),
            share: UnscoredShare::default(),
        })
    }

    /// The same scorer, telling `listener` about every change of the model's breaker.
    pub fn telling(self, listener: Listener) -> Self {
        Self {
            breaker: self.breaker.telling(listener),
            ..self
        }
    }

    /// The state of the model's breaker.
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// How many requests had no score of late.
    pub fn share(&self) -> &UnscoredShare {
        &self.share
    }

    /// The windows in which drift is watched.
    pub fn drift(&self) -> &DriftWatch {
        &self.drift
    }

    /// Scores one row. `degraded` says why the history is missing, if it is.
    pub async fn score(
        &self,
        models: &ModelSet,
        features: &FeatureVector,
        degraded: Option<FallbackCause>,
        deadline: Deadline,
    ) -> Assessment {
        if let Some(native) = models.native.as_ref().filter(|_| models.native_first) {
            // Quicker than a look into the cache, and it has no one to wait for.
            return match native.run(features, deadline) {
                Ok(output) => scored(
                    &output,
                    features,
                    own_source(degraded, ScoreSource::Native),
                    degraded,
                ),
                Err(error) => Assessment::Unscored(pool::cause_of(&error)),
            };
        }
        let key = || ScoreKey {
            features: features.bits(),
            schema_version: FeatureSchema::current().version,
            model: Arc::clone(&models.identity),
        };
        let cache = self.cache.as_ref().map(|cache| (cache, key()));
        if let Some((cache, key)) = &cache
            && let Some(output) = cache.get(key)
        {
            let source = own_source(degraded, ScoreSource::Cache);
            return scored(&output, features, source, degraded);
        }
        match self.primary(models, features, deadline).await {
            Ok(output) => {
                let source = own_source(degraded, ScoreSource::Model);
                let assessment = scored(&output, features, source, degraded);
                if let Some((cache, key)) = cache {
                    cache.insert(key, Arc::new(output));
                }
                assessment
            }
            Err(cause) => {
                let Some(native) = &models.native else {
                    return Assessment::Unscored(cause);
                };
                match native.run(features, deadline) {
                    Ok(output) => {
                        let source = own_source(degraded, ScoreSource::Native);
                        scored(&output, features, source, Some(degraded.unwrap_or(cause)))
                    }
                    Err(error) => Assessment::Unscored(pool::cause_of(&error)),
                }
            }
        }
    }

    async fn primary(
        &self,
        models: &ModelSet,
        features: &FeatureVector,
        deadline: Deadline,
    ) -> Result<ModelOutput, FallbackCause> {
        let Some(model) = &models.primary else {
            return Err(FallbackCause::ModelMissing);
        };
        let start = self.clock.instant();
        if !self.breaker.admit(start) {
            return Err(FallbackCause::BreakerOpen);
        }
        let result =
            if models.quick && self.elapsed(start) >= self.suspect_until.load(Ordering::Relaxed) {
                let result = model
                    .run(features, deadline)
                    .map_err(|error| pool::cause_of(&error));
                // A late end alone may be the fault of whatever came before the model.
                let end = self.clock.instant();
                if end > deadline.instant() && end.saturating_duration_since(start) >= OVERRUN {
                    self.suspect(start);
                }
                result
            } else {
                self.pool
                    .run(Arc::clone(model), features.clone(), deadline)
                    .await
            };
        match &result {
            Ok(_) => self.breaker.succeeded(),
            // Shedding says nothing about the model.
            Err(FallbackCause::Overload) => {}
            Err(_) => self.breaker.failed(self.clock.instant()),
        }
        result
    }

    /// One overrun on the worker is one too many: for a while the model runs where a caller can stop waiting.
    fn suspect(&self, now: Instant) {
        const SUSPECT_MICROS: u64 = 30_000_000;
        self.suspect_until.store(
            self.elapsed(now).saturating_add(SUSPECT_MICROS),
            Ordering::Relaxed,
        );
    }

    fn elapsed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Where a score comes from that `source` has computed: without a history that is what matters about it.
fn own_source(degraded: Option<FallbackCause>, source: ScoreSource) -> ScoreSource {
    degraded.map_or(source, |_| ScoreSource::Stateless)
}

fn scored(
    output: &ModelOutput,
    features: &FeatureVector,
    source: ScoreSource,
    fallback: Option<FallbackCause>,
) -> Assessment {
    Assessment::Scored {
        score: output.score,
        reasons: reasons_of(&output.contributions, features),
        contributions: output.contributions.to_vec(),
        source,
        fallback,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::domain::risk::RiskScore;
    use crate::flow::ports::ModelError;

    struct Fixed {
        result: Result<f32, ModelError>,
        sleep: Duration,
        identity: ModelIdentity,
    }

    impl RiskModel for Fixed {
        fn run(&self, _: &FeatureVector, _: Deadline) -> Result<ModelOutput, ModelError> {
            std::thread::sleep(self.sleep);
            let score = RiskScore::new(self.result.clone()?).ok_or(ModelError::Output)?;
            Ok(ModelOutput {
                score,
                contributions: [0.0; Feature::COUNT],
            })
        }

        fn identity(&self) -> &ModelIdentity {
            &self.identity
        }
    }

    fn model(result: Result<f32, ModelError>, sleep_ms: u64) -> Arc<dyn RiskModel> {
        let identity = ModelIdentity {
            version: "t".to_owned(),
            digest: "d".to_owned(),
        };
        Arc::new(Fixed {
            result,
            sleep: Duration::from_millis(sleep_ms),
            identity,
        })
    }

    fn set(
        primary: Option<Arc<dyn RiskModel>>,
        native: Option<Arc<dyn RiskModel>>,
        quick: bool,
    ) -> ModelSet {
        let identity = ModelIdentity {
            version: "t".to_owned(),
            digest: "d".to_owned(),
        };
        ModelSet {
            primary,
            native,
            identity: Arc::new(identity),
            native_first: false,
            quick,
            baseline: None,
        }
    }

    fn scorer() -> (Scorer, Arc<SystemClock>) {
        let clock = Arc::new(SystemClock);
        // Once open the breaker stays so, however long the machine takes for the next call.
        let breaker = BreakerSettings {
            open_ms: 600_000,
            ..BreakerSettings::default()
        };
        let settings = ScoreSettings {
            breaker,
            ..ScoreSettings::default()
        };
        (
            Scorer::new(&settings, Arc::clone(&clock) as Arc<dyn Clock>).unwrap(),
            clock,
        )
    }

    async fn score(
        scorer: &Scorer,
        clock: &SystemClock,
        models: &ModelSet,
    ) -> (Assessment, Duration) {
        let start = clock.instant();
        let deadline = Deadline::after(start, Duration::from_millis(20));
        let assessment = scorer
            .score(models, &FeatureVector::missing(), None, deadline)
            .await;
        (assessment, clock.instant() - start)
    }

    #[tokio::test]
    async fn a_slow_model_in_the_pool_is_cut_at_the_deadline_and_trips_the_breaker() {
        let (scorer, clock) = scorer();
        let models = set(Some(model(Ok(0.5), 400)), Some(model(Ok(0.25), 0)), false);
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let (assessment, took) = score(&scorer, &clock, &models).await;
            fastest = fastest.min(took);
            assert!(matches!(
                assessment,
                Assessment::Scored {
                    source: ScoreSource::Native,
                    fallback: Some(_),
                    ..
                }
            ));
        }
        // The model takes 400 ms, of which nobody waits for more than the 20 that there are.
        assert!(fastest < Duration::from_millis(300), "{fastest:?}");
        assert_eq!(scorer.breaker_state(), BreakerState::Open);
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            let (assessment, took) = score(&scorer, &clock, &models).await;
            assert_eq!(assessment.fallback(), Some(FallbackCause::BreakerOpen));
            fastest = fastest.min(took);
        }
        assert!(fastest < Duration::from_millis(20), "{fastest:?}");
    }

    #[tokio::test]
    async fn one_overrun_on_the_worker_moves_the_model_off_it() {
        let (scorer, clock) = scorer();
        let models = set(Some(model(Ok(0.5), 3_000)), None, true);
        let (_, first) = score(&scorer, &clock, &models).await;
        assert!(first >= Duration::from_millis(3_000));
        scorer.cache.as_ref().unwrap().invalidate_all();
        let (assessment, second) = score(&scorer, &clock, &models).await;
        assert!(second < Duration::from_millis(2_500), "{second:?}");
        assert_eq!(
            assessment,
            Assessment::Unscored(FallbackCause::ModelTimeout)
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_no_probability_is_unscored_and_never_low() {
        let (scorer, clock) = scorer();
        let models = set(
            Some(model(Ok(f32::NAN), 0)),
            Some(model(Ok(f32::NAN), 0)),
            true,
        );
        assert_eq!(
            score(&scorer, &clock, &models).await.0,
            Assessment::Unscored(FallbackCause::ModelOutput)
        );
        assert_eq!(
            score(&scorer, &clock, &ModelSet::missing()).await.0,
            Assessment::Unscored(FallbackCause::ModelMissing)
        );
    }

    #[tokio::test]
    async fn a_new_model_never_meets_an_old_answer() {
        let (scorer, clock) = scorer();
        let mut models = set(Some(model(Ok(0.1), 0)), None, true);
        assert_eq!(
            score(&scorer, &clock, &models).await.0.score(),
            RiskScore::new(0.1)
        );
        models.primary = Some(model(Ok(0.9), 0));
        let (again, _) = score(&scorer, &clock, &models).await;
        assert!(matches!(
            again,
            Assessment::Scored {
                source: ScoreSource::Cache,
                ..
            }
        ));
        models.identity = Arc::new(ModelIdentity {
            version: "t".to_owned(),
            digest: "other".to_owned(),
        });
        assert_eq!(
            score(&scorer, &clock, &models).await.0.score(),
            RiskScore::new(0.9)
        );
    }
}
