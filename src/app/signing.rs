//! The files of the signing keys: made at the first start, read at each start and reload, exchanged by
//! `riskgate keys rotate --signing`. PKCS#8 in PEM, for their owner only.
//!
//! For each algorithm there is `es256.pem`, which signs, `es256.next.pem`, which will sign after the next rotation and is
//! published already, and `es256.previous.pem`, which signed before the last one. Every file is whole at every moment, and
//! at every moment what signs is published: a reload may fall between any two steps of a rotation.

use crate::adapters::replace::create;
use crate::app::keys::replace;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::signing::Ring;
use crate::domain::signing::SigningAlgorithm;
use crate::domain::signing::SigningKey;
use crate::domain::signing::SigningKeys;
use crate::domain::time::Timestamp;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// A key that has just been taken out of use verifies for at least this long: longer than access tokens live.
const PREVIOUS_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Characters of a line of PEM (RFC 7468 section 2).
const PEM_LINE: usize = 64;

/// What a rotation did for one algorithm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotated {
    /// The algorithm.
    pub algorithm: SigningAlgorithm,
    /// The key that signs from now on.
    pub current: String,
    /// The key that will sign after the next rotation.
    pub next: String,
    /// Whether the key that signs has changed; it has not when there was no next one to take its place.
    pub is_changed: bool,
}

/// Where the keys of one algorithm are.
struct Files {
    current: PathBuf,
    next: PathBuf,
    previous: PathBuf,
}

impl Files {
    fn of(folder: &Path, algorithm: SigningAlgorithm) -> Self {
        let stem = algorithm.as_str().to_ascii_lowercase();
        Self {
            current: folder.join(format!("{stem}.pem")),
            next: folder.join(format!("{stem}.next.pem")),
            previous: folder.join(format!("{stem}.previous.pem")),
        }
    }
}

/// Every file that a reload looks at; none where nothing is signed.
pub fn files(config: &Config) -> Vec<PathBuf> {
    if !config.signs() {
        return Vec::new();
    }
    let folder = config.signing_dir();
    let of = SigningAlgorithm::ALL.map(|algorithm| {
        let files = Files::of(&folder, algorithm);
        [files.current, files.next, files.previous]
    });
    of.into_iter().flatten().collect()
}

/// Makes a key and the one after it for each algorithm, where something is to be signed and the folder has no key yet.
pub fn prepare(config: &Config) -> Result<(), ConfigError> {
    let folder = config.signing_dir();
    let has_key = |algorithm: &SigningAlgorithm| {
        let files = Files::of(&folder, *algorithm);
        [files.current, files.next, files.previous]
            .iter()
            .any(|file| file.exists())
    };
    if !config.signs() || SigningAlgorithm::ALL.iter().any(has_key) {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| {
        ConfigError::new(
            folder.display().to_string(),
            format!("signing.directory: cannot be written: {error}"),
        )
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).map_err(|error| failed(&error))?;
    for algorithm in SigningAlgorithm::ALL {
        let files = Files::of(&folder, algorithm);
        for file in [files.current, files.next] {
            create(&file, &made(algorithm)?).map_err(|error| failed(&error))?;
        }
    }
    tracing::info!(folder = %folder.display(), "signing keys were made");
    Ok(())
}

/// Reads the keys. `None` where nothing is signed, or where they will be made at the first start.
pub fn load(config: &Config) -> Result<Option<SigningKeys>, ConfigError> {
    if !config.signs() {
        return Ok(None);
    }
    let folder = config.signing_dir();
    let mut rings = Vec::new();
    for algorithm in SigningAlgorithm::ALL {
        let files = Files::of(&folder, algorithm);
        let others = [
            read(&files.next, algorithm)?,
            read(&files.previous, algorithm)?,
        ];
        let has_other = others.iter().any(Option::is_some);
        let [next, previous] = others;
        match read(&files.current, algorithm)? {
            Some(current) => rings.push(Ring {
                current,
                next,
                previous,
            }),
            None if has_other => {
                return Err(ConfigError::new(
                    files.current.display().to_string(),
                    "signing.directory: missing, though there is a next or a previous key",
                ));
            }
            None => {}
        }
    }
    if rings.is_empty() {
        return Ok(None);
    }
    SigningKeys::new(config.signing.algorithm, rings)
        .map(Some)
        .map_err(|error| {
            ConfigError::new(
                folder.display().to_string(),
                format!("signing.algorithm: {error}"),
            )
        })
}

/// Puts the next key of each algorithm in the place of the one that signs, which is kept as the previous one, and makes
/// another next one. What is interrupted goes on when it is started again. Refused within a day of the last rotation, when
/// tokens of the key that would be given up are still about, unless with `force`.
pub fn rotate(config: &Config, now: Timestamp, force: bool) -> Result<Vec<Rotated>, ConfigError> {
    let folder = config.signing_dir();
    let mut rotated = Vec::new();
    for algorithm in SigningAlgorithm::ALL {
        let files = Files::of(&folder, algorithm);
        if read(&files.current, algorithm)?.is_some() {
            refuse_early(&files, now, force)?;
        }
    }
    for algorithm in SigningAlgorithm::ALL {
        let files = Files::of(&folder, algorithm);
        if read(&files.current, algorithm)?.is_some() {
            rotated.push(rotate_one(&files, algorithm)?);
        }
    }
    if rotated.is_empty() {
        return Err(ConfigError::new(
            folder.display().to_string(),
            "signing.directory: there are no signing keys; they are made at the first start of a gateway that signs",
        ));
    }
    Ok(rotated)
}

/// Whether two files are there and the same: a rotation was interrupted between its steps.
fn are_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (std::fs::read(one), std::fs::read(other));
    one.is_ok_and(|one| other.is_ok_and(|other| one == other))
}

fn refuse_early(files: &Files, now: Timestamp, force: bool) -> Result<(), ConfigError> {
    let is_unfinished =
        are_same(&files.current, &files.previous) || are_same(&files.current, &files.next);
    let since = std::fs::metadata(&files.previous).and_then(|data| data.modified());
    let Ok(since) = since else { return Ok(()) };
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = Timestamp(i64::try_from(since.as_millis()).unwrap_or(0));
    if force || is_unfinished || now >= since.plus(PREVIOUS_KEPT) {
        return Ok(());
    }
    let hours = PREVIOUS_KEPT.as_secs() / 3600;
    Err(ConfigError::new(
        files.previous.display().to_string(),
        format!(
            "the last rotation was less than {hours} hours ago: tokens that this key has signed are still about; wait, \
             or use --force"
        ),
    ))
}

fn rotate_one(files: &Files, algorithm: SigningAlgorithm) -> Result<Rotated, ConfigError> {
    let is_moved = are_same(&files.current, &files.next);
    let has_next = read(&files.next, algorithm)?.is_some();
    if has_next && !is_moved {
        // In this order each key that signs is published before and after.
        replace(&files.previous, &bytes(&files.current)?)?;
        replace(&files.current, &bytes(&files.next)?)?;
    }
    replace(&files.next, &made(algorithm)?)?;
    let id = |file: &Path| {
        read(file, algorithm)?
            .map(|key| key.id().to_owned())
            .ok_or_else(|| ConfigError::new(file.display().to_string(), "has gone"))
    };
    Ok(Rotated {
        algorithm,
        current: id(&files.current)?,
        next: id(&files.next)?,
        is_changed: has_next,
    })
}

fn bytes(file: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(file).map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Path, problem: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::new(
        file.display().to_string(),
        format!("signing.directory: cannot be read: {problem}"),
    )
}

/// The key in a file; `None` when the file is not there.
fn read(file: &Path, algorithm: SigningAlgorithm) -> Result<Option<SigningKey>, ConfigError> {
    let wrong = |problem: String| {
        ConfigError::new(
            file.display().to_string(),
            format!("signing.directory: {problem}"),
        )
    };
    let pem = match std::fs::read(file) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(file, &error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let data = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?;
        let mode = data.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(wrong(format!(
                "mode {mode:o}, expected 600: others can read or change a signing key"
            )));
        }
    }
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| {
        wrong("expected a private key in PKCS#8, PEM (`BEGIN PRIVATE KEY`)".to_owned())
    })?;
    SigningKey::from_pkcs8(algorithm, der.secret_pkcs8_der())
        .map(Some)
        .map_err(|error| wrong(error.to_string()))
}

/// A new key in PEM. Its chance is the library's, from the system.
fn made(algorithm: SigningAlgorithm) -> Result<Vec<u8>, ConfigError> {
    let failed = |_| {
        ConfigError::new(
            algorithm.as_str(),
            "signing.directory: no key could be made",
        )
    };
    let der = match algorithm {
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
        SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            pair.as_der().map_err(failed)?.as_ref().to_vec()
        }
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
        }
    };
    let text = STANDARD.encode(der);
    let mut pem = concat!("-----BEGIN ", "PRIVATE KEY-----\n")
        .as_bytes()
        .to_vec();
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(concat!("-----END ", "PRIVATE KEY-----\n").as_bytes());
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::clock::SystemClock;
    use crate::flow::ports::Clock;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    fn config(folder: &Path) -> Config {
        let mut config = Config::default();
        config.state.data_dir = folder.to_owned();
        config.signing.enabled = true;
        config
    }

    fn published(config: &Config) -> BTreeSet<String> {
        let keys = load(config).unwrap().unwrap();
        let keys = keys.jwks()["keys"].as_array().unwrap().clone();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    fn signs(config: &Config) -> String {
        let keys = load(config).unwrap().unwrap();
        keys.default_key().unwrap().id().to_owned()
    }

    const DAY: Duration = Duration::from_secs(24 * 3600 + 60);

    fn now() -> Timestamp {
        SystemClock.now()
    }

    #[test]
    fn keys_are_made_once_for_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.signing.enabled = false;
        prepare(&config).unwrap();
        assert!(load(&config).unwrap().is_none() && !config.signing_dir().exists());
        config.signing.enabled = true;
        // Before the first start there is nothing to find fault with.
        assert!(load(&config).unwrap().is_none());
        prepare(&config).unwrap();
        let first = published(&config);
        assert_eq!(first.len(), 6);
        prepare(&config).unwrap();
        assert_eq!(published(&config), first);
        for file in files(&config).iter().filter(|file| file.exists()) {
            let mode = std::fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_rotation_signs_with_what_was_published_before() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        prepare(&config).unwrap();
        let (before, old) = (published(&config), signs(&config));
        let now = now();
        let rotated = rotate(&config, now, false).unwrap();
        assert!(rotated.len() == 3 && rotated.iter().all(|one| one.is_changed));
        let (after, new) = (published(&config), signs(&config));
        assert!(old != new && before.contains(&new) && after.contains(&old));
        assert_eq!((before.len(), after.len()), (6, 9));
        // The day after, not before: the first key goes.
        let error = rotate(&config, now, false).unwrap_err().to_string();
        assert!(
            error.contains("previous.pem") && error.contains("--force"),
            "{error}"
        );
        rotate(&config, now.plus(DAY), false).unwrap();
        let third = published(&config);
        assert!(third.len() == 9 && !third.contains(&old) && third.contains(&new));
        rotate(&config, now, true).unwrap();
    }

    #[test]
    fn an_interrupted_rotation_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        prepare(&config).unwrap();
        let files = Files::of(&config.signing_dir(), SigningAlgorithm::Es256);
        let (old, new) = (signs(&config), {
            let next = read(&files.next, SigningAlgorithm::Es256).unwrap();
            next.unwrap().id().to_owned()
        });
        let copy = |from: &Path, to: &Path| {
            std::fs::copy(from, to).unwrap();
        };
        // After its first step, then after its second.
        copy(&files.current, &files.previous);
        assert!(published(&config).contains(&old) && signs(&config) == old);
        copy(&files.next, &files.current);
        assert!(published(&config).contains(&old) && signs(&config) == new);
        rotate(&config, now(), false).unwrap();
        assert_eq!(signs(&config), new);
        assert!(published(&config).contains(&old));
        // Without a next key there is nothing to change to: one is made first.
        std::fs::remove_file(&files.next).unwrap();
        let rotated = rotate(&config, now(), true).unwrap();
        assert!(!rotated[0].is_changed && rotated[1].is_changed);
        assert_eq!(signs(&config), new);
    }

    #[test]
    fn what_is_wrong_is_named_without_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        prepare(&config).unwrap();
        let dir = config.signing_dir();
        let [es, rs] = [SigningAlgorithm::Es256, SigningAlgorithm::Rs256];
        let (es, rs) = (Files::of(&dir, es).current, Files::of(&dir, rs).current);
        let good = std::fs::read(&es).unwrap();
        let fails = |config: &Config, words: &[&str]| {
            let error = load(config).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{error}");
            }
        };
        let mode = |mode| std::fs::set_permissions(&es, std::fs::Permissions::from_mode(mode));
        mode(0o640).unwrap();
        fails(&config, &["es256.pem", "mode 640", "expected 600"]);
        mode(0o600).unwrap();
        std::fs::copy(&rs, &es).unwrap();
        fails(&config, &["es256.pem", "not a private key for ES256"]);
        std::fs::write(&es, "canary").unwrap();
        fails(&config, &["es256.pem", "BEGIN PRIVATE KEY"]);
        assert!(!load(&config).unwrap_err().to_string().contains("canary"));
        std::fs::remove_file(&es).unwrap();
        fails(&config, &["es256.pem", "missing"]);
        std::fs::remove_file(Files::of(&dir, SigningAlgorithm::Es256).next).unwrap();
        fails(&config, &["signing.algorithm", "no key for ES256"]);
        config.signing.algorithm = SigningAlgorithm::Rs256;
        assert!(load(&config).is_ok());
        std::fs::create_dir(&es).unwrap();
        fails(&config, &["es256.pem", "cannot be read"]);
        std::fs::remove_dir(&es).unwrap();
        std::fs::write(&es, good).unwrap();
        mode(0o600).unwrap();
        assert!(load(&config).is_ok());
        // Nothing to rotate.
        let empty = tempfile::tempdir().unwrap();
        config.signing.directory = Some(empty.path().to_owned());
        let error = rotate(&config, now(), true).unwrap_err();
        assert!(error.to_string().contains("no signing keys"), "{error}");
    }
}
