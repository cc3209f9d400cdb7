//! Counts over records: how many requests, how risky, what was decided, what it would have meant. Bounded in keys and in
//! time; what finds no room is counted as `other`.

use crate::domain::trail::Entry;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;

/// Minutes that are counted one by one.
pub const MINUTES_MAX: usize = 120;
/// Hours that are counted one by one: a week.
pub const HOURS_MAX: usize = 168;
/// Different keys of one kind in one stretch of time.
const KEYS_MAX: usize = 100;
/// Users in one stretch that are told apart.
const USERS_MAX: usize = 2_000;
/// Where keys go that find no room.
pub const OTHER: &str = "(other)";
/// Upper ends of the bins of decision times, in microseconds; the last bin has none.
pub const LATENCY_ENDS: [u64; 11] = [
    200, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 20_000, 50_000, 100_000,
];

/// Counts by key.
pub type Counts = BTreeMap<String, u64>;

/// What was counted in one stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Decisions: requests with a verdict.
    pub decisions: u64,
    /// Of these, without a score.
    pub unscored: u64,
    /// By level: low, medium, high.
    pub levels: [u64; 3],
    /// By verdict: allow, step_up, review, block.
    pub verdicts: [u64; 4],
    /// Stronger factors that were asked for where the mode enforces.
    pub challenged: u64,
    /// Answers that had to prove one, and did.
    pub proven: u64,
    /// Those that did not.
    pub unproven: u64,
    /// Times to the decision, by the bins of [`LATENCY_ENDS`].
    pub latency: [u64; LATENCY_ENDS.len() + 1],
    /// By reason, of decisions that were not `allow`.
    pub reasons: Counts,
    /// By country.
    pub countries: Counts,
    /// By what matched.
    pub matched: Counts,
    /// By application.
    pub applications: BTreeMap<String, Effect>,
    /// By kind of request.
    pub kinds: BTreeMap<String, Effect>,
    /// By country, of decisions that were not `allow`.
    pub met_countries: Counts,
    /// Users to whom something other than `allow` was said, as hashes.
    pub met_users: BTreeSet<u32>,
    /// Whether there were more of them than are told apart.
    pub are_more_users: bool,
}

/// What policy says to a group of requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Effect {
    /// By verdict.
    pub verdicts: [u64; 4],
    /// Of those not allowed: acted on, since the mode was `enforce`.
    pub enforced: u64,
    /// Of those not allowed and not acted on: WSO2 accepted the attempt.
    pub accepted: u64,
}

/// Tallies by minute and by hour.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    minutes: VecDeque<(i64, Tally)>,
    hours: VecDeque<(i64, Tally)>,
}

/// How far back one looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Span {
    /// The last hour, by minute.
    Hour,
    /// The last day, by hour.
    #[default]
    Day,
    /// The last seven days, by hour.
    Week,
}

impl Tally {
    /// Counts a record that has a verdict.
    pub fn count(&mut self, entry: &Entry) {
        let Some(verdict) = entry.verdict.as_deref().and_then(verdict_place) else {
            return;
        };
        self.decisions += 1;
        add(&mut self.verdicts, verdict);
        if entry.status.as_deref() == Some("unscored") {
            self.unscored += 1;
        }
        let level = entry.level.as_deref();
        let level = level.and_then(|level| LEVELS.iter().position(|other| *other == level));
        if let Some(level) = level {
            add(&mut self.levels, level);
        }
        let bin = LATENCY_ENDS.partition_point(|end| *end < entry.timing.decision);
        add(&mut self.latency, bin);
        match entry.proof.as_deref() {
            Some("proven") => self.proven += 1,
            Some(_) => self.unproven += 1,
            None => {}
        }
        if let Some(country) = &entry.country {
            count_key(&mut self.countries, country, 1);
        }
        if let Some(matched) = &entry.matched {
            count_key(&mut self.matched, matched, 1);
        }
        let is_enforced = entry.mode.as_deref() == Some("enforce");
        let is_met = verdict != 0;
        let accepted = matches!(
            entry.outcome.as_str(),
            "succeeded" | "code_issued" | "tokens_issued" | "next_factor" | "approved"
        );
        let effect = |effects: &mut BTreeMap<String, Effect>, key: &str| {
            let effect = effect_of(effects, key);
            add(&mut effect.verdicts, verdict);
            effect.enforced += u64::from(is_met && is_enforced);
            effect.accepted += u64::from(is_met && !is_enforced && accepted);
        };
        effect(
            &mut self.applications,
            entry.client_id.as_deref().unwrap_or("(none named)"),
        );
        effect(&mut self.kinds, entry.kind.as_deref().unwrap_or("login"));
        if !is_met {
            return;
        }
        self.challenged += u64::from(is_enforced && verdict == 1);
        for reason in &entry.reasons {
            count_key(&mut self.reasons, reason, 1);
        }
        if let Some(country) = &entry.country {
            count_key(&mut self.met_countries, country, 1);
        }
        if let Some(subject) = &entry.subject {
            let mut hasher = DefaultHasher::new();
            subject.hash(&mut hasher);
            self.meet(u32::try_from(hasher.finish() >> 32).unwrap_or_default());
        }
    }

    /// Adds another stretch.
    pub fn merge(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.unscored += other.unscored;
        self.challenged += other.challenged;
        self.proven += other.proven;
        self.unproven += other.unproven;
        sum(&mut self.levels, &other.levels);
        sum(&mut self.verdicts, &other.verdicts);
        sum(&mut self.latency, &other.latency);
        for (own, others) in [
            (&mut self.reasons, &other.reasons),
            (&mut self.countries, &other.countries),
            (&mut self.matched, &other.matched),
            (&mut self.met_countries, &other.met_countries),
        ] {
            others
                .iter()
                .for_each(|(key, count)| count_key(own, key, *count));
        }
        for (own, others) in [
            (&mut self.applications, &other.applications),
            (&mut self.kinds, &other.kinds),
        ] {
            for (key, more) in others {
                let effect = effect_of(own, key);
                sum(&mut effect.verdicts, &more.verdicts);
                effect.enforced += more.enforced;
                effect.accepted += more.accepted;
            }
        }
        self.met_users.extend(&other.met_users);
        self.are_more_users |= other.are_more_users;
    }

    /// Decisions that were not `allow`.
    pub fn met(&self) -> u64 {
        self.verdicts.iter().skip(1).sum()
    }

    /// Of those not allowed: acted on.
    pub fn enforced(&self) -> u64 {
        self.kinds.values().map(|effect| effect.enforced).sum()
    }

    /// Of those not allowed and not acted on: WSO2 accepted the attempt.
    pub fn accepted(&self) -> u64 {
        self.kinds.values().map(|effect| effect.accepted).sum()
    }

    /// The time within which `share` of the decisions were made, in microseconds: the upper end of its bin. `None` when
    /// there were none, or when it is beyond the last end.
    pub fn latency_within(&self, share: f64) -> Option<u64> {
        let wanted = (self.decisions as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bins = self.latency.iter().zip(LATENCY_ENDS);
        bins.filter(|_| self.decisions > 0)
            .find_map(|(count, end)| {
                seen += count;
                (seen >= wanted).then_some(end)
            })
    }

    fn meet(&mut self, user: u32) {
        if self.met_users.len() < USERS_MAX || self.met_users.contains(&user) {
            self.met_users.insert(user);
        } else {
            self.are_more_users = true;
        }
    }
}

impl Effect {
    /// All requests of the group.
    pub fn total(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// Those that were not allowed.
    pub fn met(&self) -> u64 {
        self.verdicts.iter().skip(1).sum()
    }
}

impl Tallies {
    /// Counts a record at its own time. One that is older than all that is kept is left out.
    pub fn count(&mut self, entry: &Entry) {
        let Some(seconds) = entry.seconds().filter(|_| entry.verdict.is_some()) else {
            return;
        };
        for (stretches, length, most) in [
            (&mut self.minutes, 60, MINUTES_MAX),
            (&mut self.hours, 3_600, HOURS_MAX),
        ] {
            let start = seconds.div_euclid(length) * length;
            // Records come nearly in order: the place is at the end or close to it.
            let place = stretches
                .iter()
                .rposition(|(other, _)| *other <= start)
                .map_or(0, |place| place + 1);
            let is_full = stretches.len() >= most;
            let before = place
                .checked_sub(1)
                .and_then(|before| stretches.get_mut(before));
            match before {
                Some((other, tally)) if *other == start => tally.count(entry),
                _ if place == 0 && is_full => {}
                _ => {
                    let mut tally = Tally::default();
                    tally.count(entry);
                    stretches.insert(place, (start, tally));
                    if stretches.len() > most {
                        stretches.pop_front();
                    }
                }
            }
        }
    }

    /// The stretches of `span` up to `now` (seconds since the epoch), the oldest first, empty ones included; each with its
    /// start.
    pub fn stretches(&self, span: Span, now: i64) -> Vec<(i64, Tally)> {
        let (kept, length) = match span {
            Span::Hour => (&self.minutes, 60),
            Span::Day | Span::Week => (&self.hours, 3_600),
        };
        let count = match span {
            Span::Hour => 60,
            Span::Day => 24,
            Span::Week => 168,
        };
        let last = now.div_euclid(length) * length;
        (0..count)
            .rev()
            .map(|back| {
                let start = last - back * length;
                let found = kept.iter().find(|(other, _)| *other == start);
                (
                    start,
                    found.map(|(_, tally)| tally.clone()).unwrap_or_default(),
                )
            })
            .collect()
    }
}

impl Span {
    /// All spans.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// As it stands in a link.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// The span of that name; the shipped one for any other.
    pub fn from_name(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|span| span.as_str() == name)
            .unwrap_or_default()
    }
}

/// The levels in the order of [`Tally::levels`].
pub const LEVELS: [&str; 3] = ["low", "medium", "high"];
/// The verdicts in the order of [`Tally::verdicts`].
pub const VERDICTS: [&str; 4] = ["allow", "step_up", "review", "block"];

fn verdict_place(verdict: &str) -> Option<usize> {
    VERDICTS.iter().position(|other| *other == verdict)
}

fn add(counts: &mut [u64], place: usize) {
    if let Some(count) = counts.get_mut(place) {
        *count += 1;
    }
}

fn sum(own: &mut [u64], others: &[u64]) {
    own.iter_mut()
        .zip(others)
        .for_each(|(own, other)| *own += other);
}

fn count_key(counts: &mut Counts, key: &str, more: u64) {
    let has_room = counts.len() < KEYS_MAX || counts.contains_key(key);
    *counts
        .entry(if has_room { key } else { OTHER }.to_owned())
        .or_default() += more;
}

fn effect_of<'e>(effects: &'e mut BTreeMap<String, Effect>, key: &str) -> &'e mut Effect {
    let has_room = effects.len() < KEYS_MAX || effects.contains_key(key);
    effects
        .entry(if has_room { key } else { OTHER }.to_owned())
        .or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use crate::domain::trail::Times;

    fn at(seconds: i64, verdict: &str, client: &str) -> Entry {
        Entry {
            id: "x".to_owned(),
            class: "scored".to_owned(),
            time: Timestamp(seconds * 1_000).to_rfc3339(),
            verdict: Some(verdict.to_owned()),
            level: Some("high".to_owned()),
            client_id: Some(client.to_owned()),
            subject: Some(client.to_owned()),
            reasons: vec!["ip_velocity".to_owned()],
            mode: Some("monitor".to_owned()),
            outcome: "succeeded".to_owned(),
            timing: Times { decision: 1_500 },
            ..Entry::default()
        }
    }

    #[test]
    fn records_are_counted_in_their_own_stretch() {
        let mut tallies = Tallies::default();
        let now = 1_795_651_199;
        for (back, verdict) in [
            (7_200, "allow"),
            (0, "block"),
            (60, "allow"),
            (3_600, "step_up"),
        ] {
            tallies.count(&at(now - back, verdict, "shop"));
        }
        let hour = tallies.stretches(Span::Hour, now);
        assert_eq!(hour.len(), 60);
        assert_eq!(
            hour.iter().map(|(_, tally)| tally.decisions).sum::<u64>(),
            2
        );
        assert_eq!(
            hour.last().map(|(_, tally)| tally.verdicts),
            Some([0, 0, 0, 1])
        );
        let mut day = Tally::default();
        let stretches = tallies.stretches(Span::Day, now);
        assert!(stretches.is_sorted_by_key(|(start, _)| *start));
        stretches.iter().for_each(|(_, tally)| day.merge(tally));
        assert_eq!((day.decisions, day.verdicts), (4, [2, 1, 0, 1]));
        assert_eq!(day.reasons.get("ip_velocity"), Some(&2));
        let shop = day.applications.get("shop").unwrap();
        assert_eq!(
            (shop.total(), shop.met(), shop.enforced, shop.accepted),
            (4, 2, 0, 2)
        );
        assert_eq!((day.met(), day.enforced(), day.accepted()), (2, 0, 2));
        assert_eq!(day.met_users.len(), 1);
        assert_eq!(day.latency_within(0.99), Some(2_000));
        assert_eq!(Tally::default().latency_within(0.5), None);
    }

    #[test]
    fn keys_users_and_stretches_are_bounded() {
        let mut tallies = Tallies::default();
        for number in 0..3_000_i64 {
            tallies.count(&at(1_000_000_000, "block", &format!("app-{number}")));
            tallies.count(&at(1_000_000_000 + number * 3_600, "allow", "shop"));
        }
        assert_eq!(tallies.hours.len(), HOURS_MAX);
        assert_eq!(tallies.minutes.len(), MINUTES_MAX);
        // The first hour is no longer kept, and what belongs to it is left out.
        tallies.count(&at(1_000_000_000, "block", "late"));
        assert_eq!(tallies.hours.len(), HOURS_MAX);
        let mut tally = Tally::default();
        for number in 0..3_000_i64 {
            tally.count(&at(0, "block", &format!("app-{number}")));
        }
        assert!(tally.applications.len() <= KEYS_MAX + 1);
        assert_eq!(tally.met_users.len(), USERS_MAX);
        assert!(tally.are_more_users);
        assert_eq!(
            tally.applications.values().map(Effect::total).sum::<u64>(),
            3_000
        );
    }
}
