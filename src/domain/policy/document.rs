//! Reading `policy.toml`, with every mistake collected instead of only the first. A key that nobody asked for is a
//! mistake. What the settings mean is decided elsewhere.

use crate::domain::policy::spelling::listed;
use crate::domain::policy::spelling::suggestion;
use std::fmt;
use std::ops::RangeInclusive;
use toml::Table;
use toml::Value;

/// Everything that is wrong with a policy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the policy is not valid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PolicyErrors(pub Vec<PolicyError>);

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyError {
    /// Where: a key or a rule.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What was expected or what to do.
    pub remedy: String,
}

/// One table of the document, and where it is.
#[derive(Debug)]
pub struct Section {
    place: String,
    prefix: String,
    is_numbered: bool,
    table: Table,
    asked: Vec<&'static str>,
}

/// Collects mistakes.
#[derive(Debug, Default)]
pub struct Mistakes(pub Vec<PolicyError>);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.problem, self.remedy)
    }
}

impl Mistakes {
    /// Notes one.
    pub fn add(
        &mut self,
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(PolicyError {
            place: place.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}

impl Section {
    /// The whole document.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let table = text.parse::<Table>().map_err(|error| {
            let line = error.span().map(|span| {
                text.as_bytes()
                    .iter()
                    .take(span.start)
                    .filter(|b| **b == b'\n')
                    .count()
                    + 1
            });
            let problem = error.message().lines().collect::<Vec<_>>().join(", ");
            let remedy = "the file is written in TOML 1.0".to_owned();
            let place = line.map_or_else(|| "the file".to_owned(), |line| format!("line {line}"));
            PolicyErrors(vec![PolicyError {
                place,
                problem,
                remedy,
            }])
        })?;
        Ok(Self {
            place: "the file".to_owned(),
            prefix: String::new(),
            is_numbered: false,
            table,
            asked: Vec::new(),
        })
    }

    /// The place of a key, for messages.
    pub fn at(&self, key: &str) -> String {
        if self.is_numbered {
            format!("{}, key `{key}`", self.place)
        } else {
            format!("key `{}{key}`", self.prefix)
        }
    }

    /// The place of the section itself.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Renames the section in messages, once its name is known.
    pub fn rename(&mut self, place: String) {
        self.place = place;
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.table.remove(key)
    }

    fn wrong_type(&self, key: &str, value: &Value, expected: &str, mistakes: &mut Mistakes) {
        mistakes.add(
            self.at(key),
            format!("is {}", described(value)),
            format!("expected {expected}"),
        );
    }

    /// A text.
    pub fn text(
        &mut self,
        key: &'static str,
        expected: &str,
        mistakes: &mut Mistakes,
    ) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(key, &other, expected, mistakes);
                None
            }
        }
    }

    /// One of a list of words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        mistakes: &mut Mistakes,
    ) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let text = self.text(key, &format!("one of {}", listed(words())), mistakes)?;
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let expected = format!("expected {}", listed(words()));
            let remedy = match suggestion(&text, words()) {
                Some(suggestion) if choices.len() > 8 => suggestion,
                _ => expected,
            };
            mistakes.add(self.at(key), format!("is `{text}`"), remedy);
        }
        found
    }

    /// A whole number within `range`.
    pub fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u8>,
        mistakes: &mut Mistakes,
    ) -> Option<u8> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match self.take(key)? {
            Value::Integer(number) => {
                let found = u8::try_from(number)
                    .ok()
                    .filter(|number| range.contains(number));
                if found.is_none() {
                    mistakes.add(
                        self.at(key),
                        format!("is `{number}`"),
                        format!("expected {expected}"),
                    );
                }
                found
            }
            other => {
                self.wrong_type(key, &other, &expected, mistakes);
                None
            }
        }
    }

    /// A whole number of seconds within `range`.
    pub fn seconds(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
        mistakes: &mut Mistakes,
    ) -> Option<u32> {
        let expected = format!(
            "a whole number of seconds from {} to {}",
            range.start(),
            range.end()
        );
        let value = self.take(key)?;
        let found = value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number));
        if found.is_none() {
            self.wrong_type(key, &value, &expected, mistakes);
        }
        found
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(flag) => Some(flag),
            other => {
                self.wrong_type(key, &other, "`true` or `false`", mistakes);
                None
            }
        }
    }

    /// A table below this one; an absent one is empty.
    pub fn section(&mut self, key: &'static str, mistakes: &mut Mistakes) -> Section {
        let place = self.at(key);
        let prefix = if self.is_numbered {
            format!("{}: {key}.", self.place)
        } else {
            format!("{}{key}.", self.prefix)
        };
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.wrong_type(key, &other, "a table", mistakes);
                Table::new()
            }
        };
        Section {
            place,
            prefix,
            is_numbered: false,
            table,
            asked: Vec::new(),
        }
    }

    /// An array of tables; at most `max`.
    pub fn sections(
        &mut self,
        key: &'static str,
        max: usize,
        mistakes: &mut Mistakes,
    ) -> Vec<Section> {
        let values = self.values(key, max, "an array of tables, written `[[...]]`", mistakes);
        let mut sections = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let place = format!("{key} {}", index + 1);
            match value {
                Value::Table(table) => {
                    sections.push(Section {
                        prefix: String::new(),
                        is_numbered: true,
                        place,
                        table,
                        asked: Vec::new(),
                    });
                }
                other => mistakes.add(
                    place,
                    format!("is {}", described(&other)),
                    "expected a table",
                ),
            }
        }
        sections
    }

    /// An array; at most `max` values.
    pub fn values(
        &mut self,
        key: &'static str,
        max: usize,
        expected: &str,
        mistakes: &mut Mistakes,
    ) -> Vec<Value> {
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(values)) if values.len() > max => {
                mistakes.add(
                    self.at(key),
                    format!("has {} entries", values.len()),
                    format!("expected at most {max}"),
                );
                Vec::new()
            }
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.wrong_type(key, &other, expected, mistakes);
                Vec::new()
            }
        }
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Ends the reading: what is left is unknown.
    pub fn finish(self, mistakes: &mut Mistakes) {
        for key in self.table.keys() {
            let asked = self.asked.iter().copied();
            let remedy = suggestion(key, asked.clone())
                .unwrap_or_else(|| format!("expected {}", listed(asked)));
            mistakes.add(self.place.clone(), format!("unknown key `{key}`"), remedy);
        }
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the text `{text}`"),
        Value::Integer(number) => format!("the number `{number}`"),
        Value::Float(number) => format!("the number `{number}`"),
        Value::Boolean(flag) => format!("`{flag}`"),
        Value::Datetime(moment) => format!("the moment `{moment}`"),
        Value::Array(_) => "an array".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests;
