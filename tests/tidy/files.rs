//! The files that the rules look at, and the part of a Rust file that runs in production.

use regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Folders that are made or fetched and belong to nobody here.
const FOREIGN: [&str; 9] = [
    ".git",
    ".hypothesis",
    ".pytest_cache",
    ".venv",
    "__pycache__",
    "data",
    "node_modules",
    "target",
    "vendor",
];

/// A text file of the repository.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One file.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// The text files under `folder` (all when empty) with one of `endings`, sorted by path. `tests/data` counts.
pub(crate) fn sources(folder: &str, endings: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    let mut found: Vec<Source> = paths
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            endings.iter().any(|ending| name.ends_with(ending))
        })
        .filter_map(|path| {
            // What is not UTF-8 is no text.
            let text = std::fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(root()).ok()?;
            Some(Source {
                path: path.to_string_lossy().replace('\\', "/"),
                text,
            })
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no file with {endings:?} in `{folder}`");
    found
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", folder.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !path.is_dir() {
            paths.push(path);
        // `tests/data` is ours; `data` at the root is what a gateway writes.
        } else if !FOREIGN.contains(&name.as_str()) || path.ends_with("tests/data") {
            collect(&path, paths);
        }
    }
}

/// The Rust files of the gateway, each cut down to what runs in production: without comments and without tests.
pub(crate) fn production() -> &'static [Source] {
    static FILES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        sources("src", &[".rs"])
            .into_iter()
            .filter(|source| !source.path.ends_with("/tests.rs"))
            .map(|source| Source {
                text: without_tests(&source.text),
                path: source.path,
            })
            .collect()
    });
    &FILES
}

/// Every place of production code below `folder` that has the form: file and text.
pub(crate) fn places_of(form: &Regex, folder: &str) -> Vec<String> {
    let sources = production().iter();
    sources
        .filter(|source| source.path.starts_with(folder))
        .flat_map(|source| {
            let found = form.find_iter(&source.text);
            found.map(|found| format!("{}: {}", source.path, found.as_str()))
        })
        .collect()
}

/// Tests stand at the foot of a file; comments are whole lines or follow code after two spaces or one.
fn without_tests(text: &str) -> String {
    let head = text
        .split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(text);
    head.lines()
        .map(|line| {
            let code = line.split(" // ").next().unwrap_or(line);
            if code.trim_start().starts_with("//") {
                ""
            } else {
                code
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The crates that the gateway may name, as the code spells them.
pub(crate) fn dependencies() -> &'static [String] {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
        let table = manifest["dependencies"].as_table().expect("a table");
        table.keys().map(|name| name.replace('-', "_")).collect()
    });
    assert!(NAMES.len() > 10);
    &NAMES
}

/// Fails with all findings at once; a rule that is broken in ten places should say so in one run.
#[track_caller]
pub(crate) fn nothing(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

/// Fails with what only one of two lists has, or has otherwise.
#[track_caller]
pub(crate) fn same<V: PartialEq + std::fmt::Debug>(
    rule: &str,
    found: &BTreeMap<String, V>,
    expected: &BTreeMap<String, V>,
) {
    let missing = expected
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| format!("expected {key}: {value:?}, found {:?}", found.get(key)));
    let extra = found
        .keys()
        .filter(|key| !expected.contains_key(*key))
        .map(|key| format!("not expected: {key}"));
    nothing(rule, missing.chain(extra).collect());
}
