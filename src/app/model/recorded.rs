//! A model on the rows that a running gateway recorded: no replay, the features are those of the audit log.

use crate::app::RunError;
use crate::app::model::wrong;
use crate::app::records::Line;
use crate::app::records::Lines;
use crate::domain::audit::AuditEvent;
use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::kind::RequestKind;
use crate::domain::recorded::row;
use crate::domain::route::Door;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// Labels at most: each is kept.
const LABELS_MAX: usize = 10_000_000;

/// What is known of a recorded exchange by now.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Known {
    /// The id of the exchange, as in its record.
    id: Box<str>,
    /// Whether it was an attack.
    label: Box<str>,
    /// The kind of attacker.
    #[serde(default)]
    attacker_kind: Box<str>,
    /// Groups of users, separated by spaces.
    #[serde(default)]
    cohort: Box<str>,
    /// The incident.
    #[serde(default)]
    campaign: Box<str>,
}

/// Labels by the id of the exchange.
#[derive(Debug, Default)]
pub(in crate::app) struct Labels(HashMap<Box<str>, Labelled>);

/// One label.
#[derive(Clone, Debug)]
pub(in crate::app) struct Labelled {
    /// The kind of attacker; `None` for a legitimate exchange.
    pub(in crate::app) attacker: Option<Box<str>>,
    /// Groups of users.
    pub(in crate::app) cohort: Box<str>,
    /// The incident; may be empty.
    pub(in crate::app) campaign: Box<str>,
}

/// One recorded row.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The record.
    pub(super) event: AuditEvent,
    /// The kind of request.
    pub(super) kind: RequestKind,
    /// Its features.
    pub(super) features: FeatureVector,
    /// Confirmed logins before it, as far as the features tell.
    pub(super) logins: u32,
}

/// Reads records.
pub(super) struct Records<R> {
    lines: Lines<R>,
    /// Records without features of this build's schema.
    pub(super) other: u64,
}

impl Labels {
    /// Reads `id,label` and, if there, `attacker_kind`, `cohort` and `campaign`. A label is `1`, `true` or `attack`, or
    /// `0`, `false` or `legitimate`.
    pub(in crate::app) fn read(path: &Path) -> Result<Self, RunError> {
        let bad = |error: csv::Error| wrong(path, error.to_string());
        let mut csv = csv::Reader::from_path(path).map_err(bad)?;
        let mut labels = HashMap::new();
        for (place, known) in csv.deserialize().enumerate() {
            let known: Known = known.map_err(bad)?;
            if labels.len() >= LABELS_MAX {
                return Err(wrong(path, format!("more than {LABELS_MAX} labels")));
            }
            let is_attack = match known.label.to_ascii_lowercase().as_str() {
                "1" | "true" | "attack" => true,
                "0" | "false" | "legitimate" => false,
                _ => {
                    let line = place + 2;
                    return Err(wrong(
                        path,
                        format!("line {line}: `label`: expected 1 or 0"),
                    ));
                }
            };
            let labelled = Labelled {
                attacker: is_attack.then_some(known.attacker_kind),
                cohort: known.cohort,
                campaign: known.campaign,
            };
            labels.insert(known.id, labelled);
        }
        Ok(Self(labels))
    }

    /// What is known of an exchange.
    pub(in crate::app) fn of(&self, id: &str) -> Option<&Labelled> {
        self.0.get(id)
    }
}

impl<R: Read> Records<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            lines: Lines::new(input),
            other: 0,
        }
    }

    /// The next record that has features of this build's schema; `None` at the end. The error names the line.
    pub(super) fn read(&mut self) -> Result<Option<Recorded>, String> {
        while let Some(line) = self.lines.read()? {
            let event = match line {
                Line::Record(event) => *event,
                Line::Other => continue,
                Line::Broken(problem) => {
                    return Err(format!("line {}: {problem}", self.lines.number()));
                }
            };
            match recorded(event) {
                Some(recorded) => return Ok(Some(recorded)),
                None => self.other += 1,
            }
        }
        Ok(None)
    }
}

fn recorded(event: AuditEvent) -> Option<Recorded> {
    let features = row(&event).ok()?;
    let door = event.door.as_deref().and_then(door)?;
    // The feature is the logarithm of one more than their number.
    let logins = features.value(Feature::UserHistory).exp_m1().round();
    Some(Recorded {
        kind: RequestKind::of(door, event.grant_type.as_deref()),
        logins: if logins.is_finite() { logins as u32 } else { 0 },
        features,
        event,
    })
}

fn door(name: &str) -> Option<Door> {
    Door::ALL.into_iter().find(|door| door.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(features: usize) -> String {
        let event = AuditEvent {
            id: "one".to_owned(),
            door: Some("login".into()),
            features: vec![Some(0.5); features],
            ..AuditEvent::default()
        };
        serde_json::to_string(&event).unwrap() + "\n"
    }

    #[test]
    fn records_of_another_schema_are_counted() {
        let text = [
            line(Feature::COUNT),
            line(3),
            line(0),
            "\n".to_owned(),
            "{\"mark\":\"checkpoint\",\"schema\":2}\n".to_owned(),
            line(Feature::COUNT),
        ]
        .concat();
        let mut records = Records::new(text.as_bytes());
        let first = records.read().unwrap().unwrap();
        assert_eq!((first.kind, first.logins), (RequestKind::Login, 1));
        assert!(records.read().unwrap().is_some());
        assert!(records.read().unwrap().is_none());
        assert_eq!(records.other, 2);
    }

    #[test]
    fn what_is_no_record_is_named_by_its_line() {
        for (text, expected) in [
            (
                line(1) + "{\"a\":1}\n",
                "line 2: is no record of the audit log",
            ),
            ("null\n".to_owned(), "line 1: is no record"),
            ("\u{0}\n".to_owned(), "line 1: is no record"),
            ("x".repeat(2 << 20), "line 1: more than 1048576 bytes"),
        ] {
            let error = Records::new(text.as_bytes()).read().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn labels_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Labels::read(&path)
        };
        let labels = read("label,id,attacker_kind,extra\nattack,a,stuffing,x\n0,b,,x\n").unwrap();
        assert_eq!(
            labels.of("a").unwrap().attacker.as_deref(),
            Some("stuffing")
        );
        assert!(labels.of("b").unwrap().attacker.is_none() && labels.of("c").is_none());
        for (text, expected) in [
            ("id,label\na,maybe\n", "line 2: `label`: expected 1 or 0"),
            ("id\na\n", "missing field `label`"),
            ("id,label\na\n", "line: 2"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
