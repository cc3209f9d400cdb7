//! The console's parts from the configuration, and the file of its operators: read at the start and when it changes, written
//! by `riskgate operator`.

/// Changes that come by a file.
pub mod changes;

use crate::adapters::label_file::LabelFile;
use crate::adapters::replace::Access;
use crate::adapters::replace::replace;
use crate::adapters::replace::unwritten;
use crate::adapters::trail::AuditTrail;
use crate::adapters::trail::Others;
use crate::admin::console::Console;
use crate::admin::console::Origin;
use crate::admin::console::Provider;
use crate::app::RunError;
use crate::app::labels;
use crate::app::one;
use crate::app::policy_desk::FilesOfPolicy;
use crate::config::Config;
use crate::config::ConfigError;
use crate::config::overrides::Overrides;
use crate::domain::operator::roster::Operator;
use crate::domain::operator::roster::Role;
use crate::domain::operator::roster::Roster;
use crate::domain::operator::roster::RosterError;
use crate::domain::operator::roster::SALT_BYTES;
use crate::flow::AuthFlow;
use crate::flow::ports::Entropy;
use arc_swap::ArcSwap;
use changes::Changes;
use changes::Subject;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest file: what the most operators need.
const FILE_BYTES_MAX: u64 = 128 * 1024;

/// The console, with records of other nodes where the fleet shares a stream. Without operators and provider nobody can
/// sign in, and no record is read.
pub(in crate::app) fn console(
    config: &Config,
    file: &str,
    flow: &Arc<AuthFlow>,
    overrides: &Overrides,
    others: Option<Others>,
    provider: Option<Provider>,
) -> Result<Console, ConfigError> {
    let origin = origin(config, file)?;
    let roster = read(&config.operators_file())?;
    let trail = AuditTrail::new(config.audit_file());
    let trail = Arc::new(match others {
        Some(others) => trail.beside(others),
        None => trail,
    });
    let console = Console::new(
        Arc::clone(flow),
        trail,
        Arc::new(FilesOfPolicy::new(overrides.clone())),
        Arc::new(LabelFile::new(labels::file(config))),
        Arc::new(ArcSwap::from_pointee(roster)),
        origin,
    )
    .with_provider(provider);
    begin(&console);
    Ok(console)
}

/// The name of the console behind a proxy, if there is one.
pub(in crate::app) fn origin(config: &Config, file: &str) -> Result<Option<Origin>, ConfigError> {
    let Some(text) = &config.admin.origin else {
        return Ok(None);
    };
    Origin::parse(text).map(Some).ok_or_else(|| {
        ConfigError::new(
            file,
            format!("admin.origin: `{text}`, expected `https://NAME` or `https://NAME:PORT`"),
        )
    })
}

/// Reads the file again when it changes, until the process ends. What cannot be read changes nothing.
pub(in crate::app) async fn watch(console: Console, changes: Changes) {
    let path = changes.operators_file();
    let mut seen = stamp(path);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamp(path);
        if now == seen {
            continue;
        }
        seen = now;
        match read(path) {
            Ok(roster) => {
                tracing::info!(
                    operators = roster.operators().len(),
                    "the operators of the console have changed"
                );
                // On record before it is in force.
                changes.operators(&roster);
                console.roster.store(Arc::new(roster));
                begin(&console);
            }
            Err(error) => {
                tracing::error!(error = %error, "the operators of the console stay as they were");
            }
        }
    }
}

/// Begins to read records as soon as there is somebody who may see them.
pub(in crate::app) fn begin(console: &Console) {
    if console.lets_in_anybody() {
        console.trail.start();
    }
}

/// Adds an operator, or gives the one of that name another role and password. Returns whether there was one. The gateway that
/// runs, or the next one, leaves the record of it, with `by` as who says to have done it.
///
/// # Errors
/// When name or password cannot be used, or the file.
pub fn add(
    config: &Config,
    name: &str,
    role: Role,
    password: &str,
    by: &str,
    entropy: &dyn Entropy,
) -> Result<bool, RunError> {
    let path = config.operators_file();
    let mut roster = read(&path).map_err(one)?;
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let refused = |error: &RosterError| {
        let is_password = matches!(error, RosterError::Password);
        let what = if is_password {
            "standard input"
        } else {
            "NAME"
        };
        RunError::Config(vec![ConfigError::new(what, error.to_string())])
    };
    let operator = Operator::new(name, role, password, &salt).map_err(|error| refused(&error))?;
    let is_known = roster.find(name).is_some();
    roster.put(operator).map_err(|error| refused(&error))?;
    write(config, &roster, by)?;
    Ok(is_known)
}

/// Takes an operator away, whose sessions end with it. Returns whether there was one.
///
/// # Errors
/// When the file cannot be read or written.
pub fn remove(config: &Config, name: &str, by: &str) -> Result<bool, RunError> {
    let path = config.operators_file();
    let mut roster = read(&path).map_err(one)?;
    let is_there = roster.remove(name);
    if is_there {
        write(config, &roster, by)?;
    }
    Ok(is_there)
}

/// Names and roles, a line each.
///
/// # Errors
/// When the file cannot be read.
pub fn list(config: &Config) -> Result<String, RunError> {
    let roster = read(&config.operators_file()).map_err(one)?;
    let lines = roster
        .operators()
        .iter()
        .map(|operator| format!("{:<8} {}\n", operator.role().as_str(), operator.name()));
    Ok(lines.collect())
}

/// The operators of a file; none when there is no file.
pub(in crate::app) fn read(path: &Path) -> Result<Roster, ConfigError> {
    let wrong = |problem: String| {
        ConfigError::new(
            path.display().to_string(),
            format!("admin.operators_file: {problem}"),
        )
    };
    let data = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Roster::default()),
        data => data.map_err(|error| wrong(format!("cannot be read: {error}")))?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if data.permissions().mode() & 0o077 != 0 {
            return Err(wrong(
                "others may read it: `chmod 600` it, since it holds hashes of passwords".to_owned(),
            ));
        }
    }
    if data.len() > FILE_BYTES_MAX {
        return Err(wrong(format!(
            "has {} bytes, expected at most {FILE_BYTES_MAX}",
            data.len()
        )));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    Roster::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// Writes the file for its owner alone, as a whole or not at all.
fn write(config: &Config, roster: &Roster, by: &str) -> Result<(), RunError> {
    let path = config.operators_file();
    let failed = |error: std::io::Error| {
        RunError::System(format!("`{}` {}", path.display(), unwritten(&error)))
    };
    let text = roster.to_text();
    // Before the text is there: a gateway that runs sees it at once.
    changes::say(config, Subject::Operators, &text, by).map_err(failed)?;
    replace(&path, text.as_bytes(), Access::Private).map_err(failed)
}

/// Age, size and number of the file.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::entropy::OsEntropy;

    const GOOD: &str = "correct horse battery";

    #[test]
    fn operators_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().join("new/data");
        assert_eq!(list(&config).unwrap(), "");
        assert!(!add(&config, "ann", Role::Analyst, GOOD, "root", &OsEntropy).unwrap());
        assert!(!add(&config, "bo", Role::Viewer, GOOD, "root", &OsEntropy).unwrap());
        assert!(add(&config, "ann", Role::Admin, GOOD, "root", &OsEntropy).unwrap());
        assert_eq!(list(&config).unwrap(), "admin    ann\nviewer   bo\n");
        let path = config.operators_file();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(GOOD));
        let roster = read(&path).unwrap();
        assert_eq!(
            roster.verify("ann", GOOD).map(Operator::role),
            Some(Role::Admin)
        );
        // Equal passwords have different hashes.
        let hashes: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("password"))
            .collect();
        assert!(hashes.len() == 2 && hashes[0] != hashes[1]);
        assert!(remove(&config, "bo", "root").unwrap() && !remove(&config, "bo", "root").unwrap());
        for (name, password) in [("", GOOD), ("ann", "short")] {
            let error = add(&config, name, Role::Viewer, password, "root", &OsEntropy).unwrap_err();
            assert!(matches!(error, RunError::Config(_)) && !error.to_string().contains("short"));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn an_origin_that_is_none_is_named() {
        let config = |text: &str| {
            let mut config = Config::default();
            config.admin.origin = Some(text.to_owned());
            config
        };
        assert!(
            origin(&config("https://risk.example"), "f")
                .unwrap()
                .is_some()
        );
        let error = origin(&config("risk.example"), "f")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("admin.origin") && error.contains("https://NAME"),
            "{error}"
        );
    }
}
