//! Whether a state file could be opened, without a trace: what opening would write stays in memory, and the lock that a gateway
//! holds on its file is asked for and never taken.

use crate::adapters::embedded::EmbeddedError;
use crate::adapters::embedded::EmbeddedSettings;
use crate::adapters::embedded::opened;
use crate::adapters::embedded::places::Places;
use crate::adapters::embedded::prepared;
use parking_lot::Mutex;
use redb::StorageBackend;
use redb::backends::FileBackend;
use std::collections::BTreeMap;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is kept in memory of a file is kept in pieces of this size, the database's own.
const PAGE_BYTES: u64 = 4096;

/// What was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// No file: the store makes one.
    Absent,
    /// Somebody has it open, or has changed it meanwhile: it was not looked into.
    InUse,
    /// A state file that can be opened.
    Sound,
}

/// Looks at the file at `path`. Like opening it, this reads a file of up to 256 MiB whole.
///
/// # Errors
///
/// What [`EmbeddedStore::open`](super::EmbeddedStore::open) would say of it.
pub fn look(path: &Path, settings: EmbeddedSettings) -> Result<Look, EmbeddedError> {
    let io_error = |source| EmbeddedError::Io {
        path: path.to_owned(),
        source,
    };
    let before = match std::fs::metadata(path) {
        // The system says so itself, as it does to who opens the store.
        Ok(data) if data.is_dir() => {
            let opened = OpenOptions::new().write(true).open(path);
            return opened.map(|_| Look::InUse).map_err(io_error);
        }
        // Reading it might wait for ever, and no database can be in it.
        Ok(data) if !data.is_file() => return Err(io_error(ErrorKind::InvalidInput.into())),
        Ok(data) => data,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Absent),
        Err(error) => return Err(io_error(error)),
    };
    let file = File::open(path).map_err(io_error)?;
    if is_held(&file) {
        return Ok(Look::InUse);
    }
    let aside = Aside::new(file.try_clone().map_err(io_error)?).map_err(io_error)?;
    let found = opened(path, before.len(), |builder| {
        builder.create_with_backend(aside)
    })
    .and_then(|database| prepared(&database, path, settings.names, &Places::default()).map(drop));
    match found {
        Ok(()) => Ok(Look::Sound),
        // Who reads a file while it is written may see half of it.
        Err(_) if is_held(&file) || is_changed(path, &before) => Ok(Look::InUse),
        Err(error) => Err(error),
    }
}

/// Whether another process has the file open as a database. Where the system cannot tell, nobody has.
fn is_held(file: &File) -> bool {
    let Ok(asks) = file.try_clone() else {
        return false;
    };
    FileBackend::new(asks).is_ok_and(|backend| {
        let held = backend.query_lock_range(Bound::Unbounded, Bound::Unbounded);
        held.unwrap_or(false)
    })
}

fn is_changed(path: &Path, before: &Metadata) -> bool {
    let stamp = |data: &Metadata| (data.ino(), data.len(), data.mtime(), data.mtime_nsec());
    std::fs::metadata(path).map_or(true, |now| stamp(&now) != stamp(before))
}

/// A file that takes writes aside.
#[derive(Debug)]
struct Aside {
    file: File,
    written: Mutex<Written>,
}

/// What the file would be.
#[derive(Debug)]
struct Written {
    len: u64,
    /// How much of the file is not cut off.
    kept: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Aside {
    fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let written = Mutex::new(Written {
            len,
            kept: len,
            pages: BTreeMap::new(),
        });
        Ok(Self { file, written })
    }

    /// A page as it is on the disk, with nothing where the file ends.
    fn on_disk(&self, page: u64, kept: u64) -> io::Result<Vec<u8>> {
        let from = page * PAGE_BYTES;
        let length = kept.saturating_sub(from).min(PAGE_BYTES);
        let mut bytes = vec![0; size(PAGE_BYTES)];
        let there = bytes.get_mut(..size(length)).unwrap_or_default();
        self.file.read_exact_at(there, from)?;
        Ok(bytes)
    }
}

fn size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// The parts of a stretch, each within one page: which, where it begins in it and how long it is.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(length as u64);
    let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
    pages.map(move |page| {
        let first = page * PAGE_BYTES;
        let (from, to) = (offset.max(first), end.min(first + PAGE_BYTES));
        (page, size(from - first), size(to - from))
    })
}

impl StorageBackend for Aside {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        if offset.saturating_add(out.len() as u64) > written.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let length = out.len();
        let mut rest = out;
        for (page, from, length) in parts(offset, length) {
            let (out, after) = rest.split_at_mut_checked(length).unwrap_or_default();
            rest = after;
            let found = match written.pages.get(&page) {
                Some(bytes) => bytes,
                None => &self.on_disk(page, written.kept)?,
            };
            if let Some(found) = found.get(from..from + length) {
                out.copy_from_slice(found);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        written.len = len;
        written.kept = written.kept.min(len);
        let beyond = written.pages.split_off(&len.div_ceil(PAGE_BYTES));
        drop(beyond);
        let last = len / PAGE_BYTES;
        if let Some(bytes) = written.pages.get_mut(&last) {
            bytes
                .get_mut(size(len % PAGE_BYTES)..)
                .unwrap_or_default()
                .fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        let mut rest = data;
        for (page, from, length) in parts(offset, data.len()) {
            let (data, after) = rest.split_at_checked(length).unwrap_or_default();
            rest = after;
            if !written.pages.contains_key(&page) {
                let bytes = self.on_disk(page, written.kept)?;
                written.pages.insert(page, bytes);
            }
            let bytes = written.pages.get_mut(&page);
            if let Some(there) = bytes.and_then(|bytes| bytes.get_mut(from..from + length)) {
                there.copy_from_slice(data);
            }
        }
        written.len = written.len.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::embedded::EmbeddedStore;
    use std::fs;

    fn looked(path: &Path) -> Result<Look, String> {
        look(path, EmbeddedSettings::default()).map_err(|error| error.to_string())
    }

    fn opened(path: &Path) -> String {
        let opened = EmbeddedStore::open(path, EmbeddedSettings::default());
        opened.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_looked_at_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        assert_eq!(looked(&path), Ok(Look::Absent));
        assert!(!path.exists());
        let store = EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap();
        assert_eq!(looked(&path), Ok(Look::InUse));
        drop(store);
        let before = fs::read(&path).unwrap();
        assert_eq!(looked(&path), Ok(Look::Sound));
        assert!(fs::read(&path).unwrap() == before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Nobody is kept out by who looks.
        EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap();
        // What a crash has left is mended in memory alone.
        let store = EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap();
        let crashed = folder.path().join("crashed.redb");
        fs::copy(&path, &crashed).unwrap();
        drop(store);
        let before = fs::read(&crashed).unwrap();
        assert_eq!(looked(&crashed), Ok(Look::Sound));
        assert!(fs::read(&crashed).unwrap() == before);
    }

    #[test]
    fn what_opening_refuses_a_look_refuses_in_the_same_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        drop(EmbeddedStore::open(&path, EmbeddedSettings::default()).unwrap());
        let good = fs::read(&path).unwrap();
        let cut = good.get(..good.len() / 2).unwrap().to_vec();
        let mut holed = good.clone();
        holed.get_mut(4096..).unwrap().fill(0xff);
        for bytes in [b"canary".to_vec(), vec![7; 100_000], cut, holed] {
            fs::write(&path, &bytes).unwrap();
            let found = looked(&path).unwrap_err();
            assert!(found.contains("state.redb` is damaged"), "{found}");
            assert!(fs::read(&path).unwrap() == bytes);
            assert_eq!(opened(&path), found);
        }
        let other = folder.path().join("other.redb");
        let database = redb::Database::create(&other).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = redb::TableDefinition::<u64, u64>::new("another");
        transaction.open_table(table).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let found = looked(&other).unwrap_err();
        assert!(found.contains("another program's"), "{found}");
        assert_eq!(opened(&other), found);
        fs::create_dir(folder.path().join("folder.redb")).unwrap();
        let found = looked(&folder.path().join("folder.redb")).unwrap_err();
        assert_eq!(opened(&folder.path().join("folder.redb")), found);
    }

    #[test]
    fn what_is_written_aside_is_read_back_and_the_file_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        fs::write(&path, &content).unwrap();
        let aside = Aside::new(File::open(&path).unwrap()).unwrap();
        let mut model = content.clone();
        let agree = |model: &[u8]| {
            assert_eq!(aside.len().unwrap(), model.len() as u64);
            let mut all = vec![0; model.len()];
            aside.read(0, &mut all).unwrap();
            assert!(all == model);
            assert!(aside.read(1, &mut all).is_err());
        };
        agree(&model);
        aside.write(4_000, &[1; 5_000]).unwrap();
        model[4_000..9_000].fill(1);
        agree(&model);
        for len in [6_000, 20_000, 4_096, 4_097, 12_288] {
            aside.set_len(len).unwrap();
            model.resize(size(len), 0);
            agree(&model);
        }
        aside.write(12_287, &[2]).unwrap();
        model[12_287] = 2;
        agree(&model);
        assert!(fs::read(&path).unwrap() == content);
    }
}
