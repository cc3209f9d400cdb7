//! Whether what the gateway writes can be written, as far as that shows without writing: `check` leaves nothing behind. What
//! nobody could write is a problem; what only this user may not write is a warning, since the gateway may run as another.

use crate::adapters::access;
use crate::config::Config;
use crate::config::ConfigError;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::Path;

/// What was found.
#[derive(Debug, Default)]
pub(in crate::app) struct Places {
    /// What `run` refuses.
    pub(in crate::app) problems: Vec<ConfigError>,
    /// What this user may not write.
    pub(in crate::app) warnings: Vec<String>,
    /// Whether the data folder is the problem, so that nothing in it can be read either.
    pub(in crate::app) is_data_lost: bool,
}

/// Why something cannot be written.
#[derive(Debug, Eq, PartialEq)]
enum Unwritable {
    /// Nobody can.
    Ever(String),
    /// This user may not, or the file system is read-only.
    Here(String),
}

/// Looks at every place that `run` writes to before it serves.
pub(in crate::app) fn look(config: &Config, file: &str) -> Places {
    let mut places = Places::default();
    let data = &config.state.data_dir;
    places.note(file, "state.data_dir", folder(data));
    places.is_data_lost = !places.problems.is_empty();
    if let Some(path) = &config.audit.file {
        // The data folder is made where it is missing; no other one is.
        let beside = path.parent() == Some(data.as_path());
        places.note(file, "audit.file", appended(path, beside));
    }
    if let Some(path) = &config.audit.people_key_file {
        places.note(file, "audit.people_key_file", kept(path));
    }
    if let Some(path) = &config.signing.directory
        && config.signs()
    {
        places.note(file, "signing.directory", folder(path));
    }
    places
}

impl Places {
    fn note(&mut self, file: &str, key: &str, found: Result<(), Unwritable>) {
        match found {
            Ok(()) => {}
            Err(Unwritable::Ever(problem)) => {
                let error = ConfigError::new(file, format!("{key}: {problem}"));
                self.problems.push(error);
            }
            Err(Unwritable::Here(problem)) => self.warnings.push(format!(
                "{key}: {problem}; the gateway must run as a user that may"
            )),
        }
    }
}

/// A folder that is made, with those above it, where it is missing.
fn folder(path: &Path) -> Result<(), Unwritable> {
    for above in path.ancestors() {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        match found(above)? {
            Some(data) if data.is_dir() && access::is_of_kernel(above) => {
                return Err(Unwritable::Ever(format!(
                    "nobody can make `{}`, since `{}` belongs to the kernel",
                    path.display(),
                    above.display()
                )));
            }
            Some(data) if data.is_dir() => {
                return here(above, "written", access::may_write(above));
            }
            Some(_) if above == path => {
                return Err(Unwritable::Ever(format!(
                    "`{}` is a file, expected a folder",
                    path.display()
                )));
            }
            Some(_) => {
                return Err(Unwritable::Ever(format!(
                    "`{}` cannot be made, since `{}` is no folder",
                    path.display(),
                    above.display()
                )));
            }
            None => {}
        }
    }
    Ok(())
}

/// A file that is appended to, and put aside beside itself.
fn appended(path: &Path, is_made: bool) -> Result<(), Unwritable> {
    let shown = path.display();
    match found(path)? {
        Some(data) if data.is_dir() => {
            return Err(Unwritable::Ever(format!(
                "`{shown}` is a folder, expected a file, such as `{}`",
                path.join("audit.jsonl").display()
            )));
        }
        Some(_) => return here(path, "written", access::may_write(path)),
        None => {}
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !is_made && found(parent)?.is_none() {
        return Err(Unwritable::Ever(format!(
            "`{shown}` cannot be made, since there is no folder `{}`: make it",
            parent.display()
        )));
    }
    folder(parent)
}

/// A small file that is read, and made with its folder where it is missing.
fn kept(path: &Path) -> Result<(), Unwritable> {
    match found(path)? {
        Some(data) if data.is_dir() => Err(Unwritable::Ever(format!(
            "`{}` is a folder, expected a file",
            path.display()
        ))),
        Some(_) => here(path, "read", access::may_read(path)),
        None => path.parent().map_or(Ok(()), folder),
    }
}

/// What there is; `None` for nothing.
fn found(path: &Path) -> Result<Option<Metadata>, Unwritable> {
    match std::fs::metadata(path) {
        Ok(data) => Ok(Some(data)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Unwritable::Here(format!(
            "`{}` cannot be looked at: {error}",
            path.display()
        ))),
    }
}

fn here(path: &Path, act: &str, may: std::io::Result<()>) -> Result<(), Unwritable> {
    may.map_err(|error| Unwritable::Here(format!("`{}` cannot be {act}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn looked(text: &str) -> (Vec<String>, Vec<String>) {
        let places = look(&Config::parse(text).unwrap(), "f");
        let problems = places.problems.iter().map(ToString::to_string);
        (problems.collect(), places.warnings)
    }

    #[test]
    fn what_nobody_can_write_is_a_problem_under_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let (folder, file) = (folder.path().display(), file.display());
        for (text, expected) in [
            (
                format!("state.data_dir = '{file}'"),
                format!("f: state.data_dir: `{file}` is a file, expected a folder"),
            ),
            (
                format!("state.data_dir = '{file}/a/b'"),
                format!(
                    "f: state.data_dir: `{file}/a/b` cannot be made, since `{file}` is no folder"
                ),
            ),
            (
                format!("audit.file = '{folder}'"),
                format!(
                    "f: audit.file: `{folder}` is a folder, expected a file, such as `{folder}/audit.jsonl`"
                ),
            ),
            (
                format!("audit.file = '{folder}/none/a'"),
                format!(
                    "f: audit.file: `{folder}/none/a` cannot be made, since there is no folder `{folder}/none`: make it"
                ),
            ),
            (
                format!("audit.people_key_file = '{folder}'"),
                format!("f: audit.people_key_file: `{folder}` is a folder, expected a file"),
            ),
            (
                format!("signing = {{ enabled = true, directory = '{file}' }}"),
                format!("f: signing.directory: `{file}` is a file, expected a folder"),
            ),
        ] {
            assert_eq!(looked(&text), (vec![expected], Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_can_be_written_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("there.jsonl");
        fs::write(&file, "").unwrap();
        let folder = folder.path();
        let shown = folder.display();
        for text in [
            String::new(),
            format!("state.data_dir = '{shown}/new/data'"),
            format!("state.data_dir = '{shown}/new'\naudit.file = '{shown}/new/audit.jsonl'"),
            format!("audit.file = '{shown}/there.jsonl'"),
            format!("audit.file = '{shown}/new.jsonl'\naudit.people_key_file = '{shown}/a/b.key'"),
            "audit.file = '/dev/null'".to_owned(),
            "audit.file = 'audit.jsonl'".to_owned(),
            // Nothing is signed.
            format!("signing.directory = '{shown}/there.jsonl'"),
        ] {
            assert_eq!(looked(&text), (Vec::new(), Vec::new()), "{text}");
        }
        let left: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(left, [file]);
    }

    #[test]
    fn a_folder_of_the_kernel_is_nobodys() {
        // Root is told that it may write there.
        for (place, above) in [
            ("/proc/self/riskgate", "/proc/self"),
            ("/sys/riskgate/a", "/sys"),
        ] {
            let (problems, warnings) = looked(&format!("state.data_dir = '{place}'"));
            let expected = format!(
                "f: state.data_dir: nobody can make `{place}`, since `{above}` belongs to the kernel"
            );
            assert_eq!((problems, warnings), (vec![expected], Vec::new()));
        }
    }

    #[test]
    fn what_one_user_may_not_write_another_one_may() {
        let (problems, warnings) = looked("state.data_dir = '/nonexistent/riskgate'");
        assert_eq!(problems, [""; 0]);
        let told = warnings.join("\n");
        // Who is allowed everything finds out by writing alone.
        assert!(
            told.is_empty()
                || told.starts_with("state.data_dir: `/` cannot be written: ")
                    && told.ends_with("; the gateway must run as a user that may"),
            "{told}"
        );
    }
}
