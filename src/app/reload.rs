//! Watches the files that a snapshot is made of and exchanges the snapshot when they change, and those of the
//! certificates beside it. What is not valid is refused with its reason, and the old stays.

use crate::adapters::geo::CurrentGeo;
use crate::adapters::geo::Damage;
use crate::adapters::identity_server::IdentityServer;
use crate::adapters::identity_server::ManagementCredential;
use crate::adapters::shared_signals::Receivers;
use crate::admin::console::Console;
use crate::admin::console::Provider;
use crate::app;
use crate::app::assemble;
use crate::app::assemble::start;
use crate::app::certificates;
use crate::app::certificates::Certificates;
use crate::app::certificates::Prepared;
use crate::app::console;
use crate::app::console::changes::Changes;
use crate::app::keys::Keys;
use crate::app::models::CARD;
use crate::app::models::Proved;
use crate::app::resources;
use crate::app::secrets;
use crate::app::secrets::Secrets;
use crate::app::shared_signals;
use crate::app::sign_in;
use crate::app::signing;
use crate::app::trust;
use crate::app::trust::Trusted;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::overrides::Overrides;
use crate::config::restart;
use crate::flow::AuthFlow;
use crate::proxy::upstream::Services;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::SystemTime;
use tokio::sync::watch;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What the address databases are called in metrics.
const DATABASES: &str = "databases";

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
    /// The certificates of the listeners, and those that upstreams are shown.
    pub certificates: Arc<Certificates>,
    /// Whom our own connections trust.
    pub trusted: Trusted,
    /// Secrets that others gave.
    pub secrets: Secrets,
    /// The address databases.
    pub geo: Arc<CurrentGeo>,
    /// The health.
    pub health: Arc<Health>,
    /// What is on record of changes.
    pub(in crate::app) changes: Changes,
    /// Where sessions of users are ended.
    pub identity_server: Arc<IdentityServer>,
    /// Where operators sign in.
    pub console: Console,
    /// By which provider, as it is in force.
    pub sign_in: Mutex<Option<sign_in::Prepared>>,
    /// Who is told shared signals.
    pub receivers: Arc<Receivers>,
}

/// Age and size of each file that a snapshot is made of.
pub type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

impl Reloader {
    /// Looks at the files until `stop` says so, on a thread of its own. SIGHUP reloads at once. The thread holds the path, and
    /// with it the state: it is to be joined before the state is let go of.
    ///
    /// What a reload needs for a while is some megabytes, which the allocator keeps for the thread that had them: on the
    /// workers of a runtime each of them would keep its own.
    ///
    /// # Errors
    /// The system has no thread, or no timer, left.
    pub fn start(
        self,
        config: Config,
        proved: Proved,
        seen: Stamp,
        mut stop: watch::Receiver<bool>,
    ) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let reloads = move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = self.run(config, proved, seen) => {}
                    // A sender that is gone means the same as its word.
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        };
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(reloads)
    }

    async fn run(self, mut config: Config, mut proved: Proved, mut seen: Stamp) {
        let mut seen_certificates = stamp_of(certificates::files(&config));
        // The first look compares with what they held when the process began.
        let mut seen_trusted = Stamp::new();
        let mut seen_secrets = Stamp::new();
        let began = config.clone();
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
            let now = stamp_of(certificates::files(&config));
            if forced || now != seen_certificates {
                seen_certificates = now;
                self.certificates
                    .reload(&config, &self.overrides.file_name());
            }
            let now = stamp_of(trust::files(&config));
            if forced || now != seen_trusted {
                seen_trusted = now;
                let metrics = &self.flow.dependencies().metrics;
                self.trusted
                    .reload(&config, &self.overrides.file_name(), metrics);
            }
            let now = stamp_of(secrets::files(&config));
            if forced || now != seen_secrets {
                seen_secrets = now;
                let metrics = &self.flow.dependencies().metrics;
                self.secrets
                    .reload(&config, &self.overrides.file_name(), metrics);
            }
            self.look_at_databases(forced);
            self.count_damage();
            let now = stamp(&self.overrides, &config);
            if !forced && now == seen {
                continue;
            }
            seen = now;
            // Models that have changed are loaded and proved here, which takes its time.
            if let Some(taken) = self.reload(&config, &proved) {
                (config, proved) = taken;
                self.remind(&began, &config);
                seen = as_seen(&seen, stamp(&self.overrides, &config));
                let now = stamp_of(certificates::files(&config));
                seen_certificates = as_seen(&seen_certificates, now);
                seen_trusted = as_seen(&seen_trusted, stamp_of(trust::files(&config)));
                seen_secrets = as_seen(&seen_secrets, stamp_of(secrets::files(&config)));
            }
        }
    }

    /// Exchanges the address databases when their files have changed.
    fn look_at_databases(&self, forced: bool) {
        let Some(found) = self.geo.look(forced) else {
            return;
        };
        let metrics = &self.flow.dependencies().metrics;
        metrics.certificate_reload(DATABASES, found.is_ok());
        match found {
            Ok(missing) => {
                app::report_geo(&self.health, &missing);
                let version = self.geo.version();
                tracing::info!(version, "other address databases are in use from now on");
            }
            Err(problems) => {
                for problem in problems {
                    let key = problem.role.key();
                    tracing::error!(key, error = %problem, "the address databases are not taken; the old ones stay");
                }
            }
        }
    }

    /// Counts what the address databases could not say for being damaged, which requests do without.
    fn count_damage(&self) {
        let Some(Damage { failures, files }) = self.geo.damage() else {
            return;
        };
        self.flow.dependencies().metrics.geo_failures(failures);
        let files: Vec<String> = files
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect();
        let damaged = format!(
            "records of address databases cannot be read, their addresses have no facts: damaged, fetch again: {}",
            files.join(", ")
        );
        if self
            .health
            .turn("geo", PartStatus::Degraded(damaged.clone()))
        {
            tracing::error!(failures, "{damaged}");
        }
    }

    /// Takes the configuration as it is now as a whole, or nothing of it.
    fn reload(&self, old: &Config, proved: &Proved) -> Option<(Config, Proved)> {
        let start = self.flow.dependencies().clock.instant();
        let took = || {
            self.flow
                .dependencies()
                .clock
                .instant()
                .duration_since(start)
        };
        let metrics = &self.flow.dependencies().metrics;
        let file = self.overrides.file_name();
        let refuse_all = |problems: Vec<String>| {
            for problem in &problems {
                tracing::error!(error = %problem, "the configuration is not taken; the old one stays");
            }
            metrics.reload(false, took());
            self.flow.reject_reload(problems);
        };
        let refuse = |error: &dyn std::fmt::Display| refuse_all(vec![error.to_string()]);
        let config = self
            .overrides
            .config()
            .map_err(|error| refuse(&error))
            .ok()?;
        // The same files are looked at by themselves; other ones are taken together with the rest.
        let other_certificates = if certificates::differ(&config, old) {
            let prepared = self.certificates.prepare(&config, &file);
            prepared.map_err(|error| refuse(&error)).ok()?
        } else {
            Prepared::default()
        };
        let other_authorities = if trust::differ(&config, old) {
            let prepared = self.trusted.prepare(&config, &file);
            prepared.map_err(|error| refuse(&error)).ok()?
        } else {
            trust::Prepared::default()
        };
        let other_secrets = if secrets::differ(&config, old) {
            let prepared = self.secrets.prepare(&config, &file);
            prepared.map_err(|error| refuse(&error)).ok()?
        } else {
            secrets::Prepared::default()
        };
        signing::prepare(&config)
            .map_err(|error| refuse(&error))
            .ok()?;
        let management = assemble::management(&config, &file);
        let management = management.map_err(|error| refuse(&error)).ok()?;
        let told = shared_signals::prepare(&config, &file);
        let told = told.map_err(|error| refuse(&error)).ok()?;
        let sign_in = match self.other_provider(&config, &file) {
            Ok(other) => other,
            Err(problems) => {
                refuse_all(problems.iter().map(ToString::to_string).collect());
                return None;
            }
        };
        let version = self.flow.snapshot().version + 1;
        let assembled = assemble::snapshot_after(&config, &file, &self.keys, version, proved);
        let mut assembled = match assembled {
            Ok(assembled) => assembled,
            Err(problems) => {
                refuse_all(problems.iter().map(ToString::to_string).collect());
                return None;
            }
        };
        let known = self.certificates.own().services();
        let services = match resources::peers(&config, &file, &known) {
            Ok(services) => services,
            Err(problems) => {
                refuse_all(problems.iter().map(ToString::to_string).collect());
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
        self.services.add(services.named, app::resolve);
        self.certificates.own().set_services(services.certificates);
        self.flow.swap(assembled.snapshot);
        let is_other = config.mode != old.mode || config.rollout.file != old.rollout.file;
        self.changes
            .mode(&config, self.overrides.file().as_deref(), is_other);
        self.certificates.take(other_certificates);
        self.trusted.take(other_authorities, metrics);
        self.secrets.take(other_secrets, metrics);
        self.end_sessions(&config, management);
        // After the snapshot, which holds the keys that sign.
        let published = &self.flow.dependencies().transmitter;
        shared_signals::take(told, &self.receivers, published);
        if let Some((prepared, provider)) = sign_in {
            self.take_provider(prepared, provider);
        }
        let took = took();
        metrics.reload(true, took);
        tracing::info!(
            config.version = version,
            models.proved = assembled.proved.anew(),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "configuration, policy and model were reloaded"
        );
        Some((config, assembled.proved))
    }
}

/// What a provider is made of, and the provider; neither where operators sign in by none.
type OtherProvider = (Option<sign_in::Prepared>, Option<Provider>);

impl Reloader {
    /// The provider that is named, where it is another than the one in force. It leads back to the name that the console
    /// began with: with another one it waits for the restart.
    fn other_provider(
        &self,
        config: &Config,
        file: &str,
    ) -> Result<Option<OtherProvider>, Vec<ConfigError>> {
        let prepared = sign_in::prepare(config, file)?;
        let origin = console::origin(config, file).map_err(|error| vec![error])?;
        let in_force = self.sign_in.lock();
        if prepared == *in_force || origin != self.console.origin {
            return Ok(None);
        }
        let clock = Arc::clone(&self.flow.dependencies().clock);
        let provider = prepared.as_ref();
        let provider = provider.map(|prepared| prepared.provider(&self.keys, clock, file));
        let provider = provider.transpose().map_err(|error| vec![error])?;
        Ok(Some((prepared, provider)))
    }

    fn take_provider(&self, prepared: Option<sign_in::Prepared>, provider: Option<Provider>) {
        let mut in_force = self.sign_in.lock();
        *in_force = prepared;
        self.console.take_provider(provider);
        console::begin(&self.console);
    }

    /// Says which changes since the start of the process are not in force, with each reload until they are, and what is
    /// wrong with them: nobody else looks at them before the restart does.
    fn remind(&self, began: &Config, config: &Config) {
        let keys = restart::keys(began, config);
        if keys.is_empty() {
            return;
        }
        tracing::warn!(
            keys = %keys.join(", "),
            "what has changed under these keys is in force after a restart alone"
        );
        for problem in start::problems(config, &self.overrides.file_name(), &self.keys) {
            tracing::error!(error = %problem, "the next start refuses this configuration");
        }
    }

    fn end_sessions(&self, config: &Config, management: Option<ManagementCredential>) {
        self.identity_server.manage(management);
        let is_on = assemble::ends_sessions(config);
        if self.flow.dependencies().sessions.switch(is_on) {
            tracing::info!(
                is_on,
                "whether sessions at the identity server are ended has changed"
            );
        }
    }
}

/// The files of a snapshot as they are now.
pub fn stamp(overrides: &Overrides, config: &Config) -> Stamp {
    let challenger = config.model.challenger.dir.as_ref();
    let challenger = challenger.map(|dir| dir.join("manifest.toml"));
    let models = config.model_dir();
    let management = config.upstream.management.as_ref();
    let oidc = config.admin.oidc.as_ref();
    let oidc = oidc.map(|said| [said.client_secret_file.clone(), said.ca_file.clone()]);
    let services = config.resource.iter().flat_map(|service| {
        let asks = service.introspection.as_ref();
        let secret = asks.map(|asks| asks.secret_file.clone());
        [service.ca_file.clone(), secret]
    });
    let signature = &config.headers.signature;
    let signature = signature.key_file.clone().filter(|_| signature.enabled);
    let secrets = management
        .map(|said| said.secret_file.clone())
        .into_iter()
        .chain(signature)
        .chain(oidc.into_iter().flatten().flatten());
    let files = overrides
        .file()
        .into_iter()
        .chain(config.policy_file())
        .chain(config.rollout.file.clone())
        .chain([models.join("manifest.toml"), models.join(CARD)])
        .chain(challenger)
        .chain(signing::files(config))
        .chain(services.flatten())
        .chain(shared_signals::files(config))
        .chain(secrets);
    stamp_of(files)
}

/// The files of now as they were seen, where they were: what was written during a reload is seen as new by the next look.
fn as_seen(seen: &Stamp, now: Stamp) -> Stamp {
    let known = |path: &PathBuf| seen.iter().find(|(known, _)| known == path);
    now.into_iter()
        .map(|found| known(&found.0).cloned().unwrap_or(found))
        .collect()
}

fn stamp_of(files: impl Iterator<Item = PathBuf>) -> Stamp {
    files
        .map(|path| {
            let data = std::fs::metadata(&path)
                .ok()
                .and_then(|data| Some((data.modified().ok()?, data.len())));
            (path, data)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_snapshot_holds_is_looked_at() {
        let text = "
            headers.signature = { enabled = true, key_id = 'a', key_file = 'signature.key' }
            [[resource]]
            prefix = '/orders'
            upstream = 'https://orders'
            audience = 'orders'
            ca_file = 'orders.ca'
            introspection = { client_id = 'gateway', secret_file = 'introspection.secret' }
        ";
        let seen = stamp(&Overrides::default(), &Config::parse(text).unwrap());
        for file in ["signature.key", "orders.ca", "introspection.secret"] {
            assert!(seen.iter().any(|(path, _)| path.ends_with(file)), "{file}");
        }
    }

    #[test]
    fn what_is_written_during_a_reload_is_seen_by_the_next_look() {
        let at = |name: &str, bytes| (PathBuf::from(name), Some((SystemTime::UNIX_EPOCH, bytes)));
        let gone = (PathBuf::from("gone"), None);
        let seen = vec![at("policy", 1), at("other", 1), gone.clone()];
        let now = vec![at("policy", 2), at("new", 3), gone.clone()];
        assert_eq!(as_seen(&seen, now), [at("policy", 1), at("new", 3), gone]);
    }
}
