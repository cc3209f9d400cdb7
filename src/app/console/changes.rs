//! Changes that come by a file and not through the gateway: operators (`riskgate operator`, an editor) and whom verdicts are
//! acted on for (`riskgate off`, an editor). The gateway that runs leaves the record of them, since its chain has one writer; one
//! that starts does so for what has changed since it, or the one before it, looked last. Commands say beside the file who made
//! the change; it is believed for the very text that they wrote, and for no other.

use crate::adapters::replace::Access;
use crate::adapters::replace::replace;
use crate::admin::console::Console;
use crate::config::Config;
use crate::config::overrides::Overrides;
use crate::domain::hex;
use crate::domain::operator::roster::Operator;
use crate::domain::operator::roster::Role;
use crate::domain::operator::roster::Roster;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::Rollout;
use crate::flow::AuthFlow;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// What was seen last, in the folder of everything that is written.
const SEEN: &str = "changes-seen.json";
/// Who says to have made the latest changes, in the same folder.
const MADE_BY: &str = "changes-by.json";
/// The longest of these files, in bytes: the most operators with the longest names.
const BYTES_MAX: u64 = 128 * 1024;

/// What can be changed by a file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The configuration.
    Configuration,
    /// The operators of the console.
    Operators,
}

/// Notices changes and leaves their records.
#[derive(Clone, Debug)]
pub(in crate::app) struct Changes {
    flow: Arc<AuthFlow>,
    folder: PathBuf,
    operators_file: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

/// What was there when it was looked last.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
struct Seen {
    operators: BTreeMap<String, SeenOperator>,
    /// Whom verdicts are acted on for; `None` before the first look.
    mode: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct SeenOperator {
    role: Role,
    /// Tells one password from another.
    password: String,
}

/// Who made a change, and the digest of the text that it made.
#[derive(Debug, Deserialize, Serialize)]
struct Made {
    by: String,
    digest: String,
}

impl Changes {
    /// Goes on from what was seen last under `data_dir`: leaves the records of what has changed since.
    pub(in crate::app) fn begin(config: &Config, overrides: &Overrides, console: &Console) -> Self {
        let folder = config.state.data_dir.clone();
        let seen = read(&folder.join(SEEN)).unwrap_or_default();
        let changes = Self {
            flow: Arc::clone(&console.flow),
            folder,
            operators_file: config.operators_file(),
            seen: Arc::new(Mutex::new(seen)),
        };
        changes.operators(&console.roster.load());
        changes.mode(config, overrides.file().as_deref(), false);
        changes
    }

    /// Where the operators are.
    pub(in crate::app) fn operators_file(&self) -> &Path {
        &self.operators_file
    }

    /// These operators are in force: leaves a record of each that differs from what was seen last.
    pub(in crate::app) fn operators(&self, roster: &Roster) {
        let now: BTreeMap<String, SeenOperator> = roster
            .operators()
            .iter()
            .map(|operator| (operator.name().to_string(), SeenOperator::of(operator)))
            .collect();
        let mut seen = self.seen.lock();
        let changes = differences(&seen.operators, &now);
        if changes.is_empty() {
            return;
        }
        let by = made_by(&self.folder, Subject::Operators, &roster.to_text());
        for (action, note) in changes {
            tracing::info!(by = by.as_deref().unwrap_or("-"), "{action}: {note}");
            self.flow.record_change(by.as_deref(), action, &note);
        }
        seen.operators = now;
        self.keep(&seen);
    }

    /// This configuration, read from `file`, is in force: leaves a record where verdicts are acted on for others than before.
    pub(in crate::app) fn mode(&self, config: &Config, file: Option<&Path>, is_other: bool) {
        let now = mode_text(config);
        let mut seen = self.seen.lock();
        let before = seen.mode.replace(now.clone());
        if before.as_ref() == Some(&now) && !is_other {
            return;
        }
        if let Some(before) = before {
            let text = file.and_then(|file| std::fs::read_to_string(file).ok());
            let by = text.and_then(|text| made_by(&self.folder, Subject::Configuration, &text));
            self.flow.record_mode(by.as_deref(), &before, &now);
        }
        self.keep(&seen);
    }

    fn keep(&self, seen: &Seen) {
        if let Err(error) = write(&self.folder.join(SEEN), seen) {
            tracing::warn!(%error, "what was seen of changes cannot be kept: a restart records them once more");
        }
    }
}

impl SeenOperator {
    fn of(operator: &Operator) -> Self {
        Self {
            role: operator.role(),
            password: operator.fingerprint(),
        }
    }
}

/// Says who has made the text that a command has just written. A place that cannot be written costs the name in the record,
/// and not the change.
///
/// # Errors
/// It cannot be written: why.
pub fn say(config: &Config, subject: Subject, text: &str, by: &str) -> std::io::Result<()> {
    let file = config.state.data_dir.join(MADE_BY);
    let mut all: BTreeMap<Subject, Made> = read(&file).unwrap_or_default();
    let made = Made {
        by: crate::domain::review::printable(by.trim()),
        digest: digest(text),
    };
    all.insert(subject, made);
    write(&file, &all)
}

/// Who says to have made this very text. The word is used up: whoever brings the text back later is somebody else.
fn made_by(folder: &Path, subject: Subject, text: &str) -> Option<String> {
    let mut all: BTreeMap<Subject, Made> = read(&folder.join(MADE_BY))?;
    let made = all.remove(&subject)?;
    if made.digest != digest(text) || made.by.is_empty() {
        return None;
    }
    if let Err(error) = write(&folder.join(MADE_BY), &all) {
        tracing::warn!(%error, "who made a change is not forgotten: the same text would count as theirs again");
    }
    Some(made.by)
}

/// What has changed: the action of its record, and the words.
fn differences(
    before: &BTreeMap<String, SeenOperator>,
    now: &BTreeMap<String, SeenOperator>,
) -> Vec<(&'static str, String)> {
    let mut changes = Vec::new();
    for (name, operator) in now {
        match before.get(name) {
            None => changes.push(("operator_added", format!("{name}: {}", operator.role))),
            Some(was) if was != operator => {
                let mut what = format!("{name}: {}", operator.role);
                if was.role != operator.role {
                    what = format!("{what}, was {}", was.role);
                }
                if was.password != operator.password {
                    what.push_str(", another password");
                }
                changes.push(("operator_changed", what));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    changes
        .extend(gone.map(|(name, was)| ("operator_removed", format!("{name}: was {}", was.role))));
    changes
}

/// Whom verdicts are acted on for.
fn mode_text(config: &Config) -> String {
    if config.rollout.file.is_some() && config.mode != Rollout::of(Mode::Off) {
        "the rollout file".to_owned()
    } else {
        config.mode.summary()
    }
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text))
}

/// Reads a file of ours; `None` where there is none, and where it is not of the form.
fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    let problem = match std::fs::metadata(file) {
        Ok(data) if data.len() > BYTES_MAX => format!("it has more than {BYTES_MAX} bytes"),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
        Ok(_) => match std::fs::read(file).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(read)) => return Some(read),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!(file = %file.display(), error = %problem, "what is kept of changes cannot be read");
    None
}

fn write<T: Serialize>(file: &Path, content: &T) -> std::io::Result<()> {
    replace(file, &serde_json::to_vec(content)?, Access::Private)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().join("data");
        (folder, config)
    }

    #[test]
    fn a_name_is_believed_for_the_very_text_that_was_written() {
        let (_folder, config) = place();
        let folder = config.state.data_dir.clone();
        assert_eq!(made_by(&folder, Subject::Operators, "text"), None);
        say(&config, Subject::Operators, "text", " ada\u{1b}[31m ").unwrap();
        say(&config, Subject::Configuration, "other", "bo").unwrap();
        let by = made_by(&folder, Subject::Operators, "text").unwrap();
        assert!(by.starts_with("ada") && !by.contains('\u{1b}'), "{by}");
        // Somebody has brought the same text back.
        assert_eq!(made_by(&folder, Subject::Operators, "text"), None);
        say(&config, Subject::Operators, "text", "ada").unwrap();
        // Somebody has gone on with an editor.
        assert_eq!(made_by(&folder, Subject::Operators, "text "), None);
        assert_eq!(made_by(&folder, Subject::Operators, "other"), None);
        let bo = made_by(&folder, Subject::Configuration, "other");
        assert_eq!(bo.as_deref(), Some("bo"));
        for broken in ["", "{", "[]", "{\"operators\":1}", &"x".repeat(200_000)] {
            std::fs::write(folder.join(MADE_BY), broken).unwrap();
            assert_eq!(
                made_by(&folder, Subject::Operators, "text"),
                None,
                "{broken:.9}"
            );
        }
        // What is broken is written anew.
        say(&config, Subject::Operators, "text", "ada").unwrap();
        assert!(made_by(&folder, Subject::Operators, "text").is_some());
        // Nobody's name is no name.
        say(&config, Subject::Operators, "text", " ").unwrap();
        assert_eq!(made_by(&folder, Subject::Operators, "text"), None);
    }

    #[test]
    fn what_differs_is_told_without_passwords() {
        let operator = |role, password: &str| SeenOperator {
            role,
            password: password.to_owned(),
        };
        let seen = |all: &[(&str, Role, &str)]| -> BTreeMap<String, SeenOperator> {
            let all = all.iter();
            all.map(|(name, role, password)| ((*name).to_owned(), operator(*role, password)))
                .collect()
        };
        let before = seen(&[
            ("ann", Role::Viewer, "1"),
            ("bo", Role::Admin, "2"),
            ("cy", Role::Viewer, "3"),
        ]);
        let now = seen(&[
            ("ann", Role::Admin, "9"),
            ("cy", Role::Viewer, "8"),
            ("di", Role::Analyst, "4"),
        ]);
        assert!(differences(&before, &before).is_empty());
        let told: Vec<String> = differences(&before, &now)
            .into_iter()
            .map(|(action, note)| format!("{action} {note}"))
            .collect();
        assert_eq!(
            told,
            [
                "operator_changed ann: admin, was viewer, another password",
                "operator_changed cy: viewer, another password",
                "operator_added di: analyst",
                "operator_removed bo: was admin",
            ]
        );
    }
}
