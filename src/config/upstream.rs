//! `[upstream]`: the identity server. Settings alone.

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[upstream]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `https://host:port` or `http://host:port` of WSO2 IS.
    pub url: String,
    /// Certificates of the authority that signed its certificate, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// The chain that it is shown when it asks for a certificate, PEM.
    pub client_certificate: Option<PathBuf>,
    /// The key of that certificate, PEM.
    pub client_key: Option<PathBuf>,
    /// Milliseconds for connecting, TLS included.
    pub connect_timeout_ms: u64,
    /// Seconds for each read of its answer.
    pub read_timeout_seconds: u64,
    /// Seconds after which an idle connection to it is closed.
    pub idle_timeout_seconds: u64,
    /// Requests that may be under way to it, and to each service.
    pub requests_max: usize,
    /// Whether POST requests go over connections that were used before.
    pub reuse_for_posts: bool,
    /// Hours for which a refresh token is known after its latest use: what WSO2 lets it live.
    pub refresh_token_hours: u64,
    /// Switches that take protection away.
    pub danger: UpstreamDanger,
    /// With what the sessions of a user are ended.
    pub management: Option<ManagementSettings>,
}

/// `[upstream.management]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ManagementSettings {
    /// A client of WSO2 with the scope `internal_session_delete`.
    pub client_id: String,
    /// A file with its secret.
    pub secret_file: PathBuf,
    /// Whether a user's sessions are ended when an analyst confirms a decision about them as compromised.
    #[serde(default)]
    pub end_sessions: bool,
}

/// `[upstream.danger]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamDanger {
    /// Takes any certificate: whoever is on the way can read every password.
    pub accept_any_certificate: bool,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            url: "https://localhost:9443".to_owned(),
            ca_file: None,
            client_certificate: None,
            client_key: None,
            connect_timeout_ms: 800,
            read_timeout_seconds: 60,
            idle_timeout_seconds: 15,
            requests_max: 200,
            reuse_for_posts: true,
            refresh_token_hours: 24,
            danger: UpstreamDanger::default(),
            management: None,
        }
    }
}

impl UpstreamSettings {
    /// How long a refresh token is known after its latest use.
    pub fn refresh_token_lifetime(&self) -> Duration {
        Duration::from_secs(self.refresh_token_hours.saturating_mul(3600))
    }
}
