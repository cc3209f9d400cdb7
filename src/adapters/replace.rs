//! One file put in the place of another in one step: whoever looks meanwhile sees the one or the other, and what was written
//! survives a loss of power. Everything of ours that replaces a file does it here. Knows no content.

use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::fchown;
use std::path::Path;

/// Whose the new file is, and who may read it.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// The owner alone, whatever was there: secrets.
    Private,
    /// Owner and mode of what is replaced; the owner alone where nothing is.
    Kept,
    /// Owner and mode of another file.
    Like(&'a Path),
}

/// Puts `bytes` in the place of `path`, with folders that are missing. What a link stands for is replaced, not the link.
///
/// # Errors
/// It cannot be written, or owner and group cannot be kept and whoever may read the file now could not any more. What was
/// there stays.
pub fn replace(path: &Path, bytes: &[u8], access: Access<'_>) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = folder(path);
    fs::create_dir_all(folder)?;
    let folder_file = File::open(folder)?;
    // One at a time, so that nobody takes away what another one is about to put in place.
    lock(&folder_file)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    // Left behind by a process that was ended in the middle.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let like = match access {
        Access::Private => None,
        Access::Kept => fs::metadata(path).ok(),
        Access::Like(other) => Some(fs::metadata(other)?),
    };
    let written = write(&new, bytes, like.as_ref()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Half a file helps nobody.
        drop(fs::remove_file(&new));
    }
    written?;
    folder_file.sync_all()
}

/// Makes a file that is not there yet, for its owner alone.
///
/// # Errors
/// It is there (`AlreadyExists`), or cannot be written.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, None)?;
    sync_folder(path)
}

/// Asks the disk to keep the names in the folder of `path`.
///
/// # Errors
/// What the system says.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Waits until nobody else holds the lock of a file, for as long as it is open. Not every file system has locks: there it is
/// not waited for.
///
/// # Errors
/// What the system says.
pub fn lock(file: &File) -> io::Result<()> {
    match file.lock() {
        Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
        _ => Ok(()),
    }
}

/// Why a file cannot be written, with what is to be done where files are mounted.
pub fn unwritten(error: &io::Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            "; where it is mounted (a ConfigMap, a container), change it at its source"
        }
        _ => "",
    };
    format!("cannot be written: {error}{remedy}")
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn write(new: &Path, bytes: &[u8], like: Option<&Metadata>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    let mut file = options.open(new)?;
    if let Some(like) = like {
        keep_owner(&file, like)?;
        file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a new file to the owner of the one that it replaces. Who is not root may not do so: then it stays with whoever writes
/// it, if the file can still be read by everybody who could.
fn keep_owner(file: &File, like: &Metadata) -> io::Result<()> {
    let made = file.metadata()?;
    let is_of_group = made.gid() == like.gid();
    if made.uid() == like.uid() && is_of_group {
        return Ok(());
    }
    match fchown(file, Some(like.uid()), Some(like.gid())) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let mode = like.mode();
            if mode & 0o004 != 0 {
                Ok(())
            } else if mode & 0o040 != 0 && !is_of_group {
                fchown(file, None, Some(like.gid()))
            } else if mode & 0o040 != 0 {
                Ok(())
            } else {
                Err(error)
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_stays_whose_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let link = folder.path().join("link.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        // Who was ended in the middle has left half a file.
        fs::write(folder.path().join(".policy.toml.new"), "half").unwrap();
        // Only root can give files away; everybody else sees that they stay with whom they are.
        let given = std::os::unix::fs::chown(&path, Some(12_345), Some(54_321)).is_ok();
        replace(&link, b"new", Access::Kept).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&path), 0o640);
        let data = fs::metadata(&path).unwrap();
        assert_eq!((data.uid(), data.gid()) == (12_345, 54_321), given);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        let beside = folder.path().join("beside.toml");
        replace(&beside, b"kept", Access::Like(&path)).unwrap();
        assert_eq!(mode(&beside), 0o640);
        replace(&path, b"secret", Access::Private).unwrap();
        assert_eq!(mode(&path), 0o600);
        let deep = folder.path().join("deep/er/file");
        replace(&deep, b"x", Access::Kept).unwrap();
        assert_eq!(mode(&deep), 0o600);
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, "old").unwrap();
        // A folder stands where the new file would be made.
        fs::create_dir(folder.path().join(".policy.toml.new")).unwrap();
        replace(&path, b"new", Access::Kept).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let missing = folder.path().join("missing");
        let other = folder.path().join("other");
        replace(&other, b"new", Access::Like(&missing)).unwrap_err();
        assert!(!other.exists());
        assert_eq!(
            create(&path, b"x").unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        create(&other, b"x").unwrap();
        assert_eq!(mode(&other), 0o600);
        let denied = unwritten(&ErrorKind::PermissionDenied.into());
        assert!(denied.contains("change it at its source"), "{denied}");
        assert!(!unwritten(&ErrorKind::StorageFull.into()).contains("source"));
    }

    #[test]
    fn many_who_write_at_once_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::thread::scope(|scope| {
            for letter in *b"abcd" {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..8 {
                        replace(path, &vec![letter; 100_000], Access::Kept).unwrap();
                        let seen = fs::read(path).unwrap();
                        assert_eq!(seen.len(), 100_000);
                        assert!(seen.iter().all(|byte| Some(byte) == seen.first()));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
