//! What a replay found, in figures.

use crate::app::RunError;
use crate::app::rerun::html;
use crate::app::rerun::tally::Matrix;
use crate::app::rerun::tally::Person;
use crate::app::rerun::tally::Tally;
use crate::app::rerun::text;
use crate::domain::policy::PolicySet;
use crate::domain::policy::decision::Verdict;
use crate::domain::printable;
use crate::domain::recorded::Gap;
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows of one table.
const ROWS_MAX: usize = 50;
/// People that are listed.
const LISTED_MAX: usize = 50;
/// People that are kept before those are chosen.
const KEPT_MAX: usize = 10_000;
/// Bars over time at most; more hours are put together.
const TIMES_MAX: usize = 48;
/// How many scores one bar stands for.
const SCORES_PER_BAR: usize = 5;

/// What a replay found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The policy's version.
    pub policy: String,
    /// Where it is from.
    pub draft: String,
    /// The models whose scores took the place of the recorded ones.
    pub model: Option<String>,
    /// What is to be known of the draft.
    pub warnings: Vec<String>,
    /// Files of the log.
    pub files: usize,
    /// Whether only a part of the log was read.
    pub is_cut: bool,
    /// The first hour and the last one.
    pub hours: Option<[String; 2]>,
    /// Records that were read.
    pub records: u64,
    /// Lines that are none.
    pub broken: u64,
    /// The first of them.
    pub first_broken: Option<String>,
    /// Records of before `--from`.
    pub earlier: u64,
    /// Requests that policy was not asked about.
    pub not_decided: u64,
    /// Decisions that could not be given again, by why.
    pub left_out: Vec<LeftOut>,
    /// Decisions that were.
    pub replayed: u64,
    /// Of these, decisions of this very policy (and no other model).
    pub same: u64,
    /// And those of them that came out another: none, or something is wrong.
    pub not_reproduced: u64,
    /// Whether names were found among pseudonyms.
    pub names_told: bool,
    /// Everything together.
    pub all: Counts,
    /// Verdicts that change, the most frequent first.
    pub changes: Vec<Change>,
    /// By application (client id).
    pub applications: Vec<Row>,
    /// By country.
    pub countries: Vec<Row>,
    /// By kind of request.
    pub kinds: Vec<Row>,
    /// By door.
    pub doors: Vec<Row>,
    /// By group of users.
    pub groups: Vec<Row>,
    /// By tenant.
    pub tenants: Vec<Row>,
    /// By the part of the policy that spoke.
    pub rules: Vec<RuleRow>,
    /// Who would be locked out.
    pub locked_out: LockedOut,
    /// Against labels.
    pub labels: Labelled,
    /// Whether there were labels.
    pub has_labels: bool,
    /// How often scores came, five at a time from 0.
    pub scores: ScoreBars,
    /// Over time.
    pub times: Vec<TimeRow>,
    /// Some decisions that change, the earliest.
    pub examples: Vec<Example>,
    /// How long it took.
    pub seconds: f64,
    /// Records by that, for a minute.
    pub records_per_minute: f64,
}

/// Why decisions could not be given again.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// A short code.
    pub code: &'static str,
    /// In words.
    pub why: String,
    /// How many.
    pub count: u64,
}

/// How many, by verdict, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Decisions.
    pub total: u64,
    /// By verdict, as recorded: allow, `step_up`, review, block.
    pub before: [u64; 4],
    /// And as given again.
    pub after: [u64; 4],
    /// Those whose verdict gets stricter.
    pub stricter: u64,
    /// Those whose verdict gets milder.
    pub milder: u64,
    /// The share that is not simply let through, as recorded: 0 to 1.
    pub challenge_rate_before: f64,
    /// And as given again.
    pub challenge_rate_after: f64,
}

/// A verdict that changes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Change {
    /// As recorded.
    pub before: &'static str,
    /// As given again.
    pub after: &'static str,
    /// How many.
    pub count: u64,
}

/// The counts of one name.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name.
    pub name: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How often one part of the policy spoke.
#[derive(Clone, Debug, Serialize)]
pub struct RuleRow {
    /// The rule's name, or a default.
    pub name: String,
    /// As recorded.
    pub before: u64,
    /// As given again.
    pub after: u64,
}

/// Who would not get in, or not as before.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LockedOut {
    /// Break-glass accounts that are refused or held, or asked for a factor where nobody can be asked.
    pub break_glass: People,
    /// How many of these did get in as recorded.
    pub break_glass_new: u64,
    /// The same of the group `operators`.
    pub operators: People,
    /// Users who would be asked for a second factor and were not before, and of whom none was seen in these records.
    pub without_factor: People,
    /// Users who would be refused or held and were not before.
    pub refused: People,
    /// Requests of users beyond those that are told apart.
    pub not_told_apart: u64,
}

/// Some people.
#[derive(Clone, Debug, Default, Serialize)]
pub struct People {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub listed: Vec<PersonRow>,
}

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct PersonRow {
    /// The pseudonym, as in the records.
    pub subject: String,
    /// Requests in all.
    pub requests: u64,
    /// Requests asked for a factor, before and after.
    pub asked: [u64; 2],
    /// Requests refused or held, before and after.
    pub refused: [u64; 2],
}

/// Against what is known by now.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Labelled {
    /// Attacks.
    pub attacks: Counts,
    /// Legitimate requests.
    pub legitimate: Counts,
}

/// How often scores came.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScoreBars {
    /// Where each bar begins.
    pub from: Vec<usize>,
    /// As recorded.
    pub before: Vec<u64>,
    /// By the model that takes the place.
    pub after: Vec<u64>,
}

/// The counts of some hours.
#[derive(Clone, Debug, Serialize)]
pub struct TimeRow {
    /// When they begin.
    pub from: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// One decision that changes.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Its id.
    pub id: String,
    /// When it was.
    pub time: String,
    /// The application.
    pub application: String,
    /// The door.
    pub door: &'static str,
    /// The score, before and after.
    pub score: [Option<u8>; 2],
    /// The verdict, as recorded.
    pub before: &'static str,
    /// And as given again.
    pub after: &'static str,
    /// What speaks then.
    pub matched: String,
}

impl Report {
    /// The figures of a tally.
    pub(super) fn of(tally: Tally, policy: &PolicySet, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        let mut left_out = tally.left_out;
        let not_decided = left_out.remove(&Gap::NotDecided).unwrap_or(0);
        let hours = tally
            .hours
            .first_key_value()
            .zip(tally.hours.last_key_value());
        let hours = hours.map(|((first, _), (last, _))| [hour(*first), hour(*last)]);
        let [applications, countries, doors, groups, kinds, tenants] = tally.tables.map(rows);
        Self {
            policy: policy.version().to_string(),
            draft: String::new(),
            model: None,
            warnings: Vec::new(),
            files: 0,
            is_cut: tally.is_cut,
            hours,
            records: tally.records,
            broken: tally.broken,
            first_broken: tally.first_broken,
            earlier: tally.earlier,
            not_decided,
            left_out: left_out
                .into_iter()
                .map(|(gap, count)| LeftOut {
                    code: gap.code(),
                    why: gap.to_string(),
                    count,
                })
                .collect(),
            replayed: tally.all.iter().flatten().sum(),
            same: tally.same.0,
            not_reproduced: tally.same.1,
            names_told: false,
            all: Counts::of(&tally.all),
            changes: changes(&tally.all),
            applications,
            countries,
            kinds,
            doors,
            groups,
            tenants,
            rules: tally
                .matched
                .into_iter()
                .map(|(name, (before, after))| RuleRow {
                    name,
                    before,
                    after,
                })
                .collect(),
            locked_out: locked_out(tally.people.into_values(), tally.people_over),
            labels: Labelled {
                attacks: Counts::of(&tally.attacks),
                legitimate: Counts::of(&tally.legitimate),
            },
            has_labels: false,
            scores: ScoreBars {
                from: (0..=100).step_by(SCORES_PER_BAR).collect(),
                before: bars(&tally.scores.before),
                after: bars(&tally.scores.after),
            },
            times: times(&tally.hours),
            examples: tally
                .examples
                .into_iter()
                .map(|((time, id), example)| Example {
                    id,
                    time,
                    application: example.application,
                    door: example.door.as_str(),
                    score: [example.points.0, example.points.1],
                    before: example.verdicts.0.as_str(),
                    after: example.verdicts.1.as_str(),
                    matched: example.matched,
                })
                .collect(),
            seconds,
            records_per_minute: tally.records as f64 * 60.0 / seconds.max(1e-9),
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// As JSON.
    pub fn json(&self) -> Result<String, RunError> {
        let json = printable::json_pretty(self);
        json.map(|text| text + "\n")
            .map_err(|error| RunError::System(error.to_string()))
    }

    /// As a page with charts, in one file.
    pub fn html(&self) -> Result<String, RunError> {
        html::html(self)
    }

    /// Whether more than twice as many would be challenged, of enough to tell.
    pub fn doubles(&self) -> bool {
        /// Decisions of which a share says something.
        const ENOUGH: u64 = 20;
        let Counts { before, after, .. } = self.all;
        let challenged = |counts: [u64; 4]| counts.iter().skip(1).sum::<u64>();
        self.all.total >= ENOUGH && challenged(after) > 2 * challenged(before).max(1)
    }
}

impl People {
    /// Keeps those who are hit most.
    fn shorten(&mut self) {
        self.listed.sort_by(|a, b| {
            let weight = |one: &PersonRow| (one.refused[1], one.asked[1], one.requests);
            let heavier = weight(b).cmp(&weight(a));
            heavier.then_with(|| a.subject.cmp(&b.subject))
        });
        self.listed.truncate(LISTED_MAX);
    }
}

impl Counts {
    /// The counts of a matrix.
    pub(super) fn of(matrix: &Matrix) -> Self {
        let mut counts = Self::default();
        for (before, row) in matrix.iter().enumerate() {
            for (after, count) in row.iter().enumerate() {
                counts.total += count;
                if let (Some(was), Some(is)) =
                    (counts.before.get_mut(before), counts.after.get_mut(after))
                {
                    *was += count;
                    *is += count;
                }
                match after.cmp(&before) {
                    std::cmp::Ordering::Greater => counts.stricter += count,
                    std::cmp::Ordering::Less => counts.milder += count,
                    std::cmp::Ordering::Equal => {}
                }
            }
        }
        let rate = |verdicts: [u64; 4]| {
            let challenged: u64 = verdicts.iter().skip(1).sum();
            challenged as f64 / (counts.total.max(1) as f64)
        };
        counts.challenge_rate_before = rate(counts.before);
        counts.challenge_rate_after = rate(counts.after);
        counts
    }
}

fn changes(matrix: &Matrix) -> Vec<Change> {
    let mut changes: Vec<Change> = Verdict::ALL
        .into_iter()
        .zip(matrix)
        .flat_map(|(before, row)| {
            let after = Verdict::ALL.into_iter().zip(row);
            after.map(move |(after, count)| Change {
                before: before.as_str(),
                after: after.as_str(),
                count: *count,
            })
        })
        .filter(|change| change.before != change.after && change.count > 0)
        .collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.count));
    changes
}

/// The rows of a table: first where most changes, then where most is.
fn rows(table: BTreeMap<String, Matrix>) -> Vec<Row> {
    let mut rows: Vec<Row> = table
        .into_iter()
        .map(|(name, matrix)| Row {
            name,
            counts: Counts::of(&matrix),
        })
        .collect();
    rows.sort_by_key(|row| {
        let counts = &row.counts;
        std::cmp::Reverse((counts.stricter + counts.milder, counts.total))
    });
    rows.truncate(ROWS_MAX);
    rows
}

fn locked_out(people: impl Iterator<Item = Person>, not_told_apart: u64) -> LockedOut {
    let mut found = LockedOut {
        not_told_apart,
        ..LockedOut::default()
    };
    for person in people {
        let [refused_before, refused_after] = person.refused;
        let is_stuck = refused_after > 0 || person.unaskable[1] > 0;
        let was_stuck = refused_before > 0 || person.unaskable[0] > 0;
        found.break_glass_new += u64::from(person.break_glass && is_stuck && !was_stuck);
        let without_factor = person.asked[1] > 0 && person.asked[0] == 0 && !person.has_factor;
        let lists = [
            (person.break_glass && is_stuck, &mut found.break_glass),
            (person.operator && is_stuck, &mut found.operators),
            (without_factor, &mut found.without_factor),
            (refused_after > 0 && refused_before == 0, &mut found.refused),
        ];
        for (is_one, list) in lists {
            if is_one {
                list.count += 1;
                list.listed.push(PersonRow {
                    subject: person.subject.clone(),
                    requests: person.requests,
                    asked: person.asked,
                    refused: person.refused,
                });
                if list.listed.len() >= KEPT_MAX {
                    list.shorten();
                }
            }
        }
    }
    let lists = [
        &mut found.break_glass,
        &mut found.operators,
        &mut found.without_factor,
        &mut found.refused,
    ];
    for list in lists {
        list.shorten();
    }
    found
}

fn bars(scores: &[u64; 101]) -> Vec<u64> {
    scores
        .chunks(SCORES_PER_BAR)
        .map(|chunk| chunk.iter().sum())
        .collect()
}

fn times(hours: &BTreeMap<i64, Matrix>) -> Vec<TimeRow> {
    let Some(((first, _), (last, _))) = hours.first_key_value().zip(hours.last_key_value()) else {
        return Vec::new();
    };
    let span = last - first + 1;
    let most = TIMES_MAX as i64;
    let width = (span + most - 1) / most;
    let mut steps: BTreeMap<i64, Matrix> = BTreeMap::new();
    for (at, matrix) in hours {
        let step = first + (at - first) / width * width;
        let sum = steps.entry(step).or_default();
        let cells = sum.iter_mut().flatten().zip(matrix.iter().flatten());
        for (count, more) in cells {
            *count += more;
        }
    }
    let steps = steps.into_iter();
    steps
        .map(|(at, matrix)| TimeRow {
            from: hour(at),
            counts: Counts::of(&matrix),
        })
        .collect()
}

/// The beginning of an hour, counted from the epoch.
fn hour(at: i64) -> String {
    let text = Timestamp(at.saturating_mul(3_600_000)).to_rfc3339();
    text.get(..16).unwrap_or(&text).replacen('T', " ", 1)
}
