//! Watches the files that a snapshot is made of and exchanges the snapshot when they change. What is not valid is
//! refused with its reason, and the old snapshot stays.

use crate::app;
use crate::app::assemble;
use crate::app::keys::Keys;
use crate::app::resources;
use crate::app::signing;
use crate::config::Config;
use crate::config::overrides::Overrides;
use crate::flow::AuthFlow;
use crate::proxy::listener::ServerCertificate;
use crate::proxy::upstream::Services;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a reload needs.
#[derive(Debug)]
pub struct Reloader {
    /// The flags of the process, which still stand over the file.
    pub overrides: Overrides,
    /// The keys, which a reload does not change.
    pub keys: Keys,
    /// The path.
    pub flow: Arc<AuthFlow>,
    /// Where services of the operator's own are.
    pub services: Arc<Services>,
    /// The certificate of the listener.
    pub certificate: Option<Arc<ServerCertificate>>,
    /// The health.
    pub health: Arc<Health>,
}

/// Age and size of each file that a snapshot is made of.
pub type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Reloader {
    /// Looks at the files until the process ends. SIGHUP reloads at once.
    pub async fn run(self, config: Config, seen: Stamp) {
        let mut config = config;
        let mut seen = seen;
        let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
        {
            Ok(hangup) => hangup,
            Err(error) => {
                tracing::error!(error = %error, "SIGHUP cannot be watched; configuration is not reloaded");
                return;
            }
        };
        loop {
            let forced = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                _ = hangup.recv() => true,
            };
            let now = stamp(&self.overrides, &config);
            if !forced && now == seen {
                continue;
            }
            seen = now;
            if let Some(taken) = self.reload() {
                config = taken;
                seen = stamp(&self.overrides, &config);
            }
        }
    }

    fn reload(&self) -> Option<Config> {
        let metrics = &self.flow.dependencies().metrics;
        let file = self
            .overrides
            .file()
            .map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        let refuse = |error: &dyn std::fmt::Display| {
            tracing::error!(error = %error, "the configuration is not taken; the old one stays");
            metrics.reload(false);
        };
        let config = self
            .overrides
            .config()
            .map_err(|error| refuse(&error))
            .ok()?;
        if let (Some(certificate), Some(tls)) = (&self.certificate, &config.server.tls) {
            certificate
                .reload(&tls.certificate, &tls.key)
                .map_err(|error| refuse(&error))
                .ok()?;
        }
        signing::prepare(&config)
            .map_err(|error| refuse(&error))
            .ok()?;
        let version = self.flow.snapshot().version + 1;
        let mut assembled = match assemble::snapshot(&config, &file, &self.keys, version) {
            Ok(assembled) => assembled,
            Err(problems) => {
                problems.iter().for_each(|problem| refuse(problem));
                return None;
            }
        };
        let services = match resources::peers(&config, &file) {
            Ok(services) => services,
            Err(problems) => {
                problems.iter().for_each(|problem| refuse(problem));
                return None;
            }
        };
        // A broken model must not push out one that works.
        let had_model = self.flow.snapshot().models.login.is_there();
        let has_model = assembled.snapshot.models.login.is_there();
        if had_model && !has_model {
            refuse(&assembled.model_degraded.unwrap_or_default());
            return None;
        }
        // Nor a broken challenger.
        if config.model.challenger.dir.is_some() && assembled.snapshot.challenger.is_none() {
            assembled.snapshot.challenger = self.flow.snapshot().challenger.clone();
        }
        for warning in &assembled.warnings {
            tracing::warn!("{warning}");
        }
        self.health.set(
            "model",
            assembled
                .model_degraded
                .map_or(PartStatus::Ok, PartStatus::Degraded),
        );
        metrics.info(
            &assembled.snapshot.models.versions(),
            self.flow.dependencies().state.kind(),
        );
        // Before anybody is led there; whoever is on the way by the old snapshot finds what he looks for as well.
        self.services.add(services, app::resolve);
        self.flow.swap(assembled.snapshot);
        metrics.reload(true);
        tracing::info!(
            config.version = version,
            "configuration, policy and model were reloaded"
        );
        Some(config)
    }
}

/// The files as they are now.
pub fn stamp(overrides: &Overrides, config: &Config) -> Stamp {
    let tls = config
        .server
        .tls
        .iter()
        .flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]);
    let challenger = config.model.challenger.dir.as_ref();
    let challenger = challenger.map(|dir| dir.join("manifest.toml"));
    let files = overrides
        .file()
        .into_iter()
        .chain(config.policy_file())
        .chain([config.model_dir().join("manifest.toml")])
        .chain(challenger)
        .chain(signing::files(config))
        .chain(tls);
    files
        .map(|path| {
            let data = std::fs::metadata(&path)
                .ok()
                .and_then(|data| Some((data.modified().ok()?, data.len())));
            (path, data)
        })
        .collect()
}
