//! The one secret of a deployment, and the keys derived from it for each use.

use crate::adapters::replace;
use crate::adapters::replace::Access;
use crate::adapters::replace::unwritten;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::mac::hmac_sha256;
use crate::domain::secret::Secret;
use crate::flow::ports::Entropy;
use hmac::Mac;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// The shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 32;

/// The variable that holds the secret itself.
const SECRET_VARIABLE: &str = "RISKGATE_SECRET";
/// The variable that names the file with the secret.
const FILE_VARIABLE: &str = "RISKGATE_SECRET_FILE";
/// The variable that names the file with the previous secret.
const PREVIOUS_FILE_VARIABLE: &str = "RISKGATE_PREVIOUS_SECRET_FILE";
/// The secret that is made at the first start.
const SECRET_FILE: &str = "secret.key";
/// The one before it.
const PREVIOUS_SECRET_FILE: &str = "secret.previous.key";

/// What mends a secret of our own making, and one before it.
const OWN_REMEDY: &str = "put a copy of it back, or move it away: the next start makes another one, and whoever was known is \
                          then unknown";
const OWN_PREVIOUS_REMEDY: &str =
    "put a copy of it back, or move it away: who was not seen since the exchange is then unknown";

/// Keys for each use. None of them tells anything of another.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For pseudonyms.
    pub pseudonyms: Secret<Vec<u8>>,
    /// For device cookies.
    pub devices: Secret<Vec<u8>>,
    /// For the copies of demands that browsers keep.
    pub demands: Secret<Vec<u8>>,
    /// For values in a shared store.
    pub seals: Secret<Vec<u8>>,
    /// For the gateway's own pages and their cookies.
    pub pages: Secret<Vec<u8>>,
    /// For what tokens carry that are signed anew.
    pub origins: Secret<Vec<u8>>,
    /// Those of the previous secret, while it is being exchanged.
    pub previous: Option<Box<Keys>>,
}

/// Where the secret and the one before it are.
#[derive(Clone, Debug)]
struct Places {
    secret: PathBuf,
    /// The key or variable that names it, for errors.
    named_by: &'static str,
    /// Whether it is made when it is missing.
    own: bool,
    previous: Option<PathBuf>,
    /// Where the one before it is, if no key or variable says so.
    own_previous: PathBuf,
}

/// What an exchange of the secret did.
#[derive(Debug)]
pub struct Rotated {
    /// Where the new secret is.
    pub secret: PathBuf,
    /// Where the one before it is now.
    pub previous: PathBuf,
}

impl Keys {
    /// Keys of one byte alone: for what is put together and never meets a client.
    pub fn throwaway(byte: u8) -> Self {
        let key = || Secret::new(vec![byte; 32]);
        Self {
            pseudonyms: key(),
            devices: key(),
            demands: key(),
            seals: key(),
            pages: key(),
            origins: key(),
            previous: None,
        }
    }

    /// Reads the secret, or makes one under the data folder when none is configured. `RISKGATE_SECRET` holds it,
    /// `RISKGATE_SECRET_FILE` names its file; both stand over the configuration.
    pub fn load(config: &Config, entropy: &dyn Entropy) -> Result<Self, ConfigError> {
        Self::load_with(config, Some(entropy), &|name| std::env::var_os(name))
    }

    /// Reads the secret, which must be there.
    pub fn existing(config: &Config) -> Result<Self, ConfigError> {
        Self::load_with(config, None, &|name| std::env::var_os(name))
    }

    /// Reads the secret; `None` where the next start makes it.
    pub fn found(config: &Config) -> Result<Option<Self>, ConfigError> {
        Self::found_with(config, &|name| std::env::var_os(name))
    }

    fn found_with(
        config: &Config,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, ConfigError> {
        let places = Places::of(config, variable);
        if variable(SECRET_VARIABLE).is_some() || !places.own || places.secret.exists() {
            return Self::load_with(config, None, variable).map(Some);
        }
        places.previous().map(|_| None)
    }

    fn load_with(
        config: &Config,
        entropy: Option<&dyn Entropy>,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let places = Places::of(config, variable);
        let secret = match variable(SECRET_VARIABLE) {
            Some(secret) => {
                long_enough(secret.into_encoded_bytes(), "environment", SECRET_VARIABLE)?
            }
            None => {
                if let Some(entropy) = entropy
                    && places.own
                    && !places.secret.exists()
                {
                    make(&places.secret, entropy)?;
                }
                let remedy = places.own.then_some(OWN_REMEDY);
                read_own(&places.secret, places.named_by, remedy)?
            }
        };
        let previous = places.previous()?;
        Ok(Self {
            previous: previous.map(|secret| Box::new(Self::of(&secret))),
            ..Self::of(&secret)
        })
    }

    /// What an operator should know of where the secret lies.
    pub fn warnings(config: &Config) -> Vec<String> {
        Self::warnings_with(config, &|name| std::env::var_os(name))
    }

    fn warnings_with(config: &Config, variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<String> {
        if variable(SECRET_VARIABLE).is_some() {
            return Vec::new();
        }
        let places = Places::of(config, variable);
        let (path, named_by) = (places.secret.display(), places.named_by);
        let mode = fs::metadata(&places.secret).map(|found| found.permissions().mode() & 0o777);
        let open = mode.ok().filter(|mode| mode & 0o007 != 0).map(|mode| {
            format!(
                "{named_by}: `{path}` has the mode {mode:o}, so others can read or change the secret: `chmod 600` it, or 640 \
                 for a group"
            )
        });
        let alone = (places.own && config.state.url.starts_with("redis")).then(|| {
            format!(
                "keys.secret_file: not set, so each node makes a secret of its own (`{path}`) and finds nothing of what others \
                 keep in Redis; expected the same file on all nodes"
            )
        });
        open.into_iter().chain(alone).collect()
    }

    fn of(secret: &Secret<Vec<u8>>) -> Self {
        let derive = |usage: &str| Secret::new(derive(secret.expose(), usage));
        Self {
            pseudonyms: derive("pseudonyms"),
            devices: derive("device cookies"),
            demands: derive("demand cookies"),
            seals: derive("state seals"),
            pages: derive("own pages"),
            origins: derive("token origins"),
            previous: None,
        }
    }
}

impl Places {
    fn of(config: &Config, variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let own = config.state.data_dir.join(SECRET_FILE);
        let (secret, named_by, own) = match (variable(FILE_VARIABLE), &config.keys.secret_file) {
            (Some(path), _) => (PathBuf::from(path), FILE_VARIABLE, false),
            (None, Some(path)) => (path.clone(), "keys.secret_file", false),
            (None, None) => (own, "state.data_dir", true),
        };
        let own_previous = config.state.data_dir.join(PREVIOUS_SECRET_FILE);
        let beside = || (own && own_previous.exists()).then(|| own_previous.clone());
        Self {
            previous: variable(PREVIOUS_FILE_VARIABLE)
                .map(PathBuf::from)
                .or_else(|| config.keys.previous_secret_file.clone())
                .or_else(beside),
            own_previous,
            secret,
            named_by,
            own,
        }
    }

    /// The secret before this one, where there is one.
    fn previous(&self) -> Result<Option<Secret<Vec<u8>>>, ConfigError> {
        let read = |path: &PathBuf| {
            let remedy = (*path == self.own_previous).then_some(OWN_PREVIOUS_REMEDY);
            read_own(path, "keys.previous_secret_file", remedy)
        };
        self.previous.as_ref().map(read).transpose()
    }
}

/// Makes a new secret and keeps the present one as the previous one. Both are whole files at every moment: what is
/// interrupted can be done again. With `force` a previous secret that is still there is given up, and with it everything
/// that was not seen since it was in use.
pub fn rotate(config: &Config, entropy: &dyn Entropy, force: bool) -> Result<Rotated, ConfigError> {
    let variable = |name: &str| std::env::var_os(name);
    let places = Places::of(config, &variable);
    let file = places.secret.display().to_string();
    if variable(SECRET_VARIABLE).is_some() {
        return Err(ConfigError::new(
            "environment",
            format!("{SECRET_VARIABLE}: the secret is not in a file; exchange it where it is kept"),
        ));
    }
    let previous = match (&places.previous, places.own) {
        (Some(path), _) => path.clone(),
        (None, true) => config.state.data_dir.join(PREVIOUS_SECRET_FILE),
        (None, false) => {
            return Err(ConfigError::new(
                file,
                "keys.previous_secret_file: missing, expected where the present secret shall be kept",
            ));
        }
    };
    let present = read(&places.secret, places.named_by)?;
    let unfinished = std::fs::read(&previous).is_ok_and(|bytes| &bytes == present.expose());
    if previous.exists() && !unfinished && !force {
        return Err(ConfigError::new(
            previous.display().to_string(),
            "a previous secret is still there: remove it once everybody has logged in since, or use --force",
        ));
    }
    let mut secret = [0; SECRET_BYTES_MIN];
    entropy.fill(&mut secret);
    replace(&previous, present.expose())?;
    replace(&places.secret, &secret)?;
    Ok(Rotated {
        secret: places.secret,
        previous,
    })
}

/// Puts a file in the place of another in one step, for its owner only.
pub(in crate::app) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    replace::replace(path, bytes, Access::Private)
        .map_err(|error| ConfigError::new(path.display().to_string(), unwritten(&error)))
}

/// A secret file of at least 32 bytes. `key` names the configuration key in errors.
pub fn read(path: &Path, key: &str) -> Result<Secret<Vec<u8>>, ConfigError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| ConfigError::new(&file, format!("{key}: cannot be read: {error}")))?;
    long_enough(bytes, &file, key)
}

/// The same, with what mends one that is too short.
fn read_own(path: &Path, key: &str, remedy: Option<&str>) -> Result<Secret<Vec<u8>>, ConfigError> {
    read(path, key).map_err(|error| match remedy {
        Some(remedy) if path.is_file() => {
            ConfigError::new(error.file, format!("{}; {remedy}", error.problem))
        }
        _ => error,
    })
}

fn long_enough(bytes: Vec<u8>, file: &str, key: &str) -> Result<Secret<Vec<u8>>, ConfigError> {
    if bytes.len() < SECRET_BYTES_MIN {
        let problem = format!(
            "{key}: {} bytes, expected at least {SECRET_BYTES_MIN} random ones",
            bytes.len()
        );
        return Err(ConfigError::new(file, problem));
    }
    Ok(Secret::new(bytes))
}

fn make(path: &Path, entropy: &dyn Entropy) -> Result<(), ConfigError> {
    let failed = |error: std::io::Error| {
        ConfigError::new(
            path.display().to_string(),
            format!("state.data_dir: cannot be written: {error}"),
        )
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut secret = [0; SECRET_BYTES_MIN];
    entropy.fill(&mut secret);
    replace::create(path, &secret).map_err(failed)
}

/// HMAC-SHA-256 of the usage under the secret: the expand step of HKDF (RFC 5869) with one block.
fn derive(secret: &[u8], usage: &str) -> Vec<u8> {
    let mut mac = hmac_sha256(secret);
    mac.update(b"riskgate v1 ");
    mac.update(usage.as_bytes());
    mac.update(&[1]);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::entropy::OsEntropy;

    #[test]
    fn the_secret_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = dir.path().join("new/data");
        let first = Keys::load(&config, &OsEntropy).unwrap();
        let second = Keys::load(&config, &OsEntropy).unwrap();
        assert_eq!(first.pseudonyms.expose(), second.pseudonyms.expose());
        assert_ne!(first.pseudonyms.expose(), first.devices.expose());
    }

    #[test]
    fn a_rotated_secret_is_kept_as_the_previous_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = dir.path().to_owned();
        let none = |_: &str| None;
        let before = Keys::load_with(&config, Some(&OsEntropy), &none).unwrap();
        assert!(before.previous.is_none());
        let rotated = rotate(&config, &OsEntropy, false).unwrap();
        let after = Keys::load_with(&config, Some(&OsEntropy), &none).unwrap();
        assert_ne!(after.pseudonyms.expose(), before.pseudonyms.expose());
        let previous = after.previous.unwrap();
        assert_eq!(previous.pseudonyms.expose(), before.pseudonyms.expose());
        assert_eq!(previous.devices.expose(), before.devices.expose());
        #[cfg(unix)]
        for path in [&rotated.secret, &rotated.previous] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        // A second one would give up the first.
        let error = rotate(&config, &OsEntropy, false).unwrap_err().to_string();
        assert!(error.contains("secret.previous.key"), "{error}");
        rotate(&config, &OsEntropy, true).unwrap();
        // What was interrupted between its two steps can be done again.
        std::fs::copy(&rotated.secret, &rotated.previous).unwrap();
        rotate(&config, &OsEntropy, false).unwrap();
    }

    #[test]
    fn a_secret_that_others_can_read_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = dir.path().to_owned();
        let none = |_: &str| None;
        Keys::load_with(&config, Some(&OsEntropy), &none).unwrap();
        assert_eq!(Keys::warnings_with(&config, &none), Vec::<String>::new());
        let path = dir.path().join(SECRET_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let said = Keys::warnings_with(&config, &none);
        assert!(
            matches!(&said[..], [said] if said.contains("has the mode 644")),
            "{said:?}"
        );
        let given = |name: &str| (name == SECRET_VARIABLE).then(OsString::new);
        assert_eq!(Keys::warnings_with(&config, &given), Vec::<String>::new());
    }

    #[test]
    fn nodes_that_share_a_redis_are_told_to_share_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = dir.path().to_owned();
        config.state.url = "redis://127.0.0.1".to_owned();
        let none = |_: &str| None;
        let said = Keys::warnings_with(&config, &none);
        assert!(
            matches!(&said[..], [said] if said.starts_with("keys.secret_file: not set")),
            "{said:?}"
        );
        config.keys.secret_file = Some(dir.path().join("shared"));
        assert_eq!(Keys::warnings_with(&config, &none), Vec::<String>::new());
    }

    #[test]
    fn the_environment_stands_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = dir.path().to_owned();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, [1; 32]).unwrap();
        std::fs::write(&two, [2; 32]).unwrap();
        config.keys.secret_file = Some(one.clone());
        let of = |variables: &[(&str, &str)]| {
            let variables: Vec<(String, String)> = variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            Keys::load_with(&config, Some(&OsEntropy), &|name| {
                let found = variables.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.into())
            })
        };
        let file = of(&[]).unwrap();
        let other = of(&[(FILE_VARIABLE, two.to_str().unwrap())]).unwrap();
        assert_ne!(file.seals.expose(), other.seals.expose());
        let text = "\u{2}".repeat(32);
        let held = of(&[(SECRET_VARIABLE, &text)]).unwrap();
        assert_eq!(held.seals.expose(), other.seals.expose());
        let both = of(&[(PREVIOUS_FILE_VARIABLE, two.to_str().unwrap())]).unwrap();
        assert_eq!(both.previous.unwrap().seals.expose(), other.seals.expose());
        let error = of(&[(SECRET_VARIABLE, "canary")]).unwrap_err().to_string();
        assert!(
            error.contains(SECRET_VARIABLE) && !error.contains("canary"),
            "{error}"
        );
    }

    #[test]
    fn what_is_found_is_what_the_next_start_finds() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = dir.path().to_owned();
        let found = || {
            let found = Keys::found_with(&config, &|_| None);
            found
                .map(|found| found.is_some())
                .map_err(|error| error.to_string())
        };
        assert_eq!(found(), Ok(false));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let [secret, previous] =
            [SECRET_FILE, PREVIOUS_SECRET_FILE].map(|name| dir.path().join(name));
        for (path, other) in [(&previous, &secret), (&secret, &previous)] {
            std::fs::write(path, "canary").unwrap();
            let error = found().unwrap_err();
            let name = path.display().to_string();
            assert!(
                error.starts_with(&name) && error.contains("move it away"),
                "{error}"
            );
            assert!(!error.contains("canary"), "{error}");
            std::fs::write(path, [1; 32]).unwrap();
            assert_eq!(found(), Ok(path == &secret), "{}", other.display());
        }
        let started = Keys::load_with(&config, None, &|_| None).unwrap();
        assert!(started.previous.is_some());
    }

    #[test]
    fn a_short_secret_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short.key");
        std::fs::write(&path, b"canary").unwrap();
        let error = read(&path, "keys.secret_file").unwrap_err().to_string();
        assert!(
            error.contains("short.key")
                && error.contains("keys.secret_file")
                && !error.contains("canary"),
            "{error}"
        );
    }
}
