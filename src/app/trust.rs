//! Whom our own connections trust: the authorities of a configured file, or those of the system. Read at the start, and again
//! when the files change; what cannot be used is refused and the old ones stay. All are DER.

use crate::adapters::identity_server::IdentityServer;
use crate::adapters::otlp::Exporter;
use crate::adapters::redis::RedisAuthorities;
use crate::adapters::redis::RedisStream;
use crate::adapters::redis::RedisTls;
use crate::app::alerts::Delivery;
use crate::config::Config;
use crate::config::ConfigError;
use crate::proxy::certificate::CertificateError;
use crate::proxy::certificate::read_certificates;
use crate::proxy::upstream::Upstream;
use crate::telemetry::metrics::Metrics;
use parking_lot::Mutex;
use pem::Pem;
use rustls::RootCertStore;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What they are called in metrics.
const AUTHORITIES: &str = "authorities";

/// What is wrong with a file of authorities.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` {problem}; expected the certificates of the authorities to trust, PEM")]
pub struct TrustError {
    path: PathBuf,
    problem: String,
}

/// The authorities of a file; none without one.
///
/// # Errors
/// What is wrong with the file.
pub fn of_file(file: Option<&Path>) -> Result<Vec<Vec<u8>>, TrustError> {
    let Some(path) = file else {
        return Ok(Vec::new());
    };
    let wrong = |problem: String| TrustError {
        path: path.to_owned(),
        problem,
    };
    let certificates = read_certificates(path).map_err(|error| match error {
        CertificateError::Unreadable { cause, .. } => {
            wrong(format!("cannot be read as PEM certificates: {cause}"))
        }
        _ => wrong("holds no certificate".to_owned()),
    })?;
    // Not every client looks at them before it needs them, and one panics.
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| wrong(format!("holds one that is no authority's: {error}")))?;
    }
    let certificates = certificates.iter();
    Ok(certificates
        .map(|certificate| certificate.to_vec())
        .collect())
}

/// Those of the system.
pub fn of_system() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found
        .into_iter()
        .map(|certificate| certificate.to_vec())
        .collect()
}

/// The authorities of a file; without one those of the system, where TLS is spoken.
///
/// # Errors
/// What is wrong with the file.
pub fn of_file_or_system(file: Option<&Path>, is_tls: bool) -> Result<Vec<Vec<u8>>, TrustError> {
    if file.is_none() && is_tls {
        return Ok(of_system());
    }
    of_file(file)
}

/// The same for Redis, which `key` names.
///
/// # Errors
/// File and key.
pub fn redis(path: Option<&Path>, key: &str, file: &str) -> Result<RedisTls, ConfigError> {
    let found = of_file(path).map_err(|error| ConfigError::new(file, format!("{key}: {error}")))?;
    let authorities = match path {
        Some(_) => RedisAuthorities::of(encoded(&found)),
        None => RedisAuthorities::default(),
    };
    Ok(RedisTls {
        authorities,
        ..RedisTls::default()
    })
}

fn encoded(authorities: &[Vec<u8>]) -> Vec<u8> {
    let parts = authorities
        .iter()
        .map(|der| Pem::new("CERTIFICATE", der.as_slice()));
    pem::encode_many(&parts.collect::<Vec<_>>()).into_bytes()
}

/// The key that names the file, and the file, as a configuration has it.
type Named = fn(&Config) -> (&'static str, Option<&Path>);

/// Every place that may name one, as the parts below have them.
const PLACES: [Named; 5] = [UPSTREAM, STATE, STREAM, ALERTS, TRACES];
const UPSTREAM: Named = |config| ("upstream.ca_file", config.upstream.ca_file.as_deref());
const STATE: Named = |config| ("state.redis_ca_file", config.state.redis_ca_file.as_deref());
const STREAM: Named = |config| match config.audit.stream.ca_file.as_deref() {
    Some(path) => ("audit.stream.ca_file", Some(path)),
    None => STATE(config),
};
const ALERTS: Named = |config| ("alerts.ca_file", config.alerts.ca_file.as_deref());
const TRACES: Named = |config| ("traces.ca_file", config.traces.ca_file.as_deref());

/// The files that are looked at by themselves. Those of services, receivers of shared signals and the operators' provider
/// are read with the rest of the configuration.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let named = PLACES.iter().filter_map(|place| place(config).1);
    named.map(Path::to_owned)
}

/// Whether a configuration names other files than another one.
pub fn differ(config: &Config, from: &Config) -> bool {
    PLACES.iter().any(|place| place(config).1 != place(from).1)
}

/// The authorities of a file; `None` for those of the system.
type Authorities = Option<Vec<Vec<u8>>>;

/// Puts other authorities in force.
type Take = dyn Fn(&Authorities) -> Result<(), String> + Send + Sync;

/// A part of the process that trusts somebody.
struct Part {
    named: Named,
    present: Mutex<Authorities>,
    take: Box<Take>,
}

/// The parts of one process that trust somebody, as far as that can be exchanged.
pub struct Trusted {
    /// What the files held before anybody read them in earnest, so that an edit in between is seen as one.
    before: Vec<(PathBuf, Authorities)>,
    parts: Vec<Part>,
}

/// What was read and is not in force yet.
#[derive(Debug, Default)]
pub struct Prepared(Vec<(usize, &'static str, Authorities)>);

impl std::fmt::Debug for Trusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trusted({})", self.parts.len())
    }
}

/// For clients that ask the system for nothing by themselves.
fn or_system(authorities: &Authorities, is_tls: bool) -> Vec<Vec<u8>> {
    match authorities {
        Some(authorities) => authorities.clone(),
        None if is_tls => of_system(),
        None => Vec::new(),
    }
}

impl Trusted {
    /// Of a process that begins with this configuration; its parts are told as they are made.
    pub fn before(config: &Config) -> Self {
        // What cannot be read is said of the part that needs it.
        let held = |path: PathBuf| {
            let found = read(Some(&path)).unwrap_or_default();
            (path, found)
        };
        Self {
            before: files(config).map(held).collect(),
            parts: Vec::new(),
        }
    }

    fn add(
        &mut self,
        config: &Config,
        named: Named,
        take: impl Fn(&Authorities) -> Result<(), String> + Send + Sync + 'static,
    ) {
        let path = named(config).1;
        let before = self.before.iter();
        let mut before = before.filter(|(known, _)| Some(known.as_path()) == path);
        let present = before.next().and_then(|(_, held)| held.clone());
        self.parts.push(Part {
            named,
            present: Mutex::new(present),
            take: Box::new(take),
        });
    }

    /// The identity server, on the way of requests and by the gateway's own client.
    pub fn upstream(
        &mut self,
        config: &Config,
        upstream: &Arc<Upstream>,
        client: &Arc<IdentityServer>,
    ) {
        let (upstream, client) = (Arc::clone(upstream), Arc::clone(client));
        self.add(config, UPSTREAM, move |authorities| {
            let found = or_system(authorities, upstream.settings().tls);
            let renewed = client.trust(found).map_err(|error| error.to_string())?;
            upstream.trust(authorities.as_deref().unwrap_or_default());
            client.exchange(renewed);
            Ok(())
        });
    }

    /// The Redis of the state.
    pub fn state(&mut self, config: &Config, redis: &RedisTls) {
        self.redis(config, STATE, redis.authorities.clone());
    }

    /// That of the stream of records.
    pub fn stream(&mut self, config: &Config, stream: &RedisStream) {
        self.redis(config, STREAM, stream.authorities());
    }

    fn redis(&mut self, config: &Config, named: Named, redis: RedisAuthorities) {
        self.add(config, named, move |authorities| {
            redis.exchange(authorities.as_deref().map(encoded));
            Ok(())
        });
    }

    /// The receiver of alerts.
    pub fn alerts(&mut self, config: &Config, delivery: &Delivery) {
        let line = delivery.line();
        self.add(config, ALERTS, move |authorities| {
            let present = line.load_full();
            let found = or_system(authorities, present.is_tls());
            let new = present.trusting(found).map_err(|error| error.to_string())?;
            line.store(Arc::new(new));
            Ok(())
        });
    }

    /// The collector of spans.
    pub fn traces(&mut self, config: &Config, exporter: &Exporter) {
        let (client, is_tls) = (exporter.client(), exporter.is_tls());
        self.add(config, TRACES, move |authorities| {
            let found = or_system(authorities, is_tls);
            client.trust(&found).map_err(|error| error.to_string())
        });
    }

    /// Reads every file, so that they can be taken together with the rest of a configuration.
    ///
    /// # Errors
    /// File and key of the first that cannot be used.
    pub fn prepare(&self, config: &Config, file: &str) -> Result<Prepared, ConfigError> {
        let parts = self.parts.iter().enumerate();
        let read = parts.map(|(place, part)| self::prepare(place, part, config, file));
        let read = read.collect::<Result<Vec<_>, _>>()?;
        Ok(Prepared(read.into_iter().flatten().collect()))
    }

    /// Puts in force what was prepared.
    pub fn take(&self, prepared: Prepared, metrics: &Metrics) {
        for (place, key, authorities) in prepared.0 {
            let Some(part) = self.parts.get(place) else {
                continue;
            };
            let taken = (part.take)(&authorities);
            metrics.certificate_reload(AUTHORITIES, taken.is_ok());
            match taken {
                Ok(()) => {
                    let count = authorities.as_ref().map(Vec::len);
                    *part.present.lock() = authorities;
                    tracing::info!(
                        key,
                        count,
                        "other authorities are trusted from now on; what is under way ends on the connections that are open, and others are made"
                    );
                }
                Err(error) => {
                    tracing::error!(
                        key,
                        error,
                        "the authorities are not taken; the old ones stay"
                    );
                }
            }
        }
    }

    /// Reads all files again. What cannot be used leaves the old ones where they are.
    pub fn reload(&self, config: &Config, file: &str, metrics: &Metrics) {
        for (place, part) in self.parts.iter().enumerate() {
            match prepare(place, part, config, file) {
                Ok(found) => self.take(Prepared(found.into_iter().collect()), metrics),
                Err(error) => {
                    metrics.certificate_reload(AUTHORITIES, false);
                    tracing::error!(error = %error, "the authorities are not taken; the old ones stay");
                }
            }
        }
    }
}

fn read(path: Option<&Path>) -> Result<Authorities, TrustError> {
    path.map(|path| of_file(Some(path))).transpose()
}

/// What a part is to trust; `None` where it does already.
fn prepare(
    place: usize,
    part: &Part,
    config: &Config,
    file: &str,
) -> Result<Option<(usize, &'static str, Authorities)>, ConfigError> {
    let (key, path) = (part.named)(config);
    let found = read(path).map_err(|error| ConfigError::new(file, format!("{key}: {error}")))?;
    let is_known = *part.present.lock() == found;
    Ok((!is_known).then_some((place, key, found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn authority() -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        made.unwrap().cert.pem()
    }

    #[test]
    fn what_is_no_authority_is_refused_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let good = authority();
        let garbled = pem::encode(&Pem::new("CERTIFICATE", b"canary".as_slice()));
        for (text, is_good) in [
            (good.clone(), true),
            (format!("{good}{}", authority()), true),
            (String::new(), false),
            ("canary".to_owned(), false),
            (garbled.clone(), false),
            (format!("{good}{garbled}"), false),
        ] {
            fs::write(&path, &text).unwrap();
            match of_file(Some(&path)) {
                Ok(found) => assert!(is_good && !found.is_empty(), "{text}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!is_good, "{error}");
                    assert!(
                        error.contains("ca.pem") && error.contains("expected"),
                        "{error}"
                    );
                    assert!(!error.contains("canary"), "{error}");
                }
            }
        }
        assert!(of_file(None).unwrap().is_empty());
        assert!(of_file_or_system(None, false).unwrap().is_empty());
    }

    #[test]
    fn a_part_is_told_of_what_is_new_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, authority()).unwrap();
        let config = Config::parse(&format!("upstream.ca_file = '{}'", path.display())).unwrap();
        let metrics = Metrics::new().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut trusted = Trusted::before(&config);
        let hears = Arc::clone(&told);
        trusted.add(&config, UPSTREAM, move |authorities| {
            hears.lock().push(authorities.as_ref().map(Vec::len));
            Ok(())
        });
        let after = |text: Option<String>, config: &Config| {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            trusted.reload(config, "f", &metrics);
            std::mem::take(&mut *told.lock())
        };
        assert_eq!(after(None, &config), []);
        let both = format!("{}{}", authority(), authority());
        assert_eq!(after(Some(both.clone()), &config), [Some(2)]);
        assert_eq!(after(Some("damaged".to_owned()), &config), []);
        assert_eq!(after(Some(both), &config), []);
        // Those of the system, and back.
        let system = Config::default();
        assert!(differ(&system, &config) && !differ(&config, &config));
        assert_eq!(after(None, &system), [None]);
        assert_eq!(after(None, &config), [Some(2)]);
        // What is prepared is in force once it is taken, and not before.
        fs::write(&path, authority()).unwrap();
        let prepared = trusted.prepare(&config, "f").unwrap();
        assert!(told.lock().is_empty());
        trusted.take(prepared, &metrics);
        assert_eq!(std::mem::take(&mut *told.lock()), [Some(1)]);
        fs::write(&path, "damaged").unwrap();
        let error = trusted.prepare(&config, "f").unwrap_err().to_string();
        assert!(error.starts_with("f: upstream.ca_file: `"), "{error}");
    }

    #[test]
    fn a_stream_without_one_of_its_own_trusts_what_the_state_trusts() {
        let state = "state.redis_ca_file = 'a.pem'\n";
        let config = Config::parse(state).unwrap();
        assert_eq!(
            STREAM(&config),
            ("state.redis_ca_file", Some(Path::new("a.pem")))
        );
        let config = Config::parse(&format!("{state}audit.stream.ca_file = 'b.pem'")).unwrap();
        assert_eq!(
            STREAM(&config),
            ("audit.stream.ca_file", Some(Path::new("b.pem")))
        );
    }
}
