//! `[[resource]]`: services of the operator's own behind the gateway.

use crate::domain::resource::OnUnscored;
use crate::domain::risk::RiskLevel;
use serde::Deserialize;
use std::path::PathBuf;

/// One `[[resource]]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ResourceSettings {
    /// The path that it stands for, with everything beneath it.
    pub prefix: String,
    /// `https://host:port` or `http://host:port` of the service.
    pub upstream: String,
    /// What the service is called: the audience of the assertion.
    pub audience: String,
    /// The audiences of which a token must name one; the service itself when empty.
    #[serde(default)]
    pub token_audiences: Vec<String>,
    /// The scopes that a token must have, all of them.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Whose tokens are taken: the prefix of a realm, such as `/t/example.com`; empty for the super tenant.
    #[serde(default)]
    pub realm: String,
    /// The highest level that is let through.
    #[serde(default = "medium")]
    pub max_level: RiskLevel,
    /// What becomes of a token of whose risk nothing is known.
    #[serde(default)]
    pub on_unscored: OnUnscored,
    /// Who signs the assertion, in its own words (`iss`).
    #[serde(default = "riskgate")]
    pub issuer: String,
    /// Certificates of the authority that signed the service's certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// The chain that the service is shown when it asks for a certificate, PEM.
    pub client_certificate: Option<PathBuf>,
    /// The key of that certificate, PEM.
    pub client_key: Option<PathBuf>,
    /// Milliseconds for connecting, TLS included.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Seconds for each read of its answer.
    #[serde(default = "read_timeout_seconds")]
    pub read_timeout_seconds: u64,
    /// Seconds after which an idle connection to it is closed.
    #[serde(default = "idle_timeout_seconds")]
    pub idle_timeout_seconds: u64,
    /// With what WSO2 is asked about tokens that are no JWTs; without it they are refused.
    pub introspection: Option<IntrospectionSettings>,
}

/// `[resource.introspection]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionSettings {
    /// A client of WSO2 that may introspect tokens.
    pub client_id: String,
    /// A file with its secret.
    pub secret_file: PathBuf,
}

fn medium() -> RiskLevel {
    RiskLevel::Medium
}

fn riskgate() -> String {
    "riskgate".to_owned()
}

fn connect_timeout_ms() -> u64 {
    800
}

fn read_timeout_seconds() -> u64 {
    60
}

fn idle_timeout_seconds() -> u64 {
    15
}
