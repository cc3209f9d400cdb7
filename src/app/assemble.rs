//! From the configuration to the parts, all of it before any port is bound. `run`, `check` and reload call the same
//! functions, so that what one accepts the others accept.

/// Values that no configuration can have.
mod bounds;

/// What a start needs beyond a snapshot.
pub(in crate::app) mod start;

/// Whether what is written can be.
pub(in crate::app) mod writable;

use crate::adapters::embedded::EmbeddedSettings;
use crate::adapters::identity_server::IdentityServerSettings;
use crate::adapters::identity_server::ManagementCredential;
use crate::adapters::redis::Notice;
use crate::adapters::redis::RedisSettings;
use crate::adapters::store;
use crate::adapters::store::StoreSettings;
use crate::app::keys;
use crate::app::keys::Keys;
use crate::app::models;
use crate::app::models::Proved;
use crate::app::own_certificates;
use crate::app::resources;
use crate::app::rollout;
use crate::app::secret_file;
use crate::app::signing;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::demand::sealed::DemandCookieKey;
use crate::domain::enforcement::step_up::ProofKind;
use crate::domain::headers::ReservedHeaders;
use crate::domain::ids::NameSpace;
use crate::domain::ids::Pseudonymizer;
use crate::domain::page_key::PageKey;
use crate::domain::policy::PolicySet;
use crate::domain::policy::lint::Severity;
use crate::domain::resign::origin::OriginSeal;
use crate::domain::route::RouteTable;
use crate::domain::signals::client_addr::TrustedProxies;
use crate::domain::signals::session::DeviceCookieKey;
use crate::domain::signature::HeaderSigner;
use crate::domain::signing::SigningKeys;
use crate::flow::desk::sessions::Sessions;
use crate::flow::resign::Resign;
use crate::flow::score::Models;
use crate::flow::snapshot::Snapshot;
use crate::proxy::own_certificate::OwnCertificate;
use crate::proxy::upstream::UpstreamSettings;
use std::sync::Arc;
use std::time::Duration;

/// The policy that is built in, for when no file is there.
pub(in crate::app) const SHIPPED_POLICY: &str = include_str!("../../conf/policy.toml");

/// The parts that a reload exchanges, and what an operator should know about them.
#[derive(Debug)]
pub struct Assembled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Warnings; each is a sentence.
    pub warnings: Vec<String>,
    /// How the model is doing: `None` when all is well.
    pub model_degraded: Option<String>,
    /// Its models, for the snapshot after this one.
    pub proved: Proved,
}

/// More requests than this under way to one upstream are no limit.
const REQUESTS_MAX: usize = 100_000;

/// Everything that is wrong with a configuration.
pub type Problems = Vec<ConfigError>;

/// Whether every place that is written to can be, as far as that shows before it is.
pub fn can_be_written(config: &Config, file: &str) -> Result<(), Problems> {
    let problems = writable::look(config, file).problems;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// Builds a snapshot. All problems are found in one go.
pub fn snapshot(
    config: &Config,
    file: &str,
    keys: &Keys,
    version: u64,
) -> Result<Assembled, Problems> {
    snapshot_after(config, file, keys, version, &Proved::default())
}

/// Builds a snapshot that follows another one, whose models it takes over where nothing has changed that their proof depends
/// on. All problems are found in one go.
pub fn snapshot_after(
    config: &Config,
    file: &str,
    keys: &Keys,
    version: u64,
    before: &Proved,
) -> Result<Assembled, Problems> {
    let mut found = Vec::new();
    // What is missing degrades and never stops: every login still goes through.
    let mut loaded =
        models::load(config, &config.model_dir(), before, &mut found).unwrap_or_else(|error| {
            let text = format!(
                "model.dir: no model: {error}; every request is unscored until there is one that `riskgate model inspect` accepts"
            );
            found.push(text.clone());
            models::Loaded::nothing(text)
        });
    let mut assembled = snapshot_with(config, file, keys, version, loaded.models)?;
    assembled.snapshot.challenger =
        models::challenger(config, before, &mut loaded.proved, &mut found);
    assembled.warnings.extend(found);
    assembled.model_degraded = loaded.degraded;
    assembled.proved = loaded.proved;
    Ok(assembled)
}

/// Builds a snapshot around models that are loaded already.
pub fn snapshot_with(
    config: &Config,
    file: &str,
    keys: &Keys,
    version: u64,
    models: Models,
) -> Result<Assembled, Problems> {
    let mut problems = Problems::new();
    let mut warnings = Vec::new();
    let mut keep = |result: Result<(), ConfigError>| problems.extend(result.err());
    let at = |key: &str, error: &dyn std::fmt::Display| {
        ConfigError::new(file, format!("{key}: {error}"))
    };

    let (policy, found) = match policy(config) {
        Ok(loaded) => (Some(loaded.0), loaded.1),
        Err(mut errors) => {
            errors.drain(..).for_each(|error| keep(Err(error)));
            (None, Vec::new())
        }
    };
    warnings.extend(found);
    let has_terms = policy
        .as_ref()
        .is_some_and(|policy| !policy.tokens().is_empty());
    if has_terms && config.actions.secret_file.is_none() {
        warnings.push(
            "policy: `[token]` has no effect without `actions.secret_file`, since WSO2 cannot ask before it issues a token"
                .to_owned(),
        );
    }
    let routes = RouteTable::with_settings(&config.routes)
        .map_err(|error| keep(Err(at("routes", &error))))
        .ok();
    let routes = routes.and_then(|routes| {
        resources::resources(config, file, routes)
            .map_err(|found| found.into_iter().for_each(|problem| keep(Err(problem))))
            .ok()
    });
    let trusted = TrustedProxies::parse(&config.server.trusted_proxies)
        .map_err(|error| keep(Err(at("server.trusted_proxies", &error))))
        .ok();
    let reserved = ReservedHeaders::new(&config.headers.reserved)
        .map_err(|error| keep(Err(at("headers.reserved", &error))))
        .ok();
    let signer = signer(config, file).map_err(|error| keep(Err(error))).ok();
    let signing = signing::load(config).map_err(|error| keep(Err(error)));
    let signing = signing.ok().flatten().map(Arc::new);
    for problem in config.step_up.problems() {
        keep(Err(at("step_up", &problem)));
    }
    let plan = rollout::planned(config, file).map_err(|error| keep(Err(error)));
    let plan = plan.ok().flatten();
    let modes = rollout::modes(config, plan.as_ref());
    for (place, entry) in config.step_up.applications.iter().enumerate() {
        let tenant = entry.tenant.as_deref();
        if entry.proof == Some(ProofKind::None) && modes.enforces(tenant, &entry.client_id) {
            let key = format!("step_up.applications[{place}].proof");
            let remedy = format!(
                "`none`, but mode `enforce` holds for `{}`: nothing would show that the factor was given; set a proof, \
                 or a [[mode.overrides]] (or a [[stage]] of the rollout file) for it with mode `monitor` or `advise`",
                entry.client_id
            );
            keep(Err(at(&key, &remedy)));
        }
    }
    for (place, entry) in config.step_up.applications.iter().enumerate() {
        if entry.proof == Some(ProofKind::Action) && config.actions.secret_file.is_none() {
            let key = format!("step_up.applications[{place}].proof");
            let remedy = format!(
                "`action` for `{}`, but nobody is answered without `actions.secret_file`: nothing would show that the \
                 factor was given",
                entry.client_id
            );
            keep(Err(at(&key, &remedy)));
        }
    }
    for problem in bounds::problems(config, file) {
        keep(Err(problem));
    }
    if let Some(problem) = config.review.problem() {
        keep(Err(at("review", &problem)));
    }

    let (
        Some(policy),
        Some((routes, resources)),
        Some(trusted_proxies),
        Some(reserved_headers),
        Some(signer),
    ) = (policy, routes, trusted, reserved, signer)
    else {
        return Err(problems);
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let people = Pseudonymizer::new(keys.pseudonyms.expose()).with_previous(
        keys.previous
            .as_ref()
            .map(|keys| keys.pseudonyms.expose().as_slice()),
    );
    let snapshot = Snapshot {
        version,
        routes,
        break_glass: policy.break_glass().keys(&people),
        policy,
        rollout: modes,
        plan,
        step_up: config.step_up.clone(),
        signer,
        resign: resign(config, signing.as_ref(), keys),
        signing,
        resources,
        trusted_proxies,
        reserved_headers,
        hosts: config
            .server
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
        models,
        challenger: None,
        budget: Duration::from_millis(config.score.budget_ms),
        people,
        device_key: DeviceCookieKey::new(keys.devices.expose()).with_previous(
            keys.previous
                .as_ref()
                .map(|keys| keys.devices.expose().as_slice()),
        ),
        answers_wso2: config.actions.secret_file.is_some(),
        demand_key: DemandCookieKey::new(keys.demands.expose()).with_previous(
            keys.previous
                .as_ref()
                .map(|keys| keys.demands.expose().as_slice()),
        ),
        pages: PageKey::new(keys.pages.expose()).with_previous(
            keys.previous
                .as_ref()
                .map(|keys| keys.pages.expose().as_slice()),
        ),
        review: config.review.clone(),
        audit_passed: config.audit.passed,
        refresh_token_lifetime: config.upstream.refresh_token_lifetime(),
    };
    Ok(Assembled {
        snapshot,
        warnings,
        model_degraded: None,
        proved: Proved::default(),
    })
}

/// How tokens are signed anew, if they are and there are keys.
fn resign(config: &Config, signing: Option<&Arc<SigningKeys>>, keys: &Keys) -> Option<Resign> {
    let signing = signing.filter(|_| config.signing.resign_tokens)?;
    let previous = keys.previous.as_ref();
    Some(Resign {
        keys: Arc::clone(signing),
        seal: OriginSeal::new(keys.origins.expose())
            .with_previous(previous.map(|keys| keys.origins.expose().as_slice())),
        algorithm: config.signing.access_token_algorithm,
    })
}

/// The policy and what its lint warns of. What the lint calls an error is one.
pub(in crate::app) fn policy(config: &Config) -> Result<(PolicySet, Vec<String>), Problems> {
    let (file, text) = match config.policy_file() {
        Some(path) => {
            let file = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Ok(text) => (file, text),
                Err(error) => {
                    return Err(vec![ConfigError::new(
                        file,
                        format!("policy.file: cannot be read: {error}"),
                    )]);
                }
            }
        }
        None => ("built-in policy".to_owned(), SHIPPED_POLICY.to_owned()),
    };
    policy_of(&text, &file)
}

/// The same of a text, which messages call `file`.
pub(in crate::app) fn policy_of(
    text: &str,
    file: &str,
) -> Result<(PolicySet, Vec<String>), Problems> {
    let policy = PolicySet::parse(text).map_err(|errors| {
        errors
            .0
            .iter()
            .map(|error| ConfigError::new(file, error.to_string()))
            .collect::<Problems>()
    })?;
    let (errors, warnings): (Vec<_>, Vec<_>) = policy
        .lint()
        .into_iter()
        .partition(|finding| finding.severity == Severity::Error);
    if errors.is_empty() {
        Ok((
            policy,
            warnings
                .iter()
                .map(|finding| format!("{file}: {finding}"))
                .collect(),
        ))
    } else {
        Err(errors
            .iter()
            .map(|finding| ConfigError::new(file, finding.to_string()))
            .collect())
    }
}

fn signer(config: &Config, file: &str) -> Result<Option<HeaderSigner>, ConfigError> {
    let settings = &config.headers.signature;
    if !settings.enabled {
        return Ok(None);
    }
    let Some(path) = &settings.key_file else {
        return Err(ConfigError::new(
            file,
            "headers.signature.key_file: missing, expected a file of at least 32 bytes",
        ));
    };
    let plain = settings
        .key_id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if settings.key_id.is_empty() || !plain {
        return Err(ConfigError::new(
            file,
            "headers.signature.key_id: expected letters, digits, `-`, `_` or `.`",
        ));
    }
    let key = keys::read(path, "headers.signature.key_file")?;
    Ok(Some(HeaderSigner::new(
        settings.key_id.clone(),
        key.expose(),
    )))
}

/// Settings of both stores.
pub fn store(config: &Config, file: &str, keys: &Keys) -> Result<StoreSettings, ConfigError> {
    let mut redis = RedisSettings::new(keys.seals.clone());
    redis.previous_seal_key = keys.previous.as_ref().map(|keys| keys.seals.clone());
    redis.response_timeout = Duration::from_millis(config.state.response_timeout_ms.max(1));
    redis.connection_timeout = Duration::from_millis(config.state.connect_timeout_ms.max(1));
    redis.on_warning = Some(Notice::to(|text| tracing::warn!("{text}")));
    redis.tls = trust::redis(
        config.state.redis_ca_file.as_deref(),
        "state.redis_ca_file",
        file,
    )?;
    sentinels(config, file, &mut redis)?;
    Ok(StoreSettings {
        embedded: EmbeddedSettings {
            names: Pseudonymizer::new(keys.pseudonyms.expose()).value(NameSpace::Tenant, b"names"),
            ..EmbeddedSettings::default()
        },
        redis,
    })
}

/// As whom Sentinels are asked.
fn sentinels(config: &Config, file: &str, redis: &mut RedisSettings) -> Result<(), ConfigError> {
    let wrong = |problem: String| ConfigError::new(file, format!("state.sentinel_{problem}"));
    let (username, path) = match (
        &config.state.sentinel_username,
        &config.state.sentinel_password_file,
    ) {
        (None, None) => return Ok(()),
        (Some(_), None) => {
            let problem = "username: there is no state.sentinel_password_file, expected both";
            return Err(wrong(problem.to_owned()));
        }
        (username, Some(path)) => (username, path),
    };
    if username.as_ref().is_some_and(String::is_empty) {
        return Err(wrong("username: empty, expected a name".to_owned()));
    }
    let password = secret_file::read(path, "the password of the Sentinels")
        .map_err(|problem| wrong(format!("password_file: {problem}")))?;
    redis.sentinel_username.clone_from(username);
    redis.sentinel_password = Some(password);
    Ok(())
}

/// With what the gateway ends sessions, where that is configured.
pub fn management(
    config: &Config,
    file: &str,
) -> Result<Option<ManagementCredential>, ConfigError> {
    let Some(settings) = &config.upstream.management else {
        return Ok(None);
    };
    let wrong = |problem: String| ConfigError::new(file, format!("upstream.management.{problem}"));
    let path = settings.secret_file.display();
    let secret = secret_file::text(&settings.secret_file)
        .map_err(|problem| wrong(format!("secret_file: {problem}")))?;
    if settings.end_sessions && settings.client_id.is_empty() {
        return Err(wrong("end_sessions: `client_id` is empty".to_owned()));
    }
    if settings.end_sessions && secret.expose().is_empty() {
        return Err(wrong(format!("end_sessions: `{path}` is empty")));
    }
    Ok(Some(ManagementCredential {
        client_id: settings.client_id.clone(),
        secret,
    }))
}

/// How the gateway itself calls the identity server.
pub fn identity_server(
    config: &Config,
    file: &str,
    upstream: &UpstreamSettings,
) -> Result<IdentityServerSettings, ConfigError> {
    let management = management(config, file)?;
    let authorities = if upstream.authorities.is_empty() && upstream.tls {
        trust::of_system()
    } else {
        upstream.authorities.clone()
    };
    Ok(IdentityServerSettings {
        origin: config.upstream.url.trim_end_matches('/').to_owned(),
        authorities,
        verify: upstream.verify,
        identity: upstream
            .certificate
            .as_ref()
            .map(|own| own_certificates::identity(&own.present())),
        connect_timeout: upstream.connect_timeout,
        idle_timeout: upstream.idle_timeout,
        management,
    })
}

/// Whose sessions are remembered: nobody's, where they are not to be ended.
pub fn sessions(config: &Config) -> Sessions {
    let sessions = Sessions::default();
    sessions.switch(ends_sessions(config));
    sessions
}

/// Whether the sessions of users are ended on the word of an analyst.
pub fn ends_sessions(config: &Config) -> bool {
    let management = config.upstream.management.as_ref();
    management.is_some_and(|settings| settings.end_sessions)
}

/// Where the identity server is.
pub fn upstream(config: &Config, file: &str) -> Result<UpstreamSettings, ConfigError> {
    let settings = &config.upstream;
    let origin = origin(&settings.url).map_err(|expected| {
        ConfigError::new(
            file,
            format!(
                "upstream.url: `{}`: {expected}",
                store::without_credentials(&settings.url)
            ),
        )
    })?;
    let authorities = trust::of_file(settings.ca_file.as_deref())
        .map_err(|error| ConfigError::new(file, format!("upstream.ca_file: {error}")))?;
    let named = own_certificates::of_upstream(config);
    let files = named.files(origin.tls, file)?;
    let own = files.map(|files| own_certificates::read(named.section, &files, file));
    let certificate = own
        .transpose()?
        .map(|pair| Arc::new(OwnCertificate::new(pair)));
    if !(1..=REQUESTS_MAX).contains(&settings.requests_max) {
        let found = settings.requests_max;
        let problem = format!("upstream.requests_max: {found}, expected 1 to {REQUESTS_MAX}");
        return Err(ConfigError::new(file, problem));
    }
    Ok(UpstreamSettings {
        tls: origin.tls,
        host: origin.host,
        port: origin.port,
        authorities,
        verify: !settings.danger.accept_any_certificate,
        certificate,
        connect_timeout: Duration::from_millis(settings.connect_timeout_ms.max(1)),
        read_timeout: Duration::from_secs(settings.read_timeout_seconds.max(1)),
        idle_timeout: Duration::from_secs(settings.idle_timeout_seconds.max(1)),
        requests_max: settings.requests_max,
        reuse_for_posts: settings.reuse_for_posts,
    })
}

/// Where a server is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Reads `https://host:port` or `http://host:port`. The error says what was expected.
pub fn origin(url: &str) -> Result<Origin, &'static str> {
    let general = "expected https://host:port or http://host:port";
    let uri: http::Uri = url.parse().map_err(|_| general)?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(general),
    };
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("expected no credentials");
    }
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or("expected a host")?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("expected no path: requests keep their own");
    }
    Ok(Origin {
        tls,
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    /// As whom Sentinels are asked by a configuration whose password file holds `text`.
    fn asked(said: &str, text: &str) -> Result<(Option<String>, Option<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sentinel.password");
        std::fs::write(&path, text).unwrap();
        let said = said.replace("FILE", &path.display().to_string());
        let config = Config::parse(&format!("[state]\n{said}")).unwrap();
        let mut redis = RedisSettings::new(Secret::new(Vec::new()));
        sentinels(&config, "riskgate.toml", &mut redis).map_err(|error| error.to_string())?;
        let password = redis.sentinel_password.map(|text| text.expose().clone());
        Ok((redis.sentinel_username, password))
    }

    #[test]
    fn sentinels_are_asked_as_the_file_says() {
        let some = |text: &str| Some(text.to_owned());
        let file = "sentinel_password_file = 'FILE'\n";
        let user = "sentinel_username = 'edge'\n";
        assert_eq!(asked("", "sesame"), Ok((None, None)));
        assert_eq!(asked(file, "sesame\n"), Ok((None, some("sesame"))));
        let both = format!("{user}{file}");
        assert_eq!(asked(&both, "sesame"), Ok((some("edge"), some("sesame"))));
    }

    #[test]
    fn what_sentinels_cannot_be_asked_with_names_its_key() {
        let file = "sentinel_password_file = 'FILE'\n";
        for (said, text, expected) in [
            (
                "sentinel_username = 'edge'",
                "",
                "state.sentinel_username: ",
            ),
            (
                &format!("sentinel_username = ''\n{file}"),
                "sesame",
                "state.sentinel_username: empty",
            ),
            (file, " \n", "is empty, expected the password"),
            (
                "sentinel_password_file = 'FILE.not'",
                "",
                "state.sentinel_password_file: `",
            ),
        ] {
            let error = asked(said, text).unwrap_err();
            assert!(error.contains(expected), "{said}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_without_showing_it() {
        let config = Config::parse("upstream.url = 'https://admin:sesame@wso2'").unwrap();
        let error = upstream(&config, "f").unwrap_err().to_string();
        assert_eq!(
            error,
            "f: upstream.url: `https://…@wso2`: expected no credentials"
        );
    }
}
