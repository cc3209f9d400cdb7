//! Two decisions side by side: why one was medium and the other high although both give the same reasons.

use crate::domain::audit::AuditEvent;
use crate::domain::audit::Word;
use crate::domain::explain::Explanation;
use crate::domain::explain::text::network;
use crate::domain::explain::text::number;
use crate::domain::explain::thresholds;
use crate::domain::explain::words::Language;
use crate::domain::explain::words::Words;
use crate::domain::explain::words::fill;
use crate::domain::features::Feature;
use crate::domain::features::FeatureSchema;
use crate::domain::policy::reason::Reason;
use crate::domain::printable;
use serde::Serialize;

/// The width of a column.
const COLUMN: usize = 40;

/// What one feature adds to each of two scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The feature.
    pub feature: &'static str,
    /// Its values; `None` where it was missing.
    pub values: [Option<f32>; 2],
    /// What it adds to the log-odds of each.
    pub contributions: [f32; 2],
    /// How much more it adds to the second.
    pub more: f32,
    /// The reason that it gives.
    pub reason: Reason,
}

/// Two decisions.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The first.
    pub first: Explanation,
    /// The second.
    pub second: Explanation,
    /// What differs in their scores, the largest difference first. Empty where they are by different models.
    pub differences: Vec<Difference>,
    /// Whether the same model has scored both.
    pub same_model: bool,
}

impl Comparison {
    /// Compares two decisions.
    pub fn of(first: Explanation, second: Explanation) -> Self {
        let (a, b) = (&first.record, &second.record);
        let same_model = a.model_digest == b.model_digest && a.model == b.model && a.kind == b.kind;
        let differences = if same_model {
            differences(a, b)
        } else {
            Vec::new()
        };
        Self {
            first,
            second,
            differences,
            same_model,
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        printable::json_pretty(self).map(|text| text + "\n")
    }

    /// In sentences.
    pub fn text(&self, language: Language) -> String {
        let words = language.words();
        let (a, b) = (&self.first.record, &self.second.record);
        let mut out = format!("{}\n", words.compared);
        let cells = rows(a, words).into_iter().zip(rows(b, words));
        for (name, (a, b)) in words.rows.into_iter().zip(cells) {
            let mark = if a == b { ' ' } else { '*' };
            line(&mut out, &format!("{mark} {name:<12} {a:<COLUMN$} {b}"));
        }
        line(&mut out, "");
        line(&mut out, words.differing);
        if !self.same_model {
            line(&mut out, &format!("  {}", words.other_model));
        } else if self.differences.is_empty() {
            line(&mut out, &format!("  {}", words.no_differing));
        }
        for other in &self.differences {
            let value = |value: Option<f32>| value.map_or_else(|| words.missing.to_owned(), number);
            let [a, b] = other.contributions;
            let [first, second] = other.values.map(value);
            let (more, feature) = (other.more, other.feature);
            let cells = format!("{:>+8.4} [{first}]", a);
            let others = format!("{:>+8.4} [{second}]", b);
            line(
                &mut out,
                &format!("  {more:>+8.4}  {feature:<26} {cells:<20} {others}"),
            );
        }
        line(&mut out, "");
        self.reasons(&mut out, words);
        out
    }

    fn reasons(&self, out: &mut String, words: &Words) {
        let (a, b) = (&self.first.record, &self.second.record);
        let only = |one: &AuditEvent, other: &AuditEvent| -> Vec<Word> {
            let missing = |code: &&Word| !other.reasons.contains(code);
            one.reasons.iter().filter(missing).cloned().collect()
        };
        let mut same = true;
        for (one, other) in [(a, b), (b, a)] {
            let codes = only(one, other);
            if !codes.is_empty() {
                same = false;
                let codes = codes.join(", ");
                let values = [("which", one.id.as_str()), ("reasons", codes.as_str())];
                line(out, &fill(words.only_in, &values));
            }
        }
        if same {
            line(out, words.same_reasons);
        }
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(printable::plain(text).trim_end());
    out.push('\n');
}

fn rows(event: &AuditEvent, words: &Words) -> [String; 15] {
    let of = |text: Option<&str>| text.unwrap_or(words.unknown).to_owned();
    let level = event.level.as_deref().unwrap_or("");
    let score = event.score.map_or_else(
        || format!("unscored {}", event.fallback.as_deref().unwrap_or("")),
        |score| format!("{score} {level}"),
    );
    let thresholds = thresholds(event).map_or_else(
        || words.unknown.to_owned(),
        |thresholds| format!("{}, {}", thresholds.medium, thresholds.high),
    );
    let versioned = |version: Option<&str>, digest: Option<&str>| match digest {
        Some(digest) => format!("{} ({digest})", of(version)),
        None => of(version),
    };
    [
        event.id.clone(),
        event.time.clone(),
        format!(
            "{} {}",
            of(event.door.as_deref()),
            event.grant_type.as_deref().unwrap_or("")
        ),
        of(event.client_id.as_deref()),
        of(event.subject.as_deref()),
        listed([event.prefix.clone(), event.country.clone()]),
        listed([network(event), event.network.clone().map(Word::into_owned)]),
        of(event.device.as_deref()),
        score,
        thresholds,
        of(event.verdict.as_deref()),
        of(event.matched.as_deref()),
        of(event.mode.as_deref()),
        versioned(event.model.as_deref(), event.model_digest.as_deref()),
        of(event.policy.as_deref()),
    ]
    .map(|cell| cell.trim_end().to_owned())
}

/// What is known of several things.
fn listed(parts: [Option<String>; 2]) -> String {
    let known: Vec<String> = parts.into_iter().flatten().collect();
    known.join(", ")
}

fn differences(a: &AuditEvent, b: &AuditEvent) -> Vec<Difference> {
    let sides = [a, b].map(|event| event.contributions.len() == Feature::COUNT);
    if sides != [true, true] {
        return Vec::new();
    }
    let schema = FeatureSchema::current();
    let value = |event: &AuditEvent, feature: Feature| {
        event.features.get(feature.index()).copied().flatten()
    };
    let both = a.contributions.iter().zip(&b.contributions);
    let mut differences: Vec<Difference> = Feature::ALL
        .into_iter()
        .zip(both)
        .filter(|(_, (a, b))| a.to_bits() != b.to_bits())
        .map(|(feature, (first, second))| Difference {
            feature: feature.name(),
            values: [value(a, feature), value(b, feature)],
            contributions: [*first, *second],
            more: second - first,
            reason: schema.entry(feature).reason,
        })
        .collect();
    differences.sort_by(|a, b| b.more.abs().total_cmp(&a.more.abs()));
    differences
}
