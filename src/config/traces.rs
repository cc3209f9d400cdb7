//! `[traces]`: where spans go.

use serde::Deserialize;
use std::path::PathBuf;

/// `[traces]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// The traces endpoint of a collector (OTLP over HTTP, JSON). Nothing is traced when absent.
    pub url: Option<String>,
    /// Certificates of the authority that signed the collector's certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// Of how many requests in a hundred, 0 to 100.
    pub sample_percent: f64,
    /// What the gateway is called in traces.
    pub service: String,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            url: None,
            ca_file: None,
            sample_percent: 1.0,
            service: "riskgate".to_owned(),
        }
    }
}
