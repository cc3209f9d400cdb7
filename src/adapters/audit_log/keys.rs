//! The keys of the audit log on disk. At each start the seal is taken and that of the next boot is left in its place; what
//! has been overwritten is written over before it is given up, so that it does not stay in free blocks where the file
//! system writes in place.

use crate::adapters::replace::Access;
use crate::adapters::replace::create;
use crate::adapters::replace::replace;
use crate::domain::audit::chain::HASH_BYTES;
use crate::domain::audit::seal::Seal;
use crate::domain::hex;
use crate::flow::ports::Entropy;
use std::fs::OpenOptions;
use std::io::Error;
use std::io::ErrorKind;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// The seal of the next boot.
const SEAL_FILE: &str = "audit-seal.key";
/// Held while the seal is taken, so that two processes never take the same.
const LOCK_FILE: &str = "audit-seal.lock";

/// The seal of this boot and that of the next one, which is on the disk.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) this: Seal,
    pub(super) next: Seal,
    /// The key that was made for the auditor, at the first start.
    pub(super) auditor: Option<PathBuf>,
}

/// Takes the seal of this boot out of `folder`; makes the first one where there is none, for a node of that name.
pub(super) fn take(
    folder: &Path,
    node: Option<&str>,
    entropy: &dyn Entropy,
) -> std::io::Result<Taken> {
    std::fs::create_dir_all(folder)?;
    let lock = owned()
        .create(true)
        .truncate(false)
        .open(folder.join(LOCK_FILE))?;
    lock.lock()?;
    let path = folder.join(SEAL_FILE);
    let random = || {
        let mut bytes = [0; HASH_BYTES];
        entropy.fill(&mut bytes);
        bytes
    };
    let (this, auditor) = match kept(&path)? {
        Some(seal) => (seal, None),
        None => {
            let drawn: [u8; HASH_BYTES] = random();
            let drawn = format!("node-{}", hex::encode(drawn.get(..4).unwrap_or_default()));
            let seal = Seal::first(node.unwrap_or(&drawn), random(), random());
            let auditor = seal
                .auditor()
                .ok_or_else(|| Error::other("the library takes no key"))?;
            are_free(folder, &seal.node)?;
            let of_auditor = auditor_file(folder, &seal.node);
            create(&of_auditor, auditor.to_text().as_bytes())?;
            let public = format!("{}\n", auditor.public);
            create(&public_file(folder, &seal.node), public.as_bytes())?;
            (seal, Some(of_auditor))
        }
    };
    let next = this.next(random());
    exchange(&path, next.to_text().as_bytes())?;
    Ok(Taken {
        this,
        next,
        auditor,
    })
}

/// Whether `take` would find what it needs; takes nothing and makes nothing.
pub(super) fn look(folder: &Path, node: Option<&str>) -> std::io::Result<()> {
    let path = folder.join(SEAL_FILE);
    // A gateway that starts writes over what was there, and who has opened that reads half of it: the second look counts.
    match kept(&path).or_else(|_| kept(&path))? {
        Some(_) => Ok(()),
        None => node.map_or(Ok(()), |node| are_free(folder, node)),
    }
}

/// The seal that is kept; `None` where there is none.
fn kept(path: &Path) -> std::io::Result<Option<Seal>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let text = format!("`{}` cannot be read: {error}", path.display());
            return Err(Error::new(error.kind(), text));
        }
    };
    let seal = str::from_utf8(&bytes).ok().and_then(Seal::parse);
    seal.map(Some).ok_or_else(|| {
        let path = path.display();
        Error::new(
            ErrorKind::InvalidData,
            format!(
                "`{path}` is no seal; without it this node begins a log of its own: move it away"
            ),
        )
    })
}

/// Whether the keys of a node that begins can be made.
fn are_free(folder: &Path, node: &str) -> std::io::Result<()> {
    let files = [auditor_file(folder, node), public_file(folder, node)];
    match files.iter().find(|file| file.exists()) {
        None => Ok(()),
        Some(file) => {
            let file = file.display();
            Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "`{file}` is there, but not the seal that it belongs to, `{SEAL_FILE}`: put that back, or move the key away"
                ),
            ))
        }
    }
}

/// Where the auditor's key of a node is made.
pub fn auditor_file(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("audit-auditor.{node}.key"))
}

/// Where the public key of a node is made.
pub fn public_file(folder: &Path, node: &str) -> PathBuf {
    folder.join(format!("audit-public.{node}.key"))
}

/// The keys of auditors that are still in a folder, where they vouch for nothing.
pub fn auditor_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("audit-auditor.") && name.ends_with(".key"))
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(is_one).collect()
}

/// Puts new content in the place of a file in one step, and writes over what the old one held.
pub fn exchange(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let old = match OpenOptions::new().write(true).open(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    replace(path, bytes, Access::Private)?;
    if let Some(mut old) = old {
        let length = usize::try_from(old.metadata()?.len()).unwrap_or(0);
        old.write_all(&vec![0; length])?;
        old.sync_all()?;
    }
    Ok(())
}

/// Files for their owner alone.
pub(super) fn owned() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[test]
    fn each_boot_takes_the_seal_that_the_one_before_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let entropy = Counting(0.into());
        let first = take(&folder, None, &entropy).unwrap();
        assert_eq!((first.this.boot, first.next.boot), (0, 1));
        assert_eq!(first.this.node, "node-00000000");
        let auditor = std::fs::read_to_string(first.auditor.unwrap()).unwrap();
        assert!(auditor.contains("node-00000000"));
        let second = take(&folder, Some("other"), &entropy).unwrap();
        assert_eq!(second.this, first.next);
        assert!(second.auditor.is_none());
        // Nothing of a boot that has begun is on the disk, but the auditor's key, until somebody takes it away.
        let kept = std::fs::read_to_string(folder.join(SEAL_FILE)).unwrap();
        assert_eq!(kept, second.next.to_text());
        assert_eq!(
            auditor_files(&folder),
            [auditor_file(&folder, "node-00000000")]
        );
        #[cfg(unix)]
        for file in std::fs::read_dir(&folder).unwrap() {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_seal_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SEAL_FILE), "canary").unwrap();
        let error = take(dir.path(), None, &Counting(0.into()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("audit-seal.key") && !error.contains("canary"),
            "{error}"
        );
        assert_eq!(look(dir.path(), None).unwrap_err().to_string(), error);
    }

    #[test]
    fn a_look_finds_what_taking_would_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        look(folder, Some("edge-1")).unwrap();
        look(&folder.join("none"), None).unwrap();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
        take(folder, Some("edge-1"), &Counting(0.into())).unwrap();
        let seal = folder.join(SEAL_FILE);
        let before = std::fs::read(&seal).unwrap();
        look(folder, Some("edge-1")).unwrap();
        assert_eq!(std::fs::read(&seal).unwrap(), before);
        // A node of this name began a log here once, and its keys vouch for that.
        std::fs::remove_file(&seal).unwrap();
        let error = look(folder, Some("edge-1")).unwrap_err().to_string();
        assert!(error.contains("audit-auditor.edge-1.key"), "{error}");
        let refused = take(folder, Some("edge-1"), &Counting(0.into()));
        assert_eq!(refused.unwrap_err().to_string(), error);
        look(folder, None).unwrap();
        std::fs::write(&seal, b"\xff").unwrap();
        let error = look(folder, None).unwrap_err().to_string();
        assert!(error.contains("is no seal"), "{error}");
    }
}
