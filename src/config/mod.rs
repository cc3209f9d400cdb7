//! The configuration file, read into the settings of each part. Defaults run; an unknown key is an error that names it;
//! relative paths are relative to the working directory.

/// Who is told.
pub mod alerts;

/// Records.
pub mod audit;

/// Who vouches for operators.
pub mod oidc;

/// Why it cannot be used.
mod error;

/// Flags over the file.
pub mod overrides;

/// Services of the operator's own.
pub mod resource;

/// What needs a restart.
pub mod restart;

/// Which other products are told.
pub mod shared_signals;

/// Where spans go.
pub mod traces;

/// The identity server.
mod upstream;

use crate::adapters::geo::GeoSettings;
use crate::domain::enforcement::StepUpSettings;
use crate::domain::policy::rollout::Rollout;
use crate::domain::review::ReviewSettings;
use crate::domain::route::RouteSettings;
use crate::domain::signing::SigningAlgorithm;
use crate::flow::limits::LimitSettings;
use crate::flow::score::ScoreSettings;
use crate::flow::score::breaker::BreakerSettings;
use crate::telemetry::LogFormat;
use alerts::AlertSettings;
use audit::AuditSettings;
pub use error::ConfigError;
use oidc::OidcSettings;
use resource::ResourceSettings;
use serde::Deserialize;
use shared_signals::SharedSignalSettings;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use traces::TraceSettings;
pub use upstream::ManagementSettings;
pub use upstream::UpstreamDanger;
pub use upstream::UpstreamSettings;

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The public listener.
    pub server: ServerSettings,
    /// The identity server.
    pub upstream: UpstreamSettings,
    /// The operators' listener.
    pub admin: AdminSettings,
    /// The listener that WSO2 calls.
    pub actions: ActionsSettings,
    /// Which mode applies to whom.
    pub mode: Rollout,
    /// The plan by which it comes to apply.
    pub rollout: RolloutSettings,
    /// What a stronger factor is called.
    pub step_up: StepUpSettings,
    /// How many logins may be held, and for how long.
    pub review: ReviewSettings,
    /// The policy file.
    pub policy: PolicySettings,
    /// The model.
    pub model: ModelSettings,
    /// The latency budget and what guards it.
    pub score: ScoreSettings,
    /// The memory.
    pub state: StateSettings,
    /// Address databases.
    pub geo: GeoFiles,
    /// Request limits.
    pub limits: LimitSettings,
    /// Changes to the route inventory.
    pub routes: RouteSettings,
    /// Services of the operator's own.
    pub resource: Vec<ResourceSettings>,
    /// Header fields.
    pub headers: HeaderSettings,
    /// Secrets of the gateway's own.
    pub keys: KeySettings,
    /// The keys that sign tokens and assertions.
    pub signing: SigningSettings,
    /// Records.
    pub audit: AuditSettings,
    /// Who is told of which decisions.
    pub alerts: AlertSettings,
    /// Which other products are told of users.
    pub shared_signals: SharedSignalSettings,
    /// Where spans go.
    pub traces: TraceSettings,
    /// Logs.
    pub log: LogSettings,
}

/// `[server]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port of the public listener.
    pub listen: SocketAddr,
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// Host names that are answered; empty for all.
    pub hosts: Vec<String>,
    /// Networks whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<String>,
    /// Seconds for a whole TLS handshake.
    pub handshake_timeout_seconds: u64,
    /// Seconds within which the first head of a connection must have arrived.
    pub head_timeout_seconds: u64,
    /// Seconds within which a body on a scored door must have arrived, and another one must have come at a least rate.
    pub body_timeout_seconds: u64,
    /// Seconds within which a client must take each piece of an answer.
    pub write_timeout_seconds: u64,
    /// Seconds after an answer within which the next head must have arrived.
    pub keepalive_seconds: u64,
    /// Connections in all; 0 for what the limit of open files allows.
    pub connections_max: usize,
    /// Connections from one address; 0 for no limit.
    pub connections_per_address_max: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Seconds after SIGTERM during which requests are still taken while readiness says no.
    pub drain_seconds: u64,
    /// Seconds that requests under way then get to end.
    pub grace_seconds: u64,
    /// Certificate and key; without them the listener is plain.
    pub tls: Option<TlsFiles>,
}

/// `[server.tls]` and `[actions.tls]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// The authority of client certificates, PEM; none is asked for when absent.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client must show one; `required` when absent.
    pub client_certificates: Option<ClientCertificates>,
}

/// Whether a client that is asked for a certificate must have one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// One that is shown must be good.
    Optional,
    /// There must be a good one.
    Required,
}

/// `[admin]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Address and port of metrics, health and the review queue.
    pub listen: SocketAddr,
    /// The file with the operators' token; `admin.token` under `data_dir` when absent, made at the first start.
    pub token_file: Option<PathBuf>,
    /// The file of those who may sign in to the console; `operators.toml` under `data_dir` when absent.
    pub operators_file: Option<PathBuf>,
    /// `https://NAME` under which browsers reach the console behind a proxy; addresses and `localhost` always do.
    pub origin: Option<String>,
    /// Names under which metrics and the report of readiness are asked for as well.
    pub hosts: Vec<String>,
    /// The provider by which operators sign in as well; those with passwords alone when absent.
    pub oidc: Option<OidcSettings>,
}

/// `[actions]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ActionsSettings {
    /// Address and port that WSO2 calls.
    pub listen: SocketAddr,
    /// A file with the secret that WSO2 shows; without it the listener is not opened.
    pub secret_file: Option<PathBuf>,
    /// The secret before this one, while it is being exchanged.
    pub previous_secret_file: Option<PathBuf>,
    /// Certificate and key; without them the listener is plain, which is for loopback.
    pub tls: Option<TlsFiles>,
}

/// `[policy]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// The policy file; the shipped policy when absent and `conf/policy.toml` is not there.
    pub file: Option<PathBuf>,
}

/// `[model]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The folder with `manifest.toml`; `conf/model` in the working directory or beside the executable when absent.
    pub dir: Option<PathBuf>,
    /// What computes the scores.
    pub evaluator: Evaluator,
    /// The ONNX Runtime library; searched for when absent.
    pub library: Option<PathBuf>,
    /// A model that is scored beside the one that answers.
    pub challenger: ChallengerSettings,
}

/// What computes the scores of a model. Where a graph has both, they are equal within 1e-6; that is proved when it is
/// loaded.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Evaluator {
    /// The native one where the graph has it, else ONNX Runtime.
    #[default]
    Auto,
    /// ONNX Runtime; the native one stands in for it.
    OnnxRuntime,
}

/// `[model.challenger]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ChallengerSettings {
    /// The folder with its `manifest.toml`; none is asked when absent.
    pub dir: Option<PathBuf>,
    /// Of how many requests in a hundred it is asked.
    pub sample_percent: u8,
}

impl Default for ChallengerSettings {
    fn default() -> Self {
        Self {
            dir: None,
            sample_percent: 100,
        }
    }
}

/// `[rollout]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSettings {
    /// The rollout file, whose stages stand in for `[mode]`; `[mode]` alone holds when absent.
    pub file: Option<PathBuf>,
}

/// `[state]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StateSettings {
    /// `embedded:`, `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`.
    pub url: String,
    /// The folder of everything that the gateway writes.
    pub data_dir: PathBuf,
    /// Milliseconds that one read from Redis may take.
    pub response_timeout_ms: u64,
    /// Milliseconds that one attempt to connect to Redis may take.
    pub connect_timeout_ms: u64,
    /// The authority that Redis' certificate is checked against, PEM.
    pub redis_ca_file: Option<PathBuf>,
    /// Our user at the Sentinels, where they have users of their own.
    pub sentinel_username: Option<String>,
    /// A file with the password of the Sentinels, where they have one of their own.
    pub sentinel_password_file: Option<PathBuf>,
    /// The breaker in front of the store.
    pub breaker: BreakerSettings,
}

/// `[geo]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct GeoFiles {
    /// MMDB with countries.
    pub country: Option<PathBuf>,
    /// MMDBs with cities and coordinates.
    pub city: Vec<PathBuf>,
    /// Autonomous systems.
    pub asn: Option<PathBuf>,
    /// Kinds of network.
    pub kinds: Option<PathBuf>,
}

/// `[headers]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderSettings {
    /// Further names that clients may not send on.
    pub reserved: Vec<String>,
    /// The signature over the risk headers.
    pub signature: SignatureSettings,
}

/// `[headers.signature]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SignatureSettings {
    /// Whether `X-Risk-Signature` is sent.
    pub enabled: bool,
    /// The id of the key, for verifiers.
    pub key_id: String,
    /// A file with the shared secret, at least 32 bytes.
    pub key_file: Option<PathBuf>,
}

/// `[keys]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// A file with the secret from which pseudonyms, device cookies and seals are derived, at least 32 bytes. Made under
    /// `data_dir` at the first start when absent. All nodes of a fleet need the same.
    pub secret_file: Option<PathBuf>,
    /// The secret before this one, while it is being exchanged: what is known under it is still found.
    pub previous_secret_file: Option<PathBuf>,
}

/// `[signing]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SigningSettings {
    /// Whether keys are made and published although nothing is signed yet. What signs brings them along by itself.
    pub enabled: bool,
    /// With what assertions are signed.
    pub algorithm: SigningAlgorithm,
    /// Whether JWT access tokens from the token endpoint get the risk and are signed anew.
    pub resign_tokens: bool,
    /// With what they are signed; with the algorithm that each has when absent.
    pub access_token_algorithm: Option<SigningAlgorithm>,
    /// The folder of the keys; `signing` under `data_dir` when absent.
    pub directory: Option<PathBuf>,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A level, or a list of `target=level`.
    pub filter: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Config {
    /// Reads a file. Every problem names the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new(&file, format!("cannot be read: {error}")))?;
        Self::parse(&text).map_err(|problem| ConfigError::new(file, problem))
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error::plain(&error))
    }

    /// The policy file that is in force, if any.
    pub fn policy_file(&self) -> Option<PathBuf> {
        let shipped = PathBuf::from("conf/policy.toml");
        self.policy
            .file
            .clone()
            .or_else(|| shipped.is_file().then_some(shipped))
    }

    /// The folder of the model.
    pub fn model_dir(&self) -> PathBuf {
        let shipped = PathBuf::from("conf/model");
        if let Some(dir) = &self.model.dir {
            return dir.clone();
        }
        let beside = || {
            let executable = std::env::current_exe().ok()?;
            executable
                .ancestors()
                .skip(1)
                .take(4)
                .map(|dir| dir.join("conf/model"))
                .find(|dir| dir.join("manifest.toml").is_file())
        };
        if shipped.join("manifest.toml").is_file() {
            shipped
        } else {
            beside().unwrap_or(shipped)
        }
    }

    /// The audit file.
    pub fn audit_file(&self) -> PathBuf {
        self.audit
            .file
            .clone()
            .unwrap_or_else(|| self.state.data_dir.join("audit.jsonl"))
    }

    /// Whether anything is signed, so that there must be keys for it.
    pub fn signs(&self) -> bool {
        let SigningSettings {
            enabled,
            resign_tokens,
            ..
        } = self.signing;
        let is_told = !self.shared_signals.receivers.is_empty();
        enabled || resign_tokens || is_told || !self.resource.is_empty()
    }

    /// The folder of the keys that sign.
    pub fn signing_dir(&self) -> PathBuf {
        let made = || self.state.data_dir.join("signing");
        self.signing.directory.clone().unwrap_or_else(made)
    }

    /// Where a node keeps which stages of the rollout have fallen back.
    pub fn falls_file(&self) -> PathBuf {
        self.state.data_dir.join("rollout-fallen.toml")
    }

    /// The file with the operators' token.
    pub fn token_file(&self) -> PathBuf {
        self.admin
            .token_file
            .clone()
            .unwrap_or_else(|| self.state.data_dir.join("admin.token"))
    }

    /// The file of those who may sign in to the console.
    pub fn operators_file(&self) -> PathBuf {
        self.admin
            .operators_file
            .clone()
            .unwrap_or_else(|| self.state.data_dir.join("operators.toml"))
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        match self.server.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}

impl From<&GeoFiles> for GeoSettings {
    fn from(files: &GeoFiles) -> Self {
        Self {
            country: files.country.clone(),
            city: files.city.clone(),
            asn: files.asn.clone(),
            ranges: files.kinds.clone(),
        }
    }
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((LOOPBACK, 8080)),
            threads: 0,
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            handshake_timeout_seconds: 10,
            head_timeout_seconds: 10,
            body_timeout_seconds: 15,
            write_timeout_seconds: 30,
            keepalive_seconds: 30,
            connections_max: 0,
            connections_per_address_max: 512,
            streams_max: 64,
            drain_seconds: 5,
            grace_seconds: 5,
            tls: None,
        }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((LOOPBACK, 9090)),
            token_file: None,
            operators_file: None,
            origin: None,
            hosts: Vec::new(),
            oidc: None,
        }
    }
}

impl Default for ActionsSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((LOOPBACK, 9091)),
            secret_file: None,
            previous_secret_file: None,
            tls: None,
        }
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "every section has its defaults in one place"
)]
impl Default for PolicySettings {
    fn default() -> Self {
        Self { file: None }
    }
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            url: "embedded:".to_owned(),
            data_dir: PathBuf::from("data"),
            response_timeout_ms: 15,
            connect_timeout_ms: 200,
            redis_ca_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            breaker: BreakerSettings::default(),
        }
    }
}

impl Default for GeoFiles {
    fn default() -> Self {
        let vendor = |name: &str| PathBuf::from("vendor/geo").join(name);
        Self {
            country: Some(vendor("country.mmdb")),
            city: vec![vendor("city-ipv4.mmdb"), vendor("city-ipv6.mmdb")],
            asn: Some(vendor("asn.csv")),
            kinds: Some(vendor("network-kinds.csv")),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_spells_out_the_defaults() {
        let shipped = Config::parse(include_str!("../../conf/riskgate.toml")).unwrap();
        assert_eq!(shipped, Config::default());
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Config::parse("[server]\nlisten_on = \"127.0.0.1:1\"\n").unwrap_err();
        assert!(
            error.contains("listen_on") && error.contains("listen"),
            "{error}"
        );
        let error = Config::parse("[server]\nlisten = \"localhost\"\n").unwrap_err();
        assert!(
            error.contains("listen") && error.contains("expected an IP address and a port"),
            "{error}"
        );
    }
}
