//! The reference pages of words that others read: fields of conditions, headers, codes of refused requests.

use crate::files::nothing;
use crate::files::read;
use crate::files::sources;
use regex::Regex;
use riskgate::domain::enforcement::RejectionKind;
use riskgate::domain::enforcement::rejection;
use riskgate::domain::headers;
use riskgate::domain::policy::vocabulary;
use riskgate::domain::policy::vocabulary::Field;
use riskgate::domain::risk_claims::RISK_CLAIMS;
use riskgate::domain::route::Door;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The cells of the rows of a section whose first cell is in backticks.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no heading `{heading}`"));
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<Vec<String>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "{heading}");
    rows
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<String> {
    let quoted = Regex::new("`([^`]+)`").unwrap();
    let found = quoted.captures_iter(text);
    found.map(|found| found[1].to_owned()).collect()
}

#[test]
fn conditions_ask_for_what_the_page_says() {
    let page = read("docs/reference/policy.md");
    let rows = rows(&page, "Fields");
    let named: Vec<String> = rows.iter().map(|row| quoted(&row[0]).remove(0)).collect();
    assert_eq!(named, vocabulary::names());
    let mut wrong = Vec::new();
    for (name, row) in named.iter().zip(&rows) {
        let (root, rest) = name.split_once('.').unwrap();
        let field = Field::find(root, rest).unwrap();
        let (kind, values) = match field {
            Field::Address => ("address", None),
            Field::Bool(_) => ("true or false", None),
            Field::Int(_) => ("number", None),
            Field::Reasons => ("list of texts", None),
            Field::Text(text) => ("text", text.values()),
        };
        let said: BTreeSet<String> = quoted(&row[2]).into_iter().collect();
        let values = values.map(|values| {
            let values = values.into_iter().filter(|value| !value.is_empty());
            values.map(str::to_owned).collect::<BTreeSet<_>>()
        });
        if row[1] != kind || values.is_some_and(|values| values != said) {
            wrong.push(format!("{name}: {row:?}"));
        }
    }
    nothing("fields of conditions", wrong);
}

#[test]
fn headers_are_those_of_the_page() {
    let page = read("docs/reference/headers.md");
    let sent: Vec<String> = rows(&page, "To WSO2 and to API routes")
        .iter()
        .map(|row| quoted(&row[0]).remove(0))
        .collect();
    let known: BTreeSet<String> = headers::RISK_HEADERS.map(str::to_owned).into();
    assert_eq!(sent.iter().cloned().collect::<BTreeSet<_>>(), known);

    let source = read("src/domain/headers.rs");
    let list = |name: &str, end: &str| -> BTreeSet<String> {
        let list = Regex::new(&format!(r"(?s)\nconst {name}: \[&str; \d+\] = \[(.*?)\];")).unwrap();
        let body = list.captures(&source).expect("a list")[1].to_owned();
        let entry = Regex::new("\"([a-z0-9-]+)\"").unwrap();
        let found = entry.captures_iter(&body);
        found.map(|found| format!("{}{end}", &found[1])).collect()
    };
    let mut removed = list("NAMES", "");
    removed.extend(list("PREFIXES", "*"));
    let said: BTreeSet<String> = rows(&page, "Taken away")
        .iter()
        .flat_map(|row| quoted(&row[0]))
        .collect();
    let differing = said.symmetric_difference(&removed).cloned().collect();
    nothing(
        "docs/reference/headers.md and src/domain/headers.rs differ",
        differing,
    );
}

/// The codes of refusals in the code, with their status where it stands beside them.
fn refusals() -> BTreeMap<String, BTreeSet<u16>> {
    let refusal =
        Regex::new(r#"Refusal::(?:new|closing)\(\s*(\d+),\s*("[a-z_]+"|[A-Z_]+),"#).unwrap();
    let constant = Regex::new(r#"const ([A-Z_]+): &str = "([a-z_]+)";"#).unwrap();
    let mut found: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for source in sources("src", &["rs"]) {
        let text = source
            .text
            .split("\nmod tests {")
            .next()
            .unwrap()
            .to_owned();
        let constants: BTreeMap<_, _> = constant
            .captures_iter(&text)
            .map(|found| (found[1].to_owned(), found[2].to_owned()))
            .collect();
        for one in refusal.captures_iter(&text) {
            let code = one[2].trim_matches('"');
            let code = constants.get(code).map_or(code, String::as_str).to_owned();
            found
                .entry(code)
                .or_default()
                .insert(one[1].parse().unwrap());
        }
    }
    let arm = Regex::new(r#"Self::[A-Za-z0-9]+(?:\(_\))? => "([a-z0-9_]+)","#).unwrap();
    for file in ["src/domain/target.rs", "src/domain/parameters/error.rs"] {
        for code in arm.captures_iter(&read(file)) {
            found.entry(code[1].to_owned()).or_default();
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

#[test]
fn errors_are_those_of_the_page() {
    let page = read("docs/reference/errors.md");
    let mut said = BTreeMap::new();
    for heading in [
        "The target",
        "The head",
        "The body and its parameters",
        "What was asked for",
    ] {
        for row in rows(&page, heading) {
            let statuses = row[1].split(" or ").map(|status| status.parse().unwrap());
            said.insert(
                quoted(&row[0]).remove(0),
                statuses.collect::<BTreeSet<u16>>(),
            );
        }
    }
    let mut wrong = Vec::new();
    let known = refusals();
    for code in said.keys().filter(|code| !known.contains_key(*code)) {
        wrong.push(format!("`{code}` is not in the code"));
    }
    for (code, statuses) in &known {
        match said.get(code) {
            None => wrong.push(format!("`{code}` is not on the page")),
            Some(said) if !statuses.is_subset(said) => {
                wrong.push(format!(
                    "`{code}`: {statuses:?} in the code, {said:?} on the page"
                ));
            }
            Some(_) => {}
        }
    }
    nothing("docs/reference/errors.md", wrong);
}

#[test]
fn failures_are_those_of_the_page() {
    let page = read("docs/reference/errors.md");
    let said: BTreeSet<String> = rows(&page, "Failures on the way")
        .iter()
        .map(|row| quoted(&row[0]).remove(0))
        .collect();
    let source = read("src/proxy/rescue.rs");
    let source = source.split("\nmod tests {").next().unwrap();
    let kind =
        Regex::new(r#"Fault::[A-Za-z]+, [^,()]+, "([a-z_]+)"\)|const [A-Z]+: &str = "([a-z_]+)";"#)
            .unwrap();
    let known: BTreeSet<String> = kind
        .captures_iter(source)
        .map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned())
        .collect();
    assert_eq!(said, known);
}

/// The statuses of what a decision refuses, by the form in which the clients of a door read errors.
#[test]
fn refusals_of_decisions_are_those_of_the_page() {
    let page = read("docs/reference/errors.md");
    let (_, section) = page.split_once("\n## What a decision refuses\n").unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let kinds: [&[RejectionKind]; 7] = [
        &[RejectionKind::Blocked, RejectionKind::GrantRefused],
        &[
            RejectionKind::StepUpByAuthorization,
            RejectionKind::StepUpHidden,
            RejectionKind::StepUpLooped,
        ],
        &[RejectionKind::StepUpImpossible],
        &[RejectionKind::StepUpDenied],
        &[RejectionKind::Held],
        &[RejectionKind::ReviewFull],
        &[
            RejectionKind::RateLimited,
            RejectionKind::ChallengesExhausted,
        ],
    ];
    assert_eq!(rows.len(), kinds.len());
    let mut wrong = Vec::new();
    for (row, kinds) in rows.iter().zip(kinds) {
        for kind in kinds {
            for (door, said) in [Door::Login, Door::Token, Door::Basic]
                .into_iter()
                .zip(&row[1..])
            {
                let status = rejection(door, *kind, None).status.to_string();
                if *said != "none" && !said.starts_with(&status) {
                    wrong.push(format!("{kind:?} at {door:?} is {status}: {row:?}"));
                }
            }
        }
    }
    nothing("docs/reference/errors.md", wrong);
}

#[test]
fn claims_are_those_of_the_page() {
    let page = read("docs/reference/claims.md");
    let names = |heading: &str| -> BTreeSet<String> {
        let rows = rows(&page, heading);
        rows.iter().map(|row| quoted(&row[0]).remove(0)).collect()
    };
    let of_risk: BTreeSet<String> = RISK_CLAIMS.map(str::to_owned).into();
    assert_eq!(names("Of the risk"), of_risk);
    let source = read("src/domain/resource/assertion.rs");
    let source = source.split("#[cfg(test)]").next().unwrap();
    let added = Regex::new(r#"add\("([a-z_]+)""#).unwrap();
    let added = added.captures_iter(source).map(|found| found[1].to_owned());
    assert_eq!(names("In an assertion"), added.collect());
}
