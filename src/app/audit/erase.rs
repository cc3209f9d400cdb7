//! `riskgate audit erase`: makes the name under which somebody is in records one that leads to nobody.

use crate::adapters::audit_log::people;
use crate::app::RunError;
use crate::app::audit::people_file;
use crate::app::keys::Keys;
use crate::app::one;
use crate::app::state::Named;
use crate::app::state::subjects;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::ids::Pseudonym;
use std::io::Error;
use std::io::ErrorKind;
use std::path::PathBuf;

/// What was done.
#[derive(Debug)]
pub struct Erased {
    /// The names that lead to nobody any more.
    pub names: Vec<Pseudonym>,
    /// The key that has changed.
    pub file: PathBuf,
}

/// The names under which somebody is in records, under the present secret and the one before it.
pub fn names(config: &Config, named: &Named) -> Result<Vec<Pseudonym>, RunError> {
    let keys = Keys::existing(config).map_err(one)?;
    let file = people_file(config);
    let key = people::read(&file).map_err(|error| failed(config, &error))?;
    let subjects = subjects(&keys, named);
    Ok(subjects
        .iter()
        .map(|(subject, _)| key.name(subject.0))
        .collect())
}

/// Erases somebody from records.
pub fn erase(config: &Config, named: &Named) -> Result<Erased, RunError> {
    let keys = Keys::existing(config).map_err(one)?;
    let file = people_file(config);
    let mut names = Vec::new();
    people::change(&file, |key| {
        for (subject, _) in subjects(&keys, named) {
            names.push(key.name(subject.0));
            key.erase(subject.0).map_err(Error::other)?;
        }
        Ok(())
    })
    .map_err(|error| failed(config, &error))?;
    Ok(Erased { names, file })
}

fn failed(config: &Config, error: &Error) -> RunError {
    let file = people_file(config).display().to_string();
    if error.kind() == ErrorKind::NotFound {
        let problem = "there is no key of people's names: a gateway makes it when it first runs";
        return RunError::Config(vec![ConfigError::new(file, problem)]);
    }
    RunError::System(error.to_string())
}
