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
const FILE: &str = "labels.jsonl";
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
}

/// Keeps an analyst's word. `None` when no record has the id.
pub fn add(config: &Config, word: &Word) -> Result<Option<Label>, RunError> {
    let files = files(config, &word.audit)?;
    let found = records::find(&files, &[word.id.as_str()])?;
    if found.iter().any(Option::is_none) {
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
    let mut exported = Exported::default();
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
    use crate::domain::audit::AuditEvent;

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
            class: "scored".to_owned(),
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
            line("asked", 0, |event| {
                event.verdict = Some("step_up".to_owned())
            }),
            line("proof", 5, |event| event.proof = Some("proven".to_owned())),
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
