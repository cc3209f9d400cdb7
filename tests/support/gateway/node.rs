//! A second gateway in front of the same identity server: the configuration of the first with other ports and another
//! folder for its data.

use super::configuration::listening_port;
use super::configuration::write;
use super::process;
use super::process::Process;
use riskgate::domain::audit::is_mark;
use std::path::Path;
use tempfile::TempDir;
use toml::Table;
use toml::Value;

/// A running node.
pub struct Node {
    /// The port of its public listener.
    pub port: u16,
    /// The port of its metrics and health.
    pub admin_port: u16,
    process: Process,
    folder: TempDir,
}

impl Node {
    /// Starts a node like the one in `folder`.
    pub async fn start(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("riskgate.toml")).expect("a configuration");
        let mut config: Table = text.parse().expect("TOML");
        let own = tempfile::tempdir().expect("a temporary folder");
        let (port, admin_port) = (listening_port(), listening_port());
        let mut set = |section: &str, key: &str, value: String| {
            let section = config.get_mut(section).and_then(Value::as_table_mut);
            section
                .expect("a section")
                .insert(key.to_owned(), Value::String(value));
        };
        set("server", "listen", format!("127.0.0.1:{port}"));
        set("admin", "listen", format!("127.0.0.1:{admin_port}"));
        let data = own.path().join("data").display().to_string();
        set("state", "data_dir", data);
        write(&own.path().join("riskgate.toml"), &config.to_string());
        let process = Process::start(own.path(), admin_port).await;
        Self {
            port,
            admin_port,
            process,
            folder: own,
        }
    }

    /// Whether it says that it takes traffic.
    pub async fn is_ready(&self) -> bool {
        let answer = process::admin(self.admin_port, "/health/ready").await;
        answer.is_some_and(|(status, _)| status == 200)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its records, as lines.
    pub fn records(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("data/audit.jsonl"));
        text.unwrap_or_default()
            .lines()
            .filter(|line| !is_mark(line.as_bytes()))
            .map(str::to_owned)
            .collect()
    }
}
