//! Other ways than the closed loop over plain HTTP/1.1, each beside the bare proxy in the same rounds: TLS, HTTP/2, the state
//! in Redis, a steady rate of which the gateway is half busy, one thread more, ten thousand idle connections. Token
//! requests throughout. `cargo bench --bench load -- ways`; the figures are in `target/bench/ways.json` as well.

use crate::Gateway;
use crate::driver;
use crate::driver::Round;
use crate::driver::Way;
use crate::process;
use crate::process::Child;
use crate::process::Cpu;
use crate::redis_server::RedisServer;
use crate::traffic::Traffic;
use crate::upstream;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;

/// Rounds of each row; ratios are taken within one.
const ROUNDS: usize = 5;
/// How long each lasts.
const ROUND: Duration = Duration::from_millis(1_200);
/// Users who have signed in before.
const WARM_UP: Duration = Duration::from_secs(2);
/// Connections, or streams, at a time.
const CONNECTIONS: usize = 32;
/// Idle connections beside the others.
const IDLE: usize = 10_000;
/// What a gateway is told that shall hold them: by itself it takes half of the files that it may open, and this process needs
/// as many.
const MANY: &str = "threads = 1\nconnections_max = 19000";
/// The steady rate keeps the core of the busiest gateway at work for this share of the time.
const BUSY: f64 = 0.5;
/// So often is it tried: a request costs more the less there is to do beside it, as threads fall asleep between requests.
const TRIALS: usize = 4;
/// They come from so many addresses.
const IDLE_ADDRESSES: usize = 100;

/// Who answers, and how it is set up.
struct Target {
    name: &'static str,
    address: SocketAddr,
    way: Way,
    child: Child,
}

/// One row of the table.
struct Row {
    what: &'static str,
    name: &'static str,
    rounds: Vec<Measured>,
}

/// One round.
struct Measured {
    rate: f64,
    cpu_micros: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What is started.
struct Setup<'a> {
    folder: &'a Path,
    data: &'a Path,
    upstream: SocketAddr,
    certificate: &'a [PathBuf; 2],
}

/// Runs all of them, or the closed loop and the steady rate alone.
pub(crate) async fn run(folder: &Path, all: bool) -> Result<()> {
    let upstream = upstream::start().await?;
    let data = tempfile::Builder::new()
        .prefix("ways-")
        .tempdir_in(folder)?;
    let certificate = certificate(data.path())?;
    let setup = Setup {
        folder,
        data: data.path(),
        upstream,
        certificate: &certificate,
    };
    let (redis, redis_beside) = (RedisServer::start(), RedisServer::start());
    let own = PathBuf::from(env!("CARGO_BIN_EXE_riskgate"));
    let mut plain = vec![setup.bare("bare", Way::Plain).await?];
    for (name, program, url) in [
        ("embedded", Some(&own), None),
        ("embedded, beside", crate::beside().as_ref(), None),
        ("redis", Some(&own), Some(redis.url())),
        (
            "redis, beside",
            crate::beside().as_ref(),
            Some(redis_beside.url()),
        ),
    ] {
        if let Some(program) = program {
            let url = url.as_deref();
            let started = setup.riskgate_of(program, name, Way::Plain, url, "threads = 1");
            plain.push(started.await?);
        }
    }
    let tls = [
        setup.bare("bare", Way::Tls).await?,
        setup
            .riskgate("embedded", Way::Tls, None, "threads = 1")
            .await?,
    ];
    for target in plain.iter().chain(&tls) {
        println!("--> warming up: {}", target.name);
        driver::run_by(
            target.address,
            target.way,
            Traffic::Token,
            CONNECTIONS,
            WARM_UP,
        )
        .await?;
    }
    let mut rows = Vec::new();
    let ways = |targets: &[Target], way: Way| -> Vec<(&'static str, SocketAddr, Way, u32)> {
        targets
            .iter()
            .map(|target| (target.name, target.address, way, target.child.id()))
            .collect()
    };
    closed(&mut rows, "HTTP/1.1", &ways(&plain, Way::Plain)).await?;
    if all {
        closed(&mut rows, "HTTP/1.1 over TLS", &ways(&tls, Way::Tls)).await?;
        closed(&mut rows, "HTTP/2 over TLS", &ways(&tls, Way::H2)).await?;
    }
    let plain_ways = ways(&plain, Way::Plain);
    let rate = half_load(&rows, &plain_ways).await?;
    println!(
        "--> a steady {rate:.0} requests a second: the busiest of them works for half of the time"
    );
    steady(&mut rows, "steady rate", &plain_ways, rate).await?;
    drop((plain, tls, redis, redis_beside));
    if !all {
        println!("\n{}", table(&rows));
        return Ok(());
    }

    let threads = [
        setup
            .riskgate("1 thread", Way::Plain, None, "threads = 1")
            .await?,
        setup
            .riskgate("2 threads", Way::Plain, None, "threads = 2")
            .await?,
    ];
    for target in &threads {
        driver::run(target.address, Traffic::Token, CONNECTIONS, WARM_UP).await?;
    }
    closed(&mut rows, "threads", &ways(&threads, Way::Plain)).await?;
    drop(threads);
    let memory = idle(&setup, &mut rows).await?;

    println!("\n{}", table(&rows));
    for line in &memory {
        println!("{line}");
    }
    let path = folder.join("ways.json");
    std::fs::write(&path, json(&rows, rate, &memory)?)?;
    println!("written: {}", path.display());
    Ok(())
}

impl Setup<'_> {
    async fn bare(&self, name: &'static str, way: Way) -> Result<Target> {
        let address = process::free_address()?;
        let mut arguments = vec![
            "bare".to_owned(),
            address.to_string(),
            self.upstream.to_string(),
        ];
        if way != Way::Plain {
            arguments.extend(
                self.certificate
                    .iter()
                    .map(|path| path.display().to_string()),
            );
        }
        let log = self.folder.join("ways-bare.log");
        let child = Child::start(&std::env::current_exe()?, &arguments, "0", &log)?;
        process::reachable(address).await?;
        Ok(Target {
            name,
            address,
            way,
            child,
        })
    }

    async fn riskgate(
        &self,
        name: &'static str,
        way: Way,
        redis: Option<&str>,
        server: &str,
    ) -> Result<Target> {
        let own = Path::new(env!("CARGO_BIN_EXE_riskgate"));
        self.riskgate_of(own, name, way, redis, server).await
    }

    /// That of another build.
    async fn riskgate_of(
        &self,
        program: &Path,
        name: &'static str,
        way: Way,
        redis: Option<&str>,
        server: &str,
    ) -> Result<Target> {
        let (address, admin) = (process::free_address()?, process::free_address()?);
        let data = tempfile::tempdir_in(self.data)?.keep();
        let mut text = crate::configuration(Gateway::Enforce, &data, address, admin, self.upstream)
            .replace("threads = 1", server);
        if let Some(url) = redis {
            text = text.replace("[state]", &format!("[state]\nurl = \"{url}\""));
        }
        if way != Way::Plain {
            let [chain, key] = self.certificate;
            text.push_str(&format!(
                "\n[server.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
                chain.display(),
                key.display()
            ));
        }
        let file = data.join("riskgate.toml");
        std::fs::write(&file, text)?;
        let arguments = [
            "run".to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
        ];
        let log = self
            .folder
            .join(format!("ways-{}.log", name.replace([' ', ','], "-")));
        let cores = if server.contains("threads = 2") {
            "0,1"
        } else {
            "0"
        };
        let child = Child::start(program, &arguments, cores, &log)?;
        process::reachable(address)
            .await
            .with_context(|| format!("see `{}`", log.display()))?;
        Ok(Target {
            name,
            address,
            way,
            child,
        })
    }
}

/// The closed loop, one target after the other in each round.
async fn closed(
    rows: &mut Vec<Row>,
    what: &'static str,
    targets: &[(&'static str, SocketAddr, Way, u32)],
) -> Result<()> {
    println!("--> {what}: {ROUNDS} rounds");
    let mut measured: Vec<Vec<Measured>> = targets.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, address, way, id), of) in targets.iter().zip(&mut measured) {
            let before = Cpu::of(*id)?;
            let round = driver::run_by(*address, *way, Traffic::Token, CONNECTIONS, ROUND).await?;
            of.push(Measured::of(&round, *id, &before).await?);
        }
    }
    rows.extend(named(what, targets, measured));
    Ok(())
}

/// The rate at which the gateway whose requests cost the most has its core at work for the share [`BUSY`].
async fn half_load(rows: &[Row], targets: &[(&'static str, SocketAddr, Way, u32)]) -> Result<f64> {
    let cost = |row: &Row| median(row.rounds.iter().map(|round| round.cpu_micros));
    let busiest = rows
        .iter()
        .filter(|row| row.what == "HTTP/1.1")
        .max_by(|one, other| cost(one).total_cmp(&cost(other)))
        .context("no closed loop was measured")?;
    let (_, address, _, id) = targets
        .iter()
        .find(|(name, ..)| *name == busiest.name)
        .context("the busiest gateway is not among those at a steady rate")?;
    let mut rate = BUSY * 1e6 / cost(busiest);
    for _ in 0..TRIALS {
        let before = Cpu::of(*id)?;
        let round = driver::steady(*address, Traffic::Token, CONNECTIONS, rate, 2 * ROUND).await?;
        let measured = Measured::of(&round, *id, &before).await?;
        println!(
            "--> {}: at {rate:.0} requests a second busy for {:.0} %",
            busiest.name,
            measured.busy() * 100.0
        );
        rate = BUSY * 1e6 / measured.cpu_micros;
    }
    Ok(rate)
}

/// The same at a steady rate.
async fn steady(
    rows: &mut Vec<Row>,
    what: &'static str,
    targets: &[(&'static str, SocketAddr, Way, u32)],
    rate: f64,
) -> Result<()> {
    let mut measured: Vec<Vec<Measured>> = targets.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, address, _, id), of) in targets.iter().zip(&mut measured) {
            let before = Cpu::of(*id)?;
            let round =
                driver::steady(*address, Traffic::Token, CONNECTIONS, rate, 2 * ROUND).await?;
            of.push(Measured::of(&round, *id, &before).await?);
        }
    }
    rows.extend(named(what, targets, measured));
    Ok(())
}

fn named<'a>(
    what: &'static str,
    targets: &'a [(&'static str, SocketAddr, Way, u32)],
    measured: Vec<Vec<Measured>>,
) -> impl Iterator<Item = Row> + 'a
where
{
    targets
        .iter()
        .zip(measured)
        .map(move |((name, ..), rounds)| Row { what, name, rounds })
}

/// What ten thousand connections that have asked once and wait cost, in memory and in the time of the others.
async fn idle(setup: &Setup<'_>, rows: &mut Vec<Row>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for target in [
        setup.bare("bare", Way::Plain).await?,
        setup.riskgate("embedded", Way::Plain, None, MANY).await?,
    ] {
        let id = target.child.id();
        driver::run(target.address, Traffic::Token, CONNECTIONS, WARM_UP).await?;
        let with = [(target.name, target.address, Way::Plain, id)];
        closed(rows, "no idle connections", &with).await?;
        let before = process::rss_kib(id)?;
        let mut waiting = Vec::with_capacity(IDLE);
        for number in 0..IDLE {
            let from = format!("127.0.{}.1:0", 1 + number % IDLE_ADDRESSES);
            waiting.push(asked_once(from.parse()?, target.address).await?);
        }
        let after = process::rss_kib(id)?;
        closed(rows, "10,000 idle connections", &with).await?;
        let open = waiting.iter().filter(|stream| is_open(stream)).count();
        if open < IDLE {
            bail!(
                "{}: {} of {IDLE} idle connections were closed",
                target.name,
                IDLE - open
            );
        }
        lines.push(format!(
            "{}: {:.1} MiB, with {IDLE} idle connections {:.1} MiB ({:.1} KiB each)",
            target.name,
            before as f64 / 1024.0,
            after as f64 / 1024.0,
            after.saturating_sub(before) as f64 / IDLE as f64
        ));
    }
    Ok(lines)
}

async fn asked_once(from: SocketAddr, address: SocketAddr) -> Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream = socket.connect(address).await?;
    driver::ask_once(&mut stream).await?;
    Ok(stream)
}

/// Whether nobody has closed it: there is nothing to read.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    stream
        .try_read(&mut byte)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

impl Measured {
    /// The share of the time for which its core was at work, 0 to 1.
    fn busy(&self) -> f64 {
        self.rate * self.cpu_micros / 1e6
    }

    async fn of(round: &Round, id: u32, before: &Cpu) -> Result<Self> {
        // What was recorded and learnt of the last requests comes after them.
        tokio::time::sleep(crate::FLUSHED).await;
        let used = Cpu::of(id)?.since(before).total();
        let count = round.nanos.len();
        if count == 0 {
            bail!("no answers");
        }
        let failed: u64 = round.statuses.range(500..).map(|(_, count)| count).sum();
        let refused: u64 = round.statuses.range(400..500).map(|(_, count)| count).sum();
        if failed > 0 || refused * 10 > count as u64 {
            bail!(
                "these answers are not what was to be measured: {:?}",
                round.statuses
            );
        }
        let quantile = |share: f64| {
            let index = (count.saturating_sub(1) as f64 * share).round() as usize;
            round
                .nanos
                .get(index)
                .map_or(f64::NAN, |nanos| *nanos as f64 / 1e6)
        };
        Ok(Self {
            rate: count as f64 / round.took.as_secs_f64(),
            cpu_micros: used.as_secs_f64() * 1e6 / count as f64,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `value` of a row over the first of the same kind, round by round.
fn ratio(rows: &[Row], row: &Row, value: impl Fn(&Measured) -> f64) -> f64 {
    let Some(base) = rows.iter().find(|other| other.what == row.what) else {
        return f64::NAN;
    };
    let pairs = row.rounds.iter().zip(&base.rounds);
    median(pairs.map(|(own, base)| value(own) / value(base)))
}

fn table(rows: &[Row]) -> String {
    let mut text = "| way | gateway | requests/s | CPU µs per request | to the first | p50 ms | p99 ms |\n|---|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let of = |value: fn(&Measured) -> f64| median(row.rounds.iter().map(value));
        text.push_str(&format!(
            "| {} | {} | {:.0} | {:.1} | {:.2} | {:.3} | {:.2} |\n",
            row.what,
            row.name,
            of(|round| round.rate),
            of(|round| round.cpu_micros),
            ratio(rows, row, |round| round.cpu_micros),
            of(|round| round.p50_ms),
            of(|round| round.p99_ms)
        ));
    }
    text
}

fn json(rows: &[Row], rate: f64, memory: &[String]) -> Result<String> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let all =
                |value: fn(&Measured) -> f64| row.rounds.iter().map(value).collect::<Vec<_>>();
            serde_json::json!({
                "way": row.what,
                "gateway": row.name,
                "requests_per_second": all(|round| round.rate),
                "cpu_micros_per_request": all(|round| round.cpu_micros),
                "p50_ms": all(|round| round.p50_ms),
                "p99_ms": all(|round| round.p99_ms),
            })
        })
        .collect();
    let report = serde_json::json!({"steady_rate": rate, "rows": rows, "memory": memory});
    Ok(serde_json::to_string_pretty(&report)?)
}

/// A certificate for this run alone: chain and key.
fn certificate(folder: &Path) -> Result<[PathBuf; 2]> {
    let made = rcgen::generate_simple_self_signed(vec![driver::HOST.to_owned()])?;
    let paths = [folder.join("server.crt"), folder.join("server.key")];
    std::fs::write(&paths[0], made.cert.pem())?;
    std::fs::write(&paths[1], made.signing_key.serialize_pem())?;
    #[cfg(unix)]
    std::fs::set_permissions(
        &paths[1],
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    Ok(paths)
}
