//! `riskgate policy`: the flags, and what is printed.

use super::Place;
use clap::Args;
use clap::Subcommand;
use riskgate::app::RunError;
use riskgate::app::trial::Described;
use riskgate::app::trial::Trial;
use riskgate::domain::policy::input::DeviceCookie;
use riskgate::domain::policy::reason::Reason;
use riskgate::domain::policy::vocabulary;
use riskgate::domain::risk::FallbackCause;
use riskgate::domain::risk::ScoreSource;
use riskgate::domain::route::Door;
use riskgate::domain::signals::agent::DeviceKind;
use riskgate::domain::signals::network::CountryCode;
use riskgate::domain::signals::network::NetworkKind;
use std::net::IpAddr;
use std::path::PathBuf;

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what a policy makes of a request that is described, rule by rule
    ///
    /// Reads the policy alone. What is not said of the request is as with a browser that nobody knows.
    ///
    /// Examples:
    ///   riskgate policy try --door login --score 40 --user alice --logins 12 --country NO
    ///   riskgate policy try --policy draft.toml --door token --grant-type refresh_token --score 72
    ///   riskgate policy try --door login --cause overload --demanded
    ///
    /// Exit codes: 0 done, 2 the policy cannot be used or a word is none.
    #[command(verbatim_doc_comment)]
    Try(Box<TryArgs>),
}

/// The request.
#[derive(Args, Debug)]
pub(crate) struct TryArgs {
    #[command(flatten)]
    place: Place,
    /// The policy [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The door: authorize, login, authn, flow, token, par, device_authorize, device, ciba, ciba_authorize, saml, wsfed, pdp, basic
    #[arg(long, value_name = "DOOR", value_parser = door)]
    door: Door,
    /// The score, 0 to 100; without it the request has none
    #[arg(long, value_name = "POINTS", value_parser = clap::value_parser!(u8).range(0..=100), required_unless_present = "cause")]
    score: Option<u8>,
    /// Why there is no score, or why it came from a lower rung: model_timeout, model_missing, model_error, model_output,
    /// breaker_open, overload, state_unavailable, state_timeout
    #[arg(long, value_name = "CAUSE", value_parser = cause)]
    cause: Option<FallbackCause>,
    /// What gave the score: model, native, cache, provenance, stateless
    #[arg(long, value_name = "SOURCE", value_parser = source, default_value = "native")]
    source: ScoreSource,
    /// A reason of the score; may be repeated, the strongest first
    #[arg(long = "reason", value_name = "CODE", value_parser = reason)]
    reasons: Vec<Reason>,
    /// The parameter grant_type
    #[arg(long, value_name = "TEXT", default_value = "")]
    grant_type: String,
    /// The parameter response_type
    #[arg(long, value_name = "TEXT", default_value = "")]
    response_type: String,
    /// The parameter prompt
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// The parameter acr_values
    #[arg(long, value_name = "TEXT", default_value = "")]
    acr_values: String,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "POST")]
    method: String,
    /// The path, without tenant and organization
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// The tenant domain
    #[arg(long, value_name = "DOMAIN", default_value = "carbon.super")]
    tenant: String,
    /// The id of an organization
    #[arg(long, value_name = "ID", default_value = "")]
    organization: String,
    /// The client id
    #[arg(long, value_name = "ID", default_value = "")]
    client: String,
    /// A stronger factor is owed
    #[arg(long)]
    demanded: bool,
    /// The username
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How many logins of the account are remembered
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    logins: u32,
    /// The client's address
    #[arg(long, value_name = "ADDR", default_value = "192.0.2.1")]
    address: IpAddr,
    /// The country: two capitals
    #[arg(long, value_name = "CODE", value_parser = country)]
    country: Option<CountryCode>,
    /// The autonomous system
    #[arg(long, value_name = "NUMBER")]
    asn: Option<u32>,
    /// The kind of network: residential, vpn, hosting, tor
    #[arg(long, value_name = "KIND", value_parser = network)]
    network: Option<NetworkKind>,
    /// The device cookie: known, none, foreign
    #[arg(long, value_name = "STATE", value_parser = device, default_value = "none")]
    device: DeviceCookie,
    /// The browser
    #[arg(long, value_name = "NAME", default_value = "")]
    browser: String,
    /// The operating system
    #[arg(long, value_name = "NAME", default_value = "")]
    os: String,
    /// The kind of device or program: computer, phone, crawler, appliance, program, unknown
    #[arg(long, value_name = "KIND", value_parser = agent, default_value = "computer")]
    agent: DeviceKind,
    /// A session is shown
    #[arg(long)]
    session: bool,
    /// The hour, UTC
    #[arg(long, value_name = "HOUR", value_parser = clap::value_parser!(u8).range(0..=23), default_value_t = 12)]
    hour: u8,
    /// The day of the week: 0 is Sunday
    #[arg(long, value_name = "DAY", value_parser = clap::value_parser!(u8).range(0..=6), default_value_t = 3)]
    weekday: u8,
    /// How many of the last requests had no score, in percent
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100), default_value_t = 0)]
    unscored_percent: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tries and prints.
pub(crate) fn run(command: PolicyCommand) -> Result<(), RunError> {
    let PolicyCommand::Try(args) = command;
    let (config, _) = args.place.config()?;
    let json = args.json;
    let policy = args.policy.clone();
    let trial = Trial::run(&config, policy, &(*args).into())?;
    if json {
        println!("{}", trial.json()?);
    } else {
        print!("{}", trial.text());
    }
    Ok(())
}

impl From<TryArgs> for Described {
    fn from(args: TryArgs) -> Self {
        Self {
            score: args.score,
            cause: args.cause,
            source: args.source,
            reasons: args.reasons,
            door: args.door,
            method: args.method,
            tenant: args.tenant,
            organization: args.organization,
            grant_type: args.grant_type,
            response_type: args.response_type,
            prompt: args.prompt,
            acr_values: args.acr_values,
            path: args.path,
            demanded: args.demanded,
            client: args.client,
            user: args.user,
            logins: args.logins,
            address: args.address,
            country: args.country,
            asn: args.asn,
            network: args.network,
            device: args.device,
            browser: args.browser,
            os: args.os,
            agent: args.agent,
            session: args.session,
            hour: args.hour,
            weekday: args.weekday,
            unscored_percent: args.unscored_percent,
        }
    }
}

/// The one of `all` that is written like `text`.
fn one_of<T: Copy>(all: &[T], name: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn door(text: &str) -> Result<Door, String> {
    one_of(&Door::ALL, Door::as_str, text)
}

fn cause(text: &str) -> Result<FallbackCause, String> {
    one_of(&FallbackCause::ALL, FallbackCause::as_str, text)
}

fn source(text: &str) -> Result<ScoreSource, String> {
    one_of(&vocabulary::SOURCES, ScoreSource::as_str, text)
}

fn network(text: &str) -> Result<NetworkKind, String> {
    one_of(&vocabulary::NETWORK_KINDS, NetworkKind::as_str, text)
}

fn device(text: &str) -> Result<DeviceCookie, String> {
    one_of(&vocabulary::COOKIE_STATES, DeviceCookie::as_str, text)
}

fn agent(text: &str) -> Result<DeviceKind, String> {
    one_of(&vocabulary::AGENT_KINDS, DeviceKind::as_str, text)
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_code(text)
        .ok_or_else(|| "expected a reason code of docs/reference/audit.md".to_owned())
}

fn country(text: &str) -> Result<CountryCode, String> {
    let code = CountryCode::parse(text).filter(|code| code.as_str() == text);
    code.ok_or_else(|| "expected an ISO 3166 code of two capitals".to_owned())
}
