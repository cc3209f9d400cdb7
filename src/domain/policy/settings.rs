//! What holds where no rule speaks: thresholds, defaults by level, what an unscored request gets, and the exceptions from
//! these for tenants and applications.

use crate::domain::policy::break_glass::ACCOUNTS_MAX;
use crate::domain::policy::break_glass::Account;
use crate::domain::policy::break_glass::BreakGlass;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::document::Mistakes;
use crate::domain::policy::document::Section;
use crate::domain::policy::scope::Scope;
use crate::domain::policy::scope::Specificity;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::Thresholds;
use crate::domain::route::Door;
use toml::Value;

/// How many overrides a policy may have.
pub const OVERRIDES_MAX: usize = 1024;

/// What an unscored request may get. It cannot be held: there is nothing yet that an analyst could look at.
const ON_UNSCORED: [(&str, Verdict); 3] = [
    ("allow", Verdict::Allow),
    ("step_up", Verdict::StepUp),
    ("block", Verdict::Block),
];

/// The verdicts by level. They do not get milder with more risk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Defaults {
    /// For low.
    pub low: Verdict,
    /// For medium.
    pub medium: Verdict,
    /// For high.
    pub high: Verdict,
}

/// What an unscored request gets: for its door if that is listed, else for the cause if that is, else the default. The
/// door comes first because it says what is at stake, the cause only what happened to us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OnUnscored {
    /// For all others.
    pub default: Verdict,
    /// By cause.
    pub causes: Vec<(FallbackCause, Verdict)>,
    /// By door.
    pub doors: Vec<(Door, Verdict)>,
    /// What is the least while many requests have no score.
    pub surge: Option<Surge>,
}

/// While more than a share of requests has no score, somebody may be making it so: those get at least this verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Surge {
    /// The share of the last seconds, in percent.
    pub above_percent: u8,
    /// The mildest verdict of an unscored request then.
    pub verdict: Verdict,
}

/// An exception for a tenant, an application or both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// For whom.
    pub scope: Scope,
    /// Other thresholds.
    pub thresholds: Option<Thresholds>,
    /// Another answer to unscored requests, whatever the door and cause.
    pub on_unscored: Option<Verdict>,
}

impl Defaults {
    /// The verdict for `level`.
    pub fn verdict(&self, level: RiskLevel) -> Verdict {
        match level {
            RiskLevel::Low => self.low,
            RiskLevel::Medium => self.medium,
            RiskLevel::High => self.high,
        }
    }

    /// Reads `[defaults]`.
    pub fn read(mut section: Section, mistakes: &mut Mistakes) -> Self {
        let shipped = Self::default();
        let choices = Verdict::ALL.map(|verdict| (verdict.as_str(), verdict));
        let defaults = Self {
            low: section
                .choice("low", &choices, mistakes)
                .unwrap_or(shipped.low),
            medium: section
                .choice("medium", &choices, mistakes)
                .unwrap_or(shipped.medium),
            high: section
                .choice("high", &choices, mistakes)
                .unwrap_or(shipped.high),
        };
        for (milder, key, verdict, than) in [
            (
                defaults.medium < defaults.low,
                "medium",
                defaults.medium,
                defaults.low,
            ),
            (
                defaults.high < defaults.medium,
                "high",
                defaults.high,
                defaults.medium,
            ),
        ] {
            if milder {
                let problem =
                    format!("is `{verdict}`, milder than the `{than}` of the level below");
                mistakes.add(
                    section.at(key),
                    problem,
                    "more risk must not get a milder answer",
                );
            }
        }
        section.finish(mistakes);
        defaults
    }
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            low: Verdict::Allow,
            medium: Verdict::StepUp,
            high: Verdict::Block,
        }
    }
}

impl OnUnscored {
    /// The verdict for `door` and `cause`.
    pub fn verdict(&self, door: Door, cause: FallbackCause) -> Verdict {
        let by_door = self
            .doors
            .iter()
            .find(|(own, _)| *own == door)
            .map(|(_, verdict)| *verdict);
        let by_cause = || {
            self.causes
                .iter()
                .find(|(own, _)| *own == cause)
                .map(|(_, verdict)| *verdict)
        };
        by_door.or_else(by_cause).unwrap_or(self.default)
    }

    /// Reads `[on_unscored]`.
    pub fn read(mut section: Section, mistakes: &mut Mistakes) -> Self {
        let default = section
            .choice("default", &ON_UNSCORED, mistakes)
            .unwrap_or(Verdict::Allow);
        let mut by_cause = section.section("cause", mistakes);
        let causes = FallbackCause::ALL
            .into_iter()
            .filter_map(|cause| {
                Some((
                    cause,
                    by_cause.choice(cause.as_str(), &ON_UNSCORED, mistakes)?,
                ))
            })
            .collect();
        by_cause.finish(mistakes);
        let mut by_door = section.section("door", mistakes);
        let doors = Door::ALL
            .into_iter()
            .filter_map(|door| Some((door, by_door.choice(door.as_str(), &ON_UNSCORED, mistakes)?)))
            .collect();
        by_door.finish(mistakes);
        let surge = section
            .has("surge")
            .then(|| section.section("surge", mistakes))
            .and_then(|below| Surge::read(below, mistakes));
        section.finish(mistakes);
        Self {
            default,
            causes,
            doors,
            surge,
        }
    }
}

impl Surge {
    fn read(mut section: Section, mistakes: &mut Mistakes) -> Option<Self> {
        for key in ["above_percent", "verdict"] {
            if !section.has(key) {
                mistakes.add(
                    section.at(key),
                    "is missing",
                    "set it, or remove the section",
                );
            }
        }
        let above_percent = section.number("above_percent", 1..=99, mistakes);
        let verdict = section.choice("verdict", &ON_UNSCORED, mistakes);
        section.finish(mistakes);
        Some(Self {
            above_percent: above_percent?,
            verdict: verdict?,
        })
    }
}

impl Override {
    /// Reads one `[[override]]`; none if it is of no use.
    pub fn read(mut section: Section, mistakes: &mut Mistakes) -> Option<Self> {
        let tenant = section.text("tenant", "a tenant domain", mistakes);
        let application = section.text("application", "a client id", mistakes);
        let thresholds = if section.has("thresholds") {
            let below = section.section("thresholds", mistakes);
            Some(read_thresholds(below, mistakes))
        } else {
            None
        };
        let on_unscored = section.choice("on_unscored", &ON_UNSCORED, mistakes);
        let before = mistakes.0.len();
        for (key, name) in [("tenant", &tenant), ("application", &application)] {
            if name.as_deref() == Some("") {
                mistakes.add(
                    section.at(key),
                    "is empty, so that it is for nobody",
                    "name one, or leave the key out",
                );
            }
        }
        let scope = Scope::new(tenant, application);
        if scope.is_none() {
            mistakes.add(
                section.place(),
                "names neither `tenant` nor `application`",
                "name one, or change the general setting",
            );
        }
        if thresholds.is_none() && on_unscored.is_none() {
            mistakes.add(
                section.place(),
                "changes nothing",
                "set `thresholds` or `on_unscored`, or remove it",
            );
        }
        let useless = mistakes.0.len() > before;
        section.finish(mistakes);
        if useless {
            None
        } else {
            Some(Self {
                scope: scope?,
                thresholds,
                on_unscored,
            })
        }
    }
}

/// The setting that `pick` finds in the most specific override that has it.
pub fn most_specific<T>(
    overrides: &[Override],
    tenant: &str,
    application: &str,
    pick: impl Fn(&Override) -> Option<T>,
) -> Option<T> {
    let fitting = overrides
        .iter()
        .filter_map(|one| Some((one.scope.covers(tenant, application)?, pick(one)?)));
    // At most three scopes fit any one request, each of its own specificity.
    fitting
        .max_by_key(|(specificity, _): &(Specificity, T)| *specificity)
        .map(|(_, setting)| setting)
}

/// Reads `[[override]]`s.
pub fn read_overrides(document: &mut Section, mistakes: &mut Mistakes) -> Vec<Override> {
    let mut overrides: Vec<Override> = Vec::new();
    for section in document.sections("override", OVERRIDES_MAX, mistakes) {
        let place = section.place().to_owned();
        let Some(one) = Override::read(section, mistakes) else {
            continue;
        };
        if overrides
            .iter()
            .any(|other| other.scope.is_same(&one.scope))
        {
            mistakes.add(
                place,
                format!("{} is overridden twice", one.scope),
                "join the two",
            );
        } else {
            overrides.push(one);
        }
    }
    overrides
}

/// Reads a pair of thresholds. Medium begins at 1 or above, so that there is always a low.
pub fn read_thresholds(mut section: Section, mistakes: &mut Mistakes) -> Thresholds {
    let shipped = Thresholds::default();
    let medium = section
        .number("medium", 1..=100, mistakes)
        .unwrap_or(shipped.medium);
    let high = section
        .number("high", 1..=100, mistakes)
        .unwrap_or(shipped.high);
    if medium >= high {
        let problem = format!("medium begins at {medium} and high at {high}");
        mistakes.add(
            section.place(),
            problem,
            "`medium` must be less than `high`",
        );
    }
    section.finish(mistakes);
    Thresholds { medium, high }
}

/// Reads `break_glass`.
pub fn read_break_glass(document: &mut Section, mistakes: &mut Mistakes) -> BreakGlass {
    const EXPECTED: &str =
        "a username such as `\"admin\"`, or `{ name = \"...\", tenant = \"...\" }`";
    let values = document.values(
        "break_glass",
        ACCOUNTS_MAX,
        "an array of usernames",
        mistakes,
    );
    let mut accounts = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let account = match value {
            Value::String(name) => Account::new(None, name),
            Value::Table(table) => match (table.get("name"), table.get("tenant"), table.len()) {
                (Some(Value::String(name)), Some(Value::String(tenant)), 2) => {
                    Account::new(Some(tenant), name)
                }
                _ => None,
            },
            _ => None,
        };
        match account {
            Some(account) if accounts.contains(&account) => {
                mistakes.add(
                    format!("break_glass {}", index + 1),
                    format!("names `{}` again", account.name),
                    "name each once",
                );
            }
            Some(account) => accounts.push(account),
            None => mistakes.add(
                format!("break_glass {}", index + 1),
                "is not a username",
                format!("expected {EXPECTED}"),
            ),
        }
    }
    BreakGlass::new(accounts)
}
