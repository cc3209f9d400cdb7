//! Secrets that somebody gave as a line of text in a file: read in one way, whatever they are for. The secrets of the
//! gateway itself are bytes, and `keys` reads them.

use crate::adapters::short_file;
use crate::domain::secret::Secret;
use std::path::Path;

/// A file of this kind at most: more than any header could carry.
const FILE_BYTES_MAX: u64 = 16_384;

/// What the file says, without the white space around it, which editors leave; it may be nothing.
///
/// # Errors
/// The file cannot be read; the text names it, and the caller its key.
pub(in crate::app) fn text(path: &Path) -> Result<Secret<String>, String> {
    let text = short_file::read(path, FILE_BYTES_MAX)
        .map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// The same where nothing would be no secret; `expected` says whose it is.
///
/// # Errors
/// The file cannot be read or says nothing.
pub(in crate::app) fn read(path: &Path, expected: &str) -> Result<Secret<String>, String> {
    let secret = text(path)?;
    if secret.expose().is_empty() {
        let path = path.display();
        return Err(format!("`{path}` is empty, expected {expected}"));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_text_without_what_surrounds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ops.secret");
        let gone = read(&path, "a password").unwrap_err();
        assert!(
            gone.contains("ops.secret` cannot be read: "),
            "names the file: {gone}"
        );
        std::fs::write(&path, " \r\n").unwrap();
        assert_eq!(text(&path).unwrap().expose(), "");
        let empty = read(&path, "a password").unwrap_err();
        assert!(
            empty.ends_with("` is empty, expected a password"),
            "{empty}"
        );
        std::fs::write(&path, "two words \r\n").unwrap();
        assert_eq!(read(&path, "a password").unwrap().expose(), "two words");
        std::fs::write(&path, "canary".repeat(4_000)).unwrap();
        let long = read(&path, "a password").unwrap_err();
        assert!(
            long.contains("more than 16384 bytes") && !long.contains("canary"),
            "{long}"
        );
    }
}
