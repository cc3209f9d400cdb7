//! On which line of a policy's text a place of a message is. A place that is not in the text, such as a key that is missing,
//! is where the part begins that it should be in.

use std::ops::Range;
use toml::Spanned;
use toml::de::DeArray;
use toml::de::DeTable;
use toml::de::DeValue;

/// One step on the way to a place.
enum Step<'p> {
    /// A key of a table.
    Key(&'p str),
    /// An entry of an array, from 1.
    Number(usize),
    /// The entry of an array that has this name.
    Named(&'p str),
}

/// The line, from 1, of a place as messages name it: ``key `thresholds.high` ``, ``rule `x`, key `when` ``, `break_glass 2`,
/// `line 7`. `None` for the whole file, and for a text that is no TOML.
pub fn line_of(text: &str, place: &str) -> Option<usize> {
    if let Some(number) = place.strip_prefix("line ") {
        return number.parse().ok();
    }
    let document = DeTable::parse(text).ok()?;
    let mut table = Some(document.get_ref());
    let mut entries: Option<&DeArray<'_>> = None;
    let mut found: Option<Range<usize>> = None;
    for step in steps(place) {
        let next = match step {
            Step::Key(key) => {
                let mut members = table?.iter();
                let member = members.find(|(name, _)| name.get_ref().as_ref() == key);
                member.map(|(name, value)| (name.span(), value.get_ref()))
            }
            Step::Number(number) => {
                let entry = number.checked_sub(1).and_then(|at| entries?.get(at));
                entry.map(|entry| (entry.span(), entry.get_ref()))
            }
            Step::Named(name) => {
                let is_it = |entry: &&Spanned<DeValue<'_>>| match entry.get_ref() {
                    DeValue::Table(table) => table.iter().any(|(key, value)| {
                        key.get_ref().as_ref() == "name"
                            && matches!(value.get_ref(), DeValue::String(text) if text == name)
                    }),
                    _ => false,
                };
                let entry = entries?.iter().find(is_it);
                entry.map(|entry| (entry.span(), entry.get_ref()))
            }
        };
        let Some((span, value)) = next else {
            break;
        };
        found = Some(span);
        (table, entries) = match value {
            DeValue::Table(table) => (Some(table), None),
            DeValue::Array(array) => (None, Some(array)),
            _ => (None, None),
        };
        if table.is_none() && entries.is_none() {
            break;
        }
    }
    let before = text.as_bytes().get(..found?.start)?;
    Some(before.iter().filter(|byte| **byte == b'\n').count() + 1)
}

fn steps(place: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = place;
    if let Some(below) = rest.strip_prefix("token ") {
        steps.push(Step::Key("token"));
        rest = below;
    }
    let quoted = |text: &str| text.len() - text.trim_end_matches('`').len();
    let (head, key) = match rest.split_once("key `") {
        Some((head, key)) => (
            head.trim_end_matches(", "),
            key.get(..key.len() - quoted(key)).unwrap_or(key),
        ),
        None => (rest, ""),
    };
    // A key below an entry of an array names the entry before a colon.
    let (head, key) = match key.split_once(": ") {
        Some((entry, key)) => (entry, key),
        None => (head, key),
    };
    if let Some((array, which)) = head.split_once(' ') {
        steps.push(Step::Key(array));
        let name = which.trim_matches('`');
        steps.push(match which.parse() {
            Ok(number) => Step::Number(number),
            Err(_) => Step::Named(name),
        });
    }
    steps.extend(key.split('.').filter(|key| !key.is_empty()).map(Step::Key));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::PolicySet;

    const TEXT: &str = "version = 1\n\n[thresholds]\nmedium = 300\nhigh = 70\n\n[[break_glass]]\nname = \"admin\"\n\n[[rule]]\n\
        name = \"one\"\nwhen = \"true\"\nverdict = \"allow\"\n\n[[rule]]\nname = \"two\"\nwhen = \"user.nme\"\n\
        verdict = \"maybe\"\n\n[[override]]\ntenant = \"a\"\nthresholds.medium = 1\n\n[token]\nrule = [{ name = \"t\" }]\n";

    #[test]
    fn places_are_found() {
        for (place, line) in [
            ("line 7", Some(7)),
            ("the file", None),
            ("key `thresholds.medium`", Some(4)),
            ("key `thresholds`", Some(3)),
            // What is missing is where it should be.
            ("key `thresholds.low`", Some(3)),
            ("break_glass 1", Some(7)),
            ("rule 1", Some(10)),
            ("rule `two`", Some(15)),
            ("rule `two`, key `when`", Some(17)),
            ("rule `two`, key `reason`", Some(15)),
            ("key `override 1: thresholds.medium`", Some(22)),
            ("token rule 1", Some(25)),
            ("rule 9", Some(10)),
            ("nonsense", None),
            ("key ``", None),
        ] {
            let found = line_of(TEXT, place);
            // A table is found at its header or at the first key below it.
            let is_near = match (found, line) {
                (Some(found), Some(line)) => found == line,
                (found, line) => found == line,
            };
            assert!(is_near, "{place}: {found:?}, expected {line:?}");
        }
        assert_eq!(line_of("[broken", "rule 1"), None);
    }

    #[test]
    fn each_mistake_of_a_policy_has_a_line() {
        let errors = PolicySet::parse(TEXT).unwrap_err().0;
        assert!(errors.len() >= 3, "{errors:?}");
        for error in errors {
            assert!(line_of(TEXT, &error.place).is_some(), "{error}");
        }
    }
}
