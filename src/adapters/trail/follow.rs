//! Follows a file that grows and that is exchanged for a new one now and then: the segments before it first, then its lines
//! as they come. A file that was exchanged stays readable as long as something of it is kept.

use std::collections::VecDeque;
use std::fs::File;
use std::fs::Metadata;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The longest line. A longer one is none of ours and is passed over.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Segments before the present file that are followed: the latest ones.
const SEGMENTS_MAX: usize = 64;

/// A file that is or was followed.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    identity: Identity,
}

/// Device, number and time of birth: the same file under whatever name. File systems give the number of one that is gone to the
/// next one.
type Identity = (u64, u64, Option<SystemTime>);

/// Follows the file of this path.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    /// What is read, and up to where.
    current: Option<(Arc<Source>, u64)>,
    waiting: VecDeque<Arc<Source>>,
    /// Files that were read to their end, the latest last.
    done: VecDeque<Identity>,
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Source {
    fn open(path: &Path) -> Option<Arc<Self>> {
        let file = File::open(path).ok()?;
        let data = file.metadata().ok().filter(Metadata::is_file)?;
        Some(Arc::new(Self {
            identity: identity(&data),
            file,
        }))
    }

    /// A new file that has no name once it is open: what it holds ends with the process.
    pub(super) fn nameless(folder: &Path) -> std::io::Result<Arc<Self>> {
        let path = folder.join(format!("audit-stream.{}.tmp", std::process::id()));
        // One of a process that ended in between.
        drop(std::fs::remove_file(&path));
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        let data = file.metadata()?;
        Ok(Arc::new(Self {
            identity: identity(&data),
            file,
        }))
    }

    /// Puts bytes at this place.
    pub(super) fn put(&self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |data| data.len())
    }

    /// Whether it has no name any more.
    pub(super) fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.nlink() == 0)
    }

    /// The bytes between two places; fewer when they are not there any more.
    pub(super) fn read(&self, start: u64, end: u64) -> Vec<u8> {
        let wanted = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let mut bytes = vec![0; wanted];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, start + filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

impl Follower {
    /// From the first line of the oldest segment on.
    pub(super) fn new(path: PathBuf) -> Self {
        let mut follower = Self {
            path,
            current: None,
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            skipping: false,
        };
        follower.look();
        follower
    }

    /// The bytes that are still to be read.
    pub(super) fn bytes(&self) -> u64 {
        let current = self
            .current
            .as_ref()
            .map_or(0, |(source, at)| source.length().saturating_sub(*at));
        current
            + self
                .waiting
                .iter()
                .map(|source| source.length())
                .sum::<u64>()
    }

    /// The next whole lines, with their file and place; `None` when there are none yet.
    pub(super) fn next(&mut self) -> Option<(Arc<Source>, u64, Vec<u8>)> {
        loop {
            if self.current.is_none() {
                if self.waiting.is_empty() {
                    self.look();
                }
                self.current = Some((self.waiting.pop_front()?, 0));
                self.skipping = false;
            }
            let (source, at) = self.current.clone()?;
            // A file that has shrunk was cut: it begins anew.
            let at = if source.length() < at { 0 } else { at };
            let mut lines = source.read(at, at + CHUNK_BYTES as u64);
            let is_full = lines.len() == CHUNK_BYTES;
            let whole = lines
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            if whole > 0 {
                lines.truncate(whole);
                self.current = Some((Arc::clone(&source), at + whole as u64));
                if std::mem::take(&mut self.skipping) {
                    // The end of the line that was too long.
                    let end = lines
                        .iter()
                        .position(|byte| *byte == b'\n')
                        .map_or(0, |end| end + 1);
                    lines.drain(..end);
                    return Some((source, at + end as u64, lines));
                }
                return Some((source, at, lines));
            }
            if is_full && lines.len() >= LINE_BYTES_MAX {
                self.skipping = true;
                self.current = Some((source, at + lines.len() as u64));
                continue;
            }
            self.current = Some((Arc::clone(&source), at));
            // Nothing more in this one: is there another in its place?
            if self.waiting.is_empty() {
                self.look();
            }
            if self.waiting.is_empty() {
                return None;
            }
            // What was written just before the exchange is read before it is left.
            if source.length() > at + lines.len() as u64 {
                continue;
            }
            self.done.push_back(source.identity);
            if self.done.len() > 2 * SEGMENTS_MAX {
                self.done.pop_front();
            }
            self.current = None;
        }
    }

    /// Looks for files that are not known yet.
    fn look(&mut self) {
        let mut paths = self.segments();
        paths.push(self.path.clone());
        for path in paths {
            let Some(source) = Source::open(&path) else {
                continue;
            };
            let is_current = self
                .current
                .as_ref()
                .is_some_and(|(current, _)| current.identity == source.identity);
            let is_known = is_current
                || self.done.contains(&source.identity)
                || self
                    .waiting
                    .iter()
                    .any(|other| other.identity == source.identity);
            if !is_known {
                self.waiting.push_back(source);
            }
        }
    }

    /// The segments before the present file, the oldest first: `audit.TIME.jsonl` beside `audit.jsonl`. Their names sort by
    /// time.
    fn segments(&self) -> Vec<PathBuf> {
        let (Some(stem), Some(ending)) = (self.path.file_stem(), self.path.extension()) else {
            return Vec::new();
        };
        let (front, end) = (
            format!("{}.", stem.to_string_lossy()),
            format!(".{}", ending.to_string_lossy()),
        );
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.len() > front.len() + end.len() - 1
                    && name.starts_with(&front)
                    && name.ends_with(&end)
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
        let surplus = found.len().saturating_sub(SEGMENTS_MAX);
        found.split_off(surplus)
    }
}

fn identity(data: &Metadata) -> Identity {
    (data.dev(), data.ino(), data.created().ok())
}
