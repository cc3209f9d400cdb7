//! What to do about a request: ordered rules over the score and the facts, in a file that an operator owns.
//!
//! `decide` is total. It reads no clock, keeps no state and cannot fail: a rule that cannot be evaluated is passed over
//! and named in the decision. What it must not do is act, or know how an answer looks on the wire.

/// The accounts that must always have a way in.
pub mod break_glass;

/// From syntax tree to expression.
pub mod checker;

/// A condition in CEL.
pub mod condition;

/// What policy says.
pub mod decision;

/// Reading the file.
pub mod document;

/// How operators change it.
pub mod editing;

/// A condition after type-checking.
pub mod expression;

/// What a decision is made from.
pub mod input;

/// What is wrong with a policy that is valid.
pub mod lint;

/// Why.
pub mod reason;

/// Which mode holds for whom.
pub mod rollout;

/// One rule.
pub mod rule;

/// For whom a setting holds.
pub mod scope;

/// What holds where no rule speaks.
pub mod settings;

/// "Did you mean".
pub mod spelling;

/// What stands beside the policy.
pub mod standing;

/// What holds for tokens that are about to be issued.
pub mod token;

/// The requests that the lint tries out.
pub mod space;

/// The words of a condition.
pub mod vocabulary;

/// What conditions ask about.
pub mod uses;

use crate::domain::policy::break_glass::BreakGlass;
use crate::domain::policy::decision::Adjustment;
use crate::domain::policy::decision::Decision;
use crate::domain::policy::decision::Matched;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::document::Mistakes;
use crate::domain::policy::document::PolicyErrors;
use crate::domain::policy::document::Section;
use crate::domain::policy::input::PolicyInput;
use crate::domain::policy::input::RiskInput;
use crate::domain::policy::reason::Reason;
use crate::domain::policy::rule::Rule;
use crate::domain::policy::settings::Defaults;
use crate::domain::policy::settings::OnUnscored;
use crate::domain::policy::settings::Override;
use crate::domain::policy::token::PasswordPolicy;
use crate::domain::policy::token::TokenPolicy;
use crate::domain::policy::token::TokenRule;
use crate::domain::policy::vocabulary::Facts;
use crate::domain::policy::vocabulary::Unknown;
use crate::domain::policy::vocabulary::Unrecorded;
use crate::domain::risk::FallbackCause;
use crate::domain::risk::RiskLevel;
use crate::domain::risk::RiskScore;
use crate::domain::risk::Thresholds;
use std::sync::Arc;

/// How large a policy file may be in bytes.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;

/// How many rules a policy may have. Each is evaluated until one matches, at well under a microsecond.
pub const RULES_MAX: usize = 256;

/// The version of the file's form that this build reads.
pub const FORMAT_VERSION: u8 = 1;

/// A policy, compiled and checked.
#[derive(Clone, Debug)]
pub struct PolicySet {
    version: Arc<str>,
    thresholds: Thresholds,
    overrides: Vec<Override>,
    defaults: Defaults,
    on_unscored: OnUnscored,
    break_glass: BreakGlass,
    rules: Vec<Rule>,
    tokens: TokenPolicy,
    passwords: PasswordPolicy,
}

impl PolicySet {
    /// Reads the text of a `policy.toml`. On failure everything that is wrong with it, not only the first.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let mut mistakes = Mistakes::default();
        if text.len() > POLICY_BYTES_MAX {
            let problem = format!("has {} bytes", text.len());
            mistakes.add(
                "the file",
                problem,
                format!("expected at most {POLICY_BYTES_MAX}"),
            );
            return Err(PolicyErrors(mistakes.0));
        }
        let mut document = Section::parse(text)?;
        if !document.has("version") {
            mistakes.add(
                "the file",
                "has no `version`",
                format!("begin it with `version = {FORMAT_VERSION}`"),
            );
        }
        document.number("version", FORMAT_VERSION..=FORMAT_VERSION, &mut mistakes);
        let below = document.section("thresholds", &mut mistakes);
        let thresholds = settings::read_thresholds(below, &mut mistakes);
        let below = document.section("defaults", &mut mistakes);
        let defaults = Defaults::read(below, &mut mistakes);
        let below = document.section("on_unscored", &mut mistakes);
        let on_unscored = OnUnscored::read(below, &mut mistakes);
        let break_glass = settings::read_break_glass(&mut document, &mut mistakes);
        let overrides = settings::read_overrides(&mut document, &mut mistakes);
        let rules = read_rules(&mut document, &mut mistakes);
        let below = document.section("token", &mut mistakes);
        let tokens = TokenPolicy::read(below, &mut mistakes);
        let below = document.section("password_update", &mut mistakes);
        let passwords = PasswordPolicy::read(below, &mut mistakes);
        document.finish(&mut mistakes);
        if !mistakes.0.is_empty() {
            return Err(PolicyErrors(mistakes.0));
        }
        let version = version_of(text);
        Ok(Self {
            version,
            thresholds,
            overrides,
            defaults,
            on_unscored,
            break_glass,
            rules,
            tokens,
            passwords,
        })
    }

    /// Decides about one request.
    ///
    /// The first enabled rule whose condition holds speaks; where none does, the defaults by level or, without a score,
    /// `on_unscored`. Two things hold whatever the rules say:
    ///
    /// - under a known demand an unscored request is never allowed: without a score nothing can have changed for the
    ///   better, and making the scoring fail must not be a way around the demand;
    /// - a break-glass account is never blocked or held, but stepped up: with its second factor it gets in at the doors
    ///   that browsers use, so that no model and no rule can lock out the last operator. It is no weaker for that where
    ///   it matters: whoever has only the password does not get in.
    pub fn decide(&self, input: &PolicyInput<'_>) -> Decision {
        self.decide_about(&Facts::new(input, self.level_of(input), &self.break_glass))
    }

    /// Decides again about a request that is known from its record. The error is the name of the rule that asks for what
    /// is not recorded: whether it matches cannot be told, and so not what comes after it.
    pub fn decide_again(
        &self,
        input: &PolicyInput<'_>,
        unrecorded: Unrecorded,
    ) -> Result<Decision, Arc<str>> {
        let facts = Facts::new(input, self.level_of(input), &self.break_glass);
        let facts = facts.recorded(unrecorded);
        for rule in self.rules.iter().filter(|rule| rule.enabled) {
            match rule.when.holds(&facts) {
                Ok(true) => break,
                Ok(false) | Err(Unknown::Absent(_)) => {}
                Err(Unknown::Undecided) => return Err(Arc::clone(&rule.name)),
            }
        }
        Ok(self.decide_about(&facts))
    }

    fn decide_about(&self, facts: &Facts<'_>) -> Decision {
        let (input, level) = (facts.input, facts.level);
        let mut skipped = Vec::new();
        let rule = self.first_match(facts, &mut skipped);
        let (verdict, matched, grounds) = match (rule, &input.risk, level) {
            (Some(rule), _, _) => (
                rule.verdict,
                Matched::Rule {
                    name: Arc::clone(&rule.name),
                },
                [Some(rule.reason), None],
            ),
            (None, RiskInput::Unscored(cause), _) => {
                let verdict = self.on_unscored(facts.tenant, input, *cause);
                (
                    verdict,
                    Matched::OnUnscored { cause: *cause },
                    [Some(Reason::ScoreUnavailable), state_reason(*cause)],
                )
            }
            (None, RiskInput::Scored { .. }, level) => {
                let level = level.unwrap_or(RiskLevel::High);
                (
                    self.defaults.verdict(level),
                    Matched::Default(level),
                    [level_reason(level), None],
                )
            }
        };
        let (verdict, adjusted) = adjust(verdict, facts);
        let demand = matches!(adjusted, Some(Adjustment::Demanded { .. }))
            .then_some(Reason::AssuranceInsufficient);
        let mut reasons: Vec<Reason> = Vec::with_capacity(3 + input.risk.reasons().len());
        for reason in grounds
            .into_iter()
            .flatten()
            .chain(demand)
            .chain(input.risk.reasons().iter().copied())
        {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        Decision {
            verdict,
            reasons,
            level,
            matched,
            policy_version: Arc::clone(&self.version),
            adjusted,
            skipped,
        }
    }

    /// Of each rule in its order whether it holds for a request, and whether it is enabled; also of those behind the first that
    /// holds.
    pub fn each(
        &self,
        input: &PolicyInput<'_>,
    ) -> impl Iterator<Item = (Result<bool, Unknown>, bool)> {
        let facts = Facts::new(input, self.level_of(input), &self.break_glass);
        self.rules
            .iter()
            .map(move |rule| (rule.when.holds(&facts), rule.enabled))
    }

    /// The thresholds that hold for a tenant and an application (client id).
    pub fn thresholds(&self, tenant: &str, application: &str) -> Thresholds {
        settings::most_specific(&self.overrides, tenant, application, |one| one.thresholds)
            .unwrap_or(self.thresholds)
    }

    /// What a score gets where no rule speaks and nothing else is known of the request.
    pub fn default_verdict(&self, score: RiskScore, tenant: &str, application: &str) -> Verdict {
        let level = score.level(self.thresholds(tenant, application));
        self.defaults.verdict(level)
    }

    /// Which policy this is: the first 16 hexadecimal digits of the SHA-256 of its file.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The rules in their order, with those that are not enabled.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What holds for tokens that are about to be issued.
    pub fn tokens(&self) -> &TokenPolicy {
        &self.tokens
    }

    /// The rule about tokens that speaks for a token request; the first one whose condition holds.
    pub fn token_rule(&self, input: &PolicyInput<'_>) -> Option<&TokenRule> {
        if self.tokens.rules().is_empty() {
            return None;
        }
        let facts = Facts::new(input, self.level_of(input), &self.break_glass);
        self.tokens.first_match(&facts)
    }

    /// What holds for passwords that are about to be changed.
    pub fn passwords(&self) -> &PasswordPolicy {
        &self.passwords
    }

    /// The break-glass accounts.
    pub fn break_glass(&self) -> &BreakGlass {
        &self.break_glass
    }

    fn level_of(&self, input: &PolicyInput<'_>) -> Option<RiskLevel> {
        let thresholds = self.thresholds(input.request.tenant, input.client.id);
        input
            .risk
            .points()
            .map(|points| RiskScore::from_points(points).level(thresholds))
    }

    fn on_unscored(&self, tenant: &str, input: &PolicyInput<'_>, cause: FallbackCause) -> Verdict {
        settings::most_specific(&self.overrides, tenant, input.client.id, |one| {
            one.on_unscored
        })
        .unwrap_or_else(|| self.on_unscored.verdict(input.request.door, cause))
        .max(self.surge(input).unwrap_or(Verdict::Allow))
    }

    /// The least that an unscored request gets while many have no score.
    fn surge(&self, input: &PolicyInput<'_>) -> Option<Verdict> {
        let surge = self.on_unscored.surge?;
        (input.unscored_percent > surge.above_percent).then_some(surge.verdict)
    }

    fn first_match(&self, facts: &Facts<'_>, skipped: &mut Vec<Arc<str>>) -> Option<&Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.enabled)
            .find(|rule| match rule.when.holds(facts) {
                Ok(holds) => holds,
                Err(_absent) => {
                    skipped.push(Arc::clone(&rule.name));
                    false
                }
            })
    }
}

fn read_rules(document: &mut Section, mistakes: &mut Mistakes) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for section in document.sections("rule", RULES_MAX, mistakes) {
        let place = section.place().to_owned();
        let Some(rule) = Rule::read(section, mistakes) else {
            continue;
        };
        if rules.iter().any(|other| other.name == rule.name) {
            mistakes.add(
                place,
                format!("the name `{}` is taken", rule.name),
                "give each rule a name of its own",
            );
        } else {
            rules.push(rule);
        }
    }
    rules
}

/// What holds whatever the rules say.
fn adjust(verdict: Verdict, facts: &Facts<'_>) -> (Verdict, Option<Adjustment>) {
    let is_unscored = matches!(facts.input.risk, RiskInput::Unscored(_));
    match verdict {
        Verdict::Allow if is_unscored && facts.input.request.demanded => (
            Verdict::StepUp,
            Some(Adjustment::Demanded { from: verdict }),
        ),
        Verdict::Review | Verdict::Block if facts.break_glass => (
            Verdict::StepUp,
            Some(Adjustment::BreakGlass { from: verdict }),
        ),
        Verdict::Allow | Verdict::StepUp | Verdict::Review | Verdict::Block => (verdict, None),
    }
}

fn level_reason(level: RiskLevel) -> Option<Reason> {
    match level {
        RiskLevel::Low => None,
        RiskLevel::Medium => Some(Reason::RiskMedium),
        RiskLevel::High => Some(Reason::RiskHigh),
    }
}

fn state_reason(cause: FallbackCause) -> Option<Reason> {
    match cause {
        FallbackCause::StateUnavailable | FallbackCause::StateTimeout => {
            Some(Reason::StateUnavailable)
        }
        FallbackCause::BreakerOpen
        | FallbackCause::ModelError
        | FallbackCause::ModelMissing
        | FallbackCause::ModelOutput
        | FallbackCause::ModelTimeout
        | FallbackCause::Overload => None,
    }
}

fn version_of(text: &str) -> Arc<str> {
    editing::short(&editing::digest_of(text)).into()
}

#[cfg(test)]
mod tests;
