//! One rule: a name, a condition, a verdict, a reason. The order of the rules is the policy's business, not theirs.

use crate::domain::policy::condition::Condition;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::document::Mistakes;
use crate::domain::policy::document::Section;
use crate::domain::policy::reason::Reason;
use std::sync::Arc;

/// How long a name may be: it is a label in records.
pub const NAME_BYTES_MAX: usize = 64;

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, unique in the policy: letters, digits, `-` and `_`.
    pub name: Arc<str>,
    /// When it applies.
    pub when: Condition,
    /// What it says then.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Whether it is looked at. One that is not is checked all the same.
    pub enabled: bool,
}

impl Rule {
    /// Reads one `[[rule]]`; none if anything is wrong with it.
    pub fn read(mut section: Section, mistakes: &mut Mistakes) -> Option<Self> {
        let before = mistakes.0.len();
        let name = read_name(&mut section, "rule", mistakes);
        let when = read_when(&mut section, mistakes);
        let noted = mistakes.0.len();
        let verdict = section.choice(
            "verdict",
            &Verdict::ALL.map(|verdict| (verdict.as_str(), verdict)),
            mistakes,
        );
        if verdict.is_none() && mistakes.0.len() == noted {
            missing(
                &section,
                "verdict",
                "expected `allow`, `step_up`, `review` or `block`",
                mistakes,
            );
        }
        let codes: Vec<(&str, Reason)> = Reason::ALL
            .iter()
            .map(|reason| (reason.code(), *reason))
            .collect();
        let reason = section
            .choice("reason", &codes, mistakes)
            .unwrap_or(Reason::RuleMatched);
        let enabled = section.flag("enabled", mistakes).unwrap_or(true);
        section.finish(mistakes);
        if mistakes.0.len() > before {
            return None;
        }
        Some(Self {
            name: Arc::from(name?),
            when: when?,
            verdict: verdict?,
            reason,
            enabled,
        })
    }
}

/// Reads the `name` of a rule, and calls the section by it from then on.
pub(super) fn read_name(
    section: &mut Section,
    kind: &str,
    mistakes: &mut Mistakes,
) -> Option<String> {
    let before = mistakes.0.len();
    let name = section.text("name", "a text", mistakes);
    match &name {
        Some(name) if is_name(name) => section.rename(format!("{kind} `{name}`")),
        Some(name) => mistakes.add(
            section.at("name"),
            format!("is `{name}`"),
            format!("expected 1 to {NAME_BYTES_MAX} letters, digits, `-` or `_`"),
        ),
        None if mistakes.0.len() == before => {
            missing(section, "name", "give it a unique name", mistakes)
        }
        None => {}
    }
    name
}

/// Reads and compiles the `when` of a rule.
pub(super) fn read_when(section: &mut Section, mistakes: &mut Mistakes) -> Option<Condition> {
    let before = mistakes.0.len();
    let when = section.text("when", "a condition in quotation marks", mistakes);
    if when.is_none() && mistakes.0.len() == before {
        missing(
            section,
            "when",
            "write `when = \"true\"` to match every request",
            mistakes,
        );
    }
    match Condition::compile(&when?) {
        Ok(condition) => Some(condition),
        Err(errors) => {
            for error in errors {
                mistakes.add(section.at("when"), error.located_problem(), error.remedy);
            }
            None
        }
    }
}

fn missing(section: &Section, key: &str, remedy: &str, mistakes: &mut Mistakes) {
    mistakes.add(section.place(), format!("has no `{key}`"), remedy);
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
