//! `riskgate model`: what an operator or a data scientist does with a model file.

/// `riskgate model eval`.
pub mod eval;

/// Events and records as they pass.
mod course;

/// Areas, thresholds, intervals.
mod curves;

/// What is counted.
mod figures;

/// `riskgate model inspect`.
pub mod inspect;

/// Rows of an audit log.
pub(in crate::app) mod recorded;

/// The figures in words.
mod report;

/// One row per event, for the trainer.
mod rows;

use crate::adapters::onnx;
use crate::adapters::onnx::LoadSettings;
use crate::adapters::onnx::LoadedModels;
use crate::app::RunError;
use crate::config::ConfigError;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Loads the models at `path`: of one model file, of a manifest or of the folder of one.
pub(in crate::app) fn load(
    path: &Path,
    library: Option<PathBuf>,
) -> Result<LoadedModels, RunError> {
    let settings = LoadSettings {
        library,
        sessions: 1,
        ..LoadSettings::default()
    };
    let is_model = path
        .extension()
        .is_some_and(|extension| extension == "onnx");
    let loaded = if is_model {
        onnx::load_file(path, &settings)
    } else {
        onnx::load_with(path, &settings)
    };
    loaded.map_err(|error| {
        let problem = error.fault.to_string();
        wrong(&error.file, problem)
    })
}

/// Something is wrong with a file that the user named.
pub(in crate::app) fn wrong(file: &Path, problem: impl Into<String>) -> RunError {
    RunError::Config(vec![ConfigError::new(file.display().to_string(), problem)])
}

/// A file that the user named for what comes out cannot be written.
pub(in crate::app) fn unwritable(path: &Path, error: &io::Error) -> RunError {
    RunError::System(format!("`{}` cannot be written: {error}", path.display()))
}
