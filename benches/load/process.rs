//! Child processes on a core of their own, and what the system says of their CPU time and memory. Linux only.
//!
//! A child is stopped by its process id and by nothing broader.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// How long a child may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A child process; killed when it is dropped without having been stopped.
#[derive(Debug)]
pub(crate) struct Child(std::process::Child);

/// CPU time by the names of the threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu(pub(crate) BTreeMap<String, Duration>);

impl Child {
    /// Starts `program` on `cores`, with its output in `log`.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        cores: &str,
        log: &Path,
    ) -> Result<Self> {
        let output =
            File::create(log).with_context(|| format!("`{}` cannot be written", log.display()))?;
        // taskset replaces itself by the program, so that the process id is the program's.
        let child = Command::new("taskset")
            .arg("--cpu-list")
            .arg(cores)
            .arg(program)
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("taskset cannot be started; Debian has it in util-linux")?;
        Ok(Self(child))
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// The most memory that was resident so far, in KiB.
    pub(crate) fn peak_rss_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Asks it to end and waits for it.
    pub(crate) fn stop(&mut self) -> Result<()> {
        Command::new("kill")
            .arg("-TERM")
            .arg(self.id().to_string())
            .status()?;
        let start = Instant::now();
        while self.0.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!(
                    "process {} did not end within {PATIENCE:?} of SIGTERM",
                    self.id()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The memory that is resident now, in KiB.
pub(crate) fn rss_kib(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // Nothing is left to do when even that fails.
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

impl Cpu {
    /// What the threads of a process have used so far, in the scheduler's nanoseconds. `/proc/PID/stat` would count in
    /// steps of 10 ms and not tell the threads apart.
    pub(crate) fn of(id: u32) -> Result<Self> {
        let mut used = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{id}/task"))
            .with_context(|| format!("process {id} has ended"))?
        {
            let task = task?.path();
            // A thread may end between being listed and being read.
            let (Ok(name), Ok(text)) = (
                std::fs::read_to_string(task.join("comm")),
                std::fs::read_to_string(task.join("schedstat")),
            ) else {
                continue;
            };
            let nanos = text
                .split(' ')
                .next()
                .unwrap_or_default()
                .parse()
                .context("the kernel keeps no schedstat")?;
            *used.entry(name.trim().to_owned()).or_insert(Duration::ZERO) +=
                Duration::from_nanos(nanos);
        }
        if used.is_empty() {
            bail!("the kernel keeps no schedstat for process {id}");
        }
        Ok(Self(used))
    }

    /// The difference to an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |name| earlier.0.get(name).copied().unwrap_or_default();
        Self(
            self.0
                .iter()
                .map(|(name, used)| (name.clone(), used.saturating_sub(before(name))))
                .collect(),
        )
    }

    /// Counts another process in.
    pub(crate) fn add(&mut self, other: Self) {
        for (name, used) in other.0 {
            *self.0.entry(name).or_default() += used;
        }
    }

    /// Of all threads.
    pub(crate) fn total(&self) -> Duration {
        self.0.values().sum()
    }
}

/// Keeps this process, and what it starts from now on, on one core.
pub(crate) fn pin_self(core: usize) -> Result<()> {
    let status = Command::new("taskset")
        .args([
            "--all-tasks",
            "--cpu-list",
            "--pid",
            &core.to_string(),
            &std::process::id().to_string(),
        ])
        .stdout(Stdio::null())
        .status()
        .context("taskset cannot be started; Debian has it in util-linux")?;
    if status.success() {
        Ok(())
    } else {
        bail!("taskset cannot pin to core {core}")
    }
}

/// An address of loopback on which nothing listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until something listens at `address`.
pub(crate) async fn reachable(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if start.elapsed() > PATIENCE {
            bail!("nothing listens at {address} after {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
