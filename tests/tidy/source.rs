//! What production code never does, and what no file of the repository holds.

use crate::files::nothing;
use crate::files::places_of;
use crate::files::production;
use crate::files::read;
use crate::files::root;
use crate::files::sources;
use regex::Regex;
use std::collections::BTreeSet;

/// The longest source file, in lines. Longer ones are hard to hold in the head.
const LINES_MAX: usize = 650;

/// Longer files, each with the reason why it is one file.
const LONG: &[(&str, &str)] = &[
    (
        "src/domain/policy/checker.rs",
        "one walk over the syntax tree of a condition: its cases need to be seen side by side",
    ),
    (
        "tests/stores/contract.rs",
        "one contract, case by case, that every store is held to",
    ),
];

/// Where a clock or chance is read outside `adapters/clock.rs` and `adapters/entropy.rs`, and why that is no decision
/// about a request.
const CLOCKS_AND_CHANCE: &[(&str, &str)] = &[
    (
        "src/adapters/embedded/janitor.rs",
        "holds the clock of the calls to the monotonic one",
    ),
    (
        "src/adapters/onnx/proof.rs",
        "measures the golden rows at load",
    ),
    (
        "src/adapters/onnx/session.rs",
        "waits for a free session until the deadline",
    ),
    (
        "src/adapters/onnx/watchdog.rs",
        "interrupts runs at their deadline",
    ),
    (
        "src/adapters/redis/link.rs",
        "spreads the attempts to connect over time",
    ),
    ("src/adapters/redis/mod.rs", "bounds one call"),
    (
        "src/app/state.rs",
        "says now and then how far a copy has come",
    ),
    (
        "src/flow/learner.rs",
        "bounds how long a batch gathers, on the runtime's clock",
    ),
    ("src/proxy/pace.rs", "bounds how long clients may take"),
    (
        "src/proxy/places.rs",
        "bounds how often all that wait are woken",
    ),
];

#[test]
fn production_code_does_not_panic_on_purpose() {
    // `unwrap_or` and its family are fine; so is the `expect` attribute of lints.
    let panics =
        Regex::new(r"\.unwrap\(\)|\.expect\(|\.expect_err\(|\.unwrap_err\(|\bpanic!|\btodo!|\bunimplemented!|\bunreachable!|\bassert(?:_eq|_ne)?!").unwrap();
    let findings = places_of(&panics, "src/");
    nothing("panics outside tests", findings);
}

#[test]
fn locks_survive_a_panic() {
    // Those of tokio have no poison either.
    let poisoned = Regex::new(r"\bstd::sync::(?:Mutex|RwLock|PoisonError)\b").unwrap();
    let findings = places_of(&poisoned, "src/");
    nothing(
        "locks that a panic leaves unusable; use parking_lot",
        findings,
    );
}

#[test]
fn time_and_chance_come_through_the_ports() {
    let reads = Regex::new(
        r"\bInstant::now\b|\bSystemTime::now\b|\brand::|\bOsRng\b|Uuid::(?:new_v4|now_v7)",
    )
    .unwrap();
    let readers: BTreeSet<String> = production()
        .iter()
        .filter(|source| reads.is_match(&source.text))
        .map(|source| source.path.clone())
        .filter(|path| path != "src/adapters/clock.rs" && path != "src/adapters/entropy.rs")
        .collect();
    let allowed: BTreeSet<String> = CLOCKS_AND_CHANCE
        .iter()
        .map(|(path, _)| (*path).to_owned())
        .collect();
    assert_eq!(readers, allowed);
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut findings = Vec::new();
    let mut needed = BTreeSet::new();
    for source in sources("", &[".rs", ".py", ".mjs", ".js", ".sh"]) {
        let lines = source.text.lines().count();
        if lines <= LINES_MAX {
            continue;
        }
        if LONG.iter().any(|(path, _)| *path == source.path) {
            needed.insert(source.path);
        } else {
            findings.push(format!(
                "{}: {lines} lines, expected at most {LINES_MAX}",
                source.path
            ));
        }
    }
    nothing("files that are too long", findings);
    for (path, _) in LONG {
        assert!(
            needed.contains(*path),
            "{path} is short enough: take it off the list"
        );
    }
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let findings = sources("", &[".rs"])
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    nothing("files without a `//!` line at their head", findings);
}

#[test]
fn redis_keys_are_named_in_one_file() {
    let key = Regex::new(r#""rg:|\brg:\{|'rg:"#).unwrap();
    let scripts = sources("src", &[".lua"]);
    let namers: Vec<&str> = production()
        .iter()
        .chain(&scripts)
        .filter(|source| key.is_match(&source.text))
        .map(|source| source.path.as_str())
        .collect();
    assert_eq!(namers, ["src/adapters/redis/keys.rs"]);
}

#[test]
fn nothing_depends_on_the_machine_that_it_was_written_on() {
    // Put together here so that this file does not hold them itself.
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("registry.np", "mjs"),
        concat!("py", "pi.org"),
        concat!("python", "hosted"),
        concat!("static.cra", "tes.io"),
        concat!("index.cra", "tes.io"),
        concat!("proxy.gol", "ang"),
    ];
    // In the public image of WSO2, on nobody's machine.
    let of_an_image = concat!("/ho", "me/wso2carbon/");
    let endings = [
        ".rs", ".md", ".toml", ".lock", ".json", ".mjs", ".js", ".py", ".sh", ".lua", ".txt",
        ".csv", ".http", ".yaml", ".yml", ".npmrc", "Makefile", "run",
    ];
    let mut findings = Vec::new();
    for source in sources("", &endings) {
        let text = source.text.replace(of_an_image, "");
        for word in banned {
            if text.contains(word) {
                findings.push(format!("{}: {word}", source.path));
            }
        }
    }
    nothing(
        "paths of one machine or hosts of package registries",
        findings,
    );
}

#[test]
fn lock_files_name_no_download_addresses() {
    let findings = sources("tests", &["package-lock.json"])
        .into_iter()
        .filter(|source| source.text.contains("\"resolved\""))
        .map(|source| source.path)
        .collect();
    nothing("lock files with `resolved`", findings);
}

#[test]
fn secrets_are_not_kept_here() {
    // Put together, for the same reason as above.
    let key = concat!("-----BEGIN ", "PRIVATE KEY");
    let ec = concat!("-----BEGIN EC ", "PRIVATE KEY");
    let ignored = read("certs/.gitignore") + &read(".gitignore");
    assert!(ignored.contains("*.key"), "certs/*.key is git-ignored");
    let findings = sources("", &[""])
        .into_iter()
        .filter(|source| source.text.contains(key) || source.text.contains(ec))
        .map(|source| source.path)
        // Made by `riskgate certs`, git-ignored.
        .filter(|path| !path.starts_with("certs/dev-"))
        .collect();
    nothing("private keys", findings);
    assert!(root().join("LICENSE").is_file());
}
