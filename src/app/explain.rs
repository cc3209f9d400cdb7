//! `riskgate explain`: finds a decision in the audit log, and the model and policy that made it, and has it explained.

use crate::adapters::audit_log::people;
use crate::adapters::clock::SystemClock;
use crate::adapters::onnx;
use crate::adapters::onnx::LoadSettings;
use crate::adapters::onnx::LoadedModel;
use crate::adapters::onnx::MODEL_BYTES_MAX;
use crate::app::RunError;
use crate::app::assemble;
use crate::app::audit::people_file;
use crate::app::keys::Keys;
use crate::app::records;
use crate::config::Config;
use crate::config::PolicySettings;
use crate::domain::audit::AuditEvent;
use crate::domain::explain::Evaluator;
use crate::domain::explain::Explanation;
use crate::domain::explain::ModelAtHand;
use crate::domain::explain::Recomputed;
use crate::domain::explain::compare::Comparison;
use crate::domain::explain::text::text;
use crate::domain::explain::words::Language;
use crate::domain::features::FeatureVector;
use crate::domain::hex;
use crate::domain::ids::Pseudonymizer;
use crate::domain::recorded::names::Names;
use crate::domain::recorded::names::Resolver;
use crate::domain::risk::ModelOutput;
use crate::domain::time::Deadline;
use crate::flow::ports::Clock;
use crate::flow::ports::RiskModel;
use sha2::Digest;
use sha2::Sha256;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The longest that one run of a model may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Model files in one folder at most.
const MODELS_MAX: usize = 256;

/// What to explain, and from what.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The id of the decision.
    pub id: String,
    /// Another one to compare it with.
    pub other: Option<String>,
    /// Audit files and folders of them; without any, the configured log.
    pub audit: Vec<PathBuf>,
    /// A model file, a manifest or the folder of one; the configured folder when absent.
    pub model: Option<PathBuf>,
    /// The policy; the configured one when absent.
    pub policy: Option<PathBuf>,
}

/// What is told.
#[derive(Debug)]
pub enum Told {
    /// One decision.
    One(Box<Explanation>),
    /// Two.
    Two(Box<Comparison>),
    /// No record has this id.
    Nothing(String),
}

impl Told {
    /// In sentences.
    pub fn text(&self, language: Language) -> String {
        match self {
            Self::One(explanation) => text(explanation, language),
            Self::Two(comparison) => comparison.text(language),
            Self::Nothing(_) => String::new(),
        }
    }

    /// As JSON.
    pub fn json(&self) -> Result<String, RunError> {
        let json = match self {
            Self::One(explanation) => explanation.json(),
            Self::Two(comparison) => comparison.json(),
            Self::Nothing(_) => Ok(String::new()),
        };
        json.map_err(|error| RunError::System(error.to_string()))
    }

    /// Whether a score came out different when it was computed again.
    pub fn is_different(&self) -> bool {
        let of = |one: &Explanation| matches!(one.recomputed, Recomputed::Different { .. });
        match self {
            Self::One(explanation) => of(explanation),
            Self::Two(comparison) => of(&comparison.first) || of(&comparison.second),
            Self::Nothing(_) => false,
        }
    }
}

/// What was not looked through for a record that was not found.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn passed_over(config: &Config, asked: &Asked) -> Result<Option<String>, RunError> {
    let packed = if asked.audit.is_empty() {
        records::packed_log(&config.audit_file())
    } else {
        records::packed(&asked.audit)?
    };
    Ok(records::passed_over(&packed))
}

/// Explains what was asked for.
pub fn explain(config: &Config, asked: &Asked) -> Result<Told, RunError> {
    let files = if asked.audit.is_empty() {
        records::log(&config.audit_file())
    } else {
        records::files(&asked.audit)?
    };
    let ids: Vec<&str> = std::iter::once(&asked.id)
        .chain(&asked.other)
        .map(String::as_str)
        .collect();
    let found = records::find(&files, &ids)?;
    let policy_config = Config {
        policy: PolicySettings {
            file: asked.policy.clone().or_else(|| config.policy.file.clone()),
        },
        ..config.clone()
    };
    let (policy, _) = assemble::policy(&policy_config).map_err(RunError::Config)?;
    let mut names = Names::of(&policy, resolver(config));
    let folder = asked.model.clone().unwrap_or_else(|| config.model_dir());
    let mut told = Vec::with_capacity(found.len());
    for (found, id) in found.into_iter().zip(ids) {
        let Some(found) = found else {
            return Ok(Told::Nothing(id.to_owned()));
        };
        let model = Model::of(&folder, &found.event);
        told.push(Explanation::of(
            &found.event,
            Some(&policy),
            &model.at_hand(),
            &mut names,
        ));
    }
    let second = (told.len() > 1).then(|| told.pop()).flatten();
    match (told.pop(), second) {
        (Some(first), Some(second)) => Ok(Told::Two(Box::new(Comparison::of(first, second)))),
        (Some(first), None) => Ok(Told::One(Box::new(first))),
        (None, _) => Ok(Told::Nothing(asked.id.clone())),
    }
}

/// Finds names that are known among the pseudonyms of records, where the secret of the deployment is at hand.
pub fn resolver(config: &Config) -> Option<Resolver> {
    let keys = Keys::existing(config).ok()?;
    let previous = keys.previous.as_deref();
    let previous = previous.map(|keys| keys.pseudonyms.expose().as_slice());
    let people = Pseudonymizer::new(keys.pseudonyms.expose()).with_previous(previous);
    // Records name people by names of their own; those from before schema 2 by the pseudonym itself.
    let names = people::read(&people_file(config)).ok();
    Some(Arc::new(move |domain: &str, name: &str| {
        let makers = [Some(&people), people.previous()];
        let subjects = makers.into_iter().flatten();
        subjects
            .map(|people| people.user(domain, name))
            .flat_map(|subject| {
                let name = names
                    .as_ref()
                    .map(|names| names.name(subject.0).to_string());
                name.into_iter().chain([subject.to_string()])
            })
            .collect()
    }))
}

/// Scores a row.
type Run = Box<dyn Fn(&FeatureVector) -> Option<ModelOutput>>;

/// The model that a record names, if it is in a folder.
struct Model {
    file: Option<ModelFile>,
    found: Vec<String>,
}

/// A model file and the ways to compute a score with it.
struct ModelFile {
    name: String,
    bias: Option<f32>,
    runs: Vec<(&'static str, Run)>,
}

impl Model {
    fn of(path: &Path, event: &AuditEvent) -> Self {
        let mut found = Vec::new();
        let wanted = event.model_digest.as_deref();
        for file in model_files(path) {
            let Some(digest) = digest(&file) else {
                found.push(format!("{}, which cannot be read", file.display()));
                continue;
            };
            if wanted.is_none_or(|wanted| !digest.starts_with(wanted)) {
                let short: String = digest.chars().take(16).collect();
                found.push(format!("{} ({short})", file.display()));
                continue;
            }
            let settings = LoadSettings {
                sessions: 1,
                ..LoadSettings::default()
            };
            match onnx::load_file(&file, &settings) {
                Ok(loaded) => {
                    let model = loaded.into_parts().into_iter().next();
                    let Some((_, model)) = model else { continue };
                    let native_first =
                        matches!(event.source.as_deref(), Some("native" | "stateless"));
                    let file = ModelFile {
                        name: file.display().to_string(),
                        bias: model.bias,
                        runs: runs(&model, native_first),
                    };
                    return Self {
                        file: Some(file),
                        found,
                    };
                }
                Err(error) => found.push(error.to_string()),
            }
        }
        Self { file: None, found }
    }

    fn at_hand(&self) -> ModelAtHand<'_> {
        match &self.file {
            Some(file) => ModelAtHand::There {
                file: file.name.clone(),
                bias: file.bias,
                evaluators: file
                    .runs
                    .iter()
                    .map(|(name, run)| Evaluator { name, run })
                    .collect(),
            },
            None => ModelAtHand::Missing {
                found: self.found.clone(),
            },
        }
    }
}

/// The ways to compute a score: first that of the record.
fn runs(model: &LoadedModel, native_first: bool) -> Vec<(&'static str, Run)> {
    let run = |model: &Arc<dyn RiskModel>| -> Run {
        let model = Arc::clone(model);
        Box::new(move |row| {
            let deadline = Deadline::after(SystemClock.instant(), PATIENCE);
            model.run(row, deadline).ok()
        })
    };
    let native = model.native.iter().map(|model| ("native", run(model)));
    let primary = model
        .primary
        .iter()
        .map(|model| ("onnx runtime", run(model)));
    if native_first {
        native.chain(primary).collect()
    } else {
        primary.chain(native).collect()
    }
}

/// The model files at a path: itself, or those of the folder that it is or is in.
fn model_files(path: &Path) -> Vec<PathBuf> {
    let is_model = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "onnx")
    };
    if is_model(path) {
        return vec![path.to_owned()];
    }
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(path)
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| is_model(path))
        .take(MODELS_MAX)
        .collect();
    files.sort();
    files
}

/// The SHA-256 of a file, in hexadecimal digits; `None` where it cannot be read or is too large for a model.
fn digest(file: &Path) -> Option<String> {
    let size = std::fs::metadata(file).ok()?.len();
    let bytes = (size <= MODEL_BYTES_MAX).then(|| std::fs::read(file).ok())??;
    Some(hex::encode(&Sha256::digest(&bytes)))
}

#[cfg(test)]
mod tests;
