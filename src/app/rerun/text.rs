//! The report in words, for a terminal.

use crate::app::rerun::report::Counts;
use crate::app::rerun::report::People;
use crate::app::rerun::report::Report;
use crate::app::rerun::report::Row;
use crate::domain::policy::decision::Verdict;
use crate::domain::printable;
use crate::domain::printable::plain;
use std::fmt;
use std::fmt::Write;

/// Rows of a table in the text; the JSON has more.
const ROWS: usize = 10;
/// People of a list in the text.
const LISTED: usize = 5;

/// Writes the report.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a text cannot fail.
    write(&mut out, report).map_or_else(|_| String::new(), |()| printable::lines(&out).into_owned())
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(
        out,
        "draft      {} (version {})",
        report.draft, report.policy
    )?;
    match &report.model {
        Some(model) => writeln!(out, "model      {model}, in place of the recorded scores")?,
        None => writeln!(out, "model      none: the recorded scores")?,
    }
    for warning in &report.warnings {
        writeln!(out, "warning    {}", plain(warning))?;
    }
    let cut = if report.is_cut {
        ", only the end of it"
    } else {
        ""
    };
    writeln!(
        out,
        "log        {} records in {} files{cut}",
        report.records, report.files
    )?;
    if let Some([first, last]) = &report.hours {
        writeln!(out, "           from {first} to {last} (UTC, hours)")?;
    }
    writeln!(
        out,
        "speed      {:.1} s, {:.0} records a minute",
        report.seconds, report.records_per_minute
    )?;
    left_out(out, report)?;

    writeln!(out)?;
    let all = &report.all;
    writeln!(out, "{} decisions were given again", report.replayed)?;
    verdicts(out, all)?;
    writeln!(
        out,
        "  challenge rate   {} before, {} after",
        percent(all.challenge_rate_before),
        percent(all.challenge_rate_after)
    )?;
    if report.changes.is_empty() {
        writeln!(out, "  no verdict changes")?;
    }
    for change in &report.changes {
        writeln!(
            out,
            "  {:<8} -> {:<8} {:>10}",
            change.before, change.after, change.count
        )?;
    }
    if report.same > 0 {
        writeln!(
            out,
            "  {} of them were of this very policy: {} come out another",
            report.same, report.not_reproduced
        )?;
    }
    if report.not_reproduced > 0 {
        writeln!(
            out,
            "  THAT MUST NOT BE: the records were changed, or this version decides differently"
        )?;
    }
    people(out, report)?;
    labels(out, report)?;
    let tables: [(&str, &[Row]); 6] = [
        ("application", &report.applications),
        ("country", &report.countries),
        ("kind", &report.kinds),
        ("door", &report.doors),
        ("group", &report.groups),
        ("tenant", &report.tenants),
    ];
    for (name, rows) in tables {
        table(out, name, rows)?;
    }
    rules(out, report)?;
    examples(out, report)
}

fn left_out(out: &mut String, report: &Report) -> fmt::Result {
    if report.broken > 0 {
        let first = plain(report.first_broken.as_deref().unwrap_or("too long"));
        writeln!(out, "broken     {} lines: {first}", report.broken)?;
    }
    writeln!(
        out,
        "not asked  {}: policy was not asked about these requests",
        report.not_decided
    )?;
    if report.earlier > 0 {
        writeln!(out, "earlier    {}: before --from", report.earlier)?;
    }
    for one in &report.left_out {
        writeln!(out, "left out   {}: {}", one.count, one.why)?;
    }
    if !report.names_told {
        writeln!(
            out,
            "names      cannot be found among pseudonyms: the secret of the deployment is not at hand"
        )?;
    }
    Ok(())
}

fn verdicts(out: &mut String, counts: &Counts) -> fmt::Result {
    let each = Verdict::ALL.iter().zip(counts.before).zip(counts.after);
    for ((verdict, before), after) in each {
        writeln!(
            out,
            "  {:<8} {before:>10} before {after:>10} after",
            verdict.as_str()
        )?;
    }
    Ok(())
}

fn people(out: &mut String, report: &Report) -> fmt::Result {
    let locked_out = &report.locked_out;
    let lists: [(&str, &People); 4] = [
        (
            "break-glass accounts that do not get in",
            &locked_out.break_glass,
        ),
        ("operators who do not get in", &locked_out.operators),
        (
            "users asked for a second factor who were not, and of whom none was seen",
            &locked_out.without_factor,
        ),
        ("users refused or held who were not", &locked_out.refused),
    ];
    writeln!(out)?;
    writeln!(out, "who would be locked out")?;
    for (name, people) in lists {
        writeln!(out, "  {:>8}  {name}", people.count)?;
        for one in people.listed.iter().take(LISTED) {
            writeln!(
                out,
                "            {}  {} requests: asked {} -> {}, refused {} -> {}",
                plain(&one.subject),
                one.requests,
                one.asked[0],
                one.asked[1],
                one.refused[0],
                one.refused[1]
            )?;
        }
    }
    Ok(())
}

fn labels(out: &mut String, report: &Report) -> fmt::Result {
    if !report.has_labels {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "against labels")?;
    for (name, counts) in [
        ("attacks", &report.labels.attacks),
        ("legitimate", &report.labels.legitimate),
    ] {
        writeln!(
            out,
            "  {:<10} {:>8}: challenged {} before, {} after",
            name,
            counts.total,
            percent(counts.challenge_rate_before),
            percent(counts.challenge_rate_after)
        )?;
    }
    Ok(())
}

fn table(out: &mut String, name: &str, rows: &[Row]) -> fmt::Result {
    writeln!(out)?;
    writeln!(
        out,
        "{name:<32} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "decisions", "before", "after", "stricter", "milder"
    )?;
    for row in rows.iter().take(ROWS) {
        let counts = &row.counts;
        writeln!(
            out,
            "{:<32} {:>9} {:>9} {:>9} {:>9} {:>9}",
            plain(&row.name),
            counts.total,
            percent(counts.challenge_rate_before),
            percent(counts.challenge_rate_after),
            counts.stricter,
            counts.milder
        )?;
    }
    if rows.len() > ROWS {
        writeln!(out, "(more in --json and --html)")?;
    }
    Ok(())
}

fn rules(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out)?;
    writeln!(out, "{:<32} {:>9} {:>9}", "what spoke", "before", "after")?;
    for rule in &report.rules {
        writeln!(
            out,
            "{:<32} {:>9} {:>9}",
            plain(&rule.name),
            rule.before,
            rule.after
        )?;
    }
    Ok(())
}

fn examples(out: &mut String, report: &Report) -> fmt::Result {
    if report.examples.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "some that change (riskgate explain ID tells more)")?;
    for one in report.examples.iter().take(ROWS) {
        let score = |score: Option<u8>| score.map_or_else(|| "none".to_owned(), |s| s.to_string());
        writeln!(
            out,
            "  {}  score {} -> {}  {} -> {}  by {}",
            one.id,
            score(one.score[0]),
            score(one.score[1]),
            one.before,
            one.after,
            one.matched
        )?;
    }
    Ok(())
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
