//! The one secret of a deployment, and the keys derived from it for each use.

use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::secret::Secret;
use crate::flow::ports::Entropy;
use hmac::Hmac;
use hmac::Mac;
use sha2::Sha256;
use std::io::Write;
use std::path::Path;

/// The shortest secret, in bytes.
const SECRET_BYTES_MIN: usize = 32;

/// Keys for each use. None of them tells anything of another.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For pseudonyms.
    pub pseudonyms: Secret<Vec<u8>>,
    /// For device cookies.
    pub devices: Secret<Vec<u8>>,
    /// For values in a shared store.
    pub seals: Secret<Vec<u8>>,
}

impl Keys {
    /// Reads the secret, or makes one under the data folder when none is configured.
    pub fn load(config: &Config, entropy: &dyn Entropy) -> Result<Self, ConfigError> {
        let secret = match &config.keys.secret_file {
            Some(path) => read(path, "keys.secret_file")?,
            None => {
                let path = config.state.data_dir.join("secret.key");
                if !path.exists() {
                    make(&path, entropy)?;
                }
                read(&path, "state.data_dir")?
            }
        };
        let derive = |usage: &str| Secret::new(derive(secret.expose(), usage));
        Ok(Self {
            pseudonyms: derive("pseudonyms"),
            devices: derive("device cookies"),
            seals: derive("state seals"),
        })
    }
}

/// A secret file of at least 32 bytes. `key` names the configuration key in errors.
pub fn read(path: &Path, key: &str) -> Result<Secret<Vec<u8>>, ConfigError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| ConfigError::new(&file, format!("{key}: cannot be read: {error}")))?;
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
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
        .open(path)
        .and_then(|mut file| file.write_all(&secret).and_then(|()| file.sync_all()))
        .map_err(failed)
}

/// HMAC-SHA-256 of the usage under the secret: the expand step of HKDF (RFC 5869) with one block.
fn derive(secret: &[u8], usage: &str) -> Vec<u8> {
    // HMAC takes keys of every length; the fallback keeps the function total.
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret)
        .unwrap_or_else(|_| Hmac::new(&Default::default()));
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
