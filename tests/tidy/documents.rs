//! The documentation points at things that exist: files, headings, `make` targets, flags; and the architecture page
//! names every module.

use crate::files::Source;
use crate::files::nothing;
use crate::files::production;
use crate::files::read;
use crate::files::root;
use crate::files::sources;
use regex::Regex;
use riskgate::config::overrides::Overrides;
use std::collections::BTreeSet;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

/// The longest architecture page, in lines: one page.
const ARCHITECTURE_LINES_MAX: usize = 160;

/// The parts that a decision record has.
const ADR_PARTS: [&str; 4] = [
    "## Context",
    "## Decision",
    "## Alternatives",
    "## Consequences",
];

fn pages() -> Vec<Source> {
    sources("", &[".md"])
}

/// `a/b/../c` without the detour.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The anchors that a page's headings have on GitHub.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut findings = Vec::new();
    let mut followed = 0;
    for page in pages() {
        for found in link.captures_iter(&page.text) {
            let target = &found[1];
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                PathBuf::from(&page.path)
            } else {
                plain(
                    &Path::new(&page.path)
                        .parent()
                        .unwrap_or(Path::new(""))
                        .join(file),
                )
            };
            followed += 1;
            if !root().join(&file).exists() {
                findings.push(format!("{}: {target}", page.path));
            } else if !anchor.is_empty()
                && !anchors(&read(&file.to_string_lossy())).contains(anchor)
            {
                findings.push(format!("{}: {target} has no such heading", page.path));
            }
        }
    }
    nothing("links into nowhere", findings);
    assert!(followed > 20, "{followed} links were followed");
}

/// A page that no list names is found by nobody.
#[test]
fn the_index_names_every_page() {
    let index = read("docs/README.md");
    let is_listed = |page: &Source| {
        let path = page.path.trim_start_matches("docs/");
        // Decision records have an index of their own.
        path == "README.md"
            || (path.starts_with("adr/") && path != "adr/README.md")
            || index.contains(&format!("]({path})"))
    };
    let pages = sources("docs", &[".md"]);
    let unlisted = pages.iter().filter(|page| !is_listed(page));
    let unlisted = unlisted.map(|page| page.path.clone()).collect();
    nothing("pages that docs/README.md does not list", unlisted);
    assert!(
        pages.len() > 40 && read("README.md").contains("](docs/README.md)"),
        "{} pages",
        pages.len()
    );
}

#[test]
fn every_make_target_exists() {
    let makefile = read("Makefile");
    let rule = Regex::new(r"(?m)^([a-z][a-z-]*):").unwrap();
    let targets: BTreeSet<&str> = rule
        .captures_iter(&makefile)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    assert!(targets.contains("demo") && targets.contains("test"));
    let mention = Regex::new(r"(?m)(?:`|^\s*(?:\$ )?)make ([a-z][a-z-]*)").unwrap();
    let mut findings = Vec::new();
    for page in pages() {
        for found in mention.captures_iter(&page.text) {
            if !targets.contains(&found[1]) {
                findings.push(format!("{}: make {}", page.path, &found[1]));
            }
        }
    }
    nothing("`make` targets that do not exist", findings);
}

#[test]
fn every_flag_exists() {
    let command = <Overrides as clap::Args>::augment_args(clap::Command::new("riskgate"));
    let mut known: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect();
    known.extend(["help", "reach", "strict", "version"].map(str::to_owned));
    let call = Regex::new(r"riskgate (?:run|check)([^`\n]*)").unwrap();
    let flag = Regex::new(r"--([a-z][a-z-]*)").unwrap();
    let mut findings = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for called in call.captures_iter(&page.text) {
            for found in flag.captures_iter(&called[1]) {
                seen += 1;
                if !known.contains(&found[1]) {
                    findings.push(format!("{}: --{}", page.path, &found[1]));
                }
            }
        }
    }
    nothing("flags that `riskgate` does not have", findings);
    assert!(seen > 3, "{seen} flags were checked");

    let readme = read("README.md");
    let missing = known
        .iter()
        .filter(|flag| !matches!(flag.as_str(), "help" | "version"))
        .filter(|flag| !readme.contains(&format!("--{flag}")))
        .cloned()
        .collect();
    nothing("flags that README.md does not name", missing);
}

#[test]
fn files_that_documents_name_exist() {
    let named = Regex::new(
        r"`((?:src|conf|docs|tests|benches|scripts|training|examples|certs|fuzz|wso2-sim)/[\w./-]*\w/?)`",
    )
    .unwrap();
    let mut findings = Vec::new();
    for page in pages() {
        // What a fresh clone does not have is named on purpose where it is made.
        let own = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        for found in named.captures_iter(&page.text) {
            let path = &found[1];
            let exists = root().join(path).exists() || root().join(own).join(path).exists();
            if !exists && !MADE.contains(&path) {
                findings.push(format!("{}: `{path}`", page.path));
            }
        }
    }
    nothing("files that do not exist", findings);
}

/// Files that documents name and that somebody makes.
const MADE: [&str; 5] = [
    "certs/dev-ca.crt",
    "certs/server.crt",
    "training/.cache/",
    "training/.venv",
    "training/.venv/bin/python",
];

#[test]
fn the_architecture_page_names_every_module_and_is_one_page() {
    let page = read("docs/ARCHITECTURE.md");
    let lines = page.lines().count();
    assert!(
        lines <= ARCHITECTURE_LINES_MAX,
        "{lines} lines, expected at most {ARCHITECTURE_LINES_MAX}"
    );
    let missing: BTreeSet<String> = production()
        .iter()
        .filter_map(|source| {
            let mut parts = source.path.strip_prefix("src/")?.split('/');
            let layer = parts.next()?;
            let module = parts.next()?.trim_end_matches(".rs");
            (module != "mod").then(|| format!("{layer}/{module}"))
        })
        .filter(|module| {
            !page.contains(&format!("`src/{module}.rs`"))
                && !page.contains(&format!("`src/{module}/`"))
        })
        .collect();
    nothing(
        "modules that docs/ARCHITECTURE.md does not name",
        missing.into_iter().collect(),
    );
}

#[test]
fn decision_records_are_numbered_and_whole() {
    let mut records: Vec<Source> = sources("docs/adr", &[".md"])
        .into_iter()
        .filter(|page| !page.path.ends_with("README.md"))
        .collect();
    records.sort_by(|a, b| a.path.cmp(&b.path));
    let index = read("docs/adr/README.md");
    for (number, record) in (1..).zip(&records) {
        let name = record.path.trim_start_matches("docs/adr/");
        assert!(
            name.starts_with(&format!("{number:04}-")),
            "{name}: expected number {number:04}"
        );
        assert!(
            record.text.starts_with(&format!("# {number:04}. ")),
            "{name}: expected its number in the title"
        );
        let mut from = 0;
        for part in ADR_PARTS {
            let at = record.text[from..].find(part);
            assert!(at.is_some(), "{name}: `{part}` is missing or out of order");
            from += at.unwrap_or_default();
        }
        assert!(
            record.text.lines().count() <= 80,
            "{name}: longer than a page"
        );
        assert!(
            index.contains(&format!("({name})")),
            "{name} is not in the index"
        );
    }
    assert!(records.len() >= 9);
}

/// A row of the page on threats and faults is only as good as its tests: each that is named is there.
#[test]
fn every_test_that_is_named_exists() {
    let mut code = String::new();
    for folder in ["src", "tests"] {
        for source in sources(folder, &[".rs"]) {
            code += &source.text;
        }
    }
    let page = read("docs/SECURITY-TESTS.md");
    let id = Regex::new(r"(?m)^\| ([A-Z]+[0-9]+) \|").unwrap();
    let mut ids = BTreeSet::new();
    let rows = id.captures_iter(&page).map(|found| found[1].to_owned());
    let twice = rows.filter(|id| !ids.insert(id.clone())).collect();
    nothing("ids that two rows of the page have", twice);
    assert!(ids.len() > 60, "{} rows have an id", ids.len());
    // Commands and paths have blanks, slashes or dots in them; one word without `_` is none.
    let name = Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`").unwrap();
    let named: BTreeSet<&str> = name
        .captures_iter(&page)
        .map(|found| found.get(1).unwrap().as_str())
        .collect();
    // A macro makes two tests of one name, so a name counts wherever it stands as a word.
    let word = Regex::new(r"[a-z0-9_]+").unwrap();
    let words: BTreeSet<&str> = word.find_iter(&code).map(|found| found.as_str()).collect();
    let is_there = |test: &str| words.contains(test);
    let missing = named.iter().filter(|test| !is_there(test));
    let missing: Vec<String> = missing.map(|test| (*test).to_owned()).collect();
    nothing("tests that the page names and that do not exist", missing);
    assert!(named.len() > 80, "{} tests are named", named.len());
}
