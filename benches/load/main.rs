//! The load bench: what riskgate costs per request beside a bare Pingora pass-through and the upstream itself, measured
//! in one run on loopback so that the ratios hold even where the machine is noisy.
//!
//! `make bench`, or `cargo bench --bench load`; with names of traffic or gateways (`-- token enforce`) those alone, beside
//! the bare proxy. `BENCH_BESIDE` names another build of riskgate that is measured in the same rounds. One binary in three roles: without a role it runs the whole bench, with `bare` it is the pass-through,
//! with `scorer` the least that a peer can ask. The gateway under test has core 0 for itself, with what it asks; the load
//! and the upstream share core 1.
//! It measures the proxies' own work and says nothing about WSO2 or a network: docs/PERFORMANCE.md.

/// The bare pass-through.
mod bare;
/// The closed loop of clients.
mod driver;
/// Instructions per request.
mod instructions;
/// What others offer.
mod peers;
/// Child processes, their CPU time and memory.
mod process;
/// Medians, ratios, the table and the JSON file.
mod report;
/// Access tokens.
mod tokens;
/// The requests.
mod traffic;
/// The fixed upstream.
mod upstream;
/// Other ways than the closed loop over plain HTTP/1.1.
mod ways;

#[path = "../../tests/support/redis.rs"]
#[allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared with the tests"
)]
mod redis_server;

use crate::driver::Round;
use crate::process::Child;
use crate::process::Cpu;
use crate::report::Report;
use crate::report::Sample;
use crate::traffic::Traffic;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Connections of the saturated rounds.
const CONNECTIONS: usize = 32;
/// Saturated rounds of every variant.
const ROUNDS: usize = 7;
/// How long one of them lasts.
const ROUND: Duration = Duration::from_millis(1_200);
/// Rounds with one connection, in which nothing queues.
const QUIET_ROUNDS: usize = 5;
/// How long one of them lasts.
const QUIET_ROUND: Duration = Duration::from_millis(400);
/// How long every gateway is warmed up per kind of traffic, so that the users have a history.
const WARM_UP: Duration = Duration::from_secs(2);
/// What was learnt is in the state file by then, which riskgate writes once a second.
pub(crate) const FLUSHED: Duration = Duration::from_millis(1_500);
/// The greatest share of requests that a gateway may answer itself: beyond that the numbers would be about refusals.
const REFUSED_MAX: f64 = 0.10;

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Gateway {
    Direct,
    Bare,
    Monitor,
    Enforce,
    /// The same with the models in ONNX Runtime.
    Onnx,
    /// `Enforce` with another build of riskgate, the one that `BENCH_BESIDE` names.
    Beside,
    /// nginx that passes on.
    NginxPass,
    /// nginx that asks a scorer which answers at once (`auth_request`).
    NginxEmpty,
    /// nginx that asks ONNX Runtime behind a bare ASGI application.
    NginxAsgi,
    /// nginx that asks ONNX Runtime behind FastAPI.
    NginxFastapi,
    /// HAProxy that passes on.
    HaproxyPass,
    /// Envoy that passes on.
    EnvoyPass,
    /// Envoy that asks a scorer which answers at once (`ext_authz` over HTTP).
    EnvoyEmpty,
}

/// One thing that is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Variant {
    gateway: Gateway,
    traffic: Traffic,
}

const fn variant(gateway: Gateway, traffic: Traffic) -> Variant {
    Variant { gateway, traffic }
}

/// In the order in which they run within a round: what is compared stands side by side.
const VARIANTS: [Variant; 23] = [
    variant(Gateway::Direct, Traffic::Passed),
    variant(Gateway::Bare, Traffic::Passed),
    variant(Gateway::Monitor, Traffic::Passed),
    variant(Gateway::Beside, Traffic::Passed),
    variant(Gateway::NginxPass, Traffic::Passed),
    variant(Gateway::Bare, Traffic::Token),
    variant(Gateway::Monitor, Traffic::Token),
    variant(Gateway::Enforce, Traffic::Token),
    variant(Gateway::Beside, Traffic::Token),
    variant(Gateway::Onnx, Traffic::Token),
    variant(Gateway::NginxPass, Traffic::Token),
    variant(Gateway::NginxEmpty, Traffic::Token),
    variant(Gateway::NginxAsgi, Traffic::Token),
    variant(Gateway::NginxFastapi, Traffic::Token),
    variant(Gateway::HaproxyPass, Traffic::Token),
    variant(Gateway::EnvoyPass, Traffic::Token),
    variant(Gateway::EnvoyEmpty, Traffic::Token),
    variant(Gateway::Bare, Traffic::Login),
    variant(Gateway::Enforce, Traffic::Login),
    variant(Gateway::Bare, Traffic::Authorize),
    variant(Gateway::Enforce, Traffic::Authorize),
    variant(Gateway::Bare, Traffic::Resource),
    variant(Gateway::Enforce, Traffic::Resource),
];

/// Those that are riskgate.
const OWN: [Gateway; 4] = [
    Gateway::Monitor,
    Gateway::Enforce,
    Gateway::Onnx,
    Gateway::Beside,
];

/// All of them that are somebody else's.
const PEERS: [Gateway; 7] = [
    Gateway::NginxPass,
    Gateway::NginxEmpty,
    Gateway::NginxAsgi,
    Gateway::NginxFastapi,
    Gateway::HaproxyPass,
    Gateway::EnvoyPass,
    Gateway::EnvoyEmpty,
];

impl Gateway {
    fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bare => "bare",
            Self::Monitor => "monitor",
            Self::Enforce => "enforce",
            Self::Onnx => "onnx",
            Self::Beside => "beside",
            Self::NginxPass => "nginx-pass",
            Self::NginxEmpty => "nginx-empty",
            Self::NginxAsgi => "nginx-asgi",
            Self::NginxFastapi => "nginx-fastapi",
            Self::HaproxyPass => "haproxy-pass",
            Self::EnvoyPass => "envoy-pass",
            Self::EnvoyEmpty => "envoy-empty",
        }
    }
}

/// A gateway that is running, with what it asks. `Direct` has no process of its own.
struct Target {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    children: Vec<Child>,
}

impl Target {
    /// What its processes have used so far.
    fn cpu(&self) -> Result<Cpu> {
        if self.children.is_empty() {
            return Cpu::of(std::process::id());
        }
        let mut sum = Cpu::default();
        for child in &self.children {
            sum.add(Cpu::of(child.id())?);
        }
        Ok(sum)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["bare", listen, upstream] => bare::run(listen.parse()?, upstream.parse()?, None),
        ["bare", listen, upstream, chain, key] => {
            bare::run(listen.parse()?, upstream.parse()?, Some((chain, key)))
        }
        ["scorer", listen] => peers::run_scorer(listen.parse()?),
        // Cargo says `--bench`; whoever builds and starts all targets as tests does not want minutes of load.
        list if list.contains(&"--bench") => {
            let named = list.iter().copied().filter(|word| !word.starts_with('-'));
            match named.collect::<Vec<_>>().as_slice() {
                ["instructions", named @ ..] => count_instructions(named),
                ["ways", which @ ..] if matches!(which, [] | ["steady"]) => {
                    let (folder, runtime) = prepare()?;
                    runtime.block_on(ways::run(&folder, which.is_empty()))
                }
                named => bench(&variants(named)?),
            }
        }
        _ => {
            println!("the load bench runs with `make bench` or `cargo bench --bench load`");
            Ok(())
        }
    }
}

/// Those of the named traffic at the named gateways, beside the bare proxy; all traffic, or all gateways, where none is named.
fn variants(named: &[&str]) -> Result<Vec<Variant>> {
    let of_traffic = |variant: &Variant, name: &str| variant.traffic.as_str() == name;
    let of_gateway = |variant: &Variant, name: &str| variant.gateway.as_str() == name;
    let is_known = |name: &str, is: fn(&Variant, &str) -> bool| {
        VARIANTS.iter().any(|variant| is(variant, name))
    };
    for name in named {
        if !is_known(name, of_traffic) && !is_known(name, of_gateway) {
            bail!("no traffic and no gateway is called `{name}`");
        }
    }
    let is_wanted = |variant: &Variant, is: fn(&Variant, &str) -> bool| {
        let mut names = named.iter().filter(|name| is_known(name, is)).peekable();
        names.peek().is_none() || names.any(|name| is(variant, name))
    };
    let picked: Vec<Variant> = VARIANTS
        .into_iter()
        .filter(|variant| variant.gateway != Gateway::Beside || beside().is_some())
        .filter(|variant| is_wanted(variant, of_traffic) && is_wanted(variant, of_gateway))
        .collect();
    if picked.is_empty() {
        bail!("none of these gateways is measured with this traffic");
    }
    // Ratios are to the bare proxy with the same traffic.
    let is_base = |variant: &Variant| {
        variant.gateway == Gateway::Bare
            && picked.iter().any(|other| other.traffic == variant.traffic)
    };
    Ok(VARIANTS
        .into_iter()
        .filter(|variant| picked.contains(variant) || is_base(variant))
        .collect())
}

/// Another build of riskgate, to be measured in the same rounds.
fn beside() -> Option<PathBuf> {
    std::env::var_os("BENCH_BESIDE").map(PathBuf::from)
}

/// Of the named traffic, or of all that have a bare proxy beside them.
fn count_instructions(named: &[&str]) -> Result<()> {
    const ALL: [Traffic; 4] = [
        Traffic::Passed,
        Traffic::Token,
        Traffic::Login,
        Traffic::Authorize,
    ];
    if let Some(name) = named
        .iter()
        .find(|name| !ALL.iter().any(|traffic| traffic.as_str() == **name))
    {
        bail!("no traffic whose instructions are counted is called `{name}`");
    }
    let is_wanted = |traffic: &Traffic| named.is_empty() || named.contains(&traffic.as_str());
    let traffic: Vec<Traffic> = ALL.into_iter().filter(is_wanted).collect();
    let (folder, runtime) = prepare()?;
    runtime.block_on(instructions::run(&folder, &traffic))
}

/// The folder for results, and the runtime of load and upstream, on core 1.
fn prepare() -> Result<(PathBuf, tokio::runtime::Runtime)> {
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        bail!("the load bench needs two cores: one for the gateway, one for load and upstream");
    }
    process::pin_self(1)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("`{}` cannot be made", folder.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok((folder, runtime))
}

fn bench(variants: &[Variant]) -> Result<()> {
    let (folder, runtime) = prepare()?;
    let report = runtime.block_on(measure(&folder, variants))?;
    let path = folder.join("load.json");
    std::fs::write(&path, report.json()?)
        .with_context(|| format!("`{}` cannot be written", path.display()))?;
    println!("{}", report.table());
    println!("written: {}", path.display());
    report.check(REFUSED_MAX)
}

async fn measure(folder: &Path, variants: &[Variant]) -> Result<Report> {
    let upstream = upstream::start().await?;
    let data = tempfile::Builder::new()
        .prefix("load-")
        .tempdir_in(folder)?;
    let mut targets = start(folder, data.path(), upstream, variants).await?;
    let variants: Vec<Variant> = variants
        .iter()
        .copied()
        .filter(|variant| targets.contains_key(&variant.gateway))
        .collect();
    let mut report = Report::begin();

    println!("--> warming up: every user signs in a few times");
    let warmed = [Gateway::Bare].into_iter().chain(OWN);
    for gateway in warmed.filter(|own| targets.contains_key(own)) {
        for traffic in [
            Traffic::Login,
            Traffic::Token,
            Traffic::Authorize,
            Traffic::Passed,
            Traffic::Issue,
            Traffic::Resource,
        ] {
            let is_measured = matches!(gateway, Gateway::Bare | Gateway::Enforce | Gateway::Beside);
            if traffic == Traffic::Resource && !is_measured {
                continue;
            }
            let length = if matches!(traffic, Traffic::Login | Traffic::Token | Traffic::Issue) {
                WARM_UP
            } else {
                WARM_UP / 8
            };
            driver::run(address(&targets, gateway)?, traffic, CONNECTIONS, length).await?;
        }
    }
    for gateway in PEERS.iter().filter(|peer| targets.contains_key(peer)) {
        let address = address(&targets, *gateway)?;
        driver::run(address, Traffic::Token, CONNECTIONS, WARM_UP / 4).await?;
    }
    for (gateway, target) in targets.iter().filter(|(_, target)| target.admin.is_some()) {
        report.before(gateway.as_str(), metrics(target).await?);
    }
    println!(
        "--> {ROUNDS} rounds of {} variants, {CONNECTIONS} connections, {ROUND:?} each",
        variants.len()
    );
    for round in 0..ROUNDS {
        // Each begins a round in its turn: what a gateway follows must not count for or against it.
        for &variant in turned(&variants, round) {
            let target = targets
                .get(&variant.gateway)
                .context("a variant without a target")?;
            report.add(
                variant,
                round,
                false,
                sample(target, variant.traffic, CONNECTIONS, ROUND).await?,
            );
        }
    }
    for (gateway, target) in targets.iter().filter(|(_, target)| target.admin.is_some()) {
        report.after(gateway.as_str(), metrics(target).await?);
    }
    println!("--> {QUIET_ROUNDS} rounds with one connection");
    for round in 0..QUIET_ROUNDS {
        for &variant in turned(&variants, round) {
            let target = targets
                .get(&variant.gateway)
                .context("a variant without a target")?;
            report.add(
                variant,
                round,
                true,
                sample(target, variant.traffic, 1, QUIET_ROUND).await?,
            );
        }
    }
    for (gateway, target) in &mut targets {
        let mut peak = 0;
        // Who asks before who is asked.
        for child in target.children.iter_mut().rev() {
            peak += child.peak_rss_kib()?;
            child.stop()?;
        }
        if peak > 0 {
            report.peak(gateway.as_str(), peak);
        }
    }
    Ok(report)
}

/// All of `items`, from another one of them in each round.
fn turned<T>(items: &[T], round: usize) -> impl Iterator<Item = &T> {
    let start = round.checked_rem(items.len()).unwrap_or(0);
    items.iter().cycle().skip(start).take(items.len())
}

/// One round of one variant, and what it cost until the last consequence of it was dealt with.
async fn sample(
    target: &Target,
    traffic: Traffic,
    connections: usize,
    length: Duration,
) -> Result<Sample> {
    let own = std::process::id();
    let before = target.cpu()?;
    let driver_before = Cpu::of(own)?;
    let round: Round = driver::run(target.address, traffic, connections, length).await?;
    let driver = Cpu::of(own)?.since(&driver_before);
    let after = settled(target).await?;
    Ok(Sample {
        round,
        gateway: after.since(&before),
        driver,
    })
}

/// The CPU time of a gateway once its queues are empty: what a request costs includes its record and what it taught.
async fn settled(target: &Target) -> Result<Cpu> {
    const STEP: Duration = Duration::from_millis(50);
    const STEPS_MAX: usize = 20;
    const IDLE: Duration = Duration::from_millis(1);
    let mut last = target.cpu()?;
    if target.children.is_empty() {
        return Ok(last);
    }
    if target.admin.is_some() {
        tokio::time::sleep(FLUSHED).await;
    }
    for _ in 0..STEPS_MAX {
        tokio::time::sleep(STEP).await;
        let now = target.cpu()?;
        let worked = now.total().saturating_sub(last.total());
        last = now;
        if worked < IDLE {
            break;
        }
    }
    Ok(last)
}

async fn start(
    folder: &Path,
    data: &Path,
    upstream: SocketAddr,
    variants: &[Variant],
) -> Result<BTreeMap<Gateway, Target>> {
    let mut targets = BTreeMap::from([(
        Gateway::Direct,
        Target {
            address: upstream,
            admin: None,
            children: Vec::new(),
        },
    )]);
    let listen = process::free_address()?;
    let executable = std::env::current_exe()?;
    let arguments = ["bare".to_owned(), listen.to_string(), upstream.to_string()];
    let child = Child::start(&executable, &arguments, "0", &folder.join("bare.log"))?;
    process::reachable(listen).await?;
    targets.insert(
        Gateway::Bare,
        Target {
            address: listen,
            admin: None,
            children: vec![child],
        },
    );

    let is_wanted = |gateway| variants.iter().any(|variant| variant.gateway == gateway);
    for gateway in OWN.into_iter().filter(|own| is_wanted(*own)) {
        let program = match gateway {
            Gateway::Beside => beside().context("`BENCH_BESIDE` names no other build")?,
            _ => PathBuf::from(env!("CARGO_BIN_EXE_riskgate")),
        };
        let (listen, admin) = (process::free_address()?, process::free_address()?);
        let file = data.join(format!("{}.toml", gateway.as_str()));
        std::fs::write(&file, configuration(gateway, data, listen, admin, upstream))?;
        let arguments = [
            "run".to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
        ];
        let log = folder.join(format!("{}.log", gateway.as_str()));
        let child = Child::start(&program, &arguments, "0", &log)?;
        process::reachable(listen)
            .await
            .with_context(|| format!("see `{}`", log.display()))?;
        targets.insert(
            gateway,
            Target {
                address: listen,
                admin: Some(admin),
                children: vec![child],
            },
        );
    }
    let place = peers::Place {
        data,
        logs: folder,
        upstream,
    };
    for gateway in PEERS.into_iter().filter(|peer| is_wanted(*peer)) {
        match peers::start(gateway, &place).await? {
            Ok(target) => {
                targets.insert(gateway, target);
            }
            Err(missing) => println!("--> {} is left out: {missing}", gateway.as_str()),
        }
    }
    Ok(targets)
}

/// What differs from the shipped configuration, and nothing else: one thread, one trusted balancer in front (so that
/// every user has an address of their own), no request limits (they would answer the load with 429), a quick end.
fn configuration(
    gateway: Gateway,
    data: &Path,
    listen: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
) -> String {
    let data = data.join(gateway.as_str());
    let (mode, evaluator) = match gateway {
        Gateway::Monitor => ("monitor", "auto"),
        Gateway::Onnx => ("enforce", "onnx-runtime"),
        _ => ("enforce", "auto"),
    };
    let resource = match gateway {
        Gateway::Enforce | Gateway::Beside => format!(
            "[[resource]]\nprefix = \"/orders\"\nupstream = \"http://{upstream}\"\naudience = \"{}\"\n\
             scopes = [\"orders:read\"]\nmax_level = \"high\"\n",
            tokens::AUDIENCE
        ),
        _ => String::new(),
    };
    format!(
        r#"
[server]
listen = "{listen}"
threads = 1
trusted_proxies = ["127.0.0.0/8"]
drain_seconds = 0
grace_seconds = 1
[upstream]
url = "http://{upstream}"
[admin]
listen = "{admin}"
[mode]
default = "{mode}"
[model]
evaluator = "{evaluator}"
[state]
data_dir = "{}"
[limits]
address_per_minute = 0
user_per_minute = 0
network_per_minute = 0
client_per_minute = 0
[log]
filter = "warn"
{resource}"#,
        data.display()
    )
}

fn address(targets: &BTreeMap<Gateway, Target>, gateway: Gateway) -> Result<SocketAddr> {
    Ok(targets
        .get(&gateway)
        .with_context(|| format!("no target {gateway:?}"))?
        .address)
}

async fn metrics(target: &Target) -> Result<String> {
    let admin = target.admin.context("a gateway without metrics")?;
    driver::get(admin, "/metrics").await
}
