//! Tells the program which commit it is built from (`riskgate --version`). It reads; it changes nothing and needs no network.
//!
//! Only optimised builds ask git: cargo compiles the whole package again whenever this script has run, and a developer's
//! commits should not cost that.

#[path = "build/commit.rs"]
mod commit;

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/commit.rs");
    println!("cargo::rerun-if-changed=build/archive.txt");
    println!("cargo::rerun-if-env-changed={}", commit::VARIABLE);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let given = variable(commit::VARIABLE);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR").unwrap_or_default());
    let is_optimised = variable("PROFILE").is_some_and(|profile| profile == "release");
    let found = match given.as_deref() {
        Some(given) => commit::Commit::of_text(given),
        None if is_optimised => {
            for path in commit::watched(&root) {
                println!("cargo::rerun-if-changed={}", path.display());
            }
            commit::Commit::of_tree(&root)
        }
        None => None,
    };
    let text = found.map_or_else(|| "unknown".to_owned(), |commit| commit.as_str().to_owned());
    println!("cargo::rustc-env=RISKGATE_BUILT_FROM={text}");
}
