//! Secrets that others gave and that are exchanged while the gateway runs: what WSO2 shows (`[actions]`), and with what alerts
//! are signed (`[alerts]`). Read at the start, and again when their files change; what cannot be used is refused and the old ones
//! stay. The secret of the gateway itself is exchanged by a command and a restart, since all that it keeps is named with it.

use crate::actions::caller::Callers;
use crate::actions::caller::CurrentCallers;
use crate::adapters::courier::CurrentLine;
use crate::app::actions;
use crate::app::alerts::Delivery;
use crate::app::keys;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::secret::Secret;
use crate::telemetry::metrics::Metrics;
use std::path::PathBuf;
use std::sync::Arc;

/// What they are called in metrics.
const SECRETS: &str = "secrets";

/// Where the secrets of one process are in use.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Whom the listener for WSO2 knows.
    actions: Option<CurrentCallers>,
    alerts: Option<OfAlerts>,
}

/// The secret that signs alerts belongs to the receiver that the process began with.
#[derive(Debug)]
struct OfAlerts {
    line: CurrentLine<Secret<Vec<u8>>>,
    path: PathBuf,
    url: Option<String>,
}

/// What was read for the listener and is not in force yet.
#[derive(Debug, Default)]
pub struct Prepared(Option<Vec<Secret<String>>>);

/// The files that are looked at by themselves.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let [secret, previous] = of_actions(config);
    let alerts = config.alerts.secret_file.as_ref();
    [secret, previous, alerts].into_iter().flatten().cloned()
}

/// Whether a configuration names other files for the listener than another one.
pub fn differ(config: &Config, from: &Config) -> bool {
    of_actions(config) != of_actions(from)
}

fn of_actions(config: &Config) -> [Option<&PathBuf>; 2] {
    let said = &config.actions;
    [
        said.secret_file.as_ref(),
        said.previous_secret_file.as_ref(),
    ]
}

impl Secrets {
    /// Those of a process that begins with this configuration.
    pub fn new(
        config: &Config,
        actions: Option<&actions::Prepared>,
        alerts: Option<&Delivery>,
    ) -> Self {
        let path = config.alerts.secret_file.clone();
        Self {
            actions: actions.map(actions::Prepared::callers),
            alerts: alerts.zip(path).map(|(delivery, path)| OfAlerts {
                line: delivery.line(),
                path,
                url: config.alerts.url.clone(),
            }),
        }
    }

    /// Reads those of the listener, so that they can be taken together with the rest of a configuration.
    ///
    /// # Errors
    /// File and key of the first that cannot be used.
    pub fn prepare(&self, config: &Config, file: &str) -> Result<Prepared, ConfigError> {
        let Some(callers) = &self.actions else {
            return Ok(Prepared::default());
        };
        // Without any the listener stays as it is until the restart.
        let found = actions::secrets(&config.actions, file)?;
        let is_other = |found: &Vec<Secret<String>>| !callers.load().accept_just(found);
        Ok(Prepared(found.filter(is_other)))
    }

    /// Puts in force what was prepared.
    pub fn take(&self, prepared: Prepared, metrics: &Metrics) {
        if let (Some(callers), Some(secrets)) = (&self.actions, prepared.0) {
            callers.store(Arc::new(Callers::new(&secrets)));
            taken("actions.secret_file", metrics);
        }
    }

    /// Reads all files again. What cannot be used leaves the old ones where they are.
    pub fn reload(&self, config: &Config, file: &str, metrics: &Metrics) {
        match self.prepare(config, file) {
            Ok(prepared) => self.take(prepared, metrics),
            Err(error) => refused(&error, metrics),
        }
        // Another receiver waits for the restart, and its secret with it.
        let of_alerts = self.alerts.as_ref();
        let Some(alerts) = of_alerts.filter(|alerts| alerts.url == config.alerts.url) else {
            return;
        };
        match keys::read(&alerts.path, "alerts.secret_file") {
            Ok(secret) => {
                let line = alerts.line.load_full();
                if *line.shown() != secret {
                    alerts.line.store(Arc::new(line.showing(secret)));
                    taken("alerts.secret_file", metrics);
                }
            }
            Err(error) => refused(&error, metrics),
        }
    }
}

fn taken(key: &str, metrics: &Metrics) {
    metrics.certificate_reload(SECRETS, true);
    tracing::info!(key, "another secret is in use from now on");
}

fn refused(error: &ConfigError, metrics: &Metrics) {
    metrics.certificate_reload(SECRETS, false);
    tracing::error!(error = %error, "the secret is not taken; the old one stays");
}
