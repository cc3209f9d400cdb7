//! The report as one page: no script, no other file, nothing fetched.

use crate::app::RunError;
use crate::app::rerun::charts;
use crate::app::rerun::charts::Pair;
use crate::app::rerun::charts::Unit;
use crate::app::rerun::report::Counts;
use crate::app::rerun::report::People;
use crate::app::rerun::report::Report;
use crate::app::rerun::report::Row;
use crate::app::rerun::text::percent;
use crate::domain::policy::decision::Verdict;
use crate::domain::printable;

/// Pairs of bars in one chart.
const BARS: usize = 12;
/// What the page may do, wherever it is opened from.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
base-uri 'none'; form-action 'none'\">\n";
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;\
color:#22262e;background:#fff}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}\
th,td{padding:.2em .8em;text-align:right;border-bottom:1px solid #d5d9e0}th:first-child,td:first-child{text-align:left}\
th,td{max-width:24em;overflow-wrap:anywhere;overflow:clip}svg{max-width:100%;height:auto}.bad{color:#a40000;font-weight:bold}code{font-size:.9em}";

/// Writes the page.
pub(super) fn html(report: &Report) -> Result<String, RunError> {
    let mut page =
        String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n");
    page.push_str(POLICY);
    page.push_str("<title>riskgate replay</title>\n<style>");
    page.push_str(STYLE);
    page.push_str("</style>\n</head>\n<body>\n<h1>What would have been</h1>\n");
    head(&mut page, report);

    let chart = |svg: Result<String, String>| {
        svg.map_err(|error| RunError::System(format!("a chart cannot be drawn: {error}")))
    };
    title(&mut page, "Verdicts");
    page.push_str(&chart(charts::list(&verdicts(&report.all), Unit::Count))?);
    changes(&mut page, report);
    title(&mut page, "Who would be locked out");
    locked_out(&mut page, report);
    if report.has_labels {
        title(&mut page, "Against labels: share that is challenged");
        let pairs = [
            ("attacks", &report.labels.attacks),
            ("legitimate", &report.labels.legitimate),
        ]
        .map(|(name, counts)| challenged(name, counts));
        page.push_str(&chart(charts::list(&pairs, Unit::Share))?);
    }
    title(&mut page, "Scores");
    let scores = report.scores.from.iter();
    let scores = scores.zip(report.scores.before.iter().zip(&report.scores.after));
    let scores: Vec<Pair> = scores
        .map(|(from, (before, after))| Pair {
            label: from.to_string(),
            before: *before as f64,
            after: *after as f64,
        })
        .collect();
    page.push_str(&chart(charts::row(&scores, 2, Unit::Count))?);
    title(&mut page, "Share that is challenged, over time (UTC)");
    let times: Vec<Pair> = report
        .times
        .iter()
        .map(|row| challenged(row.from.get(5..).unwrap_or(&row.from), &row.counts))
        .collect();
    let every = times.len().div_ceil(6);
    page.push_str(&chart(charts::row(&times, every, Unit::Share))?);
    let tables: [(&str, &[Row]); 6] = [
        ("Application", &report.applications),
        ("Country", &report.countries),
        ("Kind of request", &report.kinds),
        ("Door", &report.doors),
        ("Group of users", &report.groups),
        ("Tenant", &report.tenants),
    ];
    for (name, rows) in tables {
        title(&mut page, &format!("By {}", name.to_lowercase()));
        let pairs = rows.iter().take(BARS);
        let pairs: Vec<Pair> = pairs
            .map(|row| challenged(&row.name, &row.counts))
            .collect();
        page.push_str(&chart(charts::list(&pairs, Unit::Share))?);
        table(&mut page, name, rows);
    }
    rules(&mut page, report);
    examples(&mut page, report);
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn verdicts(counts: &Counts) -> Vec<Pair> {
    let each = Verdict::ALL.iter().zip(counts.before).zip(counts.after);
    each.map(|((verdict, before), after)| Pair {
        label: verdict.as_str().to_owned(),
        before: before as f64,
        after: after as f64,
    })
    .collect()
}

fn challenged(name: &str, counts: &Counts) -> Pair {
    Pair {
        label: name.to_owned(),
        before: counts.challenge_rate_before,
        after: counts.challenge_rate_after,
    }
}

fn head(page: &mut String, report: &Report) {
    let model = report.model.as_deref().unwrap_or("the recorded scores");
    let mut rows = vec![
        (
            "Draft",
            format!("{} (version {})", report.draft, report.policy),
        ),
        ("Scores", model.to_owned()),
        ("Records", report.records.to_string()),
        ("Decisions given again", report.replayed.to_string()),
        (
            "Challenge rate",
            format!(
                "{} recorded, {} replayed",
                percent(report.all.challenge_rate_before),
                percent(report.all.challenge_rate_after)
            ),
        ),
        ("Policy was not asked", report.not_decided.to_string()),
        ("Broken lines", report.broken.to_string()),
    ];
    if let Some([first, last]) = &report.hours {
        rows.insert(2, ("Hours (UTC)", format!("{first} to {last}")));
    }
    let left_out = report.left_out.iter();
    rows.extend(left_out.map(|one| ("Left out", format!("{}: {}", one.count, one.why))));
    let warnings = report.warnings.iter();
    rows.extend(warnings.map(|warning| ("Warning", warning.clone())));
    if report.same > 0 {
        let said = format!(
            "{} decisions, {} come out another",
            report.same, report.not_reproduced
        );
        rows.push(("Of this very policy", said));
    }
    page.push_str("<table>\n");
    for (name, value) in rows {
        let bad = report.not_reproduced > 0 && name == "Of this very policy";
        let class = if bad { " class=\"bad\"" } else { "" };
        let value = escaped(&value);
        page.push_str(&format!(
            "<tr><td>{name}</td><td{class}>{value}</td></tr>\n"
        ));
    }
    page.push_str("</table>\n");
}

fn changes(page: &mut String, report: &Report) {
    if report.changes.is_empty() {
        page.push_str("<p>No verdict changes.</p>\n");
        return;
    }
    page.push_str("<table>\n<tr><th>Recorded</th><th>Replayed</th><th>Decisions</th></tr>\n");
    for change in &report.changes {
        page.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            change.before, change.after, change.count
        ));
    }
    page.push_str("</table>\n");
}

fn locked_out(page: &mut String, report: &Report) {
    let found = &report.locked_out;
    let lists: [(&str, &People, bool); 4] = [
        (
            "Break-glass accounts that do not get in",
            &found.break_glass,
            true,
        ),
        ("Operators who do not get in", &found.operators, true),
        (
            "Users asked for a second factor who were not, and of whom none was seen in these records",
            &found.without_factor,
            false,
        ),
        ("Users refused or held who were not", &found.refused, false),
    ];
    for (name, people, is_bad) in lists {
        let class = if is_bad && people.count > 0 {
            " class=\"bad\""
        } else {
            ""
        };
        page.push_str(&format!("<p{class}>{}: {name}</p>\n", people.count));
        if people.listed.is_empty() {
            continue;
        }
        page.push_str(
            "<table>\n<tr><th>User (a pseudonym)</th><th>Requests</th><th>Asked</th><th>Refused</th></tr>\n",
        );
        for one in &people.listed {
            page.push_str(&format!(
                "<tr><td><code>{}</code></td><td>{}</td><td>{} &rarr; {}</td><td>{} &rarr; {}</td></tr>\n",
                escaped(&one.subject),
                one.requests,
                one.asked[0],
                one.asked[1],
                one.refused[0],
                one.refused[1]
            ));
        }
        page.push_str("</table>\n");
    }
}

fn table(page: &mut String, name: &str, rows: &[Row]) {
    page.push_str(&format!(
        "<table>\n<tr><th>{name}</th><th>Decisions</th><th>Challenged before</th><th>after</th><th>Stricter</th><th>Milder</th></tr>\n"
    ));
    for row in rows {
        let counts = &row.counts;
        page.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escaped(&row.name),
            counts.total,
            percent(counts.challenge_rate_before),
            percent(counts.challenge_rate_after),
            counts.stricter,
            counts.milder
        ));
    }
    page.push_str("</table>\n");
}

fn rules(page: &mut String, report: &Report) {
    title(page, "What spoke");
    page.push_str("<table>\n<tr><th>Rule or default</th><th>Recorded</th><th>Replayed</th></tr>\n");
    for rule in &report.rules {
        page.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escaped(&rule.name),
            rule.before,
            rule.after
        ));
    }
    page.push_str("</table>\n");
}

fn examples(page: &mut String, report: &Report) {
    if report.examples.is_empty() {
        return;
    }
    title(page, "Some that change");
    page.push_str(
        "<table>\n<tr><th>Decision</th><th>Application</th><th>Score</th><th>Recorded</th><th>Replayed</th><th>By</th></tr>\n",
    );
    for one in &report.examples {
        let score = |score: Option<u8>| score.map_or_else(|| "none".to_owned(), |s| s.to_string());
        page.push_str(&format!(
            "<tr><td><code>{}</code></td><td>{}</td><td>{} &rarr; {}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            escaped(&one.id),
            escaped(&one.application),
            score(one.score[0]),
            score(one.score[1]),
            one.before,
            one.after,
            escaped(&one.matched)
        ));
    }
    page.push_str("</table>\n");
}

fn title(page: &mut String, text: &str) {
    page.push_str(&format!("<h2>{text}</h2>\n"));
}

/// A text that may hold anything, as text of a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable::plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
