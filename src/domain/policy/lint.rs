//! What is wrong with a policy that is valid: rules that can never match, rules that would lock out a break-glass account,
//! and settings that will surprise.
//!
//! It is a search: conditions are tried on the requests that could make a difference to them (see `space`). Where the
//! search is exhaustive, its answer is a proof, and it finds what a person would: contradictions, impossible values,
//! rules hidden behind earlier ones. It cannot prove anything about patterns, lengths, comparisons of two fields, or
//! `contains` together with `startsWith` on an open text; nor about policies with more combinations than it may try. In
//! these cases it says so in a warning, and an error is only what was shown: by a proof, or by a request that is named.

use crate::domain::policy::PolicySet;
use crate::domain::policy::break_glass::Account;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::expression::BoolExpr;
use crate::domain::policy::rule::Rule;
use crate::domain::policy::space::Bounds;
use crate::domain::policy::space::Space;
use crate::domain::policy::spelling::listed;
use crate::domain::policy::uses::Uses;
use crate::domain::policy::vocabulary::Facts;
use crate::domain::policy::vocabulary::Field;
use crate::domain::policy::vocabulary::TextField;
use crate::domain::policy::vocabulary::Unknown;
use crate::domain::route::Door;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How many requests are tried for one question.
const TRIES_PER_QUESTION: u128 = 60_000;

/// How many evaluations of a condition one lint may cost: about a second.
const EVALUATIONS_MAX: u64 = 5_000_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Worth a look.
    Warning,
    /// The policy should not be put in force.
    Error,
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyFinding {
    /// How bad.
    pub severity: Severity,
    /// Of which rule, unless of the whole policy.
    pub rule: Option<Arc<str>>,
    /// What was found.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for PolicyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "error: ",
        })?;
        if let Some(rule) = &self.rule {
            write!(f, "rule `{rule}`: ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// How a search ended.
enum Found {
    /// With a request for which the rule speaks.
    Reached(String),
    /// With the proof that its condition never holds.
    Never,
    /// With the proof that those rules always speak first.
    Shadowed(BTreeSet<usize>),
    /// With neither.
    Undecided,
}

/// The requests that a question is about.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    /// Of one account alone.
    account: Option<&'a Account>,
    /// At some doors alone.
    doors: Option<&'a [Door]>,
    /// Those alone for which the rule would not speak if they named nobody.
    by_name: bool,
}

struct Search<'p> {
    policy: &'p PolicySet,
    enabled: Vec<&'p Rule>,
    thresholds: BTreeSet<u8>,
    scopes: Vec<(Option<String>, Option<String>)>,
    evaluations: u64,
}

impl PolicySet {
    /// Everything that `riskgate check` should say about this policy, errors first within each rule. Costs up to about a
    /// second of computing; not for the request path.
    pub fn lint(&self) -> Vec<PolicyFinding> {
        let mut findings = self.lint_settings();
        let mut search = Search::new(self);
        for place in 0..search.enabled.len() {
            let Some(rule) = search.enabled.get(place).copied() else {
                continue;
            };
            let mut note = |severity, problem: String, remedy: &str| {
                let rule = Some(Arc::clone(&rule.name));
                findings.push(PolicyFinding {
                    severity,
                    rule,
                    problem,
                    remedy: remedy.to_owned(),
                });
            };
            match search.run(place, Asked::default()) {
                Found::Reached(_) => {}
                Found::Never => {
                    note(
                        Severity::Error,
                        "can never match, its condition contradicts itself".to_owned(),
                        "correct or remove it",
                    );
                    continue;
                }
                Found::Shadowed(by) => {
                    let names = by
                        .iter()
                        .filter_map(|one| search.enabled.get(*one))
                        .map(|one| &*one.name);
                    let problem = format!("can never match, it is hidden behind {}", listed(names));
                    note(Severity::Error, problem, "move it up, or remove it");
                    continue;
                }
                Found::Undecided => {
                    let problem =
                        "no request was found that it matches, and no proof that there is none"
                            .to_owned();
                    note(
                        Severity::Warning,
                        problem,
                        "try it with `riskgate policy try`",
                    );
                }
            }
            let doors = match rule.verdict {
                // The search has a bound for all rules: those that name nobody take nothing of it.
                Verdict::Allow if !asks_for_name(rule) => continue,
                Verdict::Allow => {
                    let asked = Asked {
                        doors: Some(&NAMED_BY_ANYBODY),
                        by_name: true,
                        ..Asked::default()
                    };
                    // Where nothing could be shown, nothing is said.
                    if let Found::Reached(request) = search.run(place, asked) {
                        let problem = format!(
                            "its `allow` goes by `user.name`, which is a `login_hint` that anybody may write at `authorize` and \
                             `par`, for example with {request}"
                        );
                        let remedy = "add `&& request.door == \"login\"` to its condition, or go by what is known of the user";
                        note(Severity::Warning, problem, remedy);
                    }
                    continue;
                }
                Verdict::StepUp => Some(NO_STEP_UP.as_slice()),
                Verdict::Review | Verdict::Block => None,
            };
            for account in self.break_glass().accounts() {
                let asked = Asked {
                    account: Some(account),
                    doors,
                    by_name: false,
                };
                match search.run(place, asked) {
                    Found::Reached(request) => {
                        let what = if rule.verdict == Verdict::StepUp {
                            " at a door that cannot step up"
                        } else {
                            ""
                        };
                        let problem = format!(
                            "its `{}`{what} would lock out the break-glass account `{}`, for example with {request}",
                            rule.verdict, account.name
                        );
                        note(
                            Severity::Error,
                            problem,
                            "add `&& !user.break_glass` to its condition",
                        );
                        break;
                    }
                    Found::Never | Found::Shadowed(_) => {}
                    Found::Undecided => {
                        let problem = format!(
                            "it could not be shown to spare the break-glass account `{}`",
                            account.name
                        );
                        note(
                            Severity::Warning,
                            problem,
                            "add `&& !user.break_glass` to its condition",
                        );
                        break;
                    }
                }
            }
        }
        findings
    }

    fn lint_settings(&self) -> Vec<PolicyFinding> {
        let mut findings = Vec::new();
        let mut warn = |problem: String, remedy: &str| {
            findings.push(PolicyFinding {
                severity: Severity::Warning,
                rule: None,
                problem,
                remedy: remedy.to_owned(),
            });
        };
        if self.break_glass.accounts().is_empty() {
            warn(
                "no break-glass account is named".to_owned(),
                "name one in `break_glass`, so that a mistake cannot lock out everybody",
            );
        }
        if self.on_unscored.default == Verdict::Block {
            warn(
                "`on_unscored` blocks by default, so that nobody gets in while the model or the state is away".to_owned(),
                "block at single doors or for single applications",
            );
        }
        if self.defaults.low != Verdict::Allow {
            warn(
                format!("every login at low risk gets `{}`", self.defaults.low),
                "set `low = \"allow\"` unless that is meant",
            );
        }
        findings
    }
}

/// The doors without a browser behind them: whoever is asked for a second factor there is refused.
const NO_STEP_UP: [Door; 6] = [
    Door::Basic,
    Door::Ciba,
    Door::DeviceAuthorize,
    Door::Par,
    Door::Pdp,
    Door::Token,
];

/// The doors where a login begins under a name that nobody has proved.
const NAMED_BY_ANYBODY: [Door; 2] = [Door::Authorize, Door::Par];

impl<'p> Search<'p> {
    fn new(policy: &'p PolicySet) -> Self {
        let own = policy
            .overrides
            .iter()
            .filter_map(|one| Some((&one.scope, one.thresholds?)));
        let thresholds = own
            .clone()
            .map(|(_, thresholds)| thresholds)
            .chain([policy.thresholds]);
        Self {
            policy,
            enabled: policy.rules.iter().filter(|rule| rule.enabled).collect(),
            thresholds: thresholds
                .flat_map(|thresholds| [thresholds.medium, thresholds.high])
                .collect(),
            scopes: own
                .map(|(scope, _)| {
                    (
                        scope.tenant().map(str::to_owned),
                        scope.application().map(str::to_owned),
                    )
                })
                .collect(),
            evaluations: 0,
        }
    }

    /// Looks for a request of those asked for, for which the rule at `place` is the first to match. First only what the
    /// rule itself asks about is varied; then also what the rules ask about that were found to speak before it, until there
    /// are no more of these.
    fn run(&mut self, place: usize, asked: Asked<'_>) -> Found {
        let mut involved = BTreeSet::from([place]);
        loop {
            let conditions: Vec<&BoolExpr> = involved
                .iter()
                .filter_map(|one| self.enabled.get(*one))
                .map(|rule| rule.when.expression())
                .collect();
            let uses = Uses::of(conditions);
            let accounts = self.policy.break_glass().accounts();
            let bounds = Bounds {
                thresholds: &self.thresholds,
                scopes: &self.scopes,
                accounts,
                account: asked.account,
                doors: asked.doors,
            };
            let space = Space::new(&uses, &bounds);
            let mut before = BTreeSet::new();
            let mut open = false;
            let opened = self
                .enabled
                .get(place)
                .map(|rule| uses.open_up(rule.when.expression()));
            let size = space.size();
            let tries = size.min(TRIES_PER_QUESTION);
            let stride = stride(size);
            for step in 0..tries {
                if self.evaluations > EVALUATIONS_MAX {
                    return Found::Undecided;
                }
                // INVARIANT: the stride shares no factor with the size, so that every request comes up once, and a search
                // that has to stop early has looked everywhere a little.
                let sample = space.sample(step.wrapping_mul(stride) % size);
                let input = sample.input();
                let mut facts = Facts::new(
                    &input,
                    self.policy.level_of(&input),
                    self.policy.break_glass(),
                );
                self.evaluations += 1;
                let speaks = |facts: &Facts<'_>| {
                    let rule = self.enabled.get(place);
                    rule.is_some_and(|rule| rule.when.holds(facts) == Ok(true))
                };
                let mut holds = speaks(&facts);
                if holds && asked.by_name {
                    let name = std::mem::take(&mut facts.user_name);
                    holds = !speaks(&facts);
                    facts.user_name = name;
                }
                if !holds {
                    open = open
                        || opened
                            .as_ref()
                            .is_some_and(|opened| opened.value(&facts) == Err(Unknown::Undecided));
                    continue;
                }
                let earlier = self
                    .enabled
                    .iter()
                    .take(place)
                    .position(|rule| rule.when.holds(&facts) == Ok(true));
                self.evaluations += earlier.unwrap_or(place) as u64;
                match earlier {
                    None => return Found::Reached(sample.describe()),
                    Some(earlier) => before.insert(earlier),
                };
            }
            if tries < size {
                return Found::Undecided;
            }
            if before.is_subset(&involved) {
                let exact = before
                    .iter()
                    .chain([&place])
                    .filter_map(|one| self.enabled.get(*one))
                    .all(|rule| {
                        // A rule in front that was only seen to match what was tried may leave out other requests.
                        !has_open_part(&uses.open_up(rule.when.expression()))
                    });
                return match (before.is_empty(), open) {
                    (true, false) => Found::Never,
                    (false, false) if exact => Found::Shadowed(before),
                    _ => Found::Undecided,
                };
            }
            involved.extend(before);
        }
    }
}

fn asks_for_name(rule: &Rule) -> bool {
    let uses = Uses::of([rule.when.expression()]);
    uses.fields.contains(&Field::Text(TextField::UserName))
}

fn has_open_part(expression: &BoolExpr) -> bool {
    match expression {
        BoolExpr::And(a, b) | BoolExpr::Or(a, b) | BoolExpr::Same(a, b) => {
            has_open_part(a) || has_open_part(b)
        }
        BoolExpr::If(a, b, c) => has_open_part(a) || has_open_part(b) || has_open_part(c),
        BoolExpr::Not(a) => has_open_part(a),
        BoolExpr::EachReason { body, .. } => has_open_part(body),
        BoolExpr::Undecided => true,
        BoolExpr::Const(_)
        | BoolExpr::Field(_)
        | BoolExpr::Has(_)
        | BoolExpr::InCidr(_)
        | BoolExpr::Int(..)
        | BoolExpr::IntIn(..)
        | BoolExpr::IsReason(_)
        | BoolExpr::Matches(..)
        | BoolExpr::Text(..)
        | BoolExpr::TextIn(..) => false,
    }
}

/// A step through `size` numbers that meets each once: one without a common factor.
fn stride(size: u128) -> u128 {
    // The golden ratio spreads the first steps evenly; small spaces are walked in order.
    if size <= TRIES_PER_QUESTION {
        return 1;
    }
    let mut stride = (size / 1_000) * 618 + 1;
    while greatest_common_divisor(stride, size) != 1 {
        stride += 1;
    }
    stride
}

fn greatest_common_divisor(a: u128, b: u128) -> u128 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests;
