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

/// What the parser says, without names of Rust's types.
pub(super) fn plain(error: &toml::de::Error) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("expected usize", WHOLE),
        ("expected u64", WHOLE),
        ("expected u32", WHOLE),
        ("expected u16", WHOLE),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("invalid socket address syntax", ADDRESS),
        ("expected socket address", ADDRESS),
        (
            "expected a sequence",
            "expected a list, such as `[\"a\", \"b\"]`",
        ),
    ];
    const ADDRESS: &str = "expected an IP address and a port, such as `127.0.0.1:8080`";
    const WHOLE: &str = "expected a whole number, 0 or more";
    let text = error.to_string();
    let text = text.trim_end();
    let word = WORDS.iter().find_map(|(from, to)| {
        let before = text.strip_suffix(from)?;
        Some(format!("{before}{to}"))
    });
    word.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn what_was_expected_is_said_in_words() {
        for (text, expected) in [
            (
                "server.threads = 'four'",
                "expected a whole number, 0 or more",
            ),
            ("score.budget_ms = -1", "expected a whole number, 0 or more"),
            (
                "mode.percentage = 300",
                "expected a whole number from 0 to 255",
            ),
            (
                "server.listen = 'localhost:8080'",
                "such as `127.0.0.1:8080`",
            ),
            ("server.listen = 8080", "such as `127.0.0.1:8080`"),
            (
                "server.hosts = 'localhost'",
                "expected a list, such as `[\"a\", \"b\"]`",
            ),
            (
                "server.listen = '127.0.0.1:99999'",
                "such as `127.0.0.1:8080`",
            ),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.ends_with(expected), "{error}");
            assert!(error.contains(text), "the line is shown: {error}");
        }
    }
}
