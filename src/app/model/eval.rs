//! `riskgate model eval`: a model on login events, exactly as live traffic would meet it, and the figures of that.

use crate::adapters::clock::SystemClock;
use crate::adapters::geo::GeoDatabases;
use crate::adapters::geo::GeoSettings;
use crate::adapters::onnx::LoadedModel;
use crate::app::RunError;
use crate::app::assemble;
use crate::app::keys::Keys;
use crate::app::model;
use crate::app::model::figures::Judged;
use crate::app::model::figures::KindFigures;
use crate::app::model::figures::Sums;
use crate::app::model::report;
use crate::app::model::rows::FeatureRows;
use crate::app::model::rows::ScoreRows;
use crate::app::model::wrong;
use crate::app::replay::Played;
use crate::app::replay::Replay;
use crate::app::replay::events::BadEvent;
use crate::app::replay::events::Event;
use crate::app::replay::events::EventKind;
use crate::app::replay::events::Events;
use crate::app::replay::events::Label;
use crate::config::Config;
use crate::config::PolicySettings;
use crate::domain::kind::RequestKind;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::Rollout;
use crate::domain::risk::RiskScore;
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::flow::score::ModelSet;
use crate::flow::score::Models;
use crate::flow::snapshot::Snapshot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::DefaultHasher;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What to evaluate, and where to write what comes of it.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// A model file, a manifest or the folder of one.
    pub model: PathBuf,
    /// The events; `-` for the standard input.
    pub events: PathBuf,
    /// A folder with address databases; without one only the file's word counts.
    pub geo: Option<PathBuf>,
    /// Where scores and verdicts go.
    pub scores: Option<PathBuf>,
    /// Where feature vectors go.
    pub features: Option<PathBuf>,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
    /// Earlier events only warm the state.
    pub from: Option<Timestamp>,
    /// The policy in place of the configured one.
    pub policy: Option<PathBuf>,
    /// What makes an event an attack; without it the file's columns decide.
    pub label: Option<Label>,
    /// Whether the native evaluator scores in place of ONNX Runtime.
    pub native: bool,
    /// The ONNX Runtime library.
    pub library: Option<PathBuf>,
    /// Bad records that are passed over at most.
    pub skip_bad: u64,
}

/// What an evaluation gave.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluated {
    /// Which model it was.
    pub model: EvaluatedModel,
    /// By which policy.
    pub policy: EvaluatedPolicy,
    /// Events that were played.
    pub events: u64,
    /// Those of them that only warmed the state.
    pub warmed: u64,
    /// Bad records that were passed over.
    pub skipped: u64,
    /// How long it took.
    pub seconds: f64,
    /// Events by that.
    pub events_per_second: f64,
    /// What was remembered at the end.
    pub state: EvaluatedState,
    /// The figures by kind of request: `login`, `token`, `m2m`.
    pub kinds: BTreeMap<&'static str, KindFigures>,
}

/// Which model was evaluated.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluatedModel {
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file.
    pub digest: String,
    /// What computed the scores: `onnx runtime` or `native`.
    pub evaluator: &'static str,
}

/// By which policy verdicts were given.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluatedPolicy {
    /// The version, as in records.
    pub version: String,
    /// The first score that is medium.
    pub medium: u8,
    /// The first score that is high.
    pub high: u8,
}

/// What the state held at the end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EvaluatedState {
    /// Entries.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Profiles.
    pub users: usize,
}

impl Evaluated {
    /// The result in words.
    pub fn report(&self) -> String {
        report::report(self).unwrap_or_default()
    }

    /// The result as JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// Evaluates. What should be known on the way goes to `say`, a line each.
pub fn eval(evaluation: &Evaluation, say: &mut dyn FnMut(&str)) -> Result<Evaluated, RunError> {
    let loaded = model::load(&evaluation.model, evaluation.library.clone())?;
    let loaded = loaded.into_parts();
    let has_runtime = loaded.iter().any(|(_, model)| model.primary.is_some());
    let evaluator = if has_runtime && !evaluation.native {
        "onnx runtime"
    } else {
        "native"
    };
    let snapshot = snapshot(evaluation, loaded, say)?;
    let thresholds = snapshot.policy.thresholds("", "");
    let model = EvaluatedModel {
        version: snapshot.models.versions(),
        digest: snapshot.models.digests(),
        evaluator,
    };
    let policy = EvaluatedPolicy {
        version: snapshot.policy.version().to_string(),
        medium: thresholds.medium,
        high: thresholds.high,
    };
    let databases = match &evaluation.geo {
        Some(folder) => Some(databases(folder, say)?),
        None => None,
    };
    let mut replay = Replay::new(snapshot, databases).map_err(RunError::System)?;
    let input: Box<dyn Read> = if evaluation.events == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(&evaluation.events)
            .map_err(|error| wrong(&evaluation.events, format!("cannot be read: {error}")))?;
        Box::new(file)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| RunError::System(format!("no runtime: {error}")))?;

    let mut course = Course::open(evaluation)?;
    let begun = SystemClock.instant();
    runtime.block_on(course.run(evaluation, &mut replay, input, say))?;
    let seconds = SystemClock
        .instant()
        .saturating_duration_since(begun)
        .as_secs_f64();
    let (entries, bytes, users) = replay.memory();
    let kinds = course
        .sums
        .into_iter()
        .filter_map(|(kind, sums)| Some((kind, sums.figures()?)));
    let evaluated = Evaluated {
        model,
        policy,
        events: course.events,
        warmed: course.warmed,
        skipped: course.skipped,
        seconds,
        events_per_second: course.events as f64 / seconds.max(1e-9),
        state: EvaluatedState {
            entries,
            bytes,
            users,
        },
        kinds: kinds.collect(),
    };
    if let Some(path) = &evaluation.json {
        let text = evaluated.json().map_err(io::Error::other);
        text.and_then(|text| std::fs::write(path, text))
            .map_err(|error| unwritable(path, &error))?;
    }
    Ok(evaluated)
}

/// What passes while events are played.
struct Course<'a> {
    scores: Option<(&'a Path, ScoreRows)>,
    features: Option<(&'a Path, FeatureRows)>,
    sums: BTreeMap<&'static str, Sums>,
    events: u64,
    warmed: u64,
    skipped: u64,
}

impl<'a> Course<'a> {
    fn open(evaluation: &'a Evaluation) -> Result<Self, RunError> {
        let scores = evaluation.scores.as_deref().map(|path| {
            let rows = ScoreRows::create(path).map_err(|error| unwritable(path, &error))?;
            Ok((path, rows))
        });
        let features = evaluation.features.as_deref().map(|path| {
            let rows = FeatureRows::create(path).map_err(|error| unwritable(path, &error))?;
            Ok((path, rows))
        });
        Ok(Self {
            scores: scores.transpose()?,
            features: features.transpose()?,
            sums: BTreeMap::new(),
            events: 0,
            warmed: 0,
            skipped: 0,
        })
    }

    async fn run(
        &mut self,
        evaluation: &Evaluation,
        replay: &mut Replay,
        input: Box<dyn Read>,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), RunError> {
        let bad = |error: &BadEvent| wrong(&evaluation.events, error.to_string());
        let mut events = Events::open(input).map_err(|error| bad(&error))?;
        if !events.ignored().is_empty() {
            say(&format!("unknown columns: {}", events.ignored().join(", ")));
        }
        let label = evaluation.label.or(events.label()).unwrap_or_else(|| {
            say("no column says what is an attack: every event counts as legitimate");
            Label::AttackerKind
        });
        loop {
            match events.read() {
                Ok(Some(event)) => {
                    let played = replay.play(&event).await.map_err(RunError::System)?;
                    self.take(evaluation, &event, label, &played)?;
                }
                Ok(None) => break,
                Err(error) if error.can_skip && self.skipped < evaluation.skip_bad => {
                    self.skipped += 1;
                    if self.skipped == 1 {
                        say(&format!("passed over: {error}"));
                    }
                }
                Err(error) => return Err(bad(&error)),
            }
        }
        if self.events == 0 {
            return Err(wrong(&evaluation.events, "no events"));
        }
        self.finish()
    }

    fn take(
        &mut self,
        evaluation: &Evaluation,
        event: &Event<'_>,
        label: Label,
        played: &Played,
    ) -> Result<(), RunError> {
        let number = self.events;
        self.events += 1;
        if evaluation.from.is_some_and(|from| event.at < from) {
            self.warmed += 1;
            return Ok(());
        }
        let kind = kind(event.kind).as_str();
        if let Some((path, scores)) = &mut self.scores {
            scores
                .write(number, kind, event, label, played)
                .map_err(|error| unwritable(path, &error))?;
        }
        if let Some((path, features)) = &mut self.features {
            features
                .write(played.features.as_ref())
                .map_err(|error| unwritable(path, &error))?;
        }
        let together = if event.campaign.is_empty() {
            event.whom()
        } else {
            event.campaign
        };
        self.sums.entry(kind).or_default().add(&Judged {
            probability: played.score.map(RiskScore::probability),
            said: played.said.as_str(),
            attacker: event.attack(label),
            cohort: event.cohort,
            logins: played.logins,
            group: BuildHasherDefault::<DefaultHasher>::default().hash_one(together),
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), RunError> {
        if let Some((path, scores)) = self.scores.take() {
            scores.finish().map_err(|error| unwritable(path, &error))?;
        }
        if let Some((path, features)) = self.features.take() {
            features
                .finish()
                .map_err(|error| unwritable(path, &error))?;
        }
        Ok(())
    }
}

fn unwritable(path: &Path, error: &io::Error) -> RunError {
    RunError::System(format!("`{}` cannot be written: {error}", path.display()))
}

/// The kind of request that an event is.
fn kind(kind: EventKind) -> RequestKind {
    match kind {
        EventKind::Login | EventKind::Sso => RequestKind::Login,
        EventKind::Code | EventKind::Refresh => RequestKind::Token,
        EventKind::ClientCredentials => RequestKind::M2m,
    }
}

/// What the events are judged by: the model, the policy, mode `enforce`; else the defaults.
fn snapshot(
    evaluation: &Evaluation,
    loaded: Vec<(RequestKind, LoadedModel)>,
    say: &mut dyn FnMut(&str),
) -> Result<Snapshot, RunError> {
    let mut said: Vec<&String> = Vec::new();
    for warning in loaded.iter().flat_map(|(_, model)| &model.warnings) {
        if !said.contains(&warning) {
            say(warning);
            said.push(warning);
        }
    }
    let config = Config {
        mode: Rollout::of(Mode::Enforce),
        policy: PolicySettings {
            file: evaluation.policy.clone(),
        },
        ..Config::default()
    };
    let mut models = Models::missing();
    for (kind, loaded) in loaded {
        let primary = if evaluation.native {
            let native = loaded.native.clone();
            Some(native.ok_or_else(|| {
                wrong(
                    &evaluation.model,
                    "cannot be evaluated natively: its graph is not the additive one",
                )
            })?)
        } else {
            loaded.primary
        };
        models.put(
            kind,
            ModelSet {
                // Without ONNX Runtime its twin stands in, and is no fallback here.
                primary: primary.or(loaded.native.clone()),
                native: loaded.native,
                identity: Arc::new(loaded.identity),
                // Nobody waits: a slow model may take its time.
                quick: true,
                baseline: None,
            },
        );
    }
    let key = || Secret::new(vec![7; 32]);
    let keys = Keys {
        pseudonyms: key(),
        devices: key(),
        demands: key(),
        seals: key(),
        pages: key(),
        previous: None,
    };
    assemble::snapshot_with(&config, "defaults", &keys, 1, models)
        .map(|assembled| assembled.snapshot)
        .map_err(RunError::Config)
}

/// The address databases in `folder`, under the names of the shipped ones.
fn databases(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<GeoDatabases, RunError> {
    let shipped = GeoSettings::from(&Config::default().geo);
    let there = |path: PathBuf| {
        let path = folder.join(path.file_name()?);
        path.is_file().then_some(path)
    };
    let settings = GeoSettings {
        country: shipped.country.and_then(there),
        city: shipped.city.into_iter().filter_map(there).collect(),
        asn: shipped.asn.and_then(there),
        ranges: shipped.ranges.and_then(there),
    };
    if settings == GeoSettings::default() {
        return Err(wrong(folder, "no address databases in it"));
    }
    let (databases, warnings) = GeoDatabases::open(&settings);
    warnings
        .iter()
        .for_each(|warning| say(&warning.to_string()));
    Ok(databases)
}
