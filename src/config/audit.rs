//! `[audit]`: where records go, how they are vouched for, and how long they are kept.

use serde::Deserialize;
use std::path::PathBuf;

/// `[audit]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// The file; `audit.jsonl` under `data_dir` when absent.
    pub file: Option<PathBuf>,
    /// Whether requests on routes that are not scored are recorded as well.
    pub passed: bool,
    /// What happens when records cannot be written.
    pub mode: AuditMode,
    /// What this node is called in records, from its first start on; a drawn name when absent.
    pub node: Option<String>,
    /// The key of people's names in records, alike on all nodes; `audit-people.key` under `data_dir` when absent.
    pub people_key_file: Option<PathBuf>,
    /// Records after which a signed checkpoint is made.
    pub checkpoint_records: u64,
    /// Seconds after which one is made where there are new lines.
    pub checkpoint_seconds: u64,
    /// Size of a file, in MiB, at which it is put aside; 0 for never.
    pub rotate_mib: u64,
    /// Hours after which it is put aside; 0 for never.
    pub rotate_hours: u64,
    /// How many files that were put aside are kept; 0 for all.
    pub keep_files: usize,
    /// For how many days they are kept; 0 for ever.
    pub keep_days: u64,
    /// A stream in Redis beside the file.
    pub stream: StreamSettings,
}

/// `[audit.stream]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StreamSettings {
    /// Whether records go to the stream as well, and the console shows those of other nodes.
    pub enabled: bool,
    /// Which Redis; that of the state when absent.
    pub url: Option<String>,
    /// The authority that its certificate is checked against, PEM; `state.redis_ca_file` when absent.
    pub ca_file: Option<PathBuf>,
    /// The name of the stream, alike on all nodes of a fleet.
    pub name: String,
    /// Records that it holds, nearly.
    pub records_max: u64,
}

/// What comes first, the login or its record.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// The login: a record that cannot be written is lost, counted and marked.
    #[default]
    BestEffort,
    /// The record: as long as records cannot be written, scored requests are refused.
    Strict,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            file: None,
            passed: true,
            mode: AuditMode::default(),
            node: None,
            people_key_file: None,
            checkpoint_records: 10_000,
            checkpoint_seconds: 60,
            rotate_mib: 256,
            rotate_hours: 24,
            keep_files: 0,
            keep_days: 365,
            stream: StreamSettings::default(),
        }
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            url: None,
            ca_file: None,
            name: "fleet".to_owned(),
            records_max: 20_000,
        }
    }
}
