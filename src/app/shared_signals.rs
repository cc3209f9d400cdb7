//! From `[shared_signals]` to what tells: issuer, receivers, their authorities and what they want to be shown.

use crate::adapters::courier::Destination;
use crate::adapters::entropy::OsEntropy;
use crate::adapters::shared_signals::Delivery;
use crate::adapters::shared_signals::Means;
use crate::adapters::shared_signals::Prepared;
use crate::adapters::shared_signals::ReceiverSettings;
use crate::adapters::shared_signals::Receivers;
use crate::adapters::shared_signals::SignalSettings;
use crate::adapters::shared_signals::SignallingSink;
use crate::adapters::shared_signals::Transmitter;
use crate::adapters::target::Target;
use crate::app::keys;
use crate::app::secret_file;
use crate::app::trust;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::shared_signals::Delivery as Way;
use crate::config::shared_signals::ReceiverSettings as Said;
use crate::config::shared_signals::SubjectFormat;
use crate::domain::bearer_token::BearerToken;
use crate::domain::secret::Secret;
use crate::domain::shared_signal;
use crate::flow::AuthFlow;
use crate::flow::ports::AuditSink;
use crate::flow::ports::Clock;
use crate::flow::shared_signals::Published;
use crate::flow::shared_signals::Said as Says;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;

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
    let tokens = receivers.iter().map(|receiver| match &receiver.delivery {
        Delivery::Poll { token, .. } => Some(token.expose()),
        Delivery::Push { .. } | Delivery::Webhook { .. } => None,
    });
    let tokens: Vec<Option<&str>> = tokens.collect();
    for (place, token) in tokens.iter().enumerate() {
        // Whoever shows it could be either.
        if token.is_some() && tokens.iter().take(place).any(|other| other == token) {
            return wrong(format!(
                "receivers[{place}].token_file: holds the token of another receiver"
            ));
        }
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
    if said.events.is_empty() {
        return Err(
            "events: empty, expected `risk-level-change`, `session-revoked` or both".to_owned(),
        );
    }
    Ok(ReceiverSettings {
        name: said.name.clone(),
        events: said.events.clone(),
        named_to: named_to(said)?,
        delivery: delivery(said)?,
    })
}

/// What a receiver says of how it is told, and nothing that belongs to another way.
fn delivery(said: &Said) -> Result<Delivery, String> {
    let keys = [
        ("url", said.url.is_some()),
        ("authorization_file", said.authorization_file.is_some()),
        ("token_file", said.token_file.is_some()),
        ("secret_file", said.secret_file.is_some()),
        ("ca_file", said.ca_file.is_some()),
        ("audience", said.audience.is_some()),
    ];
    let (way, needed, may_be) = match said.delivery {
        Way::Push => (
            "push",
            &["url", "audience"][..],
            &["authorization_file", "ca_file"][..],
        ),
        Way::Poll => ("poll", &["token_file", "audience"][..], &[][..]),
        Way::Webhook => ("webhook", &["url", "secret_file"][..], &["ca_file"][..]),
    };
    for (key, is_there) in keys {
        let is_needed = needed.contains(&key);
        if is_needed && !is_there {
            return Err(format!("{key}: missing, `delivery = \"{way}\"` needs it"));
        }
        if is_there && !is_needed && !may_be.contains(&key) {
            return Err(format!("{key}: expected none with `delivery = \"{way}\"`"));
        }
    }
    match said.delivery {
        Way::Push => Ok(Delivery::Push {
            audience: audience(said)?,
            destination: destination(said)?,
            authorization: said
                .authorization_file
                .as_deref()
                .map(authorization)
                .transpose()?,
        }),
        Way::Poll => {
            let path = said.token_file.as_deref().unwrap_or(Path::new(""));
            let text =
                secret_file::text(path).map_err(|problem| format!("token_file: {problem}"))?;
            let token = BearerToken::parse(text.expose());
            Ok(Delivery::Poll {
                audience: audience(said)?,
                token: token
                    .map_err(|error| format!("token_file: `{}`: {error}", path.display()))?,
            })
        }
        Way::Webhook => {
            let path = said.secret_file.as_deref().unwrap_or(Path::new(""));
            let secret = keys::read(path, "secret_file");
            Ok(Delivery::Webhook {
                destination: destination(said)?,
                secret: secret.map_err(|error| error.problem)?,
            })
        }
    }
}

/// The client by whose tokens a receiver knows users, where it is one of those.
fn named_to(said: &Said) -> Result<Option<String>, String> {
    match (said.subject, &said.client_id) {
        (SubjectFormat::Opaque, None) => Ok(None),
        (SubjectFormat::Opaque, Some(_)) => {
            Err("client_id: expected none without `subject = \"iss_sub\"`".to_owned())
        }
        (SubjectFormat::IssSub, _) if said.delivery == Way::Webhook => {
            Err("subject: expected none with `delivery = \"webhook\"`".to_owned())
        }
        (SubjectFormat::IssSub, Some(client)) if !client.is_empty() => Ok(Some(client.clone())),
        (SubjectFormat::IssSub, _) => Err(
            "client_id: missing, expected the client of the identity server by whose ID tokens it knows users"
                .to_owned(),
        ),
    }
}

fn audience(said: &Said) -> Result<String, String> {
    let audience = said.audience.clone().unwrap_or_default();
    let is_printable = audience.bytes().all(|byte| byte.is_ascii_graphic());
    if audience.is_empty() || audience.len() > AUDIENCE_BYTES_MAX || !is_printable {
        return Err(format!(
            "audience: expected 1 to {AUDIENCE_BYTES_MAX} printable characters without spaces"
        ));
    }
    Ok(audience)
}

fn destination(said: &Said) -> Result<Destination, String> {
    let url = said.url.as_deref().unwrap_or_default();
    // The address itself may hold a secret.
    let target = Target::parse(url).map_err(|expected| format!("url: {expected}"))?;
    let authorities = trust::of_file_or_system(said.ca_file.as_deref(), target.is_tls());
    Ok(Destination {
        target,
        authorities: authorities.map_err(|error| format!("ca_file: {error}"))?,
    })
}

/// The value of a header in a file, without the spaces around it.
fn authorization(path: &Path) -> Result<Secret<String>, String> {
    let key = "authorization_file";
    let secret = secret_file::text(path).map_err(|problem| format!("{key}: {problem}"))?;
    let value = secret.expose();
    let is_value = value
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if value.is_empty() || value.len() > AUTHORIZATION_BYTES_MAX || !is_value {
        return Err(format!(
            "{key}: `{}`: expected one line such as `Bearer TOKEN`, at most {AUTHORIZATION_BYTES_MAX} bytes",
            path.display()
        ));
    }
    Ok(secret)
}

/// What the transmitter needs of the gateway that runs. The keys are those of the moment: a rotation is taken over.
pub fn means(flow: &Arc<AuthFlow>, clock: &Arc<dyn Clock>) -> Means {
    let (signing, names) = (Arc::clone(flow), Arc::clone(flow));
    Means {
        keys: Box::new(move || signing.snapshot().signing.clone()),
        clock: Arc::clone(clock),
        entropy: Arc::new(OsEntropy),
        name: Box::new(move |client, subject| {
            let published = &names.dependencies().transmitter;
            published.name(client, subject)
        }),
    }
}

/// The sink that records go to, what tells receivers once it runs, what is served to them, and who they are.
pub type Before = (Arc<dyn AuditSink>, Transmitter, Published, Arc<Receivers>);

/// Who is told as the section says it; `None` where it is nobody.
pub fn prepare(config: &Config, file: &str) -> Result<Option<Prepared>, ConfigError> {
    let prepared = settings(config, file)?.map(Prepared::of);
    prepared.transpose().map_err(|(place, error)| {
        ConfigError::new(file, format!("shared_signals.receivers[{place}]: {error}"))
    })
}

/// These are told from now on, and what is served is theirs.
pub fn take(prepared: Option<Prepared>, receivers: &Receivers, published: &Published) {
    let says = |prepared: &Prepared| Says {
        metadata: Some(shared_signal::metadata(prepared.issuer()).to_string()),
        outboxes: Vec::new(),
        clients: prepared.clients().collect(),
    };
    let says = prepared.as_ref().map(says).unwrap_or_default();
    receivers.take(prepared, |outboxes| {
        published.take(Says { outboxes, ..says });
    });
}

/// The files that receivers name.
pub fn files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let receivers = config.shared_signals.receivers.iter();
    receivers.flat_map(|said| {
        let files = [
            &said.authorization_file,
            &said.token_file,
            &said.secret_file,
            &said.ca_file,
        ];
        files.into_iter().flatten().cloned()
    })
}

/// Puts what tells receivers before `records`. They are told on `runtime`.
pub fn before(
    records: Arc<dyn AuditSink>,
    config: &Config,
    file: &str,
    runtime: &Handle,
    (clock, metrics, health): (&Arc<dyn Clock>, &Arc<Metrics>, &Arc<Health>),
) -> Result<Before, ConfigError> {
    let prepared = prepare(config, file)?;
    let receivers = Arc::new(Receivers::new(
        runtime.clone(),
        Arc::clone(clock),
        Arc::clone(metrics),
        Arc::clone(health),
    ));
    let published = Published::default();
    take(prepared, &receivers, &published);
    let (sink, transmitter) = SignallingSink::new(records, Arc::clone(&receivers));
    Ok((Arc::new(sink), transmitter, published, receivers))
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

    /// What the first receiver is shown.
    fn shown(settings: &SignalSettings) -> Option<&str> {
        match &settings.receivers[0].delivery {
            Delivery::Push { authorization, .. } => {
                authorization.as_ref().map(|value| value.expose().as_str())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_is_told_unless_a_receiver_is_named() {
        assert!(said("").unwrap().is_none());
        assert!(said(HEAD).unwrap().is_none());
        let settings = said(&format!("{HEAD}{ONE}")).unwrap().unwrap();
        assert_eq!(settings.receivers[0].events.len(), 2);
        assert_eq!(shown(&settings), None);
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
        assert_eq!(shown(&settings), Some("Bearer s3cret"));
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
            (
                with("subject = 'iss_sub'"),
                "shared_signals.receivers[0].client_id: missing",
            ),
            (
                with("client_id = 'app'"),
                "shared_signals.receivers[0].client_id: expected none",
            ),
        ] {
            let error = said(&text).unwrap_err();
            assert!(error.starts_with(&format!("test: {expected}")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(Config::parse(&with("events = ['account-disabled']")).is_err());
        assert!(Config::parse(&with("delivery = 'pull'")).is_err());
    }

    #[test]
    fn an_authority_that_is_none_is_named_with_its_receiver() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, pem).unwrap();
        let tls = ONE.replace("http://127.0.0.1:9", "https://app.example.com");
        let second = tls.replace("'app'", "'other'");
        let text = format!("{HEAD}{tls}{second}ca_file = '{}'\n", path.display());
        let error = prepare(&Config::parse(&text).unwrap(), "test").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("test: shared_signals.receivers[1]"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn who_reads_plain_json_has_a_secret_and_no_audience() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        let text = |more: &str| {
            format!(
                "{HEAD}[[shared_signals.receivers]]\nname = 'siem'\ndelivery = 'webhook'\n\
                 url = 'http://127.0.0.1:9/s3cret'\n{more}\n"
            )
        };
        let good = text(&format!("secret_file = '{}'", secret.display()));
        assert!(said(&good).unwrap_err().contains("[0].secret_file: cannot"));
        std::fs::write(&secret, [7; 16]).unwrap();
        assert!(said(&good).unwrap_err().contains("[0].secret_file: 16"));
        std::fs::write(&secret, [7; 32]).unwrap();
        let settings = said(&good).unwrap().unwrap();
        let Delivery::Webhook { secret, .. } = &settings.receivers[0].delivery else {
            panic!("{settings:?}");
        };
        assert_eq!(secret.expose(), &[7; 32]);
        for (text, expected) in [
            (text(""), "secret_file: missing"),
            (format!("{good}audience = 'x'"), "audience: expected none"),
            (
                format!("{good}subject = 'iss_sub'\nclient_id = 'x'"),
                "subject: expected none",
            ),
            (
                format!("{good}authorization_file = '/nowhere'"),
                "authorization_file: expected none with `delivery = \"webhook\"`",
            ),
            (
                good.replace("127.0.0.1:9", "siem.example.com"),
                "url: expected https://",
            ),
        ] {
            let error = said(&text).unwrap_err();
            let expected = format!("test: shared_signals.receivers[0].{expected}");
            assert!(error.starts_with(&expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn who_polls_has_a_token_of_its_own_and_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("token_file = '{}'\n", path.display())
        };
        let (one, same) = ("a1".repeat(16), format!(" {}\n", "a1".repeat(16)));
        let polls = |name: &str, more: &str| {
            format!(
                "[[shared_signals.receivers]]\nname = '{name}'\naudience = 'x'\ndelivery = 'poll'\n{more}\n"
            )
        };
        let good = polls("one", &file("one", &one));
        let settings = said(&format!("{HEAD}{good}{ONE}")).unwrap().unwrap();
        let Delivery::Poll { token, .. } = &settings.receivers[0].delivery else {
            panic!("{settings:?}");
        };
        assert_eq!(token.expose(), one);
        assert_eq!(
            settings.describe(),
            [
                "shared signals are fetched by: one (risk-level-change, session-revoked)",
                "shared signals go to: app at http://127.0.0.1:9 (risk-level-change, session-revoked)",
            ]
        );
        for (text, expected) in [
            (polls("one", ""), "[0].token_file: missing"),
            (
                polls("one", "token_file = '/nowhere'"),
                "[0].token_file: `/nowhere` cannot be read",
            ),
            (polls("one", &file("short", "s3cret")), "[0].token_file: `"),
            (
                format!("{good}{}", polls("two", &file("same", &same))),
                "[1].token_file: holds the token of another",
            ),
            (
                format!("{good}url = 'https://app.example.com/s3cret'"),
                "[0].url: expected none with `delivery = \"poll\"`",
            ),
            (
                format!("{good}ca_file = '/nowhere'"),
                "[0].ca_file: expected none",
            ),
            (
                format!("{good}authorization_file = '/nowhere'"),
                "[0].authorization_file: expected none",
            ),
            (
                format!("{ONE}{}", file("one", &one)),
                "[0].token_file: expected none with `delivery = \"push\"`",
            ),
            (
                ONE.replace("url = 'http://127.0.0.1:9/ssf/s3cret'\n", ""),
                "[0].url: missing",
            ),
        ] {
            let error = said(&format!("{HEAD}{text}")).unwrap_err();
            let expected = format!("test: shared_signals.receivers{expected}");
            assert!(error.starts_with(&expected), "{error}");
            assert!(
                !error.contains("s3cret") && !error.contains(&one),
                "{error}"
            );
        }
    }
}
