//! Loads the risk model: reads the manifest, checks everything that can be checked before a request depends on it, and
//! hands out the model in ONNX Runtime and its native twin. A model that fails a check is refused as a whole.

/// What a model file says of itself.
mod about;

/// What may stand in a model file.
pub(crate) mod graph;

/// The manifest and the golden vectors.
pub mod manifest;

/// Checks that run the model.
mod proof;

/// The shared library.
mod runtime;

/// The model in ONNX Runtime.
mod session;

/// Deadlines of runs.
mod watchdog;

use crate::adapters::native::NativeError;
use crate::adapters::native::NativeModel;
use crate::adapters::onnx::graph::ContractError;
use crate::adapters::onnx::graph::Model;
use crate::adapters::onnx::manifest::GOLDEN_BYTES_MAX;
use crate::adapters::onnx::manifest::Golden;
use crate::adapters::onnx::manifest::MANIFEST;
use crate::adapters::onnx::manifest::MANIFEST_BYTES_MAX;
use crate::adapters::onnx::manifest::Manifest;
use crate::adapters::onnx::manifest::ManifestError;
use crate::adapters::onnx::manifest::ManifestModel;
use crate::adapters::onnx::runtime::Runtime;
use crate::domain::drift::Baseline;
use crate::domain::features::FeatureSchema;
use crate::domain::kind::RequestKind;
use crate::flow::ports::ModelIdentity;
use crate::flow::ports::RiskModel;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub use crate::adapters::onnx::about::About;
pub use crate::adapters::onnx::about::about;
pub use crate::adapters::onnx::proof::ProofError;
pub use crate::adapters::onnx::runtime::RuntimeError;
pub use crate::adapters::onnx::session::OnnxModel;

/// Bytes of a model file at most, unless set otherwise.
pub const MODEL_BYTES_MAX: u64 = 1024 * 1024;
/// Sessions at most, however many cores there are: each holds the model.
const SESSIONS_MAX: usize = 16;

/// How to load a model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadSettings {
    /// The ONNX Runtime library; without it `ORT_DYLIB_PATH`, `vendor/onnxruntime/` under the working directory, the
    /// directory of the executable and the system are tried.
    pub library: Option<PathBuf>,
    /// Bytes of the model file at most.
    pub model_bytes_max: u64,
    /// Runs at the same time: one session each.
    pub sessions: usize,
    /// Whether the native evaluator answers where there is one. ONNX Runtime is then asked at load alone, whether both agree,
    /// and gets one session.
    pub is_native_first: bool,
}

/// A model as its files are, not evaluated yet: the manifest was read, and the file is the one that it names.
pub struct Candidate {
    file: PathBuf,
    bytes: Vec<u8>,
    golden_file: PathBuf,
    golden: Vec<u8>,
    runtime: Result<Runtime, RuntimeError>,
    basis: Basis,
}

/// Everything that the proof of a model depends on. What has the same basis as a model that was proved is proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Basis {
    kind: RequestKind,
    identity: ModelIdentity,
    /// The SHA-256 of the golden vectors.
    golden: String,
    settings: LoadSettings,
    /// Why there is no ONNX Runtime, where there is none: it may be there another time.
    missing: Option<String>,
}

/// The models of one manifest, each of which passed every check.
#[derive(Debug)]
pub struct LoadedModels(Vec<(RequestKind, LoadedModel)>);

/// A model that passed every check.
pub struct LoadedModel {
    /// The model in ONNX Runtime; `None` when the library is missing.
    pub primary: Option<Arc<dyn RiskModel>>,
    /// The same model, evaluated natively; `None` when its graph is not the additive one. One of the two is always there.
    pub native: Option<Arc<dyn RiskModel>>,
    /// Which model it is.
    pub identity: ModelIdentity,
    /// The log-odds of a typical login, which the contributions add to; `None` when the graph is not the additive one.
    pub bias: Option<f32>,
    /// How features and scores were distributed when the model was made; `None` when it does not say.
    pub baseline: Option<Baseline>,
    /// What the file says of itself.
    pub about: About,
    /// Golden rows that it reproduces; 0 when none came with it.
    pub golden_rows: usize,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// Why there is no ONNX Runtime, where there is none.
    pub missing: Option<String>,
    /// The 99th percentile of a run over the golden rows: whether the model is quick enough to be run inline.
    pub golden_p99: Duration,
}

/// Why a model is refused. Names the file at fault.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {fault}", file.display())]
pub struct ModelLoadError {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: Box<ModelFault>,
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    /// The file does not keep the contract of a risk model.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The file is not the one that the manifest names.
    #[error("has the sha-256 `{found}`; expected `{expected}` as in the manifest")]
    Digest {
        /// As in the manifest.
        expected: String,
        /// Of the file.
        found: String,
    },
    /// The library is missing, and the graph is not one that can be evaluated without.
    #[error("cannot be evaluated: {runtime}; and natively not, since it {form}")]
    Evaluator {
        /// Why there is no ONNX Runtime.
        runtime: RuntimeError,
        /// Why there is no native evaluator.
        form: NativeError,
    },
    /// The manifest, the golden vectors or the model cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest is of another kind of model, or the golden vectors of another model.
    #[error("is for {found}; expected {expected}")]
    Mismatch {
        /// What this build or the manifest says.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The model does not do what it promises.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// ONNX Runtime refuses the model.
    #[error("is refused by onnx runtime: {0}")]
    Session(String),
}

impl Default for LoadSettings {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // One more than the workers, for the thread that runs what a breaker moved away from them.
        Self {
            library: None,
            model_bytes_max: MODEL_BYTES_MAX,
            sessions: (cores + 1).min(SESSIONS_MAX),
            is_native_first: false,
        }
    }
}

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel")
            .field("primary", &self.primary.is_some())
            .field("native", &self.native.is_some())
            .field("identity", &self.identity)
            .field("bias", &self.bias)
            .field("warnings", &self.warnings)
            .field("golden_p99", &self.golden_p99)
            .finish()
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("file", &self.file)
            .field("basis", &self.basis)
            .finish_non_exhaustive()
    }
}

impl Candidate {
    /// The kind of request that the model is for.
    pub fn kind(&self) -> RequestKind {
        self.basis.kind
    }

    /// What its proof depends on.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Makes the evaluators and proves them: by the golden vectors, and by everything else that can be tried beforehand.
    ///
    /// # Errors
    /// The model does not keep the contract, or does not do what it promises.
    pub fn prove(&self) -> Result<LoadedModel, ModelLoadError> {
        let golden = read_golden(&self.golden, &self.basis.identity.version)
            .map_err(at(&self.golden_file))?;
        let Basis { kind, identity, .. } = &self.basis;
        let (golden, settings) = (Some(&golden), &self.basis.settings);
        evaluators(
            &self.bytes,
            (*kind, identity.clone()),
            golden,
            self.runtime.clone(),
            settings,
        )
        .map_err(at(&self.file))
    }
}

impl LoadedModels {
    /// The models with the kinds that they are for; one is for logins.
    pub fn into_parts(self) -> Vec<(RequestKind, LoadedModel)> {
        self.0
    }

    /// The model for `kind`, if it has one of its own.
    pub fn into_kind(self, kind: RequestKind) -> Option<LoadedModel> {
        let mut parts = self.0.into_iter();
        parts.find_map(|(found, model)| (found == kind).then_some(model))
    }
}

/// Loads the models of `path` (a directory with `manifest.toml`, or the manifest itself) with the settings as they come.
/// `library` names the ONNX Runtime library.
pub fn load(path: &Path, library: Option<&Path>) -> Result<LoadedModels, ModelLoadError> {
    load_with(
        path,
        &LoadSettings {
            library: library.map(Path::to_owned),
            ..LoadSettings::default()
        },
    )
}

/// Loads the models of `path` with `settings`: all of them, or none. A missing or broken library is a warning as long as
/// the models can be evaluated natively; anything wrong with one of them is an error.
pub fn load_with(path: &Path, settings: &LoadSettings) -> Result<LoadedModels, ModelLoadError> {
    let candidates = read(path, settings)?;
    let one = |candidate: Candidate| Ok((candidate.kind(), candidate.prove()?));
    let loaded: Result<Vec<_>, _> = candidates.into_iter().map(one).collect();
    loaded.map(LoadedModels)
}

/// Reads the files of the models of `path` (a directory with `manifest.toml`, or the manifest itself), and proves nothing.
///
/// # Errors
/// A file cannot be read, is too large, or is not the one that the manifest names.
pub fn read(path: &Path, settings: &LoadSettings) -> Result<Vec<Candidate>, ModelLoadError> {
    let manifest_file = if path.is_dir() {
        path.join(MANIFEST)
    } else {
        path.to_owned()
    };
    let manifest = read_manifest(&manifest_file).map_err(at(&manifest_file))?;
    let runtime = find_runtime(settings);
    let one = |model: ManifestModel| {
        let golden_file = manifest_file.with_file_name(&model.golden);
        let golden = manifest::read_bounded(&golden_file, GOLDEN_BYTES_MAX)
            .map_err(ModelFault::from)
            .map_err(at(&golden_file))?;
        let file = manifest_file.with_file_name(&model.file);
        let (bytes, identity) = read_model(&file, &model, settings).map_err(at(&file))?;
        Ok(Candidate {
            file,
            bytes,
            golden_file,
            basis: Basis {
                kind: model.kind,
                identity,
                golden: manifest::digest(&golden),
                settings: settings.clone(),
                missing: runtime.as_ref().err().map(ToString::to_string),
            },
            golden,
            runtime: runtime.clone(),
        })
    };
    manifest.models.into_iter().map(one).collect()
}

/// Loads a model file without manifest: its kind and version are what it says itself, and without golden vectors only
/// what can be known without them is checked.
pub fn load_file(file: &Path, settings: &LoadSettings) -> Result<LoadedModels, ModelLoadError> {
    let plain = || {
        let bytes = manifest::read_bounded(file, settings.model_bytes_max)?;
        let (kind, version) = Model::says(&bytes)?;
        let digest = manifest::digest(&bytes);
        let identity = ModelIdentity { version, digest };
        let runtime = find_runtime(settings);
        let loaded = evaluators(&bytes, (kind, identity), None, runtime, settings)?;
        Ok(LoadedModels(vec![(kind, loaded)]))
    };
    plain().map_err(at(file))
}

fn at(file: &Path) -> impl FnOnce(ModelFault) -> ModelLoadError {
    move |fault| ModelLoadError {
        file: file.to_owned(),
        fault: Box::new(fault),
    }
}

fn read_manifest(file: &Path) -> Result<Manifest, ModelFault> {
    let bytes = manifest::read_bounded(file, MANIFEST_BYTES_MAX)?;
    let manifest = Manifest::parse(&String::from_utf8_lossy(&bytes))?;
    let schema = FeatureSchema::current();
    if manifest.schema_version != schema.version {
        return Err(ModelFault::Mismatch {
            expected: format!("schema {}", schema.version),
            found: format!("schema {}", manifest.schema_version),
        });
    }
    Ok(manifest)
}

fn read_golden(bytes: &[u8], version: &str) -> Result<Golden, ModelFault> {
    let golden = Golden::parse(bytes)?;
    if golden.model_version != version {
        return Err(ModelFault::Mismatch {
            expected: format!("model version `{version}`"),
            found: format!("model version `{}`", golden.model_version),
        });
    }
    Ok(golden)
}

/// The bytes of the file that the manifest names, and which model they are.
fn read_model(
    file: &Path,
    listed: &ManifestModel,
    settings: &LoadSettings,
) -> Result<(Vec<u8>, ModelIdentity), ModelFault> {
    let bytes = manifest::read_bounded(file, settings.model_bytes_max)?;
    let found = manifest::digest(&bytes);
    if !found.eq_ignore_ascii_case(&listed.sha256) {
        return Err(ModelFault::Digest {
            expected: listed.sha256.clone(),
            found,
        });
    }
    let identity = ModelIdentity {
        version: listed.version.clone(),
        digest: found,
    };
    Ok((bytes, identity))
}

fn find_runtime(settings: &LoadSettings) -> Result<Runtime, RuntimeError> {
    let runtime = runtime::runtime(settings.library.as_deref())?;
    tracing::debug!(library = %runtime.library.display(), "onnx runtime is loaded");
    Ok(runtime)
}

fn evaluators(
    bytes: &[u8],
    (kind, identity): (RequestKind, ModelIdentity),
    golden: Option<&Golden>,
    runtime: Result<Runtime, RuntimeError>,
    settings: &LoadSettings,
) -> Result<LoadedModel, ModelFault> {
    // What is handed to ONNX Runtime below are these bytes, not the file, which may change meanwhile.
    let model = Model::read(bytes, kind, &identity.version)?;

    let native = NativeModel::from_model(&model, identity.clone());
    let mut warnings = Vec::new();
    let mut missing = None;
    let primary = match (runtime, &native) {
        (Ok(runtime), _) => {
            let sessions = match &native {
                Ok(_) if settings.is_native_first => 1,
                _ => settings.sessions,
            };
            let opened = OnnxModel::open(&runtime, bytes, identity.clone(), sessions);
            Some(opened.map_err(ModelFault::Session)?)
        }
        (Err(error), Ok(_)) => {
            missing = Some(error.to_string());
            None
        }
        (Err(runtime), Err(form)) => {
            return Err(ModelFault::Evaluator {
                runtime,
                form: form.clone(),
            });
        }
    };
    if let Err(error) = &native {
        warnings.push(format!(
            "no native evaluator stands in for the model, since it {error}"
        ));
    }
    let statistics = (model.metadata("baseline"), model.metadata("score_baseline"));
    let baseline = Baseline::parse(statistics.0, statistics.1).unwrap_or_else(|error| {
        warnings.push(format!(
            "the statistics of the model are left out: the file {error}"
        ));
        None
    });
    let native = native.ok();
    let bias = native.as_ref().map(NativeModel::bias);
    let primary = primary.map(|model| Arc::new(model) as Arc<dyn RiskModel>);
    let native = native.map(|model| Arc::new(model) as Arc<dyn RiskModel>);
    let mut golden_p99 = Duration::ZERO;
    // The native evaluator comes first: the time that counts is that of the model that answers.
    for model in native.iter().chain(&primary) {
        golden_p99 = match golden {
            Some(golden) => proof::prove(model.as_ref(), kind, bias, golden)?,
            None => proof::prove_without_golden(model.as_ref(), kind)?,
        };
    }
    Ok(LoadedModel {
        primary,
        native,
        identity,
        bias,
        about: About::of(&model, bytes.len()),
        golden_rows: golden.map_or(0, |golden| golden.rows.len()),
        baseline,
        warnings,
        missing,
        golden_p99,
    })
}
