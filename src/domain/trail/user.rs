//! What decisions about one user have in common, and the networks they came from. Counts what it is given; which decisions
//! these are is the caller's business.

use crate::domain::trail::Entry;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A value, and how many decisions have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Count<'e> {
    /// The value.
    pub value: &'e str,
    /// How many.
    pub count: usize,
}

/// Requests from one network.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Network<'e> {
    /// ISO 3166 code, or `unknown`.
    pub country: &'e str,
    /// The /24 or /48.
    pub prefix: &'e str,
    /// What kind of network it is; empty when nobody knows.
    pub kind: &'e str,
    /// How many.
    pub requests: usize,
    /// Those with another verdict than `allow`, whatever came of them.
    pub challenged: usize,
}

/// Reads a value off a decision.
type Trait = fn(&Entry) -> Option<&str>;

/// What can be common, by name.
const TRAITS: [(&str, Trait); 8] = [
    ("verdicts", |entry| entry.verdict.as_deref()),
    ("countries", |entry| entry.country.as_deref()),
    ("networks", |entry| entry.prefix.as_deref()),
    ("browsers", |entry| entry.browser.as_deref()),
    ("systems", |entry| entry.os.as_deref()),
    ("devices", |entry| entry.device.as_deref()),
    ("applications", |entry| entry.client_id.as_deref()),
    ("outcomes", |entry| Some(entry.outcome.as_str())),
];

/// The values of each trait, the most frequent first; a trait that no decision has is left out.
pub fn common(entries: &[Entry]) -> Vec<(&'static str, Vec<Count<'_>>)> {
    let counted = |of: Trait| {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for value in entries.iter().filter_map(of) {
            *counts.entry(value).or_default() += 1;
        }
        let counts = counts.into_iter();
        let mut counts: Vec<_> = counts
            .map(|(value, count)| Count { value, count })
            .collect();
        counts.sort_by_key(|one| Reverse(one.count));
        counts
    };
    TRAITS
        .into_iter()
        .map(|(name, of)| (name, counted(of)))
        .filter(|(_, counts)| !counts.is_empty())
        .collect()
}

/// The networks, the most frequent first. A decision that names none is passed over.
pub fn networks(entries: &[Entry]) -> Vec<Network<'_>> {
    let mut found: BTreeMap<(&str, &str), Network<'_>> = BTreeMap::new();
    for entry in entries {
        let Some(prefix) = entry.prefix.as_deref() else {
            continue;
        };
        let country = entry.country.as_deref().unwrap_or("unknown");
        let network = found.entry((country, prefix)).or_default();
        network.country = country;
        network.prefix = prefix;
        network.kind = entry.network.as_deref().unwrap_or("");
        network.requests += 1;
        let is_challenged = entry
            .verdict
            .as_deref()
            .is_some_and(|verdict| verdict != "allow");
        network.challenged += usize::from(is_challenged);
    }
    let mut networks: Vec<Network<'_>> = found.into_values().collect();
    networks.sort_by_key(|one| Reverse(one.requests));
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(country: &str, prefix: &str, verdict: &str) -> Entry {
        Entry {
            country: Some(country.to_owned()),
            prefix: Some(prefix.to_owned()),
            verdict: Some(verdict.to_owned()),
            outcome: "failed".to_owned(),
            ..Entry::default()
        }
    }

    #[test]
    fn what_is_common_is_counted_the_most_frequent_first() {
        assert!(common(&[]).is_empty() && networks(&[]).is_empty());
        let mut entries = vec![entry("CH", "192.0.2.0/24", "allow"); 3];
        entries.push(entry("DE", "198.51.100.0/24", "block"));
        entries.push(Entry::default());
        let common = common(&entries);
        let names: Vec<&str> = common.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["verdicts", "countries", "networks", "outcomes"]);
        let (_, verdicts) = &common[0];
        assert_eq!(
            (verdicts[0].value, verdicts[0].count, verdicts.len()),
            ("allow", 3, 2)
        );
        let found: Vec<_> = networks(&entries)
            .iter()
            .map(|one| (one.country, one.requests, one.challenged))
            .collect();
        assert_eq!(found, [("CH", 3, 0), ("DE", 1, 1)]);
    }
}
