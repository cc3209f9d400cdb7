//! The numbers of one request and the score that they get: its own, that of the decision which it goes on with, and what
//! shows while a name is not proved.

use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::features::derive;
use crate::domain::features::derive::Known;
use crate::domain::history::History;
use crate::domain::history::Population;
use crate::domain::history::Profile;
use crate::domain::history::Provenance;
use crate::domain::kind::RequestKind;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::Assessment;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskScore;
use crate::domain::risk::ScoreSource;
use crate::domain::route::Door;
use crate::domain::signals::Signals;
use crate::domain::time::Deadline;
use crate::domain::trace::Attribute;
use crate::domain::trace::Stage;
use crate::flow::Dependencies;
use crate::flow::exchange::Exchange;
use crate::flow::rollout::mode_of;
use crate::flow::score::ModelSet;
use crate::flow::score::Models;
use crate::flow::tracing::of_score;
use crate::flow::unproven;
use crate::flow::unproven::Naming;
use std::sync::Arc;

/// What a request is scored by.
pub(in crate::flow) struct Rating<'a> {
    /// The models of its snapshot.
    pub models: &'a Models,
    /// Where it knocks.
    pub door: Door,
    /// Its grant type.
    pub grant: Option<&'a str>,
    /// What it shows.
    pub signals: &'a Signals,
    /// What was known before, where the state has answered.
    pub history: Option<&'a History>,
    /// What it is compared with.
    pub profile: Option<&'a Profile>,
    /// The decision behind what it presents.
    pub link: Option<&'a Provenance>,
    /// The same, where its score holds here as well.
    pub inherited: Option<&'a Provenance>,
    /// How much the name that it presents is worth.
    pub naming: Naming,
    /// Why the history is missing, if it is.
    pub degraded: Option<FallbackCause>,
    /// When there must be an answer.
    pub deadline: Deadline,
}

/// What came of it.
pub(in crate::flow) struct Rated {
    /// The kind of request whose features and model were used.
    pub kind: RequestKind,
    /// The numbers; `None` when the score came from a provenance.
    pub features: Option<FeatureVector>,
    /// The answer of the scoring.
    pub assessment: Assessment,
    /// The same for a name that nobody has, where a name is presented that is not proved yet.
    pub shown: Option<Assessment>,
}

impl Rating<'_> {
    /// Scores the request, and notes how long it took.
    pub(in crate::flow) async fn rate(
        self,
        dependencies: &Dependencies,
        exchange: &mut Exchange,
    ) -> Rated {
        let clock = dependencies.clock.as_ref();
        let start = clock.instant();
        let asked = RequestKind::of(self.door, self.grant);
        let (kind, models) = self.models.serving(asked);
        let population: Arc<Population> = dependencies.population.load_full();
        let known = Known {
            history: self.history,
            profile: self.profile,
            link: self.link,
            population: &population,
        };
        let (features, assessment) = match self.inherited.and_then(inherit) {
            // Who turns in a code is judged by the login alone, unless there is a model for that.
            Some(assessment) if kind != RequestKind::Token => (None, assessment),
            inherited => {
                let nameless;
                let signals = match self.naming {
                    Naming::Hint => {
                        nameless = unproven::nameless(self.signals);
                        &nameless
                    }
                    Naming::Claim | Naming::Settled => self.signals,
                };
                let set = (kind, models);
                let (row, own) = self
                    .one(dependencies, exchange, set, (signals, known))
                    .await;
                (Some(row), riskier(inherited, own))
            }
        };
        // Scored for known and unknown names alike, so that it takes as long.
        let is_shown = self.naming == Naming::Claim
            && mode_of(exchange, self.signals, self.link) == Mode::Enforce;
        let shown = if is_shown {
            let bare = self.history.map(unproven::without_name);
            let known = Known {
                history: bare.as_ref(),
                profile: None,
                ..known
            };
            let (set, by) = ((kind, models), (self.signals, known));
            Some(self.one(dependencies, exchange, set, by).await.1)
        } else {
            None
        };
        exchange.timing.score = clock.instant().saturating_duration_since(start);
        Rated {
            kind,
            features,
            assessment,
            shown,
        }
    }

    /// One row and what a model says to it.
    async fn one(
        &self,
        dependencies: &Dependencies,
        exchange: &mut Exchange,
        (kind, models): (RequestKind, &ModelSet),
        (signals, known): (&Signals, Known<'_>),
    ) -> (FeatureVector, Assessment) {
        let clock = dependencies.clock.as_ref();
        let begin = exchange.begins(clock);
        let row = derive::derive(kind, signals, known, exchange.at);
        exchange.ends(Stage::Features, begin, clock, |_| {
            let schema = i64::from(FeatureSchema::current().version);
            vec![
                ("riskgate.kind", Attribute::text(kind.as_str())),
                ("riskgate.schema", Attribute::Number(schema)),
            ]
        });
        let begin = exchange.begins(clock);
        let scorer = &dependencies.scorer;
        let said = scorer
            .score(models, &row, self.degraded, self.deadline)
            .await;
        exchange.ends(Stage::Score, begin, clock, |_| {
            of_score(kind.as_str(), &models.identity.version, &said)
        });
        (row, said)
    }
}

/// The riskier of what a code brings along from its login and what is to be said of whoever turns it in.
fn riskier(inherited: Option<Assessment>, own: Assessment) -> Assessment {
    let points = |assessment: &Assessment| assessment.score().map(RiskScore::points);
    match inherited {
        Some(inherited) if points(&inherited) >= points(&own) => inherited,
        _ => own,
    }
}

/// The assessment that a request inherits from the decision before it.
fn inherit(link: &Provenance) -> Option<Assessment> {
    Some(Assessment::Scored {
        score: RiskScore::from_points(link.score?),
        reasons: link
            .reasons
            .iter()
            .filter_map(|code| Reason::from_code(code))
            .collect(),
        contributions: Vec::new(),
        source: ScoreSource::Provenance,
        fallback: None,
    })
}
