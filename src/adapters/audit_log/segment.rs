//! The file that records are appended to, and the older ones beside it. What is in a file stays: nothing is overwritten or
//! taken back.

use super::keys::owned;
use crate::adapters::replace::lock;
use crate::adapters::replace::sync_folder;
use crate::domain::audit::chain::Place;
use crate::domain::audit::journal::Found;
use crate::domain::audit::mark::Fragment;
use crate::domain::time::Timestamp;
use std::fs::File;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// How much of the end of a file is looked at for its last line.
const TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names that are tried for a file that is put aside.
const NAMES_MAX: u32 = 1_000;

/// The file under the configured name.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    is_regular: bool,
    bytes: u64,
    since: Timestamp,
    /// It ends in part of a line.
    broken: bool,
    /// What the disk has not said yet that it keeps, where that counts.
    unkept: Option<Unkept>,
}

/// What was written since the disk last said that it keeps everything. Once it has said no, the system may have let go of
/// that: the next answer would be yes without it (Linux tells of a failed write-back once).
#[derive(Debug)]
struct Unkept {
    /// The file once more, not for appending.
    again: File,
    /// Where each piece lies, and what it is.
    pieces: Vec<(u64, Vec<u8>)>,
    /// The disk has said no since.
    doubtful: bool,
}

/// A write that broke off.
#[derive(Debug)]
pub(super) struct Broken {
    /// How many of the bytes are in the file.
    pub(super) landed: usize,
    pub(super) cause: std::io::Error,
}

impl Segment {
    /// Opens the file for appending, with access for its owner alone, and looks at how it ends.
    pub(super) fn open(path: &Path, now: Timestamp) -> std::io::Result<(Self, Found)> {
        let file = owned().append(true).create(true).open(path)?;
        let data = file.metadata()?;
        let is_regular = data.is_file();
        let mut segment = Self {
            path: path.to_owned(),
            file,
            is_regular,
            bytes: if is_regular { data.len() } else { 0 },
            since: now,
            broken: false,
            unkept: None,
        };
        if !is_regular {
            return Ok((segment, Found::default()));
        }
        if segment.bytes > 0
            && let Some(age) = data
                .created()
                .ok()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        {
            segment.since = Timestamp(i64::try_from(age.as_millis()).unwrap_or(now.millis()));
        }
        let mut found = last(path)?;
        segment.broken = !found.torn.is_empty();
        if found.after.is_none() {
            let older = older(path).pop();
            found.after = older.and_then(|older| last(&older).ok()?.after);
        }
        Ok((segment, found))
    }

    /// The same, which writes again what a disk has refused to keep, before it believes another answer of it.
    pub(super) fn strict(mut self) -> std::io::Result<Self> {
        if self.is_regular {
            let again = File::options().write(true).open(&self.path)?;
            // Another process may have put the file aside in between: then what is written again would be in its new one.
            if identity(&self.file.metadata()?) != identity(&again.metadata()?) {
                return Err(ErrorKind::NotFound.into());
            }
            self.unkept = Some(Unkept {
                again,
                pieces: Vec::new(),
                doubtful: false,
            });
        }
        Ok(self)
    }

    /// Appends whole lines. What is there when it breaks off stays there.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Broken> {
        let broken = |landed, cause| Broken { landed, cause };
        if self.broken {
            self.file
                .write_all(b"\n")
                .map_err(|cause| broken(0, cause))?;
            self.broken = false;
            self.bytes += 1;
            self.wrote(b"\n").map_err(|cause| broken(0, cause))?;
        }
        let mut landed = 0;
        while let Some(rest) = lines.get(landed..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(self.break_off(lines, landed, ErrorKind::WriteZero.into())),
                Ok(count) => {
                    landed += count;
                    if let Err(error) = self.wrote(rest.get(..count).unwrap_or_default()) {
                        return Err(self.break_off(lines, landed, error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.break_off(lines, landed, error)),
            }
        }
        self.bytes += landed as u64;
        Ok(())
    }

    /// Goes on with a write that broke off after so many bytes of `lines`.
    pub(super) fn go_on(&mut self, lines: &[u8], landed: usize) -> Result<(), Broken> {
        if landed > 0 {
            // The line is not broken any more: it continues. Where nothing has landed, what is broken is a line before these.
            self.broken = false;
        }
        self.append(lines.get(landed..).unwrap_or_default())
    }

    fn break_off(&mut self, lines: &[u8], landed: usize, cause: std::io::Error) -> Broken {
        self.bytes += landed as u64;
        let last = landed.checked_sub(1).and_then(|last| lines.get(last));
        self.broken = last.is_some_and(|last| *last != b'\n');
        Broken { landed, cause }
    }

    /// Asks the disk to keep the names of the file and of those beside it: what is in a file without one cannot be found after
    /// a loss of power.
    pub(super) fn keep_name(&self) {
        if self.is_regular
            && let Err(error) = sync_folder(&self.path)
        {
            tracing::warn!(error = %error, "the disk does not say that it keeps the name of the audit log");
        }
    }

    /// Asks the disk to keep what is there. In strict mode a yes is of all that was written since the last one, also where a
    /// no was in between.
    pub(super) fn sync(&mut self) -> std::io::Result<()> {
        if !self.is_regular {
            return Ok(());
        }
        let kept = match &self.unkept {
            Some(unkept) if unkept.doubtful => unkept.write_again(),
            Some(_) | None => Ok(()),
        };
        let kept = kept.and_then(|()| self.file.sync_data());
        if let Some(unkept) = &mut self.unkept {
            unkept.doubtful = kept.is_err();
            if kept.is_ok() {
                unkept.pieces.clear();
            }
        }
        kept
    }

    /// Whether the disk has said no since it last kept everything: the file is to be gone on with until it says yes.
    pub(super) fn is_doubtful(&self) -> bool {
        self.unkept.as_ref().is_some_and(|unkept| unkept.doubtful)
    }

    /// Remembers what has just been appended, until the disk keeps it. Another process may append as well: where it lies the
    /// system says.
    fn wrote(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(unkept) = &mut self.unkept else {
            return Ok(());
        };
        let end = self.file.stream_position()?;
        let from = end.saturating_sub(bytes.len() as u64);
        match unkept.pieces.last_mut() {
            Some((at, piece)) if *at + piece.len() as u64 == from => piece.extend(bytes),
            _ => unkept.pieces.push((from, bytes.to_vec())),
        }
        Ok(())
    }

    /// Whether the file is as large as `bytes`, or `seconds` old; zero stands for never.
    pub(super) fn is_due(&self, bytes: u64, seconds: u64, now: Timestamp) -> bool {
        self.is_regular
            && self.bytes > 0
            && ((bytes > 0 && self.bytes >= bytes)
                || (seconds > 0 && now.since(self.since).as_secs() >= seconds))
    }

    /// Puts the file aside under a name with the time, and opens an empty one. Where another process has done so, the file
    /// under the configured name is the one to go on with.
    pub(super) fn renew(&mut self, now: Timestamp) -> std::io::Result<()> {
        // Of two who are at it at once, the later one must find what the other has done: both would put the same name aside,
        // and the second the new file in the place of the old one.
        lock(&self.file)?;
        match self.next(now) {
            Ok(next) => {
                // Closing the file lets go of its lock.
                *self = next;
                Ok(())
            }
            Err(error) => {
                self.file.unlock()?;
                Err(error)
            }
        }
    }

    fn next(&self, now: Timestamp) -> std::io::Result<Self> {
        if same(&self.file, &self.path) {
            let aside = aside(&self.path, now)?;
            std::fs::rename(&self.path, aside)?;
        }
        let (mut file, _) = Self::open(&self.path, now)?;
        if self.unkept.is_some() {
            file = file.strict()?;
        }
        file.keep_name();
        Ok(file)
    }

    /// The older files, the oldest first.
    pub(super) fn older(&self) -> Vec<PathBuf> {
        if self.is_regular {
            older(&self.path)
        } else {
            Vec::new()
        }
    }
}

impl Unkept {
    /// The same bytes at the same places, so that the system brings them to the disk once more.
    fn write_again(&self) -> std::io::Result<()> {
        for (at, piece) in &self.pieces {
            self.again.write_all_at(piece, *at)?;
        }
        Ok(())
    }
}

/// What tells one file from all others, whatever its name: device and inode.
fn identity(data: &Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

/// Files that were put aside of that name, the oldest first.
pub fn older(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some((stem, end))) = (path.parent(), name(path)) else {
        return Vec::new();
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_aside = |path: &PathBuf| {
        let middle = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| {
                name.strip_prefix(stem)?
                    .strip_prefix('.')?
                    .strip_suffix(end)?
                    .strip_suffix('.')
            });
        middle.is_some_and(|time| {
            time.len() >= 20
                && time
                    .bytes()
                    .next()
                    .is_some_and(|byte| byte.is_ascii_digit())
                && time
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte))
        })
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut aside: Vec<PathBuf> = paths.filter(is_aside).collect();
    aside.sort();
    aside
}

/// When a file was last written to.
pub(super) fn written(path: &Path) -> Option<Timestamp> {
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    let age = modified.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp(i64::try_from(age.as_millis()).ok()?))
}

/// The last line of a chain in a file, and what is behind it.
pub(super) fn last(path: &Path) -> std::io::Result<Found> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut tail)?;
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let (lines, fragment) = tail.split_at_checked(whole).unwrap_or_default();
    let torn = if fragment.is_empty() {
        Vec::new()
    } else {
        vec![Fragment::of(fragment)]
    };
    let after = lines
        .split(|byte| *byte == b'\n')
        .rev()
        .find_map(Place::of_line);
    Ok(Found { after, torn })
}

/// A name for a file that is put aside: after those of all others, also where the latest was put aside while the clock was
/// ahead. They are read and removed in the order of their names.
fn aside(path: &Path, now: Timestamp) -> std::io::Result<PathBuf> {
    let Some((stem, end)) = name(path) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    // `2026-11-26T15:00:00.000Z` without what file names had better not hold.
    let time: String = now
        .to_rfc3339()
        .chars()
        .filter(|c| !"-:".contains(*c))
        .collect();
    let names = |time: String| {
        (0..NAMES_MAX).map(move |n| match n {
            0 => format!("{stem}.{time}.{end}"),
            n => format!("{stem}.{time}_{n:03}.{end}"),
        })
    };
    let latest = older(path).pop();
    let latest = latest
        .as_deref()
        .and_then(|latest| latest.file_name()?.to_str());
    // Its time, without the number that tells it from others of that time.
    let its_time = latest.and_then(|latest| {
        let middle = latest.strip_prefix(stem)?.strip_prefix('.')?;
        let middle = middle.strip_suffix(end)?.strip_suffix('.')?;
        Some(middle.split('_').next().unwrap_or(middle).to_owned())
    });
    let in_order = names(time.clone()).chain(its_time.into_iter().flat_map(names));
    let in_order = in_order.filter(|name| latest.is_none_or(|latest| name.as_str() > latest));
    in_order
        // Better out of its order than not put aside.
        .chain(names(time))
        .map(|name| path.with_file_name(name))
        .find(|path| !path.exists())
        .ok_or_else(|| ErrorKind::AlreadyExists.into())
}

fn name(path: &Path) -> Option<(&str, &str)> {
    let stem = path.file_stem()?.to_str()?;
    Some((
        stem,
        path.extension()
            .and_then(|end| end.to_str())
            .unwrap_or("jsonl"),
    ))
}

/// Whether `path` names the file that is open.
fn same(file: &File, path: &Path) -> bool {
    let id = |data: std::io::Result<Metadata>| data.ok().map(|data| identity(&data));
    id(file.metadata()) == id(std::fs::metadata(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that does not keep what it was given: pages that could not be written back are dropped, and the next answer is
    /// yes. One that says no is a device that knows no such question.
    #[test]
    fn what_the_disk_refused_to_keep_is_written_again_before_it_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"before\":1}\n").unwrap();
        let open = || Segment::open(&path, Timestamp(0)).unwrap().0;
        for (mut segment, is_strict) in [(open().strict().unwrap(), true), (open(), false)] {
            let whole = std::fs::read(&path).unwrap();
            segment.append(b"{\"first\":1}\n").unwrap();
            segment.sync().unwrap();
            segment.append(b"{\"second\":1}\n").unwrap();
            // Another process, in between.
            let mut other = File::options().append(true).open(&path).unwrap();
            other.write_all(b"{\"other\":1}\n").unwrap();
            segment.append(b"{\"third\":1}\n").unwrap();
            let null = File::open("/dev/null").unwrap();
            let disk = std::mem::replace(&mut segment.file, null);
            segment.sync().unwrap_err();
            segment.sync().unwrap_err();
            let expected = std::fs::read(&path).unwrap();
            let dropped = File::options().write(true).open(&path).unwrap();
            let from = (whole.len() + 12) as u64;
            let second = b"\0".repeat(13);
            dropped.write_all_at(&second, from).unwrap();
            dropped.write_all_at(b"\0\0\0", from + 13 + 12).unwrap();
            segment.file = disk;
            segment.sync().unwrap();
            assert_eq!(std::fs::read(&path).unwrap() == expected, is_strict);
            // And no longer than it has to be.
            if let Some(unkept) = &segment.unkept {
                assert!(unkept.pieces.is_empty() && !unkept.doubtful);
            }
        }
    }

    /// A disk that takes nothing is one that was opened for reading.
    #[test]
    fn a_line_that_is_broken_is_ended_also_where_the_disk_refuses_the_end_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"half\":").unwrap();
        let (mut segment, found) = Segment::open(&path, Timestamp(0)).unwrap();
        assert_eq!(found.torn.len(), 1);
        let disk = std::mem::replace(&mut segment.file, File::open(&path).unwrap());
        let lines = b"{\"whole\":1}\n";
        assert_eq!(segment.append(lines).unwrap_err().landed, 0);
        assert_eq!(segment.go_on(lines, 0).unwrap_err().landed, 0);
        segment.file = disk;
        segment.go_on(lines, 0).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"half\":\n{\"whole\":1}\n");
        // What has begun to land goes on where it broke off.
        segment.broken = true;
        segment.go_on(lines, 3).unwrap();
        let more = std::fs::read_to_string(&path).unwrap();
        assert_eq!(more, text + "hole\":1}\n");
    }
}
