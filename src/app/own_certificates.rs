//! The certificates that the gateway shows to upstreams: named by two keys of the configuration, read at the start and
//! again when their files change. A pair that cannot be used is refused and the old one stays.

use crate::adapters::identity_server::IdentityServer;
use crate::adapters::identity_server::Renewed;
use crate::adapters::outbound::Identity;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::time::Timestamp;
use crate::proxy::certificate::CertificateError;
use crate::proxy::own_certificate::OwnCertificate;
use crate::proxy::own_certificate::OwnPair;
use crate::proxy::own_certificate::PairFiles;
use arc_swap::ArcSwap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What the pair for the identity server is called in metrics and in the log.
pub const UPSTREAM: &str = "upstream";
/// What the pairs for services are called.
pub const RESOURCE: &str = "resource";

/// The two keys of one section, as they stand there.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The section: `upstream`, `resource[0]`.
    pub section: &'a str,
    /// Its `client_certificate`.
    pub certificate: Option<&'a Path>,
    /// Its `client_key`.
    pub key: Option<&'a Path>,
}

impl Named<'_> {
    /// The files; `None` when neither key is set.
    ///
    /// # Errors
    /// One of the two is missing, or the other side, which does not speak TLS, would never see them.
    pub fn files(&self, is_tls: bool, file: &str) -> Result<Option<PairFiles>, ConfigError> {
        let section = self.section;
        let wrong = |problem: String| Err(ConfigError::new(file, format!("{section}.{problem}")));
        match (self.certificate, self.key) {
            (None, None) => Ok(None),
            (Some(_), None) => wrong(format!(
                "client_key: missing, expected the key of {section}.client_certificate"
            )),
            (None, Some(_)) => wrong(format!(
                "client_certificate: missing, expected the certificate of {section}.client_key"
            )),
            (Some(_), Some(_)) if !is_tls => wrong(
                "client_certificate: nobody would see it over http://, expected an address with https://, or neither \
                 client_certificate nor client_key"
                    .to_owned(),
            ),
            (Some(certificate), Some(key)) => Ok(Some(PairFiles {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            })),
        }
    }
}

/// The keys of the identity server.
pub fn of_upstream(config: &Config) -> Named<'_> {
    Named {
        section: UPSTREAM,
        certificate: config.upstream.client_certificate.as_deref(),
        key: config.upstream.client_key.as_deref(),
    }
}

/// Reads a pair.
///
/// # Errors
/// File, key and remedy.
pub fn read(section: &str, files: &PairFiles, file: &str) -> Result<OwnPair, ConfigError> {
    OwnPair::read(files).map_err(|error: CertificateError| {
        ConfigError::new(file, format!("{section}.client_{}: {error}", error.key()))
    })
}

/// What the gateway's own client of the identity server needs of a certificate.
pub fn identity(pair: &OwnPair) -> Identity {
    Identity {
        chain: pair.chain().iter().map(|der| der.to_vec()).collect(),
        key: pair.key(),
    }
}

/// The files that a configuration names.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let upstream = &config.upstream;
    let services = config.resource.iter();
    let services = services.flat_map(|service| [&service.client_certificate, &service.client_key]);
    let upstream = [&upstream.client_certificate, &upstream.client_key];
    upstream.into_iter().chain(services).flatten().cloned()
}

/// A certificate that services are shown.
#[derive(Clone, Debug)]
pub struct OfService {
    /// The section of the configuration.
    pub section: String,
    /// Where it was read.
    pub files: PairFiles,
    /// The certificate.
    pub certificate: Arc<OwnCertificate>,
}

/// Where the certificates of one process are shown.
#[derive(Debug)]
pub struct OwnCertificates {
    /// To the identity server: on the way of requests, and by the gateway's own client.
    upstream: Option<(Arc<OwnCertificate>, Arc<IdentityServer>)>,
    services: ArcSwap<Vec<OfService>>,
}

/// What was read for the identity server and is not in force yet.
#[derive(Debug)]
pub struct Prepared {
    pair: OwnPair,
    client: Renewed,
}

impl Prepared {
    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.pair.not_after()
    }
}

impl OwnCertificates {
    /// Of the identity server; those of services are told later.
    pub fn new(upstream: Option<(Arc<OwnCertificate>, Arc<IdentityServer>)>) -> Self {
        Self {
            upstream,
            services: ArcSwap::default(),
        }
    }

    /// Reads the pair for the identity server again; `None` where this process shows it none.
    ///
    /// # Errors
    /// File, key and remedy.
    pub fn prepare(
        &self,
        config: &Config,
        file: &str,
        now: Timestamp,
    ) -> Result<Option<Prepared>, ConfigError> {
        let Some((shown, client)) = &self.upstream else {
            return Ok(None);
        };
        // Whether it speaks TLS was looked at when the process began, and does not change.
        let Some(files) = of_upstream(config).files(true, file)? else {
            return Ok(None);
        };
        let pair = read(UPSTREAM, &files, file)?;
        let present = shown.present().not_after();
        refuse_ended(UPSTREAM, &files, pair.not_after(), present, now, file)?;
        let client = client.renew(identity(&pair));
        let client = client.map_err(|error| ConfigError::new(file, format!("upstream.{error}")))?;
        Ok(Some(Prepared { pair, client }))
    }

    /// Puts in force what was prepared.
    pub fn take(&self, prepared: Prepared) {
        if let Some((shown, client)) = &self.upstream {
            shown.exchange(prepared.pair);
            client.exchange(prepared.client);
        }
    }

    /// The certificates of services.
    pub fn services(&self) -> Arc<Vec<OfService>> {
        self.services.load_full()
    }

    /// These are the certificates of services from now on.
    pub fn set_services(&self, services: Vec<OfService>) {
        self.services.store(Arc::new(services));
    }

    /// Reads the pairs for services again: for each what it is for and when it ends, or why it stays as it was.
    pub fn reload_services(
        &self,
        file: &str,
        now: Timestamp,
    ) -> Vec<Result<(String, Timestamp), ConfigError>> {
        let services = self.services();
        let each = services.iter().map(|service| {
            let pair = read(&service.section, &service.files, file)?;
            let (ends, present) = (pair.not_after(), service.certificate.present().not_after());
            refuse_ended(&service.section, &service.files, ends, present, now, file)?;
            service.certificate.exchange(pair);
            Ok((service.section.clone(), ends))
        });
        each.collect()
    }

    /// When each ends, with what it is called in metrics and the section that it is of.
    pub fn ends(&self) -> Vec<(&'static str, String, Timestamp)> {
        let upstream = self.upstream.iter();
        let upstream = upstream.map(|(shown, _)| (UPSTREAM, UPSTREAM.to_owned(), shown));
        let services = self.services();
        let services = services.iter();
        let services =
            services.map(|service| (RESOURCE, service.section.clone(), &service.certificate));
        let all = upstream.chain(services);
        all.map(|(name, section, shown)| (name, section, shown.present().not_after()))
            .collect()
    }
}

/// A chain that has ended is not taken in place of one that ends later.
fn refuse_ended(
    section: &str,
    files: &PairFiles,
    ends: Timestamp,
    present: Timestamp,
    now: Timestamp,
    file: &str,
) -> Result<(), ConfigError> {
    if ends > now || present <= ends {
        return Ok(());
    }
    Err(ConfigError::new(
        file,
        format!(
            "{section}.client_certificate: `{}` ended at {}; give the renewed one",
            files.certificate.display(),
            ends.to_rfc3339()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Option<PairFiles>, String> {
        let config = Config::parse(text).unwrap();
        let is_tls = config.upstream.url.starts_with("https");
        let files = of_upstream(&config).files(is_tls, "f.toml");
        files.map_err(|error| error.to_string())
    }

    #[test]
    fn both_keys_or_none_and_only_over_tls() {
        let (certificate, key) = ("client_certificate = 'a.crt'", "client_key = 'a.key'");
        assert_eq!(found("[upstream]"), Ok(None));
        let both = found(&format!("[upstream]\n{certificate}\n{key}"));
        assert_eq!(
            both,
            Ok(Some(PairFiles {
                certificate: "a.crt".into(),
                key: "a.key".into(),
            }))
        );
        for (text, expected) in [
            (
                certificate.to_owned(),
                "f.toml: upstream.client_key: missing",
            ),
            (
                key.to_owned(),
                "f.toml: upstream.client_certificate: missing",
            ),
            (
                format!("url = 'http://127.0.0.1:9443'\n{certificate}\n{key}"),
                "f.toml: upstream.client_certificate: nobody would see it over http://",
            ),
        ] {
            let error = found(&format!("[upstream]\n{text}")).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn files_are_those_of_every_section() {
        let config = Config::parse(
            "[upstream]\nclient_certificate = 'a.crt'\nclient_key = 'a.key'\n[[resource]]\nprefix = '/o'\n\
             upstream = 'https://o'\naudience = 'o'\nclient_certificate = 'b.crt'\nclient_key = 'b.key'",
        );
        let names: Vec<PathBuf> = files(&config.unwrap()).collect();
        assert_eq!(
            names,
            ["a.crt", "a.key", "b.crt", "b.key"].map(PathBuf::from)
        );
    }
}
