//! The two programs that the demo starts: watched while they run, ended in order, by their process ids, and killed when
//! that takes too long. A panic kills them as well: they do not outlive this value.

use crate::place::Place;
use crate::screen::Screen;
use crate::stop::Stop;
use anyhow::Context as _;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tokio::process::Child;
use tokio::process::Command;

/// How long a program may take to start: a debug build reads the address databases slowly.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long a program may take to end in order.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a program that starts.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines of a log that are shown when something went wrong.
const LOG_LINES: usize = 8;

/// The running programs, in the order of their start.
#[derive(Debug, Default)]
pub(crate) struct Programs(Vec<Program>);

#[derive(Debug)]
struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Where cargo puts the programs beside this example.
pub(crate) fn default_bin_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path is not known")?;
    let dir = own.ancestors().nth(2).map(Path::to_owned);
    dir.context("this program has no parent folder: name one with --bin-dir")
}

impl Programs {
    /// Starts the simulated WSO2 and waits until it says that it is ready.
    pub(crate) async fn start_wso2(
        &mut self,
        bin_dir: &Path,
        place: &Place,
        screen: &Screen,
    ) -> anyhow::Result<()> {
        let mut command = command(bin_dir, "wso2-sim", place)?;
        command
            .args(["--listen", &place.wso2_address().to_string(), "--tls"])
            .args(["--public-url", &place.gateway_url()])
            .arg("--cert-out")
            .arg(place.wso2_ca_file())
            .arg("--no-recording");
        let log = place.dir().join("wso2-sim.log");
        self.start("wso2-sim", command, log.clone())?;
        let ready = || async {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("wso2-sim ready")
        };
        self.wait(screen, "the simulated WSO2 makes its keys", ready)
            .await
    }

    /// Starts riskgate and waits until its health says that it serves.
    pub(crate) async fn start_riskgate(
        &mut self,
        bin_dir: &Path,
        place: &Place,
        screen: &Screen,
    ) -> anyhow::Result<()> {
        let mut command = command(bin_dir, "riskgate", place)?;
        command.arg("run").arg("-c").arg(place.config_file());
        self.start("riskgate", command, place.dir().join("riskgate.log"))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(2))
            .build()?;
        let url = format!("http://{}/health/ready", place.admin_address());
        let ready = || async {
            let answer = http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        self.wait(
            screen,
            "riskgate reads the address databases and proves the model",
            ready,
        )
        .await
    }

    /// Whether there is anything to end.
    pub(crate) fn are_started(&self) -> bool {
        !self.0.is_empty()
    }

    /// Fails when a program has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for program in &mut self.0 {
            if let Some(status) = program.child.try_wait()? {
                bail!("{} has ended: {status}", program.name);
            }
        }
        Ok(())
    }

    /// The ends of the logs.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for program in &self.0 {
            let text = std::fs::read_to_string(&program.log).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            lines.push(format!("    the end of {}'s log:", program.name));
            let end = all.iter().skip(all.len().saturating_sub(LOG_LINES));
            lines.extend(end.map(|line| format!("    | {line}")));
        }
        lines
    }

    /// Ends all programs, the last started first. A second wish to end kills them.
    pub(crate) async fn stop(&mut self, stop: &Stop) {
        while let Some(mut program) = self.0.pop() {
            program.ask_to_end().await;
            let ended = tokio::select! {
                ended = tokio::time::timeout(END_WITHIN, program.child.wait()) => ended.is_ok(),
                () = stop.wait_urgent() => false,
            };
            if !ended {
                eprintln!("demo: {} did not end in time and is killed", program.name);
                if let Err(error) = program.child.kill().await {
                    eprintln!("demo: {} cannot be killed: {error}", program.name);
                }
            }
        }
    }

    fn start(
        &mut self,
        name: &'static str,
        mut command: Command,
        log: PathBuf,
    ) -> anyhow::Result<()> {
        let out = std::fs::File::create(&log).context("a log cannot be written")?;
        command.stdout(out.try_clone()?).stderr(out);
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        self.0.push(Program { name, child, log });
        Ok(())
    }

    async fn wait<F>(
        &mut self,
        screen: &Screen,
        doing: &str,
        ready: impl Fn() -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = bool>,
    {
        let start = Instant::now();
        screen.progress(doing);
        while !ready().await {
            self.check()?;
            let seconds = start.elapsed().as_secs();
            if start.elapsed() > START_WITHIN {
                bail!("{doing}: not ready after {seconds} s");
            }
            if seconds > 0 {
                screen.status(&format!("    {seconds} s"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

impl Program {
    /// SIGTERM, by the shell's own `kill`: a minimal system has no program of that name.
    async fn ask_to_end(&self) {
        let Some(pid) = self.child.id() else { return };
        let asked = Command::new("/bin/sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &pid.to_string()])
            .stderr(Stdio::null())
            .status()
            .await;
        if let Err(error) = asked {
            eprintln!("demo: {} cannot be told to end: {error}", self.name);
        }
    }
}

fn command(bin_dir: &Path, name: &str, place: &Place) -> anyhow::Result<Command> {
    let path = std::path::absolute(bin_dir.join(name))?;
    if !path.is_file() {
        bail!(
            "`{}` is missing: build it first, or name its folder with --bin-dir",
            path.display()
        );
    }
    let mut command = Command::new(path);
    command
        .current_dir(&place.root)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        // Ctrl-C reaches the demo alone, which then ends the programs in order.
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}
