//! From `[shared_signals]` to what tells: issuer, receivers, their authorities and what they want to be shown.

use crate::adapters::entropy::OsEntropy;
use crate::adapters::shared_signals::Means;
use crate::adapters::shared_signals::ReceiverSettings;
use crate::adapters::shared_signals::SignalSettings;
use crate::adapters::shared_signals::SignallingSink;
use crate::adapters::shared_signals::Transmitter;
use crate::adapters::target::Target;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::shared_signals::ReceiverSettings as Said;
use crate::domain::secret::Secret;
use crate::domain::shared_signal;
use crate::flow::AuthFlow;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Receivers at most.
const RECEIVERS_MAX: usize = 8;
/// The longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 32;
/// The longest audience, in bytes.
const AUDIENCE_BYTES_MAX: usize = 500;
/// The longest value of `Authorization`, in bytes.
const AUTHORIZATION_BYTES_MAX: usize = 4_096;

/// What `[shared_signals]` says, when somebody is told.
pub fn settings(config: &Config, file: &str) -> Result<Option<SignalSettings>, ConfigError> {
    let said = &config.shared_signals;
    let wrong = |problem: String| Err(ConfigError::new(file, format!("shared_signals.{problem}")));
    if said.receivers.is_empty() {
        return Ok(None);
    }
    if said.receivers.len() > RECEIVERS_MAX {
        let found = said.receivers.len();
        return wrong(format!(
            "receivers: {found}, expected at most {RECEIVERS_MAX}"
        ));
    }
    let Some(issuer) = &said.issuer else {
        return wrong(
            "issuer: missing, expected the address of this gateway as receivers know it, such as \
             https://sso.example.com"
                .to_owned(),
        );
    };
    match Target::parse(issuer) {
        Err(expected) => return wrong(format!("issuer: {expected}")),
        // The metadata is at the root, and its address follows from the issuer's.
        Ok(target) if target.origin() != *issuer => {
            return wrong(format!(
                "issuer: expected scheme, host and port alone, such as {}",
                target.origin()
            ));
        }
        Ok(_) => {}
    }
    let mut names = BTreeSet::new();
    let mut receivers = Vec::new();
    for (place, one) in said.receivers.iter().enumerate() {
        let read = receiver(one, names.insert(one.name.as_str()));
        receivers.push(read.map_err(|problem| {
            ConfigError::new(file, format!("shared_signals.receivers[{place}].{problem}"))
        })?);
    }
    Ok(Some(SignalSettings {
        issuer: issuer.clone(),
        modes: said.modes.clone(),
        receivers,
    }))
}

fn receiver(said: &Said, is_first: bool) -> Result<ReceiverSettings, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let length = said.name.len();
    // It stands in metrics for what concerns no receiver.
    if length == 0
        || length > NAME_BYTES_MAX
        || !said.name.bytes().all(is_plain)
        || said.name == "none"
    {
        return Err(format!(
            "name: expected 1 to {NAME_BYTES_MAX} of a to z, 0 to 9 and `-`, and not `none`"
        ));
    }
    if !is_first {
        return Err(format!("name: `{}` is the name of another one", said.name));
    }
    // The address itself may hold a secret.
    let target = Target::parse(&said.url).map_err(|expected| format!("url: {expected}"))?;
    let is_printable = said.audience.bytes().all(|byte| byte.is_ascii_graphic());
    if said.audience.is_empty() || said.audience.len() > AUDIENCE_BYTES_MAX || !is_printable {
        return Err(format!(
            "audience: expected 1 to {AUDIENCE_BYTES_MAX} printable characters without spaces"
        ));
    }
    if said.events.is_empty() {
        return Err(
            "events: empty, expected `risk-level-change`, `session-revoked` or both".to_owned(),
        );
    }
    let authorities = trust::of_file_or_system(said.ca_file.as_deref(), target.is_tls())
        .map_err(|error| format!("ca_file: {error}"))?;
    let authorization = said.authorization_file.as_deref().map(authorization);
    Ok(ReceiverSettings {
        name: said.name.clone(),
        target,
        authorities,
        authorization: authorization.transpose()?,
        audience: said.audience.clone(),
        events: said.events.clone(),
    })
}

/// The value of a header in a file, without the spaces around it.
fn authorization(path: &Path) -> Result<Secret<String>, String> {
    let key = "authorization_file";
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{key}: `{}` cannot be read: {error}", path.display()))?;
    let value = text.trim();
    let is_value = value
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if value.is_empty() || value.len() > AUTHORIZATION_BYTES_MAX || !is_value {
        return Err(format!(
            "{key}: `{}`: expected one line such as `Bearer TOKEN`, at most {AUTHORIZATION_BYTES_MAX} bytes",
            path.display()
        ));
    }
    Ok(Secret::new(value.to_owned()))
}

/// What the transmitter says of itself, where there is one.
pub fn metadata(config: &Config) -> Option<String> {
    let said = &config.shared_signals;
    let issuer = said.issuer.as_ref().filter(|_| !said.receivers.is_empty());
    issuer.map(|issuer| shared_signal::metadata(issuer).to_string())
}

/// What the transmitter needs of the gateway that runs. The keys are those of the moment: a rotation is taken over.
pub fn means(flow: &Arc<AuthFlow>, clock: &Arc<dyn Clock>, health: &Arc<Health>) -> Means {
    let flow = Arc::clone(flow);
    Means {
        keys: Box::new(move || flow.snapshot().signing.clone()),
        clock: Arc::clone(clock),
        entropy: Arc::new(OsEntropy),
        health: Arc::clone(health),
    }
}

/// The sink that records go to, and what tells receivers where there are some.
pub fn before(
    records: Arc<dyn AuditSink>,
    config: &Config,
    file: &str,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<dyn AuditSink>, Option<Transmitter>), ConfigError> {
    let Some(settings) = settings(config, file)? else {
        return Ok((records, None));
    };
    let (sink, transmitter) = SignallingSink::new(records, settings, Arc::clone(metrics))
        .map_err(|error| ConfigError::new(file, format!("shared_signals.receivers: {error}")))?;
    Ok((Arc::new(sink), Some(transmitter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<Option<SignalSettings>, String> {
        let config = Config::parse(text).unwrap();
        settings(&config, "test").map_err(|error| error.to_string())
    }

    const HEAD: &str = "[shared_signals]\nissuer = 'https://sso.example.com'\n";
    const ONE: &str = "[[shared_signals.receivers]]\nname = 'app'\naudience = 'https://app.example.com'\n\
                       url = 'http://127.0.0.1:9/ssf/s3cret'\n";

    #[test]
    fn nobody_is_told_unless_a_receiver_is_named() {
        assert!(said("").unwrap().is_none());
        assert!(said(HEAD).unwrap().is_none());
        let settings = said(&format!("{HEAD}{ONE}")).unwrap().unwrap();
        assert_eq!(settings.receivers[0].events.len(), 2);
        assert!(settings.receivers[0].authorization.is_none());
        // Whoever is told is told by a signature.
        assert!(Config::parse(&format!("{HEAD}{ONE}")).unwrap().signs());
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("authorization");
        let with = |more: &str| format!("{HEAD}{ONE}{more}\n");
        let of_file = with(&format!("authorization_file = '{}'", secret.display()));
        assert!(said(&of_file).unwrap_err().contains("authorization_file"));
        for text in ["", " \n", "Bearer a\nb", "Bearer \u{e4}"] {
            std::fs::write(&secret, text).unwrap();
            let error = said(&of_file).unwrap_err();
            assert!(error.contains("receivers[0].authorization_file"), "{error}");
        }
        std::fs::write(&secret, "Bearer s3cret\n").unwrap();
        let settings = said(&of_file).unwrap().unwrap();
        let value = settings.receivers[0].authorization.clone().unwrap();
        assert_eq!(value.expose(), "Bearer s3cret");
        assert!(!format!("{settings:?}").contains("Bearer s3cret"));
        let nine: String = (0..9)
            .map(|n| ONE.replace("'app'", &format!("'app-{n}'")))
            .collect();
        for (text, expected) in [
            (ONE.to_owned(), "shared_signals.issuer: missing"),
            (
                format!("{}{ONE}", HEAD.replace("https://sso", "http://sso")),
                "shared_signals.issuer: expected https://",
            ),
            (
                format!("{}{ONE}", HEAD.replace("example.com", "example.com/t/a")),
                "shared_signals.issuer: expected scheme, host and port alone, such as https://sso.example.com",
            ),
            (
                format!("{HEAD}{nine}"),
                "shared_signals.receivers: 9, expected at most 8",
            ),
            (
                format!("{HEAD}{ONE}{ONE}"),
                "shared_signals.receivers[1].name: `app` is the name of another one",
            ),
            (
                with("").replace("'app'", "'none'"),
                "shared_signals.receivers[0].name: expected",
            ),
            (
                with("").replace("'app'", "'An App'"),
                "shared_signals.receivers[0].name: expected",
            ),
            (
                with("").replace("127.0.0.1:9", "app.example.com"),
                "shared_signals.receivers[0].url: expected https://",
            ),
            (
                with("").replace("'https://app.example.com'", "' '"),
                "shared_signals.receivers[0].audience: expected",
            ),
            (
                with("events = []"),
                "shared_signals.receivers[0].events: empty",
            ),
            (
                with("ca_file = '/nowhere'"),
                "shared_signals.receivers[0].ca_file",
            ),
        ] {
            let error = said(&text).unwrap_err();
            assert!(error.starts_with(&format!("test: {expected}")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(Config::parse(&with("events = ['account-disabled']")).is_err());
    }
}
