//! `riskgate model inspect`: what a model says of itself, whether it passes every check that the gateway makes before it
//! uses one, and how long it takes on this machine.

use crate::adapters::clock::SystemClock;
use crate::adapters::onnx;
use crate::adapters::onnx::About;
use crate::adapters::onnx::LoadedModel;
use crate::app::RunError;
use crate::app::model;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::printable;
use crate::domain::time::Deadline;
use crate::flow::ports::Clock;
use crate::flow::ports::RiskModel;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Samples of a latency.
const SAMPLES: usize = 1000;
/// Native runs that one sample averages over: a single one is hardly longer than a look at the clock.
const NATIVE_RUNS: u32 = 16;
/// The longest that timing one evaluator takes.
const TIMING_BUDGET: Duration = Duration::from_secs(2);

/// What is to be known of a model file, a manifest or a folder.
#[derive(Clone, Debug, Serialize)]
pub struct Inspected {
    /// What was looked at.
    pub file: PathBuf,
    /// Whether the gateway would use it.
    pub usable: bool,
    /// The check that failed, with the file at fault.
    pub fault: Option<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// The schema that this build computes.
    pub schema: InspectedSchema,
    /// What the file at fault says of itself, as far as it can be read.
    pub said: Option<InspectedFile>,
    /// The models, each for a kind of request.
    pub models: Vec<InspectedModel>,
}

/// The schema of this build.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedSchema {
    /// Its version.
    pub version: u32,
    /// Its SHA-256.
    pub digest: String,
    /// The names in order.
    pub features: Vec<&'static str>,
}

/// One model that passed every check.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedModel {
    /// The kind of request that it is for.
    pub kind: &'static str,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file.
    pub digest: String,
    /// Golden vectors that it reproduces; 0 when none came with it.
    pub golden_rows: usize,
    /// Whether the graph is the additive one, so that the native evaluator can stand in.
    pub additive: bool,
    /// The log-odds to which contributions add, of the additive form.
    pub bias: Option<f32>,
    /// Microseconds of a run in ONNX Runtime; `None` without it.
    pub onnx_runtime: Option<Latency>,
    /// Microseconds of a run of the native evaluator.
    pub native: Option<Latency>,
    /// The file.
    pub said: InspectedFile,
}

/// What a model file says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedFile {
    /// Its length.
    pub bytes: usize,
    /// Nodes of the graph.
    pub nodes: usize,
    /// The version of the standard operators.
    pub operator_set: Option<i64>,
    /// The metadata; values that are JSON as such.
    pub metadata: BTreeMap<String, Value>,
}

/// How long a run takes, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// One in a hundred takes longer.
    pub p99: f64,
}

/// Inspects what is at `path`: a model file, a manifest or the folder of one. A model that fails a check is no error of
/// the inspection.
pub fn inspect(path: &Path, library: Option<PathBuf>) -> Inspected {
    let mut inspected = Inspected {
        file: path.to_owned(),
        usable: false,
        fault: None,
        warnings: Vec::new(),
        schema: InspectedSchema {
            version: FeatureSchema::current().version,
            digest: FeatureSchema::digest(),
            features: Feature::ALL.iter().map(|feature| feature.name()).collect(),
        },
        said: None,
        models: Vec::new(),
    };
    match model::load(path, library) {
        Ok(loaded) => {
            inspected.usable = true;
            for (kind, model) in loaded.into_parts() {
                let warnings = model.missing.iter().chain(&model.warnings);
                inspected
                    .warnings
                    .extend(warnings.map(|warning| format!("{}: {warning}", kind.as_str())));
                inspected.models.push(of_model(kind, &model));
            }
        }
        Err(error) => {
            inspected.fault = Some(error.to_string());
            let at_fault = match &error {
                RunError::Config(problems) => problems.first().map(|one| PathBuf::from(&one.file)),
                RunError::System(_) => None,
            };
            inspected.said = at_fault
                .filter(|file| {
                    file.extension()
                        .is_some_and(|extension| extension == "onnx")
                })
                .and_then(|file| onnx::about(&file))
                .map(|about| of_file(&about));
        }
    }
    inspected
}

impl Inspected {
    /// In words.
    pub fn report(&self) -> String {
        let mut out = String::new();
        self.write(&mut out)
            .map_or_else(|_| String::new(), |()| out)
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        printable::json_pretty(self).map(|text| text + "\n")
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "schema      version {}, {} features, sha-256 {}",
            self.schema.version,
            self.schema.features.len(),
            self.schema.digest
        )?;
        for model in &self.models {
            of_one(out, model)?;
        }
        for warning in &self.warnings {
            writeln!(out, "note        {warning}")?;
        }
        if let Some(fault) = &self.fault {
            writeln!(out, "refused     {fault}")?;
        }
        if let Some(said) = &self.said {
            file(out, said)?;
        }
        writeln!(
            out,
            "{}",
            if self.usable {
                "the gateway would use it"
            } else {
                "the gateway would refuse it"
            }
        )
    }
}

fn of_one(out: &mut String, model: &InspectedModel) -> fmt::Result {
    writeln!(
        out,
        "\n{:<11} version {}, sha-256 {}",
        model.kind, model.version, model.digest
    )?;
    file(out, &model.said)?;
    let form = match model.bias {
        Some(bias) => format!("additive, bias {bias:.4}: the native evaluator can stand in"),
        None => "not additive: only ONNX Runtime can evaluate it".to_owned(),
    };
    writeln!(out, "  form      {form}")?;
    let golden = match model.golden_rows {
        0 => "no golden vectors came with it".to_owned(),
        rows => format!("{rows} golden vectors reproduced"),
    };
    writeln!(
        out,
        "  checks    contract and schema as compiled, {golden}, no direction violated"
    )?;
    for (name, latency) in [
        ("ONNX Runtime", model.onnx_runtime),
        ("native", model.native),
    ] {
        match latency {
            Some(Latency { p50, p99 }) => {
                writeln!(out, "  one row   {name}: p50 {p50:.2} us, p99 {p99:.2} us")?
            }
            None => writeln!(out, "  one row   {name}: not there")?,
        }
    }
    Ok(())
}

fn file(out: &mut String, said: &InspectedFile) -> fmt::Result {
    /// Long lists of which a person reads nothing; they are in the JSON.
    const LISTS: [&str; 4] = ["baseline", "feature_names", "monotone", "score_baseline"];
    const CHARS_MAX: usize = 400;
    let set = said
        .operator_set
        .map_or_else(|| "unknown".to_owned(), |set| set.to_string());
    writeln!(
        out,
        "  file      {} bytes, {} nodes, operator set {set}",
        said.bytes, said.nodes
    )?;
    for (key, value) in said
        .metadata
        .iter()
        .filter(|(key, _)| !LISTS.contains(&key.as_str()))
    {
        let text = match value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let plain = |c: char| if printable::acts(c) { '\u{fffd}' } else { c };
        let mut text: String = text.chars().map(plain).collect();
        if let Some((end, _)) = text.char_indices().nth(CHARS_MAX) {
            text.truncate(end);
            text.push('…');
        }
        let key: String = key.chars().take(40).map(plain).collect();
        writeln!(out, "  says      {key}: {text}")?;
    }
    Ok(())
}

fn of_model(kind: RequestKind, model: &LoadedModel) -> InspectedModel {
    InspectedModel {
        kind: kind.as_str(),
        version: model.identity.version.clone(),
        digest: model.identity.digest.clone(),
        golden_rows: model.golden_rows,
        additive: model.native.is_some(),
        bias: model.bias,
        onnx_runtime: model.primary.as_deref().and_then(|model| latency(model, 1)),
        native: model
            .native
            .as_deref()
            .and_then(|model| latency(model, NATIVE_RUNS)),
        said: of_file(&model.about),
    }
}

fn of_file(about: &About) -> InspectedFile {
    let parsed = |text: &str| {
        serde_json::from_str(text)
            .ok()
            .filter(|value: &Value| value.is_array() || value.is_object())
            .unwrap_or_else(|| Value::String(text.to_owned()))
    };
    InspectedFile {
        bytes: about.bytes,
        nodes: about.nodes,
        operator_set: about.operator_set,
        metadata: about
            .metadata
            .iter()
            .map(|(key, value)| (key.clone(), parsed(value)))
            .collect(),
    }
}

fn latency(model: &dyn RiskModel, runs: u32) -> Option<Latency> {
    let mut zeros = FeatureVector::missing();
    Feature::ALL
        .into_iter()
        .for_each(|feature| zeros.set(feature, 0.0));
    let rows = [FeatureVector::missing(), zeros];
    let begun = SystemClock.instant();
    let mut spans = Vec::with_capacity(SAMPLES);
    for row in rows.iter().cycle().take(SAMPLES) {
        let start = SystemClock.instant();
        for _ in 0..runs {
            model.run(row, Deadline::after(start, TIMING_BUDGET)).ok()?;
        }
        let end = SystemClock.instant();
        let span = end.saturating_duration_since(start).as_secs_f64();
        spans.push(span * 1e6 / f64::from(runs));
        if end.saturating_duration_since(begun) > TIMING_BUDGET {
            break;
        }
    }
    spans.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| spans.get(spans.len().saturating_mul(share) / 100).copied();
    Some(Latency {
        p50: at(50)?,
        p99: at(99)?,
    })
}
