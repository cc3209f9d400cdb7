//! The rollout file and the file of stages that have fallen back, on disk: read as a whole, replaced in one step, so that
//! whoever looks meanwhile sees the one or the other. Knows no plan.

use crate::domain::rollout_plan::FILE_BYTES_MAX;
use crate::flow::ports::PlanFiles;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// Files under the data folder, and the plan where the configuration says.
#[derive(Debug)]
pub struct FilesOnDisk {
    falls: PathBuf,
}

impl FilesOnDisk {
    /// Keeps what has fallen back in `falls`.
    pub fn new(falls: PathBuf) -> Self {
        Self { falls }
    }
}

impl PlanFiles for FilesOnDisk {
    fn read(&self, file: &Path) -> io::Result<String> {
        read(file)
    }

    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        replace(file, text)
    }

    fn read_falls(&self) -> io::Result<Option<String>> {
        match read(&self.falls) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write_falls(&self, text: &str) -> io::Result<()> {
        replace(&self.falls, text)
    }
}

/// A whole file, unless it is longer than one can be.
///
/// # Errors
/// It cannot be read, is too long or is not UTF-8.
pub fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let problem = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, problem));
    }
    Ok(text)
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    // What a link stands for is replaced, not the link.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    // Left behind by a process that was ended in the middle.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write(&new, &file, text).and_then(|()| fs::rename(&new, &file));
    if written.is_err() {
        // Half a file helps nobody.
        drop(fs::remove_file(&new));
    }
    written
}

/// Writes `text` to the disk, with the permissions of the file that it will replace.
fn write(new: &Path, old: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(new)?;
    if let Ok(data) = fs::metadata(old) {
        file.set_permissions(data.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_replaced_as_a_whole_with_their_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.toml");
        let link = folder.path().join("link.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        fs::write(folder.path().join(".rollout.toml.new"), "half").unwrap();
        let files = FilesOnDisk::new(folder.path().join("deep/falls.toml"));
        files.write(&link, "new").unwrap();
        assert_eq!(files.read(&path).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(files.read_falls().unwrap(), None);
        files.write_falls("x").unwrap();
        assert_eq!(files.read_falls().unwrap().as_deref(), Some("x"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.toml");
        fs::write(&path, "old").unwrap();
        // A folder stands where the new file would be made.
        fs::create_dir(folder.path().join(".rollout.toml.new")).unwrap();
        let files = FilesOnDisk::new(folder.path().join("falls.toml"));
        files.write(&path, "new").unwrap_err();
        assert_eq!(files.read(&path).unwrap(), "old");
        let long = "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        fs::write(&path, long).unwrap();
        let error = files.read(&path).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
}
