//! The rollout file and the file of stages that have fallen back, on disk: read as a whole, replaced in one step, so that
//! whoever looks meanwhile sees the one or the other. Knows no plan.

use crate::adapters::replace::Access;
use crate::adapters::replace::replace;
use crate::adapters::replace::unwritten;
use crate::adapters::short_file;
use crate::domain::rollout_plan::FILE_BYTES_MAX;
use crate::flow::ports::PlanFiles;
use std::io;
use std::io::ErrorKind;
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
        replace(file, text.as_bytes(), Access::Kept)
            .map_err(|error| io::Error::new(error.kind(), unwritten(&error)))
    }

    fn read_falls(&self) -> io::Result<Option<String>> {
        match read(&self.falls) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write_falls(&self, text: &str) -> io::Result<()> {
        replace(&self.falls, text.as_bytes(), Access::Kept)
    }
}

/// A whole file, unless it is longer than one can be.
///
/// # Errors
/// It cannot be read, is too long or is not UTF-8.
pub fn read(file: &Path) -> io::Result<String> {
    short_file::read(file, FILE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_is_where_it_was_and_what_has_fallen_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.toml");
        std::fs::write(&path, "old").unwrap();
        let files = FilesOnDisk::new(folder.path().join("deep/falls.toml"));
        files.write(&path, "new").unwrap();
        assert_eq!(files.read(&path).unwrap(), "new");
        assert_eq!(files.read_falls().unwrap(), None);
        files.write_falls("x").unwrap();
        assert_eq!(files.read_falls().unwrap().as_deref(), Some("x"));
        let long = "x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        std::fs::write(&path, long).unwrap();
        let error = files.read(&path).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
}
