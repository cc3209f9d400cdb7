//! What this user may do with a file, asked of the system without doing it.

use rustix::fs::Access;
use rustix::fs::access;
use rustix::fs::statfs;
use rustix::process::geteuid;
use std::io;
use std::path::Path;

/// How procfs, sysfs and both versions of cgroups are called (`linux/magic.h`).
const KERNEL: [i128; 4] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x0027_e0eb];

/// Whether this user may write a file, or make files in a folder.
///
/// # Errors
/// Why not.
pub fn may_write(path: &Path) -> io::Result<()> {
    let wanted = if path.is_dir() {
        Access::WRITE_OK | Access::EXEC_OK
    } else {
        Access::WRITE_OK
    };
    Ok(access(path, wanted)?)
}

/// Whether this user may read a file.
///
/// # Errors
/// Why not.
pub fn may_read(path: &Path) -> io::Result<()> {
    Ok(access(path, Access::READ_OK)?)
}

/// Whether a folder is one of the kernel's own (procfs, sysfs, cgroups), in which nobody can make files, though root is told
/// that it may.
pub fn is_of_kernel(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| KERNEL.contains(&i128::from(found.f_type)))
}

/// The number of the user that this process is.
pub fn this_user() -> u32 {
    geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn what_is_not_there_can_be_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        may_write(folder.path()).unwrap();
        let file = folder.path().join("file");
        for asked in [may_read(&file), may_write(&file)] {
            assert_eq!(asked.unwrap_err().kind(), ErrorKind::NotFound);
        }
        std::fs::write(&file, "").unwrap();
        may_read(&file).unwrap();
        may_write(&file).unwrap();
    }
}
