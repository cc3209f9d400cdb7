//! Finds and loads the ONNX Runtime library, once per process. Links nothing at build time and never panics when the
//! library is missing, too old or none at all: the caller goes on without it.

use ort::environment::Environment;
use ort::logging::LogLevel;
use parking_lot::Mutex;
use std::env;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The variable that names the library; the same that the `ort` crate reads.
const VARIABLE: &str = "ORT_DYLIB_PATH";
/// Where `scripts/fetch-onnxruntime.sh` puts the library, relative to the working directory.
const VENDORED: &str = "vendor/onnxruntime/libonnxruntime.so";
/// The names by which the system's loader is asked.
const SYSTEM: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// The library in use.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    /// The one environment of the process.
    pub(super) environment: Environment,
    /// What the library was loaded from.
    pub(super) library: PathBuf,
}

/// Why there is no ONNX Runtime.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RuntimeError {
    /// The library was loaded, but does not start.
    #[error("onnx runtime from `{library}` does not start: {cause}")]
    Environment {
        /// What was loaded.
        library: String,
        /// What it said.
        cause: String,
    },
    /// A library was named and cannot be loaded.
    #[error("no onnx runtime in `{library}`: {cause}")]
    Library {
        /// What was named.
        library: String,
        /// What the loader said.
        cause: String,
    },
    /// Nothing was named and nothing was found.
    #[error(
        "no onnx runtime found; run `scripts/fetch-onnxruntime.sh` or name the library; tried{0}"
    )]
    NotFound(String),
}

/// The runtime: from `library` if named, else from `ORT_DYLIB_PATH`, else from where it is usually found. A library that
/// is named is the only one tried. The first library that loads stays for the life of the process.
pub(super) fn runtime(library: Option<&Path>) -> Result<Runtime, RuntimeError> {
    static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

    let named = library.map(Path::to_owned).or_else(|| {
        env::var_os(VARIABLE)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    });
    // A named file is checked even when another library is loaded already: a wrong setting must show.
    let named = named.map(|path| absolute(&path)).transpose()?;
    let mut loaded = LOADED.lock();
    if let Some(runtime) = loaded.as_ref() {
        if let Some(path) = named.filter(|path| *path != runtime.library) {
            tracing::warn!(
                library.loaded = %runtime.library.display(),
                library.named = %path.display(),
                "onnx runtime is loaded already; another library takes a restart",
            );
        }
        return Ok(runtime.clone());
    }
    let runtime = match named {
        Some(path) => open(&path).map_err(|cause| cause.into_named(&path))?,
        None => search()?,
    };
    *loaded = Some(runtime.clone());
    Ok(runtime)
}

fn search() -> Result<Runtime, RuntimeError> {
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(|dir| dir.join("libonnxruntime.so")));
    let files = [Some(PathBuf::from(VENDORED)), beside]
        .into_iter()
        .flatten()
        .filter_map(|path| path.canonicalize().ok());
    let mut tried = String::new();
    for path in files.chain(SYSTEM.map(PathBuf::from)) {
        match open(&path) {
            Ok(runtime) => return Ok(runtime),
            Err(OpenError::Environment(cause)) => {
                return Err(OpenError::Environment(cause).into_named(&path));
            }
            // Writing to a string does not fail.
            Err(OpenError::Library(cause)) => {
                write!(tried, " `{}` ({cause})", path.display()).unwrap_or(())
            }
        }
    }
    Err(RuntimeError::NotFound(tried))
}

/// The file itself: `ort` would look for a relative path beside the executable first.
fn absolute(path: &Path) -> Result<PathBuf, RuntimeError> {
    let fault = |cause: String| RuntimeError::Library {
        library: path.display().to_string(),
        cause,
    };
    let absolute = path
        .canonicalize()
        .map_err(|error| fault(error.to_string()))?;
    if absolute.is_file() {
        Ok(absolute)
    } else {
        Err(fault("not a file".to_owned()))
    }
}

enum OpenError {
    Environment(String),
    Library(String),
}

impl OpenError {
    fn into_named(self, path: &Path) -> RuntimeError {
        let library = path.display().to_string();
        match self {
            Self::Environment(cause) => RuntimeError::Environment { library, cause },
            Self::Library(cause) => RuntimeError::Library { library, cause },
        }
    }
}

fn open(path: &Path) -> Result<Runtime, OpenError> {
    // `init_from` reports what is wrong with a library; any other call into `ort` before it would panic.
    let builder = ort::init_from(path).map_err(|error| OpenError::Library(error.to_string()))?;
    let environment = builder
        .with_name("riskgate")
        .with_telemetry(false)
        .with_logger(Arc::new(
            |level, category: &str, _id: &str, _location: &str, message: &str| {
                // What matters comes back as an error, too; here it is for engineers.
                if matches!(level, LogLevel::Error | LogLevel::Fatal) {
                    tracing::debug!(onnx.category = category, "{message}");
                }
            },
        ))
        .build()
        .map_err(|error| OpenError::Environment(error.to_string()))?;
    // Lower levels would format a line for each node of each run.
    environment.set_log_level(LogLevel::Error);
    Ok(Runtime {
        environment,
        library: path.to_owned(),
    })
}
