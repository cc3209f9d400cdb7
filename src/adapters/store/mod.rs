//! Choosing the memory by its URL, and what the memories have in common: entries and their keys, encodings, and the
//! rules of what may be kept.

pub mod codec;
pub mod entities;
pub(crate) mod entries;
#[cfg(test)]
#[path = "hostile/tests.rs"]
mod hostile;
pub(crate) mod plan;
mod profile;
pub mod sketch;
pub mod transfer;

use crate::adapters::embedded;
use crate::adapters::embedded::EmbeddedError;
use crate::adapters::embedded::EmbeddedSettings;
use crate::adapters::embedded::EmbeddedStore;
pub use crate::adapters::embedded::Look;
use crate::adapters::redis::FORMS;
use crate::adapters::redis::RedisSettings;
use crate::adapters::redis::RedisStore;
use crate::adapters::redis::RedisUrlError;
use crate::adapters::store::transfer::Maintenance;
use crate::flow::ports::StateStore;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// The file of the embedded store within the data folder.
pub const STATE_FILE: &str = "state.redb";

/// How each kind of store behaves.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The store on a file.
    pub embedded: EmbeddedSettings,
    /// The store in Redis.
    pub redis: RedisSettings,
}

/// Why the memory could not be opened. Passwords are never part of it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data folder cannot be made.
    #[error("the data folder `{}` cannot be made: {source}", .path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state file cannot be opened.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The URL names Redis but cannot be used.
    #[error("the store URL `{url}` cannot be used: {source}")]
    Redis {
        /// The URL without its password.
        url: String,
        /// Why.
        source: RedisUrlError,
    },
    /// The scheme of the URL is unknown.
    #[error("the store `{url}` is unknown: expected embedded: or one of {FORMS}")]
    Scheme {
        /// The URL without its password.
        url: String,
    },
}

impl StoreError {
    /// Whether another process has it open, which may let go of it.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Embedded(EmbeddedError::InUse { .. }))
    }

    /// Whether this user may not read it, so that another one may.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::DataDir { source, .. } | Self::Embedded(EmbeddedError::Io { source, .. }) => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Self::Embedded(_) | Self::Redis { .. } | Self::Scheme { .. } => false,
        }
    }
}

/// Opens the memory at `url`: `embedded:` for the file [`STATE_FILE`] in `data_dir`, or one of the Redis forms. Redis
/// need not be there yet.
///
/// # Errors
///
/// If the URL is unknown or wrong, or the state file cannot be opened.
pub fn open(
    url: &str,
    data_dir: &Path,
    settings: &StoreSettings,
) -> Result<Arc<dyn StateStore>, StoreError> {
    if is_embedded(url) {
        std::fs::create_dir_all(data_dir).map_err(|source| StoreError::DataDir {
            path: data_dir.to_owned(),
            source,
        })?;
        return Ok(Arc::new(EmbeddedStore::open(
            &data_dir.join(STATE_FILE),
            settings.embedded,
        )?));
    }
    Ok(Arc::new(redis(url, settings)?))
}

/// Opens the memory at `url` for an operator: the file in `folder`, or without one a form of Redis.
///
/// # Errors
///
/// If the URL is unknown or wrong, or the state file cannot be opened.
pub(crate) fn maintain(
    url: &str,
    folder: Option<&Path>,
    settings: &StoreSettings,
) -> Result<Arc<dyn Maintenance>, StoreError> {
    let Some(folder) = folder else {
        return Ok(Arc::new(redis(url, settings)?));
    };
    std::fs::create_dir_all(folder).map_err(|source| StoreError::DataDir {
        path: folder.to_owned(),
        source,
    })?;
    let path = folder.join(STATE_FILE);
    Ok(Arc::new(EmbeddedStore::open(&path, settings.embedded)?))
}

/// Checks `url` without opening anything: for configurations that are only validated.
///
/// # Errors
///
/// If the URL is unknown or wrong.
pub fn check(url: &str, settings: &StoreSettings) -> Result<(), StoreError> {
    if is_embedded(url) {
        Ok(())
    } else {
        redis(url, settings).map(drop)
    }
}

/// Looks at the memory at `url` without a trace: at the file in `data_dir`, or at the form of the URL alone.
///
/// # Errors
///
/// If [`open`] would refuse it.
pub fn look(url: &str, data_dir: &Path, settings: &StoreSettings) -> Result<Look, StoreError> {
    if is_embedded(url) {
        let path = data_dir.join(STATE_FILE);
        return Ok(embedded::look(&path, settings.embedded)?);
    }
    redis(url, settings).map(|_| Look::Absent)
}

/// The URL with `…@` in place of username and password.
pub fn without_credentials(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://…@{after}")
        }
        None => url.to_owned(),
    }
}

fn is_embedded(url: &str) -> bool {
    url == "embedded:" || url == "embedded"
}

fn redis(url: &str, settings: &StoreSettings) -> Result<RedisStore, StoreError> {
    RedisStore::connect(url, settings.redis.clone()).map_err(|source| match source {
        RedisUrlError::Scheme => StoreError::Scheme {
            url: without_credentials(url),
        },
        source => StoreError::Redis {
            url: without_credentials(url),
            source,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;

    fn settings() -> StoreSettings {
        StoreSettings {
            embedded: EmbeddedSettings::default(),
            redis: RedisSettings::new(Secret::new(b"key".to_vec())),
        }
    }

    #[test]
    fn the_url_chooses_the_store() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            open("embedded:", &folder.path().join("new"), &settings())
                .unwrap()
                .kind(),
            "embedded"
        );
        for url in [
            "redis://127.0.0.1",
            "rediss://h",
            "redis+sentinel://h/m",
            "redis+cluster://a,b",
        ] {
            assert_eq!(
                open(url, folder.path(), &settings()).unwrap().kind(),
                "redis",
                "{url}"
            );
        }
    }

    #[test]
    fn errors_name_the_forms_and_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let error = open("memcached://u:canary@host", folder.path(), &settings())
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("embedded:") && error.contains("redis+cluster://"),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");
        let error = check("redis://u:canary@host/x", &settings())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("redis://…@host/x") && !error.contains("canary"),
            "{error}"
        );
    }
}
