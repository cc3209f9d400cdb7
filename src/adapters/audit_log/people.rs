//! Under which names people are in records: the key on disk, followed while the gateway runs, and names that were made
//! lately. Erasing somebody changes the file; the writer takes it over with its next batch of records.

use super::keys::exchange;
use super::keys::owned;
use crate::domain::audit::people::PeopleKey;
use crate::domain::audit::people::SEED_BYTES;
use crate::domain::hex;
use crate::domain::ids::Pseudonym;
use crate::flow::ports::Entropy;
use std::collections::HashMap;
use std::fs::File;
use std::io::Error;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// How often the file is looked at, where records come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Names that are kept; with more of them all are made anew.
const NAMES_MAX: usize = 16_384;

/// Makes names.
#[derive(Debug)]
pub(super) struct People {
    path: PathBuf,
    key: PeopleKey,
    stamp: Option<(SystemTime, u64)>,
    looked: Instant,
    names: HashMap<Box<str>, Box<str>>,
}

impl People {
    /// Reads the key, or makes one.
    pub(super) fn open(path: &Path, entropy: &dyn Entropy, now: Instant) -> std::io::Result<Self> {
        let stamp = stamp(path);
        let key = match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut seed = [0; SEED_BYTES];
                entropy.fill(&mut seed);
                let key = PeopleKey::new(seed);
                exchange(path, &key.to_bytes())?;
                key
            }
            read => read?,
        };
        Ok(Self {
            path: path.to_owned(),
            key,
            stamp,
            looked: now,
            names: HashMap::new(),
        })
    }

    /// Takes over a key that has changed, and says how many people were erased under it.
    pub(super) fn refresh(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.looked) < LOOK_EVERY {
            return None;
        }
        self.looked = now;
        let found = stamp(&self.path);
        if found == self.stamp || found.is_none() {
            return None;
        }
        let key = match read(&self.path) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(error = %error, "the key of people's names stays the one before");
                return None;
            }
        };
        self.stamp = found;
        if key == self.key {
            return None;
        }
        self.key = key;
        self.names.clear();
        Some(self.key.erased())
    }

    /// The name in records of whom `subject` names elsewhere.
    pub(super) fn name(&mut self, subject: String) -> String {
        if let Some(name) = self.names.get(subject.as_str()) {
            return name.to_string();
        }
        let Some(bytes) = hex::decode(subject.as_bytes()) else {
            return subject;
        };
        let name = self.key.name(Pseudonym::from_bytes(bytes)).to_string();
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
        }
        self.names
            .insert(subject.into_boxed_str(), name.as_str().into());
        name
    }
}

/// The key that is in a file.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(path: &Path) -> std::io::Result<PeopleKey> {
    let of = |kind, problem: &dyn std::fmt::Display| {
        Error::new(kind, format!("`{}`: {problem}", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| of(error.kind(), &error))?;
    PeopleKey::parse(&bytes).map_err(|error| {
        let remedy = "put a copy of it back, or move it away: then everybody has another name in the records to come";
        of(ErrorKind::InvalidData, &format_args!("{error}; {remedy}"))
    })
}

/// Whether `People::open` would find a key, or nothing; makes none.
pub(super) fn look(path: &Path) -> std::io::Result<()> {
    // Who erases somebody writes over what was there, and who has opened that reads half of it: the second look counts.
    match read(path).or_else(|_| read(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        read => read.map(drop),
    }
}

/// Changes the key in a file, one process at a time, and writes over what it was.
///
/// # Errors
/// It cannot be read or written, or `change` refuses.
pub fn change(
    path: &Path,
    change: impl FnOnce(&mut PeopleKey) -> Result<(), Error>,
) -> std::io::Result<()> {
    let lock: File = owned()
        .create(true)
        .truncate(false)
        .open(path.with_extension("lock"))?;
    lock.lock()?;
    let mut key = read(path)?;
    change(&mut key)?;
    exchange(path, &key.to_bytes())
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[test]
    fn a_person_who_was_erased_gets_another_name_while_the_log_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit-people.key");
        let start = Instant::now();
        let mut people = People::open(&path, &Fixed, start).unwrap();
        let (alice, bob) = ("0a".repeat(16), "0b".repeat(16));
        let before = [alice.clone(), bob.clone()].map(|name| people.name(name));
        assert!(
            before
                .iter()
                .all(|name| name.len() == 32 && !name.starts_with("0a"))
        );
        let mut key = read(&path).unwrap();
        assert_eq!(
            key.name(Pseudonym::from_bytes([10; 16])).to_string(),
            before[0]
        );
        key.erase(Pseudonym::from_bytes([10; 16])).unwrap();
        change(&path, |kept| {
            *kept = key;
            Ok(())
        })
        .unwrap();
        // Not before it is looked at.
        assert_eq!(people.refresh(start), None);
        assert_eq!(people.name(alice.clone()), before[0]);
        assert_eq!(people.refresh(start + LOOK_EVERY), Some(1));
        assert_ne!(people.name(alice), before[0]);
        assert_eq!(people.name(bob), before[1]);
        assert_eq!(people.refresh(start + 2 * LOOK_EVERY), None);
        // What is no key is not taken over.
        std::fs::write(&path, "canary").unwrap();
        assert_eq!(people.refresh(start + 3 * LOOK_EVERY), None);
        assert_eq!(people.name("other".to_owned()), "other");
    }
}
