//! Each target with its seeds and with mutations of them that are the same every time. `RISKGATE_FUZZ_SECONDS` makes each
//! target go on for that long: blindly, for machines on which libFuzzer cannot be built.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test reports a failure"
)]

use riskgate_fuzz::TARGETS;
use riskgate_fuzz::Target;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// The longest input that a mutation makes.
const BYTES_MAX: usize = 64 * 1024;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        usize::try_from(z % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        // Half of them are bytes that mean something to most of the readers.
        const TELLING: &[u8] = b"\0\n\r \"#%&'()+,-./:;<=>?@[\\]^_{|}~0\x7f\x80\xff";
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => self.below(256).to_le_bytes()[0],
        }
    }
}

fn files(place: &Path, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        found.push(place.to_owned());
        return;
    }
    let entries = fs::read_dir(place);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    for entry in entries {
        files(&entry.unwrap().path(), found);
    }
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for place in target.seeds() {
        files(&root.join(place), &mut found);
    }
    found.sort();
    found.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutated(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.byte()),
            2 if !bytes.is_empty() => {
                let at = chance.below(bytes.len());
                bytes[at] = chance.byte();
            }
            3 if !bytes.is_empty() => {
                let at = chance.below(bytes.len());
                bytes[at] ^= 1 << chance.below(8);
            }
            4 => {
                // A piece of it once more, somewhere else.
                let from = chance.below(bytes.len() + 1);
                let to = (from + chance.below(32)).min(bytes.len());
                let piece = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[chance.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend(&other[chance.below(other.len() + 1)..]);
            }
        }
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(target);
    let taken = seeds.iter().filter(|seed| (target.run)(seed)).count();
    // Seeds that are all refused would lead nowhere.
    assert!(taken > 0, "no seed of `{name}` is well-formed");
    (target.run)(b"");
    let longer = std::env::var("RISKGATE_FUZZ_SECONDS").ok();
    let end = longer.map(|seconds| Instant::now() + Duration::from_secs(seconds.parse().unwrap()));
    let mut chance = Chance(1);
    let (mut tries, mut well_formed) = (0_u64, 0_u64);
    while tries < u64::from(target.tries) || end.is_some_and(|end| Instant::now() < end) {
        well_formed += u64::from((target.run)(&mutated(&mut chance, &seeds)));
        tries += 1;
    }
    assert!(well_formed > 0, "no mutation of `{name}` is well-formed");
    eprintln!(
        "{name}: {} seeds ({taken} well-formed), {tries} mutations ({well_formed} well-formed)",
        seeds.len()
    );
}

macro_rules! each {
    ($($test:ident $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            run($name);
        })*

        #[test]
        fn every_target_is_run() {
            let run: Vec<&str> = vec![$($name),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(run, all);
        }
    };
}

each! {
    actions "actions",
    answers "answers",
    config "config",
    cookies "cookies",
    events "events",
    form "form",
    forwarded "forwarded",
    hello "hello",
    json "json",
    keys "keys",
    manifest "manifest",
    model "model",
    path "path",
    policy "policy",
    poll "poll",
    record "record",
    rollout "rollout",
    saml "saml",
    stored "stored",
    token "token",
    token_answer "token-answer",
}
