//! Certificates of the listeners from the configuration: read at the start, read again when their files change, watched
//! for their end, together with those that upstreams are shown. A pair that cannot be used is refused and the old one stays.
//! It does not touch policy or model: a renewed certificate is taken whatever else is wrong.

use crate::app::own_certificates;
use crate::app::own_certificates::OwnCertificates;
use crate::app::own_certificates::RESOURCE;
use crate::app::own_certificates::UPSTREAM;
use crate::config::ClientCertificates as Asked;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::TlsFiles;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::proxy::certificate::CertificateError;
use crate::proxy::certificate::ClientCertificates;
use crate::proxy::certificate::Pair;
use crate::proxy::listener::ListenerTls;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the end of the certificates is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(12 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificates of one process: by listener, and those that upstreams are shown.
pub struct Certificates {
    listeners: Vec<(&'static str, ListenerTls)>,
    own: OwnCertificates,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// What was read and is not in force yet.
#[derive(Debug, Default)]
pub struct Prepared {
    listeners: Vec<ForListener>,
    own: Option<own_certificates::Prepared>,
}

#[derive(Debug)]
struct ForListener {
    listener: &'static str,
    pair: Pair,
    clients: Option<ClientCertificates>,
}

/// How soon a certificate ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Expiry {
    /// In more than 30 days.
    Fine,
    /// Within 30 days.
    Month,
    /// Within 7 days.
    Week,
    /// Within a day.
    Day,
    /// It has.
    Ended,
}

impl Expiry {
    /// Of a certificate that ends at `not_after`.
    pub fn of(not_after: Timestamp, now: Timestamp) -> Self {
        match not_after.since(now) {
            Duration::ZERO => Self::Ended,
            left if left <= DAY => Self::Day,
            left if left <= 7 * DAY => Self::Week,
            left if left <= 30 * DAY => Self::Month,
            _ => Self::Fine,
        }
    }
}

/// Reads what `tls` names for the listener of a section (`server`, `actions`), which speaks `protocols`.
///
/// # Errors
/// File, key and remedy.
pub fn load(
    section: &'static str,
    tls: &TlsFiles,
    protocols: &[&[u8]],
    file: &str,
) -> Result<ListenerTls, ConfigError> {
    let prepared = read(section, tls, file)?;
    ListenerTls::new(prepared.pair, prepared.clients, protocols)
        .map_err(|error| ConfigError::new(file, format!("{section}.tls: {error}")))
}

fn read(section: &'static str, tls: &TlsFiles, file: &str) -> Result<ForListener, ConfigError> {
    let at = |error: CertificateError| {
        ConfigError::new(file, format!("{section}.tls.{}: {error}", error.key()))
    };
    if tls.client_ca_file.is_none() && tls.client_certificates.is_some() {
        return Err(ConfigError::new(
            file,
            format!(
                "{section}.tls.client_certificates: there is no {section}.tls.client_ca_file that could have issued them"
            ),
        ));
    }
    let required = tls.client_certificates != Some(Asked::Optional);
    let clients = tls.client_ca_file.as_deref();
    let clients = clients.map(|path| ClientCertificates::read(path, required));
    Ok(ForListener {
        listener: section,
        pair: Pair::read(&tls.certificate, &tls.key).map_err(at)?,
        clients: clients.transpose().map_err(at)?,
    })
}

/// Whether a configuration names other files than another one, or asks clients for certificates in another way.
pub fn differ(config: &Config, from: &Config) -> bool {
    let asks = |config: &Config| sections(config).map(|(_, tls)| tls?.client_certificates);
    files(config).ne(files(from)) || asks(config) != asks(from)
}

/// The files of the certificates that a configuration names.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let of_listeners = sections(config).into_iter().flat_map(|(_, tls)| {
        let files = tls.map(|tls| {
            [
                Some(&tls.certificate),
                Some(&tls.key),
                tls.client_ca_file.as_ref(),
            ]
        });
        files.into_iter().flatten().flatten().cloned()
    });
    of_listeners.chain(own_certificates::files(config))
}

fn sections(config: &Config) -> [(&'static str, Option<&TlsFiles>); 2] {
    [
        ("server", config.server.tls.as_ref()),
        ("actions", config.actions.tls.as_ref()),
    ]
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({:?}, {:?})", self.listeners, self.own)
    }
}

impl Certificates {
    /// Of these listeners, and those that are shown.
    pub fn new(
        listeners: Vec<(&'static str, ListenerTls)>,
        own: OwnCertificates,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            listeners,
            own,
            clock,
            metrics,
            health,
        }
    }

    /// Those that upstreams are shown.
    pub fn own(&self) -> &OwnCertificates {
        &self.own
    }

    /// Reads the files of every listener that runs, and those for the identity server, so that they can be taken together
    /// with the rest of a configuration.
    ///
    /// # Errors
    /// File, key and remedy of the first that cannot be used.
    pub fn prepare(&self, config: &Config, file: &str) -> Result<Prepared, ConfigError> {
        let listeners = self
            .running(config)
            .map(|(section, tls)| self.prepare_one(section, tls, file))
            .collect::<Result<_, _>>()?;
        let own = self.own.prepare(config, file, self.clock.now())?;
        Ok(Prepared { listeners, own })
    }

    /// The listeners that a configuration names and that this process has.
    fn running<'a>(
        &self,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'static str, &'a TlsFiles)> {
        let running = |section: &str| self.listeners.iter().any(|(name, _)| *name == section);
        let named = sections(config).into_iter();
        named
            .filter_map(|(section, tls)| Some((section, tls?)))
            .filter(move |(section, _)| running(section))
    }

    fn prepare_one(
        &self,
        section: &'static str,
        tls: &TlsFiles,
        file: &str,
    ) -> Result<ForListener, ConfigError> {
        let prepared = read(section, tls, file)?;
        let now = self.clock.now();
        let ended = prepared.pair.not_after();
        let present = self.listeners.iter().find(|(name, _)| *name == section);
        let is_worse = ended <= now && present.is_some_and(|(_, tls)| tls.not_after() > ended);
        if is_worse {
            return Err(ConfigError::new(
                file,
                format!(
                    "{section}.tls.certificate: `{}` ended at {}; give the renewed one",
                    tls.certificate.display(),
                    ended.to_rfc3339()
                ),
            ));
        }
        Ok(prepared)
    }

    /// Puts in force what was prepared.
    pub fn take(&self, prepared: Prepared) {
        for prepared in prepared.listeners {
            self.take_one(prepared);
        }
        if let Some(own) = prepared.own {
            self.own.take(own);
            self.metrics.certificate_reload(UPSTREAM, true);
        }
        self.look();
    }

    fn take_one(&self, prepared: ForListener) {
        let listener = prepared.listener;
        let Some((_, tls)) = self.listeners.iter().find(|(name, _)| *name == listener) else {
            return;
        };
        let asks = match &prepared.clients {
            None => "nobody",
            Some(clients) if clients.are_required() => "everybody",
            Some(_) => "whoever has one",
        };
        if tls.exchange(prepared.pair, prepared.clients) {
            tracing::info!(
                listener,
                asks,
                "other client certificates are taken from now on"
            );
        }
        self.metrics.certificate_reload(listener, true);
    }

    /// Reads all files again. A pair that cannot be used leaves the old one where it is.
    pub fn reload(&self, config: &Config, file: &str) {
        for (section, tls) in self.running(config) {
            match self.prepare_one(section, tls, file) {
                Ok(prepared) => {
                    let ends = prepared.pair.not_after().to_rfc3339();
                    self.take_one(prepared);
                    tracing::info!(listener = section, ends, "the certificate was read again");
                }
                Err(error) => self.refuse(section, &error),
            }
        }
        let now = self.clock.now();
        match self.own.prepare(config, file, now) {
            Ok(Some(prepared)) => {
                let ends = prepared.not_after();
                self.own.take(prepared);
                self.said(UPSTREAM, UPSTREAM, ends);
            }
            Ok(None) => {}
            Err(error) => self.refuse(UPSTREAM, &error),
        }
        for read in self.own.reload_services(file, now) {
            match read {
                Ok((section, ends)) => self.said(RESOURCE, &section, ends),
                Err(error) => self.refuse(RESOURCE, &error),
            }
        }
        self.look();
    }

    fn said(&self, name: &'static str, section: &str, ends: Timestamp) {
        self.metrics.certificate_reload(name, true);
        let ends = ends.to_rfc3339();
        tracing::info!(section, ends, "the client certificate was read again");
    }

    fn refuse(&self, name: &'static str, error: &ConfigError) {
        self.metrics.certificate_reload(name, false);
        tracing::error!(error = %error, "the certificate is not taken; the old one stays");
    }

    /// Every certificate: its name in metrics, what it is called, when it ends.
    fn ends(&self) -> Vec<(&'static str, String, Timestamp)> {
        let listeners = self.listeners.iter().map(|(listener, tls)| {
            let called = format!("the certificate of `{listener}`");
            (*listener, called, tls.not_after())
        });
        let own = self.own.ends().into_iter().map(|(name, section, ends)| {
            (name, format!("the client certificate of `{section}`"), ends)
        });
        listeners.chain(own).collect()
    }

    /// Says when the certificates end: as a gauge always, in the log and in the health when it is soon.
    pub fn look(&self) {
        let now = self.clock.now();
        let all = self.ends();
        let mut soon = Vec::new();
        // Of several under one name, the one that ends first.
        let mut first: BTreeMap<&'static str, Timestamp> = BTreeMap::new();
        for (name, called, not_after) in &all {
            let listener = *name;
            let earliest = first.entry(listener).or_insert(*not_after);
            *earliest = (*earliest).min(*not_after);
            let (ends, days) = (
                not_after.to_rfc3339(),
                not_after.since(now).as_secs() / DAY.as_secs(),
            );
            match Expiry::of(*not_after, now) {
                Expiry::Fine => {}
                Expiry::Month => {
                    tracing::warn!(listener, ends, days, "{called} ends within 30 days");
                }
                Expiry::Week => {
                    tracing::warn!(listener, ends, days, "{called} ends within 7 days");
                    soon.push(format!("{called} ends at {ends}"));
                }
                Expiry::Day => {
                    tracing::error!(listener, ends, "{called} ends within a day");
                    soon.push(format!("{called} ends at {ends}"));
                }
                Expiry::Ended => {
                    tracing::error!(listener, ends, "{called} has ended");
                    soon.push(format!("{called} has ended at {ends}"));
                }
            }
        }
        for (name, not_after) in &first {
            self.metrics.certificate_ends(name, *not_after);
        }
        if !first.contains_key(RESOURCE) {
            // The last service that was shown one may be gone.
            self.metrics.certificate_is_gone(RESOURCE);
        }
        if all.is_empty() {
            return;
        }
        self.health.set(
            "certificate",
            if soon.is_empty() {
                PartStatus::Ok
            } else {
                PartStatus::Degraded(soon.join("; "))
            },
        );
    }
}

/// Looks at the end of the certificates now and then.
pub async fn watch(certificates: Arc<Certificates>) {
    loop {
        certificates.look();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_30_and_7_days_and_one_day_before_the_end() {
        let now = Timestamp(1_795_651_200_000);
        for (left, wanted) in [
            (31 * DAY, Expiry::Fine),
            (30 * DAY + Duration::from_secs(1), Expiry::Fine),
            (30 * DAY, Expiry::Month),
            (8 * DAY, Expiry::Month),
            (7 * DAY, Expiry::Week),
            (2 * DAY, Expiry::Week),
            (DAY, Expiry::Day),
            (Duration::from_secs(1), Expiry::Day),
            (Duration::ZERO, Expiry::Ended),
        ] {
            assert_eq!(Expiry::of(now.plus(left), now), wanted, "{left:?}");
        }
        assert_eq!(Expiry::of(Timestamp(0), now), Expiry::Ended);
    }
}
