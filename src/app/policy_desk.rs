//! The policy file and its earlier versions on disk, for the console: read, tried out, replaced, put back. What is written is
//! taken over by the reload that watches the file. Decides about no request.

use crate::adapters::replace::Access;
use crate::adapters::replace::replace;
use crate::adapters::replace::unwritten;
use crate::adapters::short_file;
use crate::app::assemble;
use crate::app::rerun;
use crate::app::rerun::Plan;
use crate::app::rerun::report::Report;
use crate::config::Config;
use crate::config::overrides::Overrides;
use crate::domain::policy::POLICY_BYTES_MAX;
use crate::domain::policy::PolicySet;
use crate::domain::policy::editing;
use crate::domain::policy::editing::HISTORY_BYTES_MAX;
use crate::domain::policy::editing::How;
use crate::domain::policy::editing::Replayed;
use crate::domain::policy::editing::Version;
use crate::domain::policy::editing::Versions;
use crate::domain::policy::editing::digest_of;
use crate::domain::time::Timestamp;
use crate::flow::ports::Draft;
use crate::flow::ports::DraftError;
use crate::flow::ports::PolicyDesk;
use crate::flow::ports::PolicyText;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::ErrorKind;
use std::num::NonZero;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// The folder of earlier versions, in that of everything that is written.
const FOLDER: &str = "policy-history";
/// What is known of the versions.
const HISTORY: &str = "history.json";
/// How much of the log a draft is replayed on: some ten thousand records.
const TAIL_BYTES: u64 = 32 * 1024 * 1024;
/// And for how long it is read.
const PATIENCE: Duration = Duration::from_secs(2);
/// Applications and changed decisions that are shown.
const ROWS_MAX: usize = 12;

/// The files of one node.
#[derive(Debug)]
pub(in crate::app) struct FilesOfPolicy {
    overrides: Overrides,
    /// Held while the file is compared and replaced.
    writing: Mutex<()>,
}

impl FilesOfPolicy {
    /// Those that the configuration names, by file and flags, at the time of each call.
    pub(in crate::app) fn new(overrides: Overrides) -> Self {
        Self {
            overrides,
            writing: Mutex::default(),
        }
    }

    fn config(&self) -> Result<Config, DraftError> {
        self.overrides.config().map_err(|error| DraftError::File {
            file: error.file,
            problem: error.problem,
        })
    }

    fn folder(config: &Config) -> PathBuf {
        config.state.data_dir.join(FOLDER)
    }
}

impl PolicyDesk for FilesOfPolicy {
    fn read(&self) -> Result<PolicyText, DraftError> {
        let config = self.config()?;
        let Some(path) = config.policy_file() else {
            return Ok(PolicyText {
                file: None,
                text: assemble::SHIPPED_POLICY.to_owned(),
            });
        };
        Ok(PolicyText {
            text: read(&path, POLICY_BYTES_MAX as u64)?,
            file: Some(path.display().to_string()),
        })
    }

    fn replay(&self, text: &str) -> Result<Replayed, String> {
        let config = self.config().map_err(|error| error.to_string())?;
        replayed(&config, text)
    }

    fn save(&self, draft: &Draft<'_>, at: Timestamp) -> Result<String, DraftError> {
        let config = self.config()?;
        let path = config.policy_file().ok_or(DraftError::BuiltIn)?;
        let _writing = self.writing.lock();
        let before = read(&path, POLICY_BYTES_MAX as u64)?;
        let from = digest_of(&before);
        if from != draft.base {
            return Err(DraftError::Changed);
        }
        let to = digest_of(draft.text);
        if from == to {
            return Err(DraftError::Same);
        }
        let present = PolicySet::parse(&before).ok();
        let (_, findings) = editing::check(draft.text, present.as_ref());
        if findings.iter().any(|finding| finding.is_error) {
            return Err(DraftError::Wrong(findings));
        }
        let found = replayed(&config, draft.text).map_err(DraftError::Unreplayed)?;
        if found.break_glass_new > 0 {
            return Err(DraftError::LocksOut(found.break_glass_new));
        }

        // First what is about to go is kept, then the file is replaced, then that is noted: whatever comes between loses no text.
        let folder = Self::folder(&config);
        let mut history = history(&folder)?;
        if history
            .version
            .last()
            .is_none_or(|last| last.digest != from)
        {
            history.add(Version {
                digest: from.clone(),
                time: at.to_rfc3339(),
                how: How::Found,
                operator: None,
                note: String::new(),
            });
        }
        for (digest, text) in [(&from, before.as_str()), (&to, draft.text)] {
            put(&text_file(&folder, digest), text.as_bytes())?;
        }
        put(&folder.join(HISTORY), history.to_text().as_bytes())?;
        replace(&path, draft.text.as_bytes(), Access::Kept)
            .map_err(|error| failed(&path, &error))?;
        history.add(Version {
            digest: to,
            time: at.to_rfc3339(),
            how: draft.how,
            operator: Some(draft.operator.to_owned()),
            note: draft.note.to_owned(),
        });
        if let Err(error) = put(&folder.join(HISTORY), history.to_text().as_bytes()) {
            // The policy is in place, and its record says who wrote it.
            tracing::error!(%error, "the version of the policy that was written is not noted in its history");
        }
        forget(&folder, &history);
        Ok(from)
    }

    fn history(&self) -> Result<Versions, DraftError> {
        history(&Self::folder(&self.config()?))
    }

    fn version(&self, digest: &str) -> Result<Option<String>, DraftError> {
        let folder = Self::folder(&self.config()?);
        if history(&folder)?.find(digest).is_none() {
            return Ok(None);
        }
        let path = text_file(&folder, digest);
        let text = read(&path, POLICY_BYTES_MAX as u64)?;
        if digest_of(&text) != digest {
            let problem = "is not the text that was kept: it was changed since".to_owned();
            let file = path.display().to_string();
            return Err(DraftError::File { file, problem });
        }
        Ok(Some(text))
    }
}

/// What the end of the configured log says about a draft. One thread judges: requests need the others.
fn replayed(config: &Config, text: &str) -> Result<Replayed, String> {
    let is_there = |path: &PathBuf| path.is_file();
    if !crate::app::records::log(&config.audit_file())
        .iter()
        .any(is_there)
    {
        return Ok(Replayed::default());
    }
    let plan = Plan {
        draft: Some(text.to_owned()),
        threads: NonZero::new(1),
        tail_bytes: Some(TAIL_BYTES),
        patience: Some(PATIENCE),
        ..Plan::default()
    };
    let report = rerun::replay(config, &plan).map_err(|error| error.to_string())?;
    Ok(shortened(report))
}

fn shortened(report: Report) -> Replayed {
    let doubles = report.doubles();
    let changed = report.applications.into_iter();
    let changed = changed.filter(|row| row.counts.stricter + row.counts.milder > 0);
    Replayed {
        decisions: report.replayed,
        is_cut: report.is_cut,
        left_out: report.left_out.iter().map(|one| one.count).sum(),
        hours: report.hours,
        stricter: report.all.stricter,
        milder: report.all.milder,
        challenged_before: report.all.challenge_rate_before,
        challenged_after: report.all.challenge_rate_after,
        changes: report
            .changes
            .iter()
            .map(|change| {
                (
                    change.before.to_owned(),
                    change.after.to_owned(),
                    change.count,
                )
            })
            .collect(),
        applications: changed
            .take(ROWS_MAX)
            .map(|row| {
                (
                    row.name,
                    row.counts.total,
                    row.counts.stricter,
                    row.counts.milder,
                )
            })
            .collect(),
        examples: report
            .examples
            .into_iter()
            .take(ROWS_MAX)
            .map(|one| {
                [
                    one.id,
                    one.time,
                    one.before.to_owned(),
                    one.after.to_owned(),
                    one.matched,
                ]
            })
            .collect(),
        break_glass: report.locked_out.break_glass.count,
        break_glass_new: report.locked_out.break_glass_new,
        refused: report.locked_out.refused.count,
        without_factor: report.locked_out.without_factor.count,
        doubles,
    }
}

fn failed(path: &Path, error: &io::Error) -> DraftError {
    DraftError::File {
        file: path.display().to_string(),
        problem: unwritten(error),
    }
}

/// A whole file, unless it is longer than one can be.
fn read(path: &Path, most: u64) -> Result<String, DraftError> {
    short_file::read(path, most).map_err(|error| DraftError::File {
        file: path.display().to_string(),
        problem: format!("cannot be read: {error}"),
    })
}

fn history(folder: &Path) -> Result<Versions, DraftError> {
    let path = folder.join(HISTORY);
    if !path.exists() {
        return Ok(Versions::default());
    }
    let text = read(&path, HISTORY_BYTES_MAX)?;
    Versions::parse(&text).map_err(|problem| DraftError::File {
        file: path.display().to_string(),
        problem: format!("is no history: {problem}; move it away to begin another"),
    })
}

fn text_file(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("{digest}.toml"))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), DraftError> {
    replace(path, bytes, Access::Private).map_err(|error| failed(path, &error))
}

/// Takes away the texts of versions that are no longer known.
fn forget(folder: &Path, history: &Versions) {
    let kept: BTreeSet<&str> = history
        .version
        .iter()
        .map(|one| one.digest.as_str())
        .collect();
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_text = path.extension().is_some_and(|ending| ending == "toml");
        let digest = path.file_stem().and_then(|stem| stem.to_str());
        if is_text && digest.is_some_and(|digest| !kept.contains(digest)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %path.display(), "an old version of the policy cannot be removed");
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "version = 1\nbreak_glass = [\"admin\"]\n\n[[rule]]\nname = \"a\"\nwhen = 'request.door == \"login\"'\nverdict = \"allow\"\n";

    struct Place {
        folder: tempfile::TempDir,
        desk: FilesOfPolicy,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            fs::write(path("policy.toml"), ONE).unwrap();
            let config = format!(
                "[policy]\nfile = {:?}\n[state]\ndata_dir = {:?}\n",
                path("policy.toml"),
                path("data")
            );
            fs::write(path("riskgate.toml"), config).unwrap();
            let overrides = Overrides {
                config: Some(path("riskgate.toml")),
                ..Overrides::default()
            };
            Self {
                desk: FilesOfPolicy::new(overrides),
                folder,
            }
        }

        fn on_disk(&self) -> String {
            fs::read_to_string(self.folder.path().join("policy.toml")).unwrap()
        }

        fn save(&self, text: &str, base: &str) -> Result<String, DraftError> {
            let draft = Draft {
                text,
                base,
                how: How::Saved,
                operator: "ada",
                note: "why",
            };
            self.desk.save(&draft, Timestamp(0))
        }
    }

    fn version(number: usize) -> String {
        format!("# {number}\n{ONE}")
    }

    #[test]
    fn a_version_is_written_over_the_one_that_it_was_made_from_alone() {
        let place = Place::new();
        let read = place.desk.read().unwrap();
        assert_eq!(read.text, ONE);
        let base = digest_of(ONE);
        assert_eq!(place.save(&version(1), &base).unwrap(), base);
        assert_eq!(place.on_disk(), version(1));
        // Who began before that does not write over it.
        assert!(matches!(
            place.save(&version(2), &base),
            Err(DraftError::Changed)
        ));
        let base = digest_of(&version(1));
        assert!(matches!(
            place.save(&version(1), &base),
            Err(DraftError::Same)
        ));
        let broken = version(2).replace("allow", "maybe");
        let Err(DraftError::Wrong(findings)) = place.save(&broken, &base) else {
            panic!("it was taken");
        };
        assert_eq!(findings[0].line, Some(8));
        assert_eq!(place.on_disk(), version(1));
        let history = place.desk.history().unwrap();
        let hows: Vec<_> = history.version.iter().map(|one| one.how).collect();
        assert_eq!(hows, [How::Found, How::Saved]);
        // What was there before can be had back.
        assert_eq!(
            place.desk.version(&digest_of(ONE)).unwrap().as_deref(),
            Some(ONE)
        );
        assert_eq!(place.desk.version(&digest_of("x")).unwrap(), None);
        assert_eq!(place.desk.version("../../policy").unwrap(), None);
    }

    #[test]
    fn what_others_write_into_the_file_is_kept_as_well_and_the_oldest_goes() {
        let place = Place::new();
        place.save(&version(0), &digest_of(ONE)).unwrap();
        fs::write(place.folder.path().join("policy.toml"), version(100)).unwrap();
        place.save(&version(1), &digest_of(&version(100))).unwrap();
        let history = place.desk.history().unwrap();
        assert_eq!(history.version[2].how, How::Found);
        assert_eq!(history.version[2].digest, digest_of(&version(100)));
        for number in 1..editing::VERSIONS_MAX {
            place
                .save(&version(number + 1), &digest_of(&version(number)))
                .unwrap();
        }
        let history = place.desk.history().unwrap();
        assert_eq!(history.version.len(), editing::VERSIONS_MAX);
        assert_eq!(place.desk.version(&digest_of(ONE)).unwrap(), None);
        let files = fs::read_dir(place.folder.path().join("data/policy-history")).unwrap();
        assert_eq!(files.count(), editing::VERSIONS_MAX + 1);
    }

    #[test]
    fn of_two_who_save_at_once_one_is_told() {
        let place = Place::new();
        let base = digest_of(ONE);
        let saved = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    let (place, base) = (&place, &base);
                    scope.spawn(move || place.save(&version(number), base).is_ok())
                })
                .collect();
            let done = threads.into_iter().map(|thread| thread.join().unwrap());
            done.filter(|is_saved| *is_saved).count()
        });
        assert_eq!(saved, 1);
        assert_eq!(place.desk.history().unwrap().version.len(), 2);
    }

    #[test]
    fn what_cannot_be_written_or_read_is_said_and_changes_nothing() {
        let place = Place::new();
        let blocker = place.folder.path().join(".policy.toml.new");
        fs::create_dir(&blocker).unwrap();
        let error = place
            .save(&version(1), &digest_of(ONE))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("policy.toml") && error.contains("cannot be written"),
            "{error}"
        );
        assert_eq!(place.on_disk(), ONE);
        fs::remove_dir(&blocker).unwrap();
        // Nothing says that it was saved.
        assert!(
            place
                .desk
                .history()
                .unwrap()
                .version
                .iter()
                .all(|one| one.how == How::Found)
        );
        place.save(&version(1), &digest_of(ONE)).unwrap();

        let kept = place.folder.path().join("data/policy-history");
        fs::write(text_file(&kept, &digest_of(ONE)), "other").unwrap();
        let error = place.desk.version(&digest_of(ONE)).unwrap_err().to_string();
        assert!(error.contains("changed since"), "{error}");
        fs::write(kept.join(HISTORY), "{").unwrap();
        let error = place
            .save(&version(2), &digest_of(&version(1)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("is no history"), "{error}");
        assert_eq!(place.on_disk(), version(1));
        fs::write(place.folder.path().join("policy.toml"), [0xff, 0xfe]).unwrap();
        assert!(matches!(place.desk.read(), Err(DraftError::File { .. })));
        let long = "#".repeat(POLICY_BYTES_MAX + 1);
        fs::write(place.folder.path().join("policy.toml"), long).unwrap();
        assert!(
            place
                .desk
                .read()
                .unwrap_err()
                .to_string()
                .contains("more than")
        );
        fs::remove_file(place.folder.path().join("policy.toml")).unwrap();
        assert!(matches!(place.desk.read(), Err(DraftError::File { .. })));
    }
}
