//! Queries and forms of programs, read as a whole or not at all: a name that is not known or is there twice, or a value of no
//! use, is an error that names it. Nobody who misspells a filter shall think that there is nothing of that.

use crate::domain::printable;
use std::collections::BTreeMap;

/// Things in one answer, unless another number is asked for.
pub(super) const LIMIT: usize = 50;
/// The most of them.
const LIMIT_MAX: usize = 200;

/// Names and values, each name once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Asked(BTreeMap<String, String>);

impl Asked {
    /// Reads a query or a form that has no other names than these.
    pub(super) fn parse(text: &[u8], names: &[&str]) -> Result<Self, String> {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(text).into_owned() {
            if asked.0.contains_key(&name) {
                return Err(wrong(&name, &value, "it once"));
            }
            if !names.contains(&name.as_str()) {
                let expected = match names {
                    [] => "no names at all".to_owned(),
                    names => format!("no such name but {}", names.join(", ")),
                };
                return Err(wrong(&name, &value, &expected));
            }
            asked.0.insert(name, value);
        }
        Ok(asked)
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names and values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a name, as `read` reads it; `None` when the name is not there.
    pub(super) fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, String> {
        self.get(name)
            .map(|value| read(value).ok_or_else(|| wrong(name, value, expected)))
            .transpose()
    }

    /// How many things are wanted.
    pub(super) fn limit(&self) -> Result<usize, String> {
        let limit = self.read("limit", &format!("1 to {LIMIT_MAX}"), |value| {
            let limit = value.parse().ok();
            limit.filter(|limit| (1..=LIMIT_MAX).contains(limit))
        });
        limit.map(|limit| limit.unwrap_or(LIMIT))
    }
}

/// What is wrong with a value, for whoever sent it.
pub(super) fn wrong(name: &str, value: &str, expected: &str) -> String {
    let (name, value) = (printable::plain(name), printable::plain(value));
    format!("`{name}`: `{value}`, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_as_a_whole_or_not_at_all() {
        let names = ["limit", "truth"];
        let asked = Asked::parse(b"truth=a%20b&limit=3", &names).unwrap();
        assert_eq!((asked.get("truth"), asked.limit()), (Some("a b"), Ok(3)));
        assert_eq!(Asked::parse(b"", &names).unwrap().limit(), Ok(LIMIT));
        for (text, said) in [
            ("truth=a&truth=b", "`truth`: `b`, expected it once"),
            ("verdict=x", "expected no such name but limit, truth"),
            ("a%1b=%0a", "`a\\u{1b}`: `\\n`"),
        ] {
            let problem = Asked::parse(text.as_bytes(), &names).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
        assert!(Asked::parse(b"x=", &[]).unwrap_err().contains("no names"));
        for wrong in ["0", "201", "x", "-1", ""] {
            let asked = Asked::parse(format!("limit={wrong}").as_bytes(), &names).unwrap();
            assert!(asked.limit().unwrap_err().contains("1 to 200"), "{wrong}");
        }
    }
}
