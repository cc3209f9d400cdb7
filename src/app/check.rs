//! `riskgate check`: everything that `run` would look at, without binding a port or writing a file.

/// What the gateway's user could not do.
mod another_user;
/// What a gateway keeps for itself.
mod own_files;

use crate::adapters::clock::SystemClock;
use crate::adapters::geo::GeoDatabases;
use crate::adapters::geo::GeoSettings;
use crate::adapters::shared_signals::SignalSettings;
use crate::adapters::store;
use crate::app::actions;
use crate::app::alerts;
use crate::app::assemble;
use crate::app::assemble::writable;
use crate::app::audit;
use crate::app::certificates;
use crate::app::certificates::Expiry;
use crate::app::console;
use crate::app::edge;
use crate::app::keys::Keys;
use crate::app::reach;
use crate::app::rerun::glance;
use crate::app::resources;
use crate::app::rollout;
use crate::app::shared_signals;
use crate::app::sign_in;
use crate::app::traces;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::signing::SigningKeys;
use crate::domain::time::Timestamp;
use crate::domain::trail::foreign::StreamId;
use crate::flow::ports::Clock;
use crate::flow::ports::RecordStream;
use crate::flow::ports::StateError;
use crate::proxy::listener;
use crate::proxy::listener::ListenerTls;
use crate::telemetry::metrics::Metrics;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often Redis is asked, and the pause between.
const LOOKS: u128 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps the gateway from starting.
    pub problems: Vec<ConfigError>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// What is fine, a line each.
    pub fine: Vec<String>,
}

/// Checks a configuration. With `reach`, the identity server and Redis are contacted as well.
pub async fn check(config: &Config, file: &str, reach: bool) -> Findings {
    let mut findings = Findings::default();
    let places = writable::look(config, file);
    findings.problems.extend(places.problems);
    findings.warnings.extend(places.warnings);
    // What the matter is with the folder has been said then.
    let keys = if places.is_data_lost {
        Keys::throwaway(0)
    } else {
        own_files::look(config, file, &mut findings);
        another_user::look(config, &mut findings);
        own_files::secret(config, &mut findings)
    };
    match assemble::snapshot(config, file, &keys, 0) {
        Ok(assembled) => {
            let snapshot = &assembled.snapshot;
            findings.fine.push(format!(
                "policy: {} rules, version {}",
                snapshot.policy.rules().len(),
                snapshot.policy.version()
            ));
            findings
                .fine
                .push(format!("model: {}", snapshot.models.versions()));
            findings
                .fine
                .extend(snapshot.resources.iter().map(|resource| {
                    format!(
                        "resource: {} (up to {})",
                        resource.upstream,
                        resource.max_level.as_str()
                    )
                }));
            findings
                .fine
                .extend(signing(config, snapshot.signing.as_deref()));
            findings.warnings.extend(assembled.warnings);
            services(&mut findings, config, file, reach);
            let replayed = glance::glance(config);
            if let Some(planned) = &snapshot.plan {
                findings.fine.push(format!(
                    "rollout: {} stages, {} waiting for approval, at most {} % of known-good users challenged",
                    planned.plan.stages.len(),
                    planned.plan.proposals.len(),
                    planned.plan.budget.percent
                ));
                let seen = replayed.applications.as_ref();
                let warned = rollout::warnings(config, planned, seen);
                findings.warnings.extend(warned);
            }
            findings.fine.extend(replayed.summary);
            findings.warnings.extend(replayed.warnings);
        }
        Err(problems) => findings.problems.extend(problems),
    }
    if let Some(tls) = &config.server.tls {
        match certificates::load("server", tls, &listener::PROTOCOLS, file) {
            Ok(loaded) => {
                of_listener(&mut findings, "server", &tls.certificate, &loaded);
                let path = tls.certificate.display();
                let other = config.server.hosts.iter();
                let other = other.filter(|host| !loaded.is_for(without_port(host)));
                findings.warnings.extend(other.map(|host| {
                    format!(
                        "server.hosts: the certificate in `{path}` is not for `{host}`, so clients refuse it there; expected \
                         one that names all of server.hosts"
                    )
                }));
            }
            Err(error) => findings.problems.push(error),
        }
    }
    findings
        .problems
        .extend(edge::settings(config, file).err().into_iter().flatten());
    match actions::prepare(&config.actions, file) {
        Ok(Some(prepared)) => {
            findings
                .fine
                .push(format!("WSO2 may ask at: {}", prepared.listen()));
            if let (Some(tls), Some(loaded)) = (&config.actions.tls, prepared.tls()) {
                of_listener(&mut findings, "actions", &tls.certificate, &loaded);
            }
        }
        Ok(None) => {}
        Err(error) => findings.problems.push(error),
    }
    let (geo, missing) = GeoDatabases::checked(&GeoSettings::from(&config.geo));
    findings.fine.push(format!(
        "address databases: {}",
        geo.version().unwrap_or("of unknown version")
    ));
    findings.warnings.extend(
        missing
            .iter()
            .map(|warning| format!("{}: {warning}", warning.role.key())),
    );

    if let Ok(metrics) = Metrics::new() {
        let traces = traces::traces(config, file, &Arc::new(metrics));
        findings.problems.extend(traces.err());
    }
    findings
        .problems
        .extend(console::origin(config, file).err());
    match sign_in::prepare(config, file) {
        Ok(None) => {}
        Ok(Some(prepared)) => {
            let issuer = prepared.issuer();
            findings
                .fine
                .push(format!("console: operators sign in by {issuer} as well"));
            if reach && let Err(problem) = prepared.reach(Arc::new(SystemClock)).await {
                findings.problems.push(ConfigError::new(file, problem));
            }
        }
        Err(problems) => findings.problems.extend(problems),
    }
    match console::read(&config.operators_file()) {
        // What the matter is was said of the folder.
        _ if places.is_data_lost && config.admin.operators_file.is_none() => {}
        Ok(roster) => findings.fine.push(format!(
            "console: {} operators may sign in",
            roster.operators().len()
        )),
        Err(error) => findings.problems.push(error),
    }
    findings
        .problems
        .extend(audit::settings(config, file).err());
    findings.warnings.extend(audit::warnings(config));
    match audit::stream::open(config, file, &keys) {
        Ok(Some(stream)) => {
            let url = audit::stream::url(config).unwrap_or_default();
            let url = store::without_credentials(url);
            findings
                .fine
                .push(format!("audit stream: {} at {url}", stream.key()));
            if reach {
                findings.problems.extend(reach_stream(&stream, file).await);
            }
        }
        Ok(None) => {}
        Err(error) => findings.problems.push(error),
    }
    match alerts::settings(config, file) {
        Ok(Some(settings)) => findings.fine.push(format!(
            "alerts go to: {}",
            settings.destination.target.origin()
        )),
        Ok(None) => {}
        Err(error) => findings.problems.push(error),
    }
    match shared_signals::settings(config, file) {
        Ok(settings) => findings
            .fine
            .extend(settings.iter().flat_map(SignalSettings::describe)),
        Err(error) => findings.problems.push(error),
    }

    match assemble::management(config, file) {
        Ok(Some(_)) if assemble::sessions(config).is_on() => findings.fine.push(
            "sessions: ended at WSO2 when an analyst confirms a decision as compromised".to_owned(),
        ),
        Ok(_) => {}
        Err(error) => findings.problems.push(error),
    }
    match assemble::upstream(config, file) {
        Ok(upstream) => {
            findings
                .fine
                .push(format!("identity server: {}", config.upstream.url));
            if !upstream.verify {
                findings.warnings.push(
                    "upstream.danger.accept_any_certificate: passwords can be read on the way"
                        .to_owned(),
                );
            }
            let client = &config.upstream.client_certificate;
            if let (Some(own), Some(path)) = (&upstream.certificate, client) {
                let ends = own.present().not_after();
                let key = "upstream.client_certificate";
                certificate(&mut findings, ("client certificate", key), path, ends);
            }
            if reach {
                match reach::identity_server(&upstream) {
                    Ok(None) => {}
                    Ok(Some(warning)) => findings.warnings.push(format!("upstream.url: {warning}")),
                    Err(problem) => findings
                        .problems
                        .push(ConfigError::new(file, format!("upstream.url: {problem}"))),
                }
            }
        }
        Err(error) => findings.problems.push(error),
    }
    match assemble::store(config, file, &keys) {
        Ok(_) if places.is_data_lost => {}
        Ok(settings) => {
            let before = findings.problems.len();
            own_files::state(config, file, &settings, &mut findings);
            let is_right = findings.problems.len() == before;
            if reach && is_right && config.state.url.starts_with("redis") {
                findings
                    .problems
                    .extend(reach_store(config, &settings, file).await.err());
            }
        }
        Err(error) => findings.problems.push(error),
    }
    findings
}

fn of_listener(findings: &mut Findings, section: &str, path: &Path, tls: &ListenerTls) {
    let key = format!("{section}.tls.certificate");
    certificate(findings, ("certificate", &key), path, tls.not_after());
}

/// The name or address in an entry of `server.hosts`.
fn without_port(host: &str) -> &str {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

/// Says of a certificate that can be used when it ends.
fn certificate(
    findings: &mut Findings,
    (called, key): (&str, &str),
    path: &Path,
    not_after: Timestamp,
) {
    let (path, ends) = (path.display(), not_after.to_rfc3339());
    let remedy =
        "write the renewed one over it, with its key; a gateway that runs takes it over by itself";
    let warning = match Expiry::of(not_after, SystemClock.now()) {
        Expiry::Fine => {
            let line = format!("{called}: {path}, until {ends}");
            return findings.fine.push(line);
        }
        Expiry::Ended => {
            format!(
                "{key}: the {called} in `{path}` has ended at {ends}, and nobody accepts it; {remedy}"
            )
        }
        Expiry::Month | Expiry::Week | Expiry::Day => {
            format!("{key}: the {called} in `{path}` ends at {ends}; {remedy}")
        }
    };
    findings.warnings.push(warning);
}

/// What there is to say of the keys that sign, where something is signed.
fn signing(config: &Config, keys: Option<&SigningKeys>) -> Option<String> {
    let folder = config.signing_dir();
    let folder = folder.display();
    match keys {
        _ if !config.signs() => None,
        None => Some(format!("signing keys: made in {folder} at the first start")),
        Some(keys) => {
            let key = keys.default_key().ok()?;
            Some(format!(
                "signing keys: {folder}; {} signs, key {}",
                key.algorithm().as_str(),
                key.id()
            ))
        }
    }
}

/// What services are shown, and those that do not answer as configured.
fn services(findings: &mut Findings, config: &Config, file: &str, reach: bool) {
    let peers = match resources::peers(config, file, &[]) {
        Ok(peers) => peers,
        Err(problems) => return findings.problems.extend(problems),
    };
    for own in &peers.certificates {
        let ends = own.certificate.present().not_after();
        let path = &own.files.certificate;
        let key = format!("{}.client_certificate", own.section);
        certificate(findings, ("client certificate", &key), path, ends);
    }
    if !reach {
        return;
    }
    for (place, (_, peer)) in peers.named.iter().enumerate() {
        if let Err(problem) = reach::service(peer) {
            let key = format!("resource[{place}].upstream: {problem}");
            findings.problems.push(ConfigError::new(file, key));
        }
    }
}

/// What keeps a stream from being used, if something does.
async fn reach_stream(stream: &dyn RecordStream, file: &str) -> Option<ConfigError> {
    let mut error = stream.up_to(StreamId::LAST, 1).await.err()?;
    if matches!(error, StateError::Timeout) {
        // By now it is known why no connection came about.
        error = stream.up_to(StreamId::LAST, 1).await.err()?;
    }
    let problem = format!("audit.stream.url: {}", error.of_stream());
    Some(ConfigError::new(file, problem))
}

async fn reach_store(
    config: &Config,
    settings: &store::StoreSettings,
    file: &str,
) -> Result<(), ConfigError> {
    let failed = |error: &dyn Display| ConfigError::new(file, format!("state.url: {error}"));
    let store = store::open(&config.state.url, &config.state.data_dir, settings)
        .map_err(|error| failed(&error))?;
    // The first call of a lazy connection may come too early; a second look settles it. What takes longer says more than
    // that it does: the connection and one look at what is there have their own time.
    let mut looks = 0;
    let patience =
        LOOKS + 2 * settings.redis.connection_timeout.as_millis() / LOOK_EVERY.as_millis();
    loop {
        let error = match store.ping().await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        looks += 1;
        let is_late = matches!(error, StateError::Timeout);
        if looks >= patience || looks >= LOOKS && !is_late {
            return Err(failed(&error));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_certificate_for_another_name_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name).display().to_string();
        let names = ["login.example.com", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(place("crt"), made.cert.pem()).unwrap();
        std::fs::write(place("key"), made.signing_key.serialize_pem()).unwrap();
        let told = async |hosts: &str| {
            let text = format!(
                "server.hosts = {hosts}\nserver.tls = {{ certificate = '{}', key = '{}' }}\nstate.data_dir = '{}'",
                place("crt"),
                place("key"),
                place("data"),
            );
            let found = check(&Config::parse(&text).unwrap(), "f", false).await;
            let mut warnings = found.warnings.into_iter();
            warnings.find(|warning| warning.starts_with("server.hosts"))
        };
        let own = "['Login.Example.com', 'login.example.com:8443', '127.0.0.1:8443']";
        assert_eq!(told(own).await, None);
        assert_eq!(told("[]").await, None);
        let said = told("['login.example.com', 'sso.example.com:8443']")
            .await
            .unwrap();
        assert!(said.contains("not for `sso.example.com:8443`"), "{said}");
    }

    #[test]
    fn a_port_is_no_part_of_a_name() {
        for (host, name) in [
            ("login.example.com", "login.example.com"),
            ("login.example.com:8443", "login.example.com"),
            ("127.0.0.1:8443", "127.0.0.1"),
            ("[::1]:8443", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
