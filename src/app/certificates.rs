//! Certificates of the listeners from the configuration: read at the start, read again when their files change, watched
//! for their end. A pair that cannot be used is refused and the old one stays. It does not touch policy or model: a
//! renewed certificate is taken whatever else is wrong.

use crate::config::ClientCertificates as Asked;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::TlsFiles;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::proxy::certificate::Authorities;
use crate::proxy::certificate::CertificateError;
use crate::proxy::certificate::ClientCertificates;
use crate::proxy::certificate::Pair;
use crate::proxy::certificate::ServerCertificate;
use crate::proxy::listener::ListenerTls;
use crate::telemetry::health::Health;
use crate::telemetry::health::PartStatus;
use crate::telemetry::metrics::Metrics;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the end of the certificates is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(12 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The certificates of one process, by listener.
pub struct Certificates {
    listeners: Vec<(&'static str, ListenerTls)>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// What was read for a listener and is not in force yet.
#[derive(Debug)]
pub struct Prepared {
    listener: &'static str,
    pair: Pair,
    authorities: Option<Authorities>,
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

/// Reads what `tls` names for the listener of a section (`server`, `actions`).
///
/// # Errors
/// File, key and remedy.
pub fn load(section: &'static str, tls: &TlsFiles, file: &str) -> Result<ListenerTls, ConfigError> {
    let prepared = read(section, tls, file)?;
    let required = tls.client_certificates != Some(Asked::Optional);
    let clients = prepared
        .authorities
        .map(|authorities| Arc::new(ClientCertificates::new(authorities, required)));
    Ok(ListenerTls {
        certificate: Arc::new(ServerCertificate::new(prepared.pair)),
        clients,
    })
}

fn read(section: &'static str, tls: &TlsFiles, file: &str) -> Result<Prepared, ConfigError> {
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
    let authorities = tls.client_ca_file.as_deref().map(Authorities::read);
    Ok(Prepared {
        listener: section,
        pair: Pair::read(&tls.certificate, &tls.key).map_err(at)?,
        authorities: authorities.transpose().map_err(at)?,
    })
}

/// The files of the certificates that a configuration names.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    sections(config).into_iter().flat_map(|(_, tls)| {
        [
            Some(tls.certificate.clone()),
            Some(tls.key.clone()),
            tls.client_ca_file.clone(),
        ]
        .into_iter()
        .flatten()
    })
}

fn sections(config: &Config) -> Vec<(&'static str, &TlsFiles)> {
    let server = config.server.tls.as_ref().map(|tls| ("server", tls));
    let actions = config.actions.tls.as_ref().map(|tls| ("actions", tls));
    server.into_iter().chain(actions).collect()
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({:?})", self.listeners)
    }
}

impl Certificates {
    /// Of these listeners.
    pub fn new(
        listeners: Vec<(&'static str, ListenerTls)>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            listeners,
            clock,
            metrics,
            health,
        }
    }

    /// Reads the files of every listener that runs, so that they can be taken together with the rest of a configuration.
    ///
    /// # Errors
    /// File, key and remedy of the first that cannot be used.
    pub fn prepare(&self, config: &Config, file: &str) -> Result<Vec<Prepared>, ConfigError> {
        let running = |section: &str| self.listeners.iter().any(|(name, _)| *name == section);
        sections(config)
            .into_iter()
            .filter(|(section, _)| running(section))
            .map(|(section, tls)| self.prepare_one(section, tls, file))
            .collect()
    }

    fn prepare_one(
        &self,
        section: &'static str,
        tls: &TlsFiles,
        file: &str,
    ) -> Result<Prepared, ConfigError> {
        let prepared = read(section, tls, file)?;
        let now = self.clock.now();
        let ended = prepared.pair.not_after();
        let present = self.listeners.iter().find(|(name, _)| *name == section);
        let is_worse =
            ended <= now && present.is_some_and(|(_, tls)| tls.certificate.not_after() > ended);
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
    pub fn take(&self, prepared: Vec<Prepared>) {
        for Prepared {
            listener,
            pair,
            authorities,
        } in prepared
        {
            let Some((_, tls)) = self.listeners.iter().find(|(name, _)| *name == listener) else {
                continue;
            };
            tls.certificate.exchange(pair);
            if let (Some(clients), Some(authorities)) = (&tls.clients, authorities) {
                clients.exchange(authorities);
            }
            self.metrics.certificate_reload(listener, true);
        }
        self.look();
    }

    /// Reads the files of each listener again. One that cannot be used keeps its old certificate.
    pub fn reload(&self, config: &Config, file: &str) {
        for (section, tls) in sections(config) {
            if !self.listeners.iter().any(|(name, _)| *name == section) {
                continue;
            }
            match self.prepare_one(section, tls, file) {
                Ok(prepared) => {
                    let ends = prepared.pair.not_after().to_rfc3339();
                    self.take(vec![prepared]);
                    tracing::info!(listener = section, ends, "the certificate was read again");
                }
                Err(error) => {
                    self.metrics.certificate_reload(section, false);
                    tracing::error!(error = %error, "the certificate is not taken; the old one stays");
                }
            }
        }
    }

    /// Says when the certificates end: as a gauge always, in the log and in the health when it is soon.
    pub fn look(&self) {
        let now = self.clock.now();
        let mut soon = Vec::new();
        for (listener, tls) in &self.listeners {
            let not_after = tls.certificate.not_after();
            self.metrics.certificate_ends(listener, not_after);
            let (ends, days) = (
                not_after.to_rfc3339(),
                not_after.since(now).as_secs() / DAY.as_secs(),
            );
            match Expiry::of(not_after, now) {
                Expiry::Fine => {}
                Expiry::Month => {
                    tracing::warn!(listener, ends, days, "the certificate ends within 30 days");
                }
                Expiry::Week => {
                    tracing::warn!(listener, ends, days, "the certificate ends within 7 days");
                    soon.push(format!("the certificate of `{listener}` ends at {ends}"));
                }
                Expiry::Day => {
                    tracing::error!(listener, ends, "the certificate ends within a day");
                    soon.push(format!("the certificate of `{listener}` ends at {ends}"));
                }
                Expiry::Ended => {
                    tracing::error!(listener, ends, "the certificate has ended");
                    soon.push(format!(
                        "the certificate of `{listener}` has ended at {ends}"
                    ));
                }
            }
        }
        if self.listeners.is_empty() {
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
