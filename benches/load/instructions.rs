//! How many instructions of its own (user space, all threads) a gateway spends on a request, counted by valgrind's
//! callgrind: hardly a figure on this page is as steady, whatever else the machine does. The kernel's part, caches and
//! waits are not in it. The counts by function stay in `target/bench/callgrind.*`, for `callgrind_annotate`.

use crate::Gateway;
use crate::driver;
use crate::process;
use crate::process::Child;
use crate::traffic::Traffic;
use crate::upstream;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// Connections: so few that nothing queues for longer than clients wait, so many that threads meet.
const CONNECTIONS: usize = 4;
/// Not counted: what is new at a first request, and users without a history.
const WARM_UP: Duration = Duration::from_secs(8);
/// Counted.
const ROUND: Duration = Duration::from_secs(20);
/// What is learnt and recorded of the last requests comes after them.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// One row: whose, with what traffic, requests, instructions.
type Row = (Gateway, Traffic, usize, u64);

/// Counts for each of `traffic`, the bare proxy beside it.
pub(crate) async fn run(folder: &Path, traffic: &[Traffic]) -> Result<()> {
    let upstream = upstream::start().await?;
    let mut rows: Vec<Row> = Vec::new();
    for &traffic in traffic {
        for gateway in [Gateway::Bare, Gateway::Enforce] {
            println!(
                "--> {} / {}, {} s",
                traffic.as_str(),
                gateway.as_str(),
                (WARM_UP + ROUND).as_secs()
            );
            let data = tempfile::Builder::new()
                .prefix("instructions-")
                .tempdir_in(folder)?;
            let (listen, admin) = (process::free_address()?, process::free_address()?);
            let (program, arguments) = match gateway {
                Gateway::Bare => (
                    std::env::current_exe()?,
                    vec!["bare".to_owned(), listen.to_string(), upstream.to_string()],
                ),
                _ => {
                    let file = data.path().join("riskgate.toml");
                    let text = crate::configuration(gateway, data.path(), listen, admin, upstream);
                    std::fs::write(&file, text)?;
                    let file = file.display().to_string();
                    (
                        PathBuf::from(env!("CARGO_BIN_EXE_riskgate")),
                        vec!["run".to_owned(), "--config".to_owned(), file],
                    )
                }
            };
            let name = format!("{}.{}", traffic.as_str(), gateway.as_str());
            let counts = folder.join(format!("callgrind.{name}"));
            let mut watched = vec![
                "--tool=callgrind".to_owned(),
                "--instr-atstart=no".to_owned(),
                "--separate-threads=no".to_owned(),
                format!("--callgrind-out-file={}", counts.display()),
                program.display().to_string(),
            ];
            watched.extend(arguments);
            let log = folder.join(format!("{name}.log"));
            let mut child = Child::start(Path::new("valgrind"), &watched, "0", &log)?;
            process::reachable(listen)
                .await
                .with_context(|| format!("see `{}`", log.display()))?;
            driver::run(listen, traffic, CONNECTIONS, WARM_UP).await?;
            control(&child, "on")?;
            let round = driver::run(listen, traffic, CONNECTIONS, ROUND).await?;
            tokio::time::sleep(AFTERWARDS).await;
            control(&child, "off")?;
            child.stop()?;
            let refused: u64 = round.statuses.range(400..).map(|(_, count)| count).sum();
            let requests = round.nanos.len();
            if requests == 0 || refused * 10 > requests as u64 {
                bail!("{name}: {requests} answers, {refused} of them refusals");
            }
            rows.push((gateway, traffic, requests, sum(&counts)?));
        }
    }
    println!("\n{}", table(&rows));
    Ok(())
}

fn control(child: &Child, state: &str) -> Result<()> {
    let status = Command::new("callgrind_control")
        .args(["-i", state, &child.id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("callgrind_control cannot be started; Debian has it in valgrind")?;
    if !status.success() {
        bail!("callgrind_control: {status}");
    }
    Ok(())
}

/// All instructions in a file of counts: it may hold several parts, each with a line `totals:`.
fn sum(counts: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(counts)
        .with_context(|| format!("no counts in `{}`", counts.display()))?;
    let mut sum = 0;
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals:") {
            sum += total.trim().parse::<u64>()?;
        }
    }
    if sum == 0 {
        bail!("`{}` counts nothing", counts.display());
    }
    Ok(sum)
}

fn table(rows: &[Row]) -> String {
    let mut text = "| traffic / gateway | requests | instructions per request | to `bare` |\n|---|---|---|---|\n".to_owned();
    let each = |row: &Row| row.3 / row.2 as u64;
    for row in rows {
        let bare = rows
            .iter()
            .find(|other| other.0 == Gateway::Bare && other.1 == row.1);
        let tenths = bare.map_or(0, |bare| each(row) * 10 / each(bare).max(1));
        text.push_str(&format!(
            "| {} / {} | {} | {} | {}.{} |\n",
            row.1.as_str(),
            row.0.as_str(),
            row.2,
            each(row),
            tenths / 10,
            tenths % 10
        ));
    }
    text
}
