//! `riskgate label`: what analysts know of decisions, kept beside the log, and all labels together as a file for evaluation and
//! training.

use crate::adapters::clock::SystemClock;
use crate::adapters::label_file::LabelFile;
use crate::app::RunError;
use crate::app::model::unwritable;
use crate::app::model::wrong;
use crate::app::records;
use crate::app::records::Blocks;
use crate::app::records::Line;
use crate::config::Config;
use crate::domain::label::Label;
use crate::domain::label::LabelSet;
use crate::domain::label::Observer;
use crate::domain::label::Source;
use crate::domain::label::Truth;
use crate::flow::ports::Clock;
use crate::flow::ports::LabelBook;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// The file of analysts' labels, in the folder of everything that is written.
pub(in crate::app) const FILE: &str = "labels.jsonl";
/// The columns of the export: those that `model eval` and `replay` read, and where each label is from.
const COLUMNS: [&str; 8] = [
    "id",
    "label",
    "attacker_kind",
    "cohort",
    "campaign",
    "source",
    "confidence",
    "time",
];

/// What an analyst says.
#[derive(Clone, Debug)]
pub struct Word {
    /// The id of the decision.
    pub id: String,
    /// Whose request it was.
    pub truth: Truth,
    /// Who says so.
    pub operator: String,
    /// The kind of attacker.
    pub attacker_kind: Option<String>,
    /// Why.
    pub note: Option<String>,
    /// Audit files and folders of them; without any, the configured log.
    pub audit: Vec<PathBuf>,
}

/// What was exported, by source.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Exported {
    /// How many labels say "safe" and "compromised", by source.
    pub by_source: BTreeMap<Source, (u64, u64)>,
    /// Lines of the log that are no records.
    pub broken: u64,
    /// A sentence about packed files, in which there may be more labels.
    pub passed_over: Option<String>,
}

/// Whether a record has the id of a word.
pub(in crate::app) fn is_known(config: &Config, word: &Word) -> Result<bool, RunError> {
    let files = files(config, &word.audit)?;
    let found = records::find(&files, &[word.id.as_str()])?;
    Ok(found.iter().all(Option::is_some))
}

/// Keeps an analyst's word in the file. `None` when no record has the id.
pub fn add(config: &Config, word: &Word) -> Result<Option<Label>, RunError> {
    if !is_known(config, word)? {
        return Ok(None);
    }
    let label = Label::of_analyst(
        &word.id,
        word.truth,
        &word.operator,
        word.attacker_kind.as_deref(),
        word.note.as_deref(),
        SystemClock.now().to_rfc3339(),
    );
    let path = file(config);
    // Said before: there is nothing to add.
    LabelFile::new(path.clone())
        .add(&label)
        .map_err(|error| unwritable(&path, &error))?;
    Ok(Some(label))
}

/// Writes all labels that are worth at least `confidence` percent: those of analysts, and what later records say of earlier
/// ones.
pub fn export(
    config: &Config,
    audit: &[PathBuf],
    out: &Path,
    confidence: u8,
) -> Result<Exported, RunError> {
    let mut exported = Exported {
        passed_over: passed_over(config, audit)?,
        ..Exported::default()
    };
    let mut labels = LabelSet::default();
    let mut observer = Observer::default();
    for path in files(config, audit)? {
        let input = File::open(&path).map_err(|error| records::unreadable(&path, &error))?;
        let mut blocks = Blocks::new(input);
        while let Some(block) = blocks
            .read()
            .map_err(|error| records::unreadable(&path, &error))?
        {
            for (_, line) in block.lines() {
                match Line::parse(line) {
                    Line::Record(event) => {
                        observer
                            .observe(&event)
                            .into_iter()
                            .for_each(|label| labels.add(label));
                    }
                    Line::Other => {}
                    Line::Broken(_) => exported.broken += 1,
                }
            }
        }
        exported.broken += blocks.too_long();
    }
    read(&file(config))?
        .into_iter()
        .for_each(|label| labels.add(label));
    let written = write(out, &labels.sorted(confidence), &mut exported);
    written.map_err(|error| unwritable(out, &error))?;
    Ok(exported)
}

/// What is packed and was not read.
///
/// # Errors
///
/// If a folder cannot be read.
pub fn passed_over(config: &Config, audit: &[PathBuf]) -> Result<Option<String>, RunError> {
    let packed = if audit.is_empty() {
        records::packed_log(&config.audit_file())
    } else {
        records::packed(audit)?
    };
    Ok(records::passed_over(&packed))
}

fn files(config: &Config, audit: &[PathBuf]) -> Result<Vec<PathBuf>, RunError> {
    if audit.is_empty() {
        Ok(records::log(&config.audit_file()))
    } else {
        records::files(audit)
    }
}

/// Where they are.
pub(in crate::app) fn file(config: &Config) -> PathBuf {
    config.state.data_dir.join(FILE)
}

/// The labels of analysts. A file that is not there holds none; a line that is none is an error, since an analyst's word must
/// not be lost in silence.
fn read(path: &Path) -> Result<Vec<Label>, RunError> {
    let input = match File::open(path) {
        Ok(input) => input,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(records::unreadable(path, &error)),
    };
    let mut labels = Vec::new();
    let mut blocks = Blocks::new(input);
    while let Some(block) = blocks
        .read()
        .map_err(|error| records::unreadable(path, &error))?
    {
        for (number, line) in block
            .lines()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
        {
            let label = serde_json::from_slice(line);
            labels
                .push(label.map_err(|error| {
                    wrong(path, format!("line {number}: is no label: {error}"))
                })?);
        }
    }
    Ok(labels)
}

fn write(out: &Path, labels: &[&Label], exported: &mut Exported) -> io::Result<()> {
    let mut csv = csv::Writer::from_path(out)?;
    csv.write_record(COLUMNS)?;
    for label in labels {
        let counts = exported.by_source.entry(label.source).or_default();
        match label.label {
            Truth::Safe => counts.0 += 1,
            Truth::Compromised => counts.1 += 1,
        }
        let is_attack = if label.label.is_attack() { "1" } else { "0" };
        csv.write_record([
            label.id.as_str(),
            is_attack,
            label.attacker_kind.as_deref().unwrap_or(""),
            "",
            "",
            label.source.as_str(),
            &label.confidence.to_string(),
            &label.time,
        ])?;
    }
    csv.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::model::recorded::Labels;
    use crate::domain::audit::AUDIT_SCHEMA;
    use crate::domain::audit::AuditEvent;
    use crate::domain::features::Feature;
    use crate::domain::features::FeatureSchema;
    use crate::domain::kind::RequestKind;
    use crate::domain::outcome::AuthOutcome;
    use crate::domain::policy::decision::Verdict;
    use crate::domain::risk::RiskScore;
    use crate::domain::risk::Thresholds;
    use crate::domain::route::Door;

    fn place() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().to_owned();
        (folder, config)
    }

    fn line(id: &str, minute: u32, change: impl FnOnce(&mut AuditEvent)) -> String {
        let mut event = AuditEvent {
            id: id.to_owned(),
            time: format!("2026-11-26T10:{minute:02}:00.000Z"),
            class: "scored".into(),
            subject: Some("u".to_owned()),
            ..AuditEvent::default()
        };
        change(&mut event);
        serde_json::to_string(&event).unwrap() + "\n"
    }

    fn word(id: &str, truth: Truth) -> Word {
        Word {
            id: id.to_owned(),
            truth,
            operator: "ann\u{1b}[31m".to_owned(),
            attacker_kind: Some("stuffing".to_owned()),
            note: Some(" called\nback ".to_owned()),
            audit: Vec::new(),
        }
    }

    #[test]
    fn what_analysts_and_records_say_becomes_a_file_that_models_are_evaluated_with() {
        let (folder, config) = place();
        let log = [
            line("asked", 0, |event| event.verdict = Some("step_up".into())),
            line("proof", 5, |event| event.proof = Some("proven".into())),
            line("stolen", 9, |_| {}),
            "broken\n".to_owned(),
        ];
        std::fs::write(config.audit_file(), log.concat()).unwrap();
        assert_eq!(add(&config, &word("unknown", Truth::Safe)).unwrap(), None);
        let label = add(&config, &word("stolen", Truth::Compromised))
            .unwrap()
            .unwrap();
        assert_eq!(label.operator.as_deref(), Some("ann[31m"));
        assert_eq!(label.note.as_deref(), Some("calledback"));
        let out = folder.path().join("labels.csv");
        let exported = export(&config, &[], &out, 0).unwrap();
        let expected = [(Source::Analyst, (0, 1)), (Source::StepUp, (1, 0))];
        assert_eq!(exported.by_source, BTreeMap::from(expected));
        assert_eq!(exported.broken, 1);
        let labels = Labels::read(&out).unwrap();
        assert_eq!(
            labels.of("stolen").unwrap().attacker.as_deref(),
            Some("stuffing")
        );
        assert!(labels.of("asked").unwrap().attacker.is_none());
        // An analyst may take a word back: the later one counts.
        add(&config, &word("stolen", Truth::Safe)).unwrap();
        let certain = export(&config, &[], &out, 90).unwrap();
        assert_eq!(
            certain.by_source,
            BTreeMap::from([(Source::Analyst, (1, 0))])
        );
        assert_eq!(certain.passed_over, None);
        // What is packed may have more: the file that is written is not all there is.
        let packed = folder.path().join("audit.20200101T000000.000Z.jsonl.gz");
        std::fs::write(&packed, b"\x1f\x8b").unwrap();
        for audit in [&[][..], &[folder.path().to_owned()]] {
            let some = export(&config, audit, &out, 0).unwrap();
            let said = some.passed_over.unwrap();
            assert!(
                said.contains("jsonl.gz` is packed and was not read"),
                "{said}"
            );
        }
    }

    /// A record of each sort that the trainer tells apart, and an analyst's word on two: as the gateway writes them.
    fn records_for_training() -> String {
        let login = |event: &mut AuditEvent, score: u8, verdict: Verdict, outcome: AuthOutcome| {
            event.door = Some(Door::Login.as_str().into());
            event.kind = Some(RequestKind::Login.as_str().into());
            event.device = Some("none".into());
            event.features = (0..Feature::COUNT)
                .map(|index| (index % 3 > 0).then_some(f32::from(score) / 100.0))
                .collect();
            event.feature_schema = Some(FeatureSchema::current().version);
            event.status = Some("scored".into());
            event.score = Some(score);
            let level = RiskScore::from_points(score).level(Thresholds::default());
            event.level = Some(level.as_str().into());
            event.verdict = Some(verdict.as_str().into());
            event.action = if verdict == Verdict::Allow {
                "forwarded"
            } else {
                "blocked"
            }
            .into();
            event.outcome = outcome.as_str().into();
            event.model = Some("1.0.0".to_owned());
        };
        let of = |user: &str, id: &str, minute: u32, change: &dyn Fn(&mut AuditEvent)| {
            line(id, minute, |event| {
                event.schema = AUDIT_SCHEMA;
                event.subject = Some(user.to_owned());
                change(event);
            })
        };
        let told = |action: &'static str| {
            move |event: &mut AuditEvent| {
                event.class = "event".into();
                event.action = action.into();
            }
        };
        let (low, right) = (Verdict::Allow, AuthOutcome::Succeeded);
        let mut log = vec![
            of("a", "undisputed", 0, &|event| login(event, 5, low, right)),
            of("b", "failed", 1, &|event| {
                login(event, 5, low, AuthOutcome::Failed);
            }),
            of("c", "asked", 2, &|event| {
                login(event, 50, Verdict::StepUp, AuthOutcome::NextFactor);
            }),
            of("c", "proof", 3, &|event| {
                event.door = Some(Door::Token.as_str().into());
                event.proof = Some("proven".into());
            }),
            of("d", "released", 4, &|event| {
                login(event, 60, Verdict::Review, AuthOutcome::RefusedHere);
                event.review = Some("held".to_owned());
                event.review_state = Some("held".into());
            }),
            of("d", "ruling", 5, &|event| {
                event.class = "review".into();
                event.action = "released".into();
                event.review = Some("held".to_owned());
            }),
            of("e", "analyst_compromised", 6, &|event| {
                login(event, 10, low, right);
            }),
            of("f", "analyst_safe", 7, &|event| {
                login(event, 80, Verdict::Block, AuthOutcome::RefusedHere);
            }),
            "{\"mark\":\"checkpoint\",\"schema\":2}\n".to_owned(),
        ];
        let hints = [
            "account_locked",
            "credential_updated",
            "session_revoked",
            "factor_failed",
        ];
        for (minute, action) in (10..).step_by(2).zip(hints) {
            log.push(of(action, action, minute, &|event| {
                login(event, 12, low, right);
            }));
            log.push(of(action, "told", minute + 1, &told(action)));
        }
        log.concat()
    }

    /// The trainer's tests (`training/test_sources.py`) read what this compares: neither side can change its form alone.
    /// `BLESS=1 cargo test -p riskgate --lib trainer` writes the files anew.
    #[test]
    fn the_trainer_is_tested_with_what_is_recorded_and_exported_today() {
        let (folder, config) = place();
        let log = records_for_training();
        std::fs::write(config.audit_file(), &log).unwrap();
        for (id, truth) in [
            ("analyst_compromised", Truth::Compromised),
            ("analyst_safe", Truth::Safe),
        ] {
            let said = Word {
                attacker_kind: truth.is_attack().then(|| "phishing".to_owned()),
                ..word(id, truth)
            };
            add(&config, &said).unwrap().unwrap();
        }
        let out = folder.path().join("labels.csv");
        let exported = export(&config, &[], &out, 0).unwrap();
        assert_eq!((exported.by_source.len(), exported.broken), (7, 0));
        // The time of an analyst's word is the present.
        let labels = std::fs::read_to_string(&out).unwrap();
        let labels: String = labels
            .lines()
            .map(|line| match line.split_once(",analyst,95,") {
                Some((front, _)) => format!("{front},analyst,95,2026-11-26T12:00:00.000Z\n"),
                None => format!("{line}\n"),
            })
            .collect();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/labels");
        for (name, text) in [("audit.jsonl", &log), ("labels.csv", &labels)] {
            if std::env::var_os("BLESS").is_some() {
                std::fs::write(data.join(name), text).unwrap();
            }
            let kept = std::fs::read_to_string(data.join(name)).unwrap();
            assert!(
                kept == *text,
                "tests/data/labels/{name} is not what is written today"
            );
        }
    }

    #[test]
    fn a_label_that_cannot_be_read_is_an_error() {
        let (folder, config) = place();
        std::fs::write(config.audit_file(), "").unwrap();
        std::fs::write(folder.path().join(FILE), "{\"id\":\"a\"}\n").unwrap();
        let error = export(&config, &[], &folder.path().join("out.csv"), 0).unwrap_err();
        assert!(error.to_string().contains("line 1: is no label"), "{error}");
    }
}
