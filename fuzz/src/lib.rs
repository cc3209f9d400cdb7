//! Fuzz targets for everything in riskgate that reads what others have written: requests, cookies, tokens, answers of the
//! identity server, values of the store, configuration, policy, models. A target takes any bytes and panics when a
//! promise of the reader is broken; that nothing else panics on the way is the least of them.
//!
//! `cargo test` gives each target its seeds and some hundred mutations of them, the same ones every time; `make fuzz` lets
//! libFuzzer search by coverage.

mod input;
mod targets;

pub use targets::TARGETS;

/// A target: its name, what it does, and where its seeds are.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, and that of its folder in `fuzz/seeds`.
    pub name: &'static str,
    /// Tries one input and says whether the reader took it as well-formed. Panics when a promise is broken.
    pub run: fn(&[u8]) -> bool,
    /// Whether it has seeds of its own in `fuzz/seeds`.
    pub has_own: bool,
    /// Further folders and files with seeds, from the root of the repository.
    pub more: &'static [&'static str],
    /// Mutations that `cargo test` tries.
    pub tries: u32,
}

impl Target {
    /// Folders and files with seeds, from the root of the repository.
    pub fn seeds(&self) -> Vec<String> {
        let own = self.has_own.then(|| format!("fuzz/seeds/{}", self.name));
        let more = self.more.iter().map(|place| (*place).to_owned());
        own.into_iter().chain(more).collect()
    }
}

/// Prints the targets, each with the places of its seeds.
pub fn list() {
    for target in TARGETS {
        println!("{} {}", target.name, target.seeds().join(" "));
    }
}

/// The target that `RISKGATE_FUZZ_TARGET` names.
#[cfg(feature = "libfuzzer")]
pub fn chosen() -> fn(&[u8]) -> bool {
    use std::sync::LazyLock;

    static CHOSEN: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
        let name = std::env::var("RISKGATE_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("no target `{name}`")).run
    });
    *CHOSEN
}
