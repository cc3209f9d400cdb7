//! The operators' token: made at the first start, read by the commands that speak to a running gateway.

use crate::adapters::replace;
use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::bearer_token::BearerToken;
use crate::flow::ports::Entropy;
use std::io::ErrorKind;
use std::path::Path;

/// Reads the token, or makes one under the data folder when no file is configured and none is there.
pub fn load(config: &Config, entropy: &dyn Entropy) -> Result<BearerToken, ConfigError> {
    let path = config.token_file();
    if config.admin.token_file.is_none() && !path.exists() {
        let mut random = [0; 32];
        entropy.fill(&mut random);
        make(&path, &BearerToken::from_random(&random))?;
    }
    existing(config)
}

/// Reads the token, which must be there.
pub fn existing(config: &Config) -> Result<BearerToken, ConfigError> {
    let path = config.token_file();
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        ConfigError::new(&file, format!("admin.token_file: cannot be read: {error}"))
    })?;
    BearerToken::parse(&text).map_err(|error| {
        // One that was made here is made again.
        let remedy = match config.admin.token_file {
            Some(_) => "",
            None => "; move it away, and the next start makes another one",
        };
        ConfigError::new(&file, format!("admin.token_file: {error}{remedy}"))
    })
}

/// Reads the token, where there is one or must be one.
pub fn found(config: &Config) -> Result<(), ConfigError> {
    if config.admin.token_file.is_none() && !config.token_file().exists() {
        return Ok(());
    }
    existing(config).map(drop)
}

fn make(path: &Path, token: &BearerToken) -> Result<(), ConfigError> {
    let failed = |error: std::io::Error| {
        ConfigError::new(
            path.display().to_string(),
            format!("state.data_dir: cannot be written: {error}"),
        )
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match replace::create(path, format!("{}\n", token.expose()).as_bytes()) {
        // Another process was quicker: its token serves.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::entropy::OsEntropy;

    #[test]
    fn the_token_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.data_dir = folder.path().join("new/data");
        assert!(existing(&config).is_err() && found(&config).is_ok());
        let made = load(&config, &OsEntropy).unwrap();
        assert_eq!(load(&config, &OsEntropy).unwrap().expose(), made.expose());
        assert_eq!(existing(&config).unwrap().expose(), made.expose());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(config.token_file())
                .unwrap()
                .permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
        }
        std::fs::write(config.token_file(), "canary").unwrap();
        let error = found(&config).unwrap_err().to_string();
        assert!(
            error.contains("admin.token") && error.ends_with("the next start makes another one"),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");
        // A file that is configured is never made.
        config.admin.token_file = Some(folder.path().join("missing"));
        let error = load(&config, &OsEntropy).unwrap_err().to_string();
        assert!(
            error.contains("missing") && error.contains("admin.token_file"),
            "{error}"
        );
        std::fs::write(folder.path().join("missing"), "canary").unwrap();
        let error = load(&config, &OsEntropy).unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
    }
}
