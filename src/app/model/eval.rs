//! `riskgate model eval`: a model on login events, exactly as live traffic would meet it, and the figures of that.

use crate::adapters::clock::SystemClock;
use crate::adapters::geo::GeoDatabases;
use crate::adapters::geo::GeoSettings;
use crate::adapters::onnx::LoadedModel;
use crate::app::RunError;
use crate::app::assemble;
use crate::app::keys::Keys;
use crate::app::model;
use crate::app::model::course::Course;
use crate::app::model::figures::KindFigures;
use crate::app::model::report;
use crate::app::model::unwritable;
use crate::app::model::wrong;
use crate::app::replay::Replay;
use crate::app::replay::events::Label;
use crate::config::Config;
use crate::config::PolicySettings;
use crate::domain::kind::RequestKind;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::Rollout;
use crate::domain::printable;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::flow::score::ModelSet;
use crate::flow::score::Models;
use crate::flow::snapshot::Snapshot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
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
    /// What it is evaluated on.
    pub input: Input,
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
    /// What computes the scores; without a word the native evaluator where the graph has one, else ONNX Runtime.
    pub evaluator: Option<Evaluator>,
    /// The ONNX Runtime library.
    pub library: Option<PathBuf>,
    /// Bad records that are passed over at most.
    pub skip_bad: u64,
}

/// What computes the scores. Where a graph has both, they are equal within 1e-6; that is proved when it is loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Evaluator {
    /// Our own, for graphs of the additive form.
    Native,
    /// ONNX Runtime, for all.
    OnnxRuntime,
}

/// What a model is evaluated on; `-` is the standard input.
#[derive(Clone, Debug)]
pub enum Input {
    /// Login events as CSV, which are replayed.
    Events(PathBuf),
    /// A gateway's audit log, whose feature vectors are scored as they are.
    Audit {
        /// The log.
        log: PathBuf,
        /// What is known of its exchanges by now. With them, exchanges without a label enter no figure; without them, all
        /// count as legitimate.
        labels: Option<PathBuf>,
    },
}

impl Evaluator {
    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OnnxRuntime => "onnx runtime",
        }
    }
}

impl Input {
    /// The file that is read.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Events(path) | Self::Audit { log: path, .. } => path,
        }
    }
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
        printable::json_pretty(self).map(|text| text + "\n")
    }
}

/// Evaluates. What should be known on the way goes to `say`, a line each.
pub fn eval(evaluation: &Evaluation, say: &mut dyn FnMut(&str)) -> Result<Evaluated, RunError> {
    let loaded = model::load(&evaluation.model, evaluation.library.clone())?;
    let loaded = loaded.into_parts();
    let evaluator = match evaluation.evaluator {
        Some(evaluator) => evaluator,
        None if loaded.iter().all(|(_, model)| model.native.is_some()) => Evaluator::Native,
        None => Evaluator::OnnxRuntime,
    };
    let snapshot = snapshot(evaluation, evaluator, loaded, say)?;
    let thresholds = snapshot.policy.thresholds("", "");
    let model = EvaluatedModel {
        version: snapshot.models.versions(),
        digest: snapshot.models.digests(),
        evaluator: evaluator.as_str(),
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
    let path = evaluation.input.path();
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file =
            File::open(path).map_err(|error| wrong(path, format!("cannot be read: {error}")))?;
        Box::new(file)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| RunError::System(format!("no runtime: {error}")))?;

    let mut course = Course::open(evaluation)?;
    let begun = SystemClock.instant();
    let state = match &evaluation.input {
        Input::Events(_) => {
            let mut replay = Replay::new(snapshot, databases).map_err(RunError::System)?;
            runtime.block_on(course.run(evaluation, &mut replay, input, say))?;
            let (entries, bytes, users) = replay.memory();
            EvaluatedState {
                entries,
                bytes,
                users,
            }
        }
        Input::Audit { labels, .. } => {
            course.score(evaluation, &snapshot, labels.as_deref(), input, say)?;
            EvaluatedState::default()
        }
    };
    course.finish()?;
    let seconds = SystemClock
        .instant()
        .saturating_duration_since(begun)
        .as_secs_f64();
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
        state,
        kinds: kinds.collect(),
    };
    if let Some(path) = &evaluation.json {
        let text = evaluated.json().map_err(io::Error::other);
        text.and_then(|text| std::fs::write(path, text))
            .map_err(|error| unwritable(path, &error))?;
    }
    Ok(evaluated)
}

/// What the events are judged by: the model, the policy, mode `enforce`; else the defaults.
fn snapshot(
    evaluation: &Evaluation,
    evaluator: Evaluator,
    loaded: Vec<(RequestKind, LoadedModel)>,
    say: &mut dyn FnMut(&str),
) -> Result<Snapshot, RunError> {
    let mut said: Vec<&String> = Vec::new();
    let warnings = loaded.iter();
    let warnings = warnings.flat_map(|(_, model)| model.missing.iter().chain(&model.warnings));
    for warning in warnings {
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
        let (wanted, missing) = match evaluator {
            Evaluator::Native => (
                &loaded.native,
                "cannot be evaluated natively: its graph is not the additive one",
            ),
            Evaluator::OnnxRuntime => (
                &loaded.primary,
                "cannot be evaluated in ONNX Runtime: its library is not there (--library names it)",
            ),
        };
        let Some(wanted) = wanted.clone() else {
            return Err(wrong(&evaluation.model, missing));
        };
        models.put(
            kind,
            ModelSet {
                primary: Some(wanted),
                native: loaded.native,
                identity: Arc::new(loaded.identity),
                native_first: false,
                // Nobody waits: a slow model may take its time.
                quick: true,
                baseline: None,
            },
        );
    }
    let keys = Keys::throwaway(7);
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
