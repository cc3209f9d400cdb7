//! What passes while events are played or records scored: each becomes a row that is written and counted.

use crate::adapters::clock::SystemClock;
use crate::app::RunError;
use crate::app::model::eval::Evaluation;
use crate::app::model::figures::Judged;
use crate::app::model::figures::Sums;
use crate::app::model::recorded::Labels;
use crate::app::model::recorded::Records;
use crate::app::model::rows::FeatureRows;
use crate::app::model::rows::Row;
use crate::app::model::rows::ScoreRows;
use crate::app::model::unwritable;
use crate::app::model::wrong;
use crate::app::replay::Played;
use crate::app::replay::Replay;
use crate::app::replay::Said;
use crate::app::replay::events;
use crate::app::replay::events::BadEvent;
use crate::app::replay::events::Event;
use crate::app::replay::events::EventKind;
use crate::app::replay::events::Events;
use crate::app::replay::events::Label;
use crate::domain::kind::RequestKind;
use crate::domain::risk::RiskScore;
use crate::domain::time::Deadline;
use crate::domain::time::Timestamp;
use crate::flow::ports::Clock;
use crate::flow::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::DefaultHasher;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// The longest that one run of a model may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What passes while events are played.
pub(super) struct Course<'a> {
    scores: Option<(&'a Path, ScoreRows)>,
    features: Option<(&'a Path, FeatureRows)>,
    pub(super) sums: BTreeMap<&'static str, Sums>,
    pub(super) events: u64,
    pub(super) warmed: u64,
    pub(super) skipped: u64,
}

impl<'a> Course<'a> {
    pub(super) fn open(evaluation: &'a Evaluation) -> Result<Self, RunError> {
        let scores = evaluation.scores.as_deref().map(|path| {
            let rows = ScoreRows::create(path).map_err(|error| unwritable(path, &error))?;
            Ok((path, rows))
        });
        let features = evaluation.features.as_deref().map(|path| {
            let rows = FeatureRows::create(path).map_err(|error| unwritable(path, &error))?;
            Ok((path, rows))
        });
        Ok(Self {
            scores: scores.transpose()?,
            features: features.transpose()?,
            sums: BTreeMap::new(),
            events: 0,
            warmed: 0,
            skipped: 0,
        })
    }

    pub(super) async fn run(
        &mut self,
        evaluation: &Evaluation,
        replay: &mut Replay,
        input: Box<dyn Read>,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), RunError> {
        let path = evaluation.input.path();
        let bad = |error: &BadEvent| wrong(path, error.to_string());
        let mut events = Events::open(input).map_err(|error| bad(&error))?;
        if !events.ignored().is_empty() {
            say(&format!("unknown columns: {}", events.ignored().join(", ")));
        }
        let label = evaluation.label.or(events.label()).unwrap_or_else(|| {
            say("no column says what is an attack: every event counts as legitimate");
            Label::AttackerKind
        });
        loop {
            match events.read() {
                Ok(Some(event)) => {
                    let played = replay.play(&event).await.map_err(RunError::System)?;
                    let number = self.events;
                    if self.counts(evaluation, event.at) {
                        let number = number.to_string();
                        self.take(&row(&event, &number, label, &played))?;
                    }
                }
                Ok(None) => break,
                Err(error) if error.can_skip && self.skipped < evaluation.skip_bad => {
                    self.skipped += 1;
                    if self.skipped == 1 {
                        say(&format!("passed over: {error}"));
                    }
                }
                Err(error) => return Err(bad(&error)),
            }
        }
        if self.events == 0 {
            return Err(wrong(path, "no events"));
        }
        Ok(())
    }

    /// Scores recorded rows. The verdict is the default of the level: rules may ask for more than a record holds.
    pub(super) fn score(
        &mut self,
        evaluation: &Evaluation,
        snapshot: &Snapshot,
        labels: Option<&Path>,
        input: Box<dyn Read>,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), RunError> {
        let path = evaluation.input.path();
        let labels = labels.map(Labels::read).transpose()?;
        let mut records = Records::new(input);
        while let Some(recorded) = records.read().map_err(|problem| wrong(path, problem))? {
            let event = &recorded.event;
            let labelled = labels.as_ref().map(|labels| labels.of(&event.id));
            if labelled.is_some_and(|label| label.is_none()) {
                self.skipped += 1;
                continue;
            }
            let labelled = labelled.flatten();
            let at = events::moment_of_record(&event.time);
            if !self.counts(evaluation, at) {
                continue;
            }
            let (_, models) = snapshot.models.serving(recorded.kind);
            let model = models.primary.as_ref();
            let deadline = Deadline::after(SystemClock.instant(), PATIENCE);
            let output = model.map(|model| model.run(&recorded.features, deadline));
            let score = output
                .transpose()
                .map_err(|error| RunError::System(error.to_string()))?
                .map(|output| output.score);
            let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
            let said = score.map_or(Said::Refused, |score| {
                let client = text(&event.client_id);
                Said::Verdict(
                    snapshot
                        .policy
                        .default_verdict(score, &text(&event.tenant), &client),
                )
            });
            self.take(&Row {
                index: &event.seq.to_string(),
                kind: recorded.kind,
                score,
                features: Some(&recorded.features),
                said,
                attacker: labelled.and_then(|label| label.attacker.as_deref()),
                cohort: labelled.map_or("", |label| &label.cohort),
                campaign: labelled.map_or("", |label| &label.campaign),
                logins: recorded.logins,
                whom: &text(&event.subject),
            })?;
        }
        if records.other > 0 {
            let other = records.other;
            say(&format!("{other} records have no features of this schema"));
        }
        if self.events == 0 {
            return Err(wrong(path, "no records with features"));
        }
        Ok(())
    }

    /// Counts an event that was played; `false` when it only warmed the state.
    fn counts(&mut self, evaluation: &Evaluation, at: Timestamp) -> bool {
        self.events += 1;
        let warms = evaluation.from.is_some_and(|from| at < from);
        self.warmed += u64::from(warms);
        !warms
    }

    /// Writes and counts a row.
    fn take(&mut self, row: &Row<'_>) -> Result<(), RunError> {
        if let Some((path, scores)) = &mut self.scores {
            let written = scores.write(row);
            written.map_err(|error| unwritable(path, &error))?;
        }
        if let Some((path, features)) = &mut self.features {
            let written = features.write(row.features);
            written.map_err(|error| unwritable(path, &error))?;
        }
        let together = if row.campaign.is_empty() {
            row.whom
        } else {
            row.campaign
        };
        self.sums
            .entry(row.kind.as_str())
            .or_default()
            .add(&Judged {
                probability: row.score.map(RiskScore::probability),
                said: row.said.as_str(),
                attacker: row.attacker,
                cohort: row.cohort,
                logins: row.logins,
                group: BuildHasherDefault::<DefaultHasher>::default().hash_one(together),
            });
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<(), RunError> {
        if let Some((path, scores)) = self.scores.take() {
            scores.finish().map_err(|error| unwritable(path, &error))?;
        }
        if let Some((path, features)) = self.features.take() {
            features
                .finish()
                .map_err(|error| unwritable(path, &error))?;
        }
        Ok(())
    }
}

fn row<'e>(event: &'e Event<'_>, number: &'e str, label: Label, played: &'e Played) -> Row<'e> {
    Row {
        index: if event.index.is_empty() {
            number
        } else {
            event.index
        },
        kind: kind(event.kind),
        score: played.score,
        features: played.features.as_ref(),
        said: played.said,
        attacker: event.attack(label),
        cohort: event.cohort,
        campaign: event.campaign,
        logins: played.logins,
        whom: event.whom(),
    }
}

/// The kind of request that an event is.
fn kind(kind: EventKind) -> RequestKind {
    match kind {
        EventKind::Login | EventKind::Sso => RequestKind::Login,
        EventKind::Code | EventKind::Refresh => RequestKind::Token,
        EventKind::ClientCredentials => RequestKind::M2m,
    }
}
