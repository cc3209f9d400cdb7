//! `wso2-sim`: the simulator as a program, for the demo and for trying things by hand.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use wso2_sim::ActionAuth;
use wso2_sim::ActionSettings;
use wso2_sim::Sim;
use wso2_sim::SimConfig;
use wso2_sim::SimTls;
use wso2_sim::WebhookSettings;

/// Simulates WSO2 Identity Server 7.x over HTTP, for demos, tests and benches. Never expose it: its users and secrets are public.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Users:         alice/wonderland, bob/builder-2024, carol/carol-sings (all with TOTP), dave/dave-was-here (without), admin/admin
Applications:  demo-web/demo-web-secret, demo-spa (public, PKCE), demo-service/demo-service-secret,
               demo-legacy/demo-legacy-secret (password grant), demo-opaque/demo-opaque-secret
Realms:        the super tenant, /t/example.com, /o/0a1b2c3d-5e6f-4a7b-8c9d-0123456789ab

Example:       wso2-sim --listen 127.0.0.1:9443 --tls --cert-out data/wso2-sim-ca.pem --public-url https://localhost:8443
One-time code: wso2-sim --totp alice"
)]
struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:9443", value_name = "ADDR")]
    listen: SocketAddr,
    /// Serve HTTPS with a certificate made at start
    #[arg(long)]
    tls: bool,
    /// Start of the server's own URLs, when something stands in front of it (default: its own address)
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Write the certificate to trust (PEM) to this file
    #[arg(long, value_name = "FILE", requires = "tls")]
    cert_out: Option<PathBuf>,
    /// Pre-issue access token action to call
    #[arg(long, value_name = "URL")]
    action_url: Option<String>,
    /// Bearer token for the action, read from this file
    #[arg(long, value_name = "FILE", requires = "action_url")]
    action_token_file: Option<PathBuf>,
    /// Certificate authority (PEM) of the action
    #[arg(long, value_name = "FILE", requires = "action_url")]
    action_ca: Option<PathBuf>,
    /// Headers passed to the action, comma separated (default: all but credentials)
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "action_url"
    )]
    action_headers: Option<Vec<String>>,
    /// Receiver of login and session events
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Key of the events' signature, read from this file
    #[arg(long, value_name = "FILE", requires = "webhook_url")]
    webhook_secret_file: Option<PathBuf>,
    /// Tell the login page why a login failed (error codes, remaining attempts)
    #[arg(long)]
    show_auth_failure_reason: bool,
    /// Let the adaptive script refuse logins that lack X-Risk-Status
    #[arg(long)]
    require_risk_status: bool,
    /// Delay added to every answer, in milliseconds
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay_ms: u64,
    /// Do not keep received requests in memory
    #[arg(long)]
    no_recording: bool,
    /// Print the current one-time code of a user of the super tenant and end
    #[arg(long, value_name = "USER")]
    totp: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let args = Args::parse();
    if let Some(name) = &args.totp {
        return print_code(name);
    }
    let cert_out = args.cert_out.clone();
    let sim = Sim::start(config(args)?).await?;
    if let Some(file) = cert_out {
        std::fs::write(&file, sim.ca_pem())
            .with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "wso2-sim ready on {} as {}", sim.url, sim.public_url())?;
    out.flush()?;
    drop(out);
    stop_signal().await?;
    sim.stop().await;
    Ok(())
}

fn print_code(name: &str) -> anyhow::Result<()> {
    let user = wso2_sim::seed::users()
        .into_iter()
        .find(|user| user.realm == wso2_sim::seed::SUPER_TENANT && user.username == name);
    let secret = user
        .and_then(|user| user.totp_secret)
        .with_context(|| format!("`{name}` has no authenticator app"))?;
    writeln!(std::io::stdout(), "{}", wso2_sim::totp_now(&secret))?;
    Ok(())
}

fn config(args: Args) -> anyhow::Result<SimConfig> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
    };
    let secret = |file: &Option<PathBuf>| {
        let text = file.as_ref().map(read).transpose();
        text.map(|text| text.map(|text| text.trim().to_owned()))
    };
    let mut config = SimConfig {
        listen: args.listen,
        tls: args.tls.then_some(SimTls::SelfSigned),
        public_url: args.public_url,
        show_auth_failure_reason: args.show_auth_failure_reason,
        response_delay: Duration::from_millis(args.delay_ms),
        is_recording: !args.no_recording,
        ..SimConfig::default()
    };
    config.script.requires_risk_status = args.require_risk_status;
    if let Some(url) = args.action_url {
        let mut action = ActionSettings::new(url);
        action.auth = secret(&args.action_token_file)?.map_or(ActionAuth::None, ActionAuth::Bearer);
        action.ca_pem = args.action_ca.as_ref().map(read).transpose()?;
        action.allowed_headers = args.action_headers;
        config.action = Some(action);
    }
    if let Some(url) = args.webhook_url {
        config.webhook = Some(WebhookSettings {
            url,
            secret: secret(&args.webhook_secret_file)?,
        });
    }
    Ok(config)
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
