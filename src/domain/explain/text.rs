//! An explanation in sentences. Indented lines of plain text, in which nothing acts on a terminal, whatever a record says.

use crate::domain::audit::AuditEvent;
use crate::domain::audit::Word;
use crate::domain::explain::Explanation;
use crate::domain::explain::Part;
use crate::domain::explain::PolicyAtHand;
use crate::domain::explain::Recomputed;
use crate::domain::explain::WhatIf;
use crate::domain::explain::thresholds;
use crate::domain::explain::words::Language;
use crate::domain::explain::words::Words;
use crate::domain::explain::words::fill;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::decision::Verdict;
use crate::domain::policy::reason::Reason;
use crate::domain::printable;
use crate::domain::recorded::Gap;
use crate::domain::risk::RiskLevel;
use crate::domain::route::Door;

/// The width to which sentences are broken.
const WIDTH: usize = 110;
/// Where the second column begins, where there are two.
const COLUMN: usize = 13;
/// Contributions below this are put together; the JSON has them all.
const SMALL: f32 = 0.01;

/// Writes an explanation.
pub fn text(explanation: &Explanation, language: Language) -> String {
    let mut page = Page {
        words: language.words(),
        out: String::new(),
    };
    let event = &explanation.record;
    let words = page.words;
    page.line(0, &fill(words.decision, &[("id", &event.id)]));
    let seq = event.seq.to_string();
    page.line(
        1,
        &fill(words.record, &[("time", &event.time), ("seq", &seq)]),
    );
    page.asked(event);
    page.decided(explanation);
    page.why(explanation);
    page.changed(explanation);
    page.again(explanation);
    page.title(words.versions);
    page.line(1, &versions(event, words));
    page.out
}

struct Page {
    words: &'static Words,
    out: String,
}

impl Page {
    /// Writes a sentence, broken to the width. What goes on stands under what it goes on with.
    fn line(&mut self, depth: usize, text: &str) {
        self.flow("  ".repeat(depth).as_str(), hanging(text), text);
    }

    /// Writes a sentence under the second column.
    fn under(&mut self, text: &str) {
        self.flow(&" ".repeat(COLUMN + 2), 0, text);
    }

    /// Writes a row of a table as it is.
    fn row(&mut self, text: &str) {
        self.out.push_str("    ");
        self.out.push_str(printable::plain(text).trim_end());
        self.out.push('\n');
    }

    fn flow(&mut self, indent: &str, hanging: usize, text: &str) {
        let text = printable::plain(text);
        let mut line = String::from(indent);
        let mut begun = indent.len();
        for word in text.split_inclusive(' ') {
            let fits = line.chars().count() + word.trim_end().chars().count() <= WIDTH;
            if !fits && line.len() > begun {
                self.out.push_str(line.trim_end());
                self.out.push('\n');
                line = format!("{indent}{}", " ".repeat(hanging));
                begun = line.len();
            }
            line.push_str(word);
        }
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    fn title(&mut self, text: &str) {
        self.out.push('\n');
        self.line(0, text);
    }

    fn asked(&mut self, event: &AuditEvent) {
        let words = self.words;
        self.title(words.asked);
        let door = door(event).map_or("", |door| (words.door)(door));
        let values = [
            ("door", door),
            ("method", &*event.method),
            ("route", event.route.as_str()),
        ];
        self.line(1, fill(words.request, &values).trim_start());
        let tenant = event.tenant.as_deref().unwrap_or(words.unknown);
        let client = event.client_id.as_deref().unwrap_or("");
        let sentence = if client.is_empty() {
            words.no_application
        } else {
            words.application
        };
        self.line(
            1,
            &fill(sentence, &[("client", client), ("tenant", tenant)]),
        );
        if let Some(organization) = &event.organization {
            self.line(
                1,
                &fill(words.organization, &[("organization", organization)]),
            );
        }
        self.line(1, &user(event, words));
        self.line(1, &fill(words.from, &[("place", &place(event, words))]));
        let agent = [
            event.browser.as_deref(),
            event.os.as_deref(),
            event.agent_kind.as_deref(),
        ];
        let agent: Vec<&str> = agent
            .into_iter()
            .flatten()
            .filter(|text| !text.is_empty())
            .collect();
        if event.device.is_some() {
            let device = (words.device)(event.device.as_deref().unwrap_or(""));
            let agent = agent.join(", ");
            self.line(
                1,
                &fill(words.with, &[("agent", &agent), ("device", device)]),
            );
        }
    }

    fn decided(&mut self, explanation: &Explanation) {
        let words = self.words;
        let event = &explanation.record;
        self.title(words.decided);
        let Some(verdict) = verdict(event.verdict.as_deref()) else {
            self.line(1, words.nothing_decided);
            self.done(event);
            return;
        };
        let mode = mode(event).unwrap_or_default();
        let values = [
            ("verdict", verdict.as_str()),
            ("meaning", (words.verdict)(verdict)),
            ("mode", mode.as_str()),
            ("effect", (words.mode)(mode)),
        ];
        self.line(1, &fill(words.verdict_line, &values));
        self.score(event);
        let cause = event.fallback.as_deref().unwrap_or(words.unknown);
        match event.matched.as_deref().unwrap_or("") {
            "on_unscored" => self.line(1, &fill(words.by_unscored, &[("cause", cause)])),
            "default_low" | "default_medium" | "default_high" => {
                let level = event.level.as_deref().unwrap_or("");
                self.line(1, &fill(words.by_default, &[("level", level)]));
            }
            rule => {
                self.line(1, &fill(words.by_rule, &[("rule", rule)]));
                if let PolicyAtHand::Same {
                    condition: Some(condition),
                    ..
                } = &explanation.policy
                {
                    let plain: Vec<&str> = condition.split_whitespace().collect();
                    let sentence = fill(words.rule_condition, &[("condition", &plain.join(" "))]);
                    self.under(&sentence);
                }
            }
        }
        if !event.skipped_rules.is_empty() {
            let rules = event.skipped_rules.join(", ");
            self.line(1, &fill(words.skipped, &[("rules", &rules)]));
        }
        for code in &event.standing {
            self.under((words.standing)(code));
        }
        if let Some(shown) = &event.shown {
            self.under(&fill(words.shown, &[("verdict", shown)]));
        }
        self.done(event);
        if !event.reasons.is_empty() {
            self.line(1, words.reasons);
            for code in &event.reasons {
                let sentence = Reason::from_code(code).map_or("", |reason| (words.reason)(reason));
                self.row(&format!("{code:<30} {sentence}"));
            }
        }
    }

    fn score(&mut self, event: &AuditEvent) {
        let words = self.words;
        let cause = event.fallback.as_deref().unwrap_or(words.unknown);
        let Some(score) = event.score else {
            self.line(1, &fill(words.unscored_line, &[("cause", cause)]));
            return;
        };
        let score = score.to_string();
        let level = level(event).map_or("", |level| (words.level)(level));
        let mut line = fill(words.score_line, &[("score", &score), ("level", level)]);
        if let Some(thresholds) = thresholds(event) {
            let (medium, high) = (thresholds.medium.to_string(), thresholds.high.to_string());
            let values = [("medium", medium.as_str()), ("high", high.as_str())];
            line = format!("{line}: {}", fill(words.thresholds, &values));
        }
        self.line(1, &line);
        match event.source.as_deref() {
            Some("provenance") => self.under(words.from_earlier),
            Some("stateless") => self.under(&fill(words.without_history, &[("cause", cause)])),
            _ => {}
        }
    }

    fn done(&mut self, event: &AuditEvent) {
        let status = event.response_status.to_string();
        let values = [
            ("action", &*event.action),
            ("status", status.as_str()),
            ("outcome", &*event.outcome),
        ];
        self.line(1, &fill(self.words.done, &values));
        if let Some(code) = event.error.as_deref() {
            self.line(1, &fill(self.words.refused_for, &[("code", code)]));
        }
    }

    fn why(&mut self, explanation: &Explanation) {
        let words = self.words;
        let event = &explanation.record;
        let Some(score) = event.score.map(|score| score.to_string()) else {
            return;
        };
        self.title(&fill(words.why, &[("score", &score)]));
        let (Some(base), Some(logit), Some(probability)) =
            (explanation.base, explanation.logit, event.probability)
        else {
            self.line(1, words.no_parts);
            return;
        };
        self.line(1, words.why_note);
        let is_known = !matches!(
            explanation.recomputed,
            Recomputed::NoModel { .. } | Recomputed::NotNamed | Recomputed::Impossible { .. }
        );
        let sentence = if is_known {
            words.base
        } else {
            words.base_derived
        };
        self.row(&format!("{base:>+8.4}  {sentence}"));
        let parts = explanation.contributions.iter();
        let (small, large): (Vec<&Part>, Vec<&Part>) =
            parts.partition(|part| part.contribution.abs() < SMALL);
        for part in large {
            self.row(&part_line(part, &event.reasons, words));
        }
        if !small.is_empty() {
            let sum: f32 = small.iter().map(|part| part.contribution).sum();
            let (count, most) = (small.len().to_string(), SMALL.to_string());
            let values = [("count", count.as_str()), ("most", most.as_str())];
            self.row(&format!("{sum:>+8.4}  {}", fill(words.others, &values)));
        }
        let probability = probability.to_string();
        let values = [
            ("probability", probability.as_str()),
            ("score", score.as_str()),
        ];
        self.row(&format!("{logit:>+8.4}  {}", fill(words.together, &values)));
    }

    fn changed(&mut self, explanation: &Explanation) {
        let words = self.words;
        let event = &explanation.record;
        if event.score.is_none() {
            return;
        }
        self.title(words.changed);
        for other in &explanation.without {
            let line = what_if_line(other, words);
            self.line(1, &line);
        }
        let verdict = verdict(event.verdict.as_deref());
        if let Some(smallest) = &explanation.smallest {
            let supposed: Vec<&str> = smallest
                .without
                .iter()
                .map(|reason| (words.supposed)(*reason))
                .collect();
            let score = smallest.score.to_string();
            let values = [
                ("supposed", &*supposed.join(words.and)),
                ("score", score.as_str()),
                (
                    "outcome",
                    smallest
                        .verdict
                        .map_or((words.level)(smallest.level), Verdict::as_str),
                ),
            ];
            self.line(1, &fill(words.smallest, &values));
        } else if explanation.without.is_empty() {
            self.line(1, words.nothing_changes);
        } else if verdict.is_some_and(|verdict| verdict > Verdict::Allow) {
            self.line(1, words.no_smallest);
        }
        if let (Some(score), Some(thresholds)) = (event.score, thresholds(event)) {
            let next = [
                (thresholds.medium, RiskLevel::Medium),
                (thresholds.high, RiskLevel::High),
            ];
            let next = next.into_iter().find(|(begin, _)| score < *begin);
            if let Some((begin, level)) = next {
                let points = begin.saturating_sub(score).to_string();
                let values = [("points", points.as_str()), ("level", (words.level)(level))];
                self.line(1, &fill(words.to_next, &values));
            }
        }
    }

    fn again(&mut self, explanation: &Explanation) {
        let words = self.words;
        let event = &explanation.record;
        self.title(words.again);
        let sentence = recomputed_line(explanation, words);
        self.line(1, &sentence);
        if event.verdict.is_none() {
            return;
        }
        let sentence = match &explanation.policy {
            PolicyAtHand::Same {
                agrees: Some(true), ..
            } => words.policy_agrees.to_owned(),
            PolicyAtHand::Same {
                agrees: Some(false),
                ..
            } => words.policy_disagrees.to_owned(),
            PolicyAtHand::Same { agrees: None, .. } => words.policy_cannot.to_owned(),
            PolicyAtHand::Other {
                version,
                verdict: Some(verdict),
            } => fill(
                words.policy_other,
                &[("version", version), ("verdict", verdict.as_str())],
            ),
            PolicyAtHand::Other {
                version,
                verdict: None,
            } => fill(words.policy_other_cannot, &[("version", version)]),
            PolicyAtHand::Missing => words.policy_missing.to_owned(),
        };
        self.line(1, &sentence);
    }
}

fn recomputed_line(explanation: &Explanation, words: &Words) -> String {
    let event = &explanation.record;
    let model = event.model.as_deref().unwrap_or(words.unknown);
    let digest = event.model_digest.as_deref().unwrap_or(words.unknown);
    let of = |sentence: &str, file: &str, evaluator: &str, more: &[(&str, &str)]| {
        let mut values = vec![
            ("model", model),
            ("digest", digest),
            ("file", file),
            ("evaluator", evaluator),
        ];
        values.extend_from_slice(more);
        fill(sentence, &values)
    };
    match &explanation.recomputed {
        Recomputed::Same { evaluator, file } => of(words.same, file, evaluator, &[]),
        Recomputed::Close {
            evaluator,
            file,
            difference,
        } => of(
            words.close,
            file,
            evaluator,
            &[("difference", &format!("{difference:e}"))],
        ),
        Recomputed::Different {
            evaluator,
            file,
            probability,
        } => {
            let recorded = event.probability.map(|p| p.to_string()).unwrap_or_default();
            let again = probability.to_string();
            of(
                words.different,
                file,
                evaluator,
                &[("again", &again), ("recorded", &recorded)],
            )
        }
        Recomputed::NoModel { found } => {
            let sentence = of(words.no_model, "", "", &[]);
            if found.is_empty() {
                return sentence;
            }
            let found = fill(words.no_model_found, &[("found", &found.join(", "))]);
            format!("{sentence} {found}")
        }
        Recomputed::NotNamed => words.not_named.to_owned(),
        Recomputed::Impossible { gap } if *gap == Gap::OtherSchema.code() => {
            let schema = event
                .feature_schema
                .map_or_else(|| words.unknown.to_owned(), |version| version.to_string());
            fill(words.other_schema, &[("schema", &schema)])
        }
        Recomputed::Impossible { .. } => words.no_row.to_owned(),
    }
}

fn user(event: &AuditEvent, words: &Words) -> String {
    let Some(subject) = &event.subject else {
        return words.no_user.to_owned();
    };
    let mut line = fill(words.user, &[("subject", subject)]);
    let count = event.logins.to_string();
    let named = if event.named {
        words.user_named
    } else {
        words.user_presented
    };
    let logins = match event.logins {
        0 => words.no_logins.to_owned(),
        _ => fill(words.logins, &[("count", &count)]),
    };
    for said in [named, &logins] {
        line.push_str(", ");
        line.push_str(said);
    }
    if event.break_glass {
        line.push_str(", ");
        line.push_str(words.break_glass);
    }
    line
}

/// The autonomous system and who runs it.
pub(super) fn network(event: &AuditEvent) -> Option<String> {
    let asn = event.asn?;
    Some(match &event.as_org {
        Some(organization) => format!("AS{asn} {organization}"),
        None => format!("AS{asn}"),
    })
}

/// Where a request came from.
fn place(event: &AuditEvent, words: &Words) -> String {
    let parts = [
        event.prefix.clone(),
        event.country.clone(),
        network(event),
        event.network.clone().map(Word::into_owned),
    ];
    let known: Vec<String> = parts.into_iter().flatten().collect();
    if known.is_empty() {
        words.unknown_place.to_owned()
    } else {
        known.join(", ")
    }
}

fn part_line(part: &Part, reasons: &[Word], words: &Words) -> String {
    let value = part.value.map_or_else(|| words.missing.to_owned(), number);
    let named = format!("{} = {value}", part.feature);
    let reason = (words.reason)(part.reason);
    let is_reason = reasons.iter().any(|code| code == part.reason.code());
    let said = match (part.value, part.contribution > 0.0) {
        (None, _) => String::new(),
        (Some(_), true) if is_reason => reason.to_owned(),
        // Too little for a reason: what it is about, but not as if it were so.
        (Some(_), true) => format!("({})", part.reason.code()),
        (Some(_), false) => fill(words.not_so, &[("reason", reason)]),
    };
    let contribution = part.contribution;
    format!("{contribution:>+8.4}  {named:<32} {said}")
}

/// How far what goes on is set in: to the second column where the text has two, else a little.
fn hanging(text: &str) -> usize {
    let has_columns = text
        .get(..COLUMN)
        .is_some_and(|front| front.trim_end().len() + 2 <= COLUMN && !front.starts_with(' '));
    if has_columns { COLUMN } else { 2 }
}

fn what_if_line(other: &WhatIf, words: &Words) -> String {
    let supposed: Vec<&str> = other
        .without
        .iter()
        .map(|reason| (words.supposed)(*reason))
        .collect();
    let score = other.score.to_string();
    let values = [
        ("supposed", &*supposed.join(words.and)),
        ("score", score.as_str()),
        ("level", (words.level)(other.level)),
    ];
    let line = fill(words.changed_line, &values);
    match other.verdict {
        Some(verdict) => fill(
            words.changed_verdict,
            &[("line", &line), ("verdict", verdict.as_str())],
        ),
        None => line,
    }
}

fn versions(event: &AuditEvent, words: &Words) -> String {
    let of = |text: &Option<String>| text.clone().unwrap_or_else(|| words.unknown.to_owned());
    let features = event
        .feature_schema
        .map_or_else(|| words.unknown.to_owned(), |version| version.to_string());
    let values = [
        ("model", of(&event.model)),
        ("digest", of(&event.model_digest)),
        ("features", features),
        ("policy", of(&event.policy)),
        ("config", event.config.to_string()),
        ("schema", event.schema.to_string()),
    ];
    let values: Vec<(&str, &str)> = values
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    fill(words.versions_line, &values)
}

/// A value with as many digits as matter.
pub(super) fn number(value: f32) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn door(event: &AuditEvent) -> Option<Door> {
    let name = event.door.as_deref()?;
    Door::ALL.into_iter().find(|door| door.as_str() == name)
}

fn verdict(name: Option<&str>) -> Option<Verdict> {
    let name = name?;
    Verdict::ALL
        .into_iter()
        .find(|verdict| verdict.as_str() == name)
}

fn mode(event: &AuditEvent) -> Option<Mode> {
    let name = event.mode.as_deref()?;
    Mode::ALL.into_iter().find(|mode| mode.as_str() == name)
}

fn level(event: &AuditEvent) -> Option<RiskLevel> {
    let name = event.level.as_deref()?;
    let all = [RiskLevel::Low, RiskLevel::Medium, RiskLevel::High];
    all.into_iter().find(|level| level.as_str() == name)
}
