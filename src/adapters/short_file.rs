//! Files that are read whole because they are short. One that is longer than its kind can be (a device, a log that was
//! named by mistake) is refused before it fills the memory.

use std::fs::File;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::path::Path;

/// The text of a file that has `bytes_max` bytes at most. Pipes are read as well.
///
/// # Errors
/// The file cannot be read, is longer or is not UTF-8.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let problem = format!("it has more than {bytes_max} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, problem));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::NotFound);
        for (bytes, expected) in [
            (b"".as_slice(), Ok("")),
            (b"four", Ok("four")),
            (b"fives", Err("more than 4 bytes")),
            // The bound falls into a letter: the length is what is wrong.
            (b"abc\xc3\xa4", Err("more than 4 bytes")),
            (b"\xff", Err("not UTF-8")),
        ] {
            std::fs::write(&path, bytes).unwrap();
            match (read(&path, 4), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{found}");
                }
                (found, expected) => panic!("{found:?}, expected {expected:?}"),
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_has_no_end_is_refused() {
        let error = read(Path::new("/dev/zero"), 1_024).unwrap_err();
        assert!(
            error.to_string().contains("more than 1024 bytes"),
            "{error}"
        );
    }
}
