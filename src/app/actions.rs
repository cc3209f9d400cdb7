//! The listener for WSO2 from the configuration: its secret, its certificate, its port.

use crate::actions::ActionsState;
use crate::actions::caller::Callers;
use crate::actions::caller::CurrentCallers;
use crate::actions::caller::SECRET_BYTES_MIN;
use crate::actions::listener;
use crate::app::certificates;
use crate::app::secret_file;
use crate::config::ActionsSettings;
use crate::config::ConfigError;
use crate::config::TlsFiles;
use crate::domain::secret::Secret;
use crate::flow::AuthFlow;
use crate::proxy::listener::ListenerTls;
use crate::telemetry::metrics::Metrics;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Everything that the listener needs but its port.
#[derive(Debug)]
pub struct Prepared {
    listen: SocketAddr,
    callers: CurrentCallers,
    tls: Option<ListenerTls>,
}

/// Reads what `[actions]` names. `None` when no secret is configured: then the listener is not opened.
pub fn prepare(settings: &ActionsSettings, file: &str) -> Result<Option<Prepared>, ConfigError> {
    let Some(secrets) = secrets(settings, file)? else {
        return Ok(None);
    };
    if settings.tls.is_none() && !settings.listen.ip().is_loopback() {
        return Err(ConfigError::new(
            file,
            format!(
                "actions.listen: {} is not loopback, and without [actions.tls] the secret could be read on the way",
                settings.listen
            ),
        ));
    }
    let load = |tls: &TlsFiles| certificates::load("actions", tls, &[], file);
    let tls = settings.tls.as_ref().map(load).transpose()?;
    Ok(Some(Prepared {
        listen: settings.listen,
        callers: Arc::new(ArcSwap::from_pointee(Callers::new(&secrets))),
        tls,
    }))
}

/// The secrets that are accepted, the present one first; `None` where there is none.
pub(in crate::app) fn secrets(
    settings: &ActionsSettings,
    file: &str,
) -> Result<Option<Vec<Secret<String>>>, ConfigError> {
    let Some(secret_file) = &settings.secret_file else {
        return match &settings.previous_secret_file {
            Some(_) => Err(ConfigError::new(
                file,
                "actions.previous_secret_file: there is no actions.secret_file that it could come before",
            )),
            None => Ok(None),
        };
    };
    let mut secrets = vec![read_secret(secret_file, "actions.secret_file", file)?];
    if let Some(previous) = &settings.previous_secret_file {
        secrets.push(read_secret(previous, "actions.previous_secret_file", file)?);
    }
    Ok(Some(secrets))
}

impl Prepared {
    /// Where others are put in.
    pub(in crate::app) fn callers(&self) -> CurrentCallers {
        Arc::clone(&self.callers)
    }

    /// Where it will listen.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What it shows, where it speaks TLS.
    pub fn tls(&self) -> Option<ListenerTls> {
        self.tls.clone()
    }

    /// Serves on `listener` until `stop` says so.
    pub async fn serve(
        self,
        listener: TcpListener,
        flow: Arc<AuthFlow>,
        metrics: Arc<Metrics>,
        stop: watch::Receiver<bool>,
    ) {
        let state = ActionsState {
            flow,
            callers: self.callers,
            metrics,
        };
        let tls = self.tls.map(|tls| tls.config());
        listener::serve(listener, tls, state, stop).await;
    }
}

/// What WSO2 shows, from the file that `key` of the configuration `file` names.
fn read_secret(path: &Path, key: &str, file: &str) -> Result<Secret<String>, ConfigError> {
    let wrong = |problem: String| ConfigError::new(file, format!("{key}: {problem}"));
    let secret = secret_file::text(path).map_err(wrong)?;
    let (place, length) = (path.display(), secret.expose().len());
    if length < SECRET_BYTES_MIN {
        return Err(wrong(format!(
            "`{place}`: {length} characters, expected at least {SECRET_BYTES_MIN}; `openssl rand -hex 32` makes one"
        )));
    }
    let is_visible = |byte: u8| byte.is_ascii_graphic();
    if !secret.expose().bytes().all(is_visible) {
        return Err(wrong(format!(
            "`{place}`: expected one line of visible ASCII characters without spaces, which a header can carry"
        )));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(secret: &str, folder: &Path) -> ActionsSettings {
        let path = folder.join("secret");
        std::fs::write(&path, secret).unwrap();
        ActionsSettings {
            secret_file: Some(path),
            ..ActionsSettings::default()
        }
    }

    #[test]
    fn without_a_secret_there_is_no_listener() {
        assert!(prepare(&ActionsSettings::default(), "f").unwrap().is_none());
    }

    #[test]
    fn a_bad_secret_names_its_key_and_a_remedy_and_never_itself() {
        let folder = tempfile::tempdir().unwrap();
        for (secret, said) in [
            ("", "openssl rand"),
            ("canary-short\n", "openssl rand"),
            (
                "canary with spaces in its forty letters!\n",
                "visible ASCII",
            ),
            (
                "canary-line-one-which-is-long-enough\ntwo\n",
                "visible ASCII",
            ),
        ] {
            let error = prepare(&settings(secret, folder.path()), "f").unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("actions.secret_file") && text.contains(said),
                "{text}"
            );
            assert!(!text.contains("canary"), "{text}");
        }
        let gone = ActionsSettings {
            secret_file: Some(folder.path().join("gone")),
            ..ActionsSettings::default()
        };
        assert!(
            prepare(&gone, "f")
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }

    #[test]
    fn in_clear_it_listens_on_loopback_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut plain = settings("0123456789abcdef0123456789abcdef\n", folder.path());
        assert!(prepare(&plain, "f").unwrap().is_some());
        plain.listen = SocketAddr::from(([192, 0, 2, 1], 9091));
        let text = prepare(&plain, "f").unwrap_err().to_string();
        assert!(
            text.contains("actions.listen") && text.contains("[actions.tls]"),
            "{text}"
        );
    }
}
