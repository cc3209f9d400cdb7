//! The gateway as a child process: started on a folder, ended by SIGTERM, killed when that takes too long.

use super::PATIENCE;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long the gateway may take to be ready, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// The file in the folder of a gateway with its limit of open files, where it has one of its own.
pub const OPEN_FILES: &str = "open-files";

/// Sockets that outlive the gateways that listen on them.
pub struct Sockets {
    /// The public one.
    pub public: TcpListener,
    /// That of the admin listener.
    pub admin: TcpListener,
}

/// A running gateway. Dropping it ends the process.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the gateway on `riskgate.toml` in `folder` and waits until it is ready.
    pub async fn start(folder: &Path, admin_port: u16) -> Self {
        let mut process = Self::spawn(folder, None);
        process.until_ready(admin_port).await;
        process
    }

    /// Starts the gateway on `riskgate.toml` in `folder`, on sockets that are open already: the public one and the admin's.
    pub fn spawn(folder: &Path, sockets: Option<&Sockets>) -> Self {
        let log = folder.join("riskgate.log");
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .expect("a log file")
        };
        let mut command = match sockets {
            None => {
                let limit = std::fs::read_to_string(folder.join(OPEN_FILES));
                let mut command = match limit {
                    Err(_) => Command::new(env!("CARGO_BIN_EXE_riskgate")),
                    Ok(files) => {
                        let mut command = Command::new("bash");
                        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
                        command.args(["-c", &limited, env!("CARGO_BIN_EXE_riskgate")]);
                        command
                    }
                };
                command.stdin(Stdio::null()).stdout(open());
                command
            }
            // As systemd does it: descriptors from 3 on, and the process that they are for.
            Some(sockets) => {
                let mut command = Command::new("bash");
                command
                    .args([
                        "-c",
                        "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\"",
                        env!("CARGO_BIN_EXE_riskgate"),
                    ])
                    .stdin(sockets.public.try_clone().map(OwnedFd::from).expect("a socket"))
                    .stdout(sockets.admin.try_clone().map(OwnedFd::from).expect("a socket"));
                command
            }
        };
        let child = command
            .args(["run", "--config"])
            .arg(folder.join("riskgate.toml"))
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .env("RISKGATE_FAULT_POINTS", "1")
            .envs(environment(folder))
            .stderr(open())
            .spawn()
            .expect("the gateway can be started");
        Self { child, log }
    }

    /// Waits until it says that it is ready.
    pub async fn until_ready(&mut self, admin_port: u16) {
        let end = Instant::now() + START_TIMEOUT;
        while admin(admin_port, "/health/ready")
            .await
            .is_none_or(|(status, _)| status != 200)
        {
            let ended = self.child.try_wait().expect("the gateway can be asked");
            assert!(
                ended.is_none() && Instant::now() < end,
                "the gateway is not ready ({ended:?}):\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it with SIGTERM: the exit code, `None` when it had to be killed.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for its end: the exit code, `None` when it had to be killed.
    pub async fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("the gateway can be asked") {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill();
        None
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        assert!(
            sent.expect("kill runs").success(),
            "SIG{name} for the gateway"
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        drop(
            Command::new("kill")
                .args(["-TERM", &self.child.id().to_string()])
                .status(),
        );
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

/// What the file `environment` in the folder adds: a line for each variable.
fn environment(folder: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder.join("environment")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// GET from the admin listener; `None` when nobody answers.
pub async fn admin(port: u16, path: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}

/// Waits until all that was observed is in the store, or was given up. A gateway that does not answer has nothing to wait for.
pub async fn until_learnt(port: u16) {
    let end = Instant::now() + PATIENCE;
    while let Some((200, metrics)) = admin(port, "/metrics").await {
        let waiting = metrics
            .lines()
            .find_map(|line| line.strip_prefix("riskgate_state_writes_waiting "))
            .expect("the gateway counts what waits for the store");
        if waiting == "0" {
            return;
        }
        assert!(Instant::now() < end, "{waiting} observations still wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
