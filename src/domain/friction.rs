//! The friction budget: how many of the users that are known to be good are challenged, within a sliding window. Users are
//! hashes of pseudonyms and time is an argument; nothing here acts on what it counts.
//!
//! Users are counted and not logins, each once in a window: one user who signs in all day, or means harm, is one user.

use serde::Deserialize;
use serde::Serialize;
use std::collections::HashMap;

/// Users that one window remembers. Where there are more, a part of them, drawn by their hash, stands for all.
pub const USERS_MAX: usize = 2_048;
/// The most users that may be asked for before there is a verdict: a window that was thinned out still holds as many.
pub const USERS_MIN_MAX: u32 = 1_000;
/// The fewest.
pub const USERS_MIN_MIN: u32 = 20;
/// The longest window, in minutes.
pub const WINDOW_MINUTES_MAX: u32 = 1_440;
/// The shortest.
pub const WINDOW_MINUTES_MIN: u32 = 5;

/// `[budget]` of a rollout file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// How many of a hundred known-good users may be challenged.
    pub percent: f64,
    /// The length of the window.
    pub window_minutes: u32,
    /// From how many known-good users in the window on there is a verdict.
    pub users_min: u32,
    /// How many confirmed logins must be remembered of a user who counts as known to be good.
    pub logins_min: u32,
    /// What becomes of it.
    pub on_exceeded: OnExceeded,
    /// For whom.
    pub falls_back: Reach,
}

/// What becomes of a budget that is used up.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// The stage falls back to monitor until an operator acts.
    #[default]
    FallBack,
    /// It is said, and nothing else.
    Tell,
}

/// Which stages fall back.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The one whose budget is used up.
    #[default]
    Application,
    /// All that enforce.
    All,
}

/// Known-good users of one window.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Count {
    /// How many were seen.
    pub users: u32,
    /// How many of them were challenged.
    pub challenged: u32,
}

/// Who was seen when, for one stage.
#[derive(Clone, Debug, Default)]
pub struct Window {
    users: HashMap<u64, Seen>,
    /// The latest minute that was heard of.
    minute: i64,
    /// Users count whose hash begins with so many zero bits.
    thinned: u32,
    count: Count,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    last: i64,
    challenged: Option<i64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            percent: 5.0,
            window_minutes: 60,
            users_min: 100,
            logins_min: 5,
            on_exceeded: OnExceeded::default(),
            falls_back: Reach::default(),
        }
    }
}

impl Budget {
    /// What is wrong with it: key, value, what was expected.
    pub fn problem(&self) -> Option<String> {
        let within = |key: &str, found: u32, least: u32, most: u32| {
            let is_outside = !(least..=most).contains(&found);
            is_outside.then(|| format!("{key}: {found}, expected {least} to {most}"))
        };
        if !(self.percent > 0.0 && self.percent <= 100.0) {
            let found = self.percent;
            return Some(format!(
                "percent: {found}, expected more than 0 and at most 100"
            ));
        }
        within(
            "window_minutes",
            self.window_minutes,
            WINDOW_MINUTES_MIN,
            WINDOW_MINUTES_MAX,
        )
        .or_else(|| within("users_min", self.users_min, USERS_MIN_MIN, USERS_MIN_MAX))
        .or_else(|| within("logins_min", self.logins_min, 1, 1_000))
    }

    /// Whether it is used up. Too few users say nothing.
    pub fn is_exceeded(&self, count: Count) -> bool {
        count.users >= self.users_min
            && f64::from(count.challenged) * 100.0 > f64::from(count.users) * self.percent
    }
}

impl Count {
    /// The share that was challenged, 0 to 1.
    pub fn share(self) -> f64 {
        if self.users == 0 {
            return 0.0;
        }
        f64::from(self.challenged) / f64::from(self.users)
    }
}

impl Window {
    /// A known-good user was seen at `minute` (since the epoch), challenged or not. What is counted afterwards.
    pub fn note(&mut self, user: u64, is_challenged: bool, minute: i64, budget: &Budget) -> Count {
        let length = i64::from(budget.window_minutes);
        self.forget(minute, length);
        let now = self.minute;
        if self.is_drawn(user) {
            let count = &mut self.count;
            let seen = self.users.entry(user).or_insert_with(|| {
                count.users += 1;
                Seen {
                    last: now,
                    challenged: None,
                }
            });
            seen.last = now;
            if is_challenged && seen.challenged.replace(now).is_none() {
                count.challenged += 1;
            }
            if self.users.len() > USERS_MAX {
                self.thin();
            }
        }
        self.count
    }

    /// What is counted at `minute`.
    pub fn count(&mut self, minute: i64, budget: &Budget) -> Count {
        self.forget(minute, i64::from(budget.window_minutes));
        self.count
    }

    fn is_drawn(&self, user: u64) -> bool {
        user.leading_zeros() >= self.thinned
    }

    /// Lets go of what is older than the window. A clock that was set back does not keep it for longer.
    fn forget(&mut self, minute: i64, length: i64) {
        if minute < self.minute.saturating_sub(length) {
            *self = Self::default();
        }
        if minute <= self.minute {
            return;
        }
        self.minute = minute;
        let begin = minute.saturating_sub(length);
        self.users.retain(|_, seen| seen.last > begin);
        for seen in self.users.values_mut() {
            seen.challenged = seen.challenged.filter(|at| *at > begin);
        }
        if self.users.is_empty() {
            self.thinned = 0;
        }
        self.recount();
    }

    /// Halves who is drawn until there is room.
    fn thin(&mut self) {
        while self.users.len() > USERS_MAX && self.thinned < 63 {
            self.thinned += 1;
            let thinned = self.thinned;
            self.users.retain(|user, _| user.leading_zeros() >= thinned);
        }
        self.recount();
    }

    fn recount(&mut self) {
        let challenged = self.users.values().filter(|seen| seen.challenged.is_some());
        self.count = Count {
            challenged: u32::try_from(challenged.count()).unwrap_or(u32::MAX),
            users: u32::try_from(self.users.len()).unwrap_or(u32::MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Spreads numbers as the hashes of pseudonyms are spread.
    fn hash(n: u64) -> u64 {
        n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn budget() -> Budget {
        Budget {
            users_min: 20,
            percent: 10.0,
            ..Budget::default()
        }
    }

    #[test]
    fn a_handful_is_no_verdict() {
        let mut window = Window::default();
        for user in 0..19 {
            let count = window.note(hash(user), true, 1_000, &budget());
            assert!(!budget().is_exceeded(count), "{count:?}");
        }
        let count = window.note(hash(19), true, 1_000, &budget());
        assert!(budget().is_exceeded(count));
    }

    #[test]
    fn the_limit_itself_is_within_the_budget() {
        let count = |challenged| Count {
            users: 20,
            challenged,
        };
        assert!(!budget().is_exceeded(count(2)));
        assert!(budget().is_exceeded(count(3)));
        assert!((count(3).share() - 0.15).abs() < 1e-9 && Count::default().share() == 0.0);
    }

    #[test]
    fn a_user_counts_once_however_often_it_signs_in() {
        let mut window = Window::default();
        for round in 0..1_000 {
            window.note(hash(7), true, 1_000 + round % 5, &budget());
        }
        let count = window.note(hash(8), false, 1_004, &budget());
        assert_eq!(
            count,
            Count {
                users: 2,
                challenged: 1
            }
        );
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = Window::default();
        window.note(hash(1), true, 1_000, &budget());
        window.note(hash(2), true, 1_030, &budget());
        window.note(hash(1), false, 1_040, &budget());
        // The challenge of the first is gone by then, and the user is still there.
        let count = window.count(1_060, &budget());
        assert_eq!((count.users, count.challenged), (2, 1));
        assert_eq!(window.count(1_200, &budget()), Count::default());
    }

    #[test]
    fn a_clock_that_is_set_back_loses_at_most_what_was_counted() {
        let mut window = Window::default();
        window.note(hash(1), true, 10_000, &budget());
        // A little back: as if it were the same minute.
        assert_eq!(window.note(hash(2), false, 9_999, &budget()).users, 2);
        assert_eq!(window.note(hash(3), false, 1_000, &budget()).users, 1);
        assert_eq!(window.count(1_061, &budget()), Count::default());
    }

    #[test]
    fn many_users_are_drawn_from_without_bias() {
        let mut window = Window::default();
        let mut count = Count::default();
        for user in 0..100_000 {
            count = window.note(hash(user), user % 10 == 0, 1_000, &budget());
            assert!(window.users.len() <= USERS_MAX);
        }
        assert!(count.users >= USERS_MIN_MAX, "{count:?}");
        assert!((0.07..0.13).contains(&count.share()), "{count:?}");
    }

    #[test]
    fn what_cannot_be_a_budget_is_named() {
        assert_eq!(Budget::default().problem(), None);
        let wrong = |text: &str| toml::from_str::<Budget>(text).unwrap().problem().unwrap();
        assert!(wrong("percent = 0.0").starts_with("percent: 0, expected more than 0"));
        assert!(wrong("percent = 101.0").contains("at most 100"));
        assert!(wrong("percent = nan").starts_with("percent: NaN"));
        assert!(wrong("window_minutes = 4").contains("expected 5 to 1440"));
        assert!(wrong("users_min = 5").contains("users_min: 5, expected 20 to 1000"));
        assert!(wrong("logins_min = 0").contains("expected 1 to 1000"));
        assert!(toml::from_str::<Budget>("on_exceeded = \"panic\"").is_err());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_a_plain_count(
            steps in proptest::collection::vec((0u64..40, any::<bool>(), 0i64..4), 1..200)
        ) {
            let budget = budget();
            let mut window = Window::default();
            let mut all: Vec<(u64, bool, i64)> = Vec::new();
            let mut minute = 5_000;
            for (user, is_challenged, later) in steps {
                minute += later * 7;
                all.push((user, is_challenged, minute));
                let count = window.note(hash(user), is_challenged, minute, &budget);
                let within = || all.iter().filter(|(_, _, at)| *at > minute - 60);
                let users: std::collections::BTreeSet<u64> = within().map(|(user, _, _)| *user).collect();
                let met: std::collections::BTreeSet<u64> =
                    within().filter(|(_, met, _)| *met).map(|(user, _, _)| *user).collect();
                prop_assert_eq!(count.users as usize, users.len());
                prop_assert_eq!(count.challenged as usize, met.len());
            }
        }
    }
}
