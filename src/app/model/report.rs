//! The figures of an evaluation as a person reads them.

use crate::app::model::eval::Evaluated;
use crate::app::model::figures::Attackers;
use crate::app::model::figures::KindFigures;
use crate::app::model::figures::Rate;
use crate::domain::printable;
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write;

/// Writes the report.
pub(super) fn report(evaluated: &Evaluated) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let model = &evaluated.model;
    writeln!(
        out,
        "model     {} ({}), {}",
        model.version,
        short(&model.digest),
        model.evaluator
    )?;
    writeln!(
        out,
        "policy    {}: medium from {}, high from {}",
        evaluated.policy.version, evaluated.policy.medium, evaluated.policy.high
    )?;
    writeln!(
        out,
        "events    {} ({} before --from, {} bad records passed over)",
        evaluated.events, evaluated.warmed, evaluated.skipped
    )?;
    writeln!(
        out,
        "speed     {:.0} events/s, {:.1} s",
        evaluated.events_per_second, evaluated.seconds
    )?;
    writeln!(
        out,
        "state     {} entries, {:.1} MiB, {} users: {:.0} bytes per user",
        evaluated.state.entries,
        evaluated.state.bytes as f64 / (1024.0 * 1024.0),
        evaluated.state.users,
        evaluated.state.bytes as f64 / (evaluated.state.users.max(1) as f64)
    )?;
    for (kind, figures) in &evaluated.kinds {
        writeln!(out)?;
        of_kind(&mut out, kind, figures)?;
    }
    Ok(out)
}

fn of_kind(out: &mut String, kind: &str, figures: &KindFigures) -> fmt::Result {
    writeln!(
        out,
        "{kind}: {} events, {} legitimate and {} attacks with a score, {} without",
        figures.events, figures.good, figures.all.events, figures.unscored
    )?;
    writeln!(
        out,
        "  legitimate events challenged: {}",
        percent(&figures.challenged)
    )?;
    rates(
        out,
        "by confirmed logins before",
        &figures.challenged_by_logins,
    )?;
    rates(out, "by cohort", &figures.challenged_by_cohort)?;
    writeln!(
        out,
        "  calibration error {}, Brier score {}",
        number(figures.calibration_error, 4),
        number(figures.brier, 4)
    )?;
    if figures.all.events > 0 {
        attackers(out, figures)?;
    }
    verdicts(out, &figures.verdicts)
}

fn attackers(out: &mut String, figures: &KindFigures) -> fmt::Result {
    writeln!(
        out,
        "\n  caught in % (95 % interval) where legitimate events are challenged at 1 %, at 0.1 %, and those of users with\n  \
         at least 5 logins at 2 % (probability above {}, {}, {})",
        threshold(figures.thresholds.one_percent),
        threshold(figures.thresholds.one_permille),
        threshold(figures.thresholds.established_two_percent)
    )?;
    writeln!(
        out,
        "  {:<18} {:>8} {:>9} {:>7} {:>7}  {:<21} {:<21} {:<21}",
        "attacker",
        "events",
        "campaigns",
        "AUC",
        "PR-AUC",
        "at 1 %",
        "at 0.1 %",
        "at 2 % of >= 5 logins"
    )?;
    let all = std::iter::once(("all", &figures.all));
    let each = figures
        .attackers
        .iter()
        .map(|(name, of)| (name.as_str(), of));
    for (
        name,
        Attackers {
            events,
            groups,
            auc,
            pr_auc,
            at_one_percent,
            at_one_permille,
            at_established_two_percent,
            ..
        },
    ) in all.chain(each)
    {
        writeln!(
            out,
            "  {:<18} {events:>8} {groups:>9} {:>7} {:>7}  {:<21} {:<21} {:<21}",
            shown(name),
            number(*auc, 4),
            number(*pr_auc, 4),
            percent(at_one_percent),
            percent(at_one_permille),
            percent(at_established_two_percent)
        )?;
    }
    Ok(())
}

fn rates(out: &mut String, title: &str, rates: &BTreeMap<String, Rate>) -> fmt::Result {
    let there: Vec<_> = rates.iter().filter(|(_, rate)| rate.of > 0).collect();
    if there.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {title}:")?;
    for (name, rate) in there {
        writeln!(
            out,
            "    {:<18} {:>8}  {}",
            shown(name),
            rate.of,
            percent(rate)
        )?;
    }
    Ok(())
}

fn verdicts(
    out: &mut String,
    verdicts: &BTreeMap<String, BTreeMap<&'static str, u64>>,
) -> fmt::Result {
    const WORDS: [&str; 6] = [
        "allow",
        "step_up",
        "review",
        "block",
        "refused",
        "unreached",
    ];
    writeln!(
        out,
        "\n  {:<18} {}",
        "verdicts",
        WORDS.map(|word| format!("{word:>9}")).join(" ")
    )?;
    for (name, counts) in verdicts {
        let counts = WORDS.map(|word| format!("{:>9}", counts.get(word).copied().unwrap_or(0)));
        writeln!(out, "  {:<18} {}", shown(name), counts.join(" "))?;
    }
    Ok(())
}

/// `12.3 (11.9-12.8)`.
fn percent(rate: &Rate) -> String {
    match (rate.rate, rate.interval) {
        (Some(rate), Some((low, high))) => format!(
            "{:.2} ({:.2}-{:.2})",
            rate * 100.0,
            low * 100.0,
            high * 100.0
        ),
        _ => "-".to_owned(),
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn threshold(value: Option<f32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A name of the file, cut and without anything that a terminal could act on.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 32;
    let plain = |c: char| if printable::acts(c) { '\u{fffd}' } else { c };
    name.chars().take(CHARS_MAX).map(plain).collect()
}
