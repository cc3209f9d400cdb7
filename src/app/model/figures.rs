//! What an evaluation counts: scores of legitimate events and of each kind of attacker, challenges, verdicts,
//! calibration; for each kind of request on its own. The sums are kept as the events pass, the figures made at the end.

use crate::app::model::curves::Calibration;
use crate::app::model::curves::Share;
use crate::app::model::curves::Sorted;
use crate::app::model::curves::resampled;
use serde::Serialize;
use std::collections::BTreeMap;

/// Kinds of attackers and cohorts that are told apart; what comes beyond is counted as `other`.
const GROUPS_MAX: usize = 64;
/// The share of challenges that users with a history are granted, and how long that history is.
const BUDGET: f64 = 0.02;
const ESTABLISHED: u32 = 5;
/// Shares of false alarms at which attackers are counted.
const ALARMS: [f64; 2] = [0.01, 0.001];
/// Classes of confirmed logins before the event: each ends where the next begins.
const HISTORIES: [(&str, u32); 5] = [("0", 0), ("1", 1), ("2-4", 2), ("5-9", 5), ("10+", 10)];
/// How scores of no named attacker and of more than [`GROUPS_MAX`] are called.
const OTHER: &str = "other";

/// One judged event, as far as the figures need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged<'e> {
    /// The probability of an attack; `None` when there is no score.
    pub(super) probability: Option<f32>,
    /// The verdict, `refused` or `unreached`.
    pub(super) said: &'static str,
    /// The kind of attacker; `None` for a legitimate event.
    pub(super) attacker: Option<&'e str>,
    /// Groups of users, separated by spaces.
    pub(super) cohort: &'e str,
    /// Confirmed logins before it.
    pub(super) logins: u32,
    /// What belongs together: a campaign, else a user.
    pub(super) group: u64,
}

/// The sums of one kind of request.
#[derive(Debug, Default)]
pub(super) struct Sums {
    good: Vec<f32>,
    established: Vec<f32>,
    attackers: BTreeMap<Box<str>, Vec<(f32, u64)>>,
    challenged: Share,
    histories: [Share; HISTORIES.len()],
    cohorts: BTreeMap<Box<str>, Share>,
    verdicts: BTreeMap<Box<str>, BTreeMap<&'static str, u64>>,
    calibration: Calibration,
    rows: u64,
    unscored: u64,
}

/// A share as it is written.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// The share; `None` of nothing.
    pub rate: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// A threshold on the probability: what exceeds it is challenged.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Thresholds {
    /// At most one legitimate event in a hundred exceeds it.
    pub one_percent: Option<f32>,
    /// At most one in a thousand does.
    pub one_permille: Option<f32>,
    /// At most two in a hundred of users with at least five logins do.
    pub established_two_percent: Option<f32>,
}

/// How well one kind of attacker is told from legitimate events.
#[derive(Clone, Debug, Serialize)]
pub struct Attackers {
    /// Scored events.
    pub events: u64,
    /// Campaigns, or users where none are named.
    pub groups: u64,
    /// The area under the ROC curve.
    pub auc: Option<f64>,
    /// Its 95 % interval.
    pub auc_interval: Option<(f64, f64)>,
    /// The average precision, with the mix of the file.
    pub pr_auc: Option<f64>,
    /// Above the threshold of one false alarm in a hundred.
    pub at_one_percent: Rate,
    /// Above that of one in a thousand.
    pub at_one_permille: Rate,
    /// Above that at which users with a history are challenged at two of a hundred events.
    pub at_established_two_percent: Rate,
}

/// The figures of one kind of request.
#[derive(Clone, Debug, Serialize)]
pub struct KindFigures {
    /// Events, scored or not.
    pub events: u64,
    /// Events without a score.
    pub unscored: u64,
    /// Scored legitimate events.
    pub good: u64,
    /// The thresholds of the rates below.
    pub thresholds: Thresholds,
    /// All attackers together.
    pub all: Attackers,
    /// Each kind of attacker.
    pub attackers: BTreeMap<String, Attackers>,
    /// Legitimate events that did not simply pass.
    pub challenged: Rate,
    /// The same by confirmed logins before the event.
    pub challenged_by_logins: BTreeMap<String, Rate>,
    /// The same by cohort.
    pub challenged_by_cohort: BTreeMap<String, Rate>,
    /// The expected calibration error over 15 bins, with the mix of the file.
    pub calibration_error: Option<f64>,
    /// The Brier score.
    pub brier: Option<f64>,
    /// What was said to legitimate events (`good`) and to each kind of attacker.
    pub verdicts: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

impl Sums {
    /// One more event.
    pub(super) fn add(&mut self, judged: &Judged<'_>) {
        self.rows += 1;
        let named = judged.attacker.map(|attacker| match attacker {
            "" => OTHER,
            attacker => attacker,
        });
        let verdicts = group(&mut self.verdicts, named.unwrap_or("good"));
        *verdicts.entry(judged.said).or_default() += 1;
        let Some(probability) = judged.probability else {
            self.unscored += 1;
            return;
        };
        self.calibration.add(probability, named.is_some());
        if let Some(attacker) = named {
            group(&mut self.attackers, attacker).push((probability, judged.group));
            return;
        }
        self.good.push(probability);
        if judged.logins >= ESTABLISHED {
            self.established.push(probability);
        }
        let challenged = judged.said != "allow";
        self.challenged.add(challenged);
        let class = HISTORIES
            .iter()
            .rposition(|(_, from)| judged.logins >= *from)
            .and_then(|class| self.histories.get_mut(class));
        if let Some(class) = class {
            class.add(challenged);
        }
        for cohort in judged.cohort.split_ascii_whitespace() {
            group(&mut self.cohorts, cohort).add(challenged);
        }
    }

    /// The figures; `None` when there was nothing.
    pub(super) fn figures(self) -> Option<KindFigures> {
        if self.rows == 0 {
            return None;
        }
        let good = Sorted::new(self.good);
        let established = Sorted::new(self.established);
        let [one_percent, one_permille] = ALARMS.map(|share| good.above(share));
        let thresholds = Thresholds {
            one_percent,
            one_permille,
            established_two_percent: established.above(BUDGET),
        };
        let everybody: Vec<_> = self.attackers.values().flatten().copied().collect();
        let of_kind = |(kind, scores): (Box<str>, Vec<(f32, u64)>)| {
            (kind.into_string(), attackers(&good, &scores, &thresholds))
        };
        Some(KindFigures {
            events: self.rows,
            unscored: self.unscored,
            good: good.len() as u64,
            attackers: self.attackers.into_iter().map(of_kind).collect(),
            all: attackers(&good, &everybody, &thresholds),
            thresholds,
            challenged: Rate::from(self.challenged),
            challenged_by_logins: HISTORIES
                .iter()
                .zip(self.histories)
                .map(|((name, _), share)| ((*name).to_owned(), Rate::from(share)))
                .collect(),
            challenged_by_cohort: self
                .cohorts
                .into_iter()
                .map(|(name, share)| (name.into_string(), Rate::from(share)))
                .collect(),
            calibration_error: self.calibration.error(),
            brier: self.calibration.brier(),
            verdicts: self
                .verdicts
                .into_iter()
                .map(|(name, counts)| (name.into_string(), counts))
                .collect(),
        })
    }
}

impl From<Share> for Rate {
    fn from(share: Share) -> Self {
        Self {
            count: share.count,
            of: share.of,
            rate: share.rate(),
            interval: share.interval(),
        }
    }
}

fn attackers(good: &Sorted, scores: &[(f32, u64)], thresholds: &Thresholds) -> Attackers {
    let sorted = Sorted::new(scores.iter().map(|(score, _)| *score).collect());
    let auc = good.auc(&sorted);
    let above = |threshold: Option<f32>| match threshold {
        Some(threshold) => Rate {
            interval: resampled(scores, threshold),
            ..Rate::from(sorted.exceeding(threshold))
        },
        None => Rate::from(Share::default()),
    };
    let mut groups: Vec<_> = scores.iter().map(|(_, group)| *group).collect();
    groups.sort_unstable();
    groups.dedup();
    Attackers {
        events: sorted.len() as u64,
        groups: groups.len() as u64,
        auc,
        auc_interval: auc.map(|auc| good.auc_interval(&sorted, auc)),
        pr_auc: good.average_precision(&sorted),
        at_one_percent: above(thresholds.one_percent),
        at_one_permille: above(thresholds.one_permille),
        at_established_two_percent: above(thresholds.established_two_percent),
    }
}

/// The group of this name, as long as there are not too many.
fn group<'m, T: Default>(groups: &'m mut BTreeMap<Box<str>, T>, name: &str) -> &'m mut T {
    let name = if groups.contains_key(name) || groups.len() < GROUPS_MAX {
        name
    } else {
        OTHER
    };
    groups.entry(name.into()).or_default()
}
