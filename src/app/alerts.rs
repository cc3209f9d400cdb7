//! From `[alerts]` to what tells: the secret, the authorities, the address that may be used.

use crate::adapters::alerts::AlertSettings;
use crate::adapters::alerts::AlertingSink;
use crate::adapters::alerts::Alerts;
use crate::adapters::courier::Courier;
use crate::adapters::courier::Destination;
use crate::adapters::target::Target;
use crate::app::keys;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::alert::AlertRule;
use crate::flow::ports::AuditSink;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;

/// What `[alerts]` says, when somebody is told.
pub fn settings(config: &Config, file: &str) -> Result<Option<AlertSettings>, ConfigError> {
    let said = &config.alerts;
    let wrong = |problem: String| ConfigError::new(file, format!("alerts.{problem}"));
    let Some(url) = &said.url else {
        return Ok(None);
    };
    // The address itself may hold a secret.
    let target = Target::parse(url).map_err(|expected| wrong(format!("url: {expected}")))?;
    let Some(path) = &said.secret_file else {
        return Err(wrong(
            "secret_file: missing, expected a file of at least 32 bytes".to_owned(),
        ));
    };
    if said.score_min > 100 {
        return Err(wrong(format!(
            "score_min: {}, expected 0 to 100",
            said.score_min
        )));
    }
    let authorities = trust::of_file_or_system(said.ca_file.as_deref(), target.is_tls())
        .map_err(|error| wrong(format!("ca_file: {error}")))?;
    Ok(Some(AlertSettings {
        destination: Destination {
            target,
            authorities,
        },
        secret: keys::read(path, "alerts.secret_file")?,
        rule: AlertRule {
            verdicts: said.verdicts.clone(),
            score_min: (said.score_min > 0).then_some(said.score_min),
        },
    }))
}

/// What delivers alerts once it is run.
pub type Delivery = Courier<Alerts>;

/// The sink that records go to, and what delivers alerts where somebody is told.
pub fn before(
    records: Arc<dyn AuditSink>,
    config: &Config,
    file: &str,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn AuditSink>, Option<Delivery>), ConfigError> {
    let Some(settings) = settings(config, file)? else {
        return Ok((records, None));
    };
    let (sink, courier) = AlertingSink::new(records, settings, Arc::clone(metrics))
        .map_err(|error| ConfigError::new(file, format!("alerts.{error}")))?;
    Ok((Arc::new(sink), Some(courier)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Option<AlertSettings>, String> {
        let config = Config::parse(text).unwrap();
        settings(&config, "test").map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_is_told_unless_an_address_is_named() {
        assert!(said("").unwrap().is_none());
        assert!(said("[alerts]\nscore_min = 50").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_used_is_named_without_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        let file = format!("secret_file = '{}'", secret.display());
        let url = "url = 'http://127.0.0.1:9/hooks/s3cret'";
        let good = format!("[alerts]\n{url}\n{file}");
        assert!(said(&good).unwrap_err().contains("alerts.secret_file"));
        std::fs::write(&secret, [7; 16]).unwrap();
        assert!(said(&good).unwrap_err().contains("alerts.secret_file"));
        std::fs::write(&secret, [7; 32]).unwrap();
        let settings = said(&good).unwrap().unwrap();
        assert_eq!(settings.rule.score_min, Some(50));
        for (text, key) in [
            (format!("[alerts]\n{url}"), "alerts.secret_file: missing"),
            (format!("{good}\nscore_min = 101"), "alerts.score_min: 101"),
            (format!("{good}\nca_file = '/nowhere'"), "alerts.ca_file"),
            (
                format!("[alerts]\nurl = 'http://siem.example.com/hooks/s3cret'\n{file}"),
                "alerts.url: expected https://",
            ),
            (
                format!("[alerts]\nurl = 'https://169.254.169.254/s3cret'\n{file}"),
                "alerts.url: expected no link-local",
            ),
        ] {
            let error = said(&text).unwrap_err();
            assert!(error.contains(key), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let silent = said(&format!("{good}\nscore_min = 0")).unwrap().unwrap();
        assert_eq!(silent.rule.score_min, None);
    }
}
