//! What an explanation says, by language: one table each, English first. Codes, names and numbers are the same in all.
//! In a sentence `{name}` stands for a value.

use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::reason::Reason;
use crate::domain::risk::RiskLevel;
use crate::domain::route::Door;

/// English.
mod english;

/// A language.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Language {
    /// English.
    #[default]
    English,
}

/// The sentences of one language.
#[expect(
    missing_docs,
    reason = "each field is named after what it says; the English table shows it"
)]
#[derive(Debug)]
pub struct Words {
    pub decision: &'static str,
    pub record: &'static str,
    // What was asked.
    pub asked: &'static str,
    pub request: &'static str,
    pub application: &'static str,
    pub no_application: &'static str,
    pub organization: &'static str,
    pub user: &'static str,
    pub user_named: &'static str,
    pub user_presented: &'static str,
    pub no_user: &'static str,
    pub logins: &'static str,
    pub no_logins: &'static str,
    pub break_glass: &'static str,
    pub from: &'static str,
    pub unknown_place: &'static str,
    pub with: &'static str,
    pub device: fn(&str) -> &'static str,
    // What was decided.
    pub decided: &'static str,
    pub verdict_line: &'static str,
    pub nothing_decided: &'static str,
    pub by_rule: &'static str,
    pub rule_condition: &'static str,
    pub by_default: &'static str,
    pub by_unscored: &'static str,
    pub score_line: &'static str,
    pub thresholds: &'static str,
    pub unscored_line: &'static str,
    pub from_earlier: &'static str,
    pub without_history: &'static str,
    pub skipped: &'static str,
    pub standing: fn(&str) -> &'static str,
    pub shown: &'static str,
    pub done: &'static str,
    pub refused_for: &'static str,
    pub reasons: &'static str,
    // Why the score is what it is.
    pub why: &'static str,
    pub why_note: &'static str,
    pub base: &'static str,
    pub base_derived: &'static str,
    pub together: &'static str,
    pub others: &'static str,
    pub missing: &'static str,
    pub not_so: &'static str,
    pub no_parts: &'static str,
    // What would have changed it.
    pub changed: &'static str,
    pub changed_line: &'static str,
    pub changed_verdict: &'static str,
    pub smallest: &'static str,
    pub no_smallest: &'static str,
    pub to_next: &'static str,
    pub nothing_changes: &'static str,
    // Computed again.
    pub again: &'static str,
    pub same: &'static str,
    pub close: &'static str,
    pub different: &'static str,
    pub no_model: &'static str,
    pub no_model_found: &'static str,
    pub not_named: &'static str,
    pub no_row: &'static str,
    pub other_schema: &'static str,
    pub policy_agrees: &'static str,
    pub policy_disagrees: &'static str,
    pub policy_cannot: &'static str,
    pub policy_other: &'static str,
    pub policy_other_cannot: &'static str,
    pub policy_missing: &'static str,
    // Versions.
    pub versions: &'static str,
    pub versions_line: &'static str,
    pub unknown: &'static str,
    // Two decisions.
    pub compared: &'static str,
    pub rows: [&'static str; 15],
    pub differing: &'static str,
    pub no_differing: &'static str,
    pub only_in: &'static str,
    pub same_reasons: &'static str,
    pub other_model: &'static str,
    pub and: &'static str,
    // Closed lists.
    pub door: fn(Door) -> &'static str,
    pub verdict: fn(Verdict) -> &'static str,
    pub level: fn(RiskLevel) -> &'static str,
    pub mode: fn(Mode) -> &'static str,
    pub reason: fn(Reason) -> &'static str,
    pub supposed: fn(Reason) -> &'static str,
}

impl Language {
    /// All languages.
    pub const ALL: [Self; 1] = [Self::English];

    /// The code, as in BCP 47.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
        }
    }

    /// The language with that code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }

    /// Its sentences.
    pub fn words(self) -> &'static Words {
        match self {
            Self::English => &english::WORDS,
        }
    }
}

/// A sentence with its values.
pub fn fill(sentence: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(sentence.len() + 32);
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, later)) = after.split_once('}') else {
            rest = after;
            break;
        };
        let value = values.iter().find(|(known, _)| *known == name);
        out.push_str(value.map_or("", |(_, value)| value));
        rest = later;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_their_places() {
        let said = fill("{a} of {b}, {a}{none}.", &[("a", "1"), ("b", "{a}")]);
        assert_eq!(said, "1 of {a}, 1.");
    }

    #[test]
    fn languages_are_found_by_their_codes() {
        for language in Language::ALL {
            assert_eq!(Language::from_code(language.code()), Some(language));
        }
        assert_eq!(Language::from_code("tlh"), None);
    }

    #[test]
    fn every_language_has_a_word_for_everything() {
        for language in Language::ALL {
            let words = language.words();
            for door in Door::ALL {
                assert!(!(words.door)(door).is_empty(), "{door:?}");
            }
            for reason in Reason::ALL {
                assert!(!(words.reason)(*reason).is_empty(), "{reason}");
                assert!(!(words.supposed)(*reason).is_empty(), "{reason}");
            }
            for code in [
                "continues",
                "barred",
                "outstanding",
                "approval",
                "bound",
                "bound_unless_low",
                "enrols_review",
                "enrols_block",
                "released",
            ] {
                assert!(!(words.standing)(code).is_empty(), "{code}");
            }
        }
    }
}
