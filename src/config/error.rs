//! What is wrong with a configuration, for its operator.

/// Why a configuration cannot be used. The text names file, key and what was expected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct ConfigError {
    /// The file, or the flag.
    pub file: String,
    /// Key, problem and remedy.
    pub problem: String,
}

impl ConfigError {
    /// An error about `key` in `file`.
    pub fn new(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            problem: problem.into(),
        }
    }
}
