//! The audit log: from the configuration to its writer, and what is done with files that were written.

/// `riskgate audit erase`.
pub mod erase;

/// `riskgate audit export`.
pub mod export;

/// The stream beside the file.
pub mod stream;

/// `riskgate audit verify`.
pub mod verify;

use crate::adapters::audit_log::AuditLogSettings;
use crate::adapters::audit_log::keys::auditor_files;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::audit::AuditMode;
use crate::domain::audit::chain::node_name;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// How the log is written, or the first key that is wrong.
pub fn settings(config: &Config, file: &str) -> Result<AuditLogSettings, ConfigError> {
    let said = &config.audit;
    let number = |key: &str, value: u64, range: RangeInclusive<u64>| {
        if range.contains(&value) {
            return Ok(value);
        }
        let (least, most) = (range.start(), range.end());
        let problem = format!("audit.{key}: {value}, expected {least} to {most}");
        Err(ConfigError::new(file, problem))
    };
    if let Some(node) = said.node.as_ref().filter(|node| !node_name(node)) {
        let problem =
            format!("audit.node: `{node}`, expected up to 64 letters, digits, `.`, `_` or `-`");
        return Err(ConfigError::new(file, problem));
    }
    let seconds = number("checkpoint_seconds", said.checkpoint_seconds, 1..=86_400)?;
    Ok(AuditLogSettings {
        file: config.audit_file(),
        folder: config.state.data_dir.clone(),
        node: said.node.clone(),
        people: people_file(config),
        strict: said.mode == AuditMode::Strict,
        checkpoint_records: number(
            "checkpoint_records",
            said.checkpoint_records,
            1..=10_000_000,
        )?,
        checkpoint_every: Duration::from_secs(seconds),
        rotate_bytes: number("rotate_mib", said.rotate_mib, 0..=1_048_576)? * 1024 * 1024,
        rotate_seconds: number("rotate_hours", said.rotate_hours, 0..=87_600)? * 3600,
        keep_files: said.keep_files,
        keep_seconds: number("keep_days", said.keep_days, 0..=36_500)? * 86_400,
        tap: None,
    })
}

/// The key of people's names in records.
pub fn people_file(config: &Config) -> PathBuf {
    let own = || config.state.data_dir.join("audit-people.key");
    config.audit.people_key_file.clone().unwrap_or_else(own)
}

/// What an operator should know of the keys.
pub fn warnings(config: &Config) -> Vec<String> {
    let keys = auditor_files(&config.state.data_dir);
    let warn = |path: &PathBuf| {
        format!(
            "audit: {} is the auditor's key: keep it elsewhere, here it proves nothing (docs/AUDIT.md)",
            path.display()
        )
    };
    keys.iter().map(warn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        let mut config = Config::default();
        assert!(settings(&config, "f").is_ok());
        config.audit.node = Some("a b".to_owned());
        let error = settings(&config, "f").unwrap_err().to_string();
        assert!(error.starts_with("f: audit.node: `a b`"), "{error}");
        config.audit.node = None;
        config.audit.checkpoint_seconds = 0;
        let error = settings(&config, "f").unwrap_err().to_string();
        assert_eq!(error, "f: audit.checkpoint_seconds: 0, expected 1 to 86400");
    }
}
