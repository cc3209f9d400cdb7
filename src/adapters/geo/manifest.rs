//! The manifest beside the databases: which version they are of, so that an audit record can name it.
//!
//! Sizes are always compared. Digests are where nobody waits for it, since 175 MB take half a second: when files are exchanged,
//! so that a damaged one never takes the place of a good one, and by `riskgate check`. A start goes by the sizes.

use crate::adapters::geo::GeoProblem;
use crate::adapters::geo::read_bounded;
use crate::domain::hex;
use aws_lc_rs::digest;
use serde::Deserialize;
use std::path::Path;

/// The name of the manifest in the folder of the databases.
pub(super) const FILE_NAME: &str = "manifest.toml";

/// The largest manifest that is read, in bytes.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;

/// The longest version that is taken over, in bytes: it goes into every audit record.
const MAX_VERSION_BYTES: usize = 64;

/// What `scripts/fetch-geo.sh` wrote down of the files.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    version: String,
    #[serde(default)]
    file: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    name: String,
    bytes: u64,
    sha256: Option<String>,
}

impl Manifest {
    /// Reads a manifest; `None` where there is none, which is fine: an operator may bring databases without one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, GeoProblem> {
        let bytes = match read_bounded(path, MAX_MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(GeoProblem::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(problem) => return Err(problem),
        };
        let text =
            std::str::from_utf8(&bytes).map_err(|error| GeoProblem::Manifest(error.to_string()))?;
        let manifest: Self = toml::from_str(text)
            .map_err(|error| GeoProblem::Manifest(error.message().to_owned()))?;
        let plain = manifest.version.bytes().all(|byte| byte.is_ascii_graphic());
        if manifest.version.is_empty() || manifest.version.len() > MAX_VERSION_BYTES || !plain {
            return Err(GeoProblem::Manifest(format!(
                "`version` must be 1 to {MAX_VERSION_BYTES} printable characters without spaces"
            )));
        }
        Ok(Some(manifest))
    }

    /// The version of the whole set.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The size that the manifest states for a file, by its name.
    pub(super) fn bytes_of(&self, path: &Path) -> Option<u64> {
        self.file(path).map(|file| file.bytes)
    }

    /// Whether a file is another than the one that the manifest has the digest of.
    pub(super) fn is_other(&self, path: &Path, content: &[u8]) -> bool {
        let stated = self.file(path).and_then(|file| file.sha256.as_deref());
        stated.is_some_and(|stated| {
            let found = digest::digest(&digest::SHA256, content);
            !stated.eq_ignore_ascii_case(&hex::encode(found.as_ref()))
        })
    }

    fn file(&self, path: &Path) -> Option<&File> {
        let name = path.file_name()?.to_str()?;
        self.file.iter().find(|file| file.name == name)
    }
}
