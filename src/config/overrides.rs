//! Flags over the file. A flag says what is wrong with it under its own name.

use crate::config::Config;
use crate::config::ConfigError;
use crate::domain::policy::decision::Mode;
use crate::domain::policy::rollout::Rollout;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The flags of `run` and `check` that stand in for keys of the file.
#[derive(Args, Clone, Debug, Default)]
pub struct Overrides {
    /// Configuration file [default: conf/riskgate.toml if it is there, else the built-in defaults]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port of the public listener, such as 0.0.0.0:443 (key server.listen, as shipped 127.0.0.1:8080)
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// URL of WSO2 IS, such as https://wso2.internal:9443 (key upstream.url, as shipped https://localhost:9443)
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// Address and port of console, metrics and health (key admin.listen, as shipped 127.0.0.1:9090)
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub admin: Option<SocketAddr>,
    /// Address and port that WSO2's actions call (key actions.listen, as shipped 127.0.0.1:9091)
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub actions: Option<SocketAddr>,
    /// Where history is kept: embedded: or redis://HOST:PORT and its forms (key state.url, as shipped embedded:)
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Folder of everything that riskgate writes (key state.data_dir, as shipped data)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// off, monitor, advise or enforce, for everybody (key mode.default, as shipped monitor; the file's exceptions and its
    /// rollout no longer apply)
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<Mode>,
    /// Network whose X-Forwarded-For is believed; may be given more than once (key server.trusted_proxies)
    #[arg(long, value_name = "CIDR")]
    pub trusted_proxy: Vec<String>,
    /// Worker threads, at most 1024; 0, as shipped, for one per core (key server.threads)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Overrides {
    /// The file that will be read, if any.
    pub fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(Self::shipped_file)
    }

    /// What messages call the file.
    pub fn file_name(&self) -> String {
        self.file()
            .map_or_else(|| "defaults".to_owned(), |path| path.display().to_string())
    }

    /// The file that is read where none is named, if it is there.
    pub fn shipped_file() -> Option<PathBuf> {
        let shipped = PathBuf::from("conf/riskgate.toml");
        shipped.is_file().then_some(shipped)
    }

    /// The configuration: the file, or the defaults, with these flags over it.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = match self.file() {
            Some(path) => Config::load(&path)?,
            None => Config::default(),
        };
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        if let Some(url) = &self.upstream {
            config.upstream.url.clone_from(url);
        }
        if let Some(listen) = self.admin {
            config.admin.listen = listen;
        }
        if let Some(listen) = self.actions {
            config.actions.listen = listen;
        }
        if let Some(url) = &self.store {
            config.state.url.clone_from(url);
        }
        if let Some(dir) = &self.data {
            config.state.data_dir.clone_from(dir);
        }
        if let Some(mode) = self.mode {
            config.mode = Rollout::of(mode);
            config.rollout.file = None;
        }
        if !self.trusted_proxy.is_empty() {
            config
                .server
                .trusted_proxies
                .clone_from(&self.trusted_proxy);
        }
        if let Some(threads) = self.threads {
            config.server.threads = threads;
        }
        Ok(config)
    }
}

/// Reads an address with its port.
///
/// # Errors
/// What was expected.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = || "expected an IP address and a port, such as 127.0.0.1:8080".to_owned();
    text.parse().map_err(|_| expected())
}

/// Reads a mode.
///
/// # Errors
/// What was expected.
pub fn mode(text: &str) -> Result<Mode, String> {
    let known = Mode::ALL.into_iter().find(|mode| mode.as_str() == text);
    known.ok_or_else(|| "expected off, monitor, advise or enforce".to_owned())
}
