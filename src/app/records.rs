//! Audit logs as they lie on the disk: which files there are, and their lines. Every command that reads records reads them
//! here. A log is data from outside: a line that is no record is counted or refused, never trusted.

use crate::app::RunError;
use crate::config::ConfigError;
use crate::domain::audit::AuditEvent;
use crate::domain::audit::is_mark;
use memchr::memchr;
use memchr::memchr_iter;
use memchr::memmem;
use memchr::memrchr;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

/// The longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;
/// Files of one log at most.
const FILES_MAX: usize = 100_000;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The record of an exchange.
    Record(Box<AuditEvent>),
    /// A line about the log itself, or an empty one.
    Other,
    /// None of these: why.
    Broken(String),
}

/// Lines one by one, with their numbers from 1.
#[derive(Debug)]
pub struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
}

/// Whole lines of a file, some thousand at a time.
#[derive(Debug)]
pub struct Blocks<R> {
    input: R,
    rest: Vec<u8>,
    line: u64,
    /// Within a line that is too long.
    skips: bool,
    too_long: u64,
    ended: bool,
}

/// Some lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// The lines, each with its end.
    pub bytes: Vec<u8>,
    /// The number of the first one, from 1.
    pub first: u64,
}

/// A record that was looked for.
#[derive(Clone, Debug)]
pub struct Found {
    /// The record.
    pub event: AuditEvent,
    /// Its file.
    pub file: PathBuf,
    /// Its line.
    pub line: u64,
}

impl Line {
    /// Reads a line.
    pub fn parse(line: &[u8]) -> Self {
        let line = line.trim_ascii();
        if line.is_empty() || is_mark(line) {
            return Self::Other;
        }
        match serde_json::from_slice::<AuditEvent>(line) {
            Ok(event) => Self::Record(Box::new(event)),
            Err(error) => Self::Broken(format!("is no record of the audit log: {error}")),
        }
    }
}

impl<R: Read> Lines<R> {
    /// The lines of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
            number: 0,
        }
    }

    /// The next line; `None` at the end. The error names the line.
    pub fn read(&mut self) -> Result<Option<Line>, String> {
        self.line.clear();
        self.number += 1;
        let number = self.number;
        let most = LINE_BYTES_MAX as u64;
        let mut bounded = self.input.by_ref().take(most);
        let taken = bounded
            .read_until(b'\n', &mut self.line)
            .map_err(|error| format!("line {number}: cannot be read: {error}"))?;
        match taken {
            0 => Ok(None),
            taken if taken as u64 >= most => {
                Err(format!("line {number}: more than {LINE_BYTES_MAX} bytes"))
            }
            _ => Ok(Some(Line::parse(&self.line))),
        }
    }

    /// The number of the line that was read last.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl<R: Read> Blocks<R> {
    /// The lines of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            rest: Vec::new(),
            line: 1,
            skips: false,
            too_long: 0,
            ended: false,
        }
    }

    /// The lines of `input`, which begins within one: that one is left out.
    pub fn within(input: R) -> Self {
        Self {
            skips: true,
            ..Self::new(input)
        }
    }

    /// Lines that were too long and left out.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// The next lines; `None` at the end.
    pub fn read(&mut self) -> io::Result<Option<Block>> {
        while !self.ended {
            let held = self.rest.len();
            let wanted = (BLOCK_BYTES + held) as u64;
            let mut bytes = Vec::with_capacity(BLOCK_BYTES + LINE_BYTES_MAX);
            bytes.append(&mut self.rest);
            let mut bounded = self.input.by_ref().take(wanted - held as u64);
            let taken = bounded.read_to_end(&mut bytes)?;
            self.ended = taken == 0;
            if self.skips {
                match memchr(b'\n', &bytes) {
                    Some(end) => {
                        bytes.drain(..=end);
                        self.line += 1;
                        self.skips = false;
                    }
                    None => bytes.clear(),
                }
            }
            // A last line may have no end.
            let whole = if self.ended {
                bytes.len()
            } else {
                memrchr(b'\n', &bytes).map_or(0, |end| end + 1)
            };
            self.rest = bytes.split_off(whole);
            if self.rest.len() >= LINE_BYTES_MAX {
                self.rest.clear();
                self.skips = true;
                self.too_long += 1;
            }
            if !bytes.is_empty() {
                let first = self.line;
                self.line += memchr_iter(b'\n', &bytes).count() as u64;
                return Ok(Some(Block { bytes, first }));
            }
        }
        Ok(None)
    }
}

impl Block {
    /// The lines with their numbers.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let lines = self.bytes.split(|byte| *byte == b'\n');
        (self.first..).zip(lines)
    }
}

/// The audit files at `paths`: files as they are, and of folders what is named like one, in the order of names (that of
/// time). Packed ones are passed over: [`packed`] has them.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RunError> {
    let mut all = Vec::new();
    for path in paths {
        let mut found = at(path)?;
        found.retain(|found| !is_packed(found));
        if found.is_empty() {
            return Err(wrong(
                path,
                "no audit files (*.jsonl); packed ones are unpacked first",
            ));
        }
        all.extend(found);
    }
    Ok(all)
}

/// The packed audit files at `paths`, whose bytes are no lines: what is read of a log lacks them.
pub fn packed(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RunError> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(at(path)?);
    }
    all.retain(|found| is_packed(found));
    Ok(all)
}

/// A sentence about packed files that were passed over, if there are some.
pub fn passed_over(packed: &[PathBuf]) -> Option<String> {
    let first = packed.first()?.display();
    let more = match packed.len() {
        1 => "is packed and was".to_owned(),
        many => format!("and {} more are packed and were", many - 1),
    };
    Some(format!("`{first}` {more} not read: unpack first"))
}

/// What is at `path`: a file, or of a folder what is named like an audit file.
fn at(path: &Path) -> Result<Vec<PathBuf>, RunError> {
    if path.is_dir() {
        within(path, |name| name.contains(".jsonl")).map_err(|error| unreadable(path, &error))
    } else {
        Ok(vec![path.to_owned()])
    }
}

/// An audit file and the older ones of the same log beside it.
pub fn log(file: &Path) -> Vec<PathBuf> {
    let mut files = beside(file);
    files.retain(|other| !is_packed(other) && other.file_name() != file.file_name());
    files.push(file.to_owned());
    files
}

/// The older ones that are packed.
pub fn packed_log(file: &Path) -> Vec<PathBuf> {
    let mut files = beside(file);
    files.retain(|other| is_packed(other));
    files
}

/// What is named like an older file of the same log, packed or not.
fn beside(file: &Path) -> Vec<PathBuf> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let (Some(folder), Some(stem)) = (file.parent(), stem) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let is_of_log = |name: &str| {
        name.strip_prefix(stem)
            .is_some_and(|rest| rest.starts_with(['.', '-']) && rest.contains(".jsonl"))
    };
    within(folder, is_of_log).unwrap_or_default()
}

/// Whether a file is one that was packed, by its name.
fn is_packed(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    end.is_some_and(|end| ["gz", "zst", "xz", "bz2", "lz4", "zip"].contains(&end))
}

fn within(folder: &Path, is_one: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(FILES_MAX) {
        let entry = entry?;
        let name = entry.file_name();
        let is_file = entry.file_type()?.is_file();
        if is_file && name.to_str().is_some_and(&is_one) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The records with the ids `wanted`, in their order. The newest files are looked through first.
pub fn find(files: &[PathBuf], wanted: &[&str]) -> Result<Vec<Option<Found>>, RunError> {
    let mut found: Vec<Option<Found>> = vec![None; wanted.len()];
    for path in files.iter().rev() {
        if found.iter().all(Option::is_some) {
            break;
        }
        let input = File::open(path).map_err(|error| unreadable(path, &error))?;
        let mut blocks = Blocks::new(input);
        while let Some(block) = blocks.read().map_err(|error| unreadable(path, &error))? {
            for (slot, id) in found.iter_mut().zip(wanted) {
                if slot.is_none() {
                    *slot = find_in(&block, id, path);
                }
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
    }
    Ok(found)
}

/// An id is looked for as bytes; only a line that holds it is read.
fn find_in(block: &Block, id: &str, path: &Path) -> Option<Found> {
    memmem::find_iter(&block.bytes, id.as_bytes()).find_map(|at| {
        let (before, after) = block.bytes.split_at_checked(at)?;
        let begin = memrchr(b'\n', before).map_or(0, |end| end + 1);
        let end = memchr(b'\n', after).map_or(block.bytes.len(), |end| at + end);
        match Line::parse(block.bytes.get(begin..end)?) {
            Line::Record(event) if event.id == id => Some(Found {
                event: *event,
                file: path.to_owned(),
                line: block.first + memchr_iter(b'\n', before).count() as u64,
            }),
            Line::Record(_) | Line::Other | Line::Broken(_) => None,
        }
    })
}

/// An audit file cannot be read.
pub fn unreadable(path: &Path, error: &io::Error) -> RunError {
    wrong(path, &format!("cannot be read: {error}"))
}

fn wrong(path: &Path, problem: &str) -> RunError {
    RunError::Config(vec![ConfigError::new(path.display().to_string(), problem)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> String {
        let event = AuditEvent {
            id: id.to_owned(),
            ..AuditEvent::default()
        };
        serde_json::to_string(&event).unwrap() + "\n"
    }

    /// Gives few bytes at a time.
    struct Drips<'t>(&'t [u8], usize);

    impl Read for Drips<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(buffer.len()).min(self.0.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn a_line_is_a_record_or_about_the_log_or_broken() {
        assert!(matches!(
            Line::parse(record("a").as_bytes()),
            Line::Record(event) if event.id == "a"
        ));
        for other in ["", "  \r", r#"{"mark":"checkpoint","seq":1}"#] {
            assert_eq!(Line::parse(other.as_bytes()), Line::Other, "{other}");
        }
        for broken in ["{", "null", r#"{"marks":1}"#, "\u{0}"] {
            assert!(
                matches!(Line::parse(broken.as_bytes()), Line::Broken(_)),
                "{broken}"
            );
        }
    }

    #[test]
    fn blocks_hold_whole_lines_with_their_numbers() {
        let text = format!("{}{}\nlast", record("a"), record("b"));
        let mut blocks = Blocks::new(Drips(text.as_bytes(), 7));
        let mut lines = Vec::new();
        while let Some(block) = blocks.read().unwrap() {
            lines.extend(
                block
                    .lines()
                    .map(|(number, line)| (number, line.len()))
                    .collect::<Vec<_>>(),
            );
        }
        lines.retain(|(_, length)| *length > 0);
        let length = record("a").len() - 1;
        assert_eq!(lines, [(1, length), (2, length), (4, 4)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_counted() {
        let long = "x".repeat(3 * BLOCK_BYTES);
        let text = format!("{}{long}\n{}", record("a"), record("b"));
        let mut blocks = Blocks::new(text.as_bytes());
        let mut ids = Vec::new();
        while let Some(block) = blocks.read().unwrap() {
            for (number, line) in block.lines() {
                if let Line::Record(event) = Line::parse(line) {
                    ids.push((number, event.id.clone()));
                }
            }
        }
        assert_eq!(ids, [(1, "a".to_owned()), (3, "b".to_owned())]);
        assert_eq!(blocks.too_long(), 1);
    }

    #[test]
    fn a_record_is_found_by_its_id_alone() {
        let folder = tempfile::tempdir().unwrap();
        let older = folder.path().join("audit.20260101T000000Z.jsonl");
        let newest = folder.path().join("audit.jsonl");
        let mentions = AuditEvent {
            id: "c".to_owned(),
            token_decision: Some("decision-b".to_owned()),
            ..AuditEvent::default()
        };
        let mentions = serde_json::to_string(&mentions).unwrap();
        let text = format!(
            "{}{mentions}\nbroken decision-b\n{}",
            record("decision-a"),
            record("decision-b")
        );
        std::fs::write(&older, text).unwrap();
        std::fs::write(&newest, record("decision-d")).unwrap();
        std::fs::write(folder.path().join("other.jsonl"), "").unwrap();
        std::fs::write(folder.path().join("audit.20250101T000000Z.jsonl.gz"), "").unwrap();
        let files = log(&newest);
        assert_eq!(files, [older.clone(), newest.clone()]);
        let gz = folder.path().join("audit.20250101T000000Z.jsonl.gz");
        assert_eq!(packed_log(&newest), [gz]);
        let found = find(&files, &["decision-b", "decision-d", "decision"]).unwrap();
        let places: Vec<_> = found
            .iter()
            .map(|one| one.as_ref().map(|one| one.line))
            .collect();
        assert_eq!(places, [Some(4), Some(1), None]);
        assert_eq!(found[0].as_ref().unwrap().file, older);
    }

    #[test]
    fn folders_are_looked_into_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = files(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(empty.contains("no audit files"), "{empty}");
        std::fs::write(folder.path().join("b.jsonl"), "").unwrap();
        std::fs::write(folder.path().join("a.jsonl.1"), "").unwrap();
        std::fs::write(folder.path().join("a.jsonl.2.gz"), "").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let found = files(&[folder.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.jsonl.1", "b.jsonl"]);
        // Packed ones are told apart, also where somebody has named them.
        let gz = folder.path().join("a.jsonl.2.gz");
        for paths in [&[folder.path().to_owned()][..], std::slice::from_ref(&gz)] {
            assert_eq!(packed(paths).unwrap(), std::slice::from_ref(&gz));
        }
        assert!(files(std::slice::from_ref(&gz)).is_err());
        let said = passed_over(&[gz.clone(), gz]).unwrap();
        assert!(
            said.ends_with("a.jsonl.2.gz` and 1 more are packed and were not read: unpack first"),
            "{said}"
        );
        let missing = find(&[folder.path().join("none.jsonl")], &["x"]).unwrap_err();
        assert!(missing.to_string().contains("none.jsonl"), "{missing}");
    }
}
