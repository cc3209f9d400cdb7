//! `[alerts]`: who is told of which decisions.

use crate::domain::policy::decision::Verdict;
use serde::Deserialize;
use std::path::PathBuf;

/// `[alerts]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// Where messages go: `https://`, or `http://` and an address of loopback. Nobody is told when absent.
    pub url: Option<String>,
    /// A file with the secret that signs messages, at least 32 bytes.
    pub secret_file: Option<PathBuf>,
    /// Certificates of the authority that signed the receiver's certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// The verdicts that are told.
    pub verdicts: Vec<Verdict>,
    /// The score from which on a decision is told whatever the verdict, 1 to 100; 0 for none.
    pub score_min: u8,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            url: None,
            secret_file: None,
            ca_file: None,
            verdicts: vec![Verdict::Review, Verdict::Block],
            score_min: 50,
        }
    }
}
