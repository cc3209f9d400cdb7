//! The models of a folder, ready to score: loaded and proved, or taken over from the snapshot before as long as nothing has
//! changed that their proof depends on. A model with another byte, golden vector or setting is never taken over.

use crate::adapters::onnx;
use crate::adapters::onnx::Basis;
use crate::adapters::onnx::Candidate;
use crate::adapters::onnx::LoadSettings;
use crate::adapters::onnx::ModelLoadError;
use crate::adapters::short_file;
use crate::config::Config;
use crate::config::Evaluator;
use crate::flow::hindsight::Challenger;
use crate::flow::score::ModelSet;
use crate::flow::score::Models;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A model is quick when its golden rows take less than this share of the budget.
const QUICK_SHARE: u32 = 10;
/// What the makers of the models say of them, beside the models.
pub(in crate::app) const CARD: &str = "CARD.md";
/// The longest card that is shown, in bytes.
const CARD_BYTES_MAX: u64 = 128 * 1024;
/// A busy machine can make a quick model look slow; it gets another chance.
const TRIES: u32 = 3;

/// The models of one folder.
#[derive(Debug)]
pub struct Loaded {
    /// To score with.
    pub models: Models,
    /// How they are doing: `None` when all is well.
    pub degraded: Option<String>,
    /// The same, for the next snapshot.
    pub proved: Proved,
}

/// The models of one snapshot with what they were proved by: at most one for each kind of request, and as many of the
/// challenger's.
#[derive(Clone, Debug, Default)]
pub struct Proved {
    models: Vec<ProvedModel>,
    anew: usize,
}

#[derive(Clone, Debug)]
struct ProvedModel {
    basis: Basis,
    set: ModelSet,
    golden_p99: Duration,
    missing: Option<String>,
    warnings: Vec<String>,
}

impl Loaded {
    /// No models, and why.
    pub fn nothing(why: String) -> Self {
        Self {
            models: Models::missing(),
            degraded: Some(why),
            proved: Proved::default(),
        }
    }
}

impl Proved {
    /// How many of them were loaded and proved for this snapshot; the others were taken over.
    pub fn anew(&self) -> usize {
        self.anew
    }

    /// The model with this basis, unless it looked slow, which may have been the machine and is timed once more, or hangs.
    fn of(&self, basis: &Basis, budget: Duration) -> Option<ProvedModel> {
        let mut models = self.models.iter();
        let found = models.find(|model| model.basis == *basis)?;
        (!found.seems_slow(budget) && !found.hangs()).then(|| found.clone())
    }
}

impl ProvedModel {
    fn prove(candidate: &Candidate, is_native_first: bool) -> Result<Self, ModelLoadError> {
        let loaded = candidate.prove()?;
        let native_first = is_native_first && loaded.native.is_some();
        Ok(Self {
            basis: candidate.basis().clone(),
            set: ModelSet {
                // The library is not missed, and its sessions would only take up memory.
                primary: loaded.primary.filter(|_| !native_first),
                native: loaded.native,
                identity: Arc::new(loaded.identity),
                native_first,
                quick: false,
                baseline: loaded.baseline.map(Arc::new),
            },
            golden_p99: loaded.golden_p99,
            missing: loaded.missing.filter(|_| !native_first),
            warnings: loaded.warnings,
        })
    }

    fn is_quick(&self, budget: Duration) -> bool {
        self.golden_p99 * QUICK_SHARE < budget
    }

    fn hangs(&self) -> bool {
        let primary = self.set.primary.as_ref();
        primary.is_some_and(|model| model.hangs())
    }

    fn seems_slow(&self, budget: Duration) -> bool {
        self.set.primary.is_some() && !self.is_quick(budget)
    }

    /// What is to be said of it, if not all is well.
    fn degraded(&self, budget: Duration) -> Option<String> {
        if self.set.native_first {
            None
        } else if self.set.primary.is_none() {
            Some("ONNX Runtime is missing: the native evaluator answers".to_owned())
        } else if self.seems_slow(budget) {
            let took = self.golden_p99;
            Some(format!("the model takes {took:?}: it runs in the pool"))
        } else {
            None
        }
    }
}

/// The models of `dir`; those of `before` where they are the same.
///
/// # Errors
/// One of them cannot be used: none of them is.
pub fn load(
    config: &Config,
    dir: &Path,
    before: &Proved,
    warnings: &mut Vec<String>,
) -> Result<Loaded, ModelLoadError> {
    let budget = Duration::from_millis(config.score.budget_ms);
    let settings = LoadSettings {
        library: config.model.library.clone(),
        is_native_first: config.model.evaluator == Evaluator::Auto,
        ..LoadSettings::default()
    };
    let mut degraded = None;
    let mut models = Models::missing();
    let mut proved = Proved::default();
    for candidate in onnx::read(dir, &settings)? {
        let mut model = match before.of(candidate.basis(), budget) {
            Some(model) => model,
            None => {
                proved.anew += 1;
                let mut model = ProvedModel::prove(&candidate, settings.is_native_first)?;
                for _ in 1..TRIES {
                    if !model.seems_slow(budget) {
                        break;
                    }
                    model = ProvedModel::prove(&candidate, settings.is_native_first)?;
                }
                model
            }
        };
        // The budget may be another one than before.
        model.set.quick = model.is_quick(budget);
        degraded = model.degraded(budget).or(degraded);
        let missing = model
            .missing
            .iter()
            .map(|missing| format!("model.library: {missing}; {}", without_library(&model.set)));
        for warning in missing.chain(model.warnings.iter().cloned()) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        models.put(candidate.kind(), model.set.clone());
        proved.models.push(model);
    }
    match card(&dir.join(CARD)) {
        Ok(card) => models.card = card,
        Err(problem) => warnings.push(problem),
    }
    Ok(Loaded {
        models,
        degraded,
        proved,
    })
}

/// What it means that ONNX Runtime is not there, and what mends it.
fn without_library(set: &ModelSet) -> &'static str {
    match set.native {
        Some(_) => {
            "the native evaluator answers; expected the path of libonnxruntime.so (scripts/fetch-onnxruntime.sh)"
        }
        None => {
            "nothing is scored without; expected the path of libonnxruntime.so (scripts/fetch-onnxruntime.sh)"
        }
    }
}

/// The card of the models; `None` where there is none.
fn card(file: &Path) -> Result<Option<Arc<str>>, String> {
    let wrong = |problem: String| format!("`{}` is not shown: {problem}", file.display());
    match short_file::read(file, CARD_BYTES_MAX) {
        Ok(text) => Ok(Some(text.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The challenger, if one is configured; its models are added to `proved`. One that cannot be loaded is worth a warning and
/// nothing more.
pub fn challenger(
    config: &Config,
    before: &Proved,
    proved: &mut Proved,
    warnings: &mut Vec<String>,
) -> Option<Challenger> {
    let settings = &config.model.challenger;
    let dir = settings.dir.as_ref()?;
    // What there is to say of ONNX Runtime is said of the model that answers.
    match load(config, dir, before, &mut Vec::new()) {
        Ok(loaded) => {
            proved.models.extend(loaded.proved.models);
            proved.anew += loaded.proved.anew;
            Some(Challenger {
                models: loaded.models,
                sample_percent: settings.sample_percent,
            })
        }
        Err(error) => {
            warnings.push(format!("model.challenger.dir: no challenger: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::features::FeatureVector;
    use crate::domain::kind::RequestKind;
    use crate::domain::risk::ModelOutput;
    use crate::domain::time::Deadline;
    use crate::flow::ports::ModelError;
    use crate::flow::ports::ModelIdentity;
    use crate::flow::ports::RiskModel;
    use std::fs;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    /// The starter models in a folder of their own.
    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy("starter", folder.path());
        folder
    }

    fn copy(name: &str, to: &Path) {
        for file in fs::read_dir(root().join("tests/data/models").join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    fn with(budget_ms: u64, evaluator: Evaluator) -> Config {
        let mut config = Config::default();
        // Wide: what is tried is not how quick the machine is.
        config.score.budget_ms = budget_ms;
        config.model.evaluator = evaluator;
        config
    }

    fn config() -> Config {
        with(60_000, Evaluator::Auto)
    }

    fn take(config: &Config, dir: &Path, before: &Proved) -> Result<Loaded, ModelLoadError> {
        load(config, dir, before, &mut Vec::new())
    }

    #[test]
    fn a_card_is_shown_or_why_it_is_not() {
        let folder = folder();
        let file = folder.path().join(CARD);
        let load_with = |write: &dyn Fn()| {
            write();
            let mut warnings = Vec::new();
            let loaded = load(&config(), folder.path(), &Proved::default(), &mut warnings);
            warnings.retain(|warning| warning.contains(CARD));
            (loaded.unwrap().models.card, warnings.join("; "))
        };
        let (card, warned) = load_with(&|| fs::write(&file, "# Ours").unwrap());
        assert_eq!((card.as_deref(), warned.as_str()), (Some("# Ours"), ""));
        // The models serve without it.
        let (card, warned) = load_with(&|| fs::remove_file(&file).unwrap());
        assert_eq!((card, warned.as_str()), (None, ""));
        let (card, warned) = load_with(&|| fs::write(&file, vec![b'x'; 140_000]).unwrap());
        assert!(
            card.is_none() && warned.contains("more than 131072 bytes"),
            "{warned}"
        );
        let (card, warned) = load_with(&|| fs::write(&file, [0xff, 0xfe]).unwrap());
        assert!(card.is_none() && warned.contains("UTF-8"), "{warned}");
        let (card, warned) = load_with(&|| {
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
        });
        assert!(
            card.is_none() && warned.contains("is not shown"),
            "{warned}"
        );
    }

    /// For each kind, whether both have the very same evaluator.
    fn same(a: &Loaded, b: &Loaded) -> Vec<(RequestKind, bool)> {
        let each = a.models.iter().zip(b.models.iter());
        each.map(|((kind, a), (other, b))| {
            assert_eq!(kind, other);
            let (a, b) = (a.native.as_ref().unwrap(), b.native.as_ref().unwrap());
            (kind, Arc::ptr_eq(a, b))
        })
        .collect()
    }

    fn all(is_same: bool) -> Vec<(RequestKind, bool)> {
        [RequestKind::Login, RequestKind::Token, RequestKind::M2m]
            .map(|kind| (kind, is_same))
            .to_vec()
    }

    #[test]
    fn models_that_did_not_change_are_taken_over() {
        let folder = folder();
        let first = take(&config(), folder.path(), &Proved::default()).unwrap();
        assert_eq!(first.proved.anew(), 3);
        // Files of another age, and at another place, are the same models.
        let elsewhere = tempfile::tempdir().unwrap();
        copy("starter", elsewhere.path());
        for dir in [folder.path(), elsewhere.path()] {
            let second = take(&config(), dir, &first.proved).unwrap();
            assert_eq!(second.proved.anew(), 0);
            assert_eq!(same(&first, &second), all(true));
            let third = take(&config(), dir, &second.proved).unwrap();
            assert_eq!(same(&first, &third), all(true), "again and again");
        }
        let unknown = take(&config(), folder.path(), &Proved::default()).unwrap();
        assert_eq!(same(&first, &unknown), all(false));
    }

    #[test]
    fn a_model_that_changed_is_proved_and_the_others_are_taken_over() {
        let folder = folder();
        let first = take(&config(), folder.path(), &Proved::default()).unwrap();
        // Golden vectors in another spelling are other ones.
        let golden = folder.path().join("golden-token.json");
        let text = fs::read_to_string(&golden).unwrap();
        fs::write(&golden, format!("{text}\n")).unwrap();
        let second = take(&config(), folder.path(), &first.proved).unwrap();
        assert_eq!(second.proved.anew(), 1);
        let only_token = [
            (RequestKind::Login, true),
            (RequestKind::Token, false),
            (RequestKind::M2m, true),
        ];
        assert_eq!(same(&first, &second), only_token);

        // A row that the model does not give back is found, whatever was proved before.
        let wrong = text.replacen("\"probability\":0.", "\"probability\":0.9", 1);
        assert!(wrong != text, "nothing was changed");
        fs::write(&golden, wrong).unwrap();
        let fault = take(&config(), folder.path(), &second.proved).unwrap_err();
        assert!(fault.to_string().contains("golden row"), "{fault}");
    }

    #[test]
    fn a_damaged_file_is_refused_though_its_model_is_known() {
        let folder = folder();
        let first = take(&config(), folder.path(), &Proved::default()).unwrap();
        let file = folder.path().join("risk-m2m-0.1.0.onnx");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        let fault = take(&config(), folder.path(), &first.proved).unwrap_err();
        assert!(fault.to_string().contains("sha-256"), "{fault}");
        fs::remove_file(&file).unwrap();
        let fault = take(&config(), folder.path(), &first.proved).unwrap_err();
        assert!(fault.to_string().contains("cannot be read"), "{fault}");
        copy("starter", folder.path());
        let again = take(&config(), folder.path(), &first.proved).unwrap();
        assert_eq!(same(&first, &again), all(true));
    }

    #[test]
    fn another_setting_is_a_reason_to_prove() {
        let folder = folder();
        let first = take(&config(), folder.path(), &Proved::default()).unwrap();
        let other = with(60_000, Evaluator::OnnxRuntime);
        let second = take(&other, folder.path(), &first.proved).unwrap();
        assert_eq!(second.proved.anew(), 3);
        assert!(second.models.iter().all(|(_, model)| !model.native_first));
        assert!(first.models.iter().all(|(_, model)| model.native_first));

        let mut other = config();
        other.model.library = Some(folder.path().join("no-library.so"));
        let third = take(&other, folder.path(), &first.proved).unwrap();
        assert_eq!(third.proved.anew(), 3);
    }

    /// A model that runs for ever.
    struct Hanging(ModelIdentity);

    impl RiskModel for Hanging {
        fn run(&self, _: &FeatureVector, _: Deadline) -> Result<ModelOutput, ModelError> {
            Err(ModelError::Timeout)
        }

        fn identity(&self) -> &ModelIdentity {
            &self.0
        }

        fn hangs(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_model_that_hangs_is_opened_anew() {
        let folder = folder();
        let config = with(60_000, Evaluator::OnnxRuntime);
        let mut first = take(&config, folder.path(), &Proved::default()).unwrap();
        let second = take(&config, folder.path(), &first.proved).unwrap();
        assert_eq!(second.proved.anew(), 0);

        let set = &mut first.proved.models[0].set;
        set.primary = Some(Arc::new(Hanging((*set.identity).clone())));
        let third = take(&config, folder.path(), &first.proved).unwrap();
        assert_eq!(third.proved.anew(), 1);
        let mut primaries = third
            .models
            .iter()
            .filter_map(|(_, set)| set.primary.as_ref());
        assert!(primaries.all(|model| !model.hangs()));
    }

    #[test]
    fn what_is_quick_is_told_by_the_budget_of_today() {
        let folder = folder();
        let first = take(&config(), folder.path(), &Proved::default()).unwrap();
        assert!(first.models.login.quick);
        // The native evaluator answers whatever it takes; of ONNX Runtime that would be a reason to time it once more.
        let tight = with(0, Evaluator::Auto);
        let second = take(&tight, folder.path(), &first.proved).unwrap();
        assert_eq!(
            (second.proved.anew(), second.models.login.quick),
            (0, false)
        );
        assert_eq!(same(&first, &second), all(true));
    }

    #[test]
    fn the_challenger_is_taken_over_as_well() {
        let folder = folder();
        let mut config = config();
        let nothing = Proved::default();
        config.model.challenger.dir = Some(root().join("conf/model"));
        let mut proved = take(&config, folder.path(), &nothing).unwrap().proved;
        let mut warnings = Vec::new();
        let first = challenger(&config, &nothing, &mut proved, &mut warnings).unwrap();
        assert_eq!((proved.anew(), warnings.len()), (6, 0), "{warnings:?}");

        let mut again = take(&config, folder.path(), &proved).unwrap().proved;
        let second = challenger(&config, &proved, &mut again, &mut warnings).unwrap();
        assert_eq!(again.anew(), 0);
        let native = |challenger: &Challenger| challenger.models.login.native.clone().unwrap();
        assert!(Arc::ptr_eq(&native(&first), &native(&second)));

        config.model.challenger.dir = Some(folder.path().join("nowhere"));
        assert!(challenger(&config, &proved, &mut again, &mut warnings).is_none());
        assert!(
            warnings
                .iter()
                .any(|text| text.starts_with("model.challenger.dir: no challenger"))
        );
    }
}
